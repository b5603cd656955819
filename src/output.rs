//! What commands print: aligned tables for people, one line of JSON for programs.

use std::io::{self, ErrorKind, Write};

use serde::Serialize;

use crate::failure::Failure;
use server::ExitCode;

/// Prints text to standard output. A reader that has gone away (`| head`) is no failure.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::new(
            ExitCode::Failed,
            format!("the output cannot be written: {error}"),
            "look where standard output goes",
        )),
        _ => Ok(()),
    }
}

/// Prints a value as one line of JSON.
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value).map_err(|error| {
        Failure::new(
            ExitCode::Failed,
            format!("no JSON: {error}"),
            "report this as a defect of trapez",
        )
    })?;
    print(&format!("{text}\n"))
}

/// Rows under a heading, each column as wide as its widest cell; without rows, a sentence that says so.
pub(crate) fn table<const N: usize>(heading: [&str; N], rows: &[[String; N]], nothing: &str) -> String {
    if rows.is_empty() {
        return format!("{nothing}\n");
    }
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or(0).max(heading[column].chars().count())
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let mut out = String::new();
    let line = |cells: [&str; N], out: &mut String| {
        let padded: Vec<String> = cells
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        out.push_str(padded.join("  ").trim_end());
        out.push('\n');
    };
    line(heading, &mut out);
    for row in rows {
        line(row.each_ref().map(String::as_str), &mut out);
    }
    out
}

/// Unix seconds as date and time in UTC: `2026-11-22 18:02:58`.
pub(crate) fn date_time(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let (year, month, day) = date(days);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

/// Gregorian date of a day counted from 1970-01-01. A year is counted from March here, so that the leap day is its last
/// and a month's first day follows from its number alone.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + DAYS_TO_1970;
    let era = days / DAYS_PER_ERA;
    let day_of_era = days % DAYS_PER_ERA;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// A length of time in seconds as people read it: `59s`, `12:05`, `1:00:00`, `3d 04:05:06`.
pub(crate) fn length(seconds: u64) -> String {
    let (days, hours, minutes, rest) = (
        seconds / 86_400,
        seconds / 3600 % 24,
        seconds / 60 % 60,
        seconds % 60,
    );
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{rest}s"),
        (0, 0, _) => format!("{minutes}:{rest:02}"),
        (0, _, _) => format!("{hours}:{minutes:02}:{rest:02}"),
        _ => format!("{days}d {hours:02}:{minutes:02}:{rest:02}"),
    }
}

/// Days from 0000-03-01 to 1970-01-01.
const DAYS_TO_1970: u64 = 719_468;
/// Days in 400 years, after which the calendar repeats.
const DAYS_PER_ERA: u64 = 146_097;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_become_dates() {
        for (seconds, expected) in [
            (0, "1970-01-01 00:00:00"),
            (951_782_400, "2000-02-29 00:00:00"),
            (951_868_799, "2000-02-29 23:59:59"),
            (951_868_800, "2000-03-01 00:00:00"),
            (1_795_370_578, "2026-11-22 18:02:58"),
            (4_107_542_400, "2100-03-01 00:00:00"),
        ] {
            assert_eq!(date_time(seconds), expected);
        }
    }

    #[test]
    fn lengths_are_short() {
        for (seconds, expected) in [
            (0, "0s"),
            (59, "59s"),
            (725, "12:05"),
            (3600, "1:00:00"),
            (273_906, "3d 04:05:06"),
        ] {
            assert_eq!(length(seconds), expected);
        }
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [
            ["zoë".to_owned(), "1".to_owned()],
            ["al".to_owned(), "22".to_owned()],
        ];
        assert_eq!(
            table(["NAME", "N"], &rows, "nobody"),
            "NAME  N\nzoë   1\nal    22\n"
        );
        assert_eq!(table(["NAME", "N"], &[], "nobody"), "nobody\n");
    }
}
