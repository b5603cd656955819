//! How long a relay thread sleeps between two polls.
//!
//! A packet that wakes a thread costs several times what it takes to relay it. A thread that naps after each poll finds
//! the packets of all calls that came in the meantime, and pays for one wake-up. The price is delay, at most [`NAP`]; so
//! it naps only when enough packets come to share a wake-up, and otherwise sleeps in the poller, where the first packet
//! wakes it at once and an idle thread costs nothing.
//!
//! On a virtual machine of two cores `examples/relay_loop.rs` finds 16, 9 and 11 µs per packet at 100, 300 and 500 calls
//! without naps and 11, 6 and 5 µs with them; at 20 calls a nap after every poll costs half as much again as none.
//! Reading several packets of one socket with `recvmmsg` gains nothing: there is one in 20 ms.

use std::time::{Duration, Instant};

/// Learns the rate of packets, and says when a nap pays.
#[derive(Clone, Debug)]
pub struct Pace {
    nap: Duration,
    /// Packets per nap, smoothed, times `ONE`.
    rate: u64,
    last: Option<Instant>,
}

impl Pace {
    /// A pace that naps for `nap` when it pays; zero never naps.
    pub fn new(nap: Duration) -> Self {
        Self {
            nap,
            rate: 0,
            last: None,
        }
    }

    /// To be asked after each poll: `handled` packets were dealt with until `now`. Sleep for what it says, then poll.
    pub fn nap(&mut self, handled: usize, now: Instant) -> Duration {
        let Some(last) = self.last.replace(now) else {
            return Duration::ZERO;
        };
        let nap = self.nap.as_nanos() as u64;
        let elapsed = u64::try_from(now.saturating_duration_since(last).as_nanos())
            .unwrap_or(u64::MAX)
            .max(1);
        let sample = (handled as u64).saturating_mul(ONE).saturating_mul(nap) / elapsed;
        // The longer it took, the more it says: a batch that ended a long sleep must not count like one after a nap.
        let weight =
            elapsed.saturating_mul(ONE) / (elapsed.saturating_add(nap.saturating_mul(MEMORY)).max(1));
        self.rate = (self.rate * (ONE - weight) + sample.min(RATE_LIMIT) * weight) / ONE;
        if self.rate >= WORTHWHILE {
            self.nap
        } else {
            Duration::ZERO
        }
    }
}

/// Default nap. With the kernel's timer slack (50 µs) and a busy core a packet waits less than the 1 ms that we allow.
pub const NAP: Duration = Duration::from_micros(500);

/// 1 in the fixed-point numbers here.
const ONE: u64 = 1 << 16;
/// Naps over which the rate is smoothed.
const MEMORY: u64 = 16;
/// Packets per nap from which on a nap saves more wake-ups than it makes.
const WORTHWHILE: u64 = 3 * ONE / 2;
const RATE_LIMIT: u64 = ONE * ONE;

#[cfg(test)]
mod tests {
    use super::*;

    /// Packets come evenly at `rate` per second for a second; returns the naps and the polls.
    fn simulate(pace: &mut Pace, rate: u64) -> (usize, usize) {
        let start = Instant::now();
        let gap = Duration::from_nanos(1_000_000_000 / rate);
        let (mut naps, mut polls, mut done) = (0, 0, 0u64);
        let mut now = start;
        while done < rate {
            // The poll ends with the next packet, and finds all that have come by then.
            now = now.max(start + gap * (done + 1) as u32);
            let came = (now - start).as_nanos() as u64 / gap.as_nanos() as u64;
            let nap = pace.nap((came - done) as usize, now);
            done = came;
            polls += 1;
            naps += usize::from(!nap.is_zero());
            now += nap;
        }
        (naps, polls)
    }

    #[test]
    fn a_few_calls_are_relayed_at_once() {
        let (naps, polls) = simulate(&mut Pace::new(NAP), 1_000);
        assert_eq!((naps, polls), (0, 1_000));
    }

    #[test]
    fn many_calls_share_their_wake_ups() {
        for rate in [10_000, 30_000, 50_000] {
            let (naps, polls) = simulate(&mut Pace::new(NAP), rate);
            assert!(polls < 2_500, "{polls} polls at {rate}/s");
            assert!(naps * 10 > polls * 9, "{naps} naps in {polls} polls at {rate}/s");
        }
    }

    #[test]
    fn the_pace_follows_the_load_down_again() {
        let mut pace = Pace::new(NAP);
        simulate(&mut pace, 50_000);
        simulate(&mut pace, 500);
        let (naps, _) = simulate(&mut pace, 500);
        assert_eq!(naps, 0);
    }

    #[test]
    fn a_pace_of_zero_never_naps() {
        let (naps, _) = simulate(&mut Pace::new(Duration::ZERO), 50_000);
        assert_eq!(naps, 0);
    }
}
