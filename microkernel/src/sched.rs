//! Which thread a core runs: strict priority, first come first served within one, and a time slice only where another
//! thread of the same priority waits.

use core::sync::atomic::Ordering;

use abi::Error;
use kcore::handshake;

use crate::arch::{apic, time};
use kobj::Sleeper;

use crate::object::{Kind, Lease, Object, Ref, State, Thread, ThreadKind, Waiting};
use crate::percore::{self, Core, Peer, poke};
use crate::run_queue::MAX_VCPUS;
use crate::{destroy, klog, log, signal, storm};

/// Time slice in TSC ticks per second's fraction: 1/100 s.
const SLICES_PER_SECOND: u64 = 100;

/// Let a thread run that was just taken out of the queue it waited in (or started). Its home core gets to know.
pub fn wake(thread: Ref<Thread>) {
    let Some(core) = thread.core() else { return };
    thread.rest.state.set(State::Ready);
    let dead = core.run_queue.lock().push(&core.ready_above, thread);
    dead.iter().for_each(|dead| bury(dead));
    poke(core);
}

/// A deleted thread that is ready does not wait for its turn to end.
pub fn forget(core: &Peer, thread: &Thread) {
    let mut queue = core.run_queue.lock();
    let ready = queue.ready.remove(thread);
    queue.publish(&core.ready_above);
    drop(queue);
    ready.iter().for_each(|thread| bury(thread));
}

/// Serve a vCPU's timer on its home core. False: the core has too many.
pub fn add_vcpu(core: &Peer, thread: &Ref<Thread>) -> bool {
    let mut queue = core.run_queue.lock();
    let Some(place) = queue.vcpus.iter_mut().find(|place| place.is_none()) else { return false };
    *place = Some(thread.clone());
    true
}

/// A vCPU ends: its place is free again.
pub fn remove_vcpu(core: &Peer, thread: &Thread) {
    let mut queue = core.run_queue.lock();
    let place = queue.vcpus.iter_mut().find(|place| place.as_ref().is_some_and(|vcpu| vcpu.is(thread)));
    let vcpu = place.and_then(Option::take);
    drop(queue);
    drop(vcpu);
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
    storm::timer_expired(&core.storm, now);
    core.reschedule.store(true, Ordering::Relaxed);
}

fn vcpus_of(core: &Peer) -> [Option<Ref<Thread>>; MAX_VCPUS] {
    core.run_queue.lock().vcpus.clone()
}

/// Program the core's timer for the next event it has to serve; none, if there is none.
pub fn arm_timer(core: &Core) {
    let vcpus = vcpus_of(core);
    let deadlines = vcpus.iter().flatten().map(|t| t.deadline.load(Ordering::Acquire));
    let again = if core.work.is_left() { slice_end() } else { 0 };
    let next = deadlines
        .chain([core.slice_end(), core.storm.deadline(), log::deadline(core.index), again])
        .filter(|&d| d != 0)
        .min();
    if next != core.armed.get() {
        core.armed.set(next);
        apic::set_timer(next);
    }
}

/// When a time slice that begins now ends.
pub fn slice_end() -> u64 {
    time::tsc() + time::tsc_hz() / SLICES_PER_SECOND
}

/// Put a thread to rest that is to stop or to die. True: it must not run.
pub fn retire(thread: &Thread) -> bool {
    if thread.is_dead() {
        bury(thread);
        return true;
    }
    if thread.kind() == ThreadKind::Decoupled || !handshake::is_stop_requested(thread.requests()) {
        return false;
    }
    if thread.is_recalling() {
        return false; // it holds the Task in which it has got to, and stops when it is through
    }
    destroy::disown(thread); // (once it has stopped, others may change it)
    thread.rest.state.stop(thread.requests())
}

/// A deleted thread, which is in no queue, will not run.
pub fn bury(thread: &Thread) {
    destroy::disown(thread);
    thread.recall.set(None); // nobody will be told that it is done
    thread.rest.state.set(State::Dead);
}

/// A thread whose fault nobody handles ends; it is named, unless somebody deleted it anyway.
pub fn kill(thread: &Thread, reason: &str) {
    if thread.mark_dead() {
        klog!("thread {} ends: {reason}", thread.name());
    }
    *thread.rest.waiting.lock() = Waiting::Nothing;
    thread.rest.state.set(State::Dead);
}

// SAFETY: repr(C), header first, made with Kind::Thread only.
unsafe impl Object for Thread {
    const KIND: Kind = Kind::Thread;

    /// The handlers that signal it, a core's in each step: one of them may be in its own CSpace, and each would keep the other.
    fn orphaned(&self) -> bool {
        let step = self.unbound.fetch_add(1, Ordering::Relaxed);
        if step == 0 {
            self.end();
        }
        self.kind() != ThreadKind::Vcpu || signal::unbind_the_dead(step)
    }

    fn dismantle(&self) -> bool {
        self.leases().into_iter().for_each(Lease::give_up);
        true
    }

    /// What it had may be used elsewhere only when no core uses it for the thread any more: this one may be about to copy a
    /// message, that one runs the thread.
    fn lease_ended(&self, lease: *const ()) -> bool {
        let lease = self.leases().into_iter().find(|own| core::ptr::addr_eq(*own, lease)).expect("its own");
        let take = || {
            if !self.lose_message(lease) {
                self.end();
            }
        };
        let over = handshake::take_away(&lease.awaited, take, percore::begin_era, percore::all_are_in);
        if over {
            lease.give_up();
        }
        over
    }

    #[cfg(feature = "check")]
    fn audit(&self, audit: &mut crate::check::Audit) {
        self.tell(audit);
    }
}

impl Thread {
    /// The thread does not run any more: its last capability was deleted, or that revoked by which it has its core or its page.
    pub fn end(&self) {
        self.mark_dead();
        self.cancel(Error::Cancelled);
        if let Some(core) = self.core() {
            if self.kind() == ThreadKind::Vcpu {
                remove_vcpu(core, self);
            }
            forget(core, self);
            poke(core);
        }
    }
}
