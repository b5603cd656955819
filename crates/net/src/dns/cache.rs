//! Answers and until when they hold.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::{Answer, DnsOptions, LookupError, Query, Records};

pub(super) struct Cache {
    answers: HashMap<Query, Answer>,
    capacity: usize,
    negative_ttl: Duration,
    failure_ttl: Duration,
    longest_ttl: Duration,
}

impl Cache {
    pub(super) fn new(options: &DnsOptions) -> Self {
        Self {
            answers: HashMap::new(),
            capacity: options.cache.max(1),
            negative_ttl: options.negative_ttl,
            failure_ttl: options.failure_ttl,
            longest_ttl: options.longest_ttl,
        }
    }

    pub(super) fn get(&self, query: &Query, now: Instant) -> Option<Answer> {
        self.answers
            .get(query)
            .filter(|answer| answer.expires > now)
            .cloned()
    }

    /// Makes an answer out of a result and the time that came with it, and keeps it.
    pub(super) fn insert(
        &mut self,
        query: Query,
        result: Result<Records, LookupError>,
        ttl: Option<Duration>,
        now: Instant,
    ) -> Answer {
        let ttl = match result {
            Ok(_) => ttl.unwrap_or(Duration::ZERO).min(self.longest_ttl),
            Err(LookupError::NotFound | LookupError::NoRecords) => {
                ttl.unwrap_or(self.negative_ttl).min(self.negative_ttl)
            }
            Err(LookupError::Timeout | LookupError::Failed) => self.failure_ttl,
            Err(LookupError::InvalidName | LookupError::Busy) => Duration::ZERO,
        };
        let answer = Answer {
            query,
            result,
            expires: now + ttl,
        };
        if !ttl.is_zero() {
            self.make_room(now);
            self.answers.insert(answer.query.clone(), answer.clone());
        }
        answer
    }

    /// When it is full, drops what has expired, and if that is not enough, a part of the rest: whichever it is, it can be
    /// asked for again.
    fn make_room(&mut self, now: Instant) {
        if self.answers.len() < self.capacity {
            return;
        }
        self.answers.retain(|_, answer| answer.expires > now);
        if self.answers.len() >= self.capacity {
            let mut surplus = self.capacity / 8 + 1;
            self.answers.retain(|_, _| {
                let drop = surplus > 0;
                surplus -= usize::from(drop);
                !drop
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock, dns::RecordType};

    fn query(number: usize) -> Query {
        Query::new(RecordType::A, &format!("host{number}.example"))
    }

    #[test]
    fn answers_hold_for_their_time_and_no_longer() {
        let mut cache = Cache::new(&DnsOptions::default());
        let now = clock::now();
        let records = Records::A(vec![[192, 0, 2, 1].into()]);
        cache.insert(query(1), Ok(records.clone()), Some(Duration::from_secs(10)), now);
        assert_eq!(
            cache
                .get(&query(1), now + Duration::from_secs(9))
                .expect("an answer")
                .result,
            Ok(records)
        );
        assert_eq!(cache.get(&query(1), now + Duration::from_secs(10)), None);
    }

    #[test]
    fn what_does_not_exist_is_kept_no_longer_than_configured() {
        let mut cache = Cache::new(&DnsOptions::default());
        let now = clock::now();
        for ttl in [None, Some(Duration::from_secs(100_000))] {
            let answer = cache.insert(query(1), Err(LookupError::NotFound), ttl, now);
            assert_eq!(answer.expires, now + super::super::NEGATIVE_TTL);
        }
        let answer = cache.insert(
            query(1),
            Err(LookupError::NotFound),
            Some(Duration::from_secs(1)),
            now,
        );
        assert_eq!(answer.expires, now + Duration::from_secs(1));
    }

    #[test]
    fn a_full_cache_stays_within_its_bound() {
        let mut cache = Cache::new(&DnsOptions {
            cache: 64,
            ..DnsOptions::default()
        });
        let now = clock::now();
        for number in 0..1_000 {
            cache.insert(query(number), Err(LookupError::NotFound), None, now);
            assert!(cache.answers.len() <= 64);
            assert!(
                cache.get(&query(number), now).is_some(),
                "the newest is always there"
            );
        }
    }
}
