//! What the switch asks of the world around it. The server takes these values after each call into the switch and answers with
//! the `handle_…` method that the variant names.

use std::sync::Arc;

use sip::Flow;

use crate::record::CallRecord;
use crate::registrar::BindingChange;

/// A request of the switch to its server.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// The message belongs to a transaction or call of another worker: give it to that worker's
    /// [`Switch::handle_handed_over`](crate::Switch::handle_handed_over), after what was handed over before.
    HandOver {
        /// Index of the worker.
        worker: u8,
        /// Where the message came from.
        flow: Flow,
        /// The message as it came.
        message: Vec<u8>,
        /// The worker that it came to from the network.
        first: u8,
    },
    /// Ask the DNS; the answer goes to [`Switch::handle_dns`](crate::Switch::handle_dns).
    Dns {
        /// Names the question in the answer.
        id: DnsId,
        /// What to look up.
        query: sip::resolve::Query,
    },
    /// Write to the store. With a ticket, [`Switch::handle_stored`](crate::Switch::handle_stored) is to be told how it went.
    Store {
        /// Names the write in the confirmation.
        ticket: Option<Ticket>,
        /// What to write.
        change: Change,
    },
    /// An order to the packet side of the media relay; the order of commands matters.
    Media(media::Command),
}

/// Something that outlives the process.
#[derive(Debug)]
#[non_exhaustive]
pub enum Change {
    /// Bindings of one address-of-record that changed together.
    Bindings(Arc<[BindingChange]>),
    /// A call that ended.
    Record(Box<CallRecord>),
}

/// Names a write to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(pub u64);

/// Names a question to the DNS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DnsId(pub u64);
