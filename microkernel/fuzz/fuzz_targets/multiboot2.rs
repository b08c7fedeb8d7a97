//! A loader's block, well-formed and then damaged at will: what was written is read, and nothing outside is.
#![no_main]

use arbitrary::Arbitrary;
use kcore::memory_map::Entry;
use kcore::multiboot2::{self, Malformed};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
enum Tag {
    CommandLine(Vec<u8>),
    Module(u32, u32),
    Map { longer: u8, entries: Vec<(u64, u64, u8)> },
    OldRsdp,
    NewRsdp,
    Other { kind: u32, body: Vec<u8> },
}

#[derive(Arbitrary, Debug)]
struct Input {
    tags: Vec<Tag>,
    damage: Vec<(u16, u8)>,
    cut: Option<u16>,
}

fn body(tag: &Tag) -> (u32, Vec<u8>) {
    match tag {
        Tag::CommandLine(text) => (1, [&text[..], &[0]].concat()),
        Tag::Module(start, end) => (3, [&start.to_le_bytes()[..], &end.to_le_bytes(), b"archive\0"].concat()),
        Tag::Map { longer, entries } => {
            let size = 24 + usize::from(longer % 5) * 8;
            let mut body = (size as u32).to_le_bytes().to_vec();
            body.extend([0; 4]);
            for (i, (address, bytes, kind)) in entries.iter().enumerate() {
                body.extend([address.to_le_bytes(), bytes.to_le_bytes(), u64::from(*kind).to_le_bytes()].concat());
                body.resize(8 + (i + 1) * size, 0xa5);
            }
            (6, body)
        }
        Tag::OldRsdp => (14, vec![b'o'; 20]),
        Tag::NewRsdp => (15, vec![b'n'; 36]),
        Tag::Other { kind, body } => ((*kind).max(16), body.clone()),
    }
}

fuzz_target!(|input: Input| {
    let mut block = vec![0; multiboot2::HEAD];
    let (mut line, mut modules, mut map, mut old, mut new) = (&[][..], Vec::new(), Vec::new(), None, None);
    for tag in &input.tags {
        let (kind, body) = body(tag);
        let at = block.len() + 8;
        block.extend(kind.to_le_bytes());
        block.extend((8 + body.len() as u32).to_le_bytes());
        block.extend(body);
        block.resize(block.len().next_multiple_of(8), 0);
        match tag {
            Tag::CommandLine(text) => line = text.split(|&b| b == 0).next().unwrap(),
            Tag::Module(start, end) => modules.push(u64::from(*start)..u64::from(*end)),
            Tag::Map { entries, .. } => {
                map = entries.iter().map(|&(address, bytes, kind)| Entry::new(address, bytes, kind == 1)).collect();
            }
            Tag::OldRsdp => old = old.or(Some(at)),
            Tag::NewRsdp => new = Some(at),
            Tag::Other { .. } => {}
        }
    }
    block.extend([0, 0, 0, 0, 8, 0, 0, 0]);
    let size = block.len();
    block[..4].copy_from_slice(&(size as u32).to_le_bytes());
    for &(place, byte) in input.damage.iter().take(16) {
        block[usize::from(place) % size] = byte;
    }
    block.truncate(input.cut.map_or(size, usize::from));

    let answer = multiboot2::parse(&block);
    if input.damage.is_empty() && block.len() == size {
        match &answer {
            Ok(info) => {
                assert_eq!(info.command_line, line);
                assert_eq!((info.modules, info.module()), (modules.len(), modules.first().cloned().unwrap_or(0..0)));
                assert_eq!(info.map.entries().collect::<Vec<_>>(), map);
                assert_eq!(info.rsdp, new.or(old));
            }
            Err(why) => assert!(map.is_empty() && *why == Malformed::NoMemoryMap, "a sound block is refused: {why:?}"),
        }
    }
    match answer {
        Ok(info) => {
            let whole = block.as_ptr_range();
            let part = info.command_line.as_ptr_range();
            assert!(part.start == part.end || whole.start <= part.start && part.end <= whole.end);
            assert!(!info.command_line.contains(&0));
            assert!(info.map.entries().count() <= block.len() / 24);
            assert!(info.rsdp.is_none_or(|at| at + 20 <= block.len()));
            assert!(info.modules > 0 || info.module().is_empty());
        }
        Err(Malformed::Tag(at)) => assert!(at % 8 == 0 && at + 8 <= block.len()),
        Err(_) => {}
    }
});
