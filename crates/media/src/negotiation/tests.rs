use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;
use crate::command::{Component, Leg, PortId, Side};
use crate::sdp::MediaTransport;
use crate::testing::{Pool, addr, ip};

mod forks;
mod phones;
mod properties;
mod relaying;

const CALLER: Party = Party {
    signalling: IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7)),
    claimed: None,
};
const CALLEE: Party = Party {
    signalling: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 50)),
    claimed: None,
};
const IPV6: Party = Party {
    signalling: IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 5, 0, 0, 0, 0, 5)),
    claimed: None,
};
const ALICE: &str = "192.168.1.5";
const BOB: &str = "192.168.2.6";

/// A call with its ports.
struct Call {
    session: Session,
    pool: Pool,
}

impl Call {
    fn new(policy: RelayPolicy, caller: Party) -> Self {
        Call {
            session: Session::new(SessionId(7), policy, caller),
            pool: Pool::default(),
        }
    }

    fn with_branch() -> (Self, Branch) {
        let mut call = Self::new(RelayPolicy::Auto, CALLER);
        let branch = call.session.add_branch(CALLEE);
        (call, branch)
    }

    /// Alice has called, Bob has answered with his first 2xx, the commands are taken.
    fn established() -> (Self, Branch) {
        let (mut call, branch) = Self::with_branch();
        call.says(branch, Role::Caller, Carrier::Invite, &audio(ALICE, 4000));
        call.says(branch, Role::Callee, Carrier::InviteSuccess, &audio(BOB, 5000));
        call.session.confirmed(branch, &mut call.pool);
        call.says(branch, Role::Caller, Carrier::Ack, "");
        call.commands();
        (call, branch)
    }

    fn try_says(&mut self, branch: Branch, from: Role, carrier: Carrier, sdp: &str) -> Result<String, Error> {
        let source = match from {
            Role::Caller => self.session.caller.signalling,
            Role::Callee => {
                self.session
                    .place(branch)
                    .map_or(CALLEE, |place| self.session.branches[place].callee)
                    .signalling
            }
        };
        let mut out = Vec::new();
        let result = self.session.rewrite(
            branch,
            from,
            carrier,
            source,
            sdp.as_bytes(),
            &mut self.pool,
            &mut out,
        )?;
        Ok(match result {
            Rewritten::Unchanged => {
                assert!(out.is_empty());
                sdp.to_owned()
            }
            Rewritten::Written => String::from_utf8(out).unwrap(),
        })
    }

    /// What the other end is told.
    fn says(&mut self, branch: Branch, from: Role, carrier: Carrier, sdp: &str) -> String {
        self.try_says(branch, from, carrier, sdp).unwrap()
    }

    fn commands(&mut self) -> Vec<Command> {
        std::iter::from_fn(|| self.session.poll_command()).collect()
    }

    /// The commands as "open 0 caller", "update 0 callee 0", …
    fn orders(&mut self) -> Vec<String> {
        let side = |side| match side {
            Side::Caller => "caller".to_owned(),
            Side::Callee(branch) => format!("callee {}", branch.0),
        };
        let describe = |command| match command {
            Command::Open { stream, side: of, .. } => format!("open {} {}", stream.line, side(of)),
            Command::Update { stream, side: of, .. } => format!("update {} {}", stream.line, side(of)),
            Command::Select { stream, branch } => format!("select {} callee {}", stream.line, branch.0),
            Command::Confirm { stream } => format!("confirm {}", stream.line),
            Command::CloseLeg { stream, side: of } => format!("close {} {}", stream.line, side(of)),
            Command::Close { stream } => format!("close {}", stream.line),
            Command::Snapshot { stream } => format!("snapshot {}", stream.line),
        };
        self.commands().into_iter().map(describe).collect()
    }

    /// The legs of the last Open or Update of each side of line 0.
    fn legs(&mut self) -> (Leg, Leg) {
        let (mut caller, mut callee) = (None, None);
        for command in self.commands() {
            if let Command::Open { side, leg, stream } | Command::Update { side, leg, stream } = command
                && stream.line == 0
            {
                *(if side == Side::Caller {
                    &mut caller
                } else {
                    &mut callee
                }) = Some(leg);
            }
        }
        (caller.unwrap(), callee.unwrap())
    }
}

fn audio(address: &str, port: u16) -> String {
    audio_with(address, port, "")
}

fn audio_with(address: &str, port: u16, more: &str) -> String {
    let family = if address.contains(':') { "IP6" } else { "IP4" };
    format!(
        "v=0\r\no=- 1 1 IN {family} {address}\r\ns=-\r\nc=IN {family} {address}\r\nt=0 0\r\n\
         m=audio {port} RTP/AVP 8 101\r\na=rtpmap:101 telephone-event/8000\r\n{more}"
    )
}

/// Address and port of the first m= line.
fn target(sdp: &str) -> String {
    let sdp = Sdp::parse(sdp.as_bytes()).unwrap();
    let media = &sdp.media()[0];
    format!("{}:{}", sdp.connection_of(media).unwrap().host, media.port)
}

#[test]
fn each_side_is_told_to_send_to_the_relay() {
    let (mut call, branch) = Call::with_branch();
    let offer = call.says(branch, Role::Caller, Carrier::Invite, &audio(ALICE, 4000));
    let answer = call.says(branch, Role::Callee, Carrier::InviteSuccess, &audio(BOB, 5000));
    assert_eq!(
        (target(&offer), target(&answer)),
        ("203.0.113.10:30002".into(), "203.0.113.10:30000".into())
    );
    assert!(
        offer.contains("o=- 1 1 IN IP4 192.168.1.5\r\n"),
        "o= is who it was"
    );
    call.session.confirmed(branch, &mut call.pool);
    assert_eq!(
        call.orders(),
        [
            "open 0 caller",
            "open 0 callee 0",
            "select 0 callee 0",
            "update 0 caller",
            "update 0 callee 0",
            "update 0 caller",
            "update 0 callee 0",
            "confirm 0"
        ]
    );
    assert_eq!(call.session.codec(), Some("PCMA"));
    assert_eq!(call.session.winner(), Some(branch));
}

#[test]
fn packet_side_learns_what_signalling_knows() {
    let (mut call, branch) = Call::with_branch();
    let opus = "a=rtpmap:97 opus/48000/2\r\na=rtcp:4007\r\n";
    call.says(
        branch,
        Role::Caller,
        Carrier::Invite,
        &audio_with(ALICE, 4000, opus).replace("8 101", "97 8 101"),
    );
    call.says(
        branch,
        Role::Callee,
        Carrier::InviteProvisional,
        &audio(BOB, 5000),
    );
    let (caller, callee) = call.legs();
    assert_eq!(
        (caller.rtp, caller.rtcp),
        (Some(addr("192.168.1.5:4000")), Some(addr("192.168.1.5:4007")))
    );
    assert_eq!(
        (caller.signalling, callee.signalling),
        (CALLER.signalling, CALLEE.signalling)
    );
    assert_eq!((caller.ports.id, callee.ports.id), (PortId(0), PortId(1)));
    assert_eq!(callee.rtcp, Some(addr("192.168.2.6:5001")));
    assert!(caller.described && caller.enabled && !caller.held && !caller.rtcp_mux);
    assert_eq!(
        (caller.formats.clock_rate(97), caller.formats.clock_rate(8)),
        (48_000, 8_000)
    );
    assert!(callee.formats.contains(97) && callee.formats.contains(101) && !callee.formats.contains(0));
}

#[test]
fn repeated_messages_come_out_the_same_and_change_nothing() {
    let (mut call, branch) = Call::with_branch();
    let (offer, answer) = (audio(ALICE, 4000), audio(BOB, 5000));
    let first = call.says(branch, Role::Caller, Carrier::Invite, &offer);
    let ringing = call.says(branch, Role::Callee, Carrier::InviteProvisional, &answer);
    call.commands();
    assert_eq!(
        call.says(branch, Role::Callee, Carrier::InviteProvisional, &answer),
        ringing
    );
    assert_eq!(
        call.says(branch, Role::Callee, Carrier::InviteSuccess, &answer),
        ringing
    );
    assert_eq!(call.orders(), [""; 0]);
    call.session.confirmed(branch, &mut call.pool);
    call.commands();
    assert_eq!(
        call.says(branch, Role::Callee, Carrier::InviteSuccess, &answer),
        ringing,
        "the 200 again"
    );
    assert_eq!(call.orders(), [""; 0]);
    assert_eq!(call.says(branch, Role::Caller, Carrier::Invite, &offer), first);
    assert_eq!(call.pool.taken.len(), 2);
}

#[test]
fn answer_of_the_200_counts_before_that_of_the_183() {
    let (mut call, branch) = Call::with_branch();
    call.says(branch, Role::Caller, Carrier::Invite, &audio(ALICE, 4000));
    call.says(
        branch,
        Role::Callee,
        Carrier::InviteProvisional,
        &audio(BOB, 5000),
    );
    let answer = call.says(branch, Role::Callee, Carrier::InviteSuccess, &audio(BOB, 6000));
    assert_eq!(
        target(&answer),
        "203.0.113.10:30000",
        "the caller's port stays, or early media would stop"
    );
    assert_eq!(call.legs().1.rtp, Some(addr("192.168.2.6:6000")));
}

#[test]
fn late_offer_is_answered_by_the_ack() {
    let (mut call, branch) = Call::with_branch();
    call.says(branch, Role::Caller, Carrier::Invite, "");
    let offer = call.says(branch, Role::Callee, Carrier::InviteSuccess, &audio(BOB, 5000));
    assert_eq!(
        call.says(branch, Role::Callee, Carrier::InviteSuccess, &audio(BOB, 5000)),
        offer
    );
    call.session.confirmed(branch, &mut call.pool);
    let opened = call.legs();
    assert!(!opened.0.described && opened.1.described);
    let answer = call.says(branch, Role::Caller, Carrier::Ack, &audio(ALICE, 4000));
    assert_eq!(
        (target(&offer), target(&answer)),
        ("203.0.113.10:30000".into(), "203.0.113.10:30002".into())
    );
    assert_eq!(call.legs().0.rtp, Some(addr("192.168.1.5:4000")));
    assert_eq!(
        call.says(branch, Role::Caller, Carrier::Ack, &audio(ALICE, 4000)),
        answer,
        "the ACK again"
    );
    assert_eq!(call.orders(), [""; 0]);
}

#[test]
fn late_offer_in_a_reliable_183_is_answered_by_the_prack() {
    let (mut call, branch) = Call::with_branch();
    call.says(branch, Role::Caller, Carrier::Invite, "");
    call.says(
        branch,
        Role::Callee,
        Carrier::InviteProvisional,
        &audio(BOB, 5000),
    );
    call.says(branch, Role::Caller, Carrier::Prack, &audio(ALICE, 4000));
    let (caller, callee) = call.legs();
    assert_eq!(
        (caller.rtp, callee.rtp),
        (Some(addr("192.168.1.5:4000")), Some(addr("192.168.2.6:5000")))
    );
    // The 200 repeats what the 183 said: no new offer.
    call.says(branch, Role::Callee, Carrier::InviteSuccess, &audio(BOB, 5000));
    call.session.confirmed(branch, &mut call.pool);
    call.says(branch, Role::Caller, Carrier::Ack, "");
    assert_eq!(call.legs().0.rtp, Some(addr("192.168.1.5:4000")));
}

#[test]
fn prack_and_update_carry_offers_of_their_own() {
    let (mut call, branch) = Call::with_branch();
    call.says(branch, Role::Caller, Carrier::Invite, &audio(ALICE, 4000));
    call.says(
        branch,
        Role::Callee,
        Carrier::InviteProvisional,
        &audio(BOB, 5000),
    );
    call.says(branch, Role::Caller, Carrier::Prack, &audio(ALICE, 4100));
    call.commands();
    call.says(branch, Role::Callee, Carrier::PrackSuccess, &audio(BOB, 5100));
    let (caller, callee) = call.legs();
    assert_eq!(
        (caller.rtp, callee.rtp),
        (Some(addr("192.168.1.5:4100")), Some(addr("192.168.2.6:5100")))
    );
    call.says(branch, Role::Callee, Carrier::Update, &audio(BOB, 5200));
    assert_eq!(call.orders(), [""; 0], "an offer changes nothing yet");
    call.says(branch, Role::Caller, Carrier::UpdateSuccess, &audio(ALICE, 4200));
    let (caller, callee) = call.legs();
    assert_eq!(
        (caller.rtp, callee.rtp),
        (Some(addr("192.168.1.5:4200")), Some(addr("192.168.2.6:5200")))
    );
    // The 200 to the INVITE still says what the 183 said: it is not news.
    call.says(branch, Role::Callee, Carrier::InviteSuccess, &audio(BOB, 5000));
    assert_eq!(call.orders(), [""; 0]);
}

#[test]
fn reinvite_counts_from_its_answer_and_keeps_the_ports() {
    for caller_asks in [true, false] {
        let (mut call, branch) = Call::established();
        let (asks, answers) = if caller_asks {
            (Role::Caller, Role::Callee)
        } else {
            (Role::Callee, Role::Caller)
        };
        let offer = call.says(branch, asks, Carrier::Invite, &audio("192.168.9.9", 7000));
        assert_eq!(call.orders(), [""; 0]);
        call.says(
            branch,
            answers,
            Carrier::InviteSuccess,
            &audio("192.168.8.8", 8000),
        );
        let (caller, callee) = call.legs();
        let (asking, answering) = if caller_asks {
            (caller, callee)
        } else {
            (callee, caller)
        };
        assert_eq!(asking.rtp, Some(addr("192.168.9.9:7000")));
        assert_eq!(answering.rtp, Some(addr("192.168.8.8:8000")));
        assert_eq!(
            target(&offer),
            if caller_asks {
                "203.0.113.10:30002"
            } else {
                "203.0.113.10:30000"
            }
        );
    }
}

#[test]
fn reinvite_without_an_offer_asks_the_other_side_for_one() {
    let (mut call, branch) = Call::established();
    call.says(branch, Role::Caller, Carrier::Invite, "");
    let offer = call.says(branch, Role::Callee, Carrier::InviteSuccess, &audio(BOB, 5600));
    assert_eq!(
        (target(&offer), call.orders()),
        ("203.0.113.10:30000".into(), vec![])
    );
    call.says(branch, Role::Caller, Carrier::Ack, &audio(ALICE, 4600));
    let (caller, callee) = call.legs();
    assert_eq!(
        (caller.rtp, callee.rtp),
        (Some(addr("192.168.1.5:4600")), Some(addr("192.168.2.6:5600")))
    );
}

#[test]
fn offer_that_nobody_answers_changes_nothing() {
    let (mut call, branch) = Call::established();
    call.says(branch, Role::Caller, Carrier::Invite, &audio(ALICE, 4600));
    call.says(branch, Role::Callee, Carrier::InviteSuccess, "");
    call.says(branch, Role::Caller, Carrier::Ack, "");
    // A session refresh without descriptions.
    call.says(branch, Role::Callee, Carrier::Update, "");
    call.says(branch, Role::Caller, Carrier::UpdateSuccess, "");
    assert_eq!(call.orders(), [""; 0]);
    assert_eq!(call.session.streams().count(), 1);
}

#[test]
fn refused_reinvite_leaves_no_trace() {
    let (mut call, branch) = Call::established();
    let video = "m=video 4004 RTP/AVP 96\r\n";
    call.says(
        branch,
        Role::Caller,
        Carrier::Invite,
        &audio_with(ALICE, 4000, video),
    );
    assert_eq!(
        call.orders(),
        [
            "open 1 caller",
            "open 1 callee 0",
            "select 1 callee 0",
            "confirm 1"
        ]
    );
    assert_eq!(call.pool.taken.len(), 4);
    call.session
        .failed(branch, Role::Caller, Transaction::Invite, &mut call.pool);
    assert_eq!(call.orders(), ["close 1"]);
    assert_eq!(call.pool.taken.len(), 2);
    // A late 200 of the refused one means nothing any more for what was agreed.
    assert_eq!(call.session.streams().count(), 1);
}

#[test]
fn reinvite_that_fails_after_a_provisional_answer_is_rolled_back() {
    let (mut call, branch) = Call::established();
    call.says(branch, Role::Caller, Carrier::Invite, &audio(ALICE, 4400));
    call.says(
        branch,
        Role::Callee,
        Carrier::InviteProvisional,
        &audio(BOB, 5500),
    );
    assert_eq!(call.legs().0.rtp, Some(addr("192.168.1.5:4400")));
    call.session
        .failed(branch, Role::Caller, Transaction::Invite, &mut call.pool);
    let (caller, callee) = call.legs();
    assert_eq!(
        (caller.rtp, callee.rtp),
        (Some(addr("192.168.1.5:4000")), Some(addr("192.168.2.6:5000")))
    );
}

#[test]
fn glare_ends_with_what_was_agreed_before() {
    let (mut call, branch) = Call::established();
    call.says(branch, Role::Caller, Carrier::Invite, &audio(ALICE, 4400));
    call.says(branch, Role::Callee, Carrier::Invite, &audio(BOB, 5500));
    call.session
        .failed(branch, Role::Caller, Transaction::Invite, &mut call.pool);
    call.session
        .failed(branch, Role::Callee, Transaction::Invite, &mut call.pool);
    assert_eq!(call.orders(), [""; 0]);
    // One of them tries again.
    call.says(branch, Role::Callee, Carrier::Invite, &audio(BOB, 5600));
    call.says(branch, Role::Caller, Carrier::InviteSuccess, &audio(ALICE, 4000));
    let (caller, callee) = call.legs();
    assert_eq!(
        (caller.rtp, callee.rtp),
        (Some(addr("192.168.1.5:4000")), Some(addr("192.168.2.6:5600")))
    );
}

#[test]
fn hold_in_all_its_forms_reaches_the_other_side_and_the_packet_side() {
    let forms = [
        audio_with(ALICE, 4000, "a=sendonly\r\n"),
        audio_with(ALICE, 4000, "a=inactive\r\n"),
        audio(ALICE, 4000).replace("c=IN IP4 192.168.1.5", "c=IN IP4 0.0.0.0"),
        audio(ALICE, 0),
    ];
    for form in forms {
        let (mut call, branch) = Call::established();
        let offer = call.says(branch, Role::Caller, Carrier::Invite, &form);
        let told = Sdp::parse(offer.as_bytes()).unwrap();
        assert!(told.is_held(&told.media()[0]), "{offer}");
        call.says(
            branch,
            Role::Callee,
            Carrier::InviteSuccess,
            &audio_with(BOB, 5000, "a=recvonly\r\n"),
        );
        let (caller, callee) = call.legs();
        assert!(caller.held && callee.held, "{form}");
        assert!(call.session.is_held());
        call.says(branch, Role::Caller, Carrier::Ack, "");

        let offer = call.says(branch, Role::Caller, Carrier::Invite, &audio(ALICE, 4000));
        assert_eq!(target(&offer), "203.0.113.10:30002");
        call.says(branch, Role::Callee, Carrier::InviteSuccess, &audio(BOB, 5000));
        let (caller, callee) = call.legs();
        assert!(
            !caller.held && !callee.held && caller.enabled && !call.session.is_held(),
            "resumed"
        );
    }
}

#[test]
fn end_gives_everything_back() {
    let (mut call, branch) = Call::established();
    call.says(
        branch,
        Role::Caller,
        Carrier::Invite,
        &audio_with(ALICE, 4000, "m=video 4004 RTP/AVP 96\r\n"),
    );
    call.commands();
    call.session.end(&mut call.pool);
    assert_eq!(call.orders(), ["close 0", "close 1"]);
    assert!(call.pool.taken.is_empty());
    call.session.end(&mut call.pool);
    assert_eq!(call.orders(), [""; 0]);
}

#[test]
fn used_up_ports_are_said_to_be_so_and_none_is_lost() {
    for limit in 0..4 {
        let (mut call, branch) = Call::with_branch();
        call.pool.limit = Some(limit);
        let offer = audio_with(ALICE, 4000, "m=video 4004 RTP/AVP 96\r\n");
        let result = call.try_says(branch, Role::Caller, Carrier::Invite, &offer);
        assert_eq!(result, Err(Error::NoPorts(AddressFamily::V4)));
        call.session.end(&mut call.pool);
        assert!(call.pool.taken.is_empty());
    }
}

#[test]
fn call_is_dead_when_all_its_lines_are_silent() {
    let (mut call, branch) = Call::established();
    let two =
        |address: &str, port: u16| audio_with(address, port, &format!("m=video {} RTP/AVP 96\r\n", port + 4));
    call.says(branch, Role::Caller, Carrier::Invite, &two(ALICE, 4000));
    call.says(branch, Role::Callee, Carrier::InviteSuccess, &two(BOB, 5000));
    let silence = Duration::from_secs(60);
    let stream = |line| StreamId {
        session: SessionId(7),
        line,
    };
    assert_eq!(
        call.session.handle_report(&Report::Timeout {
            stream: stream(1),
            silence
        }),
        None,
        "audio goes on"
    );
    assert_eq!(
        call.session.handle_report(&Report::Resumed { stream: stream(1) }),
        None
    );
    assert_eq!(
        call.session.handle_report(&Report::Timeout {
            stream: stream(0),
            silence
        }),
        None,
        "video goes on"
    );
    let dead = call.session.handle_report(&Report::Timeout {
        stream: stream(1),
        silence,
    });
    assert_eq!(dead, Some(SessionEvent::Dead { silence }));
}

#[test]
fn facts_and_packets_fit_together() {
    use crate::stream::{Action, Stream, StreamConfig};
    let (mut call, branch) = Call::with_branch();
    call.says(branch, Role::Caller, Carrier::Invite, &audio(ALICE, 4000));
    call.says(branch, Role::Callee, Carrier::InviteSuccess, &audio(BOB, 5000));
    call.session.confirmed(branch, &mut call.pool);
    let now = crate::testing::start();
    let mut stream = Stream::new(
        now,
        StreamId {
            session: SessionId(7),
            line: 0,
        },
        StreamConfig::default(),
    );
    call.commands()
        .into_iter()
        .for_each(|command| stream.apply(now, command));
    let mut from = |side, source: &str, ssrc| {
        let mut packet = crate::testing::rtp(ssrc, 1);
        stream.handle_packet(now, side, Component::Rtp, addr(source), &mut packet)
    };
    from(Side::Caller, "198.51.100.7:1234", 1);
    let action = from(Side::Callee(branch), "192.0.2.50:4321", 2);
    let Action::Forward {
        side,
        port,
        destination,
        ..
    } = action
    else {
        panic!("{action:?}")
    };
    assert_eq!(
        (side, port, destination),
        (Side::Caller, PortId(0), addr("198.51.100.7:1234"))
    );
    assert!(stream.poll_timeout().is_some());
}
