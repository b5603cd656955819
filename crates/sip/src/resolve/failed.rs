//! Targets that failed lately (RFC 3263 section 4.3, RFC 3261 section 21.5.4).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Target;

/// Remembers which targets not to try first, for a time, in bounded memory.
#[derive(Clone, Debug)]
pub struct FailedTargets {
    until: BTreeMap<Target, Instant>,
    capacity: usize,
}

impl FailedTargets {
    /// Room for `capacity` targets.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            until: BTreeMap::new(),
            capacity: capacity.max(1),
        }
    }

    /// Notes that a target failed, for as long as its Retry-After says, otherwise for [`HOLD`].
    pub fn insert(&mut self, now: Instant, target: Target, retry_after: Option<Duration>) {
        let hold = retry_after.unwrap_or(HOLD).min(LONGEST_HOLD);
        if self.until.len() >= self.capacity && !self.until.contains_key(&target) {
            self.make_room(now);
        }
        self.until.insert(target, now + hold);
    }

    /// Whether to put the target off.
    #[must_use]
    pub fn contains(&self, now: Instant, target: &Target) -> bool {
        self.until.get(target).is_some_and(|until| *until > now)
    }

    /// It works again.
    pub fn remove(&mut self, target: &Target) {
        self.until.remove(target);
    }

    /// Drops what is over; if nothing is, what is over next.
    fn make_room(&mut self, now: Instant) {
        self.until.retain(|_, until| *until > now);
        while self.until.len() >= self.capacity {
            let Some(first) = self
                .until
                .iter()
                .min_by_key(|(_, until)| **until)
                .map(|(target, _)| *target)
            else {
                return;
            };
            self.until.remove(&first);
        }
    }
}

/// How long a target is put off that did not answer: about as long as timer B found out that it does not.
pub const HOLD: Duration = Duration::from_secs(32);
/// The longest Retry-After that is heeded.
pub const LONGEST_HOLD: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Transport;

    fn target(port: u16) -> Target {
        Target {
            transport: Transport::Udp,
            address: ([192, 0, 2, 1], port).into(),
        }
    }

    #[expect(clippy::disallowed_methods, reason = "any instant will do as the beginning")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn failed_target_is_put_off_for_a_while() {
        let now = start();
        let mut failed = FailedTargets::new(8);
        failed.insert(now, target(1), None);
        failed.insert(now, target(2), Some(Duration::from_secs(5)));
        failed.insert(now, target(3), Some(Duration::from_secs(1_000_000)));
        assert!(failed.contains(now, &target(1)));
        assert!(!failed.contains(now, &target(4)));
        let later = now + Duration::from_secs(5);
        assert!(failed.contains(later, &target(1)) && !failed.contains(later, &target(2)));
        assert!(!failed.contains(now + HOLD, &target(1)));
        assert!(!failed.contains(now + LONGEST_HOLD, &target(3)));
        failed.remove(&target(1));
        assert!(!failed.contains(now, &target(1)));
    }

    #[test]
    fn memory_is_bounded_and_the_longest_hold_stays() {
        let now = start();
        let mut failed = FailedTargets::new(4);
        failed.insert(now, target(1), Some(Duration::from_secs(500)));
        for port in 2..100 {
            failed.insert(now, target(port), None);
        }
        assert_eq!(failed.until.len(), 4);
        assert!(failed.contains(now, &target(1)) && failed.contains(now, &target(99)));
    }
}
