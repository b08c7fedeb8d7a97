//! Executables, well-formed and then damaged at will: what the kernel reads of the root task, and that of Linux.
#![no_main]

use arbitrary::Arbitrary;
use kcore::program::{self, Segment};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Header {
    loaded: bool,
    flags: u8,
    address: u32,
    data: Vec<u8>,
    zeroes: u16,
}

#[derive(Arbitrary, Debug)]
struct Input {
    headers: Vec<Header>,
    entry: u64,
    /// Where the program may lie: start and size, or anywhere.
    place: Option<(u32, u32)>,
    damage: Vec<(u16, u8)>,
    cut: Option<u16>,
}

fn image(input: &Input) -> Vec<u8> {
    let count = input.headers.len();
    let mut image = vec![0; 64];
    image[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1]);
    let head =
        [(16, 2, 2), (18, 62, 2), (20, 1, 4), (24, input.entry, 8), (32, 64, 8), (54, 56, 2), (56, count as u64, 2)];
    for (at, value, bytes) in head {
        image[at..at + bytes].copy_from_slice(&value.to_le_bytes()[..bytes]);
    }
    let mut data_at = 64 + 56 * count;
    for header in &input.headers {
        image.extend(u32::from(header.loaded).to_le_bytes());
        image.extend(u32::from(header.flags & 7).to_le_bytes());
        let bytes = header.data.len() as u64;
        let address = u64::from(header.address);
        for word in [data_at as u64, address, address, bytes, bytes + u64::from(header.zeroes), 4096] {
            image.extend(word.to_le_bytes());
        }
        data_at += header.data.len();
    }
    input.headers.iter().for_each(|header| image.extend(&header.data));
    image
}

fuzz_target!(|input: Input| {
    let mut image = image(&input);
    let size = image.len();
    for &(at, byte) in input.damage.iter().take(16) {
        image[usize::from(at) % size] = byte;
    }
    image.truncate(input.cut.map_or(size, usize::from));
    let place = input.place.map_or(0..1 << 40, |(start, size)| u64::from(start)..u64::from(start) + u64::from(size));

    let sound = input.damage.is_empty() && input.headers.len() < 0xffff;
    let whole = sound && image.len() == size;
    let read = program::read(&image, place.clone());
    if let Ok((_, segments)) = read {
        let segments: Vec<Segment> = segments.collect();
        for segment in &segments {
            let end = segment.address.checked_add(segment.bytes).expect("an end");
            assert!(place.start <= segment.address && end <= place.end);
            assert!(segment.bytes > 0 && segment.data.len() as u64 <= segment.bytes);
            let (all, part) = (image.as_ptr_range(), segment.data.as_ptr_range());
            assert!(all.start <= part.start && part.end <= all.end);
        }
        if sound {
            // (What was cut off must not have been needed.)
            let loaded = input.headers.iter().filter(|h| h.loaded && h.data.len() + usize::from(h.zeroes) > 0);
            let wanted: Vec<Segment> = loaded
                .map(|h| Segment {
                    address: u64::from(h.address),
                    bytes: h.data.len() as u64 + u64::from(h.zeroes),
                    data: &h.data,
                    writable: h.flags & 2 != 0,
                    executable: h.flags & 1 != 0,
                })
                .collect();
            assert_eq!(segments, wanted);
        }
    } else if whole {
        let mut loaded =
            input.headers.iter().filter(|h| h.loaded && h.data.len() + usize::from(h.zeroes) > 0).peekable();
        let nothing = loaded.peek().is_none();
        let outside = loaded.any(|h| {
            let start = u64::from(h.address);
            start < place.start || start + h.data.len() as u64 + u64::from(h.zeroes) > place.end
        });
        assert!(nothing || outside, "refused without a reason");
    }
});
