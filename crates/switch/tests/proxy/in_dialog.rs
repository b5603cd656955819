//! Requests inside a dialog find their way through the token in our Record-Route.

use switch::token::tag_hash;

use crate::phone::*;
use crate::world::*;

fn ready() -> World {
    let mut world = World::new();
    world.register(&bob());
    world
}

#[test]
fn requests_of_both_sides_reach_the_flows_that_the_dialog_was_set_up_over() {
    let mut world = ready();
    let (mut near, mut far, _) = call(&mut world, &alice(), &bob());
    world.say(&alice(), &near.next("INFO", "", ""));
    let sent = world.request(&bob(), "INFO");
    assert_eq!((sent.uri(), sent.flow), (bob().contact.as_str(), bob().flow));
    assert!(!sent.has("Route"));
    world.say(&bob(), &reply(&sent, 200, "", "", ""));
    world.status(&alice(), 200);

    world.say(&bob(), &far.next("INFO", "", ""));
    let sent = world.request(&alice(), "INFO");
    assert_eq!((sent.uri(), sent.flow), (alice().contact.as_str(), alice().flow));
    world.say(&alice(), &reply(&sent, 200, "", "", ""));
    world.status(&bob(), 200);
    world.nothing();
}

#[test]
fn a_dialog_across_transports_is_routed_through_both_of_our_record_routes() {
    let mut world = World::new();
    let bob = tcp("bob", "192.0.2.20:40000", 7);
    world.register(&bob);
    let (mut near, mut far, _) = call(&mut world, &alice(), &bob);
    assert_eq!((near.routes.len(), far.routes.len()), (2, 2));
    world.say(&alice(), &near.next("BYE", "", ""));
    let bye = world.request(&bob, "BYE");
    assert!(!bye.has("Route"));
    assert_eq!(bye.flow, bob.flow);
    world.say(&bob, &reply(&bye, 481, "", "", ""));
    world.status(&alice(), 481);
    world.say(&bob, &far.next("BYE", "", ""));
    assert_eq!(world.request(&alice(), "BYE").flow, alice().flow);
}

#[test]
fn a_forged_or_missing_token_is_481() {
    let mut world = ready();
    let (near, _, _) = call(&mut world, &alice(), &bob());
    let mut forged = near.clone();
    let at = forged.routes[0].find("tz=").expect("a token") + 20;
    let other = if forged.routes[0].as_bytes()[at] == b'A' {
        "B"
    } else {
        "A"
    };
    forged.routes[0].replace_range(at..=at, other);
    world.say(&alice(), &forged.next("BYE", "", ""));
    world.status(&alice(), 481);
    let mut without = near.clone();
    without.routes.clear();
    world.say(&alice(), &without.next("BYE", "", ""));
    world.status(&alice(), 481);
    world.say(&alice(), &without.next("ACK", "", ""));
    world.nothing();
}

#[test]
fn a_token_lets_nobody_begin_something_new() {
    let mut world = ready();
    let far = udp("mallory", "198.51.100.66:5060");
    let foreign = |text: String| text.replace("mallory@example.org", "mallory@elsewhere.example");
    // mallory may call bob, and so gets a token; he may not use it to send without being asked who he is.
    world.say(&far, &foreign(invite(&far, "bob")));
    world.status(&far, 100);
    let sent = world.request(&bob(), "INVITE");
    let route = sent.get("Record-Route").to_owned();
    let text = initial(
        &far,
        "MESSAGE",
        "sip:x@third.example",
        &format!("Route: {route}\n"),
        "",
    );
    world.say(&far, &foreign(text));
    world.status(&far, 403);
    let text = initial(
        &far,
        "INVITE",
        "sip:alice@example.org",
        &format!("Route: {route}\n"),
        "",
    );
    world.say(&far, &text.replace("<sip:mallory@", "<sip:alice@"));
    world.status(&far, 407);
    world.nothing();
}

#[test]
fn a_strict_router_behind_us_is_repaired() {
    let mut world = ready();
    let (near, _, _) = call(&mut world, &alice(), &bob());
    // It has put our Record-Route URI into the Request-URI and the real target at the end of Route.
    let mut strict = near.clone();
    strict.routes = vec![format!("<{}>", near.target)];
    strict.target = uri_of(&near.routes[0]);
    world.say(&alice(), &strict.next("INFO", "", ""));
    let sent = world.request(&bob(), "INFO");
    assert_eq!(sent.uri(), bob().contact);
    assert!(!sent.has("Route"));
    assert_eq!(sent.flow, bob().flow);
}

#[test]
fn a_dialog_through_a_foreign_proxy_keeps_its_route_beyond_us() {
    let mut world = World::new();
    let path = "<sip:192.0.2.90;lr>";
    world.register_with(&bob(), &format!("Supported: path\nPath: {path}\n"));
    world.say(&alice(), &invite(&alice(), "bob"));
    world.status(&alice(), 100);
    let mut sent = world.request(&bob(), "INVITE");
    // The edge proxy has record-routed, too.
    sent.text = sent.text.replacen(
        "Record-Route:",
        "Record-Route: <sip:192.0.2.90;lr>\r\nRecord-Route:",
        1,
    );
    world.say(&bob(), &accept(&bob(), &sent, "b"));
    let ok = world.status(&alice(), 200);
    let mut near = Dialog::caller(&alice(), &ok);
    world.say(&alice(), &near.next("ACK", "", ""));
    let ack = world.request(&bob(), "ACK");
    assert_eq!(ack.get("Route"), path);
    world.say(&alice(), &near.next("BYE", "", ""));
    let bye = world.request(&bob(), "BYE");
    assert_eq!((bye.get("Route"), bye.uri()), (path, bob().contact.as_str()));
}

#[test]
fn a_peer_with_a_public_contact_that_is_not_at_the_end_of_the_flow_is_reached_by_its_contact() {
    let mut world = World::new();
    // A foreign server answers in the name of a telephone with another address, and does not stay on the way.
    let server = udp("server", "192.0.2.70:5060");
    world.say(&alice(), &invite(&alice(), "sip:x@192.0.2.70"));
    world.status(&alice(), 100);
    let sent = world.request(&server, "INVITE");
    let phone = udp("x", "192.0.2.71:5090");
    let mut direct = phone.clone();
    direct.contact = "sip:x@192.0.2.71:5090".into();
    world.say(&server, &accept(&direct, &sent, "b"));
    let ok = world.status(&alice(), 200);
    let mut near = Dialog::caller(&alice(), &ok);
    world.say(&alice(), &near.next("ACK", "", ""));
    world.request(&phone, "ACK");
    world.say(&alice(), &near.next("BYE", "", ""));
    world.request(&phone, "BYE");
    world.nothing();
}

#[test]
fn requests_of_a_dialog_come_to_the_worker_that_holds_the_call() {
    let mut world = World::with(2, |_| {});
    world.register(&bob());
    let (mut near, _, _) = call(&mut world, &alice(), &bob());
    world.handed_over = 0;
    world.say_to(1, &alice().flow, &near.next("BYE", "", ""));
    assert_eq!(world.handed_over, 1);
    let bye = world.request(&bob(), "BYE");
    world.say_to(1, &bob().flow, &reply(&bye, 200, "", "", ""));
    world.status(&alice(), 200);
    assert_eq!(world.handed_over, 2);
    assert_eq!(world.records.len(), 1);
    world.ends_empty();
}

#[test]
fn tags_that_look_alike_to_a_short_hash_are_told_apart() {
    let caller = tag_hash("from-alice");
    let twin = (0..2_000_000u32)
        .map(|n| format!("b{n}"))
        .find(|tag| tag_hash(tag) as u16 == caller as u16)
        .expect("65,536 values");
    let mut world = ready();
    world.say(&alice(), &invite(&alice(), "bob"));
    world.status(&alice(), 100);
    let sent = world.request(&bob(), "INVITE");
    world.say(&bob(), &accept(&bob(), &sent, &twin));
    world.status(&alice(), 200);
    let mut far = Dialog::callee(&bob(), &sent, &twin);
    world.say(&bob(), &far.next("BYE", "", ""));
    world.request(&alice(), "BYE");
    world.nothing();
}

#[test]
fn a_caller_without_a_tag_can_hang_up() {
    let mut world = ready();
    world.say(&alice(), &invite(&alice(), "bob").replace(";tag=from-alice", ""));
    world.status(&alice(), 100);
    let sent = world.request(&bob(), "INVITE");
    world.say(&bob(), &accept(&bob(), &sent, "b"));
    let mut near = Dialog::caller(&alice(), &world.status(&alice(), 200));
    world.say(&alice(), &near.next("ACK", "", ""));
    world.request(&bob(), "ACK");
    world.say(&alice(), &near.next("BYE", "", ""));
    let bye = world.request(&bob(), "BYE");
    world.say(&bob(), &reply(&bye, 200, "", "", ""));
    world.status(&alice(), 200);
    world.ends_empty();
    assert_eq!(world.records.len(), 1);
}

#[test]
fn a_subscription_finds_its_way_back() {
    let mut world = ready();
    world.say(
        &alice(),
        &initial(&alice(), "SUBSCRIBE", "bob", "Event: presence\n", ""),
    );
    let sent = world.request(&bob(), "SUBSCRIBE");
    world.say(
        &bob(),
        &reply(&sent, 200, "b", &format!("Contact: <{}>\n", bob().contact), ""),
    );
    world.status(&alice(), 200);
    let mut far = Dialog::callee(&bob(), &sent, "b");
    world.say(&bob(), &far.next("NOTIFY", "Event: presence\n", ""));
    assert_eq!(world.request(&alice(), "NOTIFY").uri(), alice().contact);
    world.nothing();
}

#[test]
fn a_re_invite_and_its_cancel_and_ack_come_to_the_same_worker() {
    let mut world = World::with(2, |_| {});
    world.register(&bob());
    let (mut near, _, _) = call(&mut world, &alice(), &bob());
    let text = near.next("INVITE", "", &sdp("10.0.0.1", 4000, ""));
    world.say_to(1, &alice().flow, &text);
    world.status(&alice(), 100);
    let sent = world.request(&bob(), "INVITE");
    world.say_to(1, &bob().flow, &reply(&sent, 180, "", "", ""));
    world.status(&alice(), 180);
    world.say_to(1, &alice().flow, &hop(&text, "CANCEL", ""));
    world.status(&alice(), 200);
    let cancel = world.request(&bob(), "CANCEL");
    world.say_to(1, &bob().flow, &reply(&cancel, 200, "", "", ""));
    world.say_to(1, &bob().flow, &reply(&sent, 487, "", "", ""));
    world.request(&bob(), "ACK");
    world.status(&alice(), 487);
    world.say_to(1, &alice().flow, &hop(&text, "ACK", ""));
    world.pass_s(3);
    world.nothing();
    world.say_to(1, &alice().flow, &near.next("BYE", "", ""));
    world.request(&bob(), "BYE");
    world.ends_empty();
    assert_eq!(world.records.len(), 1);
}

#[test]
fn a_strict_router_on_either_side_of_a_dialog_across_transports_is_repaired() {
    let mut world = World::new();
    let bob = tcp("bob", "192.0.2.20:40000", 7);
    world.register(&bob);
    let (near, _, _) = call(&mut world, &alice(), &bob);
    let mut strict = near.clone();
    strict.target = uri_of(&near.routes[0]);
    strict.routes = vec![near.routes[1].clone(), format!("<{}>", near.target)];
    world.say(&alice(), &strict.next("INFO", "", ""));
    let sent = world.request(&bob, "INFO");
    assert_eq!((sent.uri(), sent.flow), (bob.contact.as_str(), bob.flow));
    assert!(!sent.has("Route"));
}

#[test]
fn a_request_that_may_go_no_further_is_483_inside_a_dialog_too() {
    let mut world = ready();
    let (mut near, _, _) = call(&mut world, &alice(), &bob());
    let text = near
        .next("INFO", "", "")
        .replace("Max-Forwards: 70", "Max-Forwards: 0");
    world.say(&alice(), &text);
    world.status(&alice(), 483);
    let ack = near
        .next("ACK", "", "")
        .replace("Max-Forwards: 70", "Max-Forwards: 0");
    world.say(&alice(), &ack);
    world.nothing();
}
