//! Markers: no-ops with a displacement of their own, `nopl 0x4e51KKLL(%rax)`. `asm/quantum.s` has the list.
//!
//! Windows are the markers for anything that is not a quantum (`mk bench`): the meter counts, on every vCPU, what is
//! executed from the begin to the end marker of the same id. On the core that executes the markers the count is exact;
//! on the others it is exact to one translation block.

use std::arch::asm;

/// Displacement of the marker at a quantum's begin.
pub const QUANTUM_BEGIN: u32 = 0x4e51_5342;
/// Displacement of the marker at a quantum's end.
pub const QUANTUM_END: u32 = 0x4e51_5345;

/// Open window `ID`. A window that is open already starts anew.
#[inline(always)]
pub fn window_begin<const ID: u8>() {
    // SAFETY: a no-op; the address is formed, never used. Memory is named as clobbered so that the compiler moves no
    // access across it.
    unsafe {
        asm!("nop dword ptr [rax + {disp}]", disp = const 0x4e51_5700 | ID as i32, options(preserves_flags, nostack))
    }
}

/// Close window `ID`; without an open one it does nothing.
#[inline(always)]
pub fn window_end<const ID: u8>() {
    // SAFETY: as in `window_begin`.
    unsafe {
        asm!("nop dword ptr [rax + {disp}]", disp = const 0x4e51_7700 | ID as i32, options(preserves_flags, nostack))
    }
}
