//! Which thread a core runs: strict priority, first come first served within one, and a time slice only where another
//! thread of the same priority waits.

use core::ptr::null;
use core::sync::atomic::{Ordering, fence};

use abi::Error;

use crate::arch::{self, Core, apic, time};
use crate::object::destroy;
use kobj::Sleeper;

use crate::object::{Queue, Ref, State, Thread, ThreadKind, Waiting};
use crate::{decoupled, klog, log, shootdown, signal, storm, vcpu};

/// Time slice in TSC ticks per second's fraction: 1/100 s.
const SLICES_PER_SECOND: u64 = 100;
/// vCPUs that can have their home on one core.
const MAX_VCPUS: usize = 4;

/// What is ready on a core, and whose timers it serves. (The vCPU pointers are counted.)
pub struct RunQueue {
    ready: Queue,
    vcpus: [*const Thread; MAX_VCPUS],
}

impl RunQueue {
    pub const fn new() -> Self {
        Self { ready: Queue::new(), vcpus: [null(); MAX_VCPUS] }
    }

    /// Make a thread wait for its turn; but not one that was deleted, since `forget`, which comes after the deletion, may
    /// have been here before.
    fn push(&mut self, core: &Core, thread: Ref<Thread>) {
        if thread.is_dead() {
            bury(&thread);
            return;
        }
        self.ready.push(thread);
        self.publish(core);
    }

    fn pop(&mut self, core: &Core) -> Option<Ref<Thread>> {
        let thread = self.ready.pop();
        self.publish(core);
        thread
    }

    /// Tell the fast path, which does not take the lock.
    fn publish(&self, core: &Core) {
        let above = self.ready.first_priority().map_or(0, |p| u32::from(p) + 1);
        core.ready_above.store(above, Ordering::Relaxed);
    }
}

#[cfg(feature = "check")]
impl RunQueue {
    pub fn audit(&self, audit: &mut crate::check::Audit, core: &Core) {
        self.ready.audit(audit, State::Ready, |thread| {
            crate::holds!(
                thread,
                thread.core().is_some_and(|c| c.index == core.index),
                "ready on core {}, not its own",
                core.index
            );
        });
        // SAFETY: the run queue counts its vCPUs.
        for thread in self.vcpus.iter().filter_map(|v| unsafe { v.as_ref() }) {
            audit.reference_to(thread);
            let at_home = thread.kind() == ThreadKind::Vcpu && thread.core().is_some_and(|c| c.index == core.index);
            crate::holds!(thread, at_home, "core {} serves its timer, but it is no vCPU of that core", core.index);
        }
    }
}

/// Let a thread run that was just taken out of the queue it waited in (or started). Its home core gets to know.
pub fn wake(thread: Ref<Thread>) {
    let Some(core) = thread.core() else { return };
    thread.set_state(State::Ready);
    core.run_queue.lock().push(core, thread);
    poke(core);
}

/// A deleted thread that is ready does not wait for its turn to end.
pub fn forget(core: &Core, thread: &Thread) {
    let mut queue = core.run_queue.lock();
    let ready = queue.ready.remove(thread);
    queue.publish(core);
    drop(queue);
    ready.iter().for_each(|thread| bury(thread));
}

/// Have a core look at its run queue and at its thread's flags.
pub fn poke(core: &Core) {
    core.reschedule.store(true, Ordering::SeqCst);
    if core.index != arch::core().index {
        apic::send(core, apic::VECTOR_POKE);
    }
}

/// Serve a vCPU's timer on its home core. False: the core has too many.
pub fn add_vcpu(core: &Core, thread: &Ref<Thread>) -> bool {
    let mut queue = core.run_queue.lock();
    let Some(place) = queue.vcpus.iter_mut().find(|p| p.is_null()) else { return false };
    *place = thread.clone().into_raw();
    true
}

/// A vCPU ends: its place is free again.
pub fn remove_vcpu(core: &Core, thread: &Thread) {
    let mut queue = core.run_queue.lock();
    let place = queue.vcpus.iter_mut().find(|p| core::ptr::eq(**p, thread));
    let count = place.map(|p| core::mem::replace(p, null()));
    drop(queue);
    if let Some(thread) = count {
        // SAFETY: `add_vcpu` counted it.
        drop(unsafe { Ref::from_raw(thread) });
    }
}

/// The timer interrupt.
pub fn timer_expired(core: &Core) {
    let now = time::tsc();
    for thread in vcpus_of(core).iter().flatten() {
        let deadline = thread.deadline.load(Ordering::Acquire);
        if deadline != 0
            && deadline <= now
            && thread.deadline.compare_exchange(deadline, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        {
            signal::vcpu(thread, abi::PENDING_TIMER);
        }
    }
    storm::timer_expired(core, now);
    core.reschedule.store(true, Ordering::Relaxed);
}

fn vcpus_of(core: &Core) -> [Option<Ref<Thread>>; MAX_VCPUS] {
    let queue = core.run_queue.lock();
    // SAFETY: the run queue counts its vCPUs.
    queue.vcpus.map(|v| unsafe { v.as_ref() }.map(Ref::of))
}

/// Program the core's timer for the next event it has to serve; none, if there is none.
pub fn arm_timer(core: &Core) {
    let vcpus = vcpus_of(core);
    let deadlines = vcpus.iter().flatten().map(|t| t.deadline.load(Ordering::Acquire));
    let again = if core.work.is_left() { slice_end() } else { 0 };
    let next = deadlines
        .chain([core.slice_end(), core.storm.deadline(), log::deadline(core), again])
        .filter(|&d| d != 0)
        .min();
    if next != core.armed.get() {
        core.armed.set(next);
        apic::set_timer(next);
    }
}

/// A core's life: run threads for ever.
pub fn run() -> ! {
    leave()
}

/// The end of every entry into the kernel: run what should run now.
pub fn leave() -> ! {
    let core = arch::core();
    loop {
        destroy::finish(core);
        // SAFETY: the current thread is counted by `current`.
        let mut current = unsafe { core.current.get().as_ref() };
        let mut finished = true;
        if core.reschedule.load(Ordering::Relaxed) || current.is_none_or(|t| !t.is_running()) {
            core.reschedule.store(false, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            destroy::put_aside(core);
            choose(core);
            // SAFETY: as above.
            current = unsafe { core.current.get().as_ref() };
            finished = destroy::go_on(core, current);
            log::serve(core);
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
        if let (Some(thread), Some(best)) = (keep, best) {
            let expired = core.slice_end() != 0 && time::tsc() >= core.slice_end();
            if best < thread.priority() || (best == thread.priority() && !expired) {
                break None;
            }
        } else if let (Some(_), None) = (keep, best) {
            break None;
        }
        match queue.pop(core) {
            Some(thread) if retire(&thread) => {}
            other => break other,
        }
    };
    if let Some(thread) = next {
        if let Some(old) = keep {
            old.set_state(State::Ready);
            queue.push(core, Ref::of(old));
        }
        let contended = queue.ready.first_priority() == Some(thread.priority());
        drop(queue);
        core.set_slice_end(if contended { slice_end() } else { 0 });
        switch_to(core, thread);
        return;
    }
    let contended = keep.is_some_and(|t| queue.ready.first_priority() == Some(t.priority()));
    drop(queue);
    match (contended, core.slice_end()) {
        (true, 0) => core.set_slice_end(slice_end()),
        (false, _) => core.set_slice_end(0),
        _ => {}
    }
    if keep.is_none() {
        unload(core);
    }
}

fn slice_end() -> u64 {
    time::tsc() + time::tsc_hz() / SLICES_PER_SECOND
}

/// Put a thread to rest that is to stop or to die. True: it must not run.
fn retire(thread: &Thread) -> bool {
    if thread.is_dead() {
        bury(thread);
        return true;
    }
    if thread.kind() == ThreadKind::Decoupled || !thread.is_stop_requested() {
        return false;
    }
    destroy::disown(thread); // (once it has stopped, others may change it)
    thread.stop()
}

/// A deleted thread, which is in no queue, will not run.
fn bury(thread: &Thread) {
    destroy::disown(thread);
    thread.set_state(State::Dead);
}

/// The current thread's context leaves the core; the core has none.
pub fn unload(core: &Core) {
    let old = core.current.replace(null());
    if old.is_null() {
        return;
    }
    // SAFETY: `current` held a count.
    let old = unsafe { Ref::from_raw(old) };
    save_bases(&old);
}

fn save_bases(thread: &Thread) {
    let (fs, gs) = arch::user_bases();
    let regs = if thread.in_user.get() { vcpu::user_regs(thread) } else { thread.regs() };
    if thread.kind() != ThreadKind::Decoupled {
        // SAFETY: the registers of a thread that was current on this core belong to it.
        unsafe {
            (&raw mut (*regs).fs_base).write(fs);
            (&raw mut (*regs).gs_base).write(gs);
        }
    }
}

fn switch_to(core: &Core, thread: Ref<Thread>) {
    thread.set_state(State::Running);
    unload(core);
    let thread = thread.into_raw();
    core.current.set(thread);
    // SAFETY: counted by `current`.
    let thread = unsafe { &*thread };
    match thread.kind() {
        ThreadKind::Ordinary => {
            load(core, thread, thread.regs());
            arch::fpu::set_enabled(false);
        }
        ThreadKind::Vcpu => {
            own_fpu(core, thread);
            if thread.in_user.get() {
                vcpu::load_user(core, thread);
            } else {
                load(core, thread, thread.regs());
            }
        }
        ThreadKind::Decoupled => {
            arch::fpu::set_enabled(true);
            own_no_fpu(core);
        }
    }
}

fn load(core: &Core, thread: &Thread, regs: *mut abi::Regs) {
    core.set_frame(regs);
    if let Some(task) = thread.task() {
        shootdown::activate(core, task);
    }
    // SAFETY: the thread is current here.
    let (fs, gs) = unsafe { ((*regs).fs_base, (*regs).gs_base) };
    arch::set_user_bases(fs, gs);
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
        // SAFETY: as above; the count is taken over.
        drop(unsafe { Ref::from_raw(core.fpu_owner.replace(null())) });
    }
}

/// Save the extended registers to whom they belong.
fn own_no_fpu(core: &Core) {
    let owner = core.fpu_owner.replace(null());
    if !owner.is_null() {
        // SAFETY: `fpu_owner` held a count.
        unsafe { Ref::from_raw(owner) }.save_xstate();
    }
}

/// A thread whose fault nobody handles ends; it is named, unless somebody deleted it anyway.
pub fn kill(thread: &Thread, reason: &str) {
    if thread.mark_dead() {
        klog!("thread {} ends: {reason}", thread.name());
    }
    *thread.waiting.lock() = Waiting::Nothing;
    thread.set_state(State::Dead);
}
