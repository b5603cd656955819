//! The timers, and the limits.

use std::time::Duration;

/// The timers of RFC 3261 section 17 table 4, and the limits.
#[derive(Clone, Debug)]
pub struct TransactionConfig {
    /// Round-trip time estimate; 500 ms. Timers A, B, E, F, G, H, J, L and M follow from it.
    pub t1: Duration,
    /// The longest interval between retransmissions of a non-INVITE request or of an INVITE response; 4 s.
    pub t2: Duration,
    /// How long a message stays in the network; 5 s. Timers I and K; timer D is 32 s or more whatever this is.
    pub t4: Duration,
    /// Timer C: how long a forwarded INVITE may ring without a further provisional response; more than 3 minutes (16.6). Then it
    /// is cancelled. 185 s.
    pub timer_c: Duration,
    /// After which time an INVITE is answered 100 if there is no other response; 200 ms (17.2.1).
    pub trying_after: Duration,
    /// How long an accepted INVITE may wait for its next response before it is answered 408. More than timer C and 64*T1
    /// together, so that a proxy's branches end first; 240 s.
    pub invite_patience: Duration,
    /// Which worker this is; the branches say so.
    pub worker: u8,
    /// How many transactions there may be at once; 1,000,000, which is 10,000 calls per second: each leaves three that wait for 32 s.
    /// At most 2^24.
    pub max_transactions: usize,
    /// How many bytes of messages they may keep together before no more begin; 256 MiB.
    pub max_kept_bytes: usize,
}

impl Default for TransactionConfig {
    fn default() -> Self {
        Self {
            t1: Duration::from_millis(500),
            t2: Duration::from_secs(4),
            t4: Duration::from_secs(5),
            timer_c: Duration::from_secs(185),
            trying_after: Duration::from_millis(200),
            invite_patience: Duration::from_secs(240),
            worker: 0,
            max_transactions: 1_000_000,
            max_kept_bytes: 256 << 20,
        }
    }
}

impl TransactionConfig {
    /// Timers B, F, H, J, L, M: 64*T1.
    pub(super) fn timeout(&self) -> Duration {
        self.t1 * 64
    }

    /// Timer D: at least 32 s (17.1.1.2), and as long as the server's timer H.
    pub(super) fn timer_d(&self) -> Duration {
        self.timeout().max(MIN_TIMER_D)
    }

    /// When the client's timer E reaches T2: from then on a 100 to a non-INVITE request is of use (RFC 4320 section 4.1).
    pub(super) fn non_invite_trying_after(&self) -> Duration {
        let (mut sum, mut interval) = (Duration::ZERO, self.t1);
        while interval < self.t2 && !interval.is_zero() {
            sum += interval;
            interval *= 2;
        }
        sum
    }
}

const MIN_TIMER_D: Duration = Duration::from_secs(32);
