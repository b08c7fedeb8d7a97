//! Faults, and system calls that change the address space.

use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::num::NonZero;
use std::ptr::NonNull;

use fwq::error::{Error, Result};
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap, mmap_anonymous, mprotect, munmap};

use crate::{Bench, Share};

const PAGE: usize = 4096;
/// Linux maps up to so many bytes of a file around a fault; the next fault comes behind them.
const AROUND: usize = 65_536;

/// Memory of our own, gone with this value.
struct Mapping {
    start: NonNull<c_void>,
    length: usize,
}

impl Mapping {
    /// Anonymous memory that nobody has touched.
    fn fresh(length: usize) -> io::Result<Self> {
        let size = NonZero::new(length).expect("no mapping is empty");
        // SAFETY: new memory at an address of the kernel's choice; touches none of ours.
        let start = unsafe {
            mmap_anonymous(
                None,
                size,
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE,
            )?
        };
        Ok(Mapping { start, length })
    }

    /// The same, in pages of 4 KiB: a huge page would be one fault for 512.
    fn small_pages(length: usize) -> io::Result<Self> {
        let mapping = Self::fresh(length)?;
        // SAFETY: the range is the mapping that was just made. It fails where there are no huge pages, which is as good.
        let _ = unsafe { madvise(mapping.start, length, MmapAdvise::MADV_NOHUGEPAGE) };
        Ok(mapping)
    }

    fn of_file(file: &File, length: usize) -> io::Result<Self> {
        let size = NonZero::new(length).expect("no mapping is empty");
        // SAFETY: new memory at an address of the kernel's choice; the file is ours alone and is not cut while it is mapped.
        let start = unsafe { mmap(None, size, ProtFlags::PROT_READ, MapFlags::MAP_PRIVATE, file, 0)? };
        Ok(Mapping { start, length })
    }

    fn at(&self, offset: usize) -> *mut u8 {
        assert!(offset < self.length);
        // SAFETY: inside of the mapping, by the assertion.
        unsafe { self.start.cast::<u8>().as_ptr().add(offset) }
    }

    fn write(&mut self, offset: usize) {
        // SAFETY: the byte is in memory of ours that is mapped for writing; nothing else refers to it.
        unsafe { self.at(offset).write_volatile(1) }
    }

    fn read(&self, offset: usize) {
        // SAFETY: the byte is in memory of ours that is mapped for reading.
        unsafe { self.at(offset).read_volatile() };
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and ends with this value.
        let _ = unsafe { munmap(self.start, self.length) };
    }
}

pub fn measure(bench: &mut Bench) -> Result<()> {
    let failed = |name: &str| {
        let name = name.to_owned();
        move |reason| Error::Operation { name, reason }
    };

    let pages = bench.samples(Share::All) + 1;
    let mut fresh = Mapping::small_pages(pages * PAGE).map_err(failed("mmap"))?;
    bench.measure::<12>("fault: 4 KiB of anonymous memory", Share::All, |i| {
        fresh.write(i * PAGE);
        Ok(())
    })?;
    drop(fresh);

    let length = (bench.samples(Share::Tenth) + 1) * AROUND;
    let file = cached_file(length)?;
    let mapped = Mapping::of_file(&file, length).map_err(failed("mmap of a file"))?;
    bench.measure::<13>("fault: 64 KiB of a cached file", Share::Tenth, |i| {
        mapped.read(i * AROUND);
        Ok(())
    })?;
    drop(mapped);

    bench.measure::<14>("mmap and munmap of 64 KiB", Share::All, |_| Mapping::fresh(AROUND).map(drop))?;
    let mut page = Mapping::small_pages(PAGE).map_err(failed("mmap"))?;
    page.write(0);
    bench.measure::<15>("mprotect of a page, and back", Share::All, |_| {
        for rights in [ProtFlags::PROT_READ, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE] {
            // SAFETY: the page is ours, and nobody touches it in between.
            unsafe { mprotect(page.start, PAGE, rights)? };
        }
        Ok(())
    })?;
    bench.measure::<16>("8 MiB of fresh memory, and away", Share::Hundredth, |_| {
        let mut memory = Mapping::fresh(8 << 20)?;
        (0..memory.length).step_by(PAGE).for_each(|offset| memory.write(offset));
        Ok(())
    })
}

/// A file without a name, all of it in the page cache.
fn cached_file(length: usize) -> Result<File> {
    let in_tmp = |e| Error::file(&std::env::temp_dir(), e);
    let mut file = tempfile::tempfile().map_err(in_tmp)?;
    io::copy(&mut io::Read::take(io::repeat(1), length as u64), &mut file).map_err(in_tmp)?;
    Ok(file)
}
