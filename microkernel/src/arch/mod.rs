//! Everything that knows x86-64.

pub mod apic;
pub mod descriptors;
pub mod fpu;
pub mod ioapic;
pub mod loader;
pub mod memory;
mod pvh;
mod registers;
pub mod serial;
pub mod time;

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicBool, Ordering};

pub use registers::Registers;

global_asm!(include_str!("boot.s"));

/// What user mode decides in rflags: status flags, TF, DF, AC, ID. (IF is always set; IOPL, NT, RF, VM never.)
pub const FLAGS_USER: u32 = 0x0024_0dd5;

/// CS and SS of user mode.
pub const USER_CODE: u64 = 0x33;
pub const USER_DATA: u64 = 0x2b;

// SAFETY: a frame is valid as long as its thread is current, the code reloads the kernel stack itself, and whatever user mode
// gets is checked there. HLT's interrupts touch only core-local and locked state, and who halts holds no lock.
unsafe extern "C" {
    /// Leave the kernel for the current frame of this core.
    pub safe fn return_to_current() -> !;
    /// Leave the kernel for the current frame, which is private and whose thread is in a system call: registers that one destroys
    /// need not be in it.
    pub safe fn return_from_current_syscall(frame: &Registers) -> !;
    /// As [`return_from_current_syscall`], for a thread that has just become current: with its FS and GS base.
    pub safe fn return_from_other_syscall(frame: &Registers) -> !;
    /// Leave the kernel for a vCPU's entry point, all other registers cleared.
    pub safe fn return_to_upcall(ip: u64, sp: u64) -> !;
    /// Wait for one interrupt and handle it.
    pub safe fn halt();
}

/// Handle the interrupts that are pending.
pub fn admit_interrupts() {
    // SAFETY: the handlers touch only core-local and locked state, and callers hold no lock. (The first instruction behind STI still runs without interrupts.)
    unsafe { asm!("sti", "nop", "cli") };
}

/// FS base and GS base of the user context (the kernel's own GS is active; SWAPGS brings the user's in reach).
#[inline]
pub fn user_bases() -> (u64, u64) {
    let (fs, gs): (u64, u64);
    // SAFETY: FSGSBASE is enabled; GS is the kernel's again at the end; interrupts are off, and NMIs check GS themselves.
    unsafe {
        asm!("rdfsbase {}", "swapgs", "rdgsbase {}", "swapgs", out(reg) fs, out(reg) gs, options(nomem, nostack));
    }
    (fs, gs)
}

/// Set FS base and GS base of the user context. Non-canonical values (which would fault) become 0.
#[inline]
pub fn set_user_bases(fs: u64, gs: u64) {
    let (fs, gs) = (canonical_or_zero(fs), canonical_or_zero(gs));
    // SAFETY: FSGSBASE is enabled; GS is the kernel's again at the end; interrupts are off; the values are canonical.
    unsafe {
        asm!("wrfsbase {}", "swapgs", "wrgsbase {}", "swapgs", in(reg) fs, in(reg) gs, options(nomem, nostack));
    }
}

fn canonical_or_zero(address: u64) -> u64 {
    let sign_extended = ((address << 16) as i64 >> 16) as u64;
    if sign_extended == address { address } else { 0 }
}

/// Address of the last page fault.
#[inline]
pub fn fault_address() -> u64 {
    let address: u64;
    // SAFETY: reads CR2.
    unsafe { asm!("mov {}, cr2", out(reg) address, options(nomem, nostack)) };
    address
}

/// Cleared at boot by the command line word `tacet.nofast`.
pub static FAST_PATH: AtomicBool = AtomicBool::new(true);

const IA32_TSC_AUX: u32 = 0xc000_0103;

/// What [`set_this_core`] set: the word that GS points to.
#[inline]
pub fn this_core() -> *const u8 {
    let core;
    // SAFETY: GS base points to a core's structure, which begins with its own address.
    unsafe { asm!("mov {}, gs:[0]", out(reg) core, options(pure, readonly, nostack, preserves_flags)) };
    core
}

/// Make GS point to `core`, which begins with its own address and lives for ever.
///
/// # Safety
/// It does, and the entry code finds in it what it looks for.
pub unsafe fn set_this_core(core: u64) {
    use x86::msr::{IA32_GS_BASE, IA32_KERNEL_GSBASE, wrmsr};
    // SAFETY: by the caller's promise.
    unsafe {
        wrmsr(IA32_GS_BASE, core);
        wrmsr(IA32_KERNEL_GSBASE, 0);
    }
}

/// Called on every core, with its number: control registers and the SYSCALL path.
pub fn init_cpu_features(core: usize) {
    use x86::controlregs::{Cr0, Cr4, cr0, cr0_write, cr4, cr4_write};
    let id = x86::cpuid::CpuId::new();
    let extended = id.get_extended_feature_info();
    let extended = extended.as_ref();
    assert!(extended.is_some_and(|f| f.has_fsgsbase()), "this CPU lacks FSGSBASE (needed: Ivy Bridge, Zen or newer)");
    // SAFETY: sets protection and feature bits that CPUID reports; the kernel keeps to their rules.
    unsafe {
        cr0_write((cr0() | Cr0::CR0_MONITOR_COPROCESSOR | Cr0::CR0_WRITE_PROTECT) & !Cr0::CR0_EMULATE_COPROCESSOR);
        let mut features = cr4()
            | Cr4::CR4_ENABLE_MACHINE_CHECK
            | Cr4::CR4_ENABLE_FSGSBASE
            | Cr4::CR4_ENABLE_SSE
            | Cr4::CR4_UNMASKED_SSE
            | Cr4::CR4_ENABLE_OS_XSAVE
            | Cr4::CR4_ENABLE_GLOBAL_PAGES;
        features.set(Cr4::CR4_ENABLE_SMEP, extended.is_some_and(|f| f.has_smep()));
        features.set(Cr4::CR4_ENABLE_SMAP, extended.is_some_and(|f| f.has_smap()));
        features.set(Cr4::CR4_ENABLE_UMIP, extended.is_some_and(|f| f.has_umip()));
        if id.get_feature_info().is_some_and(|f| f.has_pcid()) {
            features |= Cr4::CR4_ENABLE_PCID;
            memory::use_contexts();
        }
        cr4_write(features);
    }
    fpu::init();
    if id.get_extended_processor_and_feature_identifiers().is_some_and(|f| f.has_rdtscp()) {
        // SAFETY: what RDTSCP and RDPID give in user mode: the core's number, for Linux's getcpu.
        unsafe { x86::msr::wrmsr(IA32_TSC_AUX, core as u64) };
    }
    unsafe extern "C" {
        fn syscall_entry();
        fn syscall_entry_slow();
    }
    let entry = if FAST_PATH.load(Ordering::Relaxed) { syscall_entry } else { syscall_entry_slow };
    use x86::msr::{IA32_FMASK, IA32_LSTAR, IA32_STAR, wrmsr};
    // SAFETY: SYSCALL goes to `entry` with the kernel's selectors; FMASK clears IF, TF, DF, AC, NT.
    unsafe {
        wrmsr(IA32_STAR, u64::from(descriptors::STAR_USER) << 48 | u64::from(descriptors::KERNEL_CODE) << 32);
        wrmsr(IA32_LSTAR, entry as *const () as u64);
        wrmsr(IA32_FMASK, 0x0004_7700);
    }
}
