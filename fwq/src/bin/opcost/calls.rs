//! System calls that neither map memory nor wait for anybody.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;

use fwq::error::{Error, Result};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill, sigaction};
use nix::unistd::Pid;

use crate::{Bench, Share};

const BLOCK: usize = 4096;

extern "C" fn ignore(_: libc::c_int) {}

fn open(path: &str, write: bool) -> Result<File> {
    File::options().read(!write).write(write).open(path).map_err(|e| Error::file(path.as_ref(), e))
}

fn file_of_one_block() -> Result<File> {
    let in_tmp = |e| Error::file(&std::env::temp_dir(), e);
    let mut file = tempfile::tempfile().map_err(in_tmp)?;
    file.write_all(&[1; BLOCK]).map_err(in_tmp)?;
    Ok(file)
}

pub fn measure(bench: &mut Bench) -> Result<()> {
    let (mut zero, mut null) = (open("/dev/zero", false)?, open("/dev/null", true)?);
    let file = file_of_one_block()?;
    let (mut byte, mut block, mut large) = ([0], [0; BLOCK], vec![0; 65_536]);
    let word = 0u32;

    bench.measure::<1>("getppid", Share::All, |_| {
        nix::unistd::getppid();
        Ok(())
    })?;
    bench.measure::<2>("read 1 B of /dev/zero", Share::All, |_| zero.read_exact(&mut byte))?;
    bench.measure::<3>("read 64 KiB of /dev/zero", Share::All, |_| zero.read_exact(&mut large))?;
    bench.measure::<4>("write 1 B to /dev/null", Share::All, |_| null.write_all(&[1]))?;
    bench.measure::<5>("stat", Share::All, |_| Ok(nix::sys::stat::stat("/etc/passwd").map(|_| ())?))?;
    bench.measure::<6>("open and close", Share::All, |_| File::open("/etc/passwd").map(drop))?;
    bench.measure::<7>("pread 4 KiB", Share::All, |_| file.read_exact_at(&mut block, 0))?;
    bench.measure::<8>("pwrite 4 KiB", Share::All, |_| file.write_all_at(&block, 0))?;
    bench.measure::<9>("sched_yield", Share::All, |_| Ok(nix::sched::sched_yield()?))?;
    bench.measure::<10>("futex: wake nobody", Share::All, |_| {
        // SAFETY: FUTEX_WAKE reads no memory; the address names a word that outlives the call.
        let woken =
            unsafe { libc::syscall(libc::SYS_futex, &raw const word, libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, 1) };
        if woken < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
    })?;

    let action = SigAction::new(SigHandler::Handler(ignore), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing, so it may interrupt anything.
    unsafe { sigaction(Signal::SIGUSR1, &action) }.map_err(|e| failed("sigaction", e))?;
    let me = Pid::this();
    bench.measure::<11>("signal to self", Share::All, |_| Ok(kill(me, Signal::SIGUSR1)?))
}

fn failed(name: &str, reason: nix::Error) -> Error {
    Error::Operation { name: name.into(), reason: reason.into() }
}
