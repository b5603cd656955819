//! A STUN server on up to four sockets: two addresses by two ports (RFC 8489, RFC 5780, and RFC 3489 for classic clients).
//!
//! For each datagram: [`Server::handle_datagram`], and its [`Transmit`] says what to send from which socket. For each message of
//! a stream (framed by [`crate::frame`]): [`Server::handle_message`]. There are no timers and no memory per request. What is
//! not a request for a binding is nobody's here: `None`.
//!
//! No authentication: a binding is no secret. An answer is larger than its request, hence [`Budget`].

use std::net::SocketAddr;
use std::time::Instant;

use crate::attribute::{AttributeType, ChangeRequest, read_address};
use crate::budget::{Budget, BudgetConfig};
use crate::integrity::verify_fingerprint;
use crate::message::{Class, Message, Method, Writer};

/// One of the four sockets, by what it does not share with the primary one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Socket {
    /// It has the alternate address.
    pub other_ip: bool,
    /// It has the alternate port.
    pub other_port: bool,
}

impl Socket {
    /// The primary address and port, (A1, P1) in RFC 3489 section 8.1.
    pub const PRIMARY: Self = Self {
        other_ip: false,
        other_port: false,
    };

    /// All of them, in the order of [`index`](Self::index).
    pub const ALL: [Self; 4] = [
        Self::PRIMARY,
        Self {
            other_ip: false,
            other_port: true,
        },
        Self {
            other_ip: true,
            other_port: false,
        },
        Self {
            other_ip: true,
            other_port: true,
        },
    ];

    /// 0 to 3.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.other_ip) * 2 + usize::from(self.other_port)
    }

    /// The socket that a change leads to.
    #[must_use]
    pub fn changed(self, change: ChangeRequest) -> Self {
        Self {
            other_ip: self.other_ip ^ change.ip,
            other_port: self.other_port ^ change.port,
        }
    }
}

/// How a server is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its address as clients see it.
    pub primary: SocketAddr,
    /// The other address with the other port, of the same family. Without it there is one socket and no discovery of NAT
    /// behaviour: CHANGE-REQUEST is refused with 420 (RFC 5780 section 6.1).
    pub alternate: Option<SocketAddr>,
    /// SOFTWARE, if it is to be told. `None` by default: it helps attackers more than clients.
    pub software: Option<Box<str>>,
    /// What a source may get beyond what it sends.
    pub budget: BudgetConfig,
}

impl Config {
    /// One socket, the defaults for all else.
    #[must_use]
    pub fn new(primary: SocketAddr) -> Self {
        Self {
            primary,
            alternate: None,
            software: None,
            budget: BudgetConfig::default(),
        }
    }
}

/// Why there cannot be such a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Address or port is not another one, or the family is.
    #[error(
        "expected an alternate of {primary}'s family with another address and another port, found {found}"
    )]
    Alternate {
        /// The primary address.
        primary: SocketAddr,
        /// The alternate one.
        found: SocketAddr,
    },
    /// SOFTWARE is longer than its 763 bytes (RFC 8489 section 14.14).
    #[error("expected at most 763 bytes of SOFTWARE, found {found}")]
    Software {
        /// Bytes.
        found: usize,
    },
}

/// An answer to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Transmit {
    /// Bytes of the caller's buffer.
    pub length: usize,
    /// The socket that it must leave from.
    pub from: Socket,
    /// Where to.
    pub to: SocketAddr,
}

/// The server.
#[derive(Debug)]
pub struct Server {
    config: Config,
    budget: Budget,
}

impl Server {
    /// `secret` is random; it keeps sources from choosing whose budget they share.
    pub fn new(config: Config, secret: [u8; 16], now: Instant) -> Result<Self, ConfigError> {
        let primary = config.primary;
        if let Some(found) = config.alternate.filter(|other| {
            other.ip() == primary.ip()
                || other.port() == primary.port()
                || other.is_ipv4() != primary.is_ipv4()
        }) {
            return Err(ConfigError::Alternate { primary, found });
        }
        if let Some(found) = config
            .software
            .as_ref()
            .map(|software| software.len())
            .filter(|&length| length > MAX_SOFTWARE)
        {
            return Err(ConfigError::Software { found });
        }
        let budget = Budget::new(config.budget, secret, now);
        Ok(Self { config, budget })
    }

    /// The address of one of the sockets, as clients see it.
    #[must_use]
    pub fn address(&self, socket: Socket) -> SocketAddr {
        let Config {
            primary, alternate, ..
        } = self.config;
        let other = alternate.unwrap_or(primary);
        let ip = if socket.other_ip { other } else { primary }.ip();
        let port = if socket.other_port { other } else { primary }.port();
        SocketAddr::new(ip, port)
    }

    /// Answers a datagram that came `from` to the socket `at` into `answer`: [`ANSWER`] bytes suffice for all but PADDING,
    /// which becomes shorter when it does not fit.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        datagram: &[u8],
        from: SocketAddr,
        at: Socket,
        answer: &mut [u8],
    ) -> Option<Transmit> {
        let transmit = self.answer(datagram, from, at, Carrier::Datagram, answer)?;
        let excess = transmit.length.saturating_sub(datagram.len());
        self.budget.spend(now, from.ip(), excess).then_some(transmit)
    }

    /// Answers a message of a stream whose peer is `from`: the answer's bytes, to be sent on the same stream. Its source is
    /// proven, so there is no budget; nor can the answer come from elsewhere: CHANGE-REQUEST and RESPONSE-PORT are refused.
    pub fn handle_message(
        &self,
        message: &[u8],
        from: SocketAddr,
        at: Socket,
        answer: &mut [u8],
    ) -> Option<usize> {
        self.answer(message, from, at, Carrier::Stream, answer)
            .map(|transmit| transmit.length)
    }

    fn answer(
        &self,
        bytes: &[u8],
        from: SocketAddr,
        at: Socket,
        carrier: Carrier,
        answer: &mut [u8],
    ) -> Option<Transmit> {
        let request = Message::parse(bytes).ok()?;
        // Port 0 is no source: what goes there does not arrive.
        if request.class() != Class::Request || from.port() == 0 {
            return None;
        }
        let asked = self.read(&request, carrier);
        if asked.fingerprint && verify_fingerprint(&request) == Some(false) {
            return None;
        }
        let refusal = match request.method() {
            Method::BINDING => self.refusal(&request, &asked, from),
            // RFC 3489 section 8.2: over TLS only, where we do not have it.
            Method::SHARED_SECRET if request.is_classic() => Some((433, "Use TLS")),
            _ => return None,
        };
        let (mut writer, source, to) = match refusal {
            Some((code, reason)) => {
                let mut writer = Writer::answer(answer, Class::Error, &request);
                writer.error(code, reason);
                if code == 420 {
                    writer.unknown_attributes(self.not_understood(&request, carrier, from));
                }
                (writer, at, from)
            }
            None => {
                let source = at.changed(asked.change);
                let to = asked.destination(from);
                let mut writer = Writer::answer(answer, Class::Success, &request);
                self.write_addresses(&mut writer, &request, &asked, from, at, source);
                (writer, source, to)
            }
        };
        if !request.is_classic() {
            if let Some(software) = &self.config.software {
                writer.attribute(AttributeType::SOFTWARE, software.as_bytes());
            }
            if asked.fingerprint {
                writer.fingerprint();
            }
        }
        Some(Transmit {
            length: writer.finish().ok()?,
            from: source,
            to,
        })
    }

    /// One walk over the attributes.
    fn read(&self, request: &Message<'_>, carrier: Carrier) -> Asked {
        let classic = request.is_classic();
        let mut asked = Asked::default();
        for attribute in request.attributes() {
            let value = attribute.value;
            match attribute.kind {
                kind if !self.understands(kind, classic, carrier) => {
                    asked.unknown |= kind.is_comprehension_required();
                }
                AttributeType::CHANGE_REQUEST => match ChangeRequest::from_value(value) {
                    Some(change) => asked.change = change,
                    None => asked.malformed = true,
                },
                AttributeType::RESPONSE_PORT => match *value {
                    [high, low, _, _] if (high, low) != (0, 0) => {
                        asked.response_port = Some(u16::from_be_bytes([high, low]));
                    }
                    _ => asked.malformed = true,
                },
                AttributeType::RESPONSE_ADDRESS => match read_address(value) {
                    Some(address) => asked.response_address = Some(address),
                    None => asked.malformed = true,
                },
                AttributeType::PADDING => asked.padding = Some(value.len()),
                AttributeType::FINGERPRINT => asked.fingerprint = true,
                AttributeType::USERNAME => asked.username = true,
                AttributeType::MESSAGE_INTEGRITY => asked.integrity = true,
                _ => {}
            }
        }
        asked
    }

    /// Whether an attribute means something here. What an RFC defines and nobody expects in a request is ignored, not refused
    /// (RFC 8489 section 6.3.1).
    fn understands(&self, kind: AttributeType, classic: bool, carrier: Carrier) -> bool {
        let elsewhere = carrier == Carrier::Datagram;
        match kind {
            AttributeType::CHANGE_REQUEST => elsewhere && self.config.alternate.is_some(),
            AttributeType::RESPONSE_PORT => elsewhere && !classic,
            AttributeType::RESPONSE_ADDRESS => elsewhere && classic,
            AttributeType::PADDING => !classic,
            // What RFC 3489 defines.
            AttributeType(0x0001..=0x000b) => true,
            _ => !classic && KNOWN.contains(&kind),
        }
    }

    /// The error that answers the request, if one does.
    fn refusal(&self, request: &Message<'_>, asked: &Asked, from: SocketAddr) -> Option<(u16, &'static str)> {
        // RFC 3489 section 8.1 in its order. There are no shared secrets, so that none is known.
        if request.is_classic() && asked.integrity {
            return Some(if asked.username {
                (430, "Stale Credentials")
            } else {
                (432, "Missing Username")
            });
        }
        if asked.unknown || asked.points_at_another(from) {
            return Some((420, "Unknown Attribute"));
        }
        // RFC 5780 section 6.1: such an answer would be a weapon.
        let fragments_elsewhere = asked.padding.is_some() && asked.response_port.is_some();
        (asked.malformed || fragments_elsewhere).then_some((400, "Bad Request"))
    }

    fn not_understood<'a>(
        &'a self,
        request: &'a Message<'_>,
        carrier: Carrier,
        from: SocketAddr,
    ) -> impl Iterator<Item = AttributeType> + 'a {
        let classic = request.is_classic();
        request
            .attributes()
            .filter(move |attribute| {
                let kind = attribute.kind;
                let elsewhere = kind == AttributeType::RESPONSE_ADDRESS
                    && read_address(attribute.value).is_some_and(|address| !is_port_of(address, from));
                kind.is_comprehension_required() && (elsewhere || !self.understands(kind, classic, carrier))
            })
            .map(|attribute| attribute.kind)
    }

    fn write_addresses(
        &self,
        writer: &mut Writer<'_>,
        request: &Message<'_>,
        asked: &Asked,
        from: SocketAddr,
        at: Socket,
        source: Socket,
    ) {
        let other = self
            .config
            .alternate
            .map(|_| self.address(at.changed(ChangeRequest { ip: true, port: true })));
        if request.is_classic() {
            writer.address(AttributeType::MAPPED_ADDRESS, from);
            writer.address(AttributeType::SOURCE_ADDRESS, self.address(source));
            if let Some(other) = other {
                writer.address(AttributeType::CHANGED_ADDRESS, other);
            }
            if asked.response_address.is_some() {
                writer.address(AttributeType::REFLECTED_FROM, from);
            }
            return;
        }
        writer.xor_address(AttributeType::XOR_MAPPED_ADDRESS, from);
        if let Some(other) = other {
            // The plain form too: routers that rewrite addresses in payloads are found by the difference (RFC 5780 3.6).
            writer.address(AttributeType::MAPPED_ADDRESS, from);
            writer.address(AttributeType::RESPONSE_ORIGIN, self.address(source));
            writer.address(AttributeType::OTHER_ADDRESS, other);
        }
        if let Some(length) = asked.padding {
            // As much as was sent, not the MTU that RFC 5780 section 6.1 suggests: no answer grows by what it carries.
            let room = writer.room().saturating_sub(RESERVED + self.software_length()) & !3;
            writer.zeros(AttributeType::PADDING, length.min(room));
        }
    }

    fn software_length(&self) -> usize {
        self.config
            .software
            .as_ref()
            .map_or(0, |software| 4 + software.len().next_multiple_of(4))
    }
}

/// What a request asks for.
#[derive(Default)]
struct Asked {
    change: ChangeRequest,
    response_port: Option<u16>,
    response_address: Option<SocketAddr>,
    padding: Option<usize>,
    fingerprint: bool,
    username: bool,
    integrity: bool,
    malformed: bool,
    unknown: bool,
}

impl Asked {
    /// RESPONSE-ADDRESS lets anybody send our answers to anybody. It is understood as far as RFC 5780 allows it with
    /// RESPONSE-PORT: another port of who asks. That is all that finding out the lifetime of a binding needs.
    fn points_at_another(&self, from: SocketAddr) -> bool {
        self.response_address
            .is_some_and(|address| !is_port_of(address, from))
    }

    fn destination(&self, from: SocketAddr) -> SocketAddr {
        let port = self
            .response_address
            .map(|address| address.port())
            .or(self.response_port);
        // Not a new address: the scope of a link-local one would be lost.
        let mut to = from;
        to.set_port(port.unwrap_or(from.port()));
        to
    }
}

/// Whether an address is one of the host that `from` is of. Sockets for both families see IPv4 within IPv6.
fn is_port_of(address: SocketAddr, from: SocketAddr) -> bool {
    address.ip() == from.ip().to_canonical() && address.port() != 0
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Carrier {
    Datagram,
    Stream,
}

/// Bytes that hold every answer without SOFTWARE and PADDING.
pub const ANSWER: usize = 200;

/// Bytes left for what follows PADDING: its own header and FINGERPRINT.
const RESERVED: usize = 4 + 8;
/// RFC 8489 section 14.14.
const MAX_SOFTWARE: usize = 763;
/// The attributes of RFC 8489 beyond those of RFC 3489. Authentication is understood and not asked for.
const KNOWN: &[AttributeType] = &[
    AttributeType::REALM,
    AttributeType::NONCE,
    AttributeType::MESSAGE_INTEGRITY_SHA256,
    AttributeType::PASSWORD_ALGORITHM,
    AttributeType::USERHASH,
    AttributeType::XOR_MAPPED_ADDRESS,
    AttributeType::FINGERPRINT,
];

#[cfg(test)]
mod tests;
