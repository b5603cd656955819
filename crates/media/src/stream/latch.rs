//! Secure latching: from which source one side's packets are accepted, and where packets to it go.
//!
//! A phone behind NAT cannot say where its packets will come from, so a relay has to learn it. A relay that believes whoever
//! sends first lets strangers talk into a call (inject) and sends them its audio (bleed): CVE-2025-53399, CVE-2017-14114.
//! Here a source is looked at only where signalling makes it plausible ([`Plausibility`]), in every state:
//!
//! 1. *Nothing latched*: the first valid packet of a plausible source latches and is passed on, so that no first word is lost.
//! 2. *Latched, open*: the source is believed, and displaced only by the very address of the description, or by another
//!    plausible one that sends [`CONFIRMATIONS`] consistent packets while this one is silent.
//! 3. *Locked*, after as many consistent packets of its own: only 4 displaces it.
//! 4. In 2 and 3, a plausible source that continues the same synchronisation source and sequence after a silence takes over at
//!    once: a router has changed its mapping.
//!
//! New signalling (re-INVITE, UPDATE, an answer) takes a locked source back to state 2; one that changes the described address
//! back to state 1, with the old source passed on for a moment ([`GRACE`]), so that its last packets do not latch again.
//!
//! What remains: a stranger who shares the phone's public address (the same carrier-grade NAT) and guesses the relay's port
//! before the phone has sent five packets. Only authenticated media (SRTP) closes that.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::counters::DropReason;

/// How well a source fits what signalling has said.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Plausibility {
    /// Not at all.
    None,
    /// The address of the description or of the signalling, with another port.
    Address,
    /// Address and port of the description.
    Exact,
}

/// What a packet shows about who sent it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Evidence {
    Rtp {
        ssrc: u32,
        sequence: u16,
        /// The payload type was negotiated.
        negotiated: bool,
    },
    Rtcp {
        ssrc: u32,
    },
    /// DTLS or ZRTP, which precede RTP.
    Handshake,
    /// A datagram of a stream that is not RTP.
    Datagram,
}

/// What an accepted packet did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Accepted {
    /// It came from where it was expected.
    Known,
    /// Its source is the latched one from now on.
    Latched,
}

/// The learned source of one component of one leg.
#[derive(Clone, Debug, Default)]
pub(super) struct Latch {
    current: Option<Source>,
    candidate: Option<Source>,
    previous: Option<Previous>,
}

#[derive(Clone, Debug)]
struct Source {
    address: SocketAddr,
    exact: bool,
    ssrc: Option<u32>,
    sequence: u16,
    /// Consistent packets since the last signalling.
    run: u8,
    locked: bool,
    last: Instant,
}

#[derive(Clone, Debug)]
struct Previous {
    address: SocketAddr,
    until: Instant,
}

impl Latch {
    /// Where to send before anything else is known to be better: the latched source.
    pub(super) fn source(&self) -> Option<SocketAddr> {
        self.current.as_ref().map(|source| source.address)
    }

    /// The source before the description changed: where to send to when the new description cannot be reached.
    pub(super) fn previous(&self) -> Option<SocketAddr> {
        self.previous.as_ref().map(|previous| previous.address)
    }

    /// Judges a packet. `plausibility` is asked only for a source that is not the latched one.
    pub(super) fn accept(
        &mut self,
        now: Instant,
        source: SocketAddr,
        evidence: Evidence,
        plausibility: impl FnOnce() -> Plausibility,
    ) -> Result<Accepted, DropReason> {
        if let Some(current) = &mut self.current
            && current.address == source
        {
            current.note(now, evidence);
            self.candidate = None;
            return Ok(Accepted::Known);
        }
        let plausibility = plausibility();
        if plausibility == Plausibility::None {
            return Err(DropReason::ImplausibleSource);
        }
        let exact = plausibility == Plausibility::Exact;
        if !exact
            && matches!(
                evidence,
                Evidence::Rtp {
                    negotiated: false,
                    ..
                }
            )
        {
            return Err(DropReason::PayloadType);
        }
        let Some(current) = &mut self.current else {
            if self
                .previous
                .as_ref()
                .is_some_and(|previous| previous.address == source && now < previous.until)
            {
                return Ok(Accepted::Known);
            }
            self.take(Source::new(now, source, exact, evidence));
            return Ok(Accepted::Latched);
        };
        if current.is_continued_by(now, evidence) {
            current.address = source;
            current.exact = exact;
            current.note(now, evidence);
            self.candidate = None;
            return Ok(Accepted::Latched);
        }
        if current.locked {
            return Err(DropReason::SourceLocked);
        }
        if exact && !current.exact {
            self.take(Source::new(now, source, exact, evidence));
            return Ok(Accepted::Latched);
        }
        let candidate = match &mut self.candidate {
            Some(candidate) if candidate.address == source => {
                candidate.note(now, evidence);
                candidate
            }
            slot => slot.insert(Source::new(now, source, exact, evidence)),
        };
        if candidate.locked {
            let candidate = candidate.clone();
            self.take(candidate);
            return Ok(Accepted::Latched);
        }
        Err(DropReason::Unconfirmed)
    }

    /// New signalling has come. `moved`: the described address, or the kind of the stream, is another one.
    /// `address_known` is false for hold by 0.0.0.0, which says nothing about where packets come from.
    pub(super) fn resignalled(
        &mut self,
        now: Instant,
        moved: bool,
        address_known: bool,
        plausibility: impl Fn(SocketAddr) -> Plausibility,
    ) {
        self.candidate = None;
        if self
            .previous
            .as_ref()
            .is_some_and(|previous| plausibility(previous.address) == Plausibility::None)
        {
            self.previous = None;
        }
        let Some(current) = &mut self.current else { return };
        match plausibility(current.address) {
            Plausibility::None if address_known => self.current = None,
            Plausibility::Address if moved => {
                self.previous = Some(Previous {
                    address: current.address,
                    until: now + GRACE,
                });
                self.current = None;
            }
            plausibility => {
                current.exact = plausibility == Plausibility::Exact;
                current.unlock();
            }
        }
    }

    /// Its sibling has moved: this one may follow.
    pub(super) fn unlock(&mut self) {
        if let Some(current) = &mut self.current {
            current.unlock();
        }
    }

    fn take(&mut self, source: Source) {
        self.current = Some(source);
        self.candidate = None;
        self.previous = None;
    }
}

impl Source {
    fn new(now: Instant, address: SocketAddr, exact: bool, evidence: Evidence) -> Self {
        let mut source = Source {
            address,
            exact,
            ssrc: None,
            sequence: 0,
            run: 0,
            locked: false,
            last: now,
        };
        source.note(now, evidence);
        source
    }

    fn unlock(&mut self) {
        self.locked = false;
        self.run = 0;
    }

    fn note(&mut self, now: Instant, evidence: Evidence) {
        self.last = now;
        match evidence {
            Evidence::Rtp { ssrc, sequence, .. } => {
                let step = sequence.wrapping_sub(self.sequence);
                if self.ssrc != Some(ssrc) {
                    (self.ssrc, self.sequence, self.run) = (Some(ssrc), sequence, 1);
                } else if (1..=MAX_STEP).contains(&step) {
                    self.sequence = sequence;
                    self.run = self.run.saturating_add(1);
                } else if step.wrapping_neg() > MAX_STEP {
                    (self.sequence, self.run) = (sequence, 1);
                }
            }
            Evidence::Rtcp { ssrc } => {
                // With rtcp-mux the RTP stream is the witness; its SSRC is not RTCP's to change.
                if self.ssrc.is_none_or(|known| known == ssrc) {
                    self.ssrc = Some(ssrc);
                    self.run = self.run.saturating_add(1);
                }
            }
            Evidence::Datagram => self.run = self.run.saturating_add(1),
            Evidence::Handshake => {}
        }
        self.locked |= self.run >= CONFIRMATIONS;
    }

    /// Whether a packet from elsewhere carries on where this source fell silent.
    fn is_continued_by(&self, now: Instant, evidence: Evidence) -> bool {
        if now.saturating_duration_since(self.last) < RELATCH_SILENCE {
            return false;
        }
        match evidence {
            Evidence::Rtp { ssrc, sequence, .. } => {
                let step = sequence.wrapping_sub(self.sequence);
                self.ssrc == Some(ssrc) && (1..=MAX_RELATCH_STEP).contains(&step)
            }
            Evidence::Rtcp { ssrc } => self.ssrc == Some(ssrc),
            Evidence::Handshake | Evidence::Datagram => false,
        }
    }
}

/// So many packets in a row, of one synchronisation source and with rising sequence numbers, lock a source: 100 ms of audio.
pub const CONFIRMATIONS: u8 = 5;
/// A locked source that was heard within this time is not displaced. Ten lost packets of 20 ms are longer than a burst, and
/// shorter than what a caller takes for the end of the call.
pub const RELATCH_SILENCE: Duration = Duration::from_millis(200);
/// After the described address has changed, packets from the old source are passed on for this long without latching again.
pub const GRACE: Duration = Duration::from_secs(2);
/// The largest step between two consistent packets of one source.
const MAX_STEP: u16 = 50;
/// The largest step by which another source may continue a sequence: a minute of 20 ms packets (as RFC 3550's MAX_DROPOUT).
const MAX_RELATCH_STEP: u16 = 3_000;
