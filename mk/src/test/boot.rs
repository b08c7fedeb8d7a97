//! Other machines: GRUB by BIOS and by UEFI, many cores, much memory, x2APIC.

use super::bochs;
use super::emulator::Wrong;
use super::kernel::{self, to_the_end};
use super::tally::Tally;
use crate::build::{Builder, Kernel, make_iso};
use crate::job::{self, Job};
use crate::qemu::{Accelerator, Firmware, Machine, System};
use anyhow::{Context, Result, bail};
use fs_err as fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// Linux boots, runs two decoupled MPI ranks and powers off within this, on a busy host too.
const TIMEOUT: Duration = Duration::from_secs(600);

/// The main job's smallest form. The measurement fails where a rank is not decoupled.
const SMALLEST_JOB: &str = "\
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
decouple -c 1 sh -c 'read tid < /sys/kernel/decouple/core1/tid; [ \"$tid\" = $$ ]' || exit 1
mpirun -n 2 decouple mpi-fwq --mode step --samples 20 --work 10 --warmup 5 --out results --json results/fwq.json || exit 2
";

/// The test on the newer QEMU.
const X2APIC: &str = "with an x2APIC the kernel's tests pass";

/// Cores whose APIC ids have more than 8 bits: the second socket's ids begin at 256.
const LONG_IDS: &[&str] = &[
    "-smp",
    "1,maxcpus=258,sockets=2,cores=129,threads=1",
    "-device",
    "max-x86_64-cpu,socket-id=1,core-id=0,thread-id=0",
    "-device",
    "max-x86_64-cpu,socket-id=1,core-id=1,thread-id=0",
];

/// What cores do to one another. (Devices cannot interrupt cores with long ids, so tests of interrupts need not pass there.)
const AMONG_CORES: &str = "ktest=every_core_runs_a_thread_and_wakes_another_core,\
                           an_interrupt_for_a_core_goes_to_that_core_or_is_refused,\
                           deleting_a_running_thread_on_another_core_ends_it,\
                           an_unmap_reaches_a_running_decoupled_thread";

/// 64 GiB, of which the host gives only the pages that are used.
const SPARSE: &[&str] = &["-machine", "memory-backend=m", "-object", "memory-backend-ram,id=m,size=64G,reserve=off"];

/// Runs all whose name contains `filter`.
pub fn run(builder: &Builder, filter: Option<&str>, tally: &mut Tally) -> Result<()> {
    let mut test = |name: &str, check: &dyn Fn() -> Result<()>| {
        let name = format!("boot: {name}");
        if filter.is_none_or(|filter| name.contains(filter)) {
            tally.record(&name, check());
        }
    };
    let kernel = builder.kernel()?;
    let qemu = || Command::new("qemu-system-x86_64");
    let wrong = Wrong::of(qemu())?;
    let all = ["-append", &wrong.skip()];
    let bios = |archives: &[&Path]| from_disc(&kernel, archives, &wrong.skip(), Firmware::Bios);
    test("GRUB and a BIOS start the kernel, and its tests pass", &|| {
        let archive = Archive::new(&kernel)?;
        all_pass(bios(&[&archive.path()])?, "4 cores (xAPIC)")
    });
    test("GRUB and UEFI start the kernel, and its tests pass", &|| {
        let archive = Archive::new(&kernel)?;
        all_pass(from_disc(&kernel, &[&archive.path()], &wrong.skip(), Firmware::Uefi)?, "4 cores (xAPIC)")
    });
    test("GRUB without a module is refused", &|| refused(bios(&[])?, "no boot module"));
    test("GRUB with two modules is refused", &|| {
        let archive = Archive::new(&kernel)?;
        refused(bios(&[&archive.path(), &archive.path()])?, "2 boot modules: pass one")
    });
    test("64 of 66 cores are used, and the kernel's tests pass", &|| {
        let ended = directly(&kernel, qemu(), 66, "512M", &all)?;
        if !ended.1.contains("2 cores stay off") {
            bail!("the log does not say that 2 cores stay off:\n{}", ended.1);
        }
        all_pass(ended, "64 cores (xAPIC)")
    });
    test("64 GiB of memory are used, and the kernel's tests of memory pass", &|| {
        let arguments = [SPARSE, &["-append", "ktest=memory,mapping,untyped,unmap,range"]].concat();
        let ended = directly(&kernel, qemu(), 2, "64G", &arguments)?;
        let free =
            ended.1.split_once(" MiB free").and_then(|(before, _)| before.rsplit(' ').next()?.parse::<u64>().ok());
        if !free.is_some_and(|free| (64_000..=65_536).contains(&free)) {
            bail!("{free:?} MiB are free, of 65,536; log:\n{}", ended.1);
        }
        all_pass(ended, "2 cores")
    });
    test(X2APIC, &|| {
        let wrong_in_newer = Wrong::of(builder.newer_qemu()?.command())?;
        let all = ["-append", &wrong_in_newer.skip()];
        all_pass(directly(&kernel, builder.newer_qemu()?.command(), 4, "256M", &all)?, "4 cores (x2APIC)")
    });
    test("cores with APIC ids of more than 8 bits reach one another", &|| {
        let ended = directly(
            &kernel,
            builder.newer_qemu()?.command(),
            1,
            "256M",
            &[LONG_IDS, &["-append", AMONG_CORES]].concat(),
        )?;
        if !ended.1.contains("ktest: 4 run") {
            bail!("expected 4 tests to run:\n{}", ended.1);
        }
        all_pass(ended, "3 cores (x2APIC)")
    });
    test("on Bochs user mode stays where it is, and the timer goes by TSC deadlines", &|| bochs::run(&kernel));
    for (name, firmware) in [("a BIOS", Firmware::Bios), ("UEFI", Firmware::Uefi)] {
        test(&format!("from an ISO by {name}, Linux runs decoupled ranks and powers off"), &|| {
            smallest_job(builder, firmware)
        });
    }
    if filter.is_none() {
        wrong.tell("boot", |_| true, tally);
    }
    if filter.is_none_or(|filter| X2APIC.contains(filter)) {
        Wrong::of(builder.newer_qemu()?.command())?.tell("boot, x2APIC", |_| true, tally);
    }
    Ok(())
}

/// The tests' boot archive as a file.
struct Archive(TempDir);

impl Archive {
    fn new(built: &Kernel) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("archive.cpio"), kernel::archive(built)?)?;
        Ok(Self(folder))
    }

    fn path(&self) -> std::path::PathBuf {
        self.0.path().join("archive.cpio")
    }
}

fn machine(cores: u32, memory: &str) -> Machine {
    Machine { cores, memory: memory.into(), accelerator: Accelerator::Tcg, extra: Vec::new() }
}

/// Boots the tests by PVH in the given emulator. `extra` follows the machine's own words, and of two the later counts.
fn directly(
    kernel: &Kernel,
    mut qemu: Command,
    cores: u32,
    memory: &str,
    extra: &[&str],
) -> Result<(Option<i32>, String)> {
    let archive = Archive::new(kernel)?;
    let serial = archive.0.path().join("log");
    machine(cores, memory).add_to(&mut qemu, &serial);
    qemu.args(extra).arg("-kernel").arg(&kernel.microkernel).arg("-initrd").arg(archive.path());
    to_the_end(qemu, &serial)
}

/// Boots from an ISO with these archives and words.
fn from_disc(kernel: &Kernel, archives: &[&Path], words: &str, firmware: Firmware) -> Result<(Option<i32>, String)> {
    let folder = tempfile::tempdir()?;
    let (serial, iso) = (folder.path().join("log"), folder.path().join("tacet.iso"));
    make_iso(kernel, archives, words, &iso)?;
    let mut command = machine(4, "256M").command(&serial);
    firmware.boot(&mut command, &iso, folder.path())?;
    to_the_end(command, &serial)
}

/// An error unless every test passed, on a machine of which the kernel says `banner`.
fn all_pass((code, log): (Option<i32>, String), banner: &str) -> Result<()> {
    let failed: Vec<&str> = log.lines().filter(|line| line.starts_with("not ok ")).collect();
    let ended = log.lines().any(|line| line.starts_with("ktest: ")) && matches!(code, Some(1 | 3));
    if !ended || !failed.is_empty() || !log.contains(banner) {
        bail!("expected `{banner}` and no failed test, saw {failed:?}; QEMU ended with {code:?}; log:\n{log}");
    }
    Ok(())
}

/// An error unless the kernel ended with this line.
fn refused((code, log): (Option<i32>, String), says: &str) -> Result<()> {
    if code != Some(201) || !log.contains(says) {
        bail!("expected status 201 and `{says}`, saw {code:?} and\n{log}");
    }
    Ok(())
}

fn smallest_job(builder: &Builder, firmware: Firmware) -> Result<()> {
    let (kernel, archive) = builder.tacet_archive()?;
    let image = builder.image()?;
    let job = Job {
        machine: &machine(3, "1G"),
        system: System::TacetIso { kernel: &kernel, archive: &archive, service_cores: 1, firmware },
        image: &image,
        keep_image: false,
        files: &[("job.sh".into(), SMALLEST_JOB.into())],
        words: "",
        meter: None,
        timeout: TIMEOUT,
    };
    let outcome = job::run(&job, |_| {})?;
    outcome.expect_success("the decoupled ranks")?;
    let result = fs::read_to_string(outcome.results().join("fwq.json")).context("the ranks left no result")?;
    let result: fwq::record::Recording = serde_json::from_str(&result).context("the ranks' result")?;
    let cores: Vec<_> = result.ranks.iter().map(|rank| rank.placement.decoupled_core).collect();
    if cores != [Some(1), Some(2)] {
        bail!("the ranks were not decoupled onto cores 1 and 2: {cores:?}");
    }
    if outcome.exit != Some(1) {
        bail!("the machine was not switched off in order: QEMU ended with {:?}", outcome.exit);
    }
    Ok(())
}
