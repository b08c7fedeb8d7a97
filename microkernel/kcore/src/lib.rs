//! The kernel's logic that needs no hardware: tested on the host and under Miri.
//!
//! Memory is reached through traits, so that the same code walks real page tables and ACPI tables in the kernel and
//! arrays in the tests.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![allow(clippy::new_without_default, reason = "nobody asks for defaults here")]

pub mod acpi;
mod bytes;
#[cfg(feature = "check")]
pub mod check;
pub mod contexts;
pub mod cpio;
pub mod handshake;
pub mod memory_map;
pub mod multiboot2;
pub mod paging;
pub mod program;
pub mod rtc;
pub mod symbols;

/// The atomics of `handshake`; the model has loom's in their place.
mod atomic {
    pub use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
}
