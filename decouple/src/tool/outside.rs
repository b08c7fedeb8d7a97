//! A command that is decoupled from outside: started as a child, signals passed on, its status handed back.

use crate::cores::CoreList;
use crate::driver::Driver;
use crate::error::Error;
use crate::place::{self, Target};
use crate::state::Sysfs;
use crate::tool::launch::{Command, arguments_of, not_executable};
use crate::tool::system;
use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, execve, fork};
use std::fs::File;
use std::io::{self, Read};

/// Signals that are meant for the command when somebody sends them to us.
const PASSED_ON: [Signal; 7] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGCONT,
];

/// The running command.
pub struct Child(Pid);

fn waited_for() -> SigSet {
    let mut set: SigSet = PASSED_ON.into_iter().collect();
    set.add(Signal::SIGCHLD);
    set
}

impl Child {
    /// Starts the command and stops it when its exec is done, before its first instruction.
    pub fn start(command: &Command) -> Result<Self, Error> {
        let (path, arguments, environment) =
            arguments_of(command, Vec::new()).map_err(|error| not_executable(command, &error))?;
        let (told, tell) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(system("cannot make a pipe"))?;
        let mut before = SigSet::empty();
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&waited_for()), Some(&mut before))
            .map_err(system("cannot block signals"))?;
        // SAFETY: this program has one thread, so the child may do everything.
        match unsafe { fork() }.map_err(system("cannot start a process"))? {
            ForkResult::Child => {
                let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&before), None);
                let _ = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL);
                let errno = match ptrace::traceme().and_then(|()| execve(&path, &arguments, &environment)) {
                    Err(errno) => errno,
                    Ok(never) => match never {},
                };
                let _ = nix::unistd::write(&tell, &(errno as i32).to_ne_bytes());
                // SAFETY: ends the child without the parent's exit handlers.
                unsafe { libc::_exit(126) }
            }
            ForkResult::Parent { child } => {
                drop(tell);
                Self::stopped(child)?.ok_or_else(|| {
                    let mut errno = [0; 4];
                    let reason = match File::from(told).read_exact(&mut errno) {
                        Ok(()) => io::Error::from_raw_os_error(i32::from_ne_bytes(errno)),
                        Err(_) => io::Error::other("ended before it began"),
                    };
                    not_executable(command, &reason)
                })
            }
        }
    }

    /// Waits for the stop that an exec under tracing makes. `None`: it ended instead.
    fn stopped(child: Pid) -> Result<Option<Self>, Error> {
        loop {
            match waitpid(child, None).map_err(system("cannot wait for the command"))? {
                WaitStatus::Stopped(_, Signal::SIGTRAP) => return Ok(Some(Child(child))),
                WaitStatus::Stopped(_, signal) => {
                    ptrace::cont(child, signal).map_err(system("cannot continue the command"))?;
                }
                WaitStatus::Exited(..) | WaitStatus::Signaled(..) => return Ok(None),
                _ => {}
            }
        }
    }

    /// Lets the stopped command run.
    pub fn go_on(&self) -> Result<(), Error> {
        ptrace::detach(self.0, None).map_err(system("cannot continue the command"))
    }

    pub fn pid(&self) -> i32 {
        self.0.as_raw()
    }

    /// Decouples the command's main thread.
    pub fn decouple(
        &self,
        driver: &dyn Driver,
        sysfs: &Sysfs,
        cores: &CoreList,
        reservation: Option<i32>,
    ) -> Result<u32, Error> {
        place::attach(driver, sysfs, Target::Main(self.pid()), cores, reservation)
    }

    /// Ends the command.
    pub fn kill(self) -> Result<(), Error> {
        let _ = kill(self.0, Signal::SIGKILL);
        waitpid(self.0, None).map_err(system("cannot wait for the command"))?;
        Ok(())
    }

    /// Waits for the end of the command and passes signals on meanwhile. Returns its exit status, or 128 + its signal.
    pub fn wait(self) -> Result<u8, Error> {
        loop {
            match waitpid(self.0, Some(WaitPidFlag::WNOHANG)).map_err(system("cannot wait for the command"))? {
                WaitStatus::Exited(_, status) => return Ok(status as u8),
                WaitStatus::Signaled(_, signal, _) => return Ok(128 + signal as u8),
                _ => {}
            }
            // SAFETY: all zero is a valid siginfo_t.
            let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
            let set = waited_for();
            // SAFETY: both point to valid values.
            let signal = unsafe { libc::sigwaitinfo(set.as_ref(), &mut info) };
            // What the terminal sends (SI_KERNEL) reaches the command anyway: it is in the same process group.
            if let Ok(signal) = Signal::try_from(signal)
                && signal != Signal::SIGCHLD
                && info.si_code != libc::SI_KERNEL
            {
                match kill(self.0, signal) {
                    Ok(()) | Err(Errno::ESRCH) => {}
                    Err(errno) => return Err(system("cannot pass a signal on")(errno)),
                }
            }
        }
    }
}
