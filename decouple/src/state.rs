//! The state of the compute cores, as the kernel shows it in sysfs.

use crate::cores::CoreList;
use crate::error::{Busy, Error, Process};
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// What a compute core does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CoreState {
    /// Nobody is on it.
    Idle,
    /// Nobody is on it, and only the holder of its reservation can take it.
    Reserved,
    /// User code of a decoupled thread runs.
    Running,
    /// The decoupled thread waits for Linux to answer a system call, fault or trap.
    Trapped,
}

impl CoreState {
    pub fn name(self) -> &'static str {
        match self {
            CoreState::Idle => "idle",
            CoreState::Reserved => "reserved",
            CoreState::Running => "running",
            CoreState::Trapped => "trapped",
        }
    }

    /// A decoupled thread is on the core.
    pub fn occupied(self) -> bool {
        matches!(self, CoreState::Running | CoreState::Trapped)
    }
}

impl FromStr for CoreState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [CoreState::Idle, CoreState::Reserved, CoreState::Running, CoreState::Trapped]
            .into_iter()
            .find(|state| state.name() == text)
            .ok_or_else(|| format!("'{text}' is not a state"))
    }
}

impl fmt::Display for CoreState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One row of `syscalls_by_number`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyscallCount {
    pub number: u32,
    pub count: u64,
    /// Nanoseconds from the traps to the answers.
    pub nanoseconds: u64,
}

/// What a decoupled thread did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub syscalls: u64,
    pub faults: u64,
    pub traps: u64,
    pub stops: u64,
    /// Nanoseconds from traps to answers, all together.
    pub answer_ns: u64,
    pub by_number: Vec<SyscallCount>,
}

/// One compute core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComputeCore {
    pub core: u32,
    pub state: CoreState,
    pub pid: Option<i32>,
    pub tid: Option<i32>,
    pub comm: String,
    pub uid: Option<u32>,
    pub reserved_by: Option<i32>,
    /// CLOCK_MONOTONIC, nanoseconds, when the occupant came; `None` when nobody is there.
    pub since_ns: Option<u64>,
    /// Of the present occupant, or of the last one when nobody is there; `None` if the kernel does not let this user see them.
    pub counters: Option<Counters>,
}

/// All cores of the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    pub service: CoreList,
    /// Ascending.
    pub compute: Vec<ComputeCore>,
}

impl Machine {
    pub fn compute_list(&self) -> CoreList {
        CoreList::new(self.compute.iter().map(|core| core.core).collect()).unwrap_or_default()
    }

    pub fn core(&self, number: u32) -> Option<&ComputeCore> {
        self.compute.iter().find(|core| core.core == number)
    }

    /// The core on which thread `tid` is.
    pub fn core_of(&self, tid: i32) -> Option<&ComputeCore> {
        self.compute.iter().find(|core| core.state.occupied() && core.tid == Some(tid))
    }

    /// The decoupled threads of process `pid`.
    pub fn threads_of(&self, pid: i32) -> Vec<i32> {
        self.compute
            .iter()
            .filter(|core| core.state.occupied() && core.pid == Some(pid))
            .filter_map(|c| c.tid)
            .collect()
    }

    /// Checks that every core of the list is a compute core.
    pub fn check(&self, list: &CoreList) -> Result<(), Error> {
        self.require_compute()?;
        for &core in list.as_slice() {
            if self.service.contains(core) {
                return Err(Error::ServiceCore { core, compute: self.compute_list() });
            }
            if self.core(core).is_none() {
                return Err(Error::NoSuchCore { core, compute: self.compute_list() });
            }
        }
        Ok(())
    }

    /// Fails where there is no compute core at all.
    pub fn require_compute(&self) -> Result<(), Error> {
        match self.compute.is_empty() {
            true => Err(Error::NoComputeCores(self.service.as_slice().len())),
            false => Ok(()),
        }
    }
}

/// Where the kernel shows its state: `/sys/kernel/decouple` and `/proc`.
#[derive(Clone, Debug)]
pub struct Sysfs {
    decouple: PathBuf,
    proc: PathBuf,
}

impl Default for Sysfs {
    fn default() -> Self {
        Sysfs::at("/sys/kernel/decouple", "/proc")
    }
}

impl Sysfs {
    /// The trees at other places.
    pub fn at(decouple: impl Into<PathBuf>, proc: impl Into<PathBuf>) -> Self {
        Sysfs { decouple: decouple.into(), proc: proc.into() }
    }

    /// Reads everything. Cores change while they are read: each value is right for some moment in between.
    pub fn machine(&self) -> Result<Machine, Error> {
        let service = self.list("service_cores")?;
        let mut numbers: Vec<u32> =
            self.list("cores")?.as_slice().iter().copied().filter(|core| !service.contains(*core)).collect();
        numbers.sort_unstable();
        let compute = numbers.into_iter().map(|core| self.core(core)).collect::<Result<_, _>>()?;
        Ok(Machine { service, compute })
    }

    fn list(&self, name: &str) -> Result<CoreList, Error> {
        let path = self.decouple.join(name);
        let text = read(&path)?;
        CoreList::from_sysfs(&text).map_err(|reason| Error::State { path, reason: reason.to_string() })
    }

    fn core(&self, core: u32) -> Result<ComputeCore, Error> {
        let folder = self.decouple.join(format!("core{core}"));
        let state: CoreState = value(&folder, "state")?;
        let comm = read(&folder.join("comm"))?.trim_end_matches('\n').to_string();
        let occupied = state.occupied();
        let reserved_by: i32 = value_or_zero(&folder, "reserved_by")?;
        let tid: i32 = value_or_zero(&folder, "tid")?;
        let pid: i32 = value_or_zero(&folder, "pid")?;
        let uid: u32 = value_or_zero(&folder, "uid")?;
        let since: u64 = value_or_zero(&folder, "since_ns")?;
        Ok(ComputeCore {
            core,
            state,
            pid: Some(pid).filter(|pid| occupied && *pid > 0),
            tid: Some(tid).filter(|tid| occupied && *tid > 0),
            comm: if occupied { comm } else { String::new() },
            uid: Some(uid).filter(|_| occupied),
            reserved_by: Some(reserved_by).filter(|pid| *pid > 0),
            since_ns: Some(since).filter(|_| occupied),
            counters: match counters(&folder) {
                Err(_) if is_denied(&folder.join("syscalls")) => None,
                counters => Some(counters?),
            },
        })
    }

    /// The process as messages name it.
    pub fn process(&self, pid: i32) -> Process {
        let comm = fs::read_to_string(self.proc.join(pid.to_string()).join("comm")).unwrap_or_default();
        Process { pid, comm: comm.trim_end().to_string() }
    }

    /// The user that a process belongs to, as a number.
    pub fn uid(&self, pid: i32) -> Option<u32> {
        let status = fs::read_to_string(self.proc.join(pid.to_string()).join("status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
        line.split_whitespace().next()?.parse().ok()
    }

    pub fn process_exists(&self, pid: i32) -> bool {
        self.proc.join(pid.to_string()).exists()
    }

    pub fn thread_exists(&self, pid: i32, tid: i32) -> bool {
        self.proc.join(pid.to_string()).join("task").join(tid.to_string()).exists()
    }

    /// The threads of a process, ascending; empty if there is no such process.
    pub fn threads(&self, pid: i32) -> Vec<i32> {
        let mut threads: Vec<i32> = fs::read_dir(self.proc.join(pid.to_string()).join("task"))
            .map(|entries| entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
            .unwrap_or_default();
        threads.sort_unstable();
        threads
    }

    /// Descriptors of `pid` that are open on the file `target`; an error where one may not look.
    pub fn descriptors(&self, pid: i32, target: &Path) -> io::Result<Vec<i32>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.proc.join(pid.to_string()).join("fd"))? {
            let entry = entry?;
            if fs::read_link(entry.path()).is_ok_and(|link| link == target)
                && let Some(fd) = entry.file_name().to_str().and_then(|name| name.parse().ok())
            {
                found.push(fd);
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Whether `pid` is `ancestor` or a process below it.
    fn descends(&self, mut pid: i32, ancestor: i32) -> bool {
        let parent = |pid: i32| -> Option<i32> {
            let status = fs::read_to_string(self.proc.join(pid.to_string()).join("status")).ok()?;
            status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
        };
        // Parents that change while they are followed could lead round in a circle.
        const DEEPEST: usize = 1000;
        for _ in 0..DEEPEST {
            if pid == ancestor {
                return true;
            }
            match parent(pid) {
                Some(parent) if parent > 0 => pid = parent,
                _ => return false,
            }
        }
        false
    }

    /// Why this core is not to be had for the calling process, which may use what `reservation` reserved. The processes
    /// below the holder of a reservation may use it in any case. `None`: it is free.
    pub fn busy(&self, core: &ComputeCore, reservation: Option<i32>) -> Option<Busy> {
        if core.state.occupied() {
            let process = Process { pid: core.pid.unwrap_or(0), comm: core.comm.clone() };
            return Some(Busy::Taken(process));
        }
        let holder = core.reserved_by.filter(|holder| Some(*holder) != reservation)?;
        // SAFETY: only returns a number.
        if self.descends(unsafe { libc::getpid() }, holder) {
            return None;
        }
        Some(Busy::Reserved(self.process(holder)))
    }
}

fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|error| Error::State { path: path.into(), reason: error.to_string() })
}

fn value<T: FromStr<Err: fmt::Display>>(folder: &Path, name: &str) -> Result<T, Error> {
    let path = folder.join(name);
    let text = read(&path)?;
    text.trim().parse().map_err(|error: T::Err| Error::State { path, reason: error.to_string() })
}

/// A number that may be missing because nobody is there.
fn value_or_zero<T: FromStr<Err: fmt::Display> + Default>(folder: &Path, name: &str) -> Result<T, Error> {
    let path = folder.join(name);
    match read(&path)?.trim() {
        "" => Ok(T::default()),
        text => text.parse().map_err(|error: T::Err| Error::State { path, reason: error.to_string() }),
    }
}

/// Whether the file is for other users.
fn is_denied(path: &Path) -> bool {
    fs::read(path).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

fn counters(folder: &Path) -> Result<Counters, Error> {
    Ok(Counters {
        syscalls: value_or_zero(folder, "syscalls")?,
        faults: value_or_zero(folder, "faults")?,
        traps: value_or_zero(folder, "traps")?,
        stops: value_or_zero(folder, "stops")?,
        answer_ns: value_or_zero(folder, "answer_ns")?,
        by_number: by_number(&folder.join("syscalls_by_number"))?,
    })
}

fn by_number(path: &Path) -> Result<Vec<SyscallCount>, Error> {
    let parse = |line: &str| -> Option<SyscallCount> {
        let mut words = line.split_whitespace();
        let row = SyscallCount {
            number: words.next()?.parse().ok()?,
            count: words.next()?.parse().ok()?,
            nanoseconds: words.next()?.parse().ok()?,
        };
        words.next().is_none().then_some(row)
    };
    let text = read(path)?;
    // The kernel cuts the file off after one page, perhaps within a line.
    let (whole, _cut) = text.rsplit_once('\n').unwrap_or_default();
    whole
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| {
            parse(line).ok_or_else(|| Error::State {
                path: path.into(),
                reason: format!("'{line}' is not NUMBER COUNT NANOSECONDS"),
            })
        })
        .collect()
}
