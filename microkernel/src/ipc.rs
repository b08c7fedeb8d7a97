//! What a message is; who waits for it is in `kobj::ipc`.
//!
//! A thread's message is in its saved registers (tag, words 0 to 3) and its message page; it is copied once, from
//! sender to receiver, by whoever brings the two together.

use abi::{Error, MSG_WORDS, TAG_POLL};

pub use kobj::ipc::{call, receive, reply, send};
use kobj::{Rest, Sleeper};

use crate::object::{Ref, Thread};
use crate::sched;

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
        Thread::set_result(self, status, badge, tag);
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
