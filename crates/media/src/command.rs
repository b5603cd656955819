//! What the signalling side and the packet side of a relayed call tell each other.
//!
//! The signalling side ([`crate::negotiation`]) runs in a signalling worker, the packet side ([`crate::stream`]) in a media
//! worker. [`Command`]s go one way, [`Report`]s the other, through whatever queue the server puts between them; the order of
//! the commands of one stream must be kept. Ports come from a [`RelayPorts`] that the server implements.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use smallvec::SmallVec;

use crate::address;
use crate::sdp::MediaTransport;
use crate::stream::StreamCounters;

/// An order to the packet side.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Command {
    /// A new leg: its ports belong to this stream from now on. The first leg makes the stream.
    Open {
        /// Which m= line of which call.
        stream: StreamId,
        /// Whose leg.
        side: Side,
        /// What is known about it.
        leg: Leg,
    },
    /// New signalling from one side (answer, re-INVITE, UPDATE): what is known about its leg now.
    Update {
        /// Which m= line of which call.
        stream: StreamId,
        /// Whose leg.
        side: Side,
        /// What is known about it.
        leg: Leg,
    },
    /// This branch and the caller hear each other from now on. Before the first of these the branch does whose media come first.
    Select {
        /// Which m= line of which call.
        stream: StreamId,
        /// The branch.
        branch: Branch,
    },
    /// The call is answered: silence counts from now on.
    Confirm {
        /// Which m= line of which call.
        stream: StreamId,
    },
    /// A leg ends; its ports are no longer the stream's.
    CloseLeg {
        /// Which m= line of which call.
        stream: StreamId,
        /// Whose leg.
        side: Side,
    },
    /// The stream ends with all its legs. [`Report::Ended`] answers.
    Close {
        /// Which m= line of which call.
        stream: StreamId,
    },
    /// [`Report::Counters`] is wanted.
    Snapshot {
        /// Which m= line of which call.
        stream: StreamId,
    },
}

impl Command {
    /// The stream that the command is for.
    pub fn stream(&self) -> StreamId {
        match *self {
            Command::Open { stream, .. }
            | Command::Update { stream, .. }
            | Command::Select { stream, .. }
            | Command::Confirm { stream }
            | Command::CloseLeg { stream, .. }
            | Command::Close { stream }
            | Command::Snapshot { stream } => stream,
        }
    }
}

/// What the packet side has to say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Report {
    /// No accepted packet from any side for `silence`. Said once per silence.
    Timeout {
        /// Which m= line of which call.
        stream: StreamId,
        /// The limit that was reached: the ordinary one or the one for held calls.
        silence: Duration,
    },
    /// Packets again after [`Report::Timeout`].
    Resumed {
        /// Which m= line of which call.
        stream: StreamId,
    },
    /// The answer to [`Command::Snapshot`].
    Counters {
        /// Which m= line of which call.
        stream: StreamId,
        /// As of now.
        counters: StreamCounters,
    },
    /// The answer to [`Command::Close`], the last report of a stream.
    Ended {
        /// Which m= line of which call.
        stream: StreamId,
        /// As of the end.
        counters: StreamCounters,
    },
}

impl Report {
    /// The stream that the report is about.
    pub fn stream(&self) -> StreamId {
        match *self {
            Report::Timeout { stream, .. }
            | Report::Resumed { stream }
            | Report::Counters { stream, .. }
            | Report::Ended { stream, .. } => stream,
        }
    }
}

/// One side of one relayed m= line, as signalling knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Leg {
    /// The relay's ports that face this side: it sends here, and gets its media from here.
    pub ports: PortPair,
    /// RTP with RTCP, or other datagrams. [`MediaTransport::Other`] does not occur.
    pub transport: MediaTransport,
    /// Where this side's description says that it receives. `None` before there is a description, for a host name, and for
    /// the address 0.0.0.0.
    pub rtp: Option<SocketAddr>,
    /// The same for RTCP: a=rtcp, else port + 1; `None` also with rtcp-mux.
    pub rtcp: Option<SocketAddr>,
    /// This side has described itself. Before that its early media are passed on, but nothing is sent to it.
    pub described: bool,
    /// Where this side's signalling comes from, as the socket saw it.
    pub signalling: IpAddr,
    /// False for an m= line that is disabled or rejected (port 0): nothing is accepted.
    pub enabled: bool,
    /// This side, or the other towards it, has the line on hold: silence is no fault.
    pub held: bool,
    /// RTP and RTCP share the RTP port (RFC 5761): both sides have agreed to it.
    pub rtcp_mux: bool,
    /// What came in from this side is sent back to it.
    pub echo: bool,
    /// What RTP packets may carry.
    pub formats: Formats,
}

impl Leg {
    /// Whether packets to the described address can arrive: it is a public one, or this side signals from it, or the relay
    /// itself sits in a private network. What a phone behind NAT writes about itself cannot be reached; the relay then
    /// waits until it has heard from it. Nobody from outside can name the relay's own host by its loopback address.
    pub fn is_reachable(&self) -> bool {
        self.rtp.is_some_and(|described| {
            let ip = described.ip();
            ip == self.signalling
                || address::is_global(ip)
                || (!address::is_global(self.ports.rtp.ip()) && address::is_unicast(ip) && !ip.is_loopback())
        })
    }
}

/// The payload types that were negotiated, and their clock rates.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Formats {
    /// Bit n: payload type n.
    types: u128,
    /// Those that do not count in [`DEFAULT_CLOCK_RATE`].
    rates: SmallVec<[(u8, u32); 4]>,
}

impl Formats {
    /// Adds a payload type (0 to 127; others are ignored), unless it is known already.
    pub fn insert(&mut self, payload_type: u8, clock_rate: u32) {
        if payload_type > 127 || self.types & (1 << payload_type) != 0 {
            return;
        }
        self.types |= 1 << payload_type;
        if clock_rate != DEFAULT_CLOCK_RATE && clock_rate != 0 {
            self.rates.push((payload_type, clock_rate));
        }
    }

    /// Adds all of `other`.
    pub fn extend(&mut self, other: &Formats) {
        for &(payload_type, clock_rate) in &other.rates {
            self.insert(payload_type, clock_rate);
        }
        self.types |= other.types;
    }

    /// Whether a payload type was negotiated. With none negotiated at all, each is welcome.
    pub fn contains(&self, payload_type: u8) -> bool {
        self.types == 0 || (payload_type < 128 && self.types & (1 << payload_type) != 0)
    }

    /// Timestamp units per second.
    pub fn clock_rate(&self, payload_type: u8) -> u32 {
        let own = self.rates.iter().find(|&&(known, _)| known == payload_type);
        own.map_or(DEFAULT_CLOCK_RATE, |&(_, clock_rate)| clock_rate)
    }
}

/// A call, as the signalling side numbers them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct SessionId(pub u64);

impl SessionId {
    /// The session of a user agent inside the service whose dialog has that tag: 64 bits in hexadecimal that cannot be guessed.
    /// The switch's own sessions never have the highest bit.
    pub fn local(tag: &str) -> Self {
        SessionId(u64::from_str_radix(tag, 16).unwrap_or(0) | LOCAL)
    }

    /// It is a session of a user agent inside the service.
    pub fn is_local(self) -> bool {
        self.0 & LOCAL != 0
    }
}

const LOCAL: u64 = 1 << 63;

/// One m= line of a call.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct StreamId {
    /// The call.
    pub session: SessionId,
    /// The m= line, counted from 0; for a user agent inside the service always 0: it has one stream.
    pub line: u8,
}

/// A destination that the call is forked to, numbered in the order of [`crate::negotiation::Session::add_branch`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Branch(pub u16);

/// Who sits at a leg.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Side {
    /// Who sent the first INVITE. One leg, whatever the forks.
    Caller,
    /// A branch.
    Callee(Branch),
}

/// The port of a pair.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Component {
    /// The even port.
    Rtp,
    /// The port above it.
    Rtcp,
}

/// A pair of ports at the relay, as its pool numbers them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct PortId(pub u32);

/// A pair of ports at the relay: RTP on an even port, RTCP one above (RFC 3550 section 11).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PortPair {
    /// The pool's number.
    pub id: PortId,
    /// The address that is written into descriptions: what the outside sees, with the even port.
    pub rtp: SocketAddr,
}

impl PortPair {
    /// The advertised address of RTCP.
    pub fn rtcp(&self) -> SocketAddr {
        SocketAddr::new(self.rtp.ip(), self.rtp.port().saturating_add(1))
    }
}

/// The family of an address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum AddressFamily {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

impl AddressFamily {
    /// The family of `address`.
    pub fn of(address: IpAddr) -> Self {
        if address.to_canonical().is_ipv4() {
            Self::V4
        } else {
            Self::V6
        }
    }
}

/// Where relay ports come from. A released pair rests for a while before it is given out again, so that late packets of a
/// finished call do not reach the next one, and so that a [`Command::Close`] on its way is carried out in time: that is the
/// pool's work.
pub trait RelayPorts {
    /// A free pair, or `None` when there is none in this family.
    fn allocate(&mut self, family: AddressFamily) -> Option<PortPair>;

    /// Gives a pair back.
    fn release(&mut self, id: PortId);
}

/// The clock of nearly all telephony codecs, G.722 included (RFC 3551 section 4.5.2).
pub const DEFAULT_CLOCK_RATE: u32 = 8_000;
