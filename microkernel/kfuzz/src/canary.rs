//! The canary: a thread that writes into a page as fast as it can. Two others take the page away from it at the same time,
//! each on a core of its own, while the workers' cores, on which the same Task is active, are inside whatever calls the
//! workers make. Who has taken the page away clears a word of the memory. When the canary has run into its page fault, that
//! word must still be zero: whatever else it holds was written through a translation that should have been gone.
//!
//! A *keeper* handles the canary's faults. It waits until both takers have looked, and gives the canary new memory.

use core::sync::atomic::{AtomicU64, Ordering};

use abi::{Error, MAP_READ, MAP_WRITE, MessagePage};
use rt::{println, raw};

use crate::coordinator::thread;
use crate::playground::{self, HARNESS};

/// Cores that the canary, the keeper and the second taker have for themselves.
pub const CORES: u64 = 2;
/// Above the workers, whose cores the first taker shares.
const PRIORITY: u64 = 101;
/// Rounds are costly where there are fewer processors than cores: these take about 5 % of a run.
const TICKS_PER_ROUND: u64 = 16;
/// Ticks after which a round does not end: the canary's page does not go away. (Five seconds and more.)
const STUCK: u64 = 2500;

// Slots of the root CSpace.
const POOL: u64 = HARNESS + 64;
const FAULTS: u64 = POOL + 1;
const REPLY: u64 = POOL + 2;
/// The canary's memory, and what is mapped over it.
const RANGE: u64 = POOL + 3;
const OTHER: u64 = POOL + 4;
const CANARY: u64 = POOL + 5;
const KEEPER: u64 = POOL + 6;
const TAKERS: [u64; 2] = [POOL + 7, POOL + 8];
/// Notifications. By the coordinator: another round; by the keeper, for each taker: it begins, and the canary has noticed; by
/// each taker: it has looked.
const PACE: u64 = POOL + 9;
const GO: [u64; 2] = [POOL + 10, POOL + 11];
const LOOKED: u64 = POOL + 12;
/// Badged capabilities to them.
const SET_PACE: u64 = POOL + 13;
const SET_GO: [u64; 2] = [POOL + 14, POOL + 15];
const SET_LOOKED: [u64; 2] = [POOL + 16, POOL + 17];
/// Memory of the threads: message page and stack.
const MEMORY: u64 = POOL + 20;
/// What is derived from `RANGE`, to be revoked.
const COPY: u64 = POOL + 30;

const POOL_PAGES: u64 = 8;
const THREAD_PAGES: u64 = 8;
const THREADS_AT: u64 = 0x50_4000_0000;
/// Where the canary writes, and where the takers see the same memory.
const PAGE: u64 = 0x50_5000_0000;
const VIEW: u64 = 0x50_6000_0000;

/// How the second taker takes the page away; the first unmaps it always, or maps another over it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Both unmap it.
    Unmap,
    /// The memory ends, and is made into another Range.
    Delete,
    /// The first maps other memory over it; what lies there then goes too.
    Replace,
    /// It was mapped by a capability that is revoked.
    Revoke,
}
const WAYS: [(Way, &str); 4] =
    [(Way::Unmap, "unmapped"), (Way::Delete, "ended"), (Way::Replace, "replaced"), (Way::Revoke, "revoked")];

/// The round that is on, counted from 1.
static ROUND: AtomicU64 = AtomicU64::new(0);
/// Times that the canary has written.
static STROKES: AtomicU64 = AtomicU64::new(0);
/// `STROKES` when the round began.
static BEGAN: AtomicU64 = AtomicU64::new(0);
/// The last round in which the second taker has done its part.
static TAKEN: AtomicU64 = AtomicU64::new(0);
/// The last round of which the canary has noticed that its page is gone.
static NOTICED: AtomicU64 = AtomicU64::new(0);
/// Rounds that are over, of each way.
static COUNTS: [AtomicU64; WAYS.len()] = [const { AtomicU64::new(0) }; WAYS.len()];
/// The first thing that was wrong: round, taker and word; or the error that a taker or the keeper met.
static FOUND: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];
const ERROR: u64 = 99;

fn way(round: u64) -> Way {
    WAYS[(round % WAYS.len() as u64) as usize].0
}

/// Make the threads on two cores from `core` on; the first taker runs on core 0.
pub fn launch(core: u64) -> Result<(), Error> {
    use rt::{invoke, retype};
    retype(abi::ROOT_CAP_UNTYPED, abi::KIND_UNTYPED, POOL_PAGES, POOL)?;
    retype(abi::ROOT_CAP_UNTYPED, abi::KIND_ENDPOINT, 0, FAULTS)?;
    retype(abi::ROOT_CAP_UNTYPED, abi::KIND_REPLY, 0, REPLY)?;
    for slot in [PACE, LOOKED, GO[0], GO[1]] {
        retype(abi::ROOT_CAP_UNTYPED, abi::KIND_NOTIFICATION, 0, slot)?;
    }
    let badged = [
        (PACE, SET_PACE, 1),
        (GO[0], SET_GO[0], 1),
        (GO[1], SET_GO[1], 1),
        (LOOKED, SET_LOOKED[0], 1),
        (LOOKED, SET_LOOKED[1], 2),
    ];
    for (notification, copy, badge) in badged {
        invoke(abi::ROOT_CAP_CSPACE, abi::CSPACE_COPY, &[notification, copy, abi::RIGHT_ALL, badge])?;
    }
    let keep = keep as *const () as u64;
    let threads = [
        (KEEPER, core, keep, 0),
        (TAKERS[0], 0, take_first as *const () as u64, 0),
        (TAKERS[1], core, take_second as *const () as u64, 0),
        (CANARY, core + 1, write as *const () as u64, FAULTS),
    ];
    for (i, (slot, core, entry, faults)) in (0..).zip(threads) {
        let at = THREADS_AT + i * (2 << 20);
        playground::memory(THREAD_PAGES, MEMORY + i, at)?;
        thread(slot, abi::ROOT_CAP_CSPACE, (MEMORY + i, 0), core, PRIORITY, faults)?;
        invoke(slot, abi::THREAD_START, &[entry, at + THREAD_PAGES * 4096 - 8, at])?;
    }
    Ok(())
}

/// How often its memory was taken away in which way.
pub fn rounds() -> impl Iterator<Item = (&'static str, u64)> {
    WAYS.iter().zip(&COUNTS).map(|((_, how), count)| (*how, count.load(Ordering::Relaxed)))
}

/// Called by the coordinator in each of its ticks: now and then another round begins, and the run ends if one has found
/// something, or does not end.
pub fn tick(seed: u64) {
    static TICKS: AtomicU64 = AtomicU64::new(0);
    static LAST: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
    let (now, noticed) = (TICKS.fetch_add(1, Ordering::Relaxed), NOTICED.load(Ordering::SeqCst));
    if LAST[0].swap(noticed, Ordering::Relaxed) != noticed {
        LAST[1].store(now, Ordering::Relaxed);
    }
    let [round, taker, word] = FOUND.each_ref().map(|part| part.load(Ordering::SeqCst));
    if taker == ERROR {
        println!("kfuzz: the canary's round {round} failed: {:?}, seed {seed}", Error::from_status(word as i64));
    } else if taker != 0 {
        let how = WAYS[(round % WAYS.len() as u64) as usize].1;
        println!("kfuzz: memory was {how}, then written ({word:#x}): taker {taker}, round {round}, seed {seed}");
    } else if now - LAST[1].load(Ordering::Relaxed) > STUCK {
        let strokes = STROKES.load(Ordering::SeqCst) - BEGAN.load(Ordering::SeqCst);
        println!("kfuzz: the canary wrote {strokes} times in round {}, which does not end, seed {seed}", noticed + 1);
    } else {
        if now % TICKS_PER_ROUND == 0 {
            signal(SET_PACE);
        }
        return;
    }
    rt::exit(1)
}

fn found(taker: u64, word: u64) {
    if FOUND[1].compare_exchange(0, taker, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
        FOUND[2].store(word, Ordering::SeqCst);
        FOUND[0].store(ROUND.load(Ordering::SeqCst), Ordering::SeqCst);
    }
}

/// Who cannot do his part says so, and stops.
fn must<T>(done: Result<T, Error>) -> T {
    done.unwrap_or_else(|error| {
        found(ERROR, error.status() as u64);
        loop {
            let _ = raw(abi::SYS_RECV, REPLY, 0, [0; 4], 0);
        }
    })
}

extern "C" fn write(_: u64) -> ! {
    let words = PAGE as *mut u64;
    loop {
        let stroke = STROKES.load(Ordering::Relaxed) + 1;
        for taker in 0..2 {
            // SAFETY: nothing else of this program is there; where nothing is mapped, the keeper sees to it.
            unsafe { words.add(taker).write_volatile(stroke) };
        }
        STROKES.store(stroke, Ordering::SeqCst);
    }
}

/// The word that is a taker's, where the takers see it.
fn word(taker: usize) -> *mut u64 {
    (VIEW as *mut u64).wrapping_add(taker)
}

extern "C" fn keep(message: u64) -> ! {
    must(raw(abi::SYS_RECV, FAULTS, 0, [0; 4], REPLY));
    loop {
        wait(PACE);
        must(prepare(message));
        BEGAN.store(STROKES.load(Ordering::SeqCst), Ordering::SeqCst);
        ROUND.fetch_add(1, Ordering::SeqCst);
        SET_GO.into_iter().for_each(signal);
        must(raw(abi::SYS_REPLY_RECV, FAULTS, 0, [0; 4], REPLY));
        NOTICED.fetch_add(1, Ordering::SeqCst);
        SET_GO.into_iter().for_each(signal);
        let mut looked = 0;
        while looked != 3 {
            looked |= wait(LOOKED);
        }
        let round = ROUND.load(Ordering::SeqCst);
        COUNTS[(round % WAYS.len() as u64) as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// Take back what the last round has left, and give the canary new memory.
fn prepare(message: u64) -> Result<(), Error> {
    call(abi::ROOT_CAP_TASK, abi::TASK_UNMAP, &[VIEW, 4096])?;
    for slot in [COPY, RANGE, OTHER] {
        match call(abi::ROOT_CAP_CSPACE, abi::CSPACE_DELETE, &[slot]) {
            Ok(_) | Err(Error::NoCapability) => {}
            Err(error) => return Err(error),
        }
    }
    make(message, RANGE, VIEW)?;
    call(abi::ROOT_CAP_CSPACE, abi::CSPACE_COPY, &[RANGE, COPY, abi::RIGHT_ALL, 0])?;
    map(message, COPY, PAGE)
}

/// Make a page of the canary's pool, when all of it is back, and map it.
fn make(message: u64, slot: u64, at: u64) -> Result<(), Error> {
    while call(POOL, abi::UNTYPED_FREE, &[])? != POOL_PAGES * 4096 {}
    call(POOL, abi::UNTYPED_RETYPE, &[abi::KIND_RANGE, 1, slot])?;
    map(message, slot, at)
}

fn map(message: u64, range: u64, at: u64) -> Result<(), Error> {
    // SAFETY: the calling thread's own message page.
    unsafe { (&raw mut (*(message as *mut MessagePage)).words[4]).write_volatile(MAP_READ | MAP_WRITE) };
    call(abi::ROOT_CAP_TASK, abi::TASK_MAP, &[range, 0, at, 4096]).map(drop)
}

/// (As `rt::invoke`, which knows one thread's message page.) Word 0 of the answer.
fn call(handle: u64, method: u64, arguments: &[u64]) -> Result<u64, Error> {
    let mut words = [0; 4];
    words[..arguments.len()].copy_from_slice(arguments);
    let length = if method == abi::TASK_MAP { 5 } else { arguments.len() as u64 };
    raw(abi::SYS_CALL, handle, abi::tag(method, length, 0), words, 0).map(|answer| answer.words[0])
}

fn signal(notification: u64) {
    must(raw(abi::SYS_SEND, notification, 0, [0; 4], 0));
}

/// The signals.
fn wait(notification: u64) -> u64 {
    must(raw(abi::SYS_RECV, notification, 0, [0; 4], 0)).badge
}

fn unmap() {
    must(call(abi::ROOT_CAP_TASK, abi::TASK_UNMAP, &[PAGE, 4096]));
}

/// Wait until a round after `last` begins, and the canary has written in it. The round.
fn begin(taker: usize, last: u64) -> u64 {
    while ROUND.load(Ordering::SeqCst) == last {
        wait(GO[taker]);
    }
    while STROKES.load(Ordering::SeqCst) == BEGAN.load(Ordering::SeqCst) {
        core::hint::spin_loop();
    }
    last + 1
}

/// When the canary has noticed, words that a taker cleared must still be zero.
fn look(taker: usize, round: u64, words: core::ops::Range<usize>) {
    while NOTICED.load(Ordering::SeqCst) < round {
        wait(GO[taker]); // (the signal that the round begins may be there still)
    }
    for i in words {
        // SAFETY: the memory of this round is mapped there until the takers have looked.
        let value = unsafe { word(i).read_volatile() };
        if value != 0 {
            found(taker as u64 + 1, value);
        }
    }
}

/// Whether there is more to revoke.
fn revoked(answer: Result<u64, Error>) -> Result<bool, Error> {
    match answer {
        Err(Error::Cancelled) => Ok(true),
        done => done.map(|_| false),
    }
}

fn clear(taker: usize) {
    // SAFETY: the memory of this round is mapped there until the takers have looked.
    unsafe { word(taker).write_volatile(0) };
}

fn clear_and_look(taker: usize, round: u64) {
    clear(taker);
    look(taker, round, taker..taker + 1);
}

/// A taker's life: `part` is what it does in a round.
fn take(taker: usize, message: u64, part: fn(u64, u64)) -> ! {
    let mut round = 0;
    loop {
        round = begin(taker, round);
        part(message, round);
        signal(SET_LOOKED[taker]);
    }
}

extern "C" fn take_first(message: u64) -> ! {
    take(0, message, |message, round| match way(round) {
        Way::Unmap | Way::Revoke => {
            unmap();
            clear_and_look(0, round);
        }
        Way::Delete => unmap(), // the view goes with the memory
        Way::Replace => {
            must(call(POOL, abi::UNTYPED_RETYPE, &[abi::KIND_RANGE, 1, OTHER]));
            must(map(message, OTHER, PAGE));
            clear(0);
            while TAKEN.load(Ordering::SeqCst) < round {
                core::hint::spin_loop();
            }
            unmap();
            look(0, round, 0..1);
        }
    })
}

extern "C" fn take_second(message: u64) -> ! {
    take(1, message, |message, round| match way(round) {
        Way::Unmap | Way::Replace => {
            unmap();
            clear(1);
            TAKEN.store(round, Ordering::SeqCst);
            look(1, round, 1..2);
        }
        Way::Revoke => {
            while must(revoked(call(abi::ROOT_CAP_CSPACE, abi::CSPACE_REVOKE, &[RANGE]))) {}
            clear_and_look(1, round);
        }
        Way::Delete => {
            must(call(abi::ROOT_CAP_CSPACE, abi::CSPACE_DELETE, &[COPY]));
            must(call(abi::ROOT_CAP_CSPACE, abi::CSPACE_DELETE, &[RANGE]));
            must(make(message, RANGE, VIEW)); // the same memory, which was wiped
            look(1, round, 0..512);
        }
    })
}
