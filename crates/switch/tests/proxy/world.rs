//! The surroundings of the switches: a clock, a directory, relay ports that keep books, a store and a packet side that answer at
//! once unless told not to.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use media::stream::StreamCounters;
use media::{AddressFamily, Command, PortId, PortPair, RelayPorts, Report, StreamId};
use sip::resolve::{Answer, Query};
use sip::{Flow, Transport};
use switch::auth::{AuthConfig, AuthShared};
use switch::directory::{Account, AddressOfRecord};
use switch::registrar::RegistrarConfig;
use switch::{CallRecord, Change, Clock, Config, Directory, DnsId, Event, Location, Shared, Switch, Ticket};

use crate::phone::{Phone, request};

/// The domain of the accounts.
pub(crate) const DOMAIN: &str = "example.org";
/// The password of every account.
pub(crate) const PASSWORD: &str = "secret";
/// Our addresses.
pub(crate) const V4: &str = "203.0.113.2:5060";
pub(crate) const V6: &str = "[2001:db8::2]:5060";

/// A message that left.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) flow: Flow,
    pub(crate) text: String,
}

pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) switches: Vec<Switch>,
    pub(crate) sent: VecDeque<Sent>,
    pub(crate) ports: Arc<Mutex<Book>>,
    pub(crate) commands: Vec<Command>,
    pub(crate) records: Vec<CallRecord>,
    pub(crate) questions: Vec<(usize, DnsId, Query)>,
    pub(crate) handed_over: usize,
    /// Writes that wait, when the store does not answer at once.
    pub(crate) tickets: Vec<(usize, Ticket)>,
    /// The store and the packet side answer at once.
    pub(crate) store_answers: bool,
    pub(crate) relay_answers: bool,
    /// What the packet side counted for every stream.
    pub(crate) counters: StreamCounters,
    start: Instant,
}

/// Relay ports that are out.
#[derive(Default)]
pub(crate) struct Book {
    next: u32,
    pub(crate) taken: BTreeSet<PortId>,
    pub(crate) limit: Option<usize>,
}

struct Pool(Arc<Mutex<Book>>);

impl RelayPorts for Pool {
    fn allocate(&mut self, family: AddressFamily) -> Option<PortPair> {
        let mut book = self.0.lock().expect("no test panics while it holds it");
        if book.limit.is_some_and(|limit| book.taken.len() >= limit) {
            return None;
        }
        let id = PortId(book.next);
        let port = 30_000 + 2 * (book.next % 10_000) as u16;
        book.next += 1;
        book.taken.insert(id);
        let ip = match family {
            AddressFamily::V4 => "203.0.113.10",
            AddressFamily::V6 => "2001:db8::10",
        };
        Some(PortPair {
            id,
            rtp: SocketAddr::new(ip.parse().expect("an address"), port),
        })
    }

    fn release(&mut self, id: PortId) {
        let mut book = self.0.lock().expect("no test panics while it holds it");
        assert!(book.taken.remove(&id), "{id:?} is released twice");
    }
}

impl World {
    /// One worker with the usual settings. Telephones in 192.0.2.0/24 and 2001:db8:1::/48 are trusted, others are not.
    pub(crate) fn new() -> Self {
        Self::with(1, |_| {})
    }

    /// As many workers as wanted, with settings.
    pub(crate) fn with(workers: u8, change: impl FnOnce(&mut Config)) -> Self {
        #[allow(clippy::disallowed_methods)]
        let start = Instant::now();
        let mut config = Config {
            outbound: vec![
                (Transport::Udp, address(V4)),
                (Transport::Tcp, address(V4)),
                (Transport::Udp, address(V6)),
            ],
            ..Config::default()
        };
        config.keepalive.interval = Duration::ZERO;
        change(&mut config);
        let own = [address(V4).ip(), address(V6).ip()];
        let directory = Arc::new(Directory::new([DOMAIN], own, [1; 16]));
        for user in ["alice", "bob", "carol"] {
            let aor = AddressOfRecord::new(user, DOMAIN);
            directory.put(aor.clone(), Account::with_password(&aor, PASSWORD));
        }
        let trusted = ["192.0.2.0/24", "2001:db8:1::/48"];
        let auth = AuthConfig {
            trusted: trusted.map(|net| net.parse().expect("a network")).into(),
            ..AuthConfig::default()
        };
        let shared = Arc::new(Shared {
            config,
            registrar: RegistrarConfig {
                durable: false,
                ..RegistrarConfig::default()
            },
            directory: Arc::clone(&directory),
            location: Arc::new(Location::new([2; 16])),
            auth: Arc::new(AuthShared::new(auth, workers, [3; 16])),
            workers,
            secret: [4; 16],
        });
        let ports = Arc::new(Mutex::new(Book::default()));
        let clock = Clock {
            instant: start,
            unix_ms: UNIX_MS,
        };
        let switch = |worker: u8| {
            let pool = Box::new(Pool(Arc::clone(&ports)));
            Switch::new(Arc::clone(&shared), worker, clock, pool, [worker + 5; 16])
        };
        World {
            now: start,
            switches: (0..workers).map(switch).collect(),
            sent: VecDeque::new(),
            ports,
            commands: Vec::new(),
            records: Vec::new(),
            questions: Vec::new(),
            handed_over: 0,
            tickets: Vec::new(),
            store_answers: true,
            relay_answers: true,
            counters: StreamCounters::default(),
            start,
        }
    }

    /// A telephone says something to the first worker.
    pub(crate) fn say(&mut self, phone: &Phone, text: &str) {
        self.say_to(0, &phone.flow, text);
    }

    /// A message comes to a worker.
    pub(crate) fn say_to(&mut self, worker: usize, flow: &Flow, text: &str) {
        self.switches[worker].handle_message(self.now, flow, text.as_bytes());
        self.collect();
    }

    /// Takes what the switches have to say, and carries it out.
    pub(crate) fn collect(&mut self) {
        let mut busy = true;
        while busy {
            busy = false;
            for worker in 0..self.switches.len() {
                let switch = &mut self.switches[worker];
                for (flow, bytes) in switch.outbox().iter() {
                    let text = String::from_utf8(bytes.to_vec()).expect("what leaves is text");
                    self.sent.push_back(Sent { flow: *flow, text });
                }
                switch.outbox().clear();
                while let Some(event) = self.switches[worker].poll_event() {
                    busy = true;
                    self.carry_out(worker, event);
                }
            }
        }
    }

    fn carry_out(&mut self, worker: usize, event: Event) {
        match event {
            Event::HandOver {
                worker: other,
                flow,
                message,
                first,
            } => {
                assert_ne!(usize::from(other), worker, "handed over to itself");
                self.handed_over += 1;
                self.switches[usize::from(other)].handle_handed_over(self.now, &flow, &message, first);
            }
            Event::Dns { id, query } => self.questions.push((worker, id, query)),
            Event::Store { ticket, change } => {
                if let Change::Record(record) = change {
                    self.records.push(*record);
                }
                match ticket {
                    Some(ticket) if self.store_answers => {
                        self.switches[worker].handle_stored(self.now, ticket, true);
                    }
                    Some(ticket) => self.tickets.push((worker, ticket)),
                    None => {}
                }
            }
            Event::Media(command) => {
                let ended = match command {
                    Command::Close { stream } if self.relay_answers => Some(stream),
                    _ => None,
                };
                self.commands.push(command);
                if let Some(stream) = ended {
                    self.report_end(worker, stream);
                }
            }
            other => panic!("unexpected {other:?}"),
        }
    }

    /// The packet side has closed a stream.
    pub(crate) fn report_end(&mut self, worker: usize, stream: StreamId) {
        let counters = self.counters;
        self.switches[worker].handle_report(self.now, &Report::Ended { stream, counters });
        self.collect();
    }

    /// The store answers what waits.
    pub(crate) fn store_now(&mut self) {
        for (worker, ticket) in std::mem::take(&mut self.tickets) {
            self.switches[worker].handle_stored(self.now, ticket, true);
        }
        self.collect();
    }

    /// Lets time pass, firing every timer at its time.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let next = self.switches.iter().filter_map(Switch::poll_timeout).min();
            let Some(next) = next.filter(|next| *next <= end) else {
                break;
            };
            self.now = self.now.max(next);
            for switch in &mut self.switches {
                switch.handle_timeout(self.now);
            }
            self.collect();
        }
        self.now = end;
    }

    pub(crate) fn pass_ms(&mut self, ms: u64) {
        self.pass(Duration::from_millis(ms));
    }

    pub(crate) fn pass_s(&mut self, s: u64) {
        self.pass(Duration::from_secs(s));
    }

    /// Milliseconds since the start, as the records count them.
    pub(crate) fn unix_ms(&self) -> u64 {
        UNIX_MS + self.now.duration_since(self.start).as_millis() as u64
    }

    /// What has been sent to a telephone since it was last asked for.
    pub(crate) fn to(&mut self, phone: &Phone) -> Vec<Sent> {
        let (mine, others) = std::mem::take(&mut self.sent).into_iter().partition(|sent| {
            sent.flow.remote == phone.flow.remote && sent.flow.transport == phone.flow.transport
        });
        self.sent = others;
        VecDeque::into(mine)
    }

    /// The one message that has been sent to a telephone.
    pub(crate) fn one(&mut self, phone: &Phone) -> Sent {
        let mut all = self.to(phone);
        assert_eq!(
            all.len(),
            1,
            "expected one message to {}, found {all:#?}",
            phone.name
        );
        all.remove(0)
    }

    /// The one message to a telephone, which is a response with that status.
    pub(crate) fn status(&mut self, phone: &Phone, status: u16) -> Sent {
        let sent = self.one(phone);
        assert_eq!(sent.status(), Some(status), "{sent:#?}");
        sent
    }

    /// The one message to a telephone, which is a request with that method.
    pub(crate) fn request(&mut self, phone: &Phone, method: &str) -> Sent {
        let sent = self.one(phone);
        assert_eq!(sent.method(), method, "{sent:#?}");
        sent
    }

    /// Nothing has been sent to anybody that was not asked for.
    pub(crate) fn nothing(&mut self) {
        assert!(self.sent.is_empty(), "expected silence, found {:#?}", self.sent);
    }

    /// Registers a telephone.
    pub(crate) fn register(&mut self, phone: &Phone) {
        self.register_with(phone, "");
    }

    /// Registers a telephone with further header lines.
    pub(crate) fn register_with(&mut self, phone: &Phone, lines: &str) {
        let own = format!("<sip:{}@{DOMAIN}>", phone.name);
        let text = request(
            phone,
            "REGISTER",
            &format!("sip:{DOMAIN}"),
            &format!(
                "From: {own};tag=r\nTo: {own}\nCall-ID: reg-{}-{}\nCSeq: 1 REGISTER\nContact: <{}>\n{lines}",
                phone.name, phone.flow.remote, phone.contact
            ),
            "",
        );
        self.say(phone, &text);
        self.status(phone, 200);
    }

    /// Answers all open questions to the DNS.
    pub(crate) fn dns(&mut self, mut answer: impl FnMut(&Query) -> Answer) {
        for (worker, id, query) in std::mem::take(&mut self.questions) {
            let answer = answer(&query);
            self.switches[worker].handle_dns(self.now, id, answer);
            self.collect();
        }
    }

    /// How many relay ports are out.
    pub(crate) fn ports_out(&self) -> usize {
        self.ports
            .lock()
            .expect("no test panics while it holds it")
            .taken
            .len()
    }

    /// After all timers nothing is left. Messages that are still under way are dropped.
    pub(crate) fn ends_empty(&mut self) {
        self.pass_s(300);
        self.sent.clear();
        for switch in &self.switches {
            assert_eq!(switch.load(), (0, 0), "transactions and calls that are left");
        }
        assert_eq!(self.ports_out(), 0, "relay ports that are left");
    }
}

impl Sent {
    /// The start line.
    pub(crate) fn start(&self) -> &str {
        self.text.lines().next().unwrap_or_default()
    }

    pub(crate) fn status(&self) -> Option<u16> {
        self.start().strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()
    }

    pub(crate) fn method(&self) -> &str {
        match self.status() {
            Some(_) => "",
            None => self.start().split(' ').next().unwrap_or_default(),
        }
    }

    pub(crate) fn uri(&self) -> &str {
        self.start().split(' ').nth(1).unwrap_or_default()
    }

    /// The values of a header field, line by line.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let head = self.text.split("\r\n\r\n").next().unwrap_or_default();
        head.split("\r\n")
            .skip(1)
            .filter_map(|line| line.split_once(':'))
            .filter(|(found, _)| found.trim().eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
            .collect()
    }

    /// The one value of a header field.
    pub(crate) fn get(&self, name: &str) -> &str {
        let all = self.all(name);
        assert_eq!(all.len(), 1, "expected one {name}, found {self:#?}");
        all[0]
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        !self.all(name).is_empty()
    }

    pub(crate) fn body(&self) -> &str {
        self.text.split_once("\r\n\r\n").map_or("", |(_, body)| body)
    }

    pub(crate) fn branch(&self) -> &str {
        param(self.all("Via")[0], "branch")
    }

    pub(crate) fn to_tag(&self) -> &str {
        param(self.get("To"), "tag")
    }

    /// The body has the length that the head says.
    pub(crate) fn assert_length(&self) {
        let length: usize = self.get("Content-Length").parse().expect("a number");
        assert_eq!(length, self.body().len(), "{self:#?}");
    }
}

/// The value of a parameter.
pub(crate) fn param<'a>(value: &'a str, name: &str) -> &'a str {
    value
        .split(';')
        .filter_map(|part| part.split_once('='))
        .find(|(found, _)| *found == name)
        .map_or("", |(_, value)| value.trim_end_matches('>'))
}

pub(crate) fn address(text: &str) -> SocketAddr {
    text.parse().expect("a socket address")
}

/// When the simulation begins.
const UNIX_MS: u64 = 2_000_000_000_000;
