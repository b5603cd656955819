//! Slots with generations: a key names one value and never the next one that lives in the same slot.

use slab::Slab;

/// Key of a value in an [`Arena`]. It fits into the `owner` of a transaction and into a Record-Route token.
pub(crate) struct Key<T> {
    raw: u64,
    of: std::marker::PhantomData<fn() -> T>,
}

// Not derived: a key is plain data whatever it names.
impl<T> Clone for Key<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Key<T> {}

impl<T> PartialEq for Key<T> {
    fn eq(&self, other: &Self) -> bool {
        self.raw == other.raw
    }
}

impl<T> Eq for Key<T> {}

impl<T> std::fmt::Debug for Key<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:x}", self.raw)
    }
}

impl<T> Key<T> {
    fn new(slot: usize, generation: u32) -> Self {
        Key {
            raw: u64::from(generation) << 32 | slot as u64,
            of: std::marker::PhantomData,
        }
    }

    /// The key as a number, never zero.
    pub(crate) fn to_u64(self) -> u64 {
        self.raw
    }

    /// The key behind a number that [`Key::to_u64`] gave; any other number names nothing.
    pub(crate) fn from_u64(raw: u64) -> Self {
        Key {
            raw,
            of: std::marker::PhantomData,
        }
    }

    fn slot(self) -> usize {
        (self.raw & u64::from(u32::MAX)) as usize
    }

    fn generation(self) -> u32 {
        (self.raw >> 32) as u32
    }
}

/// Values in slots, found by [`Key`].
pub(crate) struct Arena<T> {
    slots: Slab<(u32, T)>,
    generation: u32,
}

impl<T> Arena<T> {
    pub(crate) fn new() -> Self {
        Arena {
            slots: Slab::new(),
            generation: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn insert(&mut self, value: T) -> Key<T> {
        // 24 bits, never zero: an owner has 8 bits to spare for the branch, and no key is 0.
        self.generation = self.generation % GENERATIONS + 1;
        let slot = self.slots.insert((self.generation, value));
        Key::new(slot, self.generation)
    }

    pub(crate) fn get(&self, key: Key<T>) -> Option<&T> {
        self.slots
            .get(key.slot())
            .filter(|(generation, _)| *generation == key.generation())
            .map(|(_, value)| value)
    }

    pub(crate) fn get_mut(&mut self, key: Key<T>) -> Option<&mut T> {
        self.slots
            .get_mut(key.slot())
            .filter(|(generation, _)| *generation == key.generation())
            .map(|(_, value)| value)
    }

    pub(crate) fn remove(&mut self, key: Key<T>) -> Option<T> {
        self.get(key)?;
        Some(self.slots.remove(key.slot()).1)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key<T>, &T)> {
        self.slots
            .iter()
            .map(|(slot, (generation, value))| (Key::new(slot, *generation), value))
    }
}

const GENERATIONS: u32 = (1 << 24) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_does_not_find_the_slots_next_value() {
        let mut arena = Arena::new();
        let first = arena.insert("first");
        assert_eq!(arena.remove(first), Some("first"));
        let second = arena.insert("second");
        assert_eq!(first.slot(), second.slot());
        assert_eq!((arena.get(first), arena.get(second)), (None, Some(&"second")));
        assert_eq!(arena.remove(Key::from_u64(first.to_u64())), None);
        assert_eq!(arena.len(), 1);
    }
}
