//! The atomics of this crate. (The models in `microkernel/model` put loom's in this place.)

pub use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// A function that is `const` where atomics can be made at compile time.
macro_rules! const_fn {
    (pub fn $($function:tt)*) => { pub const fn $($function)* };
}
pub(crate) use const_fn;

/// A count whose changes need no order among themselves. (The models do not branch at it.)
pub use core::sync::atomic::AtomicU64 as Count;
