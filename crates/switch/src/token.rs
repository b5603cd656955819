//! The token that Trapez puts into its Record-Route URIs (RFC 3261 16.6 step 4 leaves the user part and the parameters of that
//! URI to the proxy).
//!
//! A token names the worker that holds the call and the two flows that the dialog was set up over, so that a request inside the
//! dialog finds a telephone behind NAT by the way it came, whatever private address its Contact names; and it does so without
//! a lookup, and after a restart. A keyed MAC protects it: without the secret nobody can make Trapez send to an address of his
//! choice.

use std::hash::Hasher;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU64;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sip::{ConnectionId, Flow, Transport};
use siphasher::sip::SipHasher13;

/// Name of the URI parameter that carries the token.
pub const PARAMETER: &str = "tz";

/// Longest token text accepted: two IPv6 flows over connections.
pub const MAX_TEXT: usize = 160;

/// What a token says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// The worker that holds the dialog's state.
    pub worker: u8,
    /// Slot and generation of the call in that worker, zero where there is none.
    pub call: u64,
    /// Hash of the caller's From tag: it tells which way a request goes.
    pub caller_tag: u32,
    /// The caller's side.
    pub caller: Leg,
    /// The callee's side.
    pub callee: Leg,
}

/// One side of a dialog, as the token remembers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leg {
    /// The flow that its messages come from and go to.
    pub flow: Flow,
    /// The user agent itself is at the end of the flow (no proxy in between), so requests to it go there even when the route
    /// set is empty and its Contact says something else.
    pub direct: bool,
}

/// Hash of a tag as kept in a [`Token`].
pub fn tag_hash(tag: &str) -> u32 {
    let mut hasher = SipHasher13::new();
    hasher.write(tag.as_bytes());
    hasher.finish() as u32
}

impl Token {
    /// Appends the token's text (base64url, at most [`MAX_TEXT`] bytes) to `out`.
    pub fn write(&self, secret: &[u8; 16], out: &mut Vec<u8>) {
        let mut raw = Raw::new();
        raw.put(&[VERSION, self.worker]);
        raw.put(&self.call.to_be_bytes());
        raw.put(&self.caller_tag.to_be_bytes());
        raw.put_leg(&self.caller);
        raw.put_leg(&self.callee);
        let mac = mac(secret, raw.bytes());
        raw.put(&mac);
        let mut text = [0u8; MAX_TEXT];
        // `Raw` holds at most 112 bytes, which is below what MAX_TEXT takes in base64.
        if let Ok(length) = URL_SAFE_NO_PAD.encode_slice(raw.bytes(), &mut text) {
            out.extend_from_slice(&text[..length]);
        }
    }

    /// Reads a token's text; `None` when it is not one of ours (or was forged).
    pub fn read(secret: &[u8; 16], text: &str) -> Option<Token> {
        if text.len() > MAX_TEXT {
            return None;
        }
        let mut raw = [0u8; MAX_TEXT];
        let length = URL_SAFE_NO_PAD.decode_slice(text, &mut raw).ok()?;
        let (body, given) = raw[..length].split_at_checked(length.checked_sub(MAC_LENGTH)?)?;
        if !bool::from(subtle::ConstantTimeEq::ct_eq(&mac(secret, body)[..], given)) {
            return None;
        }
        let mut reader = Reader(body);
        let [version, worker] = reader.take()?;
        if version != VERSION {
            return None;
        }
        let token = Token {
            worker,
            call: u64::from_be_bytes(reader.take()?),
            caller_tag: u32::from_be_bytes(reader.take()?),
            caller: reader.leg()?,
            callee: reader.leg()?,
        };
        reader.0.is_empty().then_some(token)
    }
}

const VERSION: u8 = 1;
const MAC_LENGTH: usize = 8;
const FLAG_DIRECT: u8 = 0x80;
const FLAG_V6: u8 = 0x40;
const FLAG_CONNECTION: u8 = 0x20;

fn mac(secret: &[u8; 16], body: &[u8]) -> [u8; MAC_LENGTH] {
    let mut hasher = SipHasher13::new_with_key(secret);
    hasher.write(body);
    hasher.finish().to_be_bytes()
}

/// The token's bytes before base64, on the stack.
struct Raw {
    bytes: [u8; 120],
    length: usize,
}

impl Raw {
    fn new() -> Self {
        Raw {
            bytes: [0; 120],
            length: 0,
        }
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.length..self.length + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }

    fn put_leg(&mut self, leg: &Leg) {
        let Flow {
            transport,
            local,
            remote,
            connection,
        } = leg.flow;
        let v6 = local.is_ipv6() || remote.is_ipv6();
        let mut head = transport_code(transport);
        head |= if leg.direct { FLAG_DIRECT } else { 0 };
        head |= if v6 { FLAG_V6 } else { 0 };
        head |= if connection.is_some() { FLAG_CONNECTION } else { 0 };
        self.put(&[head]);
        for address in [local, remote] {
            match address.ip() {
                IpAddr::V4(ip) if !v6 => self.put(&ip.octets()),
                IpAddr::V4(ip) => self.put(&ip.to_ipv6_mapped().octets()),
                IpAddr::V6(ip) => self.put(&ip.octets()),
            }
            self.put(&address.port().to_be_bytes());
        }
        if let Some(ConnectionId(id)) = connection {
            self.put(&id.get().to_be_bytes());
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn leg(&mut self) -> Option<Leg> {
        let [head] = self.take()?;
        let v6 = head & FLAG_V6 != 0;
        let local = self.address(v6)?;
        let remote = self.address(v6)?;
        let connection = match head & FLAG_CONNECTION {
            0 => None,
            _ => Some(ConnectionId(NonZeroU64::new(u64::from_be_bytes(self.take()?))?)),
        };
        let transport = transport_of(head & !(FLAG_DIRECT | FLAG_V6 | FLAG_CONNECTION))?;
        Some(Leg {
            flow: Flow {
                transport,
                local,
                remote,
                connection,
            },
            direct: head & FLAG_DIRECT != 0,
        })
    }

    fn address(&mut self, v6: bool) -> Option<SocketAddr> {
        let ip = if v6 {
            Ipv6Addr::from(self.take::<16>()?).to_canonical()
        } else {
            IpAddr::V4(Ipv4Addr::from(self.take::<4>()?))
        };
        Some(SocketAddr::new(ip, u16::from_be_bytes(self.take()?)))
    }
}

fn transport_code(transport: Transport) -> u8 {
    match transport {
        Transport::Udp => 0,
        Transport::Tcp => 1,
        Transport::Tls => 2,
        Transport::Ws => 3,
        Transport::Wss => 4,
        Transport::Local => 5,
    }
}

fn transport_of(code: u8) -> Option<Transport> {
    Some(match code {
        0 => Transport::Udp,
        1 => Transport::Tcp,
        2 => Transport::Tls,
        3 => Transport::Ws,
        4 => Transport::Wss,
        5 => Transport::Local,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: [u8; 16] = *b"sixteen bytes ok";

    fn token(caller: &str, callee: &str) -> Token {
        let leg = |remote: &str, direct, connection| Leg {
            flow: Flow {
                transport: if connection == 0 {
                    Transport::Udp
                } else {
                    Transport::Tcp
                },
                local: if remote.starts_with('[') {
                    "[2001:db8::2]:5060"
                } else {
                    "203.0.113.2:5060"
                }
                .parse()
                .expect("literal"),
                remote: remote.parse().expect("literal"),
                connection: NonZeroU64::new(connection).map(ConnectionId),
            },
            direct,
        };
        Token {
            worker: 3,
            call: 0x0102_0304_0506_0708,
            caller_tag: tag_hash("abc"),
            caller: leg(caller, true, 0),
            callee: leg(callee, false, u64::MAX),
        }
    }

    #[test]
    fn a_token_reads_back_as_written() {
        for (a, b) in [
            ("192.0.2.1:5060", "192.0.2.2:40000"),
            ("[2001:db8::1]:5060", "192.0.2.2:1"),
            ("[2001:db8::1]:65535", "[2001:db8::9]:5060"),
        ] {
            let token = token(a, b);
            let mut text = Vec::new();
            token.write(&SECRET, &mut text);
            assert!(!text.is_empty() && text.len() <= MAX_TEXT);
            let text = String::from_utf8(text).expect("base64 is text");
            assert_eq!(Token::read(&SECRET, &text), Some(token));
        }
    }

    #[test]
    fn a_token_changed_in_any_place_is_refused() {
        let mut text = Vec::new();
        token("192.0.2.1:5060", "192.0.2.2:40000").write(&SECRET, &mut text);
        for position in 0..text.len() {
            let mut forged = text.clone();
            forged[position] = if forged[position] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(forged).expect("base64 is text");
            assert_eq!(Token::read(&SECRET, &forged), None, "position {position}");
        }
        assert_eq!(
            Token::read(b"another secret!!", &String::from_utf8(text).expect("text")),
            None
        );
        assert_eq!(Token::read(&SECRET, ""), None);
    }
}
