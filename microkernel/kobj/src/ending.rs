//! The end of objects, in steps. What user level made may be as large as its memory, so an object ends in steps of bounded
//! length, and a core does at most [`STEPS`] of them at a time. Whose they are that are left, the scheduler says.

use core::cell::Cell;
use core::ptr::{NonNull, null_mut};

use crate::header::{Header, end_some};

/// Steps of one share. A step is a call of `Object::orphaned` or `Object::dismantle`, or one of a revocation's
/// way through the page tables.
pub const STEPS: u32 = 64;

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
        // SAFETY: what is in the list is ending, and its header lives until it is taken out.
        self.first.set(unsafe { object.as_ref() }.ending.get());
        Some(object)
    }

    /// Take over what is in another list.
    fn append(&self, other: &Ending) {
        let Some(more) = NonNull::new(other.first.replace(null_mut())) else { return };
        if self.is_empty() {
            self.first.set(more.as_ptr());
        } else {
            // SAFETY: what is in the list is ending, and its header lives until it is taken out.
            unsafe { &*self.last.get() }.ending.set(more.as_ptr());
        }
        self.last.set(other.last.get());
    }
}

#[cfg(feature = "check")]
impl Ending {
    pub fn audit(&self, audit: &mut crate::check::Audit) {
        let mut at = self.first.get();
        // SAFETY: what is in the list is ending, and its header lives until it is taken out.
        while let Some(object) = unsafe { at.as_ref() } {
            audit.ending(object);
            at = object.ending.get();
        }
    }
}

/// What a core has to destroy. All-zero is its beginning; it belongs to the core.
pub struct Work {
    /// Begun in the present entry into the kernel.
    present: Ending,
    /// What no thread waits for.
    own: Ending,
    /// Steps that the present share has left.
    steps: Cell<u32>,
}

impl Work {
    pub const fn new() -> Self {
        Self { present: Ending::new(), own: Ending::new(), steps: Cell::new(0) }
    }

    /// Whether the core must look again though no thread waits for it.
    pub fn is_left(&self) -> bool {
        !self.own.is_empty()
    }

    /// What no thread waits for (any more) is the core's.
    pub fn adopt(&self, list: &Ending) {
        self.own.append(list);
    }

    /// An object ends: its last reference is gone, or with its last capability it is orphaned, and the one reference is
    /// given along. Whoever drops a reference may hold locks that steps take, so it only comes into the list; and so does
    /// what the end of another gives up, along a chain that user level made as long as it likes.
    #[cold]
    pub fn begin(&self, object: crate::platform::EndOf) {
        self.present.push(object.0.cast());
    }

    /// Whether the present entry has begun the end of an object.
    #[inline]
    pub fn has_begun(&self) -> bool {
        !self.present.is_empty()
    }

    /// Do steps of what the present entry has begun while there are any, and the share lasts. False: there is more. No lock
    /// is held.
    #[cold]
    pub fn proceed(&self) -> bool {
        while self.steps.get() > 0
            && let Some(object) = self.present.pop()
        {
            self.steps.set(self.steps.get() - 1);
            if !end_some(object) {
                self.present.push(object);
            }
        }
        self.present.is_empty()
    }

    /// What the present entry has not finished goes into `list`, or is the core's.
    pub fn put_aside(&self, list: Option<&Ending>) {
        list.unwrap_or(&self.own).append(&self.present);
    }

    /// A share: of `list` first, then of what is the core's. False: there is more.
    pub fn go_on(&self, list: Option<&Ending>) -> bool {
        self.steps.set(STEPS);
        self.own.append(&self.present); // begun by the scheduler
        let mut done = true;
        for list in list.into_iter().chain([&self.own]) {
            if !list.is_empty() {
                self.present.append(list);
                done &= self.proceed();
                list.append(&self.present);
            }
        }
        done
    }

    #[cfg(feature = "check")]
    pub fn audit(&self, audit: &mut crate::check::Audit) {
        self.present.audit(audit);
        self.own.audit(audit);
    }
}
