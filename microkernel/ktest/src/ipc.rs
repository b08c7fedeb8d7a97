//! Messages and notifications between threads of one and of several cores.

use abi::{Error, RIGHT_ALL, RIGHT_READ, RIGHT_WRITE, tag};
use rt::{call, invoke, poll, raw, receive, reply_receive, send};

use crate::support::{
    ENDPOINT, Outcome, POOL, Race, Shared, Test, copy, cores, delete, equal, holds, let_others_run, object, refused,
    sleep_for_ever, slot, thread,
};

pub const TESTS: &[Test] = &[
    Test { name: "call_and_reply_carry_words_and_badge", cores: 1, run: call_reply },
    Test { name: "call_and_reply_cross_cores", cores: 2, run: call_reply_remote },
    Test { name: "call_needs_write_and_receive_needs_read", cores: 1, run: rights },
    Test { name: "a_polling_receive_does_not_wait", cores: 1, run: polling },
    Test { name: "a_polling_send_without_receiver_vanishes", cores: 1, run: vanishes },
    Test { name: "a_caller_is_answered_once", cores: 1, run: reply_once },
    Test { name: "deleting_an_endpoint_wakes_who_waits", cores: 1, run: deleted_endpoint },
    Test { name: "deleting_a_reply_wakes_its_caller", cores: 1, run: deleted_reply },
    Test { name: "a_call_to_a_receiver_whose_reply_was_deleted_ends_at_once", cores: 1, run: receiver_without_reply },
    Test { name: "who_comes_while_the_object_is_deleted_does_not_wait", cores: 2, run: deleted_on_arrival },
    Test { name: "a_message_that_is_too_long_is_refused", cores: 1, run: too_long },
    Test { name: "signals_gather_in_one_word", cores: 1, run: signals },
    Test { name: "a_signal_wakes_a_waiter_on_another_core", cores: 2, run: remote_signal },
];

static REPLY: Shared = Shared::new();
static RESULT: Shared = Shared::new();
static STATUS: Shared = Shared::new();

/// Answers each message with its words plus one, its badge as label.
extern "C" fn echo(_: u64) -> ! {
    let (endpoint, reply) = (ENDPOINT.get(), REPLY.get());
    let mut message = receive(endpoint, reply);
    loop {
        let Ok(m) = message else { sleep_for_ever() };
        message = reply_receive(endpoint, reply, m.badge, m.words.map(|w| w + 1), 4);
    }
}

fn echo_from(core: u64) -> Outcome {
    let endpoint = object(abi::KIND_ENDPOINT, 0)?;
    ENDPOINT.set(endpoint);
    REPLY.set(object(abi::KIND_REPLY, 0)?);
    thread(core, 201, 0, echo, 0)?;
    let badged = copy(endpoint, RIGHT_ALL, 42)?;
    for i in 0..1000 {
        let answer = call(badged, 7, [i, i + 10, i + 20, i + 30], 4)?;
        equal(answer.label(), 42)?;
        equal(answer.words[0], i + 1)?;
        equal(answer.words[3], i + 31)?;
    }
    Ok(())
}

fn call_reply() -> Outcome {
    echo_from(0)
}

fn call_reply_remote() -> Outcome {
    echo_from(1)
}

fn rights() -> Outcome {
    let endpoint = object(abi::KIND_ENDPOINT, 0)?;
    let read = copy(endpoint, RIGHT_READ, 0)?;
    let write = copy(endpoint, RIGHT_WRITE, 0)?;
    refused(call(read, 0, [0; 4], 0), Error::NoRights)?;
    refused(send(read, 0, [0; 4], 0), Error::NoRights)?;
    refused(poll(write, 0), Error::NoRights)
}

fn polling() -> Outcome {
    refused(poll(object(abi::KIND_ENDPOINT, 0)?, 0), Error::Empty)?;
    refused(poll(object(abi::KIND_NOTIFICATION, 0)?, 0), Error::Empty)
}

fn vanishes() -> Outcome {
    let endpoint = object(abi::KIND_ENDPOINT, 0)?;
    raw(abi::SYS_SEND, endpoint, tag(1, 1, 0) | abi::TAG_POLL, [5, 0, 0, 0], 0)?;
    refused(poll(endpoint, 0), Error::Empty)
}

fn reply_once() -> Outcome {
    let (endpoint, reply) = lonely_caller()?;
    receive(endpoint, reply)?;
    // Answered twice: the second answer finds nobody. (The receive half finds a message that waits already.)
    for answer in [11, 12] {
        thread(0, 220, 0, sender, endpoint)?;
        reply_receive(endpoint, reply, 0, [answer, 0, 0, 0], 1)?;
    }
    let_others_run()?;
    equal(STATUS.get(), 100 + 11)
}

extern "C" fn sender(endpoint: u64) -> ! {
    let _ = send(endpoint, 0, [0; 4], 0);
    sleep_for_ever()
}

extern "C" fn caller_once(_: u64) -> ! {
    let status = match call(ENDPOINT.get(), 3, [1, 2, 3, 4], 4) {
        Ok(answer) => 100 + answer.words[0],
        Err(error) => error as u64,
    };
    STATUS.set(status);
    sleep_for_ever()
}

fn lonely_caller() -> Result<(u64, u64), crate::support::Failure> {
    STATUS.set(0);
    let (endpoint, reply) = (object(abi::KIND_ENDPOINT, 0)?, object(abi::KIND_REPLY, 0)?);
    ENDPOINT.set(endpoint);
    thread(0, 150, 0, caller_once, 0)?;
    Ok((endpoint, reply))
}

fn deleted_endpoint() -> Outcome {
    let (endpoint, _) = lonely_caller()?;
    let_others_run()?;
    delete(endpoint)?;
    let_others_run()?;
    equal(STATUS.get(), Error::Deleted as u64)
}

fn deleted_reply() -> Outcome {
    let (endpoint, reply) = lonely_caller()?;
    receive(endpoint, reply)?;
    delete(reply)?;
    let_others_run()?;
    equal(STATUS.get(), Error::Deleted as u64)
}

fn receiver_without_reply() -> Outcome {
    let (endpoint, reply) = (object(abi::KIND_ENDPOINT, 0)?, object(abi::KIND_REPLY, 0)?);
    ENDPOINT.set(endpoint);
    REPLY.set(reply);
    STATUS.set(0);
    thread(0, 201, 0, echo, 0)?; // waits at once
    delete(reply)?;
    thread(0, 150, 0, caller_once, 0)?;
    let_others_run()?;
    equal(STATUS.get(), Error::Deleted as u64)
}

/// The ways to come to an object and wait there.
const WAYS: [(u64, fn(u64) -> Result<rt::Answer, Error>); 4] = [
    (abi::KIND_ENDPOINT, |slot| send(slot, 0, [0; 4], 0).map(|()| rt::Answer::default())),
    (abi::KIND_ENDPOINT, |slot| call(slot, 0, [0; 4], 0)),
    (abi::KIND_ENDPOINT, |slot| receive(slot, 0)),
    (abi::KIND_NOTIFICATION, |slot| receive(slot, 0)),
];
static ROUND: Shared = Shared::new();

/// Each round, go to what ENDPOINT names; RESULT is the round that came to its end.
extern "C" fn comes(way: u64) -> ! {
    loop {
        let round = ROUND.get();
        if round == RESULT.get() {
            core::hint::spin_loop();
            continue;
        }
        STATUS.set(WAYS[way as usize].1(ENDPOINT.get()).map_or_else(|error| error as u64, |_| 100));
        RESULT.set(round);
    }
}

fn deleted_on_arrival() -> Outcome {
    let slot = slot();
    ENDPOINT.set(slot);
    for (way, (kind, _)) in WAYS.into_iter().enumerate() {
        ROUND.set(0);
        RESULT.set(0);
        let mut race = Race::new();
        let comes = thread(cores() - 1, 100, 0, comes, way as u64)?;
        for round in 1..=400 {
            invoke(POOL, abi::UNTYPED_RETYPE, &[kind, 0, slot])?;
            ROUND.set(round);
            race.wait();
            delete(slot)?;
            holds(RESULT.await_value(round))?;
            // It came too late, or just so.
            let (late, waited) = (Error::NoCapability as u64, Error::Deleted as u64);
            holds([late, waited].contains(&STATUS.get()))?;
            race.ended(STATUS.get() == waited);
        }
        race.both_happened()?;
        delete(comes)?;
    }
    Ok(())
}

fn too_long() -> Outcome {
    let endpoint = object(abi::KIND_ENDPOINT, 0)?;
    refused(raw(abi::SYS_CALL, endpoint, tag(0, 65, 0), [0; 4], 0), Error::TooLong)?;
    refused(raw(abi::SYS_SEND, endpoint, tag(0, 0, 2), [0; 4], 0), Error::TooLong)
}

fn signals() -> Outcome {
    let notification = object(abi::KIND_NOTIFICATION, 0)?;
    for badge in [1, 4, 64] {
        send(copy(notification, RIGHT_ALL, badge)?, 0, [0; 4], 0)?;
    }
    equal(poll(notification, 0)?.badge, 69)?;
    refused(poll(notification, 0), Error::Empty)
}

extern "C" fn wait_then_note(notification: u64) -> ! {
    STATUS.set(1);
    if let Ok(answer) = receive(notification, 0) {
        RESULT.set(answer.badge);
    }
    sleep_for_ever()
}

fn remote_signal() -> Outcome {
    STATUS.set(0);
    RESULT.set(0);
    let notification = object(abi::KIND_NOTIFICATION, 0)?;
    let badged = copy(notification, RIGHT_ALL, 0x55)?;
    thread(1, 10, 0, wait_then_note, notification)?;
    equal(u64::from(STATUS.await_value(1)), 1)?;
    send(badged, 0, [0; 4], 0)?;
    equal(u64::from(RESULT.await_value(0x55)), 1)
}
