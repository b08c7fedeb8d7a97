//! The kernel's own address space: all physical memory at one offset, and the kernel image in the last 2 GiB.

use core::arch::asm;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

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
/// Pages of one core's place there. The last ones are its stack; below, single pages with guards between them are those of
/// NMI, double fault and machine check.
const STACK_PLACE: u64 = 16;
pub const STACK_PAGES: u64 = 4;
pub const FIRST_STACK_PAGE: u64 = STACK_PLACE - STACK_PAGES;
pub const IST_STACKS: u64 = 3;
const _: () = assert!(2 * IST_STACKS < FIRST_STACK_PAGE);

static DIRECT_TABLE: Table = Table(UnsafeCell::new([0; 512]));
/// The first GiB of the direct map in 2 MiB pages, and the first 2 MiB, where the kernel image lies, in single ones: what
/// cannot be done to the image at its own addresses cannot be done here either.
static LOW_TABLES: [Table; 2] = [const { Table(UnsafeCell::new([0; 512])) }; 2];
/// The kernel image at its own addresses: a table for the GiB, and one for its first 2 MiB, which has all code and constants.
static IMAGE_TABLES: [Table; 2] = [const { Table(UnsafeCell::new([0; 512])) }; 2];
/// The tables of `STACKS`: of the second and of the third level, and two of pages, enough for all cores.
static STACK_TABLES: [Table; 4] = [const { Table(UnsafeCell::new([0; 512])) }; 4];
const _: () = assert!(abi::MAX_CORES as u64 * STACK_PLACE <= 2 * 512);

/// Physical address of a table in the kernel image.
fn table_address(table: &Table) -> u64 {
    table.0.get() as u64 - IMAGE
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
    static boot_pdpt: u8;
    static __text_start: u8;
    static __text_end: u8;
    static __data_start: u8;
    static __kernel_end: u8;
    static boot_stack_guard: u8;
}

/// Virtual address of the kernel image less its physical one.
const IMAGE: u64 = 0xffff_ffff_8000_0000;
/// The image's place in the tables of the boot code: the last GiB but one.
const IMAGE_ENTRY: usize = 510;
/// Bits of an entry: present; present and writable; a large page; no instructions.
const READ: u64 = 1;
const WRITE: u64 = 3;
const LARGE: u64 = 0x80;
const NO_EXECUTE: u64 = 1 << 63;
const SMALL_PAGES: u64 = 512 * 4096;

/// Of the image, code is run, constants are read, and data is written, and nothing else.
fn protect_image() {
    let physical = |symbol: *const u8| symbol as u64 - IMAGE;
    let (text, data) = (physical(&raw const __text_start), physical(&raw const __data_start));
    let text_end = physical(&raw const __text_end).next_multiple_of(4096);
    let end = (&raw const __kernel_end as u64).next_multiple_of(4096);
    let guard = physical(&raw const boot_stack_guard);
    assert!(data.max(guard) < SMALL_PAGES, "the kernel's code, constants and boot stack do not fit into 2 MiB");
    let [low, low_pages] = LOW_TABLES.each_ref().map(|table| table.0.get());
    let [image, image_pages] = IMAGE_TABLES.each_ref().map(|table| table.0.get());
    // SAFETY: only the boot core runs, and these tables come into use with the stores at the end. The boot code's tables are
    // identity mapped.
    unsafe {
        for (i, entry) in (*low).iter_mut().enumerate() {
            *entry = i as u64 * SMALL_PAGES | WRITE | LARGE | NO_EXECUTE;
        }
        for i in 0..512 {
            let page = i as u64 * 4096;
            let constant = (text..data).contains(&page);
            (*low_pages)[i] = page | if constant { READ } else { WRITE } | NO_EXECUTE;
            (*image_pages)[i] = match page {
                page if page < text || page >= end || page == guard => 0,
                page if page < text_end => page | READ,
                page if constant => page | READ | NO_EXECUTE,
                page => page | WRITE | NO_EXECUTE,
            };
        }
        (*low)[0] = table_address(&LOW_TABLES[1]) | WRITE;
        // The rest is data.
        for i in 1..end.div_ceil(SMALL_PAGES) {
            (*image)[i as usize] = i * SMALL_PAGES | WRITE | LARGE | NO_EXECUTE;
        }
        (*image)[0] = table_address(&IMAGE_TABLES[1]) | WRITE;
        (*DIRECT_TABLE.0.get())[0] = table_address(&LOW_TABLES[0]) | WRITE;
        (&raw const boot_pdpt as *mut u64).add(IMAGE_ENTRY).write(table_address(&IMAGE_TABLES[0]) | WRITE);
    }
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
        for i in 0..2 {
            (*STACK_TABLES[1].0.get())[i] = table_address(&STACK_TABLES[2 + i]) | 3;
        }
    }
    protect_image();
    // SAFETY: the boot code's root is the kernel's, which is complete now.
    unsafe { load_root(root) };
    KERNEL_ROOT.store(root, Ordering::Relaxed);
}

/// Map a core's stack, which lies at `physical`, from a page of the core's place on; its top. Below it lies a guard: a stack that
/// grows too long faults there.
pub fn map_stack(core: usize, first: u64, physical: u64, pages: u64) -> u64 {
    let first = core as u64 * STACK_PLACE + first;
    for (i, page) in (first..first + pages).enumerate() {
        let table = STACK_TABLES[2 + page as usize / 512].0.get();
        // SAFETY: only the boot core writes here, before the core that owns this place runs; it was not mapped before.
        unsafe { (*table)[page as usize % 512] = (physical + i as u64 * 4096) | 3 | 1 << 63 };
    }
    STACKS + (first + pages) * 4096
}

/// Whether a fault at this address means that a kernel stack is full.
pub fn is_stack_guard(address: u64) -> bool {
    let page = address.wrapping_sub(STACKS) / 4096;
    if address & !4095 == &raw const boot_stack_guard as u64 {
        return true;
    }
    // SAFETY: nobody writes these tables any more.
    page < abi::MAX_CORES as u64 * STACK_PLACE
        && unsafe { (*STACK_TABLES[2 + page as usize / 512].0.get())[page as usize % 512] } == 0
}

/// Physical address of the kernel's root table.
pub fn kernel_root() -> u64 {
    KERNEL_ROOT.load(Ordering::Relaxed)
}

/// After all cores have started: address 0 and on faults again.
pub fn drop_identity_map() {
    // SAFETY: nothing refers to low addresses any more.
    unsafe {
        to_virtual(kernel_root()).cast::<u64>().write_volatile(0);
        load_root(kernel_root());
    }
}

/// Give a new root table the kernel's half.
pub fn share_kernel_half(root: u64) {
    let (from, to) = (to_virtual(kernel_root()).cast::<u64>(), to_virtual(root).cast::<u64>());
    for i in [256, 257, 511] {
        // SAFETY: both are root tables in the direct map; the new one is not in use yet.
        unsafe { to.add(i).write(from.add(i).read()) };
    }
}

/// Whether the processor keeps the translations of several address spaces: the lowest 12 bits of what CR3 gets say whose, and
/// bit 63 that those it has may stay (SDM vol. 3, 4.10.4.1).
static CONTEXTS: AtomicBool = AtomicBool::new(false);

#[inline]
pub fn has_contexts() -> bool {
    CONTEXTS.load(Ordering::Relaxed)
}

/// On each core, before it loads a Task.
pub fn use_contexts() {
    CONTEXTS.store(true, Ordering::Relaxed);
}

/// As `load_root` of the tables of `space`, in its context where there are any. (A call that the compiler knows of would cost
/// registers, and so time, on processors without.)
///
/// # Safety
/// As for `load_root`; `load_in_context` takes a `T`.
#[inline(always)]
pub unsafe fn load_root_of<T>(space: &T, root: u64) {
    // SAFETY: by the caller's promise; `call_load_in_context` keeps all registers.
    unsafe {
        asm!(
            "cmp byte ptr [{contexts}], 0",
            "jne 2f",
            "mov cr3, {root}",
            "3:",
            ".pushsection .text.load_in_context, \"ax\"",
            "2:", "push {space}", "call call_load_in_context", "pop {space}", "jmp 3b",
            ".popsection",
            contexts = sym CONTEXTS, root = in(reg) root, space = in(reg) &raw const *space,
        );
    }
}

/// # Safety
/// The root table has the kernel's half, and it and what it leads to are tables as long as they are loaded.
#[inline]
pub unsafe fn load_root(root: u64) {
    // SAFETY: by the caller's promise.
    unsafe { asm!("mov cr3, {}", in(reg) root, options(nostack)) };
}

/// Drop all translations of the loaded tables. (Bit 63 of CR3 is read as 0.)
#[inline]
pub fn flush_user() {
    // SAFETY: reloads CR3.
    unsafe { asm!("mov {0}, cr3", "mov cr3, {0}", out(reg) _, options(nostack)) };
}
