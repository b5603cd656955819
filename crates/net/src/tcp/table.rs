//! The book of a worker's connections, shared by its tasks.
//!
//! All tasks run on the worker's thread, so the lock is never waited for; it is there because a tokio task must be `Send`.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    num::NonZeroU64,
    sync::{Mutex, MutexGuard, PoisonError},
    task::Waker,
};

use tokio::sync::Notify;

use super::{
    Id, TcpOptions,
    inbox::{CloseReason, Inbox, OpenError},
};

/// What the tasks of a worker's connections share.
pub(super) struct Shared {
    pub(super) options: TcpOptions,
    state: Mutex<State>,
    shut_down: Notify,
}

/// All connections and what happened on them.
pub(super) struct State {
    options: TcpOptions,
    first_id: u64,
    opened: u64,
    connections: HashMap<Id, Entry>,
    /// How many of them were accepted.
    accepted: usize,
    by_remote: HashMap<SocketAddr, Id>,
    per_source: HashMap<IpAddr, usize>,
    pub(super) inbox: Inbox,
    /// The worker, waiting in `recv`.
    pub(super) receiver: Option<Waker>,
    /// Tasks that do not read because the inbox is full.
    stalled: Vec<Waker>,
    pub(super) turned_away: u64,
    pub(super) is_shut_down: bool,
}

/// One connection as the worker sees it.
pub(super) struct Entry {
    remote: SocketAddr,
    /// Counted against the limit per source.
    source: Option<IpAddr>,
    /// What is to be written, from `written` on.
    pub(super) queue: Vec<u8>,
    pub(super) written: usize,
    /// `close` was called.
    pub(super) is_closing: bool,
    /// The peer does not read.
    pub(super) is_overflowing: bool,
    /// The connection's task.
    pub(super) task: Option<Waker>,
}

impl Shared {
    pub(super) fn new(options: TcpOptions, first_id: u64) -> Self {
        let state = State {
            options,
            first_id,
            opened: 0,
            connections: HashMap::new(),
            accepted: 0,
            by_remote: HashMap::new(),
            per_source: HashMap::new(),
            inbox: Inbox::new(),
            receiver: None,
            stalled: Vec::new(),
            turned_away: 0,
            is_shut_down: false,
        };
        Self {
            options,
            state: Mutex::new(state),
            shut_down: Notify::new(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves the book as it was between two calls.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection that is going to be opened.
    pub(super) fn reserve(&self, remote: SocketAddr) -> Result<Id, OpenError> {
        self.lock().insert(remote, None)
    }

    /// A connection that somebody else opened.
    pub(super) fn admit(&self, local: SocketAddr, remote: SocketAddr) -> Result<Id, OpenError> {
        let mut state = self.lock();
        let id = state.insert(remote, None)?;
        state.opened(id, local, remote);
        Ok(id)
    }

    /// A connection that a peer opened.
    pub(super) fn admit_accepted(&self, local: SocketAddr, remote: SocketAddr) -> Result<Id, OpenError> {
        let mut state = self.lock();
        match state.insert(remote, Some(source_of(remote.ip()))) {
            Ok(id) => {
                state.opened(id, local, remote);
                Ok(id)
            }
            Err(error) => {
                state.turned_away += 1;
                Err(error)
            }
        }
    }

    /// Ready when the worker has dropped its `Connections`.
    pub(super) async fn closed(&self) {
        let notified = self.shut_down.notified();
        tokio::pin!(notified);
        // Registered first and asked afterwards, lest the word be spoken in between.
        notified.as_mut().enable();
        if !self.lock().is_shut_down {
            notified.await;
        }
    }

    pub(super) fn shut_down(&self) {
        self.lock().shut_down();
        self.shut_down.notify_waiters();
    }
}

impl State {
    pub(super) fn entry(&mut self, id: Id) -> Option<&mut Entry> {
        self.connections.get_mut(&id)
    }

    pub(super) fn len(&self) -> usize {
        self.connections.len()
    }

    pub(super) fn find(&self, remote: SocketAddr) -> Option<Id> {
        let id = *self.by_remote.get(&remote)?;
        self.connections
            .get(&id)
            .is_some_and(|entry| entry.is_usable())
            .then_some(id)
    }

    pub(super) fn send(&mut self, id: Id, bytes: &[u8]) -> bool {
        let limit = self.options.send_queue;
        let Some(entry) = self.connections.get_mut(&id) else {
            return false;
        };
        if !entry.is_usable() {
            return false;
        }
        let fits = entry.waiting() + bytes.len() <= limit;
        if fits {
            entry.make_room();
            entry.queue.extend_from_slice(bytes);
        } else {
            entry.is_overflowing = true;
        }
        entry.wake();
        fits
    }

    pub(super) fn close(&mut self, id: Id) {
        if let Some(entry) = self.connections.get_mut(&id) {
            entry.is_closing = true;
            entry.wake();
        }
    }

    pub(super) fn opened(&mut self, id: Id, local: SocketAddr, remote: SocketAddr) {
        self.inbox.push_opened(id, local, remote);
        self.wake_receiver();
    }

    pub(super) fn failed(&mut self, id: Id, remote: SocketAddr, error: io::Error) {
        self.remove(id);
        self.inbox.push_failed(id, remote, error);
        self.wake_receiver();
    }

    /// Strikes a connection out and says so.
    pub(super) fn closed(&mut self, id: Id, reason: CloseReason) {
        if let Some(entry) = self.remove(id) {
            self.inbox.push_closed(id, entry.remote, reason, entry.waiting());
            self.wake_receiver();
        }
    }

    /// Hands the inbox over; false when it is empty.
    pub(super) fn take(&mut self, inbox: &mut Inbox) -> bool {
        if self.inbox.is_empty() {
            return false;
        }
        inbox.clear();
        std::mem::swap(&mut self.inbox, inbox);
        for waker in self.stalled.drain(..) {
            waker.wake();
        }
        true
    }

    /// Whether there is room to read into; if not, `waker` is woken when there is.
    pub(super) fn has_room(&mut self, waker: &Waker) -> bool {
        let has_room = self.inbox.size() < self.options.inbox;
        if !has_room {
            self.stalled.push(waker.clone());
        }
        has_room
    }

    pub(super) fn wake_receiver(&mut self) {
        if let Some(waker) = self.receiver.take() {
            waker.wake();
        }
    }

    fn shut_down(&mut self) {
        self.is_shut_down = true;
        for entry in self.connections.values_mut() {
            entry.wake();
        }
    }

    fn insert(&mut self, remote: SocketAddr, source: Option<IpAddr>) -> Result<Id, OpenError> {
        // Counted apart: strangers who hold all the connections they may must not keep us from opening ours.
        let opened = self.connections.len() - self.accepted;
        let count = if source.is_some() { self.accepted } else { opened };
        if count >= self.options.connections {
            return Err(OpenError::TooMany(self.options.connections));
        }
        if let Some(source) = source {
            let count = self.per_source.entry(source).or_insert(0);
            if *count >= self.options.per_source {
                return Err(OpenError::TooManyFromSource(self.options.per_source));
            }
            *count += 1;
            self.accepted += 1;
        }
        self.opened += 1;
        let id = Id(NonZeroU64::MIN.saturating_add(self.first_id + self.opened - 1));
        let entry = Entry {
            remote,
            source,
            queue: Vec::new(),
            written: 0,
            is_closing: false,
            is_overflowing: false,
            task: None,
        };
        self.connections.insert(id, entry);
        self.by_remote.insert(remote, id);
        Ok(id)
    }

    fn remove(&mut self, id: Id) -> Option<Entry> {
        let entry = self.connections.remove(&id)?;
        if self.by_remote.get(&entry.remote) == Some(&id) {
            self.by_remote.remove(&entry.remote);
        }
        if let Some(source) = entry.source {
            self.accepted -= 1;
            if let Some(count) = self.per_source.get_mut(&source) {
                *count -= 1;
                if *count == 0 {
                    self.per_source.remove(&source);
                }
            }
        }
        Some(entry)
    }
}

impl Entry {
    /// Whether it may still be sent on.
    fn is_usable(&self) -> bool {
        !self.is_closing && !self.is_overflowing
    }

    /// Bytes that wait to be written.
    pub(super) fn waiting(&self) -> usize {
        self.queue.len() - self.written
    }

    /// Drops what was written, keeping no large buffer for a connection that is idle most of its life.
    pub(super) fn advance(&mut self, count: usize) {
        self.written = (self.written + count).min(self.queue.len());
        if self.written == self.queue.len() {
            self.written = 0;
            self.queue.clear();
            self.queue.shrink_to(KEPT_QUEUE);
        }
    }

    /// Moves what waits to the front when most of the queue has been written.
    fn make_room(&mut self) {
        if self.written > self.queue.len() / 2 {
            self.queue.drain(..self.written);
            self.written = 0;
        }
    }

    fn wake(&mut self) {
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }
}

/// What counts as one source: who has an IPv6 address has a /64 of them.
fn source_of(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
    }
}

/// Capacity of a connection's empty queue that is kept.
const KEPT_QUEUE: usize = 4 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_network_is_one_source_and_an_ipv4_address_is_one() {
        let source = |text: &str| source_of(text.parse().expect("an address"));
        assert_eq!(source("2001:db8:1:2:3:4:5:6"), source("2001:db8:1:2:ffff::1"));
        assert_ne!(source("2001:db8:1:2::1"), source("2001:db8:1:3::1"));
        assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
    }
}
