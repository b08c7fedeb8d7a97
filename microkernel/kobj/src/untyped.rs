//! Untyped: memory that its holder may turn into objects, and by that their quota.

use core::ops::Range as Span;

use abi::Error;

use crate::platform::{to_virtual, zero};
use crate::sync::SpinLock;
use crate::{Header, Kind, Object, Ref, Remains};

/// Contiguous pages that an Untyped is asked for.
#[derive(Clone, Copy)]
pub struct Pages {
    count: u64,
    wiped: bool,
}

impl Pages {
    pub const fn wiped(count: u64) -> Self {
        Self { count, wiped: true }
    }

    /// As they are: for a child Untyped, which wipes what it gives out.
    fn unwiped(count: u64) -> Self {
        Self { count, wiped: false }
    }

    /// Large pages can be mapped where there are enough.
    fn align(self) -> u64 {
        if self.count >= 512 { 512 * 4096 } else { 4096 }
    }
}

/// Pages that are given back in one step of a destruction.
const PAGES_OF_STEP: u64 = 8;
/// Pages that one allocation wipes, or joins, before it has to be asked again.
const PAGES_OF_CALL: u64 = 512;

struct Pool {
    /// Pages from here to `end` are not given out; those before `clean` are zero.
    fresh: u64,
    clean: u64,
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
    /// The parent's pages that this Untyped covers, while they are not given back (none of a boot-time one, which has no
    /// parent).
    owned: Remains<Span<u64>>,
}

// SAFETY: repr(C), header first, made with Kind::Untyped only.
unsafe impl Object for Untyped {
    const KIND: Kind = Kind::Untyped;

    fn dismantle(&self) -> bool {
        // Every object made from this pool held a reference to it: all its pages are back.
        // SAFETY: the one place that uses it, in `dismantle`.
        self.header.payer().is_none_or(|parent| parent.free_some(unsafe { self.owned.get() }))
    }

    #[cfg(feature = "check")]
    fn audit(&self, audit: &mut crate::check::Audit) {
        self.tell(audit);
    }
}

impl Untyped {
    /// Over `[base, base + bytes)`, page aligned, memory found at boot.
    pub fn new_boot(header: Header, base: u64, bytes: u64) -> Self {
        Self::new(header, base, bytes, 0..0)
    }

    fn new(header: Header, base: u64, bytes: u64, owned: Span<u64>) -> Self {
        let pool = Pool { fresh: base, clean: base, end: base + bytes, returned: 0, returned_pages: 0 };
        Self { header, pool: SpinLock::new(pool), base, owned: Remains::new(owned) }
    }

    pub fn free_bytes(&self) -> u64 {
        let pool = self.pool.lock();
        pool.end - pool.fresh + pool.returned_pages * 4096
    }

    /// Physical address of a zeroed page.
    pub fn allocate_page(&self) -> Result<u64, Error> {
        self.pool.lock().take(Pages::wiped(1))
    }

    /// A zeroed page for an object, and pages that it owns. Cancelled: there is more to wipe or to join than one call does, ask
    /// again. (Never for single pages.)
    pub fn allocate(&self, owned: Pages) -> Result<(u64, u64), Error> {
        let mut pool = self.pool.lock();
        let start = pool.take(owned)?;
        let page = pool.take(Pages::wiped(1)).inspect_err(|_| pool.take_back(start, owned))?;
        Ok((page, start))
    }

    /// Take a few pages back. Their content is wiped here, so that nothing of it can be seen by whoever gets them next.
    pub fn free(&self, start: u64, pages: u64) {
        // SAFETY: who had them gives them up.
        unsafe { zero(start, pages * 4096) };
        let mut pool = self.pool.lock();
        if start + pages * 4096 == pool.fresh {
            pool.fresh = start;
            pool.join();
        } else {
            for page in (0..pages).map(|i| start + i * 4096) {
                pool.put(page);
            }
        }
        if pool.returned_pages > 0 && pool.returned_pages * 4096 == pool.fresh - self.base {
            // All is back, in whatever order: it can be given out in one piece again, but for the links it is not clean.
            (pool.fresh, pool.clean, pool.returned, pool.returned_pages) = (self.base, self.base, 0, 0);
        }
    }

    /// Take a part of `pages` back, and leave the rest. True: there is none.
    pub fn free_some(&self, pages: &mut Span<u64>) -> bool {
        let count = ((pages.end - pages.start) / 4096).min(PAGES_OF_STEP);
        if count > 0 {
            // From the side on which they join what is fresh; else so that they can be joined later, the highest first.
            let last = self.pool.lock().fresh == pages.end;
            let start = if last { pages.end - count * 4096 } else { pages.start };
            *pages = if last { pages.start..start } else { start + count * 4096..pages.end };
            self.free(start, count);
        }
        pages.is_empty()
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

    fn tell(&self, audit: &mut crate::check::Audit) {
        use crate::check::Use;
        // SAFETY: nothing changes during a check.
        let owned = unsafe { self.owned.look() };
        if !owned.is_empty() {
            audit.own(&self.header, owned.start, (owned.end - owned.start) / 4096, Use::Nothing);
        }
        let pool = self.pool.lock();
        crate::holds!(
            &self.header,
            self.base <= pool.fresh && pool.fresh <= pool.clean && pool.clean <= pool.end,
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
    /// Physical address of pages. (Inlined, since for a single page most of it goes away.)
    #[inline(always)]
    fn take(&mut self, pages: Pages) -> Result<u64, Error> {
        if pages.count == 1 && self.returned != 0 {
            return Ok(self.pop());
        }
        let start = self.fresh.next_multiple_of(pages.align());
        let end = pages.count.checked_mul(4096).and_then(|bytes| start.checked_add(bytes)).ok_or(Error::NoMemory)?;
        if end > self.end {
            return Err(if self.join() { Error::Cancelled } else { Error::NoMemory });
        }
        let wiped = if pages.wiped { end } else { start };
        if wiped > self.clean {
            self.wipe_to(wiped)?;
        }
        self.clean = self.clean.max(end);
        for skipped in (self.fresh..start).step_by(4096) {
            self.put(skipped);
        }
        self.fresh = end;
        Ok(start)
    }

    /// Undo `take`, after which not even a single page was left.
    fn take_back(&mut self, start: u64, pages: Pages) {
        if start + pages.count * 4096 == self.fresh {
            self.fresh = start;
            if !pages.wiped {
                self.clean = start;
            }
        } else {
            self.put(start); // a page from the list
        }
    }

    /// Zero what is not given out, up to `end`.
    fn wipe_to(&mut self, end: u64) -> Result<(), Error> {
        let left = end - self.clean;
        let now = left.min(PAGES_OF_CALL * 4096);
        // SAFETY: nobody has what was not given out.
        unsafe { zero(self.clean, now) };
        self.clean += now;
        if now < left { Err(Error::Cancelled) } else { Ok(()) }
    }

    /// Pages that came back last and lie just below `fresh` become fresh again, so that objects that go in the reverse
    /// order of their making leave one contiguous piece. Whether there were any.
    fn join(&mut self) -> bool {
        let before = self.fresh;
        while self.returned != 0 && self.returned + 4096 == self.fresh && before - self.fresh < PAGES_OF_CALL * 4096 {
            self.fresh = self.pop();
        }
        self.fresh != before
    }

    /// Take the page out of the list that came into it last.
    fn pop(&mut self) -> u64 {
        let page = self.returned;
        let link = to_virtual(page).cast::<u64>();
        // SAFETY: a page in the list belongs to the pool and holds the link.
        unsafe {
            self.returned = link.read();
            link.write(0);
        }
        self.returned_pages -= 1;
        page
    }

    /// Put a zeroed page into the list.
    fn put(&mut self, page: u64) {
        // SAFETY: the page belongs to the pool and is not in use.
        unsafe { to_virtual(page).cast::<u64>().write(self.returned) };
        self.returned = page;
        self.returned_pages += 1;
    }
}

/// Make a child Untyped of `pages` pages.
pub fn create_child(payer: &Ref<Untyped>, pages: u64) -> Result<Ref<Untyped>, Error> {
    create_with(payer, Pages::unwiped(pages), |header, base| {
        let bytes = pages * 4096;
        Untyped::new(header, base, bytes, base..base + bytes)
    })
}

/// Make an object in a page of `payer`.
pub fn create<T: Object>(payer: &Ref<Untyped>, make: impl FnOnce(Header) -> T) -> Result<Ref<T>, Error> {
    let page = payer.allocate_page()?;
    // SAFETY: the page was just allocated.
    Ok(unsafe { put(payer, page, make) })
}

/// Make an object in a page of `payer`, and of others besides, whose address `make` gets.
pub fn create_with<T: Object>(
    payer: &Ref<Untyped>,
    owned: Pages,
    make: impl FnOnce(Header, u64) -> T,
) -> Result<Ref<T>, Error> {
    let (page, start) = payer.allocate(owned)?;
    // SAFETY: the page was just allocated.
    Ok(unsafe { put(payer, page, |header| make(header, start)) })
}

/// # Safety
/// The page was allocated from `payer` and is not in use.
unsafe fn put<T: Object>(payer: &Ref<Untyped>, page: u64, make: impl FnOnce(Header) -> T) -> Ref<T> {
    const { assert!(size_of::<T>() <= 4096) };
    let header = Header::new::<T>(Some(payer.clone()));
    // SAFETY: by the caller's promise.
    unsafe { Ref::new(to_virtual(page), make(header)) }
}
