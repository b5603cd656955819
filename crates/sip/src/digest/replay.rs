//! Replay protection by the nonce-count (RFC 7616 section 3.4, `nc`), in bounded memory.
//!
//! Per nonce in use: the highest count, a window of the last 64 counts, and the fingerprints of the last requests, so that a
//! retransmission (the very same request again) is told from a replay. Only successful log-ins make an entry. When the table is
//! full, the entry with the oldest nonce goes, and with it the right of older unknown nonces to be used: they are
//! [`NonceUse::Forgotten`], which costs the phone one more challenge and never lets a replay through. Age goes by serial number,
//! not by the second: a busy worker mints a hundred thousand nonces in each.

use std::time::Duration;

use super::NonceId;

/// The nonces in use of one worker.
#[derive(Debug)]
pub struct ReplayGuard {
    buckets: Vec<Bucket>,
    lifetime: u32,
}

/// What the count that came with a nonce says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NonceUse {
    /// Not seen before.
    Fresh,
    /// The very same request again: answer it as before.
    Retransmission,
    /// Seen with another request, or too old to tell: challenge with `stale=true`.
    Replayed,
    /// No longer known whether it was used: challenge with `stale=true`.
    Forgotten,
}

impl ReplayGuard {
    /// Room for at least `capacity` nonces, 48 bytes each. `lifetime` is that of the nonces.
    #[must_use]
    pub fn new(capacity: usize, lifetime: Duration) -> Self {
        let buckets = capacity.div_ceil(WAYS).max(1).next_power_of_two();
        let lifetime = lifetime.as_secs().try_into().unwrap_or(u32::MAX);
        Self {
            buckets: vec![Bucket::EMPTY; buckets],
            lifetime,
        }
    }

    /// Notes the use of a nonce whose credentials have been verified at `unix` (seconds since 1970). `fingerprint` tells requests
    /// apart: a hash over what a retransmission keeps, such as branch, Call-ID and CSeq.
    pub fn check(&mut self, unix: u64, id: NonceId, count: u32, fingerprint: u64) -> NonceUse {
        // Serial numbers are consecutive and cannot be chosen from outside: no hash is needed to spread them.
        let at = id.serial as usize & (self.buckets.len() - 1);
        let bucket = &mut self.buckets[at];
        let key = id.serial << 8 | u64::from(id.worker);
        if let Some(entry) = bucket
            .entries
            .iter_mut()
            .find(|entry| entry.key == key && entry.minted == id.minted)
        {
            return entry.check(count, fingerprint as u32);
        }
        if key <= bucket.forgotten {
            return NonceUse::Forgotten;
        }
        let victim = bucket.victim();
        let expired = (unix as u32).saturating_sub(victim.minted) > self.lifetime;
        let evicted = victim.key;
        *victim = Entry::new(key, id.minted, count, fingerprint as u32);
        // One that has expired is refused as stale before it comes here.
        if !expired {
            bucket.forgotten = bucket.forgotten.max(evicted);
        }
        NonceUse::Fresh
    }
}

#[derive(Clone, Debug)]
struct Bucket {
    entries: [Entry; WAYS],
    /// The key of the youngest nonce that was evicted before it expired, 0 for none: no nonce minted up to it is known to be
    /// unused.
    forgotten: u64,
}

impl Bucket {
    const EMPTY: Self = Self {
        entries: [const { Entry::EMPTY }; WAYS],
        forgotten: 0,
    };

    /// An unused entry, or the oldest: it expires first.
    fn victim(&mut self) -> &mut Entry {
        let oldest = (0..WAYS).min_by_key(|&at| self.entries[at].key).unwrap_or(0);
        &mut self.entries[oldest]
    }
}

#[derive(Clone, Debug)]
struct Entry {
    /// 0: unused. Serial numbers start with 1.
    key: u64,
    minted: u32,
    highest: u32,
    /// Bit n: count `highest - n` was seen.
    seen: u64,
    /// Of count c at index c modulo the length, as long as c is within that length of the highest.
    fingerprints: [u32; REMEMBERED],
}

impl Entry {
    const EMPTY: Self = Self {
        key: 0,
        minted: 0,
        highest: 0,
        seen: 0,
        fingerprints: [0; REMEMBERED],
    };

    fn new(key: u64, minted: u32, count: u32, fingerprint: u32) -> Self {
        let mut entry = Self {
            key,
            minted,
            highest: count,
            seen: 1,
            ..Self::EMPTY
        };
        entry.fingerprints[count as usize % REMEMBERED] = fingerprint;
        entry
    }

    fn check(&mut self, count: u32, fingerprint: u32) -> NonceUse {
        let slot = count as usize % REMEMBERED;
        if count > self.highest {
            self.seen = self.seen.checked_shl(count - self.highest).unwrap_or(0) | 1;
            self.highest = count;
            self.fingerprints[slot] = fingerprint;
            return NonceUse::Fresh;
        }
        let behind = self.highest - count;
        let remembered = (behind as usize) < REMEMBERED;
        if behind >= u64::BITS {
            return NonceUse::Replayed;
        }
        if self.seen & 1 << behind == 0 {
            self.seen |= 1 << behind;
            if remembered {
                self.fingerprints[slot] = fingerprint;
            }
            return NonceUse::Fresh;
        }
        if remembered && self.fingerprints[slot] == fingerprint {
            NonceUse::Retransmission
        } else {
            NonceUse::Replayed
        }
    }
}

const WAYS: usize = 4;
/// Counts whose request is remembered. A phone has few requests open at once.
const REMEMBERED: usize = 4;

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn guard(capacity: usize) -> ReplayGuard {
        ReplayGuard::new(capacity, Duration::from_secs(3600))
    }

    fn id(serial: u64) -> NonceId {
        NonceId {
            minted: NOW as u32 + serial as u32,
            worker: 0,
            serial,
        }
    }

    #[test]
    fn same_count_with_another_request_is_a_replay() {
        let mut guard = guard(16);
        assert_eq!(guard.check(NOW, id(1), 1, 100), NonceUse::Fresh);
        assert_eq!(guard.check(NOW, id(1), 1, 100), NonceUse::Retransmission);
        assert_eq!(guard.check(NOW, id(1), 1, 101), NonceUse::Replayed);
        assert_eq!(guard.check(NOW, id(1), 2, 101), NonceUse::Fresh);
        assert_eq!(
            guard.check(NOW, id(1), 1, 100),
            NonceUse::Retransmission,
            "overtaken on the way"
        );
    }

    #[test]
    fn counts_may_arrive_out_of_order_within_the_window() {
        let mut guard = guard(16);
        assert_eq!(guard.check(NOW, id(1), 100, 1), NonceUse::Fresh);
        assert_eq!(guard.check(NOW, id(1), 37, 2), NonceUse::Fresh);
        assert_eq!(
            guard.check(NOW, id(1), 37, 2),
            NonceUse::Replayed,
            "too far back to know the request"
        );
        assert_eq!(
            guard.check(NOW, id(1), 36, 3),
            NonceUse::Replayed,
            "outside the window"
        );
        assert_eq!(guard.check(NOW, id(1), u32::MAX, 4), NonceUse::Fresh);
        assert_eq!(guard.check(NOW, id(1), 101, 5), NonceUse::Replayed);
    }

    #[test]
    fn full_table_forgets_the_oldest_and_lets_no_replay_through() {
        let mut guard = guard(WAYS);
        for serial in 1..=5 {
            assert_eq!(guard.check(NOW, id(serial), 1, serial), NonceUse::Fresh);
        }
        assert_eq!(guard.check(NOW, id(1), 1, 77), NonceUse::Forgotten);
        assert_eq!(guard.check(NOW, id(2), 1, 77), NonceUse::Replayed);
        assert_eq!(
            guard.check(NOW, id(6), 1, 6),
            NonceUse::Fresh,
            "younger than what was forgotten"
        );
    }

    #[test]
    fn nonces_of_one_second_are_told_apart_however_many_there_are() {
        let mut guard = guard(64);
        let in_one_second = |serial| NonceId {
            minted: NOW as u32,
            ..id(serial)
        };
        // Forty are under way at once, far more have been used since the table was empty.
        for serial in 1..10_000 {
            assert_eq!(
                guard.check(NOW, in_one_second(serial), 1, serial),
                NonceUse::Fresh,
                "{serial}"
            );
            let earlier = serial.saturating_sub(40).max(1);
            assert_ne!(guard.check(NOW, in_one_second(earlier), 1, 0), NonceUse::Fresh);
        }
        assert_eq!(guard.check(NOW, in_one_second(1), 1, 1), NonceUse::Forgotten);
    }

    #[test]
    fn expired_nonces_make_room_without_harm() {
        let mut guard = guard(WAYS);
        for serial in 1..=4 {
            guard.check(NOW, id(serial), 1, serial);
        }
        let later = NOW + 3700;
        let young = NonceId {
            minted: later as u32,
            worker: 0,
            serial: 5,
        };
        assert_eq!(guard.check(later, young, 1, 1), NonceUse::Fresh);
        assert!(guard.buckets.iter().all(|bucket| bucket.forgotten == 0));
    }

    #[test]
    fn entry_is_48_bytes() {
        assert!(size_of::<Bucket>() <= WAYS * 48, "{}", size_of::<Bucket>());
    }

    proptest! {
        /// Whatever comes in whatever order, through however small a table: no (nonce, count) is fresh twice.
        #[test]
        fn no_count_is_fresh_twice(uses in proptest::collection::vec((1..40u64, 1..80u32, 0..3u64), 1..400)) {
            let mut guard = guard(8);
            let mut first: HashMap<(u64, u32), u64> = HashMap::new();
            for (serial, count, request) in uses {
                let verdict = guard.check(NOW + 50, id(serial), count, request);
                match first.get(&(serial, count)) {
                    Some(&before) => {
                        prop_assert_ne!(verdict, NonceUse::Fresh);
                        prop_assert!(verdict != NonceUse::Retransmission || before == request);
                    }
                    None => prop_assert_ne!(verdict, NonceUse::Retransmission),
                }
                if verdict == NonceUse::Fresh {
                    first.insert((serial, count), request);
                }
            }
        }
    }
}
