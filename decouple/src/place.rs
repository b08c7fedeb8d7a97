//! Which core a thread gets, and getting it.

use crate::cores::CoreList;
use crate::driver::Driver;
use crate::error::{Busy, Error};
use crate::rank::LocalRank;
use crate::state::{Machine, Sysfs};
use std::io;

/// A thread to decouple or to bring back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The calling thread.
    Caller,
    /// The main thread of a process.
    Main(i32),
    Thread {
        pid: i32,
        tid: i32,
    },
}

impl Target {
    /// As the driver takes it: (pid, tid), 0 for "the caller" and "the main thread".
    fn numbers(self) -> (i32, i32) {
        match self {
            Target::Caller => (0, 0),
            Target::Main(pid) => (pid, 0),
            Target::Thread { pid, tid } => (pid, tid),
        }
    }

    /// For messages: the real PID and TID.
    fn names(self) -> (i32, i32) {
        match self {
            // SAFETY: both only return a number.
            Target::Caller => unsafe { (libc::getpid(), libc::gettid()) },
            Target::Main(pid) => (pid, pid),
            Target::Thread { pid, tid } => (pid, tid),
        }
    }
}

/// The cores to try, in order. A rank has exactly one, its own in the pool, so that placement is the same in every run;
/// everybody else takes the first free one. The pool is `wanted`, or what `reservation` holds, or every compute core.
pub fn candidates(
    machine: &Machine,
    wanted: Option<&CoreList>,
    rank: Option<LocalRank>,
    reservation: Option<i32>,
) -> Result<CoreList, Error> {
    machine.require_compute()?;
    let pool = pool(machine, wanted, reservation)?;
    let Some(LocalRank { rank, of }) = rank else { return Ok(pool) };
    let have = pool.as_slice().len();
    match pool.as_slice().get(rank as usize) {
        Some(core) => Ok(CoreList::new(vec![*core]).unwrap_or_default()),
        None => Err(Error::TooManyRanks { rank, ranks: of, have, pool }),
    }
}

fn pool(machine: &Machine, wanted: Option<&CoreList>, reservation: Option<i32>) -> Result<CoreList, Error> {
    if let Some(list) = wanted {
        machine.check(list)?;
        return Ok(list.clone());
    }
    let Some(holder) = reservation else { return Ok(machine.compute_list()) };
    let reserved: Vec<u32> =
        machine.compute.iter().filter(|core| core.reserved_by == Some(holder)).map(|core| core.core).collect();
    match reserved.is_empty() {
        true => Err(Error::ReservationGone(holder)),
        false => Ok(CoreList::new(reserved).unwrap_or_default()),
    }
}

/// Fails if none of `cores` is free now, naming who has them. A free core may be gone a moment later: [`attach`] decides.
pub fn require_free(machine: &Machine, sysfs: &Sysfs, cores: &CoreList, reservation: Option<i32>) -> Result<(), Error> {
    let mut busy = Vec::new();
    for core in cores.as_slice().iter().filter_map(|core| machine.core(*core)) {
        match sysfs.busy(core, reservation) {
            None => return Ok(()),
            Some(why) => busy.push((core.core, why)),
        }
    }
    Err(none_free(busy))
}

fn none_free(mut busy: Vec<(u32, Busy)>) -> Error {
    match busy.len() {
        1 => {
            let (core, busy) = busy.remove(0);
            Error::Busy { core, busy }
        }
        _ => Error::AllBusy(busy),
    }
}

/// Decouples `target` onto the first of `cores` that is free; returns the core.
pub fn attach(
    driver: &dyn Driver,
    sysfs: &Sysfs,
    target: Target,
    cores: &CoreList,
    reservation: Option<i32>,
) -> Result<u32, Error> {
    let (pid, tid) = target.numbers();
    let mut busy = Vec::new();
    for &core in cores.as_slice() {
        match driver.attach(pid, tid, Some(core)) {
            Ok(core) => return Ok(core),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => busy.push(core),
            Err(error) => return Err(explain("decouple", error, sysfs, target, Some(core))),
        }
    }
    let machine = sysfs.machine()?;
    let why = |core: u32| machine.core(core).and_then(|core| sysfs.busy(core, reservation)).unwrap_or(Busy::JustNow);
    Err(none_free(busy.into_iter().map(|core| (core, why(core))).collect()))
}

/// Brings `target` back to Linux.
pub fn detach(driver: &dyn Driver, sysfs: &Sysfs, target: Target) -> Result<(), Error> {
    let (pid, tid) = target.numbers();
    driver.detach(pid, tid).map_err(|error| explain("recouple", error, sysfs, target, None))
}

/// Puts the driver's errno into words, with what sysfs and /proc know.
pub fn explain(what: &'static str, error: io::Error, sysfs: &Sysfs, target: Target, core: Option<u32>) -> Error {
    let (pid, tid) = target.names();
    let machine = match sysfs.machine() {
        Ok(machine) => machine,
        Err(unreadable) => return unreadable,
    };
    match error.raw_os_error() {
        Some(libc::ESRCH) if tid != pid && sysfs.process_exists(pid) => Error::NoSuchThread { pid, tid },
        Some(libc::ESRCH) => Error::NoSuchProcess(pid),
        Some(libc::EPERM) => {
            Error::NotPermitted { process: sysfs.process(pid), owner: sysfs.uid(pid).map(|uid| uid.to_string()) }
        }
        Some(libc::EALREADY) => {
            Error::Already { process: sysfs.process(pid), tid, core: machine.core_of(tid).map(|core| core.core) }
        }
        Some(libc::ENOENT) => Error::NotDecoupled { process: sysfs.process(pid), tid },
        Some(libc::ENODEV | libc::EINVAL) => {
            let asked = CoreList::new(core.into_iter().collect()).unwrap_or_default();
            match machine.check(&asked) {
                Err(wrong) => wrong,
                Ok(()) => Error::Refused { what, source: error },
            }
        }
        _ => Error::Refused { what, source: error },
    }
}

#[cfg(test)]
#[path = "place_tests.rs"]
mod tests;
