//! ACPI's tables, well-formed and then damaged at will: what was written is read, and nothing outside is.
#![no_main]

use std::cell::Cell;

use arbitrary::Arbitrary;
use kcore::acpi::{self, IoApic, MAX_CORES, Memory};
use libfuzzer_sys::fuzz_target;

const IMAGE: usize = 16 << 10;
const RSDP: usize = 0;
const ROOT: usize = 64;
const MADT: usize = 1024;
const MCFG: usize = 12 << 10;

#[derive(Arbitrary, Debug)]
enum MadtEntry {
    Core { id: u8, enabled: bool },
    BigCore { id: u32, enabled: bool },
    IoApic { address: u32, gsi_base: u32 },
    Override { isa: u8, gsi: u32, flags: u16 },
    Other { kind: u8, length: u8 },
}

#[derive(Arbitrary, Debug)]
struct McfgEntry {
    address: u64,
    aligned: bool,
    segment: u8,
    first: u8,
    last: u8,
}

#[derive(Arbitrary, Debug)]
struct Input {
    xsdt: bool,
    madt: Vec<MadtEntry>,
    mcfg: Option<Vec<McfgEntry>>,
    /// Entries of the root table that lead nowhere, before the others.
    astray: Vec<u16>,
    /// (place, byte)
    damage: Vec<(u16, u8)>,
    /// Damage that checksums do not show.
    checksums: bool,
}

/// Memory that begins at an address other than 0.
struct Machine {
    base: u64,
    bytes: Vec<u8>,
    reads: Cell<usize>,
}

impl Memory for Machine {
    fn bytes(&self, address: u64, length: usize) -> Option<&[u8]> {
        assert!(length <= 1 << 20, "a length that nobody believes");
        self.reads.set(self.reads.get() + 1);
        let start = usize::try_from(address.checked_sub(self.base)?).ok()?;
        self.bytes.get(start..start.checked_add(length)?)
    }
}

fn table(signature: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let mut t = signature.to_vec();
    t.extend((36 + body.len() as u32).to_le_bytes());
    t.resize(36, 0);
    t.extend(body);
    t
}

fn put(bytes: &mut [u8], at: usize, what: &[u8]) {
    bytes[at..at + what.len()].copy_from_slice(what);
}

/// Make `length` bytes sum to zero.
fn checksum(bytes: &mut [u8], at: usize, length: usize, place: usize) {
    let Some(table) = bytes.get_mut(at..at + length.max(place + 1)) else { return };
    table[place] = 0;
    table[place] = table[..length].iter().fold(0, |sum: u8, &b| sum.wrapping_sub(b));
}

fn checksums(bytes: &mut [u8]) {
    checksum(bytes, RSDP, 20, 8);
    checksum(bytes, RSDP, 36, 32);
    for at in [ROOT, MADT, MCFG] {
        let length = u32::from_le_bytes(bytes[at + 4..at + 8].try_into().unwrap()) as usize;
        if length <= IMAGE {
            checksum(bytes, at, length, 9);
        }
    }
}

fn madt_bytes(entries: &[MadtEntry]) -> Vec<u8> {
    let mut body = vec![0; 8];
    for entry in entries {
        match *entry {
            MadtEntry::Core { id, enabled } => body.extend([0, 8, 0, id, u8::from(enabled), 0, 0, 0]),
            MadtEntry::BigCore { id, enabled } => {
                body.extend([9, 16, 0, 0]);
                body.extend(id.to_le_bytes());
                body.extend([u8::from(enabled), 0, 0, 0, 0, 0, 0, 0]);
            }
            MadtEntry::IoApic { address, gsi_base } => {
                body.extend([1, 12, 0, 0]);
                body.extend(address.to_le_bytes());
                body.extend(gsi_base.to_le_bytes());
            }
            MadtEntry::Override { isa, gsi, flags } => {
                body.extend([2, 10, 0, isa]);
                body.extend(gsi.to_le_bytes());
                body.extend(flags.to_le_bytes());
            }
            // Kinds that are read have other lengths only by damage.
            MadtEntry::Other { kind, length } => {
                let length = length.clamp(2, 32);
                body.extend([kind.max(10), length]);
                body.resize(body.len() + usize::from(length) - 2, 0xa5);
            }
        }
    }
    body
}

fn mcfg_bytes(entries: &[McfgEntry]) -> Vec<u8> {
    let mut body = vec![0; 8];
    for e in entries {
        body.extend(mcfg_address(e).to_le_bytes());
        body.extend([e.segment, 0, e.first, e.last, 0, 0, 0, 0]);
    }
    body
}

fn mcfg_address(e: &McfgEntry) -> u64 {
    if e.aligned { e.address & !0xf_ffff } else { e.address }
}

fn compare(platform: &acpi::Platform, madt: &[MadtEntry], mcfg: Option<&[McfgEntry]>) {
    let (mut cores, mut left_out, mut ioapics) = (Vec::new(), 0, Vec::new());
    for entry in madt {
        let id = match *entry {
            MadtEntry::Core { id, enabled: true } if id != 255 => u32::from(id),
            MadtEntry::BigCore { id, enabled: true } if id != u32::MAX => id,
            MadtEntry::IoApic { address, gsi_base } => {
                if gsi_base <= u32::MAX - 256 {
                    ioapics.push(IoApic { address: u64::from(address), gsi_base });
                }
                continue;
            }
            _ => continue,
        };
        if !cores.contains(&id) {
            if cores.len() < MAX_CORES { cores.push(id) } else { left_out += 1 }
        }
    }
    ioapics.truncate(4);
    assert_eq!((&platform.cores[..], platform.cores_left_out), (&cores[..], left_out));
    assert_eq!(platform.ioapics[..], ioapics[..]);
    let sound = |e: &&McfgEntry| {
        let address = mcfg_address(e);
        let end = u128::from(address) + (u128::from(e.last) + 1 << 20);
        e.segment == 0 && address != 0 && address % (1 << 20) == 0 && e.first <= e.last && end < 1 << 64
    };
    let ecam = mcfg.and_then(|entries| entries.iter().find(sound)).map(|e| (mcfg_address(e), e.first, e.last));
    assert_eq!(platform.ecam, ecam);
}

fuzz_target!(|input: Input| {
    let base = 0xe_0000u64;
    let madt = &input.madt[..input.madt.len().min(300)];
    let mcfg = input.mcfg.as_deref().map(|e| &e[..e.len().min(100)]);
    let mut bytes = vec![0; IMAGE];
    put(&mut bytes, MADT, &table(b"APIC", &madt_bytes(madt)));
    put(&mut bytes, MCFG, &table(b"MCFG", &mcfg_bytes(mcfg.unwrap_or(&[]))));
    // What leads astray may lead to the tables, too, and then names the same.
    let astray = input
        .astray
        .iter()
        .take(60)
        .map(|&a| u64::from(a) + base)
        .filter(|&a| a != base + MCFG as u64 || mcfg.is_some());
    let list: Vec<u64> = astray.chain([MADT as u64 + base]).chain(mcfg.map(|_| MCFG as u64 + base)).collect();
    let root = base + ROOT as u64;
    if input.xsdt {
        put(&mut bytes, ROOT, &table(b"XSDT", &list.iter().flat_map(|a| a.to_le_bytes()).collect::<Vec<_>>()));
        put(&mut bytes, RSDP + 24, &root.to_le_bytes());
    } else {
        put(
            &mut bytes,
            ROOT,
            &table(b"RSDT", &list.iter().flat_map(|&a| (a as u32).to_le_bytes()).collect::<Vec<_>>()),
        );
        put(&mut bytes, RSDP + 16, &(root as u32).to_le_bytes());
    }
    put(&mut bytes, RSDP, b"RSD PTR ");
    bytes[RSDP + 15] = if input.xsdt { 2 } else { 0 };
    checksums(&mut bytes);
    for &(place, byte) in input.damage.iter().take(16) {
        bytes[usize::from(place) % IMAGE] = byte;
    }
    if input.checksums {
        checksums(&mut bytes);
    }
    let machine = Machine { base, bytes, reads: Cell::new(0) };
    let answer = acpi::parse(&machine, base + RSDP as u64);
    // Two passes through the root table, two looks at most at an entry.
    assert!(machine.reads.get() <= 8 + 4 * IMAGE / 4);
    if input.damage.is_empty() {
        match &answer {
            Ok(platform) => compare(platform, madt, mcfg),
            Err(_) => {
                let enabled = |e: &MadtEntry| match *e {
                    MadtEntry::Core { id, enabled } => enabled && id != 255,
                    MadtEntry::BigCore { id, enabled } => enabled && id != u32::MAX,
                    _ => false,
                };
                assert!(!madt.iter().any(enabled), "sound tables are refused");
            }
        }
    }
    let Ok(platform) = answer else { return };
    let cores = &platform.cores;
    assert!((1..=MAX_CORES).contains(&cores.len()));
    assert!(cores.iter().enumerate().all(|(i, id)| *id != u32::MAX && !cores[..i].contains(id)));
    assert!(platform.ioapics.iter().all(|io| io.gsi_base.checked_add(256).is_some()));
    if let Some((address, first, last)) = platform.ecam {
        assert!(address != 0 && address % (1 << 20) == 0 && first <= last);
        assert!(address.checked_add((u64::from(last) + 1) << 20).is_some());
    }
});
