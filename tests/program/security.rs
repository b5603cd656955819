//! Who may do what: passwords, spoofing, relaying.

use std::time::Duration;

use crate::linphone::Linphone;
use crate::server::Server;
use crate::site::{DOMAIN, Site};
use crate::tone::LOW;
use crate::wire::{Request, Wire};

#[test]
fn an_open_relay_is_refused() {
    let site = Site::claim();
    let _server = Server::start(&site, &["alice"]);
    let wire = Wire::new(site.address(20), site.server());
    let mut request = Request::new("INVITE", "alice", "sip:somebody@elsewhere.test");
    request.from = "<sip:stranger@elsewhere.test>;tag=1".to_owned();
    let response = wire.ask(
        &request.with(format!("Contact: {}", wire.contact("stranger"))),
        "alice",
    );
    assert_eq!(response.status(), 403, "{}", response.text);
}

#[test]
fn a_stranger_may_call_an_account() {
    let site = Site::claim();
    let _server = Server::start(&site, &["bob"]);
    let (stranger, bob) = (
        Wire::new(site.address(20), site.server()),
        Wire::new(site.address(21), site.server()),
    );
    assert_eq!(bob.register("bob", 300).status(), 200);
    let mut request = Request::new("MESSAGE", "stranger", &format!("sip:bob@{DOMAIN}"));
    request.from = "<sip:stranger@elsewhere.test>;tag=1".to_owned();
    stranger.send(&stranger.render(&request));
    let message = bob.request("MESSAGE", PATIENCE);
    bob.send(&message.respond(200, &[]));
    assert_eq!(stranger.final_response(PATIENCE).status(), 200);
}

#[test]
fn a_call_in_anothers_name_is_403() {
    let site = Site::claim();
    let _server = Server::start(&site, &["alice", "bob", "carol"]);
    let wire = Wire::new(site.address(20), site.server());
    let spoofed = Request::new("INVITE", "bob", &format!("sip:carol@{DOMAIN}"));
    let response = wire.ask(
        &spoofed.with(format!("Contact: {}", wire.contact("bob"))),
        "alice",
    );
    assert_eq!(response.status(), 403, "{}", response.text);
}

#[test]
fn registering_anothers_address_is_403() {
    let site = Site::claim();
    let server = Server::start(&site, &["alice", "bob"]);
    let wire = Wire::new(site.address(20), site.server());
    let request = Request {
        to: format!("<sip:bob@{DOMAIN}>"),
        ..Request::new("REGISTER", "alice", &format!("sip:{DOMAIN}"))
    };
    let response = wire.ask(
        &request.with(format!("Contact: {}", wire.contact("alice"))),
        "alice",
    );
    assert_eq!(response.status(), 403, "{}", response.text);
    assert_eq!(server.ask(&["bindings"]).matches("sip:").count(), 0);
}

#[test]
fn every_configured_digest_is_offered_the_strongest_first() {
    let site = Site::claim();
    let _server = Server::start_with(
        &site,
        &["alice"],
        "algorithms = [\"SHA-512-256\", \"SHA-256\", \"MD5\"]",
    );
    let wire = Wire::new(site.address(20), site.server());
    let request = registration();
    let challenge = wire.exchange(&wire.render(&request));
    assert_eq!(challenge.status(), 401, "{}", challenge.text);
    let algorithms: Vec<usize> = challenge
        .headers("WWW-Authenticate")
        .map(|value| {
            let known = ["SHA-512-256", "SHA-256", "MD5"];
            known
                .iter()
                .position(|name| value.contains(&format!("algorithm={name}")))
                .unwrap_or(known.len())
        })
        .collect();
    assert_eq!(algorithms, [0, 1, 2], "{}", challenge.text);
}

#[test]
fn linphone_registers_with_sha_256() {
    let site = Site::claim();
    let _server = Server::start_with(&site, &["alice"], "algorithms = [\"SHA-256\"]");
    Linphone::registered(&site, 0, "alice", "udp", LOW);
}

#[test]
fn an_answer_to_a_challenge_serves_once() {
    let site = Site::claim();
    let _server = Server::start(&site, &["alice"]);
    let wire = Wire::new(site.address(20), site.server());
    let mut request = registration();
    let challenge = wire.exchange(&wire.render(&request));
    request.sequence = 2;
    let authorization = challenge.authorization(&request, "alice").expect("a challenge");
    let answered = Request {
        sequence: 2,
        ..request.clone().with(authorization.clone())
    };
    assert_eq!(wire.exchange(&wire.render(&answered)).status(), 200);
    let replayed = Request {
        sequence: 3,
        ..request.with(authorization)
    };
    let thief = Wire::new(site.address(22), site.server());
    assert_eq!(thief.exchange(&thief.render(&replayed)).status(), 401);
}

#[test]
fn a_made_up_nonce_is_challenged_again() {
    let site = Site::claim();
    let _server = Server::start(&site, &["alice"]);
    let wire = Wire::new(site.address(20), site.server());
    let request = registration();
    let mut challenge = wire.exchange(&wire.render(&request));
    challenge.text = challenge.text.replace("nonce=\"", "nonce=\"AAAA");
    let authorization = challenge.authorization(&request, "alice").expect("a challenge");
    let response = wire.exchange(&wire.render(&Request {
        sequence: 2,
        ..request.with(authorization)
    }));
    assert_eq!(response.status(), 401, "{}", response.text);
}

/// A query of alice's bindings.
fn registration() -> Request {
    Request {
        to: format!("<sip:alice@{DOMAIN}>"),
        ..Request::new("REGISTER", "alice", &format!("sip:{DOMAIN}"))
    }
}

const PATIENCE: Duration = Duration::from_secs(8);
