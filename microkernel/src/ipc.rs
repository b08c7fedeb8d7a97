//! Messages between threads: send, call, receive, reply, and faults as calls.
//!
//! A thread's message is in its saved registers (tag, words 0 to 3) and its message page; it is copied once, from
//! sender to receiver, by whoever brings the two together.

use abi::{Error, MSG_WORDS, TAG_POLL};

use crate::object::{Endpoint, Object, Ref, Reply, State, Thread, Waiting};
use crate::sched;

fn words(tag: u64) -> usize {
    (tag >> 32 & 0xff) as usize
}

fn caps(tag: u64) -> u64 {
    tag >> 40 & 0xf
}

pub fn check_tag(tag: u64) -> Result<(), Error> {
    if words(tag) > MSG_WORDS || caps(tag) > 1 { Err(Error::TooLong) } else { Ok(()) }
}

/// Copy `from`'s message to `to`, which waits for it; `to` gets `badge`. A capability goes along where `rights` allow it.
fn transfer(from: &Thread, to: &Thread, badge: u64, rights: u64) {
    if from.fault_pending.get() {
        return transfer_fault(from, to, badge);
    }
    transfer_words(from, to, badge);
    let tag = from.regs_mut().rsi & !TAG_POLL;
    let moved = caps(tag) != 0 && rights & abi::RIGHT_GRANT != 0 && transfer_cap(from, to).is_ok();
    to.regs_mut().rsi = if moved { tag } else { tag & !(0xf << 40) };
}

/// Words, tag and badge of a message that has neither a capability nor TAG_POLL, or whose tag the caller sees to.
pub fn transfer_words(from: &Thread, to: &Thread, badge: u64) {
    transfer_registers(from, to, badge);
    copy_page(from, to, words(from.regs_mut().rsi));
}

/// The part of a message that is in registers.
#[inline(always)]
pub fn transfer_registers(from: &Thread, to: &Thread, badge: u64) {
    let (source, target) = (from.regs_mut(), to.regs_mut());
    target.rax = 0;
    target.rdi = badge;
    target.rsi = source.rsi;
    (target.rdx, target.r10, target.r8, target.r9) = (source.rdx, source.r10, source.r8, source.r9);
}

/// The message that reports a fault.
pub fn transfer_fault(from: &Thread, to: &Thread, badge: u64) {
    let target = to.regs_mut();
    let [trap, error, address, ip, sp] = from.fault.get();
    (target.rax, target.rdi, target.rsi) = (0, badge, abi::tag(abi::FAULT_LABEL, 5, 0));
    (target.rdx, target.r10, target.r8, target.r9) = (trap, error, address, ip);
    write_word(to, 4, sp);
}

/// Words 4 and up.
fn copy_page(from: &Thread, to: &Thread, count: usize) {
    let (from, to) = (from.message(), to.message());
    if from.is_null() || to.is_null() {
        return;
    }
    for i in 4..count.min(MSG_WORDS) {
        // SAFETY: message pages live as long as their threads; user level may write them at any time, which only
        // changes what is copied.
        unsafe { (&raw mut (*to).words[i]).write_volatile((&raw const (*from).words[i]).read_volatile()) };
    }
}

fn write_word(to: &Thread, index: usize, value: u64) {
    let page = to.message();
    if !page.is_null() {
        // SAFETY: as in `copy_page`.
        unsafe { (&raw mut (*page).words[index]).write(value) };
    }
}

/// Copy the capability that the sender names into the slot that the receiver names.
fn transfer_cap(from: &Thread, to: &Thread) -> Result<(), Error> {
    let (from_page, to_page) = (from.message(), to.message());
    if from_page.is_null() || to_page.is_null() {
        return Err(Error::NoCapability);
    }
    // SAFETY: as in `copy_page`.
    let (source, destination) = unsafe { ((&raw const (*from_page).cap).read(), (&raw const (*to_page).cap).read()) };
    to.cspace()?.copy_from(from.cspace()?, source, destination, abi::RIGHT_ALL, 0)
}

/// Send without waiting for an answer. The status for the sender, or None while it waits.
pub fn send(
    thread: &Ref<Thread>,
    endpoint: Ref<Endpoint>,
    badge: u64,
    rights: u64,
    poll: bool,
) -> Option<Result<(), Error>> {
    deliver(thread, endpoint, badge, rights, poll, false)
}

/// Send and wait for the answer: the thread waits in any case.
pub fn call(thread: &Ref<Thread>, endpoint: Ref<Endpoint>, badge: u64, rights: u64) {
    let _ = deliver(thread, endpoint, badge, rights, false, true);
}

fn deliver(
    thread: &Ref<Thread>,
    endpoint: Ref<Endpoint>,
    badge: u64,
    rights: u64,
    poll: bool,
    reply_expected: bool,
) -> Option<Result<(), Error>> {
    let mut waiters = endpoint.waiters.lock();
    if let Some(receiver) = waiters.receivers.pop() {
        drop(waiters);
        let waiting = core::mem::take(&mut *receiver.waiting.lock());
        transfer(thread, &receiver, badge, rights);
        if reply_expected {
            let Waiting::Receive { reply: Some(reply), .. } = waiting else {
                // The receiver cannot answer: the caller will not wait in vain.
                sched::wake(receiver);
                thread.fail(Error::Deleted);
                return None;
            };
            await_reply(thread, reply);
        }
        sched::wake(receiver);
        return if reply_expected { None } else { Some(Ok(())) };
    }
    if poll {
        return Some(Ok(())); // nobody waits: the message vanishes
    }
    if endpoint.is_orphaned() {
        drop(waiters);
        thread.fail(Error::Deleted);
        return None;
    }
    thread.set_state(State::WaitSend);
    *thread.waiting.lock() = Waiting::Send { endpoint: endpoint.clone(), badge, rights, reply_expected };
    waiters.senders.push(thread.clone());
    None
}

fn await_reply(caller: &Ref<Thread>, reply: Ref<Reply>) {
    caller.set_state(State::WaitReply);
    *caller.waiting.lock() = Waiting::Reply { reply: reply.clone() };
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
pub fn receive(
    thread: &Ref<Thread>,
    endpoint: Ref<Endpoint>,
    reply: Option<Ref<Reply>>,
    poll: bool,
) -> Result<(), Error> {
    loop {
        let mut waiters = endpoint.waiters.lock();
        let Some(sender) = waiters.senders.pop() else {
            if poll {
                return Err(Error::Empty);
            }
            if endpoint.is_orphaned() {
                return Err(Error::Deleted);
            }
            thread.set_state(State::WaitReceive);
            *thread.waiting.lock() = Waiting::Receive { endpoint: endpoint.clone(), reply };
            waiters.receivers.push(thread.clone());
            return Ok(());
        };
        drop(waiters);
        let waiting = core::mem::take(&mut *sender.waiting.lock());
        let Waiting::Send { badge, rights, reply_expected, .. } = waiting else {
            unreachable!("a thread in the queue of senders sends");
        };
        if reply_expected {
            let Some(reply) = reply else {
                sender.fail(Error::Deleted);
                continue;
            };
            transfer(&sender, thread, badge, rights);
            await_reply(&sender, reply);
        } else {
            transfer(&sender, thread, badge, rights);
            sender.set_result(0, 0, 0);
            sched::wake(sender);
        }
        return Ok(());
    }
}

/// Answer the caller that waits at `reply` with the message of `thread`. Without a caller nothing happens.
pub fn reply(thread: &Thread, reply: &Reply) {
    let Some(caller) = reply.take() else { return };
    *caller.waiting.lock() = Waiting::Nothing;
    if caller.fault_pending.replace(false) {
        answer_fault(thread, &caller);
    } else {
        transfer(thread, &caller, 0, abi::RIGHT_GRANT);
    }
    sched::wake(caller);
}

/// Words 0 and 1 of an answer to a fault, where given, are the new instruction and stack pointer.
pub fn answer_fault(from: &Thread, faulted: &Thread) {
    let (answer, regs) = (from.regs_mut(), faulted.regs_mut());
    if words(answer.rsi) >= 1 {
        regs.rip = answer.rdx;
    }
    if words(answer.rsi) >= 2 {
        regs.rsp = answer.r10;
    }
}
