//! The entry code, and where it finds in the kernel's structures what it has to look at.

use core::arch::global_asm;

use crate::arch::{FLAGS_USER, memory};
use crate::object::Thread;

global_asm!(
    include_str!("arch/trap.s"),
    flags_user = const FLAGS_USER,
    kernel_stack_bit = const memory::STACK_BIT,
    thread_home = const Thread::HOME,
    thread_special = const Thread::HINDERED_KIND,
);
