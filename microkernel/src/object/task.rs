//! Task: an address space.

use core::cell::Cell;
use core::ops::Range as Span;
use core::ptr::null;
use core::sync::atomic::{AtomicU64, Ordering};

use abi::Error;
use kcore::handshake::{Flushed, Presence};
use kcore::paging;

use super::range::Source;
use super::{Header, Kind, Object, Pages, Ref, Remains, Untyped, create_with};
use crate::arch::{self, memory};
use crate::sync::{Guard, SpinLock};

// What a Task asks of the cores that use it. They know Tasks, and not the other way round: `shootdown.rs` has these, and the
// linker brings them together.
unsafe extern "Rust" {
    safe fn settle_translations(task: &Task, taken_out: bool) -> Flushed;
    safe fn leave_deleted_task(task: &Task);
}

#[repr(C)]
pub struct Task {
    header: Header,
    root: u64,
    /// No other Task has or had it, though it may have had the same root.
    number: u64,
    /// Neighbours in the list of all Tasks; they belong to the list's lock.
    older: Cell<*const Task>,
    newer: Cell<*const Task>,
    /// In the end: the addresses whose tables are still to go.
    left: Remains<Span<u64>>,
    /// Nobody changes the page tables without it; see [`Tables`].
    lock: SpinLock<()>,
    /// Page tables below the root.
    table_count: AtomicU64,
    pub presence: Presence,
}

// SAFETY: repr(C), header first, made with Kind::Task only.
unsafe impl Object for Task {
    const KIND: Kind = Kind::Task;

    fn orphaned(&self) -> bool {
        leave_deleted_task(self);
        true
    }

    fn dismantle(&self) -> bool {
        // Cores hold a reference while the Task is in their CR3: none has it now.
        debug_assert!(self.presence.active() == 0);
        // SAFETY: the one place that uses it, in `dismantle`.
        let left = unsafe { self.left.get() };
        if left.start == 0 {
            self.unlist();
        }
        self.unmap_some(left, ENTRIES_OF_STEP).expect("no large page reaches outside");
        left.is_empty()
    }

    #[cfg(feature = "check")]
    fn audit(&self, audit: &mut crate::check::Audit) {
        self.tell(audit);
    }
}

/// Entries of page tables that are read in one step of a [`Sweep`] or of a destruction.
const ENTRIES_OF_STEP: usize = 512;
/// Entries of page tables that an unmap reads before interrupts have their turn.
const ENTRIES_OF_UNMAP: usize = 4096;

/// Tasks that were ever made.
static MADE: AtomicU64 = AtomicU64::new(0);

/// All Tasks, newest first.
struct All {
    newest: *const Task,
}
// SAFETY: only a pointer; following it is up to the holder of the lock.
unsafe impl Send for All {}
static ALL: SpinLock<All> = SpinLock::new(All { newest: null() });

/// A way through all Tasks in steps that takes mappings of some memory away: the memory is about to go back, or what was derived
/// from a capability to it was revoked. It reads all page tables: the price of keeping no record per mapping.
///
/// Nobody can make such a mapping any more (see [`Task::map`]), so Tasks that come meanwhile do not matter, and neither do
/// those that end: no core has them in its CR3.
pub enum Sweep {
    Begin,
    /// In this Task, all below this address is done.
    At(Ref<Task>, u64),
    End,
}

/// A [`Sweep`] has come to its end: nobody can reach the memory through a Task.
pub struct Unmapped(());

impl Sweep {
    /// Go on a little, until nothing of `memory` is mapped any more whose tag is at least `tag`.
    pub fn step(&mut self, memory: &Span<u64>, tag: u8) -> Option<Unmapped> {
        match self {
            Self::Begin => *self = Self::to(|all| all.newest),
            Self::At(task, address) => {
                let mut tables = task.tables();
                let found = paging::unmap_physical(&mut tables, task.root, address, memory, tag, ENTRIES_OF_STEP);
                let flushed = tables.settle(found);
                if *address == paging::USER_END {
                    let next = Self::beyond(task, flushed);
                    *self = next;
                }
            }
            Self::End => {}
        }
        matches!(self, Self::End).then_some(Unmapped(()))
    }

    #[cfg(feature = "check")]
    pub fn audit(&self, audit: &mut crate::check::Audit) {
        if let Self::At(task, _) = self {
            audit.reference(task);
        }
    }

    /// Behind a Task whose last part was `flushed`.
    fn beyond(task: &Task, flushed: Flushed) -> Self {
        let _ = flushed;
        Self::to(|_| task.older.get())
    }

    /// The beginning of a Task in the list, or of the next one that lives.
    fn to(first: impl FnOnce(&All) -> *const Task) -> Self {
        let all = ALL.lock();
        let mut at = first(&all);
        // SAFETY: a Task leaves the list, under its lock, before its memory goes.
        while let Some(task) = unsafe { at.as_ref() } {
            if let Some(task) = Ref::upgrade(task) {
                return Self::At(task, 0);
            }
            at = task.older.get();
        }
        Self::End
    }
}

/// A Task's page tables, under their lock: the one way to change them. What was taken out is flushed before the lock goes, and
/// tables that were detached go back after that. So nobody who finds something gone can be ahead of its flush: see
/// [`Presence::settle`](kcore::handshake::Presence::settle).
struct Tables<'a> {
    task: &'a Task,
    /// Detached tables, linked through their first word, which for the processor is an entry that is not present; 0 ends
    /// the list.
    detached: u64,
    lock: Guard<'a, ()>,
}

impl Tables<'_> {
    /// The end of a change.
    #[inline(always)]
    fn settle(self, taken_out: bool) -> Flushed {
        let Self { task, detached, lock } = self;
        let flushed = settle_translations(task, taken_out || detached != 0);
        drop(lock);
        if detached != 0 {
            task.give_back(detached, &flushed);
        }
        flushed
    }
}

/// In the direct map, paid for by the Task's payer.
impl paging::Tables for Tables<'_> {
    #[inline]
    fn read(&self, table: u64, index: usize) -> u64 {
        self.task.entry(table, index)
    }

    #[inline]
    fn write(&mut self, table: u64, index: usize, entry: u64) {
        // SAFETY: tables of a Task lie in the direct map, and this holds the Task's lock; the CPU may set bits at any time.
        unsafe { memory::to_virtual(table).cast::<u64>().add(index).write_volatile(entry) }
    }

    fn allocate(&mut self) -> Option<u64> {
        let table = self.task.payer().allocate_page().ok()?;
        self.task.table_count.fetch_add(1, Ordering::Relaxed);
        Some(table)
    }

    fn detach(&mut self, table: u64) {
        self.write(table, 0, self.detached);
        self.detached = table;
        self.task.table_count.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Task {
    pub fn create(payer: &Ref<Untyped>) -> Result<Ref<Task>, Error> {
        let task = create_with(payer, Pages::wiped(1), |header, root| {
            memory::share_kernel_half(root);
            Task {
                header,
                root,
                number: MADE.fetch_add(1, Ordering::Relaxed) + 1,
                older: Cell::new(null()),
                newer: Cell::new(null()),
                left: Remains::new(0..paging::USER_END),
                lock: SpinLock::new(()),
                table_count: AtomicU64::new(0),
                presence: Presence::new(),
            }
        })?;
        let mut all = ALL.lock();
        task.older.set(all.newest);
        // SAFETY: a Task leaves the list, under its lock, before its memory goes.
        if let Some(before) = unsafe { all.newest.as_ref() } {
            before.newer.set(&raw const *task);
        }
        all.newest = &raw const *task;
        drop(all);
        Ok(task)
    }

    fn unlist(&self) {
        let mut all = ALL.lock();
        let (older, newer) = (self.older.get(), self.newer.get());
        // SAFETY: a Task leaves the list, under its lock, before its memory goes.
        unsafe {
            match newer.as_ref() {
                Some(newer) => newer.older.set(older),
                None => all.newest = older,
            }
            if let Some(older) = older.as_ref() {
                older.newer.set(newer);
            }
        }
    }

    pub fn root(&self) -> u64 {
        self.root
    }

    pub fn number(&self) -> u64 {
        self.number
    }

    fn payer(&self) -> &Untyped {
        self.header.payer().expect("a Task has a payer")
    }

    #[inline]
    fn tables(&self) -> Tables<'_> {
        Tables { task: self, detached: 0, lock: self.lock.lock() }
    }

    fn entry(&self, table: u64, index: usize) -> u64 {
        // SAFETY: tables of a Task lie in the direct map; the CPU may set bits at any time.
        unsafe { memory::to_virtual(table).cast::<u64>().add(index).read_volatile() }
    }

    /// Page tables below the root.
    pub fn table_count(&self) -> u64 {
        self.table_count.load(Ordering::Relaxed)
    }

    /// Detached tables go back to the payer.
    #[cold]
    fn give_back(&self, mut table: u64, _: &Flushed) {
        while table != 0 {
            let next = self.entry(table, 0);
            self.payer().free(table, 1);
            table = next;
        }
    }

    /// Map what `source` finds. On NoMemory nothing has changed.
    ///
    /// `source` looks under the Task's lock whether the caller may: who revokes that right afterwards, and then comes here with
    /// a [`Sweep`], finds the mapping.
    #[inline(always)]
    pub fn map<E: From<Error>>(
        &self,
        address: u64,
        size: u64,
        source: impl FnOnce() -> Result<Source, E>,
    ) -> Result<(), E> {
        check_user_range(address, size)?;
        let mut tables = self.tables();
        let Source { physical, bits } = source()?;
        if size == 4096
            && let Some(replaced) = paging::map_one(&mut tables, self.root, address, physical, bits)
        {
            tables.settle(replaced);
            return Ok(());
        }
        Ok(self.map_many(tables.lock, address, physical, size, bits)?)
    }

    #[inline(never)]
    fn map_many(&self, lock: Guard<()>, address: u64, physical: u64, size: u64, bits: u64) -> Result<(), Error> {
        let mut tables = Tables { task: self, detached: 0, lock };
        let replaced = paging::map(&mut tables, self.root, address, physical, size, bits);
        tables.settle(replaced != Ok(false)); // (where memory ran out, large pages may have been split)
        replaced.map(drop).map_err(|paging::NoMemory| Error::NoMemory)
    }

    /// When this returns, no core can reach the pages, and tables that became empty have gone back. On NoMemory nothing has
    /// changed.
    #[inline(always)]
    pub fn unmap(&self, address: u64, size: u64) -> Result<(), Error> {
        check_user_range(address, size)?;
        if size == 4096 {
            let mut tables = self.tables();
            if paging::unmap_one(&mut tables, self.root, address) {
                tables.settle(true);
                return Ok(());
            }
        }
        self.unmap_many(address..address + size)
    }

    #[inline(never)]
    fn unmap_many(&self, mut span: Span<u64>) -> Result<(), Error> {
        loop {
            self.unmap_some(&mut span, ENTRIES_OF_UNMAP)?;
            if span.is_empty() {
                return Ok(());
            }
            arch::admit_interrupts();
        }
    }

    /// A part of an unmap; `span` is then what is left.
    fn unmap_some(&self, span: &mut Span<u64>, entries: usize) -> Result<(), Error> {
        let mut tables = self.tables();
        let found = paging::unmap(&mut tables, self.root, span, entries);
        tables.settle(found != Ok(false));
        found.map(drop).map_err(|paging::NoMemory| Error::NoMemory)
    }
}

#[cfg(feature = "check")]
impl Task {
    /// Visit the tables and pages of the user half.
    pub fn walk(&self, mut visit: impl FnMut(paging::Met)) {
        paging::walk(&self.tables(), self.root, &mut visit);
    }

    fn tell(&self, audit: &mut crate::check::Audit) {
        use crate::check::Use;
        audit.own(&self.header, self.root, 1, Use::Kernel);
        let mut count = 0;
        self.walk(|met| {
            let paging::Met::Table { table, entries } = met else { return };
            audit.own(&self.header, table, 1, Use::Kernel);
            let present = (0..512).filter(|&i| self.entry(table, i) & paging::PRESENT != 0).count() as u64;
            crate::holds!(
                &self.header,
                present == entries && present > 0,
                "a table at {table:#x} has {present} entries, counted {entries}"
            );
            count += 1;
        });
        crate::holds!(&self.header, count == self.table_count(), "{count} page tables, counted {}", self.table_count());
    }
}

#[inline]
fn check_user_range(address: u64, size: u64) -> Result<(), Error> {
    let aligned = (address | size) % 4096 == 0 && size > 0;
    match address.checked_add(size) {
        Some(end) if aligned && end <= paging::USER_END => Ok(()),
        _ => Err(Error::BadAddress),
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.payer().free(self.root, 1);
    }
}
