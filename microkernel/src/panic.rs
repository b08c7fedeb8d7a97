//! The end: reason, core, registers, backtrace with symbols, and a status for QEMU.

use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use abi::Regs;
use kcore::symbols::Symbols;

use crate::arch::{self, apic};
use crate::sync::SpinLock;

/// QEMU's exit status after a kernel panic is 2 * this + 1.
const STATUS_PANIC: u32 = 100;

static PANICKED: AtomicBool = AtomicBool::new(false);
static SYMBOLS: SpinLock<Option<Symbols<'static>>> = SpinLock::new(None);

/// The kernel's symbol table (`nm -n` text) from the boot archive.
pub fn set_symbols(text: &'static [u8]) {
    *SYMBOLS.lock() = Some(Symbols::new(text));
}

/// End the machine's run. QEMU's isa-debug-exit device takes the status; elsewhere the cores halt.
pub fn exit(status: u32) -> ! {
    // SAFETY: the debug-exit port; nothing listens there on other machines.
    unsafe { x86::io::outl(0xf4, status) };
    crate::klog!("the run has ended; the machine can be switched off");
    halt()
}

pub fn halt() -> ! {
    loop {
        // SAFETY: interrupts are off in the kernel: this core is done.
        unsafe { core::arch::asm!("cli", "hlt") };
    }
}

fn begin() {
    if PANICKED.swap(true, Ordering::SeqCst) {
        halt(); // another core, or the panic itself, panicked
    }
    if arch::core_count() > 0 {
        apic::send_all_others(apic::VECTOR_HALT);
    }
}

fn finish(rbp: u64, rip: u64) -> ! {
    backtrace(rbp, rip);
    exit(STATUS_PANIC)
}

/// An exception in the kernel.
pub fn exception(vector: u64, frame: *mut Regs) -> ! {
    begin();
    // SAFETY: the entry code built the frame, up to and with `ss`.
    let r = unsafe { &*frame };
    crate::log::print(format_args!(
        "\nKERNEL PANIC on core {}: exception {vector}, error {:#x}, address {:#x}\n",
        core_number(), r.orig_rax, arch::fault_address()
    ));
    crate::log::print(format_args!(
        "rip {:016x} rsp {:016x} rflags {:08x} cs {:x}\nrax {:016x} rbx {:016x} rcx {:016x} rdx {:016x}\n\
         rsi {:016x} rdi {:016x} rbp {:016x} r8  {:016x}\nr9  {:016x} r10 {:016x} r11 {:016x} r12 {:016x}\n\
         r13 {:016x} r14 {:016x} r15 {:016x}\n",
        r.rip, r.rsp, r.rflags, r.cs, r.rax, r.rbx, r.rcx, r.rdx, r.rsi, r.rdi, r.rbp, r.r8, r.r9, r.r10, r.r11, r.r12,
        r.r13, r.r14, r.r15
    ));
    finish(r.rbp, r.rip)
}

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    begin();
    crate::log::print(format_args!("\nKERNEL PANIC on core {}: {}\n", core_number(), info.message()));
    if let Some(at) = info.location() {
        crate::log::print(format_args!("at {}:{}\n", at.file(), at.line()));
    }
    let rbp: u64;
    // SAFETY: reads the frame pointer.
    unsafe { core::arch::asm!("mov {}, rbp", out(reg) rbp) };
    finish(rbp, 0)
}

fn core_number() -> usize {
    if arch::core_count() > 0 { arch::core().index } else { 0 }
}

/// Follow the frame pointers of this core's kernel stack.
fn backtrace(mut rbp: u64, rip: u64) {
    crate::log::print(format_args!("backtrace:\n"));
    if rip != 0 {
        print_address(rip);
    }
    let kernel = 0xffff_8000_0000_0000..=u64::MAX - 16;
    for _ in 0..32 {
        if !kernel.contains(&rbp) || rbp % 8 != 0 {
            return;
        }
        // SAFETY: a frame pointer in kernel memory; the chain ends with 0, which the entry code sets.
        let (next, ret) = unsafe { (*(rbp as *const u64), *((rbp + 8) as *const u64)) };
        print_address(ret);
        if next <= rbp {
            return;
        }
        rbp = next;
    }
}

fn print_address(address: u64) {
    match SYMBOLS.lock().as_ref().and_then(|s| s.name_of(address)) {
        Some((name, offset)) => crate::log::print(format_args!("  {address:016x} {name}+{offset:#x}\n")),
        None => crate::log::print(format_args!("  {address:016x}\n")),
    }
}
