//! Starting the other cores.

use core::sync::atomic::{AtomicU64, Ordering};

use kcore::memory_map::FreeRegions;

use crate::arch::{self, apic, memory};
use crate::dispatch;
use crate::percore::{self, CORE_PAGES, Core};

/// Core that starts next, for `ap_main`.
static STARTING: AtomicU64 = AtomicU64::new(0);
static STARTED: AtomicU64 = AtomicU64::new(0);

unsafe extern "C" {
    static ap_trampoline: u8;
    static ap_trampoline_end: u8;
    static mut ap_stack_top: u64;
}

fn make_core(free: &mut FreeRegions, apic_id: u32) -> &'static Core {
    let bytes = CORE_PAGES as u64 * 4096;
    let physical = free.take(bytes).expect("no memory for a core's stack and tables");
    // SAFETY: the memory was just taken, for ever; until the core runs, the boot core uses its structure.
    unsafe {
        kobj::platform::zero(physical, bytes);
        percore::create(memory::to_virtual(physical), apic_id)
    }
}

/// Make and install the boot core's Core.
pub fn init_boot_core(free: &mut FreeRegions) {
    let core = make_core(free, 0);
    core.install();
    arch::descriptors::init_idt();
    core.load_tables();
}

/// Start every core that ACPI lists, as many as there is room for. `ap_main` runs on each.
pub fn start_others(free: &mut FreeRegions, apic_ids: &[u32]) {
    let own = apic::id();
    let others = || apic_ids.iter().copied().filter(|&id| id != own && apic::can_address(id));
    if others().next().is_none() {
        return;
    }
    // A core starts in real mode: the code must lie below 1 MiB.
    let trampoline = free.take_page_below(1 << 20).expect("no free page below 1 MiB for the start of the other cores");
    // SAFETY: the symbols bound the code, which is shorter than the page that was just taken.
    unsafe {
        let (start, end) = (&raw const ap_trampoline, &raw const ap_trampoline_end);
        let length = end as usize - start as usize;
        core::ptr::copy_nonoverlapping(start, memory::to_virtual(trampoline), length);
    }
    for apic_id in others().take(percore::MAX_CORES - 1) {
        let core = make_core(free, apic_id);
        // SAFETY: one core starts at a time, and reads this before it reports.
        unsafe { (&raw mut ap_stack_top).write_volatile(core.kernel_stack) };
        STARTING.store(core.index as u64, Ordering::SeqCst);
        apic::start_core(apic_id, trampoline);
        let mut waited = 0;
        while STARTED.load(Ordering::Acquire) != core.index as u64 {
            assert!(waited < 5_000_000, "core {} (APIC id {apic_id}) did not start within 5 s", core.index);
            apic::delay_us(10);
            waited += 10;
        }
    }
}

#[unsafe(no_mangle)]
extern "C" fn ap_main() -> ! {
    let index = STARTING.load(Ordering::SeqCst);
    // SAFETY: this is the core.
    let core = unsafe { percore::core_at(index as usize).expect("core not created").whole() };
    core.install();
    core.load_tables();
    arch::init_cpu_features(index as usize);
    apic::init(false);
    // SAFETY: the kernel's own tables live for ever.
    unsafe { memory::load_root(memory::kernel_root()) };
    STARTED.store(index, Ordering::Release);
    dispatch::run()
}
