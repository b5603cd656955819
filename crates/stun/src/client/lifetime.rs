//! How long a binding lives without traffic (RFC 5780 section 4.6).
//!
//! One socket per idle time that is tried makes a binding and is silent from then on. When its time has come, another socket
//! asks the server to answer to the idle one (RESPONSE-PORT): if the answer gets through, the binding is alive. All are idle at
//! the same time, so that the whole takes as long as the first that dies. What the idle sockets hear counts for nothing
//! afterwards, for a NAT may take it for traffic.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::exchange::{Exchange, Heard, Ids, Path};
use super::{BindingRequest, Timing, Transmit, exchange_methods};

/// What was found.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub enum BindingLifetime {
    /// Could not be found out: no answer, or a server that does not answer to other ports.
    #[default]
    Unknown,
    /// Alive after the longest time that was tried.
    AtLeast(Duration),
    /// Alive after the one, dead after the other.
    Between(Duration, Duration),
    /// Dead after the shortest time that was tried.
    LessThan(Duration),
}

/// The machine. Socket 0 asks; socket n is idle for the n-th time, counted from 1.
pub struct Lifetime {
    server: SocketAddr,
    timing: Timing,
    ids: Ids,
    pub(super) exchange: Option<Exchange>,
    phase: Phase,
    idle: Vec<Idle>,
    asker: Option<SocketAddr>,
    alive: Option<Duration>,
    answer: BindingLifetime,
}

struct Idle {
    time: Duration,
    /// The binding, once it is made, and when it was last used.
    binding: Option<(SocketAddr, Instant)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The asking socket learns its own binding.
    Asker,
    /// An idle socket makes its binding.
    Bind(usize),
    /// The answer to a request of the asking socket goes to this idle one.
    Ask(usize),
}

impl Lifetime {
    /// The times that find out what matters: keepalives of phones and registrars are 15 s to 120 s apart, RFC 4787 asks NATs for
    /// two minutes and recommends five.
    pub const TIMES: [Duration; 9] = [
        Duration::from_secs(15),
        Duration::from_secs(25),
        Duration::from_secs(35),
        Duration::from_secs(55),
        Duration::from_secs(65),
        Duration::from_secs(95),
        Duration::from_secs(125),
        Duration::from_secs(185),
        Duration::from_secs(305),
    ];

    /// `times` in rising order; as many sockets are needed and one more. `seed` is random.
    #[must_use]
    pub fn new(now: Instant, server: SocketAddr, times: &[Duration], seed: [u8; 16], timing: Timing) -> Self {
        let idle = |&time| Idle { time, binding: None };
        let mut machine = Self {
            server,
            timing,
            ids: Ids::new(seed),
            exchange: None,
            phase: Phase::Asker,
            idle: times.iter().map(idle).collect(),
            asker: None,
            alive: None,
            answer: BindingLifetime::Unknown,
        };
        machine.begin(now, Phase::Asker);
        machine
    }

    /// The answer; final when nothing is left to be waited for.
    #[must_use]
    pub fn answer(&self) -> BindingLifetime {
        self.answer
    }

    fn begin(&mut self, start: Instant, phase: Phase) {
        let (socket, response_port, answered_at) = match phase {
            Phase::Asker => (0, None, 0),
            Phase::Bind(at) => (at + 1, None, at + 1),
            Phase::Ask(at) => {
                let port = self.idle[at].binding.map(|(binding, _)| binding.port());
                (0, port, at + 1)
            }
        };
        let request = BindingRequest {
            response_port,
            ..BindingRequest::default()
        };
        let path = Path {
            socket,
            to: self.server,
        };
        self.phase = phase;
        let id = self.ids.modern();
        let exchange = Exchange::new(start, id, request, path, self.timing);
        self.exchange = Some(exchange.answered_at(answered_at));
    }

    fn advance(&mut self, now: Instant, heard: Option<Heard>) {
        let response = heard.and_then(|heard| heard.response);
        // An answer to the asker: the server knows no RESPONSE-PORT, whether it says so or not.
        if heard.is_some_and(|heard| heard.socket == 0 && matches!(self.phase, Phase::Ask(_))) {
            return self.settle(BindingLifetime::Unknown);
        }
        let mapped = response.and_then(|response| response.mapped());
        match self.phase {
            Phase::Asker => {
                self.asker = mapped;
                self.bind_next(now, 0);
            }
            Phase::Bind(at) => {
                let used = self.exchange.as_ref().map_or(now, Exchange::last_sent);
                self.idle[at].binding = mapped.map(|mapped| (mapped, used));
                self.bind_next(now, at + 1);
            }
            Phase::Ask(at) => {
                let time = self.idle[at].time;
                if response.is_some() {
                    self.alive = Some(time);
                    self.ask_next(now, at + 1);
                } else {
                    self.settle(match self.alive {
                        Some(alive) => BindingLifetime::Between(alive, time),
                        None => BindingLifetime::LessThan(time),
                    });
                }
            }
        }
    }

    fn bind_next(&mut self, now: Instant, at: usize) {
        // Without the asker's own address nothing can be compared.
        if self.asker.is_none() {
            return self.settle(BindingLifetime::Unknown);
        }
        if at < self.idle.len() {
            self.begin(now, Phase::Bind(at));
        } else {
            self.ask_next(now, 0);
        }
    }

    fn ask_next(&mut self, now: Instant, at: usize) {
        let Some(idle) = self.idle.get(at) else {
            return self.settle(
                self.alive
                    .map_or(BindingLifetime::Unknown, BindingLifetime::AtLeast),
            );
        };
        let host = |address: Option<SocketAddr>| address.map(|address| address.ip());
        match idle.binding {
            // RESPONSE-PORT names a port of the asker's address: a NAT with several addresses may have chosen another one.
            Some((binding, used)) if Some(binding.ip()) == host(self.asker) => {
                self.begin(now.max(used + idle.time), Phase::Ask(at));
            }
            _ => self.settle(BindingLifetime::Unknown),
        }
    }

    fn settle(&mut self, answer: BindingLifetime) {
        self.answer = answer;
        self.exchange = None;
    }
}

exchange_methods!(Lifetime);
