//! Who of several jobs may write to the storage that they share.
//!
//! A job asks when its checkpoint is due and computes on while it waits; what is written is told when it is done. The
//! coordinator knows for how long each writes and when each will want to again, and plans slots for those that wait and
//! those that will be due before these are done. It keeps nothing that a job does not tell it again, so it may be killed at
//! any time.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::slots::{Wish, exact, fast};

/// More are planned by the fast solver.
const EXACT: usize = 7;
/// A job is told to ask again after so long at most: meanwhile the storage may have become free.
const ASK_AGAIN_S: f64 = 2.0;
const SOONEST_S: f64 = 0.02;
/// Who was to ask again and did not for so long does not wait any more.
const GRACE_S: f64 = 1.0;
/// Who writes for so many times what was expected, and a while, has lost its slot.
const LEASE: f64 = 4.0;
const LEASE_S: f64 = 30.0;
/// Weight of a new measurement.
const NEW: f64 = 0.3;

/// What a job says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// Its name.
    pub job: String,
    /// Nodes.
    pub nodes: u32,
    /// Bytes of a checkpoint, of all nodes.
    pub bytes: u64,
    /// Seconds of work between two checkpoints on shared storage, as it would have them alone.
    pub interval_s: f64,
    /// Mean seconds between failures that need one.
    pub mtbf_s: f64,
}

/// The answer to who asks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Permit {
    /// Write now.
    Write,
    /// Go on computing, and ask again.
    Wait {
        /// After so long.
        seconds: f64,
    },
}

/// A job that is connected.
#[derive(Clone, Debug)]
struct Known {
    hello: Hello,
    /// For how long it writes alone, as measured.
    measured_s: Option<f64>,
    /// When its next checkpoint is due, as far as is known.
    due: Option<f64>,
    /// Until when it is to ask again, if it waits.
    waits_until: Option<f64>,
}

/// Plans for all jobs. `now` is seconds since any fixed moment; `K` names a connection.
#[derive(Clone, Debug)]
pub struct Coordinator<K> {
    bandwidth: f64,
    ask_again_s: f64,
    jobs: BTreeMap<K, Known>,
    writes: Option<(K, f64)>,
}

/// How a job stands, for who watches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// What it said.
    pub hello: Hello,
    /// For how long it is expected to write.
    pub takes_s: f64,
    /// Whether it writes now.
    pub writes: bool,
    /// Whether it waits.
    pub waits: bool,
    /// Seconds until it is due; negative if it is late.
    pub due_in_s: Option<f64>,
}

impl<K: Ord + Clone> Coordinator<K> {
    /// For storage that takes so many bytes a second, as a first guess.
    pub fn new(bandwidth: f64) -> Self {
        Self { bandwidth, ask_again_s: ASK_AGAIN_S, jobs: BTreeMap::new(), writes: None }
    }

    /// With jobs that ask again after so long at most.
    pub fn asked_each(mut self, ask_again_s: f64) -> Self {
        self.ask_again_s = ask_again_s.max(SOONEST_S);
        self
    }

    /// A job is there, or its plan has changed.
    pub fn hello(&mut self, who: K, hello: Hello) {
        match self.jobs.get_mut(&who) {
            Some(known) => known.hello = hello,
            None => drop(self.jobs.insert(who, Known { hello, measured_s: None, due: None, waits_until: None })),
        }
    }

    /// A job is gone: so are its slot and its place in the line.
    pub fn gone(&mut self, who: &K) {
        self.jobs.remove(who);
        self.leave(who);
    }

    /// A job has worked for so long since it last wrote, and asks whether it may write now. One that is not known, may.
    pub fn ask(&mut self, who: &K, now: f64, work_since_s: f64) -> Permit {
        let Some(known) = self.jobs.get_mut(who) else { return Permit::Write };
        known.due = Some(now + known.hello.interval_s - work_since_s);
        known.waits_until = Some(now);
        if self.writes.as_ref().is_some_and(|(writer, _)| writer == who) {
            // It asks again, so it did not write what it was allowed to.
            self.writes = None;
        }
        let start = self.planned(who, now);
        let is_free = self.writer_until(now).is_none();
        let Some(known) = self.jobs.get_mut(who) else { return Permit::Write };
        if is_free && start <= now + SOONEST_S {
            known.waits_until = None;
            known.due = Some(now + known.hello.interval_s);
            self.writes = Some((who.clone(), now));
            return Permit::Write;
        }
        let seconds = (start - now).clamp(SOONEST_S, self.ask_again_s);
        known.waits_until = Some(now + seconds);
        Permit::Wait { seconds }
    }

    /// A job has written, for so long; none if it gave up.
    pub fn done(&mut self, who: &K, seconds: Option<f64>) {
        self.leave(who);
        let (Some(known), Some(seconds)) = (self.jobs.get_mut(who), seconds) else { return };
        if seconds.is_finite() && seconds >= 0.0 {
            let old = known.measured_s.unwrap_or(seconds);
            known.measured_s = Some(old + NEW * (seconds - old));
        }
    }

    /// All jobs.
    pub fn standings(&self, now: f64) -> Vec<Standing> {
        let one = |(who, known): (&K, &Known)| Standing {
            hello: known.hello.clone(),
            takes_s: self.takes(known),
            writes: self.writes.as_ref().is_some_and(|(writer, _)| writer == who),
            waits: known.is_waiting(now),
            due_in_s: known.due.map(|due| due - now),
        };
        self.jobs.iter().map(one).collect()
    }

    fn leave(&mut self, who: &K) {
        if self.writes.as_ref().is_some_and(|(writer, _)| writer == who) {
            self.writes = None;
        }
    }

    fn takes(&self, known: &Known) -> f64 {
        known.measured_s.unwrap_or(known.hello.bytes as f64 / self.bandwidth)
    }

    /// Until when the storage is expected to be written to.
    fn writer_until(&self, now: f64) -> Option<f64> {
        let (who, since) = self.writes.as_ref()?;
        let takes = self.takes(self.jobs.get(who)?);
        (now < since + LEASE * takes + LEASE_S).then(|| (since + takes).max(now))
    }

    /// When `who` is to write.
    fn planned(&self, who: &K, now: f64) -> f64 {
        let free_at = self.writer_until(now).unwrap_or(now);
        let waiting: f64 = self.jobs.values().filter(|k| k.is_waiting(now)).map(|k| self.takes(k)).sum();
        let horizon = free_at + waiting;
        let mut own = 0;
        let mut wishes = Vec::new();
        for (key, known) in &self.jobs {
            let is_coming = known.due.is_some_and(|due| due > now && due < horizon);
            let is_writing = self.writes.as_ref().is_some_and(|(writer, _)| writer == key);
            let Some(due_s) = known.due.filter(|_| !is_writing && (known.is_waiting(now) || is_coming)) else {
                continue;
            };
            if key == who {
                own = wishes.len();
            }
            let weight = f64::from(known.hello.nodes) / known.hello.mtbf_s.max(1e-9);
            wishes.push(Wish { due_s, takes_s: self.takes(known), weight });
        }
        let slots = if wishes.len() <= EXACT { exact(&wishes, free_at) } else { fast(&wishes, free_at) };
        slots.starts.get(own).copied().unwrap_or(now)
    }
}

impl Known {
    fn is_waiting(&self, now: f64) -> bool {
        self.waits_until.is_some_and(|until| now <= until + GRACE_S)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(nodes: u32, bytes: u64) -> Hello {
        Hello { job: "j".into(), nodes, bytes, interval_s: 100.0, mtbf_s: 5_000.0 }
    }

    fn two() -> Coordinator<u32> {
        let mut c = Coordinator::new(1.0);
        c.hello(1, hello(1, 10));
        c.hello(2, hello(1, 10));
        c
    }

    #[test]
    fn one_writes_and_the_other_waits_until_it_is_done() {
        let mut c = two();
        assert_eq!(c.ask(&1, 0.0, 100.0), Permit::Write);
        assert_eq!(c.ask(&2, 1.0, 100.0), Permit::Wait { seconds: ASK_AGAIN_S });
        assert_eq!(c.ask(&2, 9.5, 108.5), Permit::Wait { seconds: 0.5 });
        c.done(&1, Some(10.0));
        assert_eq!(c.ask(&2, 10.0, 109.0), Permit::Write);
    }

    #[test]
    fn of_those_that_wait_the_one_whose_delay_costs_most_is_next() {
        let mut c = two();
        c.hello(3, hello(50, 10));
        assert_eq!(c.ask(&1, 0.0, 100.0), Permit::Write);
        assert!(matches!(c.ask(&2, 8.0, 100.0), Permit::Wait { .. }));
        assert!(matches!(c.ask(&3, 9.0, 100.0), Permit::Wait { .. }));
        c.done(&1, Some(10.0));
        assert!(matches!(c.ask(&2, 10.0, 102.0), Permit::Wait { .. }));
        assert_eq!(c.ask(&3, 10.1, 101.1), Permit::Write);
    }

    #[test]
    fn who_died_keeps_nobody_waiting() {
        let mut c = two();
        assert_eq!(c.ask(&1, 0.0, 100.0), Permit::Write);
        assert!(matches!(c.ask(&2, 1.0, 100.0), Permit::Wait { .. }));
        c.gone(&1);
        assert_eq!(c.ask(&2, 1.1, 100.1), Permit::Write);
        // One that was to ask again and does not, though its delay would cost more.
        c.hello(3, hello(50, 10));
        assert!(matches!(c.ask(&3, 2.0, 100.0), Permit::Wait { .. }));
        c.done(&2, Some(1.0));
        c.hello(4, hello(1, 10));
        assert!(matches!(c.ask(&4, 4.0, 100.0), Permit::Wait { .. }));
        assert_eq!(c.ask(&4, 6.0, 102.0), Permit::Write);
    }

    #[test]
    fn a_slot_that_is_never_given_back_is_taken_back() {
        let mut c = two();
        assert_eq!(c.ask(&1, 0.0, 100.0), Permit::Write);
        assert!(matches!(c.ask(&2, 69.0, 169.0), Permit::Wait { .. }));
        assert_eq!(c.ask(&2, 71.0, 171.0), Permit::Write);
        c.done(&1, Some(72.0));
        assert!(matches!(c.ask(&1, 80.0, 100.0), Permit::Wait { .. }), "what 1 says does not end 2's slot");
    }

    #[test]
    fn measured_times_replace_the_bandwidth_that_was_configured() {
        let mut c = two();
        assert_eq!(c.ask(&1, 0.0, 100.0), Permit::Write);
        c.done(&1, Some(4.0));
        assert_eq!(c.ask(&1, 100.0, 100.0), Permit::Write);
        assert_eq!(c.ask(&2, 103.0, 100.0), Permit::Wait { seconds: 1.0 });
        let standing = &c.standings(103.0)[0];
        assert!(standing.writes && !standing.waits && standing.takes_s == 4.0);
    }

    #[test]
    fn a_long_writer_leaves_room_for_one_that_is_soon_due() {
        let mut c = Coordinator::new(1.0);
        c.hello(1, hello(1, 60));
        c.hello(2, hello(100, 5));
        assert_eq!(c.ask(&2, 0.0, 100.0), Permit::Write);
        c.done(&2, Some(5.0));
        // 2 is due again at 100, and at 98 a write of 60 s would delay it by 58.
        assert!(matches!(c.ask(&1, 98.0, 100.0), Permit::Wait { .. }));
        assert_eq!(c.ask(&2, 100.0, 100.0), Permit::Write);
        c.done(&2, Some(5.0));
        assert_eq!(c.ask(&1, 105.0, 107.0), Permit::Write);
    }

    #[test]
    fn of_many_one_writes() {
        let mut c = Coordinator::new(1.0);
        for job in 0..64u32 {
            c.hello(job, hello(1 + job % 7, 1 + u64::from(job * 13 % 29)));
        }
        let mut granted = 0;
        for job in 0..64 {
            granted += u32::from(c.ask(&job, f64::from(job) * 0.01, 100.0) == Permit::Write);
        }
        assert_eq!(granted, 1);
    }
}
