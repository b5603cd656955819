//! Wrong passwords, counted by source and account, so that nobody can go on guessing. RFC 3261 22 leaves this to the server.
//!
//! Before credentials are checked, [`Guesses::look`] says what is known of their sender. Then a wrong password is noted with
//! [`Guesses::wrong`], and a right one wipes the count out with [`Guesses::forget`]. As long as nobody has given a wrong password
//! lately, all of that is one comparison. The table has a fixed size; when it is full, those with the fewest wrong passwords are
//! forgotten first.
//!
//! A source is an IPv4 address or an IPv6 /64. Over UDP it can be forged: then a stranger who knows both can shut a telephone out
//! for a while, but not its account elsewhere.

use std::hash::Hasher;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use siphasher::sip::SipHasher13;

/// The wrong passwords of the whole service.
#[derive(Debug)]
pub(super) struct Guesses {
    /// 0: there is none.
    limit: u32,
    /// Seconds.
    within: u32,
    /// When somebody gave a wrong password last.
    latest: AtomicU32,
    secret: [u8; 16],
    buckets: Box<[Mutex<Bucket>]>,
}

/// What is known of a source and an account.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Suspicion {
    /// Nothing.
    None,
    /// There were wrong passwords.
    Some,
    /// There were too many: the credentials are not to be looked at.
    TooMany,
}

impl Guesses {
    /// After `limit` wrong passwords within that time, a source is refused as long. 0 refuses nobody.
    pub(super) fn new(limit: u32, within: Duration, secret: [u8; 16]) -> Self {
        Guesses::with_room_for(if limit == 0 { 0 } else { GUESSERS }, limit, within, secret)
    }

    fn with_room_for(guessers: usize, limit: u32, within: Duration, secret: [u8; 16]) -> Self {
        Guesses {
            limit,
            within: u32::try_from(within.as_secs()).unwrap_or(u32::MAX),
            latest: AtomicU32::new(0),
            secret,
            buckets: (0..guessers.div_ceil(WAYS)).map(|_| Mutex::default()).collect(),
        }
    }

    /// What is known at `unix` (seconds) of who claims from `source` to be `account`.
    pub(super) fn look(&self, unix: u64, source: IpAddr, account: &str) -> Suspicion {
        let unix = unix as u32;
        if !self.is_within(unix, self.latest.load(Ordering::Relaxed)) {
            return Suspicion::None;
        }
        let key = self.key(source, account);
        let Some(bucket) = self.bucket(key) else {
            return Suspicion::None;
        };
        match bucket.iter().find(|entry| entry.key == key) {
            Some(entry) if !self.is_within(unix, entry.since) => Suspicion::None,
            Some(entry) if entry.count >= self.limit => Suspicion::TooMany,
            Some(_) => Suspicion::Some,
            None => Suspicion::None,
        }
    }

    /// Notes a wrong password. `response` is what it led to: the same request again is no other guess.
    pub(super) fn wrong(&self, unix: u64, source: IpAddr, account: &str, response: &str) {
        let unix = unix as u32;
        let key = self.key(source, account);
        let Some(mut bucket) = self.bucket(key) else {
            return;
        };
        let last = self.hash(|hasher| hasher.write(response.as_bytes())) as u32;
        let first = Entry {
            key,
            since: unix,
            count: 1,
            last,
        };
        let known = bucket.iter_mut().find(|entry| entry.key == key);
        match known {
            Some(entry) if !self.is_within(unix, entry.since) => *entry = first,
            Some(entry) if entry.last == last => {}
            Some(entry) => {
                entry.last = last;
                entry.count += 1;
                if entry.count >= self.limit {
                    entry.since = unix;
                }
            }
            None => {
                let rank = |entry: &&mut Entry| (self.is_within(unix, entry.since), entry.count, entry.since);
                if let Some(victim) = bucket.iter_mut().min_by_key(rank) {
                    *victim = first;
                }
            }
        }
        self.latest.store(unix, Ordering::Relaxed);
    }

    /// A right password came.
    pub(super) fn forget(&self, source: IpAddr, account: &str) {
        let key = self.key(source, account);
        if let Some(mut bucket) = self.bucket(key) {
            let entry = bucket.iter_mut().find(|entry| entry.key == key);
            entry.into_iter().for_each(|entry| *entry = Entry::default());
        }
    }

    fn is_within(&self, unix: u32, since: u32) -> bool {
        unix.saturating_sub(since) < self.within
    }

    /// Never 0.
    fn key(&self, source: IpAddr, account: &str) -> u64 {
        self.hash(|hasher| {
            match source.to_canonical() {
                IpAddr::V4(ip) => hasher.write(&ip.octets()),
                IpAddr::V6(ip) => hasher.write(&ip.octets()[..8]),
            }
            hasher.write(account.as_bytes());
        })
        .max(1)
    }

    /// Keyed, or strangers could choose whom they push out.
    fn hash(&self, write: impl FnOnce(&mut SipHasher13)) -> u64 {
        let mut hasher = SipHasher13::new_with_key(&self.secret);
        write(&mut hasher);
        hasher.finish()
    }

    /// None where there is no limit.
    fn bucket(&self, key: u64) -> Option<MutexGuard<'_, Bucket>> {
        let at = (key as usize).checked_rem(self.buckets.len())?;
        let bucket = self.buckets.get(at)?;
        Some(bucket.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

type Bucket = [Entry; WAYS];

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    /// 0: unused.
    key: u64,
    /// When the count began; when it became full, once it is.
    since: u32,
    count: u32,
    /// Of the last response.
    last: u32,
}

/// Pairs of source and account that are remembered, 26 bytes each.
const GUESSERS: usize = 16_384;
/// Entries that share a lock.
const WAYS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 2_000_000_000;
    const MINUTE: Duration = Duration::from_secs(60);

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("a literal address")
    }

    fn guesses(guessers: usize, limit: u32) -> Guesses {
        Guesses::with_room_for(guessers, limit, MINUTE, [7; 16])
    }

    fn guess(guesses: &Guesses, unix: u64, source: &str, account: &str, times: usize) {
        for number in 0..times {
            guesses.wrong(unix, ip(source), account, &format!("{unix} {number}"));
        }
    }

    #[test]
    fn a_source_is_an_ipv4_address_or_an_ipv6_64() {
        for (source, same, other) in [
            ("192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2"),
            ("2001:db8::1", "2001:db8::ffff:1:2:3", "2001:db8:0:1::1"),
        ] {
            let guesses = guesses(64, 2);
            guess(&guesses, NOW, source, "a@b", 1);
            guess(&guesses, NOW, same, "a@b", 1);
            guesses.wrong(NOW, ip(same), "a@b", "another");
            assert_eq!(guesses.look(NOW, ip(source), "a@b"), Suspicion::TooMany);
            assert_eq!(guesses.look(NOW, ip(other), "a@b"), Suspicion::None);
            assert_eq!(guesses.look(NOW, ip(source), "c@b"), Suspicion::None);
        }
    }

    #[test]
    fn refused_for_the_whole_time_after_the_last_wrong_one_and_then_no_more() {
        let guesses = guesses(64, 3);
        let look = |unix| guesses.look(unix, ip("192.0.2.1"), "a@b");
        guess(&guesses, NOW, "192.0.2.1", "a@b", 2);
        assert_eq!(look(NOW), Suspicion::Some);
        guess(&guesses, NOW + 59, "192.0.2.1", "a@b", 1);
        assert_eq!(look(NOW + 59), Suspicion::TooMany);
        assert_eq!(look(NOW + 59 + 59), Suspicion::TooMany);
        assert_eq!(look(NOW + 59 + 60), Suspicion::None);
        guess(&guesses, NOW + 120, "192.0.2.1", "a@b", 1);
        assert_eq!(look(NOW + 120), Suspicion::Some, "counted anew");
    }

    #[test]
    fn wrong_ones_that_come_slowly_are_let_be() {
        let guesses = guesses(64, 3);
        for minute in 0..100 {
            guess(&guesses, NOW + 60 * minute, "192.0.2.1", "a@b", 2);
            assert_ne!(
                guesses.look(NOW + 60 * minute, ip("192.0.2.1"), "a@b"),
                Suspicion::TooMany
            );
        }
    }

    #[test]
    fn the_same_response_again_is_one_guess_and_a_right_password_wipes_the_count_out() {
        let guesses = guesses(64, 2);
        let look = || guesses.look(NOW, ip("192.0.2.1"), "a@b");
        for _ in 0..11 {
            guesses.wrong(NOW, ip("192.0.2.1"), "a@b", "same");
        }
        assert_eq!(look(), Suspicion::Some);
        guesses.forget(ip("192.0.2.1"), "a@b");
        assert_eq!(look(), Suspicion::None);
        guess(&guesses, NOW, "192.0.2.1", "a@b", 2);
        assert_eq!(look(), Suspicion::TooMany);
    }

    #[test]
    fn a_full_table_forgets_those_with_the_fewest_first() {
        let guesses = guesses(WAYS, 5);
        guess(&guesses, NOW, "192.0.2.1", "a@b", 5);
        for other in 0..100 {
            guess(&guesses, NOW + 1, &format!("198.51.100.{other}"), "a@b", 4);
        }
        assert_eq!(guesses.look(NOW + 1, ip("192.0.2.1"), "a@b"), Suspicion::TooMany);
        assert_eq!(guesses.look(NOW + 1, ip("198.51.100.0"), "a@b"), Suspicion::None);
        assert_eq!(guesses.look(NOW + 1, ip("198.51.100.99"), "a@b"), Suspicion::Some);
    }

    #[test]
    fn without_a_limit_nothing_is_kept() {
        let guesses = Guesses::new(0, MINUTE, [7; 16]);
        guess(&guesses, NOW, "192.0.2.1", "a@b", 100);
        assert_eq!(guesses.look(NOW, ip("192.0.2.1"), "a@b"), Suspicion::None);
        assert!(guesses.buckets.is_empty());
    }

    #[test]
    fn the_table_is_as_small_as_it_says() {
        assert!(size_of::<Mutex<Bucket>>() <= WAYS * 26);
    }
}
