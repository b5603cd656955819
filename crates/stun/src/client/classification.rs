//! The discovery process of RFC 3489 section 10.1, figure 2: one of seven types, by at most four tests on one socket.
//!
//! The types say less than they seem to: many NATs are of none of them, or change between them. RFC 5780 asks better questions;
//! this one is asked because people know its answers.

use std::net::SocketAddr;
use std::time::Instant;

use super::exchange::{Exchange, Heard, Ids, Path};
use super::{BindingRequest, Timing, Transmit, exchange_methods};
use crate::attribute::ChangeRequest;

/// The type of a NAT (RFC 3489 section 5), or why there is none.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub enum NatType {
    /// The server cannot tell: it has one address only, or answers oddly.
    #[default]
    Unknown,
    /// No answer at all.
    Blocked,
    /// No NAT, and anybody gets through.
    OpenInternet,
    /// No NAT, but only answers get through.
    SymmetricFirewall,
    /// One mapping for all, and anybody gets through.
    FullCone,
    /// One mapping for all; only hosts get through that were sent to.
    Restricted,
    /// One mapping for all; only ports get through that were sent to.
    PortRestricted,
    /// A mapping for each destination.
    Symmetric,
}

/// The machine. It uses socket 0.
pub struct Classification {
    server: SocketAddr,
    local: SocketAddr,
    timing: Timing,
    ids: Ids,
    pub(super) exchange: Option<Exchange>,
    test: Test,
    mapped: Option<SocketAddr>,
    other: Option<SocketAddr>,
    answer: NatType,
}

/// The tests, by their numbers in the RFC.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Test {
    One,
    Two,
    /// Test I, to CHANGED-ADDRESS.
    OneToOther,
    Three,
}

impl Classification {
    /// `local` is the address of socket 0 as the host knows it, `seed` is random.
    #[must_use]
    pub fn new(now: Instant, server: SocketAddr, local: SocketAddr, seed: [u8; 16], timing: Timing) -> Self {
        let mut machine = Self {
            server,
            local,
            timing,
            ids: Ids::new(seed),
            exchange: None,
            test: Test::One,
            mapped: None,
            other: None,
            answer: NatType::Unknown,
        };
        machine.begin(now, Test::One, server);
        machine
    }

    /// The answer; final when nothing is left to be waited for.
    #[must_use]
    pub fn nat_type(&self) -> NatType {
        self.answer
    }

    /// The address that the server sees.
    #[must_use]
    pub fn mapped(&self) -> Option<SocketAddr> {
        self.mapped
    }

    fn begin(&mut self, now: Instant, test: Test, to: SocketAddr) {
        let change = match test {
            Test::One | Test::OneToOther => ChangeRequest::default(),
            Test::Two => ChangeRequest { ip: true, port: true },
            Test::Three => ChangeRequest {
                ip: false,
                port: true,
            },
        };
        let request = BindingRequest {
            change,
            response_port: None,
        };
        let id = self.ids.classic();
        self.test = test;
        self.exchange = Some(Exchange::new(
            now,
            id,
            request,
            Path { socket: 0, to },
            self.timing,
        ));
    }

    fn advance(&mut self, now: Instant, heard: Option<Heard>) {
        let Some(heard) = heard else {
            return self.silence(now);
        };
        let Some(response) = heard.response.filter(|response| response.error.is_none()) else {
            return self.settle(NatType::Unknown);
        };
        let direct = self.mapped == Some(self.local);
        match self.test {
            Test::One => {
                (self.mapped, self.other) = (response.mapped(), response.other);
                if self.mapped.is_none() || self.other.is_none() {
                    return self.settle(NatType::Unknown);
                }
                self.begin(now, Test::Two, self.server);
            }
            // A server that answers from where it was asked has not done what it was asked for.
            Test::Two if Some(heard.from) != self.other => self.settle(NatType::Unknown),
            Test::Two if direct => self.settle(NatType::OpenInternet),
            Test::Two => self.settle(NatType::FullCone),
            Test::OneToOther if response.mapped() != self.mapped => self.settle(NatType::Symmetric),
            Test::OneToOther => self.begin(now, Test::Three, self.server),
            Test::Three if heard.from.port() == self.server.port() => self.settle(NatType::Unknown),
            Test::Three => self.settle(NatType::Restricted),
        }
    }

    fn silence(&mut self, now: Instant) {
        match (self.test, self.other) {
            (Test::One, _) => self.settle(NatType::Blocked),
            (Test::Two, _) if self.mapped == Some(self.local) => self.settle(NatType::SymmetricFirewall),
            (Test::Two, Some(other)) => self.begin(now, Test::OneToOther, other),
            (Test::Three, _) => self.settle(NatType::PortRestricted),
            // The other address itself cannot be reached.
            (Test::OneToOther, _) | (Test::Two, None) => self.settle(NatType::Unknown),
        }
    }

    fn settle(&mut self, answer: NatType) {
        self.answer = answer;
        self.exchange = None;
    }
}

exchange_methods!(Classification);
