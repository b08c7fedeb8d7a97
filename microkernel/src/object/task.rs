//! Task: an address space.

use core::cell::Cell;

use abi::{Error, MAP_EXEC, MAP_READ, MAP_WRITE};
use kcore::handshake::Presence;
use kcore::paging;

use super::{Header, Kind, Object, Range, Ref, Untyped};
use crate::arch::memory;
use crate::shootdown;
use crate::sync::SpinLock;

#[repr(C)]
pub struct Task {
    header: Header,
    root: u64,
    /// The Task before this one in the list of all Tasks; belongs to the list's lock.
    previous: Cell<*const Task>,
    tables: SpinLock<()>,
    pub presence: Presence,
}

// SAFETY: repr(C), header first, made with Kind::Task only.
unsafe impl Object for Task {
    const KIND: Kind = Kind::Task;

    fn orphaned(&self) {
        shootdown::task_deleted(self);
    }
}

/// All Tasks, newest first.
struct All {
    last: *const Task,
}
// SAFETY: only a pointer; following it is up to the holder of the lock.
unsafe impl Send for All {}
static ALL: SpinLock<All> = SpinLock::new(All { last: core::ptr::null() });

/// Page tables in the direct map, paid for by the Task's payer.
struct Tables<'a>(&'a Untyped);

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
        self.0.allocate(1, 1).ok()
    }

    fn free(&mut self, table: u64) {
        self.0.free(table, 1);
    }
}

impl Task {
    pub fn create(payer: &Ref<Untyped>) -> Result<Ref<Task>, Error> {
        let root = payer.allocate(1, 1)?;
        memory::share_kernel_half(root);
        let task = super::create(payer, |header| Task {
            header,
            root,
            previous: Cell::new(core::ptr::null()),
            tables: SpinLock::new(()),
            presence: Presence::new(),
        })
        .inspect_err(|_| payer.free(root, 1))?;
        let mut all = ALL.lock();
        task.previous.set(all.last);
        all.last = &raw const *task;
        drop(all);
        Ok(task)
    }

    /// Take away every mapping of `[physical, physical + bytes)` from every Task: the memory is about to go back. Walks
    /// all page tables: the price of keeping no record per mapping, paid only when a Range ends.
    pub fn unmap_everywhere(physical: u64, bytes: u64) {
        let all = ALL.lock();
        let mut at = all.last;
        // SAFETY: a Task leaves the list, under its lock, before its memory goes.
        while let Some(task) = unsafe { at.as_ref() } {
            at = task.previous.get();
            let guard = task.tables.lock();
            let found = paging::unmap_physical(&mut task.page_tables(), task.root, physical, bytes);
            drop(guard);
            if found {
                shootdown::flush(task);
            }
        }
    }

    /// No capability names it any more.
    pub fn is_deleted(&self) -> bool {
        self.header.is_orphaned()
    }

    pub fn root(&self) -> u64 {
        self.root
    }

    fn page_tables(&self) -> Tables<'_> {
        Tables(self.header.payer().expect("a Task has a payer"))
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
        let replaced = paging::map(&mut self.page_tables(), self.root, address, physical, size, bits);
        drop(guard);
        self.settle(replaced)
    }

    /// When this returns, no core can reach the pages.
    #[inline(always)]
    pub fn unmap(&self, address: u64, size: u64) -> Result<(), Error> {
        check_user_range(address, size)?;
        let guard = self.tables.lock();
        let found = paging::unmap(&mut self.page_tables(), self.root, address, size);
        drop(guard);
        self.settle(found)
    }

    /// After a change of the page tables: flush what was taken away.
    #[inline]
    fn settle(&self, changed: Result<bool, paging::NoMemory>) -> Result<(), Error> {
        if changed != Ok(false) {
            shootdown::flush(self); // (where memory ran out, large pages may have been split)
        }
        changed.map(drop).map_err(|paging::NoMemory| Error::NoMemory)
    }
}

#[cfg(feature = "check")]
impl Task {
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Visit the tables and pages of the user half.
    pub fn walk(&self, mut visit: impl FnMut(paging::Met)) {
        paging::walk(&self.page_tables(), self.root, &mut visit);
    }

    pub fn audit(&self, audit: &mut crate::check::Audit) {
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
        // Cores hold a reference while the Task is in their CR3: none has it now.
        debug_assert!(self.presence.active() == 0);
        let mut all = ALL.lock();
        if core::ptr::eq(all.last, self) {
            all.last = self.previous.get();
        } else {
            let mut at = all.last;
            // SAFETY: as in `unmap_everywhere`.
            while let Some(task) = unsafe { at.as_ref() } {
                if core::ptr::eq(task.previous.get(), self) {
                    task.previous.set(self.previous.get());
                    break;
                }
                at = task.previous.get();
            }
        }
        drop(all);
        let mut tables = self.page_tables();
        paging::free_user_tables(&mut tables, self.root);
        tables.0.free(self.root, 1);
    }
}
