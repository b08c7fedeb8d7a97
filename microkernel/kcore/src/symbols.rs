//! A symbol table in the text form of `nm -n`: lines of address, type, name, in ascending order.

pub struct Symbols<'a> {
    text: &'a [u8],
}

impl<'a> Symbols<'a> {
    pub const fn new(text: &'a [u8]) -> Self {
        Self { text }
    }

    /// The last symbol at or below `address`, and how far `address` lies behind it.
    pub fn name_of(&self, address: u64) -> Option<(&'a str, u64)> {
        let mut best = None;
        for line in self.text.split(|&b| b == b'\n') {
            let Some((start, name)) = parse(line) else { continue };
            if start > address {
                break;
            }
            best = Some((name, address - start));
        }
        best
    }
}

fn parse(line: &[u8]) -> Option<(u64, &str)> {
    let line = core::str::from_utf8(line).ok()?;
    let (address, rest) = line.split_once(' ')?;
    let (_, name) = rest.split_once(' ')?;
    Some((u64::from_str_radix(address, 16).ok()?, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] =
        b"ffffffff80100000 T first\nffffffff80100040 t core::fmt::write\n\nnot a line\nffffffff80100100 T last\n";

    #[test]
    fn the_nearest_symbol_below_names_an_address() {
        let s = Symbols::new(TEXT);
        assert_eq!(s.name_of(0xffff_ffff_8010_0000), Some(("first", 0)));
        assert_eq!(s.name_of(0xffff_ffff_8010_0050), Some(("core::fmt::write", 0x10)));
        assert_eq!(s.name_of(0xffff_ffff_8020_0000), Some(("last", 0xf_ff00)));
        assert_eq!(s.name_of(0x1000), None);
    }
}
