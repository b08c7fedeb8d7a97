//! `decouple COMMAND` and `decouple -p PID`.

use crate::cores::CoreList;
use crate::error::Error;
use crate::place::{self, Target};
use crate::plan::{self, Policy, When};
use crate::rank::{self, Launch, LocalRank};
use crate::state::{Machine, Sysfs};
use crate::tool::{Host, core_list, launch, program, reservation_holder};
use clap::{Args, Parser};
use std::ffi::OsString;
use std::path::Path;

const EXAMPLES: &str = "\
Examples:
  mpirun -n 2 decouple ./mpi-fwq --mode step   one rank on each compute core, from the end of MPI_Init on
  decouple ./solver                            the first free compute core, from the start
  decouple -c 2,5-7 -v ./solver                the first free one of these; says which
  decouple -p 4711                             the main thread of a running process
  decouple -p 4711 -t all                      all its threads, one core each
  decouple status                              who is on which core (--json, --watch)
  recouple -p 4711                             back to Linux

Exit status: that of COMMAND (128+N if signal N ended it); 125 if decouple itself failed,
126 if COMMAND cannot be executed, 127 if it was not found.

Environment: DECOUPLE=require|prefer|off is the policy where --policy is not given;
DECOUPLE_RESERVATION=PID as --reservation.";

/// Run a command, or a running process, on silent compute cores.
///
/// The main thread leaves Linux's service cores and goes on alone on a compute core; its system calls and faults are
/// answered by Linux. Programs started by an MPI launcher are decoupled when MPI_Init returns, all others at their
/// start. An MPI rank gets the core at its place in the list, everybody else the first free one.
#[derive(Debug, Parser)]
#[command(name = "decouple", version, after_help = EXAMPLES)]
#[command(
    override_usage = "decouple [OPTIONS] COMMAND [ARGS]...\n       decouple [OPTIONS] -p PID [-t main|all|TID,...]\n       decouple status [--json] [--watch[=SECONDS]]"
)]
pub struct Arguments {
    /// Cores to choose from: a list 1-3,5, a mask 0x2e, or auto (all compute cores)
    #[arg(short, long, value_name = "LIST", default_value = "auto", allow_hyphen_values = true)]
    cores: String,
    /// Decouple this running process instead of starting a command
    #[arg(short, long, value_name = "PID", value_parser = clap::value_parser!(i32).range(1..), conflicts_with = "command")]
    pid: Option<i32>,
    /// With -p: which threads, main (the default), all, or TIDs
    #[arg(short, long, value_name = "main|all|TID,...", requires = "pid", conflicts_with = "command")]
    threads: Option<String>,
    #[command(flatten)]
    when: WhenArguments,
    /// What to do if it cannot be decoupled: require (fail), prefer (warn, run on Linux), off (do not try)
    #[arg(long, value_name = "POLICY")]
    policy: Option<Policy>,
    /// Use cores that this process reserved (see corectl reserve)
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(i32).range(1..))]
    reservation: Option<i32>,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Say what is done
    #[arg(short, long)]
    verbose: bool,
    /// The command and its arguments
    #[arg(value_name = "COMMAND", trailing_var_arg = true, required_unless_present = "pid")]
    command: Vec<OsString>,
}

#[derive(Debug, Args)]
#[group(multiple = false, conflicts_with = "pid")]
struct WhenArguments {
    /// Decouple the command at its start, before main
    #[arg(long)]
    now: bool,
    /// Decouple the command when MPI_Init returns
    #[arg(long)]
    after_init: bool,
}

/// What the command line and the environment ask for, understood.
struct Wish {
    cores: Option<CoreList>,
    reservation: Option<i32>,
}

/// Runs the tool; returns the exit status unless this process becomes the command.
pub fn run(arguments: Arguments, host: &dyn Host) -> Result<u8, Error> {
    let policy = policy(arguments.policy)?;
    let wish = Wish {
        cores: match arguments.cores.as_str() {
            "auto" => None,
            list => Some(core_list(list)?),
        },
        reservation: reservation_holder(arguments.reservation)?,
    };
    match arguments.pid {
        Some(pid) => attach_running(&arguments, pid, policy, &wish, host),
        None => start(&arguments, policy, &wish, host),
    }
}

fn policy(option: Option<Policy>) -> Result<Policy, Error> {
    match (option, std::env::var(plan::POLICY_VARIABLE)) {
        (Some(policy), _) => Ok(policy),
        (None, Ok(text)) => text.parse().map_err(|reason| Error::Usage(format!("{}: {reason}", plan::POLICY_VARIABLE))),
        (None, Err(_)) => Ok(Policy::Require),
    }
}

fn warn(what: &str, error: &Error) {
    eprintln!("decouple: warning: {what} runs undecoupled: {error}");
}

/// All that has to be known before the command is executed.
struct Prepared {
    kind: program::Kind,
    when: When,
    cores: CoreList,
}

fn start(arguments: &Arguments, policy: Policy, wish: &Wish, host: &dyn Host) -> Result<u8, Error> {
    let search = std::env::var_os("PATH");
    let path = program::find(&arguments.command[0], search.as_deref())?;
    let kind = program::inspect(&path, search.as_deref())?;
    let name = arguments.command[0].to_string_lossy().into_owned();
    let prepared = match policy {
        Policy::Off => None,
        _ => match prepare(arguments, kind, &name, wish, host) {
            Ok(prepared) => Some(prepared),
            Err(error) if policy == Policy::Prefer => {
                warn(&name, &error);
                None
            }
            Err(error) => return Err(error),
        },
    };
    if arguments.dry_run {
        println!("{}", describe(&path, &name, prepared.as_ref()));
        return Ok(0);
    }
    let command = launch::Command { path, arguments: arguments.command.clone() };
    let Some(prepared) = prepared else { return Err(launch::exec(&command, Vec::new())) };
    let order = launch::Order {
        when: prepared.when,
        policy,
        cores: prepared.cores,
        reservation: wish.reservation,
        verbose: arguments.verbose,
    };
    match prepared.kind {
        program::Kind::Preload => match launch::preloaded(&command, &order) {
            Err(error) if policy == Policy::Prefer && error.status() == 125 => {
                warn(&name, &error);
                Err(launch::exec(&command, Vec::new()))
            }
            other => other,
        },
        program::Kind::Outside(_) | program::Kind::Never(_) => {
            let driver = host.driver(wish.reservation)?;
            launch::from_outside(&command, &order, driver.as_ref(), host.sysfs())
        }
    }
}

fn prepare(
    arguments: &Arguments,
    kind: program::Kind,
    name: &str,
    wish: &Wish,
    host: &dyn Host,
) -> Result<Prepared, Error> {
    // Opened for the check alone: the command opens its own.
    host.driver(wish.reservation)?;
    if let program::Kind::Never(reason) = kind {
        return Err(Error::Usage(format!("{name} cannot be decoupled, because {reason}")));
    }
    let launch = rank::detect(|name| std::env::var(name).ok())?;
    let when = when(&arguments.when, &launch);
    if let (program::Kind::Outside(reason), When::AfterInit) = (&kind, when) {
        return Err(Error::Usage(format!(
            "cannot wait for MPI_Init in {name}, because {reason}; use --now to decouple it at its start"
        )));
    }
    let machine = host.sysfs().machine()?;
    let cores = choose(&machine, host.sysfs(), wish, launch.local)?;
    Ok(Prepared { kind, when, cores })
}

fn when(asked: &WhenArguments, launch: &Launch) -> When {
    match launch.mpi {
        _ if asked.now => When::Now,
        _ if asked.after_init => When::AfterInit,
        true => When::AfterInit,
        false => When::Now,
    }
}

fn choose(machine: &Machine, sysfs: &Sysfs, wish: &Wish, rank: Option<LocalRank>) -> Result<CoreList, Error> {
    let cores = place::candidates(machine, wish.cores.as_ref(), rank, wish.reservation)?;
    place::require_free(machine, sysfs, &cores, wish.reservation)?;
    Ok(cores)
}

fn describe(path: &Path, name: &str, prepared: Option<&Prepared>) -> String {
    let Some(Prepared { kind, when, cores }) = prepared else {
        return format!("would run {} undecoupled", path.display());
    };
    let moment = match (when, kind) {
        (When::AfterInit, _) => "when MPI_Init returns".to_string(),
        (When::Now, program::Kind::Preload) => "before main".to_string(),
        (When::Now, program::Kind::Outside(reason) | program::Kind::Never(reason)) => {
            format!("right after its exec, from outside, because {reason}")
        }
    };
    let place = match cores.as_slice().len() {
        1 => format!("core {cores}"),
        _ => format!("the first free core of {cores}"),
    };
    format!("would decouple the main thread of {name} ({}) onto {place}, {moment}", path.display())
}

fn attach_running(arguments: &Arguments, pid: i32, policy: Policy, wish: &Wish, host: &dyn Host) -> Result<u8, Error> {
    if policy == Policy::Off {
        return Ok(0);
    }
    match attach_threads(arguments, pid, wish, host) {
        Err(error) if policy == Policy::Prefer => {
            warn(&host.sysfs().process(pid).to_string(), &error);
            Ok(0)
        }
        Err(error) => Err(error),
        Ok(()) => Ok(0),
    }
}

/// Decouples all the threads that were asked for, or none.
fn attach_threads(arguments: &Arguments, pid: i32, wish: &Wish, host: &dyn Host) -> Result<(), Error> {
    let driver = host.driver(wish.reservation)?;
    let sysfs = host.sysfs();
    let threads = threads(arguments.threads.as_deref(), pid, sysfs)?;
    let machine = sysfs.machine()?;
    let mut pool = place::candidates(&machine, wish.cores.as_ref(), None, wish.reservation)?;
    let have = pool.as_slice().len();
    if threads.len() > have {
        return Err(Error::TooManyThreads { threads: threads.len(), have, pool });
    }
    let mut done: Vec<Target> = Vec::new();
    for target in threads {
        if arguments.dry_run {
            place::require_free(&machine, sysfs, &pool, wish.reservation)?;
            println!("would decouple {} of {} onto the first free core of {pool}", name(target), sysfs.process(pid));
            continue;
        }
        match place::attach(driver.as_ref(), sysfs, target, &pool, wish.reservation) {
            Ok(core) => {
                done.push(target);
                let rest = pool.as_slice().iter().copied().filter(|other| *other != core).collect();
                if arguments.verbose {
                    eprintln!("decouple: {} of {} decoupled onto core {core}", name(target), sysfs.process(pid));
                }
                pool = CoreList::new(rest).unwrap_or_default();
            }
            Err(error) => {
                for target in done {
                    // It may have ended by itself; then there is nothing to bring back.
                    let _ = place::detach(driver.as_ref(), sysfs, target);
                }
                return Err(error);
            }
        }
    }
    Ok(())
}

fn name(target: Target) -> String {
    match target {
        Target::Thread { tid, .. } => format!("thread {tid}"),
        Target::Caller | Target::Main(_) => "the main thread".to_string(),
    }
}

/// The threads that `-t` names.
pub fn threads(asked: Option<&str>, pid: i32, sysfs: &Sysfs) -> Result<Vec<Target>, Error> {
    if !sysfs.process_exists(pid) {
        return Err(Error::NoSuchProcess(pid));
    }
    match asked {
        None | Some("main") => Ok(vec![Target::Main(pid)]),
        Some("all") => Ok(sysfs.threads(pid).into_iter().map(|tid| Target::Thread { pid, tid }).collect()),
        Some(list) => list.split(',').map(|text| thread(text, pid, sysfs)).collect(),
    }
}

fn thread(text: &str, pid: i32, sysfs: &Sysfs) -> Result<Target, Error> {
    match text.parse() {
        Ok(tid) if tid > 0 && sysfs.thread_exists(pid, tid) => Ok(Target::Thread { pid, tid }),
        Ok(tid) if tid > 0 => Err(Error::NoSuchThread { pid, tid }),
        _ => Err(Error::Usage(format!("'{text}' is not a thread: -t takes main, all, or TIDs with commas between"))),
    }
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
