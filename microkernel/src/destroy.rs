//! The end of objects begins where an entry into the kernel ends, never where the last reference goes, since there locks may
//! be held. What is left after the entry's share belongs to the thread whose system call it was, which comes back from that
//! only when all is done; between two shares, interrupts and more urgent threads have their turn (`sched::leave`). What no
//! thread waits for is the core's own: it goes on in the idle loop, and with a share whenever the scheduler has been asked.

use core::sync::atomic::Ordering;

use kobj::STEPS;

use crate::object::{Thread, ThreadKind};
use crate::percore::{self, Core};

/// At the end of an entry, where no lock is held: do what it has begun, as far as the share lasts.
#[inline]
pub fn finish(core: &Core) {
    if core.work.has_begun() && !core.work.proceed() {
        core.reschedule.store(true, Ordering::Relaxed);
    }
}

/// Before the scheduler chooses: what this entry has not finished is the current thread's, if that would run on.
pub fn put_aside(core: &Core) {
    if core.work.has_begun() {
        // SAFETY: `current` counts it.
        let current = unsafe { core.current.get().as_ref() }.filter(|thread| thread.is_running());
        core.work.put_aside(current.map(|thread| &thread.unfinished));
    }
}

/// A share of what is to be done before the core goes on with `next`. False: there is more, and `next` waits for it.
pub fn go_on(core: &Core, next: Option<&Thread>) -> bool {
    if !core.work.go_on(next.map(|thread| &thread.unfinished)) {
        core.reschedule.store(true, Ordering::Relaxed);
    }
    let recalled = next.is_none_or(recall_some);
    // A decoupled thread is not to be disturbed later.
    let waits_for_all = next.is_none_or(|thread| thread.kind() == ThreadKind::Decoupled);
    recalled && next.is_none_or(|thread| thread.unfinished.is_empty()) && !(waits_for_all && core.work.is_left())
}

/// A share of what a thread's revocation still has to take away. True: there was nothing left. (After the last share the
/// scheduler is asked once more: the thread may have been told to stop meanwhile.)
fn recall_some(thread: &Thread) -> bool {
    let Some(mut recall) = thread.recall.take() else { return true };
    let done = (0..STEPS).any(|_| recall.step());
    thread.recall.set(Some(recall).filter(|_| !done));
    false
}

/// A thread comes to rest, or ends: what it has not finished is this core's.
pub fn disown(thread: &Thread) {
    if !thread.unfinished.is_empty() {
        let core = percore::core();
        core.work.adopt(&thread.unfinished);
        core.reschedule.store(true, Ordering::Relaxed);
    }
}
