//! How many bytes a source may get beyond those it sends: what keeps a server from being used against the owner of a forged
//! source address.
//!
//! A leaky bucket per source: an IPv4 address, or an IPv6 /64. The table has a fixed size and forgets nothing; sources that
//! fall on the same entry share its budget, and nobody outside can tell which do.

use std::hash::Hasher;
use std::net::IpAddr;
use std::time::Instant;

use siphasher::sip::SipHasher13;

/// How much.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BudgetConfig {
    /// Bytes at once. 64 KiB by default: 1,300 answers with all addresses.
    pub burst: u32,
    /// Bytes per second. 16 KiB by default: 340 answers per second with all addresses, enough for the subscribers behind one
    /// address of a carrier-grade NAT, and nothing to an attacker.
    pub rate: u32,
}

impl Default for BudgetConfig {
    fn default() -> Self {
        Self {
            burst: 64 * 1024,
            rate: 16 * 1024,
        }
    }
}

/// The debts of all sources.
pub struct Budget {
    config: BudgetConfig,
    secret: [u8; 16],
    start: Instant,
    sources: Box<[Source; SOURCES]>,
}

/// What a source owes, and since when that is known.
#[derive(Clone, Copy, Default)]
struct Source {
    /// Bytes.
    debt: u32,
    /// Milliseconds since the start, modulo 2^32.
    updated: u32,
}

impl Budget {
    /// Everybody owes nothing.
    #[must_use]
    pub fn new(config: BudgetConfig, secret: [u8; 16], now: Instant) -> Self {
        Self {
            config,
            secret,
            start: now,
            sources: Box::new([Source::default(); SOURCES]),
        }
    }

    /// Whether the source may get `excess` bytes more; if so, they are charged.
    pub fn spend(&mut self, now: Instant, source: IpAddr, excess: usize) -> bool {
        let now = now.saturating_duration_since(self.start).as_millis() as u32;
        let at = self.entry(source);
        let source = &mut self.sources[at];
        let elapsed = u64::from(now.wrapping_sub(source.updated));
        let repaid = elapsed * u64::from(self.config.rate) / 1000;
        source.debt = source.debt.saturating_sub(repaid.try_into().unwrap_or(u32::MAX));
        // What is too little to count stays on the clock.
        if repaid > 0 || source.debt == 0 {
            source.updated = now;
        }
        let debt = usize::try_from(source.debt).unwrap_or(usize::MAX);
        match debt.checked_add(excess).and_then(|debt| u32::try_from(debt).ok()) {
            Some(debt) if debt <= self.config.burst => {
                source.debt = debt;
                true
            }
            _ => false,
        }
    }

    #[cfg(test)]
    pub(crate) fn start(&self) -> Instant {
        self.start
    }

    fn entry(&self, source: IpAddr) -> usize {
        let mut hasher = SipHasher13::new_with_key(&self.secret);
        match source.to_canonical() {
            IpAddr::V4(v4) => hasher.write(&v4.octets()),
            IpAddr::V6(v6) => hasher.write(&v6.octets()[..8]),
        }
        hasher.finish() as usize % SOURCES
    }
}

impl std::fmt::Debug for Budget {
    /// Leaves the secret and the table out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Budget")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// Entries; 64 KiB of memory.
const SOURCES: usize = 8192;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn budget(now: Instant) -> Budget {
        let config = BudgetConfig {
            burst: 1000,
            rate: 100,
        };
        Budget::new(config, [7; 16], now)
    }

    #[test]
    fn what_is_spent_comes_back_with_time() {
        let start = Instant::now();
        let source = "192.0.2.1".parse().unwrap();
        let mut budget = budget(start);
        assert!(budget.spend(start, source, 1000));
        assert!(!budget.spend(start, source, 1));
        assert!(!budget.spend(start + Duration::from_secs(1), source, 101));
        assert!(budget.spend(start + Duration::from_secs(1), source, 100));
        assert!(!budget.spend(start + Duration::from_secs(1), source, 1));
        // Not more than all of it comes back.
        assert!(!budget.spend(start + Duration::from_secs(100), source, 1001));
        assert!(budget.spend(start + Duration::from_secs(100), source, 1000));
    }

    #[test]
    fn who_asks_often_does_not_keep_the_debt_from_shrinking() {
        let start = Instant::now();
        let source = "192.0.2.1".parse().unwrap();
        let mut budget = budget(start);
        assert!(budget.spend(start, source, 1000));
        // 1 byte comes back in 10 ms: each single millisecond is too short to count.
        let mut spent = 0;
        for millis in 1..=1000 {
            spent += u32::from(budget.spend(start + Duration::from_millis(millis), source, 1));
        }
        assert_eq!(spent, 100);
    }

    #[test]
    fn others_have_a_budget_of_their_own_unless_they_share_a_64() {
        let start = Instant::now();
        let mut budget = budget(start);
        assert!(budget.spend(start, "2001:db8::1".parse().unwrap(), 1000));
        assert!(!budget.spend(start, "2001:db8::2".parse().unwrap(), 1000));
        assert!(budget.spend(start, "2001:db8:0:1::1".parse().unwrap(), 1000));
        assert!(budget.spend(start, "192.0.2.1".parse().unwrap(), 1000));
        assert!(!budget.spend(start, "::ffff:192.0.2.1".parse().unwrap(), 1000));
    }
}
