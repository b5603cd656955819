//! Mapping, filtering and hairpinning (RFC 5780 sections 4.3, 4.4 and 3.4).
//!
//! Filtering is asked for first: the tests for mapping send to the server's other address, and so open the filter for it
//! (erratum 7971).

use std::net::SocketAddr;
use std::time::Instant;

use super::exchange::{Exchange, Heard, Ids, Path};
use super::{BindingRequest, BindingResponse, Timing, Transmit, exchange_methods};
use crate::attribute::ChangeRequest;

/// What the address that peers see depends on (RFC 4787 section 4.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub enum Mapping {
    /// Could not be found out.
    #[default]
    Unknown,
    /// The server sees the host's own address: there is no NAT.
    NoNat,
    /// On the host's port alone: peers find it at the address that the server told.
    EndpointIndependent,
    /// On the peer's address too.
    AddressDependent,
    /// On the peer's address and port too.
    AddressAndPortDependent,
}

/// Whose datagrams get through to a port that the host has sent from (RFC 4787 section 5).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub enum Filtering {
    /// Could not be found out.
    #[default]
    Unknown,
    /// Anybody's.
    EndpointIndependent,
    /// Those of hosts that were sent to.
    AddressDependent,
    /// Those of ports that were sent to.
    AddressAndPortDependent,
}

/// Yes, no, or neither.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub enum Verdict {
    /// Could not be found out, or there is nothing to find out.
    #[default]
    Unknown,
    /// It is so.
    Yes,
    /// It is not so.
    No,
}

/// The answers.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Report {
    /// Whether the server answers at all.
    pub reachable: Verdict,
    /// The address that the server sees socket 0 at.
    pub mapped: Option<SocketAddr>,
    /// What it depends on.
    pub mapping: Mapping,
    /// Whose datagrams get through.
    pub filtering: Filtering,
    /// Whether two hosts behind the NAT reach each other by the addresses that the server tells (section 3.4).
    pub hairpinning: Verdict,
    /// Whether something on the way rewrites addresses in payloads: a generic ALG (section 3.6).
    pub rewriting: Verdict,
}

/// The machine. It uses sockets 0 and 1.
pub struct Behaviour {
    server: SocketAddr,
    local: SocketAddr,
    timing: Timing,
    ids: Ids,
    pub(super) exchange: Option<Exchange>,
    test: Test,
    other: Option<SocketAddr>,
    /// The address seen by the server's other address, primary port.
    mapped_by_other: Option<SocketAddr>,
    report: Report,
}

/// The tests in their order.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Test {
    Primary,
    AnswerFromOther,
    AnswerFromOtherPort,
    ToOtherAddress,
    ToOther,
    SecondSocket,
    Hairpin,
}

impl Behaviour {
    /// `local` is the address of socket 0 as the host knows it, `seed` is random.
    #[must_use]
    pub fn new(now: Instant, server: SocketAddr, local: SocketAddr, seed: [u8; 16], timing: Timing) -> Self {
        let mut machine = Self {
            server,
            local,
            timing,
            ids: Ids::new(seed),
            exchange: None,
            test: Test::Primary,
            other: None,
            mapped_by_other: None,
            report: Report::default(),
        };
        machine.ask(now, Test::Primary, 0, server);
        machine
    }

    /// The answers so far; final when nothing is left to be waited for.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.report
    }

    fn ask(&mut self, now: Instant, test: Test, socket: usize, to: SocketAddr) {
        let change = ChangeRequest {
            ip: test == Test::AnswerFromOther,
            port: matches!(test, Test::AnswerFromOther | Test::AnswerFromOtherPort),
        };
        let request = BindingRequest {
            change,
            response_port: None,
        };
        let id = self.ids.modern();
        self.test = test;
        let path = Path { socket, to };
        self.exchange = Some(Exchange::new(now, id, request, path, self.timing));
    }

    fn advance(&mut self, now: Instant, heard: Option<Heard>) {
        if let Some(Heard { response: None, .. }) = heard {
            // Our own request, by way of the NAT.
            if self.test == Test::Hairpin {
                self.report.hairpinning = Verdict::Yes;
                self.exchange = None;
            }
            return;
        }
        let success = heard.and_then(|heard| {
            let response = heard.response.filter(|response| response.error.is_none())?;
            Some((response, heard.from))
        });
        match self.test {
            Test::Primary => self.primary(now, heard.is_some(), success.map(|(response, _)| response)),
            Test::AnswerFromOther => match (heard.is_some(), success, self.other) {
                (true, Some((_, from)), Some(other)) if from == other => {
                    self.filtered(now, Filtering::EndpointIndependent);
                }
                (true, ..) => self.filtered(now, Filtering::Unknown),
                (false, ..) => self.ask(now, Test::AnswerFromOtherPort, 0, self.server),
            },
            Test::AnswerFromOtherPort => {
                let expected = self
                    .other
                    .map(|other| SocketAddr::new(self.server.ip(), other.port()));
                let filtering = match (heard.is_some(), success) {
                    (true, Some((_, from))) if Some(from) == expected => Filtering::AddressDependent,
                    (true, _) => Filtering::Unknown,
                    (false, _) => Filtering::AddressAndPortDependent,
                };
                self.filtered(now, filtering);
            }
            Test::ToOtherAddress => match (success.and_then(|(response, _)| response.mapped()), self.other) {
                (Some(mapped), _) if Some(mapped) == self.report.mapped => {
                    self.mapped(now, Mapping::EndpointIndependent);
                }
                (Some(mapped), Some(other)) => {
                    self.mapped_by_other = Some(mapped);
                    self.ask(now, Test::ToOther, 0, other);
                }
                _ => self.mapped(now, Mapping::Unknown),
            },
            Test::ToOther => {
                let mapping = match success.and_then(|(response, _)| response.mapped()) {
                    None => Mapping::Unknown,
                    same if same == self.mapped_by_other => Mapping::AddressDependent,
                    Some(_) => Mapping::AddressAndPortDependent,
                };
                self.mapped(now, mapping);
            }
            Test::SecondSocket => {
                let second = success.and_then(|(response, _)| response.mapped());
                match (self.report.mapped, second) {
                    (Some(first), Some(second)) => self.hairpin(now, first, second),
                    _ => self.exchange = None,
                }
            }
            Test::Hairpin => {
                if heard.is_none() {
                    self.report.hairpinning = Verdict::No;
                    self.exchange = None;
                }
            }
        }
    }

    fn primary(&mut self, now: Instant, answered: bool, response: Option<BindingResponse>) {
        self.report.reachable = if answered { Verdict::Yes } else { Verdict::No };
        self.exchange = None;
        let Some(response) = response else {
            return;
        };
        self.report.mapped = response.mapped();
        self.report.rewriting = match (response.plain, response.xored) {
            (Some(plain), Some(xored)) if plain == xored => Verdict::No,
            (Some(_), Some(_)) => Verdict::Yes,
            _ => Verdict::Unknown,
        };
        self.other = response.other;
        match (self.report.mapped, self.other) {
            (Some(_), Some(_)) => self.ask(now, Test::AnswerFromOther, 0, self.server),
            (Some(_), None) => self.mapped(now, Mapping::Unknown),
            (None, _) => {}
        }
    }

    fn filtered(&mut self, now: Instant, filtering: Filtering) {
        self.report.filtering = filtering;
        match self.other {
            Some(other) if !self.is_direct() => {
                let to = SocketAddr::new(other.ip(), self.server.port());
                self.ask(now, Test::ToOtherAddress, 0, to);
            }
            _ => self.mapped(now, Mapping::Unknown),
        }
    }

    fn mapped(&mut self, now: Instant, mapping: Mapping) {
        if self.is_direct() {
            self.report.mapping = Mapping::NoNat;
            self.exchange = None;
            return;
        }
        self.report.mapping = mapping;
        self.ask(now, Test::SecondSocket, 1, self.server);
    }

    /// Both sockets send to each other's mapped address in turn, so that each opens the filter for the other.
    fn hairpin(&mut self, now: Instant, first: SocketAddr, second: SocketAddr) {
        self.ask(now, Test::Hairpin, 1, first);
        self.exchange = self.exchange.take().map(|exchange| {
            exchange.with_second_path(Path {
                socket: 0,
                to: second,
            })
        });
    }

    fn is_direct(&self) -> bool {
        self.report.mapped == Some(self.local)
    }
}

exchange_methods!(Behaviour);
