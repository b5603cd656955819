//! Questions to a name server on loopback that knows a small zone and counts what it is asked.

use std::{collections::HashMap, net::UdpSocket, sync::mpsc as channel};

use hickory_resolver::proto::{
    op::{Message, ResponseCode},
    rr::{self, Name, RData, Record, rdata},
};

use super::*;

/// A name server in a thread, until it is dropped.
struct Server {
    address: SocketAddr,
    asked: Arc<Mutex<HashMap<String, usize>>>,
}

/// How a server treats what it is asked.
#[derive(Clone, Copy)]
enum Manner {
    Knows,
    Fails,
    IsSilent,
}

impl Server {
    fn start(manner: Manner) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let address = socket.local_addr().expect("an address");
        let asked = Arc::new(Mutex::new(HashMap::new()));
        let counts = Arc::clone(&asked);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                if length == 0 {
                    return;
                }
                let request = Message::from_vec(&buffer[..length]).expect("a question");
                let name = request.queries[0].name().to_ascii().to_lowercase();
                *counts.lock().expect("the counts").entry(name).or_insert(0) += 1;
                if let Some(response) = respond(manner, &request) {
                    socket
                        .send_to(&response.to_vec().expect("a response"), from)
                        .expect("sent");
                }
            }
        });
        Self { address, asked }
    }

    fn asked(&self, name: &str) -> usize {
        self.asked
            .lock()
            .expect("the counts")
            .get(name)
            .copied()
            .unwrap_or(0)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.send_to(&[], self.address).expect("the end");
    }
}

fn respond(manner: Manner, request: &Message) -> Option<Message> {
    let query = request.queries[0].clone();
    let mut response = Message::response(request.metadata.id, request.metadata.op_code);
    response.add_query(query.clone());
    match manner {
        Manner::IsSilent => return None,
        Manner::Fails => response.metadata.response_code = ResponseCode::ServFail,
        Manner::Knows => {
            let name = query.name().to_ascii().to_lowercase();
            let records = zone(&name, query.query_type());
            if records.is_empty() && !name.starts_with("empty") {
                response.metadata.response_code = ResponseCode::NXDomain;
            }
            response.add_answers(records);
        }
    }
    Some(response)
}

fn zone(name: &str, record_type: rr::RecordType) -> Vec<Record> {
    let domain = |text: &str| Name::from_ascii(text).expect("a name");
    let record = |owner: &str, data| Record::from_rdata(domain(owner), 300, data);
    match (name, record_type) {
        ("example.org.", rr::RecordType::NAPTR) => vec![record(
            name,
            RData::NAPTR(rdata::NAPTR::new(
                10,
                20,
                b"s".as_slice().into(),
                b"SIP+D2U".as_slice().into(),
                b"".as_slice().into(),
                domain("_sip._udp.example.org."),
            )),
        )],
        ("_sip._udp.example.org.", rr::RecordType::SRV) => {
            let srv = |priority, weight, target| {
                record(
                    name,
                    RData::SRV(rdata::SRV::new(priority, weight, 5060, domain(target))),
                )
            };
            vec![
                srv(1, 60, "a.example.org."),
                srv(1, 40, "b.example.org."),
                srv(2, 0, "."),
            ]
        }
        ("a.example.org.", rr::RecordType::A) => vec![
            record(name, RData::A(rdata::A::new(192, 0, 2, 1))),
            record(name, RData::A(rdata::A::new(192, 0, 2, 2))),
        ],
        ("a.example.org.", rr::RecordType::AAAA) => {
            vec![record(
                name,
                RData::AAAA(rdata::AAAA::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
            )]
        }
        ("alias.example.org.", rr::RecordType::A) => vec![
            record(name, RData::CNAME(rdata::CNAME(domain("real.example.org.")))),
            record("real.example.org.", RData::A(rdata::A::new(192, 0, 2, 9))),
        ],
        _ => Vec::new(),
    }
}

fn resolver(servers: &[&Server]) -> Resolver {
    let servers = servers.iter().map(|server| server.address).collect();
    Resolver::new(DnsOptions {
        servers,
        ..DnsOptions::default()
    })
    .expect("a thread")
}

fn ask(resolver: &Resolver, record_type: RecordType, name: &str) -> Answer {
    let (sender, receiver) = channel::channel();
    resolver.query(Query::new(record_type, name), move |answer| {
        sender.send(answer).expect("somebody waits")
    });
    receiver.recv_timeout(Duration::from_secs(20)).expect("an answer")
}

#[test]
fn the_four_types_of_records_are_found() {
    let server = Server::start(Manner::Knows);
    let resolver = resolver(&[&server]);
    let naptr = ask(&resolver, RecordType::Naptr, "Example.ORG").result;
    let expected = Naptr {
        order: 10,
        preference: 20,
        flags: "s".into(),
        service: "SIP+D2U".into(),
        regexp: String::new(),
        replacement: "_sip._udp.example.org".into(),
    };
    assert_eq!(naptr, Ok(Records::Naptr(vec![expected])));
    let srv = ask(&resolver, RecordType::Srv, "_sip._udp.example.org").result;
    let expected = |priority, weight, target: &str| Srv {
        priority,
        weight,
        port: 5060,
        target: target.into(),
    };
    let expected = vec![
        expected(1, 60, "a.example.org"),
        expected(1, 40, "b.example.org"),
        expected(2, 0, ""),
    ];
    assert_eq!(srv, Ok(Records::Srv(expected)));
    let a = ask(&resolver, RecordType::A, "a.example.org.").result;
    assert_eq!(
        a,
        Ok(Records::A(vec![[192, 0, 2, 1].into(), [192, 0, 2, 2].into()]))
    );
    let aaaa = ask(&resolver, RecordType::Aaaa, "a.example.org").result;
    assert_eq!(
        aaaa,
        Ok(Records::Aaaa(vec!["2001:db8::1".parse().expect("an address")]))
    );
}

#[test]
fn an_alias_is_followed() {
    let server = Server::start(Manner::Knows);
    let answer = ask(&resolver(&[&server]), RecordType::A, "alias.example.org").result;
    assert_eq!(answer, Ok(Records::A(vec![[192, 0, 2, 9].into()])));
}

#[test]
fn answers_are_asked_for_once_and_then_kept() {
    let server = Server::start(Manner::Knows);
    let resolver = resolver(&[&server]);
    let query = Query::new(RecordType::A, "a.example.org");
    assert_eq!(resolver.cached(&query, clock::now()), None);
    let first = ask(&resolver, RecordType::A, "a.example.org");
    let second = ask(&resolver, RecordType::A, "A.example.org.");
    assert_eq!(first, second);
    assert_eq!(server.asked("a.example.org."), 1);
    assert_eq!(resolver.cached(&query, clock::now()), Some(first.clone()));
    assert_eq!(resolver.cached(&query, first.expires), None);
}

#[test]
fn what_does_not_exist_is_remembered_too() {
    let server = Server::start(Manner::Knows);
    let resolver = resolver(&[&server]);
    for _ in 0..3 {
        assert_eq!(
            ask(&resolver, RecordType::A, "nobody.example.org").result,
            Err(LookupError::NotFound)
        );
        assert_eq!(
            ask(&resolver, RecordType::Srv, "empty.example.org").result,
            Err(LookupError::NoRecords)
        );
    }
    assert_eq!(
        (
            server.asked("nobody.example.org."),
            server.asked("empty.example.org.")
        ),
        (1, 1)
    );
}

#[test]
fn questions_asked_at_once_are_asked_once() {
    let server = Server::start(Manner::Knows);
    let resolver = resolver(&[&server]);
    let (sender, receiver) = channel::channel();
    for _ in 0..50 {
        let sender = sender.clone();
        resolver.query(Query::new(RecordType::A, "a.example.org"), move |answer| {
            sender.send(answer.result.is_ok()).expect("somebody waits");
        });
    }
    drop(sender);
    assert_eq!(receiver.iter().filter(|&found| found).count(), 50);
    assert_eq!(server.asked("a.example.org."), 1);
}

#[test]
fn a_dead_name_server_does_not_cost_the_answer() {
    let (dead, alive) = (Server::start(Manner::IsSilent), Server::start(Manner::Knows));
    for servers in [[&dead, &alive], [&alive, &dead]] {
        assert!(
            ask(&resolver(&servers), RecordType::A, "a.example.org")
                .result
                .is_ok()
        );
    }
}

#[test]
fn a_failing_name_server_does_not_cost_the_answer() {
    let (failing, alive) = (Server::start(Manner::Fails), Server::start(Manner::Knows));
    for servers in [[&failing, &alive], [&alive, &failing]] {
        assert!(
            ask(&resolver(&servers), RecordType::A, "a.example.org")
                .result
                .is_ok()
        );
    }
}

#[test]
fn failures_are_remembered_for_a_while() {
    let server = Server::start(Manner::Fails);
    let resolver = resolver(&[&server]);
    assert_eq!(
        ask(&resolver, RecordType::A, "a.example.org").result,
        Err(LookupError::Failed)
    );
    let asked = server.asked("a.example.org.");
    assert_eq!(
        ask(&resolver, RecordType::A, "a.example.org").result,
        Err(LookupError::Failed)
    );
    assert_eq!(server.asked("a.example.org."), asked);
}

#[test]
fn silence_ends_with_the_budget() {
    let server = Server::start(Manner::IsSilent);
    let budget = Duration::from_millis(100);
    let options = DnsOptions {
        servers: vec![server.address],
        budget,
        ..DnsOptions::default()
    };
    let resolver = Resolver::new(options).expect("a thread");
    assert_eq!(
        ask(&resolver, RecordType::A, "a.example.org").result,
        Err(LookupError::Timeout)
    );
}

#[test]
fn too_many_questions_are_turned_away_at_once() {
    let server = Server::start(Manner::IsSilent);
    let budget = Duration::from_millis(200);
    let options = DnsOptions {
        servers: vec![server.address],
        pending: 4,
        budget,
        ..DnsOptions::default()
    };
    let resolver = Resolver::new(options).expect("a thread");
    let (sender, receiver) = channel::channel();
    for number in 0..100 {
        let sender = sender.clone();
        resolver.query(
            Query::new(RecordType::A, &format!("host{number}.example.org")),
            move |answer| {
                sender.send(answer.result).expect("somebody waits");
            },
        );
    }
    drop(sender);
    let results: Vec<_> = receiver.iter().collect();
    assert_eq!(results.len(), 100, "everybody is answered");
    assert!(
        results
            .iter()
            .filter(|result| **result == Err(LookupError::Busy))
            .count()
            >= 90
    );
}

#[test]
fn nonsense_is_not_asked_for() {
    let server = Server::start(Manner::Knows);
    let resolver = resolver(&[&server]);
    for name in ["a..b", "x y\u{e9}", &"a".repeat(64), &"a.".repeat(200)] {
        assert_eq!(
            ask(&resolver, RecordType::A, name).result,
            Err(LookupError::InvalidName),
            "{name}"
        );
    }
    assert!(server.asked.lock().expect("the counts").is_empty());
}
