//! Which responses go back, and what becomes of the branches (RFC 3261 16.7 to 16.10, RFC 3326, RFC 4320, RFC 6026).

use crate::phone::*;
use crate::world::*;

/// bob with two telephones, both of which have the INVITE of alice that is returned first.
fn forked() -> (World, String, Sent, Sent) {
    let mut world = World::new();
    world.register(&bob());
    world.register(&bob2());
    let text = invite(&alice(), "bob");
    world.say(&alice(), &text);
    world.status(&alice(), 100);
    let (first, second) = (world.request(&bob(), "INVITE"), world.request(&bob2(), "INVITE"));
    assert_ne!(first.branch(), second.branch());
    (world, text, first, second)
}

/// bob with one telephone, which has the INVITE of alice.
fn ringing() -> (World, String, Sent) {
    let mut world = World::new();
    world.register(&bob());
    let text = invite(&alice(), "bob");
    world.say(&alice(), &text);
    world.status(&alice(), 100);
    let sent = world.request(&bob(), "INVITE");
    world.say(&bob(), &reply(&sent, 180, "b", "", ""));
    world.status(&alice(), 180);
    (world, text, sent)
}

/// Both telephones refuse; what alice is told.
fn best_of(first: u16, second: u16) -> u16 {
    let (mut world, text, one, two) = forked();
    world.say(&bob(), &reply(&one, first, "b", "", ""));
    world.request(&bob(), "ACK");
    if first < 600 {
        world.nothing();
    }
    world.say(&bob2(), &reply(&two, second, "c", "", ""));
    world.request(&bob2(), "ACK");
    let last = world.one(&alice());
    world.say(&alice(), &hop(&text, "ACK", last.to_tag()));
    world.nothing();
    world.ends_empty();
    assert_eq!(world.records.len(), 1);
    last.status().expect("a response")
}

#[test]
fn the_best_of_several_refusals_goes_back_when_the_last_has_come() {
    for (first, second, best) in [
        (486, 404, 486),
        (404, 486, 486),
        (480, 603, 603),
        (503, 486, 486),
        (500, 503, 500),
        (486, 302, 302),
        (486, 407, 407),
        (408, 480, 480),
        (503, 503, 500),
    ] {
        assert_eq!(best_of(first, second), best, "{first} and {second}");
    }
}

#[test]
fn the_first_2xx_cancels_the_other_telephones_and_says_why() {
    let (mut world, _, one, two) = forked();
    for (phone, sent) in [(bob(), &one), (bob2(), &two)] {
        world.say(
            &phone,
            &reply(sent, 180, phone.contact.get(14..16).unwrap_or("x"), "", ""),
        );
        world.status(&alice(), 180);
    }
    world.say(&bob(), &accept(&bob(), &one, "b"));
    assert_eq!(world.status(&alice(), 200).to_tag(), "b");
    let cancel = world.request(&bob2(), "CANCEL");
    assert_eq!(
        cancel.get("Reason"),
        "SIP;cause=200;text=\"Call completed elsewhere\""
    );
    assert_eq!(cancel.branch(), two.branch());
    assert_eq!(cancel.uri(), two.uri());
    assert_eq!(cancel.all("Via").len(), 1);
    assert_eq!(cancel.get("CSeq"), "10 CANCEL");
    world.say(&bob2(), &reply(&cancel, 200, "x", "", ""));
    world.say(&bob2(), &reply(&two, 487, "x", "", ""));
    world.request(&bob2(), "ACK");
    world.nothing();
}

#[test]
fn a_telephone_that_has_not_answered_is_cancelled_when_it_does() {
    let (mut world, _, one, two) = forked();
    world.say(&bob(), &accept(&bob(), &one, "b"));
    world.status(&alice(), 200);
    world.nothing();
    world.say(&bob2(), &reply(&two, 180, "c", "", ""));
    world.request(&bob2(), "CANCEL");
    world.nothing();
}

#[test]
fn two_telephones_picked_up_at_once_both_reach_the_caller() {
    let (mut world, _, one, two) = forked();
    world.say(&bob2(), &reply(&two, 180, "c", "", ""));
    world.status(&alice(), 180);
    world.say(&bob(), &accept(&bob(), &one, "b"));
    assert_eq!(world.status(&alice(), 200).to_tag(), "b");
    world.request(&bob2(), "CANCEL");
    world.say(&bob2(), &accept(&bob2(), &two, "c"));
    assert_eq!(world.status(&alice(), 200).to_tag(), "c");
    world.nothing();
}

#[test]
fn a_declined_call_rings_nowhere_any_more() {
    let (mut world, _, one, two) = forked();
    world.say(&bob2(), &reply(&two, 180, "c", "", ""));
    world.status(&alice(), 180);
    world.say(&bob(), &reply(&one, 603, "b", "", ""));
    world.request(&bob(), "ACK");
    let cancel = world.request(&bob2(), "CANCEL");
    assert!(cancel.get("Reason").contains("cause=603"));
    world.say(&bob2(), &reply(&two, 487, "c", "", ""));
    world.request(&bob2(), "ACK");
    world.status(&alice(), 603);
    world.nothing();
    world.ends_empty();
}

#[test]
fn a_2xx_that_crosses_a_603_goes_back_all_the_same() {
    let (mut world, _, one, two) = forked();
    world.say(&bob2(), &reply(&two, 180, "c", "", ""));
    world.status(&alice(), 180);
    world.say(&bob(), &reply(&one, 603, "b", "", ""));
    world.request(&bob(), "ACK");
    world.request(&bob2(), "CANCEL");
    world.say(&bob2(), &accept(&bob2(), &two, "c"));
    world.status(&alice(), 200);
    world.nothing();
}

#[test]
fn the_challenges_of_all_branches_go_back_together() {
    let (mut world, _, one, two) = forked();
    world.say(
        &bob(),
        &reply(
            &one,
            401,
            "b",
            "WWW-Authenticate: Digest realm=\"one\", nonce=\"1\"\n",
            "",
        ),
    );
    world.request(&bob(), "ACK");
    world.say(
        &bob2(),
        &reply(
            &two,
            407,
            "c",
            "Proxy-Authenticate: Digest realm=\"two\", nonce=\"2\"\n",
            "",
        ),
    );
    world.request(&bob2(), "ACK");
    let back = world.one(&alice());
    assert!(matches!(back.status(), Some(401 | 407)));
    assert_eq!(back.get("WWW-Authenticate"), "Digest realm=\"one\", nonce=\"1\"");
    assert_eq!(
        back.get("Proxy-Authenticate"),
        "Digest realm=\"two\", nonce=\"2\""
    );
    world.ends_empty();
}

#[test]
fn a_refusal_that_is_no_challenge_carries_none() {
    let (mut world, _, one, two) = forked();
    world.say(&bob(), &reply(&one, 302, "b", "Contact: <sip:x@y.example>\n", ""));
    world.request(&bob(), "ACK");
    world.say(
        &bob2(),
        &reply(
            &two,
            401,
            "c",
            "WWW-Authenticate: Digest realm=\"two\", nonce=\"2\"\n",
            "",
        ),
    );
    world.request(&bob2(), "ACK");
    assert!(!world.status(&alice(), 302).has("WWW-Authenticate"));
    world.ends_empty();
}

#[test]
fn provisional_responses_go_back_except_100() {
    let (mut world, _, one, _) = forked();
    world.say(&bob(), &reply(&one, 100, "", "", ""));
    world.nothing();
    for status in [180, 183, 199] {
        world.say(&bob(), &reply(&one, status, "b", "X: kept\n", ""));
        assert_eq!(world.status(&alice(), status).get("X"), "kept");
    }
    world.say(&bob(), &reply(&one, 486, "b", "", ""));
    world.request(&bob(), "ACK");
    world.nothing();
}

#[test]
fn a_provisional_response_after_the_final_one_is_dropped() {
    let (mut world, _, one, two) = forked();
    world.say(&bob(), &accept(&bob(), &one, "b"));
    world.status(&alice(), 200);
    world.say(&bob2(), &reply(&two, 183, "c", "", ""));
    world.request(&bob2(), "CANCEL");
    world.nothing();
}

#[test]
fn a_503_of_one_telephone_is_500_to_the_caller() {
    let (mut world, _, one) = ringing();
    world.say(&bob(), &reply(&one, 503, "b", "", ""));
    world.request(&bob(), "ACK");
    world.status(&alice(), 500);
    world.ends_empty();
}

#[test]
fn a_telephone_that_cannot_be_reached_is_480() {
    let mut world = World::new();
    let bob = tcp("bob", "192.0.2.20:40000", 3);
    world.register(&bob);
    world.say(&alice(), &invite(&alice(), "bob"));
    world.status(&alice(), 100);
    world.request(&bob, "INVITE");
    let now = world.now;
    world.switches[0].handle_flow_failed(now, &bob.flow);
    world.collect();
    world.status(&alice(), 480);
    // The binding has gone with its connection.
    world.say(&alice(), &initial(&alice(), "MESSAGE", "bob", "", ""));
    world.status(&alice(), 480);
    world.ends_empty();
}

#[test]
fn a_cancel_is_answered_at_once_and_goes_to_a_ringing_telephone() {
    let (mut world, text, one) = ringing();
    world.say(&alice(), &hop(&text, "CANCEL", ""));
    let ok = world.status(&alice(), 200);
    assert_eq!(ok.get("CSeq"), "10 CANCEL");
    let cancel = world.request(&bob(), "CANCEL");
    assert_eq!(cancel.branch(), one.branch());
    world.say(&bob(), &reply(&cancel, 200, "b", "", ""));
    world.say(&bob(), &reply(&one, 487, "b", "", ""));
    world.request(&bob(), "ACK");
    let end = world.status(&alice(), 487);
    assert_eq!(end.to_tag(), "b");
    world.say(&alice(), &hop(&text, "ACK", "b"));
    world.nothing();
    world.ends_empty();
    assert_eq!(world.records[0].ended_by, switch::EndedBy::Caller);
    assert_eq!(world.records[0].status, 487);
}

#[test]
fn the_callers_own_reason_goes_on_with_the_cancel() {
    let (mut world, text, _) = ringing();
    let cancel =
        hop(&text, "CANCEL", "").replace("Content-Length", "Reason: Q.850;cause=16\r\nContent-Length");
    world.say(&alice(), &cancel);
    world.status(&alice(), 200);
    assert_eq!(world.request(&bob(), "CANCEL").get("Reason"), "Q.850;cause=16");
}

#[test]
fn a_cancel_before_any_answer_ends_the_call_at_once_and_waits_for_the_telephone() {
    let mut world = World::new();
    world.register(&bob());
    let text = invite(&alice(), "bob");
    world.say(&alice(), &text);
    world.status(&alice(), 100);
    let one = world.request(&bob(), "INVITE");
    world.say(&alice(), &hop(&text, "CANCEL", ""));
    let both: Vec<_> = world.to(&alice()).iter().map(Sent::status).collect();
    assert_eq!(both, [Some(200), Some(487)]);
    world.nothing();
    world.say(&bob(), &reply(&one, 180, "b", "", ""));
    world.request(&bob(), "CANCEL");
    world.say(&bob(), &reply(&one, 487, "b", "", ""));
    world.request(&bob(), "ACK");
    world.nothing();
    world.ends_empty();
    assert_eq!(world.records.len(), 1);
}

#[test]
fn a_telephone_that_picks_up_after_the_call_was_cancelled_is_hung_up_on() {
    let mut world = World::new();
    world.register(&bob());
    let text = invite(&alice(), "bob");
    world.say(&alice(), &text);
    world.status(&alice(), 100);
    let one = world.request(&bob(), "INVITE");
    world.say(&alice(), &hop(&text, "CANCEL", ""));
    let told = world.to(&alice());
    world.say(&alice(), &hop(&text, "ACK", told[1].to_tag()));
    world.say(&bob(), &accept(&bob(), &one, "b"));
    let ends = world.to(&bob());
    let methods: Vec<_> = ends.iter().map(Sent::method).collect();
    assert_eq!(methods, ["ACK", "BYE"]);
    for sent in &ends {
        assert_eq!(sent.uri(), bob().contact);
        assert_eq!(sent.flow, bob().flow);
        assert!(sent.get("To").ends_with(";tag=b"));
        assert_eq!(sent.get("From"), text_of(&text, "From"));
        assert_eq!(sent.get("Call-ID"), text_of(&text, "Call-ID"));
    }
    assert_eq!(ends[0].get("CSeq"), "10 ACK");
    assert_eq!(ends[1].get("CSeq"), "11 BYE");
    world.say(&bob(), &reply(&ends[1], 200, "", "", ""));
    world.nothing();
    world.ends_empty();
}

fn text_of(message: &str, name: &str) -> String {
    text(message).get(name).to_owned()
}

#[test]
fn a_telephone_that_picks_up_while_it_is_cancelled_is_the_callers_to_hang_up_on() {
    let (mut world, text, one) = ringing();
    world.say(&alice(), &hop(&text, "CANCEL", ""));
    world.status(&alice(), 200);
    world.request(&bob(), "CANCEL");
    world.say(&bob(), &accept(&bob(), &one, "b"));
    let ok = world.status(&alice(), 200);
    let mut near = Dialog::caller(&alice(), &ok);
    world.say(&alice(), &near.next("ACK", "", ""));
    world.request(&bob(), "ACK");
    world.say(&alice(), &near.next("BYE", "", ""));
    let bye = world.request(&bob(), "BYE");
    world.say(&bob(), &reply(&bye, 200, "", "", ""));
    world.status(&alice(), 200);
    world.nothing();
    world.ends_empty();
    assert_eq!(world.records.len(), 1);
}

#[test]
fn a_cancel_of_nothing_is_481() {
    let mut world = World::new();
    world.say(&alice(), &hop(&invite(&alice(), "bob"), "CANCEL", ""));
    world.status(&alice(), 481);
}

#[test]
fn a_cancel_while_the_dns_is_asked_ends_the_call() {
    let mut world = World::new();
    let text = invite(&alice(), "sip:x@far.example");
    world.say(&alice(), &text);
    world.status(&alice(), 100);
    world.say(&alice(), &hop(&text, "CANCEL", ""));
    let both: Vec<_> = world.to(&alice()).iter().map(Sent::status).collect();
    assert_eq!(both, [Some(200), Some(487)]);
    world.dns(|_| sip::resolve::Answer::A(vec!["192.0.2.80".parse().expect("an address")]));
    world.nothing();
    world.ends_empty();
}

#[test]
fn a_2xx_that_comes_again_goes_back_again_and_its_ack_goes_through_each_time() {
    let (mut world, _, one) = ringing();
    let ok = accept(&bob(), &one, "b");
    world.say(&bob(), &ok);
    let first = world.status(&alice(), 200);
    world.pass_ms(500);
    world.say(&bob(), &ok);
    let second = world.status(&alice(), 200);
    assert_eq!(first.text, second.text);
    let mut near = Dialog::caller(&alice(), &first);
    let ack = near.next("ACK", "", "");
    world.say(&alice(), &ack);
    let one = world.request(&bob(), "ACK");
    world.say(&alice(), &ack);
    let two = world.request(&bob(), "ACK");
    assert_eq!(one.text, two.text);
    assert_eq!(one.uri(), bob().contact);
    assert!(!one.has("Route") && !one.has("Record-Route"));
    assert_eq!(one.all("Via").len(), 2);
    world.nothing();
}

#[test]
fn the_ack_to_a_refusal_stays_between_neighbours() {
    let (mut world, text, one) = ringing();
    world.say(&bob(), &reply(&one, 486, "b", "", ""));
    let ack = world.request(&bob(), "ACK");
    assert_eq!(ack.branch(), one.branch());
    assert_eq!(ack.all("Via").len(), 1);
    world.status(&alice(), 486);
    // Until alice's ACK comes the refusal is repeated, after it no more.
    world.pass_ms(600);
    world.status(&alice(), 486);
    world.say(&alice(), &hop(&text, "ACK", "b"));
    world.pass_s(3);
    world.nothing();
    // The refusal again is acknowledged again.
    world.say(&bob(), &reply(&one, 486, "b", "", ""));
    world.request(&bob(), "ACK");
    world.ends_empty();
}

#[test]
fn retransmissions_of_the_invite_are_answered_and_not_forwarded() {
    let (mut world, text, _) = ringing();
    world.say(&alice(), &text);
    world.status(&alice(), 180);
    world.nothing();
}

#[test]
fn an_invite_that_rings_too_long_is_cancelled_and_408() {
    let (mut world, _, one) = ringing();
    world.pass_s(184);
    world.nothing();
    // News from the telephone gives it time again.
    world.say(&bob(), &reply(&one, 180, "b", "", ""));
    world.status(&alice(), 180);
    world.pass_s(184);
    world.nothing();
    world.pass_s(2);
    let cancel = world.to(&bob());
    assert!(!cancel.is_empty() && cancel.iter().all(|sent| sent.method() == "CANCEL"));
    world.say(&bob(), &reply(&cancel[0], 200, "b", "", ""));
    world.pass_s(33);
    assert_eq!(world.to(&alice())[0].status(), Some(408));
    world.ends_empty();
    assert_eq!((world.records.len(), world.records[0].status), (1, 408));
    assert_eq!(world.records[0].ended_by, switch::EndedBy::Service);
}

#[test]
fn an_invite_that_nobody_answers_is_408_after_32_seconds() {
    let mut world = World::new();
    world.register(&bob());
    world.say(&alice(), &invite(&alice(), "bob"));
    world.pass_s(31);
    let repeats = world.to(&bob());
    assert!(repeats.len() > 4 && repeats.iter().all(|sent| sent.text == repeats[0].text));
    world.status(&alice(), 100);
    world.pass_ms(1_200);
    world.status(&alice(), 408);
    world.ends_empty();
}

#[test]
fn a_request_other_than_invite_that_nobody_answers_ends_in_silence() {
    let mut world = World::new();
    world.register(&bob());
    world.say(&alice(), &initial(&alice(), "MESSAGE", "bob", "", ""));
    world.pass_s(100);
    // 100 may come (RFC 4320 4.1), a 408 may not (4.2).
    assert!(world.to(&alice()).iter().all(|sent| sent.status() == Some(100)));
    world.ends_empty();
}

#[test]
fn a_408_of_the_next_hop_to_a_request_other_than_invite_goes_no_further() {
    let mut world = World::new();
    world.register(&bob());
    world.say(&alice(), &initial(&alice(), "MESSAGE", "bob", "", ""));
    let sent = world.request(&bob(), "MESSAGE");
    world.say(&bob(), &reply(&sent, 408, "b", "", ""));
    world.nothing();
    world.ends_empty();
}

#[test]
fn a_provisional_response_to_a_request_other_than_invite_goes_no_further() {
    let mut world = World::new();
    world.register(&bob());
    world.say(&alice(), &initial(&alice(), "MESSAGE", "bob", "", ""));
    let sent = world.request(&bob(), "MESSAGE");
    world.say(&bob(), &reply(&sent, 183, "b", "", ""));
    world.nothing();
    world.say(&bob(), &reply(&sent, 200, "b", "", ""));
    world.status(&alice(), 200);
    world.ends_empty();
}

#[test]
fn a_telephone_that_is_out_of_reach_does_not_hide_what_another_one_says() {
    for (status, told) in [(486, 486), (603, 603), (408, 480), (404, 480), (503, 480)] {
        let (mut world, _, one, two) = forked();
        let now = world.now;
        world.switches[0].handle_flow_failed(now, &one.flow);
        world.collect();
        world.nothing();
        world.say(&bob2(), &reply(&two, status, "c", "", ""));
        world.request(&bob2(), "ACK");
        world.status(&alice(), told);
        world.ends_empty();
    }
}
