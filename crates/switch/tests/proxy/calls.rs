//! The life of a call: its record, its end by either side or by Trapez, and that nothing of it stays.

use std::time::Duration;

use media::Report;
use switch::{CallState, EndedBy, MediaPath};

use crate::phone::*;
use crate::world::*;

fn ready() -> World {
    let mut world = World::new();
    world.register(&bob());
    world
}

/// A side hangs up, the other agrees.
fn hang_up(world: &mut World, side: &mut Dialog, other: &Phone) {
    let text = side.next("BYE", "", "");
    world.say(&side.phone, &text);
    let bye = world.request(other, "BYE");
    world.say(other, &reply(&bye, 200, "", "", ""));
    world.status(&side.phone, 200);
}

#[test]
fn a_call_leaves_one_record_that_says_who_when_and_how() {
    let mut world = ready();
    let started = world.unix_ms();
    world.say(&alice(), &invite(&alice(), "bob"));
    world.status(&alice(), 100);
    let sent = world.request(&bob(), "INVITE");
    world.pass_ms(300);
    let ringing = world.unix_ms();
    world.say(&bob(), &reply(&sent, 180, "b", "", ""));
    world.status(&alice(), 180);
    world.pass_ms(700);
    // 180 again is no news.
    world.say(&bob(), &reply(&sent, 180, "b", "", ""));
    world.status(&alice(), 180);
    let answered = world.unix_ms();
    world.say(&bob(), &accept(&bob(), &sent, "b"));
    let mut near = Dialog::caller(&alice(), &world.status(&alice(), 200));
    world.say(&alice(), &near.next("ACK", "", ""));
    world.request(&bob(), "ACK");
    world.pass_s(10);
    assert!(world.records.is_empty());
    let info: Vec<_> = world.switches[0].calls().collect();
    assert_eq!((info.len(), info[0].state), (1, CallState::Talking));
    let ended = world.unix_ms();
    hang_up(&mut world, &mut near, &bob());
    world.ends_empty();
    assert_eq!(world.records.len(), 1);
    let record = &world.records[0];
    assert_eq!(
        (record.caller.as_str(), record.callee.as_str()),
        ("alice@example.org", "bob@example.org")
    );
    assert_eq!(record.call_id, near.call_id);
    assert_eq!(
        (record.started, record.ringing, record.answered, record.ended),
        (started, Some(ringing), Some(answered), ended)
    );
    assert_eq!((record.status, record.ended_by), (200, EndedBy::Caller));
    assert_eq!(
        (record.codec.as_deref(), record.media),
        (Some("PCMA"), MediaPath::Relay)
    );
}

#[test]
fn the_record_says_when_the_callee_hung_up_and_why() {
    let mut world = ready();
    let (_, mut far, _) = call(&mut world, &alice(), &bob());
    world.say(&bob(), &far.next("BYE", "Reason: Q.850;cause=16\n", ""));
    let bye = world.request(&alice(), "BYE");
    assert_eq!(bye.get("Reason"), "Q.850;cause=16");
    world.say(&alice(), &reply(&bye, 200, "", "", ""));
    world.status(&bob(), 200);
    world.ends_empty();
    assert_eq!(world.records.len(), 1);
    assert_eq!(world.records[0].ended_by, EndedBy::Callee);
    assert_eq!(world.records[0].reason.as_deref(), Some("Q.850;cause=16"));
}

#[test]
fn a_ringing_telephone_without_a_tag_rings_all_the_same() {
    let mut world = ready();
    world.say(&alice(), &invite(&alice(), "bob"));
    world.status(&alice(), 100);
    let sent = world.request(&bob(), "INVITE");
    world.say(&bob(), &reply(&sent, 180, "", "", ""));
    world.status(&alice(), 180);
    assert_eq!(
        world.switches[0].calls().next().map(|call| call.state),
        Some(CallState::Ringing)
    );
}

#[test]
fn the_answer_to_a_bye_waits_until_the_record_is_stored() {
    let mut world = ready();
    let (mut near, _, _) = call(&mut world, &alice(), &bob());
    world.store_answers = false;
    world.say(&alice(), &near.next("BYE", "", ""));
    let bye = world.request(&bob(), "BYE");
    world.say(&bob(), &reply(&bye, 200, "", "", ""));
    world.nothing();
    assert_eq!(world.records.len(), 1);
    world.pass_ms(100);
    world.store_now();
    world.status(&alice(), 200);
    world.ends_empty();
    assert_eq!(world.records.len(), 1);
}

#[test]
fn a_store_that_does_not_answer_keeps_the_telephone_waiting_for_half_a_second_only() {
    let mut world = ready();
    let (mut near, _, _) = call(&mut world, &alice(), &bob());
    world.store_answers = false;
    let text = near.next("BYE", "", "");
    world.say(&alice(), &text);
    let bye = world.request(&bob(), "BYE");
    world.say(&bob(), &reply(&bye, 200, "", "", ""));
    world.pass_ms(490);
    world.nothing();
    world.pass_ms(20);
    world.status(&alice(), 200);
    // The BYE again gets the answer again, and no second record.
    world.say(&alice(), &text);
    world.status(&alice(), 200);
    world.store_now();
    world.ends_empty();
    assert_eq!(world.records.len(), 1);
}

#[test]
fn a_relay_that_does_not_report_does_not_lose_the_record() {
    let mut world = ready();
    world.relay_answers = false;
    let (mut near, _, _) = call(&mut world, &alice(), &bob());
    hang_up_slowly(&mut world, &mut near);
    assert_eq!(world.records.len(), 1);
    // The report comes after all.
    let stream = world.commands.last().expect("a Close").stream();
    world.report_end(0, stream);
    world.ends_empty();
    assert_eq!(world.records.len(), 1);
}

fn hang_up_slowly(world: &mut World, near: &mut Dialog) {
    world.say(&alice(), &near.next("BYE", "", ""));
    let bye = world.request(&bob(), "BYE");
    world.say(&bob(), &reply(&bye, 200, "", "", ""));
    world.nothing();
    world.pass_ms(600);
    world.status(&alice(), 200);
}

#[test]
fn a_report_twice_makes_one_record() {
    let mut world = ready();
    world.relay_answers = false;
    world.store_answers = false;
    let (mut near, _, _) = call(&mut world, &alice(), &bob());
    world.say(&alice(), &near.next("BYE", "", ""));
    world.request(&bob(), "BYE");
    let stream = world.commands.last().expect("a Close").stream();
    world.report_end(0, stream);
    world.report_end(0, stream);
    assert_eq!(world.records.len(), 1);
    world.store_now();
    world.ends_empty();
    assert_eq!(world.records.len(), 1);
}

#[test]
fn without_records_a_bye_is_answered_all_the_same() {
    let mut world = World::with(1, |config| config.records = false);
    world.register(&bob());
    let (mut near, _, _) = call(&mut world, &alice(), &bob());
    world.say(&alice(), &near.next("BYE", "", ""));
    let bye = world.request(&bob(), "BYE");
    world.say(&bob(), &reply(&bye, 200, "", "", ""));
    world.pass_ms(10);
    world.status(&alice(), 200);
    world.ends_empty();
    assert!(world.records.is_empty());
}

#[test]
fn a_call_that_cannot_begin_makes_one_record_however_often_it_is_tried() {
    for (user, status) in [("nobody", 404), ("bob", 480)] {
        let mut world = World::new();
        let text = invite(&alice(), user);
        world.say(&alice(), &text);
        let refused = world.status(&alice(), status);
        world.pass_ms(100);
        world.say(&alice(), &text);
        assert_eq!(world.status(&alice(), status).text, refused.text);
        world.say(&alice(), &hop(&text, "ACK", refused.to_tag()));
        world.nothing();
        world.ends_empty();
        assert_eq!(world.records.len(), 1);
        let record = &world.records[0];
        assert_eq!((record.status, record.ended_by), (status, EndedBy::Service));
        assert_eq!((record.ringing, record.answered), (None, None));
    }
}

#[test]
fn a_refused_call_is_the_callees() {
    let mut world = ready();
    let text = invite(&alice(), "bob");
    world.say(&alice(), &text);
    world.status(&alice(), 100);
    let sent = world.request(&bob(), "INVITE");
    world.say(&bob(), &reply(&sent, 486, "b", "", ""));
    world.status(&alice(), 486);
    world.say(&alice(), &hop(&text, "ACK", "b"));
    world.ends_empty();
    assert_eq!(world.records.len(), 1);
    assert_eq!(
        (world.records[0].status, world.records[0].ended_by),
        (486, EndedBy::Callee)
    );
}

#[test]
fn a_bye_before_the_answer_ends_in_one_record() {
    let mut world = ready();
    let text = invite(&alice(), "bob");
    world.say(&alice(), &text);
    world.status(&alice(), 100);
    let sent = world.request(&bob(), "INVITE");
    world.say(
        &bob(),
        &reply(&sent, 183, "b", &format!("Contact: <{}>\n", bob().contact), ""),
    );
    let mut near = Dialog::caller(&alice(), &world.status(&alice(), 183));
    hang_up(&mut world, &mut near, &bob());
    world.say(&bob(), &reply(&sent, 487, "b", "", ""));
    world.request(&bob(), "ACK");
    world.status(&alice(), 487);
    world.ends_empty();
    assert_eq!(world.records.len(), 1);
    assert_eq!(world.records[0].ended_by, EndedBy::Caller);
}

#[test]
fn both_sides_hang_up_at_once() {
    let mut world = ready();
    let (mut near, mut far, _) = call(&mut world, &alice(), &bob());
    world.store_answers = false;
    world.say(&alice(), &near.next("BYE", "", ""));
    world.say(&bob(), &far.next("BYE", "", ""));
    let (one, two) = (world.request(&bob(), "BYE"), world.request(&alice(), "BYE"));
    world.say(&bob(), &reply(&one, 200, "", "", ""));
    world.say(&alice(), &reply(&two, 200, "", "", ""));
    world.nothing();
    world.store_now();
    world.status(&alice(), 200);
    world.status(&bob(), 200);
    world.ends_empty();
    assert_eq!(world.records.len(), 1);
}

#[test]
fn a_bye_of_a_second_answered_telephone_does_not_end_the_call() {
    let mut world = ready();
    world.register(&bob2());
    world.say(&alice(), &invite(&alice(), "bob"));
    world.status(&alice(), 100);
    let (one, two) = (world.request(&bob(), "INVITE"), world.request(&bob2(), "INVITE"));
    world.say(&bob(), &accept(&bob(), &one, "b"));
    let mut first = Dialog::caller(&alice(), &world.status(&alice(), 200));
    world.say(&bob2(), &accept(&bob2(), &two, "c"));
    let mut second = Dialog::caller(&alice(), &world.status(&alice(), 200));
    world.say(&alice(), &first.next("ACK", "", ""));
    world.request(&bob(), "ACK");
    world.say(&alice(), &second.next("ACK", "", ""));
    world.request(&bob2(), "ACK");
    hang_up(&mut world, &mut second, &bob2());
    assert!(world.records.is_empty());
    assert!(world.ports_out() > 0);
    hang_up(&mut world, &mut first, &bob());
    world.ends_empty();
    assert_eq!(world.records.len(), 1);
}

#[test]
fn a_call_without_media_is_ended_on_both_sides() {
    let mut world = ready();
    let (mut near, mut far, _) = call(&mut world, &alice(), &bob());
    // Both sides have moved on in their numbers, and bob in his address.
    world.say(&alice(), &near.next("INFO", "", ""));
    let info = world.request(&bob(), "INFO");
    world.say(&bob(), &reply(&info, 200, "", "", ""));
    world.status(&alice(), 200);
    far.phone.contact = "sip:bob@10.0.0.77:5062".into();
    world.say(&bob(), &far.next("UPDATE", "", ""));
    let update = world.request(&alice(), "UPDATE");
    world.say(&alice(), &reply(&update, 200, "", "", ""));
    world.status(&bob(), 200);

    let stream = world.commands.last().expect("an Open").stream();
    let silence = Duration::from_secs(60);
    let now = world.now;
    world.switches[0].handle_report(now, &Report::Timeout { stream, silence });
    world.collect();
    let (to_bob, to_alice) = (world.request(&bob(), "BYE"), world.request(&alice(), "BYE"));
    assert_eq!(
        (to_bob.uri(), to_alice.uri()),
        ("sip:bob@10.0.0.77:5062", alice().contact.as_str())
    );
    assert_eq!((to_bob.flow, to_alice.flow), (bob().flow, alice().flow));
    assert_eq!(
        (to_bob.get("From"), to_bob.get("To")),
        (near.local.as_str(), near.remote.as_str())
    );
    assert_eq!(
        (to_alice.get("From"), to_alice.get("To")),
        (far.local.as_str(), far.remote.as_str())
    );
    for (bye, cseq) in [(&to_bob, near.cseq), (&to_alice, far.cseq)] {
        assert_eq!(bye.get("Reason"), "SIP;cause=200;text=\"no media for 60 s\"");
        assert_eq!(bye.get("Call-ID"), near.call_id);
        assert_eq!(bye.all("Via").len(), 1);
        assert!(!bye.has("Route"));
        let number: u32 = bye
            .get("CSeq")
            .trim_end_matches(" BYE")
            .parse()
            .expect("a number");
        assert!(number > cseq, "{number} is not above {cseq}");
    }
    world.say(&bob(), &reply(&to_bob, 200, "", "", ""));
    world.say(&alice(), &reply(&to_alice, 481, "", "", ""));
    world.nothing();
    world.ends_empty();
    assert_eq!(world.records.len(), 1);
    assert_eq!(world.records[0].ended_by, EndedBy::Service);
    assert_eq!(world.records[0].reason.as_deref(), Some("no media for 60 s"));
}

#[test]
fn a_bye_of_ours_takes_the_route_behind_us_even_where_another_trapez_is_on_it() {
    let mut world = World::new();
    world.register_with(&bob(), "Supported: path\nPath: <sip:192.0.2.90;lr>\n");
    let before = "Record-Route: <sip:192.0.2.41;lr;tz=other>\nRecord-Route: <sip:192.0.2.40;lr>\n";
    world.say(
        &alice(),
        &initial(&alice(), "INVITE", "bob", before, &sdp("10.0.0.1", 4000, "")),
    );
    world.status(&alice(), 100);
    let mut sent = world.request(&bob(), "INVITE");
    let behind =
        "Record-Route: <sip:192.0.2.91;lr;tz=another>\r\nRecord-Route: <sip:192.0.2.90;lr>\r\nRecord-Route:";
    sent.text = sent.text.replacen("Record-Route:", behind, 1);
    world.say(&bob(), &accept(&bob(), &sent, "b"));
    world.status(&alice(), 200);
    let now = world.now;
    world.switches[0].hang_up_all(now, "the service stops");
    world.collect();
    assert_eq!(
        world.request(&bob(), "BYE").get("Route"),
        "<sip:192.0.2.90;lr>, <sip:192.0.2.91;lr;tz=another>"
    );
    assert_eq!(
        world.request(&alice(), "BYE").get("Route"),
        "<sip:192.0.2.41;lr;tz=other>, <sip:192.0.2.40;lr>"
    );
    world.ends_empty();
}

#[test]
fn calls_that_ring_are_cancelled_when_all_are_hung_up() {
    let mut world = ready();
    world.register(&bob2());
    world.say(&alice(), &invite(&alice(), "bob"));
    world.status(&alice(), 100);
    // One telephone rings, the other one has not said a word.
    let ringing = world.request(&bob(), "INVITE");
    let silent = world.request(&bob2(), "INVITE");
    world.say(&bob(), &reply(&ringing, 180, "b", "", ""));
    world.status(&alice(), 180);
    let now = world.now;
    world.switches[0].hang_up_all(now, "the service stops");
    world.collect();
    world.status(&alice(), 503);
    let cancel = world.request(&bob(), "CANCEL");
    assert_eq!(cancel.get("Reason"), "SIP;cause=503;text=\"the service stops\"");
    world.say(&bob(), &reply(&cancel, 200, "b", "", ""));
    world.say(&bob(), &reply(&ringing, 487, "b", "", ""));
    world.request(&bob(), "ACK");
    // The other one is picked up all the same, and hung up on.
    world.say(&bob2(), &accept(&bob2(), &silent, "c"));
    let methods: Vec<_> = world
        .to(&bob2())
        .iter()
        .map(|sent| sent.method().to_owned())
        .collect();
    assert_eq!(methods, ["ACK", "BYE"]);
    world.nothing();
    world.ends_empty();
    assert_eq!(world.records.len(), 1);
    let record = &world.records[0];
    assert_eq!((record.status, record.ended_by), (503, EndedBy::Service));
    assert_eq!(record.reason.as_deref(), Some("the service stops"));
}

#[test]
fn a_call_in_which_nobody_hangs_up_ends_at_the_longest_duration() {
    let mut world = World::with(1, |config| {
        config.longest_call = Duration::from_secs(3600);
        config.relay = media::negotiation::RelayPolicy::Never;
    });
    world.register(&bob());
    let (_, _, _) = call(&mut world, &alice(), &bob());
    world.pass_s(3500);
    world.nothing();
    assert_eq!(world.switches[0].load().1, 1);
    world.pass_s(101);
    for phone in [alice(), bob()] {
        let byes = world.to(&phone);
        assert!(!byes.is_empty() && byes.iter().all(|sent| sent.method() == "BYE"));
        let reason = "SIP;cause=200;text=\"longest duration of a call reached\"";
        assert_eq!(byes[0].get("Reason"), reason);
    }
    world.ends_empty();
    assert_eq!(world.records.len(), 1);
    assert_eq!(world.records[0].ended_by, EndedBy::Service);
}

#[test]
fn a_callee_without_contact_or_tag_can_be_hung_up_on() {
    let mut world = ready();
    world.say(&alice(), &invite(&alice(), "bob"));
    world.status(&alice(), 100);
    let sent = world.request(&bob(), "INVITE");
    world.say(&bob(), &reply(&sent, 200, "", "", ""));
    world.status(&alice(), 200);
    let now = world.now;
    world.switches[0].hang_up_all(now, "enough");
    world.collect();
    assert_eq!(world.request(&bob(), "BYE").uri(), "sip:bob@example.org");
    world.to(&alice());
    world.ends_empty();
}

#[test]
fn the_one_that_answers_after_hundreds_of_early_dialogs_is_the_call() {
    let mut world = ready();
    let text = invite(&alice(), "bob");
    world.say(&alice(), &text);
    world.status(&alice(), 100);
    let sent = world.request(&bob(), "INVITE");
    for n in 0..500 {
        world.say(&bob(), &reply(&sent, 183, &format!("b{n}"), "", ""));
        world.status(&alice(), 183);
    }
    // Whichever answers in the end, its BYE is the end.
    world.say(&bob(), &accept(&bob(), &sent, "last"));
    let mut near = Dialog::caller(&alice(), &world.status(&alice(), 200));
    world.say(&alice(), &near.next("ACK", "", ""));
    world.request(&bob(), "ACK");
    hang_up(&mut world, &mut near, &bob());
    world.ends_empty();
    assert_eq!(world.records.len(), 1);
}

#[test]
fn a_re_invite_that_is_cancelled_in_silence_does_not_end_the_call() {
    let mut world = ready();
    let (mut near, _, _) = call(&mut world, &alice(), &bob());
    let text = near.next("INVITE", "", &sdp("10.0.0.1", 4000, "a=sendonly\n"));
    world.say(&alice(), &text);
    world.status(&alice(), 100);
    let sent = world.request(&bob(), "INVITE");
    world.say(&alice(), &hop(&text, "CANCEL", ""));
    world.status(&alice(), 200);
    world.nothing();
    // bob's answer crosses: alice gets it, and the call goes on.
    world.say(&bob(), &accept(&bob(), &sent, ""));
    world.status(&alice(), 200);
    world.nothing();
    world.say(&alice(), &near.next("ACK", "", ""));
    world.request(&bob(), "ACK");
    assert!(world.records.is_empty());
    hang_up(&mut world, &mut near, &bob());
    world.ends_empty();
    assert_eq!(world.records.len(), 1);
}

#[test]
fn a_cancelled_re_invite_that_nobody_answers_is_487_and_the_call_goes_on() {
    let mut world = ready();
    let (mut near, _, _) = call(&mut world, &alice(), &bob());
    let text = near.next("INVITE", "", &sdp("10.0.0.1", 4000, ""));
    world.say(&alice(), &text);
    world.status(&alice(), 100);
    world.say(&alice(), &hop(&text, "CANCEL", ""));
    world.status(&alice(), 200);
    world.pass_s(33);
    assert_eq!(world.to(&alice())[0].status(), Some(487));
    world.say(&alice(), &hop(&text, "ACK", ""));
    world.to(&bob());
    assert!(world.records.is_empty());
    hang_up(&mut world, &mut near, &bob());
    world.ends_empty();
}

#[test]
fn a_re_invite_after_the_end_is_passed_on_and_leaves_nothing() {
    let mut world = ready();
    let (mut near, _, _) = call(&mut world, &alice(), &bob());
    hang_up(&mut world, &mut near, &bob());
    let text = near.next("INVITE", "", &sdp("10.0.0.1", 4000, ""));
    world.say(&alice(), &text);
    world.status(&alice(), 100);
    let sent = world.request(&bob(), "INVITE");
    world.say(&bob(), &reply(&sent, 481, "", "", ""));
    world.request(&bob(), "ACK");
    world.status(&alice(), 481);
    world.say(&alice(), &hop(&text, "ACK", ""));
    world.nothing();
    world.ends_empty();
    assert_eq!(world.records.len(), 1);
}

#[test]
fn a_bye_that_nobody_answers_ends_the_call_all_the_same() {
    let mut world = ready();
    let (mut near, _, _) = call(&mut world, &alice(), &bob());
    world.say(&alice(), &near.next("BYE", "", ""));
    world.ends_empty();
    assert_eq!(world.records.len(), 1);
}

#[test]
fn more_calls_than_a_worker_may_hold_are_503() {
    let mut world = World::with(1, |config| config.max_calls = 1);
    world.register(&bob());
    let (mut near, _, _) = call(&mut world, &alice(), &bob());
    let text = invite(&alice(), "bob");
    world.say(&alice(), &text);
    let refused = world.status(&alice(), 503);
    assert!(refused.has("Retry-After"));
    world.say(&alice(), &hop(&text, "ACK", refused.to_tag()));
    world.nothing();
    hang_up(&mut world, &mut near, &bob());
    world.ends_empty();
}

/// While it rings nobody keeps a caller's NAT awake who has not registered: his CANCEL comes from another port.
#[test]
fn a_cancel_finds_its_invite_in_whichever_worker() {
    for worker in 0..3 {
        let mut world = World::with(3, |_| {});
        world.register(&bob());
        let text = invite(&alice(), "bob");
        world.say(&alice(), &text);
        world.status(&alice(), 100);
        let ringing = world.request(&bob(), "INVITE");
        world.say(&bob(), &reply(&ringing, 180, "b", "", ""));
        world.status(&alice(), 180);

        let moved = udp("alice", "192.0.2.10:5099");
        world.say_to(worker, &moved.flow, &hop(&text, "CANCEL", ""));
        world.status(&moved, 200);
        let cancel = world.request(&bob(), "CANCEL");
        world.say(&bob(), &reply(&cancel, 200, "b", "", ""));
        world.say(&bob(), &reply(&ringing, 487, "b", "", ""));
        world.request(&bob(), "ACK");
        let ended = world.status(&alice(), 487);
        world.say(&alice(), &hop(&text, "ACK", ended.to_tag()));
        world.ends_empty();
    }
}

#[test]
fn a_cancel_of_nothing_is_481_once() {
    for workers in 1..4 {
        let mut world = World::with(workers, |_| {});
        let text = invite(&alice(), "bob");
        world.say_to(usize::from(workers) - 1, &alice().flow, &hop(&text, "CANCEL", ""));
        world.status(&alice(), 481);
        world.nothing();
        assert_eq!(world.handed_over, usize::from(workers) - 1);
    }
}
