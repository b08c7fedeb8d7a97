//! What this crate asks of the machine below it. There is one machine in a program: who makes the program implements
//! [`Platform`] and says so with [`platform!`](crate::platform!). All of it is off the fast paths, so it is bound by the
//! linker, and no type carries the machine as a parameter.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicPtr, Ordering};

/// The header of an object that ends. (A machine only hands it on.)
pub struct EndOf(pub(crate) NonNull<()>);

/// A machine.
pub trait Platform {
    /// Called by who waits for another core, between two looks: other cores may wait for this one meanwhile.
    fn spin();
    /// The end of an object begins, on the core that runs this: see [`Work::begin`](crate::Work::begin).
    fn begin(object: EndOf);
}

unsafe extern "Rust" {
    safe fn tacet_kobj_spin();
    safe fn tacet_kobj_begin(object: EndOf);
}

/// Make a type the program's [`Platform`].
#[macro_export]
macro_rules! platform {
    ($machine:ty) => {
        #[unsafe(no_mangle)]
        fn tacet_kobj_spin() {
            <$machine as $crate::platform::Platform>::spin()
        }
        #[unsafe(no_mangle)]
        fn tacet_kobj_begin(object: $crate::platform::EndOf) {
            <$machine as $crate::platform::Platform>::begin(object)
        }
    };
}

pub fn spin() {
    tacet_kobj_spin();
}

pub(crate) fn begin(object: EndOf) {
    tacet_kobj_begin(object);
}

/// Where physical address 0 is mapped.
static WINDOW: AtomicPtr<u8> = AtomicPtr::new(core::ptr::null_mut());

/// Physical memory is mapped from `base` on, before there is any object.
pub fn set_window(base: *mut u8) {
    WINDOW.store(base, Ordering::Relaxed);
}

/// The kernel's view of physical memory.
#[inline]
pub fn to_virtual(physical: u64) -> *mut u8 {
    WINDOW.load(Ordering::Relaxed).wrapping_add(physical as usize)
}

/// Physical address of what is reached through [`to_virtual`].
#[inline]
pub fn to_physical<T>(pointer: *const T) -> u64 {
    pointer.addr().wrapping_sub(WINDOW.load(Ordering::Relaxed).addr()) as u64
}

/// Zero memory.
///
/// # Safety
/// Nobody else uses it.
pub unsafe fn zero(physical: u64, bytes: u64) {
    // SAFETY: by the caller's promise; all of an Untyped's memory is mapped.
    unsafe { core::ptr::write_bytes(to_virtual(physical), 0, bytes as usize) };
}
