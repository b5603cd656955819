//! Which client transactions go to which peer, so that a broken connection or an ICMP error finds them without a look at all.
//!
//! The transactions of a peer form a list through their slots; a map has the first of each list.

use std::net::IpAddr;

use hashbrown::HashTable;
use slab::Slab;

use super::slot::{Machine, Transaction};
use crate::flow::Flow;

/// The first transaction of each peer, under the keyed hash of the peer.
#[derive(Debug, Default)]
pub(super) struct Peers {
    first: HashTable<(u64, u32)>,
}

/// The neighbours in the peer's list.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Links {
    peer: u64,
    previous: Option<u32>,
    next: Option<u32>,
}

impl Peers {
    /// Puts a client transaction in front of its peer's list.
    pub(super) fn link(&mut self, transactions: &mut Slab<Box<Transaction>>, peer: u64, slot: u32) {
        let next = self
            .first
            .find_mut(peer, |entry| entry.0 == peer)
            .map(|entry| std::mem::replace(&mut entry.1, slot));
        match next {
            Some(next) => with_links(transactions, next, |links| links.previous = Some(slot)),
            None => {
                self.first.insert_unique(peer, (peer, slot), |entry| entry.0);
            }
        }
        with_links(transactions, slot, |links| {
            *links = Links {
                peer,
                previous: None,
                next,
            }
        });
    }

    /// Takes the links of a transaction that has just been removed out of its list.
    pub(super) fn unlink(&mut self, transactions: &mut Slab<Box<Transaction>>, links: Links) {
        if let Some(next) = links.next {
            with_links(transactions, next, |neighbour| {
                neighbour.previous = links.previous
            });
        }
        if let Some(previous) = links.previous {
            return with_links(transactions, previous, |neighbour| neighbour.next = links.next);
        }
        if let Ok(mut entry) = self.first.find_entry(links.peer, |entry| entry.0 == links.peer) {
            match links.next {
                Some(next) => entry.get_mut().1 = next,
                None => {
                    entry.remove();
                }
            }
        }
    }

    /// The first transaction of a peer.
    pub(super) fn first(&self, peer: u64) -> Option<u32> {
        self.first
            .find(peer, |entry| entry.0 == peer)
            .map(|entry| entry.1)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.first.len()
    }
}

impl Links {
    /// The next transaction of the same peer.
    pub(super) fn next(&self) -> Option<u32> {
        self.next
    }
}

/// What tells peers apart: transport, address and port, without the connection.
pub(super) fn peer_bytes(flow: &Flow) -> [u8; 19] {
    let mut bytes = [0; 19];
    let ip = match flow.remote.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    bytes[..16].copy_from_slice(&ip.octets());
    bytes[16..18].copy_from_slice(&flow.remote.port().to_be_bytes());
    bytes[18] = flow.transport as u8;
    bytes
}

fn with_links(transactions: &mut Slab<Box<Transaction>>, slot: u32, change: impl FnOnce(&mut Links)) {
    if let Some(Machine::Client(client)) = transactions.get_mut(slot as usize).map(|t| &mut t.machine) {
        change(&mut client.links);
    }
}
