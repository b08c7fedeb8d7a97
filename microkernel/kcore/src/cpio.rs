//! The boot archive: cpio in the "newc" format (magic 070701, see cpio(5)).

/// Why an archive could not be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// No header where one should be, at this offset.
    Magic(usize),
    /// A header field is not hexadecimal, or a name or file reaches past the end, at this offset.
    Truncated(usize),
}

/// Look for a file. `Ok(None)`: the archive is well-formed up to its end and has no such file.
pub fn find<'a>(archive: &'a [u8], name: &str) -> Result<Option<&'a [u8]>, Malformed> {
    let mut at = 0;
    loop {
        let header = archive.get(at..at + 110).ok_or(Malformed::Truncated(at))?;
        if &header[..6] != b"070701" {
            return Err(Malformed::Magic(at));
        }
        let field = |i: usize| hex(&header[6 + 8 * i..14 + 8 * i]).ok_or(Malformed::Truncated(at));
        let (size, name_size) = (field(6)?, field(11)?);
        let name_at = at + 110;
        let data_at = align4(name_at + name_size);
        let entry_name = archive.get(name_at..name_at + name_size).ok_or(Malformed::Truncated(at))?;
        let data = archive.get(data_at..data_at + size).ok_or(Malformed::Truncated(at))?;
        let entry_name = entry_name.strip_suffix(&[0]).ok_or(Malformed::Truncated(at))?;
        if entry_name == b"TRAILER!!!" {
            return Ok(None);
        }
        if entry_name == name.as_bytes() {
            return Ok(Some(data));
        }
        at = align4(data_at + size);
    }
}

fn align4(n: usize) -> usize {
    n.next_multiple_of(4)
}

fn hex(digits: &[u8]) -> Option<usize> {
    digits.iter().try_fold(0usize, |n, &d| Some(n << 4 | (d as char).to_digit(16)? as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, data: &[u8]) -> Vec<u8> {
        let mut out = format!(
            "070701{}",
            (0..13)
                .map(|i| format!(
                    "{:08X}",
                    match i {
                        6 => data.len(),
                        11 => name.len() + 1,
                        _ => 0,
                    }
                ))
                .collect::<String>()
        )
        .into_bytes();
        out.extend_from_slice(name.as_bytes());
        out.push(0);
        out.resize(out.len().next_multiple_of(4), 0);
        out.extend_from_slice(data);
        out.resize(out.len().next_multiple_of(4), 0);
        out
    }

    #[test]
    fn finds_each_file_and_ends_at_the_trailer() {
        let archive = [entry("root", b"abc"), entry("vmlinux", b"12345"), entry("TRAILER!!!", b"")].concat();
        assert_eq!(find(&archive, "root"), Ok(Some(&b"abc"[..])));
        assert_eq!(find(&archive, "vmlinux"), Ok(Some(&b"12345"[..])));
        assert_eq!(find(&archive, "initramfs"), Ok(None));
    }

    #[test]
    fn refuses_what_is_cut_or_garbled() {
        let archive = [entry("root", b"abc"), entry("TRAILER!!!", b"")].concat();
        assert_eq!(find(&archive[..60], "x"), Err(Malformed::Truncated(0)));
        assert_eq!(find(&archive[..entry("root", b"abc").len()], "x"), Err(Malformed::Truncated(120)));
        assert_eq!(find(&[b'x'; 200], "x"), Err(Malformed::Magic(0)));
        let mut huge = entry("root", b"abc");
        huge[54..62].copy_from_slice(b"FFFFFFFF");
        assert_eq!(find(&huge, "root"), Err(Malformed::Truncated(0)));
    }
}
