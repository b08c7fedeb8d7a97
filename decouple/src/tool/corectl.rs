//! `corectl`: list, show, reserve, release and reset compute cores.

use crate::cores::CoreList;
use crate::driver::{Device, Driver};
use crate::error::Error;
use crate::place::{self, Target};
use crate::reservation;
use crate::state::{Machine, Sysfs};
use crate::tool::report::{self, Report};
use crate::tool::{Host, core_list, launch, program, system};
use clap::{Parser, Subcommand};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::{ForkResult, Pid, fork};
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

const EXAMPLES: &str = "\
Examples:
  corectl list                             every core, its role, its owner
  corectl list --free                      the free compute cores as a list, for -c
  corectl reserve 1-2 -- mpirun -n 2 decouple ./solver
                                           reserved as long as mpirun runs, for its ranks only
  eval \"$(corectl reserve auto:2 --sh)\"    two cores for this shell's commands
  corectl release 1-2                      the cores of such a reservation
  corectl reset                            recouple everything, release everything

Exit status: 0 when it is done, that of COMMAND for reserve, 125 for every error.";

/// List and reserve compute cores.
#[derive(Debug, Parser)]
#[command(name = "corectl", version, after_help = EXAMPLES)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Every core, one a line
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Print only the free compute cores, as a list
        #[arg(long, conflicts_with = "json")]
        free: bool,
    },
    /// Everything about some cores
    Show {
        /// Cores (all if not given): a list 1-3,5 or a mask 0x2e
        cores: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Keep compute cores for a command, or until they are released
    Reserve {
        /// A list 1-3,5, a mask 0x2e, auto (all free ones), or auto:N (N free ones)
        cores: String,
        /// Wait at most SECONDS for the cores to become free
        #[arg(long, value_name = "SECONDS", default_value_t = 0.0)]
        wait: f64,
        /// Without COMMAND: print the shell commands that make this shell use the reservation
        #[arg(long, conflicts_with = "command")]
        sh: bool,
        /// Reserve while this command runs
        #[arg(last = true, value_name = "COMMAND")]
        command: Vec<OsString>,
    },
    /// Give up reservations
    Release {
        /// A list 1-3,5, a mask 0x2e, or all (those that corectl made)
        cores: String,
        /// Also reservations that belong to other programs
        #[arg(long)]
        force: bool,
    },
    /// Recouple every decoupled thread and give up every reservation
    Reset {
        /// Say what would be done, and do nothing
        #[arg(long)]
        dry_run: bool,
    },
}

/// The name (comm) of a process that holds a reservation without a command.
const HOLDER: &str = "corectl-hold";

/// How often a waiting `reserve` tries again.
const RETRY: Duration = Duration::from_millis(100);

/// Runs the tool; returns the exit status unless this process becomes the command.
pub fn run(arguments: Arguments, host: &dyn Host) -> Result<u8, Error> {
    host.driver(None)?;
    let sysfs = host.sysfs();
    match arguments.verb {
        Verb::List { json, free } => list(sysfs, json, free)?,
        Verb::Show { cores, json } => show(sysfs, cores.as_deref(), json)?,
        Verb::Reserve { cores, wait, sh, command } => {
            let wait = Duration::try_from_secs_f64(wait)
                .map_err(|_| Error::Usage(format!("--wait {wait} is not a number of seconds")))?;
            let deadline = Instant::now() + wait.min(Duration::from_secs(365 * 86400));
            match command.is_empty() {
                true => reserve_in_background(sysfs, &cores, deadline, sh)?,
                false => return Err(reserve_for(sysfs, &cores, deadline, command)?),
            }
        }
        Verb::Release { cores, force } => release(sysfs, &cores, force)?,
        Verb::Reset { dry_run } => reset(host, dry_run)?,
    }
    Ok(0)
}

fn list(sysfs: &Sysfs, json: bool, free: bool) -> Result<(), Error> {
    let machine = sysfs.machine()?;
    let report = Report::new(&machine, report::now_ns());
    match (json, free) {
        (true, _) => println!("{}", report.json()),
        (_, true) => println!("{}", free_cores(&machine, sysfs)),
        _ => print!("{}", report::list(&report, sysfs)),
    }
    Ok(())
}

fn free_cores(machine: &Machine, sysfs: &Sysfs) -> CoreList {
    let free = machine.compute.iter().filter(|core| sysfs.busy(core, None).is_none()).map(|core| core.core);
    CoreList::new(free.collect()).unwrap_or_default()
}

fn show(sysfs: &Sysfs, cores: Option<&str>, json: bool) -> Result<(), Error> {
    let machine = sysfs.machine()?;
    let mut report = Report::new(&machine, report::now_ns());
    if let Some(text) = cores {
        let wanted = core_list(text)?;
        let known = |core: u32| report.cores.iter().any(|row| row.core == core);
        if let Some(core) = wanted.as_slice().iter().copied().find(|core| !known(*core)) {
            return Err(Error::NoSuchCore { core, compute: machine.compute_list() });
        }
        report.cores.retain(|row| wanted.contains(row.core));
    }
    match json {
        true => println!("{}", report.json()),
        false => report.cores.iter().for_each(|row| print!("{}", report::show(row))),
    }
    Ok(())
}

/// `auto`, `auto:N` or a list, as things are now.
pub fn wanted(text: &str, machine: &Machine, sysfs: &Sysfs) -> Result<CoreList, Error> {
    machine.require_compute()?;
    let count = match text.strip_prefix("auto") {
        Some("") => None,
        Some(rest) => match rest.strip_prefix(':').and_then(|number| number.parse::<usize>().ok()) {
            Some(count) if count > 0 => Some(count),
            _ => return Err(Error::Usage(format!("'{text}' is not auto or auto:N with a number of cores from 1"))),
        },
        None => return core_list(text),
    };
    let free = free_cores(machine, sysfs);
    let have = free.as_slice().len();
    if have == 0 {
        place::require_free(machine, sysfs, &machine.compute_list(), None)?;
    }
    match count {
        None => Ok(free),
        Some(count) if count <= have => Ok(CoreList::new(free.as_slice()[..count].to_vec()).unwrap_or_default()),
        Some(count) => {
            let text = format!("{count} free compute cores are wanted, but only {have} ({free}) are free");
            Err(Error::Usage(text))
        }
    }
}

/// Reserves; tries again until `deadline` while somebody else has a core.
fn reserve(driver: &dyn Driver, sysfs: &Sysfs, text: &str, deadline: Instant) -> Result<CoreList, Error> {
    loop {
        let result = wanted(text, &sysfs.machine()?, sysfs)
            .and_then(|cores| reservation::reserve(driver, sysfs, &cores).map(|()| cores));
        match result {
            Err(error) if error.errno() == libc::EBUSY && Instant::now() < deadline => std::thread::sleep(RETRY),
            result => return result,
        }
    }
}

/// Reserves and becomes the command; the open device goes with it, so the cores are free when it ends.
fn reserve_for(sysfs: &Sysfs, text: &str, deadline: Instant, command: Vec<OsString>) -> Result<Error, Error> {
    let path = program::find(&command[0], std::env::var_os("PATH").as_deref())?;
    let device = Device::open()?;
    reserve(&device, sysfs, text, deadline)?;
    device.keep_across_exec().map_err(|source| Error::System { what: "cannot keep the reservation".into(), source })?;
    let holder = OsString::from(std::process::id().to_string());
    let command = launch::Command { path, arguments: command };
    Ok(launch::exec(&command, vec![(reservation::VARIABLE, holder)]))
}

/// Reserves and leaves a process behind that holds the cores.
fn reserve_in_background(sysfs: &Sysfs, text: &str, deadline: Instant, sh: bool) -> Result<(), Error> {
    let (told, tell) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(system("cannot make a pipe"))?;
    // SAFETY: this program has one thread, so the child may do everything.
    match unsafe { fork() }.map_err(system("cannot start the holder"))? {
        ForkResult::Child => {
            drop(told);
            // SAFETY: ends the holder without the parent's exit handlers.
            unsafe { libc::_exit(hold(sysfs, text, deadline, File::from(tell))) }
        }
        ForkResult::Parent { child } => {
            drop(tell);
            let mut answer = String::new();
            File::from(told)
                .read_to_string(&mut answer)
                .map_err(|source| Error::System { what: "cannot hear from the holder".into(), source })?;
            match (answer.split_once(' '), sh) {
                (Some(("reserved", _)), true) => println!("{0}={child}; export {0}", reservation::VARIABLE),
                (Some(("reserved", cores)), false) => println!(
                    "reserved cores {cores}: use them with --reservation {child}, give them up with corectl release {cores}"
                ),
                (Some(("failed", reason)), _) => return Err(Error::Usage(reason.to_string())),
                _ => return Err(Error::Usage("the holder of the reservation ended unexpectedly".to_string())),
            }
            Ok(())
        }
    }
}

/// The life of a holder: reserve, say so, wait for the end. Returns its exit status.
fn hold(sysfs: &Sysfs, text: &str, deadline: Instant, mut tell: File) -> i32 {
    let _ = nix::sys::prctl::set_name(&std::ffi::CString::new(HOLDER).unwrap_or_default());
    // The driver notes who reserves, so the holder does it itself.
    let reserved =
        Device::open().and_then(|device| reserve(&device, sysfs, text, deadline).map(|cores| (device, cores)));
    let _device = match reserved {
        Err(error) => {
            let _ = write!(tell, "failed {error}");
            return 1;
        }
        Ok((device, cores)) => {
            let mut set = SigSet::empty();
            set.add(Signal::SIGTERM);
            // Not the terminal's, nor whoever waits for our output.
            let detached = nix::unistd::setsid().is_ok()
                && nix::unistd::chdir("/").is_ok()
                && set.thread_block().is_ok()
                && to_null();
            if !detached {
                let _ = write!(tell, "failed cannot go into the background");
                return 1;
            }
            if write!(tell, "reserved {cores}").is_err() {
                return 1;
            }
            drop(tell);
            while set.wait() == Err(nix::errno::Errno::EINTR) {}
            device
        }
    };
    0
}

/// Lets go of standard input, output and error.
fn to_null() -> bool {
    let Ok(null) = File::options().read(true).write(true).open("/dev/null") else { return false };
    nix::unistd::dup2_stdin(&null).is_ok()
        && nix::unistd::dup2_stdout(&null).is_ok()
        && nix::unistd::dup2_stderr(&null).is_ok()
}

fn release(sysfs: &Sysfs, text: &str, force: bool) -> Result<(), Error> {
    let machine = sysfs.machine()?;
    let reserved = |core: u32| machine.core(core).and_then(|core| core.reserved_by);
    let cores = match text {
        "all" => machine
            .compute
            .iter()
            .filter(|core| core.reserved_by.is_some_and(|holder| force || sysfs.process(holder).comm == HOLDER))
            .map(|core| core.core)
            .collect(),
        list => {
            let cores = core_list(list)?;
            machine.check(&cores)?;
            cores.as_slice().to_vec()
        }
    };
    // All is checked before anything is released.
    let mut holders: Vec<(i32, Vec<u32>)> = Vec::new();
    for core in cores {
        let holder = reserved(core).ok_or(Error::NotReserved(core))?;
        let owner = sysfs.process(holder);
        if owner.comm != HOLDER && !force {
            return Err(Error::ForeignReservation { core, owner });
        }
        match holders.iter_mut().find(|(pid, _)| *pid == holder) {
            Some((_, cores)) => cores.push(core),
            None => holders.push((holder, vec![core])),
        }
    }
    for (holder, cores) in holders {
        release_of(sysfs, holder, cores)?;
    }
    Ok(())
}

/// Releases `cores` of what `holder` reserved, and ends a holder of ours that has nothing left.
fn release_of(sysfs: &Sysfs, holder: i32, cores: Vec<u32>) -> Result<(), Error> {
    let device = reservation::adopt(sysfs, holder)?;
    reservation::release(&device, sysfs, &CoreList::new(cores).unwrap_or_default())?;
    drop(device);
    let left = sysfs.machine()?.compute.iter().any(|core| core.reserved_by == Some(holder));
    if !left && sysfs.process(holder).comm == HOLDER {
        kill(Pid::from_raw(holder), Signal::SIGTERM).map_err(system(format!("cannot end the holder, PID {holder}")))?;
    }
    Ok(())
}

/// Does as much as it may; the first thing that it may not is the error.
fn reset(host: &dyn Host, dry_run: bool) -> Result<(), Error> {
    let sysfs = host.sysfs();
    let machine = sysfs.machine()?;
    let driver = host.driver(None)?;
    let mut result = Ok(());
    for core in machine.compute.iter().filter(|core| core.state.occupied()) {
        let (Some(pid), Some(tid)) = (core.pid, core.tid) else { continue };
        println!("core {}: recouple thread {tid} of {}", core.core, sysfs.process(pid));
        if !dry_run {
            let done = match place::detach(driver.as_ref(), sysfs, Target::Thread { pid, tid }) {
                // Gone by itself meanwhile.
                Err(Error::NoSuchProcess(_) | Error::NoSuchThread { .. } | Error::NotDecoupled { .. }) => Ok(()),
                done => done,
            };
            result = result.and(done);
        }
    }
    let mut holders: Vec<i32> = machine.compute.iter().filter_map(|core| core.reserved_by).collect();
    holders.dedup();
    for holder in holders {
        let cores: Vec<u32> =
            machine.compute.iter().filter(|core| core.reserved_by == Some(holder)).map(|core| core.core).collect();
        let list = CoreList::new(cores.clone()).unwrap_or_default();
        println!("core {list}: release the reservation of {}", sysfs.process(holder));
        if !dry_run {
            let done = match release_of(sysfs, holder, cores) {
                Err(Error::ReservationGone(_)) => Ok(()),
                done => done,
            };
            result = result.and(done);
        }
    }
    result
}

#[cfg(test)]
#[path = "corectl_tests.rs"]
mod tests;
