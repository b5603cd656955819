//! A telephone whose TCP connection is lost within a call, and that comes back over another one.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::server::Server;
use crate::site::{DOMAIN, Site};
use crate::wire::{Received, Request, Wire};

#[test]
fn a_phone_that_has_closed_its_connection_and_registers_by_another_one_is_hung_up_on_there() {
    call_over_two_connections(true, CONTACT);
}

#[test]
fn a_phone_whose_old_connection_nobody_has_closed_is_hung_up_on_over_the_new_one() {
    call_over_two_connections(false, CONTACT);
}

#[test]
fn a_phone_that_comes_back_with_another_contact_is_hung_up_on_as_well() {
    call_over_two_connections(true, "<sip:bob@192.168.1.20:50999;transport=tcp>");
}

fn call_over_two_connections(closes: bool, contact_afterwards: &str) {
    let site = Site::claim();
    let _server = Server::start(&site, &["alice", "bob"]);
    let caller = Wire::new(site.address(33), site.server());
    // Each connection may belong to another worker than the call.
    for round in 0..ROUNDS {
        let mut before = Line::registered(site.server(), CONTACT, round);
        let aor = format!("sip:bob@{DOMAIN}");
        let invite =
            Request::new("INVITE", "alice", &aor).with(format!("Contact: {}", caller.contact("alice")));
        caller.send(&caller.render(&invite));
        let ringing = before.request("INVITE");
        before.send(&ringing.respond(200, &[&format!("Contact: {CONTACT}")]));
        let answered = caller.final_response(PATIENCE);
        assert_eq!(answered.status(), 200, "{}", answered.text);
        let within = |method, sequence| {
            let mut routes: Vec<_> = answered
                .headers("Record-Route")
                .map(|route| format!("Route: {route}"))
                .collect();
            routes.reverse();
            Request {
                uri: CONTACT.trim_matches(['<', '>']).to_owned(),
                to: answered.header("To").expect("a response has a To").to_owned(),
                method,
                sequence,
                more: routes,
                ..invite.clone()
            }
        };
        caller.send(&caller.render(&within("ACK", 1)));
        before.request("ACK");

        let old = (!closes).then_some(before);
        let mut after = Line::registered(site.server(), contact_afterwards, round);
        caller.send(&caller.render(&within("BYE", 2)));
        let bye = after.request("BYE");
        after.send(&bye.respond(200, &[]));
        assert_eq!(caller.final_response(PATIENCE).status(), 200);
        after.register(&format!("{contact_afterwards};expires=0"), round);
        drop(old);
    }
}

/// A telephone on TCP.
struct Line {
    stream: TcpStream,
    received: Vec<u8>,
    sequence: u32,
}

impl Line {
    fn registered(server: SocketAddr, contact: &str, round: u32) -> Self {
        let stream = TcpStream::connect(server).expect("the server takes connections");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a timeout above zero is accepted");
        let mut line = Self {
            stream,
            received: Vec::new(),
            sequence: 0,
        };
        line.register(&format!("{contact};expires=300"), round);
        line
    }

    #[track_caller]
    fn register(&mut self, contact: &str, round: u32) {
        let local = self.stream.local_addr().expect("a connection has an address");
        let mut request = Request {
            to: format!("<sip:bob@{DOMAIN}>"),
            // Two connections of the same telephone, which counts on.
            call_id: format!("line-{}-{round}", local.port()),
            ..Request::new("REGISTER", "bob", &format!("sip:{DOMAIN}"))
        }
        .with(format!("Contact: {contact}"));
        for _ in 0..2 {
            self.sequence += 1;
            request.sequence = self.sequence;
            self.send(&format!(
                "REGISTER {} SIP/2.0\r\nVia: SIP/2.0/TCP {local};branch=z9hG4bK{}-{round}-{}\r\nMax-Forwards: 70\r\nFrom: {}\r\n\
                 To: {}\r\nCall-ID: {}\r\nCSeq: {} REGISTER\r\n{}\r\nContent-Length: 0\r\n\r\n",
                request.uri,
                local.port(),
                self.sequence,
                request.from,
                request.to,
                request.call_id,
                request.sequence,
                request.more.join("\r\n"),
            ));
            let response = self.receive();
            match response.authorization(&request, "bob") {
                Some(authorization) => request.more.push(authorization),
                None => return assert_eq!(response.status(), 200, "{}", response.text),
            }
        }
        panic!("challenged twice");
    }

    fn send(&mut self, text: &str) {
        self.stream
            .write_all(text.as_bytes())
            .expect("the connection is open");
    }

    #[track_caller]
    fn request(&mut self, method: &str) -> Received {
        let received = self.receive();
        assert!(
            received.text.starts_with(&format!("{method} ")),
            "expected {method}, found\n{}",
            received.text
        );
        received
    }

    /// The next message.
    #[track_caller]
    fn receive(&mut self) -> Received {
        loop {
            let text = String::from_utf8_lossy(&self.received).into_owned();
            if let Some(head) = text.find("\r\n\r\n").map(|end| end + 4) {
                let head_of = Received {
                    text: text[..head].to_owned(),
                };
                let length = head_of
                    .header("Content-Length")
                    .and_then(|value| value.parse::<usize>().ok());
                let end = head + length.expect("on a stream each message says how long it is");
                if text.len() >= end {
                    self.received.drain(..end);
                    return Received {
                        text: text[..end].to_owned(),
                    };
                }
            }
            let mut buffer = [0; 4096];
            let length = self.stream.read(&mut buffer).expect("a message within the time");
            assert!(length > 0, "the server closed the connection");
            self.received.extend_from_slice(&buffer[..length]);
        }
    }
}

const CONTACT: &str = "<sip:bob@192.168.1.20:50123;transport=tcp>";
const ROUNDS: u32 = 6;
const PATIENCE: Duration = Duration::from_secs(8);
