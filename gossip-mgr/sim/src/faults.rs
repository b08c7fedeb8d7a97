//! Which processes fail, and when.

use gossip_core::collective::{Rank, Time};
use gossip_core::rng::Rng;

/// The time of failure of every process; most never fail.
#[derive(Clone, Debug)]
pub struct Faults {
    dies_at: Vec<Time>,
}

const NEVER: Time = Time::MAX;

impl Faults {
    /// No process fails.
    pub fn none(processes: u32) -> Self {
        Self { dies_at: vec![NEVER; processes as usize] }
    }

    /// `count` processes other than the root, drawn uniformly, are dead from the start.
    /// At most all but the root are.
    pub fn offline(processes: u32, count: u32, rng: &mut Rng) -> Self {
        let mut faults = Self::none(processes);
        let mut left = count.min(processes.saturating_sub(1));
        while left > 0 {
            let rank = 1 + rng.below(u64::from(processes) - 1) as usize;
            if faults.dies_at[rank] == NEVER {
                faults.dies_at[rank] = 0;
                left -= 1;
            }
        }
        faults
    }

    /// Like [`Faults::offline`], but each fails at a uniform time before `until`.
    pub fn online(processes: u32, count: u32, until: Time, rng: &mut Rng) -> Self {
        let mut faults = Self::offline(processes, count, rng);
        for at in faults.dies_at.iter_mut().filter(|at| **at == 0) {
            *at = rng.below(until.max(1));
        }
        faults
    }

    /// The given processes fail at the given times.
    pub fn explicit(processes: u32, failures: &[(Rank, Time)]) -> Self {
        let mut faults = Self::none(processes);
        for &(rank, at) in failures {
            faults.dies_at[rank as usize] = at;
        }
        faults
    }

    /// Whether `rank` is dead at `now`.
    pub fn is_dead(&self, rank: Rank, now: Time) -> bool {
        self.dies_at[rank as usize] <= now
    }

    /// Whether `rank` never fails.
    pub fn survives(&self, rank: Rank) -> bool {
        self.dies_at[rank as usize] == NEVER
    }

    /// P.
    pub fn processes(&self) -> u32 {
        self.dies_at.len() as u32
    }
}
