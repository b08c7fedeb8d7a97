//! The microkernel's own tests, run on it in QEMU; its limits; and boots that must fail with one clear line.

use super::emulator::Wrong;
use super::tally::Tally;
use crate::build::{Builder, Kernel, newc_archive};
use crate::child::Running;
use crate::qemu::{Accelerator, Machine};
use anyhow::{Context, Result, bail};
use fs_err as fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Numbers of cores that the tests run on.
const CORES: &[u32] = &[1, 2, 4];
/// Text and data of the microkernel, bytes.
const SIZE_LIMIT: u64 = 256 << 10;
/// Random operations with which the fast path is compared: some seconds.
const DIFFERENTIAL_OPERATIONS: u32 = 1_000_000;
/// A test run takes seconds; on a busy machine, some more.
const TIMEOUT: Duration = Duration::from_secs(300);

type Check = fn(&Kernel) -> Result<()>;

/// Tests that look at the kernel from outside.
pub const CHECKS: &[(&str, Check)] = &[
    ("the fast path does what the general one does", fast_path_agrees),
    ("no SSE or x87 instruction", no_floating_point),
    ("text and data are under 256 KiB", size),
    ("a refused call is traced with object, argument and reason", tracing),
    ("a machine check is told with its bank, and protections are on", super::monitor::machine_check),
    ("when the run ends, all cores stop", super::monitor::all_cores_stop),
    ("a serial line that nobody reads stops no core", super::serial::unread),
    ("a machine check on the kernel's way in and out is told", super::steps::machine_checks),
];

/// The checked kernel tries what it must not be able to.
pub const ATTACKS: &str =
    "the kernel cannot change its code, run data, touch user memory, or fill a stack beyond its end";

/// Runs the test named `filter`; if there is none of that name, all whose name contains it.
pub fn run(builder: &Builder, filter: Option<&str>, tally: &mut Tally) -> Result<()> {
    let kernel = builder.kernel()?;
    let inside = tests_inside(&kernel)?;
    let boots = bad_boots(&kernel)?;
    let outside = || CHECKS.iter().map(|(name, _)| *name).chain([ATTACKS]).chain(boots.iter().map(|case| case.name));
    let names = || inside.iter().map(|(name, _)| name.as_str()).chain(outside());
    let exact = filter.is_some_and(|filter| names().any(|name| name == filter));
    let wanted = |name: &str| filter.is_none_or(|filter| if exact { name == filter } else { name.contains(filter) });
    if let Some(filter) = filter
        && !names().any(wanted)
    {
        let list: String = names().map(|name| format!("\n  {name}")).collect();
        bail!("no test of the kernel has `{filter}` in its name; there are{list}");
    }
    let wrong = Wrong::of(Command::new("qemu-system-x86_64"))?;
    for &cores in CORES {
        if inside.iter().any(|(name, needed)| wanted(name) && !wrong.has(name) && *needed <= cores) {
            on_the_kernel(&kernel, cores, filter, &wrong, tally)?;
        }
    }
    wrong.tell("kernel", wanted, tally);
    for (name, check) in CHECKS.iter().filter(|(name, _)| wanted(name)) {
        tally.record(&format!("kernel: {name}"), check(&kernel));
    }
    if wanted(ATTACKS) {
        tally.record(&format!("kernel: {ATTACKS}"), super::attack::all(builder));
    }
    for case in boots.iter().filter(|case| wanted(case.name)) {
        tally.record(&format!("kernel: {}", case.name), case.check(&kernel));
    }
    Ok(())
}

/// Names of the tests that run on the kernel, and how many cores each needs.
fn tests_inside(kernel: &Kernel) -> Result<Vec<(String, u32)>> {
    let (_, log) = boot(kernel, Some(&archive(kernel)?), 1, "256M", "ktest=list")?;
    let test = |line: &str| {
        let (name, cores) = line.strip_prefix("test ")?.strip_suffix(" cores")?.split_once(", ")?;
        Some((name.to_owned(), cores.parse().ok()?))
    };
    let tests: Vec<_> = log.lines().filter_map(test).collect();
    if tests.is_empty() {
        bail!("the kernel's tests do not tell their names:\n{log}");
    }
    Ok(tests)
}

/// What the tests boot with.
pub fn archive(kernel: &Kernel) -> Result<Vec<u8>> {
    Ok(newc_archive(&[("root", &fs::read(&kernel.ktest)?), ("symbols", &fs::read(&kernel.symbols)?)]))
}

/// Boots the kernel with an archive; QEMU's exit status and the log.
fn boot(
    kernel: &Kernel,
    archive: Option<&[u8]>,
    cores: u32,
    memory: &str,
    words: &str,
) -> Result<(Option<i32>, String)> {
    boot_on(
        &Machine { cores, memory: memory.into(), accelerator: Accelerator::Tcg, extra: Vec::new() },
        kernel,
        archive,
        words,
    )
}

fn boot_on(machine: &Machine, kernel: &Kernel, archive: Option<&[u8]>, words: &str) -> Result<(Option<i32>, String)> {
    let folder = tempfile::tempdir()?;
    let serial = folder.path().join("log");
    let mut command = machine.command(&serial);
    command.arg("-kernel").arg(&kernel.microkernel).args(["-append", words]);
    if let Some(archive) = archive {
        let path = folder.path().join("archive.cpio");
        fs::write(&path, archive)?;
        command.arg("-initrd").arg(path);
    }
    to_the_end(command, &serial)
}

/// Runs a machine until it ends; QEMU's exit status and the log.
pub fn to_the_end(mut command: Command, serial: &Path) -> Result<(Option<i32>, String)> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let ended = Running::start(&mut command, "QEMU")?.wait_until(Instant::now() + TIMEOUT, || {})?;
    let log = fs::read(serial).map(|bytes| String::from_utf8_lossy(&bytes).replace('\r', "")).unwrap_or_default();
    match ended {
        Some(status) => Ok((status.code(), log)),
        None => bail!("the machine did not end within {} s; its log:\n{log}", TIMEOUT.as_secs()),
    }
}

fn on_the_kernel(kernel: &Kernel, cores: u32, filter: Option<&str>, wrong: &Wrong, tally: &mut Tally) -> Result<()> {
    let whole = format!("kernel: the tests end in order, {cores} cores");
    let mut words = wrong.skip();
    if let Some(filter) = filter {
        words += &format!(" ktest={filter}");
    }
    let (code, log) = match boot(kernel, Some(&archive(kernel)?), cores, "256M", &words) {
        Ok(outcome) => outcome,
        Err(error) => {
            tally.fail(&whole, &format!("{error:#}"));
            return Ok(());
        }
    };
    for line in log.lines() {
        if let Some(name) = line.strip_prefix("ok ") {
            tally.pass(&format!("kernel: {name}, {cores} cores"));
        } else if let Some((name, reason)) = line.strip_prefix("not ok ").and_then(|rest| rest.split_once(": ")) {
            tally.fail(&format!("kernel: {name}, {cores} cores"), reason);
        }
    }
    // Failed tests end with status 1 (QEMU: 3) and were told above.
    let ended = log.lines().any(|line| line.starts_with("ktest: ")) && matches!(code, Some(1 | 3));
    if filter.is_none() || !ended {
        tally
            .record(&whole, if ended { Ok(()) } else { Err(anyhow::anyhow!("QEMU ended with {code:?}; log:\n{log}")) });
    }
    Ok(())
}

/// What one run of random operations printed.
struct Differential {
    /// Lines with digests.
    digests: Vec<String>,
    /// Operations that the kernel did not refuse.
    accepted: u32,
    /// TSC ticks, which follow the instructions on this machine.
    time: u64,
}

impl Differential {
    fn read(log: &str) -> Option<Self> {
        let digests: Vec<String> =
            log.lines().filter(|line| line.starts_with("differential: ")).map(str::to_owned).collect();
        let accepted = digests.last()?.split_once(" accepted")?.0.rsplit(' ').next()?.parse().ok()?;
        let time = log.lines().find_map(|line| line.strip_prefix("time: ")?.parse().ok())?;
        (digests.len() > 1).then_some(Self { digests, accepted, time })
    }
}

/// The same random operations with the fast path and without it: all that the threads saw must be the same. With it they take
/// less time, else it is not taken; and the kernel does what they ask for often enough.
fn fast_path_agrees(kernel: &Kernel) -> Result<()> {
    let archive = archive(kernel)?;
    let machine =
        Machine { cores: 1, memory: "256M".into(), accelerator: Accelerator::TcgRepeatable, extra: Vec::new() };
    let run = |option: &str| -> Result<Differential> {
        let (code, log) =
            boot_on(&machine, kernel, Some(&archive), &format!("differential={DIFFERENTIAL_OPERATIONS} {option}"))?;
        match Differential::read(&log) {
            Some(seen) if code == Some(1) => Ok(seen),
            _ => bail!("QEMU ended with {code:?}; log:\n{log}"),
        }
    };
    let (fast, slow) = (run("")?, run("tacet.nofast")?);
    if let Some((fast, slow)) = fast.digests.iter().zip(&slow.digests).find(|(fast, slow)| fast != slow) {
        bail!("with the fast path:    {fast}\nwithout the fast path: {slow}");
    }
    if fast.digests.len() != slow.digests.len() {
        bail!("{} and {} digests", fast.digests.len(), slow.digests.len());
    }
    if fast.time >= slow.time {
        bail!("the fast path is not taken: {} ticks with it, {} without", fast.time, slow.time);
    }
    if fast.accepted < DIFFERENTIAL_OPERATIONS / 4 {
        bail!("only {} of {DIFFERENTIAL_OPERATIONS} operations were accepted", fast.accepted);
    }
    Ok(())
}

/// With `tacet.trace` there is one line for each refused call, without it none.
fn tracing(kernel: &Kernel) -> Result<()> {
    let test = "ktest=a_refused_call_tells_which_argument";
    let lines = [
        "refused: BadArgument: thread 'ktest': UNTYPED_RETYPE on Untyped (unnamed) in slot 128, rights 0x1f: argument 0 is 0x63",
        "CSPACE_COPY on CSpace (unnamed) in slot 1, rights 0x1f: argument 0 is",
        "refused: BadMethod: thread 'ktest': method 0x270f on Task (unnamed)",
    ];
    let (_, log) = boot(kernel, Some(&archive(kernel)?), 1, "256M", &format!("tacet.trace {test}"))?;
    for line in lines {
        if !log.contains(line) {
            bail!("expected `{line}` in\n{log}");
        }
    }
    // Behind its last line, the test cleans up, which may be refused.
    let count =
        log.lines().take_while(|line| !line.starts_with("ok ")).filter(|line| line.contains("refused: ")).count();
    if count != 11 {
        bail!("expected 11 refusals, saw {count} in\n{log}");
    }
    let (_, quiet) = boot(kernel, Some(&archive(kernel)?), 1, "256M", test)?;
    if quiet.contains("refused: ") || !quiet.contains("ok a_refused_call") {
        bail!("without tacet.trace:\n{quiet}");
    }
    Ok(())
}

fn no_floating_point(kernel: &Kernel) -> Result<()> {
    let output =
        Command::new("objdump").arg("-d").arg(&kernel.microkernel).output().context("cannot run objdump (binutils)")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if text.lines().count() < 1000 {
        bail!("objdump gave too little to judge");
    }
    let uses = |line: &&str| ["%xmm", "%ymm", "%zmm", "%mm", "%st"].iter().any(|register| line.contains(register));
    match text.lines().find(uses) {
        None => Ok(()),
        Some(line) => bail!("found {line}"),
    }
}

fn size(kernel: &Kernel) -> Result<()> {
    let output = Command::new("size").arg(&kernel.microkernel).output().context("cannot run size (binutils)")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let numbers: Vec<u64> =
        text.lines().last().unwrap_or_default().split_whitespace().map_while(|w| w.parse().ok()).collect();
    match numbers[..] {
        [text, data, ..] if text + data < SIZE_LIMIT => Ok(()),
        [text, data, ..] => bail!("{} bytes", text + data),
        _ => bail!("size gave {text}"),
    }
}

/// QEMU's status after a panic of the kernel.
pub const KERNEL_PANIC: i32 = 201;

/// A boot that must fail: with this status, and with this text in the log.
pub struct BadBoot {
    pub name: &'static str,
    archive: Option<Vec<u8>>,
    memory: &'static str,
    words: &'static str,
    status: i32,
    says: &'static str,
}

impl BadBoot {
    fn check(&self, kernel: &Kernel) -> Result<()> {
        let (code, log) = boot(kernel, self.archive.as_deref(), 1, self.memory, self.words)?;
        if code != Some(self.status) || !log.contains(self.says) {
            bail!("expected status {} and `{}`, saw {code:?} and\n{log}", self.status, self.says);
        }
        // The kernel's own end comes with registers and the way there.
        let panicked = self.status == KERNEL_PANIC;
        if let Some(part) = ["rip ", "r15 ", "cr2 ", "backtrace:"].iter().find(|part| panicked && !log.contains(**part))
        {
            bail!("the panic tells no `{part}`:\n{log}");
        }
        Ok(())
    }
}

pub fn bad_boots(kernel: &Kernel) -> Result<Vec<BadBoot>> {
    let root = fs::read(&kernel.root)?;
    let good_root = |other: &[(&str, &[u8])]| {
        let mut files = vec![("root", &root[..])];
        files.extend_from_slice(other);
        newc_archive(&files)
    };
    let case = |name, archive, status, says| BadBoot { name, archive, memory: "256M", words: "", status, says };
    const BAD_BOOT: i32 = 9;
    let mut cut = good_root(&[]);
    cut.truncate(1000);
    Ok(vec![
        case("a boot without an archive says so", None, KERNEL_PANIC, "no boot module"),
        case("an archive that is none is refused", Some(vec![b'x'; 5000]), KERNEL_PANIC, "malformed"),
        case("a cut archive is refused", Some(cut), KERNEL_PANIC, "malformed"),
        case(
            "an archive without a root task is refused",
            Some(newc_archive(&[("x", b"y")])),
            KERNEL_PANIC,
            "no file named 'root'",
        ),
        case(
            "a root task that is no ELF is refused",
            Some(newc_archive(&[("root", &[7; 300])])),
            KERNEL_PANIC,
            "not a 64-bit ELF",
        ),
        case(
            "a truncated root task is refused",
            Some(newc_archive(&[("root", &root[..root.len() / 2])])),
            KERNEL_PANIC,
            "'root' in the boot archive",
        ),
        case("an archive without Linux is refused", Some(good_root(&[])), BAD_BOOT, "no file named 'vmlinux'"),
        case(
            "a vmlinux that is no ELF is refused",
            Some(good_root(&[("vmlinux", &[1; 100])])),
            BAD_BOOT,
            "not a 64-bit ELF",
        ),
        BadBoot {
            name: "too little memory for Linux is named",
            archive: Some(good_root(&[("vmlinux", &[1; 100])])),
            memory: "40M",
            words: "",
            status: BAD_BOOT,
            says: "too little memory",
        },
        BadBoot {
            name: "more memory for Linux than there is is refused",
            archive: Some(good_root(&[("vmlinux", &[1; 100])])),
            memory: "256M",
            words: "tacet.memory=4G",
            status: BAD_BOOT,
            says: "too little memory",
        },
        BadBoot {
            name: "more service cores than cores are refused",
            archive: Some(good_root(&[("vmlinux", &[1; 100])])),
            memory: "256M",
            words: "tacet.service=9",
            status: BAD_BOOT,
            says: "tacet.service",
        },
        BadBoot {
            name: "a service core that does not exist is refused",
            archive: Some(good_root(&[("vmlinux", &[1; 100])])),
            memory: "256M",
            words: "tacet.service=0,3-9",
            status: BAD_BOOT,
            says: "cores that exist",
        },
        BadBoot {
            name: "an unknown tacet option is refused",
            archive: Some(good_root(&[("vmlinux", &[1; 100])])),
            memory: "256M",
            words: "tacet.servise=1",
            status: BAD_BOOT,
            says: "unknown option",
        },
    ])
}
