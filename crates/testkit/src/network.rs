//! The simulated network: hosts on access lines with delay, jitter, loss and duplication, behind NAT boxes or not.
//!
//! [`Network::send`] takes a datagram from a host and gives the copies that are on their way, each with the time of its arrival;
//! [`Network::arrive`] says which host it reaches then, if its NAT box still lets it through.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use agent::Random;

use crate::nat::{Nat, NatConfig};

/// An access line, the same in both directions.
#[derive(Clone, Copy, Debug, Default)]
pub struct Line {
    /// Time that every packet takes.
    pub delay: Duration,
    /// Up to so much more; packets overtake one another by it.
    pub jitter: Duration,
    /// So many of 1000 packets are lost.
    pub loss: u32,
    /// So many of 1000 packets arrive twice.
    pub duplication: u32,
}

/// A datagram as it is on its way.
#[derive(Clone, Debug)]
pub struct Datagram {
    /// The source as the receiver sees it.
    pub source: SocketAddr,
    /// Where it was sent.
    pub destination: SocketAddr,
    /// What it carries.
    pub bytes: Vec<u8>,
    /// It stays behind the NAT box of that number.
    inside: Option<usize>,
}

/// Names a host.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct HostId(pub usize);

#[derive(Debug)]
struct Host {
    addresses: Vec<IpAddr>,
    line: Line,
    nat: Option<usize>,
    up: bool,
}

/// The network.
#[derive(Debug)]
pub struct Network {
    random: Random,
    hosts: Vec<Host>,
    nats: Vec<Nat>,
}

impl Network {
    /// Nothing but the core, which takes no time and loses nothing.
    pub fn new(seed: u64) -> Self {
        Network {
            random: Random::new(seed),
            hosts: Vec::new(),
            nats: Vec::new(),
        }
    }

    /// A NAT box with that outside address.
    pub fn add_nat(&mut self, config: NatConfig, public: IpAddr) -> usize {
        self.nats.push(Nat::new(config, public, &mut self.random));
        self.nats.len() - 1
    }

    /// A host, behind a NAT box or not. Boxes may use the same inside addresses.
    pub fn add_host(&mut self, addresses: &[IpAddr], line: Line, nat: Option<usize>) -> HostId {
        self.hosts.push(Host {
            addresses: addresses.to_vec(),
            line,
            nat,
            up: true,
        });
        HostId(self.hosts.len() - 1)
    }

    /// Cuts a host's line, or repairs it.
    pub fn set_up(&mut self, host: HostId, up: bool) {
        self.hosts[host.0].up = up;
    }

    /// Switches a NAT box off and on.
    pub fn restart_nat(&mut self, nat: usize) {
        self.nats[nat].forget();
    }

    /// A host sends: what is on its way now, and until when. Nothing may be, or more than one.
    pub fn send(
        &mut self,
        now: Instant,
        from: HostId,
        source: SocketAddr,
        destination: SocketAddr,
        bytes: &[u8],
    ) -> Vec<(Instant, Datagram)> {
        let sender = &self.hosts[from.0];
        let (line, nat) = (sender.line, sender.nat);
        if !sender.up {
            return Vec::new();
        }
        let mut datagram = Datagram {
            source,
            destination,
            bytes: bytes.to_vec(),
            inside: None,
        };
        if let Some(nat) = nat {
            if self.host_at(destination.ip(), Some(nat)).is_some() {
                datagram.inside = Some(nat);
                return vec![(now + LOCAL_DELAY, datagram)];
            }
            if destination.ip() == self.nats[nat].public() || is_private(destination.ip()) {
                return Vec::new();
            }
            datagram.source = self.nats[nat].outbound(now, source, destination);
        } else if is_private(destination.ip()) {
            return Vec::new();
        }
        // The line at the other end counts as well; whether its NAT box lets the packet in is seen when it arrives.
        let far = self.line_towards(destination.ip());
        let Some(far) = far else { return Vec::new() };
        let mut copies = Vec::new();
        let twice = self.random.per_mille(line.duplication) || self.random.per_mille(far.duplication);
        for _ in 0..1 + usize::from(twice) {
            if self.random.per_mille(line.loss) || self.random.per_mille(far.loss) {
                continue;
            }
            let jitter = self.below(line.jitter) + self.below(far.jitter);
            copies.push((now + line.delay + far.delay + jitter, datagram.clone()));
        }
        copies
    }

    /// A datagram arrives: the host that gets it, and at which of its addresses.
    pub fn arrive(&mut self, now: Instant, datagram: &Datagram) -> Option<(HostId, SocketAddr)> {
        let destination = datagram.destination;
        let behind = self.nats.iter().position(|nat| nat.public() == destination.ip());
        let (place, nat) = match (datagram.inside, behind) {
            (Some(nat), _) => (destination, Some(nat)),
            (None, None) => (destination, None),
            (None, Some(nat)) => {
                let inside = self.nats[nat].inbound(now, destination.port(), datagram.source)?;
                (inside, Some(nat))
            }
        };
        let host = self.host_at(place.ip(), nat)?;
        self.hosts[host.0].up.then_some((host, place))
    }

    fn host_at(&self, address: IpAddr, nat: Option<usize>) -> Option<HostId> {
        self.hosts
            .iter()
            .position(|host| host.nat == nat && host.addresses.contains(&address))
            .map(HostId)
    }

    fn line_towards(&self, address: IpAddr) -> Option<Line> {
        let nat = self.nats.iter().position(|nat| nat.public() == address);
        let host = match nat {
            // All hosts behind a box share its line.
            Some(nat) => self.hosts.iter().find(|host| host.nat == Some(nat)),
            None => self.host_at(address, None).map(|host| &self.hosts[host.0]),
        };
        host.map(|host| host.line)
    }

    fn below(&mut self, limit: Duration) -> Duration {
        Duration::from_micros(self.random.below(limit.as_micros() as u64 + 1))
    }
}

fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_private(),
        IpAddr::V6(v6) => v6.is_unique_local(),
    }
}

/// Between two hosts behind the same box.
const LOCAL_DELAY: Duration = Duration::from_micros(300);
