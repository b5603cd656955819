//! What a SIP server owes to anybody, whatever is sent to it.

use std::time::Duration;

use crate::server::Server;
use crate::site::{DOMAIN, Site};
use crate::wire::{Received, Request, Wire};

#[test]
fn max_forwards_zero_is_483() {
    let site = Site::claim();
    let _server = Server::start(&site, &["alice", "bob"]);
    let wire = trusted(&site);
    let request = Request {
        max_forwards: 0,
        ..Request::new("MESSAGE", "alice", &format!("sip:bob@{DOMAIN}"))
    };
    assert_eq!(wire.ask(&request, "alice").status(), 483);
}

#[test]
fn a_request_that_comes_back_unchanged_is_482() {
    let site = Site::claim();
    let _server = Server::start(&site, &["alice", "bob"]);
    let (caller, looping) = (trusted(&site), Wire::new(site.address(35), site.server()));
    assert_eq!(looping.register("bob", 300).status(), 200);
    let aor = format!("sip:bob@{DOMAIN}");
    let invite = Request::new("INVITE", "alice", &aor).with(format!("Contact: {}", caller.contact("alice")));
    caller.send(&caller.render(&invite));
    let forwarded = looping.request("INVITE", PATIENCE);
    // Sent back to the same address-of-record with all its Vias, as a badly configured forwarding does.
    let (_, rest) = forwarded
        .text
        .split_once("\r\n")
        .expect("a request has a first line");
    let via = format!("Via: SIP/2.0/UDP {};branch=z9hG4bKlooping;rport", looping.local());
    looping.send(&format!("INVITE {aor} SIP/2.0\r\n{via}\r\n{rest}"));
    let response = looping.final_response(PATIENCE);
    assert_eq!(response.status(), 482, "{}", response.text);
}

#[test]
fn the_same_request_over_two_ways_is_merged_to_482() {
    let site = Site::claim();
    let _server = Server::start(&site, &["alice", "bob"]);
    let (caller, bob) = (trusted(&site), Wire::new(site.address(35), site.server()));
    assert_eq!(bob.register("bob", 300).status(), 200);
    let message = Request::new("MESSAGE", "alice", &format!("sip:bob@{DOMAIN}"));
    caller.send(&caller.render(&message));
    bob.request("MESSAGE", PATIENCE);
    // The same From tag, Call-ID and CSeq with another branch, while the first is under way (RFC 3261 8.2.2.2).
    caller.send(&caller.render(&message));
    let response = caller.final_response(PATIENCE);
    assert_eq!(response.status(), 482, "{}", response.text);
}

#[test]
fn malformed_requests_are_400_and_the_server_lives_on() {
    let site = Site::claim();
    let mut server = Server::start(&site, &["alice"]);
    let wire = Wire::new(site.address(20), site.server());
    let good = wire.options(&format!("sip:{DOMAIN}"));
    let bad = [
        ("a CSeq of another method", good.replace("1 OPTIONS", "1 INVITE")),
        (
            "a CSeq beyond 2**31",
            good.replace("1 OPTIONS", "4294967296 OPTIONS"),
        ),
        (
            "more body announced than there is",
            good.replace("Content-Length: 0", "Content-Length: 1000"),
        ),
        (
            "a From that never closes its quotes",
            good.replace("From: ", "From: \"open "),
        ),
    ];
    let wrong: Vec<String> = bad
        .iter()
        .filter_map(|(what, text)| {
            let response = {
                wire.send(text);
                wire.receive(Duration::from_secs(2))
            };
            let status = response.as_ref().map_or(0, Received::status);
            (status != 400).then(|| format!("{what}: {response:?}"))
        })
        .collect();
    assert!(wrong.is_empty(), "not answered 400: {wrong:#?}");
    let old = wire.exchange(&good.replacen("SIP/2.0\r\n", "SIP/7.0\r\n", 1));
    assert_eq!(old.status(), 505, "{}", old.text);
    for garbage in [
        &b"\r\n\r\n"[..],
        b"\0\0\0\0",
        b"INVITE",
        b"\xff\xfe\xfd\r\n\r\n",
        &[b'A'; 60_000],
    ] {
        wire.send_bytes(garbage);
    }
    let alive = wire.exchange(&wire.options(&format!("sip:{DOMAIN}")));
    assert_eq!(alive.status(), 200, "{}", alive.text);
    assert!(server.process().is_running());
}

#[test]
fn an_extension_that_a_proxy_must_know_is_420() {
    let site = Site::claim();
    let _server = Server::start(&site, &["alice", "bob"]);
    let wire = trusted(&site);
    let request =
        Request::new("MESSAGE", "alice", &format!("sip:bob@{DOMAIN}")).with("Proxy-Require: teleport");
    let response = wire.ask(&request, "alice");
    assert_eq!(response.status(), 420, "{}", response.text);
    assert_eq!(response.header("Unsupported"), Some("teleport"));
}

#[test]
fn a_too_brief_registration_is_423_with_min_expires() {
    let site = Site::claim();
    let _server = Server::start(&site, &["alice"]);
    let response = Wire::new(site.address(20), site.server()).register("alice", 1);
    assert_eq!(response.status(), 423, "{}", response.text);
    assert!(response.header("Min-Expires").is_some(), "{}", response.text);
}

#[test]
fn a_phone_that_signs_off_is_not_called_any_more() {
    let site = Site::claim();
    let _server = Server::start(&site, &["alice", "bob"]);
    let (caller, bob) = (trusted(&site), Wire::new(site.address(20), site.server()));
    assert_eq!(bob.register("bob", 300).status(), 200);
    let gone = bob.register("bob", 0);
    assert_eq!(gone.status(), 200, "{}", gone.text);
    assert!(gone.header("Contact").is_none(), "{}", gone.text);
    let response = caller.ask(
        &Request::new("MESSAGE", "alice", &format!("sip:bob@{DOMAIN}")),
        "alice",
    );
    assert_eq!(response.status(), 480, "{}", response.text);
}

#[test]
fn a_registration_lists_every_contact() {
    let site = Site::claim();
    let _server = Server::start(&site, &["alice"]);
    let (one, other) = (
        Wire::new(site.address(20), site.server()),
        Wire::new(site.address(21), site.server()),
    );
    assert_eq!(one.register("alice", 300).status(), 200);
    let response = other.register("alice", 300);
    for phone in [&one, &other] {
        assert!(
            response.text.contains(&phone.local().to_string()),
            "{} lacks {}",
            response.text,
            phone.local()
        );
    }
}

#[test]
fn answers_come_from_the_socket_that_was_asked_with_received_and_rport() {
    let site = Site::claim();
    let _server = Server::start(&site, &[]);
    let wire = Wire::new(site.address(20), site.server());
    // A phone behind NAT: its Via names an address that is not its own, and it does not even ask for rport.
    let text = wire
        .options(&format!("sip:{DOMAIN}"))
        .replace(&wire.local().to_string(), "192.168.1.10:5060");
    let response = wire.exchange(&text.replace(";rport", ""));
    let via = response.header("Via").unwrap_or_default();
    assert!(via.contains(&format!("received={}", wire.local().ip())), "{via}");
    assert!(via.contains(&format!("rport={}", wire.local().port())), "{via}");
}

/// A client on a host that is not asked for a password.
fn trusted(site: &Site) -> Wire {
    Wire::new(site.address(33), site.server())
}

const PATIENCE: Duration = Duration::from_secs(8);
