//! What starts a thread, a process or a program, and waits until it has ended.

use std::io;
use std::process::Command;

use fwq::error::Result;
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork};

use crate::{Bench, Share};

fn fork_and_wait() -> io::Result<()> {
    // SAFETY: the child does nothing but end, by a system call.
    match unsafe { fork()? } {
        ForkResult::Parent { child } => Ok(waitpid(child, None).map(|_| ())?),
        // SAFETY: ends the process at once, without running what was registered for its end.
        ForkResult::Child => unsafe { libc::_exit(0) },
    }
}

fn program(name: &str, arguments: &[&str]) -> io::Result<()> {
    let status = Command::new(name).args(arguments).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("{name} ended with {status}"))) }
}

pub fn measure(bench: &mut Bench) -> Result<()> {
    bench.measure::<19>("thread: create and join", Share::Tenth, |_| {
        std::thread::spawn(|| ()).join().map_err(|_| io::Error::other("the thread panicked"))
    })?;
    bench.measure::<20>("fork, exit, wait", Share::Tenth, |_| fork_and_wait())?;
    bench.measure::<21>("vfork, exec /bin/true, wait", Share::Hundredth, |_| program("/bin/true", &[]))?;
    bench.measure::<22>("python3 -c pass", Share::Hundredth, |_| program("python3", &["-c", "pass"]))
}
