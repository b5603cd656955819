//! What one session description says, as far as a relay has to remember it between offer and answer.

use std::net::{IpAddr, SocketAddr};

use smallvec::SmallVec;

use crate::command::{DEFAULT_CLOCK_RATE, Formats};
use crate::sdp::{Media, MediaTransport, RtpMap, Sdp};

/// One description: a fact sheet per m= line.
pub(super) type Description = SmallVec<[Line; 1]>;

/// One m= line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Line {
    pub(crate) transport: MediaTransport,
    /// Port 0 disables or rejects the line.
    pub(crate) enabled: bool,
    /// The address of its c= line, unless that is a host name.
    pub(crate) address: Option<IpAddr>,
    /// Where it receives; `None` when that cannot be sent to: host name, 0.0.0.0, port 0.
    pub(crate) rtp: Option<SocketAddr>,
    pub(crate) rtcp: Option<SocketAddr>,
    pub(crate) rtcp_mux: bool,
    pub(crate) held: bool,
    pub(crate) formats: Formats,
    pub(crate) codec: Option<Codec>,
}

impl Line {
    /// Whether it is the relay's business: enabled, over UDP, between two hosts.
    pub(super) fn is_relayed(&self) -> bool {
        self.enabled && is_relayable(self.transport, self.address)
    }

    pub(crate) fn of(sdp: &Sdp<'_>, media: &Media<'_>) -> Self {
        let address = sdp
            .connection_of(media)
            .and_then(|connection| connection.address)
            .map(|ip| ip.to_canonical());
        let reachable = |ip: &IpAddr| !ip.is_unspecified() && !ip.is_multicast();
        let socket = |ip: Option<IpAddr>, port: Option<u16>| {
            Some(SocketAddr::new(
                ip.filter(reachable)?,
                port.filter(|&port| port != 0)?,
            ))
        };
        let (rtcp_ip, rtcp_port) = match &media.rtcp {
            Some(rtcp) => (rtcp.address.or(address), Some(rtcp.port)),
            None => (address, media.port.checked_add(1)),
        };
        let enabled = media.port != 0;
        Line {
            transport: media.transport(),
            enabled,
            address,
            rtp: socket(address, Some(media.port)),
            rtcp: socket(rtcp_ip, rtcp_port).filter(|_| enabled),
            rtcp_mux: media.rtcp_mux,
            held: sdp.is_held(media),
            formats: formats(media),
            codec: Codec::of(media),
        }
    }
}

/// Reads a description's facts.
pub(super) fn describe(sdp: &Sdp<'_>) -> Description {
    sdp.media().iter().map(|media| Line::of(sdp, media)).collect()
}

/// Whether a relay stands in for a line: anything over UDP that is not multicast.
pub(super) fn is_relayable(transport: MediaTransport, address: Option<IpAddr>) -> bool {
    transport != MediaTransport::Other && address.is_none_or(|ip| !ip.is_multicast())
}

fn formats(media: &Media<'_>) -> Formats {
    let mut formats = Formats::default();
    if media.transport() != MediaTransport::Rtp {
        return formats;
    }
    // One pass over the lines; what has no map has a static clock rate, or is taken for telephony's.
    for map in media.rtpmaps() {
        formats.insert(map.payload_type, map.clock_rate);
    }
    for payload_type in media.payload_types() {
        let clock_rate = RtpMap::assigned(payload_type).map_or(DEFAULT_CLOCK_RATE, |map| map.clock_rate);
        formats.insert(payload_type, clock_rate);
    }
    formats
}

/// A codec's name, as lists of calls show it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Codec {
    name: [u8; 15],
    length: u8,
}

impl Codec {
    pub(crate) fn as_str(&self) -> &str {
        // Cut at a character boundary by `new`.
        std::str::from_utf8(&self.name[..usize::from(self.length)]).unwrap_or_default()
    }

    /// The first format that carries more than events and comfort noise.
    fn of(media: &Media<'_>) -> Option<Self> {
        if media.transport() != MediaTransport::Rtp {
            return media.formats().next().map(Self::new);
        }
        media
            .payload_types()
            .take(CODEC_CANDIDATES)
            .filter_map(|payload_type| media.rtpmap(payload_type))
            .find(|map| {
                !["telephone-event", "CN"]
                    .iter()
                    .any(|other| map.encoding.eq_ignore_ascii_case(other))
            })
            .map(|map| Self::new(map.encoding))
    }

    fn new(text: &str) -> Self {
        let mut codec = Codec {
            name: [0; 15],
            length: 0,
        };
        let mut length = text.len().min(codec.name.len());
        while !text.is_char_boundary(length) {
            length -= 1;
        }
        codec.name[..length].copy_from_slice(&text.as_bytes()[..length]);
        codec.length = length as u8;
        codec
    }
}

impl std::fmt::Debug for Codec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_str().fmt(f)
    }
}

/// So many formats are looked at for one with a name: each costs a pass over the attributes.
const CODEC_CANDIDATES: usize = 8;
