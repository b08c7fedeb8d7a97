//! What the kernel itself cannot do, tried: with the word `tacet.attack=NAME` a kernel with the feature `check` does what a
//! fault in it could do, once the root task's memory is there. Each must end in a panic.

use core::hint::black_box;

use crate::arch::memory::{load_root, to_virtual};
use crate::boot;

/// Try what the command line names. `user`: an address that the tables at `root` map for user mode, read, write and execute
/// as the root task has it.
pub fn run(command_line: &[u8], root: u64, user: u64) {
    unsafe extern "C" {
        static __text_start: u8;
    }
    let named = |name: &[u8]| boot::has_word(command_line, name);
    let text = &raw const __text_start as u64;
    // SAFETY: none: each of these is what must not be possible.
    unsafe {
        if named(b"tacet.attack=write-text") {
            (text as *mut u8).write_volatile(0xcc);
        } else if named(b"tacet.attack=write-text-directly") {
            to_virtual(text - 0xffff_ffff_8000_0000).write_volatile(0xcc);
        } else if named(b"tacet.attack=run-data") {
            static mut CODE: [u8; 16] = [0xc3; 16]; // ret
            call(&raw const CODE as u64);
        } else if named(b"tacet.attack=run-directly") {
            call(to_virtual(text - 0xffff_ffff_8000_0000) as u64);
        } else if named(b"tacet.attack=read-user") {
            load_root(root);
            black_box((user as *const u8).read_volatile());
        } else if named(b"tacet.attack=run-user") {
            load_root(root);
            call(user);
        } else {
            return;
        }
    }
    panic!("the attack succeeded");
}

/// # Safety
/// None.
unsafe fn call(address: u64) {
    // SAFETY: see `run`.
    unsafe { core::mem::transmute::<u64, extern "C" fn()>(address)() }
}
