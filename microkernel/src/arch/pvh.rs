//! What the PVH boot protocol hands over (Xen public header arch-x86/hvm/start_info.h, version 1).

use core::ops::Range;
use core::slice;

use kcore::memory_map::FreeRegions;

use super::memory::{DIRECT_BYTES, to_virtual};

const MAGIC: u32 = 0x336e_c578;
const RAM: u32 = 1;

#[repr(C)]
struct StartInfo {
    magic: u32,
    version: u32,
    flags: u32,
    modules: u32,
    modules_at: u64,
    cmdline: u64,
    rsdp: u64,
    map_at: u64,
    map_entries: u32,
    reserved: u32,
}

#[repr(C)]
struct Module {
    at: u64,
    bytes: u64,
    cmdline: u64,
    reserved: u64,
}

#[repr(C)]
struct MapEntry {
    address: u64,
    bytes: u64,
    kind: u32,
    reserved: u32,
}

/// Physical memory as the boot loader described it.
pub struct BootInfo {
    pub free: FreeRegions,
    /// All RAM, free or not: a device Range may not overlap it.
    pub ram: [Range<u64>; 16],
    pub module: Range<u64>,
    pub cmdline: &'static [u8],
    pub rsdp: u64,
}

/// Read the start info at a physical address. The direct map is up.
pub fn read(start_info: u64) -> BootInfo {
    // SAFETY: PVH passes the address of a StartInfo in EBX; checked by its magic.
    let info = unsafe { &*to_virtual(start_info).cast::<StartInfo>() };
    assert!(info.magic == MAGIC, "not started by PVH (no start info at {start_info:#x})");
    assert!(info.version >= 1, "PVH start info version {} has no memory map", info.version);
    let bounded = |at: u64, bytes: u64| at.checked_add(bytes).is_some_and(|end| end <= DIRECT_BYTES);
    assert!(bounded(info.map_at, u64::from(info.map_entries) * 24) && info.map_entries <= 1024, "absurd memory map");
    // SAFETY: the loader's tables lie in RAM, as just bounded.
    let map = unsafe { slice::from_raw_parts(to_virtual(info.map_at).cast::<MapEntry>(), info.map_entries as usize) };
    let mut free = FreeRegions::default();
    let mut ram = [const { 0..0 }; 16];
    let mut ram_count = 0;
    for entry in map.iter().filter(|e| e.kind == RAM) {
        let end = entry.address.saturating_add(entry.bytes).min(DIRECT_BYTES);
        if entry.address >= end {
            continue;
        }
        free.add(entry.address..end);
        if ram_count < ram.len() {
            ram[ram_count] = entry.address..end;
            ram_count += 1;
        }
    }
    for entry in map.iter().filter(|e| e.kind != RAM) {
        free.remove(entry.address..entry.address.saturating_add(entry.bytes).min(DIRECT_BYTES));
    }
    unsafe extern "C" {
        static __kernel_start: u8;
        static __kernel_end: u8;
    }
    free.remove(0..&raw const __kernel_start as u64);
    free.remove(&raw const __kernel_start as u64..&raw const __kernel_end as u64);
    free.remove(start_info..start_info + size_of::<StartInfo>() as u64);
    assert!(info.modules >= 1, "no boot module: pass the boot archive (qemu: -initrd tacet.cpio)");
    assert!(bounded(info.modules_at, size_of::<Module>() as u64), "module list outside memory");
    // SAFETY: bounded above.
    let module = unsafe { &*to_virtual(info.modules_at).cast::<Module>() };
    assert!(bounded(module.at, module.bytes) && module.bytes > 0, "boot module outside memory");
    let module = module.at..module.at + module.bytes;
    // QEMU puts the archive below the ACPI tables, over what SeaBIOS used for its drivers and, with many devices, still
    // lists as reserved: the archive's end need not be free memory, but it must be memory.
    let described = |at| map.iter().any(|e| e.address <= at && at - e.address < e.bytes);
    let starts_in_ram = ram.iter().any(|r| r.contains(&module.start));
    assert!(starts_in_ram && described(module.end - 1), "boot module outside RAM");
    free.remove(module.clone());
    let cmdline = if info.cmdline == 0 || !bounded(info.cmdline, 1024) {
        &[][..]
    } else {
        // SAFETY: bounded above.
        let bytes = unsafe { slice::from_raw_parts(to_virtual(info.cmdline), 1024) };
        free.remove(info.cmdline..info.cmdline + 1024);
        &bytes[..bytes.iter().position(|&b| b == 0).unwrap_or(1023)]
    };
    BootInfo { free, ram, module, cmdline, rsdp: info.rsdp }
}

/// Memory for the ACPI reader: whatever the direct map covers.
pub struct Firmware;

impl kcore::acpi::Memory for Firmware {
    fn bytes(&self, address: u64, length: usize) -> Option<&[u8]> {
        address.checked_add(length as u64).filter(|&end| end <= DIRECT_BYTES && address != 0)?;
        // SAFETY: in the direct map; firmware tables are not written while the kernel boots.
        Some(unsafe { slice::from_raw_parts(to_virtual(address), length) })
    }
}
