//! Calls as SIPp plays them: what telephones do seldom, and the proxy must do right.

use std::time::Duration;

use crate::server::Server;
use crate::sipp::Sipp;
use crate::site::Site;
use crate::wire::{Received, Wire};

#[test]
fn in_dialog_requests_follow_record_route_from_the_caller() {
    both_sides_pass("uac-call", "uas-call");
}

#[test]
fn in_dialog_requests_follow_record_route_from_the_callee() {
    both_sides_pass("uac-is-hung-up", "uas-hangs-up");
}

#[test]
fn a_late_offer_is_answered_in_the_ack() {
    both_sides_pass("uac-late-offer", "uas-late-offer");
}

#[test]
fn a_reinvite_is_answered_within_the_dialog() {
    both_sides_pass("uac-reinvite", "uas-reinvite");
}

#[test]
fn descriptions_in_prack_and_update_are_led_over_the_relay() {
    both_sides_pass("uac-prack", "uas-prack");
}

fn both_sides_pass(caller: &'static str, callee: &'static str) {
    let site = Site::claim();
    let _server = Server::start(&site, &["alice", "bob"]);
    let bob = Sipp::registered(&site, callee, 20, "bob");
    let alice = Sipp::start(&site, caller, 33, "alice", "bob");
    alice.passes();
    bob.passes();
}

#[test]
fn cancel_ends_the_ringing_with_487() {
    let site = Site::claim();
    let _server = Server::start(&site, &["alice", "bob"]);
    let bob = Callee::registered(&site, 20);
    let alice = Sipp::start(&site, "uac-cancel", 33, "alice", "bob");
    let invite = bob.rings();
    bob.is_cancelled(&invite);
    alice.passes();
}

#[test]
fn cancel_before_any_provisional_is_held_back() {
    let site = Site::claim();
    let _server = Server::start(&site, &["alice", "bob"]);
    let bob = Callee::registered(&site, 20);
    let alice = Sipp::start(&site, "uac-cancel-at-once", 33, "alice", "bob");
    let invite = bob.wire.request("INVITE", PATIENCE);
    // RFC 3261 9.1: nothing may follow the INVITE but itself until a provisional response was seen.
    while let Some(early) = bob.wire.receive(Duration::from_millis(1200)) {
        assert!(
            early.text.starts_with("INVITE "),
            "before any provisional response came:\n{}",
            early.text
        );
    }
    bob.wire.send(&invite.respond(180, &[&bob.contact()]));
    bob.is_cancelled(&invite);
    alice.passes();
}

#[test]
fn an_answer_that_crosses_the_cancel_wins() {
    let site = Site::claim();
    let _server = Server::start(&site, &["alice", "bob"]);
    let bob = Callee::registered(&site, 20);
    let alice = Sipp::start(&site, "uac-cancel-too-late", 33, "alice", "bob");
    let invite = bob.rings();
    let cancel = bob.wire.request("CANCEL", PATIENCE);
    bob.wire.send(&invite.answer(&bob.contact(), SDP));
    bob.wire.send(&cancel.respond(200, &[]));
    let bye = bob.wire.request("BYE", PATIENCE);
    bob.wire.send(&bye.respond(200, &[]));
    alice.passes();
}

#[test]
fn all_phones_of_an_account_ring_and_the_loser_is_cancelled() {
    let site = Site::claim();
    let _server = Server::start(&site, &["alice", "bob"]);
    let loser = Callee::registered(&site, 21);
    let winner = Sipp::registered(&site, "uas-call", 20, "bob");
    let alice = Sipp::start(&site, "uac-call", 33, "alice", "bob");
    let invite = loser.rings();
    let cancel = loser.is_cancelled(&invite);
    let reason = cancel.header("Reason").unwrap_or_default();
    assert!(
        reason.starts_with("SIP") && reason.contains("cause=200"),
        "Reason of the CANCEL: {reason:?}"
    );
    alice.passes();
    winner.passes();
}

#[test]
fn a_phone_that_declines_for_all_stops_the_others() {
    let site = Site::claim();
    let _server = Server::start(&site, &["alice", "bob"]);
    let (one, other) = (Callee::registered(&site, 20), Callee::registered(&site, 21));
    let alice = Sipp::start(&site, "uac-is-refused-603", 33, "alice", "bob");
    let (invite_one, invite_other) = (one.rings(), other.rings());
    one.refuses(&invite_one, 603);
    other.is_cancelled(&invite_other);
    alice.passes();
}

#[test]
fn a_busy_phone_does_not_stop_the_others() {
    let site = Site::claim();
    let _server = Server::start(&site, &["alice", "bob"]);
    let busy = Callee::registered(&site, 21);
    let answers = Callee::registered(&site, 20);
    let alice = Sipp::start(&site, "uac-call", 33, "alice", "bob");
    let (invite_busy, invite) = (busy.rings(), answers.rings());
    busy.refuses(&invite_busy, 486);
    let quiet = answers.wire.receive(Duration::from_millis(500));
    assert!(quiet.is_none(), "the other phone was disturbed: {quiet:?}");
    answers.wire.send(&invite.answer(&answers.contact(), SDP));
    answers.wire.request("ACK", PATIENCE);
    let bye = answers.wire.request("BYE", PATIENCE);
    answers.wire.send(&bye.respond(200, &[]));
    alice.passes();
}

#[test]
fn the_best_of_two_refusals_goes_to_the_caller() {
    let site = Site::claim();
    let _server = Server::start(&site, &["alice", "bob"]);
    let (one, other) = (Callee::registered(&site, 20), Callee::registered(&site, 21));
    let alice = Sipp::start(&site, "uac-is-refused-486", 33, "alice", "bob");
    let (invite_one, invite_other) = (one.rings(), other.rings());
    one.refuses(&invite_one, 503);
    other.refuses(&invite_other, 486);
    alice.passes();
}

/// A phone of bob's, played by hand.
struct Callee {
    wire: Wire,
}

impl Callee {
    fn registered(site: &Site, host: u8) -> Self {
        let wire = Wire::new(site.address(host), site.server());
        let registration = wire.register("bob", 300);
        assert_eq!(registration.status(), 200, "{}", registration.text);
        Self { wire }
    }

    fn contact(&self) -> String {
        format!("Contact: {}", self.wire.contact("bob"))
    }

    #[track_caller]
    fn rings(&self) -> Received {
        let invite = self.wire.request("INVITE", PATIENCE);
        self.wire.send(&invite.respond(180, &[&self.contact()]));
        invite
    }

    #[track_caller]
    fn is_cancelled(&self, invite: &Received) -> Received {
        let cancel = self.wire.request("CANCEL", PATIENCE);
        assert_eq!(
            cancel.header("Via"),
            invite.header("Via"),
            "a CANCEL has the Via of its INVITE"
        );
        self.wire.send(&cancel.respond(200, &[]));
        self.refuses(invite, 487);
        cancel
    }

    /// Until the ACK comes, which is hop by hop.
    #[track_caller]
    fn refuses(&self, invite: &Received, status: u16) {
        self.wire.send(&invite.respond(status, &[]));
        let ack = self.wire.request("ACK", PATIENCE);
        assert_eq!(
            ack.header("Via"),
            invite.header("Via"),
            "the ACK of a refusal has the Via of its INVITE"
        );
    }
}

#[test]
fn sipsak_gets_an_answer_to_options() {
    let site = Site::claim();
    let _server = Server::start(&site, &[]);
    let output = std::process::Command::new("sipsak")
        .args(["-v", "-s", &format!("sip:{}", site.server())])
        .output()
        .expect("sipsak can be started");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("SIP/2.0 200"),
        "{}\n{text}",
        output.status
    );
}

const PATIENCE: Duration = Duration::from_secs(8);
/// Nothing is sent to where it points.
const SDP: &str =
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9000 RTP/AVP 0\r\n";
