//! What is not forwarded, and what it is answered.

use sip::HeaderId;
use sip::digest::{ClientAuthorization, Login};

use crate::phone::*;
use crate::world::*;

fn stranger() -> Phone {
    udp("mallory", "198.51.100.66:5060")
}

/// An INVITE of somebody at another provider.
fn foreign(to: &str) -> String {
    invite(&stranger(), to).replace("mallory@example.org", "mallory@elsewhere.example")
}

#[test]
fn an_unknown_user_is_404_and_one_who_is_not_registered_480() {
    let mut world = World::new();
    for (user, status) in [("nobody", 404), ("bob", 480)] {
        world.say(&alice(), &initial(&alice(), "MESSAGE", user, "", ""));
        world.status(&alice(), status);
        world.say(&alice(), &initial(&alice(), "OPTIONS", user, "", ""));
        world.status(&alice(), status);
    }
    world.nothing();
}

#[test]
fn a_request_that_may_go_no_further_is_483() {
    let mut world = World::new();
    world.register(&bob());
    let none_left = |text: String| text.replace("Max-Forwards: 70", "Max-Forwards: 0");
    world.say(&alice(), &none_left(invite(&alice(), "bob")));
    world.status(&alice(), 483);
    let register = initial(&alice(), "REGISTER", "sip:elsewhere.example", "", "");
    world.say(&alice(), &none_left(register));
    world.status(&alice(), 483);
    world.nothing();
    world.ends_empty();
}

#[test]
fn a_request_that_may_go_no_further_is_answered_where_it_has_come_to_its_end() {
    let mut world = World::new();
    world.register(&bob());
    let none_left = |text: String| text.replace("Max-Forwards: 70", "Max-Forwards: 0");
    for to in ["bob", "sip:example.org", "sip:x@elsewhere.example"] {
        world.say(&alice(), &none_left(initial(&alice(), "OPTIONS", to, "", "")));
        world.status(&alice(), 200);
    }
    let register = initial(&alice(), "REGISTER", "sip:example.org", "Expires: 60\n", "");
    let register = register.replace("To: <sip:example.org>", "To: <sip:alice@example.org>");
    world.say(&alice(), &none_left(register));
    assert!(world.status(&alice(), 200).has("Contact"));
    world.nothing();
}

#[test]
fn what_a_proxy_is_required_to_know_and_we_do_not_is_420() {
    let mut world = World::new();
    world.register(&bob());
    world.say(
        &alice(),
        &initial(&alice(), "INVITE", "bob", "Proxy-Require: foo, bar\n", ""),
    );
    assert_eq!(world.status(&alice(), 420).get("Unsupported"), "foo, bar");
    world.nothing();
}

#[test]
fn a_number_is_nobody_here() {
    let mut world = World::new();
    world.say(
        &alice(),
        &initial(&alice(), "MESSAGE", "tel:+12015550123", "", ""),
    );
    world.status(&alice(), 416);
    world.nothing();
}

#[test]
fn a_request_that_comes_back_unchanged_is_a_loop() {
    let mut world = World::new();
    world.register(&bob());
    world.say(&alice(), &initial(&alice(), "MESSAGE", "bob", "", ""));
    let sent = world.request(&bob(), "MESSAGE");
    // Bob's telephone sends it back to where it came from, to the same address.
    let proxy = bob();
    let again = sent
        .text
        .replace(
            &format!("MESSAGE {} SIP", bob().contact),
            "MESSAGE sip:bob@example.org SIP",
        )
        .replacen("Via:", "Via: SIP/2.0/UDP 10.0.0.9;branch=z9hG4bKback\r\nVia:", 1);
    world.say(&proxy, &again);
    world.status(&proxy, 482);
    world.nothing();
}

#[test]
fn a_request_that_comes_back_for_somebody_else_is_a_spiral_and_goes_on() {
    let mut world = World::new();
    let carol = udp("carol", "192.0.2.30:5070");
    world.register(&bob());
    world.register(&carol);
    world.say(&alice(), &initial(&alice(), "MESSAGE", "bob", "", ""));
    let sent = world.request(&bob(), "MESSAGE");
    let again = sent
        .text
        .replace(
            &format!("MESSAGE {} SIP", bob().contact),
            "MESSAGE sip:carol@example.org SIP",
        )
        .replacen("Via:", "Via: SIP/2.0/UDP 10.0.0.9;branch=z9hG4bKback\r\nVia:", 1);
    world.say(&bob(), &again);
    world.request(&carol, "MESSAGE");
    world.nothing();
}

#[test]
fn the_same_request_by_a_second_way_is_482() {
    let mut world = World::new();
    world.register(&bob());
    let first = invite(&alice(), "bob");
    world.say(&alice(), &first);
    world.status(&alice(), 100);
    world.request(&bob(), "INVITE");
    let second = first.replace("branch=z9hG4bK", "branch=z9hG4bKother");
    world.say(&alice(), &second);
    let refused = world.status(&alice(), 482);
    // Its ACK goes nowhere.
    world.say(&alice(), &hop(&second, "ACK", refused.to_tag()));
    world.nothing();
}

#[test]
fn nobody_is_relayed_to_elsewhere() {
    let mut world = World::new();
    world.register(&bob());
    world.say(&stranger(), &foreign("sip:x@third.example"));
    world.status(&stranger(), 403);
    // To an account, everybody may call.
    world.say(&stranger(), &foreign("bob"));
    world.status(&stranger(), 100);
    world.request(&bob(), "INVITE");
    assert!(world.questions.is_empty());
}

#[test]
fn a_stranger_cannot_use_our_route_to_get_elsewhere() {
    let mut world = World::new();
    world.register(&bob());
    let text = foreign("bob").replace(
        "Call-ID:",
        "Route: <sip:203.0.113.2;lr>, <sip:192.0.2.99;lr>\r\nCall-ID:",
    );
    world.say(&stranger(), &text);
    world.status(&stranger(), 403);
    world.nothing();
}

#[test]
fn an_account_proves_itself_and_nobody_can_pretend_to_be_one() {
    let mut world = World::new();
    world.register(&bob());
    let far = udp("alice", "198.51.100.7:5060");
    let text = invite(&far, "bob");
    world.say(&far, &text);
    let challenge = world.status(&far, 407);
    assert!(challenge.has("Proxy-Authenticate"));
    world.say(&far, &hop(&text, "ACK", challenge.to_tag()));
    world.nothing();

    let proven = with_credentials(&far, "alice", &challenge);
    world.say(&far, &proven);
    world.status(&far, 100);
    assert!(!world.request(&bob(), "INVITE").has("Proxy-Authorization"));

    // With the same password, but another name in From.
    let text = invite(&far, "bob");
    world.say(&far, &text);
    let challenge = world.status(&far, 407);
    let spoofed = with_credentials(&far, "alice", &challenge)
        .replace("<sip:alice@example.org>;tag", "<sip:carol@example.org>;tag");
    world.say(&far, &spoofed);
    world.status(&far, 403);
    world.nothing();
}

/// The INVITE of a telephone to bob again, with an answer to the challenge.
fn with_credentials(phone: &Phone, user: &str, challenge: &Sent) -> String {
    let mut index = sip::Index::new();
    index.parse(challenge.text.as_bytes()).expect("a message");
    let m = sip::Message::new(challenge.text.as_bytes(), &index);
    let challenges = m.challenges(HeaderId::ProxyAuthenticate).filter_map(Result::ok);
    let mut client = ClientAuthorization::from_challenges(challenges).expect("a challenge that can be met");
    let login = Login {
        username: user.into(),
        password: PASSWORD.into(),
    };
    let mut line = Vec::new();
    client.write(&login, "INVITE", "sip:bob@example.org", b"", 1, &mut line);
    let line = String::from_utf8(line).expect("text");
    initial(
        phone,
        "INVITE",
        "bob",
        &format!("Proxy-Authorization: {line}\n"),
        "",
    )
}
