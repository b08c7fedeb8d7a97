//! Queues of threads.

use core::cell::Cell;
use core::ptr::null;

use crate::Ref;
use crate::waiting::Sleeper;

/// Links of the one queue that a thread is in; they belong to the holder of that queue's lock.
pub struct Links<T> {
    pub(crate) previous: Cell<*const T>,
    pub(crate) next: Cell<*const T>,
}

impl<T> Links<T> {
    pub const fn new() -> Self {
        Self { previous: Cell::new(null()), next: Cell::new(null()) }
    }
}

/// Threads that wait, first come first served within a priority. Each is counted.
pub struct Queue<T: Sleeper> {
    first: *const T,
    last: *const T,
}

// SAFETY: the queue owns counted references.
unsafe impl<T: Sleeper> Send for Queue<T> {}

impl<T: Sleeper> Queue<T> {
    pub const fn new() -> Self {
        Self { first: null(), last: null() }
    }

    /// The thread that `pop` would give.
    #[inline]
    pub fn first(&self) -> Option<&T> {
        // SAFETY: threads in the queue are counted.
        unsafe { self.first.as_ref() }
    }

    /// Its priority.
    #[inline]
    pub fn first_priority(&self) -> Option<u8> {
        self.first().map(T::priority)
    }

    /// Insert behind all threads of the same or higher priority.
    #[inline]
    pub fn push(&mut self, thread: Ref<T>) {
        if !self.last.is_null() {
            return self.push_behind(thread);
        }
        thread.rest().links.previous.set(null());
        thread.rest().links.next.set(null());
        self.first = thread.into_raw();
        self.last = self.first;
    }

    #[cold]
    fn push_behind(&mut self, thread: Ref<T>) {
        let priority = thread.priority();
        let thread = thread.into_raw();
        // SAFETY: all threads in the queue are counted by it, and their links belong to whoever holds the queue's lock.
        unsafe {
            let mut after = self.last;
            while !after.is_null() && (*after).priority() < priority {
                after = (*after).rest().links.previous.get();
            }
            let before = if after.is_null() { self.first } else { (*after).rest().links.next.get() };
            (*thread).rest().links.previous.set(after);
            (*thread).rest().links.next.set(before);
            match after.as_ref() {
                Some(after) => after.rest().links.next.set(thread),
                None => self.first = thread,
            }
            match before.as_ref() {
                Some(before) => before.rest().links.previous.set(thread),
                None => self.last = thread,
            }
        }
    }

    #[inline]
    pub fn pop(&mut self) -> Option<Ref<T>> {
        // SAFETY: threads in the queue are counted, and the queue is not empty.
        unsafe { self.first.as_ref().map(|first| self.pop_known(first)) }
    }

    /// As `pop`, where it is known what that gives.
    ///
    /// # Safety
    /// `first` is the first thread.
    #[inline]
    pub unsafe fn pop_known(&mut self, first: &T) -> Ref<T> {
        let next = first.rest().links.next.get();
        self.first = next;
        // SAFETY: who is in the queue is counted by it, and so are the links; the count that `push` took goes to the caller.
        unsafe {
            match next.as_ref() {
                Some(next) => next.rest().links.previous.set(null()),
                None => self.last = null(),
            }
            Ref::from_raw(first)
        }
    }

    /// Take a thread out, if it is in this queue.
    pub fn remove(&mut self, thread: &T) -> Option<Ref<T>> {
        let mut at = self.first;
        // SAFETY: who is in the queue is counted by it.
        while let Some(candidate) = unsafe { at.as_ref() } {
            if core::ptr::eq(candidate, thread) {
                return Some(self.unlink(candidate));
            }
            at = candidate.rest().links.next.get();
        }
        None
    }

    fn unlink(&mut self, thread: &T) -> Ref<T> {
        let (previous, next) = (thread.rest().links.previous.get(), thread.rest().links.next.get());
        // SAFETY: the thread is in this queue, which counts it and its neighbours; the count that `push` took goes to the caller.
        unsafe {
            match previous.as_ref() {
                Some(previous) => previous.rest().links.next.set(next),
                None => self.first = next,
            }
            match next.as_ref() {
                Some(next) => next.rest().links.previous.set(previous),
                None => self.last = previous,
            }
            Ref::from_raw(thread)
        }
    }
}

#[cfg(feature = "check")]
impl<T: Sleeper> Queue<T> {
    /// All threads in the queue, which is for `state`.
    pub fn audit(&self, audit: &mut crate::check::Audit, state: crate::handshake::State, mut each: impl FnMut(&T)) {
        let (mut at, mut previous) = (self.first, null());
        let mut priority = u8::MAX;
        // SAFETY: threads in the queue are counted by it.
        while let Some(thread) = unsafe { at.as_ref() } {
            audit.queued(thread, thread.rest().state.get(), state);
            crate::holds!(thread.header(), thread.rest().links.previous.get() == previous, "its queue is broken");
            crate::holds!(thread.header(), thread.priority() <= priority, "queued before a thread of lower priority");
            each(thread);
            (priority, previous) = (thread.priority(), at);
            at = thread.rest().links.next.get();
        }
        assert!(self.last == previous, "self-check: a queue of {state:?} ends at {:p}, not at {previous:p}", self.last);
    }
}
