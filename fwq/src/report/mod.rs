//! The report: recordings and counts joined, judged, printed, drawn.
//!
//! `report.json` holds all that `report.html` shows; field by field it is described at [`Report`] and in
//! docs/measuring.md.

mod html;
mod plot;
mod run;
mod table;
mod verdict;

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

pub use run::{Bin, Curve, Cycles, Gaps, RankResult, Run};
pub use verdict::Verdict;

/// The system that the ranks ran on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum System {
    /// Debian's kernel as shipped.
    Vendor,
    /// Debian's kernel with isolated, tickless CPUs.
    VendorTuned,
    /// Linux on Tacet, ranks on the service core's vCPU.
    Tacet,
    /// Linux on Tacet, ranks decoupled onto compute cores.
    TacetDecoupled,
    /// No system at all.
    Bare,
}

impl System {
    pub fn title(self) -> &'static str {
        match self {
            System::Vendor => "vendor Linux",
            System::VendorTuned => "vendor Linux, tuned",
            System::Tacet => "Tacet, undecoupled",
            System::TacetDecoupled => "Tacet, decoupled",
            System::Bare => "bare metal floor",
        }
    }
}

/// What went on beside the ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activity {
    /// Nothing but the idle system.
    Quiet,
    /// The storm of administration work on the service core.
    Storm,
    /// Node managers that gossip on the service core.
    Gossip,
}

impl Activity {
    pub fn title(self) -> &'static str {
        match self {
            Activity::Quiet => "quiet",
            Activity::Storm => "storm",
            Activity::Gossip => "gossip",
        }
    }
}

/// One activity of the storm on one system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StormItem {
    pub name: String,
    pub ran: bool,
    /// Operations completed.
    pub ops: u64,
    /// Why it did not run, or a remark.
    #[serde(default)]
    pub note: String,
}

/// The host and the emulated machine that all systems were measured on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Host system and its CPU.
    pub host: String,
    pub host_cores: usize,
    pub qemu: String,
    /// `tcg` or `kvm`.
    pub accelerator: String,
    /// Cores of the emulated machine.
    pub smp: usize,
    pub cpu_model: String,
    pub memory: String,
    /// UTC, RFC 3339.
    pub date: String,
    /// Commit of the project, with a mark if the tree was changed.
    pub version: String,
    /// QEMU's command line as far as it is common to the systems.
    pub qemu_line: String,
    /// Anything that a reader should know about this report.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// All runs of one comparison.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    pub machine: Machine,
    pub runs: Vec<Run>,
}

impl Report {
    pub fn new(machine: Machine) -> Self {
        Report { machine, runs: Vec::new() }
    }

    /// Add a run; runs are kept in the order systems are compared in.
    pub fn push(&mut self, run: Run) {
        self.runs.push(run);
        self.runs.sort_by_key(|r| (r.mode, r.activity, r.system));
    }

    /// Write `report.json` and `report.html` into `dir`, which is made if it is missing.
    ///
    /// # Errors
    /// [`Error::File`] with what cannot be written; [`Error::Plot`].
    pub fn write(&self, dir: &Path) -> Result<()> {
        fs::create_dir_all(dir).map_err(|e| Error::file(dir, e))?;
        let path = dir.join("report.json");
        let json = serde_json::to_string(self).map_err(|e| Error::format(&path, e.line(), e.to_string()))?;
        fs::write(&path, json + "\n").map_err(|e| Error::file(&path, e))?;
        let path = dir.join("report.html");
        fs::write(&path, html::render(self)?).map_err(|e| Error::file(&path, e))
    }

    /// Read `report.json` in `dir` back.
    ///
    /// # Errors
    /// [`Error::File`] or [`Error::Format`].
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join("report.json");
        let text = fs::read_to_string(&path).map_err(|e| Error::file(&path, e))?;
        serde_json::from_str(&text).map_err(|e| Error::format(&path, e.line(), e.to_string()))
    }

    /// The comparison as a table for the terminal, and notes below it.
    pub fn table(&self) -> String {
        table::render(self)
    }

    /// Whether the decoupled ranks met nothing at all.
    pub fn verdict(&self) -> Verdict {
        verdict::judge(self)
    }
}
