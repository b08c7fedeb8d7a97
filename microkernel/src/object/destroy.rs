//! The end of objects, in steps. What user level made may be as large as its memory, so an object ends in steps of bounded
//! length, and an entry into the kernel does at most [`STEPS`] of them. What is left then belongs to the thread whose system
//! call it was, which comes back from that only when all is done; between two shares, interrupts and more urgent threads have
//! their turn (`sched::leave`). What no thread waits for is the core's own: it goes on in the idle loop, and with a share
//! whenever the scheduler has been asked.

use core::cell::Cell;
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::Ordering;

use super::{
    CSpace, Cpu, Endpoint, Header, IrqHandler, Kind, Log, Machine, Notification, Object, Range, Ref, Reply, Task,
    Thread, ThreadKind, Untyped,
};
use crate::arch::{self, Core};

/// Steps of one share. A step is a call of [`Object::orphaned`] or [`Object::dismantle`].
const STEPS: u32 = 64;

/// Objects that are ending, linked through their headers. It belongs to the core that runs its thread.
pub struct Ending {
    first: Cell<*mut Header>,
    last: Cell<*mut Header>,
}

impl Ending {
    pub const fn new() -> Self {
        Self { first: Cell::new(null_mut()), last: Cell::new(null_mut()) }
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.first.get().is_null()
    }

    #[inline]
    fn push(&self, object: NonNull<Header>) {
        // SAFETY: an object that is ending is in one such list, or on its way into one; its header lives until then.
        unsafe { object.as_ref() }.ending.set(self.first.get());
        if self.is_empty() {
            self.last.set(object.as_ptr());
        }
        self.first.set(object.as_ptr());
    }

    #[inline]
    fn pop(&self) -> Option<NonNull<Header>> {
        let object = NonNull::new(self.first.get())?;
        // SAFETY: as in `push`.
        self.first.set(unsafe { object.as_ref() }.ending.get());
        Some(object)
    }

    /// Take over what is in another list.
    fn append(&self, other: &Ending) {
        let Some(more) = NonNull::new(other.first.replace(null_mut())) else { return };
        if self.is_empty() {
            self.first.set(more.as_ptr());
        } else {
            // SAFETY: as in `push`.
            unsafe { &*self.last.get() }.ending.set(more.as_ptr());
        }
        self.last.set(other.last.get());
    }
}

#[cfg(feature = "check")]
impl Ending {
    pub fn audit(&self, audit: &mut crate::check::Audit) {
        let mut at = self.first.get();
        // SAFETY: as in `push`.
        while let Some(object) = unsafe { at.as_ref() } {
            audit.ending(object);
            at = object.ending.get();
        }
    }
}

/// What a core has to destroy. All-zero is its beginning.
pub struct Work {
    /// Begun in the present entry into the kernel.
    present: Ending,
    /// What no thread waits for.
    own: Ending,
    /// Steps that the present share has left.
    steps: Cell<u32>,
}

impl Work {
    /// Whether the core must look again though no thread waits for it.
    pub fn is_left(&self) -> bool {
        !self.own.is_empty()
    }

    #[cfg(feature = "check")]
    pub fn audit(&self, audit: &mut crate::check::Audit) {
        self.present.audit(audit);
        self.own.audit(audit);
    }
}

/// An object ends: its last reference is gone, or with its last capability it is orphaned, and the one reference is given
/// along. Whoever drops a reference may hold locks that steps take, so it only comes into the list; and so does what the end
/// of another gives up, along a chain that user level made as long as it likes.
#[cold]
pub fn end(object: NonNull<Header>) {
    arch::core().work.present.push(object);
}

/// At the end of an entry, where no lock is held: do what it has begun, as far as the share lasts.
#[inline]
pub fn finish(core: &Core) {
    if !core.work.present.is_empty() {
        proceed(core);
    }
}

/// Do steps while there are any, and the share lasts.
#[cold]
fn proceed(core: &Core) {
    let work = &core.work;
    while work.steps.get() > 0
        && let Some(object) = work.present.pop()
    {
        work.steps.set(work.steps.get() - 1);
        if !step(object) {
            work.present.push(object);
        }
    }
    if !work.present.is_empty() {
        core.reschedule.store(true, Ordering::Relaxed);
    }
}

/// Before the scheduler chooses: what this entry has not finished is the current thread's, if that would run on.
pub fn put_aside(core: &Core) {
    if core.work.present.is_empty() {
        return;
    }
    // SAFETY: `current` counts it.
    let current = unsafe { core.current.get().as_ref() }.filter(|thread| thread.is_running());
    current.map_or(&core.work.own, |thread| &thread.unfinished).append(&core.work.present);
}

/// A share of what is to be done before the core goes on with `next`. False: there is more, and `next` waits for it.
pub fn go_on(core: &Core, next: Option<&Thread>) -> bool {
    let work = &core.work;
    work.steps.set(STEPS);
    work.own.append(&work.present); // begun by the scheduler
    for list in next.map(|thread| &thread.unfinished).into_iter().chain([&work.own]) {
        if !list.is_empty() {
            work.present.append(list);
            proceed(core);
            list.append(&work.present);
        }
    }
    // A decoupled thread is not to be disturbed later.
    let waits_for_all = next.is_none_or(|thread| thread.kind() == ThreadKind::Decoupled);
    next.is_none_or(|thread| thread.unfinished.is_empty()) && !(waits_for_all && work.is_left())
}

/// A thread comes to rest, or ends: what it has not finished is this core's.
pub fn disown(thread: &Thread) {
    if !thread.unfinished.is_empty() {
        let core = arch::core();
        core.work.own.append(&thread.unfinished);
        core.reschedule.store(true, Ordering::Relaxed);
    }
}

macro_rules! for_kind {
    ($kind:expr, $type:ident => $do:expr) => {
        for_kind!(@each $kind, $type, $do, Untyped CSpace Task Thread Endpoint Reply Notification IrqHandler Cpu Range Machine Log)
    };
    (@each $kind:expr, $type:ident, $do:expr, $($t:ident)*) => {
        match $kind {
            $(Kind::$t => { type $type = $t; $do })*
        }
    };
}

/// A part of what the loss of the last capability asks for. True: that was all.
pub fn orphan(object: &Ref<Header>) -> bool {
    // SAFETY: the kind says what type the object is; the count keeps it.
    for_kind!(object.kind, T => unsafe { object.object.cast::<T>().as_ref() }.orphaned())
}

/// A part of an object's end. True: that was all, and if it was its destruction, the object is gone.
fn step(object: NonNull<Header>) -> bool {
    // SAFETY: the header lives as long as the object is in a list.
    let kind = unsafe { object.as_ref() }.kind;
    // SAFETY: as above. (Without references, nobody can make one.)
    if unsafe { object.as_ref() }.references.load(Ordering::Acquire) > 0 {
        let object = Ref { object };
        let done = orphan(&object);
        if !done {
            core::mem::forget(object); // the list keeps it
        }
        return done;
    }
    // SAFETY: the kind says what type the object is, and nobody else can reach it any more.
    let done = for_kind!(kind, T => unsafe { object.cast::<T>().as_mut() }.dismantle());
    if done {
        destroy(object, kind);
    }
    done
}

/// Run the type's destructor and give the object's own page back.
fn destroy(object: NonNull<Header>, kind: Kind) {
    // SAFETY: nobody else can reach the object; what is needed after its destructor is taken out before.
    let Some(payer) = (unsafe { object.as_ref().payer.clone() }) else {
        return; // made by the kernel for ever: it never gets here, since the kernel keeps a reference
    };
    // SAFETY: as in `step`.
    for_kind!(kind, T => unsafe { core::ptr::drop_in_place(object.cast::<T>().as_ptr()) });
    payer.free(arch::memory::to_physical(object.as_ptr()), 1);
}
