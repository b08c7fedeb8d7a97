//! Extended state (x87, SSE, AVX, AVX-512): the kernel has none of its own; it saves and loads that of threads.

use core::arch::asm;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use x86::controlregs::{Xcr0, xcr0_write};

/// Features given to user level: all of x87, SSE, AVX and AVX-512 that the CPU has; no AMX (8 KiB of tiles does not
/// fit a frame page) and no PKRU (no protection keys in page tables).
const WANTED: u64 = 0b1110_0111;

/// Bytes of an XSAVE area.
pub const AREA: usize = 2816;

/// An area of which XRSTOR makes the initial state: no component is in it, all exceptions are masked in MXCSR (which is
/// loaded even so; SDM vol. 1, 13.8.1).
pub const INITIAL: [u8; AREA] = {
    let mut area = [0; AREA];
    area[24] = 0x80;
    area[25] = 0x1f;
    area
};

static FEATURES: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU32 = AtomicU32::new(0);
/// Whether there is XSAVEOPT.
static OPTIMIZED: AtomicBool = AtomicBool::new(false);

pub fn init() {
    let id = x86::cpuid::cpuid!(0xd, 0);
    let mut features = (u64::from(id.edx) << 32 | u64::from(id.eax)) & WANTED;
    if features & 0xe0 != 0xe0 {
        features &= !0xe0; // AVX-512 comes as a whole
    }
    // SAFETY: bits that CPUID reports; x87 and SSE are always among them.
    unsafe { xcr0_write(Xcr0::from_bits_truncate(features)) };
    // CPUID.0DH.EBX: size for what XCR0 enables now.
    let bytes = x86::cpuid::cpuid!(0xd, 0).ebx;
    assert!(bytes as usize <= AREA, "extended state of {bytes} bytes does not fit a Thread");
    FEATURES.store(features, Ordering::Relaxed);
    BYTES.store(bytes, Ordering::Relaxed);
    OPTIMIZED.store(x86::cpuid::cpuid!(0xd, 1).eax & 1 != 0, Ordering::Relaxed);
}

/// (XCR0, bytes of an XSAVE area).
pub fn layout() -> (u64, u64) {
    (FEATURES.load(Ordering::Relaxed), u64::from(BYTES.load(Ordering::Relaxed)))
}

/// Save the registers to `area`.
///
/// # Safety
/// It is the caller's, 64-byte aligned, and has [`AREA`] bytes.
#[inline]
pub unsafe fn save(area: *mut u8) {
    // SAFETY: by the caller's promise; `init` checked the size.
    unsafe { asm!("xsave64 [{}]", in(reg) area, in("eax") u32::MAX, in("edx") u32::MAX, options(nostack)) };
}

/// As [`save`], but leave in `area` what it has already: what was not changed since its load.
///
/// # Safety
/// As for `save`; and this core loaded its registers last from there, and nobody has written there since. (The CPU knows an
/// area by its address only; SDM vol. 1, 13.9.)
#[inline]
pub unsafe fn save_changes(area: *mut u8) {
    if !OPTIMIZED.load(Ordering::Relaxed) {
        // SAFETY: by the caller's promise.
        return unsafe { save(area) };
    }
    // SAFETY: by the caller's promise; `init` checked the size, and found the instruction.
    unsafe { asm!("xsaveopt64 [{}]", in(reg) area, in("eax") u32::MAX, in("edx") u32::MAX, options(nostack)) };
}

/// Load the registers from `area`, which user level may have written: false where the CPU refuses it.
///
/// # Safety
/// It is mapped, 64-byte aligned, and has [`AREA`] bytes.
#[inline]
pub unsafe fn load(area: *const u8) -> bool {
    unsafe extern "C" {
        fn xrstor_checked(area: *const u8, mask: u32) -> u32;
    }
    // SAFETY: a refusal (#GP) is mended by the fixup in `handle_kernel_trap`.
    unsafe { xrstor_checked(area, u32::MAX) != 0 }
}

/// Forget the registers' content.
pub fn reset() {
    #[repr(align(64))]
    struct Area([u8; AREA]);
    static AREA_OF_RESET: Area = Area(INITIAL);
    // SAFETY: an area in the kernel's constants.
    let accepted = unsafe { load(AREA_OF_RESET.0.as_ptr()) };
    debug_assert!(accepted);
}

/// Allow or forbid extended instructions in user mode (CR0.TS).
#[inline]
pub fn set_enabled(enabled: bool) {
    // SAFETY: TS only makes such instructions trap with #NM.
    unsafe {
        if enabled {
            asm!("clts", options(nomem, nostack));
        } else {
            let cr0: u64;
            asm!("mov {}, cr0", out(reg) cr0, options(nomem, nostack));
            asm!("mov cr0, {}", in(reg) cr0 | 8, options(nomem, nostack));
        }
    }
}
