//! Capability spaces: rights, badges, derivation.

use abi::{CSPACE_COPY, CSPACE_DELETE, CSPACE_MOVE, CSPACE_REVOKE, Error, RIGHT_ALL, RIGHT_READ, RIGHT_WRITE, ROOT_CAP_CSPACE};
use rt::{invoke, poll, send};

use crate::support::{Outcome, Test, copy, delete, equal, free_bytes, object, refused, slot};

pub const TESTS: &[Test] = &[
    Test { name: "rights_fall_with_a_copy_and_never_rise", cores: 1, run: rights_fall },
    Test { name: "a_badge_is_set_once", cores: 1, run: badge_once },
    Test { name: "a_move_empties_the_source", cores: 1, run: moves },
    Test { name: "occupied_and_absent_slots_are_refused", cores: 1, run: slots_checked },
    Test { name: "an_operation_on_the_wrong_kind_is_refused", cores: 1, run: wrong_kind },
    Test { name: "revoke_takes_all_descendants_and_keeps_the_parent", cores: 1, run: revoke },
    Test { name: "the_last_capability_returns_the_memory", cores: 1, run: memory_returns },
    Test { name: "an_untyped_gives_what_it_has_and_no_more", cores: 1, run: quota },
    Test { name: "ten_thousand_descendants_can_be_revoked", cores: 1, run: revoke_many },
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
    refused(invoke(ROOT_CAP_CSPACE, CSPACE_COPY, &[notification, abi::ROOT_CSPACE_SLOTS, RIGHT_ALL, 0]), Error::BadArgument)?;
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
    let sibling = object(abi::KIND_NOTIFICATION, 0)?;
    let child = copy(parent, RIGHT_ALL, 1)?;
    let grandchild = copy(child, RIGHT_ALL, 0)?;
    invoke(ROOT_CAP_CSPACE, CSPACE_REVOKE, &[parent])?;
    refused(send(child, 0, [0; 4], 0), Error::NoCapability)?;
    refused(send(grandchild, 0, [0; 4], 0), Error::NoCapability)?;
    send(parent, 0, [0; 4], 0)?;
    send(sibling, 0, [0; 4], 0)?;
    Ok(())
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
    equal(u64::from(rounds < 200), 1)?;
    invoke(space, abi::CSPACE_PUT, &[notification, 10_000, RIGHT_ALL, 0])?;
    Ok(())
}
