//! Client transactions: RFC 3261 sections 17.1 and 9.1, RFC 6026.

use super::*;

fn passed_up(key: ClientKey) -> Received {
    Received::Response {
        client: key,
        owner: 43,
    }
}

#[test]
fn timer_a_doubles_and_timer_b_ends_an_invite() {
    let mut world = World::udp();
    let (key, text) = world.send(Method::Invite);
    let sent = world.pass(s(40));
    assert_eq!(times(&sent), [500, 1500, 3500, 7500, 15500, 31500]);
    assert!(sent.iter().all(|(_, again)| *again == text));
    assert_eq!(
        world.events(),
        [TransactionEvent::ClientTimeout {
            client: key,
            owner: 43
        }]
    );
    world.assert_empty();
}

#[test]
fn timer_b_fires_after_32_s_on_reliable_transports_too() {
    let mut world = World::tcp();
    let (key, _) = world.send(Method::Invite);
    assert_eq!(world.pass(ms(31_999)), []);
    assert_eq!(world.events(), []);
    assert_eq!(world.pass(ms(1)), []);
    assert_eq!(
        world.events(),
        [TransactionEvent::ClientTimeout {
            client: key,
            owner: 43
        }]
    );
}

#[test]
fn provisional_response_ends_timer_a_and_every_one_is_passed_up() {
    let mut world = World::udp();
    let (key, text) = world.send(Method::Invite);
    world.pass(ms(600));
    for status in [100, 180, 180, 183] {
        assert_eq!(
            world.receive(&response(&text, status, "b")),
            (passed_up(key), vec![])
        );
        assert_eq!(world.pass(s(60)), []);
    }
}

#[test]
fn timer_c_starts_anew_with_each_provisional_response_then_cancels_and_64_t1_later_gives_up() {
    let mut world = World::tcp();
    let (key, text) = world.send(Method::Invite);
    assert_eq!(world.receive(&response(&text, 180, "b")).0, passed_up(key));
    assert_eq!(world.pass(s(180)), []);
    assert_eq!(world.receive(&response(&text, 180, "b")).0, passed_up(key));
    let sent = world.pass(s(200));
    assert_eq!(starts(&sent, 6), [(365_000, "CANCEL")]);
    assert_eq!(world.events(), []);
    assert_eq!(
        world.receive(&response(&text, 183, "b")).0,
        passed_up(key),
        "does not prolong it any more"
    );
    world.pass(s(17));
    assert_eq!(
        world.events(),
        [TransactionEvent::ClientTimeout {
            client: key,
            owner: 43
        }]
    );
    world.assert_empty();
}

#[test]
fn timer_c_does_not_start_anew_with_a_100() {
    let mut world = World::tcp();
    let (key, text) = world.send(Method::Invite);
    assert_eq!(world.receive(&response(&text, 100, "")).0, passed_up(key));
    world.pass(s(100));
    assert_eq!(world.receive(&response(&text, 100, "")).0, passed_up(key));
    assert_eq!(starts(&world.pass(s(85)), 6), [(185_000, "CANCEL")]);
}

#[test]
fn non_2xx_is_acknowledged_hop_by_hop_each_time_it_comes_until_timer_d() {
    let mut world = World::udp();
    let (key, text) = world.send(Method::Invite);
    let busy = response(&text, 486, "b");
    let (received, sent) = world.receive(&busy);
    assert_eq!(received, passed_up(key));
    let via = text.lines().find(|line| line.starts_with("Via")).unwrap();
    let expected = format!(
        "ACK sip:bob@example.com SIP/2.0\r\n{via}\r\nMax-Forwards: 70\r\n\
         Route: <sip:p1.example.com;lr>,<sip:p2.example.com;lr>\r\nFrom: <sip:alice@example.org>;tag=a\r\n\
         To: <sip:bob@example.com>;tag=b\r\nCall-ID: c1\r\nCSeq: 1 ACK\r\nContent-Length: 0\r\n\r\n"
    );
    assert_eq!(sent, [(0, expected.clone())]);
    assert_eq!(world.transactions.kept_bytes(), expected.len());
    assert_eq!(world.pass(ms(31_999)), [], "timer A has ended");
    assert_eq!(
        world.receive(&busy),
        (Received::Absorbed, vec![(31_999, expected)])
    );
    assert_eq!(
        world.receive(&response(&text, 200, "c")),
        (Received::Absorbed, vec![]),
        "a 2xx after that is no answer"
    );
    world.pass(ms(1));
    assert_eq!(
        world.events(),
        [TransactionEvent::ClientEnded {
            client: key,
            owner: 43
        }]
    );
    assert_eq!(world.receive(&busy), (Received::StrayResponse, vec![]));
    world.assert_empty();
}

#[test]
fn timer_d_is_zero_on_reliable_transports() {
    let mut world = World::tcp();
    let (key, text) = world.send(Method::Invite);
    let (received, sent) = world.receive(&response(&text, 486, "b"));
    assert_eq!(received, passed_up(key));
    assert_eq!(starts(&sent, 3), [(0, "ACK")]);
    assert_eq!(
        world.events(),
        [TransactionEvent::ClientEnded {
            client: key,
            owner: 43
        }]
    );
    world.assert_empty();
}

#[test]
fn timer_m_lets_every_2xx_pass_for_32_s_and_none_is_acknowledged_here() {
    for mut world in [World::udp(), World::tcp()] {
        let (key, text) = world.send(Method::Invite);
        assert_eq!(
            world.receive(&response(&text, 200, "b")),
            (passed_up(key), vec![])
        );
        assert_eq!(world.transactions.kept_bytes(), 0);
        assert_eq!(world.pass(ms(31_999)), []);
        assert_eq!(
            world.receive(&response(&text, 200, "b")).0,
            passed_up(key),
            "sent again: the ACK was lost"
        );
        assert_eq!(
            world.receive(&response(&text, 200, "c")).0,
            passed_up(key),
            "another fork"
        );
        assert_eq!(
            world.receive(&response(&text, 486, "d")),
            (Received::Absorbed, vec![])
        );
        assert_eq!(
            world.receive(&response(&text, 180, "d")),
            (Received::Absorbed, vec![])
        );
        world.pass(ms(1));
        assert_eq!(
            world.events(),
            [TransactionEvent::ClientEnded {
                client: key,
                owner: 43
            }]
        );
        assert_eq!(
            world.receive(&response(&text, 200, "b")).0,
            Received::StrayResponse
        );
        world.assert_empty();
    }
}

#[test]
fn timer_e_doubles_up_to_t2_and_timer_f_ends_a_non_invite() {
    let mut world = World::udp();
    let (key, text) = world.send(Method::Bye);
    let sent = world.pass(s(40));
    assert_eq!(
        times(&sent),
        [500, 1500, 3500, 7500, 11500, 15500, 19500, 23500, 27500, 31500]
    );
    assert!(sent.iter().all(|(_, again)| *again == text));
    assert_eq!(
        world.events(),
        [TransactionEvent::ClientTimeout {
            client: key,
            owner: 43
        }]
    );
    world.assert_empty();
}

#[test]
fn timer_f_fires_after_32_s_on_reliable_transports_and_nothing_is_kept_meanwhile() {
    let mut world = World::tcp();
    let (key, _) = world.send(Method::Bye);
    assert_eq!(world.transactions.kept_bytes(), 0);
    assert_eq!(world.pass(ms(31_999)), []);
    assert_eq!(world.events(), []);
    world.pass(ms(1));
    assert_eq!(
        world.events(),
        [TransactionEvent::ClientTimeout {
            client: key,
            owner: 43
        }]
    );
}

#[test]
fn timer_e_is_t2_after_a_provisional_response_and_timer_f_goes_on() {
    let mut world = World::udp();
    let (key, text) = world.send(Method::Register);
    assert_eq!(times(&world.pass(ms(600))), [500]);
    assert_eq!(world.receive(&response(&text, 100, "")).0, passed_up(key));
    assert_eq!(times(&world.pass(s(9))), [4600, 8600]);
    assert_eq!(world.receive(&response(&text, 100, "")).0, passed_up(key));
    let sent = world.pass(s(40));
    assert_eq!(times(&sent), [12_600, 16_600, 20_600, 24_600, 28_600]);
    assert_eq!(
        world.events(),
        [TransactionEvent::ClientTimeout {
            client: key,
            owner: 43
        }]
    );
}

#[test]
fn timer_k_absorbs_repeated_final_responses_for_5_s() {
    let mut world = World::udp();
    let (key, text) = world.send(Method::Register);
    let ok = response(&text, 200, "b");
    assert_eq!(world.receive(&ok), (passed_up(key), vec![]));
    assert_eq!(world.transactions.kept_bytes(), 0);
    assert_eq!(world.pass(ms(4_999)), []);
    assert_eq!(world.receive(&ok), (Received::Absorbed, vec![]));
    world.pass(ms(1));
    assert_eq!(
        world.events(),
        [TransactionEvent::ClientEnded {
            client: key,
            owner: 43
        }]
    );
    assert_eq!(world.receive(&ok), (Received::StrayResponse, vec![]));
    world.assert_empty();
}

#[test]
fn timer_k_is_zero_on_reliable_transports() {
    let mut world = World::tcp();
    let (key, text) = world.send(Method::Register);
    assert_eq!(
        world.receive(&response(&text, 200, "b")),
        (passed_up(key), vec![])
    );
    assert_eq!(
        world.events(),
        [TransactionEvent::ClientEnded {
            client: key,
            owner: 43
        }]
    );
    world.assert_empty();
}

#[test]
fn cancel_before_provisional_is_held_back() {
    let mut world = World::udp();
    let (key, text) = world.send(Method::Invite);
    assert_eq!(world.cancel(key), []);
    assert_eq!(
        times(&world.pass(ms(600))),
        [500],
        "the INVITE goes on until it is known to have arrived"
    );
    let (received, sent) = world.receive(&response(&text, 100, ""));
    assert_eq!(received, passed_up(key));
    let via = text.lines().find(|line| line.starts_with("Via")).unwrap();
    let expected = format!(
        "CANCEL sip:bob@example.com SIP/2.0\r\n{via}\r\nMax-Forwards: 70\r\n\
         Route: <sip:p1.example.com;lr>,<sip:p2.example.com;lr>\r\nFrom: <sip:alice@example.org>;tag=a\r\n\
         To: <sip:bob@example.com>\r\nCall-ID: c1\r\nCSeq: 1 CANCEL\r\nReason: SIP;cause=200\r\nContent-Length: 0\r\n\r\n"
    );
    assert_eq!(sent, [(600, expected)]);
    assert_eq!(world.cancel(key), [], "once is enough");
    assert_eq!(
        world.receive(&response(&text, 180, "b")),
        (passed_up(key), vec![])
    );
}

#[test]
fn cancel_before_a_final_response_is_not_sent_at_all() {
    for status in [200, 486] {
        let mut world = World::udp();
        let (key, text) = world.send(Method::Invite);
        assert_eq!(world.cancel(key), []);
        let (_, sent) = world.receive(&response(&text, status, "b"));
        assert!(sent.iter().all(|(_, text)| text.starts_with("ACK")));
        assert_eq!(world.cancel(key), []);
        assert_eq!(world.pass(s(40)), []);
        world.assert_empty();
    }
}

#[test]
fn cancel_is_repeated_until_it_is_answered() {
    let mut world = World::udp();
    let (key, text) = world.send(Method::Invite);
    let _ = world.receive(&response(&text, 180, "b"));
    let cancel = world.cancel(key).remove(0).1;
    let sent = world.pass(s(9));
    assert_eq!(times(&sent), [500, 1500, 3500, 7500]);
    assert!(sent.iter().all(|(_, again)| *again == cancel));
    let ok = response(&cancel, 200, "b");
    assert_eq!(world.receive(&ok), (Received::Absorbed, vec![]));
    assert_eq!(world.pass(s(10)), []);
    let (received, sent) = world.receive(&response(&text, 487, "b"));
    assert_eq!(received, passed_up(key));
    assert_eq!(starts(&sent, 3), [(19_000, "ACK")]);
    assert_eq!(world.receive(&ok), (Received::Absorbed, vec![]));
    world.pass(s(32));
    assert_eq!(
        world.events(),
        [TransactionEvent::ClientEnded {
            client: key,
            owner: 43
        }]
    );
    world.assert_empty();
}

#[test]
fn cancelled_invite_without_final_response_ends_after_64_t1() {
    let mut world = World::udp();
    let (key, text) = world.send(Method::Invite);
    let _ = world.receive(&response(&text, 180, "b"));
    assert_eq!(world.cancel(key).len(), 1);
    world.pass(ms(31_999));
    assert_eq!(world.events(), []);
    world.pass(ms(1));
    assert_eq!(
        world.events(),
        [TransactionEvent::ClientTimeout {
            client: key,
            owner: 43
        }]
    );
    world.assert_empty();
}

#[test]
fn two_hundred_that_crosses_the_cancel_is_passed_up() {
    let mut world = World::udp();
    let (key, text) = world.send(Method::Invite);
    let _ = world.receive(&response(&text, 180, "b"));
    assert_eq!(world.cancel(key).len(), 1);
    assert_eq!(
        world.receive(&response(&text, 200, "b")),
        (passed_up(key), vec![])
    );
    assert_eq!(world.pass(s(31)), [], "the CANCEL is not repeated");
}

#[test]
fn only_an_invite_can_be_cancelled() {
    let mut world = World::udp();
    let (key, text) = world.send(Method::Options);
    let _ = world.receive(&response(&text, 100, ""));
    assert_eq!(world.cancel(key), []);
}

#[test]
fn forged_and_foreign_responses_are_stray() {
    let mut world = World::udp();
    let (key, text) = world.send(Method::Options);
    let ok = response(&text, 200, "b");
    let branch = &text[text.find("z9hG4bK").unwrap()..][..35];
    let flipped = |at: usize| {
        let digit = if &branch[at..=at] == "0" { "1" } else { "0" };
        format!("{}{digit}{}", &branch[..at], &branch[at + 1..])
    };
    for forged in (7..35)
        .map(flipped)
        .chain(["z9hG4bK77".to_owned(), "1".to_owned()])
    {
        assert_eq!(
            world.receive(&ok.replace(branch, &forged)).0,
            Received::StrayResponse,
            "{forged}"
        );
    }
    assert_eq!(
        world.receive(&ok.replace("1 OPTIONS", "1 INVITE")).0,
        Received::StrayResponse
    );
    assert_eq!(
        world.receive(&ok.replace("1 OPTIONS", "1 CANCEL")).0,
        Received::StrayResponse
    );
    assert_eq!(Transactions::branch_worker(branch), Some(9));
    assert_eq!(Branch::parse(branch).map(|branch| branch.loop_hash()), Some(7));
    assert_eq!(Transactions::branch_worker("z9hG4bK77"), None);
    assert_eq!(world.receive(&ok).0, passed_up(key));
}

#[test]
fn response_to_a_server_transactions_slot_is_stray() {
    let mut world = World::udp();
    let (key, text) = world.send(Method::Options);
    world.transactions.abandon(key);
    world.assert_empty();
    let server = world.accept(&request("OPTIONS", "UDP", "z9hG4bK1", ""));
    assert_eq!(server.0.slot, key.0.slot);
    assert_eq!(
        world.receive(&response(&text, 200, "b")).0,
        Received::StrayResponse
    );
}

#[test]
fn abandoned_transaction_says_nothing_more() {
    let mut world = World::udp();
    let (key, text) = world.send(Method::Invite);
    world.transactions.abandon(key);
    assert_eq!(world.pass(s(60)), []);
    assert_eq!(
        world.receive(&response(&text, 200, "b")).0,
        Received::StrayResponse
    );
    assert_eq!(world.events(), []);
}

#[test]
fn failed_transport_ends_what_waits_and_leaves_what_is_answered() {
    let mut world = World::udp();
    let (waiting, _) = world.send(Method::Invite);
    let (answered, text) = world.send(Method::Options);
    let _ = world.receive(&response(&text, 200, "b"));
    let elsewhere = Flow {
        remote: "203.0.113.9:5060".parse().unwrap(),
        ..world.flow
    };
    world.transactions.flow_failed(&elsewhere);
    assert_eq!(world.events(), []);
    let flow = world.flow;
    world.transactions.flow_failed(&flow);
    assert_eq!(
        world.events(),
        [TransactionEvent::ClientFailed {
            client: waiting,
            owner: 43
        }]
    );
    world.transactions.transport_failed(answered);
    assert_eq!(world.events(), []);
    world.pass(s(5));
    assert_eq!(
        world.events(),
        [TransactionEvent::ClientEnded {
            client: answered,
            owner: 43
        }]
    );
    world.assert_empty();
}

#[test]
fn failed_flow_ends_all_of_its_peer_and_none_of_others() {
    let mut world = World::tcp();
    let home = world.flow;
    let away = Flow {
        remote: "203.0.113.9:5060".parse().unwrap(),
        ..home
    };
    let mut keys = Vec::new();
    for n in 0..20 {
        world.flow = if n % 2 == 0 { home } else { away };
        keys.push(world.send(Method::Invite).0);
    }
    // Holes at both ends of the list and in the middle of it.
    for gone in [0, 1, 8, 9, 18, 19] {
        world.transactions.abandon(keys[gone]);
    }
    world.transactions.flow_failed(&home);
    let mut failed: Vec<_> = world.events();
    failed.reverse();
    let expected = [2, 4, 6, 10, 12, 14, 16].map(|n| TransactionEvent::ClientFailed {
        client: keys[n],
        owner: 43,
    });
    assert_eq!(failed, expected);
    assert_eq!(world.transactions.len(), 7);
    world.transactions.flow_failed(&away);
    assert_eq!(world.events().len(), 7);
    world.assert_empty();
}

#[test]
fn cancel_takes_the_connection_that_the_response_came_by() {
    let mut world = World::tcp();
    let (key, text) = world.send(Method::Invite);
    let connection = Some(crate::flow::ConnectionId(std::num::NonZeroU64::new(5).unwrap()));
    world.flow.connection = connection;
    let _ = world.receive(&response(&text, 180, "b"));
    assert_eq!(
        world.transactions.client_flow(key).unwrap().connection,
        connection
    );
    let mut out = Outbox::new();
    world.transactions.cancel(world.now, key, None, &mut out);
    assert_eq!(out.get(0).0.connection, connection);
    assert!(!String::from_utf8_lossy(out.get(0).1).contains("Reason"));
    world.transactions.flow_failed(&Flow {
        connection: Some(crate::flow::ConnectionId(std::num::NonZeroU64::MIN)),
        ..world.flow
    });
    assert_eq!(world.events(), [], "an older connection to the same peer");
}

#[test]
fn stateless_branch_is_the_same_for_the_same_seed() {
    let world = World::udp();
    let branch = world
        .transactions
        .stateless_branch(b"SIP/2.0/UDP a;branch=z9hG4bK1", 5);
    assert_eq!(
        branch,
        world
            .transactions
            .stateless_branch(b"SIP/2.0/UDP a;branch=z9hG4bK1", 5)
    );
    assert_ne!(
        branch,
        world
            .transactions
            .stateless_branch(b"SIP/2.0/UDP a;branch=z9hG4bK2", 5)
    );
    assert_eq!((branch.worker(), branch.loop_hash()), (9, 5));
}
