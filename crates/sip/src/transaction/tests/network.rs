//! Two sets of transactions with a bad network between them: what is lost, doubled and overtaken must not matter.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// What the link does to the messages, one decision per message, from a seed.
struct Link {
    state: u64,
    /// Messages on their way: when they arrive, which way, and their bytes.
    under_way: BTreeMap<(Instant, u64), (bool, Vec<u8>)>,
    count: u64,
    loss_percent: u64,
}

impl Link {
    fn random(&mut self, below: u64) -> u64 {
        self.state = self
            .state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 33) % below
    }

    fn carry(&mut self, now: Instant, to_server: bool, out: &Outbox) {
        for (_, bytes) in out.iter() {
            let copies = if self.random(100) < self.loss_percent {
                0
            } else {
                1 + u64::from(self.random(10) == 0)
            };
            for _ in 0..copies {
                let delay = ms(5 + self.random(300));
                self.count += 1;
                self.under_way
                    .insert((now + delay, self.count), (to_server, bytes.to_vec()));
            }
        }
    }
}

struct Pair {
    now: Instant,
    client: World,
    server: World,
    link: Link,
    /// Final responses that the client's user saw, by status, and failures.
    finals: Vec<u16>,
    failures: usize,
    ends: usize,
    /// How often the server's user saw the request.
    requests: usize,
    acks: usize,
    /// The server side stopped waiting for the ACK (timer H): one that is still under way then belongs to nothing.
    gave_up: bool,
    /// Requests to be answered, and when.
    pending: Vec<(Instant, ServerKey, String)>,
    answer: u16,
    answer_after: Duration,
}

impl Pair {
    fn new(seed: u64, loss_percent: u64, answer: u16, answer_after: Duration) -> Self {
        let (client, mut server) = (World::udp(), World::udp());
        server.transactions = Transactions::new(
            TransactionConfig {
                worker: 1,
                ..Default::default()
            },
            [8; 16],
        );
        let link = Link {
            state: seed,
            under_way: BTreeMap::new(),
            count: 0,
            loss_percent,
        };
        Self {
            now: client.now,
            client,
            server,
            link,
            finals: Vec::new(),
            failures: 0,
            ends: 0,
            requests: 0,
            acks: 0,
            gave_up: false,
            pending: Vec::new(),
            answer,
            answer_after,
        }
    }

    fn start(&mut self, method: Method<'_>) -> ClientKey {
        let mut out = Outbox::new();
        let write = |branch: &str, out: &mut Vec<u8>| {
            out.extend_from_slice(request(method.as_str(), "UDP", branch, "").as_bytes());
        };
        let flow = self.client.flow;
        let key = self
            .client
            .transactions
            .send(self.now, &flow, method, 0, 43, write, &mut out)
            .unwrap();
        self.link.carry(self.now, true, &out);
        key
    }

    /// Runs until nothing is left to happen.
    fn run(&mut self) {
        loop {
            let arrival = self.link.under_way.first_key_value().map(|(key, _)| key.0);
            let answer = self.pending.iter().map(|(at, ..)| *at).min();
            let timers = [
                self.client.transactions.poll_timeout(),
                self.server.transactions.poll_timeout(),
            ];
            let Some(next) = [arrival, answer, timers[0], timers[1]]
                .into_iter()
                .flatten()
                .min()
            else {
                return;
            };
            self.now = self.now.max(next);
            let mut out = Outbox::new();
            self.client.transactions.handle_timeout(self.now, &mut out);
            self.link.carry(self.now, true, &out);
            out.clear();
            self.server.transactions.handle_timeout(self.now, &mut out);
            self.link.carry(self.now, false, &out);
            self.answer_pending();
            self.deliver();
            self.count_events();
        }
    }

    fn answer_pending(&mut self) {
        let due: Vec<_> = self.pending.extract_if(.., |(at, ..)| *at <= self.now).collect();
        for (_, key, text) in due {
            let mut out = Outbox::new();
            let bytes = response(&text, self.answer, "b");
            let sent =
                self.server
                    .transactions
                    .respond(self.now, key, self.answer, bytes.as_bytes(), &mut out);
            // A 2xx to INVITE is sent again by the user until its ACK comes (RFC 3261 section 13.3.1.4).
            if sent && self.answer == 200 && text.starts_with("INVITE") && self.finals.is_empty() {
                self.pending.push((self.now + s(1), key, text));
            }
            self.link.carry(self.now, false, &out);
        }
    }

    fn deliver(&mut self) {
        while let Some(entry) = self
            .link
            .under_way
            .first_entry()
            .filter(|entry| entry.key().0 <= self.now)
        {
            let (to_server, bytes) = entry.remove();
            let message = MessageBuf::parse(bytes).unwrap();
            let mut out = Outbox::new();
            let (world, m) = (
                if to_server {
                    &mut self.server
                } else {
                    &mut self.client
                },
                message.message(),
            );
            let flow = world.flow;
            match world.transactions.receive(self.now, m, &flow, &mut out) {
                Received::NewRequest(new) => {
                    self.requests += 1;
                    let key = world.transactions.accept(self.now, new, m, &flow, 42).unwrap();
                    let text = String::from_utf8(m.bytes().to_vec()).unwrap();
                    self.pending.push((self.now + self.answer_after, key, text));
                }
                Received::Response { .. } if m.status() >= 200 => self.finals.push(m.status()),
                Received::Ack => self.acks += 1,
                Received::Response { .. } | Received::StrayResponse | Received::Absorbed => {}
                // Timer C: every final response was lost.
                Received::Cancel { .. } => out.push(
                    &flow,
                    response(&String::from_utf8_lossy(m.bytes()), 481, "b").as_bytes(),
                ),
            }
            self.link.carry(self.now, !to_server, &out);
        }
    }

    fn count_events(&mut self) {
        for event in self.client.events() {
            self.ends += 1;
            if let TransactionEvent::ClientTimeout { .. } = event {
                self.failures += 1;
            }
        }
        for event in self.server.events() {
            self.gave_up |= matches!(event, TransactionEvent::AckTimeout { .. });
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..Default::default() })]

    /// With up to 30 % loss, doubled and overtaken messages, whatever the answer and however long it takes.
    #[test]
    fn bad_network_is_made_good(
        seed in any::<u64>(),
        loss_percent in 0..30u64,
        invite in any::<bool>(),
        status in prop_oneof![Just(200u16), Just(486), Just(603)],
        answer_after in 0..20_000u64,
    ) {
        let mut pair = Pair::new(seed, loss_percent, status, ms(answer_after));
        pair.start(if invite { Method::Invite } else { Method::Options });
        pair.run();
        pair.client.assert_empty();
        pair.server.assert_empty();
        prop_assert_eq!(pair.ends, 1);
        prop_assert!(pair.acks == 0 || pair.gave_up, "an ACK to a non-2xx passes up");
        // A late copy can only make a new request after the transaction's end, which is longer than the network keeps copies.
        prop_assert!(pair.requests <= 1);
        prop_assert!(pair.finals.iter().all(|found| *found == status));
        let lost_for_good = pair.finals.is_empty();
        prop_assert_eq!(pair.failures, usize::from(lost_for_good), "a final response or a failure, never both");
        prop_assert!(pair.finals.len() <= 1 || status == 200, "a final response passes up once");
        if loss_percent == 0 {
            prop_assert!(!lost_for_good);
        }
    }
}

#[test]
fn dead_network_ends_in_a_timeout_on_both_sides() {
    for method in [Method::Invite, Method::Options] {
        let mut pair = Pair::new(1, 100, 200, ms(0));
        pair.start(method);
        pair.run();
        assert_eq!((pair.failures, pair.ends, pair.finals.len()), (1, 1, 0));
        pair.client.assert_empty();
    }
}
