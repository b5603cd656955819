//! A TURN server among clients and peers. The input is a series of messages, each behind a byte that says who sends it how and
//! one for its length; requests are signed, so that they get past the door. No port is lost, none is used that is not held.
#![no_main]

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use stun::attribute::{AttributeType, Family};
use stun::integrity::{Integrity, Key, PasswordAlgorithm};
use stun::message::{Class, Message, Method, TransactionId, Writer};
use stun::turn::{
    ANSWER, Account, Accounts, Client, Config, Output, RelayPorts, RelaySocket, Slot, Transport, Turn, User,
};

fuzz_target!(|bytes: &[u8]| {
    let mut now = Instant::now();
    let mut turn = Turn::new(Config::new("r"), [0; 32], now);
    let mut ports = Ports::default();
    let mut answer = [0; ANSWER];
    let mut rest = bytes;
    while let [how, length, tail @ ..] = rest {
        let (bytes, tail) = tail.split_at(usize::from(*length).min(tail.len()));
        rest = tail;
        let client = Client {
            transport: if how & 1 == 0 {
                Transport::Udp
            } else {
                Transport::Stream
            },
            address: ([192, 0, 2, 1], 4000 + u16::from(how & 2)).into(),
            listener: 0,
        };
        match how >> 2 & 7 {
            0 => now += Duration::from_secs(u64::from(*length) * 4),
            1 => turn.handle_timeout(now, &mut ports),
            2 => turn.handle_disconnect(&client, &mut ports),
            3 => {
                let peer: SocketAddr = ([198, 51, 100, how >> 5], 7).into();
                if turn
                    .handle_peer_datagram(now, Slot(u32::from(*length & 7)), peer, bytes)
                    .is_some()
                {
                    assert!(ports.used.contains(&u32::from(*length & 7)));
                }
            }
            4 => {
                if let Output::ToPeer { slot, peer, .. } =
                    turn.handle_datagram(now, client, bytes, &Users, &mut ports, &mut answer)
                {
                    assert!(ports.used.contains(&slot.0) && !peer.ip().is_loopback());
                }
            }
            _ => {
                let method = [
                    Method::ALLOCATE,
                    Method::REFRESH,
                    Method::CREATE_PERMISSION,
                    Method::CHANNEL_BIND,
                ][usize::from(how >> 5 & 3)];
                let Some(request) = signed(&mut turn, now, client, method, bytes, &mut ports) else {
                    continue;
                };
                match turn.handle_datagram(now, client, &request, &Users, &mut ports, &mut answer) {
                    Output::Answer { length } => {
                        Message::parse(&answer[..length]).expect("what we write we can read");
                    }
                    other => panic!("a signed request got {other:?}"),
                }
            }
        }
    }
    turn.handle_timeout(now + Duration::from_secs(10_000), &mut ports);
    assert!(ports.used.is_empty() && turn.allocations() == 0 && turn.poll_timeout().is_none());
});

/// A request with the attributes in `bytes` and a signature behind them. `None` where they are no attributes, or end the message.
fn signed(
    turn: &mut Turn,
    now: Instant,
    client: Client,
    method: Method,
    bytes: &[u8],
    ports: &mut Ports,
) -> Option<Vec<u8>> {
    let mut buffer = vec![0; 1000];
    let id = TransactionId::new([7; 12]);
    let length = Writer::new(&mut buffer, Class::Request, Method::ALLOCATE, id)
        .finish()
        .ok()?;
    let mut answer = [0; ANSWER];
    let Output::Answer { length } =
        turn.handle_datagram(now, client, &buffer[..length], &Users, ports, &mut answer)
    else {
        return None;
    };
    let challenge = Message::parse(&answer[..length]).expect("what we write we can read");
    let nonce = challenge.value(AttributeType::NONCE)?;
    let mut writer = Writer::new(&mut buffer, Class::Request, method, id);
    writer.attribute(AttributeType::USERNAME, b"u");
    writer.attribute(AttributeType::REALM, b"r");
    writer.attribute(AttributeType::NONCE, nonce);
    let mut rest = bytes;
    while let [a, b, length, tail @ ..] = rest {
        let (value, tail) = tail.split_at(usize::from(*length).min(tail.len()));
        rest = tail;
        let kind = AttributeType(u16::from_be_bytes([*a, *b]));
        // What would end the message early, or name another user or algorithm.
        if !matches!(
            kind.0,
            0x0006 | 0x0008 | 0x001c | 0x001d | 0x001e | 0x8002 | 0x8028
        ) {
            writer.attribute(kind, value);
        }
    }
    writer.integrity(Integrity::Sha1, Users.key(PasswordAlgorithm::Md5).as_bytes());
    let length = writer.finish().ok()?;
    buffer.truncate(length);
    Some(buffer)
}

struct Users;

impl Users {
    fn key(&self, algorithm: PasswordAlgorithm) -> Key {
        Key::new(algorithm, "u", "r", "p")
    }
}

impl Accounts for Users {
    fn find<'a>(
        &'a self,
        _user: User<'a>,
        algorithm: PasswordAlgorithm,
        _client: &Client,
    ) -> Option<Account<'a>> {
        Some(Account {
            name: Cow::Borrowed("u"),
            key: self.key(algorithm),
        })
    }
}

#[derive(Default)]
struct Ports {
    used: BTreeSet<u32>,
}

impl Ports {
    fn take(&mut self, family: Family, slot: u32) -> RelaySocket {
        assert!(self.used.insert(slot));
        let port = 50_000 + slot as u16;
        let address = match family {
            Family::Ipv4 => ([203, 0, 113, 10], port).into(),
            Family::Ipv6 => ([0x2a00, 0, 0, 0, 0, 0, 0, 1], port).into(),
        };
        RelaySocket {
            slot: Slot(slot),
            address,
        }
    }
}

impl RelayPorts for Ports {
    fn supports(&self, _family: Family) -> bool {
        true
    }

    fn allocate(&mut self, family: Family, _even: bool) -> Option<RelaySocket> {
        let slot = (0..6).find(|slot| !self.used.contains(slot))?;
        Some(self.take(family, slot))
    }

    fn allocate_pair(&mut self, family: Family) -> Option<[RelaySocket; 2]> {
        let slot = [0, 2, 4]
            .into_iter()
            .find(|slot| !self.used.contains(slot) && !self.used.contains(&(slot + 1)))?;
        Some([slot, slot + 1].map(|slot| self.take(family, slot)))
    }

    fn release(&mut self, slot: Slot) {
        assert!(self.used.remove(&slot.0));
    }
}
