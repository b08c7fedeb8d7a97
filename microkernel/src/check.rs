//! The self-check (cargo feature `check`): every invariant of every object, while the other cores stand still.
//!
//! It starts at the cores and the kernel's reserve, follows every counted pointer, and panics at the first thing that
//! is not as it must be: counts, the derivation list, queues against thread states, memory against who pays for it, page
//! tables against Ranges. Each object tells its own part (`audit`); what spans objects is judged here.
//! The fuzzer asks for it between its batches (`kcore::check::MACHINE_CHECK`).

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use kcore::check::PRIVATE;
use kcore::paging::{Met, USER};

use crate::arch::memory::to_physical;
use crate::arch::{self, Core, core_at, core_count};
use crate::object::{Header, Kind, Object, Ref, State, Task, Thread, ThreadKind, Untyped};
use crate::sync::SpinLock;
use crate::{boot, sched, shootdown};

const MAX_OBJECTS: usize = 1 << 15;
const BUCKETS: usize = 2 * MAX_OBJECTS;
/// Physical memory whose pages are followed: 1 GiB.
const MAX_PAGES: usize = 1 << 18;
/// Ranges that own no pages: device memory, the boot archive.
const MAX_FOREIGN: usize = 256;

static ASKED: AtomicBool = AtomicBool::new(false);
static PARKED: AtomicUsize = AtomicUsize::new(0);

/// Stand still while another core checks. Where the scheduler has made its choice, a core holds nothing.
pub fn park(core: &Core) {
    if !ASKED.load(Ordering::SeqCst) {
        return;
    }
    PARKED.fetch_add(1, Ordering::SeqCst);
    while ASKED.load(Ordering::SeqCst) {
        shootdown::serve(core);
        core::hint::spin_loop();
    }
    PARKED.fetch_sub(1, Ordering::SeqCst);
}

/// Check everything. (Objects seen, capabilities seen.)
pub fn run(list: bool) -> [u64; 2] {
    let own = arch::core();
    ASKED.store(true, Ordering::SeqCst);
    for other in (0..core_count()).filter(|&i| i != own.index).filter_map(core_at) {
        sched::poke(other);
    }
    while PARKED.load(Ordering::SeqCst) + 1 < core_count() {
        shootdown::serve(own);
        core::hint::spin_loop();
    }
    let seen = AUDIT.lock().everything();
    if list {
        AUDIT.lock().list();
    }
    ASKED.store(false, Ordering::SeqCst);
    while PARKED.load(Ordering::SeqCst) != 0 {
        core::hint::spin_loop();
    }
    seen
}

#[derive(Clone, Copy)]
struct Entry {
    object: *const Header,
    references: u32,
    caps: u32,
    /// Queues that hold the thread.
    queued: u32,
    /// Pages of this Untyped that objects own.
    paid: u64,
    /// It is in a list of objects that are ending.
    ending: bool,
    /// Threads wait at it though it is deleted, which is for its end to mend.
    awaited: bool,
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
    entries: [Entry; MAX_OBJECTS],
    count: usize,
    /// Index into `entries` plus one, by hash of the address.
    buckets: [u16; BUCKETS],
    pages: [Use; MAX_PAGES],
    foreign: [(u64, u64); MAX_FOREIGN],
    foreign_count: usize,
    caps: u64,
}

// SAFETY: raw pointers to objects, followed only while every other core stands still.
unsafe impl Send for Audit {}

static AUDIT: SpinLock<Audit> = SpinLock::new(Audit {
    entries: [NO_ENTRY; MAX_OBJECTS],
    count: 0,
    buckets: [0; BUCKETS],
    pages: [Use::Nothing; MAX_PAGES],
    foreign: [(0, 0); MAX_FOREIGN],
    foreign_count: 0,
    caps: 0,
});

/// Panic unless a condition holds, naming the object.
#[macro_export]
macro_rules! holds {
    ($object:expr, $condition:expr, $($why:tt)+) => {
        if !$condition {
            let header = $crate::object::Object::header($object);
            panic!("self-check: {:?} {} at {:p}: {}", header.kind(), header.name(), header, format_args!($($why)+));
        }
    };
}

impl Audit {
    fn everything(&mut self) -> [u64; 2] {
        self.buckets.fill(0);
        self.pages.fill(Use::Nothing);
        (self.count, self.foreign_count, self.caps) = (0, 0, 0);
        let reserve = boot::reserve().expect("made at boot");
        self.reference(reserve);
        for core in (0..core_count()).filter_map(core_at) {
            self.core(core);
        }
        let mut next = 0;
        while next < self.count {
            // SAFETY: every entry was reached through a counted pointer, and nothing changes meanwhile.
            let object = unsafe { &*self.entries[next].object };
            if let Some(payer) = object.payer() {
                self.reference(payer);
                self.own(object, to_physical(object), 1, Use::Kernel);
            }
            object.audit(self);
            next += 1;
        }
        for index in 0..self.count {
            self.judge(self.entries[index], reserve);
        }
        [self.count as u64, self.caps]
    }

    /// Tell of every object that is not the kernel's own.
    fn list(&self) {
        let reserve = boot::reserve().expect("made at boot");
        for entry in &self.entries[..self.count] {
            // SAFETY: see `everything`.
            let object = unsafe { &*entry.object };
            let Some(payer) = object.payer().filter(|payer| !payer.is(reserve)) else { continue };
            let (references, caps) = object.counts();
            let ending = if entry.ending { ", ending" } else { "" };
            crate::klog!(
                "{:?} {} at {object:p}: {references} references, {caps} capabilities{ending}, of {:p}",
                object.kind(),
                object.name(),
                &raw const **payer
            );
            if object.kind() == Kind::Thread {
                // SAFETY: the kind says what type the object is.
                let thread = unsafe { &*entry.object.cast::<Thread>() };
                let home = thread.core().map(|core| core.index);
                crate::klog!(
                    "    {:?}, {:?}, on core {home:?}, dead {}",
                    thread.kind(),
                    thread.state(),
                    thread.is_dead()
                );
            }
        }
    }

    /// What a core refers to.
    fn core(&mut self, core: &Core) {
        // SAFETY: these pointers are counted, and nothing changes meanwhile.
        let (current, task, owner) =
            unsafe { (core.current.get().as_ref(), core.task().as_ref(), core.fpu_owner.get().as_ref()) };
        if let Some(thread) = current {
            self.reference_to(thread);
            holds!(
                thread.header(),
                thread.state() == State::Running,
                "current on core {} but {:?}",
                core.index,
                thread.state()
            );
            holds!(
                thread.header(),
                thread.core().is_some_and(|c| c.index == core.index),
                "current on core {}, not its own",
                core.index
            );
        }
        if let Some(task) = task {
            self.reference_to(task);
        }
        if let Some(thread) = owner {
            self.reference_to(thread);
        }
        core.run_queue.lock().audit(self, core);
        core.work.audit(self);
        for slot in &core.irqs {
            if let Some(handler) = slot.lock().as_ref() {
                self.reference(handler);
            }
        }
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

    /// A thread in a queue, in the state that this queue is for.
    pub fn queued(&mut self, thread: &Thread, state: State) {
        self.reference_to(thread);
        holds!(thread.header(), thread.state() == state, "queued as {state:?}, but its state is {:?}", thread.state());
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

    /// What an object must be now that everything has been seen.
    fn judge(&self, entry: Entry, reserve: &Ref<Untyped>) {
        // SAFETY: see `everything`.
        let object = unsafe { &*entry.object };
        let (references, caps) = object.counts();
        holds!(object, caps == entry.caps, "counts {caps} capabilities, there are {}", entry.caps);
        // What the kernel itself makes, it keeps by pointers that are nowhere to be found.
        let own = object.payer().is_none_or(|payer| payer.is(reserve));
        let right = if own { references >= entry.references } else { references == entry.references };
        holds!(object, right, "counts {references} references, there are {}", entry.references);
        holds!(object, entry.ending || references > 0, "has no references, but does not end");
        holds!(object, entry.ending || !entry.awaited, "deleted, but threads wait at it");
        match object.kind() {
            // SAFETY: the kind says what type the object is.
            Kind::Thread => self.judge_thread(unsafe { &*entry.object.cast() }, entry.queued),
            // (Without references it is in no CR3, and maps what may have gone: see `Sweep`.)
            // SAFETY: as above.
            Kind::Task if references > 0 => self.judge_task(unsafe { &*entry.object.cast() }),
            Kind::Untyped
                if !reserve.is(
                    // SAFETY: as above.
                    unsafe { &*entry.object.cast() },
                ) =>
            {
                // SAFETY: as above.
                let untyped: &Untyped = unsafe { &*entry.object.cast() };
                let given = untyped.total_bytes() - untyped.free_bytes();
                holds!(
                    object,
                    given == entry.paid * 4096,
                    "{given:#x} bytes are given out, objects own {:#x}",
                    entry.paid * 4096
                );
            }
            _ => {}
        }
    }

    fn judge_thread(&self, thread: &Thread, queued: u32) {
        let state = thread.state();
        let in_queue = matches!(
            state,
            State::Ready | State::WaitSend | State::WaitReceive | State::WaitReply | State::WaitNotification
        );
        holds!(thread.header(), queued == u32::from(in_queue), "in {queued} queues, though its state is {state:?}");
        let current =
            (0..core_count()).filter_map(core_at).filter(|core| core::ptr::eq(core.current.get(), thread)).count();
        holds!(
            thread.header(),
            current == usize::from(state == State::Running),
            "current on {current} cores, its state is {state:?}"
        );
        holds!(thread.header(), state != State::Configuring, "left in configuration");
        if state == State::WaitVcpu {
            // SAFETY: a vCPU's page lives as long as the vCPU.
            let (private, pending) = unsafe {
                let page = thread.vcpu_page();
                ((*page).linux[0] == PRIVATE, (*page).pending.load(Ordering::SeqCst))
            };
            holds!(thread.header(), pending == 0 || !private, "sleeps with signals {pending:#x}");
        }
        holds!(
            thread.header(),
            !thread.in_user.get() || thread.kind() != ThreadKind::Ordinary,
            "an ordinary thread has no user context"
        );
    }

    fn judge_task(&self, task: &Task) {
        task.walk(|met| {
            let Met::Page { address, physical, bytes, flags } = met else { return };
            holds!(task.header(), flags & USER != 0, "{address:#x} is mapped for the kernel");
            let owned = |page: u64| self.pages.get((page >> 12) as usize) == Some(&Use::Range);
            let foreign = self.foreign[..self.foreign_count]
                .iter()
                .any(|&(start, end)| physical >= start && physical + bytes <= end);
            let mapped = foreign || boot::is_reserve(physical) || (physical..physical + bytes).step_by(4096).all(owned);
            holds!(task.header(), mapped, "{address:#x} is mapped to {physical:#x}, which is no Range's");
        });
        for core in (0..core_count()).filter_map(core_at) {
            let active = task.presence.active() >> core.index & 1 != 0;
            let loaded = core::ptr::eq(core.task(), task);
            holds!(task.header(), loaded || !active, "active on core {}, which has another Task", core.index);
        }
    }
}
