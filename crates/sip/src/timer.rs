//! A hierarchical timer wheel: the timers of one worker.
//!
//! RFC 3261 gives every transaction timers of 0.1 s to a few minutes, and nearly all of them are cancelled or moved before they
//! fire. So scheduling and cancelling are O(1) and allocate nothing once the wheel has grown to the number of timers in use: an
//! entry is a node in a slab, linked into the list of its slot.
//!
//! Order of calls: [`TimerWheel::schedule`] and [`TimerWheel::cancel`] at any time; when the clock reaches [`TimerWheel::next`],
//! call [`TimerWheel::pop`] until it returns `None`. Time moves in ticks of [`TICK`]: a timer fires never early and less than one
//! tick late. The wheel knows no clock; whoever calls passes the time.

use std::time::{Duration, Instant};

/// The resolution of the wheel. The shortest interval that SIP asks for is 200 ms (RFC 3261 section 17.2.1).
pub const TICK: Duration = Duration::from_millis(4);

/// Timers that each carry a key of type `K`.
///
/// A node costs 32 bytes when `K` has 4. The slab keeps the size of the largest number of timers there ever were at once.
#[derive(Debug)]
pub struct TimerWheel<K> {
    /// Tick 0: the first time the wheel was told.
    origin: Option<Instant>,
    /// Every tick before this one has been processed.
    elapsed: u64,
    nodes: Vec<Node<K>>,
    /// Head of the list of unused nodes.
    free: u32,
    len: usize,
    levels: [Level; LEVELS],
}

/// A scheduled timer. Outlives the timer harmlessly: cancelling one that has fired does nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimerId {
    node: u32,
    generation: u32,
}

impl<K: Copy> TimerWheel<K> {
    /// A wheel without timers.
    #[must_use]
    pub fn new() -> Self {
        Self {
            origin: None,
            elapsed: 0,
            nodes: Vec::new(),
            free: NIL,
            len: 0,
            levels: [const {
                Level {
                    occupied: 0,
                    heads: [NIL; SLOTS],
                }
            }; LEVELS],
        }
    }

    /// The number of timers that have neither fired nor been cancelled.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no timer is scheduled.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Lets `key` come out of [`pop`](Self::pop) at the first tick that is not before `at`. A time that is already past means
    /// the next tick, so that a loop over `pop` ends even if each timer is scheduled anew at once.
    pub fn schedule(&mut self, now: Instant, at: Instant, key: K) -> TimerId {
        let origin = *self.origin.get_or_insert(now);
        let due = tick_at_or_after(origin, at).clamp(self.elapsed + 1, LAST_TICK);
        let node = self.allocate(due, key);
        self.link(node);
        self.len += 1;
        TimerId {
            node,
            generation: self.nodes[node as usize].generation,
        }
    }

    /// Takes the timer out; gives its key back if it was still scheduled.
    pub fn cancel(&mut self, id: TimerId) -> Option<K> {
        let node = self.nodes.get(id.node as usize)?;
        if node.generation != id.generation || node.due == UNUSED {
            return None;
        }
        let key = node.key;
        self.unlink(id.node);
        self.release(id.node);
        Some(key)
    }

    /// When to call [`pop`](Self::pop) next; `None` when no timer is scheduled.
    ///
    /// A lower bound: far timers are kept in coarse slots, and at the beginning of such a slot the wheel wants to be called to
    /// sort them finer. Each call makes progress, at most `LEVELS - 1` calls per timer find nothing due.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        let (_, _, start) = self.next_slot()?;
        // A slot is only filled after `origin` was set.
        Some(instant_of(self.origin?, start))
    }

    /// The next timer that is due at `now`, in the order of their ticks, or `None`.
    pub fn pop(&mut self, now: Instant) -> Option<K> {
        let origin = self.origin?;
        let target = tick_at_or_before(origin, now);
        while let Some((level, slot, start)) = self.next_slot() {
            if start > target {
                break;
            }
            self.elapsed = self.elapsed.max(start);
            let head = self.levels[level].heads[slot];
            if level == 0 {
                let key = self.nodes[head as usize].key;
                self.unlink(head);
                self.release(head);
                return Some(key);
            }
            self.cascade(level, slot, head);
        }
        self.elapsed = self.elapsed.max(target);
        None
    }

    /// The earliest slot that holds timers: its level, its number, and the tick at which it begins.
    ///
    /// Every timer sits on the level of the highest digit (base 64) in which its tick differs from `elapsed`; so all slots of a
    /// lower level come before any of a higher one, and within a level the lower number comes first.
    fn next_slot(&self) -> Option<(usize, usize, u64)> {
        let level = self.levels.iter().position(|level| level.occupied != 0)?;
        let slot = self.levels[level].occupied.trailing_zeros() as usize;
        let shift = DIGIT * level as u32;
        let above = self.elapsed >> (shift + DIGIT) << (shift + DIGIT);
        Some((level, slot, above | (slot as u64) << shift))
    }

    /// Spreads a slot of a coarse level, whose time has come, over the finer ones; keeps the order.
    fn cascade(&mut self, level: usize, slot: usize, head: u32) {
        self.levels[level].heads[slot] = NIL;
        self.levels[level].occupied &= !(1 << slot);
        // The list is circular: the node before the head is the last one.
        let last = self.nodes[head as usize].previous;
        let mut node = head;
        loop {
            let next = self.nodes[node as usize].next;
            self.link(node);
            if node == last {
                break;
            }
            node = next;
        }
    }

    fn allocate(&mut self, due: u64, key: K) -> u32 {
        if self.free == NIL {
            let node = self.nodes.len() as u32;
            self.nodes.push(Node {
                due,
                previous: NIL,
                next: NIL,
                generation: 0,
                key,
            });
            return node;
        }
        let index = self.free;
        let node = &mut self.nodes[index as usize];
        self.free = node.next;
        node.due = due;
        node.key = key;
        index
    }

    fn release(&mut self, index: u32) {
        let node = &mut self.nodes[index as usize];
        node.generation = node.generation.wrapping_add(1);
        node.due = UNUSED;
        node.next = self.free;
        self.free = index;
        self.len -= 1;
    }

    fn link(&mut self, index: u32) {
        let due = self.nodes[index as usize].due;
        let (level, slot) = self.place(due);
        let head = self.levels[level].heads[slot];
        let (previous, next) = if head == NIL {
            self.levels[level].heads[slot] = index;
            self.levels[level].occupied |= 1 << slot;
            (index, index)
        } else {
            let last = self.nodes[head as usize].previous;
            self.nodes[last as usize].next = index;
            self.nodes[head as usize].previous = index;
            (last, head)
        };
        let node = &mut self.nodes[index as usize];
        node.previous = previous;
        node.next = next;
    }

    fn unlink(&mut self, index: u32) {
        let Node {
            due, previous, next, ..
        } = self.nodes[index as usize];
        let (level, slot) = self.place(due);
        if next == index {
            self.levels[level].heads[slot] = NIL;
            self.levels[level].occupied &= !(1 << slot);
            return;
        }
        self.nodes[previous as usize].next = next;
        self.nodes[next as usize].previous = previous;
        if self.levels[level].heads[slot] == index {
            self.levels[level].heads[slot] = next;
        }
    }

    /// Where a timer of that tick is. The answer stays the same until the timer's slot is reached: `elapsed` only changes in
    /// digits below the highest one in which they differ.
    fn place(&self, due: u64) -> (usize, usize) {
        let level = (63 - ((due ^ self.elapsed) | 1).leading_zeros()) / DIGIT;
        let slot = due >> (DIGIT * level) & (SLOTS as u64 - 1);
        (level as usize, slot as usize)
    }
}

impl<K: Copy> Default for TimerWheel<K> {
    fn default() -> Self {
        Self::new()
    }
}

#[derive(Clone, Copy, Debug)]
struct Node<K> {
    due: u64,
    previous: u32,
    /// In a slot's list, or in the list of unused nodes.
    next: u32,
    generation: u32,
    key: K,
}

#[derive(Clone, Copy, Debug)]
struct Level {
    /// Bit n is set when slot n has timers.
    occupied: u64,
    heads: [u32; SLOTS],
}

fn tick_at_or_before(origin: Instant, at: Instant) -> u64 {
    let since = at.saturating_duration_since(origin);
    since.as_secs() * TICKS_PER_SECOND + u64::from(since.subsec_nanos() / NANOS_PER_TICK)
}

fn tick_at_or_after(origin: Instant, at: Instant) -> u64 {
    let since = at.saturating_duration_since(origin);
    since.as_secs().saturating_mul(TICKS_PER_SECOND)
        + u64::from(since.subsec_nanos().div_ceil(NANOS_PER_TICK))
}

fn instant_of(origin: Instant, tick: u64) -> Instant {
    let rest = (tick % TICKS_PER_SECOND) as u32 * NANOS_PER_TICK;
    origin + Duration::new(tick / TICKS_PER_SECOND, rest)
}

const NANOS_PER_TICK: u32 = TICK.subsec_nanos();
const TICKS_PER_SECOND: u64 = 1_000_000_000 / NANOS_PER_TICK as u64;

/// Bits per level.
const DIGIT: u32 = 6;
const SLOTS: usize = 1 << DIGIT;
/// Seven levels of 64 slots span 2^42 ticks: 557 years. Nothing needs an overflow list.
const LEVELS: usize = 7;
const LAST_TICK: u64 = (1 << (DIGIT as u64 * LEVELS as u64)) - 1;

/// No node.
const NIL: u32 = u32::MAX;
/// The tick of a node that is not in use.
const UNUSED: u64 = u64::MAX;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "any instant will do as the beginning")]
    fn start() -> Instant {
        Instant::now()
    }

    fn drain(wheel: &mut TimerWheel<u32>, now: Instant) -> Vec<u32> {
        std::iter::from_fn(|| wheel.pop(now)).collect()
    }

    #[test]
    fn timer_fires_at_its_tick_and_not_before() {
        let start = start();
        let mut wheel = TimerWheel::new();
        wheel.schedule(start, start + Duration::from_millis(500), 1);
        assert_eq!(drain(&mut wheel, start + Duration::from_millis(499)), []);
        assert_eq!(drain(&mut wheel, start + Duration::from_millis(500)), [1]);
        assert!(wheel.is_empty());
        assert_eq!(wheel.next(), None);
    }

    #[test]
    fn time_between_two_ticks_is_rounded_up() {
        let start = start();
        let mut wheel = TimerWheel::new();
        wheel.schedule(start, start + Duration::from_micros(4_001), 1);
        assert_eq!(drain(&mut wheel, start + Duration::from_micros(4_001)), []);
        assert_eq!(drain(&mut wheel, start + Duration::from_micros(8_000)), [1]);
    }

    #[test]
    fn cancelled_timer_does_not_fire_and_its_id_is_dead() {
        let start = start();
        let mut wheel = TimerWheel::new();
        let first = wheel.schedule(start, start + TICK, 1);
        assert_eq!(wheel.cancel(first), Some(1));
        let second = wheel.schedule(start, start + TICK, 2);
        assert_eq!(wheel.cancel(first), None, "the node was reused, the id was not");
        assert_eq!(drain(&mut wheel, start + TICK), [2]);
        assert_eq!(wheel.cancel(second), None);
    }

    #[test]
    fn timer_scheduled_in_the_past_fires_at_the_next_tick_and_the_loop_ends() {
        let start = start();
        let mut wheel = TimerWheel::new();
        wheel.schedule(start, start, 0);
        let later = start + Duration::from_millis(40);
        let mut fired = 0;
        while let Some(key) = wheel.pop(later) {
            wheel.schedule(later, start, key + 1);
            fired += 1;
        }
        assert_eq!(fired, 10, "once per tick");
        assert_eq!(wheel.next(), Some(later + TICK));
    }

    #[test]
    fn same_tick_keeps_the_order_of_scheduling() {
        let start = start();
        let mut wheel = TimerWheel::new();
        for key in 0..100 {
            wheel.schedule(start, start + Duration::from_secs(32), key);
        }
        assert_eq!(
            drain(&mut wheel, start + Duration::from_secs(33)),
            (0..100).collect::<Vec<_>>()
        );
    }

    #[test]
    fn slab_is_reused() {
        let start = start();
        let mut wheel = TimerWheel::new();
        for round in 0..1_000 {
            let id = wheel.schedule(start, start + Duration::from_millis(round), 0);
            wheel.schedule(start, start + Duration::from_millis(round), 1);
            wheel.cancel(id);
            drain(&mut wheel, start + Duration::from_millis(round + 8));
        }
        assert!(wheel.nodes.len() <= 8, "{}", wheel.nodes.len());
        assert!(size_of::<Node<u32>>() <= 32);
    }

    #[test]
    fn far_timer_needs_few_calls() {
        let start = start();
        let mut wheel = TimerWheel::new();
        let at = start + Duration::from_secs(400 * 86_400);
        wheel.schedule(start, at, 7);
        let mut calls = 0;
        while let Some(now) = wheel.next() {
            calls += 1;
            if wheel.pop(now) == Some(7) {
                assert!(now >= at && now < at + TICK);
                break;
            }
        }
        assert!((1..=LEVELS).contains(&calls), "{calls}");
    }

    #[derive(Clone, Debug)]
    enum Step {
        Schedule(u64),
        Cancel(usize),
        Advance(u64),
        AdvanceToNext,
    }

    fn step() -> impl Strategy<Value = Step> {
        let micros = || {
            prop_oneof![
                0..20_000u64,
                0..2_000_000u64,
                0..200_000_000u64,
                0..200_000_000_000u64
            ]
        };
        prop_oneof![
            4 => micros().prop_map(Step::Schedule),
            2 => any::<usize>().prop_map(Step::Cancel),
            2 => micros().prop_map(Step::Advance),
            1 => Just(Step::AdvanceToNext),
        ]
    }

    proptest! {
        #[test]
        fn behaves_like_a_sorted_map(steps in proptest::collection::vec(step(), 1..200)) {
            let start = start();
            let mut now = start;
            let mut wheel = TimerWheel::new();
            // (tick, key) -> id
            let mut model: BTreeMap<(u64, u32), TimerId> = BTreeMap::new();
            let mut origin = None;
            for (key, step) in (0u32..).zip(steps) {
                match step {
                    Step::Schedule(micros) => {
                        let at = now + Duration::from_micros(micros);
                        let zero = *origin.get_or_insert(now);
                        let id = wheel.schedule(now, at, key);
                        let due = tick_at_or_after(zero, at).max(tick_at_or_before(zero, now) + 1);
                        model.insert((due, key), id);
                    }
                    Step::Cancel(which) if !model.is_empty() => {
                        let (&entry, &id) = model.iter().nth(which % model.len()).unwrap();
                        prop_assert_eq!(wheel.cancel(id), Some(entry.1));
                        model.remove(&entry);
                    }
                    Step::Cancel(_) => {}
                    Step::Advance(_) | Step::AdvanceToNext => {
                        now = match (step, wheel.next()) {
                            (Step::Advance(micros), _) => now + Duration::from_micros(micros),
                            (_, Some(next)) => now.max(next),
                            (_, None) => now,
                        };
                        let target = origin.map_or(0, |zero| tick_at_or_before(zero, now));
                        let mut fired = drain(&mut wheel, now);
                        let later = model.split_off(&(target + 1, 0));
                        let mut due: Vec<u32> = model.keys().map(|&(_, key)| key).collect();
                        fired.sort_unstable();
                        due.sort_unstable();
                        prop_assert_eq!(fired, due);
                        model = later;
                    }
                }
                prop_assert_eq!(wheel.len(), model.len());
                match (wheel.next(), model.keys().next()) {
                    (Some(next), Some(&(due, _))) => {
                        prop_assert!(next <= instant_of(origin.unwrap(), due), "never late");
                        prop_assert!(next > now, "nothing due is left, so the caller may sleep");
                    }
                    (None, None) => {}
                    other => prop_assert!(false, "{:?}", other),
                }
            }
        }
    }
}
