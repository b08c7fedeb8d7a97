//! The object layer on the host: every thread is a core, and physical memory is an array.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU64, Ordering};
use std::boxed::Box;
use std::sync::OnceLock;
use std::thread;
use std::vec::Vec;

use abi::{Error, RIGHT_ALL, RIGHT_READ, RIGHT_WRITE};

use crate::*;

mod capabilities;
mod memory;
mod waiting;

struct Machine;

impl platform::Platform for Machine {
    fn spin() {
        thread::yield_now();
    }

    fn begin(object: platform::EndOf) {
        Self::work().begin(object);
    }
}

impl Machine {
    fn work() -> &'static Work {
        std::thread_local! {
            static WORK: &'static Work = Box::leak(Box::new(Work::new()));
        }
        WORK.with(|work| *work)
    }
}

crate::platform!(Machine);

/// Physical memory of all tests.
const PAGES: usize = if cfg!(miri) { 512 } else { 16384 };

#[repr(align(4096))]
#[derive(Clone, Copy)]
struct Page(#[allow(dead_code, reason = "reached by address")] [u8; 4096]);

/// An Untyped over memory that nobody else uses. It stays for ever.
fn boot_memory(pages: u64) -> Ref<Untyped> {
    static BASE: OnceLock<usize> = OnceLock::new();
    static FREE: AtomicU64 = AtomicU64::new(4096); // page 0 is no page
    BASE.get_or_init(|| {
        let memory: &'static mut [Page] = Vec::leak(std::vec![Page([0; 4096]); PAGES]);
        platform::set_window(memory.as_mut_ptr().cast());
        memory.as_ptr().expose_provenance()
    });
    let at = FREE.fetch_add((pages + 1) * 4096, Ordering::Relaxed);
    assert!(at + (pages + 1) * 4096 <= PAGES as u64 * 4096, "the tests need more memory");
    let untyped = Untyped::new_boot(Header::new::<Untyped>(None), at + 4096, pages * 4096);
    // SAFETY: a page of the array that was not given to anybody else.
    unsafe { Ref::new(platform::to_virtual(at), untyped) }
}

/// Do all that ends on this core.
fn finish() {
    while !Machine::work().go_on(None) || Machine::work().has_begun() {}
}

/// An object that tells what happens to it.
#[repr(C)]
struct Thing {
    header: Header,
    seen: &'static Seen,
    /// Steps that its end takes.
    steps: Remains<u32>,
    lease: Lease,
}

#[derive(Default)]
struct Seen {
    orphaned: AtomicU64,
    dismantled: AtomicU64,
    dropped: AtomicU64,
    lease_ended: AtomicU64,
}

impl Seen {
    fn counts(&self) -> [u64; 4] {
        [&self.orphaned, &self.dismantled, &self.dropped, &self.lease_ended].map(|count| count.load(Ordering::SeqCst))
    }
}

// SAFETY: repr(C), header first, made with Kind::Notification only.
unsafe impl Object for Thing {
    const KIND: Kind = Kind::Notification;

    fn orphaned(&self) -> bool {
        self.seen.orphaned.fetch_add(1, Ordering::SeqCst);
        true
    }

    fn dismantle(&self) -> bool {
        self.seen.dismantled.fetch_add(1, Ordering::SeqCst);
        self.lease.give_up();
        // SAFETY: called by the layer, as it promises.
        let steps = unsafe { self.steps.get() };
        *steps -= 1;
        *steps == 0
    }

    /// The second time it is asked, it has let go.
    fn lease_ended(&self, lease: *const ()) -> bool {
        assert!(core::ptr::addr_eq(lease, &raw const self.lease));
        let asked = self.seen.lease_ended.fetch_add(1, Ordering::SeqCst) > 0;
        if asked {
            self.lease.give_up();
        }
        asked
    }
}

impl Drop for Thing {
    fn drop(&mut self) {
        self.seen.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

fn thing(payer: &Ref<Untyped>, steps: u32) -> (Ref<Thing>, &'static Seen) {
    let seen: &'static Seen = Box::leak(Box::default());
    let make = |header| Thing { header, seen, steps: Remains::new(steps), lease: Lease::new() };
    (create(payer, make).unwrap(), seen)
}

/// A generator of numbers that look random.
struct Random(UnsafeCell<u64>);

impl Random {
    fn new(seed: u64) -> Self {
        Self(UnsafeCell::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1))
    }

    fn below(&self, limit: u64) -> u64 {
        // SAFETY: the generator is one thread's, and no reference leaves.
        let state = unsafe { &mut *self.0.get() };
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state % limit
    }
}
