//! All allocations and reservations: by client, by slot, by user, and in the order in which they end.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hasher};
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use siphasher::sip::SipHasher13;
use slab::Slab;

use super::Client;
use super::allocation::Allocation;
use super::ports::{RelayPorts, RelaySocket, Slot};

/// The key of an allocation: its place.
pub(super) type Key = usize;

/// The reserved port of a pair (RFC 8656 section 7.2, EVEN-PORT).
struct Reservation {
    relay: RelaySocket,
    user: Box<str>,
    expires: Instant,
}

pub(super) struct Table {
    allocations: Slab<Allocation>,
    by_client: HashMap<Client, Key, Keyed>,
    /// By the slot's number.
    by_slot: Vec<Option<Key>>,
    /// Allocations and reservations of each user.
    users: HashMap<String, usize, Keyed>,
    reservations: HashMap<[u8; 8], Reservation, Keyed>,
    /// One entry for each allocation and reservation, when it ends or, once it was refreshed, earlier.
    ends: BTreeSet<(Instant, End)>,
    secret: Keyed,
    tokens: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Allocation(Key),
    Reservation([u8; 8]),
}

impl Table {
    pub(super) fn new(secret: [u8; 16]) -> Self {
        let secret = Keyed(secret);
        Self {
            allocations: Slab::new(),
            by_client: HashMap::with_hasher(secret),
            by_slot: Vec::new(),
            users: HashMap::with_hasher(secret),
            reservations: HashMap::with_hasher(secret),
            ends: BTreeSet::new(),
            secret,
            tokens: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.allocations.len()
    }

    /// Allocations and reservations.
    pub(super) fn held(&self) -> usize {
        self.allocations.len() + self.reservations.len()
    }

    /// Allocations and reservations of a user.
    pub(super) fn held_by(&self, user: &str) -> usize {
        self.users.get(user).copied().unwrap_or(0)
    }

    pub(super) fn find(&self, client: &Client) -> Option<Key> {
        self.by_client.get(client).copied()
    }

    /// The allocation of a client, unless it has ended.
    pub(super) fn of_client(&self, now: Instant, client: &Client) -> Option<&Allocation> {
        let key = self.find(client)?;
        self.allocations
            .get(key)
            .filter(|allocation| allocation.expires > now)
    }

    /// The allocation that a slot relays for, unless it has ended.
    pub(super) fn of_slot(&self, now: Instant, slot: Slot) -> Option<&Allocation> {
        let key = (*self.by_slot.get(slot.0 as usize)?)?;
        self.allocations
            .get(key)
            .filter(|allocation| allocation.expires > now)
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut Allocation> {
        self.allocations.get_mut(key)
    }

    pub(super) fn insert(&mut self, allocation: Allocation) -> Key {
        *self.users.entry_ref(&*allocation.user).or_insert(0) += 1;
        let (client, expires) = (allocation.client, allocation.queued);
        let relays = allocation.relays();
        let key = self.allocations.insert(allocation);
        self.by_client.insert(client, key);
        for relay in relays {
            let slot = relay.slot.0 as usize;
            if self.by_slot.len() <= slot {
                self.by_slot.resize(slot + 1, None);
            }
            self.by_slot[slot] = Some(key);
        }
        self.ends.insert((expires, End::Allocation(key)));
        key
    }

    pub(super) fn remove(&mut self, key: Key, ports: &mut dyn RelayPorts) {
        let Some(allocation) = self.allocations.try_remove(key) else {
            return;
        };
        self.by_client.remove(&allocation.client);
        self.ends.remove(&(allocation.queued, End::Allocation(key)));
        self.forget_one_of(&allocation.user);
        for relay in allocation.relays() {
            self.release(relay, ports);
        }
    }

    /// Moves an allocation's end. Its entry is moved only if it would come too late.
    pub(super) fn set_end(&mut self, key: Key, expires: Instant) {
        let Some(allocation) = self.allocations.get_mut(key) else {
            return;
        };
        allocation.expires = expires;
        if expires < allocation.queued {
            self.ends.remove(&(allocation.queued, End::Allocation(key)));
            allocation.queued = expires;
            self.ends.insert((expires, End::Allocation(key)));
        }
    }

    /// The relayed address relays no longer.
    pub(super) fn release(&mut self, relay: RelaySocket, ports: &mut dyn RelayPorts) {
        if let Some(entry) = self.by_slot.get_mut(relay.slot.0 as usize) {
            *entry = None;
        }
        ports.release(relay.slot);
    }

    /// Keeps a port for a later request of the same user that shows the token.
    pub(super) fn reserve(&mut self, now: Instant, user: &str, relay: RelaySocket) -> [u8; 8] {
        self.tokens += 1;
        let mut hasher = self.secret.build_hasher();
        hasher.write(b"reservation");
        hasher.write_u64(self.tokens);
        let token = hasher.finish().to_be_bytes();
        let expires = now + RESERVATION_LIFETIME;
        *self.users.entry_ref(user).or_insert(0) += 1;
        let reservation = Reservation {
            relay,
            user: user.into(),
            expires,
        };
        self.reservations.insert(token, reservation);
        self.ends.insert((expires, End::Reservation(token)));
        token
    }

    /// The port that was kept for this user under this token; it is no longer kept.
    pub(super) fn claim(&mut self, user: &str, token: [u8; 8]) -> Option<RelaySocket> {
        self.reservations
            .get(&token)
            .filter(|reservation| *reservation.user == *user)?;
        let reservation = self.reservations.remove(&token)?;
        self.ends.remove(&(reservation.expires, End::Reservation(token)));
        self.forget_one_of(user);
        Some(reservation.relay)
    }

    /// When [`expire`](Self::expire) may have something to do.
    pub(super) fn next_end(&self) -> Option<Instant> {
        self.ends.first().map(|&(at, _)| at)
    }

    /// Removes what has ended by `now`.
    pub(super) fn expire(&mut self, now: Instant, ports: &mut dyn RelayPorts) {
        while let Some(&(at, end)) = self.ends.first() {
            if at > now {
                return;
            }
            self.ends.pop_first();
            match end {
                End::Allocation(key) => match self.allocations.get_mut(key) {
                    Some(allocation) if allocation.expires > now => {
                        allocation.queued = allocation.expires;
                        self.ends.insert((allocation.queued, end));
                    }
                    _ => self.remove(key, ports),
                },
                End::Reservation(token) => {
                    if let Some(reservation) = self.reservations.remove(&token) {
                        self.forget_one_of(&reservation.user);
                        ports.release(reservation.relay.slot);
                    }
                }
            }
        }
    }

    fn forget_one_of(&mut self, user: &str) {
        if let Some(count) = self.users.get_mut(user) {
            *count -= 1;
            if *count == 0 {
                self.users.remove(user);
            }
        }
    }
}

/// Keys come from strangers: hashes depend on the secret.
#[derive(Clone, Copy)]
struct Keyed([u8; 16]);

impl BuildHasher for Keyed {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_key(&self.0)
    }
}

/// RFC 8656 section 7.2: at least 30 s.
pub(super) const RESERVATION_LIFETIME: Duration = Duration::from_secs(30);
