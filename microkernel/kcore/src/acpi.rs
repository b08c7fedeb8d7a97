//! What the kernel wants of ACPI: cores, interrupt controllers, PCI configuration space (ACPI 6.5, chapters 5.2.5 to
//! 5.2.12; PCI Firmware 3.3, 4.1.2). Tables come from firmware and are read as if they were hostile: every length is
//! checked, every loop ends.

/// Physical memory that tables may lie in.
pub trait Memory {
    /// The bytes at a physical address; `None` where there is no readable memory.
    fn bytes(&self, address: u64, length: usize) -> Option<&[u8]>;
}

pub const MAX_CORES: usize = 64;
const MAX_IOAPICS: usize = 4;
const MAX_OVERRIDES: usize = 16;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IoApic {
    pub address: u64,
    pub gsi_base: u32,
}

/// An ISA interrupt that is wired to another global system interrupt or with other polarity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Override {
    pub isa: u8,
    pub gsi: u32,
    pub flags: u16,
}

#[derive(Clone, Debug)]
pub struct Platform {
    cores: [u32; MAX_CORES],
    core_count: usize,
    ioapics: [IoApic; MAX_IOAPICS],
    ioapic_count: usize,
    overrides: [Override; MAX_OVERRIDES],
    override_count: usize,
    /// PCI Express configuration space of segment 0: address, first and last bus.
    pub ecam: Option<(u64, u8, u8)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    Rsdp,
    RootTable,
    /// No (usable) MADT: the cores are not known.
    Madt,
}

impl Platform {
    /// APIC ids of the enabled cores, in the order of the MADT.
    pub fn cores(&self) -> &[u32] {
        &self.cores[..self.core_count]
    }

    pub fn ioapics(&self) -> &[IoApic] {
        &self.ioapics[..self.ioapic_count]
    }

    pub fn overrides(&self) -> &[Override] {
        &self.overrides[..self.override_count]
    }
}

fn u16_at(b: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(b.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(b: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(b.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(b: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(b.get(at..at + 8)?.try_into().ok()?))
}

fn sums_to_zero(bytes: &[u8]) -> bool {
    bytes.iter().fold(0u8, |sum, &b| sum.wrapping_add(b)) == 0
}

/// A whole table, its length and checksum verified.
fn table<M: Memory>(memory: &M, address: u64) -> Option<&[u8]> {
    let length = u32_at(memory.bytes(address, 36)?, 4)? as usize;
    if !(36..=1 << 20).contains(&length) {
        return None;
    }
    memory.bytes(address, length).filter(|t| sums_to_zero(t))
}

/// Read the platform from the tables that the RSDP at `rsdp` leads to.
pub fn parse<M: Memory>(memory: &M, rsdp: u64) -> Result<Platform, Malformed> {
    let first = memory.bytes(rsdp, 20).filter(|b| &b[..8] == b"RSD PTR " && sums_to_zero(b)).ok_or(Malformed::Rsdp)?;
    let (root, entry_size) = if first[15] >= 2 {
        let whole = memory.bytes(rsdp, 36).ok_or(Malformed::Rsdp)?;
        (u64_at(whole, 24).ok_or(Malformed::Rsdp)?, 8)
    } else {
        (u64::from(u32_at(first, 16).ok_or(Malformed::Rsdp)?), 4)
    };
    let root = table(memory, root).ok_or(Malformed::RootTable)?;
    let mut platform = Platform {
        cores: [0; MAX_CORES],
        core_count: 0,
        ioapics: Default::default(),
        ioapic_count: 0,
        overrides: Default::default(),
        override_count: 0,
        ecam: None,
    };
    for entry in root[36..].chunks_exact(entry_size) {
        let address = if entry_size == 8 { u64_at(entry, 0) } else { u32_at(entry, 0).map(u64::from) };
        let Some(table) = address.and_then(|a| table(memory, a)) else { continue };
        match &table[..4] {
            b"APIC" => platform.read_madt(table),
            b"MCFG" => platform.read_mcfg(table),
            _ => {}
        }
    }
    if platform.core_count == 0 { Err(Malformed::Madt) } else { Ok(platform) }
}

impl Platform {
    fn read_madt(&mut self, madt: &[u8]) {
        let mut rest = madt.get(44..).unwrap_or(&[]);
        while let [kind, length, ..] = *rest {
            let Some(entry) = rest.get(..length as usize).filter(|e| e.len() >= 2) else { return };
            let _ = self.read_madt_entry(kind, entry);
            rest = &rest[entry.len()..];
        }
    }

    /// `None`: the entry is shorter than its kind says, and is skipped.
    fn read_madt_entry(&mut self, kind: u8, entry: &[u8]) -> Option<()> {
        match kind {
            0 if u32_at(entry, 4)? & 1 != 0 => self.add_core(u32::from(entry[3])),
            9 if u32_at(entry, 8)? & 1 != 0 => self.add_core(u32_at(entry, 4)?),
            1 if self.ioapic_count < MAX_IOAPICS => {
                self.ioapics[self.ioapic_count] =
                    IoApic { address: u64::from(u32_at(entry, 4)?), gsi_base: u32_at(entry, 8)? };
                self.ioapic_count += 1;
            }
            2 if self.override_count < MAX_OVERRIDES => {
                self.overrides[self.override_count] =
                    Override { isa: *entry.get(3)?, gsi: u32_at(entry, 4)?, flags: u16_at(entry, 8)? };
                self.override_count += 1;
            }
            _ => {}
        }
        Some(())
    }

    fn add_core(&mut self, apic_id: u32) {
        if self.core_count < MAX_CORES && !self.cores().contains(&apic_id) {
            self.cores[self.core_count] = apic_id;
            self.core_count += 1;
        }
    }

    fn read_mcfg(&mut self, mcfg: &[u8]) {
        for entry in mcfg.get(44..).unwrap_or(&[]).chunks_exact(16) {
            if u16_at(entry, 8) == Some(0) {
                self.ecam = u64_at(entry, 0).map(|address| (address, entry[10], entry[11]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fake(Vec<u8>);
    impl Memory for Fake {
        fn bytes(&self, address: u64, length: usize) -> Option<&[u8]> {
            let start = usize::try_from(address).ok()?;
            self.0.get(start..start.checked_add(length)?)
        }
    }

    fn checksummed(mut t: Vec<u8>, at: usize) -> Vec<u8> {
        t[at] = 0;
        t[at] = t.iter().fold(0u8, |s, &b| s.wrapping_sub(b));
        t
    }

    fn table(name: &[u8; 4], body: &[u8]) -> Vec<u8> {
        let mut t = vec![0; 36];
        t[..4].copy_from_slice(name);
        t[4..8].copy_from_slice(&(36 + body.len() as u32).to_le_bytes());
        t.extend_from_slice(body);
        checksummed(t, 9)
    }

    fn machine(madt_entries: &[u8]) -> Fake {
        let mut m = vec![0; 4096];
        let mut rsdp = b"RSD PTR ".to_vec();
        rsdp.resize(20, 0);
        rsdp[16..20].copy_from_slice(&100u32.to_le_bytes());
        let put = |m: &mut Vec<u8>, at: usize, t: &[u8]| m[at..at + t.len()].copy_from_slice(t);
        put(&mut m, 0, &checksummed(rsdp, 8));
        put(&mut m, 100, &table(b"RSDT", &[200u32.to_le_bytes(), 2000u32.to_le_bytes(), 9999u32.to_le_bytes()].concat()));
        put(&mut m, 200, &table(b"APIC", &[&[0; 8][..], madt_entries].concat()));
        let mut mcfg = vec![0; 8];
        mcfg.extend_from_slice(&0xb000_0000u64.to_le_bytes());
        mcfg.extend_from_slice(&[0, 0, 0, 255, 0, 0, 0, 0]);
        put(&mut m, 2000, &table(b"MCFG", &mcfg));
        Fake(m)
    }

    #[test]
    fn cores_ioapic_overrides_and_ecam_are_read() {
        let entries = [
            &[0, 8, 0, 0, 1, 0, 0, 0][..],                   // core 0
            &[0, 8, 1, 1, 1, 0, 0, 0],                       // core 1
            &[0, 8, 2, 2, 0, 0, 0, 0],                       // disabled
            &[9, 16, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0], // x2APIC id 256
            &[1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0],
            &[2, 10, 0, 0, 2, 0, 0, 0, 0, 0],
        ]
        .concat();
        let p = parse(&machine(&entries), 0).unwrap();
        assert_eq!(p.cores(), [0, 1, 256]);
        assert_eq!(p.ioapics(), [IoApic { address: 0xfec0_0000, gsi_base: 0 }]);
        assert_eq!(p.overrides(), [Override { isa: 0, gsi: 2, flags: 0 }]);
        assert_eq!(p.ecam, Some((0xb000_0000, 0, 255)));
    }

    #[test]
    fn entries_with_zero_or_excess_length_end_the_walk() {
        let core = [0, 8, 0, 5, 1, 0, 0, 0];
        for bad in [[0u8, 0, 0, 0], [0, 200, 0, 0], [0, 3, 7, 0]] {
            let p = parse(&machine(&[&core[..], &bad].concat()), 0).unwrap();
            assert_eq!(p.cores(), [5]);
        }
    }

    #[test]
    fn wrong_checksums_and_missing_tables_are_named() {
        let mut m = machine(&[]);
        assert_eq!(parse(&m, 0).unwrap_err(), Malformed::Madt);
        m.0[101] ^= 1;
        assert_eq!(parse(&m, 0).unwrap_err(), Malformed::RootTable);
        m.0[3] ^= 1;
        assert_eq!(parse(&m, 0).unwrap_err(), Malformed::Rsdp);
        assert_eq!(parse(&m, 1 << 40).unwrap_err(), Malformed::Rsdp);
    }
}
