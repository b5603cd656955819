//! What can be wrong with a message, which status answers it and whose fault it is.

use crate::header_id::HeaderId;
use crate::uri::UriError;
use std::fmt;
use thiserror::Error;

/// Who has to mend an error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Fault {
    /// The element that sent the message.
    Peer,
    /// This element.
    Local,
    /// Who runs this element.
    Configuration,
}

/// The start of what was found, kept by value so that errors outlive the message. Shown quoted, on one line.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Found {
    bytes: [u8; Found::LONGEST],
    len: u8,
    is_cut: bool,
}

impl Found {
    /// Bytes kept.
    pub const LONGEST: usize = 46;

    /// The start of a text.
    pub fn of(text: &str) -> Self {
        Found::of_bytes(text.as_bytes())
    }

    /// The start of some bytes.
    pub fn of_bytes(text: &[u8]) -> Self {
        let mut bytes = [0; Found::LONGEST];
        let len = text.len().min(Found::LONGEST);
        bytes[..len].copy_from_slice(&text[..len]);
        Found {
            bytes,
            len: len as u8,
            is_cut: text.len() > len,
        }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = &self.bytes[..usize::from(self.len)];
        if bytes.is_empty() {
            return f.write_str("nothing");
        }
        let dots = if self.is_cut { "..." } else { "" };
        write!(f, "'{}{dots}'", bytes.escape_ascii())
    }
}

impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Bytes that are not a SIP message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum ParseError {
    /// Nothing but line breaks: a keepalive (RFC 5626, 4.4.1).
    #[error("expected a message, found only line breaks")]
    Empty,
    /// Longer than [`limits::MESSAGE_BYTES`](super::limits::MESSAGE_BYTES).
    #[error(
        "expected a message of at most {} bytes, found {found}",
        super::limits::MESSAGE_BYTES
    )]
    TooLarge {
        /// Its length.
        found: usize,
    },
    /// The start line is neither a request line nor a status line.
    #[error("malformed start line: expected {expected}, found {found}")]
    StartLine {
        /// What the grammar asks for.
        expected: &'static str,
        /// The start of the line.
        found: Found,
    },
    /// A version of SIP other than 2.0.
    #[error("expected SIP/2.0, found {found}")]
    Version {
        /// The version.
        found: Found,
    },
    /// A Request-URI longer than [`limits::REQUEST_URI_BYTES`](super::limits::REQUEST_URI_BYTES).
    #[error(
        "expected a Request-URI of at most {} bytes, found {found}",
        super::limits::REQUEST_URI_BYTES
    )]
    RequestUriTooLong {
        /// Its length.
        found: usize,
    },
    /// A line that is no header field.
    #[error("malformed header field: expected {expected}, found {found}")]
    HeaderLine {
        /// What the grammar asks for.
        expected: &'static str,
        /// The start of the line.
        found: Found,
    },
    /// A header field, with its folds, longer than [`limits::HEADER_BYTES`](super::limits::HEADER_BYTES).
    #[error(
        "expected header fields of at most {} bytes, found {found}",
        super::limits::HEADER_BYTES
    )]
    HeaderTooLong {
        /// Its length.
        found: usize,
    },
    /// More header lines than [`limits::HEADERS`](super::limits::HEADERS).
    #[error("expected at most {} header fields, found more", super::limits::HEADERS)]
    TooManyHeaders,
    /// The empty line after the header fields is missing.
    #[error("expected an empty line after the header fields, found the end of the message")]
    NoEmptyLine,
}

impl ParseError {
    /// The status that answers it.
    pub fn status(&self) -> u16 {
        match self {
            ParseError::Version { .. } => 505,
            ParseError::RequestUriTooLong { .. } => 414,
            ParseError::TooLarge { .. } | ParseError::HeaderTooLong { .. } | ParseError::TooManyHeaders => {
                513
            }
            _ => 400,
        }
    }

    /// Who has to mend it.
    pub fn fault(&self) -> Fault {
        Fault::Peer
    }
}

/// A header field that is missing or cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// It is not there.
    #[error("expected a {} header field, found none", .0.name())]
    Missing(HeaderId),
    /// It breaks its grammar.
    #[error("malformed {} header field: expected {expected}, found {found}", .header.name())]
    Malformed {
        /// Which one.
        header: HeaderId,
        /// What the grammar asks for.
        expected: &'static str,
        /// The start of its value.
        found: Found,
    },
}

impl HeaderError {
    pub(crate) fn malformed(header: HeaderId, expected: &'static str, found: &str) -> Self {
        HeaderError::Malformed {
            header,
            expected,
            found: Found::of(found),
        }
    }

    /// The header field.
    pub fn header(&self) -> HeaderId {
        match *self {
            HeaderError::Missing(header) | HeaderError::Malformed { header, .. } => header,
        }
    }

    /// The status that answers it.
    pub fn status(&self) -> u16 {
        400
    }

    /// Who has to mend it.
    pub fn fault(&self) -> Fault {
        Fault::Peer
    }
}

/// A message that can be read but must not be acted on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("{problem}")]
pub struct Invalid {
    /// The status that answers a request; a response is dropped.
    pub status: u16,
    /// The reason phrase to answer with, which tells the sender what is wrong.
    pub reason: &'static str,
    /// The details for a log.
    pub problem: Problem,
}

/// What [`Invalid`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum Problem {
    /// A header field.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// A URI.
    #[error(transparent)]
    Uri(#[from] UriError),
    /// A rule about the message as a whole.
    #[error("expected {expected}, found {found}")]
    Rule {
        /// What the rule asks for.
        expected: &'static str,
        /// What is there.
        found: Found,
    },
}

impl Invalid {
    /// Who has to mend it.
    pub fn fault(&self) -> Fault {
        Fault::Peer
    }
}
