//! Who pays: no client can use up what another one has, and what comes back is all there and clean.

use abi::{Error, MAP_READ, MAP_WRITE, RIGHT_ALL, ROOT_CAP_TASK, TASK_MAP};
use fastrand::Rng;
use rt::invoke;

use crate::support::{
    Failure, Outcome, Shared, Test, address, delete, equal, free_bytes, holds, memory, object, refused, slot, thread,
    tsc, tsc_hz, wait_for,
};

pub const TESTS: &[Test] = &[
    Test { name: "a_client_that_uses_up_its_untyped_takes_nothing_from_another", cores: 1, run: exhaustion },
    Test { name: "page_tables_are_paid_for_by_the_task", cores: 1, run: page_tables },
    Test { name: "a_mapping_that_runs_out_of_memory_changes_nothing", cores: 1, run: partial_map },
    Test { name: "children_of_an_untyped_do_not_overlap", cores: 1, run: overlap },
    Test { name: "memory_of_any_object_comes_back_zeroed", cores: 1, run: zeroed },
    Test { name: "a_large_object_is_made_in_several_calls", cores: 1, run: made_in_parts },
    Test { name: "a_core_runs_others_while_a_large_object_is_destroyed", cores: 1, run: destroyed_in_parts },
    Test { name: "a_thread_that_is_deleted_while_it_destroys_leaves_nothing_behind", cores: 1, run: destroyer_deleted },
];

const KINDS: [(u64, u64); 9] = [
    (abi::KIND_UNTYPED, 1),
    (abi::KIND_CSPACE, 60),
    (abi::KIND_TASK, 0),
    (abi::KIND_THREAD, 0),
    (abi::KIND_ENDPOINT, 0),
    (abi::KIND_REPLY, 0),
    (abi::KIND_NOTIFICATION, 0),
    (abi::KIND_RANGE, 1),
    (abi::KIND_RANGE, 3),
];

fn retype(from: u64, kind: u64, size: u64) -> Result<u64, Error> {
    let to = slot();
    invoke(from, abi::UNTYPED_RETYPE, &[kind, size, to]).map(|_| to)
}

fn free_of(untyped: u64) -> Result<u64, Error> {
    invoke(untyped, abi::UNTYPED_FREE, &[]).map(|[bytes, _]| bytes)
}

fn exhaustion() -> Outcome {
    let before = free_bytes();
    let (greedy, modest) = (object(abi::KIND_UNTYPED, 100)?, object(abi::KIND_UNTYPED, 100)?);
    let (pool, other) = (free_bytes(), free_of(modest)?);
    // The greedy client takes all kinds in turn until nothing of any kind can be had.
    let mut random = Rng::with_seed(3);
    let mut refusals = 0;
    while refusals < 200 {
        let (kind, size) = KINDS[random.u64(..KINDS.len() as u64) as usize];
        match retype(greedy, kind, size) {
            Ok(_) => refusals = 0,
            Err(error) => {
                equal(error as u64, Error::NoMemory as u64)?;
                refusals += 1;
            }
        }
    }
    refused(retype(greedy, abi::KIND_ENDPOINT, 0), Error::NoMemory)?;
    // Neither the pool that it came from nor its neighbour has lost a byte, and all kinds can be made from them.
    equal(free_bytes(), pool)?;
    equal(free_of(modest)?, other)?;
    for (kind, size) in KINDS {
        retype(modest, kind, size)?;
    }
    while invoke(abi::ROOT_CAP_CSPACE, abi::CSPACE_REVOKE, &[greedy]).is_err() {}
    while invoke(abi::ROOT_CAP_CSPACE, abi::CSPACE_REVOKE, &[modest]).is_err() {}
    equal(free_of(greedy)?, 100 * 4096)?;
    equal(free_of(modest)?, 100 * 4096)?;
    delete(greedy)?;
    delete(modest)?;
    equal(free_bytes(), before)
}

fn page_tables() -> Outcome {
    let client = object(abi::KIND_UNTYPED, 40)?;
    let task = retype(client, abi::KIND_TASK, 0)?;
    let range = object(abi::KIND_RANGE, 1)?;
    let (pool, mut mapped) = (free_bytes(), 0);
    // Far apart, so that each needs tables of its own.
    let result = (0..64)
        .try_for_each(|i| invoke(task, TASK_MAP, &[range, 0, i << 39 | 0x1000, 4096, MAP_READ]).map(|_| mapped += 1));
    refused(result, Error::NoMemory)?;
    equal(mapped, 12)?; // 38 pages, 3 a mapping
    equal(free_bytes(), pool)?;
    delete(task)?;
    equal(free_of(client)?, 40 * 4096)
}

fn partial_map() -> Outcome {
    // Pages for the Task, its root table and four more tables.
    let client = object(abi::KIND_UNTYPED, 6)?;
    let task = retype(client, abi::KIND_TASK, 0)?;
    let (small, large) = (object(abi::KIND_RANGE, 1)?, object(abi::KIND_RANGE, 1536)?);
    invoke(task, TASK_MAP, &[small, 0, 0x40_0000 - 4096, 4096, MAP_READ])?;
    equal(free_of(client)?, 4096)?;
    // From the middle of one table over a second to a third: one is there, one can be made, one cannot.
    let try_map =
        || invoke(task, TASK_MAP, &[large, 4096, 0x40_0000 - 8192, 2 * (2 << 20) + 8192, MAP_READ | MAP_WRITE]);
    refused(try_map(), Error::NoMemory)?;
    equal(free_of(client)?, 4096)?; // the table that was made is back
    // What was there is there: the first page is not mapped and the second is that of the small Range, read only.
    let program = |address: u64, store: bool| -> Result<[u64; 4], Failure> {
        // mov rax, [address], or mov [address], rax; ud2
        let mut code = [0x48, if store { 0x89 } else { 0x8b }, 0x04, 0x25, 0, 0, 0, 0, 0x0f, 0x0b];
        code[4..8].copy_from_slice(&(address as u32).to_le_bytes());
        let (range, at) = memory(1)?;
        // SAFETY: a fresh page.
        unsafe { (at as *mut [u8; 10]).write(code) };
        invoke(task, TASK_MAP, &[range, 0, 0x38_0000, 4096, MAP_READ | abi::MAP_EXEC])?;
        let (endpoint, reply, thread) =
            (object(abi::KIND_ENDPOINT, 0)?, object(abi::KIND_REPLY, 0)?, object(abi::KIND_THREAD, 0)?);
        invoke(thread, abi::THREAD_CONFIGURE, &[0, task, 0, 0, endpoint])?;
        invoke(thread, abi::THREAD_BIND, &[abi::ROOT_CAP_CPU, 10])?;
        invoke(thread, abi::THREAD_START, &[0x38_0000, 0, 0])?;
        Ok(rt::receive(endpoint, reply)?.words)
    };
    equal(program(0x40_0000 - 8192, false)?[0], 14)?;
    equal(program(0x40_0000 - 4096, false)?[0], 6)?;
    let [vector, error, ..] = program(0x40_0000 - 4096, true)?;
    equal(vector, 14)?;
    equal(error, 7)
}

fn overlap() -> Outcome {
    let parent = object(abi::KIND_UNTYPED, 600)?;
    let mut extents = [(0u64, 0u64); 128];
    let mut count = 0;
    let mut random = Rng::with_seed(11);
    let mut slots = [0; 128];
    for _ in 0..2000 {
        let at = random.usize(..128);
        if slots[at] != 0 {
            delete(slots[at])?;
            slots[at] = 0;
            continue;
        }
        // A Range straight from the parent, or through a child Untyped that only the Range keeps.
        let pages = 1 + random.u64(..9);
        let made = if random.bool() {
            retype(parent, abi::KIND_RANGE, pages)
        } else {
            retype(parent, abi::KIND_UNTYPED, pages + 1).and_then(|child| {
                let range = retype(child, abi::KIND_RANGE, pages);
                delete(child)?;
                range
            })
        };
        let Ok(range) = made else { continue };
        slots[at] = range;
        let [start, bytes] = invoke(range, abi::RANGE_ADDRESS, &[])?;
        equal(bytes, pages * 4096)?;
        extents[at] = (start, start + bytes);
        count += 1;
        for other in (0..128).filter(|&i| i != at && slots[i] != 0) {
            holds(extents[other].1 <= start || extents[at].1 <= extents[other].0)?;
        }
        if count % 50 == 0 {
            crate::support::reuse_slots(slots.iter().copied().max().unwrap_or(0).max(parent));
        }
    }
    equal(u64::from(count > 100), 1)?;
    for range in slots.into_iter().filter(|&s| s != 0) {
        delete(range)?;
    }
    equal(free_of(parent)?, 600 * 4096)
}

/// Whether all pages that an Untyped can give are zero.
fn all_zero(untyped: u64) -> Outcome {
    let at = address(4096);
    while let Ok(range) = retype(untyped, abi::KIND_RANGE, 1) {
        invoke(ROOT_CAP_TASK, TASK_MAP, &[range, 0, at, 4096, MAP_READ])?;
        for i in 0..512 {
            // SAFETY: mapped.
            equal(unsafe { (at as *const u64).add(i).read_volatile() }, 0)?;
        }
    }
    invoke(ROOT_CAP_TASK, abi::TASK_UNMAP, &[at, 4096]).map(drop)?;
    Ok(())
}

fn zeroed() -> Outcome {
    let untyped = object(abi::KIND_UNTYPED, 24)?;
    // Objects leave capabilities, page tables, names and registers in their memory.
    let task = retype(untyped, abi::KIND_TASK, 0)?;
    let space = retype(untyped, abi::KIND_CSPACE, 60)?;
    let thread = retype(untyped, abi::KIND_THREAD, 0)?;
    let range = retype(untyped, abi::KIND_RANGE, 2)?;
    for i in 1..60 {
        invoke(space, abi::CSPACE_PUT, &[range, i, RIGHT_ALL, i])?;
    }
    for object in [task, space, thread, range] {
        invoke(object, abi::OBJECT_NAME, &[u64::MAX, u64::MAX])?;
    }
    invoke(task, TASK_MAP, &[range, 0, 0x7000_0000_0000, 8192, MAP_READ])?;
    invoke(thread, abi::THREAD_CONFIGURE, &[space, task, 0, 0, 0])?;
    while invoke(abi::ROOT_CAP_CSPACE, abi::CSPACE_REVOKE, &[untyped]).is_err() {}
    equal(free_of(untyped)?, 24 * 4096)?;
    all_zero(untyped)
}

fn made_in_parts() -> Outcome {
    // What an Untyped gives out has to be wiped first, 512 pages a call.
    for (kind, size) in [(abi::KIND_RANGE, 1400), (abi::KIND_CSPACE, 1400 * 64)] {
        let untyped = object(abi::KIND_UNTYPED, 1500)?;
        let before = free_of(untyped)?;
        for _ in 0..2 {
            refused(retype(untyped, kind, size), Error::Cancelled)?;
            equal(free_of(untyped)?, before)?;
        }
        let made = retype(untyped, kind, size)?;
        delete(made)?;
        equal(free_of(untyped)?, before)?;
        delete(untyped)?;
    }
    Ok(())
}

/// An Untyped of 48 MiB, beside that of the test.
fn large_untyped() -> Result<u64, Error> {
    let untyped = slot();
    rt::retype(abi::ROOT_CAP_UNTYPED, abi::KIND_UNTYPED, 12 << 10, untyped)?;
    Ok(untyped)
}

/// Something of some 40 MiB that ends with its capability, in `large`.
fn large_object(large: u64, kind: u64) -> Result<u64, Error> {
    let made = slot();
    match kind {
        abi::KIND_CSPACE => rt::retype(large, kind, 600 << 10, made)?,
        abi::KIND_TASK => {
            rt::retype(large, kind, 0, made)?;
            for gib in 0..3000 {
                invoke(made, TASK_MAP, &[abi::ROOT_CAP_MODULE, 0, gib << 30, 4096, MAP_READ])?;
            }
        }
        _ => rt::retype(large, kind, 10 << 10, made)?,
    }
    Ok(made)
}

/// Free bytes of the watched Untyped before and after; runs of the watcher, and how often it saw something in between.
static BOUNDS: [Shared; 2] = [const { Shared::new() }; 2];
static LOOKS: Shared = Shared::new();
static BETWEEN: Shared = Shared::new();

extern "C" fn watcher(untyped: u64) -> ! {
    loop {
        let free = free_of(untyped).unwrap_or(0);
        if BOUNDS[0].get() < free && free < BOUNDS[1].get() {
            BETWEEN.set(BETWEEN.get() + 1);
        }
        LOOKS.set(LOOKS.get() + 1);
    }
}

fn destroyed_in_parts() -> Outcome {
    let large = large_untyped()?;
    let all = free_of(large)?;
    BOUNDS.iter().for_each(|bound| bound.set(all));
    // It runs on this core, in turn with this thread: were the object destroyed in one go, it would see it all or gone.
    thread(0, 200, 0, watcher, large)?;
    holds(wait_for(|| LOOKS.get() > 0))?;
    for kind in [abi::KIND_CSPACE, abi::KIND_RANGE, abi::KIND_UNTYPED, abi::KIND_TASK] {
        BETWEEN.set(0);
        let mut whole = true;
        // (Where it takes less than a time slice, it may take some objects until one ends in the midst of it.)
        let seen = wait_for(|| {
            let Ok(made) = large_object(large, kind) else { return true };
            BOUNDS[0].set(free_of(large).unwrap_or(all));
            let ended = delete(made).is_ok();
            BOUNDS[0].set(all);
            // The call comes back with all of the memory.
            whole &= ended && free_of(large) == Ok(all);
            BETWEEN.get() > 0
        });
        holds(seen && BETWEEN.get() > 0)?;
        holds(whole)?;
    }
    Ok(delete(large)?)
}

static DESTROYING: Shared = Shared::new();
/// How long it waits before, in cycles of the TSC.
static WAITS: Shared = Shared::new();

/// Deletes the capability in a slot.
extern "C" fn destroyer(slot: u64) -> ! {
    let begin = tsc() + WAITS.get();
    while tsc() < begin {
        core::hint::spin_loop();
    }
    DESTROYING.set(1);
    let _ = delete(slot);
    DESTROYING.set(2);
    loop {
        core::hint::spin_loop();
    }
}

/// Its work is left to its core, which finishes it when it has nothing else to do, and beside its threads.
fn destroyer_deleted() -> Outcome {
    let large = large_untyped()?;
    let all = free_of(large)?;
    for core in 0..crate::support::cores().min(2) {
        // Beside this thread on one core, it has time slices of 10 ms, and may destroy all within one. So it begins
        // later in its slice from attempt to attempt, by less than the destruction takes, until a slice ends in the
        // midst of it.
        let mut caught = false;
        for attempt in 0..100 {
            let made = large_object(large, abi::KIND_RANGE)?;
            let rest = free_of(large)?;
            DESTROYING.set(0);
            WAITS.set(attempt % 20 * tsc_hz() / 2000);
            let other = thread(core, 200, 0, destroyer, made)?;
            holds(wait_for(|| DESTROYING.get() > 0 && free_of(large).is_ok_and(|free| free > rest)))?;
            delete(other)?;
            holds(wait_for(|| free_of(large) == Ok(all)))?;
            caught = DESTROYING.get() == 1;
            if caught {
                break;
            }
        }
        holds(caught)?;
    }
    Ok(delete(large)?)
}
