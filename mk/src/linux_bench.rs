//! What operations of Linux cost on vendor Linux and on Tacet, undecoupled and decoupled.
//!
//! `opcost` does the operations in the guest, each sample between two markers. The meter counts the instructions of every
//! core in between, so what the service core does for a decoupled thread is counted too, and so is what it does besides.

use crate::bench::Bench;
use crate::progress::Step;
use crate::qemu::System;
use crate::trace::{self, Listing};
use anyhow::{Context, Result};
use fwq::meter::Meter;
use fwq::ops::{EMPTY, OpCost, OpRecording, merge};
use serde::Serialize;

/// One operation on all systems.
#[derive(Serialize)]
pub struct LinuxFigure {
    operation: String,
    vendor: OpCost,
    undecoupled: OpCost,
    decoupled: OpCost,
}

/// Measures in one boot of each.
pub fn measure(bench: &Bench, count: u32) -> Result<Vec<LinuxFigure>> {
    let vendor = operations(bench, "vendor Linux", bench.vendor_linux(), "taskset -c 1", count)?;
    let undecoupled = operations(bench, "Tacet, undecoupled", bench.tacet(), "", count)?;
    let decoupled = operations(bench, "Tacet, decoupled", bench.tacet(), "decouple --now -c 1", count)?;
    let figures = vendor.into_iter().zip(undecoupled).zip(decoupled).map(|((vendor, undecoupled), decoupled)| {
        LinuxFigure { operation: vendor.name.clone(), vendor, undecoupled, decoupled }
    });
    Ok(figures.collect())
}

fn operations(bench: &Bench, name: &str, system: System, prefix: &str, count: u32) -> Result<Vec<OpCost>> {
    let step = Step::begin(bench.builder.cache(), &format!("operations, {name}"), 40)?;
    let counts = tempfile::NamedTempFile::new()?;
    let script = format!("{prefix} opcost -n {count} --json results/opcost.json\n");
    let outcome = bench.job(system, script, Some(&[("out", counts.path())]))?;
    outcome.expect_success(name)?;
    let recording = OpRecording::read(&outcome.results().join("opcost.json"))?;
    let costs = merge(&recording, &Meter::read(counts.path())?).with_context(|| format!("operations, {name}"))?;
    step.done();
    Ok(costs)
}

/// Prints one execution on Tacet, undecoupled, of the operation whose name contains `wanted`.
pub fn trace(bench: &Bench, wanted: &str) -> Result<()> {
    let step = Step::begin(bench.builder.cache(), "trace of an operation", 60)?;
    let (counts, traced) = (tempfile::NamedTempFile::new()?, tempfile::NamedTempFile::new()?);
    // So many that also a slow operation, which gets a hundredth, comes to those that are traced: early ones run on cold paths.
    let quoted = wanted.replace('\'', r"'\''");
    let script = format!("opcost -n 12000 --only '{quoted}' --json results/opcost.json\n");
    let files = [("out", counts.path()), ("trace", traced.path())];
    let outcome = bench.job(bench.tacet(), script, Some(&files))?;
    outcome.expect_success("the operations")?;
    let recording = OpRecording::read(&outcome.results().join("opcost.json"))?;
    let operations = recording.ops.into_iter().filter(|op| op.id != EMPTY);
    let names: Vec<_> = operations.map(|op| (op.id, op.name)).collect();
    let chosen = trace::choose(&names, wanted)?;
    let [microkernel, linux] = bench.programs()?;
    let listing = Listing::make(&[&microkernel, &linux])?;
    step.done();
    listing.print(chosen, &trace::read(traced.path())?)
}

/// Instructions of all cores and median times, and how many times vendor Linux's instructions that is.
pub fn print(figures: &[LinuxFigure]) {
    println!("{:34} {:^22} {:^29} {:^29}", "", "vendor Linux", "Tacet, undecoupled", "Tacet, decoupled");
    print!("{:34} {:>12} {:>9}", "operation", "instructions", "ns");
    println!("{0} {0}", format_args!(" {:>12} {:>6} {:>9}", "instructions", "times", "ns"));
    for figure in figures {
        let LinuxFigure { operation, vendor, undecoupled, decoupled } = figure;
        print!("{operation:34} {:12} {:9.0}", vendor.insns, vendor.median_ns);
        for tacet in [undecoupled, decoupled] {
            let times = tacet.insns as f64 / vendor.insns.max(1) as f64;
            print!("  {:12} {times:6.2} {:9.0}", tacet.insns, tacet.median_ns);
        }
        println!();
    }
}
