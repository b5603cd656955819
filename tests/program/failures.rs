//! Calls and registrations that fail, and what the telephone is told.

use std::time::Duration;

use crate::baresip::{Baresip, Settings};
use crate::linphone::Linphone;
use crate::process::wait_until;
use crate::server::Server;
use crate::sipp::Sipp;
use crate::site::{DOMAIN, Site};
use crate::tone::{HIGH, LOW};
use crate::wire::{Request, Wire};

#[test]
fn a_refused_call_tells_the_caller_486() {
    let site = Site::claim();
    let _server = Server::start(&site, &["alice", "bob"]);
    let mut alice = Baresip::registered(&site, &Settings::of(&site, 0, "alice", LOW));
    let mut bob = Baresip::registered(&site, &Settings::of(&site, 1, "bob", HIGH));
    alice.dial("bob");
    bob.wait_for_event("CALL_INCOMING");
    bob.command("hangup", "");
    assert_closed_with(&mut alice, "486");
}

#[test]
fn a_call_that_linphone_declines_tells_the_caller_603() {
    let site = Site::claim();
    let _server = Server::start(&site, &["alice", "bob"]);
    let mut alice = Baresip::registered(&site, &Settings::of(&site, 0, "alice", LOW));
    let mut bob = Linphone::registered(&site, 1, "bob", "udp", HIGH);
    alice.dial("bob");
    bob.wait_for("Receiving new incoming call");
    bob.say("terminate");
    assert_closed_with(&mut alice, "603");
}

#[test]
fn a_busy_phone_tells_the_caller_486() {
    let site = Site::claim();
    let _server = Server::start(&site, &["alice", "bob", "carol"]);
    let mut alice = Baresip::registered(&site, &Settings::of(&site, 0, "alice", LOW));
    let settings = Settings {
        calls_at_once: 1,
        answers_itself: true,
        ..Settings::of(&site, 1, "bob", HIGH)
    };
    let mut bob = Baresip::registered(&site, &settings);
    let mut carol = Baresip::registered(&site, &Settings::of(&site, 2, "carol", LOW));
    alice.dial("bob");
    bob.wait_for_event("CALL_ESTABLISHED");
    alice.wait_for_event("CALL_ESTABLISHED");
    carol.dial("bob");
    assert_closed_with(&mut carol, "486");
    alice.wait_to_hear(HIGH, 1.0);
}

#[test]
fn a_cancelled_call_stops_ringing() {
    let site = Site::claim();
    let _server = Server::start(&site, &["alice", "bob"]);
    let mut alice = Baresip::registered(&site, &Settings::of(&site, 0, "alice", LOW));
    let mut bob = Baresip::registered(&site, &Settings::of(&site, 1, "bob", HIGH));
    alice.dial("bob");
    bob.wait_for_event("CALL_INCOMING");
    alice.wait_for_event("CALL_RINGING");
    alice.command("hangup", "");
    bob.wait_for_event("CALL_CLOSED");
    let ended = wait_until(Duration::from_secs(5), || {
        alice.log().contains("SIP/2.0 487").then_some(())
    });
    assert!(
        ended.is_some(),
        "the INVITE is not ended with 487:\n{}",
        alice.log()
    );
}

#[test]
fn a_cancelled_call_stops_linphone_ringing() {
    let site = Site::claim();
    let _server = Server::start(&site, &["alice", "bob"]);
    let mut alice = Baresip::registered(&site, &Settings::of(&site, 0, "alice", LOW));
    let mut bob = Linphone::registered(&site, 1, "bob", "tcp", HIGH);
    alice.dial("bob");
    bob.wait_for("Receiving new incoming call");
    alice.wait_for_event("CALL_RINGING");
    alice.command("hangup", "");
    bob.wait_for("ended");
}

#[test]
fn a_phone_that_gives_up_ringing_tells_the_caller_480() {
    let site = Site::claim();
    let _server = Server::start(&site, &["alice", "bob"]);
    let mut alice = Baresip::registered(&site, &Settings::of(&site, 0, "alice", LOW));
    let bob = Sipp::registered(&site, "uas-unanswered", 20, "bob");
    alice.dial("bob");
    alice.wait_for_event("CALL_RINGING");
    assert_closed_with(&mut alice, "480");
    bob.passes();
}

#[test]
fn a_phone_that_is_gone_without_a_word_tells_the_caller_408() {
    let site = Site::claim();
    let _server = Server::start(&site, &["alice", "bob"]);
    let mut alice = Baresip::registered(&site, &Settings::of(&site, 0, "alice", LOW));
    // It stays bound and says nothing: no ICMP error shortens the wait for timer B (32 s).
    let silent = Wire::new(site.address(20), site.server());
    assert_eq!(silent.register("bob", 300).status(), 200);
    alice.dial("bob");
    let reason = alice.wait_for_event_within("CALL_CLOSED", Duration::from_secs(45));
    assert!(reason.starts_with("408"), "{reason}");
}

#[test]
fn an_account_that_does_not_exist_is_404() {
    let site = Site::claim();
    let _server = Server::start(&site, &["alice"]);
    let mut alice = Baresip::registered(&site, &Settings::of(&site, 0, "alice", LOW));
    alice.dial("nobody");
    assert_closed_with(&mut alice, "404");
}

#[test]
fn an_account_without_a_phone_is_480() {
    let site = Site::claim();
    let _server = Server::start(&site, &["alice", "bob"]);
    let mut alice = Baresip::registered(&site, &Settings::of(&site, 0, "alice", LOW));
    alice.dial("bob");
    assert_closed_with(&mut alice, "480");
}

#[test]
fn a_phone_with_a_wrong_password_is_not_registered() {
    let site = Site::claim();
    let server = Server::start(&site, &["alice", "bob"]);
    let settings = Settings {
        password: "guessed".to_owned(),
        ..Settings::of(&site, 0, "alice", LOW)
    };
    let mut alice = Baresip::start(&site, &settings);
    let refused = wait_until(Duration::from_secs(10), || {
        (alice.log().matches("SIP/2.0 40").count() >= 2).then_some(())
    });
    assert!(refused.is_some(), "no refusal:\n{}", alice.log());
    assert!(
        !alice.log().contains("SIP/2.0 200"),
        "registered with a wrong password:\n{}",
        alice.log()
    );
    assert_eq!(server.ask(&["bindings"]).matches("sip:").count(), 0);
    alice.kill();
}

#[test]
fn a_call_with_a_wrong_password_is_refused() {
    let site = Site::claim();
    let _server = Server::start(&site, &["alice", "bob"]);
    let wire = Wire::new(site.address(20), site.server());
    let invite = Request::new("INVITE", "alice", &format!("sip:bob@{DOMAIN}"));
    let invite = invite.with(format!("Contact: {}", wire.contact("alice")));
    let challenge = wire.ask(&invite, "nobody-who-has-this-password");
    assert!(
        matches!(challenge.status(), 401 | 403 | 407),
        "{}",
        challenge.text
    );
}

#[track_caller]
fn assert_closed_with(phone: &mut Baresip, status: &str) {
    let reason = phone.wait_for_event("CALL_CLOSED");
    assert!(
        reason.starts_with(status),
        "expected {status}, the phone was told {reason:?}"
    );
}
