//! Endpoint, Reply and Notification: where threads meet, and wait for each other.

use abi::Error;

use crate::atomic::{AtomicU64, Ordering};
use crate::handshake::State;
use crate::queue::Queue;
use crate::sync::SpinLock;
use crate::waiting::{Sleeper, Waiting};
use crate::{Header, Kind, Object, Ref};

/// Waits that are ended in one step of an object's end.
const WAITS_OF_STEP: usize = 16;

/// End some waits at a deleted object. True: nobody waits any more.
fn end_waits<T: Sleeper>(mut next: impl FnMut() -> Option<Ref<T>>) -> bool {
    for _ in 0..WAITS_OF_STEP {
        let Some(thread) = next() else { return true };
        thread.fail(Error::Deleted);
    }
    false
}

/// Either senders or receivers wait at an endpoint, never both.
pub struct Waiters<T: Sleeper> {
    pub senders: Queue<T>,
    pub receivers: Queue<T>,
}

#[repr(C)]
pub struct Endpoint<T: Sleeper> {
    header: Header,
    pub waiters: SpinLock<Waiters<T>>,
}

// SAFETY: repr(C), header first, made with Kind::Endpoint only.
unsafe impl<T: Sleeper> Object for Endpoint<T> {
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

impl<T: Sleeper> Endpoint<T> {
    pub fn new(header: Header) -> Self {
        Self { header, waiters: SpinLock::new(Waiters { senders: Queue::new(), receivers: Queue::new() }) }
    }
}

#[cfg(feature = "check")]
impl<T: Sleeper> Endpoint<T> {
    fn tell(&self, audit: &mut crate::check::Audit) {
        use crate::holds;
        let waiters = self.waiters.lock();
        let mut count = [0; 2];
        waiters.senders.audit(audit, State::WaitSend, |thread| {
            count[0] += 1;
            holds!(
                thread.header(),
                thread.rest().waiting.lock().is_at(&self.header),
                "queued at an Endpoint that it does not wait at"
            );
        });
        waiters.receivers.audit(audit, State::WaitReceive, |thread| {
            count[1] += 1;
            holds!(
                thread.header(),
                thread.rest().waiting.lock().is_at(&self.header),
                "queued at an Endpoint that it does not wait at"
            );
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
pub struct Reply<T: Sleeper> {
    header: Header,
    /// Who waits here.
    pub caller: SpinLock<Option<Ref<T>>>,
}

// SAFETY: repr(C), header first, made with Kind::Reply only.
unsafe impl<T: Sleeper> Object for Reply<T> {
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

impl<T: Sleeper> Reply<T> {
    pub fn new(header: Header) -> Self {
        Self { header, caller: SpinLock::new(None) }
    }

    /// A caller waits for its answer here. One that waited before and was not answered gets Deleted. False: the Reply was
    /// deleted, no answer can come.
    pub fn bind(&self, caller: Ref<T>) -> bool {
        let mut bound = self.caller.lock();
        if self.header.is_orphaned() {
            return false;
        }
        let forgotten = bound.replace(caller);
        drop(bound);
        if let Some(forgotten) = forgotten {
            forgotten.fail(Error::Deleted);
        }
        true
    }

    pub fn take(&self) -> Option<Ref<T>> {
        self.caller.lock().take()
    }

    /// Take `thread` if it is the one that waits here.
    pub fn take_if(&self, thread: &T) -> Option<Ref<T>> {
        let mut caller = self.caller.lock();
        if caller.as_ref().is_some_and(|c| c.is(thread)) { caller.take() } else { None }
    }
}

#[cfg(feature = "check")]
impl<T: Sleeper> Reply<T> {
    fn tell(&self, audit: &mut crate::check::Audit) {
        if let Some(caller) = self.caller.lock().as_ref() {
            audit.queued(&**caller, caller.rest().state.get(), State::WaitReply);
            crate::holds!(
                caller.header(),
                caller.rest().waiting.lock().is_at(&self.header),
                "bound to a Reply that it does not wait at"
            );
            crate::holds!(&self.header, self.header.counts().1 > 0, "deleted, but {} waits", caller.header().name());
        }
    }
}

/// A word of signals, and who waits for them.
#[repr(C)]
pub struct Notification<T: Sleeper> {
    header: Header,
    pub(crate) word: AtomicU64,
    pub waiters: SpinLock<Queue<T>>,
}

// SAFETY: repr(C), header first, made with Kind::Notification only.
unsafe impl<T: Sleeper> Object for Notification<T> {
    const KIND: Kind = Kind::Notification;

    fn orphaned(&self) -> bool {
        end_waits(|| self.waiters.lock().pop())
    }

    #[cfg(feature = "check")]
    fn audit(&self, audit: &mut crate::check::Audit) {
        self.tell(audit);
    }
}

impl<T: Sleeper> Notification<T> {
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
        *thread.rest().waiting.lock() = Waiting::Nothing;
        thread.set_result(0, bits, 0);
        T::wake(thread);
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
    pub fn wait(&self, thread: &Ref<T>, poll: bool) -> Result<Option<u64>, Error> {
        let mut waiters = self.waiters.lock();
        match self.word.swap(0, Ordering::Acquire) {
            0 if poll => Err(Error::Empty),
            0 if self.header.is_orphaned() => Err(Error::Deleted),
            0 => {
                thread.begin_to_wait(State::WaitNotification, Waiting::Notification { notification: Ref::of(self) });
                waiters.push(thread.clone());
                Ok(None)
            }
            word => Ok(Some(word)),
        }
    }
}

#[cfg(feature = "check")]
impl<T: Sleeper> Notification<T> {
    fn tell(&self, audit: &mut crate::check::Audit) {
        use crate::holds;
        let mut count = 0;
        self.waiters.lock().audit(audit, State::WaitNotification, |thread| {
            count += 1;
            holds!(
                thread.header(),
                thread.rest().waiting.lock().is_at(&self.header),
                "queued at a Notification that it does not wait at"
            );
        });
        let word = self.word.load(Ordering::SeqCst);
        holds!(&self.header, count == 0 || word == 0, "{count} threads sleep beside signals {word:#x}");
        if self.header.is_orphaned() && count != 0 {
            audit.awaited_in_vain(&self.header);
        }
    }
}
