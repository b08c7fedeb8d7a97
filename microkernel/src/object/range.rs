//! Range: contiguous physical memory that can be mapped into Tasks and shared with the kernel.

use core::ops::Range as Span;

use abi::{Error, MAP_EXEC, MAP_READ, MAP_WRITE};
use kcore::paging;

use super::task::{Sweep, Unmapped};
use super::{Header, Kind, Object, Pages, Ref, Remains, Untyped, create_with};
use crate::arch::memory::to_virtual;

#[repr(C)]
pub struct Range {
    header: Header,
    base: u64,
    bytes: u64,
    device: bool,
    /// The payer's pages, while they are not given back; `None` where the memory is not the payer's.
    owned: Remains<Option<Mappable>>,
    /// Takes the mappings away in the end.
    sweep: Remains<Sweep>,
}

// SAFETY: repr(C), header first, made with Kind::Range only.
unsafe impl Object for Range {
    const KIND: Kind = Kind::Range;

    fn dismantle(&self) -> bool {
        // SAFETY: the one place that uses them, in `dismantle`.
        let (sweep, owned) = unsafe { (self.sweep.get(), self.owned.get()) };
        let Some(unmapped) = sweep.step(&self.memory(), 0) else { return false };
        match (self.header.payer(), owned) {
            (Some(payer), Some(owned)) => owned.give_back(payer, &unmapped),
            _ => true,
        }
    }

    #[cfg(feature = "check")]
    fn audit(&self, audit: &mut crate::check::Audit) {
        self.tell(audit);
    }
}

/// Pages that Tasks may have mapped.
struct Mappable(Span<u64>);

impl Mappable {
    /// A part of them goes back to the payer. True: that was the last.
    fn give_back(&mut self, payer: &Untyped, _: &Unmapped) -> bool {
        payer.free_some(&mut self.0)
    }
}

/// What was derived from a capability to a Range has been revoked: the mappings made by that are taken away, in steps.
pub struct Recall {
    range: Ref<Range>,
    /// The least tag that goes.
    tag: u8,
    sweep: Sweep,
}

impl Recall {
    /// Of what is deeper than `depth`.
    pub fn new(range: Ref<Range>, depth: u32) -> Self {
        Self { range, tag: depth.saturating_add(1).min(paging::MAX_TAG.into()) as u8, sweep: Sweep::Begin }
    }

    /// True: all is taken away.
    pub fn step(&mut self) -> bool {
        self.sweep.step(&self.range.memory(), self.tag).is_some()
    }

    #[cfg(feature = "check")]
    pub fn audit(&self, audit: &mut crate::check::Audit) {
        audit.reference(&self.range);
        self.sweep.audit(audit);
    }
}

/// What a mapping is made of: where it leads, and the entries' other bits. A page is tagged with the depth of the capability
/// that it was mapped by.
pub struct Source {
    pub physical: u64,
    pub bits: u64,
}

impl Range {
    /// Memory that is not an Untyped's: a device's, or RAM that has the boot archive.
    pub fn new_borrowed(header: Header, base: u64, bytes: u64, device: bool) -> Self {
        Self { header, base, bytes, device, owned: Remains::new(None), sweep: Remains::new(Sweep::Begin) }
    }

    /// Allocate zeroed RAM.
    pub fn create(payer: &Ref<Untyped>, pages: u64) -> Result<Ref<Range>, Error> {
        create_with(payer, Pages::wiped(pages), |header, base| {
            let mut range = Self::new_borrowed(header, base, pages * 4096, false);
            range.owned = Remains::new(Some(Mappable(range.memory())));
            range
        })
    }

    fn memory(&self) -> Span<u64> {
        self.base..self.base + self.bytes
    }

    /// For a mapping of `[offset, offset + size)` by a capability of this `depth`.
    #[inline]
    pub fn source(&self, depth: u32, offset: u64, size: u64, flags: u64) -> Result<Source, Error> {
        if offset % 4096 != 0 {
            return Err(Error::BadAddress);
        }
        if flags & !(MAP_READ | MAP_WRITE | MAP_EXEC) != 0 || flags & MAP_READ == 0 {
            return Err(Error::BadArgument);
        }
        let physical = self.physical(offset, size)?;
        let mut bits = paging::USER | paging::tag(depth);
        if flags & MAP_WRITE != 0 {
            bits |= paging::WRITABLE;
        }
        if flags & MAP_EXEC == 0 {
            bits |= paging::NO_EXECUTE;
        }
        if self.device {
            bits |= paging::UNCACHED;
        }
        Ok(Source { physical, bits })
    }

    /// [physical address, bytes].
    pub fn extent(&self) -> [u64; 2] {
        [self.base, self.bytes]
    }

    /// Physical address of `[offset, offset + bytes)`.
    #[inline]
    pub fn physical(&self, offset: u64, bytes: u64) -> Result<u64, Error> {
        match offset.checked_add(bytes) {
            Some(end) if end <= self.bytes => Ok(self.base + offset),
            _ => Err(Error::BadAddress),
        }
    }

    /// The kernel's own view of one page of RAM, for pages shared with user level.
    pub fn page<T>(&self, offset: u64) -> Result<*mut T, Error> {
        if offset % 4096 != 0 || self.device {
            return Err(Error::BadAddress);
        }
        Ok(to_virtual(self.physical(offset, 4096)?).cast())
    }
}

#[cfg(feature = "check")]
impl Range {
    fn tell(&self, audit: &mut crate::check::Audit) {
        // SAFETY: nothing changes during a check.
        let (sweep, owned) = unsafe { (self.sweep.look(), self.owned.look()) };
        match owned {
            None => audit.foreign(self.base, self.bytes),
            Some(Mappable(owned)) if owned.is_empty() => {}
            Some(Mappable(owned)) => {
                audit.own(&self.header, owned.start, (owned.end - owned.start) / 4096, crate::check::Use::Range)
            }
        }
        sweep.audit(audit);
    }
}
