//! Who is believed, and who is not: the defence against CVE-2025-53399 and its kind.

use super::*;

/// The states in which a relay can be attacked.
fn states() -> Vec<(&'static str, Call)> {
    let mut silent = Call::talking();
    silent.wait(Duration::from_secs(30));
    let mut refreshed = Call::talking();
    refreshed.update(Side::Caller, alice());
    refreshed.update(CALLEE, bob());
    let mut moved = Call::talking();
    moved.update(Side::Caller, leg(0, "192.168.1.5:4002", "198.51.100.7"));
    moved.update(CALLEE, leg(1, "192.0.2.50:5002", "192.0.2.50"));
    let mut moved_long_ago = Call::talking();
    moved_long_ago.update(CALLEE, leg(1, "192.0.2.50:5002", "192.0.2.50"));
    moved_long_ago.wait(Duration::from_secs(10));
    let mut held = Call::talking();
    let on_hold = |mut leg: Leg| {
        (leg.held, leg.rtp, leg.rtcp) = (true, None, None);
        leg
    };
    held.update(Side::Caller, on_hold(alice()));
    held.update(CALLEE, on_hold(bob()));
    held.wait(Duration::from_secs(600));
    vec![
        ("offered", Call::offered()),
        ("before the first packet", Call::answered()),
        ("talking", Call::talking()),
        ("silent", silent),
        ("after a re-INVITE", refreshed),
        ("after a re-INVITE to another address", moved),
        ("long after one, without packets", moved_long_ago),
        ("on hold by 0.0.0.0", held),
    ]
}

#[test]
fn stranger_can_neither_inject_nor_make_the_relay_bleed_in_any_state() {
    for (state, mut call) in states() {
        for round in 0..20u16 {
            for side in [Side::Caller, CALLEE] {
                // With the SSRCs and sequence numbers of the call, as if he had heard them; and with his own.
                for packet in [
                    rtp(0xa, 9 + round),
                    rtp(0xb, 9 + round),
                    rtp(0xbad, round),
                    rtcp(0xa),
                    rtcp(0xbad),
                ] {
                    for component in [Component::Rtp, Component::Rtcp] {
                        let action = call.packet(side, component, STRANGER, &packet);
                        assert!(
                            matches!(action, Action::Drop(_)),
                            "injected at {side:?}, {state}: {action:?}"
                        );
                    }
                }
            }
            call.wait(PTIME);
        }
        assert!(
            call.stream
                .counters()
                .caller
                .dropped
                .get(DropReason::ImplausibleSource)
                >= 20,
            "{state}"
        );
        for side in [Side::Caller, CALLEE] {
            for component in [Component::Rtp, Component::Rtcp] {
                assert_ne!(
                    call.stream.source(side, component),
                    Some(addr(STRANGER)),
                    "{state}"
                );
            }
        }
        call.wait(GRACE);
        // The call goes on, and its media go where they went.
        for sequence in 40..60 {
            for action in [
                call.caller_sends(ALICE, &rtp(0xa, sequence)),
                call.callee_sends(BOB, &rtp(0xb, sequence)),
            ] {
                if let Action::Forward { destination, .. } = action {
                    assert_ne!(destination.ip(), ip("45.9.9.9"), "bleeds, {state}");
                }
            }
        }
        assert_eq!(
            call.stream.source(Side::Caller, Component::Rtp),
            Some(addr(ALICE)),
            "{state}"
        );
    }
}

#[test]
fn neighbour_behind_the_same_nat_cannot_take_over_a_call_that_runs() {
    let neighbour = "198.51.100.7:40000";
    let mut call = Call::talking();
    for round in 0..50 {
        assert_eq!(
            call.caller_sends(neighbour, &rtp(0xbad, round)),
            Action::Drop(DropReason::SourceLocked)
        );
        call.talk(ALICE, 9 + round, 1);
    }
    // Nor during a silence, without the SSRC or the sequence number.
    call.wait(Duration::from_secs(5));
    assert_eq!(
        call.caller_sends(neighbour, &rtp(0xbad, 59)),
        Action::Drop(DropReason::SourceLocked)
    );
    assert_eq!(
        call.caller_sends(neighbour, &rtp(0xa, 40_000)),
        Action::Drop(DropReason::SourceLocked)
    );
    assert_eq!(
        call.caller_sends(neighbour, &rtp(0xa, 58)),
        Action::Drop(DropReason::SourceLocked),
        "a replay"
    );
    call.talk(ALICE, 59, 3);
}

#[test]
fn router_that_changes_its_mapping_is_followed_at_once() {
    let mut call = Call::talking();
    assert_eq!(
        call.caller_sends("198.51.100.7:40001", &rtp(0xa, 9)),
        Action::Drop(DropReason::SourceLocked),
        "not while the old source sends"
    );
    call.wait(RELATCH_SILENCE);
    assert_eq!(
        call.caller_sends("198.51.100.7:40001", &rtp(0xa, 10)),
        to_bob(BOB)
    );
    assert_eq!(
        call.callee_sends(BOB, &rtp(0xb, 9)),
        to_alice("198.51.100.7:40001")
    );
    assert_eq!(
        call.caller_sends(ALICE, &rtp(0xa, 11)),
        Action::Drop(DropReason::SourceLocked)
    );
}

#[test]
fn reinvite_lets_another_port_of_the_same_phone_in() {
    let mut call = Call::talking();
    call.update(Side::Caller, alice());
    let resumed = "198.51.100.7:40002";
    for sequence in 1..u16::from(CONFIRMATIONS) {
        assert_eq!(
            call.caller_sends(resumed, &rtp(0xaa, sequence)),
            Action::Drop(DropReason::Unconfirmed)
        );
    }
    assert_eq!(call.caller_sends(resumed, &rtp(0xaa, 5)), to_bob(BOB));
    assert_eq!(call.callee_sends(BOB, &rtp(0xb, 9)), to_alice(resumed));
}

#[test]
fn after_a_reinvite_a_source_that_goes_on_is_not_displaced() {
    let mut call = Call::talking();
    call.update(Side::Caller, alice());
    for sequence in 9..30 {
        assert!(matches!(
            call.caller_sends("198.51.100.7:40002", &rtp(0xbad, sequence)),
            Action::Drop(_)
        ));
        call.talk(ALICE, sequence, 1);
    }
}

#[test]
fn last_packets_of_the_old_address_do_not_latch_again() {
    let mut call = Call::talking();
    call.update(Side::Caller, leg(0, "192.168.1.5:4002", "198.51.100.7"));
    assert_eq!(call.caller_sends(ALICE, &rtp(0xa, 9)), to_bob(BOB), "still heard");
    assert_eq!(
        call.callee_sends(BOB, &rtp(0xb, 9)),
        to_alice(ALICE),
        "and still the best that is known"
    );
    assert_eq!(
        call.caller_sends("198.51.100.7:40003", &rtp(0xaa, 1)),
        to_bob(BOB)
    );
    call.talk("198.51.100.7:40003", 10, 10);
    assert_eq!(
        call.caller_sends(ALICE, &rtp(0xa, 10)),
        Action::Drop(DropReason::SourceLocked)
    );
}

#[test]
fn media_follow_a_changed_public_address_without_waiting() {
    let mut call = Call::talking();
    call.update(CALLEE, leg(1, "192.0.2.50:5002", "192.0.2.50"));
    assert_eq!(call.caller_sends(ALICE, &rtp(0xa, 9)), to_bob("192.0.2.50:5002"));
    assert_eq!(
        call.callee_sends(BOB, &rtp(0xb, 9)),
        to_alice(ALICE),
        "late packets from the old port"
    );
    assert_eq!(
        call.caller_sends(ALICE, &rtp(0xa, 10)),
        to_bob("192.0.2.50:5002"),
        "do not turn it back"
    );
}

#[test]
fn handover_to_another_network_drops_the_old_source() {
    let mut call = Call::talking();
    call.update(Side::Caller, leg(0, "10.9.9.9:4000", "100.20.30.40"));
    assert_eq!(
        call.caller_sends(ALICE, &rtp(0xa, 9)),
        Action::Drop(DropReason::ImplausibleSource)
    );
    assert_eq!(
        call.callee_sends(BOB, &rtp(0xb, 9)),
        Action::Drop(DropReason::NoDestination)
    );
    assert_eq!(call.caller_sends("100.20.30.40:7777", &rtp(0xa, 10)), to_bob(BOB));
    assert_eq!(
        call.callee_sends(BOB, &rtp(0xb, 10)),
        to_alice("100.20.30.40:7777")
    );
}

#[test]
fn described_address_displaces_a_guess() {
    let mut call = Call::answered();
    assert!(matches!(
        call.callee_sends("192.0.2.50:6666", &rtp(0xbb, 1)),
        Action::Drop(DropReason::NoDestination)
    ));
    assert_eq!(
        call.stream.source(CALLEE, Component::Rtp),
        Some(addr("192.0.2.50:6666"))
    );
    call.callee_sends(BOB, &rtp(0xb, 1));
    assert_eq!(call.stream.source(CALLEE, Component::Rtp), Some(addr(BOB)));
    assert_eq!(
        call.callee_sends("192.0.2.50:6666", &rtp(0xbb, 2)),
        Action::Drop(DropReason::Unconfirmed)
    );
}

#[test]
fn stray_packet_before_the_real_source_does_no_harm() {
    let mut call = Call::answered();
    call.caller_sends("198.51.100.7:1111", &rtp(0xdead, 700));
    for sequence in 1..=u16::from(CONFIRMATIONS) {
        call.caller_sends(ALICE, &rtp(0xa, sequence));
    }
    assert_eq!(
        call.stream.source(Side::Caller, Component::Rtp),
        Some(addr(ALICE))
    );
}

#[test]
fn unnegotiated_payload_type_does_not_latch_unless_it_comes_from_the_described_address() {
    let mut call = Call::answered();
    assert_eq!(
        call.caller_sends(ALICE, &rtp_of(33, 1, 1, 0)),
        Action::Drop(DropReason::PayloadType)
    );
    assert_eq!(call.stream.source(Side::Caller, Component::Rtp), None);
    assert!(matches!(
        call.callee_sends(BOB, &rtp_of(33, 2, 1, 0)),
        Action::Drop(DropReason::NoDestination)
    ));
    assert_eq!(call.stream.source(CALLEE, Component::Rtp), Some(addr(BOB)));
    call.caller_sends(ALICE, &rtp(0xa, 1));
    assert_eq!(
        call.caller_sends(ALICE, &rtp_of(33, 0xa, 2, 0)),
        to_bob(BOB),
        "known sources may send what they like"
    );
}

#[test]
fn pool_of_a_carriers_nat_is_believed_only_if_configured() {
    let from_pool = "198.51.100.99:3333";
    let mut call = Call::answered();
    assert_eq!(
        call.caller_sends(from_pool, &rtp(0xa, 1)),
        Action::Drop(DropReason::ImplausibleSource)
    );
    call.stream.config.nat_pool = true;
    assert_eq!(call.caller_sends(from_pool, &rtp(0xa, 1)), to_bob(BOB));
    assert_eq!(
        call.caller_sends(STRANGER, &rtp(0xa, 2)),
        Action::Drop(DropReason::ImplausibleSource)
    );
}

/// What can happen to a call.
#[derive(Clone, Debug)]
enum Step {
    AliceSpeaks,
    BobSpeaks,
    /// From an address of his own, which is neither Alice's nor Bob's.
    StrangerSends {
        host: u8,
        to_caller: bool,
        component: bool,
        kind: u8,
        ahead: u16,
    },
    Time(u64),
    AliceReinvites {
        moves: bool,
    },
    BobReinvites {
        moves: bool,
    },
    RouterChangesMapping,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => Just(Step::AliceSpeaks),
        6 => Just(Step::BobSpeaks),
        6 => (any::<u8>(), any::<bool>(), any::<bool>(), 0u8..5, 0u16..4).prop_map(
            |(host, to_caller, component, kind, ahead)| Step::StrangerSends { host, to_caller, component, kind, ahead }
        ),
        3 => (0u64..5_000).prop_map(Step::Time),
        1 => any::<bool>().prop_map(|moves| Step::AliceReinvites { moves }),
        1 => any::<bool>().prop_map(|moves| Step::BobReinvites { moves }),
        1 => Just(Step::RouterChangesMapping),
    ];
    proptest::collection::vec(step, 1..120)
}

proptest! {
    /// Whatever strangers send and whenever: none of it gets through, nothing goes to them, and the two who talk are heard
    /// with every packet, but for the few by which a new port of theirs has to prove itself.
    #[test]
    fn strangers_are_never_heard_nor_do_they_hear_and_the_call_goes_on(steps in steps()) {
        let mut call = Call::answered();
        let (mut alice_port, mut alice_described, mut bob_port) = (61_234u16, 4_000u16, 5_000u16);
        let mut sequences = [100u16, 200];
        let mut unproven = 0u8;
        for step in steps {
            let mut honest = None;
            let action = match step {
                Step::Time(milliseconds) => {
                    call.wait(Duration::from_millis(milliseconds));
                    continue;
                }
                Step::AliceReinvites { moves } => {
                    if moves {
                        alice_described += 2;
                        alice_port += 7;
                        unproven = CONFIRMATIONS;
                    }
                    call.update(Side::Caller, leg(0, &format!("192.168.1.5:{alice_described}"), "198.51.100.7"));
                    continue;
                }
                Step::BobReinvites { moves } => {
                    bob_port += 2 * u16::from(moves);
                    call.update(CALLEE, leg(1, &format!("192.0.2.50:{bob_port}"), "192.0.2.50"));
                    continue;
                }
                Step::RouterChangesMapping => {
                    alice_port += 11;
                    unproven = CONFIRMATIONS;
                    call.wait(RELATCH_SILENCE);
                    continue;
                }
                Step::AliceSpeaks => {
                    sequences[0] += 1;
                    honest = Some(unproven);
                    unproven = unproven.saturating_sub(1);
                    call.caller_sends(&format!("198.51.100.7:{alice_port}"), &rtp(0xa, sequences[0]))
                }
                Step::BobSpeaks => {
                    sequences[1] += 1;
                    honest = Some(0);
                    call.callee_sends(&format!("192.0.2.50:{bob_port}"), &rtp(0xb, sequences[1]))
                }
                Step::StrangerSends { host, to_caller, component, kind, ahead } => {
                    // Neighbouring networks of both, and the ports that would be right.
                    let network = if host % 2 == 0 { "198.51.101" } else { "192.0.3" };
                    let port = if to_caller { alice_described } else { bob_port };
                    let packet = match kind {
                        0 => rtp(0xa, sequences[0] + ahead),
                        1 => rtp(0xb, sequences[1] + ahead),
                        2 => rtcp(0xa),
                        3 => vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
                        _ => rtp(0xbad, ahead),
                    };
                    let side = if to_caller { Side::Caller } else { CALLEE };
                    let component = if component { Component::Rtp } else { Component::Rtcp };
                    let action = call.packet(side, component, &format!("{network}.{host}:{port}"), &packet);
                    prop_assert!(matches!(action, Action::Drop(_)), "injected: {:?}", action);
                    action
                }
            };
            if let Action::Forward { destination, .. } = action {
                let known = [ip("198.51.100.7"), ip("192.0.2.50")];
                prop_assert!(known.contains(&destination.ip()), "bleeds to {}", destination);
            }
            if let (Some(unproven), Action::Drop(reason)) = (honest, action) {
                let waits_for_alice = reason == DropReason::NoDestination;
                prop_assert!(unproven > 0 || waits_for_alice, "the call is not heard: {}", reason);
            }
        }
    }
}
