//! One allocation: its relayed addresses, permissions and channels (RFC 8656 sections 3.2 to 3.5, 9 and 12).
//!
//! Permissions and channels that have ended count no longer at once and are swept out when their room is needed. Both are
//! short lists: an allocation has a few peers.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::ports::RelaySocket;
use super::{Client, Refusal};
use crate::attribute::Family;
use crate::message::TransactionId;

/// A client's hold on up to one relayed address per family.
pub(super) struct Allocation {
    pub(super) client: Client,
    pub(super) user: Box<str>,
    /// The request that made it: it may come again.
    pub(super) transaction: TransactionId,
    pub(super) expires: Instant,
    /// Under which time it is queued: `expires`, or earlier once it was refreshed.
    pub(super) queued: Instant,
    pub(super) ipv4: Option<RelaySocket>,
    pub(super) ipv6: Option<RelaySocket>,
    /// Of the port that was reserved along with it.
    pub(super) token: Option<[u8; 8]>,
    /// The family that was asked for in addition and could not be had, and why.
    pub(super) missing: Option<(Family, Refusal)>,
    permissions: Vec<Permission>,
    channels: Vec<Channel>,
}

struct Permission {
    host: IpAddr,
    expires: Instant,
}

struct Channel {
    number: u16,
    peer: SocketAddr,
    expires: Instant,
}

impl Allocation {
    pub(super) fn new(client: Client, user: &str, transaction: TransactionId, expires: Instant) -> Self {
        Self {
            client,
            user: user.into(),
            transaction,
            expires,
            queued: expires,
            ipv4: None,
            ipv6: None,
            token: None,
            missing: None,
            permissions: Vec::new(),
            channels: Vec::new(),
        }
    }

    pub(super) fn relay(&self, family: Family) -> Option<RelaySocket> {
        match family {
            Family::Ipv4 => self.ipv4,
            Family::Ipv6 => self.ipv6,
        }
    }

    pub(super) fn relay_mut(&mut self, family: Family) -> &mut Option<RelaySocket> {
        match family {
            Family::Ipv4 => &mut self.ipv4,
            Family::Ipv6 => &mut self.ipv6,
        }
    }

    pub(super) fn relays(&self) -> impl Iterator<Item = RelaySocket> + use<> {
        self.ipv4.into_iter().chain(self.ipv6)
    }

    pub(super) fn is_permitted(&self, now: Instant, host: IpAddr) -> bool {
        self.permissions
            .iter()
            .any(|permission| permission.host == host && permission.expires > now)
    }

    /// Whether permissions for all these hosts have room; makes some.
    pub(super) fn has_room(
        &mut self,
        now: Instant,
        hosts: impl Iterator<Item = IpAddr>,
        limit: usize,
    ) -> bool {
        self.permissions.retain(|permission| permission.expires > now);
        // One that is named twice counts twice: nobody does so who is near the limit.
        let new = hosts
            .filter(|host| !self.permissions.iter().any(|known| known.host == *host))
            .count();
        self.permissions.len() + new <= limit
    }

    /// Installs or refreshes a permission, for which there is room.
    pub(super) fn permit(&mut self, now: Instant, host: IpAddr) {
        let expires = now + PERMISSION_LIFETIME;
        match self.permissions.iter_mut().find(|known| known.host == host) {
            Some(known) => known.expires = expires,
            None => self.permissions.push(Permission { host, expires }),
        }
    }

    /// Binds or refreshes a channel. Neither its number nor its peer may be bound otherwise.
    pub(super) fn bind(
        &mut self,
        now: Instant,
        number: u16,
        peer: SocketAddr,
        limit: usize,
    ) -> Result<(), Refusal> {
        let expires = now + CHANNEL_LIFETIME;
        self.channels.retain(|channel| channel.expires > now);
        if let Some(known) = self
            .channels
            .iter_mut()
            .find(|known| known.number == number || known.peer == peer)
        {
            if (known.number, known.peer) != (number, peer) {
                return Err(Refusal::BadRequest);
            }
            known.expires = expires;
            return Ok(());
        }
        if self.channels.len() >= limit {
            return Err(Refusal::InsufficientCapacity);
        }
        self.channels.push(Channel {
            number,
            peer,
            expires,
        });
        Ok(())
    }

    /// Where a channel leads.
    pub(super) fn peer_of(&self, now: Instant, number: u16) -> Option<SocketAddr> {
        self.channels
            .iter()
            .find(|channel| channel.number == number && channel.expires > now)
            .map(|channel| channel.peer)
    }

    /// The channel that leads to a peer.
    pub(super) fn channel_to(&self, now: Instant, peer: SocketAddr) -> Option<u16> {
        self.channels
            .iter()
            .find(|channel| channel.peer == peer && channel.expires > now)
            .map(|channel| channel.number)
    }
}

/// RFC 8656 section 9.
pub(super) const PERMISSION_LIFETIME: Duration = Duration::from_secs(300);
/// RFC 8656 section 12.
pub(super) const CHANNEL_LIFETIME: Duration = Duration::from_secs(600);
