//! What a Multiboot2 loader such as GRUB hands over (Multiboot2 Specification 2.0, 3.6): tagged records in one block. Read as
//! if it were hostile: every length is checked, every walk ends.

use core::ops::Range;

use crate::bytes::u32_at;
use crate::memory_map::Map;

/// In EAX at the kernel's entry.
pub const MAGIC: u32 = 0x36d7_6289;
/// Bytes of a block's head: its size, and a word that is reserved.
pub const HEAD: usize = 8;
/// Largest block that is believed.
pub const MAX_BYTES: u32 = 1 << 20;

const END: u32 = 0;
const COMMAND_LINE: u32 = 1;
const MODULE: u32 = 3;
const MEMORY_MAP: u32 = 6;
const OLD_RSDP: u32 = 14;
const NEW_RSDP: u32 = 15;

/// A block whose tags were all found to lie inside.
#[derive(Clone, Copy, Debug)]
pub struct Info<'a> {
    pub map: Map<'a>,
    /// Without its terminating zero.
    pub command_line: &'a [u8],
    /// Physical addresses of the first module.
    module: (u32, u32),
    pub modules: usize,
    /// Where in the block ACPI's RSDP lies: loaders pass a copy. The newer form where both are there.
    pub rsdp: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// The block's size is absurd, or larger than what was handed in.
    Size,
    /// The tag at this offset is shorter than its kind needs, or reaches beyond the block.
    Tag(usize),
    /// The block ends without the tag that says so.
    NoEnd,
    NoMemoryMap,
}

/// The size that a block's head claims, if it can be believed.
pub fn size(head: [u8; HEAD]) -> Result<usize, Malformed> {
    let size = u32_at(&head, 0).filter(|size| (HEAD as u32..=MAX_BYTES).contains(size));
    Ok(size.ok_or(Malformed::Size)? as usize)
}

/// Read a whole block, its head included.
pub fn parse(block: &[u8]) -> Result<Info<'_>, Malformed> {
    let head = block.first_chunk().ok_or(Malformed::Size)?;
    let block = block.get(..size(*head)?).ok_or(Malformed::Size)?;
    let mut info = Info { map: Map::none(), command_line: &[], module: (0, 0), modules: 0, rsdp: None };
    let mut at = HEAD;
    loop {
        let (Some(kind), Some(size)) = (u32_at(block, at), u32_at(block, at + 4)) else { return Err(Malformed::NoEnd) };
        if kind == END {
            break;
        }
        let end = at.checked_add(size as usize).filter(|_| size >= 8);
        let body = end.and_then(|end| block.get(at + 8..end)).ok_or(Malformed::Tag(at))?;
        info.read_tag(kind, body, at + 8).ok_or(Malformed::Tag(at))?;
        at = (at + size as usize).next_multiple_of(8);
    }
    if info.map.entries().next().is_none() { Err(Malformed::NoMemoryMap) } else { Ok(info) }
}

impl<'a> Info<'a> {
    /// `None`: the tag is too short.
    fn read_tag(&mut self, kind: u32, body: &'a [u8], at: usize) -> Option<()> {
        match kind {
            COMMAND_LINE => self.command_line = body.split(|&b| b == 0).next()?,
            MODULE => {
                let module = (u32_at(body, 0)?, u32_at(body, 4)?);
                if self.modules == 0 {
                    self.module = module;
                }
                self.modules += 1;
            }
            MEMORY_MAP => {
                self.map = Map::new(body.get(8..)?, u32_at(body, 0)? as usize)?;
            }
            OLD_RSDP => {
                body.get(..20)?;
                self.rsdp.get_or_insert(at);
            }
            NEW_RSDP => {
                body.get(..36)?;
                self.rsdp = Some(at);
            }
            _ => {}
        }
        Some(())
    }

    /// Physical addresses of the first module; empty without one.
    pub fn module(&self) -> Range<u64> {
        u64::from(self.module.0)..u64::from(self.module.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory_map::Entry;

    fn tag(kind: u32, body: &[u8]) -> Vec<u8> {
        let mut t = [kind.to_le_bytes(), (8 + body.len() as u32).to_le_bytes()].concat();
        t.extend_from_slice(body);
        t.resize(t.len().next_multiple_of(8), 0);
        t
    }

    fn block(tags: &[Vec<u8>]) -> Vec<u8> {
        let mut b = vec![0; 8];
        b.extend(tags.concat());
        let size = b.len() as u32;
        b[..4].copy_from_slice(&size.to_le_bytes());
        b
    }

    fn map(entries: &[(u64, u64, u32)]) -> Vec<u8> {
        let mut body = [24u32.to_le_bytes(), [0; 4]].concat();
        for (address, bytes, kind) in entries {
            body.extend([&address.to_le_bytes()[..], &bytes.to_le_bytes(), &kind.to_le_bytes(), &[0; 4]].concat());
        }
        tag(MEMORY_MAP, &body)
    }

    fn module(start: u32, end: u32) -> Vec<u8> {
        tag(MODULE, &[&start.to_le_bytes()[..], &end.to_le_bytes(), b"archive\0"].concat())
    }

    fn end() -> Vec<u8> {
        tag(END, &[])
    }

    const USABLE: u32 = 1;
    const RAM: (u64, u64, u32) = (0x100_000, 0x1000, USABLE);

    #[test]
    fn what_the_kernel_needs_is_found_among_other_tags() {
        let b = block(&[
            tag(COMMAND_LINE, b"tacet.service=1 quiet\0"),
            tag(2, b"GRUB 2.06\0"),
            module(0x200_000, 0x234_567),
            map(&[RAM, (0xf_0000, 0x1_0000, 2)]),
            tag(OLD_RSDP, &[b'o'; 20]),
            end(),
        ]);
        let info = parse(&b).unwrap();
        assert_eq!(info.command_line, b"tacet.service=1 quiet");
        assert_eq!((info.modules, info.module()), (1, 0x200_000..0x234_567));
        let entries: Vec<Entry> = info.map.entries().collect();
        assert_eq!(entries, [Entry::new(0x100_000, 0x1000, true), Entry::new(0xf_0000, 0x1_0000, false)]);
        assert_eq!(&b[info.rsdp.unwrap()..][..20], [b'o'; 20]);
    }

    #[test]
    fn the_newer_rsdp_wins_whichever_comes_first() {
        let (old, new) = (tag(OLD_RSDP, &[b'o'; 20]), tag(NEW_RSDP, &[b'n'; 36]));
        for tags in [[old.clone(), new.clone()], [new, old]] {
            let b = block(&[&tags[..], &[map(&[RAM]), end()]].concat());
            let at = parse(&b).unwrap().rsdp.unwrap();
            assert_eq!(b[at], b'n');
        }
    }

    #[test]
    fn modules_are_counted_and_the_first_is_given() {
        let info = |tags: &[Vec<u8>]| {
            let b = block(&[tags, &[map(&[RAM]), end()]].concat());
            let info = parse(&b).unwrap();
            (info.modules, info.module())
        };
        assert_eq!(info(&[]), (0, 0..0));
        assert_eq!(info(&[module(1, 2), module(3, 4)]), (2, 1..2));
    }

    #[test]
    fn a_memory_map_with_longer_entries_is_read_and_one_with_shorter_is_refused() {
        let mut body = [32u32.to_le_bytes(), [0; 4]].concat();
        body.extend([&5u64.to_le_bytes()[..], &6u64.to_le_bytes(), &USABLE.to_le_bytes(), &[9; 12]].concat());
        let b = block(&[tag(MEMORY_MAP, &body), end()]);
        assert_eq!(parse(&b).unwrap().map.entries().collect::<Vec<_>>(), [Entry::new(5, 6, true)]);
        for size in [0u32, 8, 23] {
            body[..4].copy_from_slice(&size.to_le_bytes());
            assert_eq!(parse(&block(&[tag(MEMORY_MAP, &body), end()])).unwrap_err(), Malformed::Tag(8));
        }
    }

    #[test]
    fn absurd_sizes_and_missing_tags_are_named() {
        assert_eq!(parse(&[]).unwrap_err(), Malformed::Size);
        assert_eq!(size([0; 8]), Err(Malformed::Size));
        assert_eq!(size([255; 8]), Err(Malformed::Size));
        let good = block(&[map(&[RAM]), end()]);
        assert!(parse(&good).is_ok());
        assert_eq!(parse(&good[..good.len() - 1]).unwrap_err(), Malformed::Size);
        assert_eq!(parse(&block(&[map(&[RAM])])).unwrap_err(), Malformed::NoEnd);
        assert_eq!(parse(&block(&[end()])).unwrap_err(), Malformed::NoMemoryMap);
        for size in [0u32, 7, 1000, u32::MAX] {
            let mut bad = good.clone();
            bad[12..16].copy_from_slice(&size.to_le_bytes());
            assert_eq!(parse(&bad).unwrap_err(), Malformed::Tag(8));
        }
        assert_eq!(parse(&block(&[tag(MODULE, &[1; 7]), end()])).unwrap_err(), Malformed::Tag(8));
        assert_eq!(parse(&block(&[tag(OLD_RSDP, &[1; 19]), end()])).unwrap_err(), Malformed::Tag(8));
    }

    /// Any bytes whatever are refused or read, without a panic and without an endless walk.
    #[test]
    fn random_damage_is_survived() {
        let good = block(&[
            tag(COMMAND_LINE, b"x\0"),
            module(1, 2),
            map(&[RAM, RAM]),
            tag(OLD_RSDP, &[1; 20]),
            tag(NEW_RSDP, &[1; 36]),
            end(),
        ]);
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..if cfg!(miri) { 200 } else { 100_000 } {
            let mut bad = good.clone();
            for _ in 0..1 + random.usize(..4) {
                let at = random.usize(..bad.len());
                bad[at] = [0, 1, 7, 8, 0x7f, 0x80, 0xff][random.usize(..7)];
            }
            if let Ok(info) = parse(&bad) {
                assert!(info.map.entries().count() <= bad.len() / 24);
                assert!(info.rsdp.is_none_or(|at| at + 20 <= bad.len()));
            }
        }
    }
}
