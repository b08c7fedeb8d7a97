//! What a message is; who waits for it is in `kobj::ipc`.
//!
//! A thread's message is in its saved registers (tag, words 0 to 3) and its message page; it is copied once, from
//! sender to receiver, by whoever brings the two together.

use abi::{Error, MSG_WORDS, TAG_POLL};

pub use kobj::ipc::{Manner, receive, reply, send};
use kobj::{Rest, Sleeper};

use crate::object::{Ref, Thread};
use crate::{get, sched, set};

// SAFETY: the kernel has one type of threads, and each of these is one field.
unsafe impl Sleeper for Thread {
    #[inline]
    fn rest(&self) -> &Rest<Self> {
        &self.rest
    }

    #[inline]
    fn priority(&self) -> u8 {
        Thread::priority(self)
    }

    #[inline]
    fn is_dead(&self) -> bool {
        Thread::is_dead(self)
    }

    #[inline]
    fn set_result(&self, status: i64, badge: u64, tag: u64) {
        self.regs().set_result(status, badge, tag);
    }

    fn wake(thread: Ref<Self>) {
        sched::wake(thread);
    }

    fn end_fault(&self) -> bool {
        let faulted = self.fault_pending.replace(false);
        if faulted {
            sched::kill(self, "nobody will answer its fault");
        }
        faulted
    }

    fn transfer(&self, to: &Self, badge: u64, rights: u64) {
        transfer(self, to, badge, rights);
    }

    fn answer(&self, to: &Self) {
        if to.fault_pending.replace(false) {
            answer_fault(self, to);
        } else {
            transfer(self, to, 0, abi::RIGHT_GRANT);
        }
    }
}

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
    let tag = from.regs().rsi.get() & !TAG_POLL;
    let moved = caps(tag) != 0 && rights & abi::RIGHT_GRANT != 0 && transfer_cap(from, to).is_ok();
    to.regs().rsi.set(if moved { tag } else { tag & !(0xf << 40) });
}

/// Words, tag and badge of a message that has neither a capability nor TAG_POLL, or whose tag the caller sees to.
pub fn transfer_words(from: &Thread, to: &Thread, badge: u64) {
    transfer_registers(from, to, badge);
    copy_page(from, to, words(from.regs().rsi.get()));
}

/// The part of a message that is in registers.
#[inline(always)]
pub fn transfer_registers(from: &Thread, to: &Thread, badge: u64) {
    let (source, target) = (from.regs(), to.regs());
    target.set_result(0, badge, source.rsi.get());
    target.set_words(source.words());
}

/// The message that reports a fault.
pub fn transfer_fault(from: &Thread, to: &Thread, badge: u64) {
    let [trap, error, address, ip, sp] = from.fault.get();
    to.set_result(0, badge, abi::tag(abi::FAULT_LABEL, 5, 0));
    to.regs().set_words([trap, error, address, ip]);
    if let Some(page) = to.message() {
        set!(page.words[4] = sp);
    }
}

/// Words 4 and up.
fn copy_page(from: &Thread, to: &Thread, count: usize) {
    let (Some(from), Some(to)) = (from.message(), to.message()) else { return };
    for i in 4..count.min(MSG_WORDS) {
        set!(to.words[i] = get!(from.words[i]));
    }
}

/// Copy the capability that the sender names into the slot that the receiver names.
fn transfer_cap(from: &Thread, to: &Thread) -> Result<(), Error> {
    let (Some(source), Some(target)) = (from.message(), to.message()) else { return Err(Error::NoCapability) };
    to.cspace()?.copy_from(from.cspace()?, get!(source.cap), get!(target.cap), abi::RIGHT_ALL, 0)
}

/// Words 0 and 1 of an answer to a fault, where given, are the new instruction and stack pointer.
pub fn answer_fault(from: &Thread, faulted: &Thread) {
    let (answer, regs) = (from.regs(), faulted.regs());
    if words(answer.rsi.get()) >= 1 {
        regs.rip.set(answer.rdx.get());
    }
    if words(answer.rsi.get()) >= 2 {
        regs.rsp.set(answer.r10.get());
    }
}
