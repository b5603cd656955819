//! Via (RFC 3261, 20.42; `rport`: RFC 3581).

use super::Params;
use crate::flow::Transport;
use crate::text::{self, trim};
use crate::uri::{Host, host};

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
    /// Where `received` and `rport` stand, for who fills them in.
    pub(crate) source_params: SourceParams<'a>,
    raw: &'a str,
}

/// Name and value, as they stand, of the parameters that tell where a message came from.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SourceParams<'a> {
    pub(crate) received: Option<(&'a str, Option<&'a str>)>,
    pub(crate) rport: Option<(&'a str, Option<&'a str>)>,
}

impl<'a> SourceParams<'a> {
    /// Of a Via that need not be one else.
    pub(crate) fn of(params: Params<'a>) -> Self {
        let mut found = SourceParams::default();
        for param @ (name, _) in params.iter() {
            match name.len() {
                8 if name.eq_ignore_ascii_case("received") => found.received = Some(param),
                5 if name.eq_ignore_ascii_case("rport") => found.rport = Some(param),
                _ => {}
            }
        }
        found
    }
}

/// What starts the branch of an element of RFC 3261 (8.1.1.7).
pub const MAGIC_COOKIE: &str = "z9hG4bK";

impl<'a> Via<'a> {
    /// Parses one value of a Via header field, without the commas around it. The error tells what was expected.
    #[inline]
    pub fn parse(raw: &'a str) -> Result<Via<'a>, &'static str> {
        let bytes = raw.as_bytes();
        let protocol = match bytes.starts_with(b"SIP/2.0/") {
            true => "SIP/2.0/".len(),
            false => raw.len() - parse_protocol(raw)?.len(),
        };
        let transport = text::skip_lws(bytes, protocol);
        let transport_end = text::token_end(bytes, transport);
        let host = text::skip_lws(bytes, transport_end);
        if host == bytes.len() {
            return Err("white space after the transport");
        }
        if transport_end == transport || host == transport_end {
            return Err("a transport and white space");
        }
        let host_end = match bytes[host] {
            b'[' => {
                let length = text::find(&bytes[host..], [b']']).ok_or("']' after an IPv6 address")? + 1;
                Host::parse(&raw[host..host + length]).ok_or("a host in sent-by")?;
                host + length
            }
            _ => host::name_end(bytes, host).ok_or("a host in sent-by")?,
        };
        let mut at = text::skip_lws(bytes, host_end);
        let mut sent_by_port = None;
        if bytes.get(at) == Some(&b':') {
            let port = text::skip_lws(bytes, at + 1);
            let mut port_end = port;
            while bytes.get(port_end).is_some_and(u8::is_ascii_digit) {
                port_end += 1;
            }
            let number = port_number(&raw[port..port_end]);
            sent_by_port = Some(number.ok_or("a port from 1 to 65535 in sent-by")?);
            at = text::skip_lws(bytes, port_end);
        }
        let params = &raw[at..];
        if !(params.is_empty() || params.starts_with(';')) {
            return Err("a colon or a semicolon after the host of sent-by");
        }
        if !text::has_closed_quotes(params.as_bytes()) {
            return Err("a closing quote in the parameters");
        }
        let mut via = Via {
            transport: &raw[transport..transport_end],
            sent_by_host: &raw[host..host_end],
            sent_by_port,
            branch: None,
            received: None,
            rport: None,
            maddr: None,
            ttl: None,
            params: Params::new(params),
            source_params: SourceParams::default(),
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
        while let Some((name, value)) = params.next_pair() {
            if name.is_empty() && value.is_none() && !params.is_at_end() {
                return Err("a parameter between semicolons");
            }
            match name.len() {
                6 if name.eq_ignore_ascii_case("branch") => self.branch = self.branch.or(value),
                8 if name.eq_ignore_ascii_case("received") => {
                    let address = value.unwrap_or("");
                    let bare = address
                        .strip_prefix('[')
                        .and_then(|a| a.strip_suffix(']'))
                        .unwrap_or(address);
                    self.received = Some(bare);
                    self.source_params.received = Some((name, value));
                }
                5 if name.eq_ignore_ascii_case("rport") => {
                    self.source_params.rport = Some((name, value));
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
