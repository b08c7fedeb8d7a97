//! Priorities, stopping, and silence.

use abi::{RIGHT_ALL, THREAD_RESUME, THREAD_STOP};
use rt::{invoke, receive, send};

use crate::support::{Outcome, Shared, Test, copy, equal, object, thread, tsc, tsc_hz, wait_for};

pub const TESTS: &[Test] = &[
    Test { name: "a_lower_priority_waits_for_a_higher_one", cores: 1, run: strict },
    Test { name: "equal_priorities_share_a_core", cores: 2, run: share },
    Test { name: "a_stopped_thread_stands_still_until_resumed", cores: 2, run: stop },
    Test { name: "deleting_a_running_thread_on_another_core_ends_it", cores: 2, run: delete_running },
    Test { name: "a_thread_cannot_be_started_twice_or_rebound", cores: 1, run: states },
];

static COUNT: [Shared; 2] = [const { Shared::new() }; 2];

extern "C" fn count(index: u64) -> ! {
    let counter = &COUNT[index as usize];
    loop {
        counter.set(counter.get() + 1);
    }
}

fn strict() -> Outcome {
    COUNT[0].set(0);
    thread(0, 50, 0, count, 0)?;
    let end = tsc() + tsc_hz() / 20;
    while tsc() < end {}
    equal(COUNT[0].get(), 0)
}

fn share() -> Outcome {
    COUNT[0].set(0);
    COUNT[1].set(0);
    thread(1, 50, 0, count, 0)?;
    thread(1, 50, 0, count, 1)?;
    equal(u64::from(wait_for(|| COUNT[0].get() > 1000 && COUNT[1].get() > 1000)), 1)?;
    let before = [COUNT[0].get(), COUNT[1].get()];
    equal(u64::from(wait_for(|| COUNT[0].get() > before[0] + 1000 && COUNT[1].get() > before[1] + 1000)), 1)
}

fn stop() -> Outcome {
    COUNT[0].set(0);
    let counter = thread(1, 50, 0, count, 0)?;
    equal(u64::from(wait_for(|| COUNT[0].get() > 0)), 1)?;
    invoke(counter, THREAD_STOP, &[])?;
    let mut last = u64::MAX;
    // It may run on until the interrupt arrives; then it stands still.
    equal(u64::from(wait_for(|| {
        let end = tsc() + tsc_hz() / 100;
        while tsc() < end {}
        core::mem::replace(&mut last, COUNT[0].get()) == COUNT[0].get()
    })), 1)?;
    let still = COUNT[0].get();
    invoke(counter, THREAD_RESUME, &[])?;
    equal(u64::from(wait_for(|| COUNT[0].get() > still)), 1)
}

fn delete_running() -> Outcome {
    COUNT[0].set(0);
    let counter = thread(1, 50, 0, count, 0)?;
    equal(u64::from(wait_for(|| COUNT[0].get() > 0)), 1)?;
    crate::support::delete(counter)?;
    let mut last = u64::MAX;
    equal(u64::from(wait_for(|| {
        let end = tsc() + tsc_hz() / 100;
        while tsc() < end {}
        core::mem::replace(&mut last, COUNT[0].get()) == COUNT[0].get()
    })), 1)
}

extern "C" fn signal_and_wait(slot: u64) -> ! {
    let _ = send(slot, 0, [0; 4], 0);
    loop {
        core::hint::spin_loop();
    }
}

fn states() -> Outcome {
    let notification = copy(object(abi::KIND_NOTIFICATION, 0)?, RIGHT_ALL, 1)?;
    let slot = thread(0, 10, 0, signal_and_wait, notification)?;
    receive(notification, 0)?;
    crate::support::refused(invoke(slot, abi::THREAD_START, &[0, 0, 0]), abi::Error::BadState)?;
    crate::support::refused(invoke(slot, abi::THREAD_BIND, &[abi::ROOT_CAP_CPU, 1]), abi::Error::BadState)?;
    crate::support::refused(invoke(slot, abi::THREAD_BIND, &[abi::ROOT_CAP_TASK, 1]), abi::Error::WrongType)?;
    let fresh = object(abi::KIND_THREAD, 0)?;
    crate::support::refused(invoke(fresh, abi::THREAD_START, &[0, 0, 0]), abi::Error::BadState)
}
