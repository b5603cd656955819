//! Finds the lines of a message: start line, header fields with their folds, body (RFC 3261, 7).
//!
//! Line ends are CRLF; a single LF is taken for one too. A single CR is refused: elsewhere it might count as a line end,
//! and what one element takes for a value must not be a header field to the next.

use super::error::{Found, ParseError};
use crate::header_id::HeaderId;
use crate::text;
use std::ops::Range;

/// What a message may hold.
pub mod limits {
    /// Bytes of a whole message. A datagram cannot be longer (18.1.1); 16-bit offsets follow from it.
    pub const MESSAGE_BYTES: usize = 65_535;
    /// Header lines, folds not counted. A message of 1.3 kB has some fifteen.
    pub const HEADERS: usize = 254;
    /// Bytes of one header field with its folds.
    pub const HEADER_BYTES: usize = 8192;
    /// Bytes of the Request-URI; beyond is 414.
    pub const REQUEST_URI_BYTES: usize = 2048;
    /// Via values; beyond is 483. Max-Forwards starts at 70, so no honest message comes near.
    pub const VIAS: usize = 100;
}

/// Offsets into a message's bytes. Reusable: `parse` clears and refills it, so that steady state allocates nothing.
#[derive(Clone, Debug)]
pub struct Index {
    entries: Vec<Entry>,
    /// The position of the first header line of each id, or `NONE`.
    first: [u8; HeaderId::COUNT],
    /// One bit per id: there are several lines of it.
    repeated: u128,
    /// Where the start line starts, and where its content ends.
    start: u16,
    start_end: u16,
    /// Of a request the method's end and the Request-URI; of a response the reason phrase twice.
    token_end: u16,
    middle: (u16, u16),
    /// 0 for a request.
    pub(super) status: u16,
    /// Where the empty line after the header fields starts, where the body starts, and where it ends.
    headers_end: u16,
    body: u16,
    end: u16,
}

/// One header field, in 12 bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    line: u16,
    name_end: u16,
    value: u16,
    value_end: u16,
    line_end: u16,
    pub(super) id: HeaderId,
}

impl Entry {
    const EMPTY: Entry = Entry {
        line: 0,
        name_end: 0,
        value: 0,
        value_end: 0,
        line_end: 0,
        id: HeaderId::Other,
    };

    #[inline]
    pub(super) fn name(&self) -> Range<usize> {
        self.line.into()..self.name_end.into()
    }

    #[inline]
    pub(super) fn value(&self) -> Range<usize> {
        self.value.into()..self.value_end.into()
    }

    #[inline]
    pub(super) fn line(&self) -> Range<usize> {
        self.line.into()..self.line_end.into()
    }
}

const NONE: u8 = u8::MAX;
const _: () = assert!(limits::HEADERS < NONE as usize && HeaderId::COUNT <= 128);

impl Default for Index {
    fn default() -> Self {
        Index::new()
    }
}

impl Index {
    /// An empty index; allocates with the first message.
    pub fn new() -> Self {
        Index {
            entries: Vec::new(),
            first: [NONE; HeaderId::COUNT],
            repeated: 0,
            start: 0,
            start_end: 0,
            token_end: 0,
            middle: (0, 0),
            status: 0,
            headers_end: 0,
            body: 0,
            end: 0,
        }
    }

    /// Indexes a datagram, or one framed message. A broken header line does not end the work: the first error is
    /// returned, and the index holds all else.
    pub fn parse(&mut self, bytes: &[u8]) -> Result<(), ParseError> {
        self.reset();
        if bytes.len() > limits::MESSAGE_BYTES {
            return Err(ParseError::TooLarge { found: bytes.len() });
        }
        let start = bytes
            .iter()
            .position(|b| !matches!(b, b'\r' | b'\n'))
            .ok_or(ParseError::Empty)?;
        let result = self.parse_head(bytes, start);
        self.cut_body(bytes);
        result
    }

    /// Start line and header fields.
    fn parse_head(&mut self, bytes: &[u8], start: usize) -> Result<(), ParseError> {
        let Some(end) = LineEnd::find(bytes, start) else {
            return Err(ParseError::StartLine {
                expected: "a line end",
                found: Found::of_bytes(&bytes[start..]),
            });
        };
        (self.start, self.start_end) = (start as u16, end.at as u16);
        let mut result = self.parse_start_line(bytes, start..end.at, end.has_bare_cr);
        let mut at = end.next;
        loop {
            match self.parse_header(bytes, at) {
                Line::Header { next } => at = next,
                Line::Empty { next } => {
                    self.headers_end = at as u16;
                    at = next;
                    break;
                }
                Line::Broken { next, error } => {
                    result = result.and(Err(error));
                    at = next;
                }
                Line::End { error } => {
                    result = result.and(Err(error));
                    at = bytes.len();
                    self.headers_end = at as u16;
                    break;
                }
            }
        }
        (self.body, self.end) = (at as u16, bytes.len() as u16);
        result
    }

    fn reset(&mut self) {
        self.entries.clear();
        self.first = [NONE; HeaderId::COUNT];
        self.repeated = 0;
        (self.start, self.start_end, self.token_end, self.middle) = (0, 0, 0, (0, 0));
        (self.status, self.headers_end, self.body, self.end) = (0, 0, 0, 0);
    }

    fn parse_start_line(
        &mut self,
        bytes: &[u8],
        range: Range<usize>,
        has_bare_cr: bool,
    ) -> Result<(), ParseError> {
        let line = &bytes[range.clone()];
        let bad = |expected| ParseError::StartLine {
            expected,
            found: Found::of_bytes(line),
        };
        if !line.is_ascii() && std::str::from_utf8(line).is_err() {
            return Err(bad("UTF-8 text"));
        }
        if has_bare_cr {
            return Err(bad(NO_BARE_CR));
        }
        if is_sip_version(line) {
            return self.parse_status_line(std::str::from_utf8(line).unwrap_or_default(), range.start);
        }
        let method_end = text::token_end(line, 0);
        if method_end == 0 || line.get(method_end) != Some(&b' ') {
            return Err(bad("a method and a space"));
        }
        self.token_end = (range.start + method_end) as u16;
        let uri_start = method_end + 1;
        let Some(version_start) = memchr::memrchr(b' ', line)
            .map(|i| i + 1)
            .filter(|i| *i > uri_start)
        else {
            return Err(bad("a method, a Request-URI and SIP/2.0"));
        };
        let uri_end = version_start - 1;
        self.middle = ((range.start + uri_start) as u16, (range.start + uri_end) as u16);
        let version = &line[version_start..];
        if !version.eq_ignore_ascii_case(b"SIP/2.0") {
            return Err(if is_sip_version(version) {
                ParseError::Version {
                    found: Found::of_bytes(version),
                }
            } else {
                bad("SIP/2.0 at the end of the request line")
            });
        }
        let uri = &line[uri_start..uri_end];
        if uri.is_empty() || text::has_no_uri_char(uri) || text::find(uri, [b'>']).is_some() {
            return Err(bad(
                "a Request-URI without spaces and angle brackets, single spaces around it",
            ));
        }
        if uri.len() > limits::REQUEST_URI_BYTES {
            return Err(ParseError::RequestUriTooLong { found: uri.len() });
        }
        Ok(())
    }

    fn parse_status_line(&mut self, line: &str, start: usize) -> Result<(), ParseError> {
        let bad = |expected| ParseError::StartLine {
            expected,
            found: Found::of(line),
        };
        // Whatever follows, it is no request: a response must not be answered.
        self.status = UNREADABLE_STATUS;
        let (version, rest) = line.split_once(' ').ok_or(bad("a status code"))?;
        if !version.eq_ignore_ascii_case("SIP/2.0") {
            return Err(ParseError::Version {
                found: Found::of(version),
            });
        }
        let (code, reason) = rest.split_once(' ').unwrap_or((rest, ""));
        let code = text::number(code)
            .filter(|code| rest.as_bytes().get(3).is_none_or(|b| *b == b' ') && *code <= 699);
        let code = code
            .filter(|code| *code >= 100)
            .ok_or(bad("a status code from 100 to 699"))?;
        self.status = code as u16;
        let end = start + line.len();
        self.middle = ((end - reason.len()) as u16, end as u16);
        Ok(())
    }

    #[inline]
    fn parse_header(&mut self, bytes: &[u8], at: usize) -> Line {
        let Some(mut line_end) = LineEnd::find(bytes, at) else {
            return Line::End {
                error: ParseError::NoEmptyLine,
            };
        };
        if line_end.at == at {
            return Line::Empty { next: line_end.next };
        }
        // The field ends with the first line end after which no white space follows.
        let mut has_bare_cr = line_end.has_bare_cr;
        while let Some(b' ' | b'\t') = bytes.get(line_end.next) {
            let Some(folded) = LineEnd::find(bytes, line_end.next) else {
                return Line::End {
                    error: ParseError::NoEmptyLine,
                };
            };
            has_bare_cr |= folded.has_bare_cr;
            line_end = folded;
        }
        let (end, next) = (line_end.at, line_end.next);
        let line = &bytes[at..end];
        let broken = |expected| Line::Broken {
            next,
            error: ParseError::HeaderLine {
                expected,
                found: Found::of_bytes(line),
            },
        };
        if line.len() > limits::HEADER_BYTES {
            return Line::Broken {
                next,
                error: ParseError::HeaderTooLong { found: line.len() },
            };
        }
        if has_bare_cr {
            return broken(NO_BARE_CR);
        }
        let Some(colon) = text::find(line, [b':']) else {
            return broken(NAME_AND_COLON);
        };
        let (mut name, value) = (&line[..colon], &line[colon + 1..]);
        while let [before @ .., b' ' | b'\t'] = name {
            name = before;
        }
        let id = HeaderId::of_bytes(name);
        // A name that is known consists of nothing else.
        if id == HeaderId::Other && (name.is_empty() || text::token_end(name, 0) != name.len()) {
            return broken(NAME_AND_COLON);
        }
        let mut value = value;
        while let [byte, after @ ..] = value
            && text::is_lws(*byte)
        {
            value = after;
        }
        let value_start = end - value.len();
        while let [before @ .., byte] = value
            && text::is_lws(*byte)
        {
            value = before;
        }
        let position = self.entries.len();
        if position >= limits::HEADERS {
            return Line::End {
                error: ParseError::TooManyHeaders,
            };
        }
        self.entries.push(Entry {
            line: at as u16,
            name_end: (at + name.len()) as u16,
            value: value_start as u16,
            value_end: (value_start + value.len()) as u16,
            line_end: next as u16,
            id,
        });
        let first = &mut self.first[id as usize];
        if *first == NONE {
            *first = position as u8;
        } else {
            self.repeated |= 1 << id as u8;
        }
        Line::Header { next }
    }

    /// Bytes beyond Content-Length are discarded (18.3). A length that is wrong in any other way is left to
    /// `validate_request`.
    fn cut_body(&mut self, bytes: &[u8]) {
        if let Some(position) = self.first(HeaderId::ContentLength)
            && let Ok(value) = std::str::from_utf8(&bytes[self.entries[position].value()])
            && let Some(length) = text::number(value)
        {
            let available = u32::from(self.end - self.body);
            self.end = self.body + length.min(available) as u16;
        }
    }

    /// How many header lines there are.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    #[inline]
    pub(super) fn entry(&self, position: usize) -> Entry {
        self.entries.get(position).copied().unwrap_or(Entry::EMPTY)
    }

    /// The position of the first line with that id.
    #[inline]
    pub(crate) fn first(&self, id: HeaderId) -> Option<usize> {
        let position = self.first[id as usize];
        (position != NONE).then_some(usize::from(position))
    }

    /// The position of the first line with another id.
    #[inline]
    pub(crate) fn first_other_than(&self, id: HeaderId) -> Option<usize> {
        self.entries.iter().position(|entry| entry.id != id)
    }

    /// The position of the next line with that id after `position`.
    #[inline]
    pub(crate) fn next_of(&self, id: HeaderId, position: usize) -> Option<usize> {
        if !self.is_repeated(id) {
            return None;
        }
        let rest = self.entries.get(position + 1..)?;
        rest.iter()
            .position(|entry| entry.id == id)
            .map(|i| position + 1 + i)
    }

    #[inline]
    pub(crate) fn positions(&self, id: HeaderId) -> impl Iterator<Item = usize> {
        std::iter::successors(self.first(id), move |position| self.next_of(id, *position))
    }

    #[inline]
    pub(crate) fn is_repeated(&self, id: HeaderId) -> bool {
        self.repeated >> id as u8 & 1 == 1
    }

    pub(super) fn start_line_len(&self) -> usize {
        usize::from(self.start_end - self.start)
    }

    pub(super) fn method(&self) -> Range<usize> {
        self.start.into()..self.token_end.into()
    }

    pub(crate) fn request_uri(&self) -> Range<usize> {
        self.middle.0.into()..self.middle.1.into()
    }

    pub(super) fn reason(&self) -> Range<usize> {
        self.middle.0.into()..self.middle.1.into()
    }

    /// From the start line to the end of the body.
    pub(crate) fn message_range(&self) -> Range<usize> {
        self.start.into()..self.end.into()
    }

    pub(crate) fn body_range(&self) -> Range<usize> {
        self.body.into()..self.end.into()
    }

    pub(crate) fn headers_end(&self) -> usize {
        self.headers_end.into()
    }

    /// A copy for bytes that begin with the start line.
    pub(super) fn rebased(&self) -> Index {
        let mut index = self.clone();
        let shift = self.start;
        if shift > 0 {
            for entry in &mut index.entries {
                for offset in [
                    &mut entry.line,
                    &mut entry.name_end,
                    &mut entry.value,
                    &mut entry.value_end,
                    &mut entry.line_end,
                ] {
                    *offset -= shift;
                }
            }
            let line = [
                &mut index.start,
                &mut index.start_end,
                &mut index.token_end,
                &mut index.middle.0,
                &mut index.middle.1,
            ];
            let parts = [&mut index.headers_end, &mut index.body, &mut index.end];
            for offset in line.into_iter().chain(parts) {
                *offset = offset.saturating_sub(shift);
            }
        }
        index
    }
}

/// Where a line ends.
struct LineEnd {
    /// The end of its content.
    at: usize,
    /// Where the next line starts.
    next: usize,
    /// A CR stands in the line.
    has_bare_cr: bool,
}

impl LineEnd {
    /// The end of the line that starts at `start`.
    #[inline]
    fn find(bytes: &[u8], start: usize) -> Option<LineEnd> {
        let mut at = start;
        let mut has_bare_cr = false;
        loop {
            at += text::find_below(bytes.get(at..)?, b'\r' + 1)?;
            match (bytes.get(at), bytes.get(at + 1)) {
                (Some(b'\r'), Some(b'\n')) => break,
                (Some(b'\n'), _) => break,
                (byte, _) => has_bare_cr |= byte == Some(&b'\r'),
            }
            at += 1;
        }
        let next = at + 1 + usize::from(bytes[at] == b'\r');
        Some(LineEnd {
            at,
            next,
            has_bare_cr,
        })
    }
}

enum Line {
    Header { next: usize },
    Empty { next: usize },
    Broken { next: usize, error: ParseError },
    End { error: ParseError },
}

/// What [`Index`] holds for the status of a response whose status line cannot be read.
const UNREADABLE_STATUS: u16 = u16::MAX;

const NAME_AND_COLON: &str = "a name and a colon";

const NO_BARE_CR: &str = "no CR but at line ends";

/// True if `line` starts with `SIP/` and a digit, in any case of letters.
fn is_sip_version(line: &[u8]) -> bool {
    line.get(..4)
        .is_some_and(|prefix| prefix.eq_ignore_ascii_case(b"SIP/"))
}
