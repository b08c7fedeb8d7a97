//! Programs that mk starts. Each leads a process group of its own; when mk ends, by a signal too, the groups end with it.

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
static GROUPS: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// Whether SIGINT, SIGTERM or SIGHUP came. Long loops ask and return an error, so that half-made files are removed.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

/// From now on the signals end all started programs; what waited for them then fails and mk winds up in order.
pub fn die_cleanly_on_signals() {
    let handler = || {
        INTERRUPTED.store(true, Ordering::SeqCst);
        for group in GROUPS.lock().unwrap_or_else(|e| e.into_inner()).iter() {
            // The group may be gone already.
            let _ = killpg(*group, Signal::SIGKILL);
        }
    };
    ctrlc::set_handler(handler).expect("no other handler is set");
}

/// A started program. Dropping it kills its process group.
pub struct Running {
    child: Child,
    group: Pid,
    what: String,
    ended: bool,
}

impl Running {
    /// Starts `command`. Fails if it cannot be started or mk was interrupted; `what` names it in messages.
    pub fn start(command: &mut Command, what: impl Into<String>) -> Result<Self> {
        let what = what.into();
        if interrupted() {
            bail!("interrupted before {what}");
        }
        // SAFETY: prctl is async-signal-safe and touches nothing of the parent's.
        unsafe {
            command.process_group(0).pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let mut groups = GROUPS.lock().unwrap_or_else(|e| e.into_inner());
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {} ({what})", command.get_program().to_string_lossy()))?;
        let group = Pid::from_raw(child.id() as i32);
        groups.push(group);
        drop(groups);
        Ok(Self { child, group, what, ended: false })
    }

    /// The pipes, where the command asked for them.
    pub fn pipes(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Waits for the end. An interrupt of mk is an error.
    pub fn wait(mut self) -> Result<ExitStatus> {
        let status = self.child.wait().with_context(|| format!("cannot wait for {}", self.what))?;
        self.ended = true;
        if interrupted() {
            bail!("interrupted during {}", self.what);
        }
        Ok(status)
    }

    /// As [`Self::wait`], but at most until `deadline`; then the program is killed and the answer is `None`.
    /// `each` is called about ten times a second.
    pub fn wait_until(mut self, deadline: Instant, mut each: impl FnMut()) -> Result<Option<ExitStatus>> {
        loop {
            if let Some(status) = self.child.try_wait().with_context(|| format!("cannot wait for {}", self.what))? {
                self.ended = true;
                if interrupted() {
                    bail!("interrupted during {}", self.what);
                }
                return Ok(Some(status));
            }
            if interrupted() {
                bail!("interrupted during {}", self.what);
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            each();
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until the program ends or `deadline` comes, as long as `go_on` says so; then the program is killed.
    pub fn wait_while(mut self, deadline: Instant, go_on: impl Fn() -> bool) -> Result<()> {
        while Instant::now() < deadline && go_on() {
            if interrupted() {
                bail!("interrupted during {}", self.what);
            }
            if self.child.try_wait().with_context(|| format!("cannot wait for {}", self.what))?.is_some() {
                self.ended = true;
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// Asks the program to end (SIGTERM), as QEMU does in order.
    pub fn terminate(&self) {
        // It may be gone already.
        let _ = killpg(self.group, Signal::SIGTERM);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut groups = GROUPS.lock().unwrap_or_else(|e| e.into_inner());
        // What the program left behind in its group goes too.
        let _ = killpg(self.group, Signal::SIGKILL);
        if !self.ended {
            let _ = self.child.wait();
        }
        groups.retain(|group| *group != self.group);
    }
}
