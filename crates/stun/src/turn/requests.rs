//! Refresh, CreatePermission and ChannelBind (RFC 8656 sections 8.2, 10.2 and 12.2), and what their successes and Allocate's
//! say.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::ports::RelayPorts;
use super::table::Key;
use super::{Client, Refusal, Turn, canonical};
use crate::attribute::{AttributeType, Family, read_u32, read_xor_address};
use crate::frame::CHANNELS;
use crate::message::{Message, Writer};

/// What was carried out, as far as the answer tells.
pub(super) enum Success {
    Allocated(Key),
    Refreshed(Duration),
    Done,
}

impl Turn {
    pub(super) fn refresh(
        &mut self,
        now: Instant,
        client: &Client,
        user: &str,
        request: &Message<'_>,
        ports: &mut dyn RelayPorts,
    ) -> Result<Success, Refusal> {
        let key = self.owned(client, user)?;
        let lifetime = self.lifetime(request)?;
        let ends = request.value(AttributeType::LIFETIME).and_then(read_u32) == Some(0);
        let family = family(request, AttributeType::REQUESTED_ADDRESS_FAMILY)?;
        let Some(allocation) = self.table.get_mut(key) else {
            return Err(Refusal::AllocationMismatch);
        };
        if family.is_some_and(|family| allocation.relay(family).is_none()) {
            return Err(Refusal::PeerFamilyMismatch);
        }
        if !ends {
            self.table.set_end(key, now + lifetime);
            return Ok(Success::Refreshed(lifetime));
        }
        match family {
            // One of two.
            Some(family) if allocation.relays().count() > 1 => {
                if let Some(relay) = allocation.relay_mut(family).take() {
                    self.table.release(relay, ports);
                }
            }
            _ => self.table.remove(key, ports),
        }
        Ok(Success::Refreshed(Duration::ZERO))
    }

    pub(super) fn create_permission(
        &mut self,
        now: Instant,
        client: &Client,
        user: &str,
        request: &Message<'_>,
    ) -> Result<Success, Refusal> {
        let key = self.owned(client, user)?;
        let peers = || {
            request
                .attributes()
                .filter(|attribute| attribute.kind == AttributeType::XOR_PEER_ADDRESS)
                .map(|attribute| read_xor_address(attribute.value, &request.transaction_id()).map(canonical))
        };
        match peers().count() {
            0 => return Err(Refusal::BadRequest),
            count if count > self.config.max_permissions => return Err(Refusal::InsufficientCapacity),
            _ => {}
        }
        // All or nothing.
        for peer in peers() {
            let peer = peer.ok_or(Refusal::BadRequest)?;
            self.check_family(key, &peer)?;
            if !self.config.peers.permits_host(peer.ip()) {
                return Err(Refusal::Forbidden);
            }
        }
        let Some(allocation) = self.table.get_mut(key) else {
            return Err(Refusal::AllocationMismatch);
        };
        let hosts = || peers().flatten().map(|peer| peer.ip());
        if !allocation.has_room(now, hosts(), self.config.max_permissions) {
            return Err(Refusal::InsufficientCapacity);
        }
        hosts().for_each(|host| allocation.permit(now, host));
        Ok(Success::Done)
    }

    pub(super) fn channel_bind(
        &mut self,
        now: Instant,
        client: &Client,
        user: &str,
        request: &Message<'_>,
    ) -> Result<Success, Refusal> {
        let key = self.owned(client, user)?;
        let number = match request.value(AttributeType::CHANNEL_NUMBER) {
            Some(&[high, low, _, _]) => u16::from_be_bytes([high, low]),
            _ => return Err(Refusal::BadRequest),
        };
        let peer = request
            .value(AttributeType::XOR_PEER_ADDRESS)
            .and_then(|value| read_xor_address(value, &request.transaction_id()))
            .map(canonical)
            .ok_or(Refusal::BadRequest)?;
        if !CHANNELS.contains(&number) {
            return Err(Refusal::BadRequest);
        }
        self.check_family(key, &peer)?;
        if !self.config.peers.permits(peer) {
            return Err(Refusal::Forbidden);
        }
        let Some(allocation) = self.table.get_mut(key) else {
            return Err(Refusal::AllocationMismatch);
        };
        if !allocation.has_room(now, std::iter::once(peer.ip()), self.config.max_permissions) {
            return Err(Refusal::InsufficientCapacity);
        }
        allocation.bind(now, number, peer, self.config.max_channels)?;
        allocation.permit(now, peer.ip());
        Ok(Success::Done)
    }

    pub(super) fn write_success(&mut self, now: Instant, success: Success, writer: &mut Writer<'_>) {
        match success {
            Success::Allocated(key) => {
                let Some(allocation) = self.table.get_mut(key) else {
                    return;
                };
                for relay in allocation.relays() {
                    writer.xor_address(AttributeType::XOR_RELAYED_ADDRESS, relay.address);
                }
                let lifetime = allocation.expires.saturating_duration_since(now);
                writer.number(AttributeType::LIFETIME, lifetime.as_secs() as u32);
                if let Some(token) = allocation.token {
                    writer.attribute(AttributeType::RESERVATION_TOKEN, &token);
                }
                writer.xor_address(AttributeType::XOR_MAPPED_ADDRESS, allocation.client.address);
                if let Some((family, refusal)) = allocation.missing {
                    // RFC 8656 section 18.12; the reason is left out.
                    let code = refusal.code().0;
                    let value = [family.number(), 0, (code / 100) as u8, (code % 100) as u8];
                    writer.attribute(AttributeType::ADDRESS_ERROR_CODE, &value);
                }
            }
            Success::Refreshed(lifetime) => {
                writer.number(AttributeType::LIFETIME, lifetime.as_secs() as u32);
            }
            Success::Done => {}
        }
    }

    /// The client's allocation, which must be the user's (RFC 8656 section 5).
    fn owned(&mut self, client: &Client, user: &str) -> Result<Key, Refusal> {
        let key = self.table.find(client).ok_or(Refusal::AllocationMismatch)?;
        match self.table.get_mut(key) {
            Some(allocation) if *allocation.user == *user => Ok(key),
            Some(_) => Err(Refusal::WrongCredentials),
            None => Err(Refusal::AllocationMismatch),
        }
    }

    fn check_family(&mut self, key: Key, peer: &SocketAddr) -> Result<(), Refusal> {
        self.table
            .get_mut(key)
            .and_then(|allocation| allocation.relay(Family::of(peer)))
            .map(|_| ())
            .ok_or(Refusal::PeerFamilyMismatch)
    }
}

/// An address family that a request names (RFC 8656 section 18.6).
pub(super) fn family(request: &Message<'_>, kind: AttributeType) -> Result<Option<Family>, Refusal> {
    match request.value(kind) {
        None => Ok(None),
        Some(&[number, _, _, _]) => Family::from_number(number)
            .map(Some)
            .ok_or(Refusal::FamilyNotSupported),
        Some(_) => Err(Refusal::BadRequest),
    }
}
