//! Telephones: where they are, and what they say, as text. Lines are written with plain line feeds and sent with CRLF.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU32, Ordering};

use sip::{ConnectionId, Flow, Transport};

use crate::world::{DOMAIN, Sent, V4, V6, World, address};

#[derive(Clone, Debug)]
pub(crate) struct Phone {
    pub(crate) name: &'static str,
    pub(crate) flow: Flow,
    pub(crate) contact: String,
}

/// A telephone on UDP behind a NAT: its Contact is private.
pub(crate) fn udp(name: &'static str, remote: &str) -> Phone {
    let remote = address(remote);
    let local = address(if remote.is_ipv4() { V4 } else { V6 });
    Phone {
        name,
        flow: Flow {
            transport: Transport::Udp,
            local,
            remote,
            connection: None,
        },
        contact: format!("sip:{name}@10.0.0.{}:5062", remote.port() % 250 + 1),
    }
}

/// A telephone with a TCP connection.
pub(crate) fn tcp(name: &'static str, remote: &str, connection: u64) -> Phone {
    let mut phone = udp(name, remote);
    phone.flow.transport = Transport::Tcp;
    phone.flow.connection = NonZeroU64::new(connection).map(ConnectionId);
    phone.contact.push_str(";transport=tcp");
    phone
}

pub(crate) fn alice() -> Phone {
    udp("alice", "192.0.2.10:5060")
}

pub(crate) fn bob() -> Phone {
    udp("bob", "192.0.2.20:40000")
}

/// The second telephone of bob.
pub(crate) fn bob2() -> Phone {
    udp("bob", "192.0.2.21:40001")
}

pub(crate) fn crlf(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\n', "\r\n")
}

/// Text that occurs once in the test run.
pub(crate) fn unique() -> String {
    static COUNTER: AtomicU32 = AtomicU32::new(1);
    format!("u{}", COUNTER.fetch_add(1, Ordering::Relaxed))
}

/// A request with a new Via. `lines` has all other header fields, each with its line feed, but Max-Forwards and Content-Length.
pub(crate) fn request(phone: &Phone, method: &str, uri: &str, lines: &str, body: &str) -> String {
    let body = crlf(body);
    let transport = if phone.flow.transport == Transport::Tcp {
        "TCP"
    } else {
        "UDP"
    };
    let kind = if body.is_empty() {
        ""
    } else {
        "Content-Type: application/sdp\r\n"
    };
    let via = phone
        .contact
        .rsplit('@')
        .next()
        .and_then(|rest| rest.split(';').next());
    let head = crlf(&format!(
        "{method} {uri} SIP/2.0\nVia: SIP/2.0/{transport} {};branch=z9hG4bK{};rport\nMax-Forwards: 70\n{lines}",
        via.unwrap_or("10.0.0.1"),
        unique(),
    ));
    format!("{head}{kind}Content-Length: {}\r\n\r\n{body}", body.len())
}

/// A request outside a dialog to a user of the domain (or to a whole URI).
pub(crate) fn initial(phone: &Phone, method: &str, to: &str, lines: &str, body: &str) -> String {
    let uri = match to.contains(':') {
        true => to.to_owned(),
        false => format!("sip:{to}@{DOMAIN}"),
    };
    let lines = format!(
        "From: <sip:{}@{DOMAIN}>;tag=from-{}\nTo: <{uri}>\nCall-ID: {}\nCSeq: 10 {method}\nContact: <{}>\n{lines}",
        phone.name,
        phone.name,
        unique(),
        phone.contact
    );
    request(phone, method, &uri, &lines, body)
}

/// An INVITE with an offer.
pub(crate) fn invite(phone: &Phone, to: &str) -> String {
    initial(phone, "INVITE", to, "", &sdp("10.0.0.1", 4000, ""))
}

/// What the caller may send after his INVITE within its transaction: CANCEL, or the ACK to a refusal with `to_tag`.
pub(crate) fn hop(invite: &str, method: &str, to_tag: &str) -> String {
    let sent = text(invite);
    let tag = if to_tag.is_empty() {
        String::new()
    } else {
        format!(";tag={to_tag}")
    };
    let routes: String = sent
        .all("Route")
        .iter()
        .map(|route| format!("Route: {route}\n"))
        .collect();
    crlf(&format!(
        "{method} {} SIP/2.0\nVia: {}\nMax-Forwards: 70\n{routes}From: {}\nTo: {}{tag}\nCall-ID: {}\nCSeq: {} {method}\nContent-Length: 0\n\n",
        sent.uri(),
        sent.all("Via")[0],
        sent.get("From"),
        sent.get("To"),
        sent.get("Call-ID"),
        sent.get("CSeq").split(' ').next().unwrap_or_default(),
    ))
}

/// A response to a request as it came. `lines` as in [`request`].
pub(crate) fn reply(request: &Sent, status: u16, tag: &str, lines: &str, body: &str) -> String {
    let body = crlf(body);
    let mut head = format!("SIP/2.0 {status} Whatever\n");
    for name in ["Via", "Record-Route", "From", "To", "Call-ID", "CSeq"] {
        for value in request.all(name) {
            let tag = match name {
                "To" if !tag.is_empty() && !value.contains(";tag=") => format!(";tag={tag}"),
                _ => String::new(),
            };
            head.push_str(&format!("{name}: {value}{tag}\n"));
        }
    }
    let kind = if body.is_empty() {
        ""
    } else {
        "Content-Type: application/sdp\r\n"
    };
    let head = crlf(&format!("{head}{lines}"));
    format!("{head}{kind}Content-Length: {}\r\n\r\n{body}", body.len())
}

/// A 200 to an INVITE with the telephone's Contact and an answer.
pub(crate) fn accept(phone: &Phone, request: &Sent, tag: &str) -> String {
    let lines = format!("Contact: <{}>\n", phone.contact);
    reply(request, 200, tag, &lines, &sdp("10.0.0.2", 5000, ""))
}

/// One audio line, with further attribute lines.
pub(crate) fn sdp(ip: &str, port: u16, lines: &str) -> String {
    let family = if ip.contains(':') { "IP6" } else { "IP4" };
    format!(
        "v=0\no=- 1 1 IN {family} {ip}\ns=-\nc=IN {family} {ip}\nt=0 0\nm=audio {port} RTP/AVP 8\na=rtpmap:8 PCMA/8000\n{lines}"
    )
}

/// A message that did not leave but is looked into all the same.
pub(crate) fn text(text: &str) -> Sent {
    Sent {
        flow: alice().flow,
        text: text.to_owned(),
    }
}

/// A telephone's side of a dialog.
#[derive(Clone, Debug)]
pub(crate) struct Dialog {
    pub(crate) phone: Phone,
    pub(crate) local: String,
    pub(crate) remote: String,
    pub(crate) call_id: String,
    pub(crate) routes: Vec<String>,
    pub(crate) target: String,
    pub(crate) cseq: u32,
}

impl Dialog {
    /// The caller's side, after a response to his INVITE.
    pub(crate) fn caller(phone: &Phone, response: &Sent) -> Self {
        let mut routes = routes_of(response);
        routes.reverse();
        Dialog {
            phone: phone.clone(),
            local: response.get("From").to_owned(),
            remote: response.get("To").to_owned(),
            call_id: response.get("Call-ID").to_owned(),
            routes,
            target: uri_of(response.all("Contact").first().unwrap_or(&"")),
            cseq: 10,
        }
    }

    /// The callee's side of an INVITE that he answered with `tag`.
    pub(crate) fn callee(phone: &Phone, request: &Sent, tag: &str) -> Self {
        Dialog {
            phone: phone.clone(),
            local: format!("{};tag={tag}", request.get("To")),
            remote: request.get("From").to_owned(),
            call_id: request.get("Call-ID").to_owned(),
            routes: routes_of(request),
            target: uri_of(request.get("Contact")),
            cseq: 500,
        }
    }

    /// The next request.
    pub(crate) fn next(&mut self, method: &str, lines: &str, body: &str) -> String {
        if method != "ACK" {
            self.cseq += 1;
        }
        let routes: String = self
            .routes
            .iter()
            .map(|route| format!("Route: {route}\n"))
            .collect();
        let contact = match method {
            "INVITE" | "UPDATE" => format!("Contact: <{}>\n", self.phone.contact),
            _ => String::new(),
        };
        let lines = format!(
            "{routes}From: {}\nTo: {}\nCall-ID: {}\nCSeq: {} {method}\n{contact}{lines}",
            self.local, self.remote, self.call_id, self.cseq
        );
        request(&self.phone, method, &self.target, &lines, body)
    }
}

fn routes_of(message: &Sent) -> Vec<String> {
    let lines = message.all("Record-Route");
    lines
        .iter()
        .flat_map(|line| line.split(','))
        .map(|value| value.trim().to_owned())
        .collect()
}

pub(crate) fn uri_of(value: &str) -> String {
    let inner = value.split_once('<').map_or(value, |(_, rest)| rest);
    inner.split_once('>').map_or(inner, |(uri, _)| uri).to_owned()
}

/// An answered call between two registered telephones: both sides of its dialog, and the INVITE as the callee got it.
pub(crate) fn call(world: &mut World, caller: &Phone, callee: &Phone) -> (Dialog, Dialog, Sent) {
    world.say(caller, &invite(caller, callee.name));
    world.status(caller, 100);
    answer(world, caller, callee)
}

/// The callee has been sent an INVITE, and picks up; the caller acknowledges.
pub(crate) fn answer(world: &mut World, caller: &Phone, callee: &Phone) -> (Dialog, Dialog, Sent) {
    let invite = world.request(callee, "INVITE");
    let tag = format!("to-{}", callee.name);
    world.say(callee, &reply(&invite, 180, &tag, "", ""));
    world.status(caller, 180);
    world.say(callee, &accept(callee, &invite, &tag));
    let ok = world.status(caller, 200);
    let mut near = Dialog::caller(caller, &ok);
    world.say(caller, &near.next("ACK", "", ""));
    world.request(callee, "ACK");
    (near, Dialog::callee(callee, &invite, &tag), invite)
}
