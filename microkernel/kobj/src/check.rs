//! What a check of all invariants gathers (cargo feature `check`): every object that something refers to, counts as they are
//! and as they were found, and the use of every page. Each object tells its own part ([`Object::audit`]); the kernel goes
//! through all of them and judges what spans objects.

use kcore::handshake::State;

use crate::{Header, Object, Ref};

const MAX_OBJECTS: usize = 1 << 15;
const BUCKETS: usize = 2 * MAX_OBJECTS;
/// Physical memory whose pages are followed: 1 GiB.
const MAX_PAGES: usize = 1 << 18;
/// Ranges that own no pages: device memory, the boot archive.
const MAX_FOREIGN: usize = 256;

#[derive(Clone, Copy)]
pub struct Entry {
    pub object: *const Header,
    pub references: u64,
    pub caps: u64,
    /// Queues that hold the thread.
    pub queued: u32,
    /// Pages of this Untyped that objects own.
    pub paid: u64,
    /// It is in a list of objects that are ending.
    pub ending: bool,
    /// Threads wait at it though it is deleted, which is for its end to mend.
    pub awaited: bool,
}

const NO_ENTRY: Entry =
    Entry { object: core::ptr::null(), references: 0, caps: 0, queued: 0, paid: 0, ending: false, awaited: false };

/// What a page is used for.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Use {
    Nothing,
    Kernel,
    Range,
    Free,
}

pub struct Audit {
    pub entries: [Entry; MAX_OBJECTS],
    pub count: usize,
    /// Index into `entries` plus one, by hash of the address.
    buckets: [u16; BUCKETS],
    pub pages: [Use; MAX_PAGES],
    foreign: [(u64, u64); MAX_FOREIGN],
    foreign_count: usize,
    pub caps: u64,
}

// SAFETY: raw pointers to objects, followed only while every other core stands still.
unsafe impl Send for Audit {}

/// Panic unless a condition holds, naming the object.
#[macro_export]
macro_rules! holds {
    ($object:expr, $condition:expr, $($why:tt)+) => {
        if !$condition {
            let header = $crate::Object::header($object);
            panic!("self-check: {:?} {} at {:p}: {}", header.kind(), header.name(), header, format_args!($($why)+));
        }
    };
}

impl Audit {
    /// Nothing seen yet.
    pub const fn new() -> Self {
        Self {
            entries: [NO_ENTRY; MAX_OBJECTS],
            count: 0,
            buckets: [0; BUCKETS],
            pages: [Use::Nothing; MAX_PAGES],
            foreign: [(0, 0); MAX_FOREIGN],
            foreign_count: 0,
            caps: 0,
        }
    }

    /// As new.
    pub fn clear(&mut self) {
        self.buckets.fill(0);
        self.pages.fill(Use::Nothing);
        (self.count, self.foreign_count, self.caps) = (0, 0, 0);
    }

    /// The part of the Ranges without pages that lie around some memory.
    pub fn is_foreign(&self, physical: u64, bytes: u64) -> bool {
        self.foreign[..self.foreign_count].iter().any(|&(start, end)| physical >= start && physical + bytes <= end)
    }

    /// The entry of an object, made where it is new.
    fn entry(&mut self, object: *const Header) -> &mut Entry {
        let mut bucket = (object as usize >> 12).wrapping_mul(0x9e37_79b1) % BUCKETS;
        loop {
            match self.buckets[bucket] {
                0 => break,
                i if self.entries[usize::from(i) - 1].object == object => return &mut self.entries[usize::from(i) - 1],
                _ => bucket = (bucket + 1) % BUCKETS,
            }
        }
        assert!(self.count < MAX_OBJECTS, "self-check: more than {MAX_OBJECTS} objects");
        self.entries[self.count] = Entry { object, ..NO_ENTRY };
        self.count += 1;
        self.buckets[bucket] = self.count as u16;
        &mut self.entries[self.count - 1]
    }

    /// An object that is there, by a pointer that is not counted.
    pub fn meet<T: Object>(&mut self, object: &T) {
        self.entry((&raw const *object).cast());
    }

    /// A counted pointer.
    pub fn reference<T: Object>(&mut self, to: &Ref<T>) {
        self.reference_to(&**to);
    }

    /// A counted pointer that is not held as a `Ref`.
    pub fn reference_to<T: Object>(&mut self, to: &T) {
        self.entry((&raw const *to).cast()).references += 1;
    }

    /// A capability, which is a counted pointer too.
    pub fn capability(&mut self, to: &Ref<Header>) {
        self.caps += 1;
        let entry = self.entry(&raw const **to);
        entry.caps += 1;
        entry.references += 1;
    }

    /// An object that is ending: orphaned, and counted by the list that it is in; or without references.
    pub fn ending(&mut self, object: &Header) {
        let entry = self.entry(object);
        entry.references += object.counts().0.min(1);
        entry.ending = true;
    }

    /// Threads wait at a deleted object.
    pub fn awaited_in_vain(&mut self, object: &Header) {
        self.entry(object).awaited = true;
    }

    /// A thread in a queue, and whether its state `is` the one that this queue is for.
    pub fn queued<T: Object>(&mut self, thread: &T, is: State, state: State) {
        self.reference_to(thread);
        holds!(thread, is == state, "queued as {state:?}, but its state is {is:?}");
        self.entry((&raw const *thread).cast()).queued += 1;
    }

    /// `object` owns pages that its payer paid for.
    pub fn own(&mut self, object: &Header, physical: u64, pages: u64, usage: Use) {
        let payer = object.payer().expect("only objects with a payer own pages");
        holds!(object, payer.has_given_out(physical, pages), "pages at {physical:#x} are not its payer's");
        self.entry((&raw const **payer).cast()).paid += pages;
        // A child Untyped's own pages are marked by what they are used for.
        if usage != Use::Nothing {
            self.mark(object, physical, pages, usage);
        }
    }

    /// Pages have one use.
    pub fn mark(&mut self, object: &Header, physical: u64, pages: u64, usage: Use) {
        for page in (physical >> 12)..(physical >> 12) + pages {
            let slot = self.pages.get_mut(page as usize).expect("self-check: memory beyond 1 GiB");
            holds!(object, *slot == Use::Nothing, "page {:#x} has two owners", page << 12);
            *slot = usage;
        }
    }

    /// Memory of a Range without a payer's pages behind it.
    pub fn foreign(&mut self, base: u64, bytes: u64) {
        assert!(self.foreign_count < MAX_FOREIGN, "self-check: more than {MAX_FOREIGN} device Ranges");
        self.foreign[self.foreign_count] = (base, base + bytes);
        self.foreign_count += 1;
    }
}
