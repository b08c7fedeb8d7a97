//! IOAPICs (82093AA data sheet): level and edge interrupts of devices without MSI.

use kcore::acpi::IoApic;

use super::memory;
use crate::sync::SpinLock;

static IOAPICS: SpinLock<[Option<(IoApic, u32)>; 4]> = SpinLock::new([None; 4]);

/// Silence the legacy interrupt controllers (8259A): moved off the exception vectors, since even a masked one can raise a
/// spurious interrupt, and masked.
pub fn disable_legacy() {
    use x86::io::outb;
    // SAFETY: the controllers' ports; ICW1 to ICW4, then the masks.
    unsafe {
        for (port, vector, cascade) in [(0x20, 0xe0, 4), (0xa0, 0xe8, 2)] {
            outb(port, 0x11);
            outb(port + 1, vector);
            outb(port + 1, cascade);
            outb(port + 1, 1);
            outb(port + 1, 0xff);
        }
    }
}

/// Mask all pins and remember where they are.
pub fn init(list: &[IoApic]) {
    let mut ioapics = IOAPICS.lock();
    for (slot, &apic) in ioapics.iter_mut().zip(list) {
        let pins = (read(apic, 1) >> 16 & 0xff) + 1;
        for pin in 0..pins {
            write(apic, 0x10 + 2 * pin, 1 << 16);
        }
        *slot = Some((apic, pins));
    }
}

/// Route a global system interrupt to a vector of a core. False: there is no such pin.
pub fn route(gsi: u32, target: u32, vector: u8, level: bool, active_low: bool) -> bool {
    with_pin(gsi, |apic, pin| {
        write(apic, 0x11 + 2 * pin, target << 24);
        let mode = u32::from(level) << 15 | u32::from(active_low) << 13;
        write(apic, 0x10 + 2 * pin, u32::from(vector) | mode | 1 << 16);
    })
}

/// Mask or unmask a pin.
pub fn set_masked(gsi: u32, masked: bool) {
    with_pin(gsi, |apic, pin| {
        let entry = read(apic, 0x10 + 2 * pin) & !(1 << 16);
        write(apic, 0x10 + 2 * pin, entry | u32::from(masked) << 16);
    });
}

fn with_pin(gsi: u32, work: impl FnOnce(IoApic, u32)) -> bool {
    let ioapics = IOAPICS.lock();
    let found = ioapics.iter().flatten().find(|(a, pins)| (a.gsi_base..a.gsi_base + pins).contains(&gsi));
    if let Some(&(apic, _)) = found {
        work(apic, gsi - apic.gsi_base);
    }
    found.is_some()
}

fn read(apic: IoApic, register: u32) -> u32 {
    let page = memory::to_virtual(apic.address).cast::<u32>();
    // SAFETY: the IOAPIC's index and data registers; the lock is held by all callers.
    unsafe {
        page.write_volatile(register);
        page.add(4).read_volatile()
    }
}

fn write(apic: IoApic, register: u32, value: u32) {
    let page = memory::to_virtual(apic.address).cast::<u32>();
    // SAFETY: the IOAPIC's page lies in the direct map; the caller has the lock of its two registers.
    unsafe {
        page.write_volatile(register);
        page.add(4).write_volatile(value);
    }
}
