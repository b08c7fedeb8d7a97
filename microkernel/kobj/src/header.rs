//! What every object begins with, and the counted pointers to it.
//!
//! Two counts keep an object: `caps`, the capabilities; and `references`, all counted pointers (capabilities included). With
//! the last capability the object is *orphaned*: it stops doing what it did and wakes who waits for it. With the last
//! reference its memory goes back.

use core::cell::{Cell, UnsafeCell};
use core::mem::ManuallyDrop;
use core::ops::Deref;
use core::ptr::NonNull;

use abi::Error;

use crate::atomic::{AtomicU64, Count, Ordering};
use crate::{Untyped, platform};

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

/// What a type of objects does in its end: functions of [`Object`], for whoever knows only the header.
struct Class {
    kind: Kind,
    orphaned: unsafe fn(NonNull<Header>) -> bool,
    /// A part of the end, and with the last the destructor.
    dismantle: unsafe fn(NonNull<Header>) -> bool,
    lease_ended: unsafe fn(NonNull<Header>, *const ()) -> bool,
    #[cfg(feature = "check")]
    audit: unsafe fn(NonNull<Header>, &mut crate::check::Audit),
}

impl Class {
    const fn of<T: Object>() -> Self {
        /// # Safety
        /// The header is that of a living `T`.
        unsafe fn the<'a, T>(object: NonNull<Header>) -> &'a T {
            // SAFETY: by the caller's promise.
            unsafe { object.cast().as_ref() }
        }
        Self {
            kind: T::KIND,
            // SAFETY: who calls these has an object of this class.
            orphaned: |object| unsafe { the::<T>(object) }.orphaned(),
            dismantle: |object| {
                // SAFETY: who calls this has an object of this class.
                let done = unsafe { the::<T>(object) }.dismantle();
                if done {
                    // SAFETY: nobody else can reach it any more.
                    unsafe { object.cast::<T>().drop_in_place() };
                }
                done
            },
            // SAFETY: who calls this has an object of this class.
            lease_ended: |object, lease| unsafe { the::<T>(object) }.lease_ended(lease),
            #[cfg(feature = "check")]
            // SAFETY: who calls this has an object of this class.
            audit: |object, audit| unsafe { the::<T>(object) }.audit(audit),
        }
    }
}

/// First field of every object.
#[repr(C)]
pub struct Header {
    kind: Kind,
    references: Count,
    caps: AtomicU64,
    class: &'static Class,
    /// Who paid for the object's pages; `None` for objects that live for ever.
    /// (Its count is given up when the pages have gone back, after the object's destructor.)
    payer: ManuallyDrop<Option<Ref<Untyped>>>,
    name: [Count; 2],
    /// The next object of the list that this one is in while it ends.
    pub(crate) ending: Cell<*mut Header>,
}

impl Header {
    /// The header of a new `T`, whose one reference is about to be wrapped in a [`Ref`].
    pub fn new<T: Object>(payer: Option<Ref<Untyped>>) -> Self {
        let name = [Count::new(0), Count::new(0)];
        let ending = Cell::new(core::ptr::null_mut());
        let class = const { &Class::of::<T>() };
        Self {
            kind: class.kind,
            references: Count::new(1),
            caps: AtomicU64::new(0),
            class,
            payer: ManuallyDrop::new(payer),
            name,
            ending,
        }
    }

    #[inline]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn payer(&self) -> Option<&Ref<Untyped>> {
        self.payer.as_ref()
    }

    /// (references, capabilities)
    #[cfg(any(test, feature = "check"))]
    pub fn counts(&self) -> (u64, u64) {
        (self.references.load(Ordering::SeqCst), self.caps.load(Ordering::SeqCst))
    }

    /// As if there were so many more counted pointers and capabilities.
    #[cfg(test)]
    pub(crate) fn pretend(&self, more: u64) {
        self.references.fetch_add(more, Ordering::SeqCst);
        self.caps.fetch_add(more, Ordering::SeqCst);
    }

    /// Have the object tell what it refers to and owns.
    #[cfg(feature = "check")]
    pub fn audit(&self, audit: &mut crate::check::Audit) {
        // SAFETY: the class is that of the object's type.
        unsafe { (self.class.audit)(NonNull::from(self), audit) }
    }

    /// Whether the last capability is gone, which stays so. Whoever queues a thread at the object asks under the queue's lock,
    /// since `orphaned` takes that lock afterwards: it finds all who came before, and the others find out here.
    #[inline]
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

    /// The last capability is gone: a part, of bounded length, of what is to be done then. Called with a reference held. True:
    /// that was all.
    fn orphaned(&self) -> bool {
        true
    }

    /// The last reference is gone: a part, of bounded length, of giving back what the object has. True: that was all but what
    /// its destructor does.
    /// (Not `&mut`: the lists that it is in may still lead others to it, who find that it has no references.)
    fn dismantle(&self) -> bool {
        true
    }

    /// The object holds a [`Lease`](crate::Lease), at this address, that is being revoked. True: it has given it up; else it is
    /// asked again.
    fn lease_ended(&self, _: *const ()) -> bool {
        unreachable!("it holds none")
    }

    /// Tell what it refers to and owns.
    #[cfg(feature = "check")]
    fn audit(&self, _: &mut crate::check::Audit) {}
}

/// What only [`Object::dismantle`] changes.
pub struct Remains<T>(UnsafeCell<T>);

impl<T> Remains<T> {
    pub const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// # Safety
    /// Called by `dismantle`, once in each of its steps.
    #[allow(clippy::mut_from_ref, reason = "there is one core that dismantles an object, and it is in one step")]
    pub unsafe fn get(&self) -> &mut T {
        // SAFETY: by the caller's promise nobody else has a reference to it.
        unsafe { &mut *self.0.get() }
    }

    /// # Safety
    /// No step is under way.
    #[cfg(feature = "check")]
    pub unsafe fn look(&self) -> &T {
        // SAFETY: by the caller's promise.
        unsafe { &*self.0.get() }
    }
}

/// A counted pointer to an object.
#[repr(transparent)]
pub struct Ref<T: Object> {
    object: NonNull<T>,
}

// SAFETY: objects are shared between cores; their fields are atomic, locked, or owned by a home core.
unsafe impl<T: Object> Send for Ref<T> {}
// SAFETY: objects are shared between cores; their fields are atomic, locked, or owned by a home core.
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
    #[inline]
    pub fn into_raw(self) -> *const T {
        let pointer = self.object.as_ptr();
        core::mem::forget(self);
        pointer
    }

    /// # Safety
    /// `pointer` came from [`Ref::into_raw`], and its count has not been taken over yet.
    #[inline]
    pub unsafe fn from_raw(pointer: *const T) -> Self {
        // SAFETY: by the caller's promise.
        Self { object: unsafe { NonNull::new_unchecked(pointer.cast_mut()) } }
    }

    /// A further count on an object that is known to be alive.
    #[inline]
    pub fn of(object: &T) -> Self {
        let new = Self { object: NonNull::from(object) };
        new.header().references.fetch_add(1, Ordering::Relaxed);
        new
    }

    /// A further count on an object, unless it has none any more. Something else must keep its memory meanwhile.
    pub fn upgrade(object: &T) -> Option<Self> {
        // SAFETY: a reference is the address of an object.
        unsafe { Self::upgrade_at(NonNull::from(object)) }
    }

    /// As [`Ref::upgrade`], by address.
    ///
    /// # Safety
    /// There is an object at `object`, whose memory stays meanwhile.
    pub(crate) unsafe fn upgrade_at(object: NonNull<T>) -> Option<Self> {
        let new = ManuallyDrop::new(Self { object });
        let more = |count: u64| (count > 0).then(|| count + 1);
        let counted = new.header().references.fetch_update(Ordering::AcqRel, Ordering::Relaxed, more).is_ok();
        counted.then(|| ManuallyDrop::into_inner(new))
    }

    #[inline]
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
    pub(crate) fn add_cap(&self) {
        self.caps.fetch_add(1, Ordering::Relaxed);
    }

    /// A capability goes; the last one orphans the object.
    pub(crate) fn remove_cap(&self) {
        if self.caps.fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        if !self.orphan() {
            // The list keeps a count until the rest of it is done.
            end(ManuallyDrop::new(self.clone()).object);
        }
    }

    /// A part of what the loss of the last capability asks for. True: that was all.
    pub(crate) fn orphan(&self) -> bool {
        // SAFETY: the class is that of the object's type; the count keeps the object.
        unsafe { (self.class.orphaned)(self.object) }
    }

    /// See [`Object::lease_ended`].
    pub(crate) fn end_lease(&self, lease: *const ()) -> bool {
        // SAFETY: the class is that of the object's type; the count keeps the object.
        unsafe { (self.class.lease_ended)(self.object, lease) }
    }
}

impl<T: Object> Deref for Ref<T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the count keeps the object.
        unsafe { self.object.as_ref() }
    }
}

impl<T: Object> Clone for Ref<T> {
    #[inline]
    fn clone(&self) -> Self {
        // (By its own pointer: one from the reference would be to a Header where this is the Ref of one, not to all of the object.)
        let new = Self { object: self.object };
        new.header().references.fetch_add(1, Ordering::Relaxed);
        new
    }
}

impl<T: Object> Drop for Ref<T> {
    #[inline]
    fn drop(&mut self) {
        if self.header().references.fetch_sub(1, Ordering::AcqRel) == 1 {
            end(self.object.cast());
        }
    }
}

/// The end of an object begins: it comes into the list of the core.
#[cold]
fn end(object: NonNull<Header>) {
    platform::begin(platform::EndOf(object.cast()));
}

/// A part of an object's end. True: that was all, and if it was its destruction, the object is gone.
pub(crate) fn end_some(object: NonNull<Header>) -> bool {
    // SAFETY: the header lives as long as the object is in a list.
    let references = unsafe { &object.as_ref().references };
    // (Without references, nobody can make one.)
    if references.load(Ordering::Acquire) > 0 {
        let object = ManuallyDrop::new(Ref { object });
        let done = object.orphan();
        if done {
            drop(ManuallyDrop::into_inner(object)); // else the list keeps the count
        }
        return done;
    }
    let page = platform::to_physical(object.as_ptr());
    // A pointer into the page that was not made from a reference to the object, which may not be written.
    let object = NonNull::new(platform::to_virtual(page).cast::<Header>()).expect("mapped");
    // SAFETY: the class is that of the object's type, and the object lives until it has been dismantled.
    let done = unsafe { (object.as_ref().class.dismantle)(object) };
    if done {
        // SAFETY: the destructor leaves the payer, which is taken out once. (Without one an object is the kernel's for ever,
        // since the kernel keeps a reference.)
        let payer = unsafe { ManuallyDrop::take(&mut (*object.as_ptr()).payer) };
        payer.expect("ends").free(page, 1);
    }
    done
}
