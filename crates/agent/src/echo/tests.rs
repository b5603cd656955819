use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use media::{AddressFamily, PortId, PortPair, Side};
use sip::{MessageBuf, Transport};

use super::*;

/// Relay ports that keep books.
#[derive(Clone, Default)]
struct Pool(Arc<Mutex<(u32, BTreeSet<PortId>)>>);

impl RelayPorts for Pool {
    fn allocate(&mut self, _: AddressFamily) -> Option<PortPair> {
        let (next, taken) = &mut *self.0.lock().unwrap();
        *next += 1;
        taken.insert(PortId(*next));
        let port = 30_000 + 2 * u16::try_from(*next).unwrap();
        Some(PortPair {
            id: PortId(*next),
            rtp: ([203, 0, 113, 10], port).into(),
        })
    }

    fn release(&mut self, id: PortId) {
        assert!(self.0.lock().unwrap().1.remove(&id), "{id:?} is released twice");
    }
}

impl Pool {
    fn taken(&self) -> usize {
        self.0.lock().unwrap().1.len()
    }
}

/// An echo, and the switch and caller in front of it.
struct Line {
    echo: EchoService,
    pool: Pool,
    now: Instant,
    serial: u32,
}

impl Line {
    fn new(config: EchoConfig) -> Self {
        let pool = Pool::default();
        let seed = [7; 16];
        #[allow(clippy::disallowed_methods)]
        let now = Instant::now();
        Line {
            echo: EchoService::new(config, Box::new(pool.clone()), 1, seed),
            pool,
            now,
            serial: 0,
        }
    }

    /// A request of call `call` with CSeq `number`; its responses and whatever else comes out.
    fn send(&mut self, call: u32, method: &str, number: u32, to_tag: &str, body: &str) -> Vec<MessageBuf> {
        self.serial += 1;
        let tag = if to_tag.is_empty() {
            String::new()
        } else {
            format!(";tag={to_tag}")
        };
        let content = if body.is_empty() {
            ""
        } else {
            "Content-Type: application/sdp\r\n"
        };
        let text = format!(
            "{method} sip:echo@example.org SIP/2.0\r\n\
             Via: SIP/2.0/LOCAL 203.0.113.10:5060;branch=z9hG4bKs{}\r\n\
             Record-Route: <sip:203.0.113.10;lr;tz=abc>\r\nMax-Forwards: 69\r\n\
             From: <sip:alice@example.org>;tag=a{call}\r\nTo: <sip:echo@example.org>{tag}\r\n\
             Call-ID: call-{call}\r\nCSeq: {number} {method}\r\nContact: <sip:alice@10.0.0.5>\r\n\
             {content}Content-Length: {}\r\n\r\n{body}",
            self.serial,
            body.len()
        );
        self.echo.handle_message(self.now, &flow(), text.as_bytes());
        self.sent()
    }

    /// What the echo has sent since.
    fn sent(&mut self) -> Vec<MessageBuf> {
        let outbox = self.echo.outbox();
        let sent = outbox.iter().map(|(to, bytes)| {
            assert_eq!(*to, flow(), "everything goes back to the switch");
            MessageBuf::parse(bytes).unwrap()
        });
        let sent = sent.collect();
        outbox.clear();
        sent
    }

    fn commands(&mut self) -> Vec<Command> {
        std::iter::from_fn(|| self.echo.poll_command()).collect()
    }

    /// Lets time pass; the times, in ms from the start, and the methods or statuses of what was sent.
    fn wait(&mut self, duration: Duration) -> Vec<(u128, String)> {
        let (start, end) = (self.now, self.now + duration);
        let mut log = Vec::new();
        while let Some(at) = self.echo.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.echo.handle_timeout(self.now);
            for sent in self.sent() {
                let m = sent.message();
                let what = if m.is_request() {
                    m.method().to_string()
                } else {
                    m.status().to_string()
                };
                log.push((self.now.duration_since(start).as_millis(), what));
            }
        }
        self.now = end;
        log
    }

    /// Sets up a call; the tag of the echo.
    fn call(&mut self, call: u32) -> String {
        let sent = self.send(call, "INVITE", 1, "", OFFER);
        assert_eq!(statuses(&sent), [200]);
        let tag = sent[0].message().to().unwrap().tag().unwrap().to_owned();
        assert!(self.send(call, "ACK", 1, &tag, "").is_empty());
        tag
    }
}

fn flow() -> Flow {
    Flow {
        transport: Transport::Local,
        local: ([203, 0, 113, 10], 5060).into(),
        remote: ([198, 51, 100, 7], 40_000).into(),
        connection: None,
    }
}

fn statuses(sent: &[MessageBuf]) -> Vec<u16> {
    sent.iter().map(|m| m.message().status()).collect()
}

fn body(m: &MessageBuf) -> String {
    String::from_utf8(m.message().body().to_vec()).unwrap()
}

const OFFER: &str =
    "v=0\r\no=- 1 1 IN IP4 10.0.0.5\r\ns=-\r\nc=IN IP4 10.0.0.5\r\nt=0 0\r\nm=audio 4000 RTP/AVP 8\r\n";

#[test]
fn call_is_answered_and_ended_by_the_caller() {
    let mut line = Line::new(EchoConfig::default());
    let sent = line.send(1, "INVITE", 1, "", OFFER);
    let answer = sent[0].message();
    assert_eq!(answer.status(), 200);
    assert!(
        body(&sent[0]).contains("m=audio 30002 RTP/AVP 8\r\n"),
        "{answer:?}"
    );
    assert_eq!(answer.values(HeaderId::RecordRoute).count(), 1);
    let tag = answer.to().unwrap().tag().unwrap().to_owned();
    assert!(line.send(1, "ACK", 1, &tag, "").is_empty());
    let commands = line.commands();
    assert!(matches!(&commands[0], Command::Open { side: Side::Caller, leg, .. } if leg.echo));
    assert!(matches!(&commands[1], Command::Confirm { .. }));
    assert!(commands[0].stream().session.is_local());
    assert!(!SessionId(0xff_ffff_ffff_ffff).is_local());
    assert_eq!((line.echo.calls(), line.pool.taken()), (1, 1));

    assert_eq!(statuses(&line.send(1, "BYE", 2, &tag, "")), [200]);
    assert!(matches!(line.commands()[..], [Command::Close { .. }]));
    assert_eq!((line.echo.calls(), line.pool.taken()), (0, 0));
    assert_eq!(statuses(&line.send(1, "BYE", 3, &tag, "")), [481]);
    assert_eq!(line.wait(Duration::from_secs(60)), []);
    assert_eq!(line.echo.poll_timeout(), None, "nothing is left");
}

#[test]
fn success_is_repeated_until_the_ack_and_the_call_is_given_up_without() {
    let mut line = Line::new(EchoConfig::default());
    assert_eq!(statuses(&line.send(1, "INVITE", 1, "", OFFER)), [200]);
    let log = line.wait(Duration::from_secs(40));
    let (byes, repeats): (Vec<_>, Vec<_>) = log.into_iter().partition(|(_, what)| what == "BYE");
    let seconds: Vec<_> = repeats.iter().map(|(at, _)| (at + 100) / 500).collect();
    assert_eq!(seconds, [1, 3, 7, 15, 23, 31, 39, 47, 55, 63], "T1 doubles to T2");
    assert_eq!(byes.len(), 1);
    assert!((32_000..32_050).contains(&byes[0].0), "{byes:?}");
    assert_eq!((line.echo.calls(), line.pool.taken()), (0, 0));
    line.wait(Duration::from_secs(40));
    assert_eq!(line.echo.poll_timeout(), None);
}

#[test]
fn ack_ends_the_repetitions() {
    let mut line = Line::new(EchoConfig::default());
    line.call(1);
    assert_eq!(line.wait(Duration::from_secs(60)), []);
    assert_eq!(line.echo.calls(), 1);
}

#[test]
fn late_offer_is_answered_in_the_ack() {
    let mut line = Line::new(EchoConfig::default());
    let sent = line.send(1, "INVITE", 1, "", "");
    assert!(body(&sent[0]).contains("a=rtpmap:8 PCMA/8000"));
    let tag = sent[0].message().to().unwrap().tag().unwrap().to_owned();
    assert_eq!(
        statuses(&line.send(1, "INVITE", 2, &tag, OFFER)),
        [491],
        "the answer to ours has not come"
    );
    assert!(line.send(1, "ACK", 2, &tag, "").is_empty());
    assert!(line.send(1, "ACK", 1, &tag, OFFER).is_empty());
    assert!(matches!(
        line.commands()[..],
        [Command::Open { .. }, Command::Confirm { .. }]
    ));
}

#[test]
fn late_offer_without_an_answer_ends_the_call() {
    let mut line = Line::new(EchoConfig::default());
    let sent = line.send(1, "INVITE", 1, "", "");
    let tag = sent[0].message().to().unwrap().tag().unwrap().to_owned();
    let sent = line.send(1, "ACK", 1, &tag, "");
    assert_eq!(sent[0].message().method(), Method::Bye);
    assert_eq!((line.echo.calls(), line.pool.taken()), (0, 0));
}

#[test]
fn hold_by_reinvite_and_resume_by_update() {
    let mut line = Line::new(EchoConfig::default());
    let tag = line.call(1);
    line.commands();
    let hold = format!("{OFFER}a=sendonly\r\n");
    let sent = line.send(1, "INVITE", 2, &tag, &hold);
    assert!(body(&sent[0]).ends_with("a=recvonly\r\n"));
    line.send(1, "ACK", 2, &tag, "");
    assert!(matches!(&line.commands()[0], Command::Update { leg, .. } if leg.held));
    let sent = line.send(1, "UPDATE", 3, &tag, OFFER);
    assert!(body(&sent[0]).ends_with("a=sendrecv\r\n"));
    assert!(matches!(&line.commands()[0], Command::Update { leg, .. } if !leg.held));
    assert_eq!(line.pool.taken(), 1, "the ports stay the same");
    assert_eq!(statuses(&line.send(1, "UPDATE", 4, &tag, "")), [200]);
    assert_eq!(
        statuses(&line.send(1, "UPDATE", 4, &tag, "")),
        [500],
        "an old CSeq"
    );
}

#[test]
fn silence_and_the_longest_time_end_a_call_with_a_reason() {
    let mut line = Line::new(EchoConfig {
        max_duration: Duration::from_secs(100),
        ..EchoConfig::default()
    });
    line.call(1);
    let stream = line.commands()[0].stream();
    let silence = Duration::from_secs(60);
    line.echo
        .handle_report(line.now, &Report::Timeout { stream, silence });
    let sent = line.sent();
    let bye = sent[0].message();
    assert_eq!(bye.method(), Method::Bye);
    assert_eq!(bye.request_uri(), "sip:alice@10.0.0.5");
    assert_eq!(
        bye.value(HeaderId::Route),
        Ok(Some("<sip:203.0.113.10;lr;tz=abc>"))
    );
    let reason = bye.reason_header().next().unwrap().unwrap();
    assert_eq!(reason.text(), Some("no media for 60 s"));
    assert_eq!(line.echo.calls(), 0);

    line.call(2);
    let log = line.wait(Duration::from_secs(101));
    assert_eq!(log.len(), 1);
    assert_eq!(log[0].1, "BYE");
    assert_eq!((line.echo.calls(), line.pool.taken()), (0, 0));
}

#[test]
fn what_cannot_be_echoed_is_refused() {
    let mut line = Line::new(EchoConfig {
        max_calls: 1,
        ..EchoConfig::default()
    });
    let video = OFFER.replace("audio", "video");
    assert_eq!(statuses(&line.send(1, "INVITE", 1, "", &video)), [488]);
    assert_eq!(statuses(&line.send(2, "INVITE", 1, "", "hello")), [400]);
    assert_eq!(statuses(&line.send(3, "MESSAGE", 1, "", "")), [405]);
    assert_eq!(statuses(&line.send(4, "OPTIONS", 1, "", "")), [200]);
    assert_eq!(statuses(&line.send(5, "BYE", 1, "nobody", "")), [481]);
    assert_eq!(statuses(&line.send(5, "CANCEL", 1, "", "")), [481]);
    assert_eq!((line.echo.calls(), line.pool.taken()), (0, 0));
    line.call(6);
    assert_eq!(statuses(&line.send(7, "INVITE", 1, "", OFFER)), [486]);
}

#[test]
fn request_with_the_tag_but_of_another_call_finds_nothing() {
    let mut line = Line::new(EchoConfig::default());
    let tag = line.call(1);
    assert_eq!(statuses(&line.send(2, "BYE", 2, &tag, "")), [481]);
    assert_eq!(line.echo.calls(), 1);
}
