//! Statistics of quanta. Percentiles are by nearest rank: always a value that was observed, no interpolation.

use serde::{Deserialize, Serialize};
use statrs::statistics::Statistics;

/// Figures of one rank's durations, in the unit of the input.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    pub samples: usize,
    pub min: u64,
    pub median: u64,
    pub mean: f64,
    /// Standard deviation of the sample (divisor n - 1); 0 for one sample.
    pub sd: f64,
    pub p99: u64,
    pub p999: u64,
    pub max: u64,
    /// Σ(Ti − Tmin) / ΣTi, in percent: the share of the time that went into delays.
    pub noise: f64,
}

/// The value at rank ⌈q·n⌉ of ascending values; `q` in (0, 1].
///
/// # Panics
/// If `sorted` is empty.
pub fn percentile(sorted: &[u64], q: f64) -> u64 {
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

impl Summary {
    /// None without samples.
    pub fn of(values: &[u64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_unstable();
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        let real = || sorted.iter().map(|&v| v as f64);
        let sum: u128 = sorted.iter().map(|&v| u128::from(v)).sum();
        let excess = sum - u128::from(min) * sorted.len() as u128;
        Some(Summary {
            samples: sorted.len(),
            min,
            median: percentile(&sorted, 0.5),
            mean: real().mean(),
            sd: if sorted.len() > 1 { real().std_dev() } else { 0.0 },
            p99: percentile(&sorted, 0.99),
            p999: percentile(&sorted, 0.999),
            max,
            noise: if sum == 0 { 0.0 } else { 100.0 * excess as f64 / sum as f64 },
        })
    }
}

/// Quanta that took longer than the fastest by more than a threshold.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Detours {
    pub threshold: u64,
    pub count: usize,
    /// Sum of their delays over the fastest quantum.
    pub total: u64,
}

impl Detours {
    pub fn of(values: &[u64], threshold: u64) -> Self {
        let min = values.iter().copied().min().unwrap_or(0);
        let delays = || values.iter().map(|v| v - min).filter(|d| *d > threshold);
        Detours { threshold, count: delays().count(), total: delays().sum() }
    }
}

/// What the barrier of StepSync cost, in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepCost {
    /// Wall time of all steps over n · Tmin, Tmin being the fastest quantum of all ranks. 1 is ideal.
    pub slowdown: f64,
    /// Σ over the steps of the slowest rank's quantum, over n · Tmin: the part of the slowdown without the barrier's own
    /// cost.
    pub slowdown_work: f64,
}

/// One rank's share of a StepSync run: times before and after each quantum, and the boundaries of the run.
#[derive(Clone, Copy, Debug)]
pub struct Steps<'a> {
    pub starts: &'a [u64],
    pub ticks: &'a [u64],
    pub begin: u64,
    pub end: u64,
}

impl Steps<'_> {
    /// Ticks spent at the barriers: from each quantum's end to the next one's begin, after the last to the run's end.
    pub fn waits(&self) -> Vec<u64> {
        let next = self.starts.iter().skip(1).copied().chain([self.end]);
        self.starts.iter().zip(self.ticks).zip(next).map(|((s, t), next)| next.saturating_sub(s + t)).collect()
    }
}

impl StepCost {
    /// None if there is nothing to compare. All ranks must hold the same number of steps.
    pub fn of(ranks: &[Steps<'_>]) -> Option<Self> {
        let n = ranks.first()?.ticks.len();
        let min = ranks.iter().flat_map(|r| r.ticks).copied().min()?;
        let begin = ranks.iter().map(|r| r.begin).min()?;
        let end = ranks.iter().map(|r| r.end).max()?;
        let slowest: u64 = (0..n).map(|i| ranks.iter().map(|r| r.ticks[i]).max().unwrap_or(0)).sum();
        let ideal = n as f64 * min as f64;
        Some(StepCost { slowdown: (end - begin) as f64 / ideal, slowdown_work: slowest as f64 / ideal })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_a_known_vector() {
        let s = Summary::of(&[2, 4, 4, 4, 5, 5, 7, 9]).unwrap();
        assert_eq!((s.min, s.median, s.max, s.samples), (2, 4, 9, 8));
        assert!((s.mean - 5.0).abs() < 1e-12);
        assert!((s.sd - (32.0f64 / 7.0).sqrt()).abs() < 1e-12);
        assert!((s.noise - 100.0 * 24.0 / 40.0).abs() < 1e-12);
    }

    #[test]
    fn percentiles_are_observed_values_at_the_nearest_rank() {
        let values: Vec<u64> = (1..=1000).rev().collect();
        let s = Summary::of(&values).unwrap();
        assert_eq!((s.median, s.p99, s.p999, s.max), (500, 990, 999, 1000));
        assert_eq!(Summary::of(&[7]).unwrap().p999, 7);
    }

    #[test]
    fn equal_quanta_are_free_of_noise() {
        let s = Summary::of(&[5; 100]).unwrap();
        assert_eq!((s.noise, s.sd), (0.0, 0.0));
    }

    #[test]
    fn nothing_has_no_summary_and_one_sample_no_deviation() {
        assert_eq!(Summary::of(&[]), None);
        assert_eq!(Summary::of(&[3]).unwrap().sd, 0.0);
    }

    #[test]
    fn large_sums_do_not_overflow() {
        let s = Summary::of(&[u64::MAX, u64::MAX, u64::MAX]).unwrap();
        assert_eq!(s.noise, 0.0);
    }

    #[test]
    fn detours_are_delays_above_the_threshold() {
        let d = Detours::of(&[100, 105, 106, 150], 5);
        assert_eq!((d.count, d.total), (2, 56));
    }

    #[test]
    fn barrier_waits_and_slowdown_of_two_ranks() {
        // Steps of 10 ticks; rank 1's second quantum takes 15; the barrier itself takes 1.
        let a = Steps { starts: &[0, 11, 27], ticks: &[10, 10, 10], begin: 0, end: 38 };
        let b = Steps { starts: &[0, 11, 27], ticks: &[10, 15, 10], begin: 0, end: 38 };
        assert_eq!(a.waits(), [1, 6, 1]);
        assert_eq!(b.waits(), [1, 1, 1]);
        let cost = StepCost::of(&[a, b]).unwrap();
        assert!((cost.slowdown - 38.0 / 30.0).abs() < 1e-12);
        assert!((cost.slowdown_work - 35.0 / 30.0).abs() < 1e-12);
    }
}
