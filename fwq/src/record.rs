//! What a measurement leaves behind: a JSON recording with all samples, and one `_times.dat` a rank as LLNL's FWQ
//! writes it (a tick count a line).

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cli::{Mode, WorkArgs};
use crate::engine::{Clock, Measured};
use crate::error::{Error, Result};
use crate::host::{Machine, Placement, Usage};
use crate::quantum::own_instructions;
use crate::stats::{Detours, StepCost, Steps, Summary};

const FORMAT: &str = "tacet-fwq";
const VERSION: u32 = 1;

/// One run of all its ranks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Recording {
    pub format: String,
    pub version: u32,
    /// `fwq`, `mpi-fwq` or `bare`.
    pub program: String,
    pub mode: Mode,
    pub samples: usize,
    /// Loop iterations of a quantum.
    pub iterations: u64,
    /// Instructions of a quantum's own, as the meter counts them.
    pub own_insns: u64,
    pub warmup: u64,
    pub run_id: u8,
    /// Ticks of the time-stamp counter in a second.
    pub tsc_hz: f64,
    /// The MPI library, for mpi-fwq.
    pub mpi: Option<String>,
    pub machine: Machine,
    /// Slowdown against the ideal, for StepSync.
    pub step_cost: Option<StepCost>,
    pub ranks: Vec<Rank>,
}

/// One rank's part. Times are in ticks since the earliest rank's begin.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Rank {
    pub rank: u8,
    pub placement: Placement,
    /// What the system did for the thread between the boundaries; absent on bare metal.
    pub usage: Option<Usage>,
    pub begin: u64,
    pub end: u64,
    /// Of `ticks`.
    pub summary: Summary,
    pub detours: Detours,
    /// Of the times at the barrier, for StepSync.
    pub wait: Option<Summary>,
    /// Begin of each quantum.
    pub starts: Vec<u64>,
    /// Duration of each quantum.
    pub ticks: Vec<u64>,
}

/// One rank's measurement on its way into a [`Recording`]; plain data, for MPI to carry.
#[derive(Clone, Debug)]
pub struct Part {
    pub placement: Placement,
    pub usage: Option<Usage>,
    pub clock: Clock,
    pub begin: u64,
    pub end: u64,
    pub starts: Vec<u64>,
    pub ticks: Vec<u64>,
}

impl Part {
    pub fn new(measured: Measured, placement: Placement) -> Self {
        Part {
            placement,
            usage: Some(measured.usage),
            clock: measured.clock,
            begin: measured.begin,
            end: measured.end,
            starts: measured.times.iter().map(|t| t.begin).collect(),
            ticks: measured.times.iter().map(|t| t.end - t.begin).collect(),
        }
    }
}

/// What all ranks of a run have in common.
#[derive(Clone, Debug)]
pub struct Common {
    pub program: &'static str,
    pub mode: Mode,
    pub iterations: u64,
    pub warmup: u64,
    pub run_id: u8,
    pub mpi: Option<String>,
    pub machine: Machine,
    /// Ticks per second; none takes the ranks' own clocks.
    pub tsc_hz: Option<f64>,
    /// Least delay of a detour in microseconds.
    pub detour_us: f64,
}

impl Recording {
    /// Put the ranks' parts together; part i is rank i's. All parts hold the same number of samples.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if there is no part, no sample, or their numbers differ.
    pub fn assemble(common: Common, parts: Vec<Part>) -> Result<Self> {
        let samples = parts.first().map_or(0, |p| p.ticks.len());
        if samples == 0 || parts.iter().any(|p| p.ticks.len() != samples || p.starts.len() != samples) {
            return Err(Error::Mismatch("the ranks did not deliver the same number of samples".into()));
        }
        let origin = parts.iter().map(|p| p.begin).min().unwrap_or(0);
        let tsc_hz =
            common.tsc_hz.unwrap_or_else(|| parts.iter().map(|p| p.clock.rate()).sum::<f64>() / parts.len() as f64);
        let threshold = (common.detour_us * tsc_hz / 1e6) as u64;
        let ranks: Vec<Rank> = parts
            .into_iter()
            .zip(0u8..)
            .filter_map(|(part, rank)| Rank::new(rank, part, origin, threshold, common.mode))
            .collect();
        let steps: Vec<Steps<'_>> = ranks.iter().map(Rank::steps).collect();
        let step_cost = match common.mode {
            Mode::Step => StepCost::of(&steps),
            Mode::Start => None,
        };
        Ok(Recording {
            format: FORMAT.into(),
            version: VERSION,
            program: common.program.into(),
            mode: common.mode,
            samples,
            iterations: common.iterations,
            own_insns: own_instructions(common.iterations),
            warmup: common.warmup,
            run_id: common.run_id,
            tsc_hz,
            mpi: common.mpi,
            machine: common.machine,
            step_cost,
            ranks,
        })
    }

    /// Read a recording back.
    ///
    /// # Errors
    /// [`Error::File`] or [`Error::Format`] with the place that is wrong.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(|e| Error::file(path, e))?;
        let recording: Recording =
            serde_json::from_str(&text).map_err(|e| Error::format(path, e.line(), e.to_string()))?;
        if recording.format != FORMAT || recording.version != VERSION {
            return Err(Error::format(
                path,
                1,
                format!(
                    "format {} version {} where {FORMAT} version {VERSION} is needed",
                    recording.format, recording.version
                ),
            ));
        }
        Ok(recording)
    }

    /// Write the `_times.dat` files and, if asked for, the JSON. Returns what was written.
    ///
    /// # Errors
    /// [`Error::File`] with the file that could not be written.
    pub fn write(&self, args: &WorkArgs) -> Result<Vec<PathBuf>> {
        let mut written = Vec::new();
        for rank in &self.ranks {
            let path = args.out.join(format!("{}_{}_times.dat", self.program, rank.rank));
            let text: String = rank.ticks.iter().map(|t| format!("{t}\n")).collect();
            fs::write(&path, text).map_err(|e| Error::file(&path, e))?;
            written.push(path);
        }
        if let Some(path) = &args.json {
            let text = serde_json::to_string(self).map_err(|e| Error::format(path, e.line(), e.to_string()))?;
            fs::write(path, text + "\n").map_err(|e| Error::file(path, e))?;
            written.push(path.clone());
        }
        Ok(written)
    }

    /// Seconds from the first rank's begin to the last one's end.
    pub fn wall_s(&self) -> f64 {
        let ticks = self.ranks.iter().map(|r| r.end).max().unwrap_or(0);
        ticks as f64 / self.tsc_hz
    }

    /// A few lines for the terminal.
    pub fn summary_text(&self) -> String {
        let us = |ticks: u64| ticks as f64 * 1e6 / self.tsc_hz;
        let mut text = format!(
            "{} {}: {} samples of {} instructions, {:.2} s\n",
            self.program,
            self.mode.title(),
            self.samples,
            self.own_insns,
            self.wall_s()
        );
        for r in &self.ranks {
            let place = match (r.placement.decoupled_core, r.placement.cpu) {
                (Some(core), _) => format!("compute core {core}"),
                (None, Some(cpu)) => format!("CPU {cpu}"),
                (None, None) => "unknown CPU".into(),
            };
            text += &format!(
                "rank {} on {place}: min {:.1} median {:.1} p99 {:.1} max {:.1} µs, noise {:.3} %, {} detours\n",
                r.rank,
                us(r.summary.min),
                us(r.summary.median),
                us(r.summary.p99),
                us(r.summary.max),
                r.summary.noise,
                r.detours.count
            );
        }
        if let Some(cost) = &self.step_cost {
            text += &format!(
                "slowdown against the ideal {:.3}, {:.3} without the barrier's own cost\n",
                cost.slowdown, cost.slowdown_work
            );
        }
        text
    }
}

impl Rank {
    fn new(rank: u8, part: Part, origin: u64, threshold: u64, mode: Mode) -> Option<Self> {
        let mut this = Rank {
            rank,
            placement: part.placement,
            usage: part.usage,
            begin: part.begin - origin,
            end: part.end - origin,
            summary: Summary::of(&part.ticks)?,
            detours: Detours::of(&part.ticks, threshold),
            wait: None,
            starts: part.starts.iter().map(|s| s - origin).collect(),
            ticks: part.ticks,
        };
        if mode == Mode::Step {
            this.wait = Summary::of(&this.steps().waits());
        }
        Some(this)
    }

    fn steps(&self) -> Steps<'_> {
        Steps { starts: &self.starts, ticks: &self.ticks, begin: self.begin, end: self.end }
    }
}
