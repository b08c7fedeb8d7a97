//! The end of every entry into the kernel: which thread runs now, and its context onto the core.

use core::ptr::null;
use core::sync::atomic::{Ordering, fence};

use abi::Error;
use kobj::Sleeper;

use crate::arch::{self, time};
use crate::object::{Ref, State, Thread, ThreadKind};
use crate::percore::{self, Core};
use crate::sched::{arm_timer, bury, retire, slice_end};
use crate::{decoupled, destroy, log, shootdown, vcpu};

/// A core's life: run threads for ever.
pub fn run() -> ! {
    leave()
}

/// The end of every entry into the kernel: run what should run now.
pub fn leave() -> ! {
    let core = percore::core();
    loop {
        destroy::finish(core);
        // SAFETY: the current thread is counted by `current`.
        let mut current = unsafe { core.current.get().as_ref() };
        let mut finished = true;
        if core.reschedule.load(Ordering::Relaxed) || current.is_none_or(|t| !t.is_running()) {
            core.reschedule.store(false, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            destroy::put_aside(core);
            let era = percore::current_era();
            choose(core);
            // SAFETY: the current thread is counted by `current`.
            current = unsafe { core.current.get().as_ref() };
            // (A decoupled thread leaves the core itself.)
            if current.is_none_or(|thread| !thread.is_dead()) {
                core.enter_era(era);
            }
            finished = destroy::go_on(core, current);
            log::serve(core.index);
            arm_timer(core);
        }
        #[cfg(feature = "check")]
        crate::check::park(core);
        if !finished {
            arch::admit_interrupts();
            core.reschedule.store(true, Ordering::Relaxed);
            continue;
        }
        let Some(thread) = current else {
            shootdown::rest(core);
            destroy::finish(core);
            if !core.reschedule.load(Ordering::Relaxed) {
                arch::halt();
            }
            continue;
        };
        match thread.kind() {
            ThreadKind::Ordinary => arch::return_to_current(),
            ThreadKind::Vcpu => vcpu::leave(core, thread),
            ThreadKind::Decoupled => decoupled::leave(core, thread),
        }
    }
}

/// Pick the thread to run and make it current.
fn choose(core: &Core) {
    // SAFETY: counted by `current`.
    let current = unsafe { core.current.get().as_ref() };
    forget_dead_fpu(core);
    let mut keep = None;
    match current {
        Some(thread) if thread.is_running() => {
            if thread.kind() == ThreadKind::Decoupled {
                // It has the core until it is detached, and looks at its flags itself, where its frame is complete.
                core.set_slice_end(0);
                return;
            }
            keep = Some(thread).filter(|t| !retire(t));
        }
        // Deleted before it began to wait: whoever deleted it did not find it in the queue.
        Some(thread) if thread.is_dead() => {
            thread.cancel(Error::Cancelled);
        }
        _ => {}
    }
    let mut queue = core.run_queue.lock();
    let next = loop {
        let best = queue.ready.first_priority();
        if let Some(thread) = keep {
            let expired = core.slice_end() != 0 && time::tsc() >= core.slice_end();
            if best.is_none_or(|best| best < thread.priority() || (best == thread.priority() && !expired)) {
                break None;
            }
        }
        match queue.pop(&core.ready_above) {
            Some(thread) if retire(&thread) => {}
            other => break other,
        }
    };
    if let (Some(_), Some(old)) = (&next, keep) {
        old.rest.state.set(State::Ready);
        let dead = queue.push(&core.ready_above, Ref::of(old));
        dead.iter().for_each(|dead| bury(dead));
    }
    let runs = next.as_deref().or(keep);
    let contended = runs.is_some_and(|thread| queue.ready.first_priority() == Some(thread.priority()));
    drop(queue);
    if !contended {
        core.set_slice_end(0);
    } else if next.is_some() || core.slice_end() == 0 {
        core.set_slice_end(slice_end());
    }
    match next {
        Some(thread) => switch_to(core, thread),
        None if keep.is_none() => unload(core),
        None => {}
    }
}

/// The current thread's context leaves the core; the core has none.
pub fn unload(core: &Core) {
    let old = core.current.replace(null());
    if old.is_null() {
        return;
    }
    // SAFETY: `current` held a count.
    let old = unsafe { Ref::from_raw(old) };
    match old.kind() {
        ThreadKind::Decoupled => {}
        ThreadKind::Vcpu if old.in_user.get() => vcpu::unload_user(&old),
        _ => old.save_bases(),
    }
}

fn switch_to(core: &Core, thread: Ref<Thread>) {
    thread.rest.state.set(State::Running);
    unload(core);
    let thread = thread.into_raw();
    core.current.set(thread);
    // SAFETY: counted by `current`.
    let thread = unsafe { &*thread };
    match thread.kind() {
        ThreadKind::Ordinary => {
            load(core, thread);
            arch::fpu::set_enabled(false);
        }
        ThreadKind::Vcpu => {
            own_fpu(core, thread);
            if thread.in_user.get() {
                vcpu::load_user(core, thread);
            } else {
                load(core, thread);
            }
        }
        ThreadKind::Decoupled => {
            arch::fpu::set_enabled(true);
            own_no_fpu(core);
        }
    }
}

fn load(core: &Core, thread: &Thread) {
    core.set_frame(thread.regs());
    if let Some(task) = thread.task() {
        shootdown::activate(core, task);
    }
    thread.load_bases();
}

/// The extended registers become this thread's.
fn own_fpu(core: &Core, thread: &Thread) {
    arch::fpu::set_enabled(true);
    if core::ptr::eq(core.fpu_owner.get(), thread) {
        return;
    }
    own_no_fpu(core);
    thread.load_xstate();
    core.fpu_owner.set(Ref::of(thread).into_raw());
}

/// The thread whose extended state is in the registers was deleted: they are nobody's.
fn forget_dead_fpu(core: &Core) {
    // SAFETY: `fpu_owner` holds a count.
    if unsafe { core.fpu_owner.get().as_ref() }.is_some_and(|t| t.is_dead()) {
        // SAFETY: the count that `fpu_owner` held is taken over.
        drop(unsafe { Ref::from_raw(core.fpu_owner.replace(null())) });
    }
}

/// Save the extended registers to whom they belong.
fn own_no_fpu(core: &Core) {
    let owner = core.fpu_owner.replace(null());
    if !owner.is_null() {
        // SAFETY: `fpu_owner` held a count. `own_fpu` loaded the owner's registers; a vCPU stays on its core, and who else
        // loads registers here calls this before.
        unsafe { Ref::from_raw(owner).save_xstate() };
    }
}
