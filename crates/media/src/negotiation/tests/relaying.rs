//! Which calls and lines are relayed, and by which address.

use super::*;

#[test]
fn each_side_gets_an_address_of_its_family() {
    let mut call = Call::new(RelayPolicy::Auto, IPV6);
    let branch = call.session.add_branch(CALLEE);
    let offer = call.says(
        branch,
        Role::Caller,
        Carrier::Invite,
        &audio("2001:db8:5::5", 4000),
    );
    let answer = call.says(branch, Role::Callee, Carrier::InviteSuccess, &audio(BOB, 5000));
    assert!(offer.contains("c=IN IP4 203.0.113.10\r\n"), "{offer}");
    assert!(answer.contains("c=IN IP6 2001:db8::10\r\n"), "{answer}");
    // Hold by the unspecified address crosses over as well.
    let hold = audio("2001:db8:5::5", 4000).replace("c=IN IP6 2001:db8:5::5", "c=IN IP6 ::");
    assert!(
        call.says(branch, Role::Caller, Carrier::Invite, &hold)
            .contains("c=IN IP4 0.0.0.0\r\n")
    );
    let hold = audio(BOB, 5000).replace("c=IN IP4 192.168.2.6", "c=IN IP4 0.0.0.0");
    assert!(
        call.says(branch, Role::Callee, Carrier::Invite, &hold)
            .contains("c=IN IP6 ::\r\n")
    );
}

#[test]
fn relay_without_ipv6_offers_what_it_has() {
    let mut call = Call::new(RelayPolicy::Auto, IPV6);
    call.pool.without_ipv6 = true;
    let branch = call.session.add_branch(CALLEE);
    call.says(
        branch,
        Role::Caller,
        Carrier::Invite,
        &audio("2001:db8:5::5", 4000),
    );
    let answer = call.says(branch, Role::Callee, Carrier::InviteSuccess, &audio(BOB, 5000));
    assert_eq!(target(&answer), "203.0.113.10:30000");
}

#[test]
fn rtcp_mux_needs_both() {
    for (other, agreed) in [("a=rtcp-mux\r\n", true), ("", false)] {
        let (mut call, branch) = Call::with_branch();
        let offer = audio_with(ALICE, 4000, "a=rtcp:4000\r\na=rtcp-mux\r\n");
        let told = call.says(branch, Role::Caller, Carrier::Invite, &offer);
        assert!(told.contains("a=rtcp:30002\r\na=rtcp-mux\r\n"), "{told}");
        call.says(
            branch,
            Role::Callee,
            Carrier::InviteSuccess,
            &audio_with(BOB, 5000, other),
        );
        let (caller, callee) = call.legs();
        assert_eq!((caller.rtcp_mux, callee.rtcp_mux), (agreed, agreed));
        assert_eq!(callee.rtcp.is_none(), agreed);
    }
}

#[test]
fn call_turns_into_a_fax_on_the_same_line_or_on_another() {
    let t38 = |address: &str, port: u16| {
        audio(address, port)
            .replace("m=audio", "m=image")
            .replace("RTP/AVP 8 101", "udptl t38")
    };
    let (mut call, branch) = Call::established();
    let offer = call.says(branch, Role::Callee, Carrier::Invite, &t38(BOB, 5010));
    assert!(offer.contains("m=image 30000 udptl t38\r\n"), "{offer}");
    call.says(branch, Role::Caller, Carrier::InviteSuccess, &t38(ALICE, 4010));
    let (caller, callee) = call.legs();
    assert_eq!(
        (caller.transport, callee.transport),
        (MediaTransport::Datagram, MediaTransport::Datagram)
    );
    assert_eq!(
        (caller.rtp, callee.rtp),
        (Some(addr("192.168.1.5:4010")), Some(addr("192.168.2.6:5010")))
    );
    assert_eq!(call.session.codec(), Some("t38"));

    let (mut call, branch) = Call::established();
    call.says(
        branch,
        Role::Callee,
        Carrier::Invite,
        &audio_with(BOB, 0, "m=image 5010 udptl t38\r\n"),
    );
    let answer = call.says(
        branch,
        Role::Caller,
        Carrier::InviteSuccess,
        &audio_with(ALICE, 0, "m=image 4010 udptl t38\r\n"),
    );
    assert!(
        answer.contains("m=audio 0 ") && answer.contains("m=image 30006 udptl"),
        "{answer}"
    );
    assert!(!call.legs().0.enabled);
    assert_eq!(call.session.codec(), Some("t38"));
}

#[test]
fn line_that_is_not_relayed_keeps_its_address() {
    let (mut call, branch) = Call::with_branch();
    let chat = "m=message 7394 TCP/MSRP *\r\na=path:msrp://192.168.1.5:7394/2s93i9ek2a;tcp\r\n";
    let told = call.says(
        branch,
        Role::Caller,
        Carrier::Invite,
        &audio_with(ALICE, 4000, chat),
    );
    assert!(
        told.contains("m=message 7394 TCP/MSRP *\r\nc=IN IP4 192.168.1.5\r\na=path:"),
        "{told}"
    );
    assert_eq!(call.session.streams().count(), 1);
    let only_chat = format!("v=0\r\nc=IN IP4 192.168.1.5\r\n{chat}");
    let branch = call.session.add_branch(CALLEE);
    assert_eq!(
        call.says(branch, Role::Caller, Carrier::Invite, &only_chat),
        only_chat
    );
}

#[test]
fn line_without_an_address_is_refused() {
    let (mut call, branch) = Call::with_branch();
    let offer = "v=0\r\no=- 1 1 IN IP4 1.2.3.4\r\ns=-\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";
    let result = call.try_says(branch, Role::Caller, Carrier::Invite, offer);
    assert_eq!(result, Err(Error::NoConnection { line: 1 }));
}

#[test]
fn own_port_as_address_is_not_believed() {
    let (mut call, branch) = Call::with_branch();
    call.says(branch, Role::Caller, Carrier::Invite, &audio(ALICE, 4000));
    call.says(
        branch,
        Role::Callee,
        Carrier::InviteSuccess,
        &audio("203.0.113.10", 30_000),
    );
    let (_, callee) = call.legs();
    assert_eq!(callee.rtp, None, "it would send to itself");
    assert_eq!(callee.rtcp, None);
}

#[test]
fn policies_decide_who_is_relayed() {
    let public = |address: &str| Party {
        signalling: ip(address),
        claimed: Some(ip(address)),
    };
    let relayed = |policy, caller: Party, callee: Party, described: &str| {
        let mut call = Call::new(policy, caller);
        let branch = call.session.add_branch(callee);
        let offer = audio(described, 4000);
        let told = call.says(branch, Role::Caller, Carrier::Invite, &offer);
        assert_eq!(told == offer, call.pool.taken.is_empty());
        told != offer
    };
    let (a, b) = (public("198.51.100.7"), public("192.0.2.50"));
    assert!(!relayed(RelayPolicy::Auto, a, b, "198.51.100.7"), "both public");
    assert!(
        relayed(RelayPolicy::Auto, a, b, "192.168.1.5"),
        "the caller describes itself as private"
    );
    assert!(
        relayed(RelayPolicy::Auto, a, b, "198.51.100.8"),
        "the caller's media are elsewhere"
    );
    assert!(
        relayed(RelayPolicy::Auto, a, CALLEE, "198.51.100.7"),
        "nothing is known of the callee"
    );
    assert!(relayed(
        RelayPolicy::Auto,
        a,
        Party {
            claimed: Some(ip("10.0.0.1")),
            ..b
        },
        "198.51.100.7"
    ));
    assert!(
        relayed(RelayPolicy::Auto, a, public("10.0.0.9"), "198.51.100.7"),
        "the callee is private"
    );
    assert!(
        relayed(RelayPolicy::Auto, a, public("2001:db8::9"), "198.51.100.7"),
        "another family"
    );
    assert!(relayed(RelayPolicy::Always, a, b, "198.51.100.7"));
    assert!(!relayed(RelayPolicy::Never, CALLER, CALLEE, "192.168.1.5"));
}

#[test]
fn direct_call_takes_to_the_relay_when_an_offer_needs_it() {
    let public = |address: &str| Party {
        signalling: ip(address),
        claimed: Some(ip(address)),
    };
    let mut call = Call::new(RelayPolicy::Auto, public("198.51.100.7"));
    let branch = call.session.add_branch(public("192.0.2.50"));
    call.says(
        branch,
        Role::Caller,
        Carrier::Invite,
        &audio("198.51.100.7", 4000),
    );
    call.says(
        branch,
        Role::Callee,
        Carrier::InviteSuccess,
        &audio("192.0.2.50", 5000),
    );
    call.session.confirmed(branch, &mut call.pool);
    assert_eq!((call.orders(), call.session.is_relayed()), (vec![], false));
    assert_eq!(call.session.codec(), Some("PCMA"), "known all the same");
    call.says(branch, Role::Callee, Carrier::Invite, &audio(BOB, 5000));
    call.says(
        branch,
        Role::Caller,
        Carrier::InviteSuccess,
        &audio("198.51.100.7", 4000),
    );
    assert!(call.session.is_relayed());
    assert_eq!(
        call.orders(),
        [
            "open 0 caller",
            "open 0 callee 0",
            "select 0 callee 0",
            "confirm 0",
            "update 0 caller",
            "update 0 callee 0"
        ]
    );
}
