//! The tests of the kernel's pure parts and of its object layer under Miri, which finds undefined behaviour.

use super::host;
use super::tally::Tally;
use crate::build::Builder;
use anyhow::Result;
use std::process::{Command, Stdio};

/// Runs those whose name contains `filter`; where there is no Miri, says so.
pub fn run(builder: &Builder, filter: Option<&str>, tally: &mut Tally) -> Result<()> {
    let tree = builder.tree();
    let cargo = || {
        let mut command = Command::new("cargo");
        // A cargo that runs mk would choose the toolchain.
        command.args(["+nightly", "miri"]).env_remove("RUSTUP_TOOLCHAIN").current_dir(tree.root());
        command
    };
    let there = cargo().arg("--version").stdin(Stdio::null()).stderr(Stdio::null()).output();
    if !there.is_ok_and(|output| output.status.success()) {
        tally.leave_out("miri: kcore, kobj", "no Miri: rustup toolchain install nightly --component miri,rust-src");
        return Ok(());
    }
    let mut command = cargo();
    command.args(["test", "--no-fail-fast", "-p", "kcore", "-p", "kobj"]).args(filter);
    // The object layer keeps addresses in words, and its tests never give their memory back.
    command.env("MIRIFLAGS", "-Zmiri-permissive-provenance -Zmiri-ignore-leaks");
    command.env("CARGO_TARGET_DIR", builder.cache().work_for(tree.root(), "miri")?);
    host::harness(&mut command, "miri", tally)
}
