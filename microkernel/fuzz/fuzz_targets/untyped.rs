//! Untyped's allocator: whatever is asked for and given back, no page has two owners, all of them come zeroed, and in the end
//! all is one piece again.
#![no_main]

use std::alloc::{Layout, alloc_zeroed};
use std::sync::Once;

use abi::Error;
use arbitrary::Arbitrary;
use kobj::{Header, Pages, Ref, Untyped, platform};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
enum Step {
    Page,
    /// An object's page and so many others.
    Allocate(u16),
    /// One of the runs that are given out.
    Free(u8),
    /// The same, in steps as the end of a large object does it.
    FreeInSteps(u8),
}

struct Machine;

impl platform::Platform for Machine {
    fn spin() {}
    fn begin(_: platform::EndOf) {
        unreachable!("no object ends here");
    }
}

kobj::platform!(Machine);

const TOTAL: u64 = 1600;

/// One memory for all runs: each finds in it what the one before has left.
fn memory() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let layout = Layout::from_size_align(TOTAL as usize * 4096, 1 << 21).unwrap();
        // SAFETY: the layout has a size.
        platform::set_window(unsafe { alloc_zeroed(layout) });
    });
}

/// Mostly few pages, since each is wiped.
fn count(any: u16) -> u64 {
    u64::from(if any < 0xf000 { any % 24 } else { any % 700 }) + 1
}

fuzz_target!(|input: (u16, Vec<Step>)| {
    let (skew, steps) = input;
    // Where it begins decides where large pages can lie.
    let (skew, total) = (u64::from(skew) % 512, TOTAL - 512);
    memory();
    // The object itself is in page 0, which is no page to the pool.
    let base = (1 + skew) * 4096;
    let untyped = Untyped::new_boot(Header::new::<Untyped>(None), base, total * 4096);
    // SAFETY: page 0 is nobody else's.
    let untyped = unsafe { Ref::new(platform::to_virtual(0), untyped) };
    let mut held: Vec<(u64, u64)> = Vec::new();
    let own = |held: &mut Vec<(u64, u64)>, at: u64, pages: u64| {
        assert!(at % 4096 == 0 && at >= base && at + pages * 4096 <= base + total * 4096, "not its own");
        assert!(held.iter().all(|&(a, n)| at + pages * 4096 <= a || a + n * 4096 <= at), "owned twice");
        for page in (0..pages).map(|i| at + i * 4096) {
            // Nobody has written anywhere else than where this does: the rest need not be read.
            for word in [page, page + 4088] {
                // SAFETY: the page was just given out.
                let old = unsafe { platform::to_virtual(word).cast::<u64>().replace(u64::MAX) };
                assert_eq!(old, 0, "not wiped");
            }
        }
        held.push((at, pages));
    };
    for step in steps.iter().take(200) {
        match *step {
            Step::Page => match untyped.allocate_page() {
                Ok(page) => own(&mut held, page, 1),
                Err(error) => assert!(matches!(error, Error::NoMemory | Error::Cancelled)),
            },
            Step::Allocate(any) => match untyped.allocate(Pages::wiped(count(any))) {
                Ok((page, start)) => {
                    let pages = count(any);
                    assert!(pages < 512 || start % (1 << 21) == 0, "no large page fits");
                    own(&mut held, start, pages);
                    own(&mut held, page, 1);
                }
                Err(error) => assert!(matches!(error, Error::NoMemory | Error::Cancelled)),
            },
            Step::Free(which) if !held.is_empty() => {
                let (at, pages) = held.swap_remove(usize::from(which) % held.len());
                untyped.free(at, pages);
            }
            Step::FreeInSteps(which) if !held.is_empty() => {
                let (at, pages) = held.swap_remove(usize::from(which) % held.len());
                let mut span = at..at + pages * 4096;
                while !untyped.free_some(&mut span) {}
            }
            _ => {}
        }
        let given: u64 = held.iter().map(|&(_, pages)| pages * 4096).sum();
        assert_eq!(untyped.free_bytes(), total * 4096 - given);
    }
    held.into_iter().for_each(|(at, pages)| untyped.free(at, pages));
    assert_eq!(untyped.free_bytes(), total * 4096);
    // All of it as one piece, in as many calls as the wiping takes.
    let all = loop {
        match untyped.allocate(Pages::wiped(500)) {
            Err(Error::Cancelled) => {}
            done => break done,
        }
    };
    assert!(all.is_ok(), "all is one piece again");
    let _ = untyped.into_raw(); // its end is none
});
