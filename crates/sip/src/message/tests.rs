use super::*;

const INVITE: &str = "INVITE sip:bob@biloxi.com SIP/2.0\r\n\
    Via: SIP/2.0/UDP pc33.atlanta.com;branch=z9hG4bK776asdhds\r\n\
    Max-Forwards: 70\r\n\
    To: Bob <sip:bob@biloxi.com>\r\n\
    From: Alice <sip:alice@atlanta.com>;tag=1928301774\r\n\
    Call-ID: a84b4c76e66710@pc33.atlanta.com\r\n\
    CSeq: 314159 INVITE\r\n\
    Contact: <sip:alice@pc33.atlanta.com>\r\n\
    Content-Type: application/sdp\r\n\
    Content-Length: 4\r\n\
    \r\n\
    v=0\n";

fn parse(text: impl Into<Vec<u8>>) -> MessageBuf {
    MessageBuf::parse(text).unwrap()
}

/// The example with one header line replaced, or added if `old` is empty.
fn invite(old: &str, new: &str) -> String {
    let text = if old.is_empty() {
        INVITE.replace("Max-F", &format!("{new}\r\nMax-F"))
    } else {
        INVITE.replace(old, new)
    };
    assert_ne!(text, INVITE);
    text
}

fn refused(text: impl Into<Vec<u8>>) -> (u16, &'static str) {
    let invalid = parse(text).message().validate_request().unwrap_err();
    (invalid.status, invalid.reason)
}

#[test]
fn the_example_of_rfc3261_is_read() {
    let owned = parse(INVITE);
    let m = owned.message();
    m.validate_request().unwrap();
    assert_eq!(m.method(), Method::Invite);
    assert_eq!(m.request_uri(), "sip:bob@biloxi.com");
    let via = m.top_via().unwrap();
    assert_eq!(
        (via.transport, via.sent_by_host, via.branch),
        ("UDP", "pc33.atlanta.com", Some("z9hG4bK776asdhds"))
    );
    assert_eq!(m.from().unwrap().tag(), Some("1928301774"));
    assert_eq!(m.to().unwrap().display, Some("Bob"));
    assert_eq!(
        m.cseq().unwrap(),
        CSeq {
            number: 314159,
            method: Method::Invite
        }
    );
    assert_eq!(m.max_forwards().unwrap(), Some(70));
    assert_eq!(m.body(), b"v=0\n");
    assert!(m.is_content_type("application/sdp"));
    assert_eq!((m.status(), m.reason()), (0, ""));
}

#[test]
fn a_response_is_read() {
    let text = INVITE.replace("INVITE sip:bob@biloxi.com SIP/2.0", "SIP/2.0 486 Busy Here");
    let owned = parse(text);
    let m = owned.message();
    m.validate_response().unwrap();
    assert!(!m.is_request() && !m.is_answerable());
    assert_eq!(
        (m.status(), m.reason(), m.method()),
        (486, "Busy Here", Method::Invite)
    );
    assert_eq!(m.request_uri(), "");
    assert_eq!(m.validate_request().unwrap_err().status, 400);
}

#[test]
fn line_ends_may_be_single_lf() {
    let owned = parse(INVITE.replace("\r\n", "\n"));
    let m = owned.message();
    m.validate_request().unwrap();
    assert_eq!((m.headers().len(), m.body()), (9, &b"v=0\n"[..]));
}

#[test]
fn a_single_cr_ends_no_line_and_is_refused() {
    let error = MessageBuf::parse(invite("", "X-Odd: a\rRoute: <sip:evil>")).unwrap_err();
    assert!(matches!(error, ParseError::HeaderLine { .. }));
}

#[test]
fn empty_lines_before_the_start_line_are_no_part_of_the_message() {
    let owned = parse(format!("\r\n\r\n{INVITE}"));
    assert_eq!(owned.message().bytes(), INVITE.as_bytes());
    let copy = MessageBuf::from_message(owned.message());
    let (a, b) = (owned.message(), copy.message());
    assert_eq!(copy.bytes(), INVITE.as_bytes());
    assert_eq!(
        (b.request_uri(), b.method(), b.body()),
        (a.request_uri(), a.method(), a.body())
    );
    assert!(
        a.headers()
            .zip(b.headers())
            .all(|(a, b)| a.name == b.name && a.value == b.value)
    );
}

#[test]
fn an_index_is_reusable_after_an_error() {
    let mut index = Index::new();
    assert_eq!(index.parse(b"\r\n\r\n"), Err(ParseError::Empty));
    assert!(
        index
            .parse(b"INVITE sip:a SIP/2.0\r\nbroken\r\nTo: x\r\n\r\n")
            .is_err()
    );
    index.parse(INVITE.as_bytes()).unwrap();
    assert_eq!(Message::new(INVITE.as_bytes(), &index).headers().len(), 9);
}

#[test]
fn a_broken_line_leaves_the_rest_readable_so_that_it_can_be_answered() {
    let text = invite("", "no colon here");
    let mut index = Index::new();
    let error = index.parse(text.as_bytes()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "malformed header field: expected a name and a colon, found 'no colon here'"
    );
    let m = Message::new(text.as_bytes(), &index);
    assert!(m.is_answerable());
    assert_eq!(m.cseq().unwrap().number, 314159);
}

#[test]
fn start_lines_that_are_none_are_refused_with_their_status() {
    for (line, status) in [
        ("INVITE sip:a SIP/3.0", 505),
        ("INVITE sip:a SIP/2.0 ", 400),
        ("INVITE  sip:a SIP/2.0", 400),
        ("INVITE sip:a", 400),
        ("INVITE", 400),
        (" INVITE sip:a SIP/2.0", 400),
        ("IN VITE sip:a SIP/2.0", 400),
        ("INV(TE sip:a SIP/2.0", 400),
        ("INVITE sip:a HTTP/1.1", 400),
        ("SIP/2.0 99 No", 400),
        ("SIP/2.0 700 No", 400),
        ("SIP/2.0 2000 OK", 400),
        ("SIP/2.0 0200 OK", 400),
        ("SIP/2.0  200 OK", 400),
        ("SIP/2.0", 400),
        ("SIP/1.0 200 OK", 505),
    ] {
        let error = MessageBuf::parse(format!("{line}\r\nTo: x\r\n\r\n")).unwrap_err();
        assert_eq!(error.status(), status, "{line}: {error}");
    }
    let long = format!(
        "INVITE sip:{} SIP/2.0\r\n\r\n",
        "a".repeat(limits::REQUEST_URI_BYTES)
    );
    assert_eq!(MessageBuf::parse(long).unwrap_err().status(), 414);
    assert!(MessageBuf::parse("sip/2.0 200\r\nTo: x\r\n\r\n").is_ok());
}

#[test]
fn header_lines_that_are_none_are_refused() {
    for line in [" x: y", ": y", "a b: y", "a(: y", "\u{e4}: y"] {
        let text = INVITE.replacen("\r\nVia", &format!("\r\n{line}\r\nVia"), 1);
        assert_eq!(MessageBuf::parse(text).unwrap_err().status(), 400, "{line:?}");
    }
    assert_eq!(
        MessageBuf::parse("OPTIONS sip:a SIP/2.0\r\nTo: x\r\n").unwrap_err(),
        ParseError::NoEmptyLine
    );
    assert_eq!(
        MessageBuf::parse("OPTIONS sip:a SIP/2.0\r\nTo: x").unwrap_err(),
        ParseError::NoEmptyLine
    );
}

#[test]
fn limits_hold() {
    let lines = |count: usize| format!("OPTIONS sip:a SIP/2.0\r\n{}\r\n", "x: y\r\n".repeat(count));
    assert_eq!(
        parse(lines(limits::HEADERS)).message().headers().len(),
        limits::HEADERS
    );
    assert_eq!(
        MessageBuf::parse(lines(limits::HEADERS + 1)).unwrap_err(),
        ParseError::TooManyHeaders
    );
    assert_eq!(ParseError::TooManyHeaders.status(), 513);

    let long = |value: usize| format!("OPTIONS sip:a SIP/2.0\r\nx:{}\r\n\r\n", "y".repeat(value));
    assert!(MessageBuf::parse(long(limits::HEADER_BYTES - 2)).is_ok());
    assert_eq!(
        MessageBuf::parse(long(limits::HEADER_BYTES - 1))
            .unwrap_err()
            .status(),
        513
    );

    let head = "OPTIONS sip:a SIP/2.0\r\nTo: x\r\n\r\n";
    let filled = |length: usize| format!("{head}{}", "z".repeat(length - head.len()));
    assert_eq!(
        parse(filled(limits::MESSAGE_BYTES)).message().body().len(),
        limits::MESSAGE_BYTES - head.len()
    );
    let error = MessageBuf::parse(filled(limits::MESSAGE_BYTES + 1)).unwrap_err();
    assert_eq!(
        (error.status(), error),
        (
            513,
            ParseError::TooLarge {
                found: limits::MESSAGE_BYTES + 1
            }
        )
    );

    let vias = "Via: SIP/2.0/UDP a;branch=z9hG4bK1\r\n".repeat(limits::VIAS);
    assert_eq!(
        refused(INVITE.replacen("Via:", &format!("{vias}Via:"), 1)),
        (483, "Too Many Hops")
    );
}

#[test]
fn requests_that_cannot_be_acted_on_are_refused_with_their_status() {
    for (old, new, status) in [
        ("CSeq: 314159 INVITE\r\n", "", 400),
        ("CSeq: 314159 INVITE", "CSeq: 314159 BYE", 400),
        ("CSeq: 314159 INVITE", "CSeq: 2147483648 INVITE", 400),
        ("CSeq: 314159 INVITE", "CSeq: INVITE", 400),
        (
            "Via: SIP/2.0/UDP pc33.atlanta.com;branch=z9hG4bK776asdhds\r\n",
            "",
            400,
        ),
        ("SIP/2.0/UDP pc33", "SIP/2.0/UDPpc33:x", 400),
        ("Via: SIP/2.0", "Via: SIP/3.0", 400),
        ("To: Bob <sip:bob@biloxi.com>\r\n", "", 400),
        ("Bob <sip:bob@biloxi.com>", "\"Bob <sip:bob@biloxi.com>", 400),
        ("Bob <sip:bob@biloxi.com>", "Bob sip:bob@biloxi.com", 400),
        ("Bob <sip:bob@biloxi.com>", "<sip:bob@>", 400),
        ("Call-ID: a84b4c76e66710@pc33.atlanta.com", "Call-ID: a b", 400),
        ("Call-ID: a84b4c76e66710@pc33.atlanta.com", "Call-ID:", 400),
        ("Max-Forwards: 70", "Max-Forwards: 256", 400),
        ("Max-Forwards: 70", "Max-Forwards: -1", 400),
        ("Max-Forwards: 70", "Max-Forwards: 70\r\nMax-Forwards: 70", 400),
        ("Content-Length: 4", "Content-Length: 5", 400),
        ("Content-Length: 4", "Content-Length: four", 400),
        ("INVITE sip:bob@biloxi.com", "INVITE http://biloxi.com", 416),
        ("INVITE sip:bob@biloxi.com", "INVITE sip:bob@bil<oxi.com", 400),
        ("INVITE sip:bob@biloxi.com", "INVITE sip:bob@", 400),
        ("INVITE sip:bob@biloxi.com", "INVITE sip:bob@biloxi.com?a=b", 400),
    ] {
        let text = invite(old, new);
        match MessageBuf::parse(text.as_bytes()) {
            Err(error) => assert_eq!(error.status(), status, "{new}"),
            Ok(owned) => {
                assert_eq!(
                    owned.message().validate_request().err().map(|e| e.status),
                    Some(status),
                    "{new}"
                )
            }
        }
    }
}

#[test]
fn a_refusal_tells_the_sender_what_is_wrong() {
    assert_eq!(
        refused(invite("CSeq: 314159 INVITE\r\n", "")),
        (400, "Missing CSeq")
    );
    let owned = parse(invite("Max-Forwards: 70", "Max-Forwards: x"));
    let invalid = owned.message().validate_request().unwrap_err();
    assert_eq!(
        invalid.to_string(),
        "malformed Max-Forwards header field: expected a number from 0 to 255, found 'x'"
    );
    assert_eq!(invalid.fault(), Fault::Peer);
}

#[test]
fn header_fields_are_found_in_any_spelling() {
    let owned = parse(
        invite("Call-ID:", "i  :")
            .replace("From:", "F:")
            .replace("Via:", "VIA:"),
    );
    let m = owned.message();
    m.validate_request().unwrap();
    assert_eq!(m.call_id().unwrap(), "a84b4c76e66710@pc33.atlanta.com");
    assert_eq!(m.header(HeaderId::From).unwrap().name, "F");
}

#[test]
fn lists_go_over_all_lines() {
    let owned = parse(invite(
        "",
        "Route: <sip:a;lr>,\r\n <sip:b>\r\nRoute:,<sip:c>;x=\"1,2\"",
    ));
    let uris: Vec<_> = owned.message().routes().map(|r| r.unwrap().uri).collect();
    assert_eq!(uris, ["sip:a;lr", "sip:b", "sip:c"]);
    let owned = parse(invite("", "Supported: Path, ,outbound\r\nk: timer"));
    let m = owned.message();
    assert_eq!(
        m.tokens(HeaderId::Supported).collect::<Vec<_>>(),
        ["Path", "outbound", "timer"]
    );
    assert!(m.has_token(HeaderId::Supported, "TIMER") && !m.has_token(HeaderId::Supported, "time"));
}

#[test]
fn a_star_stands_alone() {
    let contacts = |value: &str| {
        let owned = parse(invite("Contact: <sip:alice@pc33.atlanta.com>", value));
        owned.message().contacts().map(|c| match c {
            Contacts::Star => None,
            Contacts::List(list) => Some(list.filter(Result::is_ok).count()),
        })
    };
    assert_eq!(contacts("Contact: *"), Ok(None));
    assert_eq!(contacts("m: <sip:a>;q=0.5, sip:b;expires=60"), Ok(Some(2)));
    assert_eq!(contacts("X: y"), Ok(Some(0)));
    assert!(contacts("Contact: *, <sip:a>").is_err());
    assert_eq!(
        contacts("Contact: <sip:a>, *"),
        Ok(Some(2)),
        "checked as a URI later"
    );
}

#[test]
fn small_header_fields_are_read() {
    let owned = parse(invite(
        "",
        "Expires: 4294967296\r\nMin-Expires: 60\r\nRetry-After: 18000 (maintenance);duration=3600\r\n\
         x: 1800;refresher=uac\r\nMin-SE: 90;a\r\nRSeq: 7\r\nRAck: 7 314159 INVITE\r\nMax-Breadth: 60\r\n\
         Reason: SIP;cause=200;text=\"Call completed elsewhere\", Q.850;cause=16\r\nP-Asserted-Identity: <tel:+491>",
    ));
    let m = owned.message();
    assert_eq!(m.expires(), Ok(Some(u32::MAX)));
    assert_eq!(m.min_expires(), Ok(Some(60)));
    assert_eq!(m.retry_after(), Ok(Some(18000)));
    assert_eq!(
        m.session_expires(),
        Ok(Some(SessionExpires {
            seconds: 1800,
            refresher: Some("uac")
        }))
    );
    assert_eq!(
        (m.min_se(), m.rseq(), m.max_breadth()),
        (Ok(Some(90)), Ok(Some(7)), Ok(Some(60)))
    );
    assert_eq!(m.rack().unwrap().unwrap().cseq, m.cseq().unwrap());
    let reasons: Vec<_> = m
        .reason_header()
        .map(|r| r.unwrap())
        .map(|r| (r.protocol, r.cause(), r.text()))
        .collect();
    assert_eq!(
        reasons,
        [
            ("SIP", Some(200), Some("Call completed elsewhere")),
            ("Q.850", Some(16), None)
        ]
    );
    assert_eq!(
        m.addresses(HeaderId::PAssertedIdentity)
            .next()
            .unwrap()
            .unwrap()
            .uri,
        "tel:+491"
    );
    assert_eq!(m.rseq().unwrap(), Some(7));
    assert_eq!(m.address(HeaderId::ReferTo).unwrap().map(|a| a.uri), None);
}

#[test]
fn addresses_are_read_in_every_form() {
    for (value, display, uri, tag) in [
        (
            "\"A. G. Bell\" <sip:agb@bell-telephone.com> ;tag=a48s",
            Some("\"A. G. Bell\""),
            "sip:agb@bell-telephone.com",
            Some("a48s"),
        ),
        (
            "sip:+12125551212@server.phone2net.com;tag=887s",
            None,
            "sip:+12125551212@server.phone2net.com",
            Some("887s"),
        ),
        (
            "Anonymous <sip:c8oqz84zk7z@privacy.org>;tag=hyh8",
            Some("Anonymous"),
            "sip:c8oqz84zk7z@privacy.org",
            Some("hyh8"),
        ),
        (
            "<sip:a@b;tag=no>;x=\"a;tag=no\";TAG=yes",
            None,
            "sip:a@b;tag=no",
            Some("yes"),
        ),
        ("\"<\\\"\\\\>\"<sip:a>", Some("\"<\\\"\\\\>\""), "sip:a", None),
        ("sip:a@b;x=\"<y>\"", None, "sip:a@b", None),
        ("J\u{f6}rg <sip:a>", Some("J\u{f6}rg"), "sip:a", None),
    ] {
        let address = NameAddr::parse(value).unwrap_or_else(|e| panic!("{value}: {e}"));
        assert_eq!(
            (address.display, address.uri, address.tag()),
            (display, uri, tag),
            "{value}"
        );
    }
    for value in [
        "",
        "<>",
        "<sip:a",
        "\"a\" sip:a",
        "\"a\" b <sip:a>",
        "<sip:a> x",
        "sip:a?b=c",
        "< sip:a>",
        "a\"b <sip:a>",
        "<sip:a>;x=\"y",
        "sip:a;x=\"y",
    ] {
        assert!(NameAddr::parse(value).is_err(), "{value}");
    }
}

#[test]
fn q_values_are_thousandths() {
    let q = |text: &str| NameAddr::parse(&format!("<sip:a>;q={text}")).unwrap().q();
    assert_eq!(
        [q("1"), q("1.0"), q("0.7"), q("0.05"), q("0"), q(".5"), q("0.123")],
        [1000, 1000, 700, 50, 0, 500, 123]
    );
    assert_eq!(
        [q("2"), q("1.5"), q("0.1234"), q("x"), q("")],
        [1000, 1000, 1000, 1000, 0]
    );
}

#[test]
fn via_parameters_are_read() {
    let via = Via::parse(
        "SIP/2.0/tls [2001:db8::1]:5061;RPORT;received=[2001:db8::2];ttl=16;maddr=224.2.0.1;branch=z9hG4bKx",
    )
    .unwrap();
    assert_eq!(
        (via.sent_by_host, via.sent_by_port, via.port()),
        ("[2001:db8::1]", Some(5061), 5061)
    );
    assert_eq!(
        (via.rport, via.received, via.ttl),
        (Some(None), Some("2001:db8::2"), Some(16))
    );
    assert!(via.has_magic_cookie());
    assert_eq!(
        Via::parse("SIP/2.0/UDP a;rport=1024;").unwrap().rport,
        Some(Some(1024))
    );
    assert_eq!(Via::parse("SIP/2.0/TLS a").unwrap().port(), 5061);
    for value in [
        "",
        "SIP/2.0/UDP",
        "SIP/2.0/UDP ",
        "SIP/2.0 UDP a",
        "SIP/2.0/UDP a:0",
        "SIP/2.0/UDP a:x",
        "SIP/2.0/UDP a b",
        "SIP/2.0/UDP [::1",
        "SIP/2.0/UDP a;rport=x",
        "SIP/2.0/UDP a;;branch=b",
        "SIP/2.0/UDP a;ttl=256",
        "SIP/2.0/UDP a;branch=b\";x",
        "SIP/2.0/UDP ;branch=b",
    ] {
        assert!(Via::parse(value).is_err(), "{value}");
    }
}

#[test]
fn a_value_that_is_not_utf8_is_refused_only_where_it_is_read() {
    let mut bytes = invite("", "X-Latin: M?ller").into_bytes();
    let at = bytes.iter().position(|b| *b == b'?').unwrap();
    bytes[at] = 0xfc;
    let owned = parse(bytes);
    owned.message().validate_request().unwrap();
    assert!(owned.message().header_named("x-latin").unwrap().text().is_err());
}
