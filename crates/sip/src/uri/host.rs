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
            && let Ok(address) = text.parse()
        {
            return Some(Host::V4(address));
        }
        // Labels are not empty; a dot may stand at the end.
        let mut previous = b'.';
        let is_name = bytes.iter().all(|byte| {
            let fits = text::is_host_char(*byte) && !(*byte == b'.' && previous == b'.');
            previous = *byte;
            fits
        });
        is_name.then_some(Host::Name(text))
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

/// `host [":" port]` without white space.
#[inline]
pub(crate) fn parse_host_port(text: &str) -> Option<(Host<'_>, Option<u16>)> {
    let host_end = match text.as_bytes().first()? {
        b'[' => memchr::memchr(b']', text.as_bytes())? + 1,
        _ => memchr::memchr(b':', text.as_bytes()).unwrap_or(text.len()),
    };
    let (host, port) = text.split_at(host_end);
    let port = match port {
        "" => None,
        _ => Some(u16::try_from(text::number(port.strip_prefix(':')?)?).ok()?),
    };
    Some((Host::parse(host)?, port))
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

/// The longest text of an IPv6 address.
const LONGEST_V6: usize = 45;
