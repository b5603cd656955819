//! The sockets of relayed addresses: who hands them out and how they are named.

use std::net::SocketAddr;

use crate::attribute::Family;

/// Names a socket of a relayed address. Slots are small numbers that are used again: tables are indexed by them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Slot(pub u32);

/// A socket that relays.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RelaySocket {
    /// Its name.
    pub slot: Slot,
    /// The relayed address, as peers see it.
    pub address: SocketAddr,
}

/// Hands out sockets; implemented by whoever owns them. Ports are to be chosen at random from the range (RFC 8656 section 7.2
/// with RFC 6056), and to rest for a while after use.
pub trait RelayPorts {
    /// Whether there are relayed addresses of this family at all.
    fn supports(&self, family: Family) -> bool;

    /// A socket; with `even`, one with an even port.
    fn allocate(&mut self, family: Family, even: bool) -> Option<RelaySocket>;

    /// A socket with an even port, and the one with the port above.
    fn allocate_pair(&mut self, family: Family) -> Option<[RelaySocket; 2]>;

    /// The socket is no longer used.
    fn release(&mut self, slot: Slot);
}
