//! When a checkpoint is due, and at which level: the border to what decides it.

use serde::{Deserialize, Serialize};

use crate::id::Level;

/// What a decision is made from. Arrays are in the order of [`Level::ALL`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// Seconds since the job's processes were started.
    pub elapsed_s: f64,
    /// Seconds of work since the last checkpoint of each level was begun, be it before a restart; none if there is none.
    pub since_s: [Option<f64>; 5],
    /// For how long the program last waited for a checkpoint of each level.
    pub blocking_s: [Option<f64>; 5],
    /// For how long a checkpoint of each level was last written in the background.
    pub background_s: [Option<f64>; 5],
    /// Bytes of a rank.
    pub bytes_per_rank: u64,
    /// Ranks of the job.
    pub ranks: u32,
    /// Nodes of the job.
    pub nodes: u32,
    /// How often the job has been started.
    pub attempt: u32,
    /// Whether a node did not answer when it was started.
    pub lost_a_node: bool,
    /// Levels at which none may be written now.
    pub withheld: [bool; 5],
}

/// Decides.
pub trait Policy: Send {
    /// The level of the checkpoint that `job` should write now, none if it should go on computing.
    fn decide(&mut self, job: &str, facts: &Facts) -> Option<Level>;

    /// A checkpoint is complete at its level: the program waited for it, and then it was written in the background.
    fn measured(&mut self, _job: &str, _level: Level, _blocking_s: f64, _background_s: f64) {}

    /// One did not come to its level.
    fn gave_up(&mut self, _job: &str, _level: Level) {}

    /// The attempt that is known of, and the seconds that a failure of the job now would cost on average: work since the
    /// checkpoint that is needed after it, and the restart. None if nobody calculates that here.
    fn expected_loss_s(&self, _job: &str) -> Option<(u32, f64)> {
        None
    }

    /// The job's processes begin or end: nothing of theirs is under way.
    fn ended(&mut self, _job: &str) {}
}

/// A fixed interval for each level.
#[derive(Clone, Debug)]
pub struct Fixed {
    /// Levels in use with the seconds between two checkpoints.
    pub intervals: Vec<(Level, f64)>,
}

impl Policy for Fixed {
    /// Of the levels that are due the last in the order of the list: the list goes from cheap to safe.
    fn decide(&mut self, _job: &str, facts: &Facts) -> Option<Level> {
        let is_due = |&&(level, interval): &&(Level, f64)| {
            // A safer checkpoint is also a local one, so it puts those of the levels before it off, too.
            let own = facts.since_s[level.index()].unwrap_or(facts.elapsed_s);
            let since = match level {
                Level::Local => facts.since_s.iter().flatten().fold(own, |least, &since| least.min(since)),
                _ => own,
            };
            since >= interval && !facts.withheld[level.index()]
        };
        self.intervals.iter().rev().find(is_due).map(|&(level, _)| level)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_safest_level_that_is_due_is_taken() {
        let mut policy = Fixed { intervals: vec![(Level::Local, 10.0), (Level::Xor, 60.0), (Level::Shared, 600.0)] };
        let mut facts = Facts { elapsed_s: 5.0, ..Facts::default() };
        assert_eq!(policy.decide("j", &facts), None);
        facts.elapsed_s = 70.0;
        assert_eq!(policy.decide("j", &facts), Some(Level::Xor));
        facts.since_s[Level::Xor.index()] = Some(4.0);
        assert_eq!(policy.decide("j", &facts), None, "the XOR checkpoint was a local one, too");
        facts.since_s[Level::Xor.index()] = Some(12.0);
        assert_eq!(policy.decide("j", &facts), Some(Level::Local));
        facts.elapsed_s = 700.0;
        assert_eq!(policy.decide("j", &facts), Some(Level::Shared));
        facts.withheld[Level::Shared.index()] = true;
        assert_eq!(policy.decide("j", &facts), Some(Level::Local));
    }
}
