//! What the PVH boot protocol hands over (Xen public header arch-x86/hvm/start_info.h, version 1).

use core::slice;

use kcore::memory_map::{Map, RECORD};

use super::loader::{self, BootInfo};

const MAGIC: u32 = 0x336e_c578;
/// Longest command line and memory map that are believed.
const MAX_COMMAND_LINE: usize = 1024;
const MAX_MAP_ENTRIES: u32 = 1024;

#[repr(C)]
struct StartInfo {
    magic: u32,
    version: u32,
    flags: u32,
    modules: u32,
    modules_at: u64,
    command_line: u64,
    rsdp: u64,
    map_at: u64,
    map_entries: u32,
    reserved: u32,
}

#[repr(C)]
struct Module {
    at: u64,
    bytes: u64,
    command_line: u64,
    reserved: u64,
}

/// `count` records at a physical address; `None` where the direct map does not reach.
fn records<T>(at: u64, count: u32) -> Option<&'static [T]> {
    let bytes = loader::bytes(at, count as usize * size_of::<T>())?;
    // SAFETY: the bytes are readable; T is one of the records above, plain integers and 8-byte aligned, as the protocol says
    // of their addresses.
    (at % 8 == 0).then(|| unsafe { slice::from_raw_parts(bytes.as_ptr().cast(), count as usize) })
}

/// Read the start info at a physical address.
pub fn read(start_info: u64) -> BootInfo {
    let info = records::<StartInfo>(start_info, 1).map(|list| &list[0]).filter(|info| info.magic == MAGIC);
    let info =
        info.unwrap_or_else(|| panic!("started neither by PVH nor by Multiboot2 (nothing at {start_info:#x} says so)"));
    assert!(info.version >= 1, "PVH start info version {} has no memory map", info.version);
    let map = loader::bytes(info.map_at, info.map_entries as usize * RECORD);
    let map = map.filter(|_| info.map_entries <= MAX_MAP_ENTRIES).and_then(|map| Map::new(map, RECORD));
    let Some(map) = map else { panic!("absurd memory map: {} entries at {:#x}", info.map_entries, info.map_at) };
    let module = match (info.modules, records::<Module>(info.modules_at, 1)) {
        (0, _) => 0..0,
        (_, Some([module])) => module.at..module.at.saturating_add(module.bytes),
        _ => panic!("the list of boot modules at {:#x} lies outside memory", info.modules_at),
    };
    let command_line = loader::bytes(info.command_line, MAX_COMMAND_LINE).unwrap_or(&[]);
    let length = command_line.iter().position(|&b| b == 0).unwrap_or(command_line.len());
    let span = |at: u64, bytes: usize| at..at.saturating_add(bytes as u64);
    let taken = [
        span(start_info, size_of::<StartInfo>()),
        span(info.map_at, info.map_entries as usize * RECORD),
        span(info.command_line, length),
    ];
    loader::build(map, info.modules as usize, module, &command_line[..length], info.rsdp, &taken)
}
