//! Messages in a stream, framed by Content-Length (RFC 3261, 18.3 and 7.5), and the keepalives between them (RFC 5626,
//! 4.4.1).
//!
//! Order of calls: [`Framer::push`] what was read, then [`Framer::next`] until it returns `None`; the bytes of a message
//! are at [`Framer::bytes`] until the next `push`. After an error the boundary of messages is lost: answer what can be
//! answered and close the connection.

use crate::header_id::HeaderId;
use crate::message::{Fault, Found, limits};
use crate::text;
use std::ops::Range;
use thiserror::Error;

/// Finds messages in one stream.
#[derive(Debug, Default)]
pub struct Framer {
    buffer: Vec<u8>,
    /// What is before it has been handed out.
    start: usize,
    /// Up to here there is no end of headers: each byte is looked at once.
    scanned: usize,
    /// The length of the message at `start`, once its header fields are complete.
    message: Option<usize>,
    /// The last thing handed out was a single CRLF.
    after_crlf: bool,
    is_broken: bool,
}

/// What stands next in the stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Framed {
    /// A message, at that range of [`Framer::bytes`].
    Message(Range<usize>),
    /// A keepalive.
    Keepalive(Keepalive),
}

/// A keepalive (RFC 5626, 3.5.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keepalive {
    /// CRLF CRLF: to be answered with CRLF. If it comes in two pieces, a `Pong` is seen before it.
    Ping,
    /// CRLF: the answer to a ping.
    Pong,
}

/// The stream holds something that is no message: the connection is of no more use.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum FrameError {
    /// It does not look like SIP.
    #[error("expected a SIP message in the stream, found {found}")]
    NotSip {
        /// The start of it.
        found: Found,
    },
    /// Header fields, or header fields and body, above [`limits::MESSAGE_BYTES`].
    #[error(
        "expected messages of at most {} bytes in the stream, found more",
        limits::MESSAGE_BYTES
    )]
    TooLarge {
        /// The header fields if they are complete, to answer 513 with.
        head: Option<Range<usize>>,
    },
    /// A Content-Length that is no number, or several that differ.
    #[error("expected one Content-Length in a stream's message, found {found}")]
    ContentLength {
        /// The header fields, to answer 400 with.
        head: Range<usize>,
        /// The value.
        found: Found,
    },
    /// An error has been returned before.
    #[error("expected no more input after an error in the stream")]
    Closed,
}

impl FrameError {
    /// The status that answers it where there is a head.
    pub fn status(&self) -> u16 {
        match self {
            FrameError::TooLarge { .. } => 513,
            _ => 400,
        }
    }

    /// Who has to mend it.
    pub fn fault(&self) -> Fault {
        Fault::Peer
    }

    /// The header fields of the message that could not be framed, if they are complete.
    pub fn head(&self) -> Option<Range<usize>> {
        match self {
            FrameError::TooLarge { head } => head.clone(),
            FrameError::ContentLength { head, .. } => Some(head.clone()),
            _ => None,
        }
    }
}

impl Framer {
    /// Nothing read yet; allocates with the first bytes.
    pub fn new() -> Self {
        Framer::default()
    }

    /// Adds what was read. Ranges handed out before are no longer valid.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.is_broken {
            return;
        }
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.scanned -= self.start.min(self.scanned);
            self.start = 0;
            self.buffer.shrink_to(RETAINED_BYTES);
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The bytes of a range that [`Framer::next`] returned since the last `push`.
    pub fn bytes(&self, range: Range<usize>) -> &[u8] {
        self.buffer.get(range).unwrap_or_default()
    }

    /// How many bytes wait for the rest of their message.
    pub fn pending(&self) -> usize {
        self.buffer.len() - self.start
    }

    /// The next message or keepalive, or `None` if more must be read first.
    #[allow(clippy::should_implement_trait, reason = "it may return more after None")]
    pub fn next(&mut self) -> Result<Option<Framed>, FrameError> {
        if self.is_broken {
            return Err(FrameError::Closed);
        }
        let result = self.advance();
        self.is_broken = result.is_err();
        result
    }

    fn advance(&mut self) -> Result<Option<Framed>, FrameError> {
        if self.message.is_none() {
            if let Some(keepalive) = self.take_keepalive() {
                return Ok(Some(Framed::Keepalive(keepalive)));
            }
            let pending = self.buffer.get(self.start..).unwrap_or_default();
            if pending.is_empty() || pending == b"\r" {
                return Ok(None);
            }
            self.after_crlf = false;
            self.check_start(pending)?;
            let Some(head_end) = self.find_head_end() else {
                if self.pending() > limits::MESSAGE_BYTES {
                    return Err(FrameError::TooLarge { head: None });
                }
                return Ok(None);
            };
            let head = self.start..head_end;
            let body =
                content_length(self.buffer.get(head.clone()).unwrap_or_default()).map_err(|found| {
                    FrameError::ContentLength {
                        head: head.clone(),
                        found,
                    }
                })?;
            let length = head.len().saturating_add(body);
            if length > limits::MESSAGE_BYTES {
                return Err(FrameError::TooLarge { head: Some(head) });
            }
            self.message = Some(length);
        }
        let end = self.start + self.message.unwrap_or(0);
        if self.buffer.len() < end {
            return Ok(None);
        }
        let range = self.start..end;
        self.message = None;
        self.start = end;
        self.scanned = end;
        Ok(Some(Framed::Message(range)))
    }

    fn take_keepalive(&mut self) -> Option<Keepalive> {
        let pending = self.buffer.get(self.start..)?;
        if pending.starts_with(b"\r\n\r\n") {
            self.start += 4;
            self.after_crlf = false;
            return Some(Keepalive::Ping);
        }
        if pending.starts_with(b"\r\n") {
            self.start += 2;
            let is_second_half = self.after_crlf;
            self.after_crlf = !is_second_half;
            return Some(if is_second_half {
                Keepalive::Ping
            } else {
                Keepalive::Pong
            });
        }
        None
    }

    /// Refuses early what can never become a message, such as a TLS hello, so that nobody waits for its end.
    fn check_start(&self, pending: &[u8]) -> Result<(), FrameError> {
        let not_sip = || {
            Err(FrameError::NotSip {
                found: Found::of_bytes(pending),
            })
        };
        let line_end = memchr::memchr(b'\n', pending);
        if !text::is_token_char(pending[0]) {
            return not_sip();
        }
        match line_end {
            None if pending.len() > LONGEST_START_LINE => not_sip(),
            None => Ok(()),
            Some(end) => {
                let line = pending.get(..end).unwrap_or_default();
                let mentions_sip = line.windows(4).any(|w| w.eq_ignore_ascii_case(b"SIP/"));
                if mentions_sip { Ok(()) } else { not_sip() }
            }
        }
    }

    /// The offset after the empty line.
    fn find_head_end(&mut self) -> Option<usize> {
        let mut at = self.scanned.max(self.start);
        while let Some(found) = memchr::memchr(b'\n', self.buffer.get(at..)?) {
            let newline = at + found;
            match (self.buffer.get(newline + 1), self.buffer.get(newline + 2)) {
                (Some(b'\n'), _) => return Some(newline + 2),
                (Some(b'\r'), Some(b'\n')) => return Some(newline + 3),
                (None, _) | (Some(b'\r'), None) => {
                    self.scanned = newline;
                    return None;
                }
                _ => at = newline + 1,
            }
        }
        self.scanned = self.buffer.len();
        None
    }
}

/// The Content-Length of a head; 0 if it has none: 20.14 asks for it on streams, and a message that forgot it is read
/// as one without body, after which the stream ends if there was one.
fn content_length(head: &[u8]) -> Result<usize, Found> {
    let mut length: Option<usize> = None;
    let mut at = 0;
    while let Some(found) = memchr::memchr(b'\n', head.get(at..).unwrap_or_default()) {
        at += found + 1;
        let line = head.get(at..).unwrap_or_default();
        if !matches!(line.first(), Some(b'C' | b'c' | b'L' | b'l')) {
            continue;
        }
        let Some(colon) = memchr::memchr2(b':', b'\n', line).filter(|i| line[*i] == b':') else {
            continue;
        };
        if HeaderId::of_bytes(line[..colon].trim_ascii_end()) != HeaderId::ContentLength {
            continue;
        }
        let value = folded_value(&line[colon + 1..]);
        let number = std::str::from_utf8(value)
            .ok()
            .and_then(text::number)
            .and_then(|n| usize::try_from(n).ok());
        match (number, length) {
            (None, _) => return Err(Found::of_bytes(value)),
            (Some(number), Some(before)) if number != before => return Err(Found::of_bytes(value)),
            (Some(number), _) => length = Some(number),
        }
    }
    Ok(length.unwrap_or(0))
}

/// The value at the start of `rest`, with its folds, trimmed.
fn folded_value(rest: &[u8]) -> &[u8] {
    let mut end = 0;
    while let Some(found) = memchr::memchr(b'\n', rest.get(end..).unwrap_or_default()) {
        end += found + 1;
        if !matches!(rest.get(end), Some(b' ' | b'\t')) {
            break;
        }
    }
    rest[..end].trim_ascii()
}

/// A start line that is longer without a line end is none: the Request-URI and room for the rest.
const LONGEST_START_LINE: usize = limits::REQUEST_URI_BYTES + 256;

/// What an idle connection keeps allocated.
const RETAINED_BYTES: usize = 4096;

#[cfg(test)]
mod tests;
