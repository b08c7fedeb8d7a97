//! Kernel objects: what capabilities name.
//!
//! An object begins with a [`Header`] and lies in a page of the Untyped that paid for it. Two counts keep it: `caps`, the
//! capabilities; and `references`, all counted pointers (capabilities included). With the last capability the object is
//! *orphaned*: it stops doing what it did and wakes who waits for it. With the last reference its memory goes back.

mod cspace;
pub mod destroy;
mod devices;
mod endpoint;
mod range;
mod task;
mod thread;
mod untyped;

use core::cell::Cell;
use core::ops::Deref;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use abi::Error;

pub use cspace::{CSpace, Capability, Held, Lease, Parent};
pub use devices::{Cpu, IrqHandler, IrqSource, Log, Machine, Target, claim_vector};
pub use endpoint::{Endpoint, Notification, Queue, Reply, Waiters};
pub use kcore::handshake::State;
pub use range::Range;
pub use task::Task;
pub use thread::{Kind as ThreadKind, Thread, Waiting};
pub use untyped::{Untyped, create_child};

/// What an object is; the values are the ABI's KIND_*.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    Untyped = abi::KIND_UNTYPED as u8,
    CSpace = abi::KIND_CSPACE as u8,
    Task = abi::KIND_TASK as u8,
    Thread = abi::KIND_THREAD as u8,
    Endpoint = abi::KIND_ENDPOINT as u8,
    Reply = abi::KIND_REPLY as u8,
    Notification = abi::KIND_NOTIFICATION as u8,
    IrqHandler = abi::KIND_IRQ_HANDLER as u8,
    Cpu = abi::KIND_CPU as u8,
    Range = abi::KIND_RANGE as u8,
    Machine = abi::KIND_MACHINE as u8,
    Log = abi::KIND_LOG as u8,
}

/// First field of every object.
#[repr(C)]
pub struct Header {
    kind: Kind,
    references: AtomicU32,
    caps: AtomicU32,
    /// Who paid for the object's pages; `None` for objects that live for ever.
    payer: Option<Ref<Untyped>>,
    name: [AtomicU64; 2],
    /// The next object of the list that this one is in while it ends.
    ending: Cell<*mut Header>,
}

impl Header {
    /// A header whose one reference is about to be wrapped in a [`Ref`].
    pub fn new(kind: Kind, payer: Option<Ref<Untyped>>) -> Self {
        let name = [AtomicU64::new(0), AtomicU64::new(0)];
        let ending = Cell::new(core::ptr::null_mut());
        Self { kind, references: AtomicU32::new(1), caps: AtomicU32::new(0), payer, name, ending }
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn payer(&self) -> Option<&Ref<Untyped>> {
        self.payer.as_ref()
    }

    /// (references, capabilities)
    #[cfg(feature = "check")]
    pub fn counts(&self) -> (u32, u32) {
        (self.references.load(Ordering::SeqCst), self.caps.load(Ordering::SeqCst))
    }

    /// Have the object tell what it refers to and owns.
    #[cfg(feature = "check")]
    pub fn audit(&self, audit: &mut crate::check::Audit) {
        macro_rules! audit {
            ($($t:ident),*) => {
                match self.kind {
                    // SAFETY: the kind says what type the object is.
                    $(Kind::$t => unsafe { &*(&raw const *self).cast::<$t>() }.audit(audit),)*
                    Kind::Cpu | Kind::Machine | Kind::Log => {}
                }
            };
        }
        audit!(Untyped, CSpace, Task, Thread, Endpoint, Reply, Notification, IrqHandler, Range);
    }

    /// Whether the last capability is gone, which stays so. Whoever queues a thread at the object asks under the queue's lock,
    /// since `orphaned` takes that lock afterwards: it finds all who came before, and the others find out here.
    pub fn is_orphaned(&self) -> bool {
        self.caps.load(Ordering::Acquire) == 0
    }

    pub fn set_name(&self, words: [u64; 2]) {
        for (part, word) in self.name.iter().zip(words) {
            part.store(word, Ordering::Relaxed);
        }
    }

    /// Debug name, up to 16 bytes of ASCII.
    pub fn name(&self) -> Name {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.name[0].load(Ordering::Relaxed).to_le_bytes());
        bytes[8..].copy_from_slice(&self.name[1].load(Ordering::Relaxed).to_le_bytes());
        Name(bytes)
    }
}

pub struct Name([u8; 16]);

impl core::fmt::Display for Name {
    fn fmt(&self, f: &mut core::fmt::Formatter) -> core::fmt::Result {
        let length = self.0.iter().position(|&b| b == 0).unwrap_or(16);
        match core::str::from_utf8(&self.0[..length]) {
            Ok(name) if length > 0 => write!(f, "'{name}'"),
            _ => f.write_str("(unnamed)"),
        }
    }
}

/// A kernel object type.
///
/// # Safety
/// `#[repr(C)]` with a [`Header`] as the first field, whose kind is always `KIND`.
pub unsafe trait Object: Sized {
    const KIND: Kind;

    #[inline]
    fn header(&self) -> &Header {
        // SAFETY: every object begins with its Header.
        unsafe { &*(&raw const *self).cast() }
    }

    /// See [`Header::is_orphaned`].
    #[inline]
    fn is_orphaned(&self) -> bool {
        self.header().is_orphaned()
    }

    /// The last capability is gone: a part, of bounded length, of what is to be done then. Called with a reference held. True:
    /// that was all.
    fn orphaned(&self) -> bool {
        true
    }

    /// The last reference is gone: a part, of bounded length, of giving back what the object has. True: that was all but what
    /// its destructor does.
    fn dismantle(&mut self) -> bool {
        true
    }
}

/// A counted pointer to an object.
#[repr(transparent)]
pub struct Ref<T: Object> {
    object: NonNull<T>,
}

// SAFETY: objects are shared between cores; their fields are atomic, locked, or owned by a home core.
unsafe impl<T: Object> Send for Ref<T> {}
// SAFETY: as above.
unsafe impl<T: Object> Sync for Ref<T> {}

// SAFETY: Header is the common prefix; KIND is not consulted for it.
unsafe impl Object for Header {
    const KIND: Kind = Kind::Untyped;
}

impl<T: Object> Ref<T> {
    /// Put a new object into `memory` (page aligned, large enough, owned).
    ///
    /// # Safety
    /// `memory` must be unused and stay the object's until it is destroyed; `object`'s header must be fresh.
    pub unsafe fn new(memory: *mut u8, object: T) -> Self {
        let memory = memory.cast::<T>();
        // SAFETY: by the caller's promise.
        unsafe {
            memory.write(object);
            Self { object: NonNull::new_unchecked(memory) }
        }
    }

    pub fn any(self) -> Ref<Header> {
        let object = self.object.cast();
        core::mem::forget(self);
        Ref { object }
    }

    /// The counted pointer as a plain one; [`Ref::from_raw`] takes the count over again.
    pub fn into_raw(self) -> *const T {
        let pointer = self.object.as_ptr();
        core::mem::forget(self);
        pointer
    }

    /// # Safety
    /// `pointer` came from [`Ref::into_raw`], and its count has not been taken over yet.
    pub unsafe fn from_raw(pointer: *const T) -> Self {
        // SAFETY: by the caller's promise.
        Self { object: unsafe { NonNull::new_unchecked(pointer.cast_mut()) } }
    }

    /// A further count on an object that is known to be alive.
    pub fn of(object: &T) -> Self {
        let new = Self { object: NonNull::from(object) };
        new.header().references.fetch_add(1, Ordering::Relaxed);
        new
    }

    /// A further count on an object, unless it has none any more. Something else must keep its memory meanwhile.
    pub fn upgrade(object: &T) -> Option<Self> {
        let new = core::mem::ManuallyDrop::new(Self { object: NonNull::from(object) });
        let more = |count: u32| count.checked_add(1).filter(|_| count > 0);
        let counted = new.header().references.fetch_update(Ordering::AcqRel, Ordering::Relaxed, more).is_ok();
        counted.then(|| core::mem::ManuallyDrop::into_inner(new))
    }

    pub fn is(&self, other: &T) -> bool {
        core::ptr::eq(self.object.as_ptr(), other)
    }
}

impl Ref<Header> {
    /// As the object type `T`, where it is one.
    pub fn downcast<T: Object>(self) -> Result<Ref<T>, Error> {
        if self.kind != T::KIND {
            return Err(Error::WrongType);
        }
        let object = self.object.cast();
        core::mem::forget(self);
        Ok(Ref { object })
    }

    /// As [`Ref::downcast`], for a look.
    #[inline]
    pub fn downcast_ref<T: Object>(&self) -> Option<&Ref<T>> {
        // SAFETY: the kind says what type the object is; a Ref is its pointer, whatever the type.
        (self.kind == T::KIND).then(|| unsafe { &*(&raw const *self).cast() })
    }

    /// A capability to the object comes into being.
    fn add_cap(&self) {
        self.caps.fetch_add(1, Ordering::Relaxed);
    }

    /// A capability goes; the last one orphans the object.
    fn remove_cap(&self) {
        if self.caps.fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        if !destroy::orphan(self) {
            let object = core::mem::ManuallyDrop::new(self.clone()).object;
            destroy::end(object);
        }
    }
}

impl<T: Object> Deref for Ref<T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: the count keeps the object.
        unsafe { self.object.as_ref() }
    }
}

impl<T: Object> Clone for Ref<T> {
    #[inline]
    fn clone(&self) -> Self {
        self.header().references.fetch_add(1, Ordering::Relaxed);
        Self { object: self.object }
    }
}

impl<T: Object> Drop for Ref<T> {
    #[inline]
    fn drop(&mut self) {
        if self.header().references.fetch_sub(1, Ordering::AcqRel) == 1 {
            destroy::end(self.object.cast());
        }
    }
}

/// Make an object in a page of `payer`.
pub fn create<T: Object>(payer: &Ref<Untyped>, make: impl FnOnce(Header) -> T) -> Result<Ref<T>, Error> {
    let page = payer.allocate_page()?;
    // SAFETY: the page was just allocated.
    Ok(unsafe { put(payer, page, make) })
}

/// Make an object in a page of `payer`, and of others besides, whose address `make` gets.
fn create_with<T: Object>(
    payer: &Ref<Untyped>,
    owned: untyped::Pages,
    make: impl FnOnce(Header, u64) -> T,
) -> Result<Ref<T>, Error> {
    let (page, start) = payer.allocate(owned)?;
    // SAFETY: as above.
    Ok(unsafe { put(payer, page, |header| make(header, start)) })
}

/// # Safety
/// The page was allocated from `payer` and is not in use.
unsafe fn put<T: Object>(payer: &Ref<Untyped>, page: u64, make: impl FnOnce(Header) -> T) -> Ref<T> {
    const { assert!(size_of::<T>() <= 4096) };
    let header = Header::new(T::KIND, Some(payer.clone()));
    // SAFETY: by the caller's promise.
    unsafe { Ref::new(crate::arch::memory::to_virtual(page), make(header)) }
}
