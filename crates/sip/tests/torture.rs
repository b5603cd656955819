//! Every message of RFC 4475 and RFC 5118, by name: accepted, or rejected with the status that the RFC names.

use sip::frame::{Framed, Framer};
use sip::headers::Contacts;
use sip::message::{Index, Message};
use sip::{HeaderId, Method};
use std::fs;
use std::path::PathBuf;

/// What becomes of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    Accepted,
    /// A request refused with that status.
    Rejected(u16),
    /// A response that must not be acted on: nobody answers a response.
    Dropped,
}
use Outcome::{Accepted, Dropped, Rejected};

/// In the order of the RFC. Where it leaves the choice, the comment tells which was taken.
const RFC4475: [(&str, Outcome); 49] = [
    // 3.1.1 valid messages
    ("wsinv", Accepted),
    ("intmeth", Accepted),
    ("esc01", Accepted),
    ("escnull", Accepted),
    ("esc02", Accepted),
    ("lwsdisp", Accepted),
    ("longreq", Accepted),
    ("dblreq", Accepted),
    ("semiuri", Accepted),
    ("transports", Accepted),
    ("mpart01", Accepted),
    ("unreason", Accepted),
    ("noreason", Accepted),
    // 3.1.2 invalid messages
    ("badinv01", Rejected(400)),
    ("clerr", Rejected(400)),
    ("ncl", Rejected(400)),
    ("scalar02", Rejected(400)),
    ("scalarlg", Dropped),
    ("quotbal", Rejected(400)),
    ("ltgtruri", Rejected(400)),
    ("lwsruri", Rejected(400)),
    ("lwsstart", Rejected(400)),
    ("trws", Rejected(400)),
    ("escruri", Rejected(400)),
    // Refused only by who looks at Date; a proxy may ignore it.
    ("baddate", Rejected(400)),
    ("regbadct", Rejected(400)),
    ("badaspec", Rejected(400)),
    // The intent is plain, and 3.1.2.15 lets an element guess it.
    ("baddn", Accepted),
    ("badvers", Rejected(505)),
    ("mismatch01", Rejected(400)),
    ("mismatch02", Rejected(400)),
    ("bigcode", Dropped),
    // 3.2 transaction layer
    ("badbranch", Accepted),
    // 3.3 application layer
    ("insuf", Rejected(400)),
    ("unkscm", Rejected(416)),
    ("novelsc", Rejected(416)),
    ("unksm2", Rejected(400)),
    ("bext01", Rejected(420)),
    // A proxy does not look at bodies; a user agent answers 415.
    ("invut", Accepted),
    // An unknown scheme counts as no credentials.
    ("regaut01", Accepted),
    ("multi01", Rejected(400)),
    ("mcl01", Rejected(400)),
    ("bcast", Dropped),
    ("zeromf", Rejected(483)),
    ("cparam01", Accepted),
    ("cparam02", Accepted),
    ("regescrt", Accepted),
    // A proxy does not look at Accept; a user agent answers 406.
    ("sdp01", Accepted),
    // 3.4 backward compatibility
    ("inv2543", Accepted),
];

const RFC5118: [(&str, Outcome); 12] = [
    ("ipv6-good", Accepted),
    ("ipv6-bad", Rejected(400)),
    ("port-ambiguous", Accepted),
    ("port-unambiguous", Accepted),
    ("via-received-param-with-delim", Accepted),
    ("via-received-param-no-delim", Accepted),
    ("ipv6-in-sdp", Accepted),
    ("mult-ip-in-header", Accepted),
    ("mult-ip-in-sdp", Accepted),
    ("ipv4-mapped-ipv6", Accepted),
    ("ipv6-bug-abnf-3-colons", Accepted),
    ("ipv6-correct-abnf-2-colons", Accepted),
];

fn directory(rfc: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/torture")
        .join(rfc)
}

fn read(rfc: &str, name: &str) -> Vec<u8> {
    fs::read(directory(rfc).join(format!("{name}.sip"))).unwrap_or_else(|e| panic!("{rfc} {name}: {e}"))
}

/// What an element does that is proxy and registrar in one and looks at every header field it knows.
fn outcome(bytes: &[u8]) -> Outcome {
    let mut index = Index::new();
    let parsed = index.parse(bytes);
    let m = Message::new(bytes, &index);
    if let Err(error) = parsed {
        return if m.is_request() {
            Rejected(error.status())
        } else {
            Dropped
        };
    }
    if !m.is_request() {
        return if m.validate_response().is_ok() {
            Accepted
        } else {
            Dropped
        };
    }
    if let Err(invalid) = m.validate_request() {
        return Rejected(invalid.status);
    }
    application(m).map_or_else(Rejected, |()| Accepted)
}

fn application(m: Message<'_>) -> Result<(), u16> {
    m.date().map_err(|e| e.status())?;
    if m.max_forwards().map_err(|e| e.status())? == Some(0) {
        return Err(483);
    }
    if m.tokens(HeaderId::ProxyRequire).next().is_some() {
        return Err(420);
    }
    if m.method() == Method::Register {
        if !m
            .to()
            .map(|to| to.parsed_uri().is_ok_and(|uri| uri.is_sip()))
            .map_err(|e| e.status())?
        {
            return Err(400);
        }
        if let Contacts::List(list) = m.contacts().map_err(|e| e.status())? {
            for contact in list {
                contact
                    .map_err(|e| e.status())?
                    .parsed_uri()
                    .map_err(|e| e.status())?;
            }
        }
    }
    for route in m.routes().chain(m.record_routes()) {
        route.map_err(|e| e.status())?;
    }
    m.vias()
        .try_for_each(|via| via.map(|_| ()))
        .map_err(|e| e.status())
}

fn check(rfc: &str, table: &[(&str, Outcome)]) {
    let wrong: Vec<_> = table
        .iter()
        .map(|(name, expected)| (*name, *expected, outcome(&read(rfc, name))))
        .filter(|(_, expected, found)| expected != found)
        .collect();
    assert!(wrong.is_empty(), "name, expected, found: {wrong:#?}");
    let files = fs::read_dir(directory(rfc)).unwrap().count();
    assert_eq!(files, table.len(), "each file of {rfc} is in the table");
}

#[test]
fn rfc4475_messages_are_accepted_or_rejected_as_the_rfc_says() {
    check("rfc4475", &RFC4475);
}

#[test]
fn rfc5118_messages_are_accepted_or_rejected_as_the_rfc_says() {
    check("rfc5118", &RFC5118);
}

fn with<T>(rfc: &str, name: &str, look: impl FnOnce(Message<'_>) -> T) -> T {
    let bytes = read(rfc, name);
    let mut index = Index::new();
    index.parse(&bytes).unwrap();
    look(Message::new(&bytes, &index))
}

#[test]
fn wsinv_is_understood_in_every_detail() {
    with("rfc4475", "wsinv", |m| {
        assert_eq!(m.to().unwrap().uri, "sip:vivekg@chair-dnrc.example.com");
        assert_eq!(m.to().unwrap().tag(), Some("1918181833n"));
        assert_eq!(m.from().unwrap().display_name().unwrap(), "J Rosenberg \\\"");
        assert_eq!(m.from().unwrap().tag(), Some("98asjd8"));
        assert_eq!(m.max_forwards().unwrap(), Some(68));
        assert_eq!(m.cseq().unwrap().number, 9);
        let vias: Vec<_> = m
            .vias()
            .map(Result::unwrap)
            .map(|v| (v.transport, v.sent_by_host, v.branch))
            .collect();
        let expected = [
            ("UDP", "192.0.2.2", Some("390skdjuw")),
            ("TCP", "spindle.example.com", Some("z9hG4bK9ikj8")),
            ("UDP", "192.168.255.111", Some("z9hG4bK30239")),
        ];
        assert_eq!(vias, expected);
        assert_eq!(m.header(HeaderId::Subject).unwrap().value, b"");
        assert_eq!(
            m.header_named("unknownheaderwithunusualvalue").unwrap().value,
            b";;,,;;,;"
        );
        let Contacts::List(mut list) = m.contacts().unwrap() else {
            panic!("a list")
        };
        let contact = list.next().unwrap().unwrap();
        assert_eq!(contact.display_name().unwrap(), "Quoted string \"\"");
        assert_eq!((contact.q(), contact.param("newparam")), (330, Some("newvalue")));
        assert_eq!(m.body().len(), 150);
    });
}

#[test]
fn percent_is_an_escape_only_in_uris() {
    with("rfc4475", "esc02", |m| {
        assert_eq!(m.method(), Method::Other("RE%47IST%45R"));
        let Contacts::List(list) = m.contacts().unwrap() else {
            panic!("a list")
        };
        assert_eq!(list.count(), 2);
        assert_eq!(m.to().unwrap().display_name().unwrap(), "%Z%45");
    });
    with("rfc4475", "esc01", |m| {
        assert_eq!(
            m.parsed_request_uri().unwrap().aor(),
            "sips:user@example.com@example.net"
        );
        assert_eq!(m.to().unwrap().parsed_uri().unwrap().aor(), "user@example.com");
    });
    with("rfc4475", "escnull", |m| {
        assert_eq!(
            m.to().unwrap().parsed_uri().unwrap().aor(),
            "null-%00-null@example.com"
        );
    });
}

#[test]
fn unusual_characters_are_kept() {
    with("rfc4475", "intmeth", |m| {
        assert_eq!(m.method().as_str(), "!interesting-Method0123456789_*+`.%indeed'~");
        assert_eq!(
            m.to().unwrap().display_name().unwrap(),
            "BEL:\u{7} NUL:\0 DEL:\u{7f}"
        );
        assert_eq!(m.from().unwrap().param("fromParam''~+*_!.-%"), Some("работающий"));
        assert_eq!(
            m.call_id().unwrap(),
            "intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}{"
        );
        let uri = m.parsed_request_uri().unwrap();
        assert_eq!(uri.user, Some("1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*"));
        assert_eq!(uri.password, Some("&it+has=1,weird!*pas$wo~d_too.(doesn't-it)"));
    });
    with("rfc4475", "unreason", |m| {
        assert_eq!(m.reason(), "= 2**3 * 5**2 но сто девяносто девять - простое")
    });
    with("rfc4475", "noreason", |m| {
        assert_eq!((m.status(), m.reason()), (100, ""))
    });
}

#[test]
fn bodies_are_as_long_as_their_content_length() {
    with("rfc4475", "dblreq", |m| {
        assert_eq!((m.method(), m.body()), (Method::Register, &b""[..]))
    });
    with("rfc4475", "mpart01", |m| {
        assert_eq!(m.body().len(), 553);
        assert!(m.body().contains(&0) && m.is_content_type("multipart/mixed"));
    });
}

#[test]
fn a_branch_of_nothing_but_the_cookie_is_matched_as_rfc2543_did() {
    with("rfc4475", "badbranch", |m| {
        assert!(!m.top_via().unwrap().has_magic_cookie())
    });
    with("rfc4475", "inv2543", |m| {
        assert_eq!(
            (m.top_via().unwrap().branch, m.from().unwrap().tag()),
            (None, None)
        );
        assert_eq!(m.to().unwrap().param("user"), Some("phone"));
    });
}

#[test]
fn contact_parameters_and_uri_parameters_are_told_apart() {
    let contact = |name, look: fn(sip::headers::NameAddr<'_>)| {
        with("rfc4475", name, |m| {
            let Contacts::List(mut list) = m.contacts().unwrap() else {
                panic!("a list")
            };
            look(list.next().unwrap().unwrap());
        });
    };
    contact("cparam01", |c| {
        assert!(c.params.contains("unknownparam"));
        assert!(c.parsed_uri().unwrap().params.is_empty());
    });
    contact("cparam02", |c| {
        assert!(c.params.is_empty());
        assert!(c.parsed_uri().unwrap().params.contains("unknownparam"));
    });
    contact("regescrt", |c| {
        let fields: Vec<_> = c.parsed_uri().unwrap().header_fields().collect();
        assert_eq!(fields, [("Route", "%3Csip:sip.example.com%3E")]);
    });
}

#[test]
fn unknown_transports_and_authentication_schemes_are_read() {
    with("rfc4475", "transports", |m| {
        let transports: Vec<_> = m.vias().map(|v| v.unwrap().transport).collect();
        assert_eq!(transports, ["UDP", "SCTP", "TLS", "UNKNOWN", "TCP"]);
    });
    with("rfc4475", "regaut01", |m| {
        let credentials = m.credentials(HeaderId::Authorization).next().unwrap().unwrap();
        assert_eq!(
            (credentials.scheme, credentials.param("opaque-data")),
            ("NoOneKnowsThisScheme", Some("here"))
        );
    });
}

#[test]
fn ipv6_references_are_told_from_ports() {
    let host_and_port = |name| {
        with("rfc5118", name, |m| {
            let uri = m.parsed_request_uri().unwrap();
            (uri.host.to_string(), uri.port)
        })
    };
    assert_eq!(
        host_and_port("port-ambiguous"),
        ("[2001:db8::10:5070]".to_owned(), None)
    );
    assert_eq!(
        host_and_port("port-unambiguous"),
        ("[2001:db8::10]".to_owned(), Some(5070))
    );
    assert_eq!(
        host_and_port("ipv6-bug-abnf-3-colons"),
        host_and_port("ipv6-correct-abnf-2-colons")
    );
    for name in ["via-received-param-with-delim", "via-received-param-no-delim"] {
        with("rfc5118", name, |m| {
            assert_eq!(m.top_via().unwrap().received, Some("2001:db8::9:255"))
        });
    }
}

#[test]
fn every_answerable_rejected_request_has_what_an_answer_needs() {
    for (name, expected) in RFC4475 {
        let bytes = read("rfc4475", name);
        let mut index = Index::new();
        let _ = index.parse(&bytes);
        let m = Message::new(&bytes, &index);
        let is_answerable = matches!(expected, Rejected(_)) && name != "insuf";
        if is_answerable {
            assert!(m.is_answerable(), "{name}");
            let mut out = Vec::new();
            sip::Response::new(m, 400).to_tag("t").write(&mut out);
            assert!(
                out.starts_with(b"SIP/2.0 400 ") && out.ends_with(b"\r\n\r\n"),
                "{name}"
            );
        }
    }
}

#[test]
fn as_a_stream_they_are_framed_or_the_stream_ends() {
    for (name, _) in RFC4475 {
        let bytes = read("rfc4475", name);
        let mut framer = Framer::new();
        framer.push(&bytes);
        let first = framer.next();
        match name {
            // Nothing says where these end.
            "ncl" | "mcl01" => assert!(first.is_err(), "{name}"),
            // More is announced than has come.
            "clerr" => assert_eq!(first.unwrap(), None, "{name}"),
            // Without Content-Length there is no body on a stream.
            "inv2543" => {
                assert!(matches!(first, Ok(Some(Framed::Message(_)))), "{name}");
                assert!(framer.next().is_err(), "{name}");
            }
            _ => assert!(matches!(first, Ok(Some(Framed::Message(_)))), "{name}"),
        }
    }
}
