//! Range: contiguous physical memory that can be mapped into Tasks and shared with the kernel.

use abi::Error;

use super::{Header, Kind, Object, Ref, Untyped};
use crate::arch::memory::to_virtual;

#[repr(C)]
pub struct Range {
    header: Header,
    base: u64,
    bytes: u64,
    device: bool,
    /// The pages are the payer's and go back to it.
    owned: bool,
}

// SAFETY: repr(C), header first, made with Kind::Range only.
unsafe impl Object for Range {
    const KIND: Kind = Kind::Range;
}

impl Range {
    /// Device memory.
    pub fn new_device(header: Header, base: u64, bytes: u64) -> Self {
        Self { header, base, bytes, device: true, owned: false }
    }

    /// RAM that is not an Untyped's: the boot archive.
    pub fn new_borrowed(header: Header, base: u64, bytes: u64) -> Self {
        Self { header, base, bytes, device: false, owned: false }
    }

    /// Allocate zeroed RAM.
    pub fn create(payer: &Ref<Untyped>, pages: u64) -> Result<Ref<Range>, Error> {
        let base = payer.allocate(pages, if pages >= 512 { 512 } else { 1 })?;
        super::create(payer, |header| Range { header, base, bytes: pages * 4096, device: false, owned: true })
            .inspect_err(|_| payer.free(base, pages))
    }

    pub fn is_device(&self) -> bool {
        self.device
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
    pub fn audit(&self, audit: &mut crate::check::Audit) {
        if self.owned {
            audit.own(&self.header, self.base, self.bytes / 4096, crate::check::Use::Range);
        } else {
            audit.foreign(self.base, self.bytes);
        }
    }
}

impl Drop for Range {
    fn drop(&mut self) {
        super::Task::unmap_everywhere(self.base, self.bytes);
        if let Some(payer) = self.header.payer().filter(|_| self.owned) {
            payer.free(self.base, self.bytes / 4096);
        }
    }
}
