//! CSpace: a thread's capabilities, and the derivation of each from another.
//!
//! All slots of the system that hold a capability are in one list, each with two marks: what was derived from a capability
//! has its marks between that one's *open* and *close*, like brackets. So a capability goes with no more than its own two
//! marks, and what was derived from it is then derived from what it was derived from itself. One lock orders changes of
//! that list; a look-up takes only its own CSpace's lock.

use core::cell::UnsafeCell;
use core::mem::offset_of;
use core::ops::Range as Span;
use core::ptr::{NonNull, null, null_mut};

use abi::Error;

use crate::atomic::{AtomicU32, Count, Ordering, statics};
use crate::platform::to_virtual;
use crate::sync::{FairGuard, FairLock, Guard, SpinLock};
use crate::{Header, Kind, Object, Pages, Ref, Remains, Untyped, create_with};

/// What a look-up gives, all of it at once: the object (counted) and what the capability allows.
pub struct Capability<T: Object = Header> {
    pub object: Ref<T>,
    pub badge: u64,
    pub rights: u64,
}

impl<T: Object> Capability<T> {
    /// What is derived from this capability, which was looked up in a slot, names it so.
    pub fn parent<'a>(&self, space: &'a CSpace, index: u64) -> Parent<'a> {
        Parent { space, index, object: (&raw const *self.object).cast(), badge: self.badge, rights: self.rights }
    }
}

/// The capability that something new is derived from, as it was looked up: meanwhile another core may have deleted or moved
/// it, and put another in its place.
pub struct Parent<'a> {
    space: &'a CSpace,
    index: u64,
    object: *const Header,
    badge: u64,
    rights: u64,
}

impl Parent<'_> {
    /// Its slot, if that holds a capability to the same object that allows the same: what is derived now could not tell it
    /// from the one that was looked up. The derivation lock must be held.
    fn slot(&self) -> Result<*mut Slot, Error> {
        let slot = self.space.slot(self.index)?;
        // SAFETY: a valid slot, under the derivation lock.
        let (object, Allowed { badge, rights, .. }) = unsafe { (&(*slot).object, (*slot).allowed) };
        let same_object = object.as_ref().is_some_and(|object| core::ptr::eq(&raw const **object, self.object));
        let same = same_object && badge == self.badge && u64::from(rights) == self.rights;
        same.then_some(slot).ok_or(Error::NoCapability)
    }
}

#[repr(align(64))]
struct Slot {
    object: Option<Ref<Header>>,
    allowed: Allowed,
    open: Mark,
    close: Mark,
    /// Of a filled slot; null of a [`Lease`]. (An empty slot may be all zero.)
    space: *const CSpace,
}

/// What a capability allows. (The badge of a [`Lease`] is its holder's address.)
#[derive(Clone, Copy)]
struct Allowed {
    badge: u64,
    rights: u8,
    /// A capability is one deeper than that to the same object which it was derived from (saturating); the first has depth 0.
    depth: u32,
}

impl Allowed {
    /// By a capability that is derived from this one.
    fn derived(self, badge: u64, rights: u8) -> Self {
        Self { badge, rights: self.rights & rights, depth: self.depth.saturating_add(1) }
    }
}

/// One of a slot's two places in the list.
struct Mark {
    previous: *mut Mark,
    next: *mut Mark,
}

const _: () = assert!(size_of::<Slot>() == 64);

/// # Safety
/// The marks are in the list, or null; the derivation lock is held.
unsafe fn link(before: *mut Mark, after: *mut Mark) {
    // SAFETY: by the caller's promise.
    unsafe {
        if let Some(before) = before.as_mut() {
            before.next = after;
        }
        if let Some(after) = after.as_mut() {
            after.previous = before;
        }
    }
}

/// The slot that a mark is the `open` of.
fn slot_of(open: *mut Mark) -> *mut Slot {
    open.wrapping_byte_sub(offset_of!(Slot, open)).cast()
}

#[repr(C)]
pub struct CSpace {
    header: Header,
    lock: SpinLock<()>,
    slots: *mut Slot,
    count: u64,
    /// The pages of the slots, while they are not given back.
    pages: Remains<Span<u64>>,
    /// In the end: the next slot to empty.
    next: Remains<u64>,
}

// SAFETY: repr(C), header first, made with Kind::CSpace only.
unsafe impl Object for CSpace {
    const KIND: Kind = Kind::CSpace;

    fn dismantle(&self) -> bool {
        // SAFETY: the one place that uses them, in `dismantle`.
        let (next, pages) = unsafe { (self.next.get(), self.pages.get()) };
        if *next < self.count {
            let slots = *next..self.count.min(*next + SLOTS_OF_STEP);
            *next = slots.end;
            for i in slots {
                let _ = self.delete(i); // it may be empty
            }
            return false;
        }
        self.header.payer().is_none_or(|payer| payer.free_some(pages))
    }

    #[cfg(feature = "check")]
    fn audit(&self, audit: &mut crate::check::Audit) {
        self.tell(audit);
    }
}

/// Capabilities that are deleted in one step of a destruction.
const SLOTS_OF_STEP: u64 = 16;

statics! {
    /// Orders changes of the derivation list.
    static DERIVATION: FairLock = FairLock::new();
    /// Held by who revokes, for all of its call: while something is being revoked, nothing is added to it. It is taken before
    /// `DERIVATION`. Deleting does not take it: the end of objects, which comes with revocation, deletes.
    static GROWTH: FairLock = FairLock::new();
    /// Somebody revokes. Set and cleared under both locks.
    static REVOKING: AtomicU32 = AtomicU32::new(0);
}

/// The lock of who adds to the derivation list: none while somebody revokes. Who finds that so waits in turn with those who
/// revoke, so that these cannot keep it waiting either.
#[inline(always)]
fn lock_to_derive() -> FairGuard<'static> {
    let guard = DERIVATION.lock();
    if REVOKING.load(Ordering::Relaxed) == 0 { guard } else { wait_for_revocation(guard) }
}

#[cold]
fn wait_for_revocation(guard: FairGuard<'static>) -> FairGuard<'static> {
    drop(guard);
    let _nobody_revokes = GROWTH.lock();
    DERIVATION.lock() // who revokes next takes this too before it begins
}

/// While it lives, nothing is derived.
struct Revocation(#[allow(dead_code, reason = "held")] FairGuard<'static>);

impl Revocation {
    fn begin() -> Self {
        let this = Self(GROWTH.lock());
        let _guard = DERIVATION.lock();
        REVOKING.store(1, Ordering::Relaxed);
        this
    }
}

impl Drop for Revocation {
    fn drop(&mut self) {
        let _guard = DERIVATION.lock();
        REVOKING.store(0, Ordering::Relaxed);
    }
}

impl CSpace {
    pub fn create(payer: &Ref<Untyped>, count: u64) -> Result<Ref<CSpace>, Error> {
        if count == 0 || count > 1 << 20 {
            return Err(Error::BadArgument);
        }
        let pages = (count * size_of::<Slot>() as u64).div_ceil(4096);
        create_with(payer, Pages::wiped(pages), |header, physical| {
            let slots = to_virtual(physical).cast(); // all zero: empty
            let pages = physical..physical + pages * 4096;
            CSpace { header, lock: SpinLock::new(()), slots, count, pages: Remains::new(pages), next: Remains::new(1) }
        })
    }

    fn slot(&self, index: u64) -> Result<*mut Slot, Error> {
        if index == 0 || index >= self.count {
            return Err(Error::NoCapability);
        }
        // SAFETY: in range.
        Ok(unsafe { self.slots.add(index as usize) })
    }

    /// Look at capabilities. All operands of a call are looked up under one hold, each once: two look-ups of one slot may find
    /// two capabilities.
    #[inline]
    pub fn hold(&self) -> Held<'_> {
        Held { space: self, _guard: self.lock.lock() }
    }

    /// The first capability to a new object, derived from the one that `parent` names.
    pub fn insert_new(&self, index: u64, object: Ref<Header>, parent: Option<Parent>) -> Result<(), Error> {
        let _guard = lock_to_derive();
        // SAFETY: the derivation lock is held.
        let slot = unsafe { self.empty_slot(index) }?;
        let parent = parent.map(|parent| parent.slot()).transpose()?;
        object.add_cap();
        // SAFETY: both slots are valid and the derivation lock is held.
        unsafe { fill(Some(self), slot, object, Allowed { badge: 0, rights: abi::RIGHT_ALL as u8, depth: 0 }, parent) };
        Ok(())
    }

    /// A slot that is empty.
    ///
    /// # Safety
    /// This CSpace's lock is held, or the derivation lock: whoever fills or empties a slot holds both.
    unsafe fn empty_slot(&self, index: u64) -> Result<*mut Slot, Error> {
        let slot = self.slot(index).map_err(|_| Error::BadArgument)?;
        // SAFETY: by the caller's promise nobody writes it.
        if unsafe { (*slot).object.is_some() } { Err(Error::Occupied) } else { Ok(slot) }
    }

    /// Whether something can come into a slot, as things are now.
    pub fn check_empty(&self, index: u64) -> Result<(), Error> {
        let _guard = self.lock.lock();
        // SAFETY: the lock is held.
        unsafe { self.empty_slot(index) }.map(drop)
    }

    /// Copy a capability from `source_space`. Rights only fall; a badge is set once.
    pub fn copy_from(
        &self,
        source_space: &CSpace,
        source: u64,
        destination: u64,
        rights: u64,
        badge: u64,
    ) -> Result<(), Error> {
        let _guard = lock_to_derive();
        let from = source_space.slot(source)?;
        // SAFETY: the derivation lock is held.
        let to = unsafe { self.empty_slot(destination) }?;
        // SAFETY: a valid slot, under the derivation lock.
        let (object, old) = unsafe { ((&(*from).object).clone().ok_or(Error::NoCapability)?, (*from).allowed) };
        let badge = match (old.badge, badge) {
            (old, 0) => old,
            (0, new) => new,
            // The ceiling of priorities only falls.
            (old, new) if object.kind() == Kind::Cpu && new <= old => new,
            _ => return Err(Error::BadState),
        };
        object.add_cap();
        // SAFETY: `to` is an empty slot of this CSpace and `from` a filled one, under the derivation lock.
        unsafe { fill(Some(self), to, object, old.derived(badge, rights as u8), Some(from)) };
        Ok(())
    }

    /// Move a capability; what was derived from it stays so.
    pub fn move_within(&self, source: u64, destination: u64) -> Result<(), Error> {
        let _guard = DERIVATION.lock();
        let from = self.slot(source)?;
        // SAFETY: the derivation lock is held.
        let to = unsafe { self.empty_slot(destination) }?;
        // SAFETY: valid slots under the derivation lock, which keeps links and neighbours stable.
        unsafe {
            if (*from).object.is_none() {
                return Err(Error::NoCapability);
            }
            let _space = self.lock.lock();
            (*to).object = (*from).object.take();
            (*to).allowed = (*from).allowed;
            (*to).space = self;
            let (first, last) = ((*from).open.next, (*from).close.previous);
            let (open, close) = (&raw mut (*to).open, &raw mut (*to).close);
            link((*from).open.previous, open);
            link(close, (*from).close.next);
            if first == &raw mut (*from).close {
                link(open, close);
            } else {
                link(open, first);
                link(last, close);
            }
        }
        Ok(())
    }

    /// Delete the capability in a slot.
    pub fn delete(&self, index: u64) -> Result<(), Error> {
        // SAFETY: a valid slot.
        unsafe { empty(self.slot(index)?, DERIVATION.lock()) }
    }

    /// Delete all that was derived from the capability in a slot; it stays. `Some`, when that is done: its object, and its depth.
    /// `None`: there is more to do; the work is done in bounded steps. A lease stays until its holder says that it has let go.
    ///
    /// It comes to its end though all other cores copy what it deletes as fast as they can: in one call nothing is added,
    /// and between two calls each of them adds what it gets done in the time of a system call, two or three capabilities.
    /// So `at_most` is more than three times the number of cores.
    pub fn revoke_some(&self, index: u64, at_most: usize) -> Result<Option<(Ref<Header>, u32)>, Error> {
        let slot = self.slot(index)?;
        let _nothing_is_added = Revocation::begin();
        for _ in 0..at_most {
            let guard = DERIVATION.lock();
            // SAFETY: valid slots, under the derivation lock.
            let (last, holder) = unsafe {
                let revoked = (*slot).object.as_ref().ok_or(Error::NoCapability)?;
                // What follows an `open` is the own `close`, or the `open` of what was derived last.
                let next = (*slot).open.next;
                if next == &raw mut (*slot).close {
                    return Ok(Some((revoked.clone(), (*slot).allowed.depth)));
                }
                (slot_of(next), holder_of(slot_of(next)))
            };
            if let Some(holder) = holder {
                drop(guard);
                if !holder.end_lease(last.cast_const().cast()) {
                    return Ok(None);
                }
            } else {
                // SAFETY: a valid slot.
                unsafe { empty(last, guard) }?;
            }
        }
        Ok(None)
    }
}

/// # Safety
/// The derivation lock is held; `slot` is an empty slot of this CSpace (`None`: of a Lease); `parent` is a filled slot.
#[inline(always)]
unsafe fn fill(
    space: Option<&CSpace>,
    slot: *mut Slot,
    object: Ref<Header>,
    allowed: Allowed,
    parent: Option<*mut Slot>,
) {
    // SAFETY: by the caller's promise.
    unsafe {
        let (before, after) = match parent {
            Some(parent) => (&raw mut (*parent).open, (*parent).open.next),
            None => (null_mut(), null_mut()),
        };
        let (open, close) = (&raw mut (*slot).open, &raw mut (*slot).close);
        let _guard = space.map(|space| space.lock.lock());
        (*slot).allowed = allowed;
        (*slot).space = space.map_or(null(), |space| space);
        (&raw mut (*slot).object).write(Some(object)); // it is empty, so nothing is to be dropped
        (*slot).open.previous = null_mut();
        (*slot).close.next = null_mut();
        link(before, open);
        link(open, close);
        link(close, after);
    }
}

/// What an object has by a capability, as a thread has its core: a place in the derivation list, without a CSpace, that
/// nobody can use as a capability. When it is revoked with what it was derived from, its holder gets to know
/// ([`Object::lease_ended`]), and gives it up when it no longer uses what it had.
#[repr(C)]
pub struct Lease {
    slot: UnsafeCell<Slot>,
    /// For the holder: what it waits for before it gives a revoked lease up. 0 until it knows.
    pub awaited: Count,
}

/// By the slot's address the lease is told.
const _: () = assert!(offset_of!(Lease, slot) == 0);

impl Lease {
    pub fn new() -> Self {
        let [open, close] = [(); 2].map(|()| Mark { previous: null_mut(), next: null_mut() });
        let slot =
            Slot { object: None, allowed: Allowed { badge: 0, rights: 0, depth: 0 }, open, close, space: null() };
        Self { slot: UnsafeCell::new(slot), awaited: Count::new(0) }
    }

    /// `holder`, whose lease this is, has something by a capability, and not by an earlier one any more. What it has is to change
    /// in `taken`: while nothing is revoked, so that the end of the earlier one cannot take the new away.
    pub fn take<T: Object>(&self, holder: &T, by: &Parent, taken: impl FnOnce()) -> Result<(), Error> {
        let guard = lock_to_derive();
        let parent = by.slot()?;
        // SAFETY: valid slots under the derivation lock; the parent was just seen to be filled.
        let old = unsafe {
            let object = (*parent).object.clone().ok_or(Error::NoCapability)?;
            let old = take(self.slot.get());
            object.add_cap();
            let holder = (&raw const *holder).expose_provenance() as u64;
            fill(None, self.slot.get(), object, (*parent).allowed.derived(holder, 0), Some(parent));
            old
        };
        self.awaited.store(0, Ordering::Relaxed);
        taken();
        drop(guard);
        old.iter().for_each(Ref::remove_cap);
        Ok(())
    }

    pub fn give_up(&self) {
        // SAFETY: a valid slot.
        let _ = unsafe { empty(self.slot.get(), DERIVATION.lock()) }; // (it may have no place)
    }

    /// The object that it is for, and its depth.
    ///
    /// # Safety
    /// The holder neither takes it nor gives it up meanwhile.
    pub unsafe fn look<T: Object>(&self) -> Option<(&T, u32)> {
        // SAFETY: nobody else changes these fields while the holder lives, by the caller's promise.
        unsafe {
            let slot = self.slot.get();
            let object = &(*slot).object;
            Some((object.as_ref()?.downcast_ref()?, (*slot).allowed.depth))
        }
    }
}

/// Who has a slot as a lease, if it is one, and its holder has not ended.
///
/// # Safety
/// The derivation lock has been held since the slot was in the list.
unsafe fn holder_of(slot: *const Slot) -> Option<Ref<Header>> {
    // SAFETY: by the caller's promise: a holder's memory stays until it has given its lease up.
    unsafe { (*slot).space.is_null().then(|| Ref::upgrade_at(holder_at(slot)))? }
}

/// # Safety
/// `slot` is that of a [`Lease`], and filled.
unsafe fn holder_at(slot: *const Slot) -> NonNull<Header> {
    // SAFETY: by the caller's promise; `Lease::take` put the holder's address there.
    unsafe { NonNull::new_unchecked(core::ptr::with_exposed_provenance_mut((*slot).allowed.badge as usize)) }
}

/// A CSpace whose capabilities cannot go, and so neither can their objects, while this lives.
pub struct Held<'a> {
    space: &'a CSpace,
    _guard: Guard<'a, ()>,
}

impl Held<'_> {
    /// Object, badge and rights of a capability.
    #[inline]
    pub fn get(&self, index: u64) -> Option<(&Ref<Header>, u64, u64)> {
        if index >= self.space.count {
            return None;
        }
        // SAFETY: in range (slot 0 is always empty). The content is read under the CSpace's lock; the marks, of which there
        // is no reference, may change meanwhile.
        unsafe {
            let slot = self.space.slots.add(index as usize);
            let object = &(*slot).object;
            Some((object.as_ref()?, (*slot).allowed.badge, u64::from((*slot).allowed.rights)))
        }
    }

    /// A capability to a `T` that has all of `rights`.
    #[inline]
    pub fn take<T: Object>(&self, index: u64, rights: u64) -> Result<Capability<T>, Error> {
        let (object, badge, rights) = self.view::<T>(index, rights)?;
        Ok(Capability { object: object.clone(), badge, rights })
    }

    /// As [`Held::take`], while it is held here.
    #[inline]
    fn view<T: Object>(&self, index: u64, rights: u64) -> Result<(&Ref<T>, u64, u64), Error> {
        let (object, badge, has) = self.get(index).ok_or(Error::NoCapability)?;
        if has & rights != rights {
            return Err(Error::NoRights);
        }
        Ok((object.downcast_ref().ok_or(Error::WrongType)?, badge, has))
    }

    /// The object of such a capability, which cannot be revoked while it is held here, and its depth.
    #[inline]
    pub fn object<T: Object>(&self, index: u64, rights: u64) -> Result<(&T, u32), Error> {
        let (object, ..) = self.view::<T>(index, rights)?;
        // SAFETY: `view` found the slot filled, so it is in range; its depth changes only under this CSpace's lock, which is held.
        Ok((object, unsafe { (*self.space.slots.add(index as usize)).allowed.depth }))
    }

    /// A capability to whatever it names that has all of `rights`.
    pub fn take_any(&self, index: u64, rights: u64) -> Result<Capability, Error> {
        let (object, badge, has) = self.get(index).ok_or(Error::NoCapability)?;
        let capability = || Capability { object: object.clone(), badge, rights: has };
        (has & rights == rights).then(capability).ok_or(Error::NoRights)
    }

    /// Object and badge of a capability, if it names a `T` and has all of `rights`.
    #[inline]
    pub fn find<T: Object>(&self, index: u64, rights: u64) -> Option<(&T, u64)> {
        self.view::<T>(index, rights).ok().map(|(object, badge, _)| (&**object, badge))
    }
}

#[cfg(feature = "check")]
impl Lease {
    pub fn audit(&self, audit: &mut crate::check::Audit) {
        // SAFETY: nothing changes during a check.
        let slot = unsafe { &*self.slot.get() };
        if let Some(object) = &slot.object {
            audit.capability(object);
            slot.meet_neighbours(audit);
        }
    }
}

#[cfg(feature = "check")]
impl Slot {
    /// Who has the neighbours in the list: what only its own capabilities keep is found by nothing else.
    fn meet_neighbours(&self, audit: &mut crate::check::Audit) {
        let marks = [&self.open, &self.close].into_iter().flat_map(|mark| [mark.previous, mark.next]);
        for mark in marks.filter(|mark| !mark.is_null()) {
            // SAFETY: nothing changes during a check; marks in the list are in filled slots, which are as large as their
            // alignment.
            unsafe {
                let slot = &*mark.map_addr(|address| address - address % size_of::<Slot>()).cast::<Slot>();
                match slot.space.as_ref() {
                    Some(space) => audit.meet(space),
                    None => audit.meet(holder_at(slot).as_ref()),
                }
            }
        }
    }
}

#[cfg(feature = "check")]
impl CSpace {
    fn tell(&self, audit: &mut crate::check::Audit) {
        use crate::holds;
        // SAFETY: nothing changes during a check.
        let (next, pages) = unsafe { (*self.next.look(), self.pages.look()) };
        if !pages.is_empty() {
            audit.own(&self.header, pages.start, (pages.end - pages.start) / 4096, crate::check::Use::Kernel);
        }
        for i in next as usize..self.count as usize {
            // SAFETY: in range; nothing changes during a check, and linked slots are in CSpaces that live.
            let slot = unsafe { &*self.slots.add(i) };
            let Some(object) = &slot.object else { continue };
            audit.capability(object);
            holds!(&self.header, core::ptr::eq(slot.space, self), "slot {i} thinks it is in another CSpace");
            for mark in [&slot.open, &slot.close] {
                // SAFETY: nothing changes during a check, and linked slots are in CSpaces that live.
                let (previous, next) = unsafe { (mark.previous.as_ref(), mark.next.as_ref()) };
                let linked = previous.is_none_or(|p| core::ptr::eq(p.next, mark))
                    && next.is_none_or(|n| core::ptr::eq(n.previous, mark));
                holds!(&self.header, linked, "the derivation list is broken at slot {i}");
            }
            slot.meet_neighbours(audit);
            self.audit_parent(i, slot, object);
        }
    }

    /// What a capability was derived from: the same object, what paid for it, or the Machine that made it.
    fn audit_parent(&self, i: usize, slot: &Slot, object: &Ref<Header>) {
        use crate::holds;
        // Backwards, over what was derived from the same parent: a `close` comes before its `open`.
        let mut mark = slot.open.previous;
        let mut inside = 0;
        let mut parent = None;
        // SAFETY: nothing changes during a check, and linked slots are in CSpaces that live.
        while let Some(at) = unsafe { mark.as_ref() } {
            // (A slot is as large as its alignment.)
            let open = mark as usize % size_of::<Slot>() == offset_of!(Slot, open);
            if open && inside == 0 {
                // SAFETY: a mark that is linked lies in a slot.
                parent = unsafe { slot_of(mark).as_ref() };
                break;
            }
            inside = if open { inside - 1 } else { inside + 1 };
            mark = at.previous;
        }
        if mark.is_null() {
            holds!(&self.header, inside == 0, "the derivation list is broken before slot {i}");
            return; // one of the kernel's first
        }
        let origin = parent.and_then(|p| p.object.as_ref());
        holds!(&self.header, origin.is_some(), "slot {i} was derived from an empty slot");
        let (Some(parent), Some(origin)) = (parent, origin) else { return };
        if origin.is(object) {
            let deeper = slot.allowed.depth > parent.allowed.depth || slot.allowed.depth == u32::MAX;
            holds!(&self.header, deeper, "slot {i} is no deeper than what it was derived from");
            holds!(
                &self.header,
                slot.allowed.rights & !parent.allowed.rights == 0,
                "slot {i} has more rights than what it was derived from"
            );
            let (badge, before) = (slot.allowed.badge, parent.allowed.badge);
            let lower = object.kind() == Kind::Cpu && badge != 0 && badge < before;
            let may_be = badge == before || before == 0 || lower;
            holds!(&self.header, may_be, "slot {i} has another badge than what it was derived from");
            return;
        }
        let made = match origin.kind() {
            // (The payer's own capability may be gone, and have left it to what the payer was made of.)
            Kind::Untyped => core::iter::successors(object.payer(), |payer| payer.made_of())
                .any(|payer| core::ptr::addr_eq(&raw const **payer, &raw const **origin)),
            Kind::Machine => matches!(object.kind(), Kind::IrqHandler | Kind::Range),
            _ => false,
        };
        holds!(
            &self.header,
            made,
            "slot {i} holds {:?} {}, derived from {:?} {}",
            object.kind(),
            object.name(),
            origin.kind(),
            origin.name()
        );
    }
}

/// Empty a slot, unlink it, and let go of its object, which may end by that: not under the derivation lock, with which the caller
/// comes. Refused: it was empty.
///
/// # Safety
/// The slot is valid.
#[inline(always)]
unsafe fn empty(slot: *mut Slot, guard: FairGuard) -> Result<(), Error> {
    // SAFETY: by the caller's promise, under the derivation lock.
    let object = unsafe { take(slot) }.ok_or(Error::NoCapability)?;
    drop(guard);
    object.remove_cap();
    Ok(())
}

/// Empty a slot and unlink it.
///
/// # Safety
/// The derivation lock is held and the slot is valid.
unsafe fn take(slot: *mut Slot) -> Option<Ref<Header>> {
    // SAFETY: by the caller's promise; the slot's CSpace lives as long as the slot.
    unsafe {
        (*slot).object.as_ref()?;
        let object = {
            let _guard = (*slot).space.as_ref().map(|space| space.lock.lock());
            (*slot).object.take()
        };
        let (open, close) = (&raw const (*slot).open, &raw const (*slot).close);
        if (*open).next.cast_const() == close {
            link((*open).previous, (*close).next);
        } else {
            link((*open).previous, (*open).next);
            link((*close).previous, (*close).next);
        }
        object
    }
}
