//! Becoming the command, with the preload library in it, or watching over it from outside.

use crate::cores::CoreList;
use crate::driver::Driver;
use crate::error::Error;
use crate::plan::{self, Mark, Plan, Policy, When};
use crate::reservation;
use crate::state::Sysfs;
use crate::tool::{outside, system};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::IntoRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What the dynamic linker loads first.
const PRELOAD: &str = "LD_PRELOAD";
/// Its name when installed, and the one that Cargo gives it in a build folder.
const LIBRARY: [&str; 2] = ["libdecouple-preload.so", "libdecouple_preload.so"];

/// The command: the file, and its arguments from argv[0] on.
pub struct Command {
    pub path: PathBuf,
    pub arguments: Vec<OsString>,
}

/// How it is to be decoupled.
pub struct Order {
    pub when: When,
    pub policy: Policy,
    pub cores: CoreList,
    pub reservation: Option<i32>,
    pub verbose: bool,
}

/// Becomes the command, with `changes` to the environment. Returns only the reason why it could not.
pub fn exec(command: &Command, changes: Vec<(&str, OsString)>) -> Error {
    let error = match arguments_of(command, changes) {
        Ok((path, arguments, environment)) => match nix::unistd::execve(&path, &arguments, &environment) {
            Err(errno) => io::Error::from(errno),
            Ok(never) => match never {},
        },
        Err(error) => error,
    };
    not_executable(command, &error)
}

pub fn not_executable(command: &Command, error: &io::Error) -> Error {
    Error::CommandNotExecutable { program: command.path.display().to_string(), reason: error.to_string() }
}

type ExecArguments = (CString, Vec<CString>, Vec<CString>);

/// In the form that execve takes.
pub fn arguments_of(command: &Command, changes: Vec<(&str, OsString)>) -> io::Result<ExecArguments> {
    let string = |bytes: &[u8]| CString::new(bytes).map_err(|_| io::Error::other("an argument contains a zero byte"));
    let path = string(command.path.as_os_str().as_bytes())?;
    let arguments = command.arguments.iter().map(|word| string(word.as_bytes())).collect::<io::Result<_>>()?;
    let kept = std::env::vars_os().filter(|(name, _)| !changes.iter().any(|(changed, _)| name == changed));
    let changed = changes.iter().map(|(name, value)| (OsString::from(name), value.clone()));
    let environment = kept
        .chain(changed)
        .map(|(name, value)| string(&[name.as_bytes(), b"=", value.as_bytes()].concat()))
        .collect::<io::Result<_>>()?;
    Ok((path, arguments, environment))
}

/// Becomes the command with the preload library in it, which decouples it from inside.
pub fn preloaded(command: &Command, order: &Order) -> Result<u8, Error> {
    let library = library()?;
    let plan = Plan {
        pid: nix::unistd::getpid().as_raw(),
        when: order.when,
        policy: order.policy,
        cores: order.cores.clone(),
        reservation: order.reservation,
        mark: mark()?,
        verbose: order.verbose,
    };
    let preload = match std::env::var_os(PRELOAD).filter(|value| !value.is_empty()) {
        None => library.into_os_string(),
        Some(others) => OsString::from_vec([library.as_os_str().as_bytes(), b":", others.as_bytes()].concat()),
    };
    let mut changes = vec![(PRELOAD, preload), (plan::VARIABLE, OsString::from(plan.to_string()))];
    if let Some(holder) = order.reservation {
        changes.push((reservation::VARIABLE, OsString::from(holder.to_string())));
    }
    Err(exec(command, changes))
}

/// The preload library: beside the tools' own place, so that a build folder and an installation both work.
fn library() -> Result<PathBuf, Error> {
    let own = std::env::current_exe().map_err(|source| Error::System { what: "cannot find myself".into(), source })?;
    let folder = own.parent().unwrap_or(Path::new("/"));
    let places = [folder.join("../lib"), folder.to_path_buf(), PathBuf::from("/usr/local/lib")];
    let found =
        places.iter().flat_map(|place| LIBRARY.map(|name| place.join(name))).find_map(|path| path.canonicalize().ok());
    let Some(path) = found else {
        let names: Vec<_> = places.iter().map(|place| place.display().to_string()).collect();
        return Err(Error::Usage(format!("{} is not in {}; install it there", LIBRARY[0], names.join(", "))));
    };
    // The dynamic linker only warns about a library that it cannot load, and splits the variable at these.
    if path.as_os_str().as_bytes().iter().any(|byte| b": ".contains(byte)) {
        return Err(Error::Usage(format!("LD_PRELOAD cannot take a path with a space or colon: {}", path.display())));
    }
    File::open(&path).map_err(|source| Error::System { what: format!("cannot read {}", path.display()), source })?;
    Ok(path)
}

/// The shared word; the descriptor stays open across exec.
fn mark() -> Result<Mark, Error> {
    let what = "cannot make the shared mark";
    let failed = |source| Error::System { what: what.into(), source };
    let fd = memfd_create(c"decouple-mark", MFdFlags::empty()).map_err(system(what))?;
    let file = File::from(fd);
    file.set_len(size_of::<u32>() as u64).map_err(failed)?;
    let inode = file.metadata().map_err(failed)?.ino();
    Ok(Mark { fd: file.into_raw_fd(), inode })
}

/// Starts the command as a child and decouples it before its first instruction, for programs in which the preload
/// library does not work. Returns the command's status.
pub fn from_outside(command: &Command, order: &Order, driver: &dyn Driver, sysfs: &Sysfs) -> Result<u8, Error> {
    let name = command.arguments.first().map(|word| word.as_os_str()).unwrap_or(OsStr::new("")).to_string_lossy();
    let child = outside::Child::start(command)?;
    match child.decouple(driver, sysfs, &order.cores, order.reservation) {
        Ok(core) if order.verbose => {
            eprintln!("decouple: {} decoupled onto core {core} at its start", sysfs.process(child.pid()));
        }
        Ok(_) => {}
        Err(error) if order.policy == Policy::Prefer => {
            eprintln!("decouple: warning: {name} runs undecoupled: {error}");
        }
        Err(error) => {
            child.kill()?;
            return Err(error);
        }
    }
    child.go_on()?;
    child.wait()
}
