//! Decoupled threads: user contexts of Linux that run alone on a compute core.
//!
//! The protocol is in `abi::DecoupledFrame`. While the frame is TRAPPED, the core waits for the answer here: first
//! polling, so that an answer costs no interrupt, then halted.

use core::sync::atomic::Ordering;

use abi::{
    ANSWER_DETACH, ANSWER_SAVE, ANSWER_XSTATE, DecoupledFrame, Error, FRAME_ANSWERED, FRAME_IDLE, FRAME_RUNNING,
};
use kcore::handshake::{self, Frame, Next};

use crate::arch::{self, fpu, time};
use crate::dispatch;
use crate::object::{Ref, State, Task, Thread, ThreadKind};
use crate::percore::Core;
use crate::shared::Shared;
use crate::vcpu::{self, Trap, apply};
use crate::{get, part, sched, set, shootdown, word};

/// Polls for an answer before the core halts. An answer takes Linux some microseconds; a poll some tens of cycles.
const POLLS: u32 = 2000;

fn page(thread: &Thread) -> Shared<'_, DecoupledFrame> {
    // SAFETY: only decoupled threads that run come here, or are made to; they keep their frame until they have left the core
    // (see `lease_ended`).
    unsafe { Shared::new(thread.shared_page().cast()) }
}

/// The words of the frame that both sides write.
fn words(page: Shared<'_, DecoupledFrame>) -> Frame<'_> {
    Frame { state: word!(page.state), sleeping: word!(page.sleeping) }
}

/// Where the frame's extended state lies, 64-byte aligned as the processor asks.
fn xsave(page: Shared<DecoupledFrame>) -> *mut u8 {
    part!(page.xsave).as_ptr().cast()
}

/// The user context trapped; its general registers are in the frame already, and its extended state stays in the core. (It
/// returns, as `leave` does, so that any number of traps and answers without user mode between them takes no stack.)
pub fn trap(core: &Core, thread: &Thread, trap: Trap) {
    let page = page(thread);
    vcpu::save_bases(part!(page.frame.regs));
    trap.tell(part!(page.frame));
    set!(page.trap_tsc = time::tsc());
    publish(core, thread, page)
}

/// Hand the frame to Linux.
fn publish(core: &Core, thread: &Thread, page: Shared<DecoupledFrame>) {
    thread.in_user.set(false);
    shootdown::pause(core);
    words(page).publish(thread.requests());
    let doorbell = thread.doorbell.lock();
    if let Some(doorbell) = &*doorbell {
        doorbell.signal();
    }
}

/// Run on: in user mode where the context runs, else wait for the answer. Returns for the scheduler to look again.
pub fn leave(core: &Core, thread: &Thread) {
    match handshake::next(thread.requests(), thread.in_user.get()) {
        Next::End => return detach(core, thread, State::Dead),
        Next::Stop => return trap(core, thread, Trap::plain(abi::TRAP_STOP)),
        Next::Run => arch::return_to_current(),
        Next::Wait => {}
    }
    let page = page(thread);
    let frame = words(page);
    match poll(core, frame) {
        Seen::Answer => return answer(core, thread, page),
        Seen::Request => return,
        Seen::Nothing => {}
    }
    if frame.may_halt(&core.reschedule) {
        arch::halt();
    }
    frame.awake();
}

/// What a polling core saw.
enum Seen {
    Answer,
    /// Something that the scheduler has to look at.
    Request,
    Nothing,
}

/// Wait a while for the answer. (A function of its own, so that `mk bench kernel` can tell waiting from working.)
#[inline(never)]
fn poll(core: &Core, frame: Frame) -> Seen {
    for _ in 0..POLLS {
        if frame.is_answered() {
            return Seen::Answer;
        }
        shootdown::serve(core);
        if core.reschedule.load(Ordering::Relaxed) {
            return Seen::Request;
        }
        core::hint::spin_loop();
    }
    Seen::Nothing
}

fn answer(core: &Core, thread: &Thread, page: Shared<DecoupledFrame>) {
    // What a new context begins with is not for the frame to say, where anybody can write: the registers still hold what
    // another context left.
    let answer = if thread.begins.replace(false) { ANSWER_XSTATE } else { get!(page.answer) };
    if answer & ANSWER_SAVE != 0 {
        // SAFETY: the frame's area is large enough and aligned (`abi`); Linux leaves it alone until the core gives the frame again.
        unsafe { fpu::save(xsave(page)) };
        if answer & ANSWER_DETACH == 0 {
            return words(page).give_again();
        }
    }
    if answer & ANSWER_DETACH != 0 {
        return detach(core, thread, State::Inactive);
    }
    // SAFETY: on the home core, and nothing here sets another.
    let task = unsafe { thread.user_task() };
    let count = get!(page.item_count);
    let mut mapped = Ok(());
    if count != 0 {
        // SAFETY: it runs here.
        if let (Some(task), Some(range)) = (task, unsafe { thread.shared_range() }) {
            mapped = apply(task, range, count, |i| get!(page.items[i]));
        }
        // Only now: who takes mappings away on another core waits for this.
        set!(page.item_count = 0);
    }
    if let Some(task) = task {
        shootdown::activate(core, task);
    }
    // SAFETY: the frame has such an area; whatever is in it, the CPU checks.
    let accepted = answer & ANSWER_XSTATE == 0 || unsafe { fpu::load(xsave(page)) };
    if !accepted {
        fpu::reset(); // the next answer need not bring any: what another context left must not be seen
    }
    let refused = if accepted { mapped } else { mapped.and(Err(Error::BadArgument)) };
    if let Err(error) = refused {
        set!(page.frame.trapno = abi::TRAP_REFUSED);
        set!(page.frame.error = error as u64);
        return publish(core, thread, page);
    }
    vcpu::load_regs(core, part!(page.frame.regs));
    word!(page.state).store(FRAME_RUNNING, Ordering::SeqCst);
    thread.in_user.set(true);
}

/// The user context leaves the core.
fn detach(core: &Core, thread: &Thread, state: State) {
    thread.in_user.set(false);
    thread.user_task.set(None);
    shootdown::deactivate(core);
    thread.rest.state.set(state);
    // After this store THREAD_RUN may start the thread anew. (`current` still counts it.)
    let page = page(thread);
    word!(page.state).store(FRAME_IDLE, Ordering::SeqCst);
    dispatch::unload(core);
}

/// THREAD_RUN: bind a user context to the thread's core.
pub fn run(thread: &Ref<Thread>, task: Ref<Task>) -> Result<(), Error> {
    if thread.kind() != ThreadKind::Decoupled {
        return Err(Error::BadState);
    }
    thread.claim()?;
    let page = page(thread);
    let state = word!(page.state);
    if state.load(Ordering::Acquire) != FRAME_IDLE {
        thread.rest.state.set(State::Inactive);
        return Err(Error::BadState);
    }
    handshake::withdraw_stop(thread.requests());
    thread.user_task.set(Some(task));
    thread.begins.set(true);
    state.store(FRAME_ANSWERED, Ordering::SeqCst);
    sched::wake(thread.clone());
    Ok(())
}
