//! Time stamps and their calibration against the PIT (8254, channel 2) and the wall clock (CMOS RTC).

use core::arch::x86_64::_rdtsc;
use core::sync::atomic::{AtomicU64, Ordering};

use x86::io::{inb, outb};

const PIT_HZ: u64 = 1_193_182;
/// Length of one calibration round: 2 ms.
const ROUND_TICKS: u64 = PIT_HZ / 500;
/// Rounds at least and at most, and how many must agree with the shortest to a thousandth.
const ROUNDS: core::ops::Range<u32> = 8..400;
const AGREEING: u32 = 4;

/// TSC ticks, some ten seconds at any rate, after which a round of 2 ms is given up.
const PIT_PATIENCE: u64 = 1 << 35;

static TSC_HZ: AtomicU64 = AtomicU64::new(0);

#[inline]
pub fn tsc() -> u64 {
    // SAFETY: RDTSC is always there on x86-64.
    unsafe { _rdtsc() }
}

/// TSC ticks per second.
pub fn tsc_hz() -> u64 {
    TSC_HZ.load(Ordering::Relaxed)
}

/// Measure the TSC, and `counter` (which counts down) beside it. Returns the counter's ticks per second.
///
/// A round in which a host took the CPU away measures too long, never too short: the shortest counts, once several agree
/// with it. Rounds are short so that on a busy host some are whole.
pub fn calibrate(counter: impl Fn() -> u32) -> u64 {
    let mut best = (u64::MAX, 0);
    let mut agreeing = 0;
    for round in 0..ROUNDS.end {
        if round >= ROUNDS.start && agreeing >= AGREEING {
            break;
        }
        // SAFETY: PIT channel 2 with the speaker off; its output is bit 5 of port 0x61.
        unsafe {
            outb(0x61, inb(0x61) & !2 | 1);
            outb(0x43, 0b1011_0000); // channel 2, low then high byte, mode 0
            outb(0x42, ROUND_TICKS as u8);
            outb(0x42, (ROUND_TICKS >> 8) as u8);
        }
        let (t0, c0) = (tsc(), counter());
        // SAFETY: reading port 0x61 changes nothing.
        while unsafe { inb(0x61) } & 0x20 == 0 {
            assert!(
                tsc() - t0 < PIT_PATIENCE,
                "this machine's PIT (8254) does not count: there is nothing to calibrate the TSC with"
            );
        }
        let (t1, c1) = (tsc(), counter());
        let length = t1 - t0;
        if length < best.0 - best.0 / 1000 {
            agreeing = 0;
        }
        agreeing += u32::from(length <= best.0.saturating_add(length / 1000));
        if length < best.0 {
            best = (length, u64::from(c0.wrapping_sub(c1)));
        }
    }
    TSC_HZ.store(best.0 * PIT_HZ / ROUND_TICKS, Ordering::Relaxed);
    best.1 * PIT_HZ / ROUND_TICKS
}

/// Seconds since 1970 by the RTC, which is taken to run in UTC; 0 without one.
pub fn wall_seconds() -> u64 {
    let read = |register: u8| {
        // SAFETY: CMOS index and data ports.
        unsafe {
            outb(0x70, register);
            inb(0x71)
        }
    };
    if read(0x0a) == 0xff {
        crate::klog!("no RTC: the wall clock begins at 1970");
        return 0;
    }
    let snapshot = || {
        while read(0x0a) & 0x80 != 0 {}
        [0x00, 0x02, 0x04, 0x07, 0x08, 0x09].map(read)
    };
    let mut fields = snapshot();
    // An update between two reads would tear the value: read until two snapshots agree.
    while snapshot() != fields {
        fields = snapshot();
    }
    kcore::rtc::seconds_since_1970(fields, read(0x0b))
}
