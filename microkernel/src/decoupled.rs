//! Decoupled threads: user contexts of Linux that run alone on a compute core.
//!
//! The protocol is in `abi::DecoupledFrame`. While the frame is TRAPPED, the core waits for the answer here: first
//! polling, so that an answer costs no interrupt, then halted.

use core::sync::atomic::Ordering;

use abi::{ANSWER_DETACH, ANSWER_XSTATE, DecoupledFrame, Error};
use abi::{FRAME_ANSWERED, FRAME_IDLE, FRAME_RUNNING, FRAME_TRAPPED};
use kcore::handshake::{self, Frame, Next};

use crate::arch::{self, Core, fpu, time};
use crate::object::{Ref, State, Task, Thread};
use crate::vcpu::Trap;
use crate::{sched, shootdown};

const _: () = assert!(FRAME_IDLE == handshake::FRAME_IDLE && FRAME_RUNNING == handshake::FRAME_RUNNING);
const _: () = assert!(FRAME_TRAPPED == handshake::FRAME_TRAPPED && FRAME_ANSWERED == handshake::FRAME_ANSWERED);

/// Polls for an answer before the core halts. An answer takes Linux some microseconds; a poll some tens of cycles.
const POLLS: u32 = 2000;

/// The frame is shared with Linux, which may write it at any time: raw accesses only.
fn page(thread: &Thread) -> *mut DecoupledFrame {
    thread.frame_page()
}

/// The words of the frame that both sides write.
fn shared(thread: &Thread) -> Frame<'_> {
    // SAFETY: atomic fields of a page that lives as long as the thread.
    unsafe { Frame { state: &(*page(thread)).state, sleeping: &(*page(thread)).sleeping } }
}

/// The user context trapped; its general registers are in the frame already. (It returns, as `leave` does, so that any number
/// of traps and answers without user mode between them takes no stack.)
pub fn trap(core: &Core, thread: &Thread, trap: Trap) {
    let page = page(thread);
    let (fs, gs) = arch::user_bases();
    // SAFETY: the frame page lives as long as the thread; the kernel only writes here.
    unsafe {
        (&raw mut (*page).frame.regs.fs_base).write(fs);
        (&raw mut (*page).frame.regs.gs_base).write(gs);
        (&raw mut (*page).frame.trapno).write(trap.number);
        (&raw mut (*page).frame.error).write(trap.error);
        (&raw mut (*page).frame.address).write(trap.address);
        (&raw mut (*page).trap_tsc).write(time::tsc());
        fpu::save((&raw mut (*page).xsave).cast());
    }
    publish(core, thread)
}

/// Hand the frame to Linux.
fn publish(core: &Core, thread: &Thread) {
    thread.in_user.set(false);
    shootdown::pause(core);
    thread.publish(shared(thread));
    let doorbell = thread.doorbell.lock();
    if let Some(doorbell) = &*doorbell {
        doorbell.signal();
    }
}

/// Run on: in user mode where the context runs, else wait for the answer. Returns for the scheduler to look again.
pub fn leave(core: &Core, thread: &Thread) {
    match thread.next() {
        Next::End => return detach(core, thread, State::Dead),
        Next::Stop => return trap(core, thread, Trap::plain(abi::TRAP_STOP)),
        Next::Run => arch::return_to_current(),
        Next::Wait => {}
    }
    let frame = shared(thread);
    match poll(core, frame) {
        Seen::Answer => return answer(core, thread),
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

fn answer(core: &Core, thread: &Thread) {
    let page = page(thread);
    // SAFETY: the frame page lives as long as the thread; each field is read once.
    let (answer, count, items) = unsafe {
        let count = (&raw const (*page).item_count).read();
        ((&raw const (*page).answer).read(), count, &*(&raw const (*page).items))
    };
    if answer & ANSWER_DETACH != 0 {
        return detach(core, thread, State::Inactive);
    }
    let task: Option<Ref<Task>> = thread.user_task.take();
    let mapped = match (&task, thread.shared_range()) {
        (Some(task), Some(range)) if count != 0 => crate::vcpu::apply(task, range, items, count),
        _ => Ok(()),
    };
    // Only now: who takes mappings away on another core waits for this.
    // SAFETY: as above.
    unsafe { (&raw mut (*page).item_count).write_volatile(0) };
    if let Some(task) = &task {
        shootdown::activate(core, task);
    }
    thread.user_task.set(task);
    // SAFETY: as above; the area is 64-byte aligned in the page.
    let accepted = answer & ANSWER_XSTATE == 0 || fpu::load(unsafe { (&raw const (*page).xsave).cast() });
    if !accepted {
        fpu::reset(); // the next answer need not bring any: what another context left must not be seen
    }
    let refused = if accepted { mapped } else { mapped.and(Err(Error::BadArgument)) };
    if let Err(error) = refused {
        // SAFETY: as above.
        unsafe {
            (&raw mut (*page).frame.trapno).write(abi::TRAP_REFUSED);
            (&raw mut (*page).frame.error).write(error as u64);
        }
        return publish(core, thread);
    }
    // SAFETY: as above.
    unsafe {
        let regs = &raw mut (*page).frame.regs;
        core.set_frame(regs);
        arch::set_user_bases((&raw const (*regs).fs_base).read(), (&raw const (*regs).gs_base).read());
        (*page).state.store(FRAME_RUNNING, Ordering::SeqCst);
    }
    thread.in_user.set(true);
}

/// The user context leaves the core.
fn detach(core: &Core, thread: &Thread, state: State) {
    thread.in_user.set(false);
    thread.user_task.set(None);
    shootdown::deactivate(core);
    let page = page(thread);
    thread.set_state(state);
    // SAFETY: the page lives as long as the thread, which `current` still counts. After this store THREAD_RUN may start
    // the thread anew.
    unsafe { (*page).state.store(FRAME_IDLE, Ordering::SeqCst) };
    sched::unload(core);
}

/// THREAD_RUN: bind a user context to the thread's core.
pub fn run(thread: &Ref<Thread>, task: Ref<Task>) -> Result<(), Error> {
    let page = page(thread);
    if page.is_null() {
        return Err(Error::BadState);
    }
    thread.claim()?;
    // SAFETY: atomic field of a live page.
    let state = unsafe { &(*page).state };
    if state.load(Ordering::Acquire) != FRAME_IDLE {
        thread.set_state(State::Inactive);
        return Err(Error::BadState);
    }
    thread.withdraw_stop();
    thread.user_task.set(Some(task));
    // SAFETY: the frame is Linux's until the store of the state.
    unsafe { (&raw mut (*page).answer).write(ANSWER_XSTATE) };
    state.store(FRAME_ANSWERED, Ordering::SeqCst);
    sched::wake(thread.clone());
    Ok(())
}
