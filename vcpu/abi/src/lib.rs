//! The kernel interface of Tacet, defined once.
//!
//! The kernel, the root task, the tests and (through a header that `mk build` generates with cbindgen) the Linux
//! port all take their numbers and layouts from here; `docs/abi.md` explains them.
//!
//! Principles:
//! 1. Five system calls; everything else is a call on an object's capability.
//! 2. Pages shared with the kernel are named by (Range capability, offset): the kernel never follows a user pointer.
//! 3. Register frames have the layout of Linux's `user_regs_struct`, so the Linux port copies them whole.
//! 4. Only plain integers and `repr(C)` structures, so that C and Rust agree without translation.
#![no_std]

mod boot;
mod error;
mod frame;
mod syscall;

pub use boot::*;
pub use error::*;
pub use frame::*;
pub use syscall::*;
