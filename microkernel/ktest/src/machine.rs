//! What differs from machine to machine: how many cores there are, and which of them devices can interrupt.

use abi::{Error, KIND_NOTIFICATION, RIGHT_ALL};
use rt::{invoke, receive, send};

use crate::support::{self, Outcome, Test, copy, cores, delete, equal, object, slot, thread};

pub const TESTS: &[Test] = &[
    Test { name: "every_core_runs_a_thread_and_wakes_another_core", cores: 1, run: every_core },
    Test { name: "an_interrupt_for_a_core_goes_to_that_core_or_is_refused", cores: 2, run: destinations },
];

/// Waits for the notification in the low half, then signals the one in the high half.
extern "C" fn relay(slots: u64) -> ! {
    let _ = receive(slots & 0xffff_ffff, 0);
    let _ = send(slots >> 32, 0, [0; 4], 0);
    loop {
        let _ = receive(slots & 0xffff_ffff, 0);
    }
}

fn every_core() -> Outcome {
    let done = object(KIND_NOTIFICATION, 0)?;
    for core in 0..cores() {
        let go = object(KIND_NOTIFICATION, 0)?;
        let badged = copy(done, RIGHT_ALL, 1 << core)?;
        thread(core, 250, 0, relay, go | badged << 32)?;
        // The core sleeps until this signal wakes it, and this one until that core's.
        send(copy(go, RIGHT_ALL, 1)?, 0, [0; 4], 0)?;
        equal(receive(done, 0)?.badge, 1 << core)?;
    }
    Ok(())
}

fn destinations() -> Outcome {
    let mut seen = [0; abi::MAX_CORES];
    for core in 0..cores() {
        let handler = slot();
        match invoke(abi::ROOT_CAP_MACHINE, abi::MACHINE_MSI, &[core, handler]) {
            Ok(_) => {
                let [address, _] = invoke(handler, abi::IRQ_MSI, &[])?;
                equal(u64::from(seen.contains(&address)), 0)?;
                seen[core as usize] = address;
                delete(handler)?;
            }
            // (On a machine whose cores have ids of more than 8 bits.)
            Err(error) => {
                equal(u64::from(core > 0), 1)?;
                support::refused::<()>(Err(error), Error::BadArgument)?;
            }
        }
    }
    Ok(())
}
