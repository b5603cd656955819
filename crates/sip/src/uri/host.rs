//! Hosts: names, IPv4 addresses and IPv6 references (RFC 3261, 25.1, with the IPv6 grammar of RFC 5954).

use crate::text;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A host.
#[derive(Clone, Copy, Debug)]
pub enum Host<'a> {
    /// A name as it stands.
    Name(&'a str),
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// An IPv6 address, written in brackets.
    V6(Ipv6Addr),
}

impl<'a> Host<'a> {
    /// Parses a host without port. An IPv6 address must stand in brackets.
    #[inline]
    pub fn parse(text: &'a str) -> Option<Host<'a>> {
        let bytes = text.as_bytes();
        let first = *bytes.first()?;
        if first == b'[' {
            let inner = text.strip_prefix('[')?.strip_suffix(']')?;
            return Some(Host::V6(parse_v6(inner)?));
        }
        if first.is_ascii_digit()
            && let Some(address) = parse_v4(bytes)
        {
            return Some(Host::V4(address));
        }
        (name_end(bytes, 0) == Some(bytes.len())).then_some(Host::Name(text))
    }

    /// The address, if the host is one.
    pub fn ip(&self) -> Option<IpAddr> {
        match *self {
            Host::Name(_) => None,
            Host::V4(address) => Some(address.into()),
            Host::V6(address) => Some(address.into()),
        }
    }

    /// Appends the host in canonical form: lower case, one final dot removed, IPv6 as RFC 5952 in brackets.
    pub fn write_canonical(&self, out: &mut String) {
        use fmt::Write;
        match *self {
            Host::Name(name) => {
                let name = name.strip_suffix('.').unwrap_or(name);
                out.extend(name.chars().map(|c| c.to_ascii_lowercase()));
            }
            Host::V4(_) | Host::V6(_) => write!(out, "{self}").expect("a String takes all"),
        }
    }
}

/// Names compare without regard to case, addresses by value.
impl PartialEq for Host<'_> {
    fn eq(&self, other: &Host<'_>) -> bool {
        match (self, other) {
            (Host::Name(a), Host::Name(b)) => a
                .strip_suffix('.')
                .unwrap_or(a)
                .eq_ignore_ascii_case(b.strip_suffix('.').unwrap_or(b)),
            (Host::V4(a), Host::V4(b)) => a == b,
            (Host::V6(a), Host::V6(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for Host<'_> {}

impl fmt::Display for Host<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Name(name) => f.write_str(name),
            Host::V4(address) => address.fmt(f),
            Host::V6(address) => write!(f, "[{address}]"),
        }
    }
}

/// Where the name or IPv4 address that starts at `start` ends. Labels are not empty; a dot may stand at the end.
#[inline]
pub(crate) fn name_end(bytes: &[u8], start: usize) -> Option<usize> {
    let mut previous = text::DOT;
    let mut length = 0;
    for byte in bytes.get(start..)? {
        let class = text::class(*byte);
        if class & text::HOST == 0 {
            break;
        }
        if class & previous & text::DOT != 0 {
            return None;
        }
        previous = class;
        length += 1;
    }
    (length > 0).then_some(start + length)
}

/// `host [":" port]` without white space at the start of `text`, and what follows.
#[inline]
pub(crate) fn split_host_port(text: &str) -> Option<(Host<'_>, Option<u16>, &str)> {
    let bytes = text.as_bytes();
    let host_end = match bytes.first()? {
        b'[' => text::find(bytes, [b']'])? + 1,
        _ => name_end(bytes, 0)?,
    };
    let host = match bytes[0] {
        b'[' => Host::parse(&text[..host_end])?,
        b'0'..=b'9' => parse_v4(&bytes[..host_end]).map_or(Host::Name(&text[..host_end]), Host::V4),
        _ => Host::Name(&text[..host_end]),
    };
    let Some(b':') = bytes.get(host_end) else {
        return Some((host, None, &text[host_end..]));
    };
    let mut end = host_end + 1;
    while bytes.get(end).is_some_and(u8::is_ascii_digit) {
        end += 1;
    }
    let port = u16::try_from(text::number(&text[host_end + 1..end])?).ok()?;
    Some((host, Some(port), &text[end..]))
}

/// Four numbers up to 255 without leading zeros, as [`Ipv4Addr`] reads them, in a third of the time.
fn parse_v4(bytes: &[u8]) -> Option<Ipv4Addr> {
    if bytes.len() > LONGEST_V4 {
        return None;
    }
    let mut octets = [0u8; 4];
    let (mut octet, mut digits, mut value) = (0, 0, 0u32);
    for byte in bytes {
        match byte {
            b'0'..=b'9' => {
                if digits == 3 || (digits > 0 && value == 0) {
                    return None;
                }
                value = 10 * value + u32::from(byte - b'0');
                digits += 1;
            }
            b'.' if digits > 0 => {
                *octets.get_mut(octet)? = u8::try_from(value).ok()?;
                (octet, digits, value) = (octet + 1, 0, 0);
            }
            _ => return None,
        }
    }
    if digits == 0 || octet != 3 {
        return None;
    }
    octets[3] = u8::try_from(value).ok()?;
    Some(octets.into())
}

/// RFC 3261's own grammar let a third colon stand before an embedded IPv4 address; RFC 5118, 4.10 asks to accept it.
pub(crate) fn parse_v6(text: &str) -> Option<Ipv6Addr> {
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let colons = text.find(":::")?;
    let (before, after) = (&text[..colons], &text[colons + 3..]);
    let address: Ipv4Addr = after.parse().ok()?;
    if before.len() > LONGEST_V6 {
        return None;
    }
    format!("{before}::{address}").parse().ok()
}

/// The longest text of an IPv4 address.
const LONGEST_V4: usize = 15;

/// The longest text of an IPv6 address.
const LONGEST_V6: usize = 45;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv4_addresses_are_read_as_the_standard_library_does() {
        let texts = [
            "0.0.0.0",
            "255.255.255.255",
            "192.0.2.10",
            "1.2.3",
            "1.2.3.4.5",
            "1.2.3.",
            ".1.2.3",
            "1..2.3",
            "256.1.1.1",
            "01.2.3.4",
            "1.2.3.00",
            "1.2.3.4 ",
            "1.2.3.1000",
            "1.2.3.4a",
            "",
            "1",
            "9999999999999.1",
        ];
        for text in texts {
            assert_eq!(parse_v4(text.as_bytes()), text.parse().ok(), "{text}");
        }
    }
}
