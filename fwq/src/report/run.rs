//! One run: a recording joined with the meter's counts, reduced to figures and to what the plots need.

use serde::{Deserialize, Serialize};

use super::{Activity, StormItem, System};
use crate::cli::Mode;
use crate::error::{Error, Result};
use crate::host;
use crate::meter::{Counts, Meter, Quantum};
use crate::record::{Rank, Recording};
use crate::stats::{Detours, StepCost, Summary};

/// Bins of a run's time axis in the plots.
const BINS: usize = 160;
/// Points of a distribution's curve.
const CURVE_POINTS: usize = 160;

/// Durations in ticks of the time-stamp counter.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cycles {
    pub min: u64,
    pub median: u64,
    pub mean: f64,
    pub sd: f64,
    pub p99: u64,
    pub p999: u64,
    pub max: u64,
}

/// What the core executed between the quanta of one rank: for StepSync, in the barrier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gaps {
    pub insns: u64,
    pub kernel_insns: u64,
    pub kernel_entries: u64,
    pub syscalls: u64,
}

/// A slice of the run's time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// Quanta that began in it.
    pub quanta: u32,
    /// Stolen instructions in them, and the most in one; 0 where the run was not metered.
    pub stolen: u64,
    pub stolen_max: u64,
    /// Longest quantum, in ticks.
    pub ticks_max: u64,
    pub ticks_min: u64,
}

/// A distribution: (x, share of the quanta that are at least x), x ascending.
pub type Curve = Vec<(u64, f64)>;

/// One rank of one run. The meter's figures are absent where the run was not metered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RankResult {
    pub rank: u8,
    /// Core of the machine by the meter, else by the system.
    pub core: Option<u32>,
    pub samples: usize,
    /// Instructions of all quanta's own.
    pub own_insns: u64,
    /// Instructions on the rank's core in its quanta that were not their own.
    pub stolen_insns: Option<u64>,
    /// Of a million instructions executed in the quanta.
    pub stolen_ppm: Option<f64>,
    /// The most in one quantum.
    pub stolen_max: Option<u64>,
    /// Quanta with at least one stolen instruction, or that changed cores.
    pub quanta_hit: Option<usize>,
    pub kernel_entries: Option<u64>,
    pub cycles: Cycles,
    /// Σ(Ti − Tmin) / ΣTi in percent.
    pub noise: f64,
    // Beyond the agreed fields:
    /// Median of the duration in milliseconds, and the least.
    pub ms_min: f64,
    pub ms_median: f64,
    pub syscalls: Option<u64>,
    /// Times that the core went idle inside a quantum.
    pub idles: Option<u64>,
    /// Quanta that began on one core and ended on another; their instructions cannot be told.
    pub migrated: Option<usize>,
    /// More than one if the rank moved between quanta.
    pub cores: Vec<u32>,
    /// The compute core by /sys/kernel/decouple, if the rank was decoupled.
    pub decoupled_core: Option<u32>,
    pub detours: Detours,
    pub gaps: Option<Gaps>,
    /// Time at the barrier in ticks, for StepSync.
    pub wait: Option<Summary>,
    pub usage: Option<host::Usage>,
    /// Seconds that a bin of `bins` spans.
    pub bin_s: f64,
    pub bins: Vec<Bin>,
    pub ticks_curve: Curve,
    pub stolen_curve: Curve,
}

/// One run of all its ranks on one system.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    pub system: System,
    pub mode: Mode,
    pub activity: Activity,
    pub ranks: Vec<RankResult>,
    pub wall_s: f64,
    // Beyond the agreed fields:
    pub program: String,
    pub samples: usize,
    pub own_insns_per_quantum: u64,
    pub tsc_hz: f64,
    pub mpi: Option<String>,
    pub guest: host::Machine,
    pub step_cost: Option<StepCost>,
    pub storm: Vec<StormItem>,
}

impl Run {
    /// Join a recording with the meter's counts of the same machine's life, by run id and rank.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the meter did not see each quantum exactly once, or counted fewer instructions in one than
    /// the quantum itself has.
    pub fn merge(
        system: System,
        activity: Activity,
        recording: &Recording,
        meter: Option<&Meter>,
        storm: Vec<StormItem>,
    ) -> Result<Run> {
        let span = recording.ranks.iter().map(|r| r.end).max().unwrap_or(0);
        let ranks = recording
            .ranks
            .iter()
            .map(|rank| {
                let quanta: Option<Vec<&Quantum>> = meter.map(|m| m.of(recording.run_id, rank.rank).collect());
                RankResult::of(recording, rank, quanta.as_deref(), span)
                    .map_err(|text| Error::Mismatch(format!("{}, run {}: {text}", system.title(), recording.run_id)))
            })
            .collect::<Result<_>>()?;
        Ok(Run {
            system,
            mode: recording.mode,
            activity,
            ranks,
            wall_s: recording.wall_s(),
            program: recording.program.clone(),
            samples: recording.samples,
            own_insns_per_quantum: recording.own_insns,
            tsc_hz: recording.tsc_hz,
            mpi: recording.mpi.clone(),
            guest: recording.machine.clone(),
            step_cost: recording.step_cost,
            storm,
        })
    }
}

/// Stolen instructions of each quantum; none for one that migrated.
fn stolen(own: u64, quanta: &[&Quantum]) -> std::result::Result<Vec<Option<u64>>, String> {
    quanta
        .iter()
        .enumerate()
        .map(|(i, q)| {
            if q.migrated {
                return Ok(None);
            }
            let total = q.counts.total();
            total.checked_sub(own).map(Some).ok_or_else(|| {
                format!("quantum {i}: the meter counted {total} instructions, its own work alone has {own}")
            })
        })
        .collect()
}

impl RankResult {
    fn of(
        recording: &Recording,
        rank: &Rank,
        quanta: Option<&[&Quantum]>,
        span: u64,
    ) -> std::result::Result<Self, String> {
        let s = rank.summary;
        let ms = |ticks: u64| ticks as f64 * 1e3 / recording.tsc_hz;
        let mut result = RankResult {
            rank: rank.rank,
            core: rank.placement.decoupled_core.or(rank.placement.cpu.map(|c| c as u32)),
            samples: s.samples,
            own_insns: recording.own_insns * s.samples as u64,
            stolen_insns: None,
            stolen_ppm: None,
            stolen_max: None,
            quanta_hit: None,
            kernel_entries: None,
            cycles: Cycles {
                min: s.min,
                median: s.median,
                mean: s.mean,
                sd: s.sd,
                p99: s.p99,
                p999: s.p999,
                max: s.max,
            },
            noise: s.noise,
            ms_min: ms(s.min),
            ms_median: ms(s.median),
            syscalls: None,
            idles: None,
            migrated: None,
            cores: Vec::new(),
            decoupled_core: rank.placement.decoupled_core,
            detours: rank.detours,
            gaps: None,
            wait: rank.wait,
            usage: rank.usage,
            bin_s: span as f64 / BINS as f64 / recording.tsc_hz,
            bins: Vec::new(),
            ticks_curve: curve(rank.ticks.clone()),
            stolen_curve: Vec::new(),
        };
        let stolen = match quanta {
            Some(quanta) => result.add_counts(recording.own_insns, quanta)?,
            None => vec![None; s.samples],
        };
        result.bins = bins(rank, &stolen, span);
        Ok(result)
    }

    /// Fill in the meter's figures; returns the stolen instructions of each quantum.
    fn add_counts(&mut self, own: u64, quanta: &[&Quantum]) -> std::result::Result<Vec<Option<u64>>, String> {
        if quanta.len() != self.samples {
            return Err(format!(
                "rank {}: the program measured {} quanta, the meter saw {} of them",
                self.rank,
                self.samples,
                quanta.len()
            ));
        }
        let stolen = stolen(own, quanta).map_err(|e| format!("rank {}: {e}", self.rank))?;
        let known: Vec<u64> = stolen.iter().copied().flatten().collect();
        let sum: u64 = known.iter().sum();
        let executed = sum + own * known.len() as u64;
        let total = |f: fn(&Counts) -> u64| quanta.iter().map(|q| f(&q.counts)).sum::<u64>();
        let gap = |f: fn(&Counts) -> u64| {
            let gaps = quanta.iter().filter_map(|q| q.gap.as_ref());
            gaps.map(f).sum::<u64>()
        };
        let migrated = quanta.iter().filter(|q| q.migrated).count();

        let mut cores: Vec<u32> = quanta.iter().map(|q| q.vcpu).collect();
        cores.sort_unstable();
        self.core = cores.chunk_by(|a, b| a == b).max_by_key(|c| c.len()).map(|c| c[0]);
        cores.dedup();
        self.cores = cores;
        self.stolen_insns = Some(sum);
        self.stolen_ppm = Some(if executed == 0 { 0.0 } else { sum as f64 * 1e6 / executed as f64 });
        self.stolen_max = Some(known.iter().copied().max().unwrap_or(0));
        self.quanta_hit = Some(migrated + known.iter().filter(|s| **s > 0).count());
        self.kernel_entries = Some(total(|c| c.entries));
        self.syscalls = Some(total(|c| c.syscalls));
        self.idles = Some(total(|c| c.idles));
        self.migrated = Some(migrated);
        self.gaps = Some(Gaps {
            insns: gap(Counts::total),
            kernel_insns: gap(|c| c.kernel),
            kernel_entries: gap(|c| c.entries),
            syscalls: gap(|c| c.syscalls),
        });
        self.stolen_curve = curve(known).into_iter().filter(|(x, _)| *x > 0).collect();
        Ok(stolen)
    }
}

/// The share of the values that are at least x, at x chosen so that the tail is dense.
fn curve(mut values: Vec<u64>) -> Curve {
    values.sort_unstable();
    let n = values.len();
    let mut points: Curve = Vec::new();
    let mut add = |index: usize| {
        let x = values[index];
        let first = values.partition_point(|v| *v < x);
        if points.last().is_none_or(|(last, _)| *last < x) {
            points.push((x, (n - first) as f64 / n as f64));
        }
    };
    // Ranks from the top that grow geometrically, walked downwards: index n - 1 is the maximum.
    let mut ranks: Vec<usize> =
        (0..CURVE_POINTS).map(|i| (n as f64).powf(i as f64 / (CURVE_POINTS - 1) as f64).round() as usize).collect();
    ranks.dedup();
    for from_top in ranks.iter().rev() {
        if (1..=n).contains(from_top) {
            add(n - from_top);
        }
    }
    points
}

fn bins(rank: &Rank, stolen: &[Option<u64>], span: u64) -> Vec<Bin> {
    let mut bins = vec![Bin::default(); BINS];
    for ((&start, &ticks), stolen) in rank.starts.iter().zip(&rank.ticks).zip(stolen) {
        let index = (u128::from(start) * BINS as u128 / u128::from(span.max(1))) as usize;
        let bin = &mut bins[index.min(BINS - 1)];
        let stolen = stolen.unwrap_or(0);
        bin.ticks_min = if bin.quanta == 0 { ticks } else { bin.ticks_min.min(ticks) };
        bin.ticks_max = bin.ticks_max.max(ticks);
        bin.quanta += 1;
        bin.stolen += stolen;
        bin.stolen_max = bin.stolen_max.max(stolen);
    }
    bins
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_starts_at_everything_and_ends_at_the_maximum() {
        let c = curve(vec![1, 1, 1, 5, 9]);
        assert_eq!(c.first(), Some(&(1, 1.0)));
        assert_eq!(c.last(), Some(&(9, 0.2)));
        assert!(c.contains(&(5, 0.4)));
        assert!(curve(Vec::new()).is_empty());
    }

    #[test]
    fn a_curve_of_many_values_is_short_and_falls() {
        let c = curve((0..100_000).collect());
        assert!(c.len() <= CURVE_POINTS);
        assert!(c.is_sorted_by(|a, b| a.0 < b.0 && a.1 > b.1));
        assert_eq!(c.last().unwrap().0, 99_999);
    }
}
