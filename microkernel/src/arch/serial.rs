//! The first serial port (16550), output only, polled.

use x86::io::{inb, outb};

const PORT: u16 = 0x3f8;

pub fn init() {
    // SAFETY: the UART's ports; the kernel owns all ports.
    unsafe {
        outb(PORT + 1, 0);
        outb(PORT + 3, 0x80);
        outb(PORT, 1); // 115200 baud
        outb(PORT + 1, 0);
        outb(PORT + 3, 3);
        outb(PORT + 2, 7);
        outb(PORT + 4, 3);
    }
}

pub fn put(byte: u8) {
    if byte == b'\n' {
        put_raw(b'\r');
    }
    put_raw(byte);
}

fn put_raw(byte: u8) {
    // A machine without the port reads 0xff, which says "empty": nothing waits for ever.
    // SAFETY: as in `init`.
    unsafe {
        while inb(PORT + 5) & 0x20 == 0 {
            core::hint::spin_loop();
        }
        outb(PORT, byte);
    }
}
