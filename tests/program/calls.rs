//! Calls that succeed, with audio measured in both directions.

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::Duration;

use crate::baresip::{Baresip, Settings};
use crate::linphone::Linphone;
use crate::process::wait_until;
use crate::server::Server;
use crate::site::{DOMAIN, Site};
use crate::tone::{HIGH, LOW};

#[test]
fn baresip_calls_baresip_and_the_caller_hangs_up() {
    baresip_calls_baresip("udp", "udp", true);
}

#[test]
fn baresip_calls_baresip_and_the_callee_hangs_up() {
    baresip_calls_baresip("udp", "udp", false);
}

#[test]
fn baresip_on_tcp_calls_baresip_on_udp() {
    baresip_calls_baresip("tcp", "udp", false);
}

#[test]
fn baresip_on_udp_calls_baresip_on_tcp() {
    baresip_calls_baresip("udp", "tcp", true);
}

#[test]
fn baresip_on_tcp_calls_baresip_on_tcp() {
    baresip_calls_baresip("tcp", "tcp", true);
}

#[test]
fn baresip_calls_baresip_over_ipv6() {
    baresip_calls_baresip_at(&Site::claim_ipv6(), "udp", "tcp", false);
}

fn baresip_calls_baresip(caller_transport: &str, callee_transport: &str, caller_hangs_up: bool) {
    baresip_calls_baresip_at(
        &Site::claim(),
        caller_transport,
        callee_transport,
        caller_hangs_up,
    );
}

fn baresip_calls_baresip_at(
    site: &Site,
    caller_transport: &str,
    callee_transport: &str,
    caller_hangs_up: bool,
) {
    let server = Server::start(site, &["alice", "bob"]);
    let settings = Settings {
        transport: caller_transport,
        ..Settings::of(site, 0, "alice", LOW)
    };
    let mut alice = Baresip::registered(site, &settings);
    let settings = Settings {
        transport: callee_transport,
        ..Settings::of(site, 1, "bob", HIGH)
    };
    let mut bob = Baresip::registered(site, &settings);

    alice.dial("bob");
    bob.answer();
    alice.wait_for_event("CALL_ESTABLISHED");
    alice.wait_to_hear(HIGH, 1.5);
    bob.wait_to_hear(LOW, 1.5);
    assert!(
        is_relayed(site, &bob),
        "the audio does not come from the relay:\n{}",
        bob.log()
    );
    let calls = server.ask(&["calls"]);
    assert!(
        calls.contains("alice") && calls.contains("bob"),
        "`trapez calls` does not show the call:\n{calls}"
    );

    let (ends, other) = if caller_hangs_up {
        (&mut alice, &mut bob)
    } else {
        (&mut bob, &mut alice)
    };
    ends.command("hangup", "");
    other.wait_for_event("CALL_CLOSED");
    alice.heard().assert_holds(HIGH, LOW);
    bob.heard().assert_holds(LOW, HIGH);
    let is_recorded = |records: &str| records.contains("alice") && records.contains("bob");
    let records = wait_until(Duration::from_secs(5), || {
        Some(server.ask(&["records"])).filter(|text| is_recorded(text))
    });
    assert!(
        records.is_some(),
        "`trapez records` lacks the call:\n{}",
        server.ask(&["records"])
    );
}

/// The audio that a telephone hears comes from the server.
fn is_relayed(site: &Site, phone: &Baresip) -> bool {
    let (first, last) = site.relay_ports();
    let relay = |port| SocketAddr::new(site.server().ip(), port);
    let log = phone.log();
    (first..=last).any(|port| log.contains(&format!("receiving from {}", relay(port))))
}

#[test]
fn phones_hear_each_other_directly_when_nothing_is_to_be_relayed() {
    let site = Site::claim();
    let mut server = Server::configure(&site, "");
    server.reconfigure("[media]", "[media]\nrelay = \"never\"");
    for account in ["alice", "bob"] {
        server.add_account(account);
    }
    server.serve();
    let mut alice = Baresip::registered(&site, &Settings::of(&site, 0, "alice", LOW));
    let mut bob = Baresip::registered(&site, &Settings::of(&site, 1, "bob", HIGH));
    alice.dial("bob");
    bob.answer();
    alice.wait_for_event("CALL_ESTABLISHED");
    alice.wait_to_hear(HIGH, 1.5);
    bob.wait_to_hear(LOW, 1.5);
    assert!(!is_relayed(&site, &alice) && !is_relayed(&site, &bob));
    let calls = server.ask(&["calls"]);
    assert!(calls.contains("direct"), "{calls}");
    assert_eq!(packets(&server, "calls"), Some((0, 0)));
    bob.command("hangup", "");
    alice.wait_for_event("CALL_CLOSED");
    alice.heard().assert_holds(HIGH, LOW);
    bob.heard().assert_holds(LOW, HIGH);
}

#[test]
fn linphone_calls_baresip_and_the_caller_hangs_up() {
    linphone_calls_baresip("udp");
}

#[test]
fn linphone_on_tcp_calls_baresip() {
    linphone_calls_baresip("tcp");
}

fn linphone_calls_baresip(transport: &str) {
    let site = Site::claim();
    let _server = Server::start(&site, &["alice", "bob"]);
    let mut alice = Linphone::registered(&site, 0, "alice", transport, LOW);
    let mut bob = Baresip::registered(&site, &Settings::of(&site, 1, "bob", HIGH));

    alice.dial("bob");
    bob.answer();
    alice.wait_for("connected");
    bob.wait_to_hear(LOW, 1.5);
    sleep(TALK);
    alice.say("terminate");
    bob.wait_for_event("CALL_CLOSED");
    alice.wait_for("ended");
    bob.heard().assert_holds(LOW, HIGH);
    alice.heard().assert_holds(HIGH, LOW);
}

#[test]
fn baresip_calls_linphone_and_the_callee_hangs_up() {
    let site = Site::claim();
    let _server = Server::start(&site, &["alice", "bob"]);
    let mut alice = Baresip::registered(&site, &Settings::of(&site, 0, "alice", LOW));
    let mut bob = Linphone::registered(&site, 1, "bob", "udp", HIGH);

    alice.dial("bob");
    bob.wait_for("Receiving new incoming call");
    bob.say("answer");
    alice.wait_for_event("CALL_ESTABLISHED");
    alice.wait_to_hear(HIGH, 1.5);
    sleep(TALK);
    bob.say("terminate");
    alice.wait_for_event("CALL_CLOSED");
    bob.wait_for("ended");
    alice.heard().assert_holds(HIGH, LOW);
    bob.heard().assert_holds(LOW, HIGH);
}

#[test]
fn the_echo_service_sends_back_what_it_hears() {
    let site = Site::claim();
    let server = Server::start(&site, &["alice"]);
    let mut alice = Baresip::registered(&site, &Settings::of(&site, 0, "alice", LOW));
    alice.dial("echo");
    alice.wait_for_event("CALL_ESTABLISHED");
    alice.wait_to_hear(LOW, 1.5);
    let (sent, back) = packets(&server, "calls").expect("`trapez calls` shows the call");
    assert!(sent > 0 && sent == back, "{sent} packets, {back} back");
    alice.command("hangup", "");
    alice.wait_for_event("CALL_CLOSED");
    alice.heard().assert_holds(LOW, HIGH);
    let recorded = wait_until(Duration::from_secs(5), || packets(&server, "records"));
    assert!(recorded.is_some_and(|(in_all, back)| in_all >= sent && in_all == back));
}

/// Packets of the first call that a command shows: from the caller and from the callee.
fn packets(server: &Server<'_>, command: &str) -> Option<(u64, u64)> {
    let shown: serde_json::Value = serde_json::from_str(&server.ask(&[command, "--json"])).ok()?;
    let call = &shown[command][0];
    let of = |side: &str| call[side]["packets"].as_u64();
    Some((of("from_caller")?, of("from_callee")?))
}

#[test]
fn a_phone_with_two_lines_holds_two_calls_at_once() {
    let site = Site::claim();
    let _server = Server::start(&site, &["alice", "bob", "carol"]);
    let mut alice = Baresip::registered(&site, &Settings::of(&site, 0, "alice", LOW));
    let answers = |slot, account| Settings {
        answers_itself: true,
        ..Settings::of(&site, slot, account, HIGH)
    };
    let mut bob = Baresip::registered(&site, &answers(1, "bob"));
    let mut carol = Baresip::registered(&site, &answers(2, "carol"));
    alice.dial("bob");
    bob.wait_for_event("CALL_ESTABLISHED");
    bob.wait_to_hear(LOW, 1.0);
    alice.dial(&format!("sip:carol@{DOMAIN}"));
    carol.wait_for_event("CALL_ESTABLISHED");
    carol.wait_to_hear(LOW, 1.0);
    alice.command("hangup", "");
    carol.wait_for_event("CALL_CLOSED");
    alice.command("hangup", "");
    bob.wait_for_event("CALL_CLOSED");
}

/// linphone's recording can be judged only when it is complete: how long to let them talk.
const TALK: Duration = Duration::from_secs(2);
