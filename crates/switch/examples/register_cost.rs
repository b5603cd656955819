//! What a REGISTER costs the switch, in nanoseconds on one thread: indexing, authentication, location, response; no sockets.
//!
//!     cargo run --release -p switch --example register_cost
//!
//! Every telephone refreshes its one binding again and again, with a growing CSeq and nonce-count. The figure is that of the
//! quickest round, since whatever else the machine does only adds to it.
#![allow(clippy::disallowed_methods, reason = "it measures time")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sip::digest::{Algorithm, ClientAuthorization, Login};
use sip::{Flow, Index, Message, Transport};
use switch::auth::{AuthConfig, AuthShared, Authenticator};
use switch::directory::{Account, AddressOfRecord};
use switch::registrar::{Registrar, RegistrarConfig};
use switch::{Directory, Location};

const UNIX: u64 = 2_000_000_000;
const PHONES: usize = 10_000;
const ROUNDS: u32 = 100;

fn main() {
    println!("{PHONES} telephones, {ROUNDS} refreshes each");
    for algorithm in [Algorithm::Md5, Algorithm::Sha256, Algorithm::Sha512_256] {
        let mut bench = Bench::new(algorithm, false);
        println!(
            "digest {:<12} {:>6} ns",
            algorithm.as_str(),
            bench.run().as_nanos()
        );
    }
    println!(
        "401 without credentials {:>4} ns",
        Bench::new(Algorithm::Md5, false).challenges().as_nanos()
    );
    println!(
        "trusted, no digest  {:>6} ns",
        Bench::new(Algorithm::Md5, true).run().as_nanos()
    );
    println!(
        "indexing alone      {:>6} ns",
        Bench::new(Algorithm::Md5, true).indexing().as_nanos()
    );
}

struct Bench {
    registrar: Registrar,
    authenticator: Authenticator,
    phones: Vec<Phone>,
    index: Index,
    out: Vec<u8>,
    cseq: u32,
}

struct Phone {
    user: String,
    flow: Flow,
    client: Option<ClientAuthorization>,
}

impl Bench {
    fn new(algorithm: Algorithm, trusted: bool) -> Self {
        let directory = Arc::new(Directory::new(["example.org"], [], [1; 16]));
        let location = Arc::new(Location::new([2; 16]));
        let trusted = if trusted {
            vec!["198.51.100.0/24".parse().expect("a network")]
        } else {
            Vec::new()
        };
        let config = AuthConfig {
            trusted,
            algorithms: vec![algorithm],
            ..AuthConfig::default()
        };
        let shared = Arc::new(AuthShared::new(config, 1, [3; 16]));
        let phones = (0..PHONES).map(|i| {
            let aor = AddressOfRecord::new(&format!("user{i}"), "example.org");
            directory.put(aor.clone(), Account::with_password(&aor, "secret"));
            let flow = Flow {
                transport: Transport::Udp,
                local: "203.0.113.2:5060".parse().expect("an address"),
                remote: ([198, 51, 100, 7], 10_000 + i as u16).into(),
                connection: None,
            };
            Phone {
                user: aor.user().to_owned(),
                flow,
                client: None,
            }
        });
        let phones = phones.collect();
        let registrar_config = RegistrarConfig {
            durable: false,
            ..RegistrarConfig::default()
        };
        let (for_registrar, now) = (Arc::clone(&directory), Instant::now());
        Bench {
            registrar: Registrar::new(registrar_config, for_registrar, location, 0, 1, now),
            authenticator: Authenticator::new(shared, directory, 0),
            phones,
            index: Index::new(),
            out: Vec::new(),
            cseq: 0,
        }
    }

    /// The requests of one round.
    fn requests(&mut self) -> Vec<Vec<u8>> {
        self.cseq += 1;
        let cseq = self.cseq;
        self.phones.iter_mut().map(|phone| phone.register(cseq)).collect()
    }

    fn answer(&mut self, at: usize, request: &[u8]) -> u16 {
        self.out.clear();
        self.index.parse(request).expect("a message");
        let m = Message::new(request, &self.index);
        let flow = &self.phones[at].flow;
        let outcome = self
            .registrar
            .register(UNIX, m, flow, &mut self.authenticator, "tag", &mut self.out);
        black_box(&self.out);
        outcome.status
    }

    fn run(&mut self) -> Duration {
        let first = self.requests();
        for (at, request) in first.iter().enumerate() {
            if self.answer(at, request) == 401 {
                self.phones[at].take_challenge(&self.out);
            }
        }
        // The first round makes the bindings.
        self.round();
        (0..ROUNDS).map(|_| self.round()).min().unwrap_or_default()
    }

    /// One refresh of every telephone: time of each.
    fn round(&mut self) -> Duration {
        let requests = self.requests();
        let start = Instant::now();
        for (at, request) in requests.iter().enumerate() {
            assert_eq!(self.answer(at, request), 200);
        }
        start.elapsed() / PHONES as u32
    }

    fn challenges(&mut self) -> Duration {
        let requests = self.requests();
        let start = Instant::now();
        for (at, request) in requests.iter().enumerate() {
            assert_eq!(self.answer(at, request), 401);
        }
        start.elapsed() / PHONES as u32
    }

    fn indexing(&mut self) -> Duration {
        let requests = self.requests();
        let start = Instant::now();
        for request in &requests {
            self.index.parse(request).expect("a message");
            black_box(&self.index);
        }
        start.elapsed() / PHONES as u32
    }
}

impl Phone {
    fn register(&mut self, cseq: u32) -> Vec<u8> {
        let Phone { user, flow, client } = self;
        let port = flow.remote.port();
        let mut credentials = Vec::new();
        if let Some(client) = client {
            let login = Login {
                username: user.clone(),
                password: "secret".into(),
            };
            credentials.extend_from_slice(b"Authorization: ");
            client.write(
                &login,
                "REGISTER",
                "sip:example.org",
                b"",
                0x1234_5678,
                &mut credentials,
            );
            credentials.extend_from_slice(b"\r\n");
        }
        let mut request = format!(
            "REGISTER sip:example.org SIP/2.0\r\n\
             Via: SIP/2.0/UDP 192.168.178.20:5060;branch=z9hG4bK{cseq:08x}{port:x};rport\r\n\
             Max-Forwards: 70\r\n\
             From: <sip:{user}@example.org>;tag=8fb5d8d6{port:x}\r\n\
             To: <sip:{user}@example.org>\r\n\
             Call-ID: 3f8a6c1e-9b2d-4c57-8e10-{port:012x}\r\n\
             CSeq: {cseq} REGISTER\r\n\
             Contact: <sip:{user}@192.168.178.20:5060;transport=udp>;+sip.instance=\"<urn:uuid:{port:032x}>\"\r\n\
             Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, NOTIFY, SUBSCRIBE, INFO, MESSAGE, UPDATE, REFER\r\n\
             Supported: gruu, replaces, norefersub, path\r\n\
             User-Agent: baresip v3.16.0 (x86_64/Linux)\r\n\
             Expires: 3600\r\n"
        )
        .into_bytes();
        request.extend_from_slice(&credentials);
        request.extend_from_slice(b"Content-Length: 0\r\n\r\n");
        request
    }

    fn take_challenge(&mut self, response: &[u8]) {
        let mut index = Index::new();
        index.parse(response).expect("a message");
        let m = Message::new(response, &index);
        let challenges = m
            .challenges(sip::HeaderId::WwwAuthenticate)
            .filter_map(Result::ok);
        self.client = Some(ClientAuthorization::from_challenges(challenges).expect("a known algorithm"));
    }
}
