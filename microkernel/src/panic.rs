//! The end: reason, core, registers, backtrace with symbols, and a status for QEMU.

use core::arch::asm;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use abi::Regs;
use kcore::symbols::Symbols;

use crate::arch::{self, apic};
use crate::percore;
use crate::sync::SpinLock;

/// QEMU's exit status after a kernel panic is 2 * this + 1.
const STATUS_PANIC: u32 = 100;

const DOUBLE_FAULT: u64 = 8;
const MACHINE_CHECK: u64 = 18;

macro_rules! print {
    ($($arg:tt)*) => { crate::log::print(format_args!($($arg)*)) };
}

static PANICKED: AtomicBool = AtomicBool::new(false);
static SYMBOLS: SpinLock<Option<Symbols<'static>>> = SpinLock::new(None);

/// The kernel's symbol table (`nm -n` text) from the boot archive.
pub fn set_symbols(text: &'static [u8]) {
    *SYMBOLS.lock() = Some(Symbols::new(text));
}

/// End the machine's run: all cores stop. QEMU's isa-debug-exit device takes the status.
pub fn exit(status: u32) -> ! {
    halt_others();
    crate::log::take_back();
    // SAFETY: the debug-exit port; nothing listens there on other machines.
    unsafe { x86::io::outl(0xf4, status) };
    crate::klog!("the run has ended; the machine can be switched off");
    halt()
}

/// Other cores stop when they come to user mode, or next wait for an interrupt.
fn halt_others() {
    if percore::core_count() > 0 {
        apic::send_all_others(apic::VECTOR_HALT);
    }
}

pub fn halt() -> ! {
    loop {
        // SAFETY: interrupts are off in the kernel: this core is done.
        unsafe { asm!("cli", "hlt") };
    }
}

fn begin() {
    if PANICKED.swap(true, Ordering::SeqCst) {
        halt(); // another core, or the panic itself, panicked
    }
    halt_others();
    // A machine check comes at any instruction, and so may find this core in the midst of a line.
    crate::log::take_back();
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
    print!("\nKERNEL PANIC on core {}: exception {vector}, error {:#x}\n", core_number(), r.orig_rax);
    if vector == DOUBLE_FAULT && arch::memory::is_stack_guard(arch::fault_address()) {
        print!("the kernel stack is full\n");
    }
    if vector == MACHINE_CHECK {
        machine_check();
    }
    print_registers(r);
    finish(r.rbp, r.rip)
}

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    let registers = registers_here();
    begin();
    print!("\nKERNEL PANIC on core {}: {}\n", core_number(), info.message());
    if let Some(at) = info.location() {
        print!("at {}:{}\n", at.file(), at.line());
    }
    print_registers(&registers);
    finish(registers.rbp, 0)
}

/// The registers of the caller. (What the panic itself needed is overwritten already; rbx, rbp and r12 to r15 often still
/// hold values of the function that panicked.)
#[inline(always)]
fn registers_here() -> Regs {
    let mut regs = Regs::default();
    // SAFETY: stores registers into `regs`, in the order of its fields.
    unsafe {
        asm!(
            "mov [rdi], r15", "mov [rdi + 8], r14", "mov [rdi + 16], r13", "mov [rdi + 24], r12", "mov [rdi + 32], rbp",
            "mov [rdi + 40], rbx", "mov [rdi + 48], r11", "mov [rdi + 56], r10", "mov [rdi + 64], r9", "mov [rdi + 72], r8",
            "mov [rdi + 80], rax", "mov [rdi + 88], rcx", "mov [rdi + 96], rdx", "mov [rdi + 104], rsi", "mov [rdi + 112], rdi",
            "lea rax, [rip]", "mov [rdi + 128], rax", "mov eax, cs", "mov [rdi + 136], rax",
            "pushfq", "pop rax", "mov [rdi + 144], rax", "mov [rdi + 152], rsp",
            in("rdi") &raw mut regs, out("rax") _,
        );
    }
    regs
}

fn print_registers(r: &Regs) {
    let root: u64;
    // SAFETY: reads CR3.
    unsafe { asm!("mov {}, cr3", out(reg) root) };
    print!("rip {:016x} rsp {:016x} rflags {:08x} cs {:x}\n", r.rip, r.rsp, r.rflags, r.cs);
    print!("rax {:016x} rbx {:016x} rcx {:016x} rdx {:016x}\n", r.rax, r.rbx, r.rcx, r.rdx);
    print!("rsi {:016x} rdi {:016x} rbp {:016x} r8  {:016x}\n", r.rsi, r.rdi, r.rbp, r.r8);
    print!("r9  {:016x} r10 {:016x} r11 {:016x} r12 {:016x}\n", r.r9, r.r10, r.r11, r.r12);
    print!("r13 {:016x} r14 {:016x} r15 {:016x}\n", r.r13, r.r14, r.r15);
    print!("cr2 {:016x} cr3 {root:016x}\n", arch::fault_address());
}

/// What the banks say (SDM vol. 3, 16.3).
fn machine_check() {
    use x86::msr::{IA32_MCG_CAP, IA32_MCG_STATUS, rdmsr};
    const FIRST_STATUS: u32 = 0x401;
    const VALID: u64 = 1 << 63;
    // SAFETY: a CPU that raises machine checks has these MSRs.
    let (banks, status) = unsafe { (rdmsr(IA32_MCG_CAP) & 0xff, rdmsr(IA32_MCG_STATUS)) };
    print!("machine check, MCG_STATUS {status:#x}\n");
    for bank in 0..banks as u32 {
        // SAFETY: the bank exists.
        let (status, address) = unsafe { (rdmsr(FIRST_STATUS + 4 * bank), rdmsr(FIRST_STATUS + 1 + 4 * bank)) };
        if status & VALID != 0 {
            print!("bank {bank}: status {status:#x} address {address:#x}\n");
        }
    }
}

fn core_number() -> usize {
    if percore::core_count() > 0 { percore::core().index } else { 0 }
}

/// Follow the frame pointers of this core's kernel stack.
fn backtrace(mut rbp: u64, rip: u64) {
    print!("backtrace:\n");
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
        Some((name, offset)) => print!("  {address:016x} {name}+{offset:#x}\n"),
        None => print!("  {address:016x}\n"),
    }
}
