//! Run-time for programs that run directly on the microkernel: entry, system calls, log, panic.
//!
//! A program defines `#[unsafe(no_mangle)] extern "C" fn main(argument: u64, message: *mut MessagePage) -> !`. All of
//! this works on x86_64-unknown-none only; on the host the crate is empty.
#![cfg_attr(target_os = "none", no_std)]

#[cfg(target_os = "none")]
mod native;
#[cfg(target_os = "none")]
pub use native::*;
