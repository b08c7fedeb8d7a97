//! The atomics of this crate. (The models in `microkernel/model` put loom's in this place.)

pub use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
