//! The command to start: where it is, and whether the preload library can work in it.

use crate::error::Error;
use object::read::ReadCache;
use object::read::elf::{ElfFile64, ProgramHeader};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Loads preload libraries, and ours is built for it.
const GLIBC_LINKER: &str = "ld-linux-x86-64.so.2";

/// Scripts whose interpreter is a script, and so on: as far as Linux itself goes.
const SCRIPT_DEPTH: usize = 4;

/// How a program can be decoupled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// By the preload library, from inside.
    Preload,
    /// Only from outside, right after its exec; why the preload library cannot.
    Outside(&'static str),
    /// Not at all: it may not be traced either; why.
    Never(&'static str),
}

/// Finds `command` as execvp does.
pub fn find(command: &OsStr, path: Option<&OsStr>) -> Result<PathBuf, Error> {
    let program = command.to_string_lossy().into_owned();
    if command.as_bytes().contains(&b'/') {
        return executable(Path::new(command)).map_err(|reason| match reason {
            None => Error::CommandNotFound { program },
            Some(reason) => Error::CommandNotExecutable { program, reason },
        });
    }
    let mut forbidden = None;
    for folder in std::env::split_paths(path.unwrap_or(OsStr::new("/usr/local/bin:/usr/bin:/bin"))) {
        match executable(&folder.join(command)) {
            Ok(found) => return Ok(found),
            Err(reason) => forbidden = forbidden.or(reason),
        }
    }
    Err(match forbidden {
        None => Error::CommandNotFound { program },
        Some(reason) => Error::CommandNotExecutable { program, reason },
    })
}

/// `Err(None)`: there is no such file.
fn executable(path: &Path) -> Result<PathBuf, Option<String>> {
    let metadata = path.metadata().map_err(|error| match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR) => None,
        _ => Some(error.to_string()),
    })?;
    if metadata.is_dir() {
        return Err(Some("is a directory".to_string()));
    }
    nix::unistd::access(path, nix::unistd::AccessFlags::X_OK).map_err(|errno| Some(errno.desc().to_string()))?;
    Ok(path.to_path_buf())
}

/// Looks into the program, and through scripts into their interpreter.
pub fn inspect(path: &Path, search: Option<&OsStr>) -> Result<Kind, Error> {
    let mut path = path.to_path_buf();
    for _ in 0..SCRIPT_DEPTH {
        let refused = |reason: String| Error::CommandNotExecutable { program: path.display().to_string(), reason };
        if let Some(reason) = changes_user(&path) {
            return Ok(Kind::Never(reason));
        }
        let mut file = match File::open(&path) {
            Ok(file) => file,
            // May be executed but not read: Linux lets nobody trace it.
            Err(_) => return Ok(Kind::Never("it may not be read")),
        };
        let mut head = Vec::new();
        file.by_ref().take(256).read_to_end(&mut head).map_err(|error| refused(error.to_string()))?;
        let Some(line) = head.strip_prefix(b"#!") else {
            return inspect_elf(file, &head).map_err(refused);
        };
        let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let mut words = line.split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty());
        let interpreter = words.next().ok_or_else(|| refused("its #! line names no interpreter".to_string()))?;
        let through_env = interpreter.ends_with(b"/env").then(|| words.next()).flatten();
        path = match through_env.filter(|name| !name.starts_with(b"-") && !name.contains(&b'=')) {
            Some(name) => find(&OsString::from_vec(name.to_vec()), search)?,
            None => PathBuf::from(OsString::from_vec(interpreter.to_vec())),
        };
        path = executable(&path).map_err(|reason| Error::CommandNotExecutable {
            program: path.display().to_string(),
            reason: reason.unwrap_or_else(|| "interpreter not found".to_string()),
        })?;
    }
    Err(Error::CommandNotExecutable {
        program: path.display().to_string(),
        reason: "too many scripts run by scripts".to_string(),
    })
}

/// The dynamic linker ignores preload libraries in programs that gain rights, and tracing would take the rights away.
fn changes_user(path: &Path) -> Option<&'static str> {
    let metadata = path.metadata().ok()?;
    let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    if metadata.mode() & 0o4000 != 0 && metadata.uid() != uid {
        return Some("it changes its user (set-user-ID)");
    }
    if metadata.mode() & 0o2000 != 0 && metadata.gid() != gid {
        return Some("it changes its group (set-group-ID)");
    }
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).ok()?;
    // SAFETY: two strings; with no buffer only the size is returned.
    let size = unsafe { libc::getxattr(path.as_ptr(), c"security.capability".as_ptr(), std::ptr::null_mut(), 0) };
    (size > 0 && uid != 0).then_some("it gains capabilities")
}

fn inspect_elf(file: File, head: &[u8]) -> Result<Kind, String> {
    if head.len() < 20 || head[..4] != *b"\x7fELF" {
        return Err("is neither an ELF program nor a script that begins with #!".to_string());
    }
    const CLASS_64: u8 = 2;
    const MACHINE_X86_64: [u8; 2] = [62, 0];
    if head[4] != CLASS_64 || head[18..20] != MACHINE_X86_64 {
        return Err("is not a 64-bit x86 program".to_string());
    }
    let cache = ReadCache::new(file);
    let elf: ElfFile64<object::Endianness, _> =
        ElfFile64::parse(&cache).map_err(|error| format!("is a damaged ELF program: {error}"))?;
    for header in elf.elf_program_headers() {
        let interpreter =
            header.interpreter(elf.endian(), &cache).map_err(|error| format!("is a damaged ELF program: {error}"))?;
        if let Some(interpreter) = interpreter {
            let name = interpreter.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
            return Ok(match name == GLIBC_LINKER.as_bytes() {
                true => Kind::Preload,
                false => Kind::Outside("it does not use glibc"),
            });
        }
    }
    Ok(Kind::Outside("it is linked statically"))
}
