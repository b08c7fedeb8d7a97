//! Revoking a Range: when it returns, nobody who got the memory by what was revoked can reach it.

use core::mem::offset_of;

use abi::{MAP_READ, MAP_WRITE, MessagePage, RIGHT_ALL, TASK_MAP};
use rt::{invoke, poll, receive, send};

use crate::support::{
    Outcome, Shared, Test, address, copy, cores, delete, equal, free_bytes, holds, memory, object, pause, refused,
    revoke, slot, start_in, thread, thread_in, user_task, wait_for,
};

pub const TESTS: &[Test] = &[
    Test { name: "who_mapped_by_a_revoked_capability_loses_the_mapping", cores: 1, run: mappings },
    Test { name: "a_mapping_goes_though_its_capability_was_deleted_before", cores: 1, run: deleted_before },
    Test { name: "a_running_program_loses_what_it_got_by_a_revoked_capability", cores: 1, run: running },
    Test { name: "nobody_maps_by_a_capability_while_it_is_revoked", cores: 2, run: racing },
    Test { name: "a_revocation_that_is_stopped_keeps_no_address_space", cores: 2, run: stopped },
    Test { name: "a_thread_loses_its_message_page_with_the_capability", cores: 1, run: message_page },
    Test { name: "an_untyped_has_all_of_its_memory_when_it_is_revoked", cores: 1, run: untyped },
];

/// Each mapping takes three page tables of its own.
fn tables(task: u64) -> Result<u64, abi::Error> {
    invoke(task, abi::TASK_TABLES, &[]).map(|answer| answer[0])
}

fn map(task: u64, range: u64, place: u64) -> Result<(), abi::Error> {
    invoke(task, TASK_MAP, &[range, 0, place << 39, 4096, MAP_READ]).map(drop)
}

fn mappings() -> Outcome {
    let (task, other) = (object(abi::KIND_TASK, 0)?, object(abi::KIND_TASK, 0)?);
    let (range, unrelated) = (object(abi::KIND_RANGE, 512)?, object(abi::KIND_RANGE, 1)?);
    let child = copy(range, RIGHT_ALL, 0)?;
    let grandchildren = [copy(child, RIGHT_ALL, 0)?, copy(child, RIGHT_ALL, 0)?];
    let great_grandchild = copy(grandchildren[0], RIGHT_ALL, 0)?;
    let sibling = copy(range, RIGHT_ALL, 0)?;
    for (place, range) in [range, child, grandchildren[0], great_grandchild, sibling, unrelated].into_iter().enumerate()
    {
        map(task, range, place as u64)?;
    }
    map(other, grandchildren[1], 0)?;
    // All of it in one large page (and its two tables).
    invoke(other, TASK_MAP, &[great_grandchild, 0, 1 << 39, 2 << 20, MAP_READ])?;
    equal(tables(task)?, 6 * 3)?;
    equal(tables(other)?, 3 + 2)?;
    revoke(child)?;
    equal(tables(task)?, 4 * 3)?; // the first's, the child's, the sibling's, and the unrelated one
    equal(tables(other)?, 0)?;
    revoke(range)?;
    equal(tables(task)?, 2 * 3)?;
    revoke(range)?;
    equal(tables(task)?, 2 * 3)
}

fn deleted_before() -> Outcome {
    let (task, range) = (object(abi::KIND_TASK, 0)?, object(abi::KIND_RANGE, 1)?);
    let child = copy(range, RIGHT_ALL, 0)?;
    map(task, child, 0)?;
    delete(child)?;
    equal(tables(task)?, 3)?;
    revoke(range)?;
    equal(tables(task)?, 0)?;
    // However deep it is.
    let mut last = range;
    for _ in 0..140 {
        last = copy(last, RIGHT_ALL, 0)?;
    }
    map(task, last, 0)?;
    revoke(last - 2)?;
    equal(tables(task)?, 0)
}

/// mov rax, [0x900000]; jmp to the start: runs until the page is gone.
const READ: [u8; 10] = [0x48, 0x8b, 0x04, 0x25, 0, 0, 0x90, 0, 0xeb, 0xf6];

fn running() -> Outcome {
    for core in 0..cores() {
        let (task, _, _) = user_task(&READ)?;
        let range = object(abi::KIND_RANGE, 1)?;
        invoke(task, TASK_MAP, &[copy(range, RIGHT_ALL, 0)?, 0, 0x90_0000, 4096, MAP_READ])?;
        let (endpoint, reply) = (object(abi::KIND_ENDPOINT, 0)?, object(abi::KIND_REPLY, 0)?);
        start_in(task, core, 10, endpoint)?;
        pause();
        refused(poll(endpoint, reply), abi::Error::Empty)?;
        revoke(range)?;
        let fault = receive(endpoint, reply)?;
        equal(fault.words[0], 14)?;
        equal(fault.words[2], 0x90_0000)?;
    }
    Ok(())
}

static TASK: Shared = Shared::new();
static LENT: Shared = Shared::new();
static MAPPED: Shared = Shared::new();

/// Maps by a capability whenever there is one. (The flags stay in its message page.)
extern "C" fn mapper(_: u64) -> ! {
    loop {
        if invoke(TASK.get(), TASK_MAP, &[LENT.get(), 0, 0, 4096]).is_ok() {
            MAPPED.set(MAPPED.get() + 1);
        }
    }
}

fn racing() -> Outcome {
    let (task, range, lent) = (object(abi::KIND_TASK, 0)?, object(abi::KIND_RANGE, 1)?, slot());
    TASK.set(task);
    LENT.set(lent);
    let (_, page) = thread_in(abi::ROOT_CAP_CSPACE, 1, 10, 0, mapper, 0)?;
    // SAFETY: its message page.
    unsafe { word_4(page).write_volatile(MAP_READ) };
    for round in 0..300 {
        MAPPED.set(0);
        invoke(abi::ROOT_CAP_CSPACE, abi::CSPACE_COPY, &[range, lent, RIGHT_ALL, 0])?;
        if round % 2 == 0 {
            holds(wait_for(|| MAPPED.get() > 0))?;
        }
        revoke(range)?;
        equal(tables(task)?, 0)?;
    }
    Ok(())
}

static REVOKED: Shared = Shared::new();

extern "C" fn revoker(range: u64) -> ! {
    loop {
        let _ = invoke(abi::ROOT_CAP_CSPACE, abi::CSPACE_REVOKE, &[range]);
        REVOKED.set(REVOKED.get() + 1);
    }
}

/// Who revokes goes through others' page tables for a long time.
fn stopped() -> Outcome {
    let (range, others) = (object(abi::KIND_RANGE, 1)?, object(abi::KIND_RANGE, 1)?);
    let stopping = thread(1, 10, 0, revoker, range)?;
    for _ in 0..20 {
        let before = free_bytes();
        let task = object(abi::KIND_TASK, 0)?;
        for table in 0..400 {
            invoke(task, TASK_MAP, &[others, 0, table << 21, 4096, MAP_READ])?;
        }
        let revoked = REVOKED.get();
        holds(wait_for(|| REVOKED.get() > revoked))?;
        invoke(stopping, abi::THREAD_STOP, &[])?;
        delete(task)?;
        holds(wait_for(|| free_bytes() == before))?;
        invoke(stopping, abi::THREAD_RESUME, &[])?;
    }
    Ok(())
}

static RECEIVED: Shared = Shared::new();

extern "C" fn receives(endpoint: u64) -> ! {
    loop {
        if rt::receive(endpoint, 0).is_ok() {
            RECEIVED.set(RECEIVED.get() + 1);
        }
    }
}

/// A thread of this program on a core that receives from an endpoint, with a message page that it got by a capability.
fn receiver(core: u64, endpoint: u64, page: u64) -> Result<u64, abi::Error> {
    let (slot, (_, stack)) = (object(abi::KIND_THREAD, 0)?, memory(1)?);
    invoke(slot, abi::THREAD_CONFIGURE, &[abi::ROOT_CAP_CSPACE, abi::ROOT_CAP_TASK, page, 0, 0])?;
    invoke(slot, abi::THREAD_BIND, &[abi::ROOT_CAP_CPU + core, 201])?;
    invoke(slot, abi::THREAD_START, &[receives as *const () as u64, stack + 4096 - 8, endpoint])?;
    Ok(slot)
}

/// Send a message that fills word 4 of the receiver's page.
fn send_long(endpoint: u64, value: u64) -> Outcome {
    let before = RECEIVED.get();
    // SAFETY: this thread's message page.
    unsafe { (&raw mut (*rt::message()).words[4]).write_volatile(value) };
    send(endpoint, 0, [0; 4], 8)?;
    holds(wait_for(|| RECEIVED.get() > before))
}

/// Where that arrives.
fn word_4(page: u64) -> *mut u64 {
    (page + offset_of!(MessagePage, words) as u64 + 4 * 8) as *mut u64
}

fn message_page() -> Outcome {
    for core in 0..cores() {
        let (range, at) = memory(1)?;
        let endpoint = object(abi::KIND_ENDPOINT, 0)?;
        let lent = copy(range, RIGHT_ALL, 0)?;
        receiver(core, endpoint, lent)?;
        send_long(endpoint, 77)?;
        // SAFETY: the page is mapped here.
        let seen = || unsafe { word_4(at).read_volatile() };
        equal(seen(), 77)?;
        revoke(range)?;
        // It lives, without a page.
        send_long(endpoint, 88)?;
        equal(seen(), 77)?;
    }
    Ok(())
}

fn untyped() -> Outcome {
    for core in 0..cores().min(4) {
        // (On more, the threads and Untypeds would take more memory than the test has.)
        let client = object(abi::KIND_UNTYPED, 30)?;
        let free = || invoke(client, abi::UNTYPED_FREE, &[]).map(|answer| answer[0]);
        let all = free()?;
        let page = slot();
        rt::retype(client, abi::KIND_RANGE, 1, page)?;
        let endpoint = object(abi::KIND_ENDPOINT, 0)?;
        receiver(core, endpoint, page)?;
        send_long(endpoint, 77)?;
        let at = address(4096);
        invoke(abi::ROOT_CAP_TASK, TASK_MAP, &[page, 0, at, 4096, MAP_READ | MAP_WRITE])?;
        revoke(client)?;
        equal(free()?, all)?;
        // Whoever has the memory next does not see messages in it.
        let next = slot();
        rt::retype(client, abi::KIND_RANGE, 28, next)?;
        let at = address(28 * 4096);
        invoke(abi::ROOT_CAP_TASK, TASK_MAP, &[next, 0, at, 28 * 4096, MAP_READ])?;
        send_long(endpoint, 88)?;
        // SAFETY: mapped.
        let words = unsafe { core::slice::from_raw_parts(at as *const u64, 28 * 512) };
        holds(words.iter().all(|&word| word == 0))?;
    }
    Ok(())
}
