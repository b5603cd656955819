//! Hold and resume: the audio stops and comes back, both ways.

use std::thread::sleep;
use std::time::Duration;

use crate::baresip::{Baresip, Settings};
use crate::handset::Handset;
use crate::linphone::Linphone;
use crate::server::Server;
use crate::site::Site;
use crate::tone::{HIGH, LOW};

#[test]
fn the_caller_holds_and_resumes() {
    let site = Site::claim();
    let _server = Server::start(&site, &["alice", "bob"]);
    let mut alice = Baresip::registered(&site, &Settings::of(&site, 0, "alice", LOW));
    let bob = Handset::registered(&site, 20, "bob", HIGH);
    alice.dial("bob");
    bob.takes_offer();
    alice.wait_for_event("CALL_ESTABLISHED");
    baresip_holds_and_resumes(&mut alice, &bob);
}

#[test]
fn a_caller_on_tcp_holds_and_resumes() {
    let site = Site::claim();
    let _server = Server::start(&site, &["alice", "bob"]);
    let settings = Settings {
        transport: "tcp",
        ..Settings::of(&site, 0, "alice", LOW)
    };
    let mut alice = Baresip::registered(&site, &settings);
    let bob = Handset::registered(&site, 20, "bob", HIGH);
    alice.dial("bob");
    bob.takes_offer();
    alice.wait_for_event("CALL_ESTABLISHED");
    baresip_holds_and_resumes(&mut alice, &bob);
}

fn baresip_holds_and_resumes(holder: &mut Baresip, held: &Handset) {
    held.hears(LOW);
    holder.wait_to_hear(HIGH, 1.0);
    holder.command("hold", "");
    held.is_put_on_hold();
    sleep(SETTLE);
    let while_held = held.listens(LOW, LISTEN);
    assert!(
        while_held < 0.2,
        "{while_held:.1} s of the holder's sound while on hold"
    );
    holder.command("resume", "");
    held.takes_offer();
    held.hears(LOW);
    holder.command("hangup", "");
    held.is_hung_up();
}

#[test]
fn linphone_pauses_with_music_and_resumes() {
    let site = Site::claim();
    let _server = Server::start(&site, &["alice", "bob"]);
    let mut alice = Linphone::registered(&site, 0, "alice", "udp", LOW);
    let bob = Handset::registered(&site, 20, "bob", HIGH);
    alice.dial("bob");
    bob.takes_offer();
    alice.wait_for("connected");
    bob.hears(LOW);
    alice.say("pause");
    bob.is_put_on_hold();
    alice.wait_for("aused");
    sleep(SETTLE);
    // What it plays to a waiting party is the same file: its offer is sendonly.
    let music = bob.listens(LOW, LISTEN);
    assert!(music > 1.0, "{music:.1} s of music on hold");
    alice.say("resume");
    bob.takes_offer();
    bob.hears(LOW);
    alice.say("terminate");
    bob.is_hung_up();
    alice.wait_for("ended");
    let heard = alice.heard();
    heard.assert_holds(HIGH, LOW);
}

/// What is on its way when the hold begins may still arrive.
const SETTLE: Duration = Duration::from_millis(500);
const LISTEN: Duration = Duration::from_millis(1500);
