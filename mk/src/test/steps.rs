//! Machine checks at every kind of place of the kernel's way in and out, where QEMU's gdb stub has stopped it.

use super::kernel::{KERNEL_PANIC, archive};
use crate::build::Kernel;
use crate::child::Running;
use crate::qemu::{Accelerator, Machine, option_path};
use anyhow::{Context, Result, bail};
use fs_err as fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

const TIMEOUT: Duration = Duration::from_secs(60);

/// Where user mode comes in, and a test that does so.
const ENTRIES: [(&str, &str); 2] =
    [("syscall_entry", "ktest=list"), ("trap_common", "ktest=popf_brings_no_privileged_flags")];
/// So many instructions behind the entry, and before user mode runs again, are each looked at; between them, every 32nd.
const EDGE: usize = 12;
const BETWEEN: usize = 32;

/// GDB's numbers of registers.
const RIP: u32 = 16;
const GS_BASE: u32 = 25;
/// A base that user mode can set, and that looks like the kernel's.
const UPPER_HALF: u64 = 0xffff_8000_0000_0000;

/// An uncorrected error (VAL, UC, EN) of bank 3, address valid, the machine may not go on.
const MACHINE_CHECK: &str = "mce 0 3 0xb400000000000135 4 0x1234000 0";
const TOLD: [&str; 3] =
    ["exception 18", "machine check, MCG_STATUS 0x4", "bank 3: status 0xb400000000000135 address 0x1234000"];

/// QEMU's gdb stub (GDB's remote serial protocol).
struct Stub(UnixStream);

impl Stub {
    fn connect(path: &Path) -> Result<Self> {
        let end = Instant::now() + TIMEOUT;
        loop {
            match UnixStream::connect(path) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(TIMEOUT))?;
                    let mut stub = Self(stream);
                    // It gives single registers only to who has asked which there are.
                    stub.ask("qXfer:features:read:target.xml:0,ffb", "")?;
                    return Ok(stub);
                }
                Err(error) if Instant::now() > end => return Err(error).context("QEMU's gdb stub is not there"),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    fn send(&mut self, packet: &str) -> Result<()> {
        let sum = packet.bytes().fold(0u8, u8::wrapping_add);
        write!(self.0, "${packet}#{sum:02x}").context("QEMU's gdb stub")
    }

    fn byte(&mut self) -> Result<u8> {
        let mut byte = [0];
        self.0.read_exact(&mut byte).context("QEMU's gdb stub gives no answer")?;
        Ok(byte[0])
    }

    fn answer(&mut self) -> Result<String> {
        while self.byte()? != b'$' {}
        let mut packet = String::new();
        loop {
            match self.byte()? {
                b'#' => break,
                byte => packet.push(byte as char),
            }
        }
        let _sum = (self.byte()?, self.byte()?);
        write!(self.0, "+")?;
        Ok(packet)
    }

    fn ask(&mut self, packet: &str, expected: &str) -> Result<String> {
        self.send(packet)?;
        let answer = self.answer()?;
        if !answer.starts_with(expected) {
            bail!("QEMU's gdb stub answers `{answer}` to `{packet}`");
        }
        Ok(answer)
    }

    /// Goes on to an address.
    fn run_to(&mut self, address: u64) -> Result<()> {
        self.ask(&format!("Z1,{address:x},1"), "OK")?;
        self.ask("c", "T05")?;
        self.ask(&format!("z1,{address:x},1"), "OK").map(drop)
    }

    fn step(&mut self) -> Result<()> {
        self.ask("s", "T05").map(drop)
    }

    fn rip(&mut self) -> Result<u64> {
        let hex = self.ask(&format!("p{RIP:x}"), "")?;
        Ok(u64::from_str_radix(&hex, 16).with_context(|| format!("rip is `{hex}`"))?.swap_bytes())
    }

    fn set_gs_base(&mut self, base: u64) -> Result<()> {
        self.ask(&format!("P{GS_BASE:x}={:016x}", base.swap_bytes()), "OK").map(drop)
    }

    /// A command of QEMU's monitor.
    fn monitor(&mut self, command: &str) -> Result<()> {
        let hex: String = command.bytes().map(|byte| format!("{byte:02x}")).collect();
        self.ask(&format!("qRcmd,{hex}"), "OK").map(drop)
    }
}

/// A machine check while the kernel is anywhere between two instructions of user mode, which has a GS base like the kernel's:
/// it is told, with the place.
pub fn machine_checks(kernel: &Kernel) -> Result<()> {
    for (entry, words) in ENTRIES {
        let way = way_through(kernel, entry, words)?;
        let (begin, end) = (EDGE.min(way), way.saturating_sub(EDGE));
        let points = (0..begin).chain((begin..end).step_by(BETWEEN)).chain(end.max(begin)..way);
        for steps in points {
            machine_check(kernel, entry, words, steps)
                .with_context(|| format!("a machine check {steps} of {way} instructions behind {entry}"))?;
        }
    }
    Ok(())
}

/// A machine that has stopped at the entry, with its log.
struct Stopped {
    running: Running,
    stub: Stub,
    folder: tempfile::TempDir,
}

impl Stopped {
    fn at(kernel: &Kernel, entry: &str, words: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let (serial, path, socket) =
            (folder.path().join("log"), folder.path().join("archive.cpio"), folder.path().join("gdb"));
        fs::write(&path, archive(kernel)?)?;
        let machine = Machine { cores: 1, memory: "256M".into(), accelerator: Accelerator::Tcg, extra: Vec::new() };
        let mut command = machine.command(&serial);
        command.arg("-kernel").arg(&kernel.microkernel).arg("-initrd").arg(&path).args(["-append", words, "-S"]);
        command.arg("-chardev").arg(format!("socket,path={},server=on,wait=off,id=gdb", option_path(&socket)));
        command.args(["-gdb", "chardev:gdb"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let running = Running::start(&mut command, "QEMU")?;
        let mut stub = Stub::connect(&socket)?;
        stub.run_to(address(kernel, entry)?)?;
        stub.set_gs_base(UPPER_HALF)?;
        Ok(Self { running, stub, folder })
    }
}

fn address(kernel: &Kernel, symbol: &str) -> Result<u64> {
    let symbols = fs::read_to_string(&kernel.symbols)?;
    let line = symbols.lines().find(|line| line.split(' ').nth(2) == Some(symbol));
    let hex = line.and_then(|line| line.split(' ').next()).with_context(|| format!("the kernel has no {symbol}"))?;
    u64::from_str_radix(hex, 16).with_context(|| format!("the address of {symbol}"))
}

/// Instructions from the entry to the first one of user mode.
fn way_through(kernel: &Kernel, entry: &str, words: &str) -> Result<usize> {
    const MOST: usize = 100_000;
    let mut stopped = Stopped::at(kernel, entry, words)?;
    for steps in 0..MOST {
        if stopped.stub.rip()? >> 63 == 0 {
            return Ok(steps);
        }
        stopped.stub.step()?;
    }
    bail!("{MOST} instructions behind {entry}, the kernel has not left")
}

fn machine_check(kernel: &Kernel, entry: &str, words: &str, steps: usize) -> Result<()> {
    let Stopped { running, mut stub, folder } = Stopped::at(kernel, entry, words)?;
    for _ in 0..steps {
        stub.step()?;
    }
    let rip = stub.rip()?;
    stub.monitor(MACHINE_CHECK)?;
    stub.send("c")?;
    let status = running.wait_until(Instant::now() + TIMEOUT, || {})?;
    let log = fs::read_to_string(folder.path().join("log")).unwrap_or_default();
    if status.and_then(|status| status.code()) != Some(KERNEL_PANIC) {
        bail!("QEMU ended with {status:?}; log:\n{log}");
    }
    let place = format!("rip {rip:016x}");
    match TOLD.into_iter().chain([place.as_str()]).find(|part| !log.contains(part)) {
        Some(part) => bail!("no `{part}` in\n{log}"),
        None => Ok(()),
    }
}
