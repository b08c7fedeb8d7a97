//! Messages between threads: who waits, and how each wait ends. What a message is, the thread's type says.

use abi::Error;

use crate::handshake::State;
use crate::meeting::{Endpoint, Reply};
use crate::waiting::{Sleeper, Waiting};
use crate::{Object, Ref};

/// How a message is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// To who waits for it; without one, the message vanishes.
    Poll,
    /// When there is a receiver.
    Send,
    /// Likewise, and the thread waits for the answer.
    Call,
}

/// Send a message. True: that is done; else the thread waits, or its wait has failed already.
pub fn send<T: Sleeper>(thread: &Ref<T>, endpoint: Ref<Endpoint<T>>, badge: u64, rights: u64, manner: Manner) -> bool {
    let reply_expected = manner == Manner::Call;
    let mut waiters = endpoint.waiters.lock();
    if let Some(receiver) = waiters.receivers.pop() {
        drop(waiters);
        let waiting = core::mem::take(&mut *receiver.rest().waiting.lock());
        thread.transfer(&receiver, badge, rights);
        if reply_expected {
            let Waiting::Receive { reply: Some(reply), .. } = waiting else {
                // The receiver cannot answer: the caller will not wait in vain.
                T::wake(receiver);
                thread.fail(Error::Deleted);
                return false;
            };
            await_reply(thread, reply);
        }
        T::wake(receiver);
        return !reply_expected;
    }
    if manner == Manner::Poll {
        return true;
    }
    if endpoint.header().is_orphaned() {
        drop(waiters);
        thread.fail(Error::Deleted);
        return false;
    }
    let at = Waiting::Send { endpoint: endpoint.clone(), badge, rights, reply_expected };
    thread.begin_to_wait(State::WaitSend, at);
    waiters.senders.push(thread.clone());
    false
}

fn await_reply<T: Sleeper>(caller: &Ref<T>, reply: Ref<Reply<T>>) {
    caller.begin_to_wait(State::WaitReply, Waiting::Reply { reply: reply.clone() });
    if !reply.bind(caller.clone()) {
        caller.fail(Error::Deleted);
    } else if caller.is_dead()
        && let Some(caller) = reply.take_if(caller)
    {
        // Deleted while it was in neither queue: it did not find itself there.
        caller.fail(Error::Cancelled);
    }
}

/// Receive from an endpoint: the status for the receiver, or None while it waits (or when its message is complete).
pub fn receive<T: Sleeper>(
    thread: &Ref<T>,
    endpoint: Ref<Endpoint<T>>,
    reply: Option<Ref<Reply<T>>>,
    poll: bool,
) -> Result<(), Error> {
    loop {
        let mut waiters = endpoint.waiters.lock();
        let Some(sender) = waiters.senders.pop() else {
            if poll {
                return Err(Error::Empty);
            }
            if endpoint.header().is_orphaned() {
                return Err(Error::Deleted);
            }
            thread.begin_to_wait(State::WaitReceive, Waiting::Receive { endpoint: endpoint.clone(), reply });
            waiters.receivers.push(thread.clone());
            return Ok(());
        };
        drop(waiters);
        let waiting = core::mem::take(&mut *sender.rest().waiting.lock());
        let Waiting::Send { badge, rights, reply_expected, .. } = waiting else {
            unreachable!("a thread in the queue of senders sends");
        };
        if reply_expected {
            let Some(reply) = reply else {
                sender.fail(Error::Deleted);
                continue;
            };
            sender.transfer(thread, badge, rights);
            await_reply(&sender, reply);
        } else {
            sender.transfer(thread, badge, rights);
            sender.set_result(0, 0, 0);
            T::wake(sender);
        }
        return Ok(());
    }
}

/// Answer the caller that waits at `reply` with the message of `thread`. Without a caller nothing happens.
pub fn reply<T: Sleeper>(thread: &T, reply: &Reply<T>) {
    let Some(caller) = reply.take() else { return };
    *caller.rest().waiting.lock() = Waiting::Nothing;
    thread.answer(&caller);
    T::wake(caller);
}
