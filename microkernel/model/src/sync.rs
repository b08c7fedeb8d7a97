//! The object layer's lock by loom's: it has one step where the spin lock has many. To take it is a full fence, as the
//! kernel's locked instruction is.

use core::ops::{Deref, DerefMut};

use loom::sync::atomic::{Ordering, fence};
use loom::sync::{Mutex, MutexGuard};

pub struct SpinLock<T>(Mutex<T>);

impl<T> SpinLock<T> {
    pub fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    pub fn lock(&self) -> Guard<'_, T> {
        fence(Ordering::SeqCst);
        let guard = self.0.lock().unwrap();
        fence(Ordering::SeqCst);
        Guard(guard)
    }
}

pub struct Guard<'a, T>(MutexGuard<'a, T>);

/// A lock that is given in turn is, to those who hold it, a lock.
pub struct FairLock(SpinLock<()>);

pub type FairGuard<'a> = Guard<'a, ()>;

impl FairLock {
    pub fn new() -> Self {
        Self(SpinLock::new(()))
    }

    pub fn lock(&self) -> FairGuard<'_> {
        self.0.lock()
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}
