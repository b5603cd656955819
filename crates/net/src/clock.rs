//! The one place that asks what time it is. Everything else takes `now` as an argument.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The monotonic clock: for timers and intervals.
#[inline]
pub fn now() -> Instant {
    Instant::now()
}

/// The wall clock: for `Date` headers, call records and nonces.
pub fn wall() -> SystemTime {
    SystemTime::now()
}

/// Seconds since 1970-01-01 UTC by the wall clock; 0 when the machine believes to live before that.
pub fn unix_seconds() -> u64 {
    wall()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_monotonic_clock_never_runs_backwards() {
        let first = now();
        assert!(now() >= first);
    }

    #[test]
    fn unix_seconds_follow_the_wall_clock() {
        let wall = wall()
            .duration_since(UNIX_EPOCH)
            .expect("this machine lives after 1970")
            .as_secs();
        assert!(unix_seconds().abs_diff(wall) <= 1);
    }
}
