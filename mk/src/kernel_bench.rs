//! `mk bench`, the microkernel's own part: instructions of kernel operations, each between two markers of the meter.

use crate::build::{Builder, Kernel, newc_archive};
use crate::child::Running;
use crate::progress::Step;
use crate::qemu::{Accelerator, Machine};
use anyhow::{Context, Result, bail};
use fwq::meter::Meter;
use serde::Serialize;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// The window that holds nothing: what it counts belongs to the markers.
const EMPTY: u8 = 0x10;
const TIMEOUT: Duration = Duration::from_secs(300);

/// One operation: medians over all its windows, less the empty one.
#[derive(Serialize)]
pub struct KernelFigure {
    pub operation: String,
    /// Median, nanoseconds, with the markers' cost and two reads of the clock.
    pub median_ns: u64,
    pub user: u64,
    pub kernel: u64,
}

/// Boots the microkernel with its bench as root task on one core.
pub fn measure(builder: &Builder, kernel: &Kernel, plugin: &Path) -> Result<Vec<KernelFigure>> {
    let step = Step::begin(builder.cache(), "kernel operations", 8)?;
    let folder = tempfile::tempdir()?;
    let (serial, archive, counts) =
        (folder.path().join("log"), folder.path().join("bench.cpio"), folder.path().join("meter.csv"));
    fs::write(&archive, newc_archive(&[("root", &fs::read(&kernel.ktest)?)]))?;
    let machine = Machine { cores: 1, memory: "256M".into(), accelerator: Accelerator::Tcg, extra: Vec::new() };
    let mut command = machine.command(&serial);
    command.arg("-kernel").arg(&kernel.microkernel).arg("-initrd").arg(&archive).args(["-append", "kbench"]);
    command.arg("-plugin").arg(format!("{},out={}", plugin.display(), counts.display()));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let status = Running::start(&mut command, "QEMU")?.wait_until(Instant::now() + TIMEOUT, || {})?;
    let log = fs::read_to_string(&serial).unwrap_or_default();
    if status.and_then(|status| status.code()) != Some(1) {
        bail!("the kernel's bench did not end in order ({status:?}):\n{log}");
    }
    let meter = Meter::read(&counts)?;
    let empty = medians(&meter, EMPTY).context("the meter saw no empty window")?;
    let mut figures = Vec::new();
    for line in log.lines().filter_map(|line| line.strip_prefix("kbench ")) {
        let (line, time) = line.trim().rsplit_once(": ").with_context(|| format!("unexpected line: {line}"))?;
        let median_ns = time.strip_suffix(" ns").and_then(|ns| ns.parse().ok()).with_context(|| format!("{line}: {time}"))?;
        let (id, name) = line.split_once(' ').with_context(|| format!("unexpected line: {line}"))?;
        let id = u8::from_str_radix(id, 16).with_context(|| format!("unexpected line: {line}"))?;
        if id == EMPTY {
            continue;
        }
        let (user, kernel) = medians(&meter, id).with_context(|| format!("the meter saw no window of {name}"))?;
        figures.push(KernelFigure {
            operation: name.to_owned(),
            median_ns,
            user: user.saturating_sub(empty.0),
            kernel: kernel.saturating_sub(empty.1),
        });
    }
    step.done();
    Ok(figures)
}

/// Median user and kernel instructions of a window.
fn medians(meter: &Meter, id: u8) -> Option<(u64, u64)> {
    let windows = || meter.windows.iter().filter(|window| window.id == id);
    let median = |mut values: Vec<u64>| {
        values.sort_unstable();
        values.get(values.len() / 2).copied()
    };
    Some((median(windows().map(|w| w.counts.user).collect())?, median(windows().map(|w| w.counts.kernel).collect())?))
}

/// The table.
pub fn print(figures: &[KernelFigure]) {
    println!("\nkernel operation                                  median ns   instructions: all   user   kernel");
    for figure in figures {
        let all = figure.user + figure.kernel;
        println!("{:50} {:8} {all:19} {:6} {:8}", figure.operation, figure.median_ns, figure.user, figure.kernel);
    }
}
