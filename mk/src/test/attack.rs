//! Faults of the kernel's own that its memory protection stops: the checked kernel tries each, and must panic at it.

use super::kernel::{KERNEL_PANIC, to_the_end};
use crate::build::Builder;
use crate::qemu::{Accelerator, Machine};
use anyhow::{Result, bail};
use fs_err as fs;

/// Word of the command line, and what the panic says: the exception, and the error code of a page fault (SDM vol. 3, 4.7:
/// bit 0 the page is there, 1 write, 4 instruction fetch). Where a stack is full, its fault finds no room for its frame.
const ATTACKS: &[(&str, &str)] = &[
    ("write-text", "exception 14, error 0x3"),
    ("write-text-directly", "exception 14, error 0x3"),
    ("run-data", "exception 14, error 0x11"),
    ("run-directly", "exception 14, error 0x11"),
    ("read-user", "exception 14, error 0x1\n"),
    ("run-user", "exception 14, error 0x11"),
    ("fill-boot-stack", "exception 8, error 0x0\nthe kernel stack is full"),
    ("fill-stack", "exception 8, error 0x0\nthe kernel stack is full"),
];

pub fn all(builder: &Builder) -> Result<()> {
    let kernel = builder.checked_kernel()?;
    let folder = tempfile::tempdir()?;
    let (serial, archive) = (folder.path().join("log"), folder.path().join("archive.cpio"));
    fs::write(&archive, kernel.archive()?)?;
    let machine = Machine { cores: 2, memory: "256M".into(), accelerator: Accelerator::Tcg, extra: Vec::new() };
    for (name, says) in ATTACKS {
        let mut command = machine.command(&serial);
        command.arg("-kernel").arg(&kernel.microkernel).arg("-initrd").arg(&archive);
        command.args(["-append", &format!("tacet.attack={name}")]);
        let (code, log) = to_the_end(command, &serial)?;
        if code != Some(KERNEL_PANIC) || !log.contains(says) || log.contains("the attack succeeded") {
            bail!("{name}: expected `{says}`, saw {code:?} and\n{log}");
        }
    }
    Ok(())
}
