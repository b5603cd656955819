//! Somebody else's TURN client (turn-client-proto) against our server, in simulated time: what both of us misread in the same way
//! a test of our own would not find.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use stun::attribute::Family;
use stun::frame::next_frame;
use stun::integrity::{Key, PasswordAlgorithm, userhash};
use stun::turn::{
    ANSWER, Account, Accounts, Client, Config, Output, RelayPorts, RelaySocket, Slot, Transport, Turn, User,
};
use turn_client_proto::api::{TurnClientApi, TurnConfig, TurnEvent, TurnPeerData, TurnPollRet, TurnRecvRet};
use turn_client_proto::client::TurnClient;
use turn_client_proto::stun::Instant as ClientInstant;
use turn_client_proto::stun::agent::Transmit;
use turn_client_proto::stun::auth::Feature;
use turn_client_proto::stun::types::message::IntegrityAlgorithm;
use turn_client_proto::tcp::TurnClientTcp;
use turn_client_proto::types::{AddressFamily, TransportType, TurnCredentials};
use turn_client_proto::udp::TurnClientUdp;

struct Alice;

impl Accounts for Alice {
    fn find<'a>(
        &'a self,
        user: User<'a>,
        algorithm: PasswordAlgorithm,
        _client: &Client,
    ) -> Option<Account<'a>> {
        let known = match user {
            User::Name(name) => name == "alice",
            User::Hash(hash) => *hash == userhash("alice", "example.org"),
        };
        known.then(|| Account {
            name: Cow::Borrowed("alice"),
            key: Key::new(algorithm, "alice", "example.org", "secret"),
        })
    }
}

#[derive(Default)]
struct Ports {
    used: BTreeSet<u32>,
    next: u32,
}

impl RelayPorts for Ports {
    fn supports(&self, _family: Family) -> bool {
        true
    }

    fn allocate(&mut self, family: Family, _even: bool) -> Option<RelaySocket> {
        self.next += 1;
        self.used.insert(self.next);
        let port = 50_000 + self.next as u16;
        let address = match family {
            Family::Ipv4 => ([203, 0, 113, 10], port).into(),
            Family::Ipv6 => ([0x2a00, 9, 0, 0, 0, 0, 0, 1], port).into(),
        };
        Some(RelaySocket {
            slot: Slot(self.next),
            address,
        })
    }

    fn allocate_pair(&mut self, _family: Family) -> Option<[RelaySocket; 2]> {
        None
    }

    fn release(&mut self, slot: Slot) {
        assert!(self.used.remove(&slot.0));
    }
}

/// The client, the server, and a peer that gives back what it gets.
struct World {
    start: Instant,
    elapsed: Duration,
    client: TurnClient,
    ours: Client,
    turn: Turn,
    ports: Ports,
    /// Bytes of the client's stream that are no whole frame yet.
    stream: Vec<u8>,
    events: Vec<TurnEvent>,
    heard: Vec<(SocketAddr, Vec<u8>)>,
    /// By ChannelData, by Send indication.
    relayed: [usize; 2],
}

impl World {
    fn new(transport: Transport, change: impl FnOnce(&mut TurnConfig)) -> Self {
        let start = Instant::now();
        let mut config = TurnConfig::new(TurnCredentials::new("alice", "secret"));
        change(&mut config);
        let (local, server) = (LOCAL.parse().unwrap(), SERVER.parse().unwrap());
        let client = match transport {
            Transport::Udp => TurnClientUdp::allocate(local, server, config).into(),
            Transport::Stream => TurnClientTcp::allocate(local, server, config).into(),
        };
        Self {
            start,
            elapsed: Duration::ZERO,
            client,
            ours: Client {
                transport,
                address: local,
                listener: 0,
            },
            turn: Turn::new(Config::new("example.org"), [3; 32], start),
            ports: Ports::default(),
            stream: Vec::new(),
            events: Vec::new(),
            heard: Vec::new(),
            relayed: [0; 2],
        }
    }

    fn now(&self) -> ClientInstant {
        ClientInstant::ZERO + self.elapsed
    }

    /// Lets both do what they want until `end` after the start.
    fn run_until(&mut self, end: Duration) {
        for _ in 0..100_000 {
            let wait = match self.client.poll(self.now()) {
                TurnPollRet::WaitUntil(at) => at.saturating_duration_since(self.now()),
                TurnPollRet::Closed => Duration::MAX,
                other => panic!("{other:?}"),
            };
            let mut busy = false;
            while let Some(transmit) = self.client.poll_transmit(self.now()) {
                busy = true;
                self.client_sends(&transmit.data);
            }
            while let Some(event) = self.client.poll_event() {
                busy = true;
                self.events.push(event);
            }
            if busy {
                continue;
            }
            if self
                .turn
                .poll_timeout()
                .is_some_and(|at| at <= self.start + self.elapsed)
            {
                self.turn
                    .handle_timeout(self.start + self.elapsed, &mut self.ports);
            }
            if self.elapsed >= end {
                return;
            }
            // At least a millisecond, lest rounding makes it stand still.
            let step = wait.max(Duration::from_millis(1));
            self.elapsed = self.elapsed.saturating_add(step).min(end);
        }
        panic!("the client does not come to rest");
    }

    fn run(&mut self) {
        self.run_until(self.elapsed + Duration::from_millis(100));
    }

    fn client_sends(&mut self, bytes: &[u8]) {
        if self.ours.transport == Transport::Udp {
            return self.message(bytes);
        }
        self.stream.extend(bytes);
        while let Some(frame) = next_frame(&self.stream).unwrap() {
            let (bytes, used) = (frame.bytes.to_vec(), frame.used);
            self.stream.drain(..used);
            self.message(&bytes);
        }
    }

    fn message(&mut self, bytes: &[u8]) {
        let mut answer = [0; ANSWER];
        let now = self.start + self.elapsed;
        let output = self
            .turn
            .handle_datagram(now, self.ours, bytes, &Alice, &mut self.ports, &mut answer);
        match output {
            Output::Answer { length } => self.client_receives(&answer[..length]),
            Output::ToPeer { slot, peer, data, .. } => {
                assert!(self.ports.used.contains(&slot.0));
                self.relayed[usize::from(bytes[0] < 0x40)] += 1;
                let mut echo = data.to_vec();
                echo.reverse();
                let to = self
                    .turn
                    .handle_peer_datagram(now, slot, peer, &echo)
                    .expect("the peer may answer");
                assert_eq!(to.client, self.ours);
                let mut bytes = to.prefix.as_bytes().to_vec();
                bytes.extend(to.data);
                bytes.extend(&[0; 3][..to.padding]);
                self.client_receives(&bytes);
            }
            Output::Silence => panic!("silence to {bytes:x?}"),
        }
    }

    fn client_receives(&mut self, bytes: &[u8]) {
        let transport = match self.ours.transport {
            Transport::Udp => TransportType::Udp,
            Transport::Stream => TransportType::Tcp,
        };
        // A stream may be cut anywhere.
        let middle = match self.ours.transport {
            Transport::Udp => bytes.len(),
            Transport::Stream => bytes.len() / 2,
        };
        for part in [&bytes[..middle], &bytes[middle..]] {
            if part.is_empty() {
                continue;
            }
            let transmit = Transmit::new(
                part.to_vec(),
                transport,
                SERVER.parse().unwrap(),
                LOCAL.parse().unwrap(),
            );
            let now = self.now();
            match self.client.recv(transmit, now) {
                TurnRecvRet::PeerData(data) => self.hear(&data),
                TurnRecvRet::Handled => {}
                other => panic!("{other:?}"),
            }
            while let Some(data) = self.client.poll_recv(now) {
                self.hear(&data);
            }
        }
    }

    fn hear<T: AsRef<[u8]> + std::fmt::Debug>(&mut self, data: &TurnPeerData<T>) {
        self.heard.push((data.peer, data.data().to_vec()));
    }

    /// Sends to a peer and hears it back. Over channels of a stream only whole words of four: this client leaves the padding
    /// out that RFC 8656 section 12.5 wants there.
    fn echo(&mut self, peer: &str, data: &[u8]) {
        let peer: SocketAddr = peer.parse().unwrap();
        let now = self.now();
        let transmit = self
            .client
            .send_to(TransportType::Udp, peer, data.to_vec(), now)
            .expect("it may be sent")
            .map(|transmit| transmit.build());
        if let Some(transmit) = transmit {
            self.client_sends(&transmit.data);
        }
        self.run();
        let mut expected = data.to_vec();
        expected.reverse();
        assert_eq!(self.heard.pop(), Some((peer, expected)));
    }

    fn permit(&mut self, peer: &str) {
        let host = peer.parse::<SocketAddr>().unwrap().ip();
        let now = self.now();
        self.client
            .create_permission(TransportType::Udp, host, now)
            .unwrap();
        self.run();
        assert!(self.client.have_permission(TransportType::Udp, host));
        self.echo(peer, b"by indication");
    }

    /// Permission, Send indication, channel, ChannelData.
    fn use_peer(&mut self, peer: &str) {
        self.permit(peer);
        let now = self.now();
        self.client
            .bind_channel(TransportType::Udp, peer.parse().unwrap(), now)
            .unwrap();
        self.run();
        let before = self.relayed;
        self.echo(peer, b"by a channel");
        assert_eq!(self.relayed, [before[0] + 1, before[1]]);
    }
}

fn old(config: &mut TurnConfig) {
    config.set_supported_integrity(IntegrityAlgorithm::Sha1);
    config.set_anonymous_username(Feature::Disabled);
}

fn new(config: &mut TurnConfig) {
    config.set_supported_integrity(IntegrityAlgorithm::Sha256);
    config.set_anonymous_username(Feature::Required);
}

#[test]
fn another_client_relays_by_udp_and_tcp_with_old_and_new_credentials() {
    for transport in [Transport::Udp, Transport::Stream] {
        for configure in [old, new] {
            let mut world = World::new(transport, configure);
            world.run();
            assert!(
                matches!(
                    world.events[..],
                    [TurnEvent::AllocationCreated(TransportType::Udp, _)]
                ),
                "{:?}",
                world.events
            );
            world.use_peer(PEER);
            let now = world.now();
            world.client.delete(now).unwrap();
            world.run();
            assert_eq!((world.turn.allocations(), world.ports.used.len()), (0, 0));
        }
    }
}

#[test]
fn another_client_gets_both_families() {
    let mut world = World::new(Transport::Udp, |config| {
        config.add_address_family(AddressFamily::IPV6);
    });
    world.run();
    assert_eq!(world.client.relayed_addresses().count(), 2, "{:?}", world.events);
    world.use_peer(PEER);
    // No channel: this client would take the same number for it.
    world.permit(PEER_V6);
}

/// Its refreshes of allocation, permission and channel come in time, and it copes with nonces that grow stale.
#[test]
fn another_client_stays_connected_for_three_hours() {
    for transport in [Transport::Udp, Transport::Stream] {
        let mut world = World::new(transport, old);
        world.run();
        world.use_peer(PEER);
        for minutes in 1..=180 {
            world.run_until(Duration::from_secs(minutes * 60));
            let before = world.relayed;
            world.echo(PEER, b"still there?");
            assert_eq!(
                world.relayed[0],
                before[0] + 1,
                "by the channel after {minutes} min"
            );
        }
        assert_eq!(world.turn.allocations(), 1);
    }
}

#[test]
fn another_client_is_told_which_peers_it_may_not_reach() {
    let mut world = World::new(Transport::Udp, old);
    world.run();
    let inner = "192.168.1.1".parse().unwrap();
    let now = world.now();
    world
        .client
        .create_permission(TransportType::Udp, inner, now)
        .unwrap();
    world.run();
    assert!(!world.client.have_permission(TransportType::Udp, inner));
    assert!(matches!(
        world.events.last(),
        Some(TurnEvent::PermissionCreateFailed(TransportType::Udp, _))
    ));
}

const LOCAL: &str = "192.0.2.1:4000";
const SERVER: &str = "203.0.113.10:3478";
const PEER: &str = "198.51.100.77:7000";
const PEER_V6: &str = "[2a00:1::77]:7000";
