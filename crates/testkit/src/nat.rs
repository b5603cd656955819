//! A NAT box (RFC 4787's terms, RFC 3489's kinds): what leaves gets an address of the box, what comes in needs a mapping that
//! has not been forgotten, and passes a filter.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use agent::Random;

/// What a NAT box lets in, and how it maps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NatKind {
    /// One mapping per inside address, anybody may use it.
    FullCone,
    /// Only hosts may that were sent to.
    Restricted,
    /// Only ports may that were sent to.
    PortRestricted,
    /// A mapping for each destination, which alone may use it.
    Symmetric,
}

/// How a NAT box behaves.
#[derive(Clone, Copy, Debug)]
pub struct NatConfig {
    /// Its kind.
    pub kind: NatKind,
    /// How long a mapping lives that nothing has left by.
    pub lifetime: Duration,
    /// What comes in keeps a mapping alive as well.
    pub inbound_refreshes: bool,
}

/// A NAT box. It does not hairpin: who sends to its outside address from inside reaches nobody.
#[derive(Debug)]
pub struct Nat {
    config: NatConfig,
    public: IpAddr,
    /// By inside address, and by destination where that matters.
    mappings: BTreeMap<(SocketAddr, Option<SocketAddr>), Mapping>,
    by_port: BTreeMap<u16, (SocketAddr, Option<SocketAddr>)>,
    next_port: u16,
}

#[derive(Debug)]
struct Mapping {
    port: u16,
    alive: Instant,
    /// Who was sent to.
    peers: Vec<SocketAddr>,
}

impl Nat {
    /// A box with that outside address.
    pub fn new(config: NatConfig, public: IpAddr, random: &mut Random) -> Self {
        Nat {
            config,
            public,
            mappings: BTreeMap::new(),
            by_port: BTreeMap::new(),
            next_port: 20_000 + random.below(20_000) as u16,
        }
    }

    /// Its outside address.
    pub fn public(&self) -> IpAddr {
        self.public
    }

    /// A packet leaves: the source that the outside sees.
    pub fn outbound(&mut self, now: Instant, source: SocketAddr, destination: SocketAddr) -> SocketAddr {
        let symmetric = self.config.kind == NatKind::Symmetric;
        let key = (source, symmetric.then_some(destination));
        let forgotten = self
            .mappings
            .get(&key)
            .is_some_and(|mapping| self.is_over(now, mapping));
        if forgotten && let Some(mapping) = self.mappings.remove(&key) {
            self.by_port.remove(&mapping.port);
        }
        let (next_port, by_port) = (&mut self.next_port, &mut self.by_port);
        let mapping = self.mappings.entry(key).or_insert_with(|| {
            // Never the port of another mapping, nor one that was used a short while ago.
            *next_port = if *next_port >= 60_000 {
                20_000
            } else {
                *next_port + 1
            };
            by_port.insert(*next_port, key);
            Mapping {
                port: *next_port,
                alive: now,
                peers: Vec::new(),
            }
        });
        mapping.alive = now;
        if !mapping.peers.contains(&destination) {
            mapping.peers.push(destination);
        }
        SocketAddr::new(self.public, mapping.port)
    }

    /// A packet arrives at an outside port: the inside address that it goes on to, if any.
    pub fn inbound(&mut self, now: Instant, port: u16, source: SocketAddr) -> Option<SocketAddr> {
        let key = *self.by_port.get(&port)?;
        if self.is_over(now, self.mappings.get(&key)?) {
            return None;
        }
        let mapping = self.mappings.get_mut(&key)?;
        let passes = match self.config.kind {
            NatKind::FullCone => true,
            NatKind::Restricted => mapping.peers.iter().any(|peer| peer.ip() == source.ip()),
            NatKind::PortRestricted | NatKind::Symmetric => mapping.peers.contains(&source),
        };
        if passes && self.config.inbound_refreshes {
            mapping.alive = now;
        }
        passes.then_some(key.0)
    }

    /// The box was switched off and on: it knows no mapping any more.
    pub fn forget(&mut self) {
        self.mappings.clear();
        self.by_port.clear();
    }

    fn is_over(&self, now: Instant, mapping: &Mapping) -> bool {
        now.saturating_duration_since(mapping.alive) > self.config.lifetime
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PHONE: &str = "192.168.1.10:5060";
    const SERVER: &str = "203.0.113.10:5060";
    const STRANGER: &str = "198.51.100.99:5060";
    const SAME_HOST: &str = "203.0.113.10:5070";

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn nat(kind: NatKind, inbound_refreshes: bool) -> Nat {
        let config = NatConfig {
            kind,
            lifetime: Duration::from_secs(30),
            inbound_refreshes,
        };
        Nat::new(config, [198, 51, 100, 1].into(), &mut Random::new(1))
    }

    #[test]
    fn each_kind_lets_in_whom_it_should() {
        let now = Instant::now();
        for (kind, same_host, stranger) in [
            (NatKind::FullCone, true, true),
            (NatKind::Restricted, true, false),
            (NatKind::PortRestricted, false, false),
            (NatKind::Symmetric, false, false),
        ] {
            let mut nat = nat(kind, false);
            let outside = nat.outbound(now, addr(PHONE), addr(SERVER));
            let mut enters = |from| nat.inbound(now, outside.port(), addr(from)) == Some(addr(PHONE));
            assert!(enters(SERVER));
            assert_eq!(enters(SAME_HOST), same_host, "{kind:?}");
            assert_eq!(enters(STRANGER), stranger, "{kind:?}");
        }
    }

    #[test]
    fn only_a_symmetric_one_maps_by_destination() {
        let now = Instant::now();
        for kind in [
            NatKind::FullCone,
            NatKind::Restricted,
            NatKind::PortRestricted,
            NatKind::Symmetric,
        ] {
            let mut nat = nat(kind, false);
            let first = nat.outbound(now, addr(PHONE), addr(SERVER));
            assert_eq!(nat.outbound(now, addr(PHONE), addr(SERVER)), first);
            let other = nat.outbound(now, addr(PHONE), addr(STRANGER));
            assert_eq!(other != first, kind == NatKind::Symmetric);
        }
    }

    #[test]
    fn mapping_is_forgotten_and_made_anew_elsewhere() {
        let now = Instant::now();
        let later = |seconds| now + Duration::from_secs(seconds);
        for inbound_refreshes in [false, true] {
            let mut nat = nat(NatKind::FullCone, inbound_refreshes);
            let outside = nat.outbound(now, addr(PHONE), addr(SERVER));
            assert!(nat.inbound(later(20), outside.port(), addr(SERVER)).is_some());
            let after = nat.inbound(later(40), outside.port(), addr(SERVER));
            assert_eq!(after.is_some(), inbound_refreshes);
            assert_ne!(nat.outbound(later(100), addr(PHONE), addr(SERVER)), outside);
            assert_eq!(nat.inbound(later(100), outside.port(), addr(SERVER)), None);
        }
    }
}
