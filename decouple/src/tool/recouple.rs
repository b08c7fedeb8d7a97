//! `recouple -p PID`.

use crate::error::Error;
use crate::place::{self, Target};
use crate::tool::{Host, run};
use clap::Parser;

const EXAMPLES: &str = "\
Examples:
  recouple -p 4711           all decoupled threads of the process
  recouple -p 4711 -t 4713   only this one

Exit status: 0 when it is done, 125 for every error.";

/// Bring decoupled threads back to Linux.
///
/// The thread goes on where it is, on Linux's service cores, and its compute core is free.
#[derive(Debug, Parser)]
#[command(name = "recouple", version, after_help = EXAMPLES)]
pub struct Arguments {
    /// The process
    #[arg(short, long, value_name = "PID", value_parser = clap::value_parser!(i32).range(1..))]
    pid: i32,
    /// Which threads: all decoupled ones (the default), main, or TIDs
    #[arg(short, long, value_name = "all|main|TID,...")]
    threads: Option<String>,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Say what is done
    #[arg(short, long)]
    verbose: bool,
}

/// Runs the tool.
pub fn run(arguments: Arguments, host: &dyn Host) -> Result<u8, Error> {
    let driver = host.driver(None)?;
    let (pid, sysfs) = (arguments.pid, host.sysfs());
    let machine = sysfs.machine()?;
    let targets = match arguments.threads.as_deref() {
        None | Some("all") => {
            let decoupled: Vec<_> =
                machine.threads_of(pid).into_iter().map(|tid| Target::Thread { pid, tid }).collect();
            match decoupled.is_empty() {
                true if !sysfs.process_exists(pid) => return Err(Error::NoSuchProcess(pid)),
                true => return Err(Error::NoneDecoupled { process: sysfs.process(pid) }),
                false => decoupled,
            }
        }
        named => run::threads(named, pid, sysfs)?,
    };
    for target in targets {
        let tid = match target {
            Target::Thread { tid, .. } => tid,
            Target::Caller | Target::Main(_) => pid,
        };
        let core = machine.core_of(tid).map(|core| format!(" from core {}", core.core)).unwrap_or_default();
        if arguments.dry_run {
            println!("would bring thread {tid} of {} back{core}", sysfs.process(pid));
            continue;
        }
        place::detach(driver.as_ref(), sysfs, target)?;
        if arguments.verbose {
            eprintln!("recouple: thread {tid} of {} is back on Linux{core}", sysfs.process(pid));
        }
    }
    Ok(0)
}
