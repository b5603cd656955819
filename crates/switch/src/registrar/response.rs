//! The responses of the registrar.

use std::io::Write;

use sip::{Flow, HeaderId, Message, Response};

use super::{PATH, Refusal};
use crate::location::Binding;

/// Writes responses, with buffers that are used again.
pub(super) struct Writer {
    lines: Vec<u8>,
    date: Date,
}

impl Writer {
    pub(super) fn new() -> Self {
        Writer {
            lines: Vec::new(),
            date: Date {
                unix: u64::MAX,
                text: *DATE,
            },
        }
    }

    /// 200 with all current bindings (RFC 3261 10.3 step 8) and the Path (RFC 3327 5.3).
    pub(super) fn ok(
        &mut self,
        unix: u64,
        m: Message<'_>,
        flow: &Flow,
        tag: &str,
        bindings: &[Binding],
        out: &mut Vec<u8>,
    ) {
        self.lines.clear();
        for binding in bindings {
            write_contact(binding, unix, &mut self.lines);
        }
        if m.header(HeaderId::Path).is_some() && m.has_token(HeaderId::Supported, PATH) {
            for header in m.headers_of(HeaderId::Path) {
                self.lines.extend_from_slice(b"Path: ");
                self.lines.extend_from_slice(header.value);
                self.lines.extend_from_slice(b"\r\n");
            }
        }
        self.lines.extend_from_slice(b"Date: ");
        self.lines.extend_from_slice(self.date.at(unix));
        self.lines.extend_from_slice(b"\r\n");
        self.write(m, flow, tag, 200, None, out);
    }

    pub(super) fn refusal(
        &mut self,
        m: Message<'_>,
        flow: &Flow,
        tag: &str,
        refusal: Refusal<'_>,
        out: &mut Vec<u8>,
    ) {
        self.lines.clear();
        let status = refusal.status();
        let mut reason = None;
        match refusal {
            Refusal::Plain(_, text) => reason = Some(text),
            Refusal::Challenge { headers, .. } => self.lines = headers,
            Refusal::Unsupported(m) => {
                for tag in m
                    .tokens(HeaderId::Require)
                    .filter(|tag| !super::is_supported(tag))
                {
                    // A Vec takes all.
                    let _ = write!(self.lines, "Unsupported: {tag}\r\n");
                }
            }
            Refusal::Path => self.lines.extend_from_slice(b"Unsupported: path\r\n"),
            Refusal::TooBrief(least) => {
                let _ = write!(self.lines, "Min-Expires: {least}\r\n");
            }
        }
        self.write(m, flow, tag, status, reason, out);
    }

    fn write(
        &self,
        m: Message<'_>,
        flow: &Flow,
        tag: &str,
        status: u16,
        reason: Option<&str>,
        out: &mut Vec<u8>,
    ) {
        let mut response = Response::new(m, status)
            .to_tag(tag)
            .source(flow.remote)
            .lines(&self.lines);
        if let Some(reason) = reason {
            response = response.reason(reason);
        }
        response.write(out);
    }
}

/// Makes a 500 of a 200 that could not be kept: same transaction and dialog fields, nothing of the bindings.
pub(super) fn turn_into_500(response: &mut Vec<u8>) {
    let text = std::mem::take(response);
    response.extend_from_slice(b"SIP/2.0 500 Server Internal Error\r\n");
    let mut keep = false;
    for line in text.split_inclusive(|byte| *byte == b'\n').skip(1) {
        let folded = line.first().is_some_and(|byte| matches!(byte, b' ' | b'\t'));
        keep = if folded {
            keep
        } else {
            COPIED.iter().any(|name| line.starts_with(name))
        };
        if keep {
            response.extend_from_slice(line);
        }
    }
    response.extend_from_slice(b"Content-Length: 0\r\n\r\n");
}

/// What every response has of its request (RFC 3261 8.2.6.2), as [`Response`] writes it.
const COPIED: [&[u8]; 5] = [b"Via:", b"From:", b"To:", b"Call-ID:", b"CSeq:"];

fn write_contact(binding: &Binding, unix: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"Contact: <");
    out.extend_from_slice(binding.contact_bytes());
    out.extend_from_slice(b">;expires=");
    write_number(binding.expires().saturating_sub(unix), out);
    if binding.q() < 1000 {
        // A Vec takes all.
        let _ = write!(out, ";q=0.{:03}", binding.q());
    }
    let instance = binding.instance_bytes();
    if !instance.is_empty() {
        out.extend_from_slice(b";+sip.instance=\"");
        out.extend_from_slice(instance);
        out.push(b'"');
    }
    if binding.reg_id() != 0 {
        out.extend_from_slice(b";reg-id=");
        write_number(binding.reg_id().into(), out);
    }
    out.extend_from_slice(b"\r\n");
}

fn write_number(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[first..]);
}

/// The Date of the current second (RFC 3261 20.17), written once per second.
struct Date {
    unix: u64,
    text: [u8; DATE.len()],
}

impl Date {
    fn at(&mut self, unix: u64) -> &[u8] {
        if self.unix != unix {
            self.unix = unix;
            self.text = date(unix);
        }
        &self.text
    }
}

const DATE: &[u8; 29] = b"Thu, 01 Jan 1970 00:00:00 GMT";

fn date(unix: u64) -> [u8; DATE.len()] {
    let (days, second) = (unix / 86_400, unix % 86_400);
    // Years that begin in March have their leap day at the end, and 400 of them always the same length.
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month + 2) / 5 + 1;
    let month_of_year = (month + 2) % 12;
    let year = 400 * era + year + u64::from(month_of_year < 2);

    let mut text = *DATE;
    let mut put = |at: usize, what: &[u8]| text[at..at + what.len()].copy_from_slice(what);
    let two = |number: u64| [b'0' + (number / 10 % 10) as u8, b'0' + (number % 10) as u8];
    put(0, WEEKDAYS[(days % 7) as usize]);
    put(5, &two(day_of_month));
    put(8, MONTHS[month_of_year as usize]);
    put(12, &two(year / 100));
    put(14, &two(year % 100));
    put(17, &two(second / 3600));
    put(20, &two(second / 60 % 60));
    put(23, &two(second % 60));
    text
}

/// The first of January 1970 was a Thursday.
const WEEKDAYS: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
const MONTHS: [&[u8; 3]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (unix, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_289_739_599, "Sun, 14 Nov 2010 12:59:59 GMT"),
            (1_735_689_599, "Tue, 31 Dec 2024 23:59:59 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
        ] {
            assert_eq!(str::from_utf8(&date(unix)).expect("ASCII"), text);
        }
    }

    #[test]
    fn a_200_that_was_not_kept_becomes_a_500_of_the_same_transaction() {
        let mut response = b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nVia: SIP/2.0/UDP b\r\n ;branch=2\r\n\
            From: <sip:a@b>;tag=1\r\nTo: <sip:a@b>;tag=2\r\nCall-ID: x\r\nCSeq: 7 REGISTER\r\nContact: <sip:a@c>\r\n ;q=1\r\n\
            Date: now\r\nContent-Length: 0\r\n\r\n"
            .to_vec();
        turn_into_500(&mut response);
        assert_eq!(
            String::from_utf8(response).expect("text"),
            "SIP/2.0 500 Server Internal Error\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nVia: SIP/2.0/UDP b\r\n ;branch=2\r\n\
             From: <sip:a@b>;tag=1\r\nTo: <sip:a@b>;tag=2\r\nCall-ID: x\r\nCSeq: 7 REGISTER\r\nContent-Length: 0\r\n\r\n"
        );
    }
}
