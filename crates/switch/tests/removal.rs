//! The end of a registration is answered 200 when the store has it, and not before, however often it is asked for.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use media::{AddressFamily, PortId, PortPair, RelayPorts};
use sip::{Flow, Transport};
use switch::auth::{AuthConfig, AuthShared};
use switch::directory::{Account, AddressOfRecord};
use switch::registrar::RegistrarConfig;
use switch::{Clock, Config, Directory, Event, Location, Shared, Switch, Ticket};

struct NoPorts;

impl RelayPorts for NoPorts {
    fn allocate(&mut self, _: AddressFamily) -> Option<PortPair> {
        None
    }

    fn release(&mut self, _: PortId) {}
}

struct Service {
    switch: Switch,
    location: Arc<Location>,
    now: Instant,
}

const LOCAL: &str = "203.0.113.2:5060";
const PHONE: &str = "192.0.2.7:5060";

impl Service {
    fn new() -> Self {
        let local: SocketAddr = LOCAL.parse().unwrap();
        let directory = Directory::new(["example.org"], [local.ip()], [1; 16]);
        let alice = AddressOfRecord::new("alice", "example.org");
        directory.put(alice.clone(), Account::with_password(&alice, "secret"));
        let location = Arc::new(Location::new([2; 16]));
        let auth = AuthConfig {
            trusted: vec!["192.0.2.0/24".parse().unwrap()],
            ..AuthConfig::default()
        };
        let shared = Shared {
            config: Config::default(),
            registrar: RegistrarConfig::default(),
            directory: Arc::new(directory),
            location: Arc::clone(&location),
            auth: Arc::new(AuthShared::new(auth, 1, [3; 16])),
            workers: 1,
            secret: [4; 16],
        };
        #[allow(clippy::disallowed_methods)]
        let now = Instant::now();
        let clock = Clock {
            instant: now,
            unix_ms: 1_700_000_000_000,
        };
        Service {
            switch: Switch::new(Arc::new(shared), 0, clock, Box::new(NoPorts), [5; 16]),
            location,
            now,
        }
    }

    /// The status lines that come out, and the write that waits.
    fn register(&mut self, cseq: u32, expires: u32) -> (Vec<String>, Option<Ticket>) {
        let request = format!(
            "REGISTER sip:example.org SIP/2.0\r\nVia: SIP/2.0/UDP {PHONE};branch=z9hG4bK{cseq};rport\r\n\
             Max-Forwards: 70\r\nFrom: <sip:alice@example.org>;tag=1\r\nTo: <sip:alice@example.org>\r\n\
             Call-ID: a\r\nCSeq: {cseq} REGISTER\r\nContact: <sip:alice@{PHONE}>\r\nExpires: {expires}\r\n\
             Content-Length: 0\r\n\r\n"
        );
        let flow = Flow {
            transport: Transport::Udp,
            local: LOCAL.parse().unwrap(),
            remote: PHONE.parse().unwrap(),
            connection: None,
        };
        self.switch.handle_message(self.now, &flow, request.as_bytes());
        self.out()
    }

    fn stored(&mut self, ticket: Ticket, stored: bool) -> Vec<String> {
        self.switch.handle_stored(self.now, ticket, stored);
        self.out().0
    }

    fn out(&mut self) -> (Vec<String>, Option<Ticket>) {
        let line = |bytes: &[u8]| String::from_utf8_lossy(bytes).lines().next().unwrap().to_owned();
        let lines = self
            .switch
            .outbox()
            .iter()
            .map(|(_, bytes)| line(bytes))
            .collect();
        self.switch.outbox().clear();
        let mut ticket = None;
        while let Some(event) = self.switch.poll_event() {
            if let Event::Store {
                ticket: Some(given), ..
            } = event
            {
                ticket = Some(given);
            }
        }
        (lines, ticket)
    }
}

#[test]
fn removal_that_is_sent_again_waits_for_the_store_as_well() {
    let mut service = Service::new();
    let (_, ticket) = service.register(1, 3600);
    assert_eq!(service.stored(ticket.unwrap(), true), ["SIP/2.0 200 OK"]);

    let (answers, ticket) = service.register(2, 0);
    assert!(answers.is_empty());
    assert_eq!(service.register(2, 0), (vec![], None), "still being stored");
    let answers = service.stored(ticket.unwrap(), false);
    assert_eq!(answers, ["SIP/2.0 500 Server Internal Error"]);
    assert_eq!(service.location.len(), 1, "the binding is back");

    let (_, ticket) = service.register(3, 0);
    assert_eq!(service.stored(ticket.unwrap(), true), ["SIP/2.0 200 OK"]);
    assert_eq!(service.register(3, 0).0, ["SIP/2.0 200 OK"]);
}
