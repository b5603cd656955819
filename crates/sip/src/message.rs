//! A SIP message as its bytes and an index of offsets (RFC 3261, 7 and 25).
//!
//! Order of calls: [`Index::parse`] finds the lines and refuses what cannot be framed; [`Message::new`] puts bytes and
//! index together; [`Message::validate_request`] or [`Message::validate_response`] checks what every element needs; then
//! each accessor parses its header field when asked and returns slices of the bytes. Nothing is copied, and a reused
//! `Index` allocates nothing. [`MessageBuf`] owns both, for what must outlive the packet.
//!
//! After a [`ParseError`] the index still holds what could be read, so that the error can be answered
//! ([`Message::is_answerable`]).

mod error;
mod index;
mod validate;

pub use error::{Fault, Found, HeaderError, Invalid, ParseError, Problem};
pub use index::{Index, limits};
pub use validate::Essentials;

use crate::header_id::HeaderId;
use crate::headers::date::parse_date;
use crate::headers::{
    CSeq, Challenge, CommaList, Contacts, Credentials, NameAddr, RAck, ReasonValue, SessionExpires, Via,
    name_addr::ContactList, session::split_params,
};
use crate::method::Method;
use crate::text;
use crate::uri::{Uri, UriError};
use std::fmt;
use std::ops::Range;
use std::time::SystemTime;

/// A view of one message.
#[derive(Clone, Copy)]
pub struct Message<'a> {
    bytes: &'a [u8],
    index: &'a Index,
    /// All up to the body, if it is UTF-8: checked once, so that accessors need not check what they return again.
    head: Option<&'a str>,
    /// What validation has parsed.
    essentials: Option<&'a Essentials<'a>>,
}

/// One header field.
#[derive(Clone, Copy, Debug)]
pub struct Header<'a> {
    /// Its place among the header lines, counted from 0.
    pub position: usize,
    /// What its name means.
    pub id: HeaderId,
    /// The name as it stands.
    pub name: &'a str,
    /// The value without white space at the ends. It may hold line breaks followed by white space (folds).
    pub value: &'a [u8],
    /// The value, where it is known to be UTF-8.
    text: Option<&'a str>,
}

impl<'a> Header<'a> {
    /// The value, if it is UTF-8 as RFC 3261, 7.3.1 wants.
    #[inline]
    pub fn text(&self) -> Result<&'a str, HeaderError> {
        if let Some(text) = self.text {
            return Ok(text);
        }
        std::str::from_utf8(self.value).map_err(|_| HeaderError::Malformed {
            header: self.id,
            expected: "UTF-8 text",
            found: Found::of_bytes(self.value),
        })
    }
}

impl<'a> Message<'a> {
    /// A view of `bytes`, which `index` has been made of.
    #[inline]
    pub fn new(bytes: &'a [u8], index: &'a Index) -> Self {
        let head = bytes
            .get(..index.headers_end())
            .and_then(|head| simdutf8::basic::from_utf8(head).ok());
        Message {
            bytes,
            index,
            head,
            essentials: None,
        }
    }

    /// The same view with what [`validate_request`](Self::validate_request) or
    /// [`validate_response`](Self::validate_response) has parsed of it, so that the accessors need not do it again.
    #[inline]
    pub fn with(self, essentials: &'a Essentials<'a>) -> Self {
        Message {
            essentials: Some(essentials),
            ..self
        }
    }

    /// The message from its start line to the end of its body. Empty lines before it and bytes beyond its Content-Length
    /// are not part of it (RFC 3261, 7.5 and 18.3).
    pub fn bytes(&self) -> &'a [u8] {
        self.slice(self.index.message_range())
    }

    /// True for a request.
    #[inline]
    pub fn is_request(&self) -> bool {
        self.index.status == 0
    }

    /// The method: of the start line, or of a response's CSeq. An empty unknown method if a response has none.
    #[inline]
    pub fn method(&self) -> Method<'a> {
        if let Some(essentials) = self.essentials {
            // Validation has compared the two.
            return essentials.cseq.method;
        }
        if self.is_request() {
            return Method::of(self.str(self.index.method()));
        }
        self.cseq().map_or(Method::Other(""), |cseq| cseq.method)
    }

    /// The Request-URI as it stands; empty for a response.
    #[inline]
    pub fn request_uri(&self) -> &'a str {
        if self.is_request() {
            self.str(self.index.request_uri())
        } else {
            ""
        }
    }

    /// The Request-URI, parsed.
    pub fn parsed_request_uri(&self) -> Result<Uri<'a>, UriError> {
        if let Some(uri) = self.essentials.and_then(|essentials| essentials.request_uri) {
            return Ok(uri);
        }
        Uri::parse(self.request_uri())
    }

    /// The status code; 0 for a request.
    #[inline]
    pub fn status(&self) -> u16 {
        self.index.status
    }

    /// The reason phrase; empty for a request.
    pub fn reason(&self) -> &'a str {
        if self.is_request() {
            ""
        } else {
            self.str(self.index.reason())
        }
    }

    /// The body: what Content-Length counts, or all that is there.
    pub fn body(&self) -> &'a [u8] {
        self.slice(self.index.body_range())
    }

    /// All header fields in order.
    pub fn headers(&self) -> impl ExactSizeIterator<Item = Header<'a>> + use<'a> {
        let message = *self;
        (0..self.index.len()).map(move |position| message.header_at(position))
    }

    /// The header field at a position counted from 0. Beyond the last one it is an empty field.
    #[inline]
    pub fn header_at(&self, position: usize) -> Header<'a> {
        let entry = self.index.entry(position);
        Header {
            position,
            id: entry.id,
            name: self.str(entry.name()),
            value: self.slice(entry.value()),
            text: self.head.and_then(|head| head.get(entry.value())),
        }
    }

    /// The first header field with that id.
    #[inline]
    pub fn header(&self, id: HeaderId) -> Option<Header<'a>> {
        self.index.first(id).map(|position| self.header_at(position))
    }

    /// The first header field of that name, for names that [`HeaderId`] does not know.
    pub fn header_named(&self, name: &str) -> Option<Header<'a>> {
        match HeaderId::of(name) {
            HeaderId::Other => self
                .headers_of(HeaderId::Other)
                .find(|h| h.name.eq_ignore_ascii_case(name)),
            id => self.header(id),
        }
    }

    /// All header fields with that id, in order.
    #[inline]
    pub fn headers_of(&self, id: HeaderId) -> impl Iterator<Item = Header<'a>> + use<'a> {
        let message = *self;
        self.index
            .positions(id)
            .map(move |position| message.header_at(position))
    }

    /// The value of the first header field with that id, as text.
    #[inline]
    pub fn value(&self, id: HeaderId) -> Result<Option<&'a str>, HeaderError> {
        self.index
            .first(id)
            .map(|position| self.value_at(position))
            .transpose()
    }

    /// The values of a list header field over all its lines, split at commas. A line that is not UTF-8 yields one
    /// empty value.
    #[inline]
    pub fn values(&self, id: HeaderId) -> Values<'a> {
        Values {
            message: *self,
            id,
            next: self.index.first(id),
            list: CommaList::new(""),
        }
    }

    /// The first Via value.
    #[inline]
    pub fn top_via(&self) -> Result<Via<'a>, HeaderError> {
        if let Some(essentials) = self.essentials {
            return Ok(essentials.via);
        }
        let value = self
            .values(HeaderId::Via)
            .next()
            .ok_or(HeaderError::Missing(HeaderId::Via))?;
        Via::parse(value).map_err(|expected| HeaderError::malformed(HeaderId::Via, expected, value))
    }

    /// All Via values, the topmost first.
    pub fn vias(&self) -> impl Iterator<Item = Result<Via<'a>, HeaderError>> + use<'a> {
        self.parsed(HeaderId::Via, Via::parse)
    }

    /// The top Via, where validation has parsed it.
    #[inline]
    pub(crate) fn checked_via(&self) -> Option<&'a Via<'a>> {
        self.essentials.map(|essentials| &essentials.via)
    }

    /// The Via values below the top one.
    pub fn lower_vias(&self) -> impl Iterator<Item = Result<Via<'a>, HeaderError>> + use<'a> {
        // Most requests come straight from a telephone: one line with one value, whose end is looked at and nothing else.
        let alone = self.essentials.is_some_and(|essentials| {
            let line = self.header(HeaderId::Via).map_or(0, |header| header.value.len());
            essentials.via.as_str().len() == line && !self.index.is_repeated(HeaderId::Via)
        });
        let mut values = self.values(HeaderId::Via);
        if alone {
            values.next = None;
        } else {
            values.next();
        }
        values.map(|value| {
            Via::parse(value).map_err(|expected| HeaderError::malformed(HeaderId::Via, expected, value))
        })
    }

    /// From.
    pub fn from(&self) -> Result<NameAddr<'a>, HeaderError> {
        if let Some(essentials) = self.essentials {
            return Ok(essentials.from.value);
        }
        self.one(HeaderId::From, NameAddr::parse)
    }

    /// To.
    pub fn to(&self) -> Result<NameAddr<'a>, HeaderError> {
        if let Some(essentials) = self.essentials {
            return Ok(essentials.to.value);
        }
        self.one(HeaderId::To, NameAddr::parse)
    }

    /// The URI in From; `None` where one of the two cannot be read.
    #[inline]
    pub fn from_uri(&self) -> Option<Uri<'a>> {
        match self.essentials {
            Some(essentials) => Some(essentials.from.uri),
            None => self.from().ok()?.parsed_uri().ok(),
        }
    }

    /// The URI in To; `None` where one of the two cannot be read.
    #[inline]
    pub fn to_uri(&self) -> Option<Uri<'a>> {
        match self.essentials {
            Some(essentials) => Some(essentials.to.uri),
            None => self.to().ok()?.parsed_uri().ok(),
        }
    }

    /// The tag in From.
    #[inline]
    pub fn from_tag(&self) -> Option<&'a str> {
        match self.essentials {
            Some(essentials) => essentials.from.tag,
            None => self.from().ok()?.tag(),
        }
    }

    /// The tag in To: a request with one is inside a dialog.
    #[inline]
    pub fn to_tag(&self) -> Option<&'a str> {
        match self.essentials {
            Some(essentials) => essentials.to.tag,
            None => self.to().ok()?.tag(),
        }
    }

    /// Call-ID.
    #[inline]
    pub fn call_id(&self) -> Result<&'a str, HeaderError> {
        if let Some(essentials) = self.essentials {
            return Ok(essentials.call_id);
        }
        self.one(HeaderId::CallId, |value| {
            if value.is_empty() || value.bytes().any(|b| b <= b' ') {
                Err("an id without white space")
            } else {
                Ok(value)
            }
        })
    }

    /// CSeq.
    #[inline]
    pub fn cseq(&self) -> Result<CSeq<'a>, HeaderError> {
        if let Some(essentials) = self.essentials {
            return Ok(essentials.cseq);
        }
        self.one(HeaderId::CSeq, CSeq::parse)
    }

    /// Max-Forwards, 0 to 255.
    #[inline]
    pub fn max_forwards(&self) -> Result<Option<u32>, HeaderError> {
        if let Some(essentials) = self.essentials {
            return Ok(essentials.max_forwards);
        }
        self.maybe(HeaderId::MaxForwards, |v| {
            text::number(v)
                .filter(|n| *n <= 255)
                .ok_or("a number from 0 to 255")
        })
    }

    /// Max-Breadth (RFC 5393).
    pub fn max_breadth(&self) -> Result<Option<u32>, HeaderError> {
        self.maybe(HeaderId::MaxBreadth, |v| text::number(v).ok_or("a number"))
    }

    /// Contact: `*` or a list, which is empty without a Contact.
    pub fn contacts(&self) -> Result<Contacts<'a>, HeaderError> {
        let mut values = self.values(HeaderId::Contact);
        let may_be_star = self
            .headers_of(HeaderId::Contact)
            .any(|header| header.value.starts_with(b"*"));
        let is_star = may_be_star && values.next() == Some("*");
        if !is_star {
            return Ok(Contacts::List(ContactList {
                values: self.values(HeaderId::Contact),
            }));
        }
        match values.next() {
            None => Ok(Contacts::Star),
            Some(other) => Err(HeaderError::malformed(
                HeaderId::Contact,
                "nothing beside '*'",
                other,
            )),
        }
    }

    /// Route, in order.
    pub fn routes(&self) -> impl Iterator<Item = Result<NameAddr<'a>, HeaderError>> + use<'a> {
        self.parsed(HeaderId::Route, NameAddr::parse)
    }

    /// Record-Route, in order.
    pub fn record_routes(&self) -> impl Iterator<Item = Result<NameAddr<'a>, HeaderError>> + use<'a> {
        self.parsed(HeaderId::RecordRoute, NameAddr::parse)
    }

    /// Path (RFC 3327), in order.
    pub fn paths(&self) -> impl Iterator<Item = Result<NameAddr<'a>, HeaderError>> + use<'a> {
        self.parsed(HeaderId::Path, NameAddr::parse)
    }

    /// The addresses of any list header field, such as P-Asserted-Identity or Diversion.
    pub fn addresses(
        &self,
        id: HeaderId,
    ) -> impl Iterator<Item = Result<NameAddr<'a>, HeaderError>> + use<'a> {
        self.parsed(id, NameAddr::parse)
    }

    /// The address of a header field that has one value, such as Refer-To.
    pub fn address(&self, id: HeaderId) -> Result<Option<NameAddr<'a>>, HeaderError> {
        self.maybe(id, NameAddr::parse)
    }

    /// Expires, seconds. More than 2^32-1 counts as that (RFC 3261, 20.19).
    pub fn expires(&self) -> Result<Option<u32>, HeaderError> {
        self.seconds(HeaderId::Expires)
    }

    /// Min-Expires, seconds.
    pub fn min_expires(&self) -> Result<Option<u32>, HeaderError> {
        self.seconds(HeaderId::MinExpires)
    }

    /// Retry-After, seconds; its comment and parameters are left out.
    pub fn retry_after(&self) -> Result<Option<u32>, HeaderError> {
        self.maybe(HeaderId::RetryAfter, |value| {
            let digits = value
                .bytes()
                .position(|b| !b.is_ascii_digit())
                .unwrap_or(value.len());
            text::saturating_number(&value[..digits]).ok_or("a number of seconds")
        })
    }

    /// Session-Expires (RFC 4028).
    pub fn session_expires(&self) -> Result<Option<SessionExpires<'a>>, HeaderError> {
        self.maybe(HeaderId::SessionExpires, SessionExpires::parse)
    }

    /// Min-SE (RFC 4028), seconds.
    pub fn min_se(&self) -> Result<Option<u32>, HeaderError> {
        self.maybe(HeaderId::MinSe, |value| {
            text::saturating_number(split_params(value).0).ok_or("a number of seconds")
        })
    }

    /// RSeq (RFC 3262).
    pub fn rseq(&self) -> Result<Option<u32>, HeaderError> {
        self.maybe(HeaderId::RSeq, |v| text::number(v).ok_or("a number"))
    }

    /// RAck (RFC 3262).
    pub fn rack(&self) -> Result<Option<RAck<'a>>, HeaderError> {
        self.maybe(HeaderId::RAck, RAck::parse)
    }

    /// Date.
    pub fn date(&self) -> Result<Option<SystemTime>, HeaderError> {
        self.maybe(HeaderId::Date, parse_date)
    }

    /// Content-Type with its parameters as it stands.
    pub fn content_type(&self) -> Result<Option<&'a str>, HeaderError> {
        self.value(HeaderId::ContentType)
    }

    /// True if Content-Type is that type, such as `application/sdp`, whatever its parameters.
    pub fn is_content_type(&self, media_type: &str) -> bool {
        let value = self.content_type().ok().flatten().unwrap_or("");
        let (found, _) = split_params(value);
        found
            .bytes()
            .filter(|b| !text::is_lws(*b))
            .map(|b| b.to_ascii_lowercase())
            .eq(media_type.bytes())
    }

    /// Content-Length.
    pub fn content_length(&self) -> Result<Option<u32>, HeaderError> {
        self.maybe(HeaderId::ContentLength, |v| text::number(v).ok_or("a number"))
    }

    /// Authorization or Proxy-Authorization, one per line.
    pub fn credentials(
        &self,
        id: HeaderId,
    ) -> impl Iterator<Item = Result<Credentials<'a>, HeaderError>> + use<'a> {
        self.lines(id, Credentials::parse)
    }

    /// WWW-Authenticate or Proxy-Authenticate, one per line.
    pub fn challenges(
        &self,
        id: HeaderId,
    ) -> impl Iterator<Item = Result<Challenge<'a>, HeaderError>> + use<'a> {
        self.lines(id, Challenge::parse)
    }

    /// Option tags, methods or other tokens of Supported, Require, Proxy-Require, Unsupported, Allow; not checked to be
    /// tokens.
    pub fn tokens(&self, id: HeaderId) -> Values<'a> {
        self.values(id)
    }

    /// True if such a list holds that token, in any case of letters.
    pub fn has_token(&self, id: HeaderId, token: &str) -> bool {
        self.tokens(id).any(|t| t.eq_ignore_ascii_case(token))
    }

    /// Reason (RFC 3326), all values.
    pub fn reason_header(&self) -> impl Iterator<Item = Result<ReasonValue<'a>, HeaderError>> + use<'a> {
        self.parsed(HeaderId::Reason, ReasonValue::parse)
    }

    /// True if a response to it can be built: Via, From, To, Call-ID and CSeq are there (RFC 3261, 8.2.6.2).
    pub fn is_answerable(&self) -> bool {
        self.is_request()
            && self.index.start_line_len() > 0
            && self.method() != Method::Ack
            && validate::MANDATORY
                .iter()
                .all(|id| self.index.first(*id).is_some())
    }

    /// Where the parts of the header field at `position` lie in the bytes that the index was made of.
    pub(crate) fn header_ranges(&self, position: usize) -> HeaderRanges {
        let entry = self.index.entry(position);
        HeaderRanges {
            line: entry.line(),
            value: entry.value(),
        }
    }

    pub(crate) fn index(&self) -> &'a Index {
        self.index
    }

    /// All bytes that the index was made of: offsets count from here.
    pub(crate) fn source(&self) -> &'a [u8] {
        self.bytes
    }

    fn seconds(&self, id: HeaderId) -> Result<Option<u32>, HeaderError> {
        self.maybe(id, |v| text::saturating_number(v).ok_or("a number of seconds"))
    }

    #[inline]
    fn maybe<T>(
        &self,
        id: HeaderId,
        parse: impl FnOnce(&'a str) -> Result<T, &'static str>,
    ) -> Result<Option<T>, HeaderError> {
        let Some(position) = self.index.first(id) else {
            return Ok(None);
        };
        let value = self.value_at(position)?;
        parse(value)
            .map(Some)
            .map_err(|expected| HeaderError::malformed(id, expected, value))
    }

    #[inline]
    fn one<T>(
        &self,
        id: HeaderId,
        parse: impl FnOnce(&'a str) -> Result<T, &'static str>,
    ) -> Result<T, HeaderError> {
        self.maybe(id, parse)?.ok_or(HeaderError::Missing(id))
    }

    fn parsed<T, F>(
        self,
        id: HeaderId,
        parse: F,
    ) -> impl Iterator<Item = Result<T, HeaderError>> + use<'a, T, F>
    where
        F: Fn(&'a str) -> Result<T, &'static str>,
    {
        Parsed {
            values: self.values(id),
            parse: move |value| parse(value).map_err(|expected| HeaderError::malformed(id, expected, value)),
        }
    }

    fn lines<T, F>(
        self,
        id: HeaderId,
        parse: F,
    ) -> impl Iterator<Item = Result<T, HeaderError>> + use<'a, T, F>
    where
        F: Fn(&'a str) -> Result<T, &'static str>,
    {
        self.headers_of(id).map(move |header| {
            let value = header.text()?;
            parse(value).map_err(|expected| HeaderError::malformed(id, expected, value))
        })
    }

    /// As [`Header::text`].
    #[inline]
    fn value_at(&self, position: usize) -> Result<&'a str, HeaderError> {
        let value = self.index.entry(position).value();
        match self.head.and_then(|head| head.get(value)) {
            Some(text) => Ok(text),
            None => self.checked_value_at(position),
        }
    }

    #[cold]
    fn checked_value_at(&self, position: usize) -> Result<&'a str, HeaderError> {
        self.header_at(position).text()
    }

    #[inline]
    fn slice(&self, range: Range<usize>) -> &'a [u8] {
        self.bytes.get(range).unwrap_or_default()
    }

    #[inline]
    fn str(&self, range: Range<usize>) -> &'a str {
        match self.head {
            Some(head) => head.get(range).unwrap_or_default(),
            None => std::str::from_utf8(self.slice(range)).unwrap_or_default(),
        }
    }
}

pub(crate) struct HeaderRanges {
    /// The line with its line end and folds.
    pub(crate) line: Range<usize>,
    /// The value without white space around it.
    pub(crate) value: Range<usize>,
}

/// The iterator of [`Message::values`].
#[derive(Clone, Debug)]
pub struct Values<'a> {
    message: Message<'a>,
    id: HeaderId,
    next: Option<usize>,
    list: CommaList<'a>,
}

impl<'a> Values<'a> {
    /// The header field whose values these are.
    pub fn id(&self) -> HeaderId {
        self.id
    }
}

impl<'a> Iterator for Values<'a> {
    type Item = &'a str;

    #[inline]
    fn next(&mut self) -> Option<&'a str> {
        loop {
            if let Some(value) = self.list.next() {
                return Some(value);
            }
            let position = self.next?;
            self.next = self.message.index.next_of(self.id, position);
            match self.message.value_at(position) {
                Ok(text) => self.list = CommaList::new(text),
                Err(_) => return Some(""),
            }
        }
    }
}

/// Values that are parsed as they are asked for; those that are skipped are not.
struct Parsed<'a, F> {
    values: Values<'a>,
    parse: F,
}

impl<'a, T, F: Fn(&'a str) -> T> Iterator for Parsed<'a, F> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        self.values.next().map(&self.parse)
    }

    #[inline]
    fn nth(&mut self, n: usize) -> Option<T> {
        self.values.nth(n).map(&self.parse)
    }
}

impl fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", String::from_utf8_lossy(self.bytes()))
    }
}

/// An owned message: its bytes and their index.
#[derive(Clone)]
pub struct MessageBuf {
    bytes: Box<[u8]>,
    index: Index,
}

impl MessageBuf {
    /// Parses a whole message.
    pub fn parse(bytes: impl Into<Vec<u8>>) -> Result<Self, ParseError> {
        let bytes = bytes.into().into_boxed_slice();
        let mut index = Index::new();
        index.parse(&bytes)?;
        Ok(MessageBuf { bytes, index })
    }

    /// Copies bytes and index without parsing again. Bytes that are not part of the message are not copied.
    pub fn from_message(message: Message<'_>) -> Self {
        MessageBuf {
            bytes: message.bytes().into(),
            index: message.index.rebased(),
        }
    }

    /// The view.
    #[inline]
    pub fn message(&self) -> Message<'_> {
        // The few accessors that a kept message is asked with cost less than a check of all of it.
        Message {
            bytes: &self.bytes,
            index: &self.index,
            head: None,
            essentials: None,
        }
    }

    /// The bytes from the start line to the end of the body.
    pub fn bytes(&self) -> &[u8] {
        self.message().bytes()
    }
}

impl fmt::Debug for MessageBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.message().fmt(f)
    }
}

#[cfg(test)]
mod tests;
