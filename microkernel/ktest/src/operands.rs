//! Operands of a call that change while it is decoded: siblings of the caller share its CSpace.

use abi::{CSPACE_MOVE, Error, RIGHT_ALL, ROOT_CAP_CSPACE};
use rt::{invoke, receive};

use crate::support::{
    CODE, DATA, ENDPOINT, Outcome, Shared, Test, copy, delete, equal, holds, object, reuse_slots, sleep_for_ever, slot,
    thread, user_task, wait_for,
};

pub const TESTS: &[Test] = &[Test { name: "a_badge_comes_with_the_object_it_was_given_to", cores: 4, run: badges }];

/// Where the siblings put now one capability, now another.
static CONTESTED: Shared = Shared::new();
static ENOUGH: Shared = Shared::new();

/// Moves a capability into the contested slot and out again.
extern "C" fn mover(own: u64) -> ! {
    while ENOUGH.get() == 0 {
        if invoke(ROOT_CAP_CSPACE, CSPACE_MOVE, &[own, CONTESTED.get()]).is_ok() {
            while invoke(ROOT_CAP_CSPACE, CSPACE_MOVE, &[CONTESTED.get(), own]).is_err() {}
        }
    }
    ENOUGH.set(ENOUGH.get() + 1);
    sleep_for_ever()
}

static REPLY: Shared = Shared::new();

/// Calls with the longest message, and answers to them: the kernel holds the CSpace for as long as it copies that, so that
/// whoever wants to look at it waits, and the movers come between.
extern "C" fn caller(_: u64) -> ! {
    while ENOUGH.get() == 0 {
        let _ = rt::call(ENDPOINT.get(), 0, [0; 4], abi::MSG_WORDS as u64);
    }
    sleep_for_ever()
}

extern "C" fn answerer(_: u64) -> ! {
    let mut message = receive(ENDPOINT.get(), REPLY.get());
    while message.is_ok() {
        message = rt::reply_receive(ENDPOINT.get(), REPLY.get(), 0, [0; 4], abi::MSG_WORDS as u64);
    }
    sleep_for_ever()
}

/// The fault endpoint of a thread is named by a slot that holds a badged capability to it, or a Notification with a badge of
/// the caller's own choice.
fn badges() -> Outcome {
    const GIVEN: u64 = 5;
    const CHOSEN: u64 = 0x666;
    let (endpoint, reply) = (object(abi::KIND_ENDPOINT, 0)?, object(abi::KIND_REPLY, 0)?);
    let badged = copy(endpoint, RIGHT_ALL, GIVEN)?;
    let chosen = copy(object(abi::KIND_NOTIFICATION, 0)?, RIGHT_ALL, CHOSEN)?;
    let (task, _, _) = user_task(&[0x0f, 0x0b])?; // ud2
    ENOUGH.set(0);
    CONTESTED.set(slot());
    ENDPOINT.set(object(abi::KIND_ENDPOINT, 0)?);
    REPLY.set(object(abi::KIND_REPLY, 0)?);
    thread(3, 110, 0, answerer, 0)?;
    thread(3, 100, 0, caller, 0)?;
    thread(1, 100, 0, mover, badged)?;
    thread(2, 100, 0, mover, chosen)?;
    let last = slot();
    let mut taken = 0;
    for _ in 0..200_000 {
        let victim = object(abi::KIND_THREAD, 0)?;
        invoke(victim, abi::THREAD_BIND, &[abi::ROOT_CAP_CPU, 210])?;
        // Only what names an Endpoint is taken.
        while let Err(error) = invoke(victim, abi::THREAD_CONFIGURE, &[0, task, 0, 0, CONTESTED.get()]) {
            holds(error == Error::NoCapability || error == Error::WrongType)?;
        }
        taken += 1;
        invoke(victim, abi::THREAD_START, &[CODE, DATA + 4096, 0])?;
        equal(receive(endpoint, reply)?.badge, GIVEN)?;
        delete(victim)?;
        reuse_slots(last);
        if taken == 3000 {
            break;
        }
    }
    ENOUGH.set(1);
    holds(wait_for(|| ENOUGH.get() >= 2))
}
