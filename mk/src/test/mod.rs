//! `mk test`: a line for each test, and at the end the count.

#[cfg(test)]
mod acceptance;
mod attack;
mod bochs;
mod boot;
#[cfg(test)]
mod circles;
mod emulator;
mod fuzz;
mod guest;
mod host;
mod jobs;
mod kernel;
mod miri;
mod modes;
mod monitor;
mod program;
mod serial;
#[cfg(test)]
mod size;
mod smp;
mod steps;
mod systemd;
mod tally;

use crate::build::Builder;
use anyhow::Result;
use clap::ValueEnum;
use host::Crates;
use std::path::PathBuf;
use std::process::ExitCode;
use tally::Tally;

/// Tests of one kind.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Suite {
    /// Unit and integration tests of the crates but gossip-mgr's, on this machine
    Host,
    /// The node manager's: its protocols in the simulator, real daemons, and one that systemd runs in QEMU
    Gossip,
    /// Those of the kernel's pure parts under Miri (rustup's nightly with the component miri)
    Miri,
    /// The microkernel's tests, on it in QEMU with 1, 2 and 4 cores; its limits; bad boots
    Kernel,
    /// Other machines: GRUB by BIOS and UEFI, 64 cores, 64 GiB, x2APIC
    Boot,
    /// Random system calls; see --calls and --seed
    Fuzz,
    /// Bad input of mk
    Input,
    /// Not part of everything: programs on eight nodes bear random faults; see --faults and --seed
    Jobs,
    /// Linux on Tacet, unmodified programs in it, and decoupling
    Guest,
    /// A short measurement: decoupled ranks meet nothing
    Noise,
}

const ALL: &[Suite] = &[
    Suite::Host,
    Suite::Gossip,
    Suite::Miri,
    Suite::Kernel,
    Suite::Fuzz,
    Suite::Boot,
    Suite::Input,
    Suite::Guest,
    Suite::Noise,
];

/// What a filter of the one test of this suite is compared with.
const FUZZ: &str = "fuzz: random calls break nothing";

#[derive(clap::Args)]
#[command(after_help = "\
Prints one line for each test, then `N passed, N failed` alone on a line. Exit status: 0 if none failed, 1 if one did, \
2 if the tests could not be run.

Examples:
  mk test                 everything
  mk test host            one suite
  mk test host acpi       the tests of a suite whose name contains `acpi`
  mk test fuzz --calls 100000000 --seed 7
  mk test jobs --faults 200 --seed 7
  mk test kernel NAME     one of the kernel's tests; an unknown NAME prints those that there are
  mk test --programs FOLDER --only NAME   programs of any folder, in three modes")]
pub struct Arguments {
    /// Only this suite
    suite: Option<Suite>,
    /// Only tests whose name contains this (kernel: the one of this name, if there is one)
    name: Option<String>,
    /// Instead of a suite: run every C and Python program of this folder in Linux on Tacet undecoupled, decoupled, and moved to
    /// and fro; status 0 passes
    #[arg(long, value_name = "FOLDER", conflicts_with = "suite")]
    programs: Option<PathBuf>,
    /// With --programs: only those whose name and mode contain this
    #[arg(long, requires = "programs")]
    only: Option<String>,
    /// Calls that the fuzzer makes
    #[arg(long, default_value_t = 500_000, value_parser = clap::value_parser!(u64).range(1..))]
    calls: u64,
    /// Faults that each job bears
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..))]
    faults: u64,
    /// What the fuzzer's calls and the jobs' faults depend on
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl Arguments {
    /// Whether an ISO is to be made.
    pub fn wants_iso(&self) -> bool {
        self.programs.is_none() && self.suite.is_none_or(|suite| suite == Suite::Boot)
    }
}

/// Runs the chosen suites and prints the count.
pub fn run(builder: &Builder, options: &Arguments) -> Result<ExitCode> {
    let suites = match options.suite {
        Some(suite) => vec![suite],
        None => ALL.to_vec(),
    };
    let mut tally = Tally::default();
    if let Some(folder) = &options.programs {
        let filter = options.only.as_deref();
        modes::run(builder, folder, filter, &mut tally)?;
        return Ok(tally.conclude(filter));
    }
    let filter = options.name.as_deref();
    for suite in suites {
        match suite {
            Suite::Host => host::run(builder, Crates::Others, filter, &mut tally)?,
            Suite::Gossip => {
                host::run(builder, Crates::NodeManager, filter, &mut tally)?;
                systemd::run(builder, filter, &mut tally)?;
            }
            Suite::Miri => miri::run(builder, filter, &mut tally)?,
            Suite::Kernel => kernel::run(builder, filter, &mut tally)?,
            Suite::Boot => boot::run(builder, filter, &mut tally)?,
            Suite::Fuzz if filter.is_none_or(|filter| FUZZ.contains(filter)) => {
                fuzz::run(builder, options.calls, options.seed, &mut tally)?;
            }
            Suite::Fuzz => {}
            Suite::Jobs => jobs::run(builder, options.faults, options.seed, filter, &mut tally)?,
            Suite::Input => program::bad_input(filter, &mut tally)?,
            Suite::Guest => guest::run(builder, filter, &mut tally)?,
            Suite::Noise => program::noise(filter, &mut tally)?,
        }
    }
    Ok(tally.conclude(filter))
}
