//! `libftcoll`: MPI programs whose collectives go on when ranks die. See include/ftcoll.h and docs/gossip-mgr-collectives.md.

pub mod engine;
mod exports;
mod liveness;
mod mpi;

use std::ffi::{c_int, c_void};
use std::sync::{Mutex, MutexGuard, PoisonError};

use engine::{Engine, Failed, Patience, Value};
use gossip_core::collective::Rank;
use mpi::{Call, Mpi};

/// Silence after which a rank on another node counts as dead, in milliseconds.
const TIMEOUT: &str = "FTCOLL_TIMEOUT_MS";
const TIMEOUT_MS: u64 = 2_000;
/// `tree` or `gossip`.
const BROADCAST: &str = "FTCOLL_BCAST";
/// Who has nothing of a broadcast after so many microseconds asks.
const ASK: u64 = 20_000;
/// If somebody died, who ends waits for so many microseconds for those whose answer was lost with the dead.
const LINGER: u64 = 200_000;

struct Running(Engine<Mpi, Call>);

// SAFETY: what it points to is used by one call at a time, under the lock, and MPI's shadow communicator likewise.
unsafe impl Send for Running {}

static RUNNING: Mutex<Option<Running>> = Mutex::new(None);

fn running() -> MutexGuard<'static, Option<Running>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

fn say(text: &str) {
    // A log that nobody takes must not end the program.
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("libftcoll: {text}\n").as_bytes());
}

fn settings() -> Result<(Patience, bool), String> {
    let timeout_ms = match std::env::var(TIMEOUT) {
        Err(_) => TIMEOUT_MS,
        Ok(text) => match text.parse() {
            Ok(ms) if (10..=3_600_000).contains(&ms) => ms,
            _ => return Err(format!("{TIMEOUT} is `{text}`: 10 to 3600000 milliseconds are allowed")),
        },
    };
    let gossip = match std::env::var(BROADCAST).as_deref() {
        Err(_) | Ok("tree") => false,
        Ok("gossip") => true,
        Ok(text) => return Err(format!("{BROADCAST} is `{text}`: tree and gossip are allowed")),
    };
    Ok((Patience { timeout: 1_000 * timeout_ms, ask: ASK }, gossip))
}

fn combine(value: &mut Value<Call>, other: &Value<Call>) {
    if value.bytes.len() == other.bytes.len() {
        value.call.combine(&mut value.bytes, &other.bytes);
    }
}

/// After MPI's start; 0 if the settings make no sense.
#[unsafe(no_mangle)]
extern "C" fn ftcoll_start(rank: c_int, size: c_int) -> c_int {
    match settings() {
        Ok((patience, gossip)) => {
            let engine = Engine::new(Mpi::start(rank, size), rank as Rank, size as u32, patience, gossip, combine);
            *running() = Some(Running(engine));
            1
        }
        Err(text) => {
            say(&text);
            0
        }
    }
}

/// Before MPI's end: who has died is known by all, and those that are late have their answers. Whether all live.
#[unsafe(no_mangle)]
extern "C" fn ftcoll_end() -> c_int {
    let Some(Running(mut engine)) = running().take() else { return 1 };
    // One that was expelled has nobody to wait for.
    let is_in = engine.allreduce(Value { bytes: Vec::new(), call: Call::none() }).is_ok();
    let all_live = is_in && engine.contributors().len() == engine.size() as usize;
    if is_in && !all_live {
        engine.linger(LINGER);
    }
    c_int::from(all_live)
}

#[unsafe(no_mangle)]
extern "C" fn ftcoll_is_on() -> c_int {
    c_int::from(running().is_some())
}

fn told(result: Result<(), Failed>) -> c_int {
    let Err(failed) = result else { return 0 };
    match failed {
        Failed::Root(rank) => {
            say(&format!("rank {rank}, the root of a broadcast, died before anybody had its message"))
        }
        Failed::Expelled => say(&format!(
            "the others took this rank for dead and went on without it; a longer {TIMEOUT} lets them wait longer"
        )),
        Failed::Length => say("a broadcast has another length than the root's"),
    }
    1
}

/// # Safety
/// `bytes` are `length` bytes that nobody else uses.
unsafe fn slice<'a>(bytes: *mut c_void, length: usize) -> &'a mut [u8] {
    if length == 0 {
        return &mut [];
    }
    // SAFETY: as the caller says.
    unsafe { std::slice::from_raw_parts_mut(bytes.cast(), length) }
}

/// # Safety
/// `bytes` are the caller's value, `length` bytes; `call` is valid during the call.
#[unsafe(no_mangle)]
unsafe extern "C" fn ftcoll_allreduce(bytes: *mut c_void, length: usize, call: *const c_void) -> c_int {
    // SAFETY: as the caller says.
    let bytes = unsafe { slice(bytes, length) };
    let mut running = running();
    let Some(Running(engine)) = running.as_mut() else { return 1 };
    let value = Value { bytes: bytes.to_vec(), call: Call::new(call) };
    let result = engine.allreduce(value);
    told(result.and_then(|result| match result.len() == bytes.len() {
        true => {
            bytes.copy_from_slice(&result);
            Ok(())
        }
        false => Err(Failed::Length),
    }))
}

/// # Safety
/// `bytes` are the caller's buffer, `length` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn ftcoll_broadcast(bytes: *mut c_void, length: usize, root: c_int) -> c_int {
    // SAFETY: as the caller says.
    let bytes = unsafe { slice(bytes, length) };
    let mut running = running();
    let Some(Running(engine)) = running.as_mut() else { return 1 };
    told(engine.broadcast(root as Rank, bytes))
}

/// See ftcoll.h.
#[unsafe(no_mangle)]
extern "C" fn ftcoll_contributors() -> c_int {
    running().as_ref().map_or(0, |Running(engine)| engine.contributors().len() as c_int)
}

/// See ftcoll.h.
#[unsafe(no_mangle)]
extern "C" fn ftcoll_contributed(rank: c_int) -> c_int {
    let is_in = |Running(engine): &Running| engine.contributors().contains(&(rank as Rank));
    c_int::from(running().as_ref().is_some_and(is_in))
}
