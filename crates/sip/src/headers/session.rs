//! Small structured header fields: CSeq (RFC 3261, 20.16), RAck (RFC 3262), Session-Expires (RFC 4028), Reason (RFC 3326).

use super::Params;
use crate::method::Method;
use crate::text::{self, is_lws, trim};

/// A sequence number and method.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CSeq<'a> {
    /// Less than 2^31.
    pub number: u32,
    /// The method.
    pub method: Method<'a>,
}

impl<'a> CSeq<'a> {
    /// Parses `1*DIGIT LWS Method`. The error tells what was expected.
    #[inline]
    pub fn parse(value: &'a str) -> Result<CSeq<'a>, &'static str> {
        let value = trim(value);
        let end = value.bytes().position(is_lws).ok_or("a number and a method")?;
        let number = sequence_number(&value[..end])?;
        let method = &value[text::skip_lws(value.as_bytes(), end)..];
        if !text::is_token(method) {
            return Err("a method after the number");
        }
        Ok(CSeq {
            number,
            method: Method::of(method),
        })
    }
}

/// The acknowledgement of a reliable provisional response (RFC 3262, 7.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RAck<'a> {
    /// The RSeq acknowledged.
    pub rseq: u32,
    /// The CSeq of the response.
    pub cseq: CSeq<'a>,
}

impl<'a> RAck<'a> {
    /// Parses `response-num LWS CSeq-num LWS Method`. The error tells what was expected.
    pub fn parse(value: &'a str) -> Result<RAck<'a>, &'static str> {
        let value = trim(value);
        let end = value.bytes().position(is_lws).ok_or("two numbers and a method")?;
        let rseq = text::number(&value[..end]).ok_or("the RSeq number")?;
        Ok(RAck {
            rseq,
            cseq: CSeq::parse(&value[end..])?,
        })
    }
}

/// How long a session lasts without refresh (RFC 4028, 4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionExpires<'a> {
    /// Seconds.
    pub seconds: u32,
    /// `uac` or `uas`, who refreshes.
    pub refresher: Option<&'a str>,
}

impl<'a> SessionExpires<'a> {
    /// Parses `delta-seconds *(SEMI se-params)`. The error tells what was expected.
    pub fn parse(value: &'a str) -> Result<SessionExpires<'a>, &'static str> {
        let (seconds, params) = split_params(value);
        let seconds = text::saturating_number(seconds).ok_or("a number of seconds")?;
        Ok(SessionExpires {
            seconds,
            refresher: params.value("refresher"),
        })
    }
}

/// One value of Reason (RFC 3326, 2).
#[derive(Clone, Copy, Debug)]
pub struct ReasonValue<'a> {
    /// Such as `SIP` or `Q.850`.
    pub protocol: &'a str,
    /// All parameters.
    pub params: Params<'a>,
}

impl<'a> ReasonValue<'a> {
    /// Parses one value. The error tells what was expected.
    pub fn parse(value: &'a str) -> Result<ReasonValue<'a>, &'static str> {
        let (protocol, params) = split_params(value);
        if !text::is_token(protocol) {
            return Err("a protocol");
        }
        Ok(ReasonValue { protocol, params })
    }

    /// The status or cause code.
    pub fn cause(&self) -> Option<u32> {
        self.params.value("cause").and_then(text::number)
    }

    /// The text for people, without quotes.
    pub fn text(&self) -> Option<&'a str> {
        self.params.value("text")
    }
}

/// A value and its parameters.
pub(crate) fn split_params(value: &str) -> (&str, Params<'_>) {
    let end = memchr::memchr(b';', value.as_bytes()).unwrap_or(value.len());
    (trim(&value[..end]), Params::new(&value[end..]))
}

/// Sequence numbers must be less than 2^31 (RFC 3261, 8.1.1.5).
fn sequence_number(text: &str) -> Result<u32, &'static str> {
    text::number(text)
        .filter(|n| *n < 1 << 31)
        .ok_or("a number less than 2^31")
}
