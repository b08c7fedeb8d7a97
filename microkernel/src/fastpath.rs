//! The short way through the commonest system calls: a call that a receiver waits for, an answer to a caller that
//! waits, both on one core and between ordinary threads; a signal that nobody waits for, signals that are there.
//!
//! Each function first checks, with the locks of the slow path in the same order, whether it may be taken, and changes
//! nothing; `None` means that the slow path (`syscall`, `ipc`, `sched`) has to do it. Then it does what the slow path
//! would have done, down to the choice of the next thread. The command line word `tacet.nofast` turns it off (the entry
//! code then does not come here): `mk test kernel "fast path"` runs the same random operations both ways and compares what
//! every thread saw.
//!
//! Lock order: CSpace, Endpoint or Notification, Reply, `Thread::waiting`.

use abi::{MSG_WORDS, RIGHT_READ, RIGHT_WRITE};

use crate::arch::{self, Registers};
use crate::object::{Capability, Endpoint, Notification, Object, Ref, Reply, State, Thread, Waiters, Waiting};
use crate::percore::Core;
use crate::sync::Guard;
use crate::{ipc, sched, shootdown, syscall};

/// SYS_CALL of an ordinary thread.
#[unsafe(no_mangle)]
extern "C" fn fast_call(core: &Core, thread: &Thread, regs: &Registers) {
    if regs.rsi.get() >> 32 <= SHORTEST {
        call(core, thread, regs, ipc::transfer_registers);
    } else {
        call_long(core, thread, regs);
    }
}

#[inline(never)]
fn call_long(core: &Core, thread: &Thread, regs: &Registers) {
    if regs.rsi.get() >> 32 <= LONGEST {
        call(core, thread, regs, ipc::transfer_words);
    }
}

/// SYS_REPLY_RECV of an ordinary thread.
#[unsafe(no_mangle)]
extern "C" fn fast_reply_receive(core: &Core, thread: &Thread, regs: &Registers) {
    if regs.rsi.get() >> 32 <= SHORTEST {
        reply_receive(core, thread, regs, ipc::transfer_registers);
    } else {
        reply_receive_long(core, thread, regs);
    }
}

#[inline(never)]
fn reply_receive_long(core: &Core, thread: &Thread, regs: &Registers) {
    if regs.rsi.get() >> 32 <= LONGEST {
        reply_receive(core, thread, regs, ipc::transfer_words);
    }
}

/// SYS_SEND of an ordinary thread.
#[unsafe(no_mangle)]
extern "C" fn fast_send(_: &Core, thread: &Thread, regs: &Registers) {
    signal(thread, regs);
}

/// SYS_RECV of an ordinary thread.
#[unsafe(no_mangle)]
extern "C" fn fast_receive(_: &Core, thread: &Thread, regs: &Registers) {
    take_signals(thread, regs);
}

/// What never comes back: the functions here leave the kernel, or say that they cannot.
enum Never {}

/// Words that the message page may hold; what has more, a capability or bits of other meanings is the slow path's.
const LONGEST: u64 = MSG_WORDS as u64;
/// Words that travel in registers.
const SHORTEST: u64 = 4;

/// Whether the scheduler, if `thread` became ready now and the current thread waited, would take `thread` next and have
/// no time slice to begin or end. (What other cores make ready or stop meanwhile comes with an interrupt, which is taken
/// as soon as the core is in user mode: it comes after.)
#[inline]
fn would_run_next(core: &Core, thread: &Thread) -> bool {
    thread.is_fast_on(core) && thread.comes_first_on(core)
}

/// `transfer` copies the message.
#[inline(always)]
fn call(core: &Core, caller: &Thread, regs: &Registers, transfer: impl Fn(&Thread, &Thread, u64)) -> Option<Never> {
    let space = caller.cspace().ok()?.hold();
    let (object, badge, rights) = space.get(regs.rdi.get())?;
    if rights & RIGHT_WRITE == 0 {
        return None;
    }
    let Some(endpoint) = object.downcast_ref::<Endpoint>() else {
        let object = object.clone();
        drop(space);
        syscall::invoke(core, caller, Capability { object, badge, rights }, regs)
    };
    let receiver = deliver(core, caller, endpoint, badge, transfer)?;
    drop(space);
    arch::return_from_other_syscall(receiver.regs())
}

/// Report the fault in `thread.fault`, which is pending, to who waits at the thread's fault endpoint.
#[inline(never)]
pub fn report_fault(core: &Core, thread: &Thread, endpoint: &Endpoint, badge: u64) {
    if let Some(receiver) = deliver(core, thread, endpoint, badge, ipc::transfer_fault) {
        arch::return_from_other_syscall(receiver.regs());
    }
}

/// Give `caller`'s message to the thread that waits at `endpoint`, which then is current; the caller waits for its answer.
#[inline(always)]
fn deliver<'a>(
    core: &Core,
    caller: &Thread,
    endpoint: &Endpoint,
    badge: u64,
    transfer: impl Fn(&Thread, &Thread, u64),
) -> Option<&'a Thread> {
    let mut waiters = endpoint.waiters.lock();
    // SAFETY: counted by the queue, then by `current`.
    let receiver = unsafe { detached(waiters.receivers.first()?) };
    if !would_run_next(core, receiver) {
        return None;
    }
    let mut waiting = receiver.rest.waiting.lock();
    let Waiting::Receive { reply: Some(reply), .. } = &*waiting else { return None };
    // SAFETY: counted by what the receiver waits at, then by what the caller waits at until the lock is given back.
    let reply = unsafe { detached(&**reply) };
    let mut bound = reply.caller.lock();
    if bound.is_some() || reply.header().is_orphaned() {
        return None; // somebody has not been answered, or will not be: he gets to know
    }
    transfer(caller, receiver, badge);
    caller.save_bases();
    caller.rest.state.set(State::WaitReply);
    // SAFETY: looked at above.
    let reply = unsafe { waiting.take_receive() };
    drop(waiting);
    caller.rest.waiting.lock().begin(Waiting::Reply { reply });
    // SAFETY: it is the first, since the lock was held all the time.
    let receiver = unsafe { waiters.receivers.pop_known(receiver) };
    drop(waiters);
    let (receiver, caller) = switch(core, receiver);
    if caller.is_dead() {
        drop(bound);
        end(caller);
    } else {
        core::mem::forget(bound.replace(caller)); // it was None
    }
    Some(receiver)
}

/// A thread was deleted when it had begun to wait, but was not in the queue yet: whoever deleted it did not find it there,
/// and sends an interrupt, with which the scheduler will put the thread to rest.
#[cold]
fn end(thread: Ref<Thread>) {
    *thread.rest.waiting.lock() = Waiting::Nothing;
    sched::wake(thread);
}

/// `transfer` copies the answer.
#[inline(always)]
fn reply_receive(
    core: &Core,
    server: &Thread,
    regs: &Registers,
    transfer: impl Fn(&Thread, &Thread, u64),
) -> Option<Never> {
    let space = server.cspace().ok()?.hold();
    let (endpoint, _) = space.find::<Endpoint>(regs.rdi.get(), RIGHT_READ)?;
    let (reply, _) = space.find::<Reply>(regs.rbx.get(), RIGHT_WRITE)?;
    let waiters = endpoint.waiters.lock();
    if waiters.senders.first().is_some() {
        return None;
    }
    let bound = reply.caller.lock();
    // SAFETY: counted by the Reply, then by `current`.
    let caller = unsafe { detached(bound.as_deref()?) };
    if !would_run_next(core, caller) {
        return None;
    }
    let waiting = caller.rest.waiting.lock();
    if !matches!(*waiting, Waiting::Reply { .. }) {
        return None;
    }
    if !caller.fault_pending.get() {
        let caller = answer(core, server, endpoint, waiters, bound, caller, waiting, transfer);
        drop(space);
        arch::return_from_other_syscall(caller.regs())
    }
    caller.fault_pending.set(false);
    let caller =
        answer(core, server, endpoint, waiters, bound, caller, waiting, |from, to, _| ipc::answer_fault(from, to));
    drop(space);
    caller.load_bases();
    arch::return_to_current()
}

/// Give `server`'s answer to the thread that waits in `bound`, which then is current; the server waits at `endpoint`.
#[inline(always)]
#[allow(clippy::too_many_arguments)] // one function in two parts, the second of which there is twice
fn answer<'a>(
    core: &Core,
    server: &Thread,
    endpoint: &Endpoint,
    mut waiters: Guard<Waiters>,
    mut bound: Guard<Option<Ref<Thread>>>,
    caller: &Thread,
    mut waiting: Guard<Waiting>,
    transfer: impl Fn(&Thread, &Thread, u64),
) -> &'a Thread {
    transfer(server, caller, 0);
    server.save_bases();
    server.rest.state.set(State::WaitReceive);
    // SAFETY: the caller waits for its answer.
    let reply = unsafe { waiting.take_reply() };
    drop(waiting);
    server.rest.waiting.lock().begin(Waiting::Receive { endpoint: Ref::of(endpoint), reply: Some(reply) });
    // SAFETY: the count of `caller` that `bound` held goes on.
    let next = unsafe {
        core::mem::forget(bound.take());
        Ref::from_raw(caller)
    };
    drop(bound);
    let (caller, server) = switch(core, next);
    if server.is_dead() {
        drop(waiters);
        end(server);
    } else {
        waiters.receivers.push(server);
    }
    caller
}

/// A reference that the borrow checker does not follow.
///
/// # Safety
/// Something else keeps the object for as long as the result is used.
#[inline]
unsafe fn detached<'a, T>(object: &T) -> &'a T {
    // SAFETY: by the caller's promise.
    unsafe { &*(object as *const T) }
}

/// Make `next` current in place of the current thread, both ordinary. Each brings its count: `next`'s becomes that of
/// `current`, and the old thread's is given out.
#[inline(always)]
fn switch<'a>(core: &Core, next: Ref<Thread>) -> (&'a Thread, Ref<Thread>) {
    next.rest.state.set(State::Running);
    let next = next.into_raw();
    // SAFETY: `current` held a count of the old thread; it holds one of the new one for as long as that is current.
    let (next, old) = unsafe { (&*next, Ref::from_raw(core.current.replace(next))) };
    core.set_frame(next.regs());
    // SAFETY: `next` waited in a system call; a thread that ran here has a Task, which is `core.task`, and active.
    unsafe { shootdown::exchange(core, next) };
    (next, old)
}

/// Signal a Notification that nobody waits for.
#[inline(always)]
fn signal(thread: &Thread, regs: &Registers) -> Option<Never> {
    if regs.rsi.get() >> 32 > LONGEST {
        return None;
    }
    let space = thread.cspace().ok()?.hold();
    let (notification, badge) = space.find::<Notification>(regs.rdi.get(), RIGHT_WRITE)?;
    if !notification.signal_unless_awaited(badge) {
        return None;
    }
    drop(space);
    regs.rax.set(0);
    arch::return_from_current_syscall(regs)
}

/// Take signals that are there.
#[inline(always)]
fn take_signals(thread: &Thread, regs: &Registers) -> Option<Never> {
    let space = thread.cspace().ok()?.hold();
    let (notification, _) = space.find::<Notification>(regs.rdi.get(), RIGHT_READ)?;
    let word = notification.take();
    if word == 0 {
        return None;
    }
    drop(space);
    regs.set_result(0, word, 0);
    arch::return_from_current_syscall(regs)
}
