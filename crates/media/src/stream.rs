//! The packet side of one relayed m= line: may this source send here, what is counted, and where does the packet go?
//!
//! A [`Stream`] has a leg for the caller and one for each branch, each with its own pair of ports at the relay. The media
//! worker finds stream and side by the port a datagram arrived on and calls, in this order: [`Stream::apply`] for each
//! [`Command`], [`Stream::handle_packet`] for each datagram (no allocation), [`Stream::poll_report`] after either,
//! [`Stream::handle_timeout`] when [`Stream::poll_timeout`] is due. It sends what [`Action::Forward`] says, from the socket
//! named there. The bytes stay as they are, but for an echo's synchronisation source.
//!
//! Sources are judged by `latch` (what that defends against is written there). A packet goes to the latched source of
//! the other side; before there is one to the address in its description, if packets can arrive there
//! ([`Leg::is_reachable`]); otherwise nowhere. It never goes to an address that signalling does not vouch for.
//!
//! What it does not do: no jitter buffer, no change of payloads, sequence numbers or SSRCs, no decryption. DTLS and ZRTP pass.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use crate::command::{Branch, Command, Component, Leg, PortId, Report, Side, StreamId};
use crate::rtp;

pub use counters::{Counters, DropReason, Dropped};
use latch::Evidence;
pub use latch::{CONFIRMATIONS, GRACE, RELATCH_SILENCE};
use leg::LegState;

mod counters;
mod latch;
mod leg;

/// Times and policies of the packet side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamConfig {
    /// No packet from any side for this long, and the stream is reported dead.
    pub silence: Duration,
    /// The same while the line is on hold.
    pub hold_silence: Duration,
    /// Also believe sources in the same IPv4 /24 as the signalling: some carrier-grade NATs give a subscriber's media another
    /// address of their pool than the signalling. Off by default, because it lets 255 neighbours into the call.
    pub nat_pool: bool,
    /// So many packets per second are accepted from a side. It bounds what a call can cost whose two ends name relay ports of
    /// other calls as their own addresses, so that packets go round in circles.
    pub max_rate: u32,
}

impl Default for StreamConfig {
    fn default() -> Self {
        StreamConfig {
            silence: SILENCE,
            hold_silence: HOLD_SILENCE,
            nat_pool: false,
            max_rate: MAX_RATE,
        }
    }
}

/// What to do with a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Send it on.
    Forward {
        /// Who gets it.
        side: Side,
        /// From which pair of ports.
        port: PortId,
        /// From which port of the pair.
        component: Component,
        /// Where to.
        destination: SocketAddr,
    },
    /// Accepted, but nobody else gets it: what is not RTP at an echo.
    Absorb,
    /// Forget it.
    Drop(DropReason),
}

/// Counters of both directions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StreamCounters {
    /// What the caller sent.
    pub caller: Counters,
    /// What the branch sent that the caller listens to; of an echo what it sent back.
    pub callee: Counters,
}

/// One relayed m= line.
#[derive(Clone, Debug)]
pub struct Stream {
    id: StreamId,
    config: StreamConfig,
    legs: SmallVec<[LegState; 2]>,
    selected: Option<Branch>,
    confirmed: bool,
    closed: bool,
    /// When silence began: the last accepted packet, or the last signalling.
    alive: Instant,
    silent: bool,
    report: Option<Report>,
}

impl Stream {
    /// A stream without legs; commands add them.
    pub fn new(now: Instant, id: StreamId, config: StreamConfig) -> Self {
        Stream {
            id,
            config,
            legs: SmallVec::new(),
            selected: None,
            confirmed: false,
            closed: false,
            alive: now,
            silent: false,
            report: None,
        }
    }

    /// Carries out a command. Those of another stream are ignored.
    pub fn apply(&mut self, now: Instant, command: Command) {
        if command.stream() != self.id || self.closed {
            return;
        }
        match command {
            Command::Open { side, leg, .. } | Command::Update { side, leg, .. } => {
                self.alive = now;
                match self.legs.iter_mut().find(|state| state.side == side) {
                    Some(state) => state.update(now, leg, self.config.nat_pool),
                    None => self.legs.push(LegState::new(side, leg)),
                }
            }
            Command::Select { branch, .. } => self.selected = Some(branch),
            Command::Confirm { .. } => {
                self.alive = now;
                self.confirmed = true;
            }
            Command::CloseLeg { side, .. } => {
                self.legs.retain(|state| state.side != side);
                if self.selected.is_some_and(|branch| side == Side::Callee(branch)) {
                    self.selected = None;
                }
            }
            Command::Close { .. } => {
                self.closed = true;
                self.report = Some(Report::Ended {
                    stream: self.id,
                    counters: self.counters(),
                });
                self.legs.clear();
            }
            Command::Snapshot { .. } => {
                self.report = Some(Report::Counters {
                    stream: self.id,
                    counters: self.counters(),
                });
            }
        }
    }

    /// Judges and counts a datagram that arrived at the port `component` of the leg of `side`. Addresses are canonical: IPv4
    /// is not written as mapped IPv6.
    pub fn handle_packet(
        &mut self,
        now: Instant,
        side: Side,
        component: Component,
        source: SocketAddr,
        packet: &mut [u8],
    ) -> Action {
        let Some(index) = self.legs.iter().position(|state| state.side == side) else {
            return Action::Drop(DropReason::Disabled);
        };
        let accepted = self.legs[index].accept(now, component, source, packet, &self.config);
        let routed = accepted.and_then(|evidence| {
            self.alive = now;
            if self.silent {
                self.silent = false;
                self.report.get_or_insert(Report::Resumed { stream: self.id });
            }
            self.route(index, component, evidence)
        });
        let leg = &mut self.legs[index];
        match routed {
            Ok(action) => {
                if leg.leg.echo {
                    // A phone that hears its own SSRC would take it for a loop (RFC 3550 section 8.2).
                    rtp::complement_ssrc(packet);
                }
                action
            }
            Err(reason) => {
                leg.meter.counters.dropped.count(reason);
                Action::Drop(reason)
            }
        }
    }

    /// What the packet side has to say since the last call.
    pub fn poll_report(&mut self) -> Option<Report> {
        self.report.take()
    }

    /// When [`Stream::handle_timeout`] is to be called. It moves with each packet, so call it when an earlier value is due
    /// rather than after each packet.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let counts =
            self.confirmed && !self.closed && !self.silent && self.legs.iter().any(|state| state.leg.enabled);
        counts.then(|| self.alive + self.patience())
    }

    /// Reports silence, if it is time.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_some_and(|at| at <= now) {
            self.silent = true;
            self.report = Some(Report::Timeout {
                stream: self.id,
                silence: self.patience(),
            });
        }
    }

    /// The counters of now.
    pub fn counters(&self) -> StreamCounters {
        let of = |side| {
            self.legs
                .iter()
                .find(|state| state.side == side)
                .map(|state| state.meter.counters)
        };
        let callee = match self.selected {
            Some(branch) => of(Side::Callee(branch)),
            None => self
                .legs
                .iter()
                .find(|state| state.side != Side::Caller)
                .map(|state| state.meter.counters),
        };
        let caller = of(Side::Caller).unwrap_or_default();
        // An echo sends back what it gets.
        let echo = self.legs.iter().any(|state| state.leg.echo).then_some(caller);
        StreamCounters {
            caller,
            callee: callee.or(echo).unwrap_or_default(),
        }
    }

    /// Which m= line of which call.
    pub fn id(&self) -> StreamId {
        self.id
    }

    /// [`Command::Close`] was carried out: once the last report is taken the stream can be dropped.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// The legs that are open: whose ports lead here.
    pub fn legs(&self) -> impl Iterator<Item = (Side, &Leg)> {
        self.legs.iter().map(|state| (state.side, &state.leg))
    }

    /// The source that is latched for a side, as a helpdesk wants to see it.
    pub fn source(&self, side: Side, component: Component) -> Option<SocketAddr> {
        self.legs
            .iter()
            .find(|state| state.side == side)?
            .latch(component)
            .source()
    }

    /// Where a packet goes that was accepted from the leg at `from`.
    fn route(&mut self, from: usize, component: Component, evidence: Evidence) -> Result<Action, DropReason> {
        let from = &self.legs[from];
        let to = if from.leg.echo {
            if !matches!(evidence, Evidence::Rtp { .. } | Evidence::Datagram) {
                return Ok(Action::Absorb);
            }
            from
        } else {
            let side = match from.side {
                Side::Caller => Side::Callee(self.selected.ok_or(DropReason::NoDestination)?),
                Side::Callee(branch) if *self.selected.get_or_insert(branch) == branch => Side::Caller,
                Side::Callee(_) => return Err(DropReason::NotSelected),
            };
            self.legs
                .iter()
                .find(|state| state.side == side)
                .ok_or(DropReason::NoDestination)?
        };
        let is_rtcp = matches!(evidence, Evidence::Rtcp { .. });
        let component = match (is_rtcp, to.leg.rtcp_mux) {
            (true, false) => Component::Rtcp,
            (true, true) => Component::Rtp,
            (false, _) => component,
        };
        let destination = to.destination(component).ok_or(DropReason::NoDestination)?;
        Ok(Action::Forward {
            side: to.side,
            port: to.leg.ports.id,
            component,
            destination,
        })
    }

    fn patience(&self) -> Duration {
        match self.legs.iter().any(|state| state.leg.held) {
            true => self.config.hold_silence,
            false => self.config.silence,
        }
    }
}

/// Packets per second and side: four times a high-definition video.
pub const MAX_RATE: u32 = 3_000;
/// How long no packet may come before a stream is reported dead.
pub const SILENCE: Duration = Duration::from_secs(60);
/// The same for a line on hold.
pub const HOLD_SILENCE: Duration = Duration::from_secs(3_600);

#[cfg(test)]
mod tests;
