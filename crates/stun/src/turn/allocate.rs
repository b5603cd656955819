//! Allocate (RFC 8656 section 7.2): the checks in the RFC's order, then the relayed addresses.

use std::time::{Duration, Instant};

use super::allocation::Allocation;
use super::ports::{RelayPorts, RelaySocket};
use super::requests::{Success, family};
use super::{Client, Refusal, Transport, Turn};
use crate::attribute::{AttributeType, Family, read_u32};
use crate::message::Message;

/// What an Allocate request asks for, well-formed.
struct Wish {
    family: Family,
    /// Another relayed address, of IPv6.
    additional: bool,
    parity: Parity,
    token: Option<[u8; 8]>,
}

/// EVEN-PORT.
#[derive(PartialEq, Eq)]
enum Parity {
    Any,
    Even,
    /// Even, and the next higher port is to be reserved.
    Pair,
}

impl Turn {
    pub(super) fn allocate(
        &mut self,
        now: Instant,
        client: Client,
        user: &str,
        request: &Message<'_>,
        ports: &mut dyn RelayPorts,
    ) -> Result<Success, Refusal> {
        if let Some(key) = self.table.find(&client) {
            let repeated = self.table.get_mut(key).is_some_and(|allocation| {
                client.transport == Transport::Udp
                    && allocation.transaction == request.transaction_id()
                    && *allocation.user == *user
            });
            return if repeated {
                Ok(Success::Allocated(key))
            } else {
                Err(Refusal::AllocationMismatch)
            };
        }
        let wish = Wish::read(request)?;
        let possible = wish.token.is_some()
            || ports.supports(wish.family)
            || wish.additional && ports.supports(Family::Ipv6);
        if !possible {
            return Err(Refusal::FamilyNotSupported);
        }
        // A reservation counts already, and becomes this allocation.
        let more = match (&wish.token, &wish.parity) {
            (Some(_), _) => 0,
            (None, Parity::Pair) => 2,
            (None, _) => 1,
        };
        if self.table.held_by(user) + more > self.config.max_per_user {
            return Err(Refusal::QuotaReached);
        }
        if self.table.held() + more > self.config.max_allocations {
            return Err(Refusal::InsufficientCapacity);
        }
        let lifetime = self.lifetime(request)?;
        let mut allocation = Allocation::new(client, user, request.transaction_id(), now + lifetime);
        let reserved = self.take_relays(user, &wish, &mut allocation, ports)?;
        if let Some(relay) = reserved {
            allocation.token = Some(self.table.reserve(now, user, relay));
        }
        Ok(Success::Allocated(self.table.insert(allocation)))
    }

    /// Fills in the relayed addresses; the socket of a pair that is to be reserved comes back.
    fn take_relays(
        &mut self,
        user: &str,
        wish: &Wish,
        allocation: &mut Allocation,
        ports: &mut dyn RelayPorts,
    ) -> Result<Option<RelaySocket>, Refusal> {
        let none = Refusal::InsufficientCapacity;
        if let Some(token) = wish.token {
            let relay = self.table.claim(user, token).ok_or(none)?;
            *allocation.relay_mut(Family::of(&relay.address)) = Some(relay);
            return Ok(None);
        }
        if wish.parity == Parity::Pair {
            let [relay, next] = ports.allocate_pair(wish.family).ok_or(none)?;
            *allocation.relay_mut(wish.family) = Some(relay);
            return Ok(Some(next));
        }
        let even = wish.parity == Parity::Even;
        let families: &[Family] = if wish.additional {
            &[Family::Ipv4, Family::Ipv6]
        } else {
            std::slice::from_ref(&wish.family)
        };
        for &family in families {
            let relay = ports
                .supports(family)
                .then(|| ports.allocate(family, even))
                .flatten();
            match relay {
                Some(relay) => *allocation.relay_mut(family) = Some(relay),
                None if ports.supports(family) => allocation.missing = Some((family, none)),
                None => allocation.missing = Some((family, Refusal::FamilyNotSupported)),
            }
        }
        if allocation.relays().next().is_none() {
            return Err(none);
        }
        Ok(None)
    }

    /// What LIFETIME asks for, within bounds (RFC 8656 section 7.2). Zero is for Refresh to tell.
    pub(super) fn lifetime(&self, request: &Message<'_>) -> Result<Duration, Refusal> {
        let asked = match request.value(AttributeType::LIFETIME) {
            Some(value) => Duration::from_secs(read_u32(value).ok_or(Refusal::BadRequest)?.into()),
            None => Duration::ZERO,
        };
        Ok(asked
            .min(self.config.max_lifetime)
            .max(self.config.default_lifetime))
    }
}

impl Wish {
    fn read(request: &Message<'_>) -> Result<Self, Refusal> {
        match request.value(AttributeType::REQUESTED_TRANSPORT) {
            Some(&[UDP, _, _, _]) => {}
            Some(&[_, _, _, _]) => return Err(Refusal::UnsupportedTransport),
            _ => return Err(Refusal::BadRequest),
        }
        let parity = match request.value(AttributeType::EVEN_PORT) {
            None => Parity::Any,
            Some(&[flags]) if flags & 0x80 != 0 => Parity::Pair,
            Some(&[_]) => Parity::Even,
            Some(_) => return Err(Refusal::BadRequest),
        };
        let token = match request.value(AttributeType::RESERVATION_TOKEN) {
            None => None,
            Some(value) => Some(value.try_into().map_err(|_| Refusal::BadRequest)?),
        };
        let requested = family(request, AttributeType::REQUESTED_ADDRESS_FAMILY)?;
        let additional = match request.value(AttributeType::ADDITIONAL_ADDRESS_FAMILY) {
            None => false,
            // RFC 8656 section 18.11: IPv6 is all that it may name.
            Some(&[2, _, _, _]) => true,
            Some(_) => return Err(Refusal::BadRequest),
        };
        // The attributes that exclude each other.
        let with_token = parity != Parity::Any || requested.is_some() || additional;
        let with_additional = requested.is_some() || parity == Parity::Pair;
        if token.is_some() && with_token || additional && with_additional {
            return Err(Refusal::BadRequest);
        }
        Ok(Self {
            family: requested.unwrap_or(Family::Ipv4),
            additional,
            parity,
            token,
        })
    }
}

/// The protocol number of UDP.
const UDP: u8 = 17;
