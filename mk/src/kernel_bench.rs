//! `mk bench kernel`: instructions of the microkernel's operations, each between two markers of the meter.

use crate::build::{Builder, Kernel, newc_archive};
use crate::child::Running;
use crate::progress::Step;
use crate::qemu::{self, Accelerator, Machine};
use crate::trace::{self, KERNEL, Listing, Trace};
use anyhow::{Context, Result, bail};
use fs_err as fs;
use fwq::meter::Meter;
use serde::Serialize;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// The window that holds nothing: what it counts belongs to the markers.
const EMPTY: u8 = 0x10;
/// The window around a system call of a decoupled thread: on its core, three operations one after the other.
const FORWARDED: u8 = 0x1c;
/// Where a compute core waits for the answer.
const WAIT: &str = "microkernel::decoupled::poll";
const TIMEOUT: Duration = Duration::from_secs(300);

/// What there is to compare with: instructions of seL4 (fast path built in, one core, same emulator and method) and how
/// many ours may have: mostly 5 % more than on 2026-11-21; copy+delete and retype+delete no more than then.
const REFERENCES: &[(&str, Option<u64>, u64)] = &[
    ("call+reply, same address space", Some(468), 398),
    ("call+reply, across address spaces", Some(473), 418),
    ("call+reply, across address spaces, 4 words", Some(496), 440),
    ("call+reply, across address spaces, 16 words", Some(1797), 700),
    ("signal+wait, no switch", Some(651), 213),
    ("trap, handler, resume, across address spaces", Some(1294), 477),
    ("map+unmap of one page", Some(1458), 600),
    ("capability copy+delete", Some(1632), 474),
    ("retype+delete of an endpoint", Some(1739), 805),
    ("vCPU: system call of the user context to Linux's entry", None, 176),
    ("vCPU: resume to the user context", None, 218),
    (TRAPPED, None, 240),
    (ANSWERED, None, 138),
];
const TRAPPED: &str = "decoupled: system call to frame published and doorbell rung";
const ANSWERED: &str = "decoupled: answer to the user context, on its core";

/// One operation: medians over its windows, less the empty one.
#[derive(Serialize)]
pub struct KernelFigure {
    pub operation: String,
    /// Median, nanoseconds, with the markers' cost and two reads of the clock; of whole operations only.
    pub median_ns: Option<u64>,
    pub user: u64,
    pub kernel: u64,
    /// seL4's instructions, where the same was measured.
    pub sel4: Option<u64>,
    /// Instructions that it may have.
    pub at_most: Option<u64>,
}

impl KernelFigure {
    fn all(&self) -> u64 {
        self.user + self.kernel
    }

    fn missed(&self) -> bool {
        self.at_most.is_some_and(|most| self.all() > most)
    }
}

/// All that one boot gave.
pub struct Measured {
    pub figures: Vec<KernelFigure>,
    names: Vec<(u8, String)>,
    traces: Vec<Trace>,
    listing: Listing,
}

/// Boots the microkernel with its bench as root task on two cores.
pub fn measure(builder: &Builder, kernel: &Kernel, plugin: &Path) -> Result<Measured> {
    let step = Step::begin(builder.cache(), "kernel operations", 12)?;
    let folder = tempfile::tempdir()?;
    let file = |name: &str| folder.path().join(name);
    let (serial, archive, counts, trace) = (file("log"), file("bench.cpio"), file("meter.csv"), file("trace"));
    fs::write(&archive, newc_archive(&[("root", &fs::read(&kernel.ktest)?)]))?;
    let machine = Machine { cores: 2, memory: "256M".into(), accelerator: Accelerator::Tcg, extra: Vec::new() };
    let mut command = machine.command(&serial);
    command.arg("-kernel").arg(&kernel.microkernel).arg("-initrd").arg(&archive).args(["-append", "kbench"]);
    qemu::plugin(&mut command, plugin, &[("out", &counts), ("trace", &trace)]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let status = Running::start(&mut command, "QEMU")?.wait_until(Instant::now() + TIMEOUT, || {})?;
    let log = fs::read_to_string(&serial).unwrap_or_default();
    if status.and_then(|status| status.code()) != Some(1) {
        bail!("the kernel's bench did not end in order ({status:?}):\n{log}");
    }
    let meter = Meter::read(&counts)?;
    let mut measured = Measured {
        figures: Vec::new(),
        names: Vec::new(),
        traces: trace::read(&trace)?,
        listing: Listing::make(&[&kernel.microkernel, &kernel.ktest])?,
    };
    let empty = medians(&meter, EMPTY).context("the meter saw no empty window")?;
    for line in log.lines().filter_map(|line| line.strip_prefix("kbench ")) {
        let (line, time) = line.trim().rsplit_once(": ").with_context(|| format!("unexpected line: {line}"))?;
        let median_ns =
            time.strip_suffix(" ns").and_then(|ns| ns.parse().ok()).with_context(|| format!("{line}: {time}"))?;
        let (id, name) = line.split_once(' ').with_context(|| format!("unexpected line: {line}"))?;
        let id = u8::from_str_radix(id, 16).with_context(|| format!("unexpected line: {line}"))?;
        measured.names.push((id, name.to_owned()));
        match id {
            EMPTY => {}
            FORWARDED => measured.add_forwarded()?,
            _ => {
                let (user, kernel) =
                    medians(&meter, id).with_context(|| format!("the meter saw no window of {name}"))?;
                measured.add(name, Some(median_ns), user.saturating_sub(empty.0), kernel.saturating_sub(empty.1));
            }
        }
    }
    step.done();
    Ok(measured)
}

/// Median user and kernel instructions of a window, on the core that executed it.
fn medians(meter: &Meter, id: u8) -> Option<(u64, u64)> {
    let windows = || meter.windows.iter().filter(|window| window.id == id && window.vcpu == window.vcpu_begin);
    Some((median(windows().map(|w| w.counts.user).collect())?, median(windows().map(|w| w.counts.kernel).collect())?))
}

fn median(mut values: Vec<u64>) -> Option<u64> {
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

impl Measured {
    fn add(&mut self, operation: &str, median_ns: Option<u64>, user: u64, kernel: u64) {
        let reference = REFERENCES.iter().find(|(name, ..)| *name == operation);
        let (sel4, at_most) = reference.map_or((None, None), |&(_, sel4, at_most)| (sel4, Some(at_most)));
        self.figures.push(KernelFigure { operation: operation.to_owned(), median_ns, user, kernel, sel4, at_most });
    }

    /// The two ways of a forwarded system call, without the wait between them: up to the first instruction of the wait,
    /// and from the last look at the frame on.
    fn add_forwarded(&mut self) -> Result<()> {
        let (mut trapped, mut answered) = (Vec::new(), Vec::new());
        for trace in self.traces.iter().filter(|trace| trace.id == FORWARDED) {
            let addresses = &trace.addresses;
            let waits = |&i: &usize| self.listing.is_in(addresses[i], WAIT);
            let all = 0..addresses.len();
            let (Some(first), Some(last)) = (all.clone().find(waits), all.rev().find(waits)) else {
                bail!("no {WAIT} in a forwarded call");
            };
            // The core may have halted and waited anew: the last wait counts. It is a loop; what it executed last for at least
            // the second time ended the look before the last one.
            let begin = (first..=last).rev().take_while(waits).last().unwrap_or(first);
            let repeated = (begin..=last).rev().find(|&i| addresses[begin..i].contains(&addresses[i]));
            let look = repeated
                .and_then(|end| (begin..end).rev().find(|&i| addresses[i] == addresses[end]))
                .map_or(begin, |i| i + 1);
            trapped.push(&addresses[..first]);
            answered.push(&addresses[look..]);
        }
        if trapped.is_empty() {
            bail!("the meter traced no forwarded call");
        }
        // One instruction is the closing marker's, or in the first part the system call's own.
        let count = |parts: &[&[u64]], own: fn(u64) -> bool| {
            median(parts.iter().map(|part| part.iter().filter(|&&a| own(a)).count() as u64).collect()).unwrap_or(0)
        };
        let user = |a: u64| a & KERNEL == 0;
        let kernel = |a: u64| a & KERNEL != 0;
        let figures = [
            (TRAPPED, count(&trapped, user), count(&trapped, kernel)),
            (ANSWERED, count(&answered, user).saturating_sub(1), count(&answered, kernel)),
        ];
        for (name, user, kernel) in figures {
            self.add(name, None, user, kernel);
        }
        Ok(())
    }

    /// Whether no operation has more instructions than it may.
    pub fn all_met(&self) -> bool {
        !self.figures.iter().any(KernelFigure::missed)
    }

    /// The table.
    pub fn print(&self) {
        println!(
            "{:62}{:>6}{:>8}{:>6}{:>6}{:>9}{:>11}",
            "kernel operation: instructions", "all", "kernel", "user", "seL4", "at most", "median ns"
        );
        let number = |value: Option<u64>| value.map_or("-".into(), |value| value.to_string());
        for figure in &self.figures {
            println!(
                "{:62}{:6}{:8}{:6}{:>6}{:>9}{:>11}{}",
                figure.operation,
                figure.all(),
                figure.kernel,
                figure.user,
                number(figure.sel4),
                number(figure.at_most),
                number(figure.median_ns),
                if figure.missed() { "  missed" } else { "" }
            );
        }
    }

    /// One window of the operation whose name contains `wanted`, instruction by instruction: the one of median length.
    pub fn print_trace(&self, wanted: &str) -> Result<()> {
        self.listing.print(trace::choose(&self.names, wanted)?, &self.traces)
    }
}
