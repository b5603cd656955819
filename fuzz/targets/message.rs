//! Any bytes as a datagram and as a stream: read by every accessor, edited, answered, framed. Besides not panicking, a
//! message that has been edited by nobody leaves byte for byte, and what is written for a valid request is valid.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sip::frame::{Framed, Framer};
use sip::headers::Contacts;
use sip::{Edits, HeaderId, Index, Message, MessageBuf, Part, Response};

fuzz_target!(|bytes: &[u8]| {
    let mut index = Index::new();
    let parsed = index.parse(bytes);
    let m = Message::new(bytes, &index);
    read(m);
    let is_valid = parsed.is_ok() && m.validate_request().is_ok();
    write(m, is_valid);
    read(MessageBuf::from_message(m).message());
    stream(bytes);
});

fn read(m: Message<'_>) {
    let _ = (
        m.validate_request(),
        m.validate_response(),
        m.is_answerable(),
        m.method(),
        m.reason(),
        m.body(),
    );
    let _ = (
        m.cseq(),
        m.call_id(),
        m.max_forwards(),
        m.max_breadth(),
        m.expires(),
        m.min_expires(),
        m.retry_after(),
    );
    let _ = (
        m.session_expires(),
        m.min_se(),
        m.rseq(),
        m.rack(),
        m.date(),
        m.content_length(),
    );
    m.vias()
        .flatten()
        .for_each(|via| drop((via.host(), via.port(), via.has_magic_cookie())));
    for address in m
        .from()
        .into_iter()
        .chain(m.to())
        .chain(m.routes().flatten())
        .chain(m.record_routes().flatten())
    {
        let _ = (
            address.display_name(),
            address.tag(),
            address.q(),
            address.expires(),
            address.parsed_uri(),
        );
    }
    if let Ok(Contacts::List(list)) = m.contacts() {
        list.for_each(drop);
    }
    m.reason_header()
        .flatten()
        .for_each(|reason| drop((reason.cause(), reason.text())));
    for id in [HeaderId::Authorization, HeaderId::ProxyAuthorization] {
        m.credentials(id)
            .flatten()
            .for_each(|c| drop((c.is_digest(), c.param("nonce"), c.params.iter().count())));
    }
    for header in m.headers() {
        let _ = (m.values(header.id).count(), header.text());
    }
}

fn write(m: Message<'_>, is_valid: bool) {
    let mut edits = Edits::new();
    let mut out = Vec::new();
    edits.write(m, &mut out);
    assert_eq!(out, m.bytes());

    out.clear();
    let source = "203.0.113.7:1024".parse().expect("an address");
    edits.fix_top_via(m, source);
    edits.push_top(m, HeaderId::Via, |out| {
        out.extend_from_slice(b"SIP/2.0/UDP p;branch=z9hG4bKp")
    });
    edits.push_top(m, HeaderId::RecordRoute, |out| {
        out.extend_from_slice(b"<sip:p;lr>")
    });
    edits.pop_value(m, HeaderId::Route);
    edits.decrement_max_forwards(m, 70);
    let part = Part::find(m, "application/sdp").unwrap_or(Part::whole(m));
    edits.set_part(m, &part, b"v=0\r\n");
    edits.write(m, &mut out);
    if is_valid && out.len() <= sip::message::limits::MESSAGE_BYTES {
        match MessageBuf::parse(out.as_slice()) {
            Ok(forwarded) => {
                let f = forwarded.message();
                assert_eq!(
                    f.validate_request().err().map(|e| e.status).unwrap_or(483),
                    483,
                    "{f:?}"
                );
                assert_eq!(f.body(), b"v=0\r\n");
                assert_eq!(f.call_id(), m.call_id());
            }
            // Two lines and some parameters more may be too many.
            Err(error) => assert_eq!(error.status(), 513, "{error}"),
        }
    }

    out.clear();
    Response::new(m, 400).to_tag("t").source(source).write(&mut out);
    if is_valid && out.len() <= sip::message::limits::MESSAGE_BYTES {
        let response = MessageBuf::parse(out.as_slice()).expect("a response to a valid request");
        assert_eq!(response.message().cseq(), m.cseq());
        assert_eq!(
            response.message().top_via().map(|v| v.branch),
            m.top_via().map(|v| v.branch)
        );
    }
}

fn stream(bytes: &[u8]) {
    let mut framer = Framer::new();
    for piece in bytes.chunks(1 + bytes.len() / 3) {
        framer.push(piece);
        loop {
            match framer.next() {
                Ok(Some(Framed::Message(range))) => assert!(!framer.bytes(range).is_empty()),
                Ok(Some(Framed::Keepalive(_))) => {}
                Ok(None) => break,
                Err(error) => return drop((error.to_string(), error.head())),
            }
        }
    }
}
