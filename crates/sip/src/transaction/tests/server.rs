//! Server transactions: RFC 3261 section 17.2, RFC 6026, RFC 4320.

use super::*;

fn invite(world: &World) -> String {
    request("INVITE", world.flow.transport.as_via(), "z9hG4bKin", "")
}

fn options(world: &World) -> String {
    request("OPTIONS", world.flow.transport.as_via(), "z9hG4bKop", "")
}

#[test]
fn invite_without_answer_is_answered_100_after_200_ms_and_again_when_it_comes_again() {
    for mut world in [World::udp(), World::tcp()] {
        let text = invite(&world);
        let key = world.accept(&text);
        let sent = world.pass(s(1));
        assert_eq!(starts(&sent, 11), [(200, "SIP/2.0 100")]);
        assert!(
            !sent[0].1.contains("To: <sip:bob@example.com>;tag"),
            "a 100 has no tag of ours"
        );
        let (received, sent) = world.receive(&text);
        assert_eq!(received, Received::Absorbed);
        assert_eq!(starts(&sent, 11), [(1000, "SIP/2.0 100")]);
        assert!(world.transactions.awaits_final(key));
    }
}

#[test]
fn invite_answered_within_200_ms_gets_no_100() {
    let mut world = World::udp();
    let text = invite(&world);
    let key = world.accept(&text);
    assert!(world.respond(key, &text, 180));
    assert_eq!(world.pass(s(1)), []);
    let (received, sent) = world.receive(&text);
    assert_eq!(received, Received::Absorbed);
    assert_eq!(
        starts(&sent, 11),
        [(1000, "SIP/2.0 180")],
        "the last provisional response, not 100"
    );
}

#[test]
fn invite_that_comes_again_before_200_ms_is_answered_100_at_once() {
    let mut world = World::udp();
    let text = invite(&world);
    world.accept(&text);
    assert_eq!(starts(&world.receive(&text).1, 11), [(0, "SIP/2.0 100")]);
}

#[test]
fn timer_g_repeats_the_final_response_and_timer_h_ends_it() {
    let mut world = World::udp();
    let text = invite(&world);
    let key = world.accept(&text);
    assert!(world.respond(key, &text, 486));
    let sent = world.pass(s(40));
    let expected = [500, 1500, 3500, 7500, 11500, 15500, 19500, 23500, 27500, 31500];
    assert_eq!(times(&sent), expected);
    assert!(sent.iter().all(|(_, text)| text.starts_with("SIP/2.0 486")));
    assert_eq!(
        world.events(),
        [TransactionEvent::AckTimeout {
            server: key,
            owner: 42
        }]
    );
    world.assert_empty();
}

#[test]
fn timer_h_runs_on_reliable_transports_too_but_timer_g_does_not() {
    let mut world = World::tcp();
    let text = invite(&world);
    let key = world.accept(&text);
    assert!(world.respond(key, &text, 486));
    assert_eq!(world.transactions.kept_bytes(), 0);
    assert_eq!(world.pass(ms(31_999)), []);
    assert_eq!(world.events(), []);
    assert_eq!(world.pass(ms(1)), []);
    assert_eq!(
        world.events(),
        [TransactionEvent::AckTimeout {
            server: key,
            owner: 42
        }]
    );
}

#[test]
fn timer_i_absorbs_further_acks_for_5_s_and_not_at_all_on_reliable_transports() {
    let mut world = World::udp();
    let text = invite(&world);
    let key = world.accept(&text);
    assert!(world.respond(key, &text, 486));
    assert_eq!(world.receive(&ack(&text)), (Received::Absorbed, vec![]));
    assert_eq!(world.transactions.kept_bytes(), 0);
    assert_eq!(world.pass(ms(4_999)), []);
    assert_eq!(world.receive(&ack(&text)), (Received::Absorbed, vec![]));
    assert_eq!(world.receive(&text), (Received::Absorbed, vec![]));
    world.pass(ms(1));
    assert_eq!(
        world.events(),
        [TransactionEvent::ServerEnded {
            server: key,
            owner: 42
        }]
    );
    world.assert_empty();

    let mut world = World::tcp();
    let text = invite(&world);
    let key = world.accept(&text);
    assert!(world.respond(key, &text, 486));
    assert_eq!(world.receive(&ack(&text)), (Received::Absorbed, vec![]));
    assert_eq!(
        world.events(),
        [TransactionEvent::ServerEnded {
            server: key,
            owner: 42
        }]
    );
    world.assert_empty();
}

#[test]
fn timer_l_absorbs_the_invite_and_lets_further_2xx_pass_for_32_s() {
    for mut world in [World::udp(), World::tcp()] {
        let text = invite(&world);
        let key = world.accept(&text);
        assert!(world.respond(key, &text, 200));
        assert_eq!(world.transactions.kept_bytes(), 0);
        assert_eq!(
            world.pass(ms(31_999)),
            [],
            "the user sends a 2xx again, not the transaction"
        );
        assert_eq!(world.receive(&text), (Received::Absorbed, vec![]));
        assert!(world.respond(key, &text, 200));
        assert!(!world.respond(key, &text, 486));
        world.pass(ms(1));
        assert_eq!(
            world.events(),
            [TransactionEvent::ServerEnded {
                server: key,
                owner: 42
            }]
        );
        assert!(!world.respond(key, &text, 200));
        world.assert_empty();
    }
}

#[test]
fn timer_j_repeats_the_final_response_to_other_methods_for_32_s() {
    let mut world = World::udp();
    let text = options(&world);
    let key = world.accept(&text);
    assert_eq!(
        world.receive(&text),
        (Received::Absorbed, vec![]),
        "Trying: no answer yet, nothing to repeat"
    );
    assert!(world.respond(key, &text, 200));
    let response = response(&text, 200, "b");
    assert_eq!(
        world.transactions.kept_bytes(),
        response.len(),
        "the request is not needed any more"
    );
    assert_eq!(world.pass(ms(31_999)), []);
    assert_eq!(
        world.receive(&text),
        (Received::Absorbed, vec![(31_999, response)])
    );
    world.pass(ms(1));
    assert_eq!(
        world.events(),
        [TransactionEvent::ServerEnded {
            server: key,
            owner: 42
        }]
    );
    world.assert_empty();
}

#[test]
fn timer_j_is_zero_on_reliable_transports() {
    let mut world = World::tcp();
    let text = options(&world);
    let key = world.accept(&text);
    assert!(world.respond(key, &text, 200));
    assert_eq!(
        world.events(),
        [TransactionEvent::ServerEnded {
            server: key,
            owner: 42
        }]
    );
    world.assert_empty();
}

#[test]
fn non_invite_is_answered_100_only_when_timer_e_has_reached_t2() {
    let mut world = World::udp();
    let text = options(&world);
    let key = world.accept(&text);
    assert_eq!(starts(&world.pass(s(10)), 11), [(3500, "SIP/2.0 100")]);
    assert_eq!(starts(&world.receive(&text).1, 11), [(10_000, "SIP/2.0 100")]);
    assert!(world.respond(key, &text, 200));
}

#[test]
fn non_invite_gets_no_provisional_response_but_100_and_no_408() {
    let mut world = World::udp();
    let text = options(&world);
    let key = world.accept(&text);
    assert!(!world.respond(key, &text, 180));
    assert!(world.transactions.awaits_final(key));
    assert!(world.respond(key, &text, 100));
    assert!(!world.respond(key, &text, 408));
    assert_eq!(
        world.events(),
        [TransactionEvent::ServerEnded {
            server: key,
            owner: 42
        }]
    );
    world.assert_empty();
}

#[test]
fn non_invite_is_never_answered_late() {
    let mut world = World::udp();
    let text = options(&world);
    let key = world.accept(&text);
    assert_eq!(starts(&world.pass(s(32)), 11), [(3500, "SIP/2.0 100")]);
    let [expired, ended] = world.events()[..] else {
        panic!("two events")
    };
    assert_eq!(
        expired,
        TransactionEvent::ServerExpired {
            server: key,
            owner: 42
        }
    );
    assert_eq!(
        ended,
        TransactionEvent::ServerEnded {
            server: key,
            owner: 42
        }
    );
    assert!(!world.respond(key, &text, 200));
    world.assert_empty();
}

#[test]
fn invite_whose_user_forgets_it_is_answered_408() {
    let mut world = World::udp();
    let text = invite(&world);
    let key = world.accept(&text);
    world.pass(s(200));
    assert!(
        world.respond(key, &text, 180),
        "patience starts anew with each provisional response"
    );
    world.pass(s(200));
    assert_eq!(world.events(), []);
    let sent = world.pass(s(40));
    assert_eq!(starts(&sent, 11), [(440_000, "SIP/2.0 408")]);
    assert!(
        sent[0]
            .1
            .contains(&format!(";tag={}", world.transactions.tag(key).unwrap().as_str()))
    );
    assert_eq!(
        world.events(),
        [TransactionEvent::ServerExpired {
            server: key,
            owner: 42
        }]
    );
    let _ = world.receive(&ack(&text));
    world.pass(s(5));
    assert_eq!(
        world.events(),
        [TransactionEvent::ServerEnded {
            server: key,
            owner: 42
        }]
    );
    world.assert_empty();
}

#[test]
fn only_one_final_response_is_sent() {
    let mut world = World::udp();
    let text = invite(&world);
    let key = world.accept(&text);
    assert!(world.respond(key, &text, 486));
    for status in [180, 200, 487, 603] {
        assert!(!world.respond(key, &text, status));
    }
}

#[test]
fn request_is_kept_until_the_final_response() {
    let mut world = World::udp();
    let text = invite(&world);
    let key = world.accept(&text);
    assert_eq!(world.transactions.request(key).unwrap().bytes(), text.as_bytes());
    assert_eq!(world.transactions.flow(key), Some(&world.flow));
    assert!(world.respond(key, &text, 183));
    assert!(world.transactions.request(key).is_some());
    assert!(world.respond(key, &text, 404));
    assert!(world.transactions.request(key).is_none());
}

#[test]
fn matching_needs_branch_sent_by_and_method() {
    let mut world = World::udp();
    let text = options(&world);
    world.accept(&text);
    for other in [
        text.replace("z9hG4bKop", "z9hG4bKoq"),
        text.replace("198.51.100.7:5070", "198.51.100.7:5071"),
        text.replace("198.51.100.7:5070", "198.51.100.8:5070"),
        text.replace("OPTIONS", "MESSAGE"),
    ] {
        assert!(
            matches!(world.receive(&other).0, Received::NewRequest(_)),
            "{other}"
        );
    }
    let same = text
        .replace("Max-Forwards: 69", "Max-Forwards: 68")
        .replace("c1", "c2");
    assert_eq!(world.receive(&same).0, Received::Absorbed, "nothing else counts");
}

#[test]
fn sent_by_compares_without_regard_to_case() {
    let mut world = World::udp();
    let text = options(&world).replace("198.51.100.7:5070", "Phone.Example.ORG");
    world.accept(&text);
    assert_eq!(
        world
            .receive(&text.replace("Phone.Example.ORG", "phone.example.org"))
            .0,
        Received::Absorbed
    );
}

#[test]
fn request_without_magic_cookie_matches_as_in_rfc_2543() {
    for via in ["", ";branch=1", ";branch=z9hG4bK"] {
        let mut world = World::udp();
        let old = |text: &str| text.replace(";branch=z9hG4bKin", via);
        let text = old(&invite(&world));
        let key = world.accept(&text);
        assert_eq!(world.receive(&text).0, Received::Absorbed);
        for (from, to) in [
            ("CSeq: 1", "CSeq: 2"),
            ("c1", "c2"),
            ("tag=a", "tag=z"),
            ("sip:bob@example.com SIP", "sip:eve@example.com SIP"),
        ] {
            let other = text.replacen(from, to, 1);
            assert!(
                matches!(world.receive(&other).0, Received::NewRequest(_)),
                "{other}"
            );
        }
        assert_eq!(
            world.receive(&text.replace("INVITE", "CANCEL")).0,
            Received::Cancel { invite: Some(key) }
        );
        assert!(world.respond(key, &text, 486));
        assert_eq!(world.receive(&ack(&text)).0, Received::Absorbed);
        world.pass(s(5));
        world.assert_empty();
    }
}

#[test]
fn ack_to_2xx_passes_up() {
    let mut world = World::udp();
    let text = invite(&world);
    let key = world.accept(&text);
    assert!(world.respond(key, &text, 200));
    let with_own_branch = ack(&text).replace("z9hG4bKin", "z9hG4bKack");
    assert_eq!(world.receive(&with_own_branch), (Received::Ack, vec![]));
    assert_eq!(
        world.receive(&ack(&text)),
        (Received::Ack, vec![]),
        "RFC 2543 clients use the INVITE's"
    );
}

#[test]
fn ack_to_a_stateless_response_is_recognised_by_its_tag() {
    let mut world = World::udp();
    let text = invite(&world);
    let (Received::NewRequest(new), _) = world.receive(&text) else {
        panic!("not new")
    };
    let tag = new.tag();
    let ack = ack(&text).replace("tag=b", &format!("tag={}", tag.as_str()));
    assert_eq!(world.receive(&ack), (Received::Absorbed, vec![]));
    let other = ack.replace("z9hG4bKin", "z9hG4bKother");
    assert_eq!(
        world.receive(&other).0,
        Received::Ack,
        "the ACK to a 2xx has a branch of its own"
    );
}

#[test]
fn cancel_is_answered_200_each_time_and_passed_up_once() {
    let mut world = World::udp();
    let text = invite(&world);
    let key = world.accept(&text);
    let cancel = text.replace("INVITE", "CANCEL");
    let (received, first) = world.receive(&cancel);
    assert_eq!(received, Received::Cancel { invite: Some(key) });
    assert_eq!(starts(&first, 11), [(0, "SIP/2.0 200")]);
    assert!(first[0].1.contains("CSeq: 1 CANCEL"));
    assert!(
        first[0]
            .1
            .contains(&format!(";tag={}", world.transactions.tag(key).unwrap().as_str()))
    );
    let (received, second) = world.receive(&cancel);
    assert_eq!((received, second), (Received::Absorbed, first));
    assert!(world.respond(key, &text, 487));
    assert_eq!(world.receive(&ack(&text)).0, Received::Absorbed);
}

#[test]
fn cancel_after_the_final_response_has_no_effect() {
    for status in [200, 486] {
        let mut world = World::udp();
        let text = invite(&world);
        let key = world.accept(&text);
        assert!(world.respond(key, &text, status));
        let (received, sent) = world.receive(&text.replace("INVITE", "CANCEL"));
        assert_eq!(received, Received::Absorbed);
        assert_eq!(starts(&sent, 11), [(0, "SIP/2.0 200")]);
    }
}

#[test]
fn cancel_of_nothing_is_left_to_the_caller() {
    let mut world = World::udp();
    let text = invite(&world);
    world.accept(&text);
    let cancel = text.replace("INVITE", "CANCEL").replace("z9hG4bKin", "z9hG4bKno");
    assert_eq!(
        world.receive(&cancel),
        (Received::Cancel { invite: None }, vec![])
    );
}

#[test]
fn same_request_by_two_ways_is_merged() {
    let mut world = World::udp();
    let text = invite(&world);
    world.accept(&text);
    let by_another_way = text.replace("z9hG4bKin", "z9hG4bKin2");
    let (Received::NewRequest(new), _) = world.receive(&by_another_way) else {
        panic!("matched")
    };
    assert!(new.is_merged());
    let next = by_another_way.replace("CSeq: 1", "CSeq: 2");
    let (Received::NewRequest(new), _) = world.receive(&next) else {
        panic!("matched")
    };
    assert!(!new.is_merged());
    let in_dialog = by_another_way.replace("To: <sip:bob@example.com>", "To: <sip:bob@example.com>;tag=b");
    let (Received::NewRequest(new), _) = world.receive(&in_dialog) else {
        panic!("matched")
    };
    assert!(!new.is_merged());
}

#[test]
fn tags_differ_between_requests_and_secrets() {
    let mut world = World::udp();
    let first = world.accept(&invite(&world));
    let second = world.accept(&options(&world));
    assert_ne!(world.transactions.tag(first), world.transactions.tag(second));
    let other = Transactions::new(TransactionConfig::default(), [4; 16]);
    let key = world.transactions.server(first).unwrap().key;
    assert_ne!(other.matcher.tag(key), world.transactions.matcher.tag(key));
}
