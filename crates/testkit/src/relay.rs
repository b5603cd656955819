//! The relay of the simulated service: the real packet side ([`media::stream`]) behind ports that keep books.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use agent::Random;
use media::stream::{Action, Stream, StreamConfig};
use media::{AddressFamily, Command, Component, PortId, PortPair, RelayPorts, Report, Side, StreamId};

/// The ports of the relay; clones share them.
#[derive(Clone, Debug)]
pub struct Ports(Arc<Mutex<Books>>);

#[derive(Debug)]
struct Books {
    addresses: Vec<IpAddr>,
    next: u32,
    taken: BTreeMap<PortId, SocketAddr>,
    /// What was wrong about a release.
    fault: Option<String>,
}

impl Ports {
    /// Ports on these addresses; the first one cannot be guessed, lest those who still send to a call from before a crash are
    /// heard in the next.
    pub fn new(addresses: &[IpAddr], random: &mut Random) -> Self {
        Ports(Arc::new(Mutex::new(Books {
            addresses: addresses.to_vec(),
            next: random.below(PAIRS.into()) as u32,
            taken: BTreeMap::new(),
            fault: None,
        })))
    }

    /// Pairs in use.
    pub fn taken(&self) -> usize {
        self.with(|books| books.taken.len())
    }

    /// One of the ports in use.
    pub fn any(&self, random: &mut Random) -> Option<SocketAddr> {
        self.with(|books| {
            let place = random.below(books.taken.len() as u64) as usize;
            books.taken.values().nth(place).copied()
        })
    }

    /// A pair that was given back twice, if that ever happened.
    pub fn fault(&self) -> Option<String> {
        self.with(|books| books.fault.clone())
    }

    fn with<R>(&self, look: impl FnOnce(&mut Books) -> R) -> R {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl RelayPorts for Ports {
    fn allocate(&mut self, family: AddressFamily) -> Option<PortPair> {
        self.with(|books| {
            let of_family = |ip: &&IpAddr| AddressFamily::of(**ip) == family;
            let ip = *books.addresses.iter().find(of_family)?;
            let id = PortId(books.next);
            books.next += 1;
            // A world has fewer calls than ports, so no pair comes twice.
            let port = 30_000 + 2 * u16::try_from(id.0 % PAIRS).ok()?;
            let rtp = SocketAddr::new(ip, port);
            books.taken.insert(id, rtp);
            Some(PortPair { id, rtp })
        })
    }

    fn release(&mut self, id: PortId) {
        self.with(|books| {
            if books.taken.remove(&id).is_none() {
                books.fault = Some(format!("{id:?} was given back twice"));
            }
        });
    }
}

/// The relay: streams, and which port leads to which of their legs.
#[derive(Debug, Default)]
pub struct Relay {
    streams: BTreeMap<(u8, StreamId), Stream>,
    places: BTreeMap<SocketAddr, (u8, StreamId, Side, Component)>,
    addresses: BTreeMap<PortId, SocketAddr>,
    reports: VecDeque<(u8, Report)>,
}

/// A packet that goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Relayed {
    /// From which port of the relay.
    pub from: SocketAddr,
    /// Where to.
    pub to: SocketAddr,
}

impl Relay {
    /// Streams that are open.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// A worker's order.
    pub fn carry_out(&mut self, now: Instant, worker: u8, command: Command) {
        let id = command.stream();
        let key = (worker, id);
        let stream = self
            .streams
            .entry(key)
            .or_insert_with(|| Stream::new(now, id, StreamConfig::default()));
        stream.apply(now, command);
        self.places.retain(|_, (of, stream, ..)| (*of, *stream) != key);
        for (side, leg) in stream.legs() {
            let (rtp, rtcp) = (leg.ports.rtp, leg.ports.rtcp());
            self.places.insert(rtp, (worker, id, side, Component::Rtp));
            self.places.insert(rtcp, (worker, id, side, Component::Rtcp));
            self.addresses.insert(leg.ports.id, rtp);
        }
        let reports = std::iter::from_fn(|| stream.poll_report());
        self.reports.extend(reports.map(|report| (worker, report)));
        if stream.is_closed() {
            self.streams.remove(&key);
        }
    }

    /// A packet came to a port: where it goes on to, if anywhere.
    pub fn handle_packet(
        &mut self,
        now: Instant,
        port: SocketAddr,
        source: SocketAddr,
        packet: &mut [u8],
    ) -> Option<Relayed> {
        let &(worker, id, side, component) = self.places.get(&port)?;
        let stream = self.streams.get_mut(&(worker, id))?;
        let action = stream.handle_packet(now, side, component, source, packet);
        self.reports
            .extend(stream.poll_report().map(|report| (worker, report)));
        let Action::Forward {
            port,
            component,
            destination: to,
            ..
        } = action
        else {
            return None;
        };
        let rtp = *self.addresses.get(&port)?;
        let from = match component {
            Component::Rtp => rtp,
            Component::Rtcp => SocketAddr::new(rtp.ip(), rtp.port() + 1),
        };
        Some(Relayed { from, to })
    }

    /// Looks for silence; to be called once a second.
    pub fn tick(&mut self, now: Instant) {
        for ((worker, _), stream) in &mut self.streams {
            if stream.poll_timeout().is_some_and(|at| at <= now) {
                stream.handle_timeout(now);
                self.reports
                    .extend(stream.poll_report().map(|report| (*worker, report)));
            }
        }
    }

    /// What the streams have to say, and to which worker.
    pub fn poll_report(&mut self) -> Option<(u8, Report)> {
        self.reports.pop_front()
    }
}

/// Pairs of ports that the relay has.
const PAIRS: u32 = 15_000;
