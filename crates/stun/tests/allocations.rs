//! Nothing is allocated per binding request, per relayed datagram, or per request that is refused. A test program of its own,
//! since it counts what the whole process allocates.
#![allow(unsafe_code, reason = "a global allocator cannot be written without")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use stun::attribute::{AttributeType, Family};
use stun::integrity::{Integrity, Key, PasswordAlgorithm};
use stun::message::{Class, Message, Method, TransactionId, Writer};
use stun::server::{Config, Server, Socket};
use stun::turn::{Account, Accounts, Client, Output, RelayPorts, RelaySocket, Slot, Transport, Turn, User};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: all calls go to the system's allocator unchanged; counting touches nothing but an atomic.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Alice;

impl Accounts for Alice {
    fn find<'a>(
        &'a self,
        user: User<'a>,
        algorithm: PasswordAlgorithm,
        _client: &Client,
    ) -> Option<Account<'a>> {
        (user == User::Name("alice")).then(|| Account {
            name: Cow::Borrowed("alice"),
            key: Key::new(algorithm, "alice", "realm", "secret"),
        })
    }
}

struct OnePort;

impl RelayPorts for OnePort {
    fn supports(&self, family: Family) -> bool {
        family == Family::Ipv4
    }

    fn allocate(&mut self, _family: Family, _even: bool) -> Option<RelaySocket> {
        Some(RelaySocket {
            slot: Slot(0),
            address: ([203, 0, 113, 10], 50_000).into(),
        })
    }

    fn allocate_pair(&mut self, _family: Family) -> Option<[RelaySocket; 2]> {
        None
    }

    fn release(&mut self, _slot: Slot) {}
}

fn message(class: Class, method: Method, buffer: &mut [u8], fill: impl FnOnce(&mut Writer<'_>)) -> usize {
    let mut writer = Writer::new(buffer, class, method, TransactionId::new([7; 12]));
    fill(&mut writer);
    writer.finish().unwrap()
}

fn sign(writer: &mut Writer<'_>, nonce: &[u8]) {
    writer.attribute(AttributeType::USERNAME, b"alice");
    writer.attribute(AttributeType::REALM, b"realm");
    writer.attribute(AttributeType::NONCE, nonce);
    let key = Key::new(PasswordAlgorithm::Md5, "alice", "realm", "secret");
    writer.integrity(Integrity::Sha1, key.as_bytes());
}

/// What runs again and again must not count.
fn count(mut work: impl FnMut()) -> u64 {
    work();
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    for _ in 0..100 {
        work();
    }
    ALLOCATIONS.load(Ordering::Relaxed) - before
}

/// One function: a second one would run beside it and allocate.
#[test]
fn bindings_relayed_data_and_refusals_allocate_nothing() {
    let now = Instant::now();
    let mut config = Config::new(([203, 0, 113, 10], 3478).into());
    config.alternate = Some(([203, 0, 113, 11], 3479).into());
    let mut server = Server::new(config, [1; 16], now).unwrap();
    let (mut request, mut answer) = ([0; 500], [0; 1000]);
    let from: SocketAddr = ([192, 0, 2, 1], 4000).into();
    let length = message(Class::Request, Method::BINDING, &mut request, |writer| {
        writer.fingerprint();
    });
    let bindings = count(|| {
        server
            .handle_datagram(now, &request[..length], from, Socket::PRIMARY, &mut answer)
            .unwrap();
    });
    assert_eq!(bindings, 0, "binding requests");

    let client = Client {
        transport: Transport::Udp,
        address: from,
        listener: 0,
    };
    let peer: SocketAddr = ([198, 51, 100, 77], 7000).into();
    let mut turn = Turn::new(stun::turn::Config::new("realm"), [1; 32], now);
    let length = message(Class::Request, Method::ALLOCATE, &mut request, |_| {});
    let mut challenge = 0;
    let refused = count(|| {
        match turn.handle_datagram(now, client, &request[..length], &Alice, &mut OnePort, &mut answer) {
            Output::Answer { length } => challenge = length,
            other => panic!("{other:?}"),
        }
    });
    assert_eq!(refused, 0, "challenges");
    let nonce = Message::parse(&answer[..challenge])
        .unwrap()
        .value(AttributeType::NONCE)
        .unwrap()
        .to_vec();

    let mut ask = |turn: &mut Turn, method, fill: &dyn Fn(&mut Writer<'_>)| {
        let mut request = [0; 500];
        let length = message(Class::Request, method, &mut request, |writer| {
            fill(writer);
            sign(writer, &nonce);
        });
        let output = turn.handle_datagram(now, client, &request[..length], &Alice, &mut OnePort, &mut answer);
        let Output::Answer { length } = output else {
            panic!("{output:?}");
        };
        assert_eq!(Message::parse(&answer[..length]).unwrap().class(), Class::Success);
    };
    ask(&mut turn, Method::ALLOCATE, &|writer| {
        writer.attribute(AttributeType::REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
    });
    ask(&mut turn, Method::CREATE_PERMISSION, &|writer| {
        writer.xor_address(AttributeType::XOR_PEER_ADDRESS, peer);
    });
    let refreshed = count(|| ask(&mut turn, Method::REFRESH, &|_| {}));
    assert_eq!(refreshed, 0, "refreshes");

    let length = message(Class::Indication, Method::SEND, &mut request, |writer| {
        writer.xor_address(AttributeType::XOR_PEER_ADDRESS, peer);
        writer.attribute(AttributeType::DATA, &[0; 160]);
    });
    let mut buffer = [0; 10];
    let indications = count(|| {
        let output = turn.handle_datagram(now, client, &request[..length], &Alice, &mut OnePort, &mut buffer);
        assert!(matches!(output, Output::ToPeer { .. }));
        turn.handle_peer_datagram(now, Slot(0), peer, &[0; 160]).unwrap();
    });
    assert_eq!(indications, 0, "Send and Data indications");

    ask(&mut turn, Method::CHANNEL_BIND, &|writer| {
        writer.attribute(AttributeType::CHANNEL_NUMBER, &[0x40, 0, 0, 0]);
        writer.xor_address(AttributeType::XOR_PEER_ADDRESS, peer);
    });
    let data = [0x40, 0, 0, 4, 1, 2, 3, 4];
    let channels = count(|| {
        let output = turn.handle_datagram(now, client, &data, &Alice, &mut OnePort, &mut buffer);
        assert!(matches!(output, Output::ToPeer { .. }));
        turn.handle_peer_datagram(now, Slot(0), peer, &[0; 160]).unwrap();
    });
    assert_eq!(channels, 0, "ChannelData");
}
