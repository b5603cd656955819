//! What each unit of signalling costs the switch itself, in nanoseconds on one thread, without sockets: an OPTIONS answered, a
//! REGISTER with its challenge, a call of seven messages.
//!
//!     cargo run --release -p switch --example switch_cost
//!
//! The figure is that of the quickest round, since whatever else the machine does only adds to it. Under
//! `valgrind --tool=callgrind --toggle-collect='switch::switch::Switch::handle_message'` the same program counts instructions.
#![allow(clippy::disallowed_methods, reason = "it measures time")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use media::{AddressFamily, PortId, PortPair, RelayPorts};
use sip::digest::{ClientAuthorization, Login};
use sip::{Flow, HeaderId, Index, Message, Transport};
use switch::auth::{AuthConfig, AuthShared};
use switch::directory::{Account, AddressOfRecord};
use switch::registrar::RegistrarConfig;
use switch::{Clock, Config, Directory, Location, Shared, Switch};

const USERS: usize = 500;
const ROUNDS: usize = 20;

fn main() {
    let only = std::env::args().nth(1);
    for (name, unit) in [
        ("options", options as fn(&mut Bench, usize)),
        ("register", register),
        ("call", call),
    ] {
        if only.as_deref().is_none_or(|only| only == name) {
            let mut bench = Bench::new();
            // The first round makes the bindings.
            bench.round(unit);
            let best = (0..ROUNDS).map(|_| bench.round(unit)).min().unwrap_or_default();
            println!("{name:>10} {:>7} ns", best.as_nanos());
        }
    }
}

struct Bench {
    switch: Switch,
    now: Instant,
    spent: Duration,
    count: u32,
    index: Index,
}

impl Bench {
    fn new() -> Self {
        let directory = Arc::new(Directory::new(["example.org"], [], [1; 16]));
        for user in 0..USERS {
            for kind in ["u", "c"] {
                let aor = AddressOfRecord::new(&format!("{kind}{user:06}"), "example.org");
                directory.put(aor.clone(), Account::with_password(&aor, "bench"));
            }
        }
        let auth = AuthConfig {
            trusted: vec!["127.0.1.0/24".parse().expect("a network")],
            algorithms: vec![sip::digest::Algorithm::Md5],
            ..AuthConfig::default()
        };
        let local = "127.0.0.1:5060".parse().expect("an address");
        let shared = Arc::new(Shared {
            config: Config {
                outbound: vec![(Transport::Udp, local)],
                relay: media::negotiation::RelayPolicy::Never,
                records: false,
                max_transactions: 1_000_000,
                max_calls: 1_000_000,
                ..Config::default()
            },
            registrar: RegistrarConfig {
                durable: false,
                ..RegistrarConfig::default()
            },
            directory: Arc::clone(&directory),
            location: Arc::new(Location::new([2; 16])),
            auth: Arc::new(AuthShared::new(auth, 1, [3; 16])),
            workers: 1,
            secret: [4; 16],
        });
        let now = Instant::now();
        let clock = Clock {
            instant: now,
            unix_ms: 2_000_000_000_000,
        };
        Bench {
            switch: Switch::new(shared, 0, clock, Box::new(NoPorts), [5; 16]),
            now,
            spent: Duration::ZERO,
            count: 0,
            index: Index::new(),
        }
    }

    /// One unit of every user; the time that the switch took for each. The timers in between are not counted.
    fn round(&mut self, unit: fn(&mut Bench, usize)) -> Duration {
        self.spent = Duration::ZERO;
        for user in 0..USERS {
            self.count += 1;
            unit(self, user);
        }
        self.now += Duration::from_secs(40);
        self.switch.handle_timeout(self.now);
        self.switch.outbox().clear();
        self.spent / USERS as u32
    }

    /// A message goes in; what comes out.
    fn say(&mut self, flow: &Flow, message: &str) -> Vec<String> {
        let start = Instant::now();
        self.switch.handle_message(self.now, flow, message.as_bytes());
        self.spent += start.elapsed();
        let outbox = self.switch.outbox();
        let sent = outbox.iter();
        let sent = sent
            .map(|(_, bytes)| String::from_utf8_lossy(bytes).into_owned())
            .collect();
        outbox.clear();
        while self.switch.poll_event().is_some() {}
        sent
    }

    /// A response to a request, with the header fields and body given.
    fn respond(&mut self, flow: &Flow, request: &str, status: &str, more: &str, body: &str) -> Vec<String> {
        self.index.parse(request.as_bytes()).expect("a message");
        let m = Message::new(request.as_bytes(), &self.index);
        let mut response = format!("SIP/2.0 {status}\r\n");
        for header in m.headers() {
            let value = header.text().expect("text");
            match header.id {
                HeaderId::Via
                | HeaderId::From
                | HeaderId::CallId
                | HeaderId::CSeq
                | HeaderId::RecordRoute => {
                    response += &format!("{}: {value}\r\n", header.name);
                }
                HeaderId::To if !value.contains("tag=") => response += &format!("To: {value};tag=callee\r\n"),
                HeaderId::To => response += &format!("To: {value}\r\n"),
                _ => {}
            }
        }
        response += &format!("{more}{TELEPHONE}Content-Length: {}\r\n\r\n{body}", body.len());
        self.say(flow, &response)
    }
}

fn options(bench: &mut Bench, user: usize) {
    let flow = flow(1, user);
    let start = start("OPTIONS", "sip:example.org", &flow, bench.count);
    let n = bench.count;
    let request = format!(
        "{start}From: <sip:u{user:06}@example.org>;tag=f{n:015}\r\nTo: <sip:example.org>\r\nCall-ID: {n:08}@load\r\n\
         CSeq: {n} OPTIONS\r\nContact: <sip:u{user:06}@{}>\r\nAccept: application/sdp\r\n{TELEPHONE}Content-Length: 0\r\n\r\n",
        flow.remote
    );
    let answer = bench.say(&flow, &request);
    assert!(answer[0].starts_with("SIP/2.0 200"));
}

fn register(bench: &mut Bench, user: usize) {
    let flow = flow(2, user);
    let n = bench.count;
    let request = |cseq: u32, credentials: &str| {
        let start = start("REGISTER", "sip:example.org", &flow, 2 * n + cseq);
        format!(
            "{start}From: <sip:u{user:06}@example.org>;tag=f{n:015}\r\nTo: <sip:u{user:06}@example.org>\r\n\
             Call-ID: {user:08}@load\r\nCSeq: {} REGISTER\r\nContact: <sip:u{user:06}@{}>\r\nExpires: 3600\r\n{TELEPHONE}\
             {credentials}Content-Length: 0\r\n\r\n",
            2 * n + cseq,
            flow.remote
        )
    };
    let answer = bench.say(&flow, &request(0, ""));
    let mut index = Index::new();
    index.parse(answer[0].as_bytes()).expect("a message");
    let m = Message::new(answer[0].as_bytes(), &index);
    let challenges = m.challenges(HeaderId::WwwAuthenticate).filter_map(Result::ok);
    let mut client = ClientAuthorization::from_challenges(challenges).expect("a known algorithm");
    let login = Login {
        username: format!("u{user:06}"),
        password: "bench".into(),
    };
    let mut value = Vec::new();
    client.write(
        &login,
        "REGISTER",
        "sip:example.org",
        b"",
        0x1234_5678,
        &mut value,
    );
    let credentials = format!("Authorization: {}\r\n", String::from_utf8_lossy(&value));
    let answer = bench.say(&flow, &request(1, &credentials));
    assert!(answer[0].starts_with("SIP/2.0 200"), "{}", answer[0]);
}

fn call(bench: &mut Bench, user: usize) {
    let (caller, callee) = (flow(1, user), flow(1, user + USERS));
    let n = bench.count;
    let callee_contact = format!("<sip:c{user:06}@{}>", callee.remote);
    if n as usize <= USERS {
        let start = start("REGISTER", "sip:example.org", &callee, n);
        let request = format!(
            "{start}From: <sip:c{user:06}@example.org>;tag=r\r\nTo: <sip:c{user:06}@example.org>\r\nCall-ID: r{user}\r\n\
             CSeq: 1 REGISTER\r\nContact: {callee_contact}\r\nExpires: 3600\r\nContent-Length: 0\r\n\r\n"
        );
        assert!(bench.say(&callee, &request)[0].starts_with("SIP/2.0 200"));
        bench.spent = Duration::ZERO;
    }
    let target = format!("sip:c{user:06}@example.org");
    let dialog = |method: &str, uri: &str, cseq: u32, to_tag: &str, routes: &str, more: &str, body: &str| {
        format!(
            "{}{routes}From: <sip:u{user:06}@example.org>;tag=f{n:015}\r\nTo: <{target}>{to_tag}\r\nCall-ID: {n:08}@load\r\n\
             CSeq: {cseq} {method}\r\nContact: <sip:u{user:06}@{}>\r\n{TELEPHONE}{more}Content-Length: {}\r\n\r\n{body}",
            start(method, uri, &caller, 3 * n + cseq),
            caller.remote,
            body.len()
        )
    };
    let sdp = "Content-Type: application/sdp\r\n";
    let sent = bench.say(&caller, &dialog("INVITE", &target, 1, "", "", sdp, SDP));
    let invite = sent.last().expect("a forwarded INVITE").clone();
    assert!(invite.starts_with("INVITE"), "{sent:?}");
    let contact = format!("Contact: {callee_contact}\r\n");
    bench.respond(&callee, &invite, "180 Ringing", &contact, "");
    let answer = bench.respond(&callee, &invite, "200 OK", &format!("{contact}{sdp}"), SDP);
    bench.index.parse(answer[0].as_bytes()).expect("a message");
    let m = Message::new(answer[0].as_bytes(), &bench.index);
    let mut routes = String::new();
    for route in m.values(HeaderId::RecordRoute) {
        routes += &format!("Route: {route}\r\n");
    }
    let uri = callee_contact.trim_matches(['<', '>']).to_owned();
    let ack = bench.say(&caller, &dialog("ACK", &uri, 1, ";tag=callee", &routes, "", ""));
    assert!(ack[0].starts_with("ACK"));
    let bye = bench.say(&caller, &dialog("BYE", &uri, 2, ";tag=callee", &routes, "", ""));
    assert!(bye[0].starts_with("BYE"));
    let over = bench.respond(&callee, &bye[0].clone(), "200 OK", "", "");
    assert!(over[0].starts_with("SIP/2.0 200"));
}

fn flow(network: u8, user: usize) -> Flow {
    Flow {
        transport: Transport::Udp,
        local: "127.0.0.1:5060".parse().expect("an address"),
        remote: ([127, 0, network, 9], 10_000 + user as u16).into(),
        connection: None,
    }
}

fn start(method: &str, uri: &str, flow: &Flow, count: u32) -> String {
    format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {};rport;branch=z9hG4bK{:08x}{count:08x}\r\nMax-Forwards: 70\r\n",
        flow.remote,
        flow.remote.port()
    )
}

const TELEPHONE: &str = "User-Agent: trapez-load\r\n\
    Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, REFER, NOTIFY, UPDATE\r\nSupported: replaces, outbound, timer\r\n";

const SDP: &str = "v=0\r\no=- 1 1 IN IP4 127.0.1.9\r\ns=-\r\nc=IN IP4 127.0.1.9\r\nt=0 0\r\nm=audio 4000 RTP/AVP 8 0 101\r\n\
    a=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\n\
    a=sendrecv\r\n";

/// Nobody's media is relayed here.
struct NoPorts;

impl RelayPorts for NoPorts {
    fn allocate(&mut self, _: AddressFamily) -> Option<PortPair> {
        None
    }

    fn release(&mut self, _: PortId) {}
}
