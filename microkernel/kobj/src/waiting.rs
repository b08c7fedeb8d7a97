//! What a thread waits at, and how its wait ends.

use abi::Error;

use crate::handshake::{State, StateWord};
use crate::meeting::{Endpoint, Notification, Reply};
use crate::queue::Links;
use crate::sync::SpinLock;
use crate::{Object, Ref};

/// A thread, as far as this layer needs to know it.
///
/// # Safety
/// There is one such type in a program (the kinds of objects do not tell queues of different types apart). `rest` is always
/// the same field.
pub unsafe trait Sleeper: Object {
    fn rest(&self) -> &Rest<Self>;
    fn priority(&self) -> u8;
    /// It will not run any more.
    fn is_dead(&self) -> bool;
    /// The result of its system call, while it waits.
    fn set_result(&self, status: i64, badge: u64, tag: u64);
    /// It was just taken out of its queue: let it run.
    fn wake(thread: Ref<Self>);
    /// If its wait was for the answer to a fault, which will not come: it ends, and this is true.
    fn end_fault(&self) -> bool;
    /// Copy its message to `to`, which waits for it; `to` gets `badge`. A capability goes along where `rights` allow it.
    fn transfer(&self, to: &Self, badge: u64, rights: u64);
    /// Copy its answer to `to`, which waits for it: to a call, or to a fault.
    fn answer(&self, to: &Self);

    /// End the wait of a thread that was just taken out of its queue, with an error. (A fault that nobody will answer
    /// kills the thread.)
    fn fail(&self, error: Error) {
        *self.rest().waiting.lock() = Waiting::Nothing;
        if !self.end_fault() {
            self.set_result(error.status(), 0, 0);
            Self::wake(Ref::of(self));
        }
    }

    /// Take the thread out of whatever it waits in, and let it fail with `error`. False: it does not wait (any more).
    ///
    /// Whoever takes a thread out of its queue decides how its wait ends; so the queue is asked, not `waiting`.
    fn cancel(&self, error: Error) -> bool {
        let waiting = self.rest().waiting.lock().clone();
        let taken = match &waiting {
            Waiting::Nothing => None,
            Waiting::Send { endpoint, .. } => endpoint.waiters.lock().senders.remove(self),
            Waiting::Receive { endpoint, .. } => endpoint.waiters.lock().receivers.remove(self),
            Waiting::Reply { reply } => reply.take_if(self),
            Waiting::Notification { notification } => notification.waiters.lock().remove(self),
        };
        if let Some(thread) = &taken {
            thread.fail(error);
        }
        taken.is_some()
    }

    /// The thread is about to wait: its state, and what it waits at. The lock of the queue that it goes into is held.
    #[inline]
    fn begin_to_wait(&self, state: State, at: Waiting<Self>) {
        self.rest().state.set(state);
        *self.rest().waiting.lock() = at;
    }
}

/// What a thread has for its waits.
pub struct Rest<T: Sleeper> {
    /// Its place in the queue that it is in.
    pub(crate) links: Links<T>,
    pub waiting: SpinLock<Waiting<T>>,
    pub state: StateWord,
}

impl<T: Sleeper> Rest<T> {
    /// Of a thread that waits for nothing.
    pub fn new(state: State) -> Self {
        Self { links: Links::new(), waiting: SpinLock::new(Waiting::Nothing), state: StateWord::new(state) }
    }
}

/// What a waiting thread waits at, and what it brought: set under the lock of the queue it goes into.
#[derive(Default)]
pub enum Waiting<T: Sleeper> {
    #[default]
    Nothing,
    /// In a send or call. `reply_expected`: it is a call (or a fault).
    Send {
        endpoint: Ref<Endpoint<T>>,
        badge: u64,
        rights: u64,
        reply_expected: bool,
    },
    Receive {
        endpoint: Ref<Endpoint<T>>,
        reply: Option<Ref<Reply<T>>>,
    },
    Reply {
        reply: Ref<Reply<T>>,
    },
    Notification {
        notification: Ref<Notification<T>>,
    },
}

impl<T: Sleeper> Waiting<T> {
    /// Nothing any more; the Reply that it held.
    ///
    /// # Safety
    /// It is a `Receive` with a Reply.
    #[inline(always)]
    pub unsafe fn take_receive(&mut self) -> Ref<Reply<T>> {
        match core::mem::take(self) {
            Self::Receive { reply: Some(reply), .. } => reply,
            // SAFETY: by the caller's promise.
            _ => unsafe { core::hint::unreachable_unchecked() },
        }
    }

    /// Nothing any more; the Reply that it held.
    ///
    /// # Safety
    /// It is a `Reply`.
    #[inline(always)]
    pub unsafe fn take_reply(&mut self) -> Ref<Reply<T>> {
        match core::mem::take(self) {
            Self::Reply { reply } => reply,
            // SAFETY: by the caller's promise.
            _ => unsafe { core::hint::unreachable_unchecked() },
        }
    }

    /// A running thread, which waits for nothing, begins to wait.
    #[inline]
    pub fn begin(&mut self, new: Self) {
        let old = core::mem::replace(self, new);
        debug_assert!(matches!(old, Self::Nothing));
        core::mem::forget(old);
    }
}

impl<T: Sleeper> Clone for Waiting<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Nothing => Self::Nothing,
            Self::Send { endpoint, badge, rights, reply_expected } => {
                let endpoint = endpoint.clone();
                Self::Send { endpoint, badge: *badge, rights: *rights, reply_expected: *reply_expected }
            }
            Self::Receive { endpoint, reply } => Self::Receive { endpoint: endpoint.clone(), reply: reply.clone() },
            Self::Reply { reply } => Self::Reply { reply: reply.clone() },
            Self::Notification { notification } => Self::Notification { notification: notification.clone() },
        }
    }
}

#[cfg(feature = "check")]
impl<T: Sleeper> Waiting<T> {
    /// Whether this is a wait at that object.
    pub fn is_at(&self, object: &crate::Header) -> bool {
        let at: *const crate::Header = match self {
            Self::Nothing => return false,
            Self::Send { endpoint, .. } | Self::Receive { endpoint, .. } => endpoint.header(),
            Self::Reply { reply } => reply.header(),
            Self::Notification { notification } => notification.header(),
        };
        core::ptr::eq(at, object)
    }

    pub fn audit(&self, audit: &mut crate::check::Audit) {
        match self {
            Self::Nothing => {}
            Self::Send { endpoint, .. } => audit.reference(endpoint),
            Self::Receive { endpoint, reply } => {
                audit.reference(endpoint);
                reply.iter().for_each(|reply| audit.reference(reply));
            }
            Self::Reply { reply } => audit.reference(reply),
            Self::Notification { notification } => audit.reference(notification),
        }
    }
}
