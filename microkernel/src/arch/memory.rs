//! The kernel's own address space: all physical memory at one offset, and the kernel image in the last 2 GiB.

use core::arch::asm;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU64, Ordering};

/// Virtual address of physical address 0.
const DIRECT: u64 = 0xffff_8000_0000_0000;
/// Physical memory that the direct map covers: one table of 1 GiB pages.
pub const DIRECT_BYTES: u64 = 512 << 30;

#[repr(C, align(4096))]
struct Table(UnsafeCell<[u64; 512]>);
// SAFETY: written by the boot core before the other cores run.
unsafe impl Sync for Table {}

/// Kernel stacks, one after another, each above pages that are not mapped.
pub const STACKS: u64 = 0xffff_8080_0000_0000;
/// The bit of an address that is set in every kernel stack and clear in the direct map.
pub const STACK_BIT: u32 = 39;
const _: () = assert!(STACKS >> STACK_BIT & 1 == 1 && (DIRECT | (DIRECT_BYTES - 1)) >> STACK_BIT & 1 == 0);
/// Bytes of one core's place there: the upper half is its stack, the lower half the guard.
pub const STACK_PLACE: u64 = 32 * 1024;

static DIRECT_TABLE: Table = Table(UnsafeCell::new([0; 512]));
/// The tables of `STACKS`, from the second level down to one table of pages: enough for all cores.
static STACK_TABLES: [Table; 3] = [const { Table(UnsafeCell::new([0; 512])) }; 3];
const _: () = assert!(super::core_local::MAX_CORES as u64 * STACK_PLACE <= 512 * 4096);

/// Physical address of a table in the kernel image.
fn table_address(table: &Table) -> u64 {
    table.0.get() as u64 - 0xffff_ffff_8000_0000
}
static KERNEL_ROOT: AtomicU64 = AtomicU64::new(0);

/// Where the kernel reaches physical memory.
#[inline]
pub fn to_virtual(physical: u64) -> *mut u8 {
    debug_assert!(physical < DIRECT_BYTES);
    (DIRECT + physical) as *mut u8
}

/// Physical address of something reached through [`to_virtual`].
#[inline]
pub fn to_physical<T>(pointer: *const T) -> u64 {
    pointer as u64 - DIRECT
}

unsafe extern "C" {
    static boot_pml4: u8;
}

/// Complete the boot tables: the direct map comes in, the identity map goes when the last core has started.
pub fn init() {
    assert!(
        x86::cpuid::CpuId::new().get_extended_processor_and_feature_identifiers().is_some_and(|f| f.has_1gib_pages()),
        "this CPU lacks 1 GiB pages (needed: Westmere, Bulldozer or newer)"
    );
    let root = &raw const boot_pml4 as u64; // identity mapped
    let table = DIRECT_TABLE.0.get();
    // SAFETY: only the boot core runs; boot_pml4 is identity mapped and in use as CR3.
    unsafe {
        for (i, entry) in (*table).iter_mut().enumerate() {
            *entry = (i as u64) << 30 | 0x83 | 1 << 63;
        }
        (root as *mut u64).add(256).write(table_address(&DIRECT_TABLE) | 3);
        (root as *mut u64).add(257).write(table_address(&STACK_TABLES[0]) | 3);
        (*STACK_TABLES[0].0.get())[0] = table_address(&STACK_TABLES[1]) | 3;
        (*STACK_TABLES[1].0.get())[0] = table_address(&STACK_TABLES[2]) | 3;
    }
    KERNEL_ROOT.store(root, Ordering::Relaxed);
}

/// Map a core's stack, which lies at `physical`; its top. Below it lies a guard: a stack that grows too long faults there.
pub fn map_stack(core: usize, physical: u64) -> u64 {
    let pages = STACK_PLACE / 2 / 4096;
    let top = STACKS + (core as u64 + 1) * STACK_PLACE;
    let last = (core as u64 + 1) * STACK_PLACE / 4096;
    for page in 0..pages {
        // SAFETY: only the boot core writes here, before the core that owns this place runs; it was not mapped before.
        unsafe { (*STACK_TABLES[2].0.get())[(last - pages + page) as usize] = (physical + page * 4096) | 3 | 1 << 63 };
    }
    top
}

/// Whether a fault at this address means that a kernel stack is full.
pub fn is_stack_guard(address: u64) -> bool {
    let end = STACKS + super::core_local::MAX_CORES as u64 * STACK_PLACE;
    (STACKS..end).contains(&address) && (address - STACKS) % STACK_PLACE < STACK_PLACE / 2
}

/// Physical address of the kernel's root table.
pub fn kernel_root() -> u64 {
    KERNEL_ROOT.load(Ordering::Relaxed)
}

/// After all cores have started: address 0 and on faults again.
pub fn drop_identity_map() {
    // SAFETY: nothing refers to low addresses any more.
    unsafe { to_virtual(kernel_root()).cast::<u64>().write_volatile(0) };
    load_root(kernel_root());
}

/// Give a new root table the kernel's half.
pub fn share_kernel_half(root: u64) {
    let (from, to) = (to_virtual(kernel_root()).cast::<u64>(), to_virtual(root).cast::<u64>());
    for i in [256, 257, 511] {
        // SAFETY: both are root tables in the direct map; the new one is not in use yet.
        unsafe { to.add(i).write(from.add(i).read()) };
    }
}

#[inline]
pub fn load_root(root: u64) {
    // SAFETY: every root table has the kernel's half.
    unsafe { asm!("mov cr3, {}", in(reg) root, options(nostack)) };
}

/// Drop all translations of the user half.
#[inline]
pub fn flush_user() {
    // SAFETY: reloads CR3.
    unsafe { asm!("mov {0}, cr3", "mov cr3, {0}", out(reg) _, options(nostack)) };
}

/// Zero whole pages.
pub fn zero(physical: u64, bytes: u64) {
    // SAFETY: callers own this memory.
    unsafe { core::ptr::write_bytes(to_virtual(physical), 0, bytes as usize) };
}
