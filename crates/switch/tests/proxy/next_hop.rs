//! Requests to other providers: RFC 3263, failover, and the switch to TCP (RFC 3261 16.6 step 7, 18.1.1).

use std::net::Ipv4Addr;

use sip::Transport;
use sip::resolve::{Answer, Query, RecordType, Srv};

use crate::phone::*;
use crate::world::*;

/// far.example has two servers behind SRV records, for UDP only.
fn two_servers(query: &Query) -> Answer {
    match (query.record_type, query.name.as_str()) {
        (RecordType::Srv, "_sip._udp.far.example") => {
            Answer::Srv(vec![srv("one.far.example", 1), srv("two.far.example", 2)])
        }
        (RecordType::A, "one.far.example") => Answer::A(vec![Ipv4Addr::new(192, 0, 2, 81)]),
        (RecordType::A, "two.far.example") => Answer::A(vec![Ipv4Addr::new(192, 0, 2, 82)]),
        _ => Answer::NoRecords,
    }
}

fn srv(target: &str, priority: u16) -> Srv {
    Srv {
        priority,
        weight: 1,
        port: 5080,
        target: target.into(),
    }
}

fn server(number: u8) -> Phone {
    udp("server", &format!("192.0.2.8{number}:5080"))
}

fn ask(world: &mut World, answers: impl Fn(&Query) -> Answer) {
    for _ in 0..6 {
        world.dns(&answers);
    }
}

/// alice has called x@far.example and the first server has the INVITE, which is returned with hers.
fn calling() -> (World, String, Sent) {
    let mut world = World::new();
    let text = invite(&alice(), "sip:x@far.example");
    world.say(&alice(), &text);
    world.status(&alice(), 100);
    ask(&mut world, two_servers);
    let sent = world.request(&server(1), "INVITE");
    world.nothing();
    (world, text, sent)
}

#[test]
fn an_address_needs_no_dns() {
    let mut world = World::new();
    world.say(
        &alice(),
        &initial(&alice(), "MESSAGE", "sip:x@192.0.2.80:5099", "", ""),
    );
    let sent = world.request(&udp("x", "192.0.2.80:5099"), "MESSAGE");
    assert_eq!(sent.uri(), "sip:x@192.0.2.80:5099");
    assert_eq!(sent.flow.local, address(V4));
    assert!(world.questions.is_empty());
}

#[test]
fn a_transport_in_the_uri_is_taken() {
    let mut world = World::new();
    world.say(
        &alice(),
        &initial(&alice(), "MESSAGE", "sip:x@192.0.2.80;transport=tcp", "", ""),
    );
    let sent = world.request(&tcp("x", "192.0.2.80:5060", 1), "MESSAGE");
    assert!(sent.all("Via")[0].starts_with("SIP/2.0/TCP "));
}

#[test]
fn a_family_or_transport_that_we_lack_is_480() {
    let mut world = World::new();
    for uri in [
        "sip:x@192.0.2.80;transport=tls",
        "sip:x@[2001:db8::80];transport=tcp",
    ] {
        world.say(&alice(), &initial(&alice(), "MESSAGE", uri, "", ""));
        world.status(&alice(), 480);
    }
    world.ends_empty();
}

#[test]
fn a_domain_is_looked_up_and_its_best_server_gets_the_request() {
    let (mut world, _, sent) = calling();
    assert_eq!(sent.uri(), "sip:x@far.example");
    world.say(&server(1), &reply(&sent, 486, "x", "", ""));
    world.request(&server(1), "ACK");
    world.status(&alice(), 486);
    world.ends_empty();
}

#[test]
fn a_server_that_is_silent_is_followed_by_the_next_and_left_alone_for_a_while() {
    let (mut world, _, first) = calling();
    world.pass_s(33);
    world.to(&server(1));
    ask(&mut world, two_servers);
    let second = world.request(&server(2), "INVITE");
    assert_ne!(first.branch(), second.branch());
    world.say(&server(2), &accept(&server(2), &second, "x"));
    world.status(&alice(), 200);
    world.nothing();
    // The next call does not wait for the silent one again.
    world.say(
        &alice(),
        &initial(&alice(), "MESSAGE", "sip:y@far.example", "", ""),
    );
    ask(&mut world, two_servers);
    world.request(&server(2), "MESSAGE");
    world.nothing();
}

#[test]
fn a_server_that_is_overloaded_is_followed_by_the_next() {
    let (mut world, text, first) = calling();
    world.say(&server(1), &reply(&first, 503, "x", "Retry-After: 60\n", ""));
    world.request(&server(1), "ACK");
    ask(&mut world, two_servers);
    let second = world.request(&server(2), "INVITE");
    world.say(&server(2), &reply(&second, 486, "x", "", ""));
    world.request(&server(2), "ACK");
    world.status(&alice(), 486);
    world.say(&alice(), &hop(&text, "ACK", "x"));
    world.nothing();
    world.ends_empty();
}

#[test]
fn a_server_that_cannot_be_reached_is_followed_by_the_next() {
    let (mut world, _, first) = calling();
    let now = world.now;
    world.switches[0].handle_flow_failed(now, &first.flow);
    world.collect();
    ask(&mut world, two_servers);
    world.request(&server(2), "INVITE");
    world.nothing();
}

#[test]
fn when_all_servers_are_overloaded_it_is_500_and_when_none_is_reached_480() {
    let (mut world, _, first) = calling();
    world.say(&server(1), &reply(&first, 503, "x", "", ""));
    world.request(&server(1), "ACK");
    ask(&mut world, |query| match query.name.as_str() {
        "two.far.example" => Answer::Failed,
        _ => two_servers(query),
    });
    // The DNS failed for the second one, but the first was there.
    assert_ne!(world.one(&alice()).status(), Some(504));
    world.ends_empty();

    let (mut world, _, first) = calling();
    let now = world.now;
    world.switches[0].handle_flow_failed(now, &first.flow);
    world.collect();
    ask(&mut world, two_servers);
    let second = world.request(&server(2), "INVITE");
    world.switches[0].handle_flow_failed(now, &second.flow);
    world.collect();
    world.status(&alice(), 480);
    world.ends_empty();
}

#[test]
fn a_cancelled_call_tries_no_further_server() {
    let (mut world, text, first) = calling();
    world.say(&server(1), &reply(&first, 180, "x", "", ""));
    world.status(&alice(), 180);
    world.say(&alice(), &hop(&text, "CANCEL", ""));
    world.status(&alice(), 200);
    world.request(&server(1), "CANCEL");
    world.say(&server(1), &reply(&first, 503, "x", "", ""));
    world.request(&server(1), "ACK");
    world.status(&alice(), 487);
    world.nothing();
    world.ends_empty();
}

#[test]
fn an_unknown_domain_is_404_and_a_dns_without_answer_504() {
    let mut world = World::new();
    world.say(
        &alice(),
        &initial(&alice(), "MESSAGE", "sip:x@gone.example", "", ""),
    );
    ask(&mut world, |_| Answer::NoRecords);
    world.status(&alice(), 404);
    world.say(
        &alice(),
        &initial(&alice(), "MESSAGE", "sip:x@gone.example", "", ""),
    );
    ask(&mut world, |_| Answer::Failed);
    world.status(&alice(), 504);
    // No answer at all.
    world.say(
        &alice(),
        &initial(&alice(), "MESSAGE", "sip:x@gone.example", "", ""),
    );
    for _ in 0..6 {
        world.pass_s(6);
    }
    let last = world.to(&alice()).pop().expect("an answer");
    assert_eq!(last.status(), Some(504));
    world.ends_empty();
}

#[test]
fn what_is_too_big_for_a_datagram_goes_over_tcp_first_and_over_udp_when_that_fails() {
    let mut world = World::new();
    let big = format!("X-Big: {}\n", "x".repeat(1300));
    world.say(
        &alice(),
        &initial(&alice(), "INVITE", "sip:x@192.0.2.80", &big, ""),
    );
    world.status(&alice(), 100);
    let stream = tcp("x", "192.0.2.80:5060", 1);
    let sent = world.request(&stream, "INVITE");
    assert_eq!(sent.flow.transport, Transport::Tcp);
    world.nothing();
    let now = world.now;
    world.switches[0].handle_flow_failed(now, &sent.flow);
    world.collect();
    let sent = world.request(&udp("x", "192.0.2.80:5060"), "INVITE");
    assert!(sent.all("Via")[0].starts_with("SIP/2.0/UDP "));
    // The side of the caller and the other are alike now.
    assert_eq!(sent.all("Record-Route").len(), 1);
}

#[test]
fn answers_of_the_dns_after_the_call_is_over_change_nothing() {
    let mut world = World::new();
    world.say(
        &alice(),
        &initial(&alice(), "MESSAGE", "sip:x@far.example", "", ""),
    );
    world.pass_s(40);
    world.sent.clear();
    world.dns(two_servers);
    world.nothing();
    world.ends_empty();
}
