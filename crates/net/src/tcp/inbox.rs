//! What happened on the connections, in order, in one reused buffer.

use std::{fmt, io, net::SocketAddr, ops::Range};

use super::Id;

/// Something that happened on a connection.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConnectionEvent<'a> {
    /// It was accepted, or opening it succeeded.
    Opened {
        /// The connection.
        id: Id,
        /// Our address.
        local: SocketAddr,
        /// The peer's.
        remote: SocketAddr,
    },
    /// Bytes came in: some, not a message.
    Data {
        /// The connection.
        id: Id,
        /// What was read.
        bytes: &'a [u8],
    },
    /// It is gone. No event of this connection follows.
    Closed {
        /// The connection.
        id: Id,
        /// The peer's address.
        remote: SocketAddr,
        /// Who or what closed it.
        reason: &'a CloseReason,
        /// Bytes that were given to `send` and not to the kernel.
        unsent: usize,
    },
    /// Opening it failed. No event of this connection follows.
    Failed {
        /// The connection.
        id: Id,
        /// Where it was to go.
        remote: SocketAddr,
        /// Why not; `TimedOut` when the connect timeout passed.
        error: &'a io::Error,
    },
}

/// Why a connection ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer closed it.
    Peer,
    /// `close` was called.
    Local,
    /// Nothing happened on it for the idle time, or nothing at all was said after it was accepted.
    Idle,
    /// The peer did not read what it was sent.
    Overflow,
    /// The system reported an error: reset by peer, timed out.
    Error(io::Error),
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CloseReason::Peer => f.write_str("closed by the peer"),
            CloseReason::Local => f.write_str("closed by us"),
            CloseReason::Idle => f.write_str("idle for too long"),
            CloseReason::Overflow => f.write_str("the peer does not read what it is sent"),
            CloseReason::Error(error) => error.fmt(f),
        }
    }
}

/// Why a connection was not let in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The limit of connections is reached.
    #[error("too many connections: the limit of {0} is reached")]
    TooMany(usize),
    /// The limit of connections from one source is reached.
    #[error("too many connections from one source: the limit of {0} is reached")]
    TooManyFromSource(usize),
}

/// The events that one [`super::Connections::recv`] fetched.
#[derive(Default)]
pub struct Inbox {
    entries: Vec<Entry>,
    bytes: Vec<u8>,
}

enum Entry {
    Opened {
        id: Id,
        local: SocketAddr,
        remote: SocketAddr,
    },
    Data {
        id: Id,
        range: Range<usize>,
    },
    Closed {
        id: Id,
        remote: SocketAddr,
        reason: CloseReason,
        unsent: usize,
    },
    Failed {
        id: Id,
        remote: SocketAddr,
        error: io::Error,
    },
}

impl Inbox {
    /// Nothing happened yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The events in their order; those of one connection are in the order in which they happened.
    pub fn events(&self) -> impl Iterator<Item = ConnectionEvent<'_>> {
        self.entries.iter().map(|entry| match entry {
            Entry::Opened { id, local, remote } => ConnectionEvent::Opened {
                id: *id,
                local: *local,
                remote: *remote,
            },
            Entry::Data { id, range } => ConnectionEvent::Data {
                id: *id,
                bytes: &self.bytes[range.clone()],
            },
            Entry::Closed {
                id,
                remote,
                reason,
                unsent,
            } => ConnectionEvent::Closed {
                id: *id,
                remote: *remote,
                reason,
                unsent: *unsent,
            },
            Entry::Failed { id, remote, error } => ConnectionEvent::Failed {
                id: *id,
                remote: *remote,
                error,
            },
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes that wait to be taken.
    pub(super) fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Empties it, and gives memory back after a burst.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
        self.entries.shrink_to(KEPT_ENTRIES);
    }

    pub(super) fn push_opened(&mut self, id: Id, local: SocketAddr, remote: SocketAddr) {
        self.entries.push(Entry::Opened { id, local, remote });
    }

    pub(super) fn push_closed(&mut self, id: Id, remote: SocketAddr, reason: CloseReason, unsent: usize) {
        self.entries.push(Entry::Closed {
            id,
            remote,
            reason,
            unsent,
        });
    }

    pub(super) fn push_failed(&mut self, id: Id, remote: SocketAddr, error: io::Error) {
        self.entries.push(Entry::Failed { id, remote, error });
    }

    /// The buffer to read into, with room for `CHUNK` bytes; what was appended is then told to [`Self::push_data`].
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        self.bytes.reserve(CHUNK);
        &mut self.bytes
    }

    pub(super) fn push_data(&mut self, id: Id, range: Range<usize>) {
        // Two reads in a row from one connection are one piece.
        if let Some(Entry::Data {
            id: last,
            range: previous,
        }) = self.entries.last_mut()
            && *last == id
            && previous.end == range.start
        {
            previous.end = range.end;
        } else {
            self.entries.push(Entry::Data { id, range });
        }
    }
}

/// Bytes read at once.
pub(super) const CHUNK: usize = 16 << 10;
/// Capacity that an emptied inbox keeps.
const KEPT_BYTES: usize = 256 << 10;
const KEPT_ENTRIES: usize = 4 << 10;
