//! What came in from one side: packets, loss, jitter (RFC 3550 sections 6.4.1, A.1, A.3, A.8), and what was refused and why.

use std::time::Instant;

use crate::rtp::Rtp;

/// Counters of what one side sent. `lost`, `late`, `duplicates` and jitter are of RTP only.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Accepted media packets (RTP, or datagrams of another kind).
    pub packets: u64,
    /// Their bytes, with RTP headers and without UDP's.
    pub bytes: u64,
    /// Accepted RTCP packets.
    pub rtcp_packets: u64,
    /// Expected less received packets, by sequence numbers.
    pub lost: u64,
    /// Packets that arrived behind one with a higher sequence number.
    pub late: u64,
    /// Packets that arrived twice.
    pub duplicates: u64,
    /// Interarrival jitter in microseconds.
    pub jitter_us: u32,
    /// The highest jitter so far, in microseconds.
    pub max_jitter_us: u32,
    /// How often the synchronisation source changed.
    pub source_changes: u32,
    /// The payload type of the last RTP packet.
    pub payload_type: Option<u8>,
    /// When the first accepted packet came.
    pub first: Option<Instant>,
    /// When the last accepted packet came.
    pub last: Option<Instant>,
    /// What was refused.
    pub dropped: Dropped,
}

/// Why a packet is not passed on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DropReason {
    /// It comes from an address that signalling gives no reason to trust: somebody else's packet.
    #[error("the source does not match the signalling")]
    ImplausibleSource,
    /// The address could be right, but this side's media come from another source.
    #[error("this side's media come from another source")]
    SourceLocked,
    /// A plausible new source that has not sent enough to be believed.
    #[error("the new source has not proven itself yet")]
    Unconfirmed,
    /// Neither RTP nor RTCP, DTLS or ZRTP; or a header that does not fit.
    #[error("not a media packet")]
    NotMedia,
    /// STUN: a keepalive or a check of ICE, which the relay has taken out of the descriptions.
    #[error("a STUN packet")]
    Stun,
    /// The first packet of a source carries a payload type that nobody negotiated.
    #[error("the payload type was not negotiated")]
    PayloadType,
    /// The m= line is disabled, or the leg is not open.
    #[error("the stream is disabled")]
    Disabled,
    /// More packets within a second than [`super::StreamConfig::max_rate`].
    #[error("too many packets per second")]
    TooFast,
    /// Early media of a branch that the caller does not listen to.
    #[error("the caller listens to another branch")]
    NotSelected,
    /// Nobody to send to: no branch yet, or the other side's address is not known yet.
    #[error("the other side's address is not known yet")]
    NoDestination,
}

/// Refused packets by reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Dropped([u32; REASONS.len()]);

impl Dropped {
    /// Those refused for `reason`.
    pub fn get(&self, reason: DropReason) -> u32 {
        self.0[slot(reason)]
    }

    /// All of them, by reason.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u32)> + '_ {
        REASONS.iter().map(|&reason| (reason, self.get(reason)))
    }

    /// The sum.
    pub fn total(&self) -> u64 {
        self.0.iter().map(|&count| u64::from(count)).sum()
    }

    pub(super) fn count(&mut self, reason: DropReason) {
        let count = &mut self.0[slot(reason)];
        *count = count.saturating_add(1);
    }
}

/// Follows one side's RTP.
#[derive(Clone, Debug, Default)]
pub(super) struct Meter {
    pub(super) counters: Counters,
    run: Option<Run>,
    /// Loss of earlier runs: a new source or a restart begins a new run.
    lost_before: u64,
}

/// Packets of one synchronisation source without a restart in between.
#[derive(Clone, Debug)]
struct Run {
    ssrc: u32,
    /// The first and the highest sequence number, extended by the count of wraps.
    base: u64,
    highest: u64,
    /// Bit n: `highest - n` has come.
    seen: u128,
    received: u64,
    /// The next number of a run that may be about to replace this one (RFC 3550 A.1 `bad_seq`), and its source.
    suspect: Option<(u32, u16)>,
    /// For jitter: arrival and timestamp of the last packet that moved on.
    arrival: Instant,
    timestamp: u32,
    clock_rate: u32,
    /// In sixteenths of timestamp units.
    jitter: u32,
}

impl Meter {
    /// An accepted packet that is not RTP.
    pub(super) fn count_datagram(&mut self, now: Instant, length: usize) {
        self.counters.packets += 1;
        self.counters.bytes += length as u64;
        self.touch(now);
    }

    pub(super) fn count_rtcp(&mut self, now: Instant) {
        self.counters.rtcp_packets += 1;
        self.touch(now);
    }

    pub(super) fn count_rtp(&mut self, now: Instant, rtp: &Rtp<'_>, length: usize, clock_rate: u32) {
        self.count_datagram(now, length);
        self.counters.payload_type = Some(rtp.payload_type());
        let (ssrc, sequence) = (rtp.ssrc(), rtp.sequence());
        let Some(run) = &mut self.run else {
            self.run = Some(Run::new(now, rtp, clock_rate));
            return;
        };
        let ahead = sequence.wrapping_sub(run.highest as u16);
        let same = run.ssrc == ssrc;
        if same && (1..MAX_DROPOUT).contains(&ahead) {
            run.advance(u64::from(ahead));
            run.measure_jitter(now, rtp, clock_rate);
            run.suspect = None;
        } else if same && ahead.wrapping_neg() <= MAX_MISORDER {
            match run.arrived_behind(u64::from(ahead.wrapping_neg())) {
                Behind::Late => self.counters.late += 1,
                Behind::Duplicate => self.counters.duplicates += 1,
                Behind::BeforeFirst => {}
            }
        } else if run.suspect == Some((ssrc, sequence)) {
            // Two in order: it is no stray, the sender has begun anew.
            self.counters.source_changes += u32::from(!same);
            self.lost_before += run.lost();
            self.run = Some(Run::new(now, rtp, clock_rate));
        } else {
            run.suspect = Some((ssrc, sequence.wrapping_add(1)));
        }
        if let Some(run) = &self.run {
            self.counters.lost = self.lost_before + run.lost();
            self.counters.jitter_us = run.jitter_us();
            self.counters.max_jitter_us = self.counters.max_jitter_us.max(self.counters.jitter_us);
        }
    }

    fn touch(&mut self, now: Instant) {
        self.counters.first.get_or_insert(now);
        self.counters.last = Some(now);
    }
}

enum Behind {
    Late,
    Duplicate,
    BeforeFirst,
}

impl Run {
    fn new(now: Instant, rtp: &Rtp<'_>, clock_rate: u32) -> Self {
        let sequence = u64::from(rtp.sequence());
        Run {
            ssrc: rtp.ssrc(),
            base: sequence,
            highest: sequence,
            seen: 1,
            received: 1,
            suspect: None,
            arrival: now,
            timestamp: rtp.timestamp(),
            clock_rate,
            jitter: 0,
        }
    }

    fn lost(&self) -> u64 {
        (self.highest - self.base + 1).saturating_sub(self.received)
    }

    fn advance(&mut self, by: u64) {
        self.highest += by;
        self.received += 1;
        self.seen = if by < 128 { self.seen << by } else { 0 } | 1;
    }

    fn arrived_behind(&mut self, by: u64) -> Behind {
        // MAX_MISORDER is below the width of `seen`.
        let bit = 1 << by;
        if self.seen & bit != 0 {
            return Behind::Duplicate;
        }
        if self.highest - self.base < by {
            return Behind::BeforeFirst;
        }
        self.seen |= bit;
        self.received += 1;
        Behind::Late
    }

    /// RFC 3550 A.8. Packets that repeat a timestamp (the parts of a video frame, the repeats of a telephone-event) say
    /// nothing about the network's timing and are left out.
    fn measure_jitter(&mut self, now: Instant, rtp: &Rtp<'_>, clock_rate: u32) {
        if rtp.timestamp() == self.timestamp && clock_rate == self.clock_rate {
            return;
        }
        let elapsed = now.saturating_duration_since(self.arrival).as_nanos();
        let elapsed = (elapsed * u128::from(clock_rate) / 1_000_000_000) as u32;
        let difference = elapsed.wrapping_sub(rtp.timestamp().wrapping_sub(self.timestamp)) as i32;
        self.arrival = now;
        self.timestamp = rtp.timestamp();
        if clock_rate != self.clock_rate {
            self.clock_rate = clock_rate;
            self.jitter = 0;
            return;
        }
        // A jump of seconds is a new talk spurt with its own idea of time, not jitter.
        if difference.unsigned_abs() > clock_rate.saturating_mul(MAX_JITTER_SECONDS) {
            return;
        }
        self.jitter = self.jitter.wrapping_add(difference.unsigned_abs()) - ((self.jitter + 8) >> 4);
    }

    fn jitter_us(&self) -> u32 {
        (u64::from(self.jitter >> 4) * 1_000_000 / u64::from(self.clock_rate.max(1))) as u32
    }
}

fn slot(reason: DropReason) -> usize {
    match reason {
        DropReason::ImplausibleSource => 0,
        DropReason::SourceLocked => 1,
        DropReason::Unconfirmed => 2,
        DropReason::NotMedia => 3,
        DropReason::Stun => 4,
        DropReason::PayloadType => 5,
        DropReason::Disabled => 6,
        DropReason::NotSelected => 7,
        DropReason::NoDestination => 8,
        DropReason::TooFast => 9,
    }
}

const REASONS: [DropReason; 10] = [
    DropReason::ImplausibleSource,
    DropReason::SourceLocked,
    DropReason::Unconfirmed,
    DropReason::NotMedia,
    DropReason::Stun,
    DropReason::PayloadType,
    DropReason::Disabled,
    DropReason::NotSelected,
    DropReason::NoDestination,
    DropReason::TooFast,
];

/// A gap of this many packets is a restart (RFC 3550 A.1).
const MAX_DROPOUT: u16 = 3_000;
/// A packet this far behind is late, further behind it is a restart (RFC 3550 A.1).
const MAX_MISORDER: u16 = 100;
/// A difference above this many seconds is a break of the sender's clock.
const MAX_JITTER_SECONDS: u32 = 3;

#[cfg(test)]
mod tests;
