//! mk itself, run as its user runs it: a short noise measurement whose verdict counts instructions, and bad input.

use super::tally::Tally;
use crate::child::Running;
use anyhow::{Context, Result, bail};
use fs_err as fs;
use std::env;
use std::path::Path;
use std::process::{Command, Stdio};

/// Measures decoupled ranks in both modes, quiet, under storm and beside gossip-mgr.
pub fn noise(filter: Option<&str>, tally: &mut Tally) -> Result<()> {
    let name = "noise: decoupled ranks meet no stolen instruction and no kernel entry";
    if filter.is_some_and(|filter| !name.contains(filter)) {
        return Ok(());
    }
    let out = tempfile::tempdir()?;
    let mut command = own()?;
    let what = ["run", "--systems", "tacet-decoupled", "--activity", "quiet,storm,gossip"];
    command.args(what).args(["--samples", "400", "--work", "13", "--out"]).arg(out.path());
    let mut running = Running::start(command.stdout(Stdio::piped()), "the short measurement")?;
    let mut table = String::new();
    if let Some(mut pipe) = running.pipes().stdout.take() {
        std::io::Read::read_to_string(&mut pipe, &mut table)?;
    }
    let status = running.wait()?;
    let measured = if status.success() { Ok(()) } else { Err(anyhow::anyhow!("mk run ended with {status}\n{table}")) };
    tally.record(name, measured.and_then(|()| gossip_went_on(&out.path().join("raw/tacetdecoupled"))));
    Ok(())
}

/// In the last two runs, those beside gossip-mgr, its nodes knew of each other.
fn gossip_went_on(raw: &Path) -> Result<()> {
    for run in [4, 5] {
        let path = raw.join(format!("gossip-{run}"));
        let board = fs::read_to_string(&path).with_context(|| format!("no board in {}", path.display()))?;
        if !board.contains("3 alive") {
            bail!("the nodes did not find each other:\n{board}");
        }
    }
    Ok(())
}

/// Arguments that must be refused with status 2 and a message that has this text.
const REFUSED: &[(&str, &[&str], &str)] = &[
    ("more ranks than compute cores", &["run", "--ranks", "3"], "compute cores"),
    ("no rank", &["run", "--ranks", "0"], "--ranks 0"),
    ("a machine without a compute core", &["run", "--cores", "1"], "--cores 1"),
    ("service cores that leave none", &["run", "--service", "3"], "--service 3"),
    ("zero samples", &["run", "--samples", "0"], "--samples"),
    ("absurd samples", &["run", "--samples", "99999999999"], "samples"),
    ("a number that is none", &["run", "--work", "many"], "many"),
    ("an unknown system", &["run", "--systems", "windows"], "windows"),
    ("an unknown verb", &["fly"], "fly"),
    ("an output folder that cannot be written", &["run", "--out", "/proc/none"], "/proc/none"),
    ("an ISO in a folder that is not there", &["image", "--iso", "/nonexistent/tacet.iso"], "no folder /nonexistent"),
    ("an ISO that is a folder", &["image", "--iso", "/tmp"], "this is a folder"),
    ("no service core on an ISO", &["image", "--iso", "/tmp/tacet.iso", "--service", "0"], "--service 0"),
    ("a command line of two lines", &["image", "--iso", "/tmp/tacet.iso", "--append", "a\nb"], "--append"),
    ("words for an ISO without one", &["image", "--append", "quiet"], "--iso"),
    ("vendor Linux from Tacet's ISO", &["boot", "--system", "vendor", "--loader", "uefi"], "--loader is for Tacet"),
    ("a report that is not there", &["report", "/nonexistent"], "/nonexistent"),
];

/// Bad input of mk.
pub fn bad_input(filter: Option<&str>, tally: &mut Tally) -> Result<()> {
    for (what, arguments, says) in REFUSED {
        let name = format!("input: mk refuses {what}");
        if filter.is_none_or(|filter| name.contains(filter)) {
            tally.record(&name, refused(arguments, says));
        }
    }
    Ok(())
}

fn refused(arguments: &[&str], says: &str) -> Result<()> {
    let output = own()?.args(arguments).stdin(Stdio::null()).output().context("cannot run mk")?;
    let text = String::from_utf8_lossy(&output.stderr);
    if output.status.code() != Some(2) || !text.contains(says) {
        bail!("expected status 2 and `{says}`, saw {} and\n{text}", output.status);
    }
    Ok(())
}

/// This program.
fn own() -> Result<Command> {
    Ok(Command::new(env::current_exe().context("cannot tell where mk is")?))
}
