//! What this crate asks of the machine below it. There is one machine in a program: who makes the program implements
//! [`Platform`] and says so with [`platform!`](crate::platform!). All of it is off the fast paths, so it is bound by the
//! linker, and no type carries the machine as a parameter.

use core::sync::atomic::{AtomicPtr, Ordering};

use crate::Work;

/// A machine.
pub trait Platform {
    /// Called by who waits for another core, between two looks: other cores may wait for this one meanwhile.
    fn spin();
    /// The list of ending objects of the core that runs this.
    fn work() -> &'static Work;
}

unsafe extern "Rust" {
    safe fn tacet_kobj_spin();
    safe fn tacet_kobj_work() -> &'static Work;
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
        fn tacet_kobj_work() -> &'static $crate::Work {
            <$machine as $crate::platform::Platform>::work()
        }
    };
}

pub fn spin() {
    tacet_kobj_spin();
}

pub fn work() -> &'static Work {
    tacet_kobj_work()
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
