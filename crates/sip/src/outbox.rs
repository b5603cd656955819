//! Messages to send, in order, in one reused buffer. State machines write here; `net` reads and then calls
//! [`Outbox::clear`].

use crate::flow::Flow;
use std::ops::Range;

/// Messages to send, in order.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    messages: Vec<(Flow, Range<usize>)>,
}

impl Outbox {
    /// An empty outbox; allocates with the first message.
    pub fn new() -> Self {
        Outbox::default()
    }

    /// Adds a message that is already complete.
    pub fn push(&mut self, flow: &Flow, bytes: &[u8]) {
        self.push_with(flow, |out| out.extend_from_slice(bytes));
    }

    /// Adds a message that `write` appends. What `write` does to earlier bytes is undefined: it must only append.
    /// A message of no bytes is not queued.
    pub fn push_with(&mut self, flow: &Flow, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        write(&mut self.bytes);
        let end = self.bytes.len();
        if end > start {
            self.messages.push((*flow, start..end));
        }
    }

    /// The messages in the order they were pushed.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Flow, &[u8])> + '_ {
        self.messages
            .iter()
            .map(|(flow, range)| (flow, self.slice(range)))
    }

    /// How many messages wait.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// True if no message waits.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// The message at `i`, counted from 0.
    ///
    /// # Panics
    /// If `i` is not less than [`Outbox::len`].
    pub fn get(&self, i: usize) -> (&Flow, &[u8]) {
        let (flow, range) = &self.messages[i];
        (flow, self.slice(range))
    }

    /// Forgets all messages and keeps the memory, unless a burst has made it larger than [`RETAINED_BYTES`].
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.messages.clear();
        self.bytes.shrink_to(RETAINED_BYTES);
        self.messages.shrink_to(RETAINED_MESSAGES);
    }

    fn slice(&self, range: &Range<usize>) -> &[u8] {
        self.bytes.get(range.clone()).unwrap_or_default()
    }
}

/// Bytes that an idle outbox keeps allocated: some hundred messages.
pub const RETAINED_BYTES: usize = 512 * 1024;
const RETAINED_MESSAGES: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Transport;

    fn flow(port: u16) -> Flow {
        let local = "192.0.2.1:5060".parse().unwrap();
        Flow {
            transport: Transport::Udp,
            local,
            remote: ([192, 0, 2, 2], port).into(),
            connection: None,
        }
    }

    #[test]
    fn messages_come_out_in_order_with_their_flows() {
        let mut outbox = Outbox::new();
        outbox.push(&flow(1), b"one");
        outbox.push_with(&flow(2), |out| out.extend_from_slice(b"two"));
        outbox.push_with(&flow(3), |_| {});
        let all: Vec<_> = outbox.iter().map(|(f, b)| (f.remote.port(), b)).collect();
        assert_eq!(all, [(1, &b"one"[..]), (2, b"two")]);
        assert_eq!(outbox.get(1).1, b"two");
    }

    #[test]
    fn clear_gives_a_burst_back() {
        let mut outbox = Outbox::new();
        outbox.push(&flow(1), &vec![b'x'; 4 * RETAINED_BYTES]);
        outbox.clear();
        assert!(outbox.is_empty());
        assert!(outbox.bytes.capacity() <= 2 * RETAINED_BYTES);
    }
}
