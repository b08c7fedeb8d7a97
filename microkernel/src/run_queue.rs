//! What is ready on a core.

use core::sync::atomic::{AtomicU32, Ordering};

use crate::object::{Queue, Ref, Thread};
#[cfg(feature = "check")]
use crate::object::{State, ThreadKind};

/// vCPUs that can have their home on one core.
pub const MAX_VCPUS: usize = 4;

/// What is ready on a core, and whose timers it serves.
pub struct RunQueue {
    pub ready: Queue,
    pub vcpus: [Option<Ref<Thread>>; MAX_VCPUS],
}

impl RunQueue {
    pub const fn new() -> Self {
        Self { ready: Queue::new(), vcpus: [const { None }; MAX_VCPUS] }
    }

    /// Make a thread wait for its turn; but give one back that was deleted, since `forget`, which comes after the deletion,
    /// may have been here before.
    #[must_use]
    pub fn push(&mut self, ready_above: &AtomicU32, thread: Ref<Thread>) -> Option<Ref<Thread>> {
        if thread.is_dead() {
            return Some(thread);
        }
        self.ready.push(thread);
        self.publish(ready_above);
        None
    }

    pub fn pop(&mut self, ready_above: &AtomicU32) -> Option<Ref<Thread>> {
        let thread = self.ready.pop();
        self.publish(ready_above);
        thread
    }

    /// Tell the fast path, which does not take the lock.
    pub fn publish(&self, ready_above: &AtomicU32) {
        let above = self.ready.first_priority().map_or(0, |p| u32::from(p) + 1);
        ready_above.store(above, Ordering::Relaxed);
    }
}

#[cfg(feature = "check")]
impl RunQueue {
    pub fn audit(&self, audit: &mut crate::check::Audit, core: usize) {
        self.ready.audit(audit, State::Ready, |thread| {
            crate::holds!(thread, thread.home_index() == Some(core), "ready on core {}, not its own", core);
        });
        for thread in self.vcpus.iter().flatten() {
            audit.reference(thread);
            let at_home = thread.kind() == ThreadKind::Vcpu && thread.home_index() == Some(core);
            crate::holds!(&**thread, at_home, "core {} serves its timer, but it is no vCPU of that core", core);
        }
    }
}
