//! The media of one call of a telephone: its descriptions, and a stream of G.711 packets that are counted.

use std::fmt::Write;
use std::net::SocketAddr;

use media::rtp::Rtp;
use media::sdp::{Direction, Sdp};

use crate::random::Random;

/// What a call's media did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MediaCounts {
    /// RTP packets sent.
    pub sent: u64,
    /// RTP packets received.
    pub received: u64,
    /// Those among them from another synchronisation source than the first one heard.
    pub foreign: u64,
    /// The synchronisation source that was heard first.
    pub ssrc: Option<u32>,
    /// Where the last one came from.
    pub from: Option<SocketAddr>,
}

/// One audio line.
#[derive(Debug)]
pub(super) struct CallMedia {
    pub(super) local: SocketAddr,
    pub(super) counts: MediaCounts,
    /// Where the other side wants its packets, once it has said so.
    remote: Option<SocketAddr>,
    payload_type: u8,
    /// What the other side last said that it does.
    theirs: Direction,
    /// This side has put the other on hold.
    holding: bool,
    session: u32,
    version: u32,
    ssrc: u32,
    sequence: u16,
    timestamp: u32,
}

/// The other side's description cannot be used: 488.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotAcceptable;

impl CallMedia {
    pub(super) fn new(local: SocketAddr, random: &mut Random) -> Self {
        CallMedia {
            local,
            counts: MediaCounts::default(),
            remote: None,
            payload_type: PCMA,
            theirs: Direction::SendRecv,
            holding: false,
            session: random.number() as u32,
            version: 0,
            ssrc: random.number() as u32,
            sequence: random.number() as u16,
            timestamp: random.number() as u32,
        }
    }

    /// The synchronisation source of this side's packets.
    pub(super) fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// An offer; `hold` says what it is to bring about.
    pub(super) fn offer(&mut self, hold: bool) -> String {
        self.holding = hold;
        let direction = if hold { "sendonly" } else { "sendrecv" };
        self.describe(&[PCMA, PCMU], direction)
    }

    /// An offer that changes nothing.
    pub(super) fn same_offer(&mut self) -> String {
        self.offer(self.holding)
    }

    /// Takes back what an offer said that was refused.
    pub(super) fn set_holding(&mut self, hold: bool) {
        self.holding = hold;
    }

    /// Takes an offer and gives the answer.
    pub(super) fn answer(&mut self, offer: &[u8]) -> Result<String, NotAcceptable> {
        self.take(offer)?;
        let direction = match self.theirs {
            Direction::SendRecv if self.holding => "sendonly",
            Direction::SendRecv => "sendrecv",
            Direction::SendOnly => "recvonly",
            Direction::RecvOnly => "sendonly",
            Direction::Inactive => "inactive",
        };
        Ok(self.describe(&[self.payload_type], direction))
    }

    /// Takes the other side's description.
    pub(super) fn take(&mut self, description: &[u8]) -> Result<(), NotAcceptable> {
        let sdp = Sdp::parse(description).map_err(|_| NotAcceptable)?;
        let line = sdp
            .media()
            .first()
            .filter(|line| line.media == "audio" && line.port != 0);
        let line = line.ok_or(NotAcceptable)?;
        let known = |payload_type: &u8| [PCMA, PCMU].contains(payload_type);
        self.payload_type = line.payload_types().find(known).ok_or(NotAcceptable)?;
        self.theirs = sdp.direction_of(line);
        let address = sdp
            .connection_of(line)
            .and_then(|connection| connection.address)
            .filter(|ip| !ip.is_unspecified());
        self.remote = address.map(|ip| SocketAddr::new(ip, line.port));
        Ok(())
    }

    /// The next packet, and where it goes; `None` while nothing is to be sent.
    pub(super) fn next_packet(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        let hears = matches!(self.theirs, Direction::SendRecv | Direction::RecvOnly);
        let remote = self.remote.filter(|_| hears && !self.holding)?;
        let mut packet = Vec::with_capacity(12 + PAYLOAD);
        packet.extend([0x80, self.payload_type]);
        packet.extend(self.sequence.to_be_bytes());
        packet.extend(self.timestamp.to_be_bytes());
        packet.extend(self.ssrc.to_be_bytes());
        packet.resize(12 + PAYLOAD, SILENCE);
        self.sequence = self.sequence.wrapping_add(1);
        self.timestamp = self.timestamp.wrapping_add(PAYLOAD as u32);
        self.counts.sent += 1;
        Some((remote, packet))
    }

    /// Counts a packet that came in; true for the first.
    pub(super) fn received(&mut self, source: SocketAddr, packet: &[u8]) -> bool {
        let Some(rtp) = Rtp::parse(packet) else {
            return false;
        };
        let first = *self.counts.ssrc.get_or_insert(rtp.ssrc());
        self.counts.foreign += u64::from(first != rtp.ssrc());
        self.counts.received += 1;
        self.counts.from = Some(source);
        self.counts.received == 1
    }

    fn describe(&mut self, payload_types: &[u8], direction: &str) -> String {
        self.version += 1;
        let (ip, port) = (self.local.ip(), self.local.port());
        let family = if ip.is_ipv6() { "IP6" } else { "IP4" };
        let mut text = format!(
            "v=0\r\no=- {} {} IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\nm=audio {port} RTP/AVP",
            self.session, self.version
        );
        for payload_type in payload_types {
            // Writing into a String cannot fail.
            let _ = write!(text, " {payload_type}");
        }
        text.push_str("\r\n");
        for payload_type in payload_types {
            let name = if *payload_type == PCMA { "PCMA" } else { "PCMU" };
            let _ = write!(text, "a=rtpmap:{payload_type} {name}/8000\r\n");
        }
        let _ = write!(text, "a={direction}\r\n");
        text
    }
}

const PCMA: u8 = 8;
const PCMU: u8 = 0;
/// 20 ms at 8000 samples per second.
const PAYLOAD: usize = 160;
/// A sample of silence in A-law.
const SILENCE: u8 = 0xd5;
