//! Every date of the century, in each of the clock's four forms, against counting days; and registers of any content.
#![no_main]

use arbitrary::Arbitrary;
use kcore::rtc::seconds_since_1970;
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input {
    registers: [u8; 6],
    status_b: u8,
}

fuzz_target!(|input: Input| {
    // From the zeroth day of the month before 2000 (what zeros are) to 165 years, months, days later.
    assert!((943_900_000..10_000_000_000).contains(&seconds_since_1970(input.registers, input.status_b)));

    let [second, minute, hour, day, month, year] = input.registers;
    let (year, month) = (u64::from(year % 100), usize::from(month % 12));
    let lengths = [31, if year % 4 == 0 { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let (second, minute, hour, day) = (second % 60, minute % 60, hour % 24, day % lengths[month]);
    let days = 10_957
        + 365 * year
        + year.div_ceil(4)
        + lengths[..month].iter().map(|&n| u64::from(n)).sum::<u64>()
        + u64::from(day);
    let expected = days * 86_400 + u64::from(hour) * 3600 + u64::from(minute) * 60 + u64::from(second);

    let coded = |n: u8| if input.status_b & 4 != 0 { n } else { n / 10 << 4 | n % 10 };
    let hour = match (input.status_b & 2 != 0, hour) {
        (true, _) => coded(hour),
        (false, 0..12) => coded((hour + 11) % 12 + 1),
        (false, _) => coded((hour + 11) % 12 + 1) | 0x80,
    };
    let fields = [coded(second), coded(minute), hour, coded(day + 1), coded(month as u8 + 1), coded(year as u8)];
    assert_eq!(seconds_since_1970(fields, input.status_b), expected);
});
