//! One side of a stream: its latches and counters, and what they make of a packet.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::address;
use crate::command::{Component, Leg, Side};
use crate::rtp::{PacketKind, Rtcp, Rtp};
use crate::sdp::MediaTransport;

use super::StreamConfig;
use super::counters::{DropReason, Meter};
use super::latch::{Accepted, Evidence, GRACE, Latch, Plausibility};

#[derive(Clone, Debug)]
pub(super) struct LegState {
    pub(super) side: Side,
    pub(super) leg: Leg,
    pub(super) rtp: Latch,
    pub(super) rtcp: Latch,
    pub(super) meter: Meter,
    /// Packets accepted in the second that began then.
    second: Option<(Instant, u32)>,
    /// The line has just become one of datagrams: until then what looks like RTP is late RTP.
    late_rtp_until: Option<Instant>,
}

impl LegState {
    pub(super) fn new(side: Side, leg: Leg) -> Self {
        LegState {
            side,
            leg,
            rtp: Latch::default(),
            rtcp: Latch::default(),
            meter: Meter::default(),
            second: None,
            late_rtp_until: None,
        }
    }

    pub(super) fn latch(&self, component: Component) -> &Latch {
        match component {
            Component::Rtp => &self.rtp,
            Component::Rtcp => &self.rtcp,
        }
    }

    /// Latches and counts.
    pub(super) fn accept(
        &mut self,
        now: Instant,
        component: Component,
        source: SocketAddr,
        packet: &[u8],
        config: &StreamConfig,
    ) -> Result<Evidence, DropReason> {
        if !self.leg.enabled {
            return Err(DropReason::Disabled);
        }
        let mut header = None;
        let evidence = match (self.leg.transport, component) {
            (MediaTransport::Rtp, component) => match PacketKind::of(packet) {
                PacketKind::Rtp if component == Component::Rtp => {
                    let rtp = Rtp::parse(packet).ok_or(DropReason::NotMedia)?;
                    header = Some(rtp);
                    Evidence::Rtp {
                        ssrc: rtp.ssrc(),
                        sequence: rtp.sequence(),
                        negotiated: rtp.payload_type() == COMFORT_NOISE
                            || self.leg.formats.contains(rtp.payload_type()),
                    }
                }
                PacketKind::Rtcp => Evidence::Rtcp {
                    ssrc: Rtcp::parse(packet).ok_or(DropReason::NotMedia)?.ssrc(),
                },
                PacketKind::Dtls | PacketKind::Zrtp => Evidence::Handshake,
                PacketKind::Stun => return Err(DropReason::Stun),
                PacketKind::Rtp | PacketKind::Unknown => return Err(DropReason::NotMedia),
            },
            // Late RTP of the call that has just become a fax would reset the fax's peer.
            (_, Component::Rtp) if !packet.is_empty() && !self.is_late_rtp(now, packet) => Evidence::Datagram,
            (_, Component::Rtp | Component::Rtcp) => return Err(DropReason::NotMedia),
        };
        let leg = &self.leg;
        let latch = match component {
            Component::Rtp => &mut self.rtp,
            Component::Rtcp => &mut self.rtcp,
        };
        let accepted = latch.accept(now, source, evidence, || {
            plausibility(leg, component, source, config.nat_pool)
        })?;
        if !self.is_within_rate(now, config.max_rate) {
            return Err(DropReason::TooFast);
        }
        if accepted == Accepted::Latched && component == Component::Rtp {
            self.rtcp.unlock();
        }
        match (evidence, header) {
            (_, Some(rtp)) => {
                let clock_rate = self.leg.formats.clock_rate(rtp.payload_type());
                self.meter.count_rtp(now, &rtp, packet.len(), clock_rate);
            }
            (Evidence::Rtcp { .. }, None) => self.meter.count_rtcp(now),
            (_, None) => self.meter.count_datagram(now, packet.len()),
        }
        Ok(evidence)
    }

    fn is_within_rate(&mut self, now: Instant, max_rate: u32) -> bool {
        let (_, count) = match &mut self.second {
            Some(second) if now.saturating_duration_since(second.0) < Duration::from_secs(1) => second,
            second => second.insert((now, 0)),
        };
        *count = count.saturating_add(1);
        *count <= max_rate
    }

    fn is_late_rtp(&self, now: Instant, packet: &[u8]) -> bool {
        self.late_rtp_until.is_some_and(|until| now < until) && PacketKind::of(packet) == PacketKind::Rtp
    }

    /// New signalling of this side.
    pub(super) fn update(&mut self, now: Instant, leg: Leg, nat_pool: bool) {
        let changed_kind = leg.transport != self.leg.transport;
        let moved = |old: Option<SocketAddr>, new: Option<SocketAddr>| {
            changed_kind || (old.is_some() && new.is_some() && old != new)
        };
        let (rtp_moved, rtcp_moved) = (moved(self.leg.rtp, leg.rtp), moved(self.leg.rtcp, leg.rtcp));
        let address_known = leg.rtp.is_some();
        if changed_kind {
            self.late_rtp_until = (leg.transport == MediaTransport::Datagram).then(|| now + GRACE);
        }
        self.leg = leg;
        let leg = &self.leg;
        self.rtp.resignalled(now, rtp_moved, address_known, |source| {
            plausibility(leg, Component::Rtp, source, nat_pool)
        });
        self.rtcp.resignalled(now, rtcp_moved, address_known, |source| {
            plausibility(leg, Component::Rtcp, source, nat_pool)
        });
    }

    /// Where packets to this side go.
    pub(super) fn destination(&self, component: Component) -> Option<SocketAddr> {
        if !self.leg.described || !self.leg.enabled {
            return None;
        }
        let latch = self.latch(component);
        let described = match component {
            Component::Rtp => self.leg.rtp,
            Component::Rtcp => self.leg.rtcp,
        };
        latch
            .source()
            .or(described.filter(|_| self.leg.is_reachable()))
            .or(latch.previous())
    }
}

/// How well a source fits what signalling has said about a leg.
fn plausibility(leg: &Leg, component: Component, source: SocketAddr, nat_pool: bool) -> Plausibility {
    let described = match component {
        Component::Rtp => leg.rtp,
        Component::Rtcp => leg.rtcp,
    };
    if described == Some(source) {
        return Plausibility::Exact;
    }
    let ip = source.ip();
    let same_host = |address: Option<SocketAddr>| address.is_some_and(|address| address.ip() == ip);
    if ip == leg.signalling
        || same_host(leg.rtp)
        || same_host(leg.rtcp)
        || (nat_pool && address::same_slash_24(ip, leg.signalling))
    {
        return Plausibility::Address;
    }
    Plausibility::None
}

/// Sent in pauses with or without having been negotiated (RFC 3389 section 4).
const COMFORT_NOISE: u8 = 13;
