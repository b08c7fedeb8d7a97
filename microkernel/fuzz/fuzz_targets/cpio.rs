//! Boot archives, well-formed and then damaged at will.
#![no_main]

use arbitrary::Arbitrary;
use kcore::cpio::{self, Malformed};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input {
    files: Vec<(String, Vec<u8>)>,
    wanted: String,
    damage: Vec<(u16, u8)>,
    cut: Option<u16>,
}

fn add(archive: &mut Vec<u8>, name: &str, data: &[u8]) {
    let field = |i| match i {
        6 => data.len(),
        11 => name.len() + 1,
        _ => 0,
    };
    archive.extend(format!("070701{}", (0..13).map(|i| format!("{:08x}", field(i))).collect::<String>()).bytes());
    archive.extend(name.bytes().chain([0]));
    archive.resize(archive.len().next_multiple_of(4), 0);
    archive.extend(data);
    archive.resize(archive.len().next_multiple_of(4), 0);
}

fuzz_target!(|input: Input| {
    let files: Vec<&(String, Vec<u8>)> = input.files.iter().filter(|(name, _)| name != "TRAILER!!!").collect();
    let mut archive = Vec::new();
    for (name, data) in &files {
        add(&mut archive, name, data);
    }
    add(&mut archive, "TRAILER!!!", &[]);
    let size = archive.len();
    for &(place, byte) in input.damage.iter().take(16) {
        archive[usize::from(place) % size] = byte;
    }
    archive.truncate(input.cut.map_or(size, usize::from));

    let whole = input.damage.is_empty() && archive.len() == size;
    for wanted in files.iter().map(|(name, _)| name).chain([&input.wanted]) {
        let found = cpio::find(&archive, wanted);
        if whole && wanted != "TRAILER!!!" {
            let first = files.iter().find(|(name, _)| name == wanted).map(|(_, data)| &data[..]);
            assert_eq!(found, Ok(first));
        }
        match found {
            Ok(Some(data)) => {
                let (all, part) = (archive.as_ptr_range(), data.as_ptr_range());
                assert!(all.start <= part.start && part.end <= all.end);
            }
            Ok(None) => {}
            Err(Malformed::Magic(at)) => assert!(at + 110 <= archive.len()),
            Err(Malformed::Truncated(at)) => assert!(at <= archive.len().next_multiple_of(4)),
        }
    }
});
