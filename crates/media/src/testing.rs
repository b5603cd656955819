//! What the tests of this crate share: a pool of ports that keeps books, a clock, packets.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use crate::command::{AddressFamily, PortId, PortPair, RelayPorts};

/// Hands out 203.0.113.10 and 2001:db8::10, from port 30000 on.
#[derive(Default)]
pub(crate) struct Pool {
    next: u32,
    pub(crate) taken: BTreeSet<PortId>,
    /// No more than this many pairs at a time, if given.
    pub(crate) limit: Option<usize>,
    pub(crate) without_ipv6: bool,
}

impl RelayPorts for Pool {
    fn allocate(&mut self, family: AddressFamily) -> Option<PortPair> {
        if self.limit.is_some_and(|limit| self.taken.len() >= limit) {
            return None;
        }
        let ip = match family {
            AddressFamily::V4 => "203.0.113.10",
            AddressFamily::V6 if self.without_ipv6 => return None,
            AddressFamily::V6 => "2001:db8::10",
        };
        let id = PortId(self.next);
        let port = 30_000 + 2 * u16::try_from(self.next % 10_000).unwrap();
        self.next += 1;
        self.taken.insert(id);
        Some(PortPair {
            id,
            rtp: SocketAddr::new(self::ip(ip), port),
        })
    }

    fn release(&mut self, id: PortId) {
        assert!(self.taken.remove(&id), "{id:?} is released twice");
    }
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Some moment to count from.
#[allow(clippy::disallowed_methods)]
pub(crate) fn start() -> Instant {
    Instant::now()
}

/// 20 ms of PCMA.
pub(crate) fn rtp(ssrc: u32, sequence: u16) -> Vec<u8> {
    rtp_of(8, ssrc, sequence, u32::from(sequence).wrapping_mul(160))
}

pub(crate) fn rtp_of(payload_type: u8, ssrc: u32, sequence: u16, timestamp: u32) -> Vec<u8> {
    let mut packet = vec![0x80, payload_type];
    packet.extend(sequence.to_be_bytes());
    packet.extend(timestamp.to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    packet.resize(172, 0xd5);
    packet
}

/// An empty receiver report.
pub(crate) fn rtcp(ssrc: u32) -> Vec<u8> {
    let mut packet = vec![0x80, 201, 0, 1];
    packet.extend(ssrc.to_be_bytes());
    packet
}
