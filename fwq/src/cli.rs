//! Options that `fwq` and `mpi-fwq` share, and the grammar of their lists.

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// When the ranks meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// StepSync: a barrier after each quantum, so the slowest rank delays all.
    Step,
    /// StartSync: one barrier at the start, then each rank by itself.
    Start,
}

impl Mode {
    pub fn title(self) -> &'static str {
        match self {
            Mode::Step => "StepSync",
            Mode::Start => "StartSync",
        }
    }
}

/// CPUs in the grammar of taskset's lists: `0-2,5`. The order and repetitions are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuList(pub Vec<usize>);

impl FromStr for CpuList {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let number = |word: &str| match word.parse::<usize>() {
            Ok(n) if n < libc::CPU_SETSIZE as usize => Ok(n),
            _ => Err(format!("'{word}' is not a CPU number; a list looks like 1-3,5")),
        };
        let mut cpus = Vec::new();
        for part in text.split(',') {
            match part.split_once('-') {
                None => cpus.push(number(part)?),
                Some((first, last)) => {
                    let (first, last) = (number(first)?, number(last)?);
                    if first > last {
                        return Err(format!("'{part}' runs backwards"));
                    }
                    cpus.extend(first..=last);
                }
            }
        }
        Ok(CpuList(cpus))
    }
}

/// What one measurement does.
#[derive(Args, Clone, Debug)]
pub struct WorkArgs {
    /// Quanta to measure on each rank
    #[arg(long, short = 'n', default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub samples: u64,
    /// Work of a quantum as a power of two of loop iterations (66 instructions each)
    #[arg(long, short = 'w', value_name = "BITS", group = "amount", value_parser = clap::value_parser!(u32).range(3..=30))]
    pub work: Option<u32>,
    /// Work of a quantum in loop iterations
    #[arg(long, group = "amount", value_parser = clap::value_parser!(u64).range(1..=1 << 32))]
    pub iterations: Option<u64>,
    /// Work of a quantum as a time in microseconds, calibrated at the start [default: 1000]
    #[arg(long, value_name = "US", group = "amount", value_parser = clap::value_parser!(u64).range(10..=10_000_000))]
    pub duration_us: Option<u64>,
    /// Quanta before the measurement, thrown away
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub warmup: u64,
    /// Pin rank or thread i to the i-th CPU of LIST, e.g. 1-2 [default: leave placement alone]
    #[arg(long, value_name = "LIST")]
    pub cpus: Option<CpuList>,
    /// Number that the noise meter files the quanta under
    #[arg(long, default_value_t = 0, value_name = "0..255")]
    pub run_id: u8,
    /// A delay of a quantum counts as a detour from this many microseconds on
    #[arg(long, default_value_t = 5.0, value_name = "US", value_parser = positive)]
    pub detour_us: f64,
    /// Folder for the _times.dat files
    #[arg(long, short = 'o', default_value = ".")]
    pub out: PathBuf,
    /// Write all samples, their statistics and circumstances to this JSON file
    #[arg(long)]
    pub json: Option<PathBuf>,
}

fn positive(text: &str) -> std::result::Result<f64, String> {
    match text.parse::<f64>() {
        Ok(x) if x.is_finite() && x > 0.0 => Ok(x),
        _ => Err("a positive number is needed".into()),
    }
}

impl WorkArgs {
    /// Iterations if they are given outright; none asks for calibration to [`WorkArgs::duration`].
    pub fn fixed_iterations(&self) -> Option<NonZeroU64> {
        let n = self.iterations.or(self.work.map(|bits| 1 << bits))?;
        NonZeroU64::new(n)
    }

    /// Wanted duration of a quantum.
    pub fn duration(&self) -> std::time::Duration {
        std::time::Duration::from_micros(self.duration_us.unwrap_or(1000))
    }

    /// Make sure, before any time is spent, that the results can be written.
    ///
    /// # Errors
    /// [`Error::File`] with the folder or file that cannot be written.
    pub fn check_outputs(&self) -> Result<()> {
        std::fs::create_dir_all(&self.out).map_err(|e| Error::file(&self.out, e))?;
        let probe = self.out.join(format!(".fwq-{}", std::process::id()));
        std::fs::write(&probe, b"").map_err(|e| Error::file(&self.out, e))?;
        std::fs::remove_file(&probe).map_err(|e| Error::file(&probe, e))?;
        if let Some(json) = &self.json {
            let existed = json.exists();
            std::fs::OpenOptions::new().append(true).create(true).open(json).map_err(|e| Error::file(json, e))?;
            if !existed {
                remove(json)?;
            }
        }
        Ok(())
    }

    /// The CPU of rank or thread `index`, if placement was asked for.
    ///
    /// # Errors
    /// [`Error::Usage`] if the list is too short.
    pub fn cpu_of(&self, index: usize) -> Result<Option<usize>> {
        match &self.cpus {
            None => Ok(None),
            Some(CpuList(cpus)) => cpus.get(index).copied().map(Some).ok_or_else(|| {
                Error::Usage(format!("--cpus names {} CPUs, rank {index} is left without one", cpus.len()))
            }),
        }
    }
}

fn remove(path: &Path) -> Result<()> {
    std::fs::remove_file(path).map_err(|e| Error::file(path, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists_are_read_like_tasksets() {
        assert_eq!("1-3,5".parse(), Ok(CpuList(vec![1, 2, 3, 5])));
        assert_eq!("7".parse(), Ok(CpuList(vec![7])));
    }

    #[test]
    fn malformed_cpu_lists_name_the_bad_part() {
        for (text, part) in
            [("", "''"), ("1,,2", "''"), ("3-1", "3-1"), ("a", "'a'"), ("1-", "''"), ("-1", "''"), ("99999", "99999")]
        {
            let error = text.parse::<CpuList>().unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
