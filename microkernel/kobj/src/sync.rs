//! The kernel's locks. Interrupts are off in kernel mode, so a holder is never interrupted on its own core.

use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};

use crate::atomic::{AtomicU32, LockWord, Ordering, const_fn};
use crate::platform;

/// A spin lock. Whoever waits for one does the shootdowns that other cores ask for meanwhile, so a holder may wait for
/// other cores' acknowledgements.
pub struct SpinLock<T> {
    locked: LockWord,
    value: UnsafeCell<T>,
}

// SAFETY: the value is only reached through a guard, and `locked` admits one guard at a time.
unsafe impl<T: Send> Sync for SpinLock<T> {}
// SAFETY: moving the lock moves the value.
unsafe impl<T: Send> Send for SpinLock<T> {}

impl<T> SpinLock<T> {
    const_fn! {
        pub fn new(value: T) -> Self {
            Self { locked: LockWord::new(0), value: UnsafeCell::new(value) }
        }
    }

    #[inline]
    pub fn lock(&self) -> Guard<'_, T> {
        // One bit set and asked for: two instructions, LOCK BTS and a jump.
        if self.locked.fetch_or(1, Ordering::Acquire) & 1 != 0 {
            wait(&self.locked);
        }
        Guard { lock: self }
    }

    /// Unlock, whoever holds it.
    ///
    /// # Safety
    /// The holder never uses the value again, or whatever two holders at once may do to the value does no harm.
    pub unsafe fn break_open(&self) {
        self.locked.store(0, Ordering::Release);
    }
}

#[cold]
fn wait(locked: &LockWord) {
    loop {
        while locked.load(Ordering::Relaxed) != 0 {
            platform::spin();
        }
        if locked.swap(1, Ordering::Acquire) == 0 {
            return;
        }
    }
}

pub struct Guard<'a, T> {
    lock: &'a SpinLock<T>,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard holds the lock.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    #[inline]
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

/// A lock that is given in the order in which it was asked for: however often other cores take it, who waits gets it after
/// each of them has had it once. It costs some instructions more than a [`SpinLock`], so it is for locks that many cores
/// fight for because user level makes them.
pub struct FairLock {
    next: AtomicU32,
    serving: AtomicU32,
}

impl FairLock {
    const_fn! {
        pub fn new() -> Self {
            Self { next: AtomicU32::new(0), serving: AtomicU32::new(0) }
        }
    }

    #[inline]
    pub fn lock(&self) -> FairGuard<'_> {
        let ticket = self.next.fetch_add(1, Ordering::Acquire);
        if self.serving.load(Ordering::Acquire) != ticket {
            self.wait(ticket);
        }
        FairGuard { lock: self }
    }

    #[cold]
    fn wait(&self, ticket: u32) {
        while self.serving.load(Ordering::Acquire) != ticket {
            platform::spin();
        }
    }
}

pub struct FairGuard<'a> {
    lock: &'a FairLock,
}

impl Drop for FairGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        // (Nobody else writes it while the lock is held.)
        let served = self.lock.serving.load(Ordering::Relaxed);
        self.lock.serving.store(served.wrapping_add(1), Ordering::Release);
    }
}
