//! What of a 64-bit ELF executable lies where in memory. The image is read as if it were hostile: all of it is checked before
//! the first segment is given out.

use core::fmt;
use core::ops::Range;

use elf::ElfBytes;
use elf::abi::{PF_W, PF_X, PT_LOAD};
use elf::endian::LittleEndian;
use elf::segment::ProgramHeader;

/// Memory of the program from `address` on: `data`, and zeroes up to `bytes`, of which there are no fewer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    pub address: u64,
    pub bytes: u64,
    pub data: &'a [u8],
    pub writable: bool,
    pub executable: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    NotElf,
    NoSegments,
    Truncated,
    OutOfPlace,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::NotElf => "is not a 64-bit ELF file",
            Self::NoSegments => "has nothing to load",
            Self::Truncated => "is truncated",
            Self::OutOfPlace => "has a segment that lies outside its place",
        })
    }
}

/// Entry point and segments of an executable whose memory lies inside `place`.
pub fn read(image: &[u8], place: Range<u64>) -> Result<(u64, impl Iterator<Item = Segment<'_>>), Malformed> {
    const CLASS_64: u8 = 2;
    let elf = ElfBytes::<LittleEndian>::minimal_parse(image).ok().filter(|_| image.get(4) == Some(&CLASS_64));
    let elf = elf.ok_or(Malformed::NotElf)?;
    let headers = elf.segments().ok_or(Malformed::NoSegments)?;
    let loaded = move || headers.iter().filter(|header| header.p_type == PT_LOAD && header.p_memsz > 0);
    loaded().next().ok_or(Malformed::NoSegments)?;
    loaded().try_for_each(|header| segment(image, &place, &header).map(drop))?;
    let segments = loaded().filter_map(move |header| segment(image, &place, &header).ok());
    Ok((elf.ehdr.e_entry, segments))
}

fn segment<'a>(image: &'a [u8], place: &Range<u64>, header: &ProgramHeader) -> Result<Segment<'a>, Malformed> {
    let end = header.p_vaddr.checked_add(header.p_memsz);
    if header.p_vaddr < place.start || end.is_none_or(|end| end > place.end) {
        return Err(Malformed::OutOfPlace);
    }
    let data = header.p_offset.checked_add(header.p_filesz).filter(|_| header.p_filesz <= header.p_memsz);
    let data = data.and_then(|end| image.get(header.p_offset as usize..end as usize)).ok_or(Malformed::Truncated)?;
    Ok(Segment {
        address: header.p_vaddr,
        bytes: header.p_memsz,
        data,
        writable: header.p_flags & PF_W != 0,
        executable: header.p_flags & PF_X != 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An executable with these program headers: type, flags, offset, address, bytes in the file, bytes in memory.
    fn image(class: u8, headers: &[[u64; 6]]) -> Vec<u8> {
        let mut image = vec![0; 64];
        image[..8].copy_from_slice(&[0x7f, b'E', b'L', b'F', class, 1, 1, 0]);
        for (at, value, bytes) in [
            (16, 2, 2),
            (18, 62, 2),
            (20, 1, 4),
            (24, 0x40_1000, 8),
            (32, 64, 8),
            (52, 64, 2),
            (54, 56, 2),
            (56, headers.len() as u64, 2),
        ] {
            image[at..at + bytes].copy_from_slice(&u64::to_le_bytes(value)[..bytes]);
        }
        for &[kind, flags, offset, address, file, memory] in headers {
            image.extend((kind as u32).to_le_bytes());
            image.extend((flags as u32).to_le_bytes());
            for word in [offset, address, address, file, memory, 4096] {
                image.extend(word.to_le_bytes());
            }
        }
        image.extend([1, 2, 3, 4]);
        image
    }

    const PLACE: Range<u64> = 0x1000..0x50_0000;

    fn error_of(image: &[u8]) -> Malformed {
        read(image, PLACE).map(drop).unwrap_err()
    }

    #[test]
    fn what_is_to_be_loaded_is_found_where_it_is_to_lie() {
        let end = 64 + 3 * 56;
        let image =
            image(2, &[[1, 5, end, 0x40_1000, 3, 3], [4, 4, 0, 0, 99, 99], [1, 6, end + 3, 0x40_2000, 1, 9000]]);
        let (entry, segments) = read(&image, PLACE).unwrap();
        assert_eq!(entry, 0x40_1000);
        let text = Segment { address: 0x40_1000, bytes: 3, data: &[1, 2, 3], writable: false, executable: true };
        let data = Segment { address: 0x40_2000, bytes: 9000, data: &[4], writable: true, executable: false };
        assert_eq!(segments.collect::<Vec<_>>(), [text, data]);
    }

    #[test]
    fn what_lies_elsewhere_or_is_not_whole_is_refused() {
        let one = |offset, address, file, memory| error_of(&image(2, &[[1, 5, offset, address, file, memory]]));
        assert_eq!(error_of(&image(1, &[])), Malformed::NotElf);
        assert_eq!(error_of(b"\x7fELF"), Malformed::NotElf);
        assert_eq!(error_of(&image(2, &[])), Malformed::NoSegments);
        assert_eq!(one(0, 0x40_1000, 200, 200), Malformed::Truncated);
        assert_eq!(one(u64::MAX, 0x40_1000, 2, 2), Malformed::Truncated);
        assert_eq!(one(0, 0x40_1000, 3, 2), Malformed::Truncated);
        assert_eq!(one(0, 0xfff, 2, 2), Malformed::OutOfPlace);
        assert_eq!(one(0, 0x4f_ffff, 2, 2), Malformed::OutOfPlace);
        assert_eq!(one(0, u64::MAX, 2, 2), Malformed::OutOfPlace);
    }
}
