//! Another emulator, Bochs: an independent reading of the processor's manual, and the only one at hand whose APIC timer has
//! TSC deadlines. It interprets each instruction, so it gets the tests that need it.

use super::kernel::archive;
use crate::build::{Kernel, make_iso};
use crate::child::Running;
use anyhow::{Context, Result, bail};
use fs_err as fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Measured: half a minute on an idle host.
const TIMEOUT: Duration = Duration::from_secs(900);

/// What the kernel says last.
const END: &str = "the run has ended";

/// What user mode could do to leave it, what goes by the timer, and what depends on PCIDs and XSAVEOPT.
const TESTS: &str = "ktest=no_far_return_leads_out_of_user_mode,no_far_return_brings_privileged_flags,\
                     popf_brings_no_privileged_flags,icebp_is_a_debug_exception_of_the_program,sysenter_leads_nowhere,\
                     into_and_vmxon_are_undefined,invd_and_wbinvd_fault,privileged_instructions_fault,\
                     instructions_of_other_modes_are_undefined,software_interrupts_reach_no_handler_but_the_breakpoint,\
                     a_wait_ends_with_the_timer,equal_priorities_share_a_core,\
                     signals_from_another_core_interrupt_the_user_context,\
                     a_core_with_one_runnable_thread_has_no_interrupt_in_ten_seconds,a_log_line_is_not_waited_for,\
                     a_task_that_comes_back_uses_no_old_translation,an_unmap_is_seen_by_another_core_before_it_returns,\
                     an_unmap_reaches_a_running_decoupled_thread,\
                     memory_that_is_given_back_is_no_longer_mapped_anywhere,\
                     vcpus_of_one_core_keep_their_extended_registers_apart";

/// The number of them.
const COUNT: usize = 20;

/// Boots the kernel by GRUB on two emulated Ice Lake cores; an error unless every test passes.
pub fn run(kernel: &Kernel) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name);
    fs::write(path("archive.cpio"), archive(kernel)?)?;
    make_iso(kernel, &[&path("archive.cpio")], TESTS, &path("tacet.iso"))?;
    fs::write(path("bochsrc"), configuration(folder.path()))?;
    // Debian's Bochs begins in its debugger.
    fs::write(path("commands"), "continue\n")?;
    let mut command = Command::new("bochs");
    command.arg("-q").arg("-f").arg(path("bochsrc")).arg("-rc").arg(path("commands"));
    // The screen of text, which nobody sees.
    command.env("TERM", "xterm").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let serial = path("serial");
    let read = || fs::read(&serial).map(|log| String::from_utf8_lossy(&log).replace('\r', "")).unwrap_or_default();
    // Bochs is not ended by the machine.
    Running::start(&mut command, "Bochs")?
        .wait_while(Instant::now() + TIMEOUT, || !read().contains(END))
        .context("cannot run Bochs (packages bochs and bochs-term)")?;
    judge(&read())
}

fn judge(log: &str) -> Result<()> {
    let banner = "2 cores (x2APIC, TSC-deadline, PCID)";
    let passed = format!("ktest: {COUNT} run, 0 failed");
    if !log.contains(banner) || !log.contains(&passed) {
        bail!("expected `{banner}` and `{passed}`; log:\n{log}");
    }
    Ok(())
}

/// `ips` is also the rate of the TSC: low enough that a second does not take too many instructions.
fn configuration(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "display_library: term\n\
         romimage: file=/usr/share/bochs/BIOS-bochs-latest\n\
         vgaromimage: file=/usr/share/vgabios/vgabios.bin\n\
         cpu: model=corei7_icelake_u, count=2, ips=50000000, reset_on_triple_fault=0, ignore_bad_msrs=1\n\
         megs: 256\n\
         clock: sync=none\n\
         ata0-master: type=cdrom, path={folder}/tacet.iso, status=inserted\n\
         boot: cdrom\n\
         com1: enabled=1, mode=file, dev={folder}/serial\n\
         log: {folder}/log\n\
         panic: action=fatal\n\
         error: action=ignore\n\
         info: action=ignore\n"
    )
}
