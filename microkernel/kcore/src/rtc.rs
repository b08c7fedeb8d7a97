//! The CMOS clock's registers as seconds since 1970 (MC146818A data sheet; ACPI for none of it).

/// `fields`: seconds, minutes, hours, day, month, year of the century, as read; `status_b`: register 0x0B (bit 1:
/// 24-hour mode, bit 2: binary rather than BCD). The century is taken to be the 21st.
pub fn seconds_since_1970(fields: [u8; 6], status_b: u8) -> u64 {
    let binary = status_b & 4 != 0;
    let number = |v: u8| u64::from(if binary { v } else { (v >> 4) * 10 + (v & 15) });
    let [second, minute, _, day, month, year] = fields.map(number);
    let afternoon = fields[2] & 0x80 != 0 && status_b & 2 == 0;
    let mut hour = number(fields[2] & 0x7f);
    if status_b & 2 == 0 {
        hour = hour % 12 + if afternoon { 12 } else { 0 };
    }
    days_since_1970(2000 + year, month, day) * 86_400 + hour * 3600 + minute * 60 + second
}

/// Days from 1970-01-01 to the given date of the Gregorian calendar (year from 1970, month from 1, day from 1).
fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    // Years begin in March, so that the leap day is the last.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = y / 4 - y / 100 + y / 400;
    365 * y + leap_days + (153 * m + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bcd_in_24_hour_mode() {
        // 2026-11-21 04:21:00 UTC
        assert_eq!(seconds_since_1970([0x00, 0x21, 0x04, 0x21, 0x11, 0x26], 2), 1_795_234_860);
    }

    #[test]
    fn binary_and_12_hour_mode() {
        assert_eq!(seconds_since_1970([59, 59, 23, 31, 12, 0], 6), 978_307_199);
        // 12 hours 30 in the afternoon and after midnight
        let noon = seconds_since_1970([0, 0x30, 0x92, 0x01, 0x01, 0x00], 0);
        let midnight = seconds_since_1970([0, 0x30, 0x12, 0x01, 0x01, 0x00], 0);
        assert_eq!(noon - midnight, 43_200);
    }

    #[test]
    fn leap_day_counts() {
        assert_eq!(days_since_1970(2024, 3, 1) - days_since_1970(2024, 2, 28), 2);
        assert_eq!(days_since_1970(1970, 1, 1), 0);
    }
}
