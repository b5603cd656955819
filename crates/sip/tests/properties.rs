//! What holds for every input: no panic, nothing lost, untouched bytes kept.

use proptest::prelude::*;
use sip::frame::{Framed, Framer};
use sip::headers::Contacts;
use sip::message::{Index, Message};
use sip::{Edits, HeaderId, MessageBuf, Response, Uri};
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

/// The torture messages and an everyday INVITE.
static MESSAGES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut paths: Vec<_> = ["torture/rfc4475", "torture/rfc5118", "messages"]
        .iter()
        .flat_map(|directory| fs::read_dir(tests.join(directory)).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "sip"))
        .collect();
    paths.sort();
    paths.into_iter().map(|path| fs::read(path).unwrap()).collect()
});

/// Calls everything that parses. What it returns does not matter here.
fn look_at_everything(m: Message<'_>) {
    let _ = (
        m.validate_request(),
        m.validate_response(),
        m.is_answerable(),
        m.bytes(),
        m.body(),
    );
    let _ = (
        m.method(),
        m.parsed_request_uri().map(|u| (u.aor(), u.equivalent(&u))),
        m.status(),
        m.reason(),
    );
    let _ = (
        m.top_via()
            .map(|v| (v.port(), v.host().ip(), v.has_magic_cookie())),
        m.vias().count(),
    );
    for address in [m.from(), m.to()].into_iter().flatten() {
        let _ = (
            address.display_name(),
            address.tag(),
            address.q(),
            address.expires(),
        );
        let _ = address
            .parsed_uri()
            .map(|u| (u.aor(), u.header_fields().count(), u.equivalent(&u)));
    }
    let _ = (
        m.call_id(),
        m.cseq(),
        m.max_forwards(),
        m.max_breadth(),
        m.expires(),
        m.min_expires(),
    );
    let _ = (
        m.retry_after(),
        m.session_expires(),
        m.min_se(),
        m.rseq(),
        m.rack(),
        m.date(),
        m.content_length(),
    );
    if let Ok(Contacts::List(list)) = m.contacts() {
        list.for_each(drop);
    }
    m.routes()
        .chain(m.record_routes())
        .chain(m.paths())
        .for_each(drop);
    m.reason_header().for_each(|r| {
        let _ = r.map(|r| (r.cause(), r.text().is_some()));
    });
    for id in [HeaderId::Authorization, HeaderId::ProxyAuthorization] {
        m.credentials(id).for_each(|c| {
            let _ = c.map(|c| (c.param("realm").is_some(), c.params.iter().count()));
        });
    }
    for header in m.headers() {
        let _ = (
            m.values(header.id).count(),
            header.text(),
            m.header_named(header.name).is_some(),
        );
    }
    let _ = format!("{m:?}");
}

/// What validation has kept is what the accessors find.
fn compare_with_essentials(m: Message<'_>) {
    let checked = match m.is_request() {
        true => m.validate_request(),
        false => m.validate_response(),
    };
    let Ok(essentials) = checked else { return };
    let seen = |m: Message<'_>| {
        format!(
            "{:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?}",
            m.method(),
            m.parsed_request_uri(),
            m.top_via(),
            m.lower_vias().collect::<Vec<_>>(),
            (m.from(), m.from_uri(), m.from_tag()),
            (m.to(), m.to_uri(), m.to_tag()),
            m.call_id(),
            m.cseq(),
            m.is_request().then(|| m.max_forwards()),
            m.vias().skip(1).collect::<Vec<_>>(),
        )
    };
    assert_eq!(seen(m), seen(m.with(&essentials)));
}

fn edit_everything(m: Message<'_>) -> Vec<u8> {
    let mut edits = Edits::new();
    edits.set_request_uri(m, "sip:x");
    edits.fix_top_via(m, "[2001:db8::1]:5060".parse().unwrap());
    for id in [HeaderId::Via, HeaderId::Route, HeaderId::RecordRoute] {
        edits.push_top(m, id, |out| out.extend_from_slice(b"y"));
        edits.pop_value(m, id);
        edits.pop_value(m, id);
    }
    edits.decrement_max_forwards(m, 70);
    edits.set(m, HeaderId::Subject, "s");
    edits.remove_all(m, HeaderId::Other);
    edits.set_part(m, &sip::Part::whole(m), b"c");
    let mut out = Vec::new();
    edits.write(m, &mut out);
    Response::new(m, 400)
        .to_tag("t")
        .source("192.0.2.1:5".parse().unwrap())
        .write(&mut out);
    out
}

fn survive(bytes: &[u8]) {
    let mut index = Index::new();
    if let Err(error) = index.parse(bytes) {
        let _ = (error.to_string(), error.status());
    }
    let m = Message::new(bytes, &index);
    look_at_everything(m);
    compare_with_essentials(m);
    edit_everything(m);
    look_at_everything(MessageBuf::from_message(m).message());
}

/// A message with some bytes changed, removed, doubled or put elsewhere.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let interesting = prop::sample::select(b"\r\n \t:;,<>\"\\@=?/%[]*\0\x7f\x80\xff0a".to_vec());
    let change = (any::<prop::sample::Index>(), 0..5u8, interesting, 1..40usize);
    (any::<prop::sample::Index>(), prop::collection::vec(change, 1..8)).prop_map(|(which, changes)| {
        let mut bytes = which.get(&MESSAGES).clone();
        for (at, kind, byte, length) in changes {
            if bytes.is_empty() {
                break;
            }
            let at = at.index(bytes.len());
            let end = (at + length).min(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                2 => drop(bytes.drain(at..end)),
                3 => {
                    let copy = bytes[at..end].to_vec();
                    bytes.splice(at..at, copy);
                }
                _ => bytes.truncate(at),
            }
        }
        bytes
    })
}

/// Header lines that a forwarded request may hold, with names that edits do not touch.
fn extra_lines() -> impl Strategy<Value = Vec<(String, String)>> {
    let name = "X-[A-Za-z0-9!%*_+`'~.-]{1,12}";
    let value = "[!-~\u{e4}\u{4e2d}]([ -~\u{e4}\u{4e2d}]{0,40}[!-~])?(\r\n [!-~]{1,10}){0,2}";
    prop::collection::vec((name, value), 0..8)
}

fn request(lines: &[(String, String)], body: &[u8]) -> Vec<u8> {
    let mut text = String::from("INVITE sip:b@b SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bKa;rport\r\n");
    for (i, (name, value)) in lines.iter().enumerate() {
        text.push_str(&format!("{name}: {value}\r\n"));
        if i == 2 {
            text.push_str("Route: <sip:r1;lr>,<sip:r2;lr>\r\nMax-Forwards: 9\r\n");
        }
    }
    let rest = "From: <sip:a@a>;tag=1\r\nTo: <sip:b@b>\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\n";
    text.push_str(&format!("{rest}Content-Length: {}\r\n\r\n", body.len()));
    [text.as_bytes(), body].concat()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        survive(&bytes);
    }

    #[test]
    fn arbitrary_lines_are_survived(text in "(INVITE sip:a SIP/2.0|SIP/2.0 200 OK)\r\n([A-Za-z-]{1,14} ?:[ -~\r\n\t]{0,60}\r?\n){0,12}\r\n.{0,20}") {
        survive(text.as_bytes());
    }

    #[test]
    fn mutated_messages_are_survived(bytes in mutated()) {
        survive(&bytes);
    }

    #[test]
    fn arbitrary_uris_are_survived(text in "(sips?|tel|SIP|x):[!-~]{0,40}|\\PC{0,30}") {
        if let Ok(uri) = Uri::parse(&text) {
            prop_assert_eq!(uri.as_str(), &text);
            prop_assert!(uri.equivalent(&uri));
            let aor = uri.aor();
            prop_assert!(!aor.contains(char::is_control), "{:?}", aor);
        }
    }

    #[test]
    fn an_aor_is_its_own_aor(user in "[a-zA-Z0-9!~*'().&=+$,;?/-]{1,10}", host in "[a-zA-Z0-9-]{1,8}(\\.[a-z]{2,3})?") {
        if let Ok(uri) = Uri::parse(&format!("sip:{user}@{host}:5060;x=y")) {
            let aor = uri.aor();
            if let Ok(again) = Uri::parse(&format!("sip:{aor}")) {
                prop_assert_eq!(again.aor(), aor);
            }
        }
    }

    #[test]
    fn untouched_lines_and_body_leave_byte_for_byte(lines in extra_lines(), body in prop::collection::vec(any::<u8>(), 0..60)) {
        let bytes = request(&lines, &body);
        let owned = MessageBuf::parse(bytes.as_slice()).unwrap();
        let m = owned.message();
        prop_assert_eq!(m.bytes(), bytes.as_slice());
        let mut edits = Edits::new();
        let mut same = Vec::new();
        edits.write(m, &mut same);
        prop_assert_eq!(&same, &bytes);

        edits.set_request_uri(m, "sip:elsewhere");
        edits.fix_top_via(m, "192.0.2.1:5060".parse().unwrap());
        edits.push_top(m, HeaderId::Via, |out| out.extend_from_slice(b"SIP/2.0/UDP p;branch=z9hG4bKp"));
        edits.push_top(m, HeaderId::RecordRoute, |out| out.extend_from_slice(b"<sip:p;lr>"));
        edits.pop_value(m, HeaderId::Route);
        edits.decrement_max_forwards(m, 70);
        let mut out = Vec::new();
        edits.write(m, &mut out);

        let forwarded = MessageBuf::parse(out).unwrap();
        let f = forwarded.message();
        f.validate_request().unwrap();
        prop_assert_eq!(f.body(), body.as_slice());
        let untouched = |m: Message<'_>| -> Vec<(String, Vec<u8>)> {
            let touched = [HeaderId::Via, HeaderId::RecordRoute, HeaderId::Route, HeaderId::MaxForwards];
            m.headers().filter(|h| !touched.contains(&h.id)).map(|h| (h.name.to_owned(), h.value.to_vec())).collect()
        };
        prop_assert_eq!(untouched(f), untouched(m));
        prop_assert_eq!(f.request_uri(), "sip:elsewhere");
        prop_assert_eq!(f.vias().count(), 2);
        prop_assert_eq!(f.vias().nth(1).unwrap().unwrap().rport, Some(Some(5060)));
        prop_assert_eq!(f.routes().count(), m.routes().count().saturating_sub(1));
        prop_assert_eq!(f.max_forwards().unwrap(), Some(if m.max_forwards().unwrap().is_some() { 8 } else { 70 }));
    }

    #[test]
    fn responses_can_be_read_and_match_their_request(lines in extra_lines(), status in 100..700u16) {
        let owned = MessageBuf::parse(request(&lines, b"")).unwrap();
        let m = owned.message();
        let mut out = Vec::new();
        Response::new(m, status).to_tag("t").source("192.0.2.1:9".parse().unwrap()).body("a/b", b"hi").write(&mut out);
        let response = MessageBuf::parse(out).unwrap();
        let r = response.message();
        r.validate_response().unwrap();
        prop_assert_eq!((r.status(), r.method(), r.call_id(), r.cseq()), (status, m.method(), m.call_id(), m.cseq()));
        prop_assert_eq!(r.top_via().unwrap().branch, m.top_via().unwrap().branch);
        prop_assert_eq!(r.to().unwrap().tag(), (status != 100).then_some("t"));
        prop_assert_eq!(r.body(), b"hi");
    }

    #[test]
    fn a_stream_yields_the_same_messages_however_it_is_cut(
        which in prop::collection::vec((any::<prop::sample::Index>(), 0..3u8), 1..5),
        cuts in prop::collection::vec(1..200usize, 1..20),
    ) {
        // Only what says itself where it ends.
        let framable: Vec<_> = MESSAGES.iter().filter(|m| {
            let mut index = Index::new();
            let parsed = index.parse(m);
            let view = Message::new(m, &index);
            parsed.is_ok() && view.bytes() == m.as_slice() && view.content_length().is_ok_and(|l| l.is_some())
                && view.content_length().unwrap().unwrap() as usize == view.body().len()
                && view.headers_of(HeaderId::ContentLength).count() == 1
        }).collect();
        prop_assert!(framable.len() > 40);
        let mut stream = Vec::new();
        let mut expected = Vec::new();
        for (index, pings) in which {
            let message = *index.get(&framable);
            stream.extend_from_slice(&b"\r\n\r\n".repeat(pings.into()));
            stream.extend_from_slice(message);
            expected.push(message.clone());
        }
        let mut framer = Framer::new();
        let mut seen = Vec::new();
        let mut cuts = cuts.iter().cycle();
        let mut rest = stream.as_slice();
        while !rest.is_empty() {
            let (piece, left) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
            rest = left;
            framer.push(piece);
            while let Some(framed) = framer.next().unwrap() {
                if let Framed::Message(range) = framed {
                    seen.push(framer.bytes(range).to_vec());
                }
            }
        }
        prop_assert_eq!(seen, expected);
    }

    #[test]
    fn arbitrary_streams_are_survived(pieces in prop::collection::vec(prop_oneof![mutated(), prop::collection::vec(any::<u8>(), 0..20)], 1..6)) {
        let mut framer = Framer::new();
        'stream: for piece in pieces {
            framer.push(&piece);
            loop {
                match framer.next() {
                    Ok(Some(Framed::Message(range))) => survive(framer.bytes(range)),
                    Ok(Some(Framed::Keepalive(_))) => {}
                    Ok(None) => break,
                    Err(error) => {
                        let _ = (error.to_string(), error.status(), error.head().map(|head| framer.bytes(head).len()));
                        break 'stream;
                    }
                }
            }
        }
    }
}
