//! Untypeds: memory comes clean, goes back whole, and nobody gets what another has. Objects: they end once, in steps.

use super::*;

fn is_zero(page: u64) -> bool {
    // SAFETY: the caller has the page.
    unsafe { core::slice::from_raw_parts(platform::to_virtual(page).cast::<u64>(), 512) }.iter().all(|&word| word == 0)
}

fn dirty(page: u64) {
    // SAFETY: the caller has the page.
    unsafe { platform::to_virtual(page).write_bytes(0xa5, 4096) };
}

#[test]
fn a_page_that_comes_back_is_given_out_zeroed() {
    let untyped = boot_memory(4);
    let pages: Vec<u64> = (0..4).map(|_| untyped.allocate_page().unwrap()).collect();
    assert_eq!(untyped.allocate_page(), Err(Error::NoMemory));
    pages.iter().for_each(|&page| dirty(page));
    for &page in &[pages[2], pages[0], pages[3], pages[1]] {
        untyped.free(page, 1);
    }
    assert_eq!(untyped.free_bytes(), 4 * 4096);
    for _ in 0..4 {
        assert!(is_zero(untyped.allocate_page().unwrap()));
    }
}

/// Against a list of what is given out: no page twice, none that is not the Untyped's, all of them back in the end.
#[test]
fn whatever_is_allocated_and_freed_no_page_has_two_owners() {
    let rounds = if cfg!(miri) { 60 } else { 20_000 };
    let untyped = boot_memory(64);
    let random = Random::new(1);
    let mut held: Vec<(u64, u64)> = Vec::new();
    for _ in 0..rounds {
        if random.below(2) == 0 {
            let count = 1 + random.below(5);
            match untyped.allocate(Pages::wiped(count)) {
                Ok((page, start)) => {
                    for (at, pages) in [(page, 1), (start, count)] {
                        assert!(held.iter().all(|&(a, n)| at + pages * 4096 <= a || a + n * 4096 <= at), "owned twice");
                        (0..pages).for_each(|i| assert!(is_zero(at + i * 4096)));
                        (0..pages).for_each(|i| dirty(at + i * 4096));
                        held.push((at, pages));
                    }
                }
                Err(error) => assert!(matches!(error, Error::NoMemory | Error::Cancelled)),
            }
        } else if !held.is_empty() {
            let (at, pages) = held.swap_remove(random.below(held.len() as u64) as usize);
            untyped.free(at, pages);
        }
        let given: u64 = held.iter().map(|&(_, pages)| pages * 4096).sum();
        assert_eq!(untyped.free_bytes(), 64 * 4096 - given);
    }
    held.into_iter().for_each(|(at, pages)| untyped.free(at, pages));
    assert_eq!(untyped.free_bytes(), 64 * 4096);
    untyped.allocate(Pages::wiped(63)).expect("all is one piece again");
}

#[test]
fn a_child_gives_all_back_when_it_ends() {
    let untyped = boot_memory(32);
    let before = untyped.free_bytes();
    let child = create_child(&untyped, 16).unwrap();
    let (object, seen) = thing(&child, 1);
    drop(child);
    finish();
    assert!(untyped.free_bytes() < before, "the object still holds its payer");
    drop(object);
    finish();
    assert_eq!(seen.counts(), [0, 1, 1, 0]);
    assert_eq!(untyped.free_bytes(), before);
}

#[test]
fn an_object_ends_once_where_its_last_reference_goes_and_not_before_the_entry_ends() {
    let untyped = boot_memory(4);
    let (object, seen) = thing(&untyped, 3);
    let other = object.clone();
    drop(object);
    finish();
    assert_eq!(seen.counts(), [0; 4]);
    drop(other);
    assert_eq!(seen.counts(), [0; 4], "nothing is done where a reference goes");
    assert!(Machine::work().has_begun());
    finish();
    assert_eq!(seen.counts(), [0, 3, 1, 0]);
}

#[test]
fn what_an_entry_leaves_belongs_to_its_thread() {
    let untyped = boot_memory(80);
    let objects: Vec<_> = (0..70).map(|_| thing(&untyped, 1)).collect();
    let seen: Vec<_> = objects.iter().map(|(_, seen)| *seen).collect();
    let ended = || seen.iter().map(|seen| seen.dropped.load(Ordering::SeqCst)).sum::<u64>();
    drop(objects);
    let unfinished = Ending::new();
    Machine::work().put_aside(Some(&unfinished));
    assert!(!Machine::work().has_begun() && !Machine::work().is_left() && !unfinished.is_empty());
    assert!(!Machine::work().go_on(Some(&unfinished)), "70 steps are more than one share");
    assert!((1..70).contains(&ended()));
    assert!(Machine::work().go_on(Some(&unfinished)));
    assert_eq!(ended(), 70);
    assert!(unfinished.is_empty());
}

#[test]
fn no_reference_can_be_made_of_an_object_that_has_none() {
    let untyped = boot_memory(4);
    let (object, _) = thing(&untyped, 1);
    let address = object.clone().into_raw();
    // SAFETY: counted by `into_raw`, whose count is taken over below.
    let look = unsafe { &*address };
    assert!(Ref::upgrade(look).is_some());
    drop(object);
    // SAFETY: the count that `into_raw` left.
    drop(unsafe { Ref::from_raw(address) });
    assert!(Ref::upgrade(look).is_none(), "it is ending");
    finish();
}

/// With counts of 32 bits the object would be orphaned, and gone, while all these refer to it.
#[test]
fn counts_do_not_wrap_at_32_bits() {
    let untyped = boot_memory(8);
    let space = CSpace::create(&untyped, 64).unwrap();
    let (object, seen) = thing(&untyped, 1);
    space.insert_new(1, object.clone().any(), None).unwrap();
    object.header().pretend(u64::from(u32::MAX) - 1);
    let (references, caps) = object.header().counts();
    for slot in 2..6 {
        space.copy_from(&space, 1, slot, RIGHT_ALL, 0).unwrap();
    }
    assert_eq!(object.header().counts(), (references + 4, caps + 4));
    assert!(!object.header().is_orphaned());
    for slot in 2..6 {
        space.delete(slot).unwrap();
    }
    finish();
    assert_eq!(seen.counts(), [0; 4]);
}
