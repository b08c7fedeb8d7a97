//! Who is served first, what a message carries, and how a wait ends before its time.

use abi::{Error, MessagePage, RIGHT_ALL, RIGHT_GRANT, RIGHT_READ, RIGHT_WRITE, THREAD_CANCEL, tag};
use rt::{call, invoke, poll, raw, receive, send};

use crate::support::{
    ENDPOINT, Failure, Outcome, Shared, Test, copy, delete, equal, free_bytes, holds, let_others_run, object, pause,
    refused, sleep_for_ever, slot, thread, thread_in, tsc, wait_for,
};

pub const TESTS: &[Test] = &[
    Test { name: "senders_are_served_by_priority_then_in_order", cores: 1, run: order },
    Test { name: "receivers_are_served_by_priority_then_in_order", cores: 1, run: receiver_order },
    Test { name: "a_message_of_any_length_arrives_whole", cores: 1, run: lengths },
    Test { name: "a_capability_goes_along_only_with_the_grant_right", cores: 1, run: grant },
    Test { name: "without_a_free_slot_only_the_capability_is_lost", cores: 1, run: no_slot },
    Test { name: "a_transferred_capability_keeps_rights_and_badge_and_is_derived", cores: 1, run: derived },
    Test { name: "a_wait_of_any_kind_can_be_cancelled", cores: 1, run: cancelled },
    Test { name: "an_answer_to_a_cancelled_call_finds_nobody", cores: 1, run: late_answer },
    Test { name: "deleting_a_caller_takes_it_from_its_server", cores: 1, run: deleted_caller },
    Test { name: "threads_deleted_at_any_moment_of_a_call_leave_nothing_behind", cores: 2, run: deleted_any_time },
    Test { name: "cancelling_crosses_cores_and_loses_no_wakeup", cores: 2, run: cancel_against_answer },
];

static STATUS: [Shared; 8] = [const { Shared::new() }; 8];

extern "C" fn caller(index: u64) -> ! {
    STATUS[index as usize].set(1);
    let status = match call(ENDPOINT.get(), index, [index; 4], 4) {
        Ok(answer) => 100 + answer.words[0],
        Err(error) => error as u64,
    };
    STATUS[index as usize].set(status);
    sleep_for_ever()
}

extern "C" fn receiver(index: u64) -> ! {
    let status = match receive(ENDPOINT.get(), 0) {
        Ok(message) => 100 + message.words[0],
        Err(error) => error as u64,
    };
    STATUS[index as usize].set(status);
    sleep_for_ever()
}

fn prepare() -> Result<u64, Failure> {
    let endpoint = object(abi::KIND_ENDPOINT, 0)?;
    ENDPOINT.set(endpoint);
    STATUS.iter().for_each(|status| status.set(0));
    Ok(endpoint)
}

fn order() -> Outcome {
    let endpoint = prepare()?;
    for (index, priority) in [150, 120, 150, 180, 120, 150].into_iter().enumerate() {
        thread(0, priority, 0, caller, index as u64)?;
        let_others_run()?;
    }
    let reply = object(abi::KIND_REPLY, 0)?;
    for expected in [3, 0, 2, 5, 1, 4] {
        let message = receive(endpoint, reply)?;
        equal(message.label(), expected)?;
    }
    refused(poll(endpoint, 0), Error::Empty)
}

fn receiver_order() -> Outcome {
    let endpoint = prepare()?;
    for (index, priority) in [150, 180, 150].into_iter().enumerate() {
        thread(0, priority, 0, receiver, index as u64)?;
        let_others_run()?;
    }
    for word in 1..=3 {
        send(endpoint, 0, [word, 0, 0, 0], 1)?;
    }
    let_others_run()?;
    for (index, word) in [(1, 1), (0, 2), (2, 3)] {
        equal(STATUS[index].get(), 100 + word)?;
    }
    Ok(())
}

/// Sends messages of all lengths from its own page.
extern "C" fn long_sender(page: u64) -> ! {
    for length in 0..=abi::MSG_WORDS as u64 {
        for i in 4..abi::MSG_WORDS {
            // SAFETY: this thread's message page.
            unsafe { (&raw mut (*(page as *mut MessagePage)).words[i]).write_volatile(length << 32 | i as u64) };
        }
        let words = [length << 32, length << 32 | 1, length << 32 | 2, length << 32 | 3];
        let _ = raw(abi::SYS_SEND, ENDPOINT.get(), tag(length, length, 0), words, 0);
    }
    sleep_for_ever()
}

fn lengths() -> Outcome {
    let endpoint = prepare()?;
    PAGE.set(0);
    let (_, page) = thread_in(abi::ROOT_CAP_CSPACE, 0, 100, 0, long_sender_start, 0)?;
    PAGE.set(page);
    for length in 0..=abi::MSG_WORDS as u64 {
        let own = rt::message();
        for i in 0..abi::MSG_WORDS {
            // SAFETY: this thread's message page.
            unsafe { (&raw mut (*own).words[i]).write_volatile(u64::MAX) };
        }
        let message = receive(endpoint, 0)?;
        equal(message.label(), length)?;
        equal(message.length() as u64, length)?;
        for i in 0..4 {
            equal(message.words[i], length << 32 | i as u64)?;
        }
        for i in 4..abi::MSG_WORDS {
            // SAFETY: this thread's message page.
            let word = unsafe { (&raw const (*own).words[i]).read_volatile() };
            equal(word, if i < length as usize { length << 32 | i as u64 } else { u64::MAX })?;
        }
    }
    Ok(())
}

static PAGE: Shared = Shared::new();

extern "C" fn long_sender_start(_: u64) -> ! {
    // The page is known once the thread is made; it has the lower priority.
    long_sender(PAGE.get())
}

/// Sends one message with the capability in CAP through the endpoint in ENDPOINT.
extern "C" fn granter(_: u64) -> ! {
    // SAFETY: this thread's message page.
    unsafe { (&raw mut (*(PAGE.get() as *mut MessagePage)).cap).write_volatile(CAP.get()) };
    let _ = raw(abi::SYS_SEND, ENDPOINT.get(), tag(5, 1, 1), [77, 0, 0, 0], 0);
    sleep_for_ever()
}

static CAP: Shared = Shared::new();

/// Receive what a thread sends with `capability` through an endpoint with these rights, into `into`: number of
/// capabilities that the message says it brought.
fn receive_from_granter(rights: u64, capability: u64, into: u64) -> Result<u64, Failure> {
    let endpoint = prepare()?;
    ENDPOINT.set(copy(endpoint, rights, 0)?);
    CAP.set(capability);
    let (_, page) = thread_in(abi::ROOT_CAP_CSPACE, 0, 100, 0, granter, 0)?;
    PAGE.set(page);
    // SAFETY: this thread's message page.
    unsafe { (&raw mut (*rt::message()).cap).write_volatile(into) };
    let message = receive(endpoint, 0)?;
    equal(message.label(), 5)?;
    equal(message.words[0], 77)?;
    Ok(message.tag >> 40 & 0xf)
}

fn grant() -> Outcome {
    let notification = copy(object(abi::KIND_NOTIFICATION, 0)?, RIGHT_ALL, 6)?;
    let into = slot();
    equal(receive_from_granter(RIGHT_WRITE, notification, into)?, 0)?;
    refused(send(into, 0, [0; 4], 0), Error::NoCapability)?;
    equal(receive_from_granter(RIGHT_WRITE | RIGHT_GRANT, notification, into)?, 1)?;
    send(into, 0, [0; 4], 0)?;
    equal(poll(notification, 0)?.badge, 6)
}

fn no_slot() -> Outcome {
    let notification = object(abi::KIND_NOTIFICATION, 0)?;
    // Occupied, none, outside; and a sender that names nothing.
    for into in [notification, 0, abi::ROOT_CSPACE_SLOTS] {
        equal(receive_from_granter(RIGHT_WRITE | RIGHT_GRANT, notification, into)?, 0)?;
    }
    let into = slot();
    equal(receive_from_granter(RIGHT_WRITE | RIGHT_GRANT, slot(), into)?, 0)?;
    refused(send(into, 0, [0; 4], 0), Error::NoCapability)
}

fn derived() -> Outcome {
    let notification = object(abi::KIND_NOTIFICATION, 0)?;
    let read_only = copy(notification, RIGHT_READ, 9)?;
    let into = slot();
    equal(receive_from_granter(RIGHT_ALL, read_only, into)?, 1)?;
    refused(send(into, 0, [0; 4], 0), Error::NoRights)?;
    refused(copy(into, RIGHT_ALL, 4), Error::BadState)?;
    send(notification, 0, [0; 4], 0)?;
    refused(poll(into, 0), Error::Empty)?; // the right to ask is there, and an unbadged signal has no bit
    invoke(abi::ROOT_CAP_CSPACE, abi::CSPACE_REVOKE, &[read_only])?;
    refused(poll(into, 0), Error::NoCapability)?;
    refused(poll(read_only, 0), Error::Empty)
}

extern "C" fn waiter(notification: u64) -> ! {
    STATUS[0].set(match receive(notification, 0) {
        Ok(_) => 100,
        Err(error) => error as u64,
    });
    sleep_for_ever()
}

fn cancelled() -> Outcome {
    let cancelled = Error::Cancelled as u64;
    // Waiting for a receiver, for an answer, for a message, for a signal.
    for (kind, entry) in [(0, caller as extern "C" fn(u64) -> !), (1, caller), (2, receiver), (3, waiter)] {
        let endpoint = prepare()?;
        let notification = object(abi::KIND_NOTIFICATION, 0)?;
        let reply = object(abi::KIND_REPLY, 0)?;
        let waits = thread(0, 100, 0, entry, if kind == 3 { notification } else { 0 })?;
        if kind == 1 {
            receive(endpoint, reply)?;
        } else {
            let_others_run()?;
        }
        invoke(waits, THREAD_CANCEL, &[])?;
        refused(invoke(waits, THREAD_CANCEL, &[]), Error::BadState)?; // now it is ready
        let_others_run()?;
        equal(STATUS[0].get(), cancelled)?;
        refused(poll(endpoint, 0), Error::Empty)?;
    }
    refused(invoke(abi::ROOT_CAP_THREAD, THREAD_CANCEL, &[]), Error::BadState)
}

fn late_answer() -> Outcome {
    let endpoint = prepare()?;
    let reply = object(abi::KIND_REPLY, 0)?;
    let first = thread(0, 100, 0, caller, 0)?;
    receive(endpoint, reply)?;
    invoke(first, THREAD_CANCEL, &[])?;
    // Another caller comes. The answer to the first must not go to it, nor to the first.
    thread(0, 100, 0, caller, 1)?;
    let second = rt::reply_receive(endpoint, reply, 0, [55, 0, 0, 0], 1)?;
    equal(second.label(), 1)?;
    let_others_run()?;
    equal(STATUS[0].get(), Error::Cancelled as u64)?;
    equal(STATUS[1].get(), 1)
}

fn deleted_caller() -> Outcome {
    let endpoint = prepare()?;
    let reply = object(abi::KIND_REPLY, 0)?;
    let before = free_bytes();
    let calls = thread(0, 100, 0, caller, 0)?;
    let used = before - free_bytes();
    receive(endpoint, reply)?;
    delete(calls)?;
    // The thread's own page is back although its server never answered; its stack's Range has a capability still.
    equal(before - free_bytes(), used - 4096)?;
    thread(0, 100, 0, caller, 1)?;
    equal(rt::reply_receive(endpoint, reply, 0, [1, 0, 0, 0], 1)?.label(), 1)?;
    equal(STATUS[0].get(), 1)
}

/// Calls again and again.
extern "C" fn calls_for_ever(_: u64) -> ! {
    loop {
        let _ = call(ENDPOINT.get(), 1, [1; 4], 4);
    }
}

extern "C" fn serves_for_ever(reply: u64) -> ! {
    let mut message = receive(ENDPOINT.get(), reply);
    loop {
        if message.is_ok() {
            STATUS[7].set(STATUS[7].get() + 1);
        }
        message = rt::reply_receive(ENDPOINT.get(), reply, 0, [2; 4], 4);
    }
}

fn deleted_any_time() -> Outcome {
    prepare()?;
    let server_core = crate::support::cores() - 1;
    thread(server_core, 150, 0, serves_for_ever, object(abi::KIND_REPLY, 0)?)?;
    let (range, at) = crate::support::memory(5)?;
    let before = free_bytes();
    for round in 0..300u64 {
        // On the server's core, and on another one.
        let core = [server_core, 1][(round % 2) as usize];
        let calls = object(abi::KIND_THREAD, 0)?;
        invoke(calls, abi::THREAD_CONFIGURE, &[abi::ROOT_CAP_CSPACE, abi::ROOT_CAP_TASK, range, 0, 0])?;
        invoke(calls, abi::THREAD_BIND, &[abi::ROOT_CAP_CPU + core, 100])?;
        invoke(calls, abi::THREAD_START, &[calls_for_ever as *const () as u64, at + 5 * 4096 - 8, 0])?;
        let end = tsc() + round * 997 % 60_000 * 10;
        while tsc() < end {
            core::hint::spin_loop();
        }
        delete(calls)?;
        holds(wait_for(|| free_bytes() == before))?;
        crate::support::reuse_slots(calls - 1);
    }
    holds(STATUS[7].get() > 0)
}

fn cancel_against_answer() -> Outcome {
    prepare()?;
    thread(1, 150, 0, serves_for_ever, object(abi::KIND_REPLY, 0)?)?;
    let far = crate::support::cores() - 1;
    let calls = thread(far, 100, 0, counts_calls, 0)?;
    let mut cancelled = 0;
    holds(wait_for(|| {
        if invoke(calls, THREAD_CANCEL, &[]).is_ok() {
            cancelled += 1;
        }
        STATUS[1].get() > 50 && STATUS[2].get() > 2000
    }))?;
    // What was cancelled, the caller saw, each time once; and it goes on.
    pause();
    holds(wait_for(|| STATUS[1].get() == cancelled))?;
    equal(STATUS[3].get(), 0)?;
    let answered = STATUS[2].get();
    holds(wait_for(|| STATUS[2].get() > answered + 100))
}

/// Counts calls that were cancelled [1], answered [2], and that ended otherwise [3].
extern "C" fn counts_calls(_: u64) -> ! {
    loop {
        let counter = match call(ENDPOINT.get(), 1, [1; 4], 4) {
            Ok(answer) if answer.words[0] == 2 => &STATUS[2],
            Err(Error::Cancelled) => &STATUS[1],
            _ => &STATUS[3],
        };
        counter.set(counter.get() + 1);
    }
}
