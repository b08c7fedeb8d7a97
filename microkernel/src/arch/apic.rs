//! The local interrupt controller (SDM vol. 3, chapter 11), xAPIC or x2APIC.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

use x86::msr::{IA32_APIC_BASE, rdmsr, wrmsr};

use super::{memory, time};

pub const VECTOR_TIMER: u8 = 0xf0;
/// Look at the run queue and at pending requests.
pub const VECTOR_POKE: u8 = 0xf1;
pub const VECTOR_SHOOTDOWN: u8 = 0xf2;
/// Another core panicked: stop.
pub const VECTOR_HALT: u8 = 0xf3;
pub const VECTOR_SPURIOUS: u8 = 0xff;

const ID: u32 = 0x20;
const TASK_PRIORITY: u32 = 0x80;
const EOI: u32 = 0xb0;
const SPURIOUS: u32 = 0xf0;
const ICR_LOW: u32 = 0x300;
const ICR_HIGH: u32 = 0x310;
const LVT_TIMER: u32 = 0x320;
const TIMER_INITIAL: u32 = 0x380;
const TIMER_CURRENT: u32 = 0x390;
const TIMER_DIVIDE: u32 = 0x3e0;
const IA32_TSC_DEADLINE: u32 = 0x6e0;

static X2: AtomicBool = AtomicBool::new(false);
static BASE: AtomicU64 = AtomicU64::new(0xfee0_0000);
/// Timer ticks per TSC tick, in 2^-32.
static TIMER_RATE: AtomicU64 = AtomicU64::new(0);
/// A timer runs at most this many TSC ticks before it is looked at again: keeps the product below 2^64 for any rate up to 16.
const LONGEST: u64 = 1 << 28;
static DEADLINE: AtomicBool = AtomicBool::new(false);

/// A register of the own APIC by its page in the direct map (uncached by the MTRRs): without x2APIC mode, in which it is an MSR.
fn in_page(register: u32) -> *mut u32 {
    memory::to_virtual(BASE.load(Ordering::Relaxed) + u64::from(register)).cast()
}

fn write(register: u32, value: u32) {
    // SAFETY: an APIC register of this core, wherever it is.
    unsafe {
        if X2.load(Ordering::Relaxed) {
            wrmsr(0x800 + (register >> 4), u64::from(value));
        } else {
            in_page(register).write_volatile(value);
        }
    }
}

fn read(register: u32) -> u32 {
    // SAFETY: an APIC register of this core, wherever it is.
    unsafe {
        if X2.load(Ordering::Relaxed) {
            rdmsr(0x800 + (register >> 4)) as u32
        } else {
            in_page(register).read_volatile()
        }
    }
}

/// Enable this core's APIC; on the boot core (`first`) also choose the mode and calibrate the timer.
pub fn init(first: bool) {
    let id = x86::cpuid::CpuId::new();
    let features = id.get_feature_info();
    let has_x2 = features.as_ref().is_some_and(|f| f.has_x2apic());
    // SAFETY: enables the APIC, in x2APIC mode where there is one.
    unsafe {
        let base = rdmsr(IA32_APIC_BASE);
        wrmsr(IA32_APIC_BASE, base | 1 << 11);
        if has_x2 {
            wrmsr(IA32_APIC_BASE, base | 3 << 10);
        }
        if first {
            X2.store(has_x2, Ordering::Relaxed);
            BASE.store(base & 0xf_ffff_f000, Ordering::Relaxed);
        }
    }
    write(SPURIOUS, 1 << 8 | u32::from(VECTOR_SPURIOUS));
    write(TIMER_DIVIDE, 0b1011); // by 1
    if first {
        DEADLINE.store(features.is_some_and(|f| f.has_tsc_deadline()), Ordering::Relaxed);
        write(LVT_TIMER, 1 << 16 | u32::from(VECTOR_TIMER));
        write(TIMER_INITIAL, u32::MAX);
        let timer_hz = time::calibrate(|| read(TIMER_CURRENT));
        TIMER_RATE.store(((u128::from(timer_hz) << 32) / u128::from(time::tsc_hz())) as u64, Ordering::Relaxed);
        write(TIMER_INITIAL, 0);
    }
    let mode = if DEADLINE.load(Ordering::Relaxed) { 2 << 17 } else { 0 };
    write(LVT_TIMER, mode | u32::from(VECTOR_TIMER));
    // The page's write must be done before the first write of the deadline MSR (11.5.4.1).
    fence(Ordering::SeqCst);
}

pub fn id() -> u32 {
    let value = read(ID);
    if X2.load(Ordering::Relaxed) { value } else { value >> 24 }
}

/// Whether this core can send to the one with this id: in xAPIC mode ids have 8 bits, and the last means all cores.
pub fn can_address(apic_id: u32) -> bool {
    X2.load(Ordering::Relaxed) || apic_id < 0xff
}

/// What the log says of the APIC and its timer.
pub fn mode_name() -> &'static str {
    match (X2.load(Ordering::Relaxed), DEADLINE.load(Ordering::Relaxed)) {
        (true, true) => "x2APIC, TSC-deadline",
        (true, false) => "x2APIC",
        (false, true) => "xAPIC, TSC-deadline",
        (false, false) => "xAPIC",
    }
}

#[inline]
pub fn end_of_interrupt() {
    write(EOI, 0);
}

/// Hold back the vectors of devices on this core (up to 0xcf), or let them in.
pub fn hold_devices(hold: bool) {
    write(TASK_PRIORITY, if hold { 0xcf } else { 0 });
}

/// One interrupt at an absolute TSC value; `None`: none.
pub fn set_timer(deadline: Option<u64>) {
    if DEADLINE.load(Ordering::Relaxed) {
        // SAFETY: the MSR exists where CPUID says so; 0 disarms.
        unsafe { wrmsr(IA32_TSC_DEADLINE, deadline.unwrap_or(0)) };
        return;
    }
    let count = match deadline {
        None => 0,
        Some(at) => {
            // A deadline that is farther away is armed anew when the counter runs out. Rounded up, so as not to fire early.
            let ticks = at.saturating_sub(time::tsc()).min(LONGEST);
            ((ticks * TIMER_RATE.load(Ordering::Relaxed)) >> 32) as u32 + 1
        }
    };
    write(TIMER_INITIAL, count);
}

/// Send a vector to a core.
pub fn send(target: u32, vector: u8) {
    command(target, 1 << 14 | u32::from(vector));
}

/// Send a vector to all other cores.
pub fn send_all_others(vector: u8) {
    command(0, 3 << 18 | 1 << 14 | u32::from(vector));
}

/// INIT, then STARTUP at `page` (below 1 MiB), as SDM vol. 3, 9.4.4 asks.
pub fn start_core(apic_id: u32, page: u64) {
    command(apic_id, 0x4500);
    delay_us(10_000);
    for _ in 0..2 {
        command(apic_id, 0x4600 | (page >> 12) as u32);
        delay_us(200);
    }
}

pub fn delay_us(us: u64) {
    let end = time::tsc() + time::tsc_hz() / 1_000_000 * us;
    while time::tsc() < end {
        core::hint::spin_loop();
    }
}

fn command(apic_id: u32, low: u32) {
    // What was written for the target to see must be visible before the interrupt.
    fence(Ordering::SeqCst);
    if X2.load(Ordering::Relaxed) {
        // SAFETY: the ICR of this core. WRMSR to the x2APIC does not serialise, and MFENCE alone does not hold it back
        // (11.12.3).
        unsafe {
            core::arch::x86_64::_mm_lfence();
            wrmsr(0x830, u64::from(apic_id) << 32 | u64::from(low));
        }
    } else {
        let (icr_low, icr_high) = (in_page(ICR_LOW), in_page(ICR_HIGH));
        // SAFETY: the ICR of this core, in two registers, once it is idle; the write of the lower half sends.
        unsafe {
            while icr_low.read_volatile() & 1 << 12 != 0 {
                core::hint::spin_loop();
            }
            icr_high.write_volatile(apic_id << 24);
            icr_low.write_volatile(low);
        }
    }
}

/// Whether devices can interrupt a core: without interrupt remapping their messages have 8 bits for its id, and the last id
/// means all cores.
pub fn devices_reach(target: u32) -> bool {
    target < 0xff
}

/// MSI address and data that raise `vector` on a core that devices reach (SDM vol. 3, 11.11).
pub fn msi(target: u32, vector: u8) -> [u64; 2] {
    [0xfee0_0000 | u64::from(target) << 12, u64::from(vector)]
}
