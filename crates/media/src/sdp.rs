//! A lossless view of a session description (RFC 8866, formerly 4566) for those who change a few lines of it.
//!
//! [`Sdp::parse`] walks the lines once and notes where the parts lie that a relay or a call list needs: c=, m=, a=rtcp
//! (RFC 3605), a=rtcp-mux (RFC 5761), the direction (RFC 3264 section 5.1). Everything else stays in the bytes and is looked
//! up when asked for ([`Media::attributes`], [`Media::rtpmap`]). Changes are collected in [`Edits`] by the ranges that the
//! view hands out, and written in one pass: order, unknown lines, odd spacing and line ends (CRLF or LF) leave as they came.
//!
//! What it does not do: it does not validate a description as a whole. Lines that it does not understand are somebody
//! else's extension, not an error.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use smallvec::SmallVec;

pub use edit::Edits;
pub(crate) use field::NetworkAddress;
pub use field::{Attribute, Connection, Direction, MediaTransport, Rtcp, RtpMap};
use field::{Line, Lines, attributes, offset_within, token};

mod edit;
mod field;

/// A parsed description: the bytes and where things lie in them.
#[derive(Clone, Debug)]
pub struct Sdp<'a> {
    bytes: &'a [u8],
    connection: Option<Connection<'a>>,
    direction: Option<Direction>,
    session: Range<usize>,
    media: SmallVec<[Media<'a>; 2]>,
}

impl<'a> Sdp<'a> {
    /// Reads a description of at most [`MAX_BYTES`] with at most [`MAX_MEDIA`] m= lines.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        if bytes.len() > MAX_BYTES {
            return Err(ParseError::TooLarge { found: bytes.len() });
        }
        if !bytes.starts_with(b"v=") {
            return Err(ParseError::NoVersion);
        }
        let mut sdp = Sdp {
            bytes,
            connection: None,
            direction: None,
            session: 0..bytes.len(),
            media: SmallVec::new(),
        };
        for (number, line) in Lines::new(bytes, 0..bytes.len()).enumerate() {
            if number >= MAX_LINES {
                return Err(ParseError::TooManyLines);
            }
            let number = number + 1;
            match line.kind {
                b'm' => {
                    if sdp.media.len() >= MAX_MEDIA {
                        return Err(ParseError::TooManyMedia);
                    }
                    sdp.close_section(line.range.start);
                    sdp.media
                        .push(Media::parse(bytes, &line).ok_or(ParseError::BadMedia { line: number })?);
                }
                b'c' => {
                    let connection =
                        Connection::parse(&line).ok_or(ParseError::BadConnection { line: number })?;
                    // Of several c= lines (layered multicast) the first counts.
                    match sdp.media.last_mut() {
                        Some(media) => _ = media.connection.get_or_insert(connection),
                        None => _ = sdp.connection.get_or_insert(connection),
                    }
                }
                b'i' => {
                    if let Some(media) = sdp.media.last_mut()
                        && media.head_end == line.range.start
                    {
                        media.head_end = line.range.end;
                    }
                }
                b'a' => sdp.note_attribute(&line),
                _ => {}
            }
        }
        sdp.close_section(bytes.len());
        Ok(sdp)
    }

    /// The bytes it was parsed from.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The session's c= line, which counts for every m= line without its own.
    pub fn connection(&self) -> Option<&Connection<'a>> {
        self.connection.as_ref()
    }

    /// The m= sections in their order.
    pub fn media(&self) -> &[Media<'a>] {
        &self.media
    }

    /// The c= line that counts for `media`: its own, else the session's.
    pub fn connection_of<'s>(&'s self, media: &'s Media<'_>) -> Option<&'s Connection<'s>> {
        media.connection.as_ref().or(self.connection.as_ref())
    }

    /// The direction that counts for `media`: its own, else the session's, else sendrecv (RFC 3264 section 5.1).
    pub fn direction_of(&self, media: &Media<'_>) -> Direction {
        media.direction.or(self.direction).unwrap_or(Direction::SendRecv)
    }

    /// Whether the describing side has put `media` on hold, in any of the four ways that phones use: sendonly, inactive,
    /// the address 0.0.0.0 or ::, port 0 (RFC 3264 section 8.4).
    pub fn is_held(&self, media: &Media<'_>) -> bool {
        media.port == 0
            || matches!(
                self.direction_of(media),
                Direction::SendOnly | Direction::Inactive
            )
            || self.connection_of(media).is_some_and(Connection::is_unspecified)
    }

    /// The attributes before the first m= line.
    pub fn attributes(&self) -> impl Iterator<Item = Attribute<'a>> + use<'a> {
        attributes(self.bytes, self.session.clone())
    }

    fn close_section(&mut self, end: usize) {
        match self.media.last_mut() {
            Some(media) => media.section.end = end,
            None => self.session.end = end,
        }
    }

    fn note_attribute(&mut self, line: &Line<'a>) {
        let attribute = Attribute::of(line);
        let direction = Direction::of(attribute.name);
        let Some(media) = self.media.last_mut() else {
            self.direction = self.direction.or(direction);
            return;
        };
        media.direction = media.direction.or(direction);
        match attribute.name {
            b"rtcp" => media.rtcp = media.rtcp.take().or_else(|| Rtcp::parse(line)),
            b"rtcp-mux" | b"rtcp-mux-only" => media.rtcp_mux = true,
            _ => {}
        }
    }
}

/// One m= line and what belongs to it.
#[derive(Clone, Debug)]
pub struct Media<'a> {
    /// "audio", "video", "image", "message", …
    pub media: &'a str,
    /// The port; 0 disables or rejects the line.
    pub port: u16,
    /// How many consecutive ports (or pairs of them) are meant: the 2 of `49170/2`.
    pub port_count: u16,
    /// "RTP/AVP", "UDP/TLS/RTP/SAVPF", "udptl", "TCP/MSRP", …
    pub proto: &'a str,
    /// Where the port and its count stand.
    pub port_range: Range<usize>,
    /// The section's own c= line.
    pub connection: Option<Connection<'a>>,
    /// a=rtcp, where present and readable.
    pub rtcp: Option<Rtcp>,
    /// a=rtcp-mux or a=rtcp-mux-only is there.
    pub rtcp_mux: bool,
    /// The section's own direction attribute.
    pub direction: Option<Direction>,
    bytes: &'a [u8],
    formats: &'a str,
    section: Range<usize>,
    head_end: usize,
}

impl<'a> Media<'a> {
    /// The formats as written: payload types for RTP, other names for the rest.
    pub fn formats(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.formats.split_ascii_whitespace()
    }

    /// The formats that are RTP payload types (0 to 127); of more than 128 formats the first 128.
    pub fn payload_types(&self) -> impl Iterator<Item = u8> + use<'a> {
        self.formats()
            .filter_map(|format| format.parse().ok())
            .filter(|&payload_type| payload_type < 128)
    }

    /// What is carried, as far as a relay cares.
    pub fn transport(&self) -> MediaTransport {
        MediaTransport::of(self.proto)
    }

    /// The section's attributes in their order.
    pub fn attributes(&self) -> impl Iterator<Item = Attribute<'a>> + use<'a> {
        attributes(self.bytes, self.section.clone())
    }

    /// The a=rtpmap of a payload type, else what RFC 3551 assigns to it.
    pub fn rtpmap(&self, payload_type: u8) -> Option<RtpMap<'a>> {
        self.rtpmaps()
            .find(|map| map.payload_type == payload_type)
            .or_else(|| RtpMap::assigned(payload_type))
    }

    /// All a=rtpmap lines that can be read.
    pub fn rtpmaps(&self) -> impl Iterator<Item = RtpMap<'a>> + use<'a> {
        self.attributes()
            .filter(|attribute| attribute.name == b"rtpmap")
            .filter_map(|attribute| RtpMap::parse(attribute.value))
    }

    /// The a=fmtp parameters of a format.
    pub fn fmtp(&self, format: &str) -> Option<&'a str> {
        self.attributes()
            .filter(|attribute| attribute.name == b"fmtp")
            .find_map(|attribute| {
                let (name, parameters) = std::str::from_utf8(attribute.value).ok()?.split_once(' ')?;
                (name == format).then(|| parameters.trim())
            })
    }

    /// Where a c= line for this section has its place: behind m= and i= (RFC 8866 section 5).
    pub fn connection_position(&self) -> usize {
        self.head_end
    }

    /// The line end that the m= line uses, for lines that are added to its section.
    pub fn line_end(&self) -> &'static str {
        let head = &self.bytes[self.section.start..self.head_end];
        if head.ends_with(b"\n") && !head.ends_with(b"\r\n") {
            "\n"
        } else {
            "\r\n"
        }
    }

    fn parse(bytes: &'a [u8], line: &Line<'a>) -> Option<Self> {
        let text = std::str::from_utf8(line.value).ok()?;
        let mut rest = text;
        let media = token(&mut rest)?;
        let port_text = token(&mut rest)?;
        let proto = token(&mut rest)?;
        let (port, count) = match port_text.split_once('/') {
            Some((port, count)) => (port.parse().ok()?, count.parse().ok()?),
            None => (port_text.parse().ok()?, 1),
        };
        let port_start = line.value_start() + offset_within(text, port_text);
        Some(Media {
            media,
            port,
            port_count: count,
            proto,
            port_range: port_start..port_start + port_text.len(),
            connection: None,
            rtcp: None,
            rtcp_mux: false,
            direction: None,
            bytes,
            formats: rest,
            section: line.range.start..bytes.len(),
            head_end: line.range.end,
        })
    }
}

/// Why a body is no description.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// Longer than [`MAX_BYTES`].
    #[error("expected a session description of at most {MAX_BYTES} bytes, found {found}")]
    TooLarge {
        /// Its length.
        found: usize,
    },
    /// The first line is not v=.
    #[error("expected a session description that begins with v=")]
    NoVersion,
    /// More than [`MAX_LINES`] lines.
    #[error("expected at most {MAX_LINES} lines in a session description, found more")]
    TooManyLines,
    /// More than [`MAX_MEDIA`] m= lines.
    #[error("expected at most {MAX_MEDIA} m= lines, found more")]
    TooManyMedia,
    /// An m= line that cannot be read.
    #[error("expected `m=<media> <port> <proto> <formats>` in line {line}")]
    BadMedia {
        /// Counted from 1.
        line: usize,
    },
    /// A c= line that cannot be read.
    #[error("expected `c=IN IP4 <address>` or `c=IN IP6 <address>` in line {line}")]
    BadConnection {
        /// Counted from 1.
        line: usize,
    },
}

/// The unspecified address of a family, by which hold is carried over to it.
pub(crate) fn unspecified(is_ipv6: bool) -> IpAddr {
    if is_ipv6 {
        Ipv6Addr::UNSPECIFIED.into()
    } else {
        Ipv4Addr::UNSPECIFIED.into()
    }
}

/// The longest description that is read. WebRTC offers with many codecs and candidates reach 10 kB.
pub const MAX_BYTES: usize = 32 * 1024;
/// The most lines of a description.
pub const MAX_LINES: usize = 1_000;
/// The most m= lines of a description. Calls have one to three.
pub const MAX_MEDIA: usize = 16;

#[cfg(test)]
mod tests;
