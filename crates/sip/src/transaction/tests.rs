//! A world with a clock of its own, one set of transactions, and a peer that is the test.

use std::time::{Duration, Instant};

use super::*;
use crate::flow::Transport;
use crate::message::MessageBuf;
use crate::respond::Response;

mod client;
mod network;
mod properties;
mod server;

struct World {
    begin: Instant,
    now: Instant,
    transactions: Transactions,
    flow: Flow,
}

/// A message that was sent: after how many milliseconds, and its text.
type Sent = (u128, String);

impl World {
    fn udp() -> Self {
        Self::new(Transport::Udp)
    }

    fn tcp() -> Self {
        Self::new(Transport::Tcp)
    }

    #[expect(clippy::disallowed_methods, reason = "any instant will do as the beginning")]
    fn new(transport: Transport) -> Self {
        let now = Instant::now();
        let connection = None;
        let [local, remote] = ["192.0.2.1:5060", "198.51.100.7:5070"].map(|address| address.parse().unwrap());
        Self {
            begin: now,
            now,
            transactions: Transactions::new(
                TransactionConfig {
                    worker: 9,
                    ..Default::default()
                },
                [3; 16],
            ),
            flow: Flow {
                transport,
                local,
                remote,
                connection,
            },
        }
    }

    /// Lets a message arrive; gives what is left to do and what was sent at once.
    fn receive(&mut self, text: &str) -> (Received, Vec<Sent>) {
        let message = MessageBuf::parse(text).unwrap();
        let mut out = Outbox::new();
        let received = self
            .transactions
            .receive(self.now, message.message(), &self.flow, &mut out);
        (received, self.sent(&out))
    }

    /// Lets a request arrive and accepts it.
    fn accept(&mut self, text: &str) -> ServerKey {
        let (Received::NewRequest(new), _) = self.receive(text) else {
            panic!("not new: {text}")
        };
        let message = MessageBuf::parse(text).unwrap();
        self.transactions
            .accept(self.now, new, message.message(), &self.flow, 42)
            .unwrap()
    }

    /// Answers; gives whether it was sent.
    fn respond(&mut self, key: ServerKey, request: &str, status: u16) -> bool {
        let mut out = Outbox::new();
        let response = response(request, status, "b");
        let sent = self
            .transactions
            .respond(self.now, key, status, response.as_bytes(), &mut out);
        assert_eq!(out.len(), usize::from(sent));
        sent
    }

    /// Sends a request of one's own; gives its text too.
    fn send(&mut self, method: Method<'_>) -> (ClientKey, String) {
        let mut out = Outbox::new();
        let via = self.flow.transport.as_via();
        let write = |branch: &str, out: &mut Vec<u8>| {
            let extra = "Route: <sip:p1.example.com;lr>,<sip:p2.example.com;lr>\r\nSubject: x\r\n";
            out.extend_from_slice(request(method.as_str(), via, branch, extra).as_bytes());
        };
        let key = self
            .transactions
            .send(self.now, &self.flow, method, 7, 43, write, &mut out)
            .unwrap();
        let mut sent = self.sent(&out);
        assert_eq!(sent.len(), 1);
        (key, sent.remove(0).1)
    }

    fn cancel(&mut self, key: ClientKey) -> Vec<Sent> {
        let mut out = Outbox::new();
        self.transactions
            .cancel(self.now, key, Some("SIP;cause=200"), &mut out);
        self.sent(&out)
    }

    /// Lets time pass, the timers firing when they want to; gives what was sent meanwhile.
    fn pass(&mut self, time: Duration) -> Vec<Sent> {
        let end = self.now + time;
        let mut all = Vec::new();
        while self.now < end {
            let next = self.transactions.poll_timeout().map_or(end, |next| next.min(end));
            assert!(next > self.now, "a timer that is due must have fired");
            self.now = next;
            let mut out = Outbox::new();
            self.transactions.handle_timeout(self.now, &mut out);
            all.extend(self.sent(&out));
        }
        all
    }

    fn sent(&self, out: &Outbox) -> Vec<Sent> {
        let at = (self.now - self.begin).as_millis();
        out.iter()
            .map(|(flow, bytes)| {
                assert_eq!(
                    (flow.transport, flow.remote),
                    (self.flow.transport, self.flow.remote)
                );
                (at, String::from_utf8(bytes.to_vec()).unwrap())
            })
            .collect()
    }

    fn events(&mut self) -> Vec<TransactionEvent> {
        std::iter::from_fn(|| self.transactions.poll_event()).collect()
    }

    /// Nothing is left: no transaction, no timer, no entry in a map.
    fn assert_empty(&self) {
        assert!(self.transactions.is_empty());
        assert_eq!(self.transactions.poll_timeout(), None);
        assert_eq!(self.transactions.servers.len(), 0);
        assert_eq!(self.transactions.merges.len(), 0);
        assert_eq!(self.transactions.peers.len(), 0);
        assert_eq!(self.transactions.kept_bytes(), 0);
    }
}

/// A request with these details; To has no tag.
fn request(method: &str, transport: &str, branch: &str, extra: &str) -> String {
    format!(
        "{method} sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/{transport} 198.51.100.7:5070;branch={branch}\r\n\
         Max-Forwards: 69\r\nFrom: <sip:alice@example.org>;tag=a\r\nTo: <sip:bob@example.com>\r\nCall-ID: c1\r\n\
         CSeq: 1 {method}\r\n{extra}Content-Length: 0\r\n\r\n"
    )
}

/// The ACK that a client makes of its INVITE and the response.
fn ack(invite: &str) -> String {
    invite.replace("INVITE", "ACK").replace(
        "To: <sip:bob@example.com>\r\n",
        "To: <sip:bob@example.com>;tag=b\r\n",
    )
}

fn response(request: &str, status: u16, tag: &str) -> String {
    let message = MessageBuf::parse(request).unwrap();
    let mut out = Vec::new();
    Response::new(message.message(), status)
        .to_tag(tag)
        .write(&mut out);
    String::from_utf8(out).unwrap()
}

/// When each of them was sent, in milliseconds, and how it starts.
fn starts(sent: &[Sent], length: usize) -> Vec<(u128, &str)> {
    sent.iter().map(|(at, text)| (*at, &text[..length])).collect()
}

fn times(sent: &[Sent]) -> Vec<u128> {
    sent.iter().map(|(at, _)| *at).collect()
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn transaction_costs_what_is_documented() {
    assert!(
        size_of::<Transaction>() <= TRANSACTION_BYTES,
        "{}",
        size_of::<Transaction>()
    );
}

#[test]
fn limit_of_transactions_is_kept_and_room_comes_back() {
    let mut world = World::udp();
    world.transactions.config.max_transactions = 2;
    let first = world.accept(&request("OPTIONS", "UDP", "z9hG4bK1", ""));
    world.send(Method::Options);
    let third = MessageBuf::parse(request("OPTIONS", "UDP", "z9hG4bK3", "")).unwrap();
    let mut out = Outbox::new();
    let now = world.now;
    for _ in 0..2 {
        let received = world
            .transactions
            .receive(now, third.message(), &world.flow, &mut out);
        let Received::NewRequest(new) = received else {
            panic!("{received:?}")
        };
        let refused = world
            .transactions
            .accept(now, new, third.message(), &world.flow, 0)
            .unwrap_err();
        assert_eq!(
            (refused, refused.status()),
            (Overload::Transactions { limit: 2 }, 503)
        );
    }
    let refused = world.transactions.send(
        now,
        &world.flow,
        Method::Bye,
        0,
        0,
        |_, _| panic!("written"),
        &mut out,
    );
    assert_eq!(refused, Err(Overload::Transactions { limit: 2 }));
    assert!(world.respond(first, &request("OPTIONS", "UDP", "z9hG4bK1", ""), 200));
    world.pass(s(32));
    world.accept(&request("OPTIONS", "UDP", "z9hG4bK3", ""));
}

#[test]
fn limit_of_kept_bytes_is_kept_and_room_comes_back() {
    let mut world = World::udp();
    world.transactions.config.max_kept_bytes = 1000;
    let mut sent = Vec::new();
    let mut out = Outbox::new();
    while let Ok(key) = world.transactions.send(
        world.now,
        &world.flow,
        Method::Bye,
        0,
        0,
        |_, bytes| bytes.extend_from_slice(&[b'x'; 400]),
        &mut out,
    ) {
        sent.push(key);
    }
    assert_eq!((sent.len(), world.transactions.kept_bytes()), (3, 1200));
    world.transactions.abandon(sent[0]);
    assert_eq!(world.transactions.kept_bytes(), 800);
    world.send(Method::Bye);
}

#[test]
fn keys_of_ended_transactions_name_nothing() {
    let mut world = World::tcp();
    let text = request("OPTIONS", "TCP", "z9hG4bK1", "");
    let old = world.accept(&text);
    assert!(world.respond(old, &text, 200));
    world.assert_empty();
    let text = request("OPTIONS", "TCP", "z9hG4bK2", "");
    let new = world.accept(&text);
    assert_eq!(old.0.slot, new.0.slot, "the slot is used again");
    assert!(!world.respond(old, &text, 200));
    assert!(world.transactions.request(old).is_none());
    assert_eq!(world.transactions.owner(old), None);
    assert_eq!(world.transactions.owner(new), Some(42));
    world.transactions.set_owner(new, 44);
    assert_eq!(world.transactions.owner(new), Some(44));
    world.transactions.abandon(ClientKey(new.0));
    world.transactions.transport_failed(ClientKey(new.0));
    assert!(
        world.transactions.awaits_final(new),
        "a server transaction is no client transaction"
    );
}
