//! The self-check (cargo feature `check`): every invariant of every object, while the other cores stand still.
//!
//! It starts at the cores and the kernel's reserve, follows every counted pointer, and panics at the first thing that
//! is not as it must be: counts, the derivation list, queues against thread states, memory against who pays for it, page
//! tables against Ranges. Each object tells its own part (`audit`); what spans objects is judged here.
//! The fuzzer asks for it between its batches (`kcore::check::MACHINE_CHECK`).

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use kcore::check::PRIVATE;
use kcore::paging::{Met, USER};
use kobj::check::Entry;
pub use kobj::check::{Audit, Use};

use crate::arch::memory::to_physical;
use crate::object::{Kind, Object, Ref, State, Task, Thread, ThreadKind, Untyped};
use crate::percore::{self, Core, Peer, core_count, cores};
use crate::sync::SpinLock;
use crate::{get, holds, shootdown, word};

static ASKED: AtomicBool = AtomicBool::new(false);
static PARKED: AtomicUsize = AtomicUsize::new(0);

/// Stand still while another core checks. Where the scheduler has made its choice, a core holds nothing.
pub fn park(core: &Core) {
    if !ASKED.load(Ordering::SeqCst) {
        return;
    }
    PARKED.fetch_add(1, Ordering::SeqCst);
    while ASKED.load(Ordering::SeqCst) {
        shootdown::serve(core);
        core::hint::spin_loop();
    }
    PARKED.fetch_sub(1, Ordering::SeqCst);
}

/// Check everything. (Objects seen, capabilities seen.)
pub fn run(list: bool) -> [u64; 2] {
    let own = percore::core();
    ASKED.store(true, Ordering::SeqCst);
    for other in cores().filter(|core| core.index != own.index) {
        percore::poke(other);
    }
    while PARKED.load(Ordering::SeqCst) + 1 < core_count() {
        shootdown::serve(own);
        core::hint::spin_loop();
    }
    let seen = AUDIT.lock().everything();
    if list {
        AUDIT.lock().list();
    }
    ASKED.store(false, Ordering::SeqCst);
    while PARKED.load(Ordering::SeqCst) != 0 {
        core::hint::spin_loop();
    }
    seen
}

static AUDIT: SpinLock<Audit> = SpinLock::new(Audit::new());

/// The kernel's own reserve, where the root task's memory lies too.
static RESERVE: SpinLock<Option<Ref<Untyped>>> = SpinLock::new(None);

pub fn set_reserve(reserve: &Ref<Untyped>) {
    *RESERVE.lock() = Some(reserve.clone());
}

/// What the kernel makes of what was gathered.
trait Judge {
    fn everything(&mut self) -> [u64; 2];
    fn list(&self);
    fn core(&mut self, core: &Peer);
    fn judge(&self, entry: Entry, reserve: &Ref<Untyped>);
    fn judge_thread(&self, thread: &Thread, queued: u32);
    fn judge_task(&self, task: &Task);
}

impl Judge for Audit {
    fn everything(&mut self) -> [u64; 2] {
        self.clear();
        let reserve = &RESERVE.lock().clone().expect("made at boot");
        self.reference(reserve);
        for core in cores() {
            self.core(core);
        }
        let mut next = 0;
        while next < self.count {
            // SAFETY: every entry was reached through a counted pointer, and nothing changes meanwhile.
            let object = unsafe { &*self.entries[next].object };
            if let Some(payer) = object.payer() {
                self.reference(payer);
                self.own(object, to_physical(object), 1, Use::Kernel);
            }
            object.audit(self);
            next += 1;
        }
        for index in 0..self.count {
            self.judge(self.entries[index], reserve);
        }
        [self.count as u64, self.caps]
    }

    /// Tell of every object that is not the kernel's own.
    fn list(&self) {
        let reserve = &RESERVE.lock().clone().expect("made at boot");
        for entry in &self.entries[..self.count] {
            // SAFETY: every entry was reached through a counted pointer, and nothing changes meanwhile.
            let object = unsafe { &*entry.object };
            let Some(payer) = object.payer().filter(|payer| !payer.is(reserve)) else { continue };
            let (references, caps) = object.counts();
            let ending = if entry.ending { ", ending" } else { "" };
            crate::klog!(
                "{:?} {} at {object:p}: {references} references, {caps} capabilities{ending}, of {:p}",
                object.kind(),
                object.name(),
                &raw const **payer
            );
            if object.kind() == Kind::Thread {
                // SAFETY: the kind says what type the object is.
                let thread = unsafe { &*entry.object.cast::<Thread>() };
                let home = thread.core().map(|core| core.index);
                crate::klog!(
                    "    {:?}, {:?}, on core {home:?}, dead {}",
                    thread.kind(),
                    thread.rest.state.get(),
                    thread.is_dead()
                );
            }
        }
    }

    /// What a core refers to.
    fn core(&mut self, core: &Peer) {
        // SAFETY: it stands still, or runs this.
        let core = unsafe { core.whole() };
        // SAFETY: these pointers are counted, and nothing changes meanwhile.
        let (current, task, owner) =
            unsafe { (core.current.get().as_ref(), core.task().as_ref(), core.fpu_owner.get().as_ref()) };
        if let Some(thread) = current {
            self.reference_to(thread);
            holds!(
                thread.header(),
                thread.rest.state.get() == State::Running,
                "current on core {} but {:?}",
                core.index,
                thread.rest.state.get()
            );
            holds!(
                thread.header(),
                thread.core().is_some_and(|c| c.index == core.index),
                "current on core {}, not its own",
                core.index
            );
        }
        if let Some(task) = task {
            self.reference_to(task);
        }
        if let Some(thread) = owner {
            self.reference_to(thread);
        }
        core.run_queue.lock().audit(self, core.index);
        core.work.audit(self);
        for slot in &core.irqs {
            if let Some(handler) = slot.lock().as_ref() {
                self.reference(handler);
            }
        }
    }

    /// What an object must be now that everything has been seen.
    fn judge(&self, entry: Entry, reserve: &Ref<Untyped>) {
        // SAFETY: every entry was reached through a counted pointer, and nothing changes meanwhile.
        let object = unsafe { &*entry.object };
        let (references, caps) = object.counts();
        holds!(object, caps == entry.caps, "counts {caps} capabilities, there are {}", entry.caps);
        // What the kernel itself makes, it keeps by pointers that are nowhere to be found.
        let own = object.payer().is_none_or(|payer| payer.is(reserve));
        let right = if own { references >= entry.references } else { references == entry.references };
        holds!(object, right, "counts {references} references, there are {}", entry.references);
        holds!(object, entry.ending || references > 0, "has no references, but does not end");
        holds!(object, entry.ending || !entry.awaited, "deleted, but threads wait at it");
        match object.kind() {
            // SAFETY: the kind says what type the object is.
            Kind::Thread => self.judge_thread(unsafe { &*entry.object.cast() }, entry.queued),
            // (Without references it is in no CR3, and maps what may have gone: see `Sweep`.)
            // SAFETY: the kind says what type the object is.
            Kind::Task if references > 0 => self.judge_task(unsafe { &*entry.object.cast() }),
            Kind::Untyped
                if !reserve.is(
                    // SAFETY: the kind says what type the object is.
                    unsafe { &*entry.object.cast() },
                ) =>
            {
                // SAFETY: the kind says what type the object is.
                let untyped: &Untyped = unsafe { &*entry.object.cast() };
                let given = untyped.total_bytes() - untyped.free_bytes();
                holds!(
                    object,
                    given == entry.paid * 4096,
                    "{given:#x} bytes are given out, objects own {:#x}",
                    entry.paid * 4096
                );
            }
            _ => {}
        }
    }

    fn judge_thread(&self, thread: &Thread, queued: u32) {
        let state = thread.rest.state.get();
        let in_queue = matches!(
            state,
            State::Ready | State::WaitSend | State::WaitReceive | State::WaitReply | State::WaitNotification
        );
        holds!(thread.header(), queued == u32::from(in_queue), "in {queued} queues, though its state is {state:?}");
        // SAFETY: all cores stand still but the one that runs this.
        let current = cores().filter(|core| core::ptr::eq(unsafe { core.whole() }.current.get(), thread)).count();
        holds!(
            thread.header(),
            current == usize::from(state == State::Running),
            "current on {current} cores, its state is {state:?}"
        );
        holds!(thread.header(), state != State::Configuring, "left in configuration");
        if state == State::WaitVcpu && !thread.is_dead() {
            let page = thread.vcpu_page().expect("waits as a vCPU");
            let pending = word!(page.pending).load(Ordering::SeqCst);
            let private = get!(page.linux[0]) == PRIVATE;
            holds!(thread.header(), pending == 0 || !private, "sleeps with signals {pending:#x}");
        }
        holds!(
            thread.header(),
            !thread.in_user.get() || thread.kind() != ThreadKind::Ordinary,
            "an ordinary thread has no user context"
        );
    }

    fn judge_task(&self, task: &Task) {
        task.walk(|met| {
            let Met::Page { address, physical, bytes, flags } = met else { return };
            holds!(task.header(), flags & USER != 0, "{address:#x} is mapped for the kernel");
            let owned = |page: u64| self.pages.get((page >> 12) as usize) == Some(&Use::Range);
            let mapped = self.is_foreign(physical, bytes)
                || RESERVE.lock().as_ref().is_some_and(|reserve| reserve.has_given_out(physical & !4095, 1))
                || (physical..physical + bytes).step_by(4096).all(owned);
            holds!(task.header(), mapped, "{address:#x} is mapped to {physical:#x}, which is no Range's");
        });
        for core in cores() {
            let active = task.presence.active() >> core.index & 1 != 0;
            let loaded = core::ptr::eq(core.task(), task);
            holds!(task.header(), loaded || !active, "active on core {}, which has another Task", core.index);
        }
    }
}
