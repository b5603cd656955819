//! The lines of a description, and those values that are looked into.

use std::net::IpAddr;
use std::ops::Range;

/// What an m= line's proto says about its packets.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum MediaTransport {
    /// RTP or SRTP over UDP, with RTCP.
    Rtp,
    /// Other datagrams over UDP: T.38 (udptl), BFCP, SCTP in DTLS.
    Datagram,
    /// Not UDP (TCP, MSRP), or not known.
    Other,
}

impl MediaTransport {
    pub(super) fn of(proto: &str) -> Self {
        let mut parts = proto.split('/').peekable();
        if proto
            .get(..3)
            .is_some_and(|start| start.eq_ignore_ascii_case("TCP"))
        {
            return Self::Other;
        }
        if parts.clone().any(|part| part.eq_ignore_ascii_case("RTP")) {
            return Self::Rtp;
        }
        match parts.peek() {
            Some(first)
                if ["udptl", "udp", "dtls"]
                    .iter()
                    .any(|known| first.eq_ignore_ascii_case(known)) =>
            {
                Self::Datagram
            }
            _ => Self::Other,
        }
    }
}

/// A c= line's value: `IN IP4 192.0.2.1`.
#[derive(Clone, Debug)]
pub struct Connection<'a> {
    /// The address as written, without /TTL and count.
    pub host: &'a str,
    /// The address, unless a host name stands there.
    pub address: Option<IpAddr>,
    /// The line says IP6.
    pub is_ipv6: bool,
    /// The value, as written.
    pub value: &'a str,
    /// Where the value stands.
    pub range: Range<usize>,
}

impl<'a> Connection<'a> {
    /// The address 0.0.0.0 or ::, by which phones of the RFC 2543 age put a call on hold.
    pub fn is_unspecified(&self) -> bool {
        self.address.is_some_and(|address| address.is_unspecified())
    }

    pub(super) fn parse(line: &Line<'a>) -> Option<Self> {
        let value = std::str::from_utf8(line.value).ok()?;
        let mut rest = value;
        let _network = token(&mut rest)?;
        let family = token(&mut rest)?;
        let host = token(&mut rest)?.split('/').next()?;
        let start = line.value_start();
        Some(Connection {
            host,
            address: host.parse().ok(),
            is_ipv6: family.eq_ignore_ascii_case("IP6"),
            value,
            range: start..start + value.len(),
        })
    }
}

/// a=rtcp (RFC 3605): the RTCP port where it is not the RTP port + 1.
#[derive(Clone, Debug)]
pub struct Rtcp {
    /// The port.
    pub port: u16,
    /// The address, where one is given and is not a host name.
    pub address: Option<IpAddr>,
    /// An address or a host name is given.
    pub has_address: bool,
    /// Where the value stands.
    pub range: Range<usize>,
}

impl Rtcp {
    pub(super) fn parse(line: &Line<'_>) -> Option<Self> {
        let attribute = Attribute::of(line);
        let mut rest = std::str::from_utf8(attribute.value).ok()?;
        let port = token(&mut rest)?.parse().ok()?;
        let host = rest.split_ascii_whitespace().nth(2);
        let end = line.value_start() + line.value.len();
        Some(Rtcp {
            port,
            address: host.and_then(|host| host.parse().ok()),
            has_address: host.is_some(),
            range: end - attribute.value.len()..end,
        })
    }
}

/// The direction attribute (RFC 3264 section 5.1), as the describing side sees it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Direction {
    /// It sends and receives.
    #[default]
    SendRecv,
    /// It only sends: hold with music.
    SendOnly,
    /// It only receives.
    RecvOnly,
    /// Neither.
    Inactive,
}

impl Direction {
    pub(super) fn of(name: &[u8]) -> Option<Self> {
        match name {
            b"sendrecv" => Some(Self::SendRecv),
            b"sendonly" => Some(Self::SendOnly),
            b"recvonly" => Some(Self::RecvOnly),
            b"inactive" => Some(Self::Inactive),
            _ => None,
        }
    }
}

/// An a= line.
#[derive(Clone, Debug)]
pub struct Attribute<'a> {
    /// Before the colon.
    pub name: &'a [u8],
    /// After the colon; empty for a property attribute.
    pub value: &'a [u8],
    /// The whole line with its line end: what [`super::Edits::remove`] takes.
    pub line: Range<usize>,
}

impl<'a> Attribute<'a> {
    /// Whether it belongs to ICE (RFC 8839, and a=alt, ICE's forerunner in eyeBeam and X-Lite): lines that name addresses of
    /// their own, or announce them, and contradict a c= line that a relay has changed.
    pub fn is_ice(&self) -> bool {
        matches!(
            self.name,
            b"candidate"
                | b"remote-candidates"
                | b"end-of-candidates"
                | b"ice-ufrag"
                | b"ice-pwd"
                | b"ice-options"
                | b"ice-lite"
                | b"ice-mismatch"
                | b"ice-pacing"
                | b"alt"
        )
    }

    pub(super) fn of(line: &Line<'a>) -> Self {
        let (name, value) = match memchr::memchr(b':', line.value) {
            Some(colon) => (&line.value[..colon], &line.value[colon + 1..]),
            None => (line.value.trim_ascii_end(), &line.value[line.value.len()..]),
        };
        Attribute {
            name,
            value,
            line: line.range.clone(),
        }
    }
}

/// a=rtpmap:0 PCMU/8000
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RtpMap<'a> {
    /// 0 to 127.
    pub payload_type: u8,
    /// "PCMA", "opus", "telephone-event", …
    pub encoding: &'a str,
    /// Timestamp units per second.
    pub clock_rate: u32,
}

impl<'a> RtpMap<'a> {
    pub(super) fn parse(value: &'a [u8]) -> Option<Self> {
        let mut rest = std::str::from_utf8(value).ok()?;
        let payload_type = token(&mut rest)?
            .parse()
            .ok()
            .filter(|&payload_type| payload_type < 128)?;
        let encoding = token(&mut rest)?;
        let (encoding, after) = encoding.split_at(encoding.bytes().position(|byte| byte == b'/')?);
        let after = &after[1..];
        let end = after.bytes().position(|byte| byte == b'/').unwrap_or(after.len());
        Some(RtpMap {
            payload_type,
            encoding,
            clock_rate: after[..end].parse().ok()?,
        })
    }

    /// The static payload types of RFC 3551 section 6 that are met in telephony.
    pub fn assigned(payload_type: u8) -> Option<Self> {
        let (encoding, clock_rate) = match payload_type {
            0 => ("PCMU", 8_000),
            3 => ("GSM", 8_000),
            4 => ("G723", 8_000),
            8 => ("PCMA", 8_000),
            9 => ("G722", 8_000),
            13 => ("CN", 8_000),
            15 => ("G728", 8_000),
            18 => ("G729", 8_000),
            31 => ("H261", 90_000),
            34 => ("H263", 90_000),
            _ => return None,
        };
        Some(RtpMap {
            payload_type,
            encoding,
            clock_rate,
        })
    }
}

/// `IN IP4 192.0.2.1`: how an address is written in c= and a=rtcp lines.
pub(crate) struct NetworkAddress(pub(crate) IpAddr);

impl std::fmt::Display for NetworkAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "IN {} {}",
            if self.0.is_ipv6() { "IP6" } else { "IP4" },
            self.0
        )
    }
}

/// A line: its type letter (0 when it has none), the value, and where the line stands with its end.
#[derive(Clone, Debug)]
pub(super) struct Line<'a> {
    pub(super) kind: u8,
    pub(super) value: &'a [u8],
    pub(super) range: Range<usize>,
}

impl Line<'_> {
    pub(super) fn value_start(&self) -> usize {
        // A line with a kind begins with "x=".
        self.range.start + 2
    }
}

pub(super) struct Lines<'a> {
    bytes: &'a [u8],
    range: Range<usize>,
}

impl<'a> Lines<'a> {
    pub(super) fn new(bytes: &'a [u8], range: Range<usize>) -> Self {
        Lines { bytes, range }
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Line<'a>;

    fn next(&mut self) -> Option<Line<'a>> {
        let rest = self
            .bytes
            .get(self.range.clone())
            .filter(|rest| !rest.is_empty())?;
        let start = self.range.start;
        let (text, length) = match memchr::memchr(b'\n', rest) {
            Some(end) => (&rest[..end], end + 1),
            None => (rest, rest.len()),
        };
        self.range.start += length;
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let range = start..start + length;
        Some(match text {
            [kind, b'=', value @ ..] => Line {
                kind: *kind,
                value,
                range,
            },
            _ => Line {
                kind: 0,
                value: text,
                range,
            },
        })
    }
}

pub(super) fn attributes<'a>(
    bytes: &'a [u8],
    range: Range<usize>,
) -> impl Iterator<Item = Attribute<'a>> + use<'a> {
    Lines::new(bytes, range)
        .filter(|line| line.kind == b'a')
        .map(|line| Attribute::of(&line))
}

/// Takes the next word off `rest`.
pub(super) fn token<'a>(rest: &mut &'a str) -> Option<&'a str> {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let bytes = rest.as_bytes();
    let start = bytes
        .iter()
        .position(|byte| !is_space(byte))
        .unwrap_or(bytes.len());
    let length = bytes[start..].iter().position(is_space);
    let (word, tail) = rest[start..].split_at(length.unwrap_or(bytes.len() - start));
    *rest = tail;
    (!word.is_empty()).then_some(word)
}

/// Where `part`, a slice of `whole`, begins in it.
pub(super) fn offset_within(whole: &str, part: &str) -> usize {
    part.as_ptr() as usize - whole.as_ptr() as usize
}
