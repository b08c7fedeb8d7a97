//! Tests that need QEMU's monitor: what the kernel cannot be asked from inside.

use super::kernel::{KERNEL_PANIC, archive};
use crate::build::Kernel;
use crate::child::Running;
use crate::qemu::{Accelerator, Machine};
use anyhow::{Context, Result, bail};
use fs_err as fs;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, Command, Stdio};
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

/// A machine with two cores that has begun to run.
struct Begun {
    running: Running,
    monitor: Monitor,
    folder: tempfile::TempDir,
}

impl Begun {
    /// Boots with these words; `change` may change QEMU's arguments.
    fn new(kernel: &Kernel, words: &str, change: impl Fn(&mut Vec<OsString>)) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("archive.cpio");
        fs::write(&path, archive(kernel)?)?;
        let machine = Machine { cores: 2, memory: "256M".into(), accelerator: Accelerator::Tcg, extra: Vec::new() };
        let given = machine.command(&folder.path().join("log"));
        let mut arguments = given.get_args().map(OsString::from).collect();
        change(&mut arguments);
        let mut command = Command::new(given.get_program());
        command.args(arguments);
        command.arg("-kernel").arg(&kernel.microkernel).arg("-initrd").arg(&path);
        command.args(["-append", words, "-monitor", "stdio"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut running = Running::start(&mut command, "QEMU")?;
        let input = running.pipes().stdin.take().context("QEMU's input is a pipe")?;
        let output = running.pipes().stdout.take().context("QEMU's output is a pipe")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            // The receiver may be gone; then nobody wants the rest.
            BufReader::new(output).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Ok(Self { running, monitor: Monitor { input, lines }, folder })
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn wait_for_line(&self, part: &str) -> Result<()> {
        let end = Instant::now() + TIMEOUT;
        while !self.log().contains(part) {
            if Instant::now() > end {
                bail!("the kernel does not say `{part}`:\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }
}

/// The end of a run on a machine that does not end with it.
pub fn all_cores_stop(kernel: &Kernel) -> Result<()> {
    let without_exit = |arguments: &mut Vec<OsString>| {
        let device = arguments.iter().position(|word| word.to_string_lossy().starts_with("isa-debug-exit"));
        arguments.drain(device.map_or(0..0, |at| at - 1..at + 1));
    };
    let mut begun = Begun::new(kernel, "kexit", without_exit)?;
    begun.wait_for_line("the run has ended")?;
    let end = Instant::now() + TIMEOUT;
    for core in 0..2 {
        begun.monitor.ask(&format!("cpu {core}"), "(qemu)")?;
        // A core that computes comes to the kernel with the interrupt that tells it.
        while !begun.monitor.ask("info registers", "HLT=")?.contains("HLT=1") {
            if Instant::now() > end {
                bail!("core {core} goes on");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    Ok(())
}

/// While user programs run on two cores: the protections are on, a guard is below each stack, and a machine check
/// ends in a report that names its bank.
pub fn machine_check(kernel: &Kernel) -> Result<()> {
    let mut begun = Begun::new(kernel, BUSY, |_| {})?;
    begun.wait_for_line(" cores (")?;
    let monitor = &mut begun.monitor;
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
    let log = || fs::read_to_string(begun.folder.path().join("log")).unwrap_or_default();
    let status = begun.running.wait_until(Instant::now() + TIMEOUT, || {})?;
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
