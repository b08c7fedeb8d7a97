//! Ranges and Tasks.

use abi::{
    Error, MAP_EXEC, MAP_READ, MAP_WRITE, RIGHT_EXEC, RIGHT_READ, RIGHT_WRITE, ROOT_CAP_TASK, TASK_MAP, TASK_UNMAP,
};
use rt::{invoke, reply_receive};

use crate::support::{
    CODE, DATA, Outcome, Program, Shared, Test, address, bytes, copy, delete, equal, free_bytes, memory, object, pause,
    refused, slot, thread, user_task, wait_for,
};

pub const TESTS: &[Test] = &[
    Test { name: "new_memory_is_zero_and_aliases_agree", cores: 1, run: zero_and_alias },
    Test { name: "mappings_outside_the_range_or_the_user_half_are_refused", cores: 1, run: bounds },
    Test { name: "large_pages_can_be_taken_apart", cores: 1, run: large_pages },
    Test { name: "device_ranges_never_cover_ram", cores: 1, run: device },
    Test { name: "memory_that_is_given_back_is_no_longer_mapped_anywhere", cores: 1, run: revoked_memory },
    Test { name: "a_mapping_needs_the_rights_that_it_gives", cores: 1, run: map_rights },
    Test { name: "device_memory_that_is_given_back_is_no_longer_mapped", cores: 1, run: revoked_device },
    Test { name: "a_resting_core_lets_go_of_a_deleted_task", cores: 2, run: resting_core },
    Test { name: "a_deleted_task_returns_its_tables", cores: 1, run: task_memory },
    Test { name: "an_unmap_gives_page_tables_back", cores: 1, run: unmapped_tables },
    Test { name: "who_finds_a_page_unmapped_is_not_ahead_of_its_flush", cores: 4, run: two_unmaps },
    Test { name: "an_unmap_is_seen_by_another_core_before_it_returns", cores: 2, run: remote_unmap },
    Test { name: "a_task_that_comes_back_uses_no_old_translation", cores: 1, run: old_translations },
];

fn word(at: u64) -> *mut u64 {
    at as *mut u64
}

fn zero_and_alias() -> Outcome {
    let (range, at) = memory(2)?;
    for i in 0..1024 {
        // SAFETY: two pages were mapped.
        equal(unsafe { word(at).add(i).read_volatile() }, 0)?;
    }
    let alias = address(4096);
    invoke(ROOT_CAP_TASK, TASK_MAP, &[range, 4096, alias, 4096, MAP_READ | MAP_WRITE])?;
    // SAFETY: mapped.
    unsafe { word(alias).write_volatile(0x1234) };
    // SAFETY: mapped.
    equal(unsafe { word(at + 4096).read_volatile() }, 0x1234)?;
    // SAFETY: mapped; the memory goes back dirty and must come again clean.
    unsafe { word(at).write_volatile(99) };
    invoke(ROOT_CAP_TASK, TASK_UNMAP, &[at, 8192])?;
    invoke(ROOT_CAP_TASK, TASK_UNMAP, &[alias, 4096])?;
    delete(range)?;
    let (_, again) = memory(2)?;
    for i in 0..1024 {
        // SAFETY: two pages were mapped.
        equal(unsafe { word(again).add(i).read_volatile() }, 0)?;
    }
    Ok(())
}

fn bounds() -> Outcome {
    let range = object(abi::KIND_RANGE, 2)?;
    let task = object(abi::KIND_TASK, 0)?;
    let try_map = |offset, at, size, flags| invoke(task, TASK_MAP, &[range, offset, at, size, flags]);
    refused(try_map(4096, 0x1000, 8192, MAP_READ), Error::BadAddress)?;
    refused(try_map(u64::MAX - 4095, 0x1000, 8192, MAP_READ), Error::BadAddress)?;
    refused(try_map(0, (1 << 47) - 4096, 8192, MAP_READ), Error::BadAddress)?;
    refused(try_map(0, 0xffff_8000_0000_0000, 4096, MAP_READ), Error::BadAddress)?;
    refused(try_map(0, 0x1001, 4096, MAP_READ), Error::BadAddress)?;
    refused(try_map(0, 0x1000, 0, MAP_READ), Error::BadAddress)?;
    refused(try_map(0, 0x1000, 4096, 0x100 | MAP_READ), Error::BadArgument)?;
    refused(try_map(0, 0x1000, 4096, MAP_WRITE), Error::BadArgument)?;
    refused(invoke(task, TASK_UNMAP, &[0x1000, u64::MAX - 4095]), Error::BadAddress)?;
    try_map(0, 0x1000, 8192, MAP_READ).map(drop)?;
    Ok(())
}

fn large_pages() -> Outcome {
    let (_, at) = memory(1024)?;
    // SAFETY: mapped; aligned to 2 MiB, so in large pages.
    unsafe {
        word(at + 0x1000).write_volatile(1);
        word(at + 0x20_0000).write_volatile(2);
    }
    invoke(ROOT_CAP_TASK, TASK_UNMAP, &[at, 4096])?;
    // SAFETY: these pages are still mapped.
    unsafe {
        equal(word(at + 0x1000).read_volatile(), 1)?;
        equal(word(at + 0x20_0000).read_volatile(), 2)
    }
}

fn device() -> Outcome {
    let to = slot();
    refused(invoke(abi::ROOT_CAP_MACHINE, abi::MACHINE_DEVICE, &[0x10_0000, 1, to]), Error::BadAddress)?;
    refused(invoke(abi::ROOT_CAP_MACHINE, abi::MACHINE_DEVICE, &[0xfeb0_0001, 1, to]), Error::BadAddress)?;
    refused(invoke(abi::ROOT_CAP_MACHINE, abi::MACHINE_DEVICE, &[0, u64::MAX, to]), Error::BadArgument)?;
    invoke(abi::ROOT_CAP_MACHINE, abi::MACHINE_DEVICE, &[0xfed0_0000, 1, to])?;
    delete(to)?;
    Ok(())
}

fn revoked_memory() -> Outcome {
    // mov rax, [0x900000]; jmp to the start: runs until the page is gone.
    let (task, _, _) = user_task(&[0x48, 0x8b, 0x04, 0x25, 0, 0, 0x90, 0, 0xeb, 0xf6])?;
    let range = object(abi::KIND_RANGE, 1)?;
    invoke(task, TASK_MAP, &[range, 0, 0x90_0000, 4096, MAP_READ])?;
    let (endpoint, reply) = (object(abi::KIND_ENDPOINT, 0)?, object(abi::KIND_REPLY, 0)?);
    let slot = object(abi::KIND_THREAD, 0)?;
    invoke(slot, abi::THREAD_CONFIGURE, &[0, task, 0, 0, endpoint])?;
    invoke(slot, abi::THREAD_BIND, &[abi::ROOT_CAP_CPU, 10])?;
    invoke(slot, abi::THREAD_START, &[CODE, DATA + 4096, 0])?;
    delete(range)?;
    let fault = rt::receive(endpoint, reply)?;
    equal(fault.words[0], 14)?;
    equal(fault.words[2], 0x90_0000)
}

fn resting_core() -> Outcome {
    let before = free_bytes();
    // Runs once, and its fault ends it; then core 1 has nothing to do.
    let (slot, task, range) = (object(abi::KIND_THREAD, 0)?, object(abi::KIND_TASK, 0)?, object(abi::KIND_RANGE, 1)?);
    invoke(slot, abi::THREAD_CONFIGURE, &[0, task, range, 0, 0])?;
    invoke(slot, abi::THREAD_BIND, &[abi::ROOT_CAP_CPU + 1, 10])?;
    invoke(slot, abi::THREAD_START, &[CODE, DATA, 0])?;
    pause();
    for slot in [slot, task, range] {
        delete(slot)?;
    }
    equal(u64::from(wait_for(|| free_bytes() == before)), 1)
}

fn task_memory() -> Outcome {
    let range = object(abi::KIND_RANGE, 1)?;
    let before = free_bytes();
    for _ in 0..10 {
        let task = object(abi::KIND_TASK, 0)?;
        for i in 0..20 {
            invoke(task, TASK_MAP, &[range, 0, i << 36 | 0x5000, 4096, MAP_READ])?;
        }
        delete(task)?;
    }
    equal(free_bytes(), before)
}

fn unmapped_tables() -> Outcome {
    let (task, range) = (object(abi::KIND_TASK, 0)?, object(abi::KIND_RANGE, 2)?);
    let before = free_bytes();
    let tables = || invoke(task, abi::TASK_TABLES, &[]).map(|answer| answer[0]);
    let map = |at: u64| invoke(task, TASK_MAP, &[range, 0, at, 8192, MAP_READ]).map(drop);
    let unmap = |at: u64, size: u64| invoke(task, TASK_UNMAP, &[at, size]).map(|answer| answer[0]);
    for i in 0..20 {
        map(i << 39 | 0x1000)?;
        equal(tables()?, 3 * (i + 1))?;
    }
    equal(before - free_bytes(), 60 * 4096)?;
    // Page by page, in one piece, and all that is left.
    equal(unmap(0x1000, 4096)?, 60)?;
    equal(unmap(0x2000, 4096)?, 57)?;
    equal(unmap(1 << 39, 1 << 39)?, 54)?;
    equal(unmap(0, 1 << 47)?, 0)?;
    equal(free_bytes(), before)?;
    // Of two regions under one table of the second level, one goes.
    map(0x1000)?;
    map(0x20_1000)?;
    equal(unmap(0x20_0000, 0x20_0000)?, 3)?;
    equal(unmap(0x1000, 8192)?, 0)?;
    equal(free_bytes(), before)
}

static ROUND: Shared = Shared::new();
/// The page, a second mapping of it that stays, and what stood there when the round began.
static PAGE: [Shared; 3] = [const { Shared::new() }; 3];
/// The round that each unmapper is in; twice that number, and one more where the page was written to too late.
static UNMAPPERS: [Shared; 2] = [const { Shared::new() }; 2];
static DONE: [Shared; 2] = [const { Shared::new() }; 2];

/// Writes to a page again and again, whoever maps or unmaps it.
extern "C" fn writer(at: u64) -> ! {
    loop {
        // SAFETY: a word of the test's page; the thread goes on after the fault once it is mapped again.
        unsafe { word(at).write_volatile(word(at).read_volatile() + 1) };
    }
}

/// In each round unmaps the page, together with the other one, and looks whether it is written to after that.
extern "C" fn unmapper(which: u64) -> ! {
    let [at, alias, began] = &PAGE;
    // SAFETY: the second mapping stays.
    let look = || unsafe { word(alias.get()).read_volatile() };
    for round in 1.. {
        while ROUND.get() < round || look() == began.get() {
            core::hint::spin_loop();
        }
        UNMAPPERS[which as usize].set(round);
        while UNMAPPERS[1 - which as usize].get() < round {
            core::hint::spin_loop();
        }
        invoke(ROOT_CAP_TASK, TASK_UNMAP, &[at.get(), 4096]).expect("unmap");
        let seen = look();
        let written = (0..2000).any(|_| look() != seen);
        DONE[which as usize].set(round << 1 | u64::from(written));
    }
    crate::support::sleep_for_ever()
}

fn two_unmaps() -> Outcome {
    let (range, alias) = memory(1)?;
    let at = address(4096);
    PAGE[0].set(at);
    PAGE[1].set(alias);
    for shared in [&ROUND, &UNMAPPERS[0], &UNMAPPERS[1], &DONE[0], &DONE[1]] {
        shared.set(0);
    }
    let (endpoint, reply) = (object(abi::KIND_ENDPOINT, 0)?, object(abi::KIND_REPLY, 0)?);
    thread(1, 10, 0, unmapper, 0)?;
    thread(2, 10, 0, unmapper, 1)?;
    thread(3, 10, endpoint, writer, at)?;
    let mut fault = rt::receive(endpoint, reply)?;
    for round in 1..=300 {
        equal(fault.words[2], at)?;
        // SAFETY: the second mapping stays.
        PAGE[2].set(unsafe { word(alias).read_volatile() });
        invoke(ROOT_CAP_TASK, TASK_MAP, &[range, 0, at, 4096, MAP_READ | MAP_WRITE])?;
        ROUND.set(round);
        fault = rt::reply_receive(endpoint, reply, 0, [0; 4], 0)?;
        for done in &DONE {
            equal(u64::from(wait_for(|| done.get() >> 1 == round)), 1)?;
            equal(done.get() & 1, 0)?;
        }
    }
    Ok(())
}

static READING: Shared = Shared::new();

/// Reads a word again and again; once it is unmapped this faults for ever.
extern "C" fn reader(at: u64) -> ! {
    loop {
        // SAFETY: the address is mapped until the test unmaps it; then the fault is what is tested.
        unsafe { word(at).read_volatile() };
        READING.set(READING.get() + 1);
    }
}

fn remote_unmap() -> Outcome {
    READING.set(0);
    let (_, at) = memory(1)?;
    let endpoint = object(abi::KIND_ENDPOINT, 0)?;
    let reply = object(abi::KIND_REPLY, 0)?;
    thread(1, 10, endpoint, reader, at)?;
    equal(u64::from(crate::support::wait_for(|| READING.get() > 100)), 1)?;
    invoke(ROOT_CAP_TASK, TASK_UNMAP, &[at, 4096])?;
    let after = READING.get();
    let fault = rt::receive(endpoint, reply)?;
    equal(fault.label(), abi::FAULT_LABEL)?;
    equal(fault.words[0], 14)?;
    equal(fault.words[2], at)?;
    // At most the count of the read that had just finished.
    equal(u64::from(READING.get() - after <= 1), 1)
}

crate::code!(READ_THE_PAGE, "mov rax, [0x900000]", "mov [0x800000], rax", "ud2");

/// More address spaces than a processor is asked to keep the translations of, one core for all: each reads a page, which is
/// another one when it comes back, and in the end none.
fn old_translations() -> Outcome {
    let programs: [_; 12] = core::array::from_fn(|_| Program::start(bytes(&raw const READ_THE_PAGE)));
    let pages: [_; 2] = core::array::from_fn(|_| memory(1));
    for (i, page) in pages.iter().enumerate() {
        let (_, at) = page.as_ref().map_err(|&error| error)?;
        // SAFETY: mapped.
        unsafe { word(*at).write_volatile(i as u64 + 1) };
    }
    for program in &programs {
        let program = program.as_ref().map_err(|&error| error)?;
        equal(program.fault()?[0], 14)?; // there is no page yet
    }
    for round in 0..6 {
        // Some come back to the page that they had.
        for (i, program) in programs.iter().flatten().enumerate() {
            let page = (i + round) / 2 % 2;
            let (range, _) = pages[page].as_ref().map_err(|&error| error)?;
            invoke(program.task, TASK_MAP, &[*range, 0, 0x90_0000, 4096, MAP_READ])?;
            let fault = reply_receive(program.endpoint, program.reply, 0, [CODE, 0, 0, 0], 1)?;
            equal(fault.words[0], 6)?;
            equal(program.word(0), page as u64 + 1)?;
        }
    }
    for program in programs.iter().flatten() {
        invoke(program.task, TASK_UNMAP, &[0x90_0000, 4096])?;
        let fault = reply_receive(program.endpoint, program.reply, 0, [CODE, 0, 0, 0], 1)?;
        equal(fault.words[0], 14)?;
    }
    Ok(())
}

fn map_rights() -> Outcome {
    let task = object(abi::KIND_TASK, 0)?;
    let (range, thread) = (object(abi::KIND_RANGE, 2)?, object(abi::KIND_THREAD, 0)?);
    invoke(thread, abi::THREAD_BIND, &[abi::ROOT_CAP_CPU, 1])?;
    let doorbell = copy(object(abi::KIND_NOTIFICATION, 0)?, abi::RIGHT_ALL, 1)?;
    let all = [(MAP_READ, RIGHT_READ), (MAP_WRITE, RIGHT_WRITE), (MAP_EXEC, RIGHT_EXEC)];
    for rights in 0..16 {
        let copied = copy(range, rights, 0)?;
        for flags in (0..8).filter(|flags| flags & MAP_READ != 0) {
            let needed = all.iter().filter(|(flag, _)| flags & flag != 0).fold(0, |sum, (_, right)| sum | right);
            let mapped = invoke(task, TASK_MAP, &[copied, 0, 0x1000, 4096, flags]);
            if rights & needed == needed { mapped.map(drop)? } else { refused(mapped, Error::NoRights)? }
        }
        // A message page is read and written; of a vCPU's Range, map items can name all.
        if rights & (RIGHT_READ | RIGHT_WRITE) != RIGHT_READ | RIGHT_WRITE {
            refused(invoke(thread, abi::THREAD_CONFIGURE, &[0, task, copied, 0, 0]), Error::NoRights)?;
        }
        if rights & (RIGHT_READ | RIGHT_WRITE | RIGHT_EXEC) != RIGHT_READ | RIGHT_WRITE | RIGHT_EXEC {
            refused(invoke(thread, abi::THREAD_VCPU, &[copied, 0]), Error::NoRights)?;
            refused(invoke(thread, abi::THREAD_DECOUPLE, &[copied, 0, doorbell]), Error::NoRights)?;
        }
    }
    Ok(())
}

fn revoked_device() -> Outcome {
    // mov rax, [0x900000]; jmp to the start: runs until the page is gone.
    let program = Program::start(&[0x48, 0x8b, 0x04, 0x25, 0, 0, 0x90, 0, 0xeb, 0xf6])?;
    let hpet = slot();
    invoke(abi::ROOT_CAP_MACHINE, abi::MACHINE_DEVICE, &[0xfed0_0000, 1, hpet])?;
    invoke(program.task, TASK_MAP, &[hpet, 0, 0x90_0000, 4096, MAP_READ])?;
    crate::support::pause();
    delete(hpet)?;
    let [vector, _, place, _] = program.fault()?;
    equal(vector, 14)?;
    equal(place, 0x90_0000)
}
