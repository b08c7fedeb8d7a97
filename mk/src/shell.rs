//! `mk shell` and `mk boot`: a system on this terminal.

use crate::build::Builder;
use crate::child::{Running, interrupted};
use crate::qemu::{self, Accelerator, Firmware, Machine, System};
use anyhow::{Context, Result, bail};
use fs_err as fs;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use std::io::{IsTerminal, Read, Write, stdin, stdout};
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// Ctrl-] ends the machine, as it ends telnet and `virsh console`.
const ESCAPE: u8 = 0x1d;

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Which {
    /// Linux on Tacet
    Tacet,
    /// Debian's own kernel
    Vendor,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Loader {
    /// QEMU loads the microkernel
    Direct,
    /// GRUB does, from an ISO, started by a BIOS
    Bios,
    /// GRUB does, from an ISO, started by UEFI
    Uefi,
}

#[derive(clap::Args)]
#[command(after_help = "\
The disk stays from one time to the next; --fresh begins with a new one. `exit` or Ctrl-D powers off in order, Ctrl-] \
switches off at once. ssh to the printed port of this machine's loopback address logs in, too. Exit status: 0 orderly \
power-off, 1 the system crashed, 2 any other error.

Examples:
  mk shell                       then: mpirun -n 2 decouple mpi-fwq --mode step --samples 1000 --out . --json a.json
  mk shell --fresh
  mk shell --system vendor       the same image on Debian's kernel
  mk boot --loader uefi          from an ISO, as a real machine would
  mk shell --cores 5 -- -m 4G    four compute cores, more memory")]
pub struct Arguments {
    /// Cores of the emulated machine
    #[arg(long, default_value_t = 3)]
    cores: u32,
    /// Service cores among them
    #[arg(long, default_value_t = 1)]
    service: u32,
    /// Which system
    #[arg(long, value_enum, default_value_t = Which::Tacet)]
    system: Which,
    /// How Tacet is loaded
    #[arg(long, value_enum, default_value_t = Loader::Direct)]
    loader: Loader,
    /// Begin with a new disk
    #[arg(long)]
    fresh: bool,
    /// How QEMU executes
    #[arg(long, value_enum, default_value_t = Accelerator::Tcg)]
    accel: Accelerator,
    /// Memory of the emulated machine
    #[arg(long, default_value = "1G")]
    memory: String,
    /// Passed to QEMU unchanged
    #[arg(last = true)]
    qemu: Vec<String>,
}

impl Arguments {
    /// Refuses what needs no build to be refused.
    pub fn check(&self) -> Result<()> {
        if !(1..=64).contains(&self.cores) || self.service == 0 || self.service > self.cores {
            bail!(
                "--cores {} --service {}: 1 to 64 cores, at least one and at most all of them service cores",
                self.cores,
                self.service
            );
        }
        if self.system == Which::Vendor && self.wants_iso() {
            bail!("--loader is for Tacet: vendor Linux is loaded by QEMU");
        }
        Ok(())
    }

    /// Whether an ISO is to be made.
    pub fn wants_iso(&self) -> bool {
        self.loader != Loader::Direct
    }
}

/// Boots and gives the console until the machine ends.
pub fn run(builder: &Builder, options: &Arguments) -> Result<ExitCode> {
    options.check()?;
    let image = builder.image()?;
    let (disk, _lock) = disk(builder, &image, options.fresh)?;
    let machine = Machine {
        cores: options.cores,
        memory: options.memory.clone(),
        accelerator: options.accel,
        extra: options.qemu.clone(),
    };
    let log = builder.cache().work("logs")?.join("shell-serial.log");
    // Free now; QEMU says so if somebody takes it first.
    let port =
        TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).context("no free TCP port")?.port();
    let mut command = machine.command(&log);
    qemu::disk(&mut command, "d0", &disk, "");
    qemu::console(&mut command);
    qemu::network(&mut command, Some(port));
    let words = format!("tacet_ssh {}", terminal_words());
    let folder =
        tempfile::Builder::new().prefix("tacet-shell-").tempdir().context("cannot create a temporary folder")?;
    match options.system {
        Which::Tacet => {
            let (kernel, archive) = builder.tacet_archive()?;
            let service_cores = options.service;
            let firmware = match options.loader {
                Loader::Direct => None,
                Loader::Bios => Some(Firmware::Bios),
                Loader::Uefi => Some(Firmware::Uefi),
            };
            let system = match firmware {
                None => System::Tacet { kernel: &kernel, archive: &archive, service_cores },
                Some(firmware) => System::TacetIso { kernel: &kernel, archive: &archive, service_cores, firmware },
            };
            system.boot(&mut command, &words, folder.path())?;
        }
        Which::Vendor => {
            let kernel = builder.vendor()?;
            System::Vendor { kernel: &kernel, arguments: "tsc=reliable" }.boot(&mut command, &words, folder.path())?;
        }
    }
    command.args(&machine.extra);
    eprintln!(
        "mk: booting; `exit` powers off, Ctrl-] switches off; ssh -p {port} root@127.0.0.1 from another terminal"
    );
    let code = attach(command)?;
    match (options.system, code) {
        (_, Some(0 | 1)) => Ok(ExitCode::SUCCESS),
        (_, Some(ESCAPED)) => Ok(ExitCode::SUCCESS),
        (Which::Tacet, code) => {
            eprintln!("mk: {} (log: {})", qemu::describe_exit(code), log.display());
            Ok(ExitCode::from(1))
        }
        (Which::Vendor, code) => {
            eprintln!("mk: QEMU ended with status {code:?} (log: {})", log.display());
            Ok(ExitCode::from(1))
        }
    }
}

/// The disk of the shell: a copy of the image that keeps what is written to it. Only one mk at a time may use it.
fn disk(builder: &Builder, image: &Path, fresh: bool) -> Result<(PathBuf, std::fs::File)> {
    let lock = builder.cache().lock("shell")?;
    let folder = builder.cache().work("shell")?;
    let disk = folder.join("disk.ext4");
    let origin = folder.join("image");
    let name = image.display().to_string();
    if fresh || !disk.is_file() {
        let new = folder.join("disk.new");
        let status = Command::new("cp").args(["--sparse=always", "--reflink=auto"]).arg(image).arg(&new).status()?;
        if !status.success() {
            bail!("cannot copy the image to {}", new.display());
        }
        fs::rename(&new, &disk)?;
        fs::write(&origin, &name)?;
    } else if fs::read_to_string(&origin).unwrap_or_default() != name {
        eprintln!("mk: the shell's disk is from an older build of the image; --fresh begins with a new one");
    }
    Ok((disk, lock))
}

/// What the inside must know of this terminal.
fn terminal_words() -> String {
    let mut words = String::new();
    if let Ok(term) = std::env::var("TERM")
        && term.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    {
        words.push_str(&format!("tacet_term={term} "));
    }
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one winsize to the address, which is one.
    let known = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size) } == 0;
    if known && size.ws_row > 0 && size.ws_col > 0 {
        words.push_str(&format!("tacet_size={}x{}", size.ws_row, size.ws_col));
    }
    words
}

/// A terminal in raw mode until dropped.
struct Raw {
    before: Option<Termios>,
}

impl Raw {
    fn enter() -> Self {
        if !stdin().is_terminal() {
            return Self { before: None };
        }
        let Ok(before) = tcgetattr(stdin()) else { return Self { before: None } };
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        // A terminal that refuses stays as it is, which is usable.
        let _ = tcsetattr(stdin(), SetArg::TCSANOW, &raw);
        Self { before: Some(before) }
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(stdin(), SetArg::TCSADRAIN, before);
        }
    }
}

/// The exit status that stands for "switched off from the keyboard".
const ESCAPED: i32 = 1000;

/// Connects this terminal with QEMU's console until it ends; QEMU's exit status. QEMU has a process group of its own and so
/// cannot read the terminal itself.
fn attach(mut command: Command) -> Result<Option<i32>> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut running = Running::start(&mut command, "QEMU")?;
    let mut keys = running.pipes().stdin.take().context("QEMU's input is a pipe")?;
    let mut screen = running.pipes().stdout.take().context("QEMU's output is a pipe")?;
    let _raw = Raw::enter();
    let mut buffer = [0; 4096];
    let mut typing = true;
    loop {
        if interrupted() {
            bail!("interrupted");
        }
        let (from_screen, from_keys) = {
            let screen_fd = screen.as_fd();
            let terminal = stdin();
            let mut files = vec![PollFd::new(screen_fd, PollFlags::POLLIN)];
            if typing {
                files.push(PollFd::new(terminal.as_fd(), PollFlags::POLLIN));
            }
            match poll(&mut files, PollTimeout::from(500u16)) {
                Ok(_) => {}
                Err(nix::errno::Errno::EINTR) => continue,
                Err(error) => return Err(error).context("cannot wait for the console"),
            }
            let ready = |index: usize| {
                files.get(index).and_then(|file| file.revents()).is_some_and(|events| !events.is_empty())
            };
            (ready(0), ready(1))
        };
        if from_screen {
            let count = screen.read(&mut buffer).context("cannot read the console")?;
            if count == 0 {
                break;
            }
            stdout()
                .write_all(&buffer[..count])
                .and_then(|()| stdout().flush())
                .context("cannot write to the terminal")?;
        }
        if from_keys {
            let count = stdin().lock().read(&mut buffer).unwrap_or(0);
            if count == 0 {
                typing = false;
            } else if stdin().is_terminal() && buffer[..count].contains(&ESCAPE) {
                running.terminate();
                return Ok(Some(ESCAPED));
            } else if keys.write_all(&buffer[..count]).is_err() {
                typing = false;
            }
        }
    }
    match running.wait_until(Instant::now() + Duration::from_secs(20), || {})? {
        Some(status) => Ok(status.code()),
        None => bail!("QEMU closed its console but did not end"),
    }
}
