//! loom's atomics as x86-64 has them.

/// loom's atomics are made at run time.
macro_rules! const_fn {
    (pub fn $($function:tt)*) => { pub fn $($function)* };
}
pub(crate) use const_fn;

/// ... and are gone after each run of a model.
macro_rules! statics {
    ($($(#[$about:meta])* static $name:ident: $kind:ty = $value:expr;)*) => {
        loom::lazy_static! { $($(#[$about])* static ref $name: $kind = $value;)* }
    };
}
pub(crate) use statics;

/// Reference counts are exact whatever happens: nothing branches at them.
pub use core::sync::atomic::AtomicU64 as Count;
pub use loom::sync::atomic::Ordering;
use loom::sync::atomic::fence;

macro_rules! atomic {
    ($name:ident, $value:ty) => {
        pub struct $name(loom::sync::atomic::$name);

        impl $name {
            pub fn new(value: $value) -> Self {
                Self(loom::sync::atomic::$name::new(value))
            }

            pub fn load(&self, _: Ordering) -> $value {
                self.0.load(Ordering::Acquire)
            }

            pub fn store(&self, value: $value, order: Ordering) {
                if order == Ordering::SeqCst {
                    self.swap(value, order);
                } else {
                    self.0.store(value, Ordering::Release);
                }
            }

            pub fn swap(&self, value: $value, _: Ordering) -> $value {
                locked(|| self.0.swap(value, Ordering::AcqRel))
            }
        }
    };
}

macro_rules! arithmetic {
    ($name:ident, $value:ty) => {
        #[allow(dead_code, reason = "the models use their part")]
        impl $name {
            pub fn fetch_or(&self, value: $value, _: Ordering) -> $value {
                locked(|| self.0.fetch_or(value, Ordering::AcqRel))
            }

            pub fn fetch_and(&self, value: $value, _: Ordering) -> $value {
                locked(|| self.0.fetch_and(value, Ordering::AcqRel))
            }

            pub fn fetch_add(&self, value: $value, _: Ordering) -> $value {
                locked(|| self.0.fetch_add(value, Ordering::AcqRel))
            }

            pub fn fetch_sub(&self, value: $value, _: Ordering) -> $value {
                locked(|| self.0.fetch_sub(value, Ordering::AcqRel))
            }
        }
    };
}

impl AtomicU8 {
    pub fn compare_exchange(&self, from: u8, to: u8, _: Ordering, _: Ordering) -> Result<u8, u8> {
        locked(|| self.0.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire))
    }
}

atomic!(AtomicBool, bool);
atomic!(AtomicU8, u8);
atomic!(AtomicU32, u32);
atomic!(AtomicU64, u64);
arithmetic!(AtomicU32, u32);
arithmetic!(AtomicU64, u64);

/// The word of a spin lock: all its changes are in one order, as those of every word are on hardware. (loom knows no order
/// between the exchange of who waits and the store of who unlocks, and would let a loop read the first for ever.)
pub struct LockWord(AtomicU32);

impl LockWord {
    pub fn new(value: u32) -> Self {
        Self(AtomicU32::new(value))
    }

    pub fn load(&self, order: Ordering) -> u32 {
        self.0.load(order)
    }

    pub fn store(&self, value: u32, _: Ordering) {
        self.0.0.swap(value, Ordering::Release);
    }

    pub fn swap(&self, value: u32, order: Ordering) -> u32 {
        self.0.swap(value, order)
    }

    pub fn fetch_or(&self, value: u32, order: Ordering) -> u32 {
        self.0.fetch_or(value, order)
    }
}

fn locked<T>(instruction: impl FnOnce() -> T) -> T {
    fence(Ordering::SeqCst);
    let result = instruction();
    fence(Ordering::SeqCst);
    result
}
