//! The work quantum: a safe door to `asm/quantum.s`.

use std::arch::{asm, global_asm};
use std::num::NonZeroU64;

global_asm!(include_str!("../asm/quantum.s"), options(att_syntax));

unsafe extern "C" {
    fn fwq_quantum(iterations: u64, times: *mut Times, rank: u64);
    fn fwq_mark_run_begin(run: u64);
    fn fwq_mark_run_end(run: u64);
}

/// Time-stamp counter before and after the work, ticks.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    pub begin: u64,
    pub end: u64,
}

/// Instructions of a quantum's own between its markers, the end marker included: what the meter must count if nothing
/// else ran.
pub const fn own_instructions(iterations: u64) -> u64 {
    66 * iterations + 17
}

/// Do one quantum, marked as `rank`'s.
#[inline(always)]
pub fn quantum(iterations: NonZeroU64, rank: u8, times: &mut Times) {
    // SAFETY: the function follows the C calling convention, loops `iterations` (at least once) without touching
    // memory, and writes the two words of `times`; `rank` is below 256, as its table of stubs demands.
    unsafe { fwq_quantum(iterations.get(), times, u64::from(rank)) }
}

/// Tell the meter that the quanta from here on belong to run `run`.
pub fn mark_run_begin(run: u8) {
    // SAFETY: executes a no-op out of a table with 256 entries.
    unsafe { fwq_mark_run_begin(u64::from(run)) }
}

/// Tell the meter that run `run` is over.
pub fn mark_run_end(run: u8) {
    // SAFETY: as in `mark_run_begin`.
    unsafe { fwq_mark_run_end(u64::from(run)) }
}

/// The time-stamp counter, ordered against the instructions around it.
#[inline(always)]
pub fn ticks() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reads a register of the core; both fences are plain instructions of x86-64.
    unsafe { asm!("lfence", "rdtsc", "lfence", out("eax") low, out("edx") high, options(nostack, preserves_flags)) }
    u64::from(high) << 32 | u64::from(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes at a function's entry follow from the source; the tables in front of it are what must not be wrong.
    fn stub(table: *const u8, size: usize, id: usize) -> &'static [u8] {
        // SAFETY: the caller passes the start of a table of 256 stubs of `size` bytes in the program's text.
        unsafe { std::slice::from_raw_parts(table.add(size * id), size) }
    }

    /// Start of the begin table: the assembler places the tables in a row before `fwq_mark_run_begin`.
    fn tables() -> *const u8 {
        let end = fwq_mark_run_begin as *const u8 as usize & !15;
        (end - 256 * (16 + 16 + 8 + 8)) as *const u8
    }

    #[test]
    fn each_rank_has_its_own_marker_directly_before_begin_and_end() {
        for rank in 0..256 {
            let begin = stub(tables(), 16, rank);
            assert_eq!(begin[..7], [0x0f, 0x1f, 0x80, rank as u8, 0x52, 0x51, 0x4e]);
            assert_eq!(begin[7..14], [0x0f, 0x1f, 0x80, 0x42, 0x53, 0x51, 0x4e]);
            let end = stub(tables().wrapping_add(4096), 16, rank);
            assert_eq!(end[..7], [0x0f, 0x1f, 0x80, rank as u8, 0x52, 0x51, 0x4e]);
            assert_eq!(end[7..14], [0x0f, 0x1f, 0x80, 0x45, 0x53, 0x51, 0x4e]);
            let run = stub(tables().wrapping_add(8192), 8, rank);
            assert_eq!(run, [0x0f, 0x1f, 0x80, rank as u8, 0x4a, 0x51, 0x4e, 0xc3]);
            let run_end = stub(tables().wrapping_add(10240), 8, rank);
            assert_eq!(run_end, [0x0f, 0x1f, 0x80, rank as u8, 0x6a, 0x51, 0x4e, 0xc3]);
        }
    }

    #[test]
    fn the_clock_advances_over_a_quantum() {
        let mut times = Times { begin: 0, end: 0 };
        let before = ticks();
        quantum(NonZeroU64::new(1000).unwrap(), 255, &mut times);
        assert!(before < times.begin && times.begin < times.end && times.end < ticks());
    }

    #[test]
    fn own_instructions_follow_the_assembly_source() {
        assert_eq!(own_instructions(1), 83);
        assert_eq!(own_instructions(1 << 15), 2_162_705); // counted by the meter on bare metal
    }
}
