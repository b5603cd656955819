use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;
use crate::command::{Formats, PortPair, SessionId};
use crate::sdp::MediaTransport;
use crate::testing::{addr, ip, rtcp, rtp, rtp_of, start};

const ID: StreamId = StreamId {
    session: SessionId(7),
    line: 0,
};
const CALLEE: Side = Side::Callee(Branch(0));

/// Alice behind NAT: her description is private, her signalling comes from 198.51.100.7.
const ALICE_DESCRIBED: &str = "192.168.1.5:4000";
const ALICE: &str = "198.51.100.7:61234";
/// Bob, public, signals from where he describes himself.
const BOB: &str = "192.0.2.50:5000";
const STRANGER: &str = "45.9.9.9:4000";

fn leg(port: u32, described: &str, signalling: &str) -> Leg {
    let rtp = described.parse::<SocketAddr>().ok();
    let mut formats = Formats::default();
    formats.insert(8, 8_000);
    formats.insert(101, 8_000);
    Leg {
        ports: PortPair {
            id: PortId(port),
            rtp: SocketAddr::new(ip("203.0.113.10"), 30_000 + 2 * port as u16),
        },
        transport: MediaTransport::Rtp,
        rtp,
        rtcp: rtp.map(|rtp| SocketAddr::new(rtp.ip(), rtp.port() + 1)),
        described: rtp.is_some(),
        signalling: ip(signalling),
        enabled: true,
        held: false,
        rtcp_mux: false,
        echo: false,
        formats,
    }
}

fn alice() -> Leg {
    leg(0, ALICE_DESCRIBED, "198.51.100.7")
}

fn bob() -> Leg {
    leg(1, BOB, "192.0.2.50")
}

struct Call {
    stream: Stream,
    now: Instant,
}

impl Call {
    /// Offered: Alice is known, Bob has been rung at.
    fn offered() -> Self {
        let now = start();
        let mut call = Call {
            stream: Stream::new(now, ID, StreamConfig::default()),
            now,
        };
        call.apply(Command::Open {
            stream: ID,
            side: Side::Caller,
            leg: alice(),
        });
        call.apply(Command::Open {
            stream: ID,
            side: CALLEE,
            leg: leg(1, "", "192.0.2.50"),
        });
        call
    }

    /// Answered, no packet yet.
    fn answered() -> Self {
        let mut call = Self::offered();
        call.update(Side::Caller, alice());
        call.update(CALLEE, bob());
        call.apply(Command::Select {
            stream: ID,
            branch: Branch(0),
        });
        call.apply(Command::Confirm { stream: ID });
        call
    }

    /// Both sides have sent enough to be locked.
    fn talking() -> Self {
        let mut call = Self::answered();
        call.talk(ALICE, 1, 8);
        call
    }

    fn apply(&mut self, command: Command) {
        self.stream.apply(self.now, command);
    }

    fn update(&mut self, side: Side, leg: Leg) {
        self.apply(Command::Update {
            stream: ID,
            side,
            leg,
        });
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
    }

    fn packet(&mut self, side: Side, component: Component, source: &str, packet: &[u8]) -> Action {
        self.stream
            .handle_packet(self.now, side, component, addr(source), &mut packet.to_vec())
    }

    fn from_caller(&mut self, source: &str, packet: &[u8]) -> Action {
        self.packet(Side::Caller, Component::Rtp, source, packet)
    }

    fn from_callee(&mut self, source: &str, packet: &[u8]) -> Action {
        self.packet(CALLEE, Component::Rtp, source, packet)
    }

    /// `count` packets each way; Alice's SSRC is 0xa, Bob's 0xb.
    fn talk(&mut self, alice: &str, first: u16, count: u16) {
        for sequence in first..first + count {
            assert_eq!(self.from_caller(alice, &rtp(0xa, sequence)), to_bob(BOB));
            assert_eq!(self.from_callee(BOB, &rtp(0xb, sequence)), to_alice(alice));
            self.wait(PTIME);
        }
    }
}

fn to_bob(destination: &str) -> Action {
    forward(CALLEE, 1, Component::Rtp, destination)
}

fn to_alice(destination: &str) -> Action {
    forward(Side::Caller, 0, Component::Rtp, destination)
}

fn forward(side: Side, port: u32, component: Component, destination: &str) -> Action {
    Action::Forward {
        side,
        port: PortId(port),
        component,
        destination: addr(destination),
    }
}

#[test]
fn first_word_is_not_lost() {
    let mut call = Call::answered();
    assert_eq!(
        call.from_caller(ALICE, &rtp(0xa, 1)),
        to_bob(BOB),
        "to the address of Bob's description"
    );
    assert_eq!(
        call.from_callee(BOB, &rtp(0xb, 1)),
        to_alice(ALICE),
        "to where Alice's packet came from"
    );
}

#[test]
fn nothing_goes_to_an_address_that_cannot_be_reached() {
    let mut call = Call::answered();
    assert_eq!(
        call.from_callee(BOB, &rtp(0xb, 1)),
        Action::Drop(DropReason::NoDestination)
    );
    assert_eq!(call.stream.counters().callee.packets, 1, "counted all the same");
}

#[test]
fn private_address_is_reached_by_a_relay_in_a_private_network() {
    let mut call = Call::answered();
    let mut leg = alice();
    leg.ports.rtp = addr("192.168.1.2:30000");
    call.update(Side::Caller, leg);
    assert_eq!(call.from_callee(BOB, &rtp(0xb, 1)), to_alice(ALICE_DESCRIBED));
}

#[test]
fn early_media_come_before_the_description() {
    let mut call = Call::offered();
    call.from_caller(ALICE, &rtp(0xa, 1));
    assert_eq!(call.from_callee("192.0.2.50:9999", &rtp(0xb, 1)), to_alice(ALICE));
    assert_eq!(
        call.from_caller(ALICE, &rtp(0xa, 2)),
        Action::Drop(DropReason::NoDestination),
        "Bob gets nothing before he has said where"
    );
}

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
                call.from_caller(ALICE, &rtp(0xa, sequence)),
                call.from_callee(BOB, &rtp(0xb, sequence)),
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
            call.from_caller(neighbour, &rtp(0xbad, round)),
            Action::Drop(DropReason::SourceLocked)
        );
        call.talk(ALICE, 9 + round, 1);
    }
    // Nor during a silence, without the SSRC or the sequence number.
    call.wait(Duration::from_secs(5));
    assert_eq!(
        call.from_caller(neighbour, &rtp(0xbad, 59)),
        Action::Drop(DropReason::SourceLocked)
    );
    assert_eq!(
        call.from_caller(neighbour, &rtp(0xa, 40_000)),
        Action::Drop(DropReason::SourceLocked)
    );
    assert_eq!(
        call.from_caller(neighbour, &rtp(0xa, 58)),
        Action::Drop(DropReason::SourceLocked),
        "a replay"
    );
    call.talk(ALICE, 59, 3);
}

#[test]
fn router_that_changes_its_mapping_is_followed_at_once() {
    let mut call = Call::talking();
    assert_eq!(
        call.from_caller("198.51.100.7:40001", &rtp(0xa, 9)),
        Action::Drop(DropReason::SourceLocked),
        "not while the old source sends"
    );
    call.wait(RELATCH_SILENCE);
    assert_eq!(call.from_caller("198.51.100.7:40001", &rtp(0xa, 10)), to_bob(BOB));
    assert_eq!(
        call.from_callee(BOB, &rtp(0xb, 9)),
        to_alice("198.51.100.7:40001")
    );
    assert_eq!(
        call.from_caller(ALICE, &rtp(0xa, 11)),
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
            call.from_caller(resumed, &rtp(0xaa, sequence)),
            Action::Drop(DropReason::Unconfirmed)
        );
    }
    assert_eq!(call.from_caller(resumed, &rtp(0xaa, 5)), to_bob(BOB));
    assert_eq!(call.from_callee(BOB, &rtp(0xb, 9)), to_alice(resumed));
}

#[test]
fn after_a_reinvite_a_source_that_goes_on_is_not_displaced() {
    let mut call = Call::talking();
    call.update(Side::Caller, alice());
    for sequence in 9..30 {
        assert!(matches!(
            call.from_caller("198.51.100.7:40002", &rtp(0xbad, sequence)),
            Action::Drop(_)
        ));
        call.talk(ALICE, sequence, 1);
    }
}

#[test]
fn last_packets_of_the_old_address_do_not_latch_again() {
    let mut call = Call::talking();
    call.update(Side::Caller, leg(0, "192.168.1.5:4002", "198.51.100.7"));
    assert_eq!(call.from_caller(ALICE, &rtp(0xa, 9)), to_bob(BOB), "still heard");
    assert_eq!(
        call.from_callee(BOB, &rtp(0xb, 9)),
        to_alice(ALICE),
        "and still the best that is known"
    );
    assert_eq!(call.from_caller("198.51.100.7:40003", &rtp(0xaa, 1)), to_bob(BOB));
    call.talk("198.51.100.7:40003", 10, 10);
    assert_eq!(
        call.from_caller(ALICE, &rtp(0xa, 10)),
        Action::Drop(DropReason::SourceLocked)
    );
}

#[test]
fn media_follow_a_changed_public_address_without_waiting() {
    let mut call = Call::talking();
    call.update(CALLEE, leg(1, "192.0.2.50:5002", "192.0.2.50"));
    assert_eq!(call.from_caller(ALICE, &rtp(0xa, 9)), to_bob("192.0.2.50:5002"));
    assert_eq!(
        call.from_callee(BOB, &rtp(0xb, 9)),
        to_alice(ALICE),
        "late packets from the old port"
    );
    assert_eq!(
        call.from_caller(ALICE, &rtp(0xa, 10)),
        to_bob("192.0.2.50:5002"),
        "do not turn it back"
    );
}

#[test]
fn handover_to_another_network_drops_the_old_source() {
    let mut call = Call::talking();
    call.update(Side::Caller, leg(0, "10.9.9.9:4000", "100.20.30.40"));
    assert_eq!(
        call.from_caller(ALICE, &rtp(0xa, 9)),
        Action::Drop(DropReason::ImplausibleSource)
    );
    assert_eq!(
        call.from_callee(BOB, &rtp(0xb, 9)),
        Action::Drop(DropReason::NoDestination)
    );
    assert_eq!(call.from_caller("100.20.30.40:7777", &rtp(0xa, 10)), to_bob(BOB));
    assert_eq!(
        call.from_callee(BOB, &rtp(0xb, 10)),
        to_alice("100.20.30.40:7777")
    );
}

#[test]
fn described_address_displaces_a_guess() {
    let mut call = Call::answered();
    assert!(matches!(
        call.from_callee("192.0.2.50:6666", &rtp(0xbb, 1)),
        Action::Drop(DropReason::NoDestination)
    ));
    assert_eq!(
        call.stream.source(CALLEE, Component::Rtp),
        Some(addr("192.0.2.50:6666"))
    );
    call.from_callee(BOB, &rtp(0xb, 1));
    assert_eq!(call.stream.source(CALLEE, Component::Rtp), Some(addr(BOB)));
    assert_eq!(
        call.from_callee("192.0.2.50:6666", &rtp(0xbb, 2)),
        Action::Drop(DropReason::Unconfirmed)
    );
}

#[test]
fn stray_packet_before_the_real_source_does_no_harm() {
    let mut call = Call::answered();
    call.from_caller("198.51.100.7:1111", &rtp(0xdead, 700));
    for sequence in 1..=u16::from(CONFIRMATIONS) {
        call.from_caller(ALICE, &rtp(0xa, sequence));
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
        call.from_caller(ALICE, &rtp_of(33, 1, 1, 0)),
        Action::Drop(DropReason::PayloadType)
    );
    assert!(matches!(
        call.from_callee(BOB, &rtp_of(33, 2, 1, 0)),
        Action::Drop(DropReason::NoDestination)
    ));
    assert_eq!(call.stream.source(CALLEE, Component::Rtp), Some(addr(BOB)));
    call.from_caller(ALICE, &rtp(0xa, 1));
    assert_eq!(
        call.from_caller(ALICE, &rtp_of(33, 0xa, 2, 0)),
        to_bob(BOB),
        "known sources may send what they like"
    );
}

#[test]
fn pool_of_a_carriers_nat_is_believed_only_if_configured() {
    let from_pool = "198.51.100.99:3333";
    let mut call = Call::answered();
    assert_eq!(
        call.from_caller(from_pool, &rtp(0xa, 1)),
        Action::Drop(DropReason::ImplausibleSource)
    );
    call.stream.config.nat_pool = true;
    assert_eq!(call.from_caller(from_pool, &rtp(0xa, 1)), to_bob(BOB));
    assert_eq!(
        call.from_caller(STRANGER, &rtp(0xa, 2)),
        Action::Drop(DropReason::ImplausibleSource)
    );
}

#[test]
fn rtcp_has_its_own_port_and_its_own_latch() {
    let mut call = Call::talking();
    let action = call.packet(Side::Caller, Component::Rtcp, "198.51.100.7:61999", &rtcp(0xa));
    assert_eq!(action, forward(CALLEE, 1, Component::Rtcp, "192.0.2.50:5001"));
    let action = call.packet(CALLEE, Component::Rtcp, "192.0.2.50:5001", &rtcp(0xb));
    assert_eq!(
        action,
        forward(Side::Caller, 0, Component::Rtcp, "198.51.100.7:61999")
    );
    assert_eq!(
        call.packet(CALLEE, Component::Rtcp, BOB, &rtp(0xb, 9)),
        Action::Drop(DropReason::NotMedia)
    );
    assert_eq!(call.stream.counters().caller.rtcp_packets, 1);
}

#[test]
fn rtcp_stays_on_the_rtp_port_where_that_is_agreed() {
    let mut call = Call::talking();
    for (side, mut leg) in [(Side::Caller, alice()), (CALLEE, bob())] {
        (leg.rtcp_mux, leg.rtcp) = (true, None);
        call.update(side, leg);
    }
    assert_eq!(call.from_caller(ALICE, &rtcp(0xa)), to_bob(BOB));
    assert_eq!(call.from_callee(BOB, &rtcp(0xb)), to_alice(ALICE));
}

#[test]
fn rtcp_on_the_rtp_port_finds_the_port_of_a_side_that_wants_it_apart() {
    let mut call = Call::talking();
    assert_eq!(
        call.from_caller(ALICE, &rtcp(0xa)),
        forward(CALLEE, 1, Component::Rtcp, "192.0.2.50:5001")
    );
}

#[test]
fn handshakes_pass_and_stun_does_not() {
    let dtls = [22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let zrtp = b"\x10\x00\x00\x01ZRTP\x00\x00\x00\x0a";
    let mut stun = [0u8; 20];
    stun[4..8].copy_from_slice(&[0x21, 0x12, 0xa4, 0x42]);
    let mut call = Call::answered();
    assert_eq!(call.from_caller(ALICE, &dtls), to_bob(BOB));
    assert_eq!(
        call.from_callee(BOB, &dtls),
        to_alice(ALICE),
        "the answer finds its way before any RTP"
    );
    assert_eq!(call.from_caller(ALICE, zrtp), to_bob(BOB));
    assert_eq!(call.from_caller(ALICE, &stun), Action::Drop(DropReason::Stun));
    assert_eq!(call.from_caller(ALICE, b""), Action::Drop(DropReason::NotMedia));
    assert_eq!(
        call.from_caller(STRANGER, &dtls),
        Action::Drop(DropReason::ImplausibleSource)
    );
}

#[test]
fn caller_hears_the_first_branch_with_media_until_one_is_selected() {
    let mut call = Call::offered();
    let other = Side::Callee(Branch(1));
    call.apply(Command::Open {
        stream: ID,
        side: other,
        leg: leg(2, "", "192.0.2.77"),
    });
    call.from_caller(ALICE, &rtp(0xa, 1));
    assert_eq!(
        call.packet(other, Component::Rtp, "192.0.2.77:7", &rtp(0xc, 1)),
        to_alice(ALICE)
    );
    assert_eq!(
        call.from_callee(BOB, &rtp(0xb, 1)),
        Action::Drop(DropReason::NotSelected)
    );
    call.apply(Command::Select {
        stream: ID,
        branch: Branch(0),
    });
    assert_eq!(call.from_callee(BOB, &rtp(0xb, 2)), to_alice(ALICE));
    assert_eq!(
        call.packet(other, Component::Rtp, "192.0.2.77:7", &rtp(0xc, 2)),
        Action::Drop(DropReason::NotSelected)
    );
    call.apply(Command::CloseLeg {
        stream: ID,
        side: CALLEE,
    });
    assert_eq!(
        call.from_callee(BOB, &rtp(0xb, 3)),
        Action::Drop(DropReason::Disabled)
    );
    assert_eq!(
        call.packet(other, Component::Rtp, "192.0.2.77:7", &rtp(0xc, 3)),
        to_alice(ALICE)
    );
}

fn fax(mut leg: Leg) -> Leg {
    leg.transport = MediaTransport::Datagram;
    leg
}

#[test]
fn fax_is_relayed_and_late_rtp_kept_from_it() {
    let mut call = Call::talking();
    call.update(Side::Caller, fax(alice()));
    call.update(CALLEE, fax(bob()));
    assert_eq!(
        call.from_caller(ALICE, &rtp(0xa, 9)),
        Action::Drop(DropReason::NotMedia)
    );
    assert_eq!(call.from_caller(ALICE, &[0, 0, 1, 6, 0]), to_bob(BOB));
    assert_eq!(
        call.from_callee(BOB, &[0, 0, 1, 6, 0]),
        to_alice(ALICE),
        "same address as before"
    );
    call.wait(GRACE);
    assert_eq!(
        call.from_caller(ALICE, &rtp(0x8001, 1)),
        to_bob(BOB),
        "UDPTL numbers reach 0x8000 in a long fax"
    );
    assert_eq!(
        call.packet(CALLEE, Component::Rtcp, BOB, &rtcp(1)),
        Action::Drop(DropReason::NotMedia)
    );
}

#[test]
fn fax_from_another_port_of_the_gateway_is_learnt() {
    let mut call = Call::talking();
    call.update(CALLEE, fax(leg(1, "192.0.2.50:5010", "192.0.2.50")));
    call.update(Side::Caller, fax(leg(0, "192.168.1.5:4010", "198.51.100.7")));
    assert_eq!(
        call.from_caller("198.51.100.7:50000", &[0, 0, 1, 6, 0]),
        to_bob("192.0.2.50:5010")
    );
    assert_eq!(
        call.from_callee("192.0.2.50:5010", &[0, 0, 1, 6, 0]),
        to_alice("198.51.100.7:50000")
    );
}

#[test]
fn echo_goes_back_to_its_source_with_another_ssrc() {
    let now = start();
    let mut stream = Stream::new(now, ID, StreamConfig::default());
    let leg = Leg {
        echo: true,
        ..alice()
    };
    stream.apply(
        now,
        Command::Open {
            stream: ID,
            side: Side::Caller,
            leg,
        },
    );
    let mut packet = rtp(0xa, 1);
    let action = stream.handle_packet(now, Side::Caller, Component::Rtp, addr(ALICE), &mut packet);
    assert_eq!(action, to_alice(ALICE));
    let echoed = rtp::Rtp::parse(&packet).unwrap();
    assert_eq!((echoed.ssrc(), echoed.sequence()), (!0xa, 1));
    let mut report = rtcp(0xa);
    assert_eq!(
        stream.handle_packet(now, Side::Caller, Component::Rtcp, addr(ALICE), &mut report),
        Action::Absorb
    );
    let action = stream.handle_packet(now, Side::Caller, Component::Rtp, addr(STRANGER), &mut packet);
    assert_eq!(
        action,
        Action::Drop(DropReason::ImplausibleSource),
        "no reflector for strangers"
    );
}

#[test]
fn silence_is_reported_once_and_its_end_too() {
    let mut call = Call::talking();
    let due = call.stream.poll_timeout().unwrap();
    call.stream.handle_timeout(due - Duration::from_millis(1));
    assert_eq!(call.stream.poll_report(), None);
    call.now = due;
    call.stream.handle_timeout(due);
    assert_eq!(
        call.stream.poll_report(),
        Some(Report::Timeout {
            stream: ID,
            silence: SILENCE
        })
    );
    assert_eq!(
        (call.stream.poll_report(), call.stream.poll_timeout()),
        (None, None)
    );
    call.from_caller(STRANGER, &rtp(0xbad, 1));
    assert_eq!(call.stream.poll_report(), None, "a stranger keeps no call alive");
    call.from_caller(ALICE, &rtp(0xa, 9));
    assert_eq!(call.stream.poll_report(), Some(Report::Resumed { stream: ID }));
    assert_eq!(call.stream.poll_timeout(), Some(due + SILENCE));
}

#[test]
fn held_call_is_given_an_hour() {
    let mut call = Call::talking();
    call.update(
        Side::Caller,
        Leg {
            held: true,
            ..alice()
        },
    );
    assert_eq!(call.stream.poll_timeout(), Some(call.now + HOLD_SILENCE));
    call.update(Side::Caller, alice());
    assert_eq!(call.stream.poll_timeout(), Some(call.now + SILENCE));
}

#[test]
fn ringing_call_and_disabled_line_have_no_timeout() {
    assert_eq!(Call::offered().stream.poll_timeout(), None);
    let mut call = Call::talking();
    call.update(
        Side::Caller,
        Leg {
            enabled: false,
            ..alice()
        },
    );
    call.update(
        CALLEE,
        Leg {
            enabled: false,
            ..bob()
        },
    );
    assert_eq!(call.stream.poll_timeout(), None);
    assert_eq!(
        call.from_caller(ALICE, &rtp(0xa, 9)),
        Action::Drop(DropReason::Disabled)
    );
}

#[test]
fn counters_come_on_demand_and_at_the_end() {
    let mut call = Call::talking();
    call.from_callee(STRANGER, &rtp(1, 1));
    call.apply(Command::Snapshot { stream: ID });
    let Some(Report::Counters { counters, .. }) = call.stream.poll_report() else {
        panic!("no counters")
    };
    assert_eq!(
        (
            counters.caller.packets,
            counters.caller.bytes,
            counters.caller.lost
        ),
        (8, 8 * 172, 0)
    );
    assert_eq!((counters.callee.packets, counters.callee.dropped.total()), (8, 1));
    assert_eq!(
        counters
            .caller
            .last
            .map(|last| last - counters.caller.first.unwrap()),
        Some(PTIME * 7)
    );
    call.apply(Command::Close { stream: ID });
    assert_eq!(
        call.stream.poll_report(),
        Some(Report::Ended { stream: ID, counters })
    );
    assert!(call.stream.is_closed());
    assert_eq!(
        call.from_caller(ALICE, &rtp(0xa, 9)),
        Action::Drop(DropReason::Disabled)
    );
}

#[test]
fn flood_is_cut_at_the_rate_limit() {
    let mut call = Call::talking();
    call.wait(Duration::from_secs(2));
    let passed = |call: &mut Call, count: u16| {
        (0..count)
            .filter(|&n| call.from_caller(ALICE, &rtp(0xa, 9 + n)) == to_bob(BOB))
            .count()
    };
    assert_eq!(passed(&mut call, 4_000), MAX_RATE as usize);
    call.wait(Duration::from_secs(1));
    assert_eq!(passed(&mut call, 50), 50);
}

#[test]
fn hold_by_the_unspecified_address_forgets_nothing() {
    let mut call = Call::talking();
    call.update(
        Side::Caller,
        Leg {
            rtp: None,
            rtcp: None,
            held: true,
            ..alice()
        },
    );
    call.wait(Duration::from_secs(300));
    call.update(Side::Caller, alice());
    call.talk(ALICE, 9, 5);
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
                    call.from_caller(&format!("198.51.100.7:{alice_port}"), &rtp(0xa, sequences[0]))
                }
                Step::BobSpeaks => {
                    sequences[1] += 1;
                    honest = Some(0);
                    call.from_callee(&format!("192.0.2.50:{bob_port}"), &rtp(0xb, sequences[1]))
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

    #[test]
    fn arbitrary_datagrams_never_panic(
        datagrams in proptest::collection::vec((any::<bool>(), any::<bool>(), proptest::collection::vec(any::<u8>(), 0..40)), 0..40),
    ) {
        let mut call = Call::answered();
        for (from_caller, component, datagram) in datagrams {
            let (side, source) = if from_caller { (Side::Caller, ALICE) } else { (CALLEE, BOB) };
            let component = if component { Component::Rtp } else { Component::Rtcp };
            call.packet(side, component, source, &datagram);
        }
    }
}

const PTIME: Duration = Duration::from_millis(20);
