//! What can go wrong, each with one message that names the thing, the reason and the way out.

use crate::abi;
use crate::cores::{CoreList, ListError};
use std::fmt;
use std::io;
use std::path::PathBuf;

/// A process as messages name it: `PID 12 (mpi-fwq)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: i32,
    /// Empty if it could not be read.
    pub comm: String,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.comm.as_str() {
            "" => write!(f, "PID {}", self.pid),
            comm => write!(f, "PID {} ({comm})", self.pid),
        }
    }
}

/// Why a compute core cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Busy {
    Taken(Process),
    Reserved(Process),
    /// The driver said so, but by the time sysfs was read the core was idle again.
    JustNow,
}

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Busy::Taken(owner) => write!(f, "is taken by {owner}"),
            Busy::Reserved(owner) => write!(f, "is reserved by {owner}"),
            Busy::JustNow => write!(f, "was taken a moment ago; try again"),
        }
    }
}

fn all_busy(cores: &[(u32, Busy)]) -> String {
    cores.iter().map(|(core, busy)| format!("core {core} {busy}")).collect::<Vec<_>>().join(", ")
}

fn of_ranks(ranks: &Option<u32>) -> String {
    ranks.map(|ranks| format!(" of {ranks}")).unwrap_or_default()
}

/// Everything that decoupling can fail with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("this Linux does not run on Tacet: there is no {device}", device = abi::DEVICE)]
    NotTacet,
    #[error("cannot open {device}: {0}", device = abi::DEVICE)]
    Device(io::Error),
    #[error("the kernel's decouple interface is version {0}, this program speaks version {expected}; install the one built with the kernel", expected = abi::ABI)]
    Version(u32),
    #[error("cannot read {}: {reason}", path.display())]
    State { path: PathBuf, reason: String },
    #[error("'{text}' is not a list of cores: {reason}; lists look like 1-3,5 or 0x2e")]
    List { text: String, reason: ListError },
    #[error("this machine has no compute cores: all {0} cores are service cores; boot with a smaller tacet.service=N")]
    NoComputeCores(usize),
    #[error("core {core} does not exist: compute cores are {compute}")]
    NoSuchCore { core: u32, compute: CoreList },
    #[error("core {core} is a service core of Linux: compute cores are {compute}")]
    ServiceCore { core: u32, compute: CoreList },
    #[error("core {core} {busy}")]
    Busy { core: u32, busy: Busy },
    #[error("no compute core is free: {cores}", cores = all_busy(.0))]
    AllBusy(Vec<(u32, Busy)>),
    #[error("local MPI rank {rank}{ranks} has no compute core: there are only {have} ({pool}); start at most {have} rank(s) on this node", ranks = of_ranks(ranks))]
    TooManyRanks { rank: u32, ranks: Option<u32>, have: usize, pool: CoreList },
    #[error("{threads} threads but only {have} compute core(s) ({pool})")]
    TooManyThreads { threads: usize, have: usize, pool: CoreList },
    #[error("the environment says {name}={value}, which is not a rank")]
    Rank { name: &'static str, value: String },
    #[error("there is no process with PID {0}")]
    NoSuchProcess(i32),
    #[error("process {pid} has no thread with TID {tid}")]
    NoSuchThread { pid: i32, tid: i32 },
    #[error("not permitted to act on {process}{owner}: it needs the same user or CAP_SYS_PTRACE", owner = .owner.as_ref().map(|user| format!(", which belongs to user {user}")).unwrap_or_default())]
    NotPermitted { process: Process, owner: Option<String> },
    #[error("thread {tid} of {process} already is decoupled{core}", core = .core.map(|core| format!(", on core {core}")).unwrap_or_default())]
    Already { process: Process, tid: i32, core: Option<u32> },
    #[error("{process} has no decoupled thread")]
    NoneDecoupled { process: Process },
    #[error("thread {tid} of {process} is not decoupled")]
    NotDecoupled { process: Process, tid: i32 },
    #[error("the reservation's holder, PID {0}, is gone, and its cores with it")]
    ReservationGone(i32),
    #[error("cannot use the reservation of {holder}: {reason}")]
    Reservation { holder: Process, reason: io::Error },
    #[error("core {0} is not reserved")]
    NotReserved(u32),
    #[error("core {core} is reserved by {owner}, which is not a holder of corectl; --force releases it all the same")]
    ForeignReservation { core: u32, owner: Process },
    #[error("the driver refused to {what}: {source}")]
    Refused { what: &'static str, source: io::Error },
    #[error("{0}")]
    Usage(String),
    #[error("{what}: {source}")]
    System { what: String, source: io::Error },
    #[error("{program}: command not found")]
    CommandNotFound { program: String },
    #[error("{program}: {reason}")]
    CommandNotExecutable { program: String, reason: String },
}

impl Error {
    /// The exit status of a tool that fails with this error: 127 for a command that was not found, 126 for one that
    /// cannot be executed, 125 for all else.
    pub fn status(&self) -> i32 {
        match self {
            Error::CommandNotFound { .. } => 127,
            Error::CommandNotExecutable { .. } => 126,
            _ => 125,
        }
    }

    /// The errno that says nearly the same, for callers in C.
    pub fn errno(&self) -> i32 {
        match self {
            Error::NotTacet => libc::ENOSYS,
            Error::NoComputeCores(_) | Error::NoSuchCore { .. } => libc::ENODEV,
            Error::Version(_) => libc::EPROTO,
            Error::List { .. } | Error::ServiceCore { .. } | Error::Rank { .. } | Error::Usage(_) => libc::EINVAL,
            Error::Busy { .. } | Error::AllBusy(_) | Error::ForeignReservation { .. } => libc::EBUSY,
            Error::TooManyRanks { .. } | Error::TooManyThreads { .. } => libc::ENODEV,
            Error::NoSuchProcess(_) | Error::NoSuchThread { .. } | Error::ReservationGone(_) => libc::ESRCH,
            Error::NotPermitted { .. } => libc::EPERM,
            Error::Already { .. } => libc::EALREADY,
            Error::NoneDecoupled { .. } | Error::NotDecoupled { .. } | Error::NotReserved(_) => libc::ENOENT,
            Error::State { .. } => libc::EIO,
            Error::Device(source)
            | Error::Reservation { reason: source, .. }
            | Error::Refused { source, .. }
            | Error::System { source, .. } => source.raw_os_error().unwrap_or(libc::EIO),
            Error::CommandNotFound { .. } => libc::ENOENT,
            Error::CommandNotExecutable { .. } => libc::EACCES,
        }
    }
}
