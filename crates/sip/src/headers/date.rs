//! Date (RFC 3261, 20.17 and 25.1: `SIP-date`, always GMT).

use crate::text;
use std::time::{Duration, SystemTime};

/// Parses `Sat, 13 Nov 2010 23:29:00 GMT`; any case of letters. The error tells what was expected.
pub fn parse_date(value: &str) -> Result<SystemTime, &'static str> {
    const EXPECTED: &str = "a date such as 'Sat, 13 Nov 2010 23:29:00 GMT'";
    let value = text::trim(value);
    let (weekday, rest) = value.split_once(',').ok_or(EXPECTED)?;
    let mut parts = rest.split_ascii_whitespace();
    let mut part = || parts.next().ok_or(EXPECTED);
    let (day, month, year, time, zone) = (part()?, part()?, part()?, part()?, part()?);
    if parts.next().is_some() || !WEEKDAYS.iter().any(|w| w.eq_ignore_ascii_case(weekday)) {
        return Err(EXPECTED);
    }
    if !zone.eq_ignore_ascii_case("GMT") {
        return Err("the time zone GMT");
    }
    let number = |text: &str, digits: usize| {
        Some(text)
            .filter(|t| t.len() == digits)
            .and_then(text::number)
            .map(u64::from)
            .ok_or(EXPECTED)
    };
    let month = MONTHS
        .iter()
        .position(|m| m.eq_ignore_ascii_case(month))
        .ok_or(EXPECTED)?;
    let (day, year) = (number(day, 2)?, number(year, 4)?);
    let mut clock = time.split(':');
    let mut field = || clock.next().ok_or(EXPECTED).and_then(|t| number(t, 2));
    let (hours, minutes, seconds) = (field()?, field()?, field()?);
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_in_month = DAYS[month] + u64::from(is_leap && month == 1);
    let in_range =
        (1..=days_in_month).contains(&day) && hours < 24 && minutes < 60 && seconds <= 60 && year >= 1970;
    if clock.next().is_some() || !in_range {
        return Err(EXPECTED);
    }
    // Years since 1970 with their leap days before this year, then months, then days.
    let leap_days = |year: u64| year / 4 - year / 100 + year / 400;
    let mut days = (year - 1970) * 365 + leap_days(year - 1) - leap_days(1969);
    days += DAYS[..month].iter().sum::<u64>() + u64::from(is_leap && month > 1) + day - 1;
    Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(days * 86_400 + hours * 3600 + minutes * 60 + seconds))
}

const WEEKDAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];
const DAYS: [u64; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> u64 {
        parse_date(text)
            .unwrap()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            .as_secs()
    }

    #[test]
    fn dates_count_seconds_since_1970() {
        assert_eq!(seconds("Thu, 01 Jan 1970 00:00:00 GMT"), 0);
        assert_eq!(seconds("Sat, 13 Nov 2010 23:29:00 GMT"), 1_289_690_940);
        assert_eq!(seconds("Thu, 29 Feb 2024 12:00:01 gmt"), 1_709_208_001);
        assert_eq!(seconds("Sun, 01 Mar 2026 00:00:00 GMT"), 1_772_323_200);
    }

    #[test]
    fn only_gmt_and_real_days_are_dates() {
        for bad in [
            "Fri, 01 Jan 2010 16:00:00 EST",
            "Thu, 29 Feb 2023 12:00:00 GMT",
            "Fri, 1 Jan 2010 16:00:00 GMT",
            "Fri, 01 Jan 2010 24:00:00 GMT",
            "Fri 01 Jan 2010 16:00:00 GMT",
            "",
        ] {
            assert!(parse_date(bad).is_err(), "{bad}");
        }
    }
}
