//! Where PCI devices have their memory: the windows that Linux may map (PCI Local Bus 3.0, 6.2.5).

use abi::{MAP_READ, RootBoot};

use crate::options::Reason;
use crate::slots::{self, must};

/// Address in the root task at which bus 0's configuration space is looked at.
const LOOK: u64 = 0x20_0000_0000;
/// Below this, interrupt controllers and firmware begin.
const WINDOW_END: u64 = 0xfec0_0000;

#[derive(Default)]
pub struct Windows {
    pub ecam: (u64, u64),
    pub mmio: (u64, u64),
    pub mmio64: (u64, u64),
}

/// Make device Ranges for configuration space and the windows (address, bytes; 0 bytes where there is none).
pub fn windows(boot: &RootBoot) -> Result<Windows, Reason> {
    let mut windows = Windows::default();
    if boot.ecam == 0 {
        return Ok(windows);
    }
    let buses = u64::from(boot.ecam_buses[1]) + 1;
    windows.ecam = (boot.ecam, buses << 20);
    device("PCI configuration space", windows.ecam, slots::ECAM)?;
    let end = boot.ecam + windows.ecam.1;
    if end < WINDOW_END {
        windows.mmio = (end, WINDOW_END - end);
        device("PCI window", windows.mmio, slots::MMIO)?;
    }
    if let Some((low, high)) = high_bars()? {
        windows.mmio64 = (low, high - low);
        device("high PCI window", windows.mmio64, slots::MMIO64)?;
    }
    Ok(windows)
}

fn device(what: &'static str, (address, bytes): (u64, u64), slot: u64) -> Result<(), Reason> {
    must(what, abi::ROOT_CAP_MACHINE, abi::MACHINE_DEVICE, &[address, bytes / 4096, slot]).map(drop)
}

/// What the firmware's 64-bit BARs above 4 GiB on bus 0 span, widened to 2 MiB: a BAR's size cannot be read without
/// writing to it.
fn high_bars() -> Result<Option<(u64, u64)>, Reason> {
    const WIDEN: u64 = 2 << 20;
    let bytes = 1 << 20;
    must("looking at PCI", abi::ROOT_CAP_TASK, abi::TASK_MAP, &[slots::ECAM, 0, LOOK, bytes, MAP_READ])?;
    let read = |offset: u64| {
        // SAFETY: bus 0's configuration space was just mapped.
        unsafe { ((LOOK + offset) as *const u32).read_volatile() }
    };
    let mut span: Option<(u64, u64)> = None;
    for function in (0..256).map(|f| f << 12) {
        let bridge = read(function + 0xc) >> 16 & 0x7f;
        if read(function) == u32::MAX || bridge != 0 {
            continue;
        }
        let mut bar = 0x10;
        while bar < 0x28 {
            let low = read(function + bar);
            let is_64 = low & 7 == 4;
            if is_64 {
                let address = u64::from(read(function + bar + 4)) << 32 | u64::from(low & !15);
                if address >= 1 << 32 {
                    let (start, end) = (address & !(WIDEN - 1), (address | (WIDEN - 1)) + 1);
                    span = Some(span.map_or((start, end), |(s, e)| (s.min(start), e.max(end))));
                }
            }
            bar += if is_64 { 8 } else { 4 };
        }
    }
    must("looking at PCI", abi::ROOT_CAP_TASK, abi::TASK_UNMAP, &[LOOK, bytes])?;
    Ok(span)
}
