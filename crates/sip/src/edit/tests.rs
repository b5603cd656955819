use super::*;
use crate::message::MessageBuf;

const REQUEST: &str = "INVITE sip:bob@biloxi.com SIP/2.0\r\n\
    Via: SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bKa;rport\r\n\
    v: SIP/2.0/UDP 192.0.2.8;branch=z9hG4bKb\r\n\
    Route: <sip:p1;lr>, <sip:p2;lr>\r\n\
    Route: <sip:p3;lr>\r\n\
    From: <sip:a@b>;tag=1\r\n\
    To: <sip:b@b>\r\n\
    Call-ID: x\r\n\
    X-Odd:  kept \t as is\r\n\
    CSeq: 1 INVITE\r\n\
    Max-Forwards: 70\r\n\
    Content-Type: text/plain\r\n\
    Content-Length: 2\r\n\
    \r\n\
    hi";

fn edited(text: &str, edit: impl FnOnce(&mut Edits, Message<'_>)) -> String {
    let owned = MessageBuf::parse(text).unwrap();
    let mut edits = Edits::new();
    edit(&mut edits, owned.message());
    let mut out = Vec::new();
    edits.write(owned.message(), &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn without_edits_nothing_changes() {
    assert_eq!(edited(REQUEST, |_, _| {}), REQUEST);
}

#[test]
fn a_forwarded_request_differs_only_where_asked() {
    let out = edited(REQUEST, |e, m| {
        e.set_request_uri(m, "sip:bob@192.0.2.4");
        e.fix_top_via(m, "203.0.113.7:1024".parse().unwrap());
        e.push_top(m, HeaderId::Via, |out| {
            out.extend_from_slice(b"SIP/2.0/UDP proxy;branch=z9hG4bKc")
        });
        e.pop_value(m, HeaderId::Route);
        e.push_top(m, HeaderId::RecordRoute, |out| {
            out.extend_from_slice(b"<sip:proxy;lr>")
        });
        e.decrement_max_forwards(m, 70);
    });
    let expected = REQUEST
        .replace("sip:bob@biloxi.com SIP", "sip:bob@192.0.2.4 SIP")
        .replace("Via: ", "Via: SIP/2.0/UDP proxy;branch=z9hG4bKc\r\nVia: ")
        .replace(";rport\r\n", ";rport=1024;received=203.0.113.7\r\n")
        .replace("Route: <sip:p1;lr>, ", "Record-Route: <sip:proxy;lr>\r\nRoute: ")
        .replace("Max-Forwards: 70", "Max-Forwards: 69");
    assert_eq!(out, expected);
}

#[test]
fn a_semicolon_at_the_end_of_a_via_does_not_end_up_in_its_middle() {
    let text = REQUEST.replace("z9hG4bKa;rport\r\n", "z9hG4bKa;\r\n");
    let out = edited(&text, |e, m| {
        e.fix_top_via(m, "203.0.113.7:1024".parse().unwrap())
    });
    assert!(
        out.contains("z9hG4bKa;received=203.0.113.7;rport=1024\r\n"),
        "{out}"
    );
}

#[test]
fn pop_value_goes_on_to_the_next_line() {
    for (count, left) in [
        (1, vec!["<sip:p2;lr>", "<sip:p3;lr>"]),
        (2, vec!["<sip:p3;lr>"]),
        (3, vec![]),
        (4, vec![]),
    ] {
        let out = edited(REQUEST, |e, m| {
            (0..count).for_each(|_| e.pop_value(m, HeaderId::Route))
        });
        let out = MessageBuf::parse(out).unwrap();
        assert_eq!(out.message().values(HeaderId::Route).collect::<Vec<_>>(), left);
    }
}

#[test]
fn a_new_body_brings_its_length() {
    let set = |text: &str, body: &str| edited(text, |e, m| e.set_part(m, &Part::whole(m), body.as_bytes()));
    let out = set(REQUEST, "");
    assert!(out.ends_with("Content-Type: text/plain\r\nContent-Length: 0\r\n\r\n"));
    assert!(set(&out, "longer than").ends_with("Content-Length: 11\r\n\r\nlonger than"));
    let without = REQUEST.replace("Content-Length: 2\r\n", "");
    assert!(set(&without, "v").ends_with("Content-Type: text/plain\r\nContent-Length: 1\r\n\r\nv"));
}

#[test]
fn pushed_lines_stack_and_appended_lines_queue() {
    let out = edited(REQUEST, |e, m| {
        e.push_top(m, HeaderId::RecordRoute, |out| out.extend_from_slice(b"<sip:1>"));
        e.push_top(m, HeaderId::RecordRoute, |out| out.extend_from_slice(b"<sip:2>"));
        e.append(m, "X-A", "1");
        e.append(m, "X-B", format_args!("{}", 2));
    });
    assert!(out.contains("Record-Route: <sip:2>\r\nRecord-Route: <sip:1>\r\n"));
    assert!(out.contains("X-A: 1\r\nX-B: 2\r\n\r\nhi"));
}

#[test]
fn the_last_of_several_replacements_counts() {
    let out = edited(REQUEST, |e, m| {
        e.set(m, HeaderId::Subject, "new");
        e.set_max_forwards(m, 9);
        e.set_max_forwards(m, 8);
        let tag = m.from().unwrap().tag().unwrap();
        e.replace_slice(m, tag, "other");
    });
    assert!(out.contains("Max-Forwards: 8\r\n") && !out.contains("Max-Forwards: 9"));
    assert!(out.contains("From: <sip:a@b>;tag=other\r\n"));
    assert!(out.contains("Subject: new\r\n\r\n"));
}

#[test]
fn a_removed_line_swallows_changes_inside_it() {
    let out = edited(REQUEST, |e, m| {
        e.fix_top_via(m, "203.0.113.7:1024".parse().unwrap());
        e.pop_value(m, HeaderId::Via);
    });
    assert_eq!(
        out,
        REQUEST.replace("Via: SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bKa;rport\r\n", "")
    );
}
