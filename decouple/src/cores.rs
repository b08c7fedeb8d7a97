//! Lists of cores in taskset's grammar.

use std::fmt;
use std::str::FromStr;

/// Largest core number that a list may name; whether the machine has such a core is another question.
pub const MAX_CORE: u32 = 4095;

/// Cores in the order in which they were given, each once.
///
/// Grammar: `1-3,5`, a stride `0-8:2`, or a hexadecimal mask `0x2e` (bit c is core c).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CoreList(Vec<u32>);

/// Why a list was not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    #[error("the list is empty")]
    Empty,
    #[error("'{0}' is not a core number")]
    Number(String),
    #[error("core number {0} is too large (the largest is {MAX_CORE})")]
    TooLarge(String),
    #[error("the range {0}-{1} runs backwards")]
    Backwards(u32, u32),
    #[error("'{0}' is not a stride (a number from 1)")]
    Stride(String),
    #[error("core {0} appears twice")]
    Twice(u32),
    #[error("'{0}' is not a hexadecimal mask")]
    Mask(String),
}

impl CoreList {
    /// The cores of `cores`, which must not name one twice.
    pub fn new(cores: Vec<u32>) -> Result<Self, ListError> {
        let mut list = CoreList::default();
        for core in cores {
            list.push(core)?;
        }
        Ok(list)
    }

    fn push(&mut self, core: u32) -> Result<(), ListError> {
        if self.0.contains(&core) {
            return Err(ListError::Twice(core));
        }
        self.0.push(core);
        Ok(())
    }

    pub fn as_slice(&self) -> &[u32] {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn contains(&self, core: u32) -> bool {
        self.0.contains(&core)
    }

    /// A list as the kernel prints it in sysfs: as [`FromStr`], but the empty string is the empty list.
    pub fn from_sysfs(text: &str) -> Result<Self, ListError> {
        let text = text.trim();
        if text.is_empty() { Ok(CoreList::default()) } else { text.parse() }
    }

    fn from_mask(mask: &str) -> Result<Self, ListError> {
        let wrong = || ListError::Mask(mask.to_string());
        // taskset prints and takes masks with commas between groups of digits.
        let digits: Vec<u32> =
            mask.chars().filter(|c| *c != ',').map(|c| c.to_digit(16).ok_or_else(wrong)).collect::<Result<_, _>>()?;
        if digits.is_empty() {
            return Err(wrong());
        }
        let mut cores = Vec::new();
        for (place, digit) in digits.iter().rev().enumerate() {
            for bit in (0..4).filter(|bit| digit >> bit & 1 == 1) {
                let core = place as u64 * 4 + bit;
                match u32::try_from(core) {
                    Ok(core) if core <= MAX_CORE => cores.push(core),
                    _ => return Err(ListError::TooLarge(core.to_string())),
                }
            }
        }
        if cores.is_empty() { Err(ListError::Empty) } else { Ok(CoreList(cores)) }
    }
}

fn number(text: &str) -> Result<u32, ListError> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(ListError::Number(text.to_string()));
    }
    match text.parse() {
        Ok(core) if core <= MAX_CORE => Ok(core),
        _ => Err(ListError::TooLarge(text.to_string())),
    }
}

impl FromStr for CoreList {
    type Err = ListError;

    fn from_str(text: &str) -> Result<Self, ListError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(ListError::Empty);
        }
        if let Some(mask) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
            return Self::from_mask(mask);
        }
        let mut list = CoreList::default();
        for item in text.split(',') {
            let (range, stride) = match item.split_once(':') {
                Some((range, stride)) => (range, Some(stride)),
                None => (item, None),
            };
            let (first, last) = match range.split_once('-') {
                Some((first, last)) => (number(first)?, number(last)?),
                None if stride.is_some() => return Err(ListError::Number(item.to_string())),
                None => (number(range)?, number(range)?),
            };
            if last < first {
                return Err(ListError::Backwards(first, last));
            }
            let stride = match stride {
                None => 1,
                Some(text) => match text.parse::<usize>() {
                    Ok(stride) if stride > 0 => stride,
                    _ => return Err(ListError::Stride(text.to_string())),
                },
            };
            for core in (first..=last).step_by(stride) {
                list.push(core)?;
            }
        }
        Ok(list)
    }
}

/// `1-3,5`; the order is kept.
impl fmt::Display for CoreList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = &self.0[..];
        let mut comma = "";
        while let Some(&first) = rest.first() {
            let run = rest.iter().zip(first..).take_while(|(core, expected)| *core == expected).count();
            match run {
                1 => write!(f, "{comma}{first}")?,
                _ => write!(f, "{comma}{first}-{}", rest[run - 1])?,
            }
            comma = ",";
            rest = &rest[run..];
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cores(text: &str) -> Vec<u32> {
        text.parse::<CoreList>().unwrap().0
    }

    #[test]
    fn lists_ranges_and_strides_as_taskset() {
        assert_eq!(cores("1-3,5"), [1, 2, 3, 5]);
        assert_eq!(cores("7"), [7]);
        assert_eq!(cores("0-8:4,9"), [0, 4, 8, 9]);
    }

    #[test]
    fn the_order_given_is_kept() {
        assert_eq!(cores("5,1-2"), [5, 1, 2]);
    }

    #[test]
    fn masks_are_hexadecimal() {
        assert_eq!(cores("0x107"), [0, 1, 2, 8]);
        assert_eq!(cores("0XA"), [1, 3]);
        assert_eq!(cores("0x1,00000000"), [32]);
    }

    #[test]
    fn malformed_lists_say_what_is_wrong() {
        let wrong = |text: &str| text.parse::<CoreList>().unwrap_err();
        assert_eq!(wrong(""), ListError::Empty);
        assert_eq!(wrong("0x0"), ListError::Empty);
        assert_eq!(wrong("1,,2"), ListError::Number("".into()));
        assert_eq!(wrong("1-"), ListError::Number("".into()));
        assert_eq!(wrong("-1"), ListError::Number("".into()));
        assert_eq!(wrong("+1"), ListError::Number("+1".into()));
        assert_eq!(wrong("a"), ListError::Number("a".into()));
        assert_eq!(wrong("3:2"), ListError::Number("3:2".into()));
        assert_eq!(wrong("3-1"), ListError::Backwards(3, 1));
        assert_eq!(wrong("1-4:0"), ListError::Stride("0".into()));
        assert_eq!(wrong("1-2,2"), ListError::Twice(2));
        assert_eq!(wrong("4096"), ListError::TooLarge("4096".into()));
        assert_eq!(wrong("99999999999999999999"), ListError::TooLarge("99999999999999999999".into()));
        assert_eq!(wrong("0x"), ListError::Mask("".into()));
        assert_eq!(wrong("0xfg"), ListError::Mask("fg".into()));
    }

    #[test]
    fn prints_what_it_reads() {
        for text in ["1-3,5", "0", "5,1-2", "0,2,4"] {
            assert_eq!(text.parse::<CoreList>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn sysfs_may_print_an_empty_list() {
        assert_eq!(CoreList::from_sysfs("\n").unwrap(), CoreList::default());
        assert_eq!(CoreList::from_sysfs("1-2\n").unwrap().as_slice(), [1, 2]);
    }
}
