use sip::digest::{Algorithm, DigestCredentials, Ha1, Qop, write_challenge};
use sip::headers::Credentials;
use sip::{HeaderId, MessageBuf, Method};

use super::*;

/// Two telephones that call each other directly, over a network that loses what `lose` says.
struct Pair {
    phones: [Phone; 2],
    now: Instant,
    log: Vec<(usize, PhoneEvent)>,
    /// Start lines of all messages, lost ones among them.
    wire: Vec<String>,
    lose: Box<dyn FnMut(&str) -> bool>,
}

const ADDRESSES: [([u8; 4], u16); 2] = [([192, 0, 2, 1], 5060), ([192, 0, 2, 2], 5060)];

fn config(name: &str, own: usize, server: usize) -> PhoneConfig {
    let login = Login {
        username: name.to_owned(),
        password: format!("{name}'s"),
    };
    let (server, own) = (ADDRESSES[server].into(), ADDRESSES[own].into());
    PhoneConfig::new(login, "example.org", server, own)
}

impl Pair {
    fn new(answering: Answering) -> Self {
        let mut bob = config("bob", 1, 0);
        bob.answering = answering;
        #[allow(clippy::disallowed_methods)]
        let now = Instant::now();
        Pair {
            phones: [Phone::new(config("alice", 0, 1), 1), Phone::new(bob, 2)],
            now,
            log: Vec::new(),
            wire: Vec::new(),
            lose: Box::new(|_| false),
        }
    }

    fn call(&mut self) -> CallKey {
        self.phones[0].call(self.now, "sip:bob@192.0.2.2:5060", false)
    }

    fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            while self.deliver() {}
            let next = self.phones.iter().filter_map(Phone::poll_timeout).min();
            let Some(next) = next.filter(|next| *next <= end) else {
                break;
            };
            self.now = self.now.max(next);
            for phone in &mut self.phones {
                phone.handle_timeout(self.now);
            }
        }
        self.now = end;
    }

    fn deliver(&mut self) -> bool {
        let mut busy = false;
        for from in 0..2 {
            let mut sent = Outbox::new();
            std::mem::swap(self.phones[from].outbox(), &mut sent);
            let to = 1 - from;
            for (flow, bytes) in sent.iter() {
                busy = true;
                let line = String::from_utf8_lossy(bytes).lines().next().unwrap().to_owned();
                self.wire.push(line.clone());
                assert_eq!(flow.remote, ADDRESSES[to].into());
                if !(self.lose)(&line) {
                    let arrived = Flow {
                        local: flow.remote,
                        remote: flow.local,
                        ..*flow
                    };
                    self.phones[to].handle_message(self.now, &arrived, bytes);
                }
            }
            while let Some(packet) = self.phones[from].poll_media() {
                self.phones[to].handle_media(packet.remote, packet.local, &packet.bytes);
            }
            while let Some(event) = self.phones[from].poll_event() {
                assert!(!matches!(event, PhoneEvent::Misrouted { .. }), "{event:?}");
                self.log.push((from, event));
            }
        }
        busy
    }

    fn ends(&self) -> Vec<(usize, EndCause)> {
        let ends = self.log.iter().filter_map(|(who, event)| match event {
            PhoneEvent::Ended { cause, .. } => Some((*who, cause.clone())),
            _ => None,
        });
        ends.collect()
    }

    fn counts(&self) -> Vec<(usize, MediaCounts)> {
        let counts = self.log.iter().filter_map(|(who, event)| match event {
            PhoneEvent::Ended { media, .. } => Some((*who, *media)),
            _ => None,
        });
        counts.collect()
    }

    fn on_the_wire(&self, start: &str) -> usize {
        self.wire.iter().filter(|line| line.starts_with(start)).count()
    }

    fn assert_quiet(&mut self) {
        self.run(Duration::from_secs(120));
        for phone in &self.phones {
            assert_eq!((phone.calls().count(), phone.transactions()), (0, 0));
            assert_eq!(phone.poll_timeout(), None);
        }
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn call_is_answered_heard_on_both_sides_and_hung_up() {
    let mut pair = Pair::new(Answering::Accept(seconds(2)));
    let call = pair.call();
    pair.run(seconds(1));
    let bobs = pair.phones[1].calls().next().unwrap();
    assert!(pair.phones[1].is_ringing(bobs));
    assert!(pair.log.contains(&(0, PhoneEvent::Ringing { call })));
    pair.run(seconds(4));
    assert!(pair.log.contains(&(0, PhoneEvent::Answered { call })));
    assert!(pair.log.contains(&(1, PhoneEvent::Answered { call: bobs })));
    pair.phones[0].hang_up(pair.now, call);
    pair.assert_quiet();
    assert_eq!(pair.ends(), [(0, EndCause::Local), (1, EndCause::Remote(None))]);
    for (_, media) in pair.counts() {
        assert!(
            (140..160).contains(&media.received) && media.foreign == 0,
            "3 s of packets: {media:?}"
        );
    }
    let completed = |method, status| PhoneEvent::Completed { method, status };
    assert!(pair.log.contains(&(0, completed("INVITE", Some(200)))));
    assert!(pair.log.contains(&(0, completed("BYE", Some(200)))));
}

#[test]
fn caller_gives_up_and_the_ringing_stops() {
    let mut pair = Pair::new(Answering::Ring);
    let call = pair.call();
    pair.run(seconds(3));
    pair.phones[0].hang_up(pair.now, call);
    pair.assert_quiet();
    assert_eq!(pair.ends(), [(1, EndCause::Remote(None)), (0, EndCause::Local)]);
}

#[test]
fn refused_busy_and_unanswered_calls_end() {
    let mut pair = Pair::new(Answering::Refuse(603, seconds(1)));
    pair.call();
    pair.run(seconds(2));
    assert_eq!(pair.ends(), [(1, EndCause::Local), (0, EndCause::Failed(603))]);
    pair.phones[1].set_answering(Answering::Accept(seconds(0)));
    let first = pair.call();
    pair.run(seconds(1));
    pair.call();
    pair.run(seconds(1));
    assert_eq!(pair.ends().last(), Some(&(0, EndCause::Failed(486))));
    pair.phones[0].hang_up(pair.now, first);
    pair.assert_quiet();

    let mut pair = Pair::new(Answering::Ring);
    pair.call();
    pair.run(seconds(300));
    assert_eq!(pair.ends().len(), 2);
    pair.assert_quiet();
}

#[test]
fn call_into_the_void_fails_after_timer_b() {
    let mut pair = Pair::new(Answering::Ring);
    pair.lose = Box::new(|_| true);
    pair.call();
    pair.run(seconds(33));
    assert_eq!(pair.ends(), [(0, EndCause::Failed(408))]);
    assert_eq!(pair.on_the_wire("INVITE"), 7);
    pair.assert_quiet();
}

#[test]
fn lost_success_and_lost_ack_are_made_up_for() {
    let mut pair = Pair::new(Answering::Accept(seconds(1)));
    let (mut successes, mut acks) = (0, 0);
    pair.lose = Box::new(move |line| {
        successes += usize::from(line.starts_with("SIP/2.0 200"));
        acks += usize::from(line.starts_with("ACK"));
        (line.starts_with("SIP/2.0 200") && successes < 3) || (line.starts_with("ACK") && acks < 3)
    });
    let call = pair.call();
    pair.run(seconds(30));
    assert_eq!((pair.on_the_wire("SIP/2.0 200"), pair.on_the_wire("ACK")), (5, 3));
    pair.phones[0].hang_up(pair.now, call);
    pair.assert_quiet();
    assert_eq!(pair.ends(), [(0, EndCause::Local), (1, EndCause::Remote(None))]);
}

#[test]
fn callee_gives_up_without_an_ack() {
    let mut pair = Pair::new(Answering::Accept(seconds(1)));
    pair.lose = Box::new(|line| line.starts_with("ACK"));
    pair.call();
    pair.run(seconds(40));
    assert_eq!(pair.ends(), [(1, EndCause::NoAck), (0, EndCause::Remote(None))]);
    pair.assert_quiet();
}

#[test]
fn callee_who_hangs_up_before_the_ack_waits_for_it() {
    let mut pair = Pair::new(Answering::Accept(seconds(1)));
    let mut acks = 0;
    pair.lose = Box::new(move |line| {
        acks += usize::from(line.starts_with("ACK"));
        line.starts_with("ACK") && acks == 1
    });
    pair.call();
    pair.run(Duration::from_millis(1100));
    let bobs = pair.phones[1].calls().next().unwrap();
    pair.phones[1].hang_up(pair.now, bobs);
    assert_eq!(pair.on_the_wire("BYE"), 0);
    pair.assert_quiet();
    assert_eq!(pair.ends(), [(1, EndCause::Local), (0, EndCause::Remote(None))]);
    let order = |start: &str| pair.wire.iter().rposition(|line| line.starts_with(start));
    assert!(order("ACK") < order("BYE"));
}

#[test]
fn answer_that_crosses_the_cancel_is_acknowledged_and_hung_up() {
    let mut pair = Pair::new(Answering::Accept(seconds(1)));
    pair.lose = Box::new(|line| line.starts_with("CANCEL"));
    let call = pair.call();
    pair.run(Duration::from_millis(500));
    pair.phones[0].hang_up(pair.now, call);
    pair.assert_quiet();
    assert_eq!(pair.ends(), [(0, EndCause::Local), (1, EndCause::Remote(None))]);
    assert!(pair.on_the_wire("BYE") > 0);
}

#[test]
fn held_side_neither_sends_nor_hears_until_it_is_taken_back() {
    let mut pair = Pair::new(Answering::Accept(seconds(0)));
    let call = pair.call();
    pair.run(seconds(2));
    let bobs = pair.phones[1].calls().next().unwrap();
    pair.phones[0].hold(pair.now, call, true);
    pair.run(seconds(1));
    let status = 200;
    assert!(pair.log.contains(&(0, PhoneEvent::Renegotiated { call, status })));
    let heard = |pair: &Pair| {
        (
            pair.phones[0].media(call).unwrap().received,
            pair.phones[1].media(bobs).unwrap().received,
        )
    };
    let before = heard(&pair);
    pair.run(seconds(5));
    assert_eq!(heard(&pair), before);
    pair.phones[0].hold(pair.now, call, false);
    pair.run(seconds(5));
    let after = heard(&pair);
    assert!(
        after.0 > before.0 + 200 && after.1 > before.1 + 200,
        "{before:?} {after:?}"
    );
    pair.phones[1].hang_up(pair.now, bobs);
    pair.assert_quiet();
}

#[test]
fn glare_is_settled_by_waiting() {
    let mut pair = Pair::new(Answering::Accept(seconds(0)));
    let call = pair.call();
    pair.run(seconds(1));
    let bobs = pair.phones[1].calls().next().unwrap();
    pair.phones[0].hold(pair.now, call, true);
    pair.phones[1].hold(pair.now, bobs, true);
    pair.run(seconds(10));
    assert_eq!(pair.on_the_wire("SIP/2.0 491"), 2);
    let renegotiated = |(_, event): &&(usize, PhoneEvent)| matches!(event, PhoneEvent::Renegotiated { .. });
    assert_eq!(pair.log.iter().filter(renegotiated).count(), 2);
    pair.phones[0].hang_up(pair.now, call);
    pair.assert_quiet();
}

#[test]
fn late_offer_is_answered_in_the_ack() {
    let mut pair = Pair::new(Answering::Accept(seconds(0)));
    let call = pair.phones[0].call(pair.now, "sip:bob@192.0.2.2:5060", true);
    pair.run(seconds(2));
    pair.phones[0].hang_up(pair.now, call);
    pair.assert_quiet();
    assert!(pair.counts().iter().all(|(_, media)| media.received > 80));
}

#[test]
fn request_that_names_another_contact_is_reported() {
    let mut phone = Phone::new(config("bob", 1, 0), 1);
    #[allow(clippy::disallowed_methods)]
    let now = Instant::now();
    let flow = phone.server_flow();
    phone.handle_message(
        now,
        &flow,
        b"OPTIONS sip:bob@10.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\nMax-Forwards: 70\r\n\
        From: <sip:x>;tag=1\r\nTo: <sip:bob@192.0.2.2>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\n\r\n",
    );
    assert!(matches!(phone.poll_event(), Some(PhoneEvent::Misrouted { .. })));
}

/// A registrar of a few lines.
fn registrar(request: &MessageBuf, password: &str) -> Vec<u8> {
    let m = request.message();
    let credentials = m.header(HeaderId::Authorization).map(|h| h.text().unwrap());
    let known = credentials.is_some_and(|value| {
        let parsed = Credentials::parse(value).unwrap();
        let ha1 = Ha1::new(Algorithm::Sha256, "bob", "example.org", password);
        DigestCredentials::new(&parsed)
            .unwrap()
            .unwrap()
            .verify(&ha1, "REGISTER", b"")
    });
    let mut response = Vec::new();
    if !known {
        let mut lines = b"WWW-Authenticate: ".to_vec();
        write_challenge(
            &mut lines,
            "example.org",
            "n1",
            Algorithm::Sha256,
            &[Qop::Auth],
            false,
        );
        lines.extend_from_slice(b"\r\n");
        Response::new(m, 401)
            .to_tag("r")
            .lines(&lines)
            .write(&mut response);
        return response;
    }
    let contact = m.value(HeaderId::Contact).unwrap().unwrap();
    let expires = m.expires().unwrap().unwrap();
    let contact = format!("{contact};expires={expires}");
    let mut ok = Response::new(m, 200).to_tag("r");
    if expires > 0 {
        ok = ok.header(HeaderId::Contact, &contact);
    }
    ok.write(&mut response);
    response
}

/// Lets a telephone and the registrar talk; the CSeq numbers of the requests, and the events.
fn with_registrar(
    phone: &mut Phone,
    now: &mut Instant,
    duration: Duration,
    password: &str,
) -> (Vec<u32>, Vec<PhoneEvent>) {
    let end = *now + duration;
    let (mut numbers, mut events) = (Vec::new(), Vec::new());
    loop {
        let mut sent = Outbox::new();
        std::mem::swap(phone.outbox(), &mut sent);
        for (flow, bytes) in sent.iter() {
            let request = MessageBuf::parse(bytes).unwrap();
            assert_eq!(request.message().method(), Method::Register);
            numbers.push(request.message().cseq().unwrap().number);
            phone.handle_message(*now, flow, &registrar(&request, password));
        }
        events.extend(std::iter::from_fn(|| phone.poll_event()));
        if !phone.outbox().is_empty() {
            continue;
        }
        match phone.poll_timeout().filter(|at| *at <= end) {
            Some(at) => {
                *now = (*now).max(at);
                phone.handle_timeout(*now);
            }
            None => {
                *now = end;
                return (numbers, events);
            }
        }
    }
}

#[test]
fn registration_is_made_refreshed_and_removed() {
    let mut phone = Phone::new(config("bob", 1, 0), 3);
    #[allow(clippy::disallowed_methods)]
    let mut now = Instant::now();
    phone.register(now);
    let (numbers, events) = with_registrar(&mut phone, &mut now, seconds(10), "bob's");
    assert_eq!(numbers.len(), 2, "a challenge and its answer");
    assert!(events.contains(&PhoneEvent::Registered { expires: 3600 }));
    let (refreshes, _) = with_registrar(&mut phone, &mut now, seconds(2700), "bob's");
    assert_eq!(
        refreshes,
        [numbers[1] + 1],
        "at three quarters, with credentials at once"
    );
    phone.unregister(now);
    let (_, events) = with_registrar(&mut phone, &mut now, seconds(4000), "bob's");
    assert!(events.contains(&PhoneEvent::Unregistered));
    assert_eq!((phone.transactions(), phone.poll_timeout()), (0, None));
}

#[test]
fn wrong_password_is_tried_once_and_again_after_a_while() {
    let mut phone = Phone::new(config("bob", 1, 0), 3);
    #[allow(clippy::disallowed_methods)]
    let mut now = Instant::now();
    phone.register(now);
    let (numbers, events) = with_registrar(&mut phone, &mut now, seconds(29), "another");
    assert_eq!(numbers.len(), 2);
    assert!(events.contains(&PhoneEvent::RegistrationFailed { status: 401 }));
    let (numbers, _) = with_registrar(&mut phone, &mut now, seconds(2), "another");
    assert_eq!(
        numbers.len(),
        2,
        "the old credentials, then those for the new challenge"
    );
}
