//! `mk doctor`: what is there, what is missing, what can be used.

use crate::build::{Builder, Toolchain};
use crate::child::Running;
use crate::qemu::{self, Accelerator, Machine};
use crate::setup;
use anyhow::Result;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// How long the bare floor's few quanta may take under KVM. Natively they are done in some 10 ms, and QEMU's start takes
/// less than a second; a KVM that emulates ring 0 at 0.6 µs an instruction needs half a minute.
const KVM_PATIENCE: Duration = Duration::from_secs(8);

/// Reports. The status is 1 if something is missing that mk needs.
pub fn run(builder: &Builder) -> Result<ExitCode> {
    let mut healthy = true;
    let mut line = |good: bool, what: &str, detail: &str| {
        println!("{} {what:18} {detail}", if good { "ok     " } else { "MISSING" });
        healthy &= good;
    };
    let cores = std::thread::available_parallelism().map_or(1, |count| count.get());
    line(true, "machine", &format!("{cores} cores, {}", memory()));
    line(true, "tree", &builder.tree().root().display().to_string());
    line(true, "cache", &format!("{} ({})", builder.tree().cache().display(), size(builder)));
    match setup::missing(false) {
        Ok(missing) if missing.is_empty() => line(true, "packages", "all installed"),
        Ok(missing) => {
            let names: Vec<&str> = missing.iter().map(|package| package.name).collect();
            line(false, "packages", &format!("{}: `mk setup` installs them", names.join(" ")));
        }
        Err(error) => line(false, "packages", &format!("{error:#}")),
    }
    if let Ok(missing) = setup::missing(true) {
        let absent =
            if missing.is_empty() { "all installed" } else { "not all installed; they are when an ISO is made" };
        println!("        packages for ISOs  {absent}");
    }
    match Toolchain::find() {
        Ok(toolchain) => line(true, "kernel toolchain", &toolchain.describe()),
        Err(error) => line(false, "kernel toolchain", &format!("{error:#}")),
    }
    match version("cargo") {
        Some(text) => line(true, "host toolchain", &text),
        None => line(false, "host toolchain", "no cargo in PATH"),
    }
    let qemu = qemu::version();
    match &qemu {
        Ok(text) => line(true, "QEMU", text),
        Err(error) => line(false, "QEMU", &format!("{error:#}")),
    }
    if qemu.is_ok() {
        line(true, "accelerator tcg", "usable; the noise meter works with it");
        println!("        accelerator kvm    {}", kvm(builder)?);
    }
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn version(program: &str) -> Option<String> {
    let output = Command::new(program).arg("--version").output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn memory() -> String {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kilobytes: u64 = total.and_then(|value| value.split_whitespace().next()?.parse().ok()).unwrap_or(0);
    format!("{} GiB of memory", kilobytes >> 20)
}

fn size(builder: &Builder) -> String {
    let output = Command::new("du").args(["-sh", "--"]).arg(builder.tree().cache()).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.split_whitespace().next().unwrap_or("empty").to_owned()
}

/// Whether KVM can be used, found by running ring-0 code in it: on some machines /dev/kvm exists and emulates.
fn kvm(builder: &Builder) -> Result<String> {
    if let Err(error) = std::fs::File::options().read(true).write(true).open("/dev/kvm") {
        return Ok(format!("not usable: /dev/kvm: {error}"));
    }
    let meter = builder.meter()?;
    let log = tempfile::NamedTempFile::new()?;
    let machine = Machine { cores: 2, memory: "256M".into(), accelerator: Accelerator::Kvm, extra: Vec::new() };
    let mut command = machine.command(log.path());
    command.arg("-kernel").arg(&meter.bare).args(["-append", "mode=start samples=20 work=15 warmup=0 run=0"]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let started = Instant::now();
    let running = Running::start(&mut command, "QEMU with KVM")?;
    Ok(match running.wait_until(started + KVM_PATIENCE, || {})? {
        Some(status) if status.code() == Some(1) => {
            format!("usable ({:.1} s for the probe)", started.elapsed().as_secs_f64())
        }
        Some(status) => format!("not usable: QEMU with KVM ended with {status}"),
        None => {
            format!("not usable: the probe took more than {} s, so this KVM emulates ring 0", KVM_PATIENCE.as_secs())
        }
    })
}
