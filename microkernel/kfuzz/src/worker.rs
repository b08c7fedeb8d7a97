//! A worker: calls until the coordinator says stop, then waits for the next batch.

use core::sync::atomic::{AtomicU64, Ordering};

use abi::{Error, MessagePage};

use crate::calls;
use crate::random::Random;

pub const MAX_WORKERS: usize = 16;
/// Kinds of results: success, and each error by its number.
pub const RESULTS: usize = 16;

pub struct Worker {
    pub calls: AtomicU64,
    /// The last batch that it has joined, and left.
    pub joined: AtomicU64,
    pub left: AtomicU64,
    pub results: [AtomicU64; RESULTS],
}

pub static WORKERS: [Worker; MAX_WORKERS] = [const {
    Worker {
        calls: AtomicU64::new(0),
        joined: AtomicU64::new(0),
        left: AtomicU64::new(0),
        results: [const { AtomicU64::new(0) }; RESULTS],
    }
}; MAX_WORKERS];
pub static SEED: AtomicU64 = AtomicU64::new(0);
/// The batch that is on, counted from 1; [`STOPPED`] between batches.
pub static BATCH: AtomicU64 = AtomicU64::new(STOPPED);
pub const STOPPED: u64 = 0;

/// Entry of a worker's thread; `message` is its message page, behind which its number stands.
pub extern "C" fn main(message: u64) -> ! {
    let page = message as *mut MessagePage;
    // SAFETY: the coordinator wrote it there before the start.
    let number = unsafe { *((message + 4096) as *const u64) };
    let me = &WORKERS[number as usize];
    let mut last = STOPPED;
    loop {
        let batch = BATCH.load(Ordering::SeqCst);
        if batch == STOPPED || batch == last {
            core::hint::spin_loop();
            continue;
        }
        last = batch;
        me.joined.store(batch, Ordering::SeqCst);
        let mut random = Random::new([SEED.load(Ordering::Relaxed), batch, number]);
        while BATCH.load(Ordering::SeqCst) == batch {
            let result = calls::one(&mut random, page);
            me.results[result.err().map_or(0, |error: Error| -error.status() as usize)].fetch_add(1, Ordering::Relaxed);
            me.calls.fetch_add(1, Ordering::Relaxed);
        }
        me.left.store(batch, Ordering::SeqCst);
    }
}
