//! Who decides when a checkpoint is due: the model, and the coordinator's word on shared storage.

use std::collections::HashMap;
use std::time::Instant;

use gossip_checkpoint::id::Level;
use gossip_checkpoint::policy::{Facts, Fixed, Policy};
use gossip_checkpoint_model::coordinator::{Hello, Permit};
use gossip_checkpoint_model::level::Machine;
use gossip_checkpoint_model::{Adviser, Cost, FailureKind, Failures, Job, LevelKind};
use serde::Deserialize;
use tracing::{info, warn};

use crate::checkpoint::LevelEntry;
use crate::coordinate::Link;

/// `checkpoint.policy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// `interval_s` of each level.
    #[default]
    Fixed,
    /// The model's levels and intervals.
    Model,
}

/// `[checkpoint.machine]`: gigabytes a second, as a first guess of what checkpoints cost.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MachineSection {
    /// To a node's own storage and from it.
    pub local: f64,
    /// Of a node's network.
    pub network: f64,
    /// Of the shared storage, all nodes together.
    pub shared: f64,
    /// To make parity, a node.
    pub encode: f64,
}

impl Default for MachineSection {
    fn default() -> Self {
        Self { local: 1.0, network: 1.0, shared: 1.0, encode: 1.0 }
    }
}

const GB: f64 = 1e9;

impl MachineSection {
    /// Whether all are positive numbers.
    pub fn makes_sense(&self) -> bool {
        [self.local, self.network, self.shared, self.encode].iter().all(|&speed| speed > 0.0 && speed.is_finite())
    }

    fn machine(&self) -> Machine {
        Machine {
            local_write: self.local * GB,
            local_read: self.local * GB,
            network: self.network * GB,
            burst_buffer: self.shared * GB,
            parallel_fs: self.shared * GB,
            encode: self.encode * GB,
        }
    }
}

/// Bytes of a rank before its first checkpoint.
const UNKNOWN_BYTES: f64 = GB;
/// What is written in the background slows the job down by this share of its time.
const INTERFERENCE: f64 = 0.1;

/// The model, for all jobs whose first rank is on this node.
pub struct Model {
    levels: Vec<LevelEntry>,
    failures: Failures,
    machine: MachineSection,
    work_s: f64,
    jobs: HashMap<String, Advised>,
}

/// A job with its adviser.
struct Advised {
    adviser: Adviser,
    nodes: u32,
    ranks: u32,
    bytes: u64,
    attempt: u32,
    /// Seconds for which it has run in attempts before this one, as far as this node saw them.
    before_s: f64,
    elapsed_s: f64,
}

fn kind_of(entry: &LevelEntry) -> LevelKind {
    let (group, parity) = (entry.group as u32, entry.own_parities() as u32);
    match entry.kind {
        Level::Local => LevelKind::Local,
        Level::Xor => LevelKind::Xor { group },
        Level::Partner => LevelKind::Partner,
        Level::ReedSolomon => LevelKind::ReedSolomon { data: group.saturating_sub(parity), parity },
        Level::Shared => LevelKind::ParallelFs,
    }
}

fn level_of(kind: LevelKind) -> Level {
    match kind {
        LevelKind::Local => Level::Local,
        LevelKind::Xor { .. } => Level::Xor,
        LevelKind::Partner => Level::Partner,
        LevelKind::ReedSolomon { .. } => Level::ReedSolomon,
        LevelKind::BurstBuffer | LevelKind::ParallelFs => Level::Shared,
    }
}

impl Model {
    /// With the levels that are offered; their intervals are not looked at.
    pub fn new(levels: &[LevelEntry], failures: &Failures, machine: MachineSection, work_hours: f64) -> Self {
        let (levels, failures) = (levels.to_vec(), failures.clone());
        Self { levels, failures, machine, work_s: 3_600.0 * work_hours, jobs: HashMap::new() }
    }

    fn cost(&self, kind: LevelKind, facts: &Facts) -> Cost {
        let bytes = if facts.bytes_per_rank == 0 { UNKNOWN_BYTES } else { facts.bytes_per_rank as f64 };
        let of_node = bytes * f64::from(facts.ranks) / f64::from(facts.nodes.max(1));
        self.machine.machine().background_cost(kind, facts.nodes, of_node, self.failures.replace_s, INTERFERENCE)
    }

    fn adviser(&self, job: &str, facts: &Facts) -> Option<Adviser> {
        let described = Job { nodes: facts.nodes, ranks: facts.ranks, work_s: self.work_s };
        let kinds = self.levels.iter().map(kind_of);
        // Levels for which there are too few nodes are not offered.
        let fits =
            |kind: &LevelKind| Adviser::new(described, self.failures.clone(), &[(*kind, Cost::default())]).is_ok();
        let offers: Vec<_> = kinds.filter(fits).map(|kind| (kind, self.cost(kind, facts))).collect();
        match Adviser::new(described, self.failures.clone(), &offers) {
            Ok(adviser) => Some(adviser),
            Err(error) => {
                warn!(job, %error, "no plan for checkpoints");
                None
            }
        }
    }

    /// The job's adviser, which knows all that the facts say.
    fn informed(&mut self, job: &str, facts: &Facts) -> Option<&mut Advised> {
        let is_same = |known: &Advised| (known.nodes, known.ranks) == (facts.nodes, facts.ranks);
        let known = self.jobs.remove(job);
        let (mut before_s, mut failed) = (0.0, false);
        if let Some(known) = &known
            && facts.attempt != known.attempt
        {
            before_s = known.before_s + known.elapsed_s;
            failed = true;
        } else if let Some(known) = &known {
            before_s = known.before_s;
        }
        let mut advised = match known.filter(is_same) {
            Some(known) => Advised { attempt: facts.attempt, before_s, ..known },
            None => Advised {
                adviser: self.adviser(job, facts)?,
                nodes: facts.nodes,
                ranks: facts.ranks,
                bytes: facts.bytes_per_rank,
                attempt: facts.attempt,
                before_s,
                elapsed_s: 0.0,
            },
        };
        advised.elapsed_s = facts.elapsed_s;
        // Checkpoints from before the attempts that this node saw: the job is older than it knew.
        let oldest = facts.since_s.iter().flatten().fold(0.0f64, |oldest, &since| oldest.max(since));
        advised.before_s = advised.before_s.max(oldest - facts.elapsed_s);
        if failed {
            let what = if facts.lost_a_node { FailureKind::Node } else { FailureKind::Light };
            advised.adviser.failed(before_s, what);
        }
        for entry in &self.levels {
            let (kind, at) = (kind_of(entry), entry.kind.index());
            if advised.bytes != facts.bytes_per_rank {
                advised.adviser.guess(kind, self.cost(kind, facts));
            }
            advised.adviser.newest_is_from(kind, advised.now() - facts.since_s[at].unwrap_or(advised.now()));
        }
        advised.bytes = facts.bytes_per_rank;
        Some(self.jobs.entry(job.to_owned()).or_insert(advised))
    }
}

impl Advised {
    fn now(&self) -> f64 {
        self.before_s + self.elapsed_s
    }
}

impl Policy for Model {
    fn decide(&mut self, job: &str, facts: &Facts) -> Option<Level> {
        let advised = self.informed(job, facts)?;
        let may = |kind: LevelKind| !facts.withheld[level_of(kind).index()];
        advised.adviser.wanted_among(advised.now(), may).map(level_of)
    }

    fn expected_loss_s(&self, job: &str) -> Option<(u32, f64)> {
        let advised = self.jobs.get(job)?;
        Some((advised.attempt, advised.adviser.loss_now(advised.now())))
    }

    fn measured(&mut self, job: &str, level: Level, blocking_s: f64, background_s: f64) {
        let Some(advised) = self.jobs.get_mut(job) else { return };
        let now = advised.now();
        for entry in self.levels.iter().filter(|entry| entry.kind == level) {
            let waits = blocking_s + INTERFERENCE * background_s;
            advised.adviser.wrote(kind_of(entry), now, waits, background_s * (1.0 - INTERFERENCE));
        }
        let plan = advised.adviser.plan();
        info!(job, %level, blocking_s, background_s, overhead = plan.overhead, levels = ?plan.levels, "checkpoint");
    }
}

/// Who decides without a coordinator.
pub enum Own {
    /// Fixed intervals, and the mean time between failures of a node in seconds.
    Fixed(Fixed, Failures),
    /// The model.
    Model(Model),
}

impl Own {
    /// Fixed intervals.
    pub fn fixed(levels: &[LevelEntry], failures: &Failures) -> Self {
        let intervals = levels.iter().map(|level| (level.kind, level.interval_s)).collect();
        Self::Fixed(Fixed { intervals }, failures.clone())
    }

    fn policy(&mut self) -> &mut dyn Policy {
        match self {
            Self::Fixed(fixed, _) => fixed,
            Self::Model(model) => model,
        }
    }

    /// What the coordinator is told of a job.
    fn hello(&self, job: &str, facts: &Facts) -> Hello {
        let (failures, interval_s) = match self {
            Self::Fixed(fixed, failures) => {
                let shared = fixed.intervals.iter().find(|(level, _)| *level == Level::Shared);
                (failures, shared.map(|&(_, interval)| interval))
            }
            Self::Model(model) => {
                let plan = model.jobs.get(job).map(|advised| advised.adviser.plan());
                let shared = plan.and_then(|plan| plan.levels.iter().find(|level| level.kind.shared()));
                (&model.failures, shared.map(|level| level.interval_s))
            }
        };
        let described = Job { nodes: facts.nodes, ranks: facts.ranks, work_s: 1.0 };
        Hello {
            job: job.to_owned(),
            nodes: facts.nodes,
            bytes: facts.bytes_per_rank * u64::from(facts.ranks),
            interval_s: interval_s.unwrap_or(0.0),
            mtbf_s: 1.0 / failures.interruptions(&described).max(1e-12),
        }
    }
}

impl Policy for Own {
    fn decide(&mut self, job: &str, facts: &Facts) -> Option<Level> {
        self.policy().decide(job, facts)
    }

    fn expected_loss_s(&self, job: &str) -> Option<(u32, f64)> {
        match self {
            Self::Fixed(fixed, _) => fixed.expected_loss_s(job),
            Self::Model(model) => model.expected_loss_s(job),
        }
    }

    fn measured(&mut self, job: &str, level: Level, blocking_s: f64, background_s: f64) {
        self.policy().measured(job, level, blocking_s, background_s);
    }
}

/// Asks a coordinator before something is written to shared storage. While it does not answer, all is as without it.
pub struct Coordinated {
    own: Own,
    link: Link,
    jobs: HashMap<String, Asked>,
}

/// How a job stands with the coordinator.
#[derive(Clone, Copy, Debug)]
enum Asked {
    /// It may write since then.
    May(Instant),
    /// It is to ask again then.
    Again(Instant),
}

impl Coordinated {
    /// `own` decides, and asks through `link`.
    pub fn new(own: Own, link: Link) -> Self {
        Self { own, link, jobs: HashMap::new() }
    }

    fn may_write(&mut self, job: &str, facts: &Facts) -> bool {
        let since_s = facts.since_s[Level::Shared.index()].unwrap_or(facts.elapsed_s);
        let now = Instant::now();
        match self.jobs.get(job) {
            Some(Asked::Again(at)) if now < *at => return false,
            // It was allowed to, and another level or nothing was written instead.
            Some(Asked::May(at)) if since_s > at.elapsed().as_secs_f64() => self.link.done(job, None),
            _ => {}
        }
        let hello = self.own.hello(job, facts);
        match self.link.ask(job, hello, since_s) {
            None | Some(Permit::Write) => {
                self.jobs.insert(job.to_owned(), Asked::May(now));
                true
            }
            Some(Permit::Wait { seconds }) => {
                let wait = std::time::Duration::try_from_secs_f64(seconds).unwrap_or_default();
                self.jobs.insert(job.to_owned(), Asked::Again(now + wait));
                false
            }
        }
    }
}

impl Policy for Coordinated {
    fn decide(&mut self, job: &str, facts: &Facts) -> Option<Level> {
        let level = self.own.decide(job, facts);
        if level != Some(Level::Shared) || self.may_write(job, facts) {
            return level;
        }
        let mut others = facts.clone();
        others.withheld[Level::Shared.index()] = true;
        self.own.decide(job, &others)
    }

    fn expected_loss_s(&self, job: &str) -> Option<(u32, f64)> {
        self.own.expected_loss_s(job)
    }

    fn measured(&mut self, job: &str, level: Level, blocking_s: f64, background_s: f64) {
        self.own.measured(job, level, blocking_s, background_s);
        if level == Level::Shared {
            self.link.done(job, Some(background_s));
        }
    }

    fn gave_up(&mut self, job: &str, level: Level) {
        if level == Level::Shared {
            self.link.done(job, None);
        }
    }

    fn ended(&mut self, job: &str) {
        self.jobs.remove(job);
        self.link.forget(job);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels() -> Vec<LevelEntry> {
        let level = |kind, group, parities| LevelEntry { kind, group, parities, interval_s: 1.0 };
        vec![
            level(Level::Local, 8, 2),
            level(Level::Xor, 8, 2),
            level(Level::Partner, 8, 2),
            level(Level::ReedSolomon, 8, 2),
            level(Level::Shared, 8, 2),
        ]
    }

    fn model(levels: &[LevelEntry]) -> Model {
        let failures = Failures { node_mtbf_hours: 100.0, rank_mtbf_hours: 100.0, ..Failures::default() };
        Model::new(levels, &failures, MachineSection::default(), 24.0)
    }

    /// A job under a policy, with its own clock.
    struct Run {
        facts: Facts,
        begun: [Option<f64>; 5],
        written: [u32; 5],
    }

    impl Run {
        fn new(nodes: u32) -> Self {
            let facts = Facts { ranks: nodes, nodes, attempt: 1, bytes_per_rank: 1 << 30, ..Facts::default() };
            Self { facts, begun: [None; 5], written: [0; 5] }
        }

        fn go_on(&mut self, policy: &mut impl Policy, seconds: f64, blocking_s: f64) {
            let end = self.facts.elapsed_s + seconds;
            while self.facts.elapsed_s < end {
                self.facts.elapsed_s += 1.0;
                self.facts.since_s = self.begun.map(|at| at.map(|at| self.facts.elapsed_s - at));
                if let Some(level) = policy.decide("j", &self.facts) {
                    self.begun[level.index()] = Some(self.facts.elapsed_s);
                    self.written[level.index()] += 1;
                    let seconds = blocking_s * [1.0, 2.0, 3.0, 4.0, 40.0][level.index()];
                    policy.measured("j", level, seconds, seconds);
                }
            }
        }
    }

    #[test]
    fn a_failure_is_expected_to_cost_the_work_since_the_checkpoint_that_it_leaves() {
        let mut model = model(&levels()[..3]);
        assert_eq!(model.expected_loss_s("j"), None);
        let mut run = Run::new(64);
        run.go_on(&mut model, 20_000.0, 1.0);
        run.facts.elapsed_s += 10.0;
        run.facts.since_s = run.begun.map(|at| at.map(|at| run.facts.elapsed_s - at));
        model.decide("j", &run.facts);
        let (attempt, soon) = model.expected_loss_s("j").unwrap();
        assert_eq!(attempt, 1);
        let since = |level: Level| run.facts.since_s[level.index()].unwrap_or(run.facts.elapsed_s);
        let least = Level::ALL.iter().map(|&level| since(level)).fold(f64::INFINITY, f64::min);
        assert!(soon > least && soon < run.facts.elapsed_s, "{soon} s, {least} s since the newest");
        // Nothing is written for a minute: whatever fails costs a minute more.
        run.facts.elapsed_s += 60.0;
        run.facts.since_s = run.facts.since_s.map(|since| since.map(|since| since + 60.0));
        model.decide("j", &run.facts);
        let (_, later) = model.expected_loss_s("j").unwrap();
        assert!((later - soon - 60.0).abs() < 0.01, "{soon} and {later} s");
    }

    #[test]
    fn the_models_levels_are_written_at_its_intervals() {
        let mut model = model(&levels());
        let mut run = Run::new(64);
        run.go_on(&mut model, 40_000.0, 1.0);
        let plan = model.jobs["j"].adviser.plan().clone();
        assert!(plan.levels.len() > 2, "{plan:?}");
        for level in Level::ALL.iter().filter(|level| !plan.levels.iter().any(|l| level_of(l.kind) == **level)) {
            assert_eq!(run.written[level.index()], 0, "{level} {plan:?}");
        }
        // Nested: a checkpoint of a level is one of all lower ones.
        for (at, level) in plan.levels.iter().enumerate() {
            let all: u32 = plan.levels[at..].iter().map(|level| run.written[level_of(level.kind).index()]).sum();
            let expected = 40_000.0 / level.interval_s;
            assert!((f64::from(all) / expected - 1.0).abs() < 0.35, "{all} of {expected} at {}", level.kind);
        }
    }

    #[test]
    fn dearer_checkpoints_become_rarer_and_failures_make_them_more_frequent() {
        let mut model = model(&levels()[..1]);
        let mut run = Run::new(64);
        run.go_on(&mut model, 10_000.0, 1.0);
        let cheap = run.written[0];
        run.go_on(&mut model, 10_000.0, 16.0);
        let dear = run.written[0] - cheap;
        assert!(2 * dear < cheap, "{dear} {cheap}");
        for attempt in 2..30 {
            run = Run::new(64);
            run.facts.attempt = attempt;
            run.go_on(&mut model, 300.0, 16.0);
        }
        run = Run::new(64);
        run.facts.attempt = 30;
        run.go_on(&mut model, 10_000.0, 16.0);
        assert!(run.written[0] > 2 * dear, "{} {dear}", run.written[0]);
    }

    #[test]
    fn a_level_for_which_there_are_too_few_nodes_is_left_out() {
        let mut model = model(&levels()[1..4]);
        let mut run = Run::new(3);
        run.go_on(&mut model, 40_000.0, 1.0);
        assert_eq!([run.written[Level::Xor.index()], run.written[Level::ReedSolomon.index()]], [0, 0]);
        assert!(run.written[Level::Partner.index()] > 0);
    }

    #[test]
    fn a_withheld_level_is_replaced_by_a_lower_one() {
        let two = [levels()[0].clone(), levels()[4].clone()];
        let mut model = model(&two);
        let mut run = Run::new(64);
        run.facts.withheld[Level::Shared.index()] = true;
        run.go_on(&mut model, 40_000.0, 1.0);
        assert!(run.written[0] > 0 && run.written[4] == 0, "{:?}", run.written);
        run.facts.withheld[Level::Shared.index()] = false;
        run.go_on(&mut model, 150.0, 1.0);
        assert_eq!(run.written[4], 1, "it was due long ago");
    }

    #[test]
    fn what_a_job_wrote_before_a_restart_counts() {
        let mut model = model(&levels()[4..]);
        let mut run = Run::new(64);
        // The checkpoint that it was restarted from is of another level; the last shared one is old.
        run.begun[4] = Some(-1e6);
        run.go_on(&mut model, 2.0, 1.0);
        assert_eq!(run.written[4], 1);
        run.go_on(&mut model, 10.0, 1.0);
        assert_eq!(run.written[4], 1);
    }

    #[test]
    fn without_a_coordinator_all_is_as_without_one() {
        let nowhere = Link::new("/nonexistent/coordinator".parse().unwrap(), [0; 32]);
        let own = || Own::fixed(&levels(), &Failures::default());
        let (mut with, mut without) = (Coordinated::new(own(), nowhere), own());
        let (mut a, mut b) = (Run::new(8), Run::new(8));
        a.go_on(&mut with, 100.0, 1.0);
        b.go_on(&mut without, 100.0, 1.0);
        assert_eq!(a.written, b.written);
        assert!(a.written[4] > 0);
    }
}
