//! The location service: which contacts an address-of-record has now (RFC 3261 10.1), shared by all workers.
//!
//! The registrar writes through [`Location::update`], routing reads with [`Location::lookup`]; both hold the lock of one of
//! [`SHARDS`] parts for a moment and take out cheap copies. Expired bindings are never handed out; [`Location::sweep`] removes
//! them part by part, so that no call takes long. A service that keeps bindings over a restart writes each [`BindingChange`] to
//! its store, says with [`Location::settle`] how that went, and gives everything back through [`Location::restore`] at start.
//!
//! Times are Unix seconds.

mod binding;
mod shard;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use sip::ConnectionId;
use smallvec::SmallVec;

pub use self::binding::{Binding, BindingParts, decode_flow};
use self::shard::{Keys, Shard};

/// All bindings of the service.
pub struct Location {
    keys: Keys,
    shards: Box<[Lane]>,
    length: AtomicUsize,
}

/// A change to one binding: what was and what is. A new binding has no `before`, a removed one no `after`; with both, their
/// contacts are the same byte for byte.
#[derive(Clone, Debug, PartialEq)]
pub struct BindingChange {
    /// The binding until now.
    pub before: Option<Binding>,
    /// The binding from now on.
    pub after: Option<Binding>,
    /// Of two changes of one address-of-record the later one has the higher number, whichever worker made it and whichever comes
    /// to the store first. Numbers begin anew at each start, with 1.
    pub order: u64,
}

/// The bindings of one address-of-record, locked: what [`Location::update`] gives.
pub struct Bindings<'a> {
    shard: MutexGuard<'a, Shard>,
    length: &'a AtomicUsize,
    keys: Keys,
    hash: u64,
    aor: &'a str,
}

/// Names a binding while its address-of-record is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(u32);

/// Parts with a lock of their own.
pub const SHARDS: usize = 64;

/// Groups of slots within each part that [`Location::collect_slice`] tells apart.
pub const SLICES: usize = 16;

impl Location {
    /// An empty location service. `secret` keys the hash tables and must not be known outside.
    pub fn new(secret: [u8; 16]) -> Self {
        Location {
            keys: Keys(secret),
            shards: (0..SHARDS).map(|_| Lane(Mutex::new(Shard::new()))).collect(),
            length: AtomicUsize::new(0),
        }
    }

    /// The bindings of `aor` (canonical, `user@domain`) that are valid at `now`, highest q first, then the latest registered.
    pub fn lookup(&self, aor: &str, now: u64) -> SmallVec<[Binding; 2]> {
        let hash = self.keys.aor(aor);
        let mut found: SmallVec<[Binding; 2]> = {
            let shard = self.shard_of(hash);
            shard
                .bindings(hash, aor)
                .map(|(_, binding)| binding)
                .filter(|b| b.expires() > now)
                .cloned()
                .collect()
        };
        if found.len() > 1 {
            found.sort_by_key(|binding| {
                (
                    std::cmp::Reverse(binding.q()),
                    std::cmp::Reverse(binding.registered_at()),
                )
            });
        }
        found
    }

    /// Locks the bindings of `aor` and lets `change` read and write them.
    pub fn update<R>(&self, aor: &str, change: impl FnOnce(&mut Bindings<'_>) -> R) -> R {
        let hash = self.keys.aor(aor);
        let shard = self.shard_of(hash);
        change(&mut Bindings {
            shard,
            length: &self.length,
            keys: self.keys,
            hash,
            aor,
        })
    }

    /// Puts a stored binding back at start. A contact that is there already stays as it is.
    pub fn restore(&self, parts: &BindingParts<'_>) {
        // A connection does not outlive the process; its number could name another one by now.
        let flow = sip::Flow {
            connection: None,
            ..parts.flow
        };
        self.update(parts.aor, |bindings| {
            if !bindings
                .iter()
                .any(|(_, binding)| binding.contact() == parts.contact)
            {
                bindings.insert(Binding::new(&BindingParts { flow, ..*parts }));
            }
        });
    }

    /// The store has taken `changes` (`stored`), or could not: then they are undone, as far as nothing newer came in between.
    pub fn settle(&self, changes: &[BindingChange], stored: bool) {
        for change in changes.iter().rev() {
            let Some(aor) = change.after.as_ref().or(change.before.as_ref()).map(Binding::aor) else {
                continue;
            };
            self.update(aor, |bindings| match &change.after {
                Some(after) => {
                    let same = |binding: &Binding| {
                        binding.pending == after.pending && binding.contact() == after.contact()
                    };
                    let slot = bindings
                        .iter()
                        .find(|(_, binding)| same(binding))
                        .map(|(slot, _)| slot);
                    match (slot, &change.before) {
                        (None, _) => {}
                        (Some(Slot(slot)), _) if stored => bindings.shard.settle(slot),
                        (Some(slot), Some(before)) => bindings.replace(slot, before.clone()),
                        (Some(slot), None) => {
                            bindings.remove(slot);
                        }
                    }
                }
                None if stored => {}
                None => {
                    let Some(before) = &change.before else { return };
                    if !bindings
                        .iter()
                        .any(|(_, binding)| binding.contact() == before.contact())
                    {
                        bindings.insert(before.clone());
                    }
                }
            });
        }
    }

    /// Removes all bindings of `aor`: its account is gone.
    pub fn remove_all(&self, aor: &str) {
        self.update(aor, |bindings| {
            let slots: SmallVec<[Slot; 4]> = bindings.iter().map(|(slot, _)| slot).collect();
            for slot in slots {
                bindings.remove(slot);
            }
        });
    }

    /// Removes what came by a connection that is closed now, and adds it to `removed`.
    pub fn remove_flow(&self, connection: ConnectionId, removed: &mut Vec<BindingChange>) {
        for lane in &self.shards {
            let mut shard = lane.lock();
            let slots: SmallVec<[u32; 4]> = shard.on_connection(self.keys, connection).collect();
            for slot in slots {
                self.remove_slot(&mut shard, slot, removed);
            }
        }
    }

    /// Removes the bindings of one part (`part` modulo [`SHARDS`]) that ended by `now`, and adds them to `removed`.
    pub fn sweep(&self, part: usize, now: u64, removed: &mut Vec<BindingChange>) {
        let Some(lane) = self.shards.get(part % SHARDS) else {
            return;
        };
        let mut shard = lane.lock();
        let over = shard.every(0, 1).filter(|(_, binding)| binding.expires() <= now);
        let slots: Vec<u32> = over.map(|(slot, _)| slot).take(SWEEP_LIMIT).collect();
        for slot in slots {
            self.remove_slot(&mut shard, slot, removed);
        }
    }

    /// Adds one part's bindings of one slice to `out`, as far as `wanted`. A binding stays in its slice as long as it lives, so
    /// who walks through all parts and slices at a steady pace meets each one at a steady interval.
    pub fn collect_slice(
        &self,
        part: usize,
        slice: usize,
        wanted: impl Fn(&Binding) -> bool,
        out: &mut Vec<Binding>,
    ) {
        let Some(lane) = self.shards.get(part % SHARDS) else {
            return;
        };
        let shard = lane.lock();
        let slice = shard.every(slice % SLICES, SLICES).map(|(_, binding)| binding);
        out.extend(slice.filter(|binding| wanted(binding)).cloned());
    }

    /// Calls `visit` for each binding that is valid at `now`, in no order, without holding a lock meanwhile.
    pub fn for_each(&self, now: u64, mut visit: impl FnMut(&Binding)) {
        let mut copies = Vec::new();
        for lane in &self.shards {
            copies.extend(
                lane.lock()
                    .every(0, 1)
                    .map(|(_, binding)| binding)
                    .filter(|b| b.expires() > now)
                    .cloned(),
            );
            copies.drain(..).for_each(|binding| visit(&binding));
        }
    }

    /// Number of bindings, expired ones not yet swept among them.
    pub fn len(&self) -> usize {
        self.length.load(Ordering::Relaxed)
    }

    /// True when there is no binding.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn shard_of(&self, hash: u64) -> MutexGuard<'_, Shard> {
        // The tables take their bits from both ends of the hash; these are from its middle.
        self.shards[(hash >> 32) as usize % SHARDS].lock()
    }

    fn remove_slot(&self, shard: &mut Shard, slot: u32, removed: &mut Vec<BindingChange>) {
        let Some(hash) = shard.get(slot).map(|binding| self.keys.aor(binding.aor())) else {
            return;
        };
        if let Some(before) = shard.remove(self.keys, hash, slot) {
            self.length.fetch_sub(1, Ordering::Relaxed);
            removed.push(BindingChange {
                before: Some(before),
                after: None,
                order: shard.next_change(),
            });
        }
    }
}

impl Bindings<'_> {
    /// The bindings, expired ones among them.
    pub fn iter(&self) -> impl Iterator<Item = (Slot, &Binding)> {
        self.shard
            .bindings(self.hash, self.aor)
            .map(|(slot, binding)| (Slot(slot), binding))
    }

    /// The binding in `slot`.
    pub fn get(&self, slot: Slot) -> Option<&Binding> {
        self.shard.get(slot.0)
    }

    /// Adds a binding; it must be of this address-of-record.
    pub fn insert(&mut self, binding: Binding) {
        debug_assert_eq!(binding.aor(), self.aor);
        self.shard.insert(self.keys, self.hash, binding);
        self.length.fetch_add(1, Ordering::Relaxed);
    }

    /// Puts `binding` into the place of the one in `slot`.
    pub fn replace(&mut self, slot: Slot, binding: Binding) {
        debug_assert_eq!(binding.aor(), self.aor);
        self.shard.replace(self.keys, slot.0, binding);
    }

    /// Removes the binding in `slot`.
    pub fn remove(&mut self, slot: Slot) -> Option<Binding> {
        let removed = self.shard.remove(self.keys, self.hash, slot.0)?;
        self.length.fetch_sub(1, Ordering::Relaxed);
        Some(removed)
    }

    /// A number for [`BindingChange::order`].
    pub fn next_change(&mut self) -> u64 {
        self.shard.next_change()
    }
}

/// A part behind its lock, on cache lines of its own.
#[repr(align(128))]
struct Lane(Mutex<Shard>);

impl Lane {
    fn lock(&self) -> MutexGuard<'_, Shard> {
        // No code under the lock panics by design; if some did, the tables are still consistent enough to serve.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bindings removed by one sweep: what does not fit waits for the next round.
const SWEEP_LIMIT: usize = 2_000;

#[cfg(test)]
pub(crate) mod tests;
