use proptest::prelude::*;

use super::*;

/// A zone: answers to questions.
#[derive(Default)]
struct Dns {
    records: Vec<(RecordType, &'static str, Answer)>,
    asked: Vec<String>,
}

impl Dns {
    fn with(mut self, record_type: RecordType, name: &'static str, answer: Answer) -> Self {
        self.records.push((record_type, name, answer));
        self
    }

    fn srv(self, name: &'static str, records: &[(u16, u16, &str)]) -> Self {
        let record = |&(priority, port, target): &(u16, u16, &str)| Srv {
            priority,
            weight: 0,
            port,
            target: target.to_owned(),
        };
        self.with(
            RecordType::Srv,
            name,
            Answer::Srv(records.iter().map(record).collect()),
        )
    }

    fn a(self, name: &'static str, address: [u8; 4]) -> Self {
        self.with(RecordType::A, name, Answer::A(vec![address.into()]))
    }

    fn naptr(self, name: &'static str, records: &[(u16, u16, &str, &str)]) -> Self {
        let record = |&(order, preference, service, replacement): &(u16, u16, &str, &str)| Naptr {
            order,
            preference,
            flags: "S".to_owned(),
            service: service.to_owned(),
            replacement: replacement.to_owned(),
        };
        self.with(
            RecordType::Naptr,
            name,
            Answer::Naptr(records.iter().map(record).collect()),
        )
    }

    fn answer_all(&mut self, resolution: &mut Resolution) {
        while let Some(query) = resolution.poll_query() {
            self.asked.push(format!("{:?} {}", query.record_type, query.name));
            let found = self
                .records
                .iter()
                .find(|(kind, name, _)| (*kind, *name) == (query.record_type, &query.name));
            let answer = found.map_or(Answer::NoRecords, |(_, _, answer)| answer.clone());
            resolution.handle_answer(&query, answer);
        }
    }
}

const ALL: [Transport; 3] = [Transport::Udp, Transport::Tcp, Transport::Tls];

fn reach(transports: &[Transport]) -> Reach<'_> {
    Reach {
        transports,
        ipv4: true,
        ipv6: false,
        large: false,
    }
}

fn resolution(uri: &str, reach: &Reach<'_>) -> Result<Resolution, ResolveError> {
    Resolution::new(&Uri::parse(uri).unwrap(), reach, 1)
}

/// All targets in the order in which they are tried, and the last word.
fn walk(
    resolution: &mut Resolution,
    dns: &mut Dns,
    avoid: impl Fn(&Target) -> bool,
) -> (Vec<String>, ResolveError) {
    let mut targets = Vec::new();
    loop {
        match resolution.next_target(&avoid) {
            Next::Target(Target { transport, address }) => {
                targets.push(format!("{} {address}", transport.as_via()))
            }
            Next::Pending => dns.answer_all(resolution),
            Next::Exhausted(error) => return (targets, error),
        }
    }
}

fn targets(uri: &str, transports: &[Transport], dns: &mut Dns) -> Vec<String> {
    walk(&mut resolution(uri, &reach(transports)).unwrap(), dns, |_| false).0
}

#[test]
fn numeric_host_needs_no_dns() {
    let mut dns = Dns::default();
    for (uri, expected) in [
        ("sip:192.0.2.5", "UDP 192.0.2.5:5060"),
        ("sip:bob@192.0.2.5:5070", "UDP 192.0.2.5:5070"),
        ("sip:192.0.2.5;transport=tcp", "TCP 192.0.2.5:5060"),
        ("sips:192.0.2.5", "TLS 192.0.2.5:5061"),
        ("sips:192.0.2.5;transport=tcp", "TLS 192.0.2.5:5061"),
        ("sip:192.0.2.5;transport=tls", "TLS 192.0.2.5:5061"),
        ("sip:example.com;maddr=192.0.2.9", "UDP 192.0.2.9:5060"),
    ] {
        assert_eq!(targets(uri, &ALL, &mut dns), [expected], "{uri}");
    }
    assert!(dns.asked.is_empty());
    assert_eq!(
        targets("sip:192.0.2.5", &[Transport::Tcp], &mut dns),
        ["TCP 192.0.2.5:5060"],
        "no UDP here"
    );
}

#[test]
fn explicit_port_asks_for_addresses_only() {
    let mut dns = Dns::default().a("example.com", [192, 0, 2, 1]);
    assert_eq!(
        targets("sip:Example.COM.:5070", &ALL, &mut dns),
        ["UDP 192.0.2.1:5070"]
    );
    assert_eq!(
        targets("sips:example.com:5070", &ALL, &mut dns),
        ["TLS 192.0.2.1:5070"]
    );
    assert_eq!(dns.asked, ["A example.com", "A example.com"]);
}

#[test]
fn explicit_transport_asks_for_its_service_and_then_for_addresses() {
    let mut dns = Dns::default()
        .srv("_sip._tcp.example.com", &[(1, 5080, "a.example.com")])
        .a("a.example.com", [192, 0, 2, 1]);
    assert_eq!(
        targets("sip:example.com;transport=tcp", &ALL, &mut dns),
        ["TCP 192.0.2.1:5080"]
    );
    let mut dns = Dns::default().a("example.com", [192, 0, 2, 2]);
    assert_eq!(
        targets("sip:example.com;transport=tcp", &ALL, &mut dns),
        ["TCP 192.0.2.2:5060"]
    );
    assert_eq!(dns.asked, ["Srv _sip._tcp.example.com", "A example.com"]);
    let mut dns = Dns::default().a("example.com", [192, 0, 2, 2]);
    assert_eq!(
        targets("sips:example.com;transport=tcp", &ALL, &mut dns),
        ["TLS 192.0.2.2:5061"]
    );
    assert_eq!(dns.asked[0], "Srv _sips._tcp.example.com");
}

#[test]
fn naptr_decides_the_transport() {
    let mut dns = Dns::default()
        .naptr(
            "example.com",
            &[
                (50, 50, "SIPS+D2T", "_sips._tcp.example.com"),
                (90, 50, "SIP+D2T", "_sip._tcp.example.com"),
                (90, 60, "SIP+D2U", "_sip._udp.example.com."),
                (100, 50, "SIP+D2U", "_never._udp.example.com"),
            ],
        )
        .srv(
            "_sip._tcp.example.com",
            &[(2, 5060, "b.example.com"), (1, 5060, "a.example.com")],
        )
        .srv("_sip._udp.example.com", &[(1, 5062, "a.example.com")])
        .a("a.example.com", [192, 0, 2, 1])
        .a("b.example.com", [192, 0, 2, 2]);
    let found = targets("sip:example.com", &[Transport::Udp, Transport::Tcp], &mut dns);
    assert_eq!(
        found,
        ["TCP 192.0.2.1:5060", "TCP 192.0.2.2:5060", "UDP 192.0.2.1:5062"]
    );
    assert!(!dns.asked.iter().any(|asked| asked.contains("_never")));
    let naptr_only = targets("sips:example.com", &ALL, &mut dns);
    assert!(
        naptr_only.is_empty(),
        "a sips URI never goes by another transport: {naptr_only:?}"
    );
}

#[test]
fn without_naptr_each_transport_is_looked_for_in_the_order_of_preference() {
    let mut dns = Dns::default()
        .srv("_sip._udp.example.com", &[(1, 5060, "u.example.com")])
        .srv("_sips._tcp.example.com", &[(1, 5061, "t.example.com")])
        .a("u.example.com", [192, 0, 2, 1])
        .a("t.example.com", [192, 0, 2, 2])
        .a("example.com", [192, 0, 2, 3]);
    let found = targets(
        "sip:example.com",
        &[Transport::Tls, Transport::Tcp, Transport::Udp],
        &mut dns,
    );
    assert_eq!(
        found,
        ["TLS 192.0.2.2:5061", "UDP 192.0.2.1:5060"],
        "with SRV records, the name's own address does not count"
    );
}

#[test]
fn services_of_all_transports_are_asked_for_side_by_side() {
    let mut resolution = resolution("sip:example.com", &reach(&ALL)).unwrap();
    let naptr = resolution.poll_query().unwrap();
    assert_eq!(
        (naptr.record_type, naptr.name.as_str()),
        (RecordType::Naptr, "example.com")
    );
    assert_eq!(resolution.poll_query(), None);
    resolution.handle_answer(&naptr, Answer::NoRecords);
    let services: Vec<_> = std::iter::from_fn(|| resolution.poll_query()).collect();
    let names: Vec<_> = services.iter().map(|query| query.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "_sip._udp.example.com",
            "_sip._tcp.example.com",
            "_sips._tcp.example.com"
        ]
    );
    for query in services.iter().rev() {
        assert_eq!(resolution.next_target(|_| false), Next::Pending);
        resolution.handle_answer(query, Answer::NoRecords);
    }
    assert_eq!(
        resolution.poll_query().unwrap().record_type,
        RecordType::A,
        "no service: the name itself"
    );
}

#[test]
fn without_srv_the_name_itself_is_used() {
    let mut dns = Dns::default().a("example.com", [192, 0, 2, 3]);
    assert_eq!(targets("sip:example.com", &ALL, &mut dns), ["UDP 192.0.2.3:5060"]);
    assert_eq!(
        targets("sips:example.com", &ALL, &mut dns),
        ["TLS 192.0.2.3:5061"]
    );
}

#[test]
fn service_that_is_decidedly_not_available_ends_it() {
    let mut dns = Dns::default()
        .srv("_sip._udp.example.com", &[(0, 0, ".")])
        .a("example.com", [192, 0, 2, 3]);
    assert!(targets("sip:example.com;transport=udp", &ALL, &mut dns).is_empty());
}

#[test]
fn next_host_is_only_looked_up_when_the_first_has_failed() {
    let mut dns = Dns::default()
        .srv(
            "_sip._udp.example.com",
            &[(1, 5060, "a.example.com"), (2, 5060, "b.example.com")],
        )
        .a("a.example.com", [192, 0, 2, 1])
        .a("b.example.com", [192, 0, 2, 2]);
    let mut resolution = resolution("sip:example.com;transport=udp", &reach(&ALL)).unwrap();
    assert_eq!(resolution.next_target(|_| false), Next::Pending);
    dns.answer_all(&mut resolution);
    assert!(matches!(resolution.next_target(|_| false), Next::Target(_)));
    assert!(!dns.asked.iter().any(|asked| asked.contains("b.example.com")));
    let (rest, error) = walk(&mut resolution, &mut dns, |_| false);
    assert_eq!(
        (rest, error),
        (vec!["UDP 192.0.2.2:5060".to_owned()], ResolveError::NotFound)
    );
}

#[test]
fn both_families_are_asked_for_and_ipv6_comes_first() {
    let mut dns = Dns::default()
        .with(
            RecordType::Aaaa,
            "example.com",
            Answer::Aaaa(vec!["2001:db8::1".parse().unwrap()]),
        )
        .a("example.com", [192, 0, 2, 3]);
    let both = Reach {
        ipv6: true,
        ..reach(&ALL)
    };
    let found = walk(
        &mut resolution("sip:example.com:5060", &both).unwrap(),
        &mut dns,
        |_| false,
    )
    .0;
    assert_eq!(found, ["UDP [2001:db8::1]:5060", "UDP 192.0.2.3:5060"]);
    let only_v6 = Reach {
        ipv4: false,
        ipv6: true,
        ..reach(&ALL)
    };
    let found = walk(
        &mut resolution("sip:example.com:5060", &only_v6).unwrap(),
        &mut dns,
        |_| false,
    )
    .0;
    assert_eq!(found, ["UDP [2001:db8::1]:5060"]);
    assert_eq!(
        resolution("sip:192.0.2.1", &only_v6).unwrap_err(),
        ResolveError::NoTransport
    );
}

#[test]
fn failed_targets_are_tried_last() {
    let mut dns = Dns::default()
        .srv(
            "_sip._udp.example.com",
            &[(1, 5060, "a.example.com"), (2, 5060, "b.example.com")],
        )
        .a("a.example.com", [192, 0, 2, 1])
        .a("b.example.com", [192, 0, 2, 2]);
    let mut resolution = resolution("sip:example.com;transport=udp", &reach(&ALL)).unwrap();
    let (found, _) = walk(&mut resolution, &mut dns, |target| {
        target.address.ip() == IpAddr::from([192, 0, 2, 1])
    });
    assert_eq!(found, ["UDP 192.0.2.2:5060", "UDP 192.0.2.1:5060"]);
}

#[test]
fn large_request_is_tried_with_tcp_before_udp() {
    let mut dns = Dns::default();
    let large = Reach {
        large: true,
        ..reach(&ALL)
    };
    let found = walk(
        &mut resolution("sip:192.0.2.5:5070", &large).unwrap(),
        &mut dns,
        |_| false,
    )
    .0;
    assert_eq!(found, ["TCP 192.0.2.5:5070", "UDP 192.0.2.5:5070"]);
    let found = walk(
        &mut resolution("sips:192.0.2.5", &large).unwrap(),
        &mut dns,
        |_| false,
    )
    .0;
    assert_eq!(found, ["TLS 192.0.2.5:5061"]);
}

#[test]
fn what_cannot_be_reached_says_why() {
    let error = |uri: &str, transports: &[Transport]| resolution(uri, &reach(transports)).unwrap_err();
    assert_eq!(error("tel:+15551234", &ALL), ResolveError::Scheme);
    assert_eq!(
        error("sips:example.com", &[Transport::Udp, Transport::Tcp]),
        ResolveError::NoTransport
    );
    assert_eq!(
        error("sips:example.com;transport=udp", &ALL),
        ResolveError::NoTransport
    );
    assert_eq!(
        error("sip:example.com;transport=sctp", &ALL),
        ResolveError::NoTransport
    );
    assert_eq!(
        error("sip:example.com;transport=tls", &[Transport::Udp]),
        ResolveError::NoTransport
    );
    let nothing = walk(
        &mut resolution("sip:example.com", &reach(&ALL)).unwrap(),
        &mut Dns::default(),
        |_| false,
    );
    assert_eq!(nothing, (vec![], ResolveError::NotFound));
    let mut broken = Dns::default().with(RecordType::A, "example.com", Answer::Failed);
    let failed = walk(
        &mut resolution("sip:example.com", &reach(&ALL)).unwrap(),
        &mut broken,
        |_| false,
    );
    assert_eq!(failed, (vec![], ResolveError::Dns));
    assert_eq!(
        [416, 480, 404, 504],
        [
            ResolveError::Scheme,
            ResolveError::NoTransport,
            ResolveError::NotFound,
            ResolveError::Dns
        ]
        .map(ResolveError::status)
    );
}

#[test]
fn answers_nobody_asked_for_and_endless_answers_do_no_harm() {
    let mut resolution = resolution("sip:example.com:5060", &reach(&ALL)).unwrap();
    let query = Query {
        record_type: RecordType::A,
        name: "example.com".to_owned(),
    };
    resolution.handle_answer(&query, Answer::A(vec![[192, 0, 2, 66].into()]));
    assert_eq!(
        resolution.next_target(|_| false),
        Next::Pending,
        "it was not asked yet"
    );
    assert_eq!(resolution.poll_query(), Some(query.clone()));
    assert_eq!(resolution.poll_query(), None);
    resolution.handle_answer(&query, Answer::Srv(vec![]));
    assert_eq!(
        resolution.next_target(|_| false),
        Next::Exhausted(ResolveError::NotFound),
        "an answer of the wrong type is none"
    );

    let many = (0..1_000).map(|n| Srv {
        priority: n,
        weight: 0,
        port: 5060,
        target: format!("192.0.2.{}", n % 200 + 1),
    });
    let mut dns = Dns::default().with(
        RecordType::Srv,
        "_sip._udp.example.com",
        Answer::Srv(many.collect()),
    );
    assert_eq!(
        targets("sip:example.com;transport=udp", &ALL, &mut dns).len(),
        MAX_TARGETS
    );
}

fn records() -> impl Strategy<Value = Answer> {
    let name = || {
        prop_oneof![
            Just("example.com"),
            Just("a.example.com"),
            Just("_sip._udp.example.com"),
            Just("."),
            Just("192.0.2.1")
        ]
    };
    let srv = (0..3u16, 0..3u16, 0..3u16, name()).prop_map(|(priority, weight, port, target)| Srv {
        priority,
        weight,
        port,
        target: target.to_owned(),
    });
    let service = prop_oneof![
        Just("SIP+D2U"),
        Just("SIP+D2T"),
        Just("SIPS+D2T"),
        Just("E2U+sip"),
        Just("")
    ];
    let naptr = (
        0..3u16,
        0..3u16,
        prop_oneof![Just("s"), Just("u"), Just("")],
        service,
        name(),
    )
        .prop_map(|(order, preference, flags, service, replacement)| Naptr {
            order,
            preference,
            flags: flags.to_owned(),
            service: service.to_owned(),
            replacement: replacement.to_owned(),
        });
    prop_oneof![
        proptest::collection::vec(srv, 0..6).prop_map(Answer::Srv),
        proptest::collection::vec(naptr, 0..6).prop_map(Answer::Naptr),
        proptest::collection::vec(any::<[u8; 4]>().prop_map(Ipv4Addr::from), 0..12).prop_map(Answer::A),
        Just(Answer::NoRecords),
        Just(Answer::Failed),
    ]
}

proptest! {
    /// Whatever the DNS says, even answers of the wrong type: it ends, soon, and never leaves TLS for a sips URI.
    #[test]
    fn resolution_ends_whatever_the_dns_says(
        answers in proptest::collection::vec(records(), 1..40),
        uri in prop_oneof![Just("sip:example.com"), Just("sips:example.com"), Just("sip:example.com;transport=tcp")],
        seed in any::<u64>(),
    ) {
        let mut resolution = Resolution::new(&Uri::parse(uri).unwrap(), &reach(&ALL), seed).unwrap();
        let mut answers = answers.into_iter().cycle();
        let (mut queries, mut targets) = (0, 0);
        loop {
            match resolution.next_target(|target| target.address.port() == 1) {
                Next::Target(target) => {
                    targets += 1;
                    prop_assert!(!uri.starts_with("sips") || target.transport == Transport::Tls);
                }
                Next::Exhausted(_) => break,
                Next::Pending => {
                    let query = resolution.poll_query().expect("nothing is pending but what was asked");
                    queries += 1;
                    resolution.handle_answer(&query, answers.next().unwrap());
                }
            }
        }
        prop_assert!(targets <= MAX_TARGETS);
        prop_assert!(queries <= 1 + 3 * (1 + 2 * MAX_RECORDS), "{} questions", queries);
    }
}
