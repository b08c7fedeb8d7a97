//! The kernel log: a ring in memory, copied to the serial line.

use core::fmt::{self, Write};

use crate::arch::serial;
use crate::sync::SpinLock;

const RING: usize = 64 * 1024;

struct Ring {
    bytes: [u8; RING],
    /// Bytes ever written; the ring holds the last `RING` of them.
    end: u64,
}

static LOG: SpinLock<Ring> = SpinLock::new(Ring { bytes: [0; RING], end: 0 });

impl Write for Ring {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        self.write_bytes(s.as_bytes());
        Ok(())
    }
}

impl Ring {
    fn write_bytes(&mut self, bytes: &[u8]) {
        for &b in bytes {
            self.bytes[self.end as usize % RING] = b;
            self.end += 1;
            serial::put(b);
        }
    }
}

pub fn print(args: fmt::Arguments) {
    let _ = LOG.lock().write_fmt(args);
}

/// Before the last words of a panic: whoever held the log does not go on.
pub fn break_open() {
    // SAFETY: the holder is this core, below the panic, or one that is being halted; lines may mingle, no more.
    unsafe { LOG.break_open() };
}

pub fn write(bytes: &[u8]) {
    LOG.lock().write_bytes(bytes);
}

/// Copy what was logged since `position` into `buffer`: (bytes copied, position after them). A position that the
/// ring no longer holds is moved to the oldest byte.
pub fn read(position: u64, buffer: &mut [u8]) -> (usize, u64) {
    let log = LOG.lock();
    let mut at = position.clamp(log.end.saturating_sub(RING as u64), log.end);
    let mut n = 0;
    while n < buffer.len() && at < log.end {
        buffer[n] = log.bytes[at as usize % RING];
        n += 1;
        at += 1;
    }
    (n, at)
}

/// Print one line of the kernel's own.
#[macro_export]
macro_rules! klog {
    ($($arg:tt)*) => { $crate::log::print(format_args!("[tacet] {}\n", format_args!($($arg)*))) };
}
