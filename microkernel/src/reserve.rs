//! The kernel's own reserve: memory for the objects that it makes itself.

use core::sync::atomic::{AtomicPtr, Ordering};

use crate::object::{Ref, Untyped};

static RESERVE: AtomicPtr<Untyped> = AtomicPtr::new(core::ptr::null_mut());

/// Once, at boot; it stays for ever.
pub fn set(reserve: Ref<Untyped>) {
    RESERVE.store(reserve.into_raw().cast_mut(), Ordering::Release);
}

/// The kernel's own reserve.
pub fn reserve() -> Option<&'static Ref<Untyped>> {
    let pointer = RESERVE.load(Ordering::Acquire);
    if pointer.is_null() {
        return None;
    }
    // SAFETY: `RESERVE` is a Ref<Untyped> laid out as its pointer, stored once and never given up.
    Some(unsafe { &*(&raw const RESERVE).cast::<Ref<Untyped>>() })
}

/// Whether memory is of the kernel's own reserve, where the root task's memory lies too.
#[cfg(feature = "check")]
pub fn is_reserve(physical: u64) -> bool {
    reserve().is_some_and(|reserve| reserve.has_given_out(physical & !4095, 1))
}
