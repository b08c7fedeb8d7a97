//! What fails how often, and which level then helps.

use serde::{Deserialize, Serialize};

use crate::{LevelKind, ModelError, at_least_zero, positive};

const HOUR: f64 = 3_600.0;

/// Nodes that fail together: those of a switch, of a power supply.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FailureGroup {
    /// What they share.
    pub name: String,
    /// How many nodes share one.
    pub size: u32,
    /// Mean time to the failure of one.
    pub mtbf_hours: f64,
}

/// Failures of a machine's components. A mean time of `inf` means never.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Failures {
    /// A rank dies, and its node lives.
    pub rank_mtbf_hours: f64,
    /// A node dies with all it stores.
    pub node_mtbf_hours: f64,
    /// All nodes of a group die at once.
    pub groups: Vec<FailureGroup>,
    /// The burst buffer loses what it has; the job goes on.
    pub burst_buffer_mtbf_hours: f64,
    /// Seconds until a dead node is replaced.
    pub replace_s: f64,
}

impl Default for Failures {
    fn default() -> Self {
        Self {
            rank_mtbf_hours: f64::INFINITY,
            node_mtbf_hours: 8_000.0,
            groups: Vec::new(),
            burst_buffer_mtbf_hours: f64::INFINITY,
            replace_s: 60.0,
        }
    }
}

/// A job.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// Its nodes.
    pub nodes: u32,
    /// Its ranks, on all nodes.
    pub ranks: u32,
    /// How long it would run without checkpoints and failures.
    pub work_s: f64,
}

impl Job {
    pub(crate) fn check(&self) -> Result<(), ModelError> {
        positive("the number of nodes", f64::from(self.nodes))?;
        positive("the number of ranks", f64::from(self.ranks))?;
        at_least_zero("the length of the job", self.work_s)?;
        positive("the length of the job", self.work_s)
    }
}

impl Failures {
    /// Whether all numbers make sense.
    ///
    /// # Errors
    /// With the first one that does not.
    pub fn check(&self) -> Result<(), ModelError> {
        positive("the mean time to a rank's failure", self.rank_mtbf_hours)?;
        positive("the mean time to a node's failure", self.node_mtbf_hours)?;
        positive("the mean time to a burst buffer's failure", self.burst_buffer_mtbf_hours)?;
        at_least_zero("the time until a node is replaced", self.replace_s)?;
        for group in &self.groups {
            positive("the size of a failure group", f64::from(group.size))?;
            positive("the mean time to a failure group's failure", group.mtbf_hours)?;
        }
        Ok(())
    }

    /// Deaths of ranks alone, a second.
    pub fn light(&self, job: &Job) -> f64 {
        f64::from(job.ranks) / (self.rank_mtbf_hours * HOUR)
    }

    /// Deaths of single nodes, a second, over the job.
    pub fn fatal(&self, job: &Job) -> f64 {
        f64::from(job.nodes) * self.node()
    }

    /// Deaths of whole groups, a second, over the job.
    pub fn correlated(&self, job: &Job) -> f64 {
        self.groups.iter().map(|group| domains(job, group) * group.rate()).sum()
    }

    /// All that interrupts the job, a second.
    pub fn interruptions(&self, job: &Job) -> f64 {
        self.light(job) + self.fatal(job) + self.correlated(job)
    }

    fn node(&self) -> f64 {
        1.0 / (self.node_mtbf_hours * HOUR)
    }

    /// What interrupts the job and cannot be restored from `kind`, a second, if the redundancy is whole again
    /// `window` seconds after a failure. Redundancy groups are laid out across failure groups as well as may be.
    pub fn beyond(&self, kind: LevelKind, job: &Job, window: f64) -> f64 {
        let Some((mates, tolerance)) = kind.redundancy() else {
            return 0.0;
        };
        let all = self.fatal(job) + self.correlated(job);
        if tolerance == 0 {
            return all;
        }
        // A failure that takes one of a redundancy group is survived unless enough of its mates die before it is whole.
        let second = |lost: f64, spare: u32| self.more_die(job, lost, f64::from(mates), spare, window);
        let alone = self.fatal(job) * second(1.0, tolerance);
        let groups = self.groups.iter().map(|group| {
            let together = taken_together(kind, job, group);
            let spare = tolerance.checked_sub(together);
            let rate = domains(job, group) * group.rate();
            let lost = f64::from(group.size.min(job.nodes));
            rate * spare.map_or(1.0, |spare| second(lost, spare + 1))
        });
        alone + groups.sum::<f64>()
    }

    /// The probability that `count` mates of any of `lost` dead nodes die within `window`.
    fn more_die(&self, job: &Job, lost: f64, mates: f64, count: u32, window: f64) -> f64 {
        // One failure group may hold mates of several of the lost, and then fails but once.
        let hit = lost * mates * self.node()
            + self.groups.iter().map(|g| (domains(job, g) - 1.0).clamp(0.0, lost * mates) * g.rate()).sum::<f64>();
        if count == 1 {
            return -(-hit * window).exp_m1();
        }
        let mate = self.node() + self.groups.iter().map(FailureGroup::rate).sum::<f64>();
        let combinations: f64 = (0..count).map(|i| (mates - f64::from(i)).max(0.0) / f64::from(i + 1)).product();
        (lost * combinations * (mate * window).powi(count as i32)).min(1.0)
    }

    /// How often a level loses what it has without an interruption of the job, a second.
    pub fn hidden(&self, kind: LevelKind) -> f64 {
        match kind {
            LevelKind::BurstBuffer => 1.0 / (self.burst_buffer_mtbf_hours * HOUR),
            _ => 0.0,
        }
    }
}

impl FailureGroup {
    fn rate(&self) -> f64 {
        1.0 / (self.mtbf_hours * HOUR)
    }
}

/// How many groups of this kind the job is on; a part of one fails as often as a whole one.
fn domains(job: &Job, group: &FailureGroup) -> f64 {
    f64::from(job.nodes.div_ceil(group.size))
}

/// How many members of one redundancy group die with a failure group at most.
fn taken_together(kind: LevelKind, job: &Job, group: &FailureGroup) -> u32 {
    kind.members().div_ceil(job.nodes.div_ceil(group.size))
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: Job = Job { nodes: 1_000, ranks: 4_000, work_s: 1e5 };
    const XOR: LevelKind = LevelKind::Xor { group: 8 };

    fn failures(groups: &[(u32, f64)]) -> Failures {
        let groups = groups.iter().map(|&(size, mtbf_hours)| FailureGroup { name: "switch".into(), size, mtbf_hours });
        Failures { rank_mtbf_hours: 1_000.0, groups: groups.collect(), ..Failures::default() }
    }

    #[test]
    fn each_level_survives_what_it_is_for() {
        let f = failures(&[]);
        let per_hour = |rate: f64| rate * HOUR;
        assert!((per_hour(f.light(&JOB)) - 4.0).abs() < 1e-12);
        assert!((per_hour(f.beyond(LevelKind::Local, &JOB, 100.0)) - 0.125).abs() < 1e-12);
        assert_eq!(f.beyond(LevelKind::ParallelFs, &JOB, 100.0), 0.0);
        // n (g-1) λ² W.
        let lambda = 1.0 / (8_000.0 * HOUR);
        let pairs = 1_000.0 * 7.0 * lambda * lambda * 100.0;
        assert!((f.beyond(XOR, &JOB, 100.0) / pairs - 1.0).abs() < 1e-3);
        assert!(f.beyond(LevelKind::Partner, &JOB, 100.0) < f.beyond(XOR, &JOB, 100.0));
        let codes = LevelKind::ReedSolomon { data: 6, parity: 2 };
        assert!(f.beyond(codes, &JOB, 100.0) < f.beyond(LevelKind::Partner, &JOB, 100.0));
    }

    #[test]
    fn a_switch_kills_a_group_only_if_the_group_must_share_it() {
        let rate = 1.0 / (1e4 * HOUR);
        // 1,000 nodes on 32 switches: a group of 8 is on 8 of them. On 2 switches, four share one.
        let (many, two) = (failures(&[(32, 1e4)]), failures(&[(500, 1e4)]));
        assert!(many.beyond(XOR, &JOB, 1.0) < 0.01 * 32.0 * rate);
        assert!(two.beyond(XOR, &JOB, 1.0) >= 2.0 * rate);
        assert!(two.beyond(LevelKind::Partner, &JOB, 1.0) < 0.1 * rate);
        assert!(two.beyond(LevelKind::ReedSolomon { data: 4, parity: 4 }, &JOB, 1.0) < 0.01 * rate);
        let one = failures(&[(1_000, 1e4)]);
        assert!(one.beyond(LevelKind::Partner, &JOB, 1.0) >= rate);
        assert_eq!(one.beyond(LevelKind::BurstBuffer, &JOB, 1.0), 0.0);
    }
}
