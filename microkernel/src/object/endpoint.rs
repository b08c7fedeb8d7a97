//! Endpoint, Reply and Notification: where threads meet.

use core::ptr::null;
use core::sync::atomic::{AtomicU64, Ordering};

use abi::Error;

use super::{Header, Kind, Object, Ref, State, Thread};
use crate::sched;
use crate::sync::{Guard, SpinLock};

/// Threads that wait, first come first served within a priority. Each is counted.
pub struct Queue {
    first: *const Thread,
    last: *const Thread,
}

// SAFETY: the queue owns counted references.
unsafe impl Send for Queue {}

impl Queue {
    pub const fn new() -> Self {
        Self { first: null(), last: null() }
    }

    /// The thread that `pop` would give.
    #[inline]
    pub fn first(&self) -> Option<&Thread> {
        // SAFETY: threads in the queue are counted.
        unsafe { self.first.as_ref() }
    }

    /// Its priority.
    #[inline]
    pub fn first_priority(&self) -> Option<u8> {
        self.first().map(Thread::priority)
    }

    /// Insert behind all threads of the same or higher priority.
    #[inline]
    pub fn push(&mut self, thread: Ref<Thread>) {
        if !self.last.is_null() {
            return self.push_behind(thread);
        }
        thread.links.previous.set(null());
        thread.links.next.set(null());
        self.first = thread.into_raw();
        self.last = self.first;
    }

    #[cold]
    fn push_behind(&mut self, thread: Ref<Thread>) {
        let priority = thread.priority();
        let thread = thread.into_raw();
        // SAFETY: all threads in the queue are counted by it, and their links belong to whoever holds the queue's lock.
        unsafe {
            let mut after = self.last;
            while !after.is_null() && (*after).priority() < priority {
                after = (*after).links.previous.get();
            }
            let before = if after.is_null() { self.first } else { (*after).links.next.get() };
            (*thread).links.previous.set(after);
            (*thread).links.next.set(before);
            match after.as_ref() {
                Some(after) => after.links.next.set(thread),
                None => self.first = thread,
            }
            match before.as_ref() {
                Some(before) => before.links.previous.set(thread),
                None => self.last = thread,
            }
        }
    }

    #[inline]
    pub fn pop(&mut self) -> Option<Ref<Thread>> {
        // SAFETY: threads in the queue are counted, and the queue is not empty.
        unsafe { self.first.as_ref().map(|first| self.pop_known(first)) }
    }

    /// As `pop`, where it is known what that gives.
    ///
    /// # Safety
    /// `first` is the first thread.
    #[inline]
    pub unsafe fn pop_known(&mut self, first: &Thread) -> Ref<Thread> {
        let next = first.links.next.get();
        self.first = next;
        // SAFETY: as in `push_behind`; the count that `push` took goes to the caller.
        unsafe {
            match next.as_ref() {
                Some(next) => next.links.previous.set(null()),
                None => self.last = null(),
            }
            Ref::from_raw(first)
        }
    }

    /// Take a thread out, if it is in this queue.
    pub fn remove(&mut self, thread: &Thread) -> Option<Ref<Thread>> {
        let mut at = self.first;
        // SAFETY: as in `push_behind`.
        while let Some(candidate) = unsafe { at.as_ref() } {
            if core::ptr::eq(candidate, thread) {
                return Some(self.unlink(candidate));
            }
            at = candidate.links.next.get();
        }
        None
    }

    fn unlink(&mut self, thread: &Thread) -> Ref<Thread> {
        let (previous, next) = (thread.links.previous.get(), thread.links.next.get());
        // SAFETY: as in `pop`; the count that `push` took goes to the caller.
        unsafe {
            match previous.as_ref() {
                Some(previous) => previous.links.next.set(next),
                None => self.first = next,
            }
            match next.as_ref() {
                Some(next) => next.links.previous.set(previous),
                None => self.last = previous,
            }
            Ref::from_raw(thread)
        }
    }
}

#[cfg(feature = "check")]
impl Queue {
    /// All threads in the queue, which is for `state`.
    pub fn audit(&self, audit: &mut crate::check::Audit, state: State, mut each: impl FnMut(&Thread)) {
        let (mut at, mut previous) = (self.first, null());
        let mut priority = u8::MAX;
        // SAFETY: threads in the queue are counted by it.
        while let Some(thread) = unsafe { at.as_ref() } {
            audit.queued(thread, thread.state(), state);
            crate::holds!(thread.header(), thread.links.previous.get() == previous, "its queue is broken");
            crate::holds!(thread.header(), thread.priority() <= priority, "queued before a thread of lower priority");
            each(thread);
            (priority, previous) = (thread.priority(), at);
            at = thread.links.next.get();
        }
        assert!(self.last == previous, "self-check: a queue of {state:?} ends at {:p}, not at {previous:p}", self.last);
    }
}

/// Waits that are ended in one step of an object's end.
const WAITS_OF_STEP: usize = 16;

/// End some waits at a deleted object. True: nobody waits any more.
fn end_waits(mut next: impl FnMut() -> Option<Ref<Thread>>) -> bool {
    for _ in 0..WAITS_OF_STEP {
        let Some(thread) = next() else { return true };
        thread.fail(Error::Deleted);
    }
    false
}

/// Either senders or receivers wait at an endpoint, never both.
pub struct Waiters {
    pub senders: Queue,
    pub receivers: Queue,
}

#[repr(C)]
pub struct Endpoint {
    header: Header,
    pub waiters: SpinLock<Waiters>,
}

// SAFETY: repr(C), header first, made with Kind::Endpoint only.
unsafe impl Object for Endpoint {
    const KIND: Kind = Kind::Endpoint;

    fn orphaned(&self) -> bool {
        let next = || {
            let mut waiters = self.waiters.lock();
            waiters.senders.pop().or_else(|| waiters.receivers.pop())
        };
        end_waits(next)
    }

    #[cfg(feature = "check")]
    fn audit(&self, audit: &mut crate::check::Audit) {
        self.tell(audit);
    }
}

impl Endpoint {
    pub fn new(header: Header) -> Self {
        Self { header, waiters: SpinLock::new(Waiters { senders: Queue::new(), receivers: Queue::new() }) }
    }
}

#[cfg(feature = "check")]
impl Endpoint {
    fn tell(&self, audit: &mut crate::check::Audit) {
        use crate::holds;
        let waiters = self.waiters.lock();
        let mut count = [0; 2];
        waiters.senders.audit(audit, State::WaitSend, |thread| {
            count[0] += 1;
            holds!(thread.header(), thread.waits_at(&self.header), "queued at an Endpoint that it does not wait at");
        });
        waiters.receivers.audit(audit, State::WaitReceive, |thread| {
            count[1] += 1;
            holds!(thread.header(), thread.waits_at(&self.header), "queued at an Endpoint that it does not wait at");
        });
        holds!(
            &self.header,
            count[0] == 0 || count[1] == 0,
            "{} senders and {} receivers wait for each other",
            count[0],
            count[1]
        );
        if self.header.is_orphaned() && count != [0; 2] {
            audit.awaited_in_vain(&self.header);
        }
    }
}

/// The right to answer one caller, once.
#[repr(C)]
pub struct Reply {
    header: Header,
    caller: SpinLock<Option<Ref<Thread>>>,
}

// SAFETY: repr(C), header first, made with Kind::Reply only.
unsafe impl Object for Reply {
    const KIND: Kind = Kind::Reply;

    fn orphaned(&self) -> bool {
        if let Some(caller) = self.take() {
            caller.fail(Error::Deleted);
        }
        true
    }

    #[cfg(feature = "check")]
    fn audit(&self, audit: &mut crate::check::Audit) {
        self.tell(audit);
    }
}

impl Reply {
    pub fn new(header: Header) -> Self {
        Self { header, caller: SpinLock::new(None) }
    }

    /// A caller waits for its answer here. One that waited before and was not answered gets Deleted. False: the Reply was
    /// deleted, no answer can come.
    pub fn bind(&self, caller: Ref<Thread>) -> bool {
        let mut bound = self.caller.lock();
        if self.is_orphaned() {
            return false;
        }
        let forgotten = bound.replace(caller);
        drop(bound);
        if let Some(forgotten) = forgotten {
            forgotten.fail(Error::Deleted);
        }
        true
    }

    pub fn take(&self) -> Option<Ref<Thread>> {
        self.caller.lock().take()
    }

    /// Look who waits here, and keep it so.
    #[inline]
    pub fn hold(&self) -> Guard<'_, Option<Ref<Thread>>> {
        self.caller.lock()
    }

    /// Take `thread` if it is the one that waits here.
    pub fn take_if(&self, thread: &Thread) -> Option<Ref<Thread>> {
        let mut caller = self.caller.lock();
        if caller.as_ref().is_some_and(|c| c.is(thread)) { caller.take() } else { None }
    }
}

#[cfg(feature = "check")]
impl Reply {
    fn tell(&self, audit: &mut crate::check::Audit) {
        if let Some(caller) = self.caller.lock().as_ref() {
            audit.queued(&**caller, caller.state(), State::WaitReply);
            crate::holds!(caller.header(), caller.waits_at(&self.header), "bound to a Reply that it does not wait at");
            crate::holds!(&self.header, self.header.counts().1 > 0, "deleted, but {} waits", caller.name());
        }
    }
}

/// A word of signals, and who waits for them.
#[repr(C)]
pub struct Notification {
    header: Header,
    word: AtomicU64,
    pub waiters: SpinLock<Queue>,
}

// SAFETY: repr(C), header first, made with Kind::Notification only.
unsafe impl Object for Notification {
    const KIND: Kind = Kind::Notification;

    fn orphaned(&self) -> bool {
        end_waits(|| self.waiters.lock().pop())
    }

    #[cfg(feature = "check")]
    fn audit(&self, audit: &mut crate::check::Audit) {
        self.tell(audit);
    }
}

impl Notification {
    pub fn new(header: Header) -> Self {
        Self { header, word: AtomicU64::new(0), waiters: SpinLock::new(Queue::new()) }
    }

    /// A waiter gets the bits; without one they gather. (The word is empty while somebody waits, and stays so: the bits do
    /// not pass through it, where `take`, which does not ask for the lock, could be first.)
    pub fn signal(&self, bits: u64) {
        let mut waiters = self.waiters.lock();
        let Some(thread) = waiters.pop() else {
            self.word.fetch_or(bits, Ordering::Release);
            return;
        };
        drop(waiters);
        *thread.waiting.lock() = super::Waiting::Nothing;
        thread.set_result(0, bits, 0);
        sched::wake(thread);
    }

    /// OR in bits, unless somebody waits for them; false then.
    #[inline]
    pub fn signal_unless_awaited(&self, bits: u64) -> bool {
        let waiters = self.waiters.lock();
        let awaited = waiters.first().is_some();
        if !awaited {
            self.word.fetch_or(bits, Ordering::Release);
        }
        !awaited
    }

    /// The bits gathered so far.
    #[inline]
    pub fn take(&self) -> u64 {
        self.word.swap(0, Ordering::Acquire)
    }

    /// The gathered bits, or None after the thread was queued for them.
    pub fn wait(&self, thread: &Ref<Thread>, poll: bool) -> Result<Option<u64>, Error> {
        let mut waiters = self.waiters.lock();
        match self.word.swap(0, Ordering::Acquire) {
            0 if poll => Err(Error::Empty),
            0 if self.header.is_orphaned() => Err(Error::Deleted),
            0 => {
                thread.set_state(State::WaitNotification);
                *thread.waiting.lock() = super::Waiting::Notification { notification: Ref::of(self) };
                waiters.push(thread.clone());
                Ok(None)
            }
            word => Ok(Some(word)),
        }
    }
}

#[cfg(feature = "check")]
impl Notification {
    fn tell(&self, audit: &mut crate::check::Audit) {
        use crate::holds;
        let mut count = 0;
        self.waiters.lock().audit(audit, State::WaitNotification, |thread| {
            count += 1;
            holds!(thread.header(), thread.waits_at(&self.header), "queued at a Notification that it does not wait at");
        });
        let word = self.word.load(Ordering::SeqCst);
        holds!(&self.header, count == 0 || word == 0, "{count} threads sleep beside signals {word:#x}");
        if self.header.is_orphaned() && count != 0 {
            audit.awaited_in_vain(&self.header);
        }
    }
}
