//! What a request looks like when it leaves again (RFC 3261 16.3 to 16.6, RFC 3581, 5393, 5658).

use crate::phone::*;
use crate::world::*;

fn ready() -> World {
    let mut world = World::new();
    world.register(&bob());
    world
}

#[test]
fn a_request_gets_a_via_of_ours_and_the_truth_about_where_it_came_from() {
    let mut world = ready();
    world.say(&alice(), &initial(&alice(), "MESSAGE", "bob", "", ""));
    let sent = world.request(&bob(), "MESSAGE");
    let vias = sent.all("Via");
    assert_eq!(vias.len(), 2);
    assert!(
        vias[0].starts_with("SIP/2.0/UDP 203.0.113.2:5060;branch=z9hG4bK"),
        "{vias:?}"
    );
    assert_eq!(param(vias[1], "received"), "192.0.2.10");
    assert_eq!(param(vias[1], "rport"), "5060");
}

#[test]
fn received_and_rport_are_forced_even_where_nobody_asked_for_them() {
    let mut world = ready();
    let text = initial(&alice(), "MESSAGE", "bob", "", "").replace(";rport", "");
    world.say(&alice(), &text);
    let sent = world.request(&bob(), "MESSAGE");
    assert_eq!(param(sent.all("Via")[1], "received"), "192.0.2.10");
    assert_eq!(param(sent.all("Via")[1], "rport"), "5060");
}

#[test]
fn a_request_goes_to_the_flow_of_the_registration_with_the_contact_as_its_uri() {
    let mut world = ready();
    world.say(&alice(), &initial(&alice(), "MESSAGE", "bob", "", ""));
    let sent = world.request(&bob(), "MESSAGE");
    assert_eq!(sent.uri(), bob().contact);
    assert_eq!(sent.flow, bob().flow);
}

#[test]
fn max_forwards_goes_down_by_one_and_is_put_in_where_there_is_none() {
    let mut world = ready();
    world.say(&alice(), &initial(&alice(), "MESSAGE", "bob", "", ""));
    assert_eq!(world.request(&bob(), "MESSAGE").get("Max-Forwards"), "69");
    let without = initial(&alice(), "MESSAGE", "bob", "", "").replace("Max-Forwards: 70\r\n", "");
    world.say(&alice(), &without);
    assert_eq!(world.request(&bob(), "MESSAGE").get("Max-Forwards"), "70");
    let one = initial(&alice(), "MESSAGE", "bob", "", "").replace("Max-Forwards: 70", "Max-Forwards: 1");
    world.say(&alice(), &one);
    assert_eq!(world.request(&bob(), "MESSAGE").get("Max-Forwards"), "0");
}

#[test]
fn a_dialog_is_record_routed_once_where_both_sides_are_alike() {
    let mut world = ready();
    world.say(&alice(), &invite(&alice(), "bob"));
    world.status(&alice(), 100);
    let sent = world.request(&bob(), "INVITE");
    let route = sent.get("Record-Route");
    assert!(route.starts_with("<sip:203.0.113.2:5060;lr;tz="), "{route}");
    assert!(!route.contains("transport"));
}

#[test]
fn a_message_is_not_record_routed() {
    let mut world = ready();
    world.say(&alice(), &initial(&alice(), "MESSAGE", "bob", "", ""));
    assert!(!world.request(&bob(), "MESSAGE").has("Record-Route"));
}

#[test]
fn a_dialog_is_record_routed_twice_where_the_transport_changes() {
    let mut world = World::new();
    let bob = tcp("bob", "192.0.2.20:40000", 7);
    world.register(&bob);
    world.say(&alice(), &invite(&alice(), "bob"));
    world.status(&alice(), 100);
    let sent = world.request(&bob, "INVITE");
    let routes = sent.all("Record-Route");
    assert_eq!(routes.len(), 2, "{routes:?}");
    assert!(routes[0].starts_with("<sip:203.0.113.2:5060;transport=tcp;lr;tz="));
    assert!(routes[1].starts_with("<sip:203.0.113.2:5060;lr;tz="));
    assert!(sent.all("Via")[0].starts_with("SIP/2.0/TCP "));
    assert_eq!(sent.flow.connection, bob.flow.connection);
}

#[test]
fn a_dialog_is_record_routed_twice_where_the_family_changes() {
    let mut world = World::new();
    let bob = udp("bob", "[2001:db8:1::20]:5060");
    world.register(&bob);
    world.say(&alice(), &invite(&alice(), "bob"));
    world.status(&alice(), 100);
    let sent = world.request(&bob, "INVITE");
    let routes = sent.all("Record-Route");
    assert_eq!(routes.len(), 2, "{routes:?}");
    assert!(routes[0].starts_with("<sip:[2001:db8::2]:5060;lr;tz="));
    assert!(routes[1].starts_with("<sip:203.0.113.2:5060;lr;tz="));
    assert!(sent.all("Via")[0].starts_with("SIP/2.0/UDP [2001:db8::2]:5060;"));
}

#[test]
fn the_advertised_address_stands_in_via_and_record_route() {
    let mut world = World::with(1, |config| {
        config.advertise = vec!["198.51.100.77".parse().expect("an address")];
    });
    world.register(&bob());
    world.say(&alice(), &invite(&alice(), "bob"));
    world.status(&alice(), 100);
    let sent = world.request(&bob(), "INVITE");
    assert!(sent.all("Via")[0].starts_with("SIP/2.0/UDP 198.51.100.77:5060;"));
    assert!(
        sent.get("Record-Route")
            .starts_with("<sip:198.51.100.77:5060;lr;")
    );
}

#[test]
fn the_path_of_a_registration_becomes_the_route() {
    let mut world = World::new();
    let path = "<sip:edge.example.net;lr;ob>";
    world.register_with(&bob(), &format!("Supported: path\nPath: {path}\n"));
    world.say(&alice(), &initial(&alice(), "MESSAGE", "bob", "", ""));
    let sent = world.request(&bob(), "MESSAGE");
    assert_eq!(sent.get("Route"), path);
    assert_eq!(sent.uri(), bob().contact);
}

#[test]
fn a_preloaded_route_to_us_is_taken_off_and_what_follows_is_the_next_hop() {
    let mut world = ready();
    let lines = "Route: <sip:203.0.113.2:5060;lr>, <sip:192.0.2.50;lr>\n";
    world.say(
        &alice(),
        &initial(&alice(), "MESSAGE", "sip:x@elsewhere.example", lines, ""),
    );
    let next = udp("next", "192.0.2.50:5060");
    let sent = world.request(&next, "MESSAGE");
    assert_eq!(sent.get("Route"), "<sip:192.0.2.50;lr>");
    assert_eq!(sent.uri(), "sip:x@elsewhere.example");
}

#[test]
fn a_strict_router_ahead_gets_itself_as_the_request_uri_and_the_target_as_the_last_route() {
    let mut world = ready();
    let lines = "Route: <sip:203.0.113.2;lr>, <sip:192.0.2.50>, <sip:192.0.2.51;lr>\n";
    world.say(
        &alice(),
        &initial(&alice(), "MESSAGE", "sip:x@elsewhere.example", lines, ""),
    );
    let sent = world.request(&udp("next", "192.0.2.50:5060"), "MESSAGE");
    assert_eq!(sent.uri(), "sip:192.0.2.50");
    assert_eq!(
        sent.get("Route"),
        "<sip:192.0.2.51;lr>, <sip:x@elsewhere.example>"
    );
}

#[test]
fn credentials_for_us_go_no_further_and_others_do() {
    let mut world = ready();
    let other =
        "Digest username=\"a\", realm=\"elsewhere.example\", nonce=\"n\", uri=\"sip:x\", response=\"0\"";
    let ours = "Digest username=\"a\", realm=\"example.org\", nonce=\"n\", uri=\"sip:x\", response=\"0\"";
    let lines = format!("Proxy-Authorization: {ours}\nProxy-Authorization: {other}\nAuthorization: {ours}\n");
    world.say(&alice(), &initial(&alice(), "MESSAGE", "bob", &lines, ""));
    let sent = world.request(&bob(), "MESSAGE");
    assert_eq!(sent.get("Proxy-Authorization"), other);
    assert_eq!(sent.get("Authorization"), ours);
}

#[test]
fn an_unknown_method_with_unknown_header_fields_goes_on_byte_for_byte() {
    let mut world = ready();
    let odd = "X-Odd :  two  spaces,\n\t folded \nx-ODD: \"again\" ; a=b\n";
    let text = initial(&alice(), "FROBNICATE", "bob", odd, "").replace("Content-Length: 0", "l: 5")
        + "\u{1}\u{2}abc";
    world.say(&alice(), &text);
    let sent = world.request(&bob(), "FROBNICATE");
    // What is after the fields that every proxy changes is what it was.
    let rest = |text: &str| {
        let start = text.find("From:").expect("a From");
        text[start..].replace("Max-Breadth: 60\r\n", "")
    };
    assert_eq!(rest(&sent.text), rest(&text));
}

#[test]
fn options_to_us_is_answered_and_to_an_account_goes_to_its_telephone() {
    let mut world = ready();
    world.say(&alice(), &initial(&alice(), "OPTIONS", "sip:example.org", "", ""));
    let ok = world.status(&alice(), 200);
    assert!(ok.get("Allow").contains("INVITE") && ok.has("Accept") && ok.has("Supported"));
    world.say(&alice(), &initial(&alice(), "OPTIONS", "bob", "", ""));
    let sent = world.request(&bob(), "OPTIONS");
    world.say(&bob(), &reply(&sent, 200, "t", "", ""));
    assert_eq!(world.status(&alice(), 200).to_tag(), "t");
    world.nothing();
    world.ends_empty();
}

#[test]
fn a_response_goes_back_without_our_via_and_otherwise_as_it_came() {
    let mut world = ready();
    world.say(&alice(), &initial(&alice(), "MESSAGE", "bob", "", ""));
    let sent = world.request(&bob(), "MESSAGE");
    let response = reply(&sent, 200, "t", "X-Mine:  kept  \n", "");
    world.say(&bob(), &response);
    let back = world.status(&alice(), 200);
    let first_via = response.find("Via:").expect("a Via");
    let second_via = response[first_via + 1..].find("Via:").expect("two") + first_via + 1;
    assert_eq!(
        back.text,
        format!("{}{}", &response[..first_via], &response[second_via..])
    );
    assert_eq!(back.flow, alice().flow);
    world.ends_empty();
}

#[test]
fn max_breadth_is_shared_among_the_branches_and_440_says_that_it_does_not_suffice() {
    let mut world = ready();
    world.register(&bob2());
    let with = |breadth: u32| {
        initial(
            &alice(),
            "MESSAGE",
            "bob",
            &format!("Max-Breadth: {breadth}\n"),
            "",
        )
    };
    world.say(&alice(), &with(5));
    assert_eq!(world.request(&bob(), "MESSAGE").get("Max-Breadth"), "2");
    assert_eq!(world.request(&bob2(), "MESSAGE").get("Max-Breadth"), "2");
    world.say(&alice(), &with(1));
    world.status(&alice(), 440);
    world.say(&alice(), &initial(&alice(), "MESSAGE", "bob", "", ""));
    assert_eq!(world.request(&bob(), "MESSAGE").get("Max-Breadth"), "30");
    assert_eq!(world.request(&bob2(), "MESSAGE").get("Max-Breadth"), "30");
    world.nothing();
    world.ends_empty();
}

/// A server that is registered as one of `account`'s telephones, and sends on to somebody else.
fn diverter(account: &'static str) -> Phone {
    udp(account, "192.0.2.77:5099")
}

/// What it makes of a request: the same for another account, with its Via.
fn divert(sent: &Sent, account: &str) -> String {
    let (_, rest) = sent.text.split_once("\r\n").expect("a start line");
    format!(
        "{} sip:{account}@{DOMAIN} SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.77;branch=z9hG4bK{}\r\n{rest}",
        sent.method(),
        unique()
    )
}

#[test]
fn the_breadth_of_a_request_that_comes_back_for_others_is_used_up_hop_by_hop() {
    let mut world = ready();
    let carol = udp("carol", "192.0.2.30:40002");
    world.register(&carol);
    world.register(&alice());
    for account in ["bob", "carol", "alice"] {
        world.register(&diverter(account));
    }
    let text = initial(&alice(), "MESSAGE", "bob", "Max-Breadth: 4\n", "");
    world.say(&alice(), &text);
    let to_bob = world.request(&bob(), "MESSAGE");
    let first = world.request(&diverter("bob"), "MESSAGE");
    world.say(&diverter("bob"), &divert(&first, "carol"));
    let to_carol = world.request(&carol, "MESSAGE");
    let second = world.request(&diverter("carol"), "MESSAGE");
    let breadths = [&to_bob, &first, &to_carol, &second].map(|sent| sent.get("Max-Breadth").to_owned());
    assert_eq!(breadths, ["2", "2", "1", "1"]);
    // All that may be open at once is open: two more telephones are too many.
    world.say(&diverter("carol"), &divert(&second, "alice"));
    let too_broad = world.status(&diverter("carol"), 440);
    world.nothing();
    // It is one answer among others: what a person says counts for more.
    let back = |refusal: &Sent| {
        let (start, rest) = refusal.text.split_once("\r\n").expect("a start line");
        let (_, rest) = rest.split_once("\r\n").expect("the Via of the one that diverted");
        format!("{start}\r\n{rest}")
    };
    world.say(&diverter("carol"), &back(&too_broad));
    world.say(&carol, &reply(&to_carol, 486, "c", "", ""));
    let refusal = world.status(&diverter("bob"), 486);
    world.say(&diverter("bob"), &back(&refusal));
    world.say(&bob(), &reply(&to_bob, 404, "b", "", ""));
    world.status(&alice(), 486);
    world.nothing();
    world.ends_empty();
}

#[test]
fn responses_come_to_the_worker_that_sent_the_request() {
    let mut world = World::with(2, |_| {});
    world.register(&bob());
    world.say(&alice(), &initial(&alice(), "MESSAGE", "bob", "", ""));
    let sent = world.request(&bob(), "MESSAGE");
    // The answer lands on the other worker's socket.
    world.say_to(1, &bob().flow, &reply(&sent, 200, "t", "", ""));
    world.status(&alice(), 200);
    assert_eq!(world.handed_over, 1);
    world.ends_empty();
}

#[test]
fn a_response_to_nothing_is_dropped() {
    let mut world = World::with(2, |_| {});
    let stray = "SIP/2.0 200 OK\nVia: SIP/2.0/UDP 203.0.113.2:5060;branch=z9hG4bKzzz\nVia: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bKy\n\
         From: <sip:a@b>;tag=1\nTo: <sip:c@d>;tag=2\nCall-ID: x\nCSeq: 1 INVITE\nContent-Length: 0\n\n";
    world.say(&bob(), &crlf(stray));
    world.nothing();
    assert_eq!(world.handed_over, 0);
}
