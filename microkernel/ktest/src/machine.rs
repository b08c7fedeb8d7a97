//! What differs from machine to machine: how many cores there are, and which of them devices can interrupt.

use abi::{Error, KIND_NOTIFICATION, RIGHT_ALL};
use rt::{invoke, println, receive, send};

use crate::support::{
    self, Outcome, Shared, Test, copy, cores, delete, equal, holds, object, slot, thread, tsc, tsc_hz, wait_for,
};

pub const TESTS: &[Test] = &[
    Test { name: "every_core_runs_a_thread_and_wakes_another_core", cores: 1, run: every_core },
    Test { name: "a_log_line_is_not_waited_for", cores: 1, run: log_line },
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

/// At 115,200 baud a line of 480 characters takes 42 ms. (The shortest of several writes counts: a host may take the time that
/// another one needs. QEMU's line takes none, that of Bochs takes as long as a real one.)
fn log_line() -> Outcome {
    let mut shortest = u64::MAX;
    for _ in 0..8 {
        let start = tsc();
        println!("{:.>479}", "");
        shortest = shortest.min(tsc() - start);
    }
    holds(shortest < tsc_hz() / 200)
}

static SPINS: Shared = Shared::new();

extern "C" fn spin(_: u64) -> ! {
    loop {
        SPINS.set(SPINS.get() + 1);
    }
}

/// `kexit` on the command line: the run ends while other cores compute.
pub fn exit_while_others_compute() -> ! {
    for core in 1..cores() {
        SPINS.set(0);
        let started = thread(core, 100, 0, spin, 0).is_ok();
        if !started || !wait_for(|| SPINS.get() > 0) {
            rt::exit(1);
        }
    }
    rt::exit(0)
}

/// `kflood` on the command line: more lines at once than a serial line that nobody reads takes, then again some.
pub fn flood() -> ! {
    for part in 0..2 {
        for i in 0..10_000 {
            println!("flood {part} {i:04} {:.>60}", "");
        }
        // Time for whoever is at the other end to read.
        let end = tsc() + 5 * tsc_hz();
        while tsc() < end {}
    }
    rt::exit(0)
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
