//! SIP, SIPS and tel URIs (RFC 3261, 19.1 and 25.1; RFC 3966; IPv6 references: RFC 5954): parsing without copying,
//! comparison by the rules of 19.1.4, and the canonical address-of-record that location is keyed with.
//!
//! Parsing is strict about structure (a host there must be, ports are numbers, escapes are `%HH`, nothing needs escaping)
//! and lenient about characters of the user part that real telephones send unescaped.

mod compare;
pub(crate) mod host;

pub use host::Host;

use crate::headers::Params;
use crate::message::{Fault, Found};
use crate::text;
use smallvec::SmallVec;
use std::fmt;

/// The scheme of a URI.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scheme<'a> {
    /// `sip`
    Sip,
    /// `sips`
    Sips,
    /// `tel`
    Tel,
    /// Any other, as it stands.
    Other(&'a str),
}

/// A parsed URI, borrowing its text.
#[derive(Clone, Copy, Debug)]
pub struct Uri<'a> {
    text: &'a str,
    /// The scheme.
    pub scheme: Scheme<'a>,
    /// The user part as it stands, with escapes; of a tel URI the number. None if absent or the scheme is another.
    pub user: Option<&'a str>,
    /// The password as it stands.
    pub password: Option<&'a str>,
    /// The host; an empty name if the scheme has none.
    pub host: Host<'a>,
    /// The port, if one is written.
    pub port: Option<u16>,
    /// The URI parameters.
    pub params: Params<'a>,
    /// What stands after the `?`, without it; empty if nothing does.
    pub headers: &'a str,
}

impl<'a> Uri<'a> {
    /// Parses a whole URI. A scheme other than sip, sips and tel is accepted and not looked into.
    pub fn parse(raw: &'a str) -> Result<Uri<'a>, UriError> {
        let bad = |expected, found: &str| {
            Err(UriError {
                expected,
                found: Found::of(found),
            })
        };
        let Some(colon) = text::find(raw.as_bytes(), [b':']) else {
            return bad("a scheme and a colon", raw);
        };
        let (name, rest) = (&raw[..colon], &raw[colon + 1..]);
        let scheme = match Scheme::of(name) {
            Some(scheme) => scheme,
            None => return bad("a URI scheme", raw),
        };
        let mut uri = Uri {
            text: raw,
            scheme,
            user: None,
            password: None,
            host: Host::Name(""),
            port: None,
            params: Params::default(),
            headers: "",
        };
        match scheme {
            Scheme::Sip | Scheme::Sips => uri.parse_sip(rest)?,
            Scheme::Tel => uri.parse_tel(rest)?,
            Scheme::Other(_) => {
                if rest.is_empty()
                    || rest
                        .bytes()
                        .any(|b| b <= b' ' || matches!(b, b'<' | b'>' | b'"' | 0x7f))
                {
                    return bad("a URI without spaces, quotes and angle brackets", raw);
                }
            }
        }
        Ok(uri)
    }

    /// The text as it stands.
    pub fn as_str(&self) -> &'a str {
        self.text
    }

    /// True for `sip` and `sips`.
    pub fn is_sip(&self) -> bool {
        matches!(self.scheme, Scheme::Sip | Scheme::Sips)
    }

    /// Equality by RFC 3261, 19.1.4 (of tel URIs: RFC 3966, 4). Not transitive: parameters that only one of the two
    /// carries are mostly ignored.
    pub fn equivalent(&self, other: &Uri<'_>) -> bool {
        compare::equivalent(self, other)
    }

    /// Appends the canonical address-of-record: `user@host` with the user unescaped and the host in lower case (without
    /// brackets stripped: `alice@[2001:db8::1]`), `host` without a user, the bare number of a tel URI. Scheme, port,
    /// password, parameters and headers are not part of it (RFC 3261, 10.3). An escape stays, in upper case, where it
    /// hides a control character, a space, a percent sign or broken UTF-8.
    pub fn write_aor(&self, out: &mut String) {
        if let Some(user) = self.user {
            if self.scheme == Scheme::Tel {
                out.extend(
                    user.chars()
                        .filter(|c| !compare::is_visual_separator(*c))
                        .map(|c| c.to_ascii_lowercase()),
                );
                return;
            }
            write_unescaped(user, out);
            out.push('@');
        }
        self.host.write_canonical(out);
    }

    /// As [`Uri::write_aor`], into a new string.
    pub fn aor(&self) -> String {
        let mut out = String::with_capacity(self.text.len());
        self.write_aor(&mut out);
        out
    }

    /// The header fields that the URI carries, names and values with their escapes (RFC 3261, 19.1.1).
    pub fn header_fields(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let fields = self.headers.split('&').filter(|f| !f.is_empty());
        fields.map(|field| field.split_once('=').unwrap_or((field, "")))
    }

    fn parse_sip(&mut self, rest: &'a str) -> Result<(), UriError> {
        let bad = |expected, found: &str| {
            Err(UriError {
                expected,
                found: Found::of(found),
            })
        };
        let mut host_port = rest;
        let (end, seen) = text::run(rest.as_bytes(), 0, text::USER);
        let user_end = match rest.as_bytes().get(end) {
            Some(b'@') => Some(end),
            None => None,
            _ => text::find(rest.as_bytes(), [b'@']),
        };
        if let Some(at) = user_end {
            let user_info = &rest[..at];
            host_port = &rest[at + 1..];
            // Mostly there is neither password nor escape.
            let is_plain = at == end && seen & text::SPECIAL == 0;
            let colon = match is_plain {
                true => None,
                false => text::find(user_info.as_bytes(), [b':']),
            };
            let (user, password) = match colon {
                Some(colon) => (&user_info[..colon], Some(&user_info[colon + 1..])),
                None => (user_info, None),
            };
            if user.is_empty() {
                return bad("a user before the '@'", self.text);
            }
            if !is_plain && !well_formed(user_info, text::USER) {
                return bad("a user part with other characters escaped as %HH", user_info);
            }
            (self.user, self.password) = (Some(user), password);
        }
        let Some((host, port, mut tail)) = host::split_host_port(host_port)
            .filter(|(_, _, tail)| matches!(tail.as_bytes().first(), None | Some(b';' | b'?')))
        else {
            return bad("a host, and a port from 0 to 65535", host_port);
        };
        (self.host, self.port) = (host, port);
        if tail.is_empty() {
            return Ok(());
        }
        if let Some(question) = text::find(tail.as_bytes(), [b'?']) {
            self.headers = &tail[question + 1..];
            tail = &tail[..question];
            if !well_formed(self.headers, text::HEADER) {
                return bad("URI headers with other characters escaped as %HH", self.headers);
            }
        }
        if !well_formed(tail, text::PARAM) {
            return bad("URI parameters with other characters escaped as %HH", tail);
        }
        self.params = Params::new(tail);
        Ok(())
    }

    fn parse_tel(&mut self, rest: &'a str) -> Result<(), UriError> {
        let (number, tail) = rest.split_at(text::find(rest.as_bytes(), [b';']).unwrap_or(rest.len()));
        let digits = number.strip_prefix('+').unwrap_or(number);
        let mut digits = digits.bytes();
        let is_number = digits.len() > 0
            && digits.all(|b| b.is_ascii_hexdigit() || matches!(b, b'*' | b'#' | b'-' | b'.' | b'(' | b')'));
        if !is_number {
            return Err(UriError {
                expected: "a telephone number",
                found: Found::of(number),
            });
        }
        if !well_formed(tail, text::PARAM) {
            return Err(UriError {
                expected: "URI parameters with other characters escaped",
                found: Found::of(tail),
            });
        }
        self.user = Some(number);
        self.params = Params::new(tail);
        Ok(())
    }
}

impl<'a> Scheme<'a> {
    fn of(name: &'a str) -> Option<Self> {
        // Nearly always so, and equal bytes are found faster than equal letters.
        if name == "sip" || name.eq_ignore_ascii_case("sip") {
            return Some(Scheme::Sip);
        }
        if name.eq_ignore_ascii_case("sips") {
            return Some(Scheme::Sips);
        }
        if name.eq_ignore_ascii_case("tel") {
            return Some(Scheme::Tel);
        }
        let bytes = name.as_bytes();
        let is_scheme = bytes.first()?.is_ascii_alphabetic()
            && bytes
                .iter()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
        is_scheme.then_some(Scheme::Other(name))
    }
}

impl fmt::Display for Uri<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text)
    }
}

/// A URI that cannot be read. The peer sent it; 400 answers it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("malformed URI: expected {expected}, found {found}")]
#[non_exhaustive]
pub struct UriError {
    /// What the grammar asks for.
    pub expected: &'static str,
    /// The start of what stands there.
    pub found: Found,
}

impl UriError {
    /// The status that answers it.
    pub fn status(&self) -> u16 {
        400
    }

    /// Who has to mend it.
    pub fn fault(&self) -> Fault {
        Fault::Peer
    }
}

/// True if all characters are of the class and each `%` starts an escape.
#[inline]
fn well_formed(part: &str, class: u8) -> bool {
    let bytes = part.as_bytes();
    let is_escape = |i: usize| {
        bytes
            .get(i + 1..i + 3)
            .is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    let (end, seen) = text::run(bytes, 0, class);
    end == bytes.len()
        && (seen & text::SPECIAL == 0 || (0..bytes.len()).all(|i| bytes[i] != b'%' || is_escape(i)))
}

/// Appends `part` with its escapes resolved, except those that must stay.
fn write_unescaped(part: &str, out: &mut String) {
    use fmt::Write;
    let bytes = part.as_bytes();
    if text::find(bytes, [b'%']).is_none() {
        out.push_str(part);
        return;
    }
    let mut decoded: SmallVec<[u8; 128]> = SmallVec::new();
    let mut i = 0;
    while let Some(&byte) = bytes.get(i) {
        i += 1;
        let escaped = match (byte, bytes.get(i), bytes.get(i + 1)) {
            (b'%', Some(&high), Some(&low)) => text::hex(high).zip(text::hex(low)).map(|(h, l)| h << 4 | l),
            _ => None,
        };
        match escaped {
            None => decoded.push(byte),
            Some(value) => {
                i += 2;
                if value <= b' ' || value == b'%' || value == 0x7f {
                    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
                    decoded.extend([
                        b'%',
                        DIGITS[usize::from(value >> 4)],
                        DIGITS[usize::from(value & 15)],
                    ]);
                } else {
                    decoded.push(value);
                }
            }
        }
    }
    for chunk in decoded.utf8_chunks() {
        out.push_str(chunk.valid());
        for byte in chunk.invalid() {
            write!(out, "%{byte:02X}").expect("a String takes all");
        }
    }
}

#[cfg(test)]
mod tests;
