//! One request, sent until it is answered or has been sent often enough.

use std::hash::Hasher;
use std::net::SocketAddr;
use std::time::Instant;

use siphasher::sip128::{Hasher128, SipHasher13};

use super::{BindingRequest, BindingResponse, Timing, Transmit};
use crate::message::{Class, Message, TransactionId};

/// Makes transaction ids that nobody outside can guess.
pub(super) struct Ids {
    seed: [u8; 16],
    count: u64,
}

/// From where to where a request goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Path {
    pub(super) socket: usize,
    pub(super) to: SocketAddr,
}

pub(super) struct Exchange {
    id: TransactionId,
    request: BindingRequest,
    /// Taken in turn; both are the same but for hairpinning.
    paths: [Path; 2],
    /// The socket at which the answer arrives.
    answered_at: usize,
    timing: Timing,
    sent: u8,
    next: Instant,
    last_sent: Instant,
}

/// What belongs to the exchange.
#[derive(Clone, Copy)]
pub(super) struct Heard {
    pub(super) socket: usize,
    pub(super) from: SocketAddr,
    /// `None`: our own request came back.
    pub(super) response: Option<BindingResponse>,
}

impl Ids {
    pub(super) fn new(seed: [u8; 16]) -> Self {
        Self { seed, count: 0 }
    }

    pub(super) fn modern(&mut self) -> TransactionId {
        let mut random = [0; 12];
        random.copy_from_slice(&self.random()[..12]);
        TransactionId::new(random)
    }

    pub(super) fn classic(&mut self) -> TransactionId {
        TransactionId::classic(self.random())
    }

    fn random(&mut self) -> [u8; 16] {
        self.count += 1;
        let mut hasher = SipHasher13::new_with_key(&self.seed);
        hasher.write_u64(self.count);
        hasher.finish128().as_bytes()
    }
}

impl Exchange {
    /// A request that is first sent at `start`.
    pub(super) fn new(
        start: Instant,
        id: TransactionId,
        request: BindingRequest,
        path: Path,
        timing: Timing,
    ) -> Self {
        Self {
            id,
            request,
            paths: [path; 2],
            answered_at: path.socket,
            timing,
            sent: 0,
            next: start,
            last_sent: start,
        }
    }

    /// Every other time it goes another way.
    pub(super) fn with_second_path(mut self, path: Path) -> Self {
        self.paths[1] = path;
        self
    }

    /// The answer comes to another socket than the request left from.
    pub(super) fn answered_at(mut self, socket: usize) -> Self {
        self.answered_at = socket;
        self
    }

    pub(super) fn poll_transmit(&mut self, now: Instant, buffer: &mut [u8]) -> Option<Transmit> {
        if now < self.next || self.sent >= self.timing.sends {
            return None;
        }
        let Path { socket, to } = self.paths[usize::from(self.sent & 1)];
        let length = self.request.write(self.id, buffer).ok()?;
        let doubled = self.timing.first * 2_u32.saturating_pow(self.sent.into());
        self.sent += 1;
        let last = self.sent == self.timing.sends;
        let wait = if last {
            self.timing.longest
        } else {
            doubled.min(self.timing.longest)
        };
        self.next = now + wait;
        self.last_sent = now;
        Some(Transmit { socket, to, length })
    }

    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// When the request last went out: what kept the binding alive.
    pub(super) fn last_sent(&self) -> Instant {
        self.last_sent
    }

    pub(super) fn is_silent(&self, now: Instant) -> bool {
        self.sent >= self.timing.sends && now >= self.next
    }

    pub(super) fn hear(&self, socket: usize, from: SocketAddr, bytes: &[u8]) -> Option<Heard> {
        let message = Message::parse(bytes).ok()?;
        if message.transaction_id() != self.id {
            return None;
        }
        let response = match message.class() {
            Class::Request => None,
            _ => Some(BindingResponse::read(&message)?),
        };
        let expected = socket == self.answered_at || self.paths.iter().any(|path| path.socket == socket);
        // It is compared with addresses in attributes; sockets for both families see IPv4 within IPv6.
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        expected.then_some(Heard {
            socket,
            from,
            response,
        })
    }
}
