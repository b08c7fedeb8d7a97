//! Broadcast under LogP, up to millions of processes.
//!
//! One event a message, in buckets by time. A send that starts at `t` occupies its sender until
//! `t + max(o, g)` and arrives at `t + o + L`; receptions at one process follow each other at
//! `max(o, g)`; sending and receiving go on concurrently. At one time all receptions are handled
//! before any send is chosen, so that a process never sends what it has just learned to be needless.

use std::collections::BTreeMap;

use gossip_core::collective::broadcast::{Broadcast, Kind, Next, Plan};
use gossip_core::collective::correction::Side;
use gossip_core::collective::{LogP, Rank, Time};

use crate::faults::Faults;

/// What came of a broadcast.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Outcome {
    /// P.
    pub processes: u32,
    /// Processes that failed before or during the broadcast.
    pub failed: u32,
    /// Processes that never failed and yet did not get the message.
    pub unreached: u32,
    /// Messages sent.
    pub messages: u64,
    /// Of these, correction messages.
    pub corrections: u64,
    /// End of the last send or reception of a live process, in LogP steps.
    pub runtime: Time,
    /// Digest of every message with its time, sender, receiver and kind: equal runs, equal digests.
    pub trace: u64,
}

impl Outcome {
    /// Messages a process.
    pub fn load(&self) -> f64 {
        self.messages as f64 / f64::from(self.processes)
    }
}

#[derive(Clone, Copy)]
struct Delivery {
    from: Rank,
    to: Rank,
    kind: Kind,
}

#[derive(Default)]
struct Step {
    deliveries: Vec<Delivery>,
    wakeups: Vec<Rank>,
}

struct Port {
    send_free: Time,
    recv_free: Time,
    /// Time of the next scheduled wake-up, so that none is scheduled twice.
    wakes_at: Time,
}

/// Runs one broadcast of `plan` to its end.
pub fn run(plan: &Plan, logp: LogP, faults: &Faults, seed: u64) -> Outcome {
    Run::new(plan, logp, faults, seed).finish()
}

struct Run<'a> {
    plan: &'a Plan,
    logp: LogP,
    faults: &'a Faults,
    processes: Vec<Broadcast>,
    ports: Vec<Port>,
    steps: BTreeMap<Time, Step>,
    messages: u64,
    corrections: u64,
    runtime: Time,
    trace: u64,
}

impl<'a> Run<'a> {
    fn new(plan: &'a Plan, logp: LogP, faults: &'a Faults, seed: u64) -> Self {
        let count = plan.processes();
        let root = Step { deliveries: Vec::new(), wakeups: vec![0] };
        Self {
            plan,
            logp,
            faults,
            processes: (0..count).map(|rank| Broadcast::new(rank, seed)).collect(),
            ports: (0..count).map(|_| Port { send_free: 0, recv_free: 0, wakes_at: Time::MAX }).collect(),
            steps: BTreeMap::from([(0, root)]),
            messages: 0,
            corrections: 0,
            runtime: 0,
            trace: 0xcbf2_9ce4_8422_2325,
        }
    }

    fn finish(mut self) -> Outcome {
        while let Some((now, step)) = self.steps.pop_first() {
            self.step(now, step);
        }
        let count = self.plan.processes();
        let failed = (0..count).filter(|&r| !self.faults.survives(r)).count() as u32;
        let unreached =
            (0..count).filter(|&r| self.faults.survives(r) && !self.processes[r as usize].is_reached()).count() as u32;
        Outcome {
            processes: count,
            failed,
            unreached,
            messages: self.messages,
            corrections: self.corrections,
            runtime: self.runtime,
            trace: self.trace,
        }
    }

    fn step(&mut self, now: Time, step: Step) {
        let mut ready = step.wakeups;
        for Delivery { from, to, kind } in step.deliveries {
            if self.faults.is_dead(to, now) {
                continue;
            }
            self.runtime = self.runtime.max(now);
            self.processes[to as usize].receive(self.plan, now, from, kind);
            let port = &self.ports[to as usize];
            if port.send_free <= now && port.wakes_at != now {
                ready.push(to);
            }
        }
        for rank in ready {
            self.offer_port(now, rank);
        }
    }

    /// Lets `rank` send if its port is free.
    fn offer_port(&mut self, now: Time, rank: Rank) {
        let port = &mut self.ports[rank as usize];
        if port.wakes_at == now {
            port.wakes_at = Time::MAX;
        }
        if port.send_free > now || self.faults.is_dead(rank, now) {
            return;
        }
        match self.processes[rank as usize].next(self.plan, now) {
            Next::Send { to, kind } => self.send(now, rank, to, kind),
            Next::At(at) => self.wake(at, rank),
            Next::Wait => {}
        }
    }

    fn send(&mut self, now: Time, from: Rank, to: Rank, kind: Kind) {
        self.messages += 1;
        self.corrections += u64::from(matches!(kind, Kind::Correct(_)));
        self.note(now, from, to, kind);
        let LogP { latency, overhead, .. } = self.logp;
        let free = now + self.logp.period();
        self.ports[from as usize].send_free = free;
        self.runtime = self.runtime.max(now + overhead);
        self.wake(free, from);

        let arrival = now + overhead + latency;
        if self.faults.is_dead(to, arrival) {
            return;
        }
        let receiver = &mut self.ports[to as usize];
        let begin = arrival.max(receiver.recv_free);
        receiver.recv_free = begin + self.logp.period();
        let end = begin + overhead.max(1);
        self.steps.entry(end).or_default().deliveries.push(Delivery { from, to, kind });
    }

    fn wake(&mut self, at: Time, rank: Rank) {
        let port = &mut self.ports[rank as usize];
        if port.wakes_at > at {
            port.wakes_at = at;
            self.steps.entry(at).or_default().wakeups.push(rank);
        }
    }

    /// FNV-1a over the words of a message.
    fn note(&mut self, now: Time, from: Rank, to: Rank, kind: Kind) {
        let kind = match kind {
            Kind::Spread => 0u64,
            Kind::Correct(Side::Left) => 1,
            Kind::Correct(Side::Right) => 2,
        };
        for word in [now, u64::from(from), u64::from(to), kind] {
            self.trace = (self.trace ^ word).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}
