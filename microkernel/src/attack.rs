//! What the kernel itself cannot do, tried: with the word `tacet.attack=NAME` a kernel with the feature `check` does what a
//! fault in it could do, once the root task's memory is there. Each must end in a panic.

use core::arch::asm;
use core::hint::black_box;

use crate::arch::memory::{load_root, to_virtual};
use crate::{boot, percore};

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
        } else if named(b"tacet.attack=fill-boot-stack") {
            fill_stack(0);
        } else if named(b"tacet.attack=fill-stack") {
            // Not to come back: this stack is left.
            asm!("mov rsp, {}", "call {}", in(reg) percore::core().kernel_stack, sym fill_stack, in("edi") 0, options(noreturn));
        } else {
            return;
        }
    }
    panic!("the attack succeeded");
}

/// Goes deeper than any stack is.
extern "C" fn fill_stack(depth: u32) -> u32 {
    let mut words = black_box([depth; 64]);
    if depth < 1 << 20 {
        words[0] = fill_stack(depth + 1);
    }
    black_box(&words).iter().fold(0, |sum, word| sum ^ word)
}

/// # Safety
/// None.
unsafe fn call(address: u64) {
    // SAFETY: not safe: it is the attack, and the processor stops it.
    unsafe { core::mem::transmute::<u64, extern "C" fn()>(address)() }
}
