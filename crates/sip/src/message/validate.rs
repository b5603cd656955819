//! What every element checks before it acts on a message that could be read (RFC 3261, 8.2, 16.3, 18.3, 18.1.2).
//! It looks only at what decides routing, matching and framing; other header fields are checked by who uses them.

use super::error::{Found, Invalid, Problem};
use super::{HeaderError, Message, limits};
use crate::header_id::HeaderId;
use crate::headers::{CSeq, NameAddr, Via};
use crate::uri::{Scheme, Uri};
use std::net::IpAddr;

/// Without these nothing can be answered or matched (RFC 3261, 8.1.1). Max-Forwards is missing here since RFC 2543
/// did not know it.
pub(super) const MANDATORY: [HeaderId; 5] = [
    HeaderId::Via,
    HeaderId::From,
    HeaderId::To,
    HeaderId::CallId,
    HeaderId::CSeq,
];

/// Of these there is one: two elements might choose a different one.
const SINGLE: [HeaderId; 8] = [
    HeaderId::From,
    HeaderId::To,
    HeaderId::CallId,
    HeaderId::CSeq,
    HeaderId::MaxForwards,
    HeaderId::ContentLength,
    HeaderId::ContentType,
    HeaderId::Expires,
];

/// What a message was checked for, as parsed: [`Message::with`] gives it to the accessors, which then need not parse it again.
#[derive(Clone, Copy, Debug)]
pub struct Essentials<'a> {
    pub(super) via: Via<'a>,
    pub(super) from: Address<'a>,
    pub(super) to: Address<'a>,
    pub(super) call_id: &'a str,
    pub(super) cseq: CSeq<'a>,
    /// Of a request.
    pub(super) request_uri: Option<Uri<'a>>,
    pub(super) max_forwards: Option<u32>,
}

/// From or To.
#[derive(Clone, Copy, Debug)]
pub(super) struct Address<'a> {
    pub(super) value: NameAddr<'a>,
    pub(super) uri: Uri<'a>,
    pub(super) tag: Option<&'a str>,
}

impl<'a> Message<'a> {
    /// Checks a request. What it refuses is answered with the status and reason given, except an ACK, which is dropped.
    pub fn validate_request(&self) -> Result<Essentials<'a>, Invalid> {
        if !self.is_request() {
            return Err(rule(400, "Bad Request", "a request", "a response"));
        }
        let mut essentials = self.validate_common()?;
        let method = self.method();
        if essentials.cseq.method != method {
            return Err(rule(
                400,
                "CSeq Method Does Not Match",
                "the method of the request in CSeq",
                essentials.cseq.method.as_str(),
            ));
        }
        let uri = self.parsed_request_uri().map_err(|e| Invalid {
            status: 400,
            reason: "Bad Request-URI",
            problem: Problem::Uri(e),
        })?;
        if let Scheme::Other(scheme) = uri.scheme {
            return Err(rule(
                416,
                "Unsupported URI Scheme",
                "a sip, sips or tel URI",
                scheme,
            ));
        }
        if !uri.headers.is_empty() {
            // 19.1.1 forbids them in a Request-URI.
            return Err(rule(
                400,
                "Header Fields in Request-URI",
                "a Request-URI without header fields",
                uri.headers,
            ));
        }
        essentials.request_uri = Some(uri);
        essentials.max_forwards = self.max_forwards().map_err(|e| header(e, "Bad Max-Forwards"))?;
        Ok(essentials)
    }

    /// Checks a response. What it refuses is dropped.
    pub fn validate_response(&self) -> Result<Essentials<'a>, Invalid> {
        if self.is_request() {
            return Err(rule(400, "Bad Response", "a response", "a request"));
        }
        let mut essentials = self.validate_common()?;
        essentials.max_forwards = self.max_forwards().unwrap_or_default();
        // Where a proxy would send it: never to everybody (RFC 4475, 3.3.10).
        if let Some(via) = self.with(&essentials).lower_vias().next() {
            let via = via.map_err(|e| header(e, "Bad Via"))?;
            if via.host().ip().is_some_and(is_for_many) {
                return Err(rule(400, "Bad Via", "a Via of one host", via.sent_by_host));
            }
        }
        Ok(essentials)
    }

    #[inline(always)]
    fn validate_common(&self) -> Result<Essentials<'a>, Invalid> {
        for id in MANDATORY {
            if self.index.first(id).is_none() {
                return Err(header(HeaderError::Missing(id), missing_reason(id)));
            }
        }
        if let Some(id) = SINGLE.into_iter().find(|id| self.index.is_repeated(*id)) {
            return Err(rule(
                400,
                "Repeated Header Field",
                "one header field of that name",
                id.name(),
            ));
        }
        let via = self.top_via().map_err(|e| header(e, "Bad Via"))?;
        let vias = || {
            self.index
                .positions(HeaderId::Via)
                .map(|i| self.index.entry(i).value().len())
        };
        // So short, they cannot be too many, and need not be counted.
        let is_short = || vias().sum::<usize>() < limits::VIAS * SHORTEST_VIA;
        if self.index.is_repeated(HeaderId::Via)
            && !is_short()
            && self.values(HeaderId::Via).count() > limits::VIAS
        {
            return Err(rule(483, "Too Many Hops", "fewer Via values", "more than 100"));
        }
        let call_id = self.call_id().map_err(|e| header(e, "Bad Call-ID"))?;
        let from = address(self.one(HeaderId::From, NameAddr::split), "Bad From")?;
        let to = address(self.one(HeaderId::To, NameAddr::split), "Bad To")?;
        let length = self
            .content_length()
            .map_err(|e| header(e, "Bad Content-Length"))?;
        if length.is_some_and(|length| length as usize > self.body().len()) {
            let value = self.header(HeaderId::ContentLength).map_or(&b""[..], |h| h.value);
            let problem = Problem::Rule {
                expected: "as many bytes as Content-Length says",
                found: Found::of_bytes(value),
            };
            return Err(Invalid {
                status: 400,
                reason: "Content-Length Beyond the Message",
                problem,
            });
        }
        let cseq = self.cseq().map_err(|e| header(e, "Bad CSeq"))?;
        Ok(Essentials {
            via,
            from,
            to,
            call_id,
            cseq,
            request_uri: None,
            max_forwards: None,
        })
    }
}

#[inline]
fn address<'a>(
    value: Result<NameAddr<'a>, HeaderError>,
    reason: &'static str,
) -> Result<Address<'a>, Invalid> {
    let value = value.map_err(|e| header(e, reason))?;
    let uri = value.parsed_uri().map_err(|e| Invalid {
        status: 400,
        reason,
        problem: Problem::Uri(e),
    })?;
    let tag = value.tag();
    Ok(Address { value, uri, tag })
}

/// Bytes of `SIP/2.0/T h`.
const SHORTEST_VIA: usize = 11;

fn is_for_many(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_broadcast() || address.is_multicast() || address.is_unspecified(),
        IpAddr::V6(address) => address.is_multicast() || address.is_unspecified(),
    }
}

#[cold]
fn header(error: HeaderError, reason: &'static str) -> Invalid {
    Invalid {
        status: error.status(),
        reason,
        problem: Problem::Header(error),
    }
}

#[cold]
fn rule(status: u16, reason: &'static str, expected: &'static str, found: &str) -> Invalid {
    Invalid {
        status,
        reason,
        problem: Problem::Rule {
            expected,
            found: Found::of(found),
        },
    }
}

fn missing_reason(id: HeaderId) -> &'static str {
    match id {
        HeaderId::Via => "Missing Via",
        HeaderId::From => "Missing From",
        HeaderId::To => "Missing To",
        HeaderId::CallId => "Missing Call-ID",
        _ => "Missing CSeq",
    }
}
