//! Whatever happens in whatever order, every transaction ends, and says so once.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    /// A request arrives; the number is its branch.
    Request {
        invite: bool,
        branch: u8,
        tagged: bool,
    },
    Ack {
        branch: u8,
    },
    CancelArrives {
        branch: u8,
    },
    Respond {
        which: usize,
        status: u16,
    },
    Send {
        invite: bool,
    },
    /// A response arrives to a request that was sent.
    Response {
        which: usize,
        status: u16,
        to_cancel: bool,
    },
    Cancel {
        which: usize,
    },
    Abandon {
        which: usize,
    },
    FlowFailed,
    Pass {
        milliseconds: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let status = || {
        prop_oneof![
            Just(100u16),
            Just(180),
            Just(200),
            Just(302),
            Just(408),
            Just(486),
            Just(487),
            Just(603)
        ]
    };
    let which = || 0..6usize;
    prop_oneof![
        4 => (any::<bool>(), 0..6u8, any::<bool>()).prop_map(|(invite, branch, tagged)| Step::Request { invite, branch, tagged }),
        2 => (0..6u8).prop_map(|branch| Step::Ack { branch }),
        2 => (0..6u8).prop_map(|branch| Step::CancelArrives { branch }),
        4 => (which(), status()).prop_map(|(which, status)| Step::Respond { which, status }),
        4 => any::<bool>().prop_map(|invite| Step::Send { invite }),
        6 => (which(), status(), proptest::bool::weighted(0.2))
            .prop_map(|(which, status, to_cancel)| Step::Response { which, status, to_cancel }),
        2 => which().prop_map(|which| Step::Cancel { which }),
        1 => which().prop_map(|which| Step::Abandon { which }),
        1 => Just(Step::FlowFailed),
        4 => prop_oneof![0..1_000u64, 0..40_000u64, 0..300_000u64].prop_map(|milliseconds| Step::Pass { milliseconds }),
    ]
}

/// What the owner saw of one transaction.
#[derive(Default)]
struct Seen {
    ends: usize,
    final_responses: usize,
}

struct Run {
    world: World,
    servers: Vec<(ServerKey, String, Seen)>,
    clients: Vec<(ClientKey, String, Seen)>,
    abandoned: Vec<ClientKey>,
}

impl Run {
    fn step(&mut self, step: Step) {
        let transport = self.world.flow.transport.as_via();
        match step {
            Step::Request {
                invite,
                branch,
                tagged,
            } => {
                let method = if invite { "INVITE" } else { "OPTIONS" };
                let mut text = request(method, transport, &format!("z9hG4bK{branch}"), "");
                if tagged {
                    text = text.replace("To: <sip:bob@example.com>", "To: <sip:bob@example.com>;tag=b");
                }
                let message = MessageBuf::parse(text.as_str()).unwrap();
                let (received, _) = self.world.receive(&text);
                if let Received::NewRequest(new) = received {
                    let World { now, flow, .. } = self.world;
                    let key = self
                        .world
                        .transactions
                        .accept(now, new, message.message(), &flow, 42)
                        .unwrap();
                    self.servers.push((key, text, Seen::default()));
                }
            }
            Step::Ack { branch } => {
                let text = ack(&request("INVITE", transport, &format!("z9hG4bK{branch}"), ""));
                let (received, sent) = self.world.receive(&text);
                assert!(matches!(received, Received::Ack | Received::Absorbed));
                assert!(sent.is_empty(), "an ACK is never answered");
            }
            Step::CancelArrives { branch } => {
                let text = request("CANCEL", transport, &format!("z9hG4bK{branch}"), "");
                let (received, sent) = self.world.receive(&text);
                assert_eq!(sent.is_empty(), received == Received::Cancel { invite: None });
            }
            Step::Respond { which, status } => {
                let Some(at) = nth_last(self.servers.len(), which) else {
                    return;
                };
                let (key, text) = (self.servers[at].0, self.servers[at].1.clone());
                let awaits_final = self.world.transactions.awaits_final(key);
                if self.world.respond(key, &text, status) && status >= 200 {
                    assert!(awaits_final || (200..300).contains(&status));
                    self.servers[at].2.final_responses += usize::from(awaits_final);
                }
            }
            Step::Send { invite } => {
                let (key, text) = self
                    .world
                    .send(if invite { Method::Invite } else { Method::Options });
                self.clients.push((key, text, Seen::default()));
            }
            Step::Response {
                which,
                status,
                to_cancel,
            } => {
                let Some(at) = nth_last(self.clients.len(), which) else {
                    return;
                };
                let mut text = response(&self.clients[at].1, status, "b");
                if to_cancel {
                    text = text.replace("1 INVITE", "1 CANCEL");
                }
                let (received, _) = self.world.receive(&text);
                if let Received::Response { client, .. } = received {
                    assert_eq!(client, self.clients[at].0);
                    let seen = &mut self.clients[at].2;
                    assert!(seen.ends == 0, "nothing after the end");
                    if status >= 200 {
                        assert!(seen.final_responses == 0 || (200..300).contains(&status));
                        seen.final_responses += 1;
                    }
                }
            }
            Step::Cancel { which } => {
                let Some(at) = nth_last(self.clients.len(), which) else {
                    return;
                };
                let key = self.clients[at].0;
                self.world.cancel(key);
            }
            Step::Abandon { which } => {
                let Some(at) = nth_last(self.clients.len(), which) else {
                    return;
                };
                self.world.transactions.abandon(self.clients[at].0);
                self.abandoned.push(self.clients[at].0);
            }
            Step::FlowFailed => {
                let flow = self.world.flow;
                self.world.transactions.flow_failed(&flow);
            }
            Step::Pass { milliseconds } => {
                self.world.pass(ms(milliseconds));
            }
        }
    }

    fn take_events(&mut self) {
        let mut servers: HashMap<_, _> = self
            .servers
            .iter_mut()
            .map(|(key, _, seen)| (*key, seen))
            .collect();
        let mut clients: HashMap<_, _> = self
            .clients
            .iter_mut()
            .map(|(key, _, seen)| (*key, seen))
            .collect();
        for event in self.world.events() {
            match event {
                TransactionEvent::ServerExpired { server, .. } => {
                    servers.get_mut(&server).unwrap().final_responses += 1
                }
                TransactionEvent::ServerEnded { server, .. }
                | TransactionEvent::AckTimeout { server, .. } => {
                    servers.get_mut(&server).unwrap().ends += 1;
                }
                TransactionEvent::ClientTimeout { client, .. }
                | TransactionEvent::ClientFailed { client, .. } => {
                    let seen = clients.get_mut(&client).unwrap();
                    assert_eq!(seen.final_responses, 0, "either a final response or a failure");
                    seen.ends += 1;
                }
                TransactionEvent::ClientEnded { client, .. } => {
                    let seen = clients.get_mut(&client).unwrap();
                    assert!(
                        seen.final_responses > 0,
                        "an end without a final response is a failure"
                    );
                    seen.ends += 1;
                }
            }
        }
    }
}

/// Counted from the youngest.
fn nth_last(len: usize, which: usize) -> Option<usize> {
    len.checked_sub(1 + which)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..Default::default() })]

    #[test]
    fn every_transaction_ends_once_and_leaves_nothing(
        reliable in any::<bool>(),
        steps in proptest::collection::vec(step(), 1..80),
    ) {
        let world = if reliable { World::tcp() } else { World::udp() };
        let mut run = Run { world, servers: Vec::new(), clients: Vec::new(), abandoned: Vec::new() };
        for step in steps {
            run.step(step);
            run.take_events();
            let transactions = &run.world.transactions;
            let kept: usize = transactions.transactions.iter().map(|(_, t)| t.kept_bytes()).sum();
            prop_assert_eq!(transactions.kept_bytes(), kept);
        }
        // Patience, timer H or L after it, on top of timer C and its CANCEL: none of them is longer.
        run.world.pass(s(240 + 64));
        run.take_events();
        run.world.assert_empty();
        for (_, text, seen) in &run.servers {
            prop_assert_eq!(seen.ends, 1, "{}", text);
            prop_assert!(seen.final_responses <= 1);
            prop_assert!(seen.final_responses == 1 || text.starts_with("OPTIONS"), "an INVITE is always answered");
        }
        for (key, text, seen) in &run.clients {
            prop_assert_eq!(seen.ends + usize::from(run.abandoned.contains(key) && seen.ends == 0), 1, "{}", text);
        }
    }
}
