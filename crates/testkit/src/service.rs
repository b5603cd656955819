//! The service under test: the real switches, echo services and streams, put together as the server does, without threads.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent::{EchoConfig, EchoService, Random};
use media::{Command, Report};
use sip::{Flow, Outbox, Transport};
use switch::{Clock, Event, Shared, Switch, Ticket};

use crate::relay::{Ports, Relay};
use crate::store::Store;

/// One run of the service, from its start to its end or crash.
pub struct Service {
    shared: Arc<Shared>,
    workers: Vec<Worker>,
    relay: Relay,
    ports: Ports,
    mail: VecDeque<(Instant, Mail)>,
    tick: Instant,
    /// Datagrams to be sent: from, to, bytes.
    sent: Vec<(SocketAddr, SocketAddr, Vec<u8>)>,
}

struct Worker {
    switch: Switch,
    echo: EchoService,
}

/// What the service's threads have for each other.
enum Mail {
    Message {
        worker: u8,
        flow: Flow,
        bytes: Vec<u8>,
        first: u8,
    },
    Order {
        worker: u8,
        command: Command,
    },
    Report {
        worker: u8,
        report: Report,
    },
}

/// What a service holds; all zero when nothing goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Load {
    /// What is under way in all workers: transactions, open requests, calls, writes to the store.
    pub pending: usize,
    /// Calls to the echo services.
    pub echoes: usize,
    /// Streams of the relay.
    pub streams: usize,
    /// Pairs of ports of the relay.
    pub ports: usize,
}

impl Service {
    /// A service that starts on these addresses.
    pub fn start(
        now: Instant,
        clock: Clock,
        shared: Arc<Shared>,
        addresses: &[IpAddr],
        random: &mut Random,
    ) -> Self {
        let ports = Ports::new(addresses, random);
        let workers = (0..shared.workers).map(|number| Worker {
            switch: Switch::new(
                Arc::clone(&shared),
                number,
                clock,
                Box::new(ports.clone()),
                random.bytes(),
            ),
            echo: EchoService::new(
                EchoConfig::default(),
                Box::new(ports.clone()),
                number,
                random.bytes(),
            ),
        });
        Service {
            workers: workers.collect(),
            shared,
            relay: Relay::default(),
            ports,
            mail: VecDeque::new(),
            tick: now + TICK,
            sent: Vec::new(),
        }
    }

    /// What its workers share.
    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// What it holds.
    pub fn load(&self) -> Load {
        let mut load = Load {
            streams: self.relay.streams(),
            ports: self.ports.taken(),
            ..Load::default()
        };
        for worker in &self.workers {
            load.pending += worker.switch.pending();
            load.echoes += worker.echo.calls();
        }
        load
    }

    /// A port of the relay that is in use.
    pub fn busy_port(&self, random: &mut Random) -> Option<SocketAddr> {
        self.ports.any(random)
    }

    /// What went wrong with its books, if anything.
    pub fn fault(&self) -> Option<String> {
        self.ports.fault()
    }

    /// A datagram came to one of its addresses.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        local: SocketAddr,
        source: SocketAddr,
        bytes: &mut [u8],
        store: &mut Store,
    ) {
        if local.port() != SIP_PORT {
            if let Some(relayed) = self.relay.handle_packet(now, local, source, bytes) {
                self.sent.push((relayed.from, relayed.to, bytes.to_vec()));
            }
            return self.pass_reports(now);
        }
        // As the kernel spreads them: by addresses and ports.
        let mut hasher = DefaultHasher::new();
        (source, local).hash(&mut hasher);
        let worker = (hasher.finish() % self.workers.len() as u64) as u8;
        let flow = Flow {
            transport: Transport::Udp,
            local,
            remote: source,
            connection: None,
        };
        self.workers[usize::from(worker)]
            .switch
            .handle_message(now, &flow, bytes);
        self.carry_out(now, worker, store);
    }

    /// The store has written something, or could not.
    pub fn handle_stored(
        &mut self,
        now: Instant,
        worker: u8,
        ticket: Ticket,
        stored: bool,
        store: &mut Store,
    ) {
        self.workers[usize::from(worker)]
            .switch
            .handle_stored(now, ticket, stored);
        self.carry_out(now, worker, store);
    }

    /// When [`Service::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let timers = self
            .workers
            .iter()
            .flat_map(|worker| [worker.switch.poll_timeout(), worker.echo.poll_timeout()]);
        let mail = self.mail.front().map(|(at, _)| *at);
        timers.chain([mail, Some(self.tick)]).flatten().min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant, store: &mut Store) {
        while let Some((_, mail)) = self.mail.pop_front_if(|(at, _)| *at <= now) {
            self.deliver(now, mail, store);
        }
        for number in 0..self.workers.len() {
            let worker = &mut self.workers[number];
            let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
            let (switch, echo) = (due(worker.switch.poll_timeout()), due(worker.echo.poll_timeout()));
            if switch {
                worker.switch.handle_timeout(now);
            }
            if echo {
                worker.echo.handle_timeout(now);
            }
            if switch || echo {
                self.carry_out(now, number as u8, store);
            }
        }
        if self.tick <= now {
            self.tick = now + TICK;
            self.relay.tick(now);
            self.pass_reports(now);
        }
    }

    /// What is to be sent: from where, to whom, what.
    pub fn poll_transmit(&mut self) -> impl Iterator<Item = (SocketAddr, SocketAddr, Vec<u8>)> + '_ {
        self.sent.drain(..)
    }

    fn deliver(&mut self, now: Instant, mail: Mail, store: &mut Store) {
        match mail {
            Mail::Message {
                worker,
                flow,
                bytes,
                first,
            } => {
                self.workers[usize::from(worker)]
                    .switch
                    .handle_handed_over(now, &flow, &bytes, first);
                self.carry_out(now, worker, store);
            }
            Mail::Order { worker, command } => {
                self.relay.carry_out(now, worker, command);
                self.pass_reports(now);
            }
            Mail::Report { worker, report } => {
                let to = &mut self.workers[usize::from(worker)];
                if report.stream().session.is_local() {
                    to.echo.handle_report(now, &report);
                }
                to.switch.handle_report(now, &report);
                self.carry_out(now, worker, store);
            }
        }
    }

    fn pass_reports(&mut self, now: Instant) {
        while let Some((worker, report)) = self.relay.poll_report() {
            self.post(now, Mail::Report { worker, report });
        }
    }

    fn post(&mut self, now: Instant, mail: Mail) {
        self.mail.push_back((now + HAND_OVER, mail));
    }

    /// Does what a worker wants until it wants nothing more.
    fn carry_out(&mut self, now: Instant, number: u8, store: &mut Store) {
        loop {
            let mut idle = true;
            let place = usize::from(number);
            while let Some(event) = self.workers[place].switch.poll_event() {
                match event {
                    Event::HandOver {
                        worker,
                        flow,
                        message: bytes,
                        first,
                    } => self.post(
                        now,
                        Mail::Message {
                            worker,
                            flow,
                            bytes,
                            first,
                        },
                    ),
                    Event::Store { ticket, change } => store.submit(now, number, ticket, change),
                    Event::Media(command) => self.post(
                        now,
                        Mail::Order {
                            worker: number,
                            command,
                        },
                    ),
                    // Nobody here has a name to look up.
                    _ => {}
                }
            }
            while let Some(command) = self.workers[place].echo.poll_command() {
                self.post(
                    now,
                    Mail::Order {
                        worker: number,
                        command,
                    },
                );
            }
            let Worker { switch, echo } = &mut self.workers[place];
            let mut outbox = Outbox::new();
            std::mem::swap(switch.outbox(), &mut outbox);
            for (flow, bytes) in outbox.iter() {
                idle = false;
                match flow.transport {
                    Transport::Local => echo.handle_message(now, flow, bytes),
                    _ => self.sent.push((flow.local, flow.remote, bytes.to_vec())),
                }
            }
            outbox.clear();
            std::mem::swap(echo.outbox(), &mut outbox);
            for (flow, bytes) in outbox.iter() {
                idle = false;
                switch.handle_message(now, flow, bytes);
            }
            if idle {
                return;
            }
        }
    }
}

/// The port that the service listens on.
pub const SIP_PORT: u16 = 5060;
/// From one thread of the service to another.
const HAND_OVER: Duration = Duration::from_micros(150);
/// How often the relay looks for silence.
const TICK: Duration = Duration::from_secs(1);
