//! A TURN server (RFC 8656): clients send and receive through relayed addresses.
//!
//! - [`Turn::handle_datagram`] for what clients send: a datagram, or a frame of a stream ([`crate::frame`]). Its [`Output`]
//!   says what to send. Binding requests are not for it: give it what [`crate::server`] has no answer to.
//! - [`Turn::handle_peer_datagram`] for what arrives at a relayed address.
//! - [`Turn::handle_disconnect`] when a client's stream ends.
//! - [`Turn::handle_timeout`] when [`Turn::poll_timeout`] says so.
//!
//! Data is neither copied nor allocated for: it stays in the caller's buffer, and what goes before it comes in a [`Prefix`].
//! Users come from an [`Accounts`], sockets from a [`RelayPorts`]. Only UDP is relayed (no RFC 6062), ICMP errors are not, and
//! the 300 of ALTERNATE-SERVER is not used.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::attribute::{AttributeType, Family, read_xor_address};
use crate::budget::{Budget, BudgetConfig};
use crate::frame::{ChannelData, is_channel_data};
use crate::integrity::verify_fingerprint;
use crate::message::{Class, Message, Method, TransactionId, Writer};

mod allocate;
mod allocation;
mod auth;
mod nonce;
mod peers;
mod ports;
mod prefix;
mod refusal;
mod requests;
mod rest;
mod table;

pub use auth::{Account, Accounts, User};
pub use peers::PeerPolicy;
pub use ports::{RelayPorts, RelaySocket, Slot};
pub use prefix::Prefix;
pub use rest::{Password, TimeLimited};

use auth::{Authenticator, Proven};
use nonce::Nonces;
use refusal::Refusal;
use table::Table;

/// What carries a client's messages.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Transport {
    /// A datagram is a message.
    Udp,
    /// TCP or TLS: messages follow one another.
    Stream,
}

/// A client: the 5-tuple (RFC 8656 section 2.2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Client {
    /// UDP or a stream.
    pub transport: Transport,
    /// The client's address as the server sees it.
    pub address: SocketAddr,
    /// Which of the server's addresses it talks to: a number of the caller's.
    pub listener: u16,
}

/// How a server is set up. Every limit has its default in [`Config::new`].
#[derive(Clone, Debug)]
pub struct Config {
    /// The realm of its users.
    pub realm: Box<str>,
    /// Lifetime of an allocation whose client asks for nothing or less. 600 s (RFC 8656 section 3.2).
    pub default_lifetime: Duration,
    /// Lifetime at most. 3600 s (RFC 8656 section 7.2).
    pub max_lifetime: Duration,
    /// How long a nonce serves. An hour (RFC 8656 section 5).
    pub nonce_lifetime: Duration,
    /// Allocations and reserved ports at once. 10,000.
    pub max_allocations: usize,
    /// Allocations and reserved ports of one user. 10: two devices with a few network interfaces each.
    pub max_per_user: usize,
    /// Permissions of one allocation. 128.
    pub max_permissions: usize,
    /// Channels of one allocation. 64.
    pub max_channels: usize,
    /// Whether the relayed sockets can be told to set DF; if not, DONT-FRAGMENT is refused with 420. False.
    pub dont_fragment: bool,
    /// Which peers may be reached. Hosts of the Internet only.
    pub peers: PeerPolicy,
    /// SOFTWARE, if it is to be told. `None`.
    pub software: Option<Box<str>>,
    /// What a source that has proven nothing may get beyond what it sends, over UDP.
    pub budget: BudgetConfig,
}

impl Config {
    /// The defaults.
    #[must_use]
    pub fn new(realm: &str) -> Self {
        Self {
            realm: realm.into(),
            default_lifetime: Duration::from_secs(600),
            max_lifetime: Duration::from_secs(3600),
            nonce_lifetime: Duration::from_secs(3600),
            max_allocations: 10_000,
            max_per_user: 10,
            max_permissions: 128,
            max_channels: 64,
            dont_fragment: false,
            peers: PeerPolicy::default(),
            software: None,
            budget: BudgetConfig::default(),
        }
    }
}

/// What is to be done with a client's message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Output<'a> {
    /// Nothing.
    Silence,
    /// Send the first `length` bytes of the buffer for answers to the client.
    Answer {
        /// Bytes.
        length: usize,
    },
    /// Send to a peer.
    ToPeer {
        /// From this socket.
        slot: Slot,
        /// The peer.
        peer: SocketAddr,
        /// What to send; part of the client's message.
        data: &'a [u8],
        /// With DF set, or not at all.
        dont_fragment: bool,
    },
}

/// What is to be sent to a client: prefix, data, zeros.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ToClient<'a> {
    /// To whom.
    pub client: Client,
    /// What goes before the data.
    pub prefix: Prefix,
    /// What the peer sent.
    pub data: &'a [u8],
    /// Zeros behind the data.
    pub padding: usize,
}

/// The server.
pub struct Turn {
    config: Config,
    authenticator: Authenticator,
    budget: Budget,
    table: Table,
    indications: u64,
}

impl Turn {
    /// `secret` is random and kept from everybody: nonces and reservation tokens come from it.
    #[must_use]
    pub fn new(config: Config, secret: [u8; 32], now: Instant) -> Self {
        let [nonces, tables] = [0, 16].map(|at| std::array::from_fn(|index| secret[at + index]));
        Self {
            authenticator: Authenticator {
                realm: config.realm.clone(),
                nonces: Nonces::new(nonces, now, config.nonce_lifetime),
            },
            budget: Budget::new(config.budget, tables, now),
            table: Table::new(tables),
            config,
            indications: 0,
        }
    }

    /// Allocations at present, those included that have ended and were not yet taken away.
    #[must_use]
    pub fn allocations(&self) -> usize {
        self.table.len()
    }

    /// Handles a datagram or a frame of a stream from a client. Answers are written into `answer`: [`ANSWER`] bytes suffice.
    pub fn handle_datagram<'a>(
        &mut self,
        now: Instant,
        client: Client,
        bytes: &'a [u8],
        accounts: &dyn Accounts,
        ports: &mut dyn RelayPorts,
        answer: &mut [u8],
    ) -> Output<'a> {
        if bytes.first().is_some_and(|&first| is_channel_data(first)) {
            return self.channel_data(now, &client, bytes).unwrap_or(Output::Silence);
        }
        let Ok(message) = Message::parse(bytes) else {
            return Output::Silence;
        };
        if message.is_classic() || verify_fingerprint(&message) == Some(false) {
            return Output::Silence;
        }
        match (message.class(), message.method()) {
            (Class::Indication, Method::SEND) => self.send(now, &client, &message).unwrap_or(Output::Silence),
            (
                Class::Request,
                Method::ALLOCATE | Method::REFRESH | Method::CREATE_PERMISSION | Method::CHANNEL_BIND,
            ) => self
                .request(now, client, &message, accounts, ports, answer)
                .map_or(Output::Silence, |length| Output::Answer { length }),
            _ => Output::Silence,
        }
    }

    /// Handles a datagram from a peer at a relayed address (RFC 8656 sections 11.3 and 12.7).
    pub fn handle_peer_datagram<'a>(
        &mut self,
        now: Instant,
        slot: Slot,
        peer: SocketAddr,
        data: &'a [u8],
    ) -> Option<ToClient<'a>> {
        let peer = canonical(peer);
        let allocation = self.table.of_slot(now, slot)?;
        // A permission is needed in either case: it may have ended before the channel.
        if !allocation.is_permitted(now, peer.ip()) {
            return None;
        }
        let client = allocation.client;
        let to_word = data.len().wrapping_neg() & 3;
        let (prefix, padding) = match allocation.channel_to(now, peer) {
            Some(number) => {
                let padding = if client.transport == Transport::Udp {
                    0
                } else {
                    to_word
                };
                (Prefix::channel_data(number, data.len())?, padding)
            }
            None => {
                self.indications += 1;
                let id = indication_id(self.indications);
                (Prefix::data_indication(id, peer, data.len())?, to_word)
            }
        };
        Some(ToClient {
            client,
            prefix,
            data,
            padding,
        })
    }

    /// A client's stream has ended, and its allocation with it.
    pub fn handle_disconnect(&mut self, client: &Client, ports: &mut dyn RelayPorts) {
        if let Some(key) = self.table.find(client) {
            self.table.remove(key, ports);
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.table.next_end()
    }

    /// Takes away what has ended.
    pub fn handle_timeout(&mut self, now: Instant, ports: &mut dyn RelayPorts) {
        self.table.expire(now, ports);
    }

    /// RFC 8656 section 12.6. No permission is asked for: the channel has one, or had when it was bound.
    fn channel_data<'a>(&self, now: Instant, client: &Client, bytes: &'a [u8]) -> Option<Output<'a>> {
        let message = ChannelData::parse(bytes)?;
        let allocation = self.table.of_client(now, client)?;
        let peer = allocation.peer_of(now, message.number)?;
        Some(Output::ToPeer {
            slot: allocation.relay(Family::of(&peer))?.slot,
            peer,
            data: message.data,
            dont_fragment: false,
        })
    }

    /// RFC 8656 section 11.2.
    fn send<'a>(&self, now: Instant, client: &Client, message: &Message<'a>) -> Option<Output<'a>> {
        let allocation = self.table.of_client(now, client)?;
        let (mut peer, mut data, mut dont_fragment) = (None, None, false);
        for attribute in message.attributes() {
            match attribute.kind {
                AttributeType::XOR_PEER_ADDRESS if peer.is_none() => {
                    peer = Some(read_xor_address(attribute.value, &message.transaction_id())?);
                }
                AttributeType::DATA if data.is_none() => data = Some(attribute.value),
                AttributeType::XOR_PEER_ADDRESS | AttributeType::DATA => {}
                AttributeType::DONT_FRAGMENT if self.config.dont_fragment => dont_fragment = true,
                kind if kind.is_comprehension_required() => return None,
                _ => {}
            }
        }
        let (peer, data) = (canonical(peer?), data?);
        if !allocation.is_permitted(now, peer.ip()) || !self.config.peers.permits(peer) {
            return None;
        }
        Some(Output::ToPeer {
            slot: allocation.relay(Family::of(&peer))?.slot,
            peer,
            data,
            dont_fragment,
        })
    }

    /// A request is proven, carried out, and answered in any case. The answer's length.
    fn request(
        &mut self,
        now: Instant,
        client: Client,
        request: &Message<'_>,
        accounts: &dyn Accounts,
        ports: &mut dyn RelayPorts,
        answer: &mut [u8],
    ) -> Option<usize> {
        self.table.expire(now, ports);
        let proven = match self.authenticator.prove(now, &client, request, accounts) {
            Ok(proven) => proven,
            Err(refusal) => {
                let mut writer = Writer::answer(answer, Class::Error, request);
                refusal.write(&mut writer);
                if refusal.challenges() {
                    self.authenticator.challenge(now, &client, &mut writer);
                }
                let length = self.finish(writer, request, None)?;
                let excess = length.saturating_sub(request.as_bytes().len());
                let affordable = client.transport == Transport::Stream
                    || self.budget.spend(now, client.address.ip(), excess);
                return affordable.then_some(length);
            }
        };
        let outcome = if request.unknown(self.known()).next().is_some() {
            Err(Refusal::UnknownAttribute)
        } else {
            let user = &*proven.account.name;
            match request.method() {
                Method::ALLOCATE => self.allocate(now, client, user, request, ports),
                Method::REFRESH => self.refresh(now, &client, user, request, ports),
                Method::CREATE_PERMISSION => self.create_permission(now, &client, user, request),
                _ => self.channel_bind(now, &client, user, request),
            }
        };
        let writer = match outcome {
            Ok(success) => {
                let mut writer = Writer::answer(answer, Class::Success, request);
                self.write_success(now, success, &mut writer);
                writer
            }
            Err(refusal) => {
                let mut writer = Writer::answer(answer, Class::Error, request);
                refusal.write(&mut writer);
                if refusal == Refusal::UnknownAttribute {
                    writer.unknown_attributes(request.unknown(self.known()));
                }
                writer
            }
        };
        self.finish(writer, request, Some(&proven))
    }

    /// What comes last: SOFTWARE, integrity, and a fingerprint if the request has one.
    fn finish(
        &self,
        mut writer: Writer<'_>,
        request: &Message<'_>,
        proven: Option<&Proven<'_>>,
    ) -> Option<usize> {
        if let Some(software) = &self.config.software {
            writer.attribute(AttributeType::SOFTWARE, software.as_bytes());
        }
        if let Some(proven) = proven {
            writer.integrity(proven.integrity, proven.account.key.as_bytes());
        }
        if request.attribute(AttributeType::FINGERPRINT).is_some() {
            writer.fingerprint();
        }
        writer.finish().ok()
    }

    /// What is understood in requests.
    fn known(&self) -> &'static [AttributeType] {
        if self.config.dont_fragment {
            KNOWN
        } else {
            &KNOWN[1..]
        }
    }
}

impl std::fmt::Debug for Turn {
    /// Leaves the secrets and the tables out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Turn")
            .field("config", &self.config)
            .field("allocations", &self.allocations())
            .finish_non_exhaustive()
    }
}

/// Addresses of IPv4 within IPv6 become IPv4: peers are compared.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Nothing answers an indication: its number need only be its own.
fn indication_id(number: u64) -> TransactionId {
    let mut id = [0; 12];
    id[4..].copy_from_slice(&number.to_be_bytes());
    TransactionId::new(id)
}

/// Bytes that hold every answer, without SOFTWARE and with a realm of up to 128 bytes.
pub const ANSWER: usize = 512;

/// The attributes of RFC 8489 and RFC 8656 that are understood in requests; DONT-FRAGMENT first, for it may not be.
const KNOWN: &[AttributeType] = &[
    AttributeType::DONT_FRAGMENT,
    AttributeType::USERNAME,
    AttributeType::USERHASH,
    AttributeType::REALM,
    AttributeType::NONCE,
    AttributeType::PASSWORD_ALGORITHM,
    AttributeType::MESSAGE_INTEGRITY,
    AttributeType::MESSAGE_INTEGRITY_SHA256,
    AttributeType::CHANNEL_NUMBER,
    AttributeType::LIFETIME,
    AttributeType::XOR_PEER_ADDRESS,
    AttributeType::DATA,
    AttributeType::XOR_RELAYED_ADDRESS,
    AttributeType::REQUESTED_ADDRESS_FAMILY,
    AttributeType::EVEN_PORT,
    AttributeType::REQUESTED_TRANSPORT,
    AttributeType::RESERVATION_TOKEN,
    AttributeType::XOR_MAPPED_ADDRESS,
    AttributeType::MAPPED_ADDRESS,
    AttributeType::ERROR_CODE,
    AttributeType::UNKNOWN_ATTRIBUTES,
];

#[cfg(test)]
mod tests;
