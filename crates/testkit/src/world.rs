//! A simulated world: a clock, the network, the service, its store, and telephones, running through a [`Plan`].
//!
//! [`run`] goes through a plan to its end and gives what was wrong; nothing but the plan decides what happens, so the same seed
//! is the same world. What has to hold is written in [`checks`](crate::checks).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent::phone::MediaCounts;
use agent::{Answering, CallKey, EndCause, Phone, PhoneConfig, PhoneEvent, Random};
use sip::digest::Login;
use sip::{Flow, Transport};
use switch::auth::{AuthConfig, AuthShared};
use switch::directory::{Account, AddressOfRecord};
use switch::registrar::RegistrarConfig;
use switch::{Clock, Config, Directory, Location, Shared};

use crate::checks::{Conversations, Expected};
use crate::network::{Datagram, HostId, Network};
use crate::plan::{CallPlan, Callee, Plan, Step, Weather};
use crate::service::{SIP_PORT, Service};
use crate::store::Store;

mod deeds;

/// What came of a world.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What did not hold; empty when all is well.
    pub faults: Vec<String>,
    /// What happened, if it was asked for.
    pub trace: Vec<String>,
    /// Calls that were made.
    pub calls: usize,
    /// Calls that were answered.
    pub answered: usize,
    /// Calls of which it was known beforehand what would come of them.
    pub expected: usize,
    /// Packets of audio that telephones heard.
    pub packets: u64,
    /// A digest of all that happened: the same for the same seed.
    pub digest: u64,
}

/// Runs a plan; `traced` keeps a trace.
pub fn run(plan: &Plan, traced: bool) -> Outcome {
    let mut world = World::new(plan, traced);
    world.run_until(world.start + plan.length);
    world.everybody_hangs_up();
    // Twice: what was on its way the first time.
    world.run_until(world.now + Duration::from_secs(5));
    world.everybody_hangs_up();
    for station in &mut world.stations {
        station.phone.stop_registering();
    }
    world.run_until(world.now + SETTLING);
    if world.calls.iter().any(|call| call.held && call.forgotten) {
        // On hold silence is no fault for long; the echo service hangs up in the end.
        world.run_until(world.now + ON_HOLD);
    }
    world.check_the_end();
    world.outcome()
}

/// A world under way.
pub struct World<'p> {
    pub(crate) plan: &'p Plan,
    pub(crate) start: Instant,
    pub(crate) now: Instant,
    clock: Clock,
    random: Random,
    network: Network,
    pub(crate) service: Option<Service>,
    host: HostId,
    directory: Arc<Directory>,
    secret: [u8; 16],
    pub(crate) store: Store,
    pub(crate) stations: Vec<Station>,
    todo: BinaryHeap<Reverse<(Instant, u64, usize)>>,
    jobs: BTreeMap<usize, Job>,
    serial: u64,
    pub(crate) calls: Vec<CallFacts>,
    by_phone: BTreeMap<(usize, CallKey), usize>,
    /// From when to when the service was down, or could not write.
    pub(crate) troubles: Vec<(Instant, Instant)>,
    intruder: Option<HostId>,
    pub(crate) faults: Vec<String>,
    trace: Option<Vec<String>>,
    digest: u64,
    packets: u64,
    pub(crate) expectations: usize,
}

/// A telephone in the world.
pub(crate) struct Station {
    pub(crate) phone: Phone,
    pub(crate) name: String,
    pub(crate) aor: String,
    host: HostId,
    /// Until when a registration holds that was answered 200 and not taken back.
    pub(crate) registered_until: Option<Instant>,
    /// Requests seen on the wire and their final responses.
    pub(crate) conversations: Conversations,
    /// How many of its own requests it says came to an end.
    pub(crate) completed: usize,
}

/// What is known about a call.
pub(crate) struct CallFacts {
    pub(crate) plan: CallPlan,
    pub(crate) call_id: String,
    pub(crate) key: CallKey,
    pub(crate) started: Instant,
    pub(crate) expected: Expected,
    pub(crate) answered: Option<Instant>,
    pub(crate) held: bool,
    /// The caller's telephone knows nothing of it any more.
    pub(crate) forgotten: bool,
    /// What the caller sends.
    pub(crate) ssrc: u32,
    pub(crate) end: Option<End>,
    pub(crate) callees: Vec<CalleeFacts>,
}

/// What is known about a call at a telephone that was called.
pub(crate) struct CalleeFacts {
    pub(crate) station: usize,
    pub(crate) key: CallKey,
    pub(crate) ssrc: u32,
    pub(crate) answered: bool,
    pub(crate) end: Option<End>,
}

/// The end of a call at one telephone.
#[derive(Clone)]
pub(crate) struct End {
    pub(crate) at: Instant,
    pub(crate) cause: EndCause,
    pub(crate) media: MediaCounts,
}

/// Something to be done at a time.
enum Job {
    Arrive(Datagram),
    Step(Step),
    GiveUp(usize),
    HangUp(usize),
    Hold(usize, bool),
    Restart,
    Repair(usize),
    PowerOn(usize),
    DiskHasRoom,
    Intrude,
    /// The call has ended at the caller's: nobody may ring for it any more.
    Silence(usize),
}

impl<'p> World<'p> {
    fn new(plan: &'p Plan, traced: bool) -> Self {
        let start = Instant::now();
        let mut random = Random::new(plan.seed ^ 0x5eed);
        let clock = Clock {
            instant: start,
            unix_ms: 1_700_000_000_000 + random.below(1_000_000),
        };
        let mut network = Network::new(random.number());
        for (config, address) in &plan.nats {
            network.add_nat(*config, *address);
        }
        let host = network.add_host(&SERVICE, Default::default(), None);
        let directory = Arc::new(Directory::new([DOMAIN], SERVICE, random.bytes()));
        let accounts = plan.phones.iter().map(|phone| account_name(phone.account));
        for name in accounts.chain([String::from("nobody-home")]) {
            let aor = AddressOfRecord::new(&name, DOMAIN);
            let account = Account::with_password(&aor, &format!("{name}'s"));
            directory.put(aor, account);
        }
        let mut world = World {
            plan,
            start,
            now: start,
            clock,
            network,
            service: None,
            host,
            directory,
            secret: random.bytes(),
            store: Store::new(plan.store_latency),
            stations: Vec::new(),
            todo: BinaryHeap::new(),
            jobs: BTreeMap::new(),
            serial: 0,
            calls: Vec::new(),
            by_phone: BTreeMap::new(),
            troubles: Vec::new(),
            intruder: None,
            faults: Vec::new(),
            trace: traced.then(Vec::new),
            digest: 0,
            packets: 0,
            expectations: 0,
            random,
        };
        world.start_service();
        for number in 0..plan.phones.len() {
            world.add_station(number);
        }
        if plan.intruder {
            let host = world.network.add_host(&[INTRUDER], Default::default(), None);
            world.intruder = Some(host);
            world.later(start, Job::Intrude);
        }
        for (at, step) in &plan.steps {
            world.later(start + *at, Job::Step(step.clone()));
        }
        world
    }

    fn add_station(&mut self, number: usize) {
        let plan = &self.plan.phones[number];
        let user = account_name(plan.account);
        let config = self.phone_config(number);
        let host = self.network.add_host(&[plan.address], plan.line, plan.nat);
        self.stations.push(Station {
            phone: Phone::new(config, self.random.number()),
            name: format!("{user}.{number}"),
            aor: format!("{user}@{DOMAIN}"),
            host,
            registered_until: None,
            conversations: Conversations::default(),
            completed: 0,
        });
    }

    fn phone_config(&self, number: usize) -> PhoneConfig {
        let plan = &self.plan.phones[number];
        let user = account_name(plan.account);
        let password = match plan.knows_password {
            true => format!("{user}'s"),
            false => String::from("?"),
        };
        let server = SERVICE.iter().find(|ip| ip.is_ipv4() == plan.address.is_ipv4());
        let server = SocketAddr::new(*server.unwrap_or(&SERVICE[0]), SIP_PORT);
        let login = Login {
            username: user,
            password,
        };
        let local = SocketAddr::new(plan.address, SIP_PORT);
        PhoneConfig {
            packet_interval: plan.packet_interval,
            retry: Duration::from_secs(5),
            ..PhoneConfig::new(login, DOMAIN, server, local)
        }
    }

    fn start_service(&mut self) {
        let location = Location::new(self.random.bytes());
        self.store.restore(self.clock.unix(self.now), &location);
        let outbound = SERVICE.map(|ip| (Transport::Udp, SocketAddr::new(ip, SIP_PORT)));
        let shared = Shared {
            config: Config {
                relay: self.plan.relay,
                outbound: outbound.to_vec(),
                ..Config::default()
            },
            registrar: RegistrarConfig::default(),
            directory: Arc::clone(&self.directory),
            location: Arc::new(location),
            auth: Arc::new(AuthShared::new(
                AuthConfig {
                    // Who does not know his password shall hear 407 as often as he calls.
                    wrong_passwords: 0,
                    ..AuthConfig::default()
                },
                self.plan.workers,
                self.random.bytes(),
            )),
            workers: self.plan.workers,
            secret: self.secret,
        };
        // Each process has a clock of its own, from its start on.
        let clock = Clock {
            instant: self.now,
            unix_ms: self.clock.unix_ms(self.now),
        };
        let service = Service::start(self.now, clock, Arc::new(shared), &SERVICE, &mut self.random);
        self.service = Some(service);
    }

    fn run_until(&mut self, end: Instant) {
        loop {
            let phones = self.stations.iter().map(|station| station.phone.poll_timeout());
            let service = self.service.as_ref().and_then(Service::poll_timeout);
            let store = self.service.as_ref().and_then(|_| self.store.poll_timeout());
            let job = self.todo.peek().map(|Reverse((at, ..))| *at);
            let next = phones.chain([service, store, job]).flatten().min();
            let Some(next) = next.filter(|next| *next <= end) else {
                break;
            };
            self.now = self.now.max(next);
            self.step();
        }
        self.now = end;
    }

    /// Does all that is due now.
    fn step(&mut self) {
        let now = self.now;
        while self.todo.peek().is_some_and(|Reverse((at, ..))| *at <= now) {
            if let Some(Reverse((_, _, key))) = self.todo.pop()
                && let Some(job) = self.jobs.remove(&key)
            {
                self.job(job);
            }
        }
        for number in 0..self.stations.len() {
            let phone = &mut self.stations[number].phone;
            if phone.poll_timeout().is_some_and(|at| at <= now) {
                phone.handle_timeout(now);
                self.pump_phone(number);
            }
        }
        if let Some(service) = &mut self.service {
            if self.store.poll_timeout().is_some_and(|at| at <= now) {
                for (worker, ticket, stored) in self.store.commit(now) {
                    service.handle_stored(now, worker, ticket, stored, &mut self.store);
                }
            }
            if service.poll_timeout().is_some_and(|at| at <= now) {
                service.handle_timeout(now, &mut self.store);
            }
            self.pump_service();
        }
    }

    fn job(&mut self, job: Job) {
        match job {
            Job::Arrive(datagram) => self.arrive(datagram),
            Job::Step(step) => self.plan_step(step),
            Job::GiveUp(call) => {
                let facts = &self.calls[call];
                if facts.answered.is_none() && facts.end.is_none() && !facts.forgotten {
                    self.note(|world| format!("{} gives up", world.caller(call)));
                    let (from, key) = (self.calls[call].plan.from, self.calls[call].key);
                    self.stations[from].phone.hang_up(self.now, key);
                    self.pump_phone(from);
                    self.later(self.now + self.ringing_limit(), Job::Silence(call));
                }
            }
            Job::HangUp(call) => self.hang_up(call),
            Job::Hold(call, hold) => self.hold(call, hold),
            Job::Restart => {
                self.note(|_| String::from("the service starts again"));
                self.start_service();
                self.check_registrations("after a restart");
            }
            Job::Repair(station) => {
                self.note(|world| format!("the line of {} works again", world.stations[station].name));
                self.network.set_up(self.stations[station].host, true);
            }
            Job::PowerOn(station) => self.power_on(station),
            Job::DiskHasRoom => self.store.set_full(false),
            Job::Intrude => self.intrude(),
            Job::Silence(call) => self.check_silence(call),
        }
    }

    fn arrive(&mut self, mut datagram: Datagram) {
        let Some((host, place)) = self.network.arrive(self.now, &datagram) else {
            return;
        };
        if Some(host) == self.intruder {
            return;
        }
        self.digest = self
            .digest
            .rotate_left(5)
            .wrapping_add(datagram.bytes.len() as u64 ^ host.0 as u64);
        let source = datagram.source;
        if host == self.host {
            if let Some(service) = &mut self.service {
                service.handle_datagram(self.now, place, source, &mut datagram.bytes, &mut self.store);
                self.pump_service();
            }
            return;
        }
        let Some(number) = self.stations.iter().position(|station| station.host == host) else {
            return;
        };
        if place.port() != SIP_PORT {
            self.packets += 1;
            self.stations[number]
                .phone
                .handle_media(place, source, &datagram.bytes);
            return self.pump_phone(number);
        }
        self.note(|world| {
            format!(
                "    {} <- {}",
                world.stations[number].name,
                summary(&datagram.bytes)
            )
        });
        let fault = self.stations[number].conversations.received(&datagram.bytes);
        if let Some(fault) = fault {
            self.fault(format!("{}: {fault}", self.stations[number].name));
        }
        let flow = Flow {
            transport: Transport::Udp,
            local: place,
            remote: source,
            connection: None,
        };
        self.stations[number]
            .phone
            .handle_message(self.now, &flow, &datagram.bytes);
        self.pump_phone(number);
    }

    /// Sends what a telephone wants to send, and takes note of what happened to it.
    fn pump_phone(&mut self, number: usize) {
        let station = &mut self.stations[number];
        let mut outbox = sip::Outbox::new();
        std::mem::swap(station.phone.outbox(), &mut outbox);
        let host = station.host;
        for (flow, bytes) in outbox.iter() {
            self.stations[number].conversations.sent(bytes);
            self.note(|world| format!("{} -> {}", world.stations[number].name, summary(bytes)));
            self.send(host, flow.local, flow.remote, bytes);
        }
        while let Some(packet) = self.stations[number].phone.poll_media() {
            self.send(host, packet.local, packet.remote, &packet.bytes);
        }
        while let Some(event) = self.stations[number].phone.poll_event() {
            self.phone_event(number, event);
        }
    }

    fn pump_service(&mut self) {
        let Some(service) = &mut self.service else { return };
        let sent: Vec<_> = service.poll_transmit().collect();
        for (source, destination, bytes) in sent {
            self.send(self.host, source, destination, &bytes);
        }
    }

    fn send(&mut self, host: HostId, source: SocketAddr, destination: SocketAddr, bytes: &[u8]) {
        for (at, datagram) in self.network.send(self.now, host, source, destination, bytes) {
            self.later(at, Job::Arrive(datagram));
        }
    }

    fn phone_event(&mut self, number: usize, event: PhoneEvent) {
        if !matches!(event, PhoneEvent::Completed { .. }) {
            self.note(|world| format!("        {}: {event:?}", world.stations[number].name));
        }
        let call_of = |world: &Self, call: CallKey| world.by_phone.get(&(number, call)).copied();
        match event {
            PhoneEvent::Registered { expires } => {
                let until = self.now + Duration::from_secs(u64::from(expires));
                self.stations[number].registered_until = Some(until);
            }
            PhoneEvent::Completed { method, status } => {
                self.stations[number].completed += 1;
                self.check_completed(number, method, status);
            }
            PhoneEvent::Misrouted { request } => {
                self.fault(format!(
                    "{} got what is not its own: {request}",
                    self.stations[number].name
                ));
            }
            PhoneEvent::Renegotiated { status, .. } => self.check_renegotiated(number, status),
            PhoneEvent::Incoming { call } => self.incoming(number, call),
            PhoneEvent::Answered { call: key } => {
                if let Some(call) = call_of(self, key) {
                    self.answered(number, key, call);
                }
            }
            PhoneEvent::Ended {
                call: key,
                cause,
                media,
            } => {
                let Some(call) = call_of(self, key) else { return };
                self.check_cause(number, &cause);
                let end = End {
                    at: self.now,
                    cause,
                    media,
                };
                let facts = &mut self.calls[call];
                if facts.plan.from == number && facts.key == key {
                    facts.end = Some(end);
                    self.later(self.now + self.ringing_limit(), Job::Silence(call));
                } else if let Some(callee) = facts
                    .callees
                    .iter_mut()
                    .rfind(|callee| callee.station == number && callee.key == key)
                {
                    callee.end = Some(end);
                }
            }
            _ => {}
        }
    }

    fn incoming(&mut self, number: usize, key: CallKey) {
        let phone = &self.stations[number].phone;
        let call_id = phone.call_id(key).unwrap_or_default();
        let Some(call) = self.calls.iter().position(|call| call.call_id == call_id) else {
            return self.fault(format!("a call of nobody: {call_id}"));
        };
        let ssrc = phone.ssrc(key).unwrap_or(0);
        self.by_phone.insert((number, key), call);
        self.calls[call].callees.push(CalleeFacts {
            station: number,
            key,
            ssrc,
            answered: false,
            end: None,
        });
    }

    fn answered(&mut self, number: usize, key: CallKey, call: usize) {
        let now = self.now;
        let facts = &mut self.calls[call];
        let mut callees = facts.callees.iter_mut();
        if let Some(callee) = callees.rfind(|callee| callee.station == number && callee.key == key) {
            callee.answered = true;
            return;
        }
        facts.answered = Some(now);
        let plan = facts.plan;
        self.later(now + plan.talk, Job::HangUp(call));
        if plan.hold.is_some() {
            self.later(now + plan.talk / 4, Job::Hold(call, true));
            self.later(now + plan.talk / 2, Job::Hold(call, false));
        }
    }

    fn later(&mut self, at: Instant, job: Job) {
        self.serial += 1;
        let key = self.serial as usize;
        self.jobs.insert(key, job);
        self.todo.push(Reverse((at, self.serial, key)));
    }

    pub(crate) fn fault(&mut self, fault: String) {
        let at = self.now.duration_since(self.start).as_millis();
        self.note(|_| format!("FAULT: {fault}"));
        self.faults.push(format!("at {at} ms: {fault}"));
    }

    fn note(&mut self, text: impl FnOnce(&Self) -> String) {
        if self.trace.is_none() {
            return;
        }
        let at = self.now.duration_since(self.start).as_secs_f64();
        let line = format!("{at:10.4} {}", text(self));
        if let Some(trace) = &mut self.trace {
            trace.push(line);
        }
    }

    pub(crate) fn caller(&self, call: usize) -> &str {
        &self.stations[self.calls[call].plan.from].name
    }

    /// The service answers for `aor` at the telephone's Contact.
    pub(crate) fn is_bound(&self, number: usize) -> bool {
        let Some(service) = &self.service else { return true };
        let station = &self.stations[number];
        let local = station.phone.config().local.to_string();
        let bindings = service
            .shared()
            .location
            .lookup(&station.aor, self.clock.unix(self.now));
        bindings.iter().any(|binding| binding.contact().contains(&local))
    }

    fn outcome(self) -> Outcome {
        Outcome {
            calls: self.calls.len(),
            answered: self.calls.iter().filter(|call| call.answered.is_some()).count(),
            expected: self.expectations,
            faults: self.faults,
            trace: self.trace.unwrap_or_default(),
            packets: self.packets,
            digest: self.digest,
        }
    }

    fn ringing_limit(&self) -> Duration {
        match self.plan.weather {
            Weather::Calm => Duration::from_secs(1),
            // As long as a CANCEL is sent again, and the INVITE before it.
            Weather::Stormy | Weather::Crashing => Duration::from_secs(70),
        }
    }
}

/// What the callee does counts only for accounts; for others the answer is known.
pub(crate) fn outcome_of(answering: Answering) -> Expected {
    match answering {
        Answering::Accept(_) => Expected::Answered,
        Answering::Refuse(status, _) => Expected::Status(status),
        Answering::Ring => Expected::Anything,
    }
}

fn account_name(number: usize) -> String {
    format!("user{number}")
}

/// The start of a message, for the trace.
fn summary(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let line = |name: &str| {
        text.lines()
            .find(|line| line.starts_with(name))
            .unwrap_or_default()
            .to_owned()
    };
    format!(
        "{} | {} | {}",
        text.lines().next().unwrap_or_default(),
        line("CSeq"),
        line("Call-ID")
    )
}

/// The domain of all accounts.
const DOMAIN: &str = "example.org";
/// The service's addresses.
const SERVICE: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, 10)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 10)),
];
/// Who has no business here.
const INTRUDER: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 250));
/// What he sends, all but the first with a byte changed.
const INTRUSIONS: [&[u8]; 4] = [
    b"INVITE sip:user0@example.org SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.250:4000;branch=z9hG4bKx;rport\r\n\
      Max-Forwards: 70\r\nFrom: <sip:user1@example.org>;tag=1\r\nTo: <sip:user0@example.org>\r\nCall-ID: x\r\n\
      CSeq: 1 INVITE\r\nContact: <sip:x@198.51.100.250:4000>\r\nContent-Length: 0\r\n\r\n",
    b"REGISTER sip:example.org SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.250:4000;branch=z9hG4bKy;rport\r\n\
      Max-Forwards: 70\r\nFrom: <sip:user0@example.org>;tag=1\r\nTo: <sip:user0@example.org>\r\nCall-ID: y\r\n\
      CSeq: 1 REGISTER\r\nContact: <sip:x@198.51.100.250:4000>\r\nContent-Length: 0\r\n\r\n",
    b"BYE sip:user0@192.168.1.10:5060 SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.250:4000;branch=z9hG4bKz;rport\r\n\
      Route: <sip:203.0.113.10:5060;lr;tz=AQAAAAAAAAAAAAAAAAAAAAAA>\r\nMax-Forwards: 70\r\n\
      From: <sip:user1@example.org>;tag=1\r\nTo: <sip:user0@example.org>;tag=2\r\nCall-ID: z\r\n\
      CSeq: 2 BYE\r\nContent-Length: 0\r\n\r\n",
    b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 203.0.113.10:5060;branch=z9hG4bKAAAAAAAAAAAAAAAA\r\n\
      From: <sip:user1@example.org>;tag=1\r\nTo: <sip:user0@example.org>;tag=2\r\nCall-ID: w\r\n\
      CSeq: 2 INVITE\r\nContact: <sip:x@198.51.100.250:4000>\r\nContent-Length: 0\r\n\r\n",
];
/// After the end of everything the longest timers have run out: timer C, and then 64*T1 twice.
const SETTLING: Duration = Duration::from_secs(330);
/// The longest silence of a call on hold, and what its end takes.
const ON_HOLD: Duration = Duration::from_secs(3_700);
/// An INVITE has arrived, or never will.
const ON_ITS_WAY: Duration = Duration::from_secs(3);
