//! A STUN client that finds out what kind of NAT it is behind.
//!
//! Three machines, each for a set of questions, each used the same way:
//!
//! - [`Classification`]: the types of RFC 3489 section 10.1, with classic messages.
//! - [`Behaviour`]: mapping, filtering and hairpinning (RFC 5780 sections 4.3, 4.4 and 3.4), and whether payloads are rewritten.
//! - [`Lifetime`]: how long a binding lives without traffic (RFC 5780 section 4.6).
//!
//! In turn: [`poll_transmit`](Behaviour::poll_transmit) until it gives nothing; wait for a datagram
//! ([`handle_datagram`](Behaviour::handle_datagram)) or for [`poll_timeout`](Behaviour::poll_timeout)
//! ([`handle_timeout`](Behaviour::handle_timeout)). When `poll_timeout` is `None`, the answers are final. The caller opens the
//! sockets, which the machines name by number: new ones for each machine, for what was sent before opens filters.
//!
//! A question that could not be settled is `Unknown`: silence proves something only where an answer had come before.

use std::net::SocketAddr;
use std::time::Duration;

use crate::attribute::{AttributeType, ChangeRequest, read_address, read_error_code, read_xor_address};
use crate::message::{BufferTooSmall, Class, Message, Method, TransactionId, Writer};

mod behaviour;
mod classification;
mod exchange;
mod lifetime;

pub use behaviour::{Behaviour, Filtering, Mapping, Report, Verdict};
pub use classification::{Classification, NatType};
pub use lifetime::{BindingLifetime, Lifetime};

/// A request to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Transmit {
    /// The number of the socket that it must leave from.
    pub socket: usize,
    /// Where to.
    pub to: SocketAddr,
    /// Bytes of the caller's buffer.
    pub length: usize,
}

/// Bytes that hold every request of the machines.
pub const REQUEST: usize = 64;

/// How often a request is sent, and how long its answer is waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timing {
    /// Between the first and the second time; doubled from then on. 200 ms: RFC 3489 section 9.3 has 100 ms, RFC 8489 section
    /// 6.2.1 has 500 ms.
    pub first: Duration,
    /// Between two times at most, and after the last. 1.6 s (RFC 3489 section 9.3).
    pub longest: Duration,
    /// Times. 5, so that silence is certain after 4.6 s.
    pub sends: u8,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(200),
            longest: Duration::from_millis(1600),
            sends: 5,
        }
    }
}

/// What a binding request asks for.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct BindingRequest {
    /// An answer from elsewhere.
    pub change: ChangeRequest,
    /// An answer to another port of ours, as the server sees them.
    pub response_port: Option<u16>,
}

impl BindingRequest {
    /// Writes it into a buffer; its length.
    pub fn write(&self, id: TransactionId, buffer: &mut [u8]) -> Result<usize, BufferTooSmall> {
        let mut writer = Writer::new(buffer, Class::Request, Method::BINDING, id);
        if self.change != ChangeRequest::default() {
            writer.number(AttributeType::CHANGE_REQUEST, self.change.value());
        }
        if let Some(port) = self.response_port {
            let [high, low] = port.to_be_bytes();
            writer.attribute(AttributeType::RESPONSE_PORT, &[high, low, 0, 0]);
        }
        writer.finish()
    }
}

/// What an answer to a binding request says. Attributes that cannot be read count as absent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BindingResponse {
    /// XOR-MAPPED-ADDRESS.
    pub xored: Option<SocketAddr>,
    /// MAPPED-ADDRESS. It differs from the other one where a router rewrites addresses in payloads.
    pub plain: Option<SocketAddr>,
    /// The server's other address and port: OTHER-ADDRESS or CHANGED-ADDRESS.
    pub other: Option<SocketAddr>,
    /// ERROR-CODE; 0 for an error without one. `None`: it is a success.
    pub error: Option<u16>,
}

impl BindingResponse {
    /// Reads a message; `None` if it is no answer to a binding request.
    #[must_use]
    pub fn read(message: &Message<'_>) -> Option<Self> {
        if message.method() != Method::BINDING {
            return None;
        }
        let error = match message.class() {
            Class::Success => None,
            Class::Error => Some(
                message
                    .value(AttributeType::ERROR_CODE)
                    .and_then(read_error_code)
                    .map_or(0, |(code, _)| code),
            ),
            Class::Request | Class::Indication => return None,
        };
        let address = |kind| message.value(kind).and_then(read_address);
        let plain = address(AttributeType::MAPPED_ADDRESS);
        let xored = message
            .value(AttributeType::XOR_MAPPED_ADDRESS)
            .and_then(|value| read_xor_address(value, &message.transaction_id()));
        Some(Self {
            xored,
            plain,
            other: address(AttributeType::OTHER_ADDRESS).or_else(|| address(AttributeType::CHANGED_ADDRESS)),
            error,
        })
    }

    /// Where the server saw the request come from. Classic answers have the plain form only.
    #[must_use]
    pub fn mapped(&self) -> Option<SocketAddr> {
        self.xored.or(self.plain)
    }
}

/// Declares the methods that all machines share: they have one exchange at a time.
macro_rules! exchange_methods {
    ($machine:ident) => {
        impl $machine {
            /// The next request to send, written into `buffer`: [`REQUEST`](super::REQUEST) bytes suffice.
            pub fn poll_transmit(&mut self, now: Instant, buffer: &mut [u8]) -> Option<Transmit> {
                self.exchange.as_mut()?.poll_transmit(now, buffer)
            }

            /// When [`poll_transmit`](Self::poll_transmit) or [`handle_timeout`](Self::handle_timeout) has something to do
            /// next; `None` when all is settled.
            #[must_use]
            pub fn poll_timeout(&self) -> Option<Instant> {
                self.exchange.as_ref().map(|exchange| exchange.next())
            }

            /// An answer has been waited for long enough, perhaps.
            pub fn handle_timeout(&mut self, now: Instant) {
                if self
                    .exchange
                    .as_ref()
                    .is_some_and(|exchange| exchange.is_silent(now))
                {
                    self.advance(now, None);
                }
            }

            /// A datagram that came `from` somewhere to one of the sockets. What does not belong to the machine is ignored.
            pub fn handle_datagram(&mut self, now: Instant, socket: usize, from: SocketAddr, bytes: &[u8]) {
                let Some(exchange) = &self.exchange else {
                    return;
                };
                if let Some(heard) = exchange.hear(socket, from, bytes) {
                    self.advance(now, Some(heard));
                }
            }
        }
    };
}
use exchange_methods;

#[cfg(test)]
mod tests;
