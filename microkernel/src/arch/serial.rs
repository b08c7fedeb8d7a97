//! The first serial port (16550), output only, polled.

use core::sync::atomic::{AtomicUsize, Ordering};

use x86::io::{inb, outb};

use super::time;

const PORT: u16 = 0x3f8;
const BAUD: u64 = 115_200;
/// Start bit, eight of data, stop bit.
const BITS: u64 = 10;
/// Characters that a 16550 takes when its transmitter is empty; an older UART takes one.
const FIFO: usize = 16;
/// How often in a second the transmitter is empty again.
pub const REFILLS_PER_SECOND: u64 = BAUD / BITS / FIFO as u64;
/// A line on which so many characters could have gone out takes nothing: who is at the other end does not read.
const PATIENCE: u64 = 1000;

static DEPTH: AtomicUsize = AtomicUsize::new(1);

pub fn init() {
    // SAFETY: the UART's ports; the kernel owns all ports.
    let identification = unsafe {
        outb(PORT + 1, 0);
        outb(PORT + 3, 0x80);
        outb(PORT, (115_200 / BAUD) as u8);
        outb(PORT + 1, 0);
        outb(PORT + 3, 3);
        outb(PORT + 2, 7);
        outb(PORT + 4, 3);
        inb(PORT + 2)
    };
    if identification & 0xc0 == 0xc0 {
        DEPTH.store(FIFO, Ordering::Relaxed);
    }
}

/// Characters that the UART takes now.
pub fn room() -> usize {
    // A machine without the port reads 0xff, which says that there is room.
    // SAFETY: a register of the first UART, which nobody else uses.
    if unsafe { inb(PORT + 5) } & 0x20 != 0 { DEPTH.load(Ordering::Relaxed) } else { 0 }
}

/// Wait for room. False: the line takes nothing.
pub fn await_room() -> bool {
    // (Before the clock is calibrated, nobody has anything else to do.)
    let patience = match time::tsc_hz() {
        0 => u64::MAX,
        hz => hz / (BAUD / BITS) * PATIENCE,
    };
    let start = time::tsc();
    while room() == 0 {
        if time::tsc() - start > patience {
            return false;
        }
        core::hint::spin_loop();
    }
    true
}

/// Give the UART a character, for which it has room.
pub fn put(byte: u8) {
    // SAFETY: a register of the first UART, which nobody else uses.
    unsafe { outb(PORT, byte) };
}
