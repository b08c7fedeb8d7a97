//! Storms of interrupts. A device that interrupts without end would leave its core no time for anything else, and a message
//! cannot be masked at its source by the kernel. So when device interrupts follow each other with next to no time between
//! them, the core's APIC holds all of them back for a while (its task priority; SDM vol. 3, 11.8.3.1). What came meanwhile
//! is delivered then, once for each vector. Timers and the kernel's own interrupts are not held.

use core::cell::Cell;

use crate::arch::{apic, time};
use crate::klog;

/// Two interrupts follow each other when less than this part of a second is between them.
const GAPS_PER_SECOND: u64 = 100_000;
/// So many in a row are a storm.
const IN_A_ROW: u32 = 200;
/// Part of a second for which they are held.
const HOLDS_PER_SECOND: u64 = 500;

/// What a core knows of its device interrupts. All-zero is its beginning.
pub struct Storm {
    /// TSC when the last one was served.
    last: Cell<u64>,
    in_a_row: Cell<u32>,
    /// TSC at which they are let in again; 0: they are not held.
    held_until: Cell<u64>,
    told: Cell<bool>,
}

impl Storm {
    /// When the core must look again; 0: never.
    pub fn deadline(&self) -> u64 {
        self.held_until.get()
    }
}

/// A device interrupt that arrived at `start` was served, by core `core`. True: they are held back now, and the timer has to be
/// armed for their end.
#[must_use]
pub fn served(storm: &Storm, core: usize, vector: u8, start: u64) -> bool {
    let follows = start.wrapping_sub(storm.last.get()) < time::tsc_hz() / GAPS_PER_SECOND;
    storm.in_a_row.set(if follows { storm.in_a_row.get() + 1 } else { 0 });
    let now = time::tsc();
    storm.last.set(now);
    if storm.in_a_row.get() < IN_A_ROW {
        return false;
    }
    storm.in_a_row.set(0);
    storm.held_until.set(now + time::tsc_hz() / HOLDS_PER_SECOND);
    apic::hold_devices(true);
    if !storm.told.replace(true) {
        klog!(
            "core {core}: a storm of interrupts, of vector {vector:#x} among others: they are held back from time to time"
        );
    }
    true
}

/// The timer expired.
pub fn timer_expired(storm: &Storm, now: u64) {
    let until = storm.held_until.get();
    if until != 0 && until <= now {
        storm.held_until.set(0);
        apic::hold_devices(false);
    }
}
