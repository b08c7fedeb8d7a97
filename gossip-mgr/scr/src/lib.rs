//! SCR's C interface; see include/scr.h. Everything it does is [`gossip_checkpoint::session`]'s.

mod mpi;

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int, c_ulong, c_void};
use std::path::PathBuf;
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use gossip_checkpoint::agent::default_socket;
use gossip_checkpoint::dense::Dense;
use gossip_checkpoint::session::{Options, Session, Trouble};
use mpi::Mpi;

const SUCCESS: c_int = 0;
const FAILURE: c_int = 1;
/// `SCR_MAX_FILENAME`.
const LONGEST: usize = 1024;
const FLAG_OUTPUT: c_int = 1 << 1;

/// Memory that the program named.
struct Memory {
    at: *mut u8,
    length: usize,
}

// SAFETY: the pointer is only used in calls of the program, which promises that its memory stays; see SCR_Dense_protect.
unsafe impl Send for Memory {}

#[derive(Default)]
struct State {
    session: Option<Session<Mpi>>,
    settings: BTreeMap<String, String>,
    dense: Dense,
    memory: BTreeMap<c_int, Memory>,
}

static STATE: Mutex<Option<State>> = Mutex::new(None);

fn locked() -> MutexGuard<'static, Option<State>> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a user reads of it comes once, from the first rank, unless only this one knows.
fn complain(is_first: bool, text: &str) {
    if is_first {
        eprintln!("scr: {text}");
    }
}

impl State {
    /// From `SCR_Config`, else from the environment.
    fn setting(&self, key: &str) -> Option<String> {
        self.settings.get(key).cloned().or_else(|| std::env::var(key).ok()).filter(|value| !value.is_empty())
    }

    fn options(&self) -> Result<Options, String> {
        let program = std::env::current_exe().ok().and_then(|path| Some(path.file_name()?.to_str()?.to_owned()));
        let program = program.unwrap_or_else(|| "program".into());
        let job = self.setting("SCR_JOB_NAME").unwrap_or_else(|| program.clone());
        let job = job.parse().map_err(|error| format!("SCR_JOB_NAME: {error}"))?;
        Ok(Options {
            job,
            program,
            socket: self.setting("GOSSIP_CHECKPOINT_SOCKET").map_or_else(default_socket, PathBuf::from),
            prefix: self.setting("SCR_PREFIX").map_or_else(|| ".".into(), PathBuf::from),
            is_restarted: self.setting("GOSSIP_JOB_RESTARTED").is_some_and(|value| value != "0"),
        })
    }
}

/// Runs `work` with the session, and turns what went wrong into a message and a status.
fn with<T>(work: impl FnOnce(&mut State, &mut Session<Mpi>) -> Result<T, Trouble>) -> Option<T> {
    let mut guard = locked();
    let state = guard.get_or_insert_default();
    let Some(mut session) = state.session.take() else {
        complain(true, "call SCR_Init first, and nothing after SCR_Finalize");
        return None;
    };
    let result = work(state, &mut session);
    let is_first = session.rank() == 0;
    for note in session.notes() {
        complain(is_first || note.contains("no level"), &note);
    }
    state.session = Some(session);
    result.map_err(|trouble| complain(is_first, &trouble.to_string())).ok()
}

fn status<T>(result: Option<T>) -> c_int {
    if result.is_some() { SUCCESS } else { FAILURE }
}

/// A text of the program's.
///
/// # Safety
/// `text` must be null or a C string.
unsafe fn text(text: *const c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: not null, and the caller vouches that it ends.
    unsafe { CStr::from_ptr(text) }.to_str().ok().map(str::to_owned)
}

/// Gives the program a text; whether it fits.
///
/// # Safety
/// `to` must be null or have room for [`LONGEST`] bytes.
unsafe fn give(to: *mut c_char, text: &str) -> bool {
    if text.len() >= LONGEST {
        return false;
    }
    if !to.is_null() {
        // SAFETY: there is room for the text, which is shorter, and its end; the caller vouches for it.
        unsafe {
            ptr::copy_nonoverlapping(text.as_ptr().cast(), to, text.len());
            to.add(text.len()).write(0);
        }
    }
    true
}

/// Answers through a flag.
///
/// # Safety
/// `flag` must be null or point to an int.
unsafe fn answer(flag: *mut c_int, value: Option<bool>) -> c_int {
    if flag.is_null() {
        return FAILURE;
    }
    // SAFETY: not null, and the caller vouches for it.
    unsafe { flag.write(c_int::from(value == Some(true))) };
    status(value)
}

/// See scr.h.
#[unsafe(no_mangle)]
pub extern "C" fn SCR_Init() -> c_int {
    let mut guard = locked();
    let state = guard.get_or_insert_default();
    let Some(comm) = Mpi::start() else {
        complain(true, "call SCR_Init after MPI_Init and before MPI_Finalize");
        return FAILURE;
    };
    let is_first = gossip_checkpoint::comm::Comm::rank(&comm) == 0;
    let options = match (state.session.is_some(), state.options()) {
        (false, Ok(options)) => options,
        (true, _) => {
            complain(is_first, "SCR_Init is called once");
            return FAILURE;
        }
        (_, Err(error)) => {
            complain(is_first, &error);
            return FAILURE;
        }
    };
    match Session::start(comm, options) {
        Ok(mut session) => {
            session.notes().iter().for_each(|note| complain(is_first, note));
            state.session = Some(session);
            SUCCESS
        }
        Err(trouble) => {
            complain(is_first, &trouble.to_string());
            FAILURE
        }
    }
}

/// See scr.h.
#[unsafe(no_mangle)]
pub extern "C" fn SCR_Finalize() -> c_int {
    let session = locked().as_mut().and_then(|state| state.session.take());
    let Some(session) = session else {
        complain(true, "SCR_Finalize comes once, after SCR_Init");
        return FAILURE;
    };
    session.finish();
    Mpi::end();
    SUCCESS
}

/// See scr.h.
#[unsafe(no_mangle)]
pub extern "C" fn SCR_Get_version() -> *const c_char {
    c"3.0 (gossip-mgr)".as_ptr()
}

/// See scr.h.
///
/// # Safety
/// `config` must be null or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn SCR_Config(config: *const c_char) -> *const c_char {
    // SAFETY: the caller vouches for it.
    let Some(config) = (unsafe { text(config) }) else { return ptr::null() };
    let mut guard = locked();
    let state = guard.get_or_insert_default();
    let value = match config.split_once('=') {
        None => state.setting(config.trim()),
        Some(_) if state.session.is_some() => {
            complain(true, "SCR_Config sets before SCR_Init only");
            None
        }
        Some((key, "")) => {
            state.settings.remove(key.trim());
            None
        }
        Some((key, value)) => {
            state.settings.insert(key.trim().to_owned(), value.trim().to_owned());
            Some(value.trim().to_owned())
        }
    };
    let Some(value) = value.and_then(|value| CString::new(value).ok()) else { return ptr::null() };
    unsafe extern "C" {
        fn strdup(text: *const c_char) -> *mut c_char;
    }
    // SAFETY: it is a C string. What is given is freed by the program with C's free.
    unsafe { strdup(value.as_ptr()) }
}

/// See scr.h.
///
/// # Safety
/// `name` must be a C string, `file` have room for `SCR_MAX_FILENAME` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn SCR_Route_file(name: *const c_char, file: *mut c_char) -> c_int {
    // SAFETY: the caller vouches for it.
    let Some(name) = (unsafe { text(name) }) else { return FAILURE };
    let routed = with(|_, session| {
        let routed = session.route(&name);
        Ok(routed.map_err(|error| complain(true, &format!("rank {}: {name}: {error}", session.rank()))).ok())
    });
    let Some(Some(path)) = routed else { return FAILURE };
    let Some(path) = path.to_str() else { return FAILURE };
    // SAFETY: the caller vouches for the room.
    if !file.is_null() && unsafe { give(file, path) } { SUCCESS } else { FAILURE }
}

/// See scr.h.
///
/// # Safety
/// `flag` must be null or point to an int, `name` be null or have room for `SCR_MAX_FILENAME` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn SCR_Have_restart(flag: *mut c_int, name: *mut c_char) -> c_int {
    let offered = with(|_, session| Ok(session.have_restart().map(str::to_owned)));
    if let Some(Some(offered)) = &offered {
        // SAFETY: the caller vouches for the room.
        unsafe { give(name, offered) };
    }
    // SAFETY: the caller vouches for it.
    unsafe { answer(flag, offered.map(|offered| offered.is_some())) }
}

/// See scr.h.
///
/// # Safety
/// `name` must be null or have room for `SCR_MAX_FILENAME` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn SCR_Start_restart(name: *mut c_char) -> c_int {
    let Some(offered) = with(|_, session| session.start_restart()) else { return FAILURE };
    // SAFETY: the caller vouches for the room.
    unsafe { give(name, &offered) };
    SUCCESS
}

/// See scr.h.
#[unsafe(no_mangle)]
pub extern "C" fn SCR_Complete_restart(valid: c_int) -> c_int {
    status(with(|_, session| session.complete_restart(valid != 0)))
}

/// See scr.h.
///
/// # Safety
/// `flag` must be null or point to an int.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn SCR_Need_checkpoint(flag: *mut c_int) -> c_int {
    // SAFETY: the caller vouches for it.
    unsafe { answer(flag, with(|_, session| Ok(session.need_checkpoint()))) }
}

/// See scr.h.
///
/// # Safety
/// `flag` must be null or point to an int.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn SCR_Should_exit(flag: *mut c_int) -> c_int {
    // SAFETY: the caller vouches for it.
    unsafe { answer(flag, with(|_, session| Ok(session.should_exit()))) }
}

/// See scr.h.
///
/// # Safety
/// `name` must be null or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn SCR_Start_output(name: *const c_char, flags: c_int) -> c_int {
    // SAFETY: the caller vouches for it.
    let name = unsafe { text(name) }.filter(|name| name.len() < LONGEST);
    status(with(|_, session| session.start_output(name.as_deref(), flags & FLAG_OUTPUT != 0)))
}

/// See scr.h.
#[unsafe(no_mangle)]
pub extern "C" fn SCR_Complete_output(valid: c_int) -> c_int {
    status(with(|_, session| session.complete_output(valid != 0)))
}

/// See scr.h.
#[unsafe(no_mangle)]
pub extern "C" fn SCR_Start_checkpoint() -> c_int {
    status(with(|_, session| session.start_output(None, false)))
}

/// See scr.h.
#[unsafe(no_mangle)]
pub extern "C" fn SCR_Complete_checkpoint(valid: c_int) -> c_int {
    SCR_Complete_output(valid)
}

/// See scr.h.
///
/// # Safety
/// `memory` must stay as long as the program calls `SCR_Dense_*`, and be touched by nobody during these calls.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn SCR_Dense_protect(id: c_int, memory: *mut c_void, bytes: c_ulong) -> c_int {
    if memory.is_null() {
        return FAILURE;
    }
    let memory = Memory { at: memory.cast(), length: bytes as usize };
    locked().get_or_insert_default().memory.insert(id, memory);
    SUCCESS
}

/// See scr.h.
#[unsafe(no_mangle)]
pub extern "C" fn SCR_Dense_checkpoint() -> c_int {
    status(with(|state, session| {
        let region = |(&id, memory): (&c_int, &Memory)| {
            // SAFETY: SCR_Dense_protect's caller vouches for the memory.
            (id, unsafe { std::slice::from_raw_parts(memory.at.cast_const(), memory.length) })
        };
        let regions: Vec<(c_int, &[u8])> = state.memory.iter().map(region).collect();
        state.dense.checkpoint(session, &regions)
    }))
}

/// See scr.h.
#[unsafe(no_mangle)]
pub extern "C" fn SCR_Dense_restart() -> c_int {
    let filled = with(|state, session| {
        let region = |(&id, memory): (&c_int, &Memory)| {
            // SAFETY: SCR_Dense_protect's caller vouches for the memory, and that regions do not overlap.
            (id, unsafe { std::slice::from_raw_parts_mut(memory.at, memory.length) })
        };
        let mut regions: Vec<(c_int, &mut [u8])> = state.memory.iter().map(region).collect();
        state.dense.restart(session, &mut regions)
    });
    if filled == Some(true) { SUCCESS } else { FAILURE }
}
