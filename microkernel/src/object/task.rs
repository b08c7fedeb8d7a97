//! Task: an address space.

use core::cell::Cell;
use core::ptr::null;

use abi::{Error, MAP_EXEC, MAP_READ, MAP_WRITE};
use kcore::handshake::Presence;
use kcore::paging;

use super::{Header, Kind, Object, Pages, Range, Ref, Remains, Untyped, create_with};
use crate::arch::memory;
use crate::sync::SpinLock;

// What a Task asks of the cores that use it. They know Tasks, and not the other way round: `shootdown.rs` has these, and the
// linker brings them together.
unsafe extern "Rust" {
    safe fn flush_translations(task: &Task);
    safe fn leave_deleted_task(task: &Task);
}

#[repr(C)]
pub struct Task {
    header: Header,
    root: u64,
    /// Neighbours in the list of all Tasks; they belong to the list's lock.
    older: Cell<*const Task>,
    newer: Cell<*const Task>,
    listed: Remains<bool>,
    tables: SpinLock<()>,
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
        if core::mem::take(unsafe { self.listed.get() }) {
            self.unlist();
        }
        paging::free_user_tables(&mut Tables(self), self.root, TABLES_OF_STEP)
    }

    #[cfg(feature = "check")]
    fn audit(&self, audit: &mut crate::check::Audit) {
        self.tell(audit);
    }
}

/// Page tables that are given back in one step of a destruction.
const TABLES_OF_STEP: usize = 8;
/// Entries of page tables that are read in one step of a [`Sweep`].
const ENTRIES_OF_STEP: usize = 512;

/// All Tasks, newest first.
struct All {
    newest: *const Task,
}
// SAFETY: only a pointer; following it is up to the holder of the lock.
unsafe impl Send for All {}
static ALL: SpinLock<All> = SpinLock::new(All { newest: null() });

/// A way through all Tasks in steps that takes every mapping of some memory away: the memory is about to go back. It reads
/// all page tables: the price of keeping no record per mapping, paid only when a Range ends.
///
/// Nobody can map the memory any more (that takes a Range), so Tasks that come meanwhile do not matter, and neither do those
/// that end: no core has them in its CR3.
pub enum Sweep {
    Begin,
    /// In this Task, all below this address is done.
    At(Ref<Task>, u64),
    End,
}

impl Sweep {
    /// Go on a little. True: nothing of `memory` is mapped any more.
    pub fn step(&mut self, memory: &core::ops::Range<u64>) -> bool {
        match self {
            Self::Begin => *self = Self::to(|all| all.newest),
            Self::At(task, address) => {
                let guard = task.tables.lock();
                let found = paging::unmap_physical(&mut Tables(task), task.root, address, memory, ENTRIES_OF_STEP);
                drop(guard);
                if found {
                    flush_translations(task);
                }
                if *address == paging::USER_END {
                    let next = Self::to(|_| task.older.get());
                    *self = next;
                }
            }
            Self::End => {}
        }
        matches!(self, Self::End)
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

/// Page tables in the direct map, paid for by the Task's payer.
struct Tables<'a>(&'a Task);

impl paging::Tables for Tables<'_> {
    #[inline]
    fn read(&self, table: u64, index: usize) -> u64 {
        // SAFETY: tables of a Task lie in the direct map; the CPU may set bits at any time.
        unsafe { memory::to_virtual(table).cast::<u64>().add(index).read_volatile() }
    }

    #[inline]
    fn write(&mut self, table: u64, index: usize, entry: u64) {
        // SAFETY: as above; callers hold the Task's lock.
        unsafe { memory::to_virtual(table).cast::<u64>().add(index).write_volatile(entry) }
    }

    fn allocate(&mut self) -> Option<u64> {
        self.0.payer().allocate_page().ok()
    }

    fn free(&mut self, table: u64) {
        self.0.payer().free(table, 1);
    }
}

impl Task {
    pub fn create(payer: &Ref<Untyped>) -> Result<Ref<Task>, Error> {
        let task = create_with(payer, Pages::wiped(1), |header, root| {
            memory::share_kernel_half(root);
            Task {
                header,
                root,
                older: Cell::new(null()),
                newer: Cell::new(null()),
                listed: Remains::new(true),
                tables: SpinLock::new(()),
                presence: Presence::new(),
            }
        })?;
        let mut all = ALL.lock();
        task.older.set(all.newest);
        // SAFETY: see `Sweep::to`.
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
        // SAFETY: see `Sweep::to`.
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

    fn payer(&self) -> &Untyped {
        self.header.payer().expect("a Task has a payer")
    }

    /// Map part of a Range. On NoMemory nothing has changed but that page tables may have been made.
    pub fn map(&self, range: &Range, offset: u64, address: u64, size: u64, flags: u64) -> Result<(), Error> {
        check_user_range(address, size)?;
        if offset % 4096 != 0 {
            return Err(Error::BadAddress);
        }
        if flags & !(MAP_READ | MAP_WRITE | MAP_EXEC) != 0 || flags & MAP_READ == 0 {
            return Err(Error::BadArgument);
        }
        let physical = range.physical(offset, size)?;
        let mut bits = paging::USER;
        if flags & MAP_WRITE != 0 {
            bits |= paging::WRITABLE;
        }
        if flags & MAP_EXEC == 0 {
            bits |= paging::NO_EXECUTE;
        }
        if range.is_device() {
            bits |= paging::UNCACHED;
        }
        let guard = self.tables.lock();
        let replaced = paging::map(&mut Tables(self), self.root, address, physical, size, bits);
        drop(guard);
        self.settle(replaced)
    }

    /// When this returns, no core can reach the pages.
    #[inline(always)]
    pub fn unmap(&self, address: u64, size: u64) -> Result<(), Error> {
        check_user_range(address, size)?;
        let guard = self.tables.lock();
        let found = paging::unmap(&mut Tables(self), self.root, address, size);
        drop(guard);
        self.settle(found)
    }

    /// After a change of the page tables: flush what was taken away.
    #[inline]
    fn settle(&self, changed: Result<bool, paging::NoMemory>) -> Result<(), Error> {
        if changed != Ok(false) {
            flush_translations(self); // (where memory ran out, large pages may have been split)
        }
        changed.map(drop).map_err(|paging::NoMemory| Error::NoMemory)
    }
}

#[cfg(feature = "check")]
impl Task {
    /// Visit the tables and pages of the user half.
    pub fn walk(&self, mut visit: impl FnMut(paging::Met)) {
        paging::walk(&Tables(self), self.root, &mut visit);
    }

    fn tell(&self, audit: &mut crate::check::Audit) {
        use crate::check::Use;
        audit.own(&self.header, self.root, 1, Use::Kernel);
        self.walk(|met| {
            if let paging::Met::Table(table) = met {
                audit.own(&self.header, table, 1, Use::Kernel);
            }
        });
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
