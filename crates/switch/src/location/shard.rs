//! One part of the location service: a slab of bindings, chained per address-of-record, found through a table of slot numbers.
//!
//! The table holds four bytes per address-of-record and the slab one slot per binding: entries with a key and a list of their
//! own would add half of what a binding costs.

use std::hash::Hasher;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use sip::ConnectionId;
use siphasher::sip::SipHasher13;

use super::binding::Binding;

/// A shard's data; the lock around it is [`Location`](super::Location)'s.
#[derive(Default)]
pub(super) struct Shard {
    slots: Vec<Slot>,
    /// First free slot; free slots are chained by `next`.
    free: u32,
    /// First slot of each address-of-record.
    heads: HashTable<u32>,
    /// Slots whose binding came by a connection; several may have the same one.
    connections: HashTable<u32>,
    /// Last number given to a change.
    changes: u64,
}

/// Room for a binding.
struct Slot {
    binding: Option<Binding>,
    /// Next slot of the same address-of-record, or next free slot; [`NONE`] at the end.
    next: u32,
}

/// Hashes with a key, because the hashed values come from strangers.
#[derive(Clone, Copy)]
pub(super) struct Keys(pub(super) [u8; 16]);

impl Keys {
    pub(super) fn aor(&self, aor: &str) -> u64 {
        self.hash(aor.as_bytes())
    }

    pub(super) fn connection(&self, connection: ConnectionId) -> u64 {
        self.hash(&connection.0.get().to_le_bytes())
    }

    fn hash(&self, bytes: &[u8]) -> u64 {
        let mut hasher = SipHasher13::new_with_key(&self.0);
        hasher.write(bytes);
        hasher.finish()
    }
}

impl Shard {
    pub(super) fn new() -> Self {
        Shard {
            free: NONE,
            ..Shard::default()
        }
    }

    /// A number for a change, never 0, and higher than that of any change before.
    pub(super) fn next_change(&mut self) -> u64 {
        self.changes += 1;
        self.changes
    }

    /// Bindings of an address-of-record with their slots.
    pub(super) fn bindings(&self, hash: u64, aor: &str) -> impl Iterator<Item = (u32, &Binding)> {
        let head = self
            .heads
            .find(hash, |&slot| {
                self.get(slot).is_some_and(|binding| binding.is_of(aor))
            })
            .copied();
        let mut next = head.unwrap_or(NONE);
        std::iter::from_fn(move || {
            let slot = self.slots.get(next as usize)?;
            let found = (next, slot.binding.as_ref()?);
            next = slot.next;
            Some(found)
        })
    }

    pub(super) fn get(&self, slot: u32) -> Option<&Binding> {
        self.slots.get(slot as usize)?.binding.as_ref()
    }

    /// Bindings in every `step`th slot, beginning with `first`.
    pub(super) fn every(&self, first: usize, step: usize) -> impl Iterator<Item = (u32, &Binding)> {
        let slots = self.slots.iter().enumerate().skip(first).step_by(step);
        slots.filter_map(|(slot, Slot { binding, .. })| Some((slot as u32, binding.as_ref()?)))
    }

    /// Bindings that came by a connection.
    pub(super) fn on_connection(&self, keys: Keys, connection: ConnectionId) -> impl Iterator<Item = u32> {
        let hash = keys.connection(connection);
        let same = move |&slot: &u32| self.get(slot).and_then(Binding::connection) == Some(connection);
        self.connections.iter_hash(hash).copied().filter(same)
    }

    pub(super) fn insert(&mut self, keys: Keys, hash: u64, binding: Binding) {
        if let Some(connection) = binding.connection() {
            self.link_connection(keys, connection, self.next_slot());
        }
        let slot = self.next_slot();
        match self.slots.get_mut(slot as usize) {
            Some(free) => {
                self.free = free.next;
                *free = Slot {
                    binding: Some(binding),
                    next: NONE,
                };
            }
            None => {
                if self.slots.len() == self.slots.capacity() {
                    // Doubling would leave up to half of the slab unused.
                    self.slots.reserve_exact(self.slots.len() / 8 + 8);
                }
                self.slots.push(Slot {
                    binding: Some(binding),
                    next: NONE,
                });
            }
        }
        let Shard { slots, heads, .. } = self;
        let aor = |slot: u32| aor_of(slots, slot);
        match heads.entry(hash, |&head| aor(head) == aor(slot), |&head| keys.aor(aor(head))) {
            Entry::Vacant(entry) => {
                entry.insert(slot);
            }
            Entry::Occupied(entry) => {
                let head = *entry.get() as usize;
                let second = std::mem::replace(&mut slots[head].next, slot);
                slots[slot as usize].next = second;
            }
        }
    }

    /// Puts a binding of the same address-of-record into the place of another one.
    pub(super) fn replace(&mut self, keys: Keys, slot: u32, binding: Binding) {
        let Some(old) = self.get(slot).map(Binding::connection) else {
            return;
        };
        let new = binding.connection();
        if old != new {
            self.unlink_connection(keys, slot);
        }
        if let Some(place) = self.slots.get_mut(slot as usize) {
            place.binding = Some(binding);
        }
        if old != new
            && let Some(connection) = new
        {
            self.link_connection(keys, connection, slot);
        }
    }

    pub(super) fn remove(&mut self, keys: Keys, hash: u64, slot: u32) -> Option<Binding> {
        self.unlink_connection(keys, slot);
        let Shard {
            slots, heads, free, ..
        } = self;
        let next = slots.get(slot as usize)?.next;
        let aor = aor_of(slots, slot);
        let mut entry = heads.find_entry(hash, |&head| aor_of(slots, head) == aor).ok()?;
        let head = *entry.get();
        if head != slot {
            let mut before = head;
            while slots.get(before as usize)?.next != slot {
                before = slots[before as usize].next;
            }
            slots[before as usize].next = next;
        } else if next == NONE {
            entry.remove();
        } else {
            *entry.get_mut() = next;
        }
        let place = slots.get_mut(slot as usize)?;
        place.next = *free;
        *free = slot;
        place.binding.take()
    }

    /// Marks what a write to the store said: it is done.
    pub(super) fn settle(&mut self, slot: u32) {
        if let Some(Slot {
            binding: Some(binding),
            ..
        }) = self.slots.get_mut(slot as usize)
        {
            binding.pending = 0;
        }
    }

    /// Memory in use, without what the allocator adds.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        let tables = self.heads.allocation_size() + self.connections.allocation_size();
        let packed = self
            .slots
            .iter()
            .filter_map(|slot| slot.binding.as_ref())
            .map(Binding::bytes)
            .sum::<usize>();
        tables + self.slots.capacity() * size_of::<Slot>() + packed
    }

    fn next_slot(&self) -> u32 {
        if self.free == NONE {
            self.slots.len() as u32
        } else {
            self.free
        }
    }

    fn link_connection(&mut self, keys: Keys, connection: ConnectionId, slot: u32) {
        let Shard {
            slots, connections, ..
        } = self;
        let hash_of = |&slot: &u32| {
            let binding = slots.get(slot as usize).and_then(|slot| slot.binding.as_ref());
            binding
                .and_then(Binding::connection)
                .map_or(0, |connection| keys.connection(connection))
        };
        connections.insert_unique(keys.connection(connection), slot, hash_of);
    }

    fn unlink_connection(&mut self, keys: Keys, slot: u32) {
        let Some(connection) = self.get(slot).and_then(Binding::connection) else {
            return;
        };
        if let Ok(entry) = self
            .connections
            .find_entry(keys.connection(connection), |&other| other == slot)
        {
            entry.remove();
        }
    }
}

/// End of a chain.
const NONE: u32 = u32::MAX;

fn aor_of(slots: &[Slot], slot: u32) -> &str {
    slots
        .get(slot as usize)
        .and_then(|slot| slot.binding.as_ref())
        .map_or("", Binding::aor)
}
