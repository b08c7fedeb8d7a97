//! The atomics of this crate. (The models in `microkernel/model` put loom's in this place.)

pub use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// A function that is `const` where atomics can be made at compile time.
macro_rules! const_fn {
    (pub fn $($function:tt)*) => { pub const fn $($function)* };
}
pub(crate) use const_fn;

/// Statics of atomics.
macro_rules! statics {
    ($($(#[$about:meta])* static $name:ident: $kind:ty = $value:expr;)*) => {
        $($(#[$about])* static $name: $kind = $value;)*
    };
}
pub(crate) use statics;

/// The word of a spin lock. (The models know the order of its changes.)
pub use core::sync::atomic::AtomicU32 as LockWord;
/// A count whose changes need no order among themselves. (The models do not branch at it.)
pub use core::sync::atomic::AtomicU64 as Count;
