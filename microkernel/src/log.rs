//! The kernel log: a ring in memory, and a copy of it on the serial line.
//!
//! A serial line takes 87 microseconds for a character, so nobody waits for it: who has something to say puts it into the
//! ring, and the boot core (a service core, whatever the others do) moves it on, as much as the line takes at once. Only
//! while the machine starts, and at its end, the line is waited for. What the ring no longer holds when its turn comes is
//! left out of the line, which says how much that was.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arrayvec::ArrayString;

use crate::arch::{serial, time};
use crate::sync::SpinLock;

const RING: usize = 64 * 1024;
/// Characters that the boot core hands on at most before it looks for other work.
const AT_ONCE: usize = 256;

struct Ring {
    bytes: [u8; RING],
    /// Bytes ever written; the ring holds the last `RING` of them.
    end: u64,
    /// Bytes that are on the line, or were left out there.
    sent: u64,
    /// What the line says of bytes that were left out, and how much of that is on it.
    note: ArrayString<80>,
    noted: usize,
    /// The line's last character was the carriage return before a line feed.
    returned: bool,
}

static LOG: SpinLock<Ring> = SpinLock::new(Ring {
    bytes: [0; RING],
    end: 0,
    sent: 0,
    note: ArrayString::new_const(),
    noted: 0,
    returned: false,
});
/// Whether the boot core sees to the line. Until then, and at the end, everybody waits for it.
static HANDED_OVER: AtomicBool = AtomicBool::new(false);
/// TSC at which the boot core looks at the line again; 0: nothing is left for it.
static DEADLINE: AtomicU64 = AtomicU64::new(0);

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
        }
    }

    fn is_left(&self) -> bool {
        self.sent < self.end || self.noted < self.note.len()
    }

    /// The line's next character.
    fn next(&mut self) -> Option<u8> {
        let lost = self.end.saturating_sub(RING as u64).saturating_sub(self.sent);
        if lost > 0 && self.noted == self.note.len() {
            self.sent += lost;
            self.noted = 0;
            self.note.clear();
            let _ = write!(self.note, "\n[tacet] {lost} bytes of the log are not on this line: it was too slow\n");
        }
        let note = self.note.as_bytes().get(self.noted).copied();
        let byte = match note {
            Some(byte) => byte,
            None if self.sent == self.end => return None,
            None => self.bytes[self.sent as usize % RING],
        };
        if byte == b'\n' && !self.returned {
            self.returned = true;
            return Some(b'\r');
        }
        self.returned = false;
        match note {
            Some(_) => self.noted += 1,
            None => self.sent += 1,
        }
        Some(byte)
    }
}

pub fn print(args: fmt::Arguments) {
    let _ = LOG.lock().write_fmt(args);
    pass_on();
}

pub fn write(bytes: &[u8]) {
    LOG.lock().write_bytes(bytes);
    pass_on();
}

/// Something is in the ring that is not on the line.
fn pass_on() {
    if !HANDED_OVER.load(Ordering::Relaxed) {
        drain();
    } else if DEADLINE.swap(time::tsc(), Ordering::SeqCst) == 0 {
        poke_boot_core(); // (where there was a deadline, it will look anyway)
    }
}

// Everything logs, what the cores are made of too: the log does not know cores. (`percore.rs` has this.)
unsafe extern "Rust" {
    safe fn poke_boot_core();
}

/// Wait for the line until all is out; but a line that takes nothing is not waited for.
fn drain() {
    let next = || LOG.lock().next();
    while let Some(byte) = next() {
        if !serial::await_room() {
            return;
        }
        serial::put(byte);
    }
}

/// From now on the boot core sees to the line.
pub fn hand_over() {
    HANDED_OVER.store(true, Ordering::Relaxed);
}

/// The run ends, and no other core goes on: what is left goes out, and what comes still.
pub fn take_back() {
    // SAFETY: the holder is this core, below a panic or machine check, or one that is being halted; lines may mingle, no more.
    unsafe { LOG.break_open() };
    HANDED_OVER.store(false, Ordering::Relaxed);
    drain();
}

/// When a core must look at the line; 0: at no time.
pub fn deadline(core: usize) -> u64 {
    if core == 0 { DEADLINE.load(Ordering::SeqCst) } else { 0 }
}

/// Between two threads: the boot core hands on what the line takes now.
#[inline]
pub fn serve(core: usize) {
    let due = deadline(core);
    if due != 0 && due <= time::tsc() {
        hand_on();
    }
}

#[cold]
fn hand_on() {
    // Who writes from here on sees this, and pokes the core anew.
    DEADLINE.store(0, Ordering::SeqCst);
    let mut left = AT_ONCE;
    while left > 0 {
        let room = serial::room().min(left);
        for _ in 0..room {
            let Some(byte) = LOG.lock().next() else { return };
            serial::put(byte);
        }
        if room == 0 {
            break;
        }
        left -= room;
    }
    if LOG.lock().is_left() {
        DEADLINE.store(time::tsc() + time::tsc_hz() / serial::REFILLS_PER_SECOND, Ordering::SeqCst);
    }
}

/// Copy what was logged since `position` into `buffer`: (bytes copied, position after them). A position that the
/// ring no longer holds is moved to the oldest byte.
pub fn read(position: u64, buffer: &mut [u8]) -> (usize, u64) {
    let log = LOG.lock();
    let mut at = position.clamp(log.end.saturating_sub(RING as u64), log.end);
    let count = buffer.len().min((log.end - at) as usize);
    for byte in &mut buffer[..count] {
        *byte = log.bytes[at as usize % RING];
        at += 1;
    }
    (count, at)
}

/// Print one line of the kernel's own.
macro_rules! klog {
    ($($arg:tt)*) => { $crate::log::print(format_args!("[tacet] {}\n", format_args!($($arg)*))) };
}
pub(crate) use klog;
