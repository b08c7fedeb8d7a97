//! Tests that need QEMU's monitor: what the kernel cannot be asked from inside.

use super::kernel::{KERNEL_PANIC, archive};
use crate::build::Kernel;
use crate::child::Running;
use crate::qemu::{Accelerator, Machine};
use anyhow::{Context, Result, bail};
use fs_err as fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

const TIMEOUT: Duration = Duration::from_secs(60);
/// A test that keeps the kernel and a user program busy for ten seconds.
const BUSY: &str = "ktest=a_core_with_one_runnable_thread_has_no_interrupt_in_ten_seconds";

/// CR4: UMIP, SMEP, SMAP, and machine checks.
const PROTECTIONS: [(u32, &str); 4] = [(11, "UMIP"), (20, "SMEP"), (21, "SMAP"), (6, "MCE")];

/// Where the stacks of core 0 begin, each above a guard: its own, and those of NMI, double fault and machine check
/// (`arch::memory::STACKS`).
const STACKS: [u64; 4] = [0xffff_8080_0000_c000, 0xffff_8080_0000_1000, 0xffff_8080_0000_3000, 0xffff_8080_0000_5000];
const PAGE: u64 = 0x1000;

/// QEMU's monitor on its standard input and output.
struct Monitor {
    input: ChildStdin,
    lines: Receiver<String>,
}

impl Monitor {
    /// Gives a command and waits for a line of the answer that contains `part`.
    fn ask(&mut self, command: &str, part: &str) -> Result<String> {
        writeln!(self.input, "{command}").context("cannot write to QEMU's monitor")?;
        let end = Instant::now() + TIMEOUT;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let line = self
                .lines
                .recv_timeout(left)
                .with_context(|| format!("QEMU's monitor: no `{part}` after `{command}`"))?;
            if line.contains(part) {
                return Ok(line);
            }
        }
    }
}

/// While user programs run on two cores: the protections are on, a guard is below each stack, and a machine check
/// ends in a report that names its bank.
pub fn machine_check(kernel: &Kernel) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (serial, path) = (folder.path().join("log"), folder.path().join("archive.cpio"));
    fs::write(&path, archive(kernel)?)?;
    let machine = Machine { cores: 2, memory: "256M".into(), accelerator: Accelerator::Tcg, extra: Vec::new() };
    let mut command = machine.command(&serial);
    command
        .arg("-kernel")
        .arg(&kernel.microkernel)
        .arg("-initrd")
        .arg(&path)
        .args(["-append", BUSY, "-monitor", "stdio"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut running = Running::start(&mut command, "QEMU")?;
    let input = running.pipes().stdin.take().context("QEMU's input is a pipe")?;
    let output = running.pipes().stdout.take().context("QEMU's output is a pipe")?;
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        // The receiver may be gone; then nobody wants the rest.
        BufReader::new(output).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
    });
    let mut monitor = Monitor { input, lines };
    let end = Instant::now() + TIMEOUT;
    let log = || fs::read_to_string(&serial).unwrap_or_default();
    while !log().contains(" cores (") {
        if Instant::now() > end {
            bail!("the kernel does not start:\n{}", log());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    // Both cores are in user mode soon; then the registers are those of it.
    std::thread::sleep(Duration::from_secs(1));
    for core in 0..2 {
        monitor.ask(&format!("cpu {core}"), "(qemu)")?;
        let line = monitor.ask("info registers", "CR4=")?;
        let cr4 = line.split("CR4=").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap_or_default();
        let cr4 = u64::from_str_radix(cr4, 16).with_context(|| format!("unexpected line: {line}"))?;
        if let Some((_, name)) = PROTECTIONS.iter().find(|(bit, _)| cr4 >> bit & 1 == 0) {
            bail!("core {core}: {name} is off (CR4 {cr4:#x})");
        }
    }
    for stack in STACKS {
        monitor
            .ask(&format!("gva2gpa {stack:#x}"), "gpa: ")
            .context("the kernel stack is not where this test looks for it")?;
        monitor
            .ask(&format!("gva2gpa {:#x}", stack - PAGE), "Unmapped")
            .context("there is no guard below the kernel stack")?;
    }
    // An uncorrected error (VAL, UC, EN) of bank 3, address valid, the machine may not go on.
    monitor.ask("mce 1 3 0xb400000000000135 4 0x1234000 0", "(qemu)")?;
    let status = running.wait_until(Instant::now() + TIMEOUT, || {})?;
    let log = log();
    let parts = [
        "exception 18",
        "machine check, MCG_STATUS 0x4",
        "bank 3: status 0xb400000000000135 address 0x1234000",
        "rip ",
    ];
    match parts.iter().find(|part| !log.contains(**part)) {
        Some(part) => bail!("no `{part}` in\n{log}"),
        None if status.and_then(|status| status.code()) == Some(KERNEL_PANIC) => Ok(()),
        None => bail!("QEMU ended with {status:?}"),
    }
}
