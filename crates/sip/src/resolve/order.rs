//! The order of SRV records (RFC 2782).

use super::Srv;

/// Puts records in the order to try them: by priority, and within one priority drawn by weight.
pub(super) fn by_weight(mut records: Vec<Srv>, random: &mut Random) -> Vec<Srv> {
    // A weight of 0 comes first within its priority, so that it has a small chance to be drawn first.
    records.sort_by_key(|record| (record.priority, record.weight != 0));
    let mut start = 0;
    while start < records.len() {
        let priority = records[start].priority;
        let same = &records[start..];
        let end = start
            + same
                .iter()
                .take_while(|record| record.priority == priority)
                .count();
        draw(&mut records[start..end], random);
        start = end;
    }
    records
}

/// Draws one after the other: the chance to be next is the weight's share of those left.
fn draw(records: &mut [Srv], random: &mut Random) {
    for first in 0..records.len() {
        let left = &mut records[first..];
        let sum: u64 = left.iter().map(|record| u64::from(record.weight)).sum();
        let mut drawn = random.below(sum + 1);
        let at = left.iter().position(|record| {
            let weight = u64::from(record.weight);
            let here = drawn <= weight;
            drawn = drawn.saturating_sub(weight);
            here
        });
        // Keeps the others in their order: zero weights stay in front.
        left[..=at.unwrap_or(0)].rotate_right(1);
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014): a few numbers out of one.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number from 0 to `limit` - 1; 0 if `limit` is 0.
    fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(limit)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(priority: u16, weight: u16) -> Srv {
        Srv {
            priority,
            weight,
            port: 5060,
            target: format!("{priority}-{weight}"),
        }
    }

    #[test]
    fn lower_priority_comes_first_whatever_the_weights() {
        for seed in 0..100 {
            let records = vec![record(20, 60_000), record(10, 0), record(10, 1), record(30, 5)];
            let sorted = by_weight(records, &mut Random::new(seed));
            assert_eq!(
                sorted.iter().map(|r| r.priority).collect::<Vec<_>>(),
                [10, 10, 20, 30]
            );
        }
    }

    #[test]
    fn share_of_first_places_is_the_weight() {
        let mut random = Random::new(1);
        let mut first = [0u32; 2];
        for _ in 0..10_000 {
            let sorted = by_weight(vec![record(1, 25), record(1, 75)], &mut random);
            first[usize::from(sorted[0].weight == 75)] += 1;
        }
        assert!((2_200..3_000).contains(&first[0]), "{first:?}");
    }

    #[test]
    fn weight_zero_is_hardly_ever_first_beside_others() {
        let mut random = Random::new(1);
        let zero_first = (0..10_000)
            .filter(|_| by_weight(vec![record(1, 100), record(1, 0)], &mut random)[0].weight == 0)
            .count();
        assert!((1..400).contains(&zero_first), "{zero_first}");
    }

    #[test]
    fn nothing_is_lost_or_doubled() {
        for seed in 0..200 {
            let records: Vec<_> = (0..9u16).map(|n| record(n % 3, n * n % 5)).collect();
            let mut sorted = by_weight(records.clone(), &mut Random::new(seed));
            sorted.sort_by_key(|r| records.iter().position(|o| o == r));
            let mut expected = records.clone();
            expected.sort_by_key(|r| records.iter().position(|o| o == r));
            assert_eq!(sorted, expected);
        }
    }
}
