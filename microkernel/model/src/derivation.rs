//! Capabilities and their derivation, by `kobj`'s text: two cores that derive, move, delete, revoke and look up at once.
//!
//! Objects here stay (the models keep a reference to each), so that what is looked at in the end is the capabilities.

use core::mem::ManuallyDrop;
use core::sync::atomic::{AtomicU64, Ordering};
use std::alloc::{Layout, alloc_zeroed, dealloc};

use abi::{Error, RIGHT_ALL, RIGHT_READ};
use loom::sync::Arc;
use loom::thread;

use crate::cspace::{CSpace, Lease};
use crate::header::{Header, Kind, Object, Ref};
use crate::untyped::Untyped;
use crate::with_few_preemptions;

#[repr(C)]
struct Thing {
    header: Header,
    lease: Lease,
    /// How often its lease was ended. (Not loom's: nothing branches at it.)
    ended: AtomicU64,
}

// SAFETY: repr(C), header first, made with Kind::Thread only.
unsafe impl Object for Thing {
    const KIND: Kind = Kind::Thread;

    fn lease_ended(&self, _: *const ()) -> bool {
        // As a thread, which other cores may be using: it waits for them first, and is asked again.
        let gives_up = self.lease.awaited.swap(1, Ordering::SeqCst) != 0;
        if gives_up {
            self.ended.fetch_add(1, Ordering::SeqCst);
            self.lease.give_up();
        }
        gives_up
    }
}

/// A CSpace of 16 slots with a thing in slot 1, and the thing, in memory that goes back with it. (They do not end: the model
/// has no core that would see to that.)
struct World {
    space: ManuallyDrop<Ref<CSpace>>,
    thing: ManuallyDrop<Ref<Thing>>,
    memory: *mut u8,
}

// SAFETY: the memory is the World's; what is in it is the kernel's text, which is for many cores.
unsafe impl Send for World {}
// SAFETY: as for Send.
unsafe impl Sync for World {}

/// The pages of a thing, an Untyped, and what that has.
const PAGES: usize = 6;
const LAYOUT: Layout = Layout::new::<[Page; PAGES]>();

#[repr(align(4096))]
struct Page(#[allow(dead_code, reason = "for its size")] [u8; 4096]);

fn world() -> Arc<World> {
    // SAFETY: the layout has a size.
    let memory = unsafe { alloc_zeroed(LAYOUT) };
    let page = |i: usize| memory.wrapping_add(i * 4096);
    let (base, pages) = (page(2).expose_provenance() as u64, (PAGES - 2) as u64);
    let thing = Thing { header: Header::new::<Thing>(None), lease: Lease::new(), ended: AtomicU64::new(0) };
    // SAFETY: each is in a page of its own.
    let (thing, untyped) = unsafe {
        let untyped = Untyped::new_boot(Header::new::<Untyped>(None), base, pages * 4096);
        (Ref::new(page(0), thing), ManuallyDrop::new(Ref::new(page(1), untyped)))
    };
    let space = CSpace::create(&untyped, 16).unwrap();
    space.insert_new(1, thing.clone().any(), None).unwrap();
    Arc::new(World { space: ManuallyDrop::new(space), thing: ManuallyDrop::new(thing), memory })
}

impl Drop for World {
    fn drop(&mut self) {
        // SAFETY: allocated so; nobody has a reference any more.
        unsafe { dealloc(self.memory, LAYOUT) };
    }
}

impl World {
    fn copy(&self, from: u64, to: u64) -> Result<(), Error> {
        self.space.copy_from(&self.space, from, to, RIGHT_ALL, 0)
    }

    /// Until all is revoked that was derived from what is in a slot.
    fn revoke(&self, slot: u64) -> Result<(), Error> {
        while self.space.revoke_some(slot, 8)?.is_none() {}
        Ok(())
    }

    /// Slots that have a capability.
    fn filled(&self) -> Vec<u64> {
        let held = self.space.hold();
        (1..16).filter(|&slot| held.get(slot).is_some()).collect()
    }

    /// What is in the slots is what is counted, and all of it can be reached from slot 1 by revoking.
    fn is_sound(&self) {
        assert_eq!(self.thing.header().counts().1, self.filled().len() as u64, "capabilities in the slots and counted");
        self.revoke(1).unwrap();
        assert_eq!(self.filled(), [1], "something was not derived from what it was copied from");
        assert_eq!(self.thing.header().counts().1, 1);
    }
}

fn both(world: &Arc<World>, one: fn(&World), other: fn(&World)) {
    let (first, second) = (world.clone(), world.clone());
    let cores = [thread::spawn(move || one(&first)), thread::spawn(move || other(&second))];
    cores.into_iter().for_each(|core| core.join().unwrap());
}

/// Where slot 2 has a copy of slot 1, two cores at once, in every order that few preemptions make; what is to be true `then`.
fn at_once(one: fn(&World), other: fn(&World), then: fn(&World)) {
    with_few_preemptions(move || {
        let world = world();
        world.copy(1, 2).unwrap();
        both(&world, one, other);
        then(&world);
        world.is_sound();
    });
}

fn delete_2(world: &World) {
    world.space.delete(2).unwrap();
}

/// Finds nothing to copy where the other was first.
fn copy_2(world: &World) {
    let copied = world.copy(2, 3);
    assert!(matches!(copied, Ok(()) | Err(Error::NoCapability)));
}

fn revoke_1(world: &World) {
    world.revoke(1).unwrap();
}

#[test]
fn a_copy_of_what_is_being_revoked_does_not_stay() {
    at_once(revoke_1, copy_2, |world| assert_eq!(world.filled(), [1]));
}

#[test]
fn what_is_derived_from_a_capability_that_goes_belongs_to_its_parent() {
    at_once(delete_2, copy_2, |_| {});
}

#[test]
fn a_capability_that_moves_takes_along_what_was_derived_from_it() {
    let moves = |world: &World| world.space.move_within(2, 4).unwrap();
    at_once(moves, copy_2, |world| {
        let children = world.filled().len() - 2;
        world.revoke(4).unwrap();
        assert_eq!(world.filled(), [1, 4], "{children} children");
    });
}

#[test]
fn one_slot_is_filled_once() {
    with_few_preemptions(|| {
        let world = world();
        let copy = |world: &World| {
            let _ = world.copy(1, 2); // one of the two finds the slot occupied
        };
        both(&world, copy, copy);
        assert_eq!(world.filled(), [1, 2]);
        world.is_sound();
    });
}

#[test]
fn who_is_looked_up_is_there_and_is_what_the_slot_held() {
    let look_up = |world: &World| {
        if let Ok(found) = world.space.hold().take_any(2, 0) {
            assert!(found.object.is(world.thing.header()));
            assert_eq!(found.rights, RIGHT_ALL);
        }
    };
    at_once(delete_2, look_up, |_| {});
}

#[test]
fn a_lease_that_is_taken_while_its_origin_is_revoked_ends() {
    let take = |world: &World| {
        let Ok(origin) = world.space.hold().take_any(2, 0) else { return };
        if world.thing.lease.take(&**world.thing, &origin.parent(&world.space, 2), || {}).is_err() {
            world.thing.ended.fetch_add(1, Ordering::SeqCst); // it never began
        }
    };
    at_once(revoke_1, take, |world| {
        let ended = world.thing.ended.load(Ordering::SeqCst);
        assert!(ended <= 1);
        assert_eq!(world.thing.header().counts().1, 1, "no lease is left");
    });
}

#[test]
fn what_is_derived_comes_from_what_was_looked_up_or_not_at_all() {
    let derive = |world: &World| {
        let found = world.space.hold().take_any(2, 0);
        if let Ok(found) = found
            && found.rights == RIGHT_ALL
        {
            let _ = world.thing.lease.take(&**world.thing, &found.parent(&world.space, 2), || {});
        }
    };
    let replace = |world: &World| {
        world.space.delete(2).unwrap();
        world.space.copy_from(&world.space, 1, 2, RIGHT_READ, 0).unwrap();
    };
    at_once(derive, replace, |world| {
        world.revoke(2).unwrap();
        let taken_from_what_was_found = world.thing.header().counts().1 == 3;
        let by_the_later_one = world.thing.ended.load(Ordering::SeqCst) == 1;
        assert!(!by_the_later_one, "derived from a capability that allows less than the one that was looked up");
        world.revoke(1).unwrap();
        assert_eq!(world.thing.ended.load(Ordering::SeqCst), u64::from(taken_from_what_was_found));
    });
}
