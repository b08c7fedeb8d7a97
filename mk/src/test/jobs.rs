//! Long runs of jobs under random faults, outside `mk test`: the same tests of gossip-mgr's do a few there.

use super::tally::Tally;
use crate::build::Builder;
use crate::child::Running;
use anyhow::{Result, bail};
use std::process::{Command, Stdio};

/// What is run, and how its test's name begins.
const PROGRAMS: [(&str, &str); 2] = [("a heat equation", "a_heat_equation_ends"), ("LAMMPS", "lammps_ends")];

/// Each program whose name contains `filter` bears `faults` faults. Each fault is told when it is over.
pub fn run(builder: &Builder, faults: u64, seed: u64, filter: Option<&str>, tally: &mut Tally) -> Result<()> {
    let target = builder.cache().work_for(builder.tree().root(), "host-tests")?;
    for (program, test) in PROGRAMS {
        let name = format!("jobs: {program} bears {faults} random faults from seed {seed}");
        if !filter.is_none_or(|filter| name.contains(filter)) {
            continue;
        }
        let mut command = Command::new("cargo");
        command
            .args(["test", "--quiet", "-p", "gossip-mgr", "--test", "faults", "--", "--include-ignored", test])
            .current_dir(builder.tree().root())
            .env("CARGO_TARGET_DIR", &target)
            .env("FAULTS", faults.to_string())
            .env("FAULTS_SEED", seed.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let status = Running::start(&mut command, "the job and its faults")?.wait()?;
        tally.record(&name, if status.success() { Ok(()) } else { failed() });
    }
    Ok(())
}

fn failed() -> Result<()> {
    bail!("what went wrong, and where its files are, is said above")
}
