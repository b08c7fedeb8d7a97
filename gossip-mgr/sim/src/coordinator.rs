//! Jobs that write their checkpoints to storage that they share, under failures.

use std::collections::VecDeque;

use gossip_checkpoint_model::coordinator::{Coordinator, Hello, Permit};
use gossip_core::rng::Rng;

/// In the simulation a job that waits asks at once when the storage becomes free, and else this often: the real ones ask
/// each two seconds.
const ASK_AGAIN_S: f64 = 600.0;

/// A job.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SharingJob {
    /// Its nodes.
    pub nodes: u32,
    /// Mean seconds between its failures.
    pub mtbf_s: f64,
    /// For how long a checkpoint is written if no other is.
    pub alone_s: f64,
    /// For how long it restarts.
    pub restart_s: f64,
    /// Seconds of work between two checkpoints.
    pub interval_s: f64,
}

/// Who writes when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Each when it is due; those that write at once share the bandwidth.
    Free,
    /// One after the other as they come; who waits computes on.
    FirstCome,
    /// As the coordinator says; who waits computes on.
    Planned,
}

/// The share of the nodes' time that was not work that lasts, as a share of the work, for so many seconds.
pub fn overhead(jobs: &[SharingJob], sharing: Sharing, seconds: f64, rng: &mut Rng) -> f64 {
    let mut storage =
        Storage { jobs, sharing, seconds, now: 0.0, states: Vec::new(), line: VecDeque::new(), plan: None };
    if sharing == Sharing::Planned {
        let mut plan = Coordinator::new(1.0).asked_each(ASK_AGAIN_S);
        for (who, job) in jobs.iter().enumerate() {
            plan.hello(who, hello(job));
        }
        storage.plan = Some(plan);
    }
    for job in jobs {
        // They did not all begin at once.
        let since = rng.unit() * job.interval_s;
        let next_failure = exponential(rng, job.mtbf_s);
        let doing = Doing::Works;
        storage.states.push(State { doing, work: 0.0, saved: 0.0, since, waits: None, next_failure });
    }
    storage.run(rng);
    let work: f64 = storage.states.iter().zip(jobs).map(|(state, job)| state.work * f64::from(job.nodes)).sum();
    let all: f64 = jobs.iter().map(|job| f64::from(job.nodes) * seconds).sum();
    all / work - 1.0
}

fn hello(job: &SharingJob) -> Hello {
    // One byte is written in a second.
    let bytes = job.alone_s.ceil() as u64;
    Hello { job: String::new(), nodes: job.nodes, bytes, interval_s: job.interval_s, mtbf_s: job.mtbf_s }
}

fn exponential(rng: &mut Rng, mean: f64) -> f64 {
    -(1.0 - rng.unit()).ln() * mean
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Doing {
    Works,
    Writes {
        /// Seconds that it would take alone.
        left: f64,
    },
    Restarts {
        until: f64,
    },
}

struct State {
    doing: Doing,
    work: f64,
    saved: f64,
    /// Work since the last checkpoint.
    since: f64,
    /// When it asks again, if it waits for the storage.
    waits: Option<f64>,
    next_failure: f64,
}

struct Storage<'a> {
    jobs: &'a [SharingJob],
    sharing: Sharing,
    seconds: f64,
    now: f64,
    states: Vec<State>,
    line: VecDeque<usize>,
    plan: Option<Coordinator<usize>>,
}

impl Storage<'_> {
    fn run(&mut self, rng: &mut Rng) {
        loop {
            let writers = self.states.iter().filter(|state| matches!(state.doing, Doing::Writes { .. })).count() as f64;
            let (who, at) = (0..self.jobs.len())
                .map(|who| (who, self.next(who, writers)))
                .min_by(|a, b| a.1.total_cmp(&b.1))
                .unwrap_or((0, f64::INFINITY));
            let step = at.min(self.seconds) - self.now;
            for state in &mut self.states {
                match &mut state.doing {
                    Doing::Works => {
                        state.work += step;
                        state.since += step;
                    }
                    Doing::Writes { left } => *left -= step / writers,
                    Doing::Restarts { .. } => {}
                }
            }
            self.now = at;
            if at >= self.seconds {
                return;
            }
            self.happens(who, rng);
        }
    }

    /// When something happens to a job next.
    fn next(&self, who: usize, writers: f64) -> f64 {
        let state = &self.states[who];
        let own = match state.doing {
            Doing::Works => state.waits.unwrap_or(self.now + (self.jobs[who].interval_s - state.since).max(0.0)),
            Doing::Writes { left } => self.now + (left * writers).max(0.0),
            Doing::Restarts { until } => until,
        };
        own.min(state.next_failure)
    }

    fn happens(&mut self, who: usize, rng: &mut Rng) {
        let job = self.jobs[who];
        let state = &mut self.states[who];
        if state.next_failure <= self.now {
            let was = state.doing;
            state.next_failure = self.now + exponential(rng, job.mtbf_s);
            (state.work, state.since, state.waits) = (state.saved, 0.0, None);
            state.doing = Doing::Restarts { until: self.now + job.restart_s };
            self.line.retain(|&waiting| waiting != who);
            if let Some(plan) = &mut self.plan {
                plan.gone(&who);
                plan.hello(who, hello(&job));
            }
            if matches!(was, Doing::Writes { .. }) {
                self.freed();
            }
            return;
        }
        match state.doing {
            Doing::Restarts { .. } => state.doing = Doing::Works,
            Doing::Writes { .. } => {
                (state.saved, state.since, state.doing) = (state.work, 0.0, Doing::Works);
                if let Some(plan) = &mut self.plan {
                    plan.done(&who, Some(job.alone_s));
                }
                self.freed();
            }
            Doing::Works => self.asks(who),
        }
    }

    fn asks(&mut self, who: usize) {
        let may = match (self.sharing, &mut self.plan) {
            (Sharing::Planned, Some(plan)) => match plan.ask(&who, self.now, self.states[who].since) {
                Permit::Write => true,
                Permit::Wait { seconds } => {
                    self.states[who].waits = Some(self.now + seconds);
                    false
                }
            },
            (Sharing::FirstCome, _) => {
                if !self.line.contains(&who) {
                    self.line.push_back(who);
                }
                let is_busy = self.states.iter().any(|state| matches!(state.doing, Doing::Writes { .. }));
                self.states[who].waits = Some(f64::INFINITY);
                !is_busy && self.line.front() == Some(&who)
            }
            _ => true,
        };
        if may {
            self.line.retain(|&waiting| waiting != who);
            let state = &mut self.states[who];
            state.waits = None;
            state.doing = Doing::Writes { left: self.jobs[who].alone_s };
        }
    }

    /// Those that wait ask.
    fn freed(&mut self) {
        match self.sharing {
            Sharing::Free => {}
            Sharing::FirstCome => {
                if let Some(&first) = self.line.front() {
                    self.asks(first);
                }
            }
            Sharing::Planned => {
                for who in 0..self.jobs.len() {
                    if self.states[who].waits.is_some() {
                        self.states[who].waits = Some(self.now);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(alone_s: f64) -> SharingJob {
        let mtbf_s = 100_000.0;
        SharingJob { nodes: 100, mtbf_s, alone_s, restart_s: alone_s, interval_s: (2.0 * alone_s * mtbf_s).sqrt() }
    }

    fn mean(jobs: &[SharingJob], sharing: Sharing) -> f64 {
        (0..10).map(|seed| overhead(jobs, sharing, 3e7, &mut Rng::new(seed, 0))).sum::<f64>() / 10.0
    }

    #[test]
    fn one_job_alone_costs_what_youngs_formula_says_however_it_shares() {
        let one = [job(100.0)];
        let expected = (2.0f64 * 100.0 / 100_000.0).sqrt();
        for sharing in [Sharing::Free, Sharing::FirstCome, Sharing::Planned] {
            let found = mean(&one, sharing);
            assert!((found / expected - 1.0).abs() < 0.08, "{sharing:?}: {found}, {expected}");
        }
    }

    #[test]
    fn jobs_that_hardly_need_the_storage_gain_nothing_and_lose_nothing() {
        let jobs = [job(10.0); 4];
        let [free, planned] = [Sharing::Free, Sharing::Planned].map(|sharing| mean(&jobs, sharing));
        assert!((planned / free - 1.0).abs() < 0.05, "{free} {planned}");
    }

    #[test]
    fn in_turn_is_better_than_at_once_and_planned_is_not_worse_than_in_turn() {
        let mut jobs = vec![job(400.0); 4];
        jobs.push(SharingJob { nodes: 2_000, ..job(300.0) });
        jobs.push(SharingJob { nodes: 10, ..job(2_000.0) });
        let [free, turn, planned] =
            [Sharing::Free, Sharing::FirstCome, Sharing::Planned].map(|sharing| mean(&jobs, sharing));
        assert!(turn < 0.97 * free, "{free} {turn}");
        assert!(planned < 1.005 * turn, "{turn} {planned}");
    }
}
