use std::net::SocketAddr;

use sip::{MessageBuf, Transport};

use super::*;
use crate::auth::{AuthConfig, AuthShared};
use crate::directory::Account;

mod lifetime;
mod model;
mod repeated;

const NOW: u64 = 2_000_000_000;

/// A registrar and its surroundings. 192.0.2.0/24 is trusted, so that most tests need no digest.
struct Service {
    registrar: Registrar,
    authenticator: Authenticator,
    location: Arc<Location>,
    directory: Arc<Directory>,
    start: Instant,
}

/// What a REGISTER got.
struct Answer {
    status: u16,
    text: String,
    changes: SmallVec<[BindingChange; 1]>,
}

/// A REGISTER to be.
#[derive(Clone)]
struct Register {
    user: &'static str,
    call_id: String,
    cseq: u32,
    lines: String,
    source: &'static str,
}

fn register(cseq: u32, lines: &str) -> Register {
    Register {
        user: "alice",
        call_id: "a".into(),
        cseq,
        lines: lines.replace('\n', "\r\n"),
        source: "192.0.2.7:5060",
    }
}

impl Register {
    fn call_id(mut self, call_id: &str) -> Self {
        self.call_id = call_id.into();
        self
    }

    fn from(mut self, source: &'static str) -> Self {
        self.source = source;
        self
    }

    fn text(&self) -> String {
        let Register {
            user,
            call_id,
            cseq,
            lines,
            ..
        } = self;
        let lines = if lines.is_empty() {
            String::new()
        } else {
            format!("{lines}\r\n")
        };
        format!(
            "REGISTER sip:example.org SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.7;branch=z9hG4bK{cseq};rport\r\n\
             From: <sip:{user}@example.org>;tag=1\r\nTo: <sip:{user}@example.org>\r\nCall-ID: {call_id}\r\n\
             CSeq: {cseq} REGISTER\r\n{lines}Content-Length: 0\r\n\r\n"
        )
    }
}

fn flow(source: &str) -> Flow {
    let remote: SocketAddr = source.parse().expect("a literal address");
    Flow {
        transport: Transport::Udp,
        local: "203.0.113.2:5060".parse().expect("a literal address"),
        remote,
        connection: None,
    }
}

impl Service {
    fn new(config: RegistrarConfig) -> Self {
        let own = ["203.0.113.2".parse().expect("a literal address")];
        let directory = Arc::new(Directory::new(
            ["example.org", "example.com"],
            own,
            *b"sixteen bytes ok",
        ));
        for user in ["alice", "bob"] {
            let aor = AddressOfRecord::new(user, "example.org");
            directory.put(aor.clone(), Account::with_password(&aor, "wonderland"));
        }
        let trusted = vec!["192.0.2.0/24".parse().expect("a network")];
        let shared = AuthShared::new(
            AuthConfig {
                trusted,
                nonces: 64,
                ..AuthConfig::default()
            },
            1,
            *b"another sixteen!",
        );
        let location = Arc::new(Location::new(*b"sixteen bytes ok"));
        let start = crate::location::tests::beginning();
        let (for_registrar, for_auth) = (Arc::clone(&directory), Arc::clone(&directory));
        Service {
            registrar: Registrar::new(config, for_registrar, Arc::clone(&location), 0, 1, start),
            authenticator: Authenticator::new(Arc::new(shared), for_auth, 0),
            location,
            directory,
            start,
        }
    }

    fn in_memory() -> Self {
        Service::new(RegistrarConfig {
            durable: false,
            ..RegistrarConfig::default()
        })
    }

    fn send(&mut self, unix: u64, text: &str, source: &str) -> Answer {
        let request = MessageBuf::parse(text).expect("a message");
        let mut out = Vec::new();
        let outcome = self.registrar.register(
            unix,
            request.message(),
            &flow(source),
            &mut self.authenticator,
            "tag",
            &mut out,
        );
        let text = String::from_utf8(out).expect("text");
        assert_eq!(text.is_empty(), outcome.status == 0);
        assert!(text.is_empty() || text.starts_with(&format!("SIP/2.0 {} ", outcome.status)));
        Answer {
            status: outcome.status,
            text,
            changes: outcome.changes,
        }
    }

    fn register_at(&mut self, unix: u64, register: &Register) -> Answer {
        self.send(unix, &register.text(), register.source)
    }

    fn register(&mut self, register: &Register) -> Answer {
        self.register_at(NOW, register)
    }

    /// Contacts and their remaining seconds, as routing sees them, sorted.
    fn bindings(&self, unix: u64) -> Vec<(String, u64)> {
        let found = self.location.lookup("alice@example.org", unix);
        let mut found: Vec<_> = found
            .iter()
            .map(|b| (b.contact().to_owned(), b.expires() - unix))
            .collect();
        found.sort();
        found
    }

    fn contacts(&self) -> Vec<String> {
        self.bindings(NOW)
            .into_iter()
            .map(|(contact, _)| contact)
            .collect()
    }
}

impl Answer {
    fn header(&self, name: &str) -> Vec<&str> {
        let lines = self.text.lines().filter_map(|line| line.split_once(": "));
        lines
            .filter(|(found, _)| *found == name)
            .map(|(_, value)| value)
            .collect()
    }
}

#[test]
fn the_200_enumerates_all_current_bindings_with_their_expires() {
    let mut service = Service::in_memory();
    service.register(&register(1, "Contact: <sip:alice@192.0.2.1>;expires=600;q=0.25"));
    let answer = service.register_at(
        NOW + 100,
        &register(2, "Contact: \"Alice\" <sip:alice@192.0.2.2:5070;transport=tcp>;+sip.instance=\"<urn:uuid:1>\";reg-id=1"),
    );
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.header("Contact"),
        [
            "<sip:alice@192.0.2.2:5070;transport=tcp>;expires=3600;+sip.instance=\"<urn:uuid:1>\";reg-id=1",
            "<sip:alice@192.0.2.1>;expires=500;q=0.250"
        ]
    );
    assert_eq!(answer.header("Date"), ["Wed, 18 May 2033 03:35:00 GMT"]);
    assert_eq!(answer.header("Record-Route"), Vec::<&str>::new());
    assert!(
        answer.header("Via")[0].contains("received=192.0.2.7")
            && answer.header("Via")[0].contains("rport=5060")
    );
}

#[test]
fn a_register_without_contact_asks_and_changes_nothing() {
    let mut service = Service::new(RegistrarConfig::default());
    assert_eq!(
        service.register(&register(1, "")).header("Contact"),
        Vec::<&str>::new()
    );
    let first = service.register(&register(2, "Contact: <sip:alice@192.0.2.1>"));
    service.registrar.stored(&first.changes, true, &mut Vec::new());
    let answer = service.register_at(NOW + 10, &register(3, ""));
    assert_eq!((answer.status, answer.changes.len()), (200, 0));
    assert_eq!(answer.header("Contact"), ["<sip:alice@192.0.2.1>;expires=3590"]);
    assert_eq!(service.bindings(NOW)[0].1, 3600);
}

#[test]
fn expires_is_the_contacts_then_the_headers_then_the_default_and_at_most_the_maximum() {
    let mut service = Service::in_memory();
    service.registrar.config.default_expires = 1800;
    let answer = service.register(&register(
        1,
        "Expires: 700\nContact: <sip:a@192.0.2.1>;expires=100, <sip:b@192.0.2.1>\nContact: <sip:c@192.0.2.1>;expires=999999",
    ));
    assert_eq!(answer.status, 200);
    let expected = [
        ("sip:a@192.0.2.1", 100),
        ("sip:b@192.0.2.1", 700),
        ("sip:c@192.0.2.1", 3600),
    ];
    assert_eq!(
        service.bindings(NOW),
        expected.map(|(contact, expires)| (contact.to_owned(), expires))
    );
    service.register(&register(
        2,
        "Contact: <sip:a@192.0.2.1>, <sip:b@192.0.2.1>;expires=soon",
    ));
    assert_eq!(
        service.bindings(NOW)[..2]
            .iter()
            .map(|(_, expires)| *expires)
            .collect::<Vec<_>>(),
        [1800, 1800]
    );
}

#[test]
fn too_brief_is_423_with_min_expires_and_nothing_is_changed() {
    let mut service = Service::in_memory();
    let answer = service.register(&register(
        1,
        "Contact: <sip:a@192.0.2.1>, <sip:b@192.0.2.1>;expires=59",
    ));
    assert_eq!((answer.status, answer.header("Min-Expires")), (423, vec!["60"]));
    assert!(service.contacts().is_empty());
    assert_eq!(
        service
            .register(&register(2, "Contact: <sip:a@192.0.2.1>;expires=60"))
            .status,
        200
    );
    // RFC 3261 10.3 step 7: an hour is never too brief, whatever the operator wants.
    service.registrar.config = RegistrarConfig {
        min_expires: 7200,
        max_expires: 9000,
        ..service.registrar.config.clone()
    };
    assert_eq!(
        service
            .register(&register(3, "Contact: <sip:a@192.0.2.1>;expires=3600"))
            .status,
        200
    );
    assert_eq!(
        service
            .register(&register(4, "Contact: <sip:a@192.0.2.1>;expires=3599"))
            .header("Min-Expires"),
        ["3600"]
    );
}

#[test]
fn expires_0_removes_the_contact() {
    let mut service = Service::in_memory();
    service.register(&register(1, "Contact: <sip:a@192.0.2.1>, <sip:b@192.0.2.1>"));
    let answer = service.register(&register(
        2,
        "Contact: <sip:a@192.0.2.1>;expires=0, <sip:never@192.0.2.1>;expires=0",
    ));
    assert_eq!(
        (answer.status, service.contacts()),
        (200, vec!["sip:b@192.0.2.1".to_owned()])
    );
    let answer = service.register(&register(3, "Expires: 0\nContact: <sip:b@192.0.2.1>"));
    assert_eq!((answer.status, answer.header("Contact").len()), (200, 0));
    assert!(service.contacts().is_empty());
}

#[test]
fn star_removes_everything_and_only_with_expires_0() {
    let mut service = Service::in_memory();
    service.register(&register(1, "Contact: <sip:a@192.0.2.1>, <sip:b@192.0.2.1>"));
    service.register(&register(9, "Contact: <sip:c@192.0.2.1>").call_id("another"));
    for lines in [
        "Contact: *",
        "Contact: *\nExpires: 60",
        "Contact: *, <sip:a@192.0.2.1>\nExpires: 0",
        "Contact: <sip:a@192.0.2.1>, *\nExpires: 0",
        "Contact: *\nContact: *\nExpires: 0",
    ] {
        assert_eq!(service.register(&register(2, lines)).status, 400, "{lines}");
    }
    assert_eq!(service.contacts().len(), 3);
    assert_eq!(
        service.register(&register(1, "Contact: *\nExpires: 0")).status,
        500,
        "not newer than what it removes"
    );
    assert_eq!(service.contacts().len(), 3);
    assert_eq!(
        service.register(&register(2, "Contact: *\nExpires: 0")).status,
        200
    );
    assert!(service.contacts().is_empty());
    assert_eq!(
        service.register(&register(2, "Contact: *\nExpires: 0")).status,
        200,
        "a retransmission"
    );
}

#[test]
fn an_older_cseq_of_the_same_call_id_is_refused_and_another_call_id_is_not_compared() {
    let mut service = Service::in_memory();
    service.register(&register(5, "Contact: <sip:a@192.0.2.1>"));
    let late = register(4, "Contact: <sip:a@192.0.2.1>;expires=0");
    assert_eq!(service.register(&late).status, 500);
    assert_eq!(
        service
            .register(&register(4, "Contact: <sip:a@192.0.2.1>"))
            .status,
        500
    );
    assert_eq!(service.contacts().len(), 1);
    assert_eq!(service.register(&late.call_id("after-a-reboot")).status, 200);
    assert!(service.contacts().is_empty());
}

#[test]
fn all_or_nothing_when_one_contact_cannot_be_changed() {
    let mut service = Service::in_memory();
    service.register(&register(5, "Contact: <sip:a@192.0.2.1>"));
    let lines = "Contact: <sip:new@192.0.2.1>, <sip:a@192.0.2.1>;expires=100";
    assert_eq!(service.register(&register(4, lines)).status, 500);
    assert_eq!(service.bindings(NOW), [("sip:a@192.0.2.1".to_owned(), 3600)]);
    let lines = "Contact: <sip:new@192.0.2.1>, <sip:a@192.0.2.1>;expires=100, <mailto:a@example.org>";
    assert_eq!(service.register(&register(6, lines)).status, 400);
    assert_eq!(service.bindings(NOW), [("sip:a@192.0.2.1".to_owned(), 3600)]);
}

#[test]
fn a_retransmission_gets_the_same_answer_and_changes_nothing() {
    let mut service = Service::in_memory();
    let request = register(5, "Contact: <sip:a@192.0.2.1>, <sip:b@192.0.2.1>");
    let first = service.register(&request);
    let again = service.register(&request);
    assert_eq!((first.status, &first.text), (200, &again.text));
    // Not even its flow: whoever sends a copy of it from elsewhere must not get the calls.
    service.register(&request.clone().from("192.0.2.66:5060"));
    for binding in service.location.lookup("alice@example.org", NOW) {
        assert_eq!(binding.flow(), flow("192.0.2.7:5060"));
    }
    // What was removed in between does not come back.
    service.register(&register(1, "Contact: <sip:b@192.0.2.1>;expires=0").call_id("another"));
    service.register(&request);
    assert_eq!(service.contacts(), ["sip:a@192.0.2.1"]);
}

#[test]
fn contacts_are_compared_as_uris() {
    let mut service = Service::in_memory();
    service.register(&register(
        1,
        "Contact: <sip:%61lice@Phone.example.net:5070;Transport=UDP>",
    ));
    service.register(&register(
        2,
        "Contact: <sip:alice@phone.example.net:5070;transport=udp>",
    ));
    assert_eq!(
        service.contacts(),
        ["sip:alice@phone.example.net:5070;transport=udp"],
        "as written last"
    );
    service.register(&register(
        3,
        "Contact: <sip:Alice@phone.example.net:5070;transport=udp>",
    ));
    service.register(&register(
        4,
        "Contact: <sip:alice@phone.example.net;transport=udp>",
    ));
    assert_eq!(service.contacts().len(), 3);
    service.register(&register(
        5,
        "Contact: <sip:x@192.0.2.1>, <sip:x@192.0.2.1>;expires=100",
    ));
    assert!(
        service
            .bindings(NOW)
            .contains(&("sip:x@192.0.2.1".to_owned(), 100)),
        "twice the same in one request"
    );
}

/// RFC 3261 19.1.4: a parameter that only one of two URIs has is mostly ignored.
#[test]
fn two_contacts_that_equal_the_same_binding_become_two_bindings() {
    let mut service = Service::in_memory();
    service.register(&register(1, "Contact: <sip:a@192.0.2.1>"));
    service.register(&register(
        2,
        "Contact: <sip:a@192.0.2.1;line=1>, <sip:a@192.0.2.1;line=2>",
    ));
    assert_eq!(
        service.contacts(),
        ["sip:a@192.0.2.1;line=1", "sip:a@192.0.2.1;line=2"]
    );
}

#[test]
fn the_address_of_record_is_the_to_and_has_to_be_of_the_requests_domain() {
    let mut service = Service::in_memory();
    let request = register(1, "Contact: <sip:a@192.0.2.1>").text();
    let mut status = |from: &str, to: &str| {
        service
            .send(NOW, &request.replace(from, to), "192.0.2.7:5060")
            .status
    };
    assert_eq!(
        status("To: <sip:alice@example.org>", "To: <sip:alice@example.net>"),
        404
    );
    assert_eq!(
        status("To: <sip:alice@example.org>", "To: <sip:nobody@example.org>"),
        404
    );
    assert_eq!(
        status("REGISTER sip:example.org", "REGISTER sip:example.com"),
        404
    );
    assert_eq!(
        status("REGISTER sip:example.org", "REGISTER sip:203.0.113.2"),
        200
    );
    assert_eq!(service.contacts(), ["sip:a@192.0.2.1"]);
    let text = register(2, "Contact: <sip:b@192.0.2.1>").text();
    let text = text.replace(
        "To: <sip:alice@example.org>",
        "To: \"A\" <sips:%61lice@EXAMPLE.org;user=phone>;x=y",
    );
    assert_eq!(service.send(NOW, &text, "192.0.2.7:5060").status, 200);
    assert_eq!(service.contacts().len(), 2);
}

#[test]
fn an_unknown_required_extension_is_420() {
    let mut service = Service::in_memory();
    let answer = service.register(&register(
        1,
        "Require: path, gruu\nRequire: x\nContact: <sip:a@192.0.2.1>",
    ));
    assert_eq!(
        (answer.status, answer.header("Unsupported")),
        (420, vec!["gruu", "x"])
    );
    assert_eq!(
        service
            .register(&register(2, "Require: Path\nContact: <sip:a@192.0.2.1>"))
            .status,
        200
    );
}

#[test]
fn path_is_kept_and_returned_to_who_supports_it() {
    let mut service = Service::in_memory();
    let path = "Path: <sip:edge.example.org;lr>, <sip:inner.example.org;lr>;x=\"a,b\"\nPath: <sip:last.example.org;lr>";
    let lines = format!("Supported: gruu, path\n{path}\nContact: <sip:a@192.168.1.1>");
    let answer = service.register(&register(1, &lines));
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.header("Path"),
        path.lines().map(|line| &line[6..]).collect::<Vec<_>>()
    );
    let found = service.location.lookup("alice@example.org", NOW);
    assert_eq!(
        found[0].path(),
        "<sip:edge.example.org;lr>, <sip:inner.example.org;lr>;x=\"a,b\", <sip:last.example.org;lr>"
    );
    assert!(!found[0].behind_nat(), "the edge proxy keeps its own side open");
}

#[test]
fn path_without_support_is_420_or_by_policy_accepted() {
    let mut service = Service::in_memory();
    let request = register(1, "Path: <sip:edge.example.org;lr>\nContact: <sip:a@192.0.2.1>");
    let answer = service.register(&request);
    assert_eq!((answer.status, answer.header("Unsupported")), (420, vec!["path"]));
    service.registrar.config.unknown_path = UnknownPath::Accept;
    let answer = service.register(&request);
    assert_eq!((answer.status, answer.header("Path").len()), (200, 0));
    assert_eq!(
        service.location.lookup("alice@example.org", NOW)[0].path(),
        "<sip:edge.example.org;lr>"
    );
    assert_eq!(
        service
            .register(&register(2, "Path: nonsense\nContact: <sip:a@192.0.2.1>"))
            .status,
        400
    );
}

#[test]
fn beyond_the_limit_the_oldest_goes_or_the_request_is_refused() {
    for when_full in [WhenFull::ReplaceOldest, WhenFull::Refuse] {
        let config = RegistrarConfig {
            durable: false,
            max_bindings: 3,
            when_full,
            ..RegistrarConfig::default()
        };
        let mut service = Service::new(config);
        for i in 1..=3 {
            let contact = format!("Contact: <sip:{i}@192.0.2.1>");
            assert_eq!(
                service.register_at(NOW + i, &register(i as u32, &contact)).status,
                200
            );
        }
        // The first one is refreshed, so the second is the oldest now.
        assert_eq!(
            service
                .register_at(NOW + 5, &register(10, "Contact: <sip:1@192.0.2.1>"))
                .status,
            200
        );
        let answer = service.register_at(NOW + 6, &register(11, "Contact: <sip:4@192.0.2.1>"));
        let left: Vec<_> = service
            .bindings(NOW + 6)
            .into_iter()
            .map(|(contact, _)| contact)
            .collect();
        if when_full == WhenFull::Refuse {
            assert_eq!((answer.status, left.len()), (403, 3));
            assert!(answer.text.starts_with("SIP/2.0 403 Too Many Bindings\r\n"));
            let swap = register(12, "Contact: <sip:1@192.0.2.1>;expires=0, <sip:4@192.0.2.1>");
            assert_eq!(
                service.register_at(NOW + 7, &swap).status,
                200,
                "one goes, one comes"
            );
        } else {
            assert_eq!(answer.status, 200);
            assert_eq!(left, ["sip:1@192.0.2.1", "sip:3@192.0.2.1", "sip:4@192.0.2.1"]);
        }
        let four = "Contact: <sip:w@192.0.2.1>, <sip:x@192.0.2.1>, <sip:y@192.0.2.1>, <sip:z@192.0.2.1>";
        assert_eq!(service.register_at(NOW + 8, &register(13, four)).status, 403);
    }
}

#[test]
fn ended_bindings_do_not_count_against_the_limit() {
    let config = RegistrarConfig {
        durable: false,
        max_bindings: 1,
        when_full: WhenFull::Refuse,
        ..RegistrarConfig::default()
    };
    let mut service = Service::new(config);
    service.register(&register(1, "Contact: <sip:1@192.0.2.1>;expires=60"));
    assert_eq!(
        service
            .register_at(NOW + 59, &register(2, "Contact: <sip:2@192.0.2.1>"))
            .status,
        403
    );
    assert_eq!(
        service
            .register_at(NOW + 60, &register(3, "Contact: <sip:2@192.0.2.1>"))
            .status,
        200
    );
    assert_eq!(service.location.len(), 1);
}

#[test]
fn a_telephone_that_comes_back_elsewhere_replaces_what_it_left_behind() {
    let mut service = Service::in_memory();
    let contact = |port: u16, reg_id: u8| {
        format!("Contact: <sip:a@192.0.2.1:{port}>;+sip.instance=\"<urn:uuid:1>\";reg-id={reg_id}")
    };
    service.register(&register(1, &contact(1000, 1)));
    service.register(&register(1, &contact(2000, 1)).call_id("after-a-reboot"));
    assert_eq!(service.contacts(), ["sip:a@192.0.2.1:2000"]);
    service.register(&register(2, &contact(3000, 2)).call_id("after-a-reboot"));
    assert_eq!(service.contacts().len(), 2, "another flow of the same telephone");
    let both = "Contact: <sip:a@192.0.2.1:4000>;+sip.instance=\"<urn:uuid:2>\", <sips:a@192.0.2.1:4001>;+sip.instance=\"<urn:uuid:2>\"";
    service.register(&register(1, both).call_id("third"));
    assert_eq!(
        service.contacts().len(),
        4,
        "two contacts of one request are both meant"
    );
    service.register(&register(2, both).call_id("third"));
    assert_eq!(service.contacts().len(), 4);
    let old = register(0, &contact(5000, 2)).call_id("after-a-reboot");
    assert_eq!(service.register(&old).status, 500, "order holds here as well");
}

#[test]
fn what_changes_its_spelling_is_removed_from_the_store_and_put_anew() {
    let mut service = Service::new(RegistrarConfig::default());
    let instance = "+sip.instance=\"<urn:uuid:1>\"";
    let first = service.register(&register(
        1,
        &format!("Contact: <sip:a@Phone.example.net>;{instance}"),
    ));
    service.registrar.stored(&first.changes, true, &mut Vec::new());
    for (cseq, contact) in [(2, "sip:a@phone.example.net"), (3, "sip:a@192.0.2.1:7777")] {
        let before = service.contacts();
        let answer = service.register(&register(cseq, &format!("Contact: <{contact}>;{instance}")));
        let text = |binding: &Option<Binding>| binding.as_ref().map(|binding| binding.contact().to_owned());
        let changes: Vec<_> = answer
            .changes
            .iter()
            .map(|c| (text(&c.before), text(&c.after)))
            .collect();
        assert_eq!(
            changes,
            [(before.first().cloned(), None), (None, Some(contact.to_owned()))]
        );
        service.registrar.stored(&answer.changes, false, &mut Vec::new());
        assert_eq!(service.contacts(), before);
        let again = service.register(&register(cseq, &format!("Contact: <{contact}>;{instance}")));
        service.registrar.stored(&again.changes, true, &mut Vec::new());
        assert_eq!(service.contacts(), [contact]);
    }
}

#[test]
fn a_binding_knows_its_flow_and_whether_a_nat_is_in_it() {
    let cases = [
        ("192.0.2.1:5060", "<sip:a@192.0.2.1>", false),
        ("192.0.2.1:5060", "<sip:a@192.0.2.1:5060;transport=udp>", false),
        ("192.0.2.1:40000", "<sip:a@192.0.2.1>", true),
        ("192.0.2.1:5060", "<sip:a@192.168.1.1>", true),
        ("192.0.2.1:5060", "<sip:a@phone.example.net>", true),
    ];
    for (source, contact, behind_nat) in cases {
        let mut service = Service::in_memory();
        service.register(&register(1, &format!("Contact: {contact}")).from(source));
        let found = service.location.lookup("alice@example.org", NOW);
        assert_eq!(
            (found[0].flow(), found[0].behind_nat()),
            (flow(source), behind_nat),
            "{source} {contact}"
        );
        let text = register(
            2,
            &format!("Via: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bKx\nContact: {contact}"),
        )
        .text();
        service.send(NOW, &text, source);
        let found = service.location.lookup("alice@example.org", NOW);
        assert!(!found[0].behind_nat(), "the proxy in between keeps the way open");
    }
}

#[test]
fn what_is_too_long_is_400() {
    let mut service = Service::in_memory();
    let long = "x".repeat(600);
    assert_eq!(
        service
            .register(&register(1, &format!("Contact: <sip:{long}@192.0.2.1>")))
            .status,
        400
    );
    assert_eq!(
        service
            .register(&register(1, "Contact: <sip:a@192.0.2.1>").call_id(&long))
            .status,
        400
    );
    let path =
        format!("Supported: path\nPath: <sip:{long}.example.org;lr>\nPath: <sip:{long}.example.org;lr>");
    assert_eq!(
        service
            .register(&register(1, &format!("{path}\nContact: <sip:a@192.0.2.1>")))
            .status,
        400
    );
    let rest = format!("User-Agent: {long}\nContact: <sip:a@192.0.2.1>;+sip.instance=\"{long}\"");
    assert_eq!(service.register(&register(1, &rest)).status, 200);
    let found = service.location.lookup("alice@example.org", NOW);
    assert_eq!((found[0].user_agent().len(), found[0].instance()), (48, ""));
}

#[test]
fn a_challenge_an_another_accounts_address_and_a_disabled_account() {
    let mut service = Service::in_memory();
    let request = register(1, "Contact: <sip:a@192.0.2.1>").from("198.51.100.1:5060");
    let answer = service.register(&request);
    assert_eq!((answer.status, answer.header("WWW-Authenticate").len()), (401, 3));
    assert!(service.contacts().is_empty());
    let aor = AddressOfRecord::new("alice", "example.org");
    let mut disabled = Account::with_password(&aor, "wonderland");
    disabled.disabled = true;
    service.directory.put(aor, disabled);
    assert_eq!(
        service
            .register(&register(2, "Contact: <sip:a@192.0.2.1>"))
            .status,
        403
    );
}
