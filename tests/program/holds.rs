//! Hold and resume: the audio stops and comes back.

use std::thread::sleep;
use std::time::Duration;

use crate::baresip::{Baresip, Settings};
use crate::linphone::Linphone;
use crate::server::Server;
use crate::site::Site;
use crate::tone::{HIGH, LOW};

#[test]
fn the_caller_holds_and_resumes() {
    let site = Site::claim();
    let _server = Server::start(&site, &["alice", "bob"]);
    let mut alice = Baresip::registered(&site, &Settings::of(&site, 0, "alice", LOW));
    let mut bob = Baresip::registered(&site, &Settings::of(&site, 1, "bob", HIGH));
    alice.dial("bob");
    bob.answer();
    alice.wait_for_event("CALL_ESTABLISHED");
    alice.wait_to_hear(HIGH, 1.0);

    alice.command("hold", "");
    assert_silence(&alice);
    alice.command("resume", "");
    assert_sound(&alice);
    alice.command("hangup", "");
    bob.wait_for_event("CALL_CLOSED");
}

#[test]
fn the_callee_holds_and_resumes() {
    let site = Site::claim();
    let _server = Server::start(&site, &["alice", "bob"]);
    let settings = Settings {
        transport: "tcp",
        ..Settings::of(&site, 0, "alice", LOW)
    };
    let mut alice = Baresip::registered(&site, &settings);
    let mut bob = Baresip::registered(&site, &Settings::of(&site, 1, "bob", HIGH));
    alice.dial("bob");
    bob.answer();
    bob.wait_to_hear(LOW, 1.0);

    bob.command("hold", "");
    assert_silence_of(&bob, LOW);
    bob.command("resume", "");
    let before = bob.heard().seconds_of(LOW);
    bob.wait_to_hear(LOW, before + 1.0);
    bob.command("hangup", "");
    alice.wait_for_event("CALL_CLOSED");
}

#[test]
fn linphone_pauses_and_resumes() {
    let site = Site::claim();
    let _server = Server::start(&site, &["alice", "bob"]);
    let mut alice = Linphone::registered(&site, 0, "alice", "udp", LOW);
    let mut bob = Baresip::registered(&site, &Settings::of(&site, 1, "bob", HIGH));
    alice.dial("bob");
    bob.answer();
    bob.wait_to_hear(LOW, 1.0);

    alice.say("pause");
    alice.wait_for("paused");
    assert_silence_of(&bob, LOW);
    let before = bob.heard().seconds_of(LOW);
    alice.say("resume");
    bob.wait_to_hear(LOW, before + 1.0);
    alice.say("terminate");
    bob.wait_for_event("CALL_CLOSED");
}

#[track_caller]
fn assert_silence(phone: &Baresip) {
    assert_silence_of(phone, HIGH);
}

/// After a moment for the re-INVITE, nothing more is heard.
#[track_caller]
fn assert_silence_of(phone: &Baresip, tone: crate::tone::Tone) {
    sleep(Duration::from_millis(700));
    let before = phone.heard().seconds_of(tone);
    sleep(Duration::from_millis(1500));
    let during = phone.heard().seconds_of(tone) - before;
    assert!(during < 0.3, "{during:.1} s of {tone:?} while on hold");
}

#[track_caller]
fn assert_sound(phone: &Baresip) {
    let before = phone.heard().seconds_of(HIGH);
    phone.wait_to_hear(HIGH, before + 1.0);
}
