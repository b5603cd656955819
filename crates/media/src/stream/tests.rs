use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;
use crate::command::{Formats, PortPair, SessionId};
use crate::sdp::MediaTransport;
use crate::testing::{addr, ip, rtcp, rtp, rtp_of, start};

mod latching;

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

    fn caller_sends(&mut self, source: &str, packet: &[u8]) -> Action {
        self.packet(Side::Caller, Component::Rtp, source, packet)
    }

    fn callee_sends(&mut self, source: &str, packet: &[u8]) -> Action {
        self.packet(CALLEE, Component::Rtp, source, packet)
    }

    /// `count` packets each way; Alice's SSRC is 0xa, Bob's 0xb.
    fn talk(&mut self, alice: &str, first: u16, count: u16) {
        for sequence in first..first + count {
            assert_eq!(self.caller_sends(alice, &rtp(0xa, sequence)), to_bob(BOB));
            assert_eq!(self.callee_sends(BOB, &rtp(0xb, sequence)), to_alice(alice));
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
        call.caller_sends(ALICE, &rtp(0xa, 1)),
        to_bob(BOB),
        "to the address of Bob's description"
    );
    assert_eq!(
        call.callee_sends(BOB, &rtp(0xb, 1)),
        to_alice(ALICE),
        "to where Alice's packet came from"
    );
}

#[test]
fn nothing_goes_to_an_address_that_cannot_be_reached() {
    let mut call = Call::answered();
    assert_eq!(
        call.callee_sends(BOB, &rtp(0xb, 1)),
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
    assert_eq!(call.callee_sends(BOB, &rtp(0xb, 1)), to_alice(ALICE_DESCRIBED));
}

#[test]
fn loopback_address_of_the_relay_is_not_sent_to() {
    let mut call = Call::answered();
    for signalling in ["198.51.100.7", "127.0.0.1"] {
        let mut leg = leg(0, "127.0.0.1:4000", signalling);
        leg.ports.rtp = addr("192.168.1.2:30000");
        call.update(Side::Caller, leg);
        let sent = call.callee_sends(BOB, &rtp(0xb, 1)) == to_alice("127.0.0.1:4000");
        assert_eq!(
            sent,
            signalling == "127.0.0.1",
            "unless the phone sits there as well"
        );
    }
}

#[test]
fn early_media_come_before_the_description() {
    let mut call = Call::offered();
    call.caller_sends(ALICE, &rtp(0xa, 1));
    assert_eq!(
        call.callee_sends("192.0.2.50:9999", &rtp(0xb, 1)),
        to_alice(ALICE)
    );
    assert_eq!(
        call.caller_sends(ALICE, &rtp(0xa, 2)),
        Action::Drop(DropReason::NoDestination),
        "Bob gets nothing before he has said where"
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
    assert_eq!(call.caller_sends(ALICE, &rtcp(0xa)), to_bob(BOB));
    assert_eq!(call.callee_sends(BOB, &rtcp(0xb)), to_alice(ALICE));
}

#[test]
fn rtcp_on_the_rtp_port_finds_the_port_of_a_side_that_wants_it_apart() {
    let mut call = Call::talking();
    assert_eq!(
        call.caller_sends(ALICE, &rtcp(0xa)),
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
    assert_eq!(call.caller_sends(ALICE, &dtls), to_bob(BOB));
    assert_eq!(
        call.callee_sends(BOB, &dtls),
        to_alice(ALICE),
        "the answer finds its way before any RTP"
    );
    assert_eq!(call.caller_sends(ALICE, zrtp), to_bob(BOB));
    assert_eq!(call.caller_sends(ALICE, &stun), Action::Drop(DropReason::Stun));
    assert_eq!(call.caller_sends(ALICE, b""), Action::Drop(DropReason::NotMedia));
    assert_eq!(
        call.caller_sends(STRANGER, &dtls),
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
    call.caller_sends(ALICE, &rtp(0xa, 1));
    assert_eq!(
        call.packet(other, Component::Rtp, "192.0.2.77:7", &rtp(0xc, 1)),
        to_alice(ALICE)
    );
    assert_eq!(
        call.callee_sends(BOB, &rtp(0xb, 1)),
        Action::Drop(DropReason::NotSelected)
    );
    call.apply(Command::Select {
        stream: ID,
        branch: Branch(0),
    });
    assert_eq!(call.callee_sends(BOB, &rtp(0xb, 2)), to_alice(ALICE));
    assert_eq!(
        call.packet(other, Component::Rtp, "192.0.2.77:7", &rtp(0xc, 2)),
        Action::Drop(DropReason::NotSelected)
    );
    call.apply(Command::CloseLeg {
        stream: ID,
        side: CALLEE,
    });
    assert_eq!(
        call.callee_sends(BOB, &rtp(0xb, 3)),
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
        call.caller_sends(ALICE, &rtp(0xa, 9)),
        Action::Drop(DropReason::NotMedia)
    );
    assert_eq!(call.caller_sends(ALICE, &[0, 0, 1, 6, 0]), to_bob(BOB));
    assert_eq!(
        call.callee_sends(BOB, &[0, 0, 1, 6, 0]),
        to_alice(ALICE),
        "same address as before"
    );
    call.wait(GRACE);
    assert_eq!(
        call.caller_sends(ALICE, &rtp(0x8001, 1)),
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
        call.caller_sends("198.51.100.7:50000", &[0, 0, 1, 6, 0]),
        to_bob("192.0.2.50:5010")
    );
    assert_eq!(
        call.callee_sends("192.0.2.50:5010", &[0, 0, 1, 6, 0]),
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
    let StreamCounters { caller, callee } = stream.counters();
    assert_eq!((caller.packets, callee.packets), (1, 1));
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
    call.caller_sends(STRANGER, &rtp(0xbad, 1));
    assert_eq!(call.stream.poll_report(), None, "a stranger keeps no call alive");
    call.caller_sends(ALICE, &rtp(0xa, 9));
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
        call.caller_sends(ALICE, &rtp(0xa, 9)),
        Action::Drop(DropReason::Disabled)
    );
}

#[test]
fn counters_come_on_demand_and_at_the_end() {
    let mut call = Call::talking();
    call.callee_sends(STRANGER, &rtp(1, 1));
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
        call.caller_sends(ALICE, &rtp(0xa, 9)),
        Action::Drop(DropReason::Disabled)
    );
}

#[test]
fn flood_is_cut_at_the_rate_limit() {
    let mut call = Call::talking();
    call.wait(Duration::from_secs(2));
    let passed = |call: &mut Call, count: u16| {
        (0..count)
            .filter(|&n| call.caller_sends(ALICE, &rtp(0xa, 9 + n)) == to_bob(BOB))
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

proptest! {
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
