//! Via (RFC 3261, 20.42; `rport`: RFC 3581).

use super::Params;
use super::params::split_param;
use crate::flow::Transport;
use crate::text::{self, trim, trim_end, trim_start};
use crate::uri::Host;

/// One Via value.
#[derive(Clone, Copy, Debug)]
pub struct Via<'a> {
    /// The transport's name as it stands, such as `UDP`.
    pub transport: &'a str,
    /// The host that sent the message as it stands, an IPv6 reference with its brackets.
    pub sent_by_host: &'a str,
    /// The port, if one is written.
    pub sent_by_port: Option<u16>,
    /// The transaction's id at that hop.
    pub branch: Option<&'a str>,
    /// The address that the message really came from, as the next hop saw it; brackets removed.
    pub received: Option<&'a str>,
    /// `Some(None)`: the sender asks for the port to be filled in; `Some(Some(_))`: it is.
    pub rport: Option<Option<u16>>,
    /// Where replies shall go instead, for multicast.
    pub maddr: Option<&'a str>,
    /// The time to live of a multicast packet.
    pub ttl: Option<u8>,
    /// All parameters.
    pub params: Params<'a>,
    raw: &'a str,
}

/// What starts the branch of an element of RFC 3261 (8.1.1.7).
pub const MAGIC_COOKIE: &str = "z9hG4bK";

impl<'a> Via<'a> {
    /// Parses one value of a Via header field, without the commas around it. The error tells what was expected.
    #[inline]
    pub fn parse(raw: &'a str) -> Result<Via<'a>, &'static str> {
        let bytes = raw.as_bytes();
        let protocol = match bytes.strip_prefix(b"SIP/2.0/") {
            Some(rest) => &raw[raw.len() - rest.len()..],
            None => parse_protocol(raw)?,
        };
        let protocol = trim_start(protocol);
        let end = protocol
            .bytes()
            .position(|b| !text::is_token_char(b))
            .ok_or("white space after the transport")?;
        let (transport, rest) = protocol.split_at(end);
        let sent_by = trim_start(rest);
        if transport.is_empty() || sent_by.len() == rest.len() {
            return Err("a transport and white space");
        }
        let params_at = memchr::memchr(b';', sent_by.as_bytes()).unwrap_or(sent_by.len());
        let (sent_by, params) = sent_by.split_at(params_at);
        if !text::has_closed_quotes(params.as_bytes()) {
            return Err("a closing quote in the parameters");
        }
        let sent_by = trim_end(sent_by);
        let host_end = match sent_by.as_bytes().first() {
            Some(b'[') => memchr::memchr(b']', sent_by.as_bytes()).ok_or("']' after an IPv6 address")? + 1,
            _ => memchr::memchr(b':', sent_by.as_bytes()).unwrap_or(sent_by.len()),
        };
        let (host, port) = sent_by.split_at(host_end);
        let port = trim(port);
        let sent_by_port = match port.strip_prefix(':') {
            Some(port) => Some(port_number(trim_start(port)).ok_or("a port from 1 to 65535 in sent-by")?),
            None if port.is_empty() => None,
            None => return Err("a colon or a semicolon after the host of sent-by"),
        };
        let sent_by_host = trim_end(host);
        Host::parse(sent_by_host).ok_or("a host in sent-by")?;
        let mut via = Via {
            transport,
            sent_by_host,
            sent_by_port,
            branch: None,
            received: None,
            rport: None,
            maddr: None,
            ttl: None,
            params: Params::new(params),
            raw,
        };
        via.read_params()?;
        Ok(via)
    }

    /// The value as it stands.
    pub fn as_str(&self) -> &'a str {
        self.raw
    }

    /// The host of sent-by, parsed.
    pub fn host(&self) -> Host<'a> {
        Host::parse(self.sent_by_host).unwrap_or(Host::Name(self.sent_by_host))
    }

    /// The port of sent-by, or the transport's default.
    pub fn port(&self) -> u16 {
        self.sent_by_port.unwrap_or_else(|| {
            Transport::from_via(self.transport)
                .unwrap_or(Transport::Udp)
                .default_port()
        })
    }

    /// True if the branch is unique per transaction, as RFC 3261 wants; otherwise matching follows RFC 2543.
    pub fn has_magic_cookie(&self) -> bool {
        let start = self.branch.and_then(|b| b.get(..MAGIC_COOKIE.len()));
        start.is_some_and(|s| s.eq_ignore_ascii_case(MAGIC_COOKIE))
            && self.branch.is_some_and(|b| b.len() > MAGIC_COOKIE.len())
    }

    fn read_params(&mut self) -> Result<(), &'static str> {
        let mut params = self.params.iter();
        while let Some(param) = params.next_raw() {
            if param.is_empty() && !params.is_at_end() {
                return Err("a parameter between semicolons");
            }
            let (name, value) = split_param(param);
            match name.len() {
                6 if name.eq_ignore_ascii_case("branch") => self.branch = self.branch.or(value),
                8 if name.eq_ignore_ascii_case("received") => {
                    let address = value.unwrap_or("");
                    let bare = address
                        .strip_prefix('[')
                        .and_then(|a| a.strip_suffix(']'))
                        .unwrap_or(address);
                    self.received = Some(bare);
                }
                5 if name.eq_ignore_ascii_case("rport") => {
                    self.rport = Some(match value {
                        None | Some("") => None,
                        Some(port) => Some(port_number(port).ok_or("a port from 1 to 65535 in rport")?),
                    });
                }
                5 if name.eq_ignore_ascii_case("maddr") => self.maddr = value,
                3 if name.eq_ignore_ascii_case("ttl") => {
                    let ttl = value.and_then(text::number).and_then(|n| u8::try_from(n).ok());
                    self.ttl = Some(ttl.ok_or("a ttl from 0 to 255")?);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// The slow way through `SIP / 2.0 / `, with white space and any case.
fn parse_protocol(raw: &str) -> Result<&str, &'static str> {
    const EXPECTED: &str = "SIP/2.0 and a transport";
    let (name, rest) = raw.split_once('/').ok_or(EXPECTED)?;
    let (version, rest) = rest.split_once('/').ok_or(EXPECTED)?;
    if !trim(name).eq_ignore_ascii_case("SIP") || trim(version) != "2.0" {
        return Err(EXPECTED);
    }
    Ok(rest)
}

fn port_number(text: &str) -> Option<u16> {
    text::number(text)
        .and_then(|n| u16::try_from(n).ok())
        .filter(|n| *n != 0)
}
