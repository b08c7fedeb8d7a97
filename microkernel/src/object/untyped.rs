//! Untyped: memory that its holder may turn into objects, and by that their quota.

use abi::Error;

use super::{Header, Kind, Object, Ref};
use crate::arch::memory::{to_virtual, zero};
use crate::sync::SpinLock;

struct Pool {
    /// Pages from here to `end` were never given out.
    fresh: u64,
    end: u64,
    /// Pages that came back, linked through their first word; 0 ends the list. They are zero but for the link.
    returned: u64,
    returned_pages: u64,
}

#[repr(C)]
pub struct Untyped {
    header: Header,
    pool: SpinLock<Pool>,
    base: u64,
    /// The parent's pages that this Untyped covers (0 for the boot-time ones, which have no parent).
    owned_pages: u64,
}

// SAFETY: repr(C), header first, made with Kind::Untyped only.
unsafe impl Object for Untyped {
    const KIND: Kind = Kind::Untyped;
}

impl Untyped {
    /// Over `[base, base + bytes)`, page aligned, memory found at boot.
    pub fn new_boot(header: Header, base: u64, bytes: u64) -> Self {
        Self::new(header, base, bytes, 0)
    }

    fn new(header: Header, base: u64, bytes: u64, owned_pages: u64) -> Self {
        let pool = Pool { fresh: base, end: base + bytes, returned: 0, returned_pages: 0 };
        Self { header, pool: SpinLock::new(pool), base, owned_pages }
    }

    pub fn free_bytes(&self) -> u64 {
        let pool = self.pool.lock();
        pool.end - pool.fresh + pool.returned_pages * 4096
    }

    /// Physical address of `pages` contiguous zeroed pages, aligned to `align` pages (a power of two).
    pub fn allocate(&self, pages: u64, align: u64) -> Result<u64, Error> {
        let mut pool = self.pool.lock();
        if pages == 1 && align == 1 && pool.returned != 0 {
            let page = pool.returned;
            let link = to_virtual(page).cast::<u64>();
            // SAFETY: a page in the list belongs to the pool and holds the link.
            unsafe {
                pool.returned = link.read();
                link.write(0);
            }
            pool.returned_pages -= 1;
            return Ok(page);
        }
        let start = pool.fresh.next_multiple_of(align * 4096);
        let end = pages.checked_mul(4096).and_then(|bytes| start.checked_add(bytes)).ok_or(Error::NoMemory)?;
        if end > pool.end {
            return Err(Error::NoMemory);
        }
        let skipped = pool.fresh..start;
        pool.fresh = end;
        for page in skipped.step_by(4096) {
            zero(page, 4096); // never given out yet: what it holds is from before the boot
            pool.put(page);
        }
        drop(pool);
        zero(start, end - start);
        Ok(start)
    }

    /// Take pages back. Their content is wiped here, so that nothing of it can be seen by whoever gets them next.
    pub fn free(&self, start: u64, pages: u64) {
        zero(start, pages * 4096);
        let mut pool = self.pool.lock();
        if start + pages * 4096 == pool.fresh {
            pool.fresh = start;
            pool.join();
        } else {
            for page in (0..pages).map(|i| start + i * 4096) {
                pool.put(page);
            }
        }
        if pool.returned_pages * 4096 == pool.fresh - self.base {
            // All is back, in whatever order: it can be given out in one piece again. (Fresh pages are wiped when they go.)
            (pool.fresh, pool.returned, pool.returned_pages) = (self.base, 0, 0);
        }
    }
}

#[cfg(feature = "check")]
impl Untyped {
    /// The Untyped that this one was made of.
    pub fn made_of(&self) -> Option<&Ref<Untyped>> {
        self.header.payer()
    }

    pub fn total_bytes(&self) -> u64 {
        self.pool.lock().end - self.base
    }

    /// Whether pages lie where this Untyped has given pages out.
    pub fn has_given_out(&self, physical: u64, pages: u64) -> bool {
        physical % 4096 == 0 && physical >= self.base && physical + pages * 4096 <= self.pool.lock().fresh
    }

    pub fn audit(&self, audit: &mut crate::check::Audit) {
        use crate::check::Use;
        if self.owned_pages > 0 {
            audit.own(&self.header, self.base, self.owned_pages, Use::Nothing);
        }
        let pool = self.pool.lock();
        crate::holds!(
            &self.header,
            pool.fresh >= self.base && pool.fresh <= pool.end,
            "fresh pages begin at {:#x}",
            pool.fresh
        );
        let (mut page, mut count) = (pool.returned, 0);
        while page != 0 {
            crate::holds!(
                &self.header,
                page % 4096 == 0 && page >= self.base && page < pool.fresh,
                "free page {page:#x} is not its own"
            );
            audit.mark(&self.header, page, 1, Use::Free); // (and so the list has no circle)
            // SAFETY: a page in the list belongs to the pool.
            let words = unsafe { core::slice::from_raw_parts(to_virtual(page).cast::<u64>(), 512) };
            crate::holds!(&self.header, words[1..].iter().all(|&word| word == 0), "free page {page:#x} is not zero");
            page = words[0];
            count += 1;
        }
        crate::holds!(
            &self.header,
            count == pool.returned_pages,
            "{count} free pages, counted {}",
            pool.returned_pages
        );
    }
}

impl Pool {
    /// Pages that came back last and lie just below `fresh` become fresh again, so that objects that go in the reverse
    /// order of their making leave one contiguous piece.
    fn join(&mut self) {
        while self.returned != 0 && self.returned + 4096 == self.fresh {
            self.fresh = self.returned;
            let link = to_virtual(self.returned).cast::<u64>();
            // SAFETY: a page in the list belongs to the pool and holds the link.
            unsafe {
                self.returned = link.read();
                link.write(0);
            }
            self.returned_pages -= 1;
        }
    }

    /// Put a zeroed page into the list.
    fn put(&mut self, page: u64) {
        // SAFETY: the page belongs to the pool and is not in use.
        unsafe { to_virtual(page).cast::<u64>().write(self.returned) };
        self.returned = page;
        self.returned_pages += 1;
    }
}

impl Drop for Untyped {
    fn drop(&mut self) {
        // Every object made from this pool held a reference to it: all its pages are back.
        if let Some(parent) = self.header.payer().filter(|_| self.owned_pages > 0).cloned() {
            parent.free(self.base, self.owned_pages);
        }
    }
}

/// Make a child Untyped of `pages` pages.
pub fn create_child(payer: &Ref<Untyped>, pages: u64) -> Result<Ref<Untyped>, Error> {
    let base = payer.allocate(pages, if pages >= 512 { 512 } else { 1 })?;
    super::create(payer, |header| Untyped::new(header, base, pages * 4096, pages))
        .inspect_err(|_| payer.free(base, pages))
}
