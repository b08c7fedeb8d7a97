//! Capability spaces: rights, badges, derivation.

use abi::{
    CSPACE_COPY, CSPACE_DELETE, CSPACE_MOVE, CSPACE_REVOKE, Error, RIGHT_ALL, RIGHT_READ, RIGHT_WRITE, ROOT_CAP_CSPACE,
};
use fastrand::Rng;
use rt::{invoke, poll, send};

use crate::support::{
    Outcome, POOL, Shared, Test, copy, delete, equal, free_bytes, holds, object, refused, slot, thread, thread_in,
    wait_for,
};

pub const TESTS: &[Test] = &[
    Test { name: "rights_fall_with_a_copy_and_never_rise", cores: 1, run: rights_fall },
    Test { name: "a_badge_is_set_once", cores: 1, run: badge_once },
    Test { name: "a_move_empties_the_source", cores: 1, run: moves },
    Test { name: "occupied_and_absent_slots_are_refused", cores: 1, run: slots_checked },
    Test { name: "an_operation_on_the_wrong_kind_is_refused", cores: 1, run: wrong_kind },
    Test { name: "revoke_takes_all_descendants_and_keeps_the_parent", cores: 1, run: revoke },
    Test { name: "the_last_capability_returns_the_memory", cores: 1, run: memory_returns },
    Test { name: "an_untyped_gives_what_it_has_and_no_more", cores: 1, run: quota },
    Test { name: "what_a_deleted_capability_left_belongs_to_its_parent", cores: 1, run: adopted },
    Test { name: "memory_that_came_back_in_any_order_is_one_piece_again", cores: 1, run: one_piece },
    Test { name: "ten_thousand_descendants_can_be_revoked", cores: 1, run: revoke_many },
    Test { name: "ten_thousand_descendants_can_be_revoked_while_other_cores_use_them", cores: 2, run: revoke_in_use },
    Test { name: "rights_never_rise_on_any_path_of_copies_and_moves", cores: 1, run: random_derivation },
    Test { name: "a_refused_call_tells_which_argument", cores: 1, run: which_argument },
    Test { name: "a_refused_retype_costs_nothing", cores: 1, run: refused_retype },
    Test { name: "a_long_chain_of_objects_is_destroyed", cores: 1, run: chain },
    Test {
        name: "objects_made_while_their_untyped_is_deleted_are_whole_or_absent",
        cores: 2,
        run: retype_against_delete,
    },
];

fn rights_fall() -> Outcome {
    let notification = object(abi::KIND_NOTIFICATION, 0)?;
    let read_only = copy(notification, RIGHT_READ, 0)?;
    refused(send(read_only, 0, [0; 4], 0), Error::NoRights)?;
    let again = copy(read_only, RIGHT_ALL, 0)?;
    refused(send(again, 0, [0; 4], 0), Error::NoRights)?;
    let write_only = copy(notification, RIGHT_WRITE, 7)?;
    send(write_only, 0, [0; 4], 0)?;
    refused(poll(write_only, 0), Error::NoRights)?;
    equal(poll(again, 0)?.badge, 7)
}

fn badge_once() -> Outcome {
    let notification = object(abi::KIND_NOTIFICATION, 0)?;
    let badged = copy(notification, RIGHT_ALL, 5)?;
    refused(copy(badged, RIGHT_ALL, 6), Error::BadState)?;
    let same = copy(badged, RIGHT_ALL, 0)?;
    send(same, 0, [0; 4], 0)?;
    equal(poll(notification, 0)?.badge, 5)
}

fn moves() -> Outcome {
    let notification = object(abi::KIND_NOTIFICATION, 0)?;
    let badged = copy(notification, RIGHT_ALL, 9)?;
    let to = slot();
    invoke(ROOT_CAP_CSPACE, CSPACE_MOVE, &[badged, to])?;
    refused(send(badged, 0, [0; 4], 0), Error::NoCapability)?;
    send(to, 0, [0; 4], 0)?;
    equal(poll(notification, 0)?.badge, 9)?;
    // What was moved is still a descendant.
    invoke(ROOT_CAP_CSPACE, CSPACE_REVOKE, &[notification])?;
    refused(send(to, 0, [0; 4], 0), Error::NoCapability)
}

fn slots_checked() -> Outcome {
    let notification = object(abi::KIND_NOTIFICATION, 0)?;
    refused(invoke(ROOT_CAP_CSPACE, CSPACE_COPY, &[notification, notification, RIGHT_ALL, 0]), Error::Occupied)?;
    refused(invoke(ROOT_CAP_CSPACE, CSPACE_COPY, &[slot(), slot(), RIGHT_ALL, 0]), Error::NoCapability)?;
    refused(
        invoke(ROOT_CAP_CSPACE, CSPACE_COPY, &[notification, abi::ROOT_CSPACE_SLOTS, RIGHT_ALL, 0]),
        Error::BadArgument,
    )?;
    refused(invoke(ROOT_CAP_CSPACE, CSPACE_COPY, &[0, slot(), RIGHT_ALL, 0]), Error::NoCapability)?;
    refused(invoke(u64::MAX, CSPACE_DELETE, &[1]), Error::NoCapability)
}

fn wrong_kind() -> Outcome {
    let notification = object(abi::KIND_NOTIFICATION, 0)?;
    refused(invoke(notification, abi::TASK_UNMAP, &[0, 4096]), Error::BadMethod)?;
    refused(invoke(ROOT_CAP_CSPACE, 9999, &[]), Error::BadMethod)?;
    refused(invoke(abi::ROOT_CAP_TASK, abi::TASK_MAP, &[notification, 0, 0x1000, 4096, 1]), Error::WrongType)?;
    refused(rt::receive(abi::ROOT_CAP_TASK, 0), Error::WrongType)?;
    refused(rt::raw(77, notification, 0, [0; 4], 0), Error::BadMethod)
}

fn revoke() -> Outcome {
    let parent = object(abi::KIND_NOTIFICATION, 0)?;
    let child = copy(parent, RIGHT_ALL, 1)?;
    let sibling = copy(parent, RIGHT_ALL, 2)?;
    let grandchild = copy(child, RIGHT_ALL, 0)?;
    invoke(ROOT_CAP_CSPACE, CSPACE_REVOKE, &[child])?;
    refused(send(grandchild, 0, [0; 4], 0), Error::NoCapability)?;
    for kept in [parent, child, sibling] {
        send(kept, 0, [0; 4], 0)?;
    }
    equal(poll(parent, 0)?.badge, 3)?;
    let grandchild = copy(child, RIGHT_ALL, 0)?;
    let other = object(abi::KIND_NOTIFICATION, 0)?;
    invoke(ROOT_CAP_CSPACE, CSPACE_REVOKE, &[parent])?;
    for gone in [child, sibling, grandchild] {
        refused(send(gone, 0, [0; 4], 0), Error::NoCapability)?;
    }
    send(parent, 0, [0; 4], 0)?;
    send(other, 0, [0; 4], 0)?;
    Ok(())
}

fn adopted() -> Outcome {
    let parent = object(abi::KIND_NOTIFICATION, 0)?;
    let child = copy(parent, RIGHT_ALL, 0)?;
    let grandchild = copy(child, RIGHT_ALL, 0)?;
    let sibling = copy(parent, RIGHT_ALL, 0)?;
    delete(child)?;
    let newest = copy(parent, RIGHT_ALL, 0)?;
    for other in [sibling, newest] {
        invoke(ROOT_CAP_CSPACE, CSPACE_REVOKE, &[other])?;
        send(grandchild, 0, [0; 4], 0)?;
    }
    invoke(ROOT_CAP_CSPACE, CSPACE_REVOKE, &[parent])?;
    refused(send(grandchild, 0, [0; 4], 0), Error::NoCapability)
}

fn memory_returns() -> Outcome {
    let before = free_bytes();
    let endpoint = object(abi::KIND_ENDPOINT, 0)?;
    let task = object(abi::KIND_TASK, 0)?;
    let range = object(abi::KIND_RANGE, 3)?;
    invoke(task, abi::TASK_MAP, &[range, 0, 0x1000, 3 * 4096, abi::MAP_READ])?;
    let second = copy(endpoint, RIGHT_ALL, 0)?;
    for slot in [endpoint, task, range] {
        delete(slot)?;
    }
    equal(free_bytes(), before - 4096)?;
    delete(second)?;
    equal(free_bytes(), before)
}

fn one_piece() -> Outcome {
    let small = object(abi::KIND_UNTYPED, 8)?;
    for order in [[0, 1, 2, 3], [1, 3, 0, 2], [2, 0, 3, 1]] {
        let mut slots = [0; 4];
        for to in &mut slots {
            *to = slot();
            invoke(small, abi::UNTYPED_RETYPE, &[abi::KIND_RANGE, 1, *to])?;
        }
        for i in order {
            delete(slots[i])?;
        }
        let whole = slot();
        invoke(small, abi::UNTYPED_RETYPE, &[abi::KIND_RANGE, 7, whole])?;
        delete(whole)?;
    }
    Ok(())
}

fn quota() -> Outcome {
    let small = object(abi::KIND_UNTYPED, 8)?;
    let fill = |pages| {
        let to = slot();
        invoke(small, abi::UNTYPED_RETYPE, &[abi::KIND_RANGE, pages, to]).map(|_| to)
    };
    let range = fill(6)?; // six pages and one for the object
    refused(fill(2), Error::NoMemory)?;
    refused(fill(0), Error::BadArgument)?;
    refused(fill(u64::MAX / 4096), Error::BadArgument)?;
    delete(range)?;
    fill(7).map(drop)?;
    Ok(())
}

/// Whether a revocation of 10,000 capabilities that was cancelled so often did a bounded number of them in each call: 64,
/// or 4 for each core, so that those who copy on all cores at once cannot keep it from ending.
fn steps_are_bounded(rounds: u64) -> bool {
    let whole = 10_000 / (4 * crate::support::cores()).max(64);
    (whole - 1..=whole + 1).contains(&rounds)
}

fn revoke_many() -> Outcome {
    let space = object(abi::KIND_CSPACE, 10_001)?;
    let notification = object(abi::KIND_NOTIFICATION, 0)?;
    for i in 1..=10_000 {
        invoke(space, abi::CSPACE_PUT, &[notification, i, RIGHT_ALL, i])?;
    }
    refused(invoke(space, abi::CSPACE_PUT, &[notification, 10_000, RIGHT_ALL, 0]), Error::Occupied)?;
    let mut rounds = 0;
    while let Err(error) = invoke(ROOT_CAP_CSPACE, CSPACE_REVOKE, &[notification]) {
        refused(Err::<(), _>(error), Error::Cancelled)?;
        rounds += 1;
    }
    holds(steps_are_bounded(rounds))?;
    invoke(space, abi::CSPACE_PUT, &[notification, 10_000, RIGHT_ALL, 0])?;
    Ok(())
}

/// What `user_of_copies` saw: sends that went through, and those that found no capability any more.
static SENT: [Shared; 3] = [const { Shared::new() }; 3];
static ABSENT: [Shared; 3] = [const { Shared::new() }; 3];
static OTHER: Shared = Shared::new();

/// Runs in the CSpace that holds the copies: uses one after another.
extern "C" fn user_of_copies(core: u64) -> ! {
    let (sent, absent) = (&SENT[core as usize - 1], &ABSENT[core as usize - 1]);
    let mut random = Rng::with_seed(core);
    loop {
        match send(1 + random.u64(..10_000), 0, [0; 4], 0) {
            Ok(()) => sent.set(sent.get() + 1),
            Err(Error::NoCapability) => absent.set(absent.get() + 1),
            Err(_) => OTHER.set(1),
        }
    }
}

fn revoke_in_use() -> Outcome {
    let space = object(abi::KIND_CSPACE, 10_001)?;
    let notification = object(abi::KIND_NOTIFICATION, 0)?;
    let child = copy(notification, RIGHT_ALL, 0)?;
    for i in 1..=10_000 {
        let parent = if i % 2 == 0 { child } else { notification };
        invoke(space, abi::CSPACE_PUT, &[parent, i, RIGHT_ALL, 0])?;
    }
    OTHER.set(0);
    let users = crate::support::cores().min(4) - 1;
    for core in 1..=users {
        SENT[core as usize - 1].set(0);
        ABSENT[core as usize - 1].set(0);
        thread_in(space, core, 50, 0, user_of_copies, core)?;
    }
    let all = |words: &[Shared; 3], least| words[..users as usize].iter().all(|word| word.get() >= least);
    holds(wait_for(|| all(&SENT, 100)))?;
    let mut rounds = 0;
    while let Err(error) = invoke(ROOT_CAP_CSPACE, CSPACE_REVOKE, &[notification]) {
        refused(Err::<(), _>(error), Error::Cancelled)?;
        rounds += 1;
    }
    holds(steps_are_bounded(rounds))?;
    // Nothing is left: from now on no send goes through.
    let before: [u64; 3] = core::array::from_fn(|i| ABSENT[i].get());
    holds(wait_for(|| (0..users as usize).all(|i| ABSENT[i].get() > before[i] + 1)))?;
    let sent: [u64; 3] = core::array::from_fn(|i| SENT[i].get());
    let absent: [u64; 3] = core::array::from_fn(|i| ABSENT[i].get());
    holds(wait_for(|| (0..users as usize).all(|i| ABSENT[i].get() > absent[i] + 100)))?;
    for i in 0..users as usize {
        equal(SENT[i].get(), sent[i])?;
    }
    equal(OTHER.get(), 0)
}

/// What a capability to a Range allows, by trying; None for an empty slot.
fn rights_of(range: u64, task: u64) -> Option<u64> {
    let may = |flags| match invoke(task, abi::TASK_MAP, &[range, 0, 0x1000, 4096, flags]) {
        Ok(_) => Some(true),
        Err(Error::NoRights) => Some(false),
        Err(_) => None,
    };
    use abi::{MAP_EXEC, MAP_READ, MAP_WRITE};
    let read = may(MAP_READ)?;
    // Each needs READ as well, so without it the others cannot be seen.
    let write = read && may(MAP_READ | MAP_WRITE)?;
    let exec = read && may(MAP_READ | MAP_EXEC)?;
    Some(u64::from(read) * RIGHT_READ | u64::from(write) * RIGHT_WRITE | u64::from(exec) * abi::RIGHT_EXEC)
}

fn random_derivation() -> Outcome {
    let task = object(abi::KIND_TASK, 0)?;
    let range = object(abi::KIND_RANGE, 1)?;
    const SLOTS: usize = 24;
    let first = slot();
    for _ in 1..SLOTS {
        slot();
    }
    let mut model: [Option<u64>; SLOTS] = [None; SLOTS];
    invoke(ROOT_CAP_CSPACE, CSPACE_COPY, &[range, first, RIGHT_ALL, 0])?;
    model[0] = Some(RIGHT_ALL);
    let mut random = Rng::with_seed(7);
    for _ in 0..3000 {
        let (from, to) = (random.usize(..SLOTS), random.usize(..SLOTS));
        let (source, target) = (first + from as u64, first + to as u64);
        // Rights beyond those that exist must not help either.
        let wanted = random.u64(..16) | random.u64(..2) << 8 | random.u64(..2) << 63;
        let method = [CSPACE_COPY, abi::CSPACE_PUT, CSPACE_MOVE, CSPACE_DELETE][random.usize(..4)];
        let words = if method == CSPACE_DELETE { [target, 0, 0, 0] } else { [source, target, wanted, 0] };
        let made = invoke(ROOT_CAP_CSPACE, method, &words).is_ok();
        match (method, model[from], model[to]) {
            (CSPACE_DELETE, _, old) => {
                equal(u64::from(made), u64::from(old.is_some()))?;
                model[to] = None;
            }
            (_, Some(rights), None) if from != to => {
                holds(made)?;
                model[to] = Some(if method == CSPACE_MOVE { rights } else { rights & wanted });
                if method == CSPACE_MOVE {
                    model[from] = None;
                }
            }
            _ => equal(u64::from(made), 0)?,
        }
        if let Some(rights) = model[to] {
            let seen = if rights & RIGHT_READ == 0 { 0 } else { rights & (RIGHT_READ | RIGHT_WRITE | abi::RIGHT_EXEC) };
            equal(rights_of(target, task).unwrap_or(u64::MAX), seen)?;
        }
        if model.iter().all(Option::is_none) {
            invoke(ROOT_CAP_CSPACE, CSPACE_COPY, &[range, first, RIGHT_ALL, 0])?;
            model[0] = Some(RIGHT_ALL);
        }
    }
    // All of it is derived from the first.
    while invoke(ROOT_CAP_CSPACE, CSPACE_REVOKE, &[range]).is_err() {}
    for at in first..first + SLOTS as u64 {
        refused(invoke(ROOT_CAP_CSPACE, CSPACE_DELETE, &[at]), Error::NoCapability)?;
    }
    equal(rights_of(range, task).unwrap_or(0), RIGHT_READ | RIGHT_WRITE | abi::RIGHT_EXEC)
}

/// Word 0 of the answer to a refused call.
fn argument_of(handle: u64, method: u64, words: [u64; 4]) -> u64 {
    let argument: u64;
    // SAFETY: a system call by hand, since `rt` gives no words of a refused call; the convention of abi::syscall.
    unsafe {
        core::arch::asm!(
            "syscall", inlateout("rax") abi::SYS_CALL => _, inlateout("rdi") handle => _,
            inlateout("rsi") abi::tag(method, 4, 0) => _, inlateout("rdx") words[0] => argument, inlateout("r10") words[1] => _,
            inlateout("r8") words[2] => _, inlateout("r9") words[3] => _, lateout("rcx") _, lateout("r11") _,
        );
    }
    argument
}

fn which_argument() -> Outcome {
    let (range, task) = (object(abi::KIND_RANGE, 1)?, object(abi::KIND_TASK, 0)?);
    let thread = object(abi::KIND_THREAD, 0)?;
    let free = slot();
    equal(argument_of(POOL, abi::UNTYPED_RETYPE, [99, 0, free, 0]), 0)?;
    equal(argument_of(POOL, abi::UNTYPED_RETYPE, [abi::KIND_RANGE, 0, free, 0]), 1)?;
    equal(argument_of(POOL, abi::UNTYPED_RETYPE, [abi::KIND_RANGE, 1, range, 0]), 2)?;
    equal(argument_of(ROOT_CAP_CSPACE, CSPACE_COPY, [free, range, 0, 0]), 1)?;
    equal(argument_of(ROOT_CAP_CSPACE, CSPACE_COPY, [free, free + 1, 0, 0]), 0)?;
    equal(argument_of(task, abi::TASK_MAP, [task, 0, 0x1000, 4096]), 0)?;
    equal(argument_of(task, abi::TASK_UNMAP, [1, 4096, 0, 0]), 0)?;
    equal(argument_of(thread, abi::THREAD_BIND, [abi::ROOT_CAP_CPU, 256, 0, 0]), 1)?;
    equal(argument_of(thread, abi::THREAD_BIND, [range, 1, 0, 0]), 0)?;
    equal(argument_of(abi::ROOT_CAP_MACHINE, abi::MACHINE_EXIT, [128, 0, 0, 0]), 0)?;
    equal(argument_of(task, 9999, [0; 4]), abi::NO_ARGUMENT)
}

fn refused_retype() -> Outcome {
    let before = free_bytes();
    let occupied = object(abi::KIND_ENDPOINT, 0)?;
    let after = free_bytes();
    for kind in 0..=14 {
        for (size, to) in [(1, occupied), (1, abi::ROOT_CSPACE_SLOTS), (1, 0), (1, u64::MAX)] {
            holds(invoke(POOL, abi::UNTYPED_RETYPE, &[kind, size, to]).is_err())?;
            equal(free_bytes(), after)?;
        }
    }
    for kind in [abi::KIND_UNTYPED, abi::KIND_CSPACE, abi::KIND_RANGE] {
        for size in [0, 1 << 20, 1 << 32, 1 << 33, u64::MAX / 4096, u64::MAX] {
            let Err(_) = invoke(POOL, abi::UNTYPED_RETYPE, &[kind, size, slot()]) else { return holds(false) };
            equal(free_bytes(), after)?;
        }
    }
    delete(occupied)?;
    equal(free_bytes(), before)
}

/// Each CSpace holds the only capability of the next; in between, threads that hold the only reference to a CSpace, and
/// Untypeds that only what was made from them keeps.
fn chain() -> Outcome {
    let before = free_bytes();
    let mut last = object(abi::KIND_CSPACE, 2)?;
    for i in 0..600 {
        let next = object(abi::KIND_CSPACE, 2)?;
        invoke(next, abi::CSPACE_PUT, &[last, 1, RIGHT_ALL, 0])?;
        delete(last)?;
        last = next;
        if i % 3 == 0 {
            let thread = object(abi::KIND_THREAD, 0)?;
            invoke(thread, abi::THREAD_CONFIGURE, &[last, abi::ROOT_CAP_TASK, 0, 0, 0])?;
            delete(last)?;
            last = object(abi::KIND_CSPACE, 2)?;
            invoke(last, abi::CSPACE_PUT, &[thread, 1, RIGHT_ALL, 0])?;
            delete(thread)?;
        }
        crate::support::reuse_slots(last);
    }
    holds(free_bytes() < before)?;
    delete(last)?;
    equal(free_bytes(), before)?;
    let mut untyped = object(abi::KIND_UNTYPED, 700)?;
    for i in 0..300 {
        let inner = slot();
        invoke(untyped, abi::UNTYPED_RETYPE, &[abi::KIND_UNTYPED, 697 - 2 * i, inner])?;
        delete(untyped)?;
        untyped = inner;
    }
    delete(untyped)?;
    equal(free_bytes(), before)
}

static MADE: Shared = Shared::new();
static STOP: Shared = Shared::new();

/// Makes and deletes notifications from the Untyped whose copy in the slot comes and goes.
extern "C" fn maker(untyped: u64) -> ! {
    while STOP.get() == 0 {
        if invoke(untyped, abi::UNTYPED_RETYPE, &[abi::KIND_NOTIFICATION, 0, untyped + 1]).is_ok() {
            MADE.set(MADE.get() + 1);
            let _ = send(untyped + 1, 0, [0; 4], 0);
            let _ = invoke(ROOT_CAP_CSPACE, CSPACE_DELETE, &[untyped + 1]);
        }
    }
    STOP.set(2);
    loop {
        core::hint::spin_loop();
    }
}

fn retype_against_delete() -> Outcome {
    let untyped = object(abi::KIND_UNTYPED, 64)?;
    let free = invoke(untyped, abi::UNTYPED_FREE, &[])?;
    let (come, _) = (slot(), slot());
    MADE.set(0);
    STOP.set(0);
    thread(1, 50, 0, maker, come)?;
    let mut rounds = 0;
    let ended = wait_for(|| {
        let _ = invoke(ROOT_CAP_CSPACE, CSPACE_COPY, &[untyped, come, RIGHT_ALL, 0]);
        for _ in 0..rounds % 50 {
            core::hint::spin_loop();
        }
        let _ = invoke(ROOT_CAP_CSPACE, CSPACE_DELETE, &[come]);
        rounds += 1;
        rounds > 20_000 && MADE.get() > 20
    });
    holds(ended)?;
    STOP.set(1);
    holds(STOP.await_value(2))?;
    while invoke(ROOT_CAP_CSPACE, CSPACE_REVOKE, &[untyped]).is_err() {}
    let _ = invoke(ROOT_CAP_CSPACE, CSPACE_DELETE, &[come + 1]);
    equal(invoke(untyped, abi::UNTYPED_FREE, &[])?[0], free[0])
}
