//! The machines against our own server through a simulated NAT, with a clock of their own.

use std::collections::BinaryHeap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use super::*;
use crate::server::{Config, Server, Socket};

mod behaviour;
mod classification;
mod lifetime;
mod properties;

/// What a mapping or a filter depends on besides the host's port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum By {
    Endpoint,
    Address,
    AddressAndPort,
}

const ALL: [By; 3] = [By::Endpoint, By::Address, By::AddressAndPort];

#[derive(Clone, Copy)]
struct NatKind {
    mapping: By,
    filtering: By,
    hairpin: bool,
    lifetime: Duration,
    /// Rewrites the mapped address wherever it stands in a payload.
    rewrites: bool,
    /// Takes another of its addresses for each mapping.
    pool: bool,
}

impl Default for NatKind {
    fn default() -> Self {
        Self {
            mapping: By::Endpoint,
            filtering: By::AddressAndPort,
            hairpin: false,
            lifetime: Duration::from_secs(1000),
            rewrites: false,
            pool: false,
        }
    }
}

struct Binding {
    inside: SocketAddr,
    outside: SocketAddr,
    /// What the mapping was made for, as far as it depends on it.
    toward: Option<SocketAddr>,
    peers: Vec<SocketAddr>,
    used: Instant,
}

/// The router, or a firewall without NAT.
struct Router {
    kind: Option<NatKind>,
    filtering: Option<By>,
    bindings: Vec<Binding>,
}

/// One machine, whichever.
trait Machine {
    fn poll_transmit(&mut self, now: Instant, buffer: &mut [u8]) -> Option<Transmit>;
    fn poll_timeout(&self) -> Option<Instant>;
    fn handle_timeout(&mut self, now: Instant);
    fn handle_datagram(&mut self, now: Instant, socket: usize, from: SocketAddr, bytes: &[u8]);
}

macro_rules! machine {
    ($name:ident) => {
        impl Machine for $name {
            fn poll_transmit(&mut self, now: Instant, buffer: &mut [u8]) -> Option<Transmit> {
                $name::poll_transmit(self, now, buffer)
            }
            fn poll_timeout(&self) -> Option<Instant> {
                $name::poll_timeout(self)
            }
            fn handle_timeout(&mut self, now: Instant) {
                $name::handle_timeout(self, now)
            }
            fn handle_datagram(&mut self, now: Instant, socket: usize, from: SocketAddr, bytes: &[u8]) {
                $name::handle_datagram(self, now, socket, from, bytes)
            }
        }
    };
}
machine!(Classification);
machine!(Behaviour);
machine!(Lifetime);

struct World {
    start: Instant,
    now: Instant,
    router: Router,
    server: Option<Server>,
    /// Every so many datagrams one is lost, if not 0.
    lose_every: usize,
    sent: usize,
    /// The server answers from where it was asked, whatever it was asked for; or not at all if this was asked for.
    deaf: Option<ChangeRequest>,
    response_port: ResponsePort,
    /// Under way: when it arrives, and a number that keeps the order.
    network: BinaryHeap<std::cmp::Reverse<(Instant, usize, Datagram)>>,
}

/// What the server makes of RESPONSE-PORT.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ResponsePort {
    Honoured,
    Refused,
    Ignored,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Datagram {
    from: SocketAddr,
    to: SocketAddr,
    bytes: Vec<u8>,
}

fn server_address() -> SocketAddr {
    "203.0.113.10:3478".parse().unwrap()
}

fn host(socket: usize) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 168, 1, 10)), 6000 + socket as u16)
}

fn full_server(now: Instant) -> Server {
    let config = Config {
        alternate: Some("203.0.113.11:3479".parse().unwrap()),
        ..Config::new(server_address())
    };
    Server::new(config, [1; 16], now).unwrap()
}

impl World {
    fn behind(kind: NatKind) -> Self {
        Self::with(Router {
            kind: Some(kind),
            filtering: Some(kind.filtering),
            bindings: Vec::new(),
        })
    }

    /// Without NAT; `filtering` is a firewall's.
    fn open(filtering: Option<By>) -> Self {
        Self::with(Router {
            kind: None,
            filtering,
            bindings: Vec::new(),
        })
    }

    fn with(router: Router) -> Self {
        let now = Instant::now();
        Self {
            start: now,
            now,
            router,
            server: Some(full_server(now)),
            lose_every: 0,
            sent: 0,
            deaf: None,
            response_port: ResponsePort::Honoured,
            network: BinaryHeap::new(),
        }
    }

    fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// Runs a machine to its end.
    fn run(&mut self, machine: &mut dyn Machine) {
        let mut buffer = [0; REQUEST];
        for _ in 0..10_000 {
            while let Some(transmit) = machine.poll_transmit(self.now, &mut buffer) {
                let datagram = Datagram {
                    from: host(transmit.socket),
                    to: transmit.to,
                    bytes: buffer[..transmit.length].to_vec(),
                };
                self.leave(datagram);
            }
            let arrival = self.network.peek().map(|std::cmp::Reverse((at, ..))| *at);
            let Some(timeout) = machine.poll_timeout() else {
                return;
            };
            match arrival {
                Some(at) if at <= timeout => {
                    self.now = self.now.max(at);
                    let std::cmp::Reverse((_, _, datagram)) = self.network.pop().unwrap();
                    self.arrive(datagram, machine);
                }
                _ => {
                    self.now = self.now.max(timeout);
                    machine.handle_timeout(self.now);
                }
            }
        }
        panic!("the machine does not end");
    }

    /// From the host through the router.
    fn leave(&mut self, mut datagram: Datagram) {
        datagram.from = self.router.outward(self.now, datagram.from, datagram.to);
        let own = self.router.is_own(datagram.to);
        if !own || self.router.kind.is_some_and(|kind| kind.hairpin) {
            self.transmit(datagram);
        }
    }

    fn transmit(&mut self, datagram: Datagram) {
        self.sent += 1;
        if self.lose_every == 0 || !self.sent.is_multiple_of(self.lose_every) {
            let at = self.now + Duration::from_millis(20);
            self.network.push(std::cmp::Reverse((at, self.sent, datagram)));
        }
    }

    fn arrive(&mut self, datagram: Datagram, machine: &mut dyn Machine) {
        let Datagram { from, to, bytes } = datagram;
        if let Some(server) = &mut self.server
            && let Some(at) = Socket::ALL.into_iter().find(|at| server.address(*at) == to)
        {
            let mut answer = [0; 500];
            let request = Message::parse(&bytes).unwrap();
            let change = request
                .value(AttributeType::CHANGE_REQUEST)
                .and_then(ChangeRequest::from_value);
            if self.deaf.is_some() && self.deaf == change {
                return;
            }
            let Some(transmit) = server.handle_datagram(self.now, &bytes, from, at, &mut answer) else {
                return;
            };
            let mut datagram = Datagram {
                from: server.address(transmit.from),
                to: transmit.to,
                bytes: answer[..transmit.length].to_vec(),
            };
            if self.deaf.is_some() {
                datagram.from = to;
            }
            if request.value(AttributeType::RESPONSE_PORT).is_some()
                && self.response_port != ResponsePort::Honoured
            {
                datagram.to = from;
                if self.response_port == ResponsePort::Refused {
                    let mut writer = Writer::answer(&mut answer, Class::Error, &request);
                    writer.error(420, "Unknown Attribute");
                    let length = writer.finish().unwrap();
                    datagram.bytes = answer[..length].to_vec();
                }
            }
            self.transmit(datagram);
            return;
        }
        if let Some(inside) = self.router.inward(self.now, from, to) {
            let socket = usize::from(inside.port() - 6000);
            let bytes = self.router.rewritten(bytes, inside, to);
            // As a socket for both families sees it.
            let from = match from.ip() {
                IpAddr::V4(v4) => SocketAddr::new(IpAddr::V6(v4.to_ipv6_mapped()), from.port()),
                IpAddr::V6(_) => from,
            };
            machine.handle_datagram(self.now, socket, from, &bytes);
        }
    }
}

impl Router {
    fn is_own(&self, address: SocketAddr) -> bool {
        self.bindings.iter().any(|binding| binding.outside == address)
    }

    fn outward(&mut self, now: Instant, inside: SocketAddr, to: SocketAddr) -> SocketAddr {
        let toward = match self.kind.map(|kind| kind.mapping) {
            Some(By::Address) => Some(SocketAddr::new(to.ip(), 0)),
            Some(By::AddressAndPort) => Some(to),
            Some(By::Endpoint) | None => None,
        };
        self.forget(now);
        let known = self
            .bindings
            .iter_mut()
            .find(|binding| binding.inside == inside && binding.toward == toward);
        if let Some(binding) = known {
            binding.used = now;
            binding.peers.push(to);
            return binding.outside;
        }
        let number = self.bindings.len() as u8;
        let outside = match self.kind {
            None => inside,
            Some(kind) => {
                let last = if kind.pool { 1 + number } else { 1 };
                SocketAddr::new(
                    IpAddr::V4(Ipv4Addr::new(198, 51, 100, last)),
                    20_000 + u16::from(number),
                )
            }
        };
        self.bindings.push(Binding {
            inside,
            outside,
            toward,
            peers: vec![to],
            used: now,
        });
        outside
    }

    fn inward(&mut self, now: Instant, from: SocketAddr, to: SocketAddr) -> Option<SocketAddr> {
        self.forget(now);
        let filtering = self.filtering;
        let binding = self.bindings.iter_mut().find(|binding| {
            binding.outside == to
                && match filtering {
                    None | Some(By::Endpoint) => true,
                    Some(By::Address) => binding.peers.iter().any(|peer| peer.ip() == from.ip()),
                    Some(By::AddressAndPort) => binding.peers.contains(&from),
                }
        })?;
        Some(binding.inside)
    }

    /// Numbers stay: a port is not used again.
    fn forget(&mut self, now: Instant) {
        if let Some(kind) = self.kind {
            for binding in &mut self.bindings {
                if now - binding.used >= kind.lifetime {
                    binding.peers.clear();
                    binding.inside = "0.0.0.0:0".parse().unwrap();
                    binding.outside = "0.0.0.0:0".parse().unwrap();
                }
            }
        }
    }

    fn rewritten(&self, mut bytes: Vec<u8>, inside: SocketAddr, outside: SocketAddr) -> Vec<u8> {
        if self.kind.is_some_and(|kind| kind.rewrites)
            && let (IpAddr::V4(inside), IpAddr::V4(outside)) = (inside.ip(), outside.ip())
        {
            for at in 20..bytes.len().saturating_sub(3) {
                if bytes[at..at + 4] == outside.octets() {
                    bytes[at..at + 4].copy_from_slice(&inside.octets());
                }
            }
        }
        bytes
    }
}

#[test]
fn classic_answers_and_answers_of_today_are_read() {
    let mut buffer = [0; 200];
    for id in [TransactionId::classic([9; 16]), TransactionId::new([9; 12])] {
        let now = Instant::now();
        let length = BindingRequest::default().write(id, &mut buffer).unwrap();
        let mut answer = [0; 200];
        let from = "198.51.100.7:40000".parse().unwrap();
        let transmit = full_server(now)
            .handle_datagram(now, &buffer[..length], from, Socket::PRIMARY, &mut answer)
            .unwrap();
        let message = Message::parse(&answer[..transmit.length]).unwrap();
        assert_eq!(
            BindingResponse::read(&message),
            Some(BindingResponse {
                xored: (!id.is_classic()).then_some(from),
                plain: Some(from),
                other: Some("203.0.113.11:3479".parse().unwrap()),
                error: None,
            })
        );
    }
}

#[test]
fn a_request_goes_out_as_often_as_its_timing_says_and_then_it_is_over() {
    let mut world = World::behind(NatKind::default());
    world.server = None;
    let mut machine = Classification::new(world.now, server_address(), host(0), [1; 16], Timing::default());
    world.run(&mut machine);
    assert_eq!(world.sent, 5);
    // 200 + 400 + 800 + 1600, and 1600 behind the last.
    assert_eq!(world.elapsed(), Duration::from_millis(4600));
}

#[test]
fn the_time_between_two_requests_grows_to_the_longest_and_no_further() {
    let mut world = World::behind(NatKind::default());
    world.server = None;
    let timing = Timing {
        first: Duration::from_millis(500),
        longest: Duration::from_millis(800),
        sends: 4,
    };
    let mut machine = Behaviour::new(world.now, server_address(), host(0), [1; 16], timing);
    world.run(&mut machine);
    assert_eq!(world.sent, 4);
    assert_eq!(world.elapsed(), Duration::from_millis(500 + 800 + 800 + 800));
}

const NOTHING: ChangeRequest = ChangeRequest {
    ip: false,
    port: false,
};
const BOTH: ChangeRequest = ChangeRequest { ip: true, port: true };
