//! The named experiments: what the command line and the regression tests share.

use gossip_core::collective::LogP;
use gossip_core::collective::broadcast::{Dissemination, Phasing, Plan};
use gossip_core::collective::correction::CorrectionKind;
use gossip_core::collective::topology::{Tree, TreeKind};
use gossip_core::rng::Rng;

use crate::broadcast::{Outcome, run};
use crate::faults::Faults;

/// The parameters of all published figures: L = 2, o = g = 1.
pub const LOGP: LogP = LogP { latency: 2, overhead: 1, gap: 1 };

/// Checked correction after the deadline of a tree. `processes` and the tree's arity must not be 0.
pub fn phased(kind: TreeKind, processes: u32) -> Plan {
    plan(kind, CorrectionKind::Checked, Phasing::Synchronised, processes)
}

/// Correction as soon as a process has served its children.
pub fn overlapped(kind: TreeKind, correction: CorrectionKind, processes: u32) -> Plan {
    plan(kind, correction, Phasing::Overlapped, processes)
}

fn plan(kind: TreeKind, correction: CorrectionKind, phasing: Phasing, processes: u32) -> Plan {
    let tree = Tree::new(kind, processes, LOGP).expect("at least one process and an arity");
    Plan::new(processes, Dissemination::Tree(tree), correction, phasing)
        .expect("a correction distance below the number of processes")
}

/// Gossip until ⌈2 log2 P⌉ + `extra`, then correction.
pub fn gossip(extra: u64, correction: CorrectionKind, processes: u32) -> Plan {
    let until = (2.0 * f64::from(processes).log2()).ceil() as u64 + extra;
    Plan::new(processes, Dissemination::Gossip { until }, correction, Phasing::Synchronised)
        .expect("a correction distance below the number of processes")
}

/// Fail-proof correction after the deadline of a tree, or of gossip if there is none.
pub fn fail_proof(tree: Option<TreeKind>, faults: u32, processes: u32) -> Plan {
    let correction = CorrectionKind::FailProof { faults };
    match tree {
        Some(kind) => plan(kind, correction, Phasing::Synchronised, processes),
        None => gossip(6, correction, processes),
    }
}

/// When the failing processes fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Before the broadcast.
    Before,
    /// At a uniform moment of the time that the broadcast takes without faults.
    During,
}

/// Several runs of one plan.
pub struct Sample {
    /// One outcome a seed.
    pub outcomes: Vec<Outcome>,
}

impl Sample {
    /// Mean and standard deviation of messages a process.
    pub fn load(&self) -> (f64, f64) {
        self.statistic(Outcome::load)
    }

    /// Mean and standard deviation of the runtime in steps.
    pub fn runtime(&self) -> (f64, f64) {
        self.statistic(|o| o.runtime as f64)
    }

    /// Mean number of live processes not reached.
    pub fn unreached(&self) -> f64 {
        self.statistic(|o| f64::from(o.unreached)).0
    }

    /// The share of live processes that were reached, in all runs together.
    pub fn reached(&self) -> f64 {
        let live = |o: &Outcome| f64::from(o.processes - o.failed);
        let all: f64 = self.outcomes.iter().map(live).sum();
        1.0 - self.unreached() * self.outcomes.len() as f64 / all
    }

    /// The share of runs that reached every live process.
    pub fn complete(&self) -> f64 {
        self.statistic(|o| f64::from(u32::from(o.unreached == 0))).0
    }

    fn statistic(&self, of: impl Fn(&Outcome) -> f64) -> (f64, f64) {
        let n = self.outcomes.len() as f64;
        let mean = self.outcomes.iter().map(&of).sum::<f64>() / n;
        let squares = self.outcomes.iter().map(|o| (of(o) - mean).powi(2)).sum::<f64>();
        (mean, (squares / (n - 1.0).max(1.0)).sqrt())
    }
}

/// Runs `plan` with `failing` processes other than the root, once with each seed.
pub fn sample(plan: &Plan, logp: LogP, failing: u32, when: When, seeds: impl Iterator<Item = u64>) -> Sample {
    let processes = plan.processes();
    let duration = match when {
        When::Before => 1,
        When::During => run(plan, logp, &Faults::none(processes), 0).runtime,
    };
    let outcomes = seeds
        .map(|seed| {
            let mut rng = Rng::new(seed, u64::MAX);
            let faults = Faults::online(processes, failing, duration, &mut rng);
            run(plan, logp, &faults, seed)
        })
        .collect();
    Sample { outcomes }
}
