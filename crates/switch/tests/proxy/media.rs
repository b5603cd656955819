//! Descriptions on their way through the relay: what the two sides read, and that every port comes back.

use media::{Command, SessionId, Side, StreamId};
use switch::MediaPath;

use crate::phone::*;
use crate::world::*;

fn ready() -> World {
    let mut world = World::new();
    world.register(&bob());
    world
}

/// The relay's port that a description names; it names nothing else.
fn relay_port(sent: &Sent) -> u16 {
    sent.assert_length();
    assert!(sent.body().contains("c=IN IP4 203.0.113.10\r\n"), "{sent:#?}");
    assert!(!sent.body().contains("c=IN IP4 10."), "{sent:#?}");
    let line = sent
        .body()
        .lines()
        .find(|line| line.starts_with("m=audio "))
        .expect("an m= line");
    line.split(' ')
        .nth(1)
        .and_then(|port| port.parse().ok())
        .expect("a port")
}

fn legs(world: &World) -> (usize, usize) {
    let count = |wanted: fn(&Command) -> bool| world.commands.iter().filter(|c| wanted(c)).count();
    (
        count(|command| matches!(command, Command::Open { .. })),
        count(|command| matches!(command, Command::Close { .. })),
    )
}

fn bye(world: &mut World, near: &mut Dialog) {
    world.say(&alice(), &near.next("BYE", "", ""));
    let sent = world.request(&bob(), "BYE");
    world.say(&bob(), &reply(&sent, 200, "", "", ""));
    world.status(&alice(), 200);
}

#[test]
fn both_sides_are_told_to_send_to_the_relay() {
    let mut world = ready();
    world.say(&alice(), &invite(&alice(), "bob"));
    world.status(&alice(), 100);
    let sent = world.request(&bob(), "INVITE");
    let to_bob = relay_port(&sent);
    world.say(&bob(), &accept(&bob(), &sent, "b"));
    let ok = world.status(&alice(), 200);
    assert_ne!(relay_port(&ok), to_bob);
    assert_eq!(world.ports_out(), 2);
    assert_eq!(legs(&world), (2, 0));
    let mut near = Dialog::caller(&alice(), &ok);
    world.say(&alice(), &near.next("ACK", "", ""));
    world.request(&bob(), "ACK");
    bye(&mut world, &mut near);
    assert_eq!(world.ports_out(), 0);
    assert_eq!(legs(&world), (2, 1));
    world.ends_empty();
}

#[test]
fn an_offer_in_the_200_is_answered_in_the_ack() {
    let mut world = ready();
    world.say(&alice(), &initial(&alice(), "INVITE", "bob", "", ""));
    world.status(&alice(), 100);
    let sent = world.request(&bob(), "INVITE");
    assert_eq!((sent.body(), world.ports_out()), ("", 0));
    world.say(&bob(), &accept(&bob(), &sent, "b"));
    let ok = world.status(&alice(), 200);
    relay_port(&ok);
    let mut near = Dialog::caller(&alice(), &ok);
    let text = near.next("ACK", "", &sdp("10.0.0.1", 4000, ""));
    world.say(&alice(), &text);
    let ack = world.request(&bob(), "ACK");
    relay_port(&ack);
    world.say(&alice(), &text);
    assert_eq!(world.request(&bob(), "ACK").body(), ack.body());
    bye(&mut world, &mut near);
    world.ends_empty();
}

#[test]
fn hold_and_resume_keep_the_ports() {
    let mut world = ready();
    let (mut near, mut far, first) = call(&mut world, &alice(), &bob());
    let port = relay_port(&first);
    for direction in ["sendonly", "inactive", "sendrecv"] {
        let offer = sdp("10.0.0.1", 4000, &format!("a={direction}\n"));
        world.say(&alice(), &near.next("INVITE", "", &offer));
        world.status(&alice(), 100);
        let sent = world.request(&bob(), "INVITE");
        assert_eq!(relay_port(&sent), port);
        assert!(sent.body().contains(&format!("a={direction}\r\n")));
        world.say(&bob(), &accept(&bob(), &sent, ""));
        relay_port(&world.status(&alice(), 200));
        world.say(&alice(), &near.next("ACK", "", ""));
        world.request(&bob(), "ACK");
    }
    // From the other side, too.
    world.say(
        &bob(),
        &far.next("INVITE", "", &sdp("10.0.0.2", 5000, "a=sendonly\n")),
    );
    world.status(&bob(), 100);
    let sent = world.request(&alice(), "INVITE");
    relay_port(&sent);
    world.say(&alice(), &accept(&alice(), &sent, ""));
    assert_eq!(relay_port(&world.status(&bob(), 200)), port);
    world.say(&bob(), &far.next("ACK", "", ""));
    world.request(&alice(), "ACK");
    assert_eq!(world.ports_out(), 2);
    bye(&mut world, &mut near);
    world.ends_empty();
}

#[test]
fn a_refused_or_unanswered_re_invite_takes_the_ports_of_its_new_line_back() {
    let mut world = ready();
    let (mut near, _, _) = call(&mut world, &alice(), &bob());
    let two = sdp("10.0.0.1", 4000, "m=video 4002 RTP/AVP 31\n");
    world.say(&alice(), &near.next("INVITE", "", &two));
    world.status(&alice(), 100);
    let sent = world.request(&bob(), "INVITE");
    assert!(world.ports_out() > 2);
    world.say(&bob(), &reply(&sent, 488, "", "", ""));
    world.request(&bob(), "ACK");
    world.status(&alice(), 488);
    assert_eq!(world.ports_out(), 2);

    world.say(&alice(), &near.next("INVITE", "", &two));
    assert!(world.ports_out() > 2);
    world.pass_s(33);
    let told = world.to(&alice());
    assert!(told.iter().any(|sent| sent.status() == Some(408)));
    world.to(&bob());
    assert_eq!(world.ports_out(), 2);
    bye(&mut world, &mut near);
    world.sent.clear();
    world.ends_empty();
}

#[test]
fn glare_is_491_both_ways_and_leaves_the_media_as_they_were() {
    let mut world = ready();
    let (mut near, mut far, first) = call(&mut world, &alice(), &bob());
    let port = relay_port(&first);
    let before = world.commands.len();
    // Both hold at the same moment, and name new ports.
    let hold = |ip, port| sdp(ip, port, "a=sendonly\n");
    world.say(&alice(), &near.next("INVITE", "", &hold("10.0.0.1", 4444)));
    world.say(&bob(), &far.next("INVITE", "", &hold("10.0.0.2", 5555)));
    let is_invite = |sent: &Sent| sent.method() == "INVITE";
    let to_bob = world
        .to(&bob())
        .into_iter()
        .find(is_invite)
        .expect("alice's offer");
    let to_alice = world
        .to(&alice())
        .into_iter()
        .find(is_invite)
        .expect("bob's offer");
    relay_port(&to_bob);
    relay_port(&to_alice);
    world.say(&alice(), &reply(&to_alice, 491, "", "", ""));
    world.request(&alice(), "ACK");
    world.status(&bob(), 491);
    world.say(&bob(), &reply(&to_bob, 491, "", "", ""));
    world.request(&bob(), "ACK");
    world.status(&alice(), 491);
    assert_eq!(world.commands[before..], [], "nothing was agreed on");
    assert_eq!(world.ports_out(), 2);
    // Bob is the first to try again (RFC 3261 14.1).
    world.say(&bob(), &far.next("INVITE", "", &sdp("10.0.0.2", 5555, "")));
    world.status(&bob(), 100);
    let sent = world.request(&alice(), "INVITE");
    world.say(&alice(), &reply(&sent, 200, "", "", &sdp("10.0.0.1", 4000, "")));
    assert_eq!(relay_port(&world.status(&bob(), 200)), port);
    world.say(&bob(), &far.next("ACK", "", ""));
    world.request(&alice(), "ACK");
    let legs = world.commands[before..]
        .iter()
        .filter_map(|command| match command {
            Command::Update { side, leg, .. } => Some((*side == Side::Caller, leg.rtp?.port(), leg.held)),
            _ => None,
        });
    let mut legs: Vec<_> = legs.collect();
    legs.sort();
    legs.dedup();
    assert_eq!(legs, [(false, 5555, false), (true, 4000, false)]);
    bye(&mut world, &mut near);
    world.ends_empty();
}

#[test]
fn an_update_is_relayed_in_both_directions() {
    let mut world = ready();
    let (mut near, mut far, _) = call(&mut world, &alice(), &bob());
    world.say(&alice(), &near.next("UPDATE", "", &sdp("10.0.0.1", 4444, "")));
    let sent = world.request(&bob(), "UPDATE");
    relay_port(&sent);
    world.say(&bob(), &reply(&sent, 200, "", "", &sdp("10.0.0.2", 5000, "")));
    relay_port(&world.status(&alice(), 200));
    world.say(&bob(), &far.next("UPDATE", "", &sdp("10.0.0.2", 5555, "")));
    let sent = world.request(&alice(), "UPDATE");
    relay_port(&sent);
    world.say(&alice(), &reply(&sent, 200, "", "", &sdp("10.0.0.1", 4444, "")));
    relay_port(&world.status(&bob(), 200));
    bye(&mut world, &mut near);
    world.ends_empty();
}

#[test]
fn early_media_of_two_telephones_have_ports_of_their_own_and_the_losers_are_released() {
    let mut world = ready();
    world.register(&bob2());
    world.say(&alice(), &invite(&alice(), "bob"));
    world.status(&alice(), 100);
    let (one, two) = (world.request(&bob(), "INVITE"), world.request(&bob2(), "INVITE"));
    assert_ne!(relay_port(&one), relay_port(&two));
    assert_eq!(world.ports_out(), 3);
    world.say(&bob(), &reply(&one, 183, "b", "", &sdp("10.0.0.2", 5000, "")));
    let early = relay_port(&world.status(&alice(), 183));
    world.say(&bob2(), &reply(&two, 183, "c", "", &sdp("10.0.0.3", 5000, "")));
    assert_eq!(relay_port(&world.status(&alice(), 183)), early);
    world.say(&bob2(), &accept(&bob2(), &two, "c"));
    world.request(&bob(), "CANCEL");
    let mut near = Dialog::caller(&alice(), &world.status(&alice(), 200));
    assert_eq!(world.ports_out(), 2);
    world.say(&bob(), &reply(&one, 487, "b", "", ""));
    world.request(&bob(), "ACK");
    world.say(&alice(), &near.next("ACK", "", ""));
    world.request(&bob2(), "ACK");
    world.say(&alice(), &near.next("BYE", "", ""));
    assert_eq!(world.ports_out(), 0);
    world.ends_empty();
}

#[test]
fn a_prack_of_an_early_dialog_reaches_its_telephone_with_its_ports() {
    let mut world = ready();
    world.register(&bob2());
    world.say(
        &alice(),
        &initial(&alice(), "INVITE", "bob", "Require: 100rel\n", ""),
    );
    world.status(&alice(), 100);
    let (one, two) = (world.request(&bob(), "INVITE"), world.request(&bob2(), "INVITE"));
    for (phone, sent, tag) in [(bob(), &one, "b"), (bob2(), &two, "c")] {
        // The offer comes in the reliable provisional response, the answer in PRACK.
        let lines = format!("Require: 100rel\nRSeq: 1\nContact: <{}>\n", phone.contact);
        world.say(&phone, &reply(sent, 183, tag, &lines, &sdp("10.0.0.9", 5000, "")));
        let early = world.status(&alice(), 183);
        relay_port(&early);
        let mut near = Dialog::caller(&alice(), &early);
        world.say(
            &alice(),
            &near.next("PRACK", "RAck: 1 10 INVITE\n", &sdp("10.0.0.1", 4000, "")),
        );
        let prack = world.request(&phone, "PRACK");
        relay_port(&prack);
        world.say(&phone, &reply(&prack, 200, "", "", ""));
        world.status(&alice(), 200);
        world.nothing();
    }
    assert_eq!(world.ports_out(), 3);
    world.say(
        &bob(),
        &reply(&one, 200, "b", &format!("Contact: <{}>\n", bob().contact), ""),
    );
    world.status(&alice(), 200);
    world.request(&bob2(), "CANCEL");
    assert_eq!(world.ports_out(), 2);
}

#[test]
fn ports_come_back_when_the_call_fails_or_is_cancelled() {
    for status in [404, 486, 487, 500, 503, 603] {
        let mut world = ready();
        world.say(&alice(), &invite(&alice(), "bob"));
        world.status(&alice(), 100);
        let sent = world.request(&bob(), "INVITE");
        assert_eq!(world.ports_out(), 2);
        world.say(&bob(), &reply(&sent, status, "b", "", ""));
        assert_eq!(world.ports_out(), 0, "after {status}");
        world.ends_empty();
    }
    let mut world = ready();
    let text = invite(&alice(), "bob");
    world.say(&alice(), &text);
    assert_eq!(world.ports_out(), 2);
    world.say(&alice(), &hop(&text, "CANCEL", ""));
    assert_eq!(world.ports_out(), 0);
    world.ends_empty();
}

#[test]
fn a_call_without_a_free_relay_port_is_503_and_takes_none() {
    let mut world = ready();
    world.ports.lock().expect("not poisoned").limit = Some(1);
    world.say(&alice(), &invite(&alice(), "bob"));
    let last = world.to(&alice()).pop().expect("an answer");
    assert_eq!(last.status(), Some(503));
    world.nothing();
    world.ends_empty();
    assert_eq!(world.records.len(), 1);
}

#[test]
fn a_description_that_cannot_be_read_is_488() {
    let mut world = ready();
    world.say(
        &alice(),
        &initial(&alice(), "INVITE", "bob", "", "this is no description\n"),
    );
    let last = world.to(&alice()).pop().expect("an answer");
    assert_eq!(last.status(), Some(488));
    world.nothing();
    world.ends_empty();
}

#[test]
fn two_public_telephones_talk_directly() {
    let mut world = World::new();
    let public = |name, remote: &str| {
        let mut phone = udp(name, remote);
        phone.contact = format!("sip:{name}@{remote}");
        phone
    };
    let (alice, bob) = (
        public("alice", "192.0.2.10:5060"),
        public("bob", "192.0.2.20:5060"),
    );
    world.register(&bob);
    let offer = sdp("192.0.2.10", 4000, "");
    world.say(&alice, &initial(&alice, "INVITE", "bob", "", &offer));
    world.status(&alice, 100);
    let sent = world.request(&bob, "INVITE");
    assert_eq!(sent.body(), crlf(&offer));
    assert_eq!(world.ports_out(), 0);
}

#[test]
fn a_caller_on_ipv4_and_a_callee_on_ipv6_each_read_their_family() {
    let mut world = World::new();
    let bob = udp("bob", "[2001:db8:1::20]:5060");
    world.register(&bob);
    world.say(&alice(), &invite(&alice(), "bob"));
    world.status(&alice(), 100);
    let sent = world.request(&bob, "INVITE");
    assert!(sent.body().contains("c=IN IP6 2001:db8::10\r\n"), "{sent:#?}");
    sent.assert_length();
    world.say(
        &bob,
        &reply(
            &sent,
            200,
            "b",
            &format!("Contact: <{}>\n", bob.contact),
            &sdp("2001:db8:1::20", 5000, ""),
        ),
    );
    relay_port(&world.status(&alice(), 200));
}

/// A message with its description packed into a multipart body beside something else.
fn packed(message: &str) -> String {
    let (head, sdp) = message.split_once("\r\n\r\n").expect("a head and a body");
    let body = format!(
        "--b;1\r\nContent-Type: application/isup\r\n\r\nc=IN IP4 10.9.9.9\r\n--b;1\r\nContent-Type: application/sdp\r\n\r\n{sdp}\r\n--b;1--\r\n"
    );
    let head = head
        .replace("application/sdp", "multipart/mixed; boundary=\"b;1\"")
        .replace(
            &format!("Content-Length: {}", sdp.len()),
            &format!("Content-Length: {}", body.len()),
        );
    format!("{head}\r\n\r\n{body}")
}

#[test]
fn a_description_in_a_multipart_body_is_rewritten_and_nothing_else_of_it() {
    let mut world = ready();
    let sent = packed(&invite(&alice(), "bob"));
    world.say(&alice(), &sent);
    world.status(&alice(), 100);
    let got = world.request(&bob(), "INVITE");
    got.assert_length();
    let port = got
        .body()
        .split("m=audio ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next());
    let expected = text(&sent)
        .body()
        .replace("IN IP4 10.0.0.1\r\nt", "IN IP4 203.0.113.10\r\nt")
        .replace("m=audio 4000", &format!("m=audio {}", port.expect("a port")));
    assert_eq!(got.body(), expected);
    assert!(got.body().contains("c=IN IP4 10.9.9.9") && got.get("Content-Type").starts_with("multipart/"));
    world.say(&bob(), &packed(&accept(&bob(), &got, "b")));
    let ok = world.status(&alice(), 200);
    ok.assert_length();
    assert!(ok.body().contains("c=IN IP4 203.0.113.10\r\nt"), "{ok:#?}");
    assert_eq!(legs(&world), (2, 0));
    let mut near = Dialog::caller(&alice(), &ok);
    world.say(&alice(), &near.next("ACK", "", ""));
    world.request(&bob(), "ACK");
    bye(&mut world, &mut near);
    world.ends_empty();
}

#[test]
fn the_echo_service_gets_the_description_as_it_is_and_reports_what_it_counted() {
    let mut world = World::new();
    world.say(&alice(), &invite(&alice(), "echo"));
    world.status(&alice(), 100);
    assert_eq!(world.sent.len(), 1);
    let sent = world.sent.pop_front().expect("one");
    assert_eq!(sent.flow.transport, sip::Transport::Local);
    assert_eq!(sent.body(), crlf(&sdp("10.0.0.1", 4000, "")));
    assert_eq!(sent.all("Record-Route").len(), 1);
    // It answers from within, and hangs up through us.
    world.say_to(
        0,
        &sent.flow,
        &reply(
            &sent,
            200,
            "e",
            "Contact: <sip:echo@example.org>\n",
            &sdp("203.0.113.10", 31000, ""),
        ),
    );
    let mut near = Dialog::caller(&alice(), &world.status(&alice(), 200));
    world.say(&alice(), &near.next("ACK", "", ""));
    assert_eq!(
        world.sent.pop_front().map(|sent| sent.flow.transport),
        Some(sip::Transport::Local)
    );
    world.say(&alice(), &near.next("BYE", "", ""));
    let bye = world.sent.pop_front().expect("one");
    world.say_to(0, &bye.flow, &reply(&bye, 200, "", "", ""));
    // Its stream is closed by itself, and reports what it counted.
    world.nothing();
    world.counters.caller.packets = 50;
    world.counters.callee.packets = 49;
    let stream = StreamId {
        session: SessionId::local("e"),
        line: 0,
    };
    world.report_end(0, stream);
    world.status(&alice(), 200);
    world.ends_empty();
    let record = &world.records[0];
    assert_eq!(record.media, MediaPath::Local);
    assert_eq!((record.from_caller.packets, record.from_callee.packets), (50, 49));
}
