//! CSpaces: what is derived from what, on one core against a plain model, and on several cores at once.

use super::*;

/// A slot of the plain model: object, badge, rights, and the slot that it was derived from.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Plain {
    object: usize,
    badge: u64,
    rights: u64,
    parent: Option<usize>,
}

const SLOTS: usize = 24;

/// What CSpaces should do, by links to parents.
struct Model([Option<Plain>; SLOTS]);

impl Model {
    fn copy(&mut self, from: usize, to: usize, rights: u64, badge: u64) -> Result<(), Error> {
        let source = self.0.get(from).copied().flatten();
        if from == 0 || from >= SLOTS {
            return Err(Error::NoCapability);
        }
        if to == 0 || to >= SLOTS {
            return Err(Error::BadArgument);
        }
        if self.0[to].is_some() {
            return Err(Error::Occupied);
        }
        let source = source.ok_or(Error::NoCapability)?;
        if badge != 0 && source.badge != 0 {
            return Err(Error::BadState);
        }
        let badge = if badge == 0 { source.badge } else { badge };
        self.0[to] = Some(Plain { badge, rights: source.rights & rights, parent: Some(from), ..source });
        Ok(())
    }

    fn transfer(&mut self, from: usize, to: usize) -> Result<(), Error> {
        if self.0[to].is_some() {
            return Err(Error::Occupied);
        }
        self.0[to] = Some(self.0[from].take().ok_or(Error::NoCapability)?);
        self.0.iter_mut().flatten().filter(|slot| slot.parent == Some(from)).for_each(|slot| slot.parent = Some(to));
        Ok(())
    }

    fn delete(&mut self, at: usize) -> Result<(), Error> {
        let gone = self.0[at].take().ok_or(Error::NoCapability)?;
        self.0.iter_mut().flatten().filter(|slot| slot.parent == Some(at)).for_each(|slot| slot.parent = gone.parent);
        Ok(())
    }

    fn revoke(&mut self, at: usize) -> Result<(), Error> {
        self.0[at].ok_or(Error::NoCapability)?;
        while let Some(child) = self.0.iter().position(|slot| slot.is_some_and(|slot| slot.parent == Some(at))) {
            self.revoke(child)?;
            self.0[child] = None;
        }
        Ok(())
    }
}

#[test]
fn every_sequence_of_operations_does_what_a_plain_model_does() {
    let rounds = if cfg!(miri) { 300 } else { 200_000 };
    let untyped = boot_memory(16);
    let free = untyped.free_bytes();
    let space = CSpace::create(&untyped, SLOTS as u64).unwrap();
    let objects = [thing(&untyped, 1).0, thing(&untyped, 1).0];
    let mut model = Model([None; SLOTS]);
    for (i, object) in objects.iter().enumerate() {
        space.insert_new(i as u64 + 1, object.clone().any(), None).unwrap();
        model.0[i + 1] = Some(Plain { object: i, badge: 0, rights: RIGHT_ALL, parent: None });
    }
    let random = Random::new(7);
    for round in 0..rounds {
        let [a, b] = [(); 2].map(|()| 1 + random.below(SLOTS as u64 - 1) as usize);
        let roots = a < 3 && model.0[a].is_some_and(|slot| slot.parent.is_none());
        let results = match random.below(8) {
            0..4 => {
                let (rights, badge) = (random.below(32), if random.below(3) == 0 { random.below(9) } else { 0 });
                let result = space.copy_from(&space, a as u64, b as u64, rights, badge);
                (result, model.copy(a, b, rights, badge))
            }
            4 if !roots => (space.move_within(a as u64, b as u64), model.transfer(a, b)),
            5 if !roots => (space.delete(a as u64), model.delete(a)),
            6 => (space.revoke_some(a as u64, SLOTS).map(drop), model.revoke(a)),
            _ => continue,
        };
        assert_eq!(results.0, results.1, "round {round}");
        let held = space.hold();
        for (i, slot) in model.0.iter().enumerate() {
            let found = held.get(i as u64).map(|(object, badge, rights)| {
                let object = objects.iter().position(|o| core::ptr::addr_eq(&raw const **o, &raw const **object));
                (object.unwrap(), badge, rights)
            });
            assert_eq!(found, slot.map(|slot| (slot.object, slot.badge, slot.rights)), "round {round}, slot {i}");
        }
        for (i, object) in objects.iter().enumerate() {
            let caps = model.0.iter().flatten().filter(|slot| slot.object == i).count() as u64;
            assert_eq!(object.header().counts().1, caps);
        }
    }
    drop(space);
    drop(objects);
    finish();
    assert_eq!(untyped.free_bytes(), free);
}

#[test]
fn what_is_derived_names_the_capability_that_was_looked_up() {
    let untyped = boot_memory(8);
    let space = CSpace::create(&untyped, 8).unwrap();
    let [(first, _), (second, _)] = [(); 2].map(|()| thing(&untyped, 1));
    space.insert_new(1, first.any(), None).unwrap();
    let looked_up = space.hold().take_any(1, 0).unwrap();
    // Another core puts another capability into the slot meanwhile.
    space.delete(1).unwrap();
    space.insert_new(1, second.any(), None).unwrap();
    let (made, _) = thing(&untyped, 1);
    let parent = looked_up.parent(&space, 1);
    assert_eq!(space.insert_new(2, made.any(), Some(parent)), Err(Error::NoCapability));
    drop(looked_up);
    drop(space);
    finish();
}

#[test]
fn the_last_capability_orphans_and_a_look_up_needs_its_rights() {
    let untyped = boot_memory(8);
    let space = CSpace::create(&untyped, 8).unwrap();
    let (object, seen) = thing(&untyped, 1);
    space.insert_new(1, object.clone().any(), None).unwrap();
    space.copy_from(&space, 1, 2, RIGHT_READ, 5).unwrap();
    assert_eq!(space.hold().find::<Thing>(2, RIGHT_READ).map(|(_, badge)| badge), Some(5));
    assert!(space.hold().find::<Thing>(2, RIGHT_WRITE).is_none());
    assert!(matches!(space.hold().take::<Thing>(2, RIGHT_WRITE), Err(Error::NoRights)));
    assert!(matches!(space.hold().take::<CSpace>(2, 0), Err(Error::WrongType)));
    assert!(space.hold().get(u64::MAX).is_none() && space.hold().get(0).is_none());
    space.delete(1).unwrap();
    finish();
    assert_eq!(seen.counts(), [0; 4], "a copy outlives what it was copied from");
    space.delete(2).unwrap();
    assert_eq!(seen.counts(), [1, 0, 0, 0]);
    drop(object);
    drop(space);
    finish();
    assert_eq!(seen.counts(), [1, 1, 1, 0]);
}

#[test]
fn a_cspace_that_holds_itself_ends_with_its_last_capability_elsewhere() {
    let untyped = boot_memory(16);
    let free = untyped.free_bytes();
    let outer = CSpace::create(&untyped, 8).unwrap();
    // Each holds the next one, longer than one share of steps.
    let mut last = outer.clone();
    for _ in 0..3 {
        let next = CSpace::create(&untyped, 40).unwrap();
        last.insert_new(1, next.clone().any(), None).unwrap();
        last = next;
    }
    drop(last);
    drop(outer);
    finish();
    assert_eq!(untyped.free_bytes(), free);
}

#[test]
fn the_holder_of_a_revoked_lease_gets_to_know() {
    let untyped = boot_memory(8);
    let space = CSpace::create(&untyped, 8).unwrap();
    let (leased, _) = thing(&untyped, 1);
    space.insert_new(1, leased.clone().any(), None).unwrap();
    space.copy_from(&space, 1, 2, RIGHT_ALL, 0).unwrap();
    let holders = [(); 3].map(|()| thing(&untyped, 1));
    for (holder, _) in &holders {
        let by = space.hold().take_any(2, 0).unwrap();
        holder.lease.take(&**holder, &by.parent(&space, 2), || {}).unwrap();
    }
    let [(first, first_seen), (second, second_seen), (third, third_seen)] = holders;
    first.lease.give_up();
    drop(third); // which ends it, and it gives its lease up
    finish();
    let told = || [first_seen, second_seen, third_seen].map(|seen| seen.counts()[3]);
    assert!(space.revoke_some(1, 8).unwrap().is_none());
    assert_eq!((told(), leased.header().counts().1), ([0, 1, 0], 2)); // the second still uses what it had
    let (object, depth) = space.revoke_some(1, 8).unwrap().expect("the second has let go");
    assert_eq!((told(), leased.header().counts().1), ([0, 2, 0], 1));
    assert!(object.is(leased.header()) && depth == 0);
    drop(object);
    drop((first, second));
    drop(leased);
    drop(space);
    finish();
}

#[test]
fn a_capability_is_deeper_than_what_it_was_derived_from() {
    let untyped = boot_memory(8);
    let space = CSpace::create(&untyped, 200).unwrap();
    let (object, _) = thing(&untyped, 1);
    let depth = |slot| space.hold().object::<Thing>(slot, 0).unwrap().1;
    space.insert_new(1, object.any(), None).unwrap();
    for slot in 1..150 {
        space.copy_from(&space, slot, slot + 1, RIGHT_ALL, 0).unwrap();
        assert_eq!(u64::from(depth(slot + 1)), slot);
    }
    space.delete(2).unwrap();
    space.move_within(3, 2).unwrap();
    assert_eq!(depth(2), 2);
    let (holder, _) = thing(&untyped, 1);
    let by = space.hold().take_any(2, 0).unwrap();
    holder.lease.take(&*holder, &by.parent(&space, 2), || {}).unwrap();
    // SAFETY: it stays.
    assert_eq!(unsafe { holder.lease.look::<Thing>() }.unwrap().1, 3);
    let (other, _) = thing(&untyped, 1);
    space.insert_new(3, other.any(), Some(by.parent(&space, 2))).unwrap();
    assert_eq!(depth(3), 0);
    drop((holder, by, space));
    finish();
}

/// Other cores copy what is being revoked as fast as they can. Whoever finds its copies gone ends.
#[test]
fn revocation_comes_to_its_end_though_other_cores_copy() {
    const COPIERS: u64 = 3;
    let untyped = boot_memory(16);
    let space = CSpace::create(&untyped, 64).unwrap();
    let (object, _) = thing(&untyped, 1);
    space.insert_new(1, object.clone().any(), None).unwrap();
    for core in 0..COPIERS {
        space.copy_from(&space, 1, 8 + 16 * core, RIGHT_ALL, 0).unwrap();
    }
    let mut calls = 0;
    thread::scope(|scope| {
        for core in 0..COPIERS {
            let space = &space;
            scope.spawn(move || {
                let random = Random::new(core + 1);
                let first = 8 + 16 * core;
                // Copies of any of its capabilities, until it has none any more; and deletions, to have room.
                loop {
                    let [from, to] = [(); 2].map(|()| first + random.below(12));
                    let _ = space.copy_from(space, from, to, RIGHT_ALL, 0);
                    if random.below(3) == 0 && to != first {
                        let _ = space.delete(to);
                    }
                    let held = space.hold();
                    if (first..first + 12).all(|slot| held.get(slot).is_none()) {
                        return;
                    }
                }
            });
        }
        while space.revoke_some(1, 4 * COPIERS as usize).unwrap().is_none() {
            calls += 1;
        }
        assert_eq!(object.header().counts().1, 1, "revoked, and a copy is there");
    });
    assert!(space.revoke_some(1, 1).unwrap().is_some());
    drop(object);
    drop(space);
    finish();
}

/// Look-ups, copies, deletions and revocations of the same slots on several cores at once; Miri looks for races.
#[test]
fn cores_that_do_everything_at_once_leave_all_counts_right() {
    let rounds = if cfg!(miri) { 20 } else { 5_000 };
    let untyped = boot_memory(24);
    let spaces = [(); 2].map(|()| CSpace::create(&untyped, 16).unwrap());
    let (object, seen) = thing(&untyped, 1);
    for space in &spaces {
        space.insert_new(1, object.clone().any(), None).unwrap();
    }
    thread::scope(|scope| {
        for core in 0..3 {
            let (spaces, object) = (&spaces, &object);
            scope.spawn(move || {
                let random = Random::new(core + 11);
                for _ in 0..rounds {
                    let [a, b] = [(); 2].map(|()| &spaces[random.below(2) as usize]);
                    let [i, j] = [(); 2].map(|()| 1 + random.below(6));
                    match random.below(6) {
                        0 | 1 => drop(b.copy_from(a, i, j, RIGHT_ALL, 0)),
                        2 if i > 1 => drop(a.delete(i)),
                        3 if i > 1 && j > 1 => drop(a.move_within(i, j)),
                        4 => drop(a.revoke_some(i, 4)),
                        _ => {
                            if let Ok(capability) = a.hold().take::<Thing>(i, RIGHT_READ) {
                                assert!(capability.object.is(object));
                            }
                        }
                    }
                    finish();
                }
            });
        }
    });
    for space in &spaces {
        while space.revoke_some(1, 8).unwrap().is_none() {}
    }
    finish();
    assert_eq!(object.header().counts(), (3, 2));
    drop((spaces, object));
    finish();
    assert_eq!(seen.counts(), [1, 1, 1, 0]);
}

#[test]
fn a_fair_lock_admits_one_at_a_time() {
    static LOCK: sync::FairLock = sync::FairLock::new();
    let rounds = if cfg!(miri) { 10 } else { 10_000 };
    struct Count(UnsafeCell<u64>);
    // SAFETY: used under the lock only, which is what is tested.
    unsafe impl Sync for Count {}
    let count = Count(UnsafeCell::new(0));
    thread::scope(|scope| {
        for _ in 0..3 {
            let count = &count;
            scope.spawn(move || {
                for _ in 0..rounds {
                    let _guard = LOCK.lock();
                    // SAFETY: under the lock.
                    unsafe { *count.0.get() += 1 };
                }
            });
        }
    });
    assert_eq!(count.0.into_inner(), 3 * rounds);
}
