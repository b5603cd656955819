//! A server with two users, made-up sockets and a clock that only the tests move.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use super::*;
use crate::attribute::read_error_code;
use crate::integrity::{Integrity, Key, PasswordAlgorithm, userhash, verify};

mod allocations;
mod credentials;
mod data;
mod model;
mod permissions;
mod properties;

const REALM: &str = "example.org";
const SECRET: &[u8] = b"north";
const PEER: &str = "198.51.100.77:7000";
const PEER_V6: &str = "[2a00:1::77]:7000";

/// alice and bob, whose passwords are their names, and time-limited users.
struct Users {
    unix: u64,
    /// After three guesses.
    banned: Cell<Option<SocketAddr>>,
    guesses: RefCell<BTreeSet<Vec<u8>>>,
}

impl Accounts for Users {
    fn find<'a>(
        &'a self,
        user: User<'a>,
        algorithm: PasswordAlgorithm,
        client: &Client,
    ) -> Option<Account<'a>> {
        if self.banned.get() == Some(client.address) {
            return None;
        }
        let known = ["alice", "bob"].into_iter().find(|name| match user {
            User::Name(given) => given == *name,
            User::Hash(hash) => *hash == userhash(name, REALM),
        });
        if let Some(name) = known {
            return Some(Account {
                name: Cow::Borrowed(name),
                key: Key::new(algorithm, name, REALM, name),
            });
        }
        let User::Name(username) = user else {
            return None;
        };
        let user = TimeLimited::parse(username)?;
        let password = user.password(SECRET, self.unix)?;
        Some(Account {
            name: Cow::Borrowed(user.name),
            key: Key::new(algorithm, username, REALM, password.as_str()),
        })
    }

    fn wrong_password(&self, _account: &str, client: &Client, proof: &[u8]) {
        let mut guesses = self.guesses.borrow_mut();
        guesses.insert(proof.to_vec());
        if guesses.len() == 3 {
            self.banned.set(Some(client.address));
        }
    }

    fn right_password(&self, _account: &str, _client: &Client) {
        self.guesses.borrow_mut().clear();
    }
}

/// Ports from 50000, each with a slot of its own; what is released is free again.
struct Ports {
    used: BTreeSet<u32>,
    room: usize,
    ipv6: bool,
    ipv4: bool,
}

impl Ports {
    fn take(&mut self, family: Family, slot: u32) -> RelaySocket {
        assert!(self.used.insert(slot), "slot {slot} is in use");
        let ip: &str = match family {
            Family::Ipv4 => "203.0.113.10",
            Family::Ipv6 => "2a00:9::10",
        };
        RelaySocket {
            slot: Slot(slot),
            address: SocketAddr::new(ip.parse().unwrap(), 50_000 + slot as u16),
        }
    }

    fn free(&self, fits: impl Fn(u32) -> bool) -> Option<u32> {
        (self.used.len() < self.room)
            .then(|| (0..1000).find(|slot| !self.used.contains(slot) && fits(*slot)))
            .flatten()
    }
}

impl RelayPorts for Ports {
    fn supports(&self, family: Family) -> bool {
        match family {
            Family::Ipv4 => self.ipv4,
            Family::Ipv6 => self.ipv6,
        }
    }

    fn allocate(&mut self, family: Family, even: bool) -> Option<RelaySocket> {
        // Odd ones first, so that an even one is no accident.
        let slot = self
            .free(|slot| slot.is_multiple_of(2) == even)
            .or_else(|| self.free(|_| !even))?;
        Some(self.take(family, slot))
    }

    fn allocate_pair(&mut self, family: Family) -> Option<[RelaySocket; 2]> {
        let slot = self.free(|slot| slot.is_multiple_of(2) && !self.used.contains(&(slot + 1)))?;
        Some([slot, slot + 1].map(|slot| self.take(family, slot)))
    }

    fn release(&mut self, slot: Slot) {
        assert!(self.used.remove(&slot.0), "slot {} is not in use", slot.0);
    }
}

struct World {
    turn: Turn,
    users: Users,
    ports: Ports,
    now: Instant,
    ids: u64,
}

/// How a request is protected.
#[derive(Clone, Copy)]
enum Protection {
    /// As clients of RFC 5389 do it.
    Old,
    /// SHA-256 and a user hash.
    New,
}

struct Answer {
    bytes: Vec<u8>,
}

impl Answer {
    fn message(&self) -> Message<'_> {
        Message::parse(&self.bytes).unwrap()
    }

    /// 0 for success.
    fn code(&self) -> u16 {
        let message = self.message();
        match message.class() {
            Class::Success => 0,
            Class::Error => {
                let value = message.value(AttributeType::ERROR_CODE).unwrap();
                read_error_code(value).unwrap().0
            }
            other => panic!("{other:?}"),
        }
    }

    fn xor(&self, kind: AttributeType) -> Vec<SocketAddr> {
        let message = self.message();
        message
            .attributes()
            .filter(|attribute| attribute.kind == kind)
            .map(|attribute| read_xor_address(attribute.value, &message.transaction_id()).unwrap())
            .collect()
    }

    fn relayed(&self) -> SocketAddr {
        assert_eq!(self.code(), 0, "{:?}", self.message());
        self.xor(AttributeType::XOR_RELAYED_ADDRESS)[0]
    }

    fn lifetime(&self) -> u32 {
        crate::attribute::read_u32(self.message().value(AttributeType::LIFETIME).unwrap()).unwrap()
    }
}

fn udp(address: &str) -> Client {
    Client {
        transport: Transport::Udp,
        address: address.parse().unwrap(),
        listener: 0,
    }
}

fn stream(address: &str) -> Client {
    Client {
        transport: Transport::Stream,
        ..udp(address)
    }
}

fn alice() -> Client {
    udp("192.0.2.1:4000")
}

fn bob() -> Client {
    udp("192.0.2.2:4000")
}

impl World {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Config)) -> Self {
        let now = Instant::now();
        let mut config = Config::new(REALM);
        change(&mut config);
        Self {
            turn: Turn::new(config, [5; 32], now),
            users: Users {
                unix: 1_000_000,
                banned: Cell::default(),
                guesses: RefCell::default(),
            },
            ports: Ports {
                used: BTreeSet::new(),
                room: 100,
                ipv6: true,
                ipv4: true,
            },
            now,
            ids: 0,
        }
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    fn id(&mut self) -> TransactionId {
        self.ids += 1;
        let mut id = [0; 12];
        id[..8].copy_from_slice(&self.ids.to_be_bytes());
        TransactionId::new(id)
    }

    /// What the server makes of a client's bytes.
    fn raw<'a>(&mut self, client: Client, bytes: &'a [u8]) -> (Output<'a>, Vec<u8>) {
        let mut answer = vec![0; ANSWER];
        let output =
            self.turn
                .handle_datagram(self.now, client, bytes, &self.users, &mut self.ports, &mut answer);
        if let Output::Answer { length } = output {
            answer.truncate(length);
        }
        (output, answer)
    }

    fn answered(&mut self, client: Client, bytes: &[u8]) -> Option<Answer> {
        match self.raw(client, bytes) {
            (Output::Answer { .. }, bytes) => Some(Answer { bytes }),
            (Output::Silence, _) => None,
            (other, _) => panic!("{other:?}"),
        }
    }

    fn nonce(&mut self, client: Client) -> Vec<u8> {
        let id = self.id();
        let bytes = message(Class::Request, Method::ALLOCATE, id, |_| {});
        let answer = self.answered(client, &bytes).expect("a challenge");
        assert_eq!(answer.code(), 401);
        answer.message().value(AttributeType::NONCE).unwrap().to_vec()
    }

    /// The bytes of a request that `user` protects with a fresh nonce.
    fn sealed(
        &mut self,
        client: Client,
        user: &str,
        protection: Protection,
        method: Method,
        id: TransactionId,
        fill: impl FnOnce(&mut Writer<'_>),
    ) -> Vec<u8> {
        let nonce = self.nonce(client);
        message(Class::Request, method, id, |writer| {
            fill(writer);
            seal(writer, user, user, &nonce, protection);
        })
    }

    fn ask(
        &mut self,
        client: Client,
        user: &str,
        method: Method,
        fill: impl FnOnce(&mut Writer<'_>),
    ) -> Answer {
        let id = self.id();
        let bytes = self.sealed(client, user, Protection::Old, method, id, fill);
        let answer = self.answered(client, &bytes).expect("an answer");
        let key = Key::new(PasswordAlgorithm::Md5, user, REALM, user);
        assert_eq!(
            verify(&answer.message(), Integrity::Sha1, key.as_bytes()),
            Some(true),
            "each answer to who has proven his name is protected"
        );
        assert_eq!(answer.message().transaction_id(), id);
        answer
    }

    fn allocate(&mut self, client: Client, user: &str) -> Answer {
        self.allocate_with(client, user, |_| {})
    }

    fn allocate_with(&mut self, client: Client, user: &str, fill: impl FnOnce(&mut Writer<'_>)) -> Answer {
        self.ask(client, user, Method::ALLOCATE, |writer| {
            writer.attribute(AttributeType::REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
            fill(writer);
        })
    }

    fn refresh(&mut self, client: Client, user: &str, lifetime: u32) -> Answer {
        self.ask(client, user, Method::REFRESH, |writer| {
            writer.number(AttributeType::LIFETIME, lifetime);
        })
    }

    fn permit(&mut self, client: Client, user: &str, peers: &[&str]) -> Answer {
        self.ask(client, user, Method::CREATE_PERMISSION, |writer| {
            for peer in peers {
                writer.xor_address(AttributeType::XOR_PEER_ADDRESS, peer.parse().unwrap());
            }
        })
    }

    fn bind(&mut self, client: Client, user: &str, number: u16, peer: &str) -> Answer {
        self.ask(client, user, Method::CHANNEL_BIND, |writer| {
            let [high, low] = number.to_be_bytes();
            writer.attribute(AttributeType::CHANNEL_NUMBER, &[high, low, 0, 0]);
            writer.xor_address(AttributeType::XOR_PEER_ADDRESS, peer.parse().unwrap());
        })
    }

    /// What a Send indication makes the server send, and to whom.
    fn send(&mut self, client: Client, peer: &str, data: &[u8]) -> Option<(Slot, SocketAddr, Vec<u8>)> {
        let id = self.id();
        let bytes = message(Class::Indication, Method::SEND, id, |writer| {
            writer.xor_address(AttributeType::XOR_PEER_ADDRESS, peer.parse().unwrap());
            writer.attribute(AttributeType::DATA, data);
        });
        self.relayed(client, &bytes)
    }

    fn channel(&mut self, client: Client, number: u16, data: &[u8]) -> Option<(Slot, SocketAddr, Vec<u8>)> {
        let mut bytes = ChannelData::header(number, data.len()).unwrap().to_vec();
        bytes.extend(data);
        self.relayed(client, &bytes)
    }

    fn relayed(&mut self, client: Client, bytes: &[u8]) -> Option<(Slot, SocketAddr, Vec<u8>)> {
        match self.raw(client, bytes).0 {
            Output::ToPeer {
                slot,
                peer,
                data,
                dont_fragment: false,
            } => Some((slot, peer, data.to_vec())),
            Output::Silence => None,
            other => panic!("{other:?}"),
        }
    }

    /// What a peer's datagram makes the server send to a client.
    fn receive(&mut self, slot: Slot, peer: &str, data: &[u8]) -> Option<(Client, Vec<u8>)> {
        let to = self
            .turn
            .handle_peer_datagram(self.now, slot, peer.parse().unwrap(), data)?;
        let mut bytes = to.prefix.as_bytes().to_vec();
        bytes.extend(to.data);
        bytes.extend(vec![0; to.padding]);
        Some((to.client, bytes))
    }
}

fn slot_of(relayed: SocketAddr) -> Slot {
    Slot(u32::from(relayed.port()) - 50_000)
}

fn message(class: Class, method: Method, id: TransactionId, fill: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut buffer = vec![0; 5000];
    let mut writer = Writer::new(&mut buffer, class, method, id);
    fill(&mut writer);
    let length = writer.finish().unwrap();
    buffer.truncate(length);
    buffer
}

fn seal(writer: &mut Writer<'_>, user: &str, password: &str, nonce: &[u8], protection: Protection) {
    let algorithm = match protection {
        Protection::Old => {
            writer.attribute(AttributeType::USERNAME, user.as_bytes());
            PasswordAlgorithm::Md5
        }
        Protection::New => {
            writer.attribute(AttributeType::USERHASH, &userhash(user, REALM));
            writer.attribute(AttributeType::PASSWORD_ALGORITHMS, &[0, 2, 0, 0, 0, 1, 0, 0]);
            writer.attribute(AttributeType::PASSWORD_ALGORITHM, &[0, 2, 0, 0]);
            PasswordAlgorithm::Sha256
        }
    };
    writer.attribute(AttributeType::REALM, REALM.as_bytes());
    writer.attribute(AttributeType::NONCE, nonce);
    let key = Key::new(algorithm, user, REALM, password);
    let integrity = match algorithm {
        PasswordAlgorithm::Md5 => Integrity::Sha1,
        PasswordAlgorithm::Sha256 => Integrity::Sha256,
    };
    writer.integrity(integrity, key.as_bytes());
}
