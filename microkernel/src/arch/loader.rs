//! What a boot loader hands over, whichever it was: memory, the boot archive, a command line, and where ACPI begins.

use core::ops::Range;
use core::slice;

use kcore::memory_map::{FreeRegions, Map};
use kcore::multiboot2;

use super::memory::{DIRECT_BYTES, to_virtual};
use super::pvh;

pub struct BootInfo {
    pub free: FreeRegions,
    /// Where all RAM is, free or not. (It lies in memory that is not free.)
    pub map: Map<'static>,
    /// The boot archive.
    pub module: Range<u64>,
    pub command_line: &'static [u8],
    /// Physical address of ACPI's RSDP or of a copy of it.
    pub rsdp: u64,
}

/// Read what lies at the physical address `info`; `magic` is what the entry code passes, and tells the loader's protocol.
/// The direct map is up.
pub fn read(magic: u32, info: u64) -> BootInfo {
    if magic == multiboot2::MAGIC { read_multiboot2(info) } else { pvh::read(info) }
}

fn read_multiboot2(at: u64) -> BootInfo {
    let head = bytes(at, multiboot2::HEAD).and_then(<[u8]>::first_chunk).ok_or(multiboot2::Malformed::Size);
    let size = head.and_then(|&head| multiboot2::size(head));
    let block = size.and_then(|size| bytes(at, size).ok_or(multiboot2::Malformed::Size));
    let (info, size) = match block.and_then(|block| Ok((multiboot2::parse(block)?, block.len()))) {
        Ok(parsed) => parsed,
        Err(error) => panic!("the Multiboot2 information at {at:#x} is malformed: {error:?}"),
    };
    let rsdp = info.rsdp.map_or(0, |offset| at + offset as u64);
    build(info.map, info.modules, info.module(), info.command_line, rsdp, &[at..at + size as u64])
}

/// Put together what a protocol gave, once it is checked. `taken`: where the loader's own tables lie.
pub fn build(
    map: Map<'static>,
    modules: usize,
    module: Range<u64>,
    command_line: &'static [u8],
    rsdp: u64,
    taken: &[Range<u64>],
) -> BootInfo {
    let mut free = map.free(DIRECT_BYTES);
    assert!(map.has_ram_in(&(0..DIRECT_BYTES)), "the boot loader's memory map has no RAM");
    assert!(modules >= 1, "no boot module: pass the boot archive (qemu: -initrd tacet.cpio; GRUB: module2 tacet.cpio)");
    assert!(modules == 1, "{modules} boot modules: pass one, the boot archive");
    let kernel = kernel_image();
    assert!(!module.is_empty(), "the boot module is empty");
    assert!(module.end <= kernel.start || kernel.end <= module.start, "the boot module overlaps the kernel");
    // QEMU puts the archive below the ACPI tables, over what SeaBIOS used for its drivers and, with many devices, still
    // lists as reserved: the archive's end need not be free memory, but it must be memory.
    let described = |at| map.entries().any(|e| e.span.contains(&at));
    assert!(
        map.has_ram_in(&(module.start..module.start + 1)) && described(module.end - 1) && module.end <= DIRECT_BYTES,
        "the boot module {:#x} to {:#x} lies outside RAM",
        module.start,
        module.end
    );
    // Page 0 is the real mode's, and no address.
    for span in taken.iter().chain([&(0..4096), &kernel, &module]) {
        free.remove(span.clone());
    }
    BootInfo { free, map, module, command_line, rsdp }
}

fn kernel_image() -> Range<u64> {
    unsafe extern "C" {
        static __kernel_start: u8;
        static __kernel_end: u8;
    }
    &raw const __kernel_start as u64..&raw const __kernel_end as u64
}

/// Physical memory that a loader or firmware wrote; `None` where the direct map does not reach.
pub fn bytes(address: u64, length: usize) -> Option<&'static [u8]> {
    address.checked_add(length as u64).filter(|&end| end <= DIRECT_BYTES && address != 0)?;
    // SAFETY: in the direct map; tables of loader and firmware are not written while the kernel boots, and any bytes are
    // valid ones.
    Some(unsafe { slice::from_raw_parts(to_virtual(address), length) })
}

/// Memory for the ACPI reader: whatever the direct map covers.
pub struct Firmware;

impl kcore::acpi::Memory for Firmware {
    fn bytes(&self, address: u64, length: usize) -> Option<&[u8]> {
        bytes(address, length)
    }
}
