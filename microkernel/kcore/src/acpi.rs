//! What the kernel wants of ACPI: cores, interrupt controllers, PCI configuration space (ACPI 6.5, chapters 5.2.5 to
//! 5.2.12; PCI Firmware 3.3, 4.1.2). Tables come from firmware and are read as if they were hostile: every length is
//! checked, every loop ends.

use arrayvec::ArrayVec;

use crate::bytes::{u32_at, u64_at};

/// Physical memory that tables may lie in.
pub trait Memory {
    /// The bytes at a physical address; `None` where there is no readable memory.
    fn bytes(&self, address: u64, length: usize) -> Option<&[u8]>;
}

/// Most cores that are used, the boot core among them.
pub const MAX_CORES: usize = 64;
const MAX_IOAPICS: usize = 4;
/// Longest table that is believed.
const MAX_TABLE: usize = 1 << 20;
/// Most pins of an IOAPIC.
const MAX_PINS: u32 = 256;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IoApic {
    pub address: u64,
    pub gsi_base: u32,
}

#[derive(Clone, Debug, Default)]
pub struct Platform {
    /// APIC ids of the enabled cores, in the order of the MADT.
    pub cores: ArrayVec<u32, MAX_CORES>,
    /// Enabled cores beyond [`MAX_CORES`]: they stay off.
    pub cores_left_out: usize,
    pub ioapics: ArrayVec<IoApic, MAX_IOAPICS>,
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

fn sums_to_zero(bytes: &[u8]) -> bool {
    bytes.iter().fold(0u8, |sum, &b| sum.wrapping_add(b)) == 0
}

/// The table at an address if it has this signature, a believable length and the right checksum. (The signature comes first:
/// an address that occurs a thousand times in a broken root table costs a thousand looks, not a thousand sums.)
fn table<'a, M: Memory>(memory: &'a M, address: u64, signature: &[u8; 4]) -> Option<&'a [u8]> {
    let head = memory.bytes(address, 36).filter(|head| head.starts_with(signature))?;
    let length = u32_at(head, 4)? as usize;
    if !(36..=MAX_TABLE).contains(&length) {
        return None;
    }
    memory.bytes(address, length).filter(|t| sums_to_zero(t))
}

/// The root table's list of addresses, and the bytes of one of them. Revision 2 and later have the XSDT; where its address
/// is 0, the RSDT counts as in revision 0.
fn root_table<M: Memory>(memory: &M, rsdp: u64) -> Result<(&[u8], usize), Malformed> {
    let first =
        memory.bytes(rsdp, 20).filter(|b| b.starts_with(b"RSD PTR ") && sums_to_zero(b)).ok_or(Malformed::Rsdp)?;
    let mut root = (u64::from(u32_at(first, 16).ok_or(Malformed::Rsdp)?), b"RSDT", 4);
    if first[15] >= 2 {
        let whole = memory.bytes(rsdp, 36).filter(|b| sums_to_zero(b)).ok_or(Malformed::Rsdp)?;
        let xsdt = u64_at(whole, 24).ok_or(Malformed::Rsdp)?;
        if xsdt != 0 {
            root = (xsdt, b"XSDT", 8);
        }
    }
    let (address, signature, entry_size) = root;
    let table = table(memory, address, signature).ok_or(Malformed::RootTable)?;
    Ok((&table[36..], entry_size))
}

/// Read the platform from the tables that the RSDP at `rsdp` leads to. Of two tables of one kind the first counts.
pub fn parse<M: Memory>(memory: &M, rsdp: u64) -> Result<Platform, Malformed> {
    let (root, entry_size) = root_table(memory, rsdp)?;
    let find = |signature: &[u8; 4]| {
        root.chunks_exact(entry_size).find_map(|entry| {
            let address = if entry_size == 8 { u64_at(entry, 0) } else { u32_at(entry, 0).map(u64::from) };
            table(memory, address?, signature)
        })
    };
    let mut platform = Platform { ecam: find(b"MCFG").and_then(read_mcfg), ..Platform::default() };
    platform.read_madt(find(b"APIC").ok_or(Malformed::Madt)?);
    if platform.cores.is_empty() { Err(Malformed::Madt) } else { Ok(platform) }
}

/// Segment 0's configuration space: 1 MiB a bus.
fn read_mcfg(mcfg: &[u8]) -> Option<(u64, u8, u8)> {
    mcfg.get(44..)?.chunks_exact(16).find_map(|entry| {
        let (address, first, last) = (u64_at(entry, 0)?, entry[10], entry[11]);
        let end = address.checked_add((u64::from(last) + 1) << 20);
        let sound = address != 0 && address % (1 << 20) == 0 && first <= last && end.is_some();
        (entry[8..10] == [0; 2] && sound).then_some((address, first, last))
    })
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

    /// `None`: the entry is shorter than its kind says, or one too many, and is skipped.
    fn read_madt_entry(&mut self, kind: u8, entry: &[u8]) -> Option<()> {
        match kind {
            // The last id of each mode means all cores, and so can be nobody's.
            0 if u32_at(entry, 4)? & 1 != 0 && entry[3] != 0xff => self.add_core(u32::from(entry[3])),
            9 if u32_at(entry, 8)? & 1 != 0 && u32_at(entry, 4)? != u32::MAX => self.add_core(u32_at(entry, 4)?),
            1 => {
                let (address, gsi_base) = (u64::from(u32_at(entry, 4)?), u32_at(entry, 8)?);
                gsi_base.checked_add(MAX_PINS)?;
                self.ioapics.try_push(IoApic { address, gsi_base }).ok()?;
            }
            _ => {}
        }
        Some(())
    }

    fn add_core(&mut self, apic_id: u32) {
        if !self.cores.contains(&apic_id) && self.cores.try_push(apic_id).is_err() {
            self.cores_left_out += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    struct Fake {
        bytes: Vec<u8>,
        /// Bytes that were handed out.
        read: Cell<usize>,
    }

    impl Memory for Fake {
        fn bytes(&self, address: u64, length: usize) -> Option<&[u8]> {
            let start = usize::try_from(address).ok()?;
            let bytes = self.bytes.get(start..start.checked_add(length)?)?;
            self.read.set(self.read.get() + length);
            Some(bytes)
        }
    }

    impl Fake {
        fn put(&mut self, at: usize, table: &[u8]) {
            self.bytes[at..at + table.len()].copy_from_slice(table);
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

    fn mcfg(address: u64, segment: u8, first: u8, last: u8) -> Vec<u8> {
        table(b"MCFG", &[&[0; 8][..], &address.to_le_bytes(), &[segment, 0, first, last, 0, 0, 0, 0]].concat())
    }

    fn madt(entries: &[u8]) -> Vec<u8> {
        table(b"APIC", &[&[0; 8][..], entries].concat())
    }

    /// RSDP of revision 0 at 0, RSDT at 100, MADT at 200, MCFG at 3000.
    fn machine(madt_entries: &[u8]) -> Fake {
        let mut m = Fake { bytes: vec![0; 4096], read: Cell::new(0) };
        let mut rsdp = b"RSD PTR ".to_vec();
        rsdp.resize(20, 0);
        rsdp[16..20].copy_from_slice(&100u32.to_le_bytes());
        m.put(0, &checksummed(rsdp, 8));
        m.put(100, &table(b"RSDT", &[200u32.to_le_bytes(), 3000u32.to_le_bytes(), 9999u32.to_le_bytes()].concat()));
        m.put(200, &madt(madt_entries));
        m.put(3000, &mcfg(0xb000_0000, 0, 0, 255));
        m
    }

    /// The same tables, listed by an XSDT at 3500; the RSDP is of revision 2.
    fn newer_machine(xsdt: u64) -> Fake {
        let mut m = machine(&CORE_5);
        let mut rsdp = m.bytes[..20].to_vec();
        rsdp[15] = 2;
        let mut rsdp = checksummed(rsdp, 8);
        rsdp.resize(36, 0);
        rsdp[24..32].copy_from_slice(&xsdt.to_le_bytes());
        m.put(0, &checksummed(rsdp, 32));
        m.put(3500, &table(b"XSDT", &[200u64.to_le_bytes(), 3000u64.to_le_bytes()].concat()));
        m
    }

    const CORE_5: [u8; 8] = [0, 8, 0, 5, 1, 0, 0, 0];

    #[test]
    fn cores_ioapic_and_ecam_are_read() {
        let entries = [
            &[0, 8, 0, 0, 1, 0, 0, 0][..],                      // core 0
            &[0, 8, 1, 1, 1, 0, 0, 0],                          // core 1
            &[0, 8, 2, 2, 0, 0, 0, 0],                          // disabled
            &[9, 16, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0], // x2APIC id 256
            &[1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0],
            &[2, 10, 0, 0, 2, 0, 0, 0, 0, 0],
        ]
        .concat();
        let p = parse(&machine(&entries), 0).unwrap();
        assert_eq!(p.cores[..], [0, 1, 256]);
        assert_eq!(p.ioapics[..], [IoApic { address: 0xfec0_0000, gsi_base: 0 }]);
        assert_eq!(p.ecam, Some((0xb000_0000, 0, 255)));
    }

    #[test]
    fn a_revision_2_rsdp_leads_to_the_xsdt_or_where_there_is_none_to_the_rsdt() {
        for xsdt in [3500, 0] {
            let p = parse(&newer_machine(xsdt), 0).unwrap();
            assert_eq!((&p.cores[..], p.ecam), (&[5][..], Some((0xb000_0000, 0, 255))));
        }
        assert_eq!(parse(&newer_machine(100), 0).unwrap_err(), Malformed::RootTable); // an RSDT is no XSDT
        let mut m = newer_machine(3500);
        m.bytes[30] ^= 1; // only the longer checksum covers it
        assert_eq!(parse(&m, 0).unwrap_err(), Malformed::Rsdp);
    }

    #[test]
    fn entries_with_zero_or_excess_length_end_the_walk_and_short_ones_are_skipped() {
        for bad in [[0u8, 0, 0, 0], [0, 200, 0, 0], [0, 3, 7, 0]] {
            let p = parse(&machine(&[&CORE_5[..], &bad].concat()), 0).unwrap();
            assert_eq!(p.cores[..], [5]);
        }
        for short in [&[0u8, 2][..], &[9, 4, 0, 0], &[1, 6, 0, 0, 0, 0], &[2, 8, 0, 0, 0, 0, 0, 0]] {
            let p = parse(&machine(&[short, &CORE_5].concat()), 0).unwrap();
            assert_eq!((&p.cores[..], p.ioapics.len()), (&[5][..], 0));
        }
    }

    #[test]
    fn broadcast_ids_and_repeated_ids_are_no_cores() {
        let entries = [
            &CORE_5[..],
            &[0, 8, 0, 0xff, 1, 0, 0, 0],
            &[9, 16, 0, 0, 0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0, 0, 0, 0, 0],
            &[9, 16, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0],
        ]
        .concat();
        assert_eq!(parse(&machine(&entries), 0).unwrap().cores[..], [5]);
    }

    #[test]
    fn more_cores_than_fit_are_counted_and_left_out() {
        let entries: Vec<u8> = (0..100).flat_map(|id| [0, 8, 0, id, 1, 0, 0, 0]).collect();
        let p = parse(&machine(&entries), 0).unwrap();
        assert_eq!((p.cores.len(), p.cores_left_out), (MAX_CORES, 36));
        assert_eq!(p.cores[63], 63);
    }

    #[test]
    fn an_ioapic_whose_interrupts_would_overflow_is_skipped() {
        let entries = [&CORE_5[..], &[1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0xff, 0xff, 0xff, 0xff]].concat();
        assert_eq!(parse(&machine(&entries), 0).unwrap().ioapics[..], []);
    }

    #[test]
    fn configuration_space_that_cannot_be_is_not_believed() {
        for bad in [
            mcfg(0, 0, 0, 255),
            mcfg(0x1234, 0, 0, 255),
            mcfg(0xb000_0000, 0, 9, 8),
            mcfg(u64::MAX << 20, 0, 0, 255),
            mcfg(0xb000_0000, 1, 0, 255),
        ] {
            let mut m = machine(&CORE_5);
            m.put(3000, &bad);
            assert_eq!(parse(&m, 0).unwrap().ecam, None);
        }
    }

    #[test]
    fn wrong_checksums_and_missing_tables_are_named() {
        let mut m = machine(&[]);
        assert_eq!(parse(&m, 0).unwrap_err(), Malformed::Madt);
        m.bytes[101] ^= 1;
        assert_eq!(parse(&m, 0).unwrap_err(), Malformed::RootTable);
        m.bytes[3] ^= 1;
        assert_eq!(parse(&m, 0).unwrap_err(), Malformed::Rsdp);
        assert_eq!(parse(&m, 1 << 40).unwrap_err(), Malformed::Rsdp);
        let mut m = machine(&CORE_5);
        m.bytes[240] ^= 1;
        assert_eq!(parse(&m, 0).unwrap_err(), Malformed::Madt);
    }

    #[test]
    fn lengths_that_are_absurd_or_reach_beyond_memory_are_refused() {
        for length in [0u32, 35, 5000, 1 << 20, u32::MAX] {
            for (at, error) in [(100, Malformed::RootTable), (200, Malformed::Madt)] {
                let mut m = machine(&CORE_5);
                m.bytes[at + 4..at + 8].copy_from_slice(&length.to_le_bytes());
                assert_eq!(parse(&m, 0).unwrap_err(), error);
            }
        }
    }

    #[test]
    fn a_root_table_that_lists_itself_ends() {
        let mut m = machine(&CORE_5);
        m.put(100, &table(b"RSDT", &[100u32, 100, 0, 200].map(u32::to_le_bytes).concat()));
        assert_eq!(parse(&m, 0).unwrap().cores[..], [5]);
    }

    #[test]
    #[cfg_attr(miri, ignore = "reads 32 MiB, a byte at a time")]
    fn a_root_table_that_lists_one_large_table_without_end_is_read_in_bounded_time() {
        let large = 1 << 20;
        let mut m = Fake { bytes: vec![0; 4 << 20], read: Cell::new(0) };
        m.put(0, &machine(&[]).bytes[..20]);
        m.put(1 << 20, &table(b"SSDT", &vec![0; large - 36]));
        m.put(2 << 20, &table(b"RSDT", &(1u32 << 20).to_le_bytes().repeat(large / 4 - 9)));
        let mut rsdp = m.bytes[..20].to_vec();
        rsdp[16..20].copy_from_slice(&(2u32 << 20).to_le_bytes());
        m.put(0, &checksummed(rsdp, 8));
        assert_eq!(parse(&m, 0).unwrap_err(), Malformed::Madt);
        assert!(m.read.get() < 32 << 20, "{} bytes were read", m.read.get());
    }

    /// Any damage whatever is refused or read, without a panic and without an endless walk.
    #[test]
    fn random_damage_is_survived() {
        let entries = [
            &CORE_5[..],
            &[9, 16, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0],
            &[1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0],
        ];
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..if cfg!(miri) { 20 } else { 5000 } {
            let mut m = machine(&entries.concat());
            for _ in 0..1 + random.usize(..3) {
                let at = 200 + random.usize(..120);
                m.bytes[at] = [0, 1, 2, 8, 0x7f, 0x80, 0xff][random.usize(..7)];
            }
            // The checksum is right again, so that the damage is looked at.
            let length = u32_at(&m.bytes, 204).unwrap() as usize;
            if let Some(damaged) = m.bytes.get(200..200 + length).filter(|d| d.len() >= 36) {
                let mended = checksummed(damaged.to_vec(), 9);
                m.put(200, &mended);
            }
            if let Ok(p) = parse(&m, 0) {
                assert!((1..=MAX_CORES).contains(&p.cores.len()));
            }
        }
    }
}
