//! Responses to a request, as RFC 3261, 8.2.6 builds them: status line, Via lines copied, From, To, Call-ID and CSeq
//! copied, for 100 also Timestamp. Header lines are copied as they stand, so nothing is lost that we do not understand.

use crate::edit::{HeaderName, source_changes, write_line};
use crate::header_id::HeaderId;
use crate::message::Message;
pub use crate::status::reason_phrase;
use crate::text::push_decimal;
use smallvec::SmallVec;
use std::fmt;
use std::io::Write;
use std::net::SocketAddr;

/// A response under construction.
#[derive(Clone, Debug)]
#[must_use]
pub struct Response<'a> {
    request: Message<'a>,
    status: u16,
    reason: Option<&'a str>,
    to_tag: Option<&'a str>,
    source: Option<SocketAddr>,
    copied: SmallVec<[HeaderId; 2]>,
    headers: SmallVec<[(HeaderName<'a>, Value<'a>); 4]>,
    lines: &'a [u8],
    body: Option<(&'a str, &'a [u8])>,
}

/// A header field's value: a string, or `format_args!` where the response is written in the same statement.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// As it is.
    Text(&'a str),
    /// To be formatted.
    Arguments(fmt::Arguments<'a>),
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Value::Text(text)
    }
}

impl<'a> From<&'a String> for Value<'a> {
    fn from(text: &'a String) -> Self {
        Value::Text(text)
    }
}

impl<'a> From<fmt::Arguments<'a>> for Value<'a> {
    fn from(arguments: fmt::Arguments<'a>) -> Self {
        Value::Arguments(arguments)
    }
}

impl<'a> Response<'a> {
    /// A response with the registered reason phrase and no body.
    #[inline]
    pub fn new(request: Message<'a>, status: u16) -> Self {
        Response {
            request,
            status,
            reason: None,
            to_tag: None,
            source: None,
            copied: SmallVec::new(),
            headers: SmallVec::new(),
            lines: b"",
            body: None,
        }
    }

    /// Another reason phrase.
    #[inline]
    pub fn reason(mut self, reason: &'a str) -> Self {
        self.reason = Some(reason);
        self
    }

    /// The tag for To, used unless the request's To has one or the status is 100 (RFC 3261, 8.2.6.2).
    #[inline]
    pub fn to_tag(mut self, tag: &'a str) -> Self {
        self.to_tag = Some(tag);
        self
    }

    /// Where the request came from: goes into the top Via as `received` and `rport`.
    #[inline]
    pub fn source(mut self, source: SocketAddr) -> Self {
        self.source = Some(source);
        self
    }

    /// One more header line.
    #[inline]
    pub fn header(mut self, name: impl Into<HeaderName<'a>>, value: impl Into<Value<'a>>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Copies all lines of a header field of the request, such as Record-Route.
    #[inline]
    pub fn copy(mut self, id: HeaderId) -> Self {
        self.copied.push(id);
        self
    }

    /// Header lines that are written already, each with its line end.
    #[inline]
    pub fn lines(mut self, lines: &'a [u8]) -> Self {
        self.lines = lines;
        self
    }

    /// A body.
    #[inline]
    pub fn body(mut self, content_type: &'a str, body: &'a [u8]) -> Self {
        self.body = Some((content_type, body));
        self
    }

    /// Appends the complete response.
    pub fn write(&self, out: &mut Vec<u8>) {
        let reason = self.reason.unwrap_or_else(|| reason_phrase(self.status));
        out.extend_from_slice(b"SIP/2.0 ");
        push_decimal(out, self.status.into());
        out.push(b' ');
        out.extend_from_slice(reason.as_bytes());
        out.extend_from_slice(b"\r\n");
        self.write_vias(out);
        self.write_copies(HeaderId::From, out);
        self.write_to(out);
        self.write_copies(HeaderId::CallId, out);
        self.write_copies(HeaderId::CSeq, out);
        if self.status == 100 {
            self.write_copies(HeaderId::Timestamp, out);
        }
        for id in &self.copied {
            self.write_copies(*id, out);
        }
        for (name, value) in &self.headers {
            write_line(out, *name, |out| match value {
                Value::Text(text) => out.extend_from_slice(text.as_bytes()),
                Value::Arguments(arguments) => out.write_fmt(*arguments).expect("a Vec takes all"),
            });
        }
        out.extend_from_slice(self.lines);
        let (content_type, body) = self.body.unwrap_or_default();
        if !body.is_empty() {
            write_line(out, HeaderId::ContentType.into(), |out| {
                out.extend_from_slice(content_type.as_bytes())
            });
        }
        out.extend_from_slice(b"Content-Length: ");
        push_decimal(out, body.len() as u32);
        out.extend_from_slice(b"\r\n\r\n");
        out.extend_from_slice(body);
    }

    fn write_vias(&self, out: &mut Vec<u8>) {
        let m = self.request;
        let changes = match self.source {
            Some(source) => source_changes(m, source),
            None => [None, None],
        };
        for (i, position) in m.index().positions(HeaderId::Via).enumerate() {
            let value = m.header_ranges(position).value;
            write_line(out, HeaderId::Via.into(), |out| {
                let mut at = value.start;
                for change in changes.iter().flatten().filter(|_| i == 0) {
                    out.extend_from_slice(m.source().get(at..change.range.start).unwrap_or_default());
                    change.write(out);
                    at = change.range.end;
                }
                out.extend_from_slice(m.source().get(at..value.end).unwrap_or_default());
            });
        }
    }

    fn write_to(&self, out: &mut Vec<u8>) {
        let Some(header) = self.request.header(HeaderId::To) else {
            return;
        };
        // Outside of dialogs To mostly ends with its address, and need not be read.
        let has_tag = !header.value.ends_with(b">") && self.request.to_tag().is_some();
        let Some(tag) = self.to_tag.filter(|_| !has_tag && self.status != 100) else {
            return copy_line(self.request, header.position, HeaderId::To, out);
        };
        write_line(out, HeaderId::To.into(), |out| {
            out.extend_from_slice(header.value);
            out.extend_from_slice(b";tag=");
            out.extend_from_slice(tag.as_bytes());
        });
    }

    fn write_copies(&self, id: HeaderId, out: &mut Vec<u8>) {
        let m = self.request;
        for position in m.index().positions(id) {
            copy_line(m, position, id, out);
        }
    }
}

/// Copies a header line of the request under its usual name.
fn copy_line(m: Message<'_>, position: usize, id: HeaderId, out: &mut Vec<u8>) {
    let ranges = m.header_ranges(position);
    let line = m.source().get(ranges.line.clone()).unwrap_or_default();
    let prefix = ranges.value.start - ranges.line.start;
    // As we would write it, and in one piece.
    let is_usual = prefix == id.name().len() + 2
        && line.starts_with(id.name().as_bytes())
        && ranges.line.end - ranges.value.end == 2
        && line.ends_with(b"\r\n");
    if is_usual {
        out.extend_from_slice(line);
    } else {
        let value = m.source().get(ranges.value).unwrap_or_default();
        write_line(out, id.into(), |out| out.extend_from_slice(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::MessageBuf;

    const REQUEST: &str = "OPTIONS sip:bob@biloxi.com SIP/2.0\r\n\
        v: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKa;rport, SIP/2.0/TCP x;branch=z9hG4bKb\r\n\
        Via: SIP/2.0/UDP y;branch=z9hG4bKc\r\n\
        f: <sip:a@b>;tag=1\r\n\
        t: <sip:b@b>\r\n\
        i: x\r\n\
        Timestamp: 54\r\n\
        CSeq: 1 OPTIONS\r\n\
        \r\n";

    fn written(response: &Response<'_>) -> String {
        let mut out = Vec::new();
        response.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_final_response_has_all_that_8_2_6_2_asks_for() {
        let request = MessageBuf::parse(REQUEST).unwrap();
        let number = 7;
        let mut out = Vec::new();
        Response::new(request.message(), 420)
            .to_tag("t")
            .source("203.0.113.7:1024".parse().unwrap())
            .header(HeaderId::Unsupported, "foo")
            .header("X-Number", format_args!("{number}"))
            .lines(b"X-Ready: made\r\n")
            .write(&mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "SIP/2.0 420 Bad Extension\r\n\
             Via: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKa;rport=1024;received=203.0.113.7, SIP/2.0/TCP x;branch=z9hG4bKb\r\n\
             Via: SIP/2.0/UDP y;branch=z9hG4bKc\r\n\
             From: <sip:a@b>;tag=1\r\n\
             To: <sip:b@b>;tag=t\r\n\
             Call-ID: x\r\n\
             CSeq: 1 OPTIONS\r\n\
             Unsupported: foo\r\n\
             X-Number: 7\r\n\
             X-Ready: made\r\n\
             Content-Length: 0\r\n\r\n"
        );
    }

    #[test]
    fn a_100_carries_the_timestamp_and_no_tag() {
        let request = MessageBuf::parse(REQUEST).unwrap();
        let text = written(&Response::new(request.message(), 100).to_tag("t"));
        assert!(text.contains("Timestamp: 54\r\n") && text.contains("To: <sip:b@b>\r\n"));
    }

    #[test]
    fn a_tag_that_is_there_stays() {
        let request = MessageBuf::parse(REQUEST.replace("t: <sip:b@b>", "t: <sip:b@b>;tag=old")).unwrap();
        let text = written(
            &Response::new(request.message(), 200)
                .to_tag("t")
                .body("text/plain", b"hi"),
        );
        assert!(text.contains("To: <sip:b@b>;tag=old\r\n"));
        assert!(text.ends_with("Content-Type: text/plain\r\nContent-Length: 2\r\n\r\nhi"));
    }
}
