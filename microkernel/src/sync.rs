//! The kernel's lock. Interrupts are off in kernel mode, so a holder is never interrupted on its own core.

use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU32, Ordering};

/// A spin lock. Whoever waits for one does the shootdowns that other cores ask for meanwhile, so a holder may wait for
/// other cores' acknowledgements.
pub struct SpinLock<T> {
    locked: AtomicU32,
    value: UnsafeCell<T>,
}

// SAFETY: the value is only reached through a guard, and `locked` admits one guard at a time.
unsafe impl<T: Send> Sync for SpinLock<T> {}
// SAFETY: moving the lock moves the value.
unsafe impl<T: Send> Send for SpinLock<T> {}

impl<T> SpinLock<T> {
    pub const fn new(value: T) -> Self {
        Self { locked: AtomicU32::new(0), value: UnsafeCell::new(value) }
    }

    #[inline]
    pub fn lock(&self) -> Guard<'_, T> {
        // One bit set and asked for: two instructions, LOCK BTS and a jump.
        if self.locked.fetch_or(1, Ordering::Acquire) & 1 != 0 {
            self.wait();
        }
        Guard { lock: self }
    }

    #[cold]
    fn wait(&self) {
        loop {
            while self.locked.load(Ordering::Relaxed) != 0 {
                crate::shootdown::serve(crate::arch::core());
                core::hint::spin_loop();
            }
            if self.locked.swap(1, Ordering::Acquire) == 0 {
                return;
            }
        }
    }

    /// Unlock, whoever holds it.
    ///
    /// # Safety
    /// The holder must not use the value any more, or the value must bear it.
    pub unsafe fn break_open(&self) {
        self.locked.store(0, Ordering::Release);
    }
}

pub struct Guard<'a, T> {
    lock: &'a SpinLock<T>,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: the guard holds the lock.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard holds the lock, and is borrowed mutably.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for Guard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.locked.store(0, Ordering::Release);
    }
}
