//! The transactions of one worker: the four machines of RFC 3261 section 17 with the corrections of RFC 6026 (2xx to INVITE) and
//! RFC 4320 (non-INVITE), and what belongs to them hop by hop: matching, CANCEL, ACK to a non-2xx, merged requests.
//!
//! Order of calls. Every message that has been validated goes to [`Transactions::receive`], which answers retransmissions by
//! itself and says what is left to do. A [`NewRequest`] is answered statelessly or accepted ([`Transactions::accept`]) and then
//! answered with [`Transactions::respond`]. Requests of one's own, forwarded ones too, leave by [`Transactions::send`]. Whatever
//! is to be sent is appended to the [`Outbox`]. When the clock reaches [`Transactions::poll_timeout`], call
//! [`Transactions::handle_timeout`]; after that and after `transport_failed`, drain [`Transactions::poll_event`].
//!
//! A server transaction is found by a keyed 64-bit hash over branch, sent-by and method, or over the fields of section 17.2.3 when
//! the branch has no magic cookie. The hash is the key: whoever does not know the secret cannot make two requests collide, and by
//! chance a million transactions do so once in 10^13 requests. No text is kept or compared. A client transaction is found without
//! any map, by the slot that the branch names, and only if the branch bears the right 48-bit tag.
//!
//! Memory: a transaction is one box of at most [`TRANSACTION_BYTES`] and the bytes of the message that it still needs: the
//! request until there is a final response; then the response, if it may have to be sent again. Everything is given back when
//! the last timer fires.
//!
//! Not done here: forking; sending a 2xx again until its ACK comes, which is the user agent's work (13.3.1.4); and which connection
//! a response takes if the one of its request is gone (18.2.2).
//!
//! The `owner` of a transaction is a number that means nothing here and comes back with each event.

use std::collections::VecDeque;
use std::time::Instant;

use slab::Slab;

use crate::flow::Flow;
use crate::message::{Index, Message};
use crate::method::Method;
use crate::outbox::Outbox;
use crate::timer::TimerWheel;

mod branch;
mod client;
mod config;
mod hop;
mod matching;
mod peers;
mod receive;
mod server;
mod slot;

pub use branch::Branch;
pub use config::TransactionConfig;
pub use matching::{NewRequest, Tag};

use branch::BranchMint;
use client::ClientTransaction;
use matching::{Matcher, ServerMap};
use peers::{Peers, peer_bytes};
use server::ServerTransaction;
use slot::{Machine, Transaction, client_mut, lookup, server_mut};

/// Names a server transaction. After its end it names nothing, not even when its slot is used again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ServerKey(Key);

/// Names a client transaction. After its end it names nothing, not even when its slot is used again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ClientKey(Key);

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Key {
    slot: u32,
    serial: u32,
}

/// What is left to do with a message.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Received {
    /// A request without a transaction. Answer it statelessly (with [`NewRequest::tag`] in To, so that the ACK is recognised)
    /// or accept it. A merged one is answered 482 ([`NewRequest::is_merged`]).
    NewRequest(NewRequest),
    /// A CANCEL. With a transaction it has been answered 200, and comes up once, while the INVITE has no final response; stop the
    /// branches and answer the INVITE 487. Without one it is up to the caller: 481.
    Cancel {
        /// The INVITE transaction to be cancelled.
        invite: Option<ServerKey>,
    },
    /// An ACK that belongs to no non-2xx response: to be forwarded, or given to the user agent.
    Ack,
    /// A response for the owner of the request: a provisional one, the first final one, or a further 2xx to INVITE. A 100 that
    /// came from the next hop is among them; it is not to be forwarded.
    Response {
        /// The transaction. Its end is told by an event.
        client: ClientKey,
        /// Its owner.
        owner: u64,
    },
    /// A response to nothing that is known: drop it (RFC 6026 section 8.9), unless another worker minted its branch
    /// ([`Transactions::branch_worker`]).
    StrayResponse,
    /// Nothing is left to do. Messages that [`Message::validate_request`] refuses and cannot be matched come here too.
    Absorbed,
}

/// What happened without a message. Each transaction ends with exactly one of the events that say so, except when abandoned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TransactionEvent {
    /// End: no final response in time (timer B or F, or 64*T1 after a CANCEL). To be treated as a 408 (16.8, 8.1.3.1).
    ClientTimeout {
        /// The transaction that ended.
        client: ClientKey,
        /// Its owner.
        owner: u64,
    },
    /// End: the request could not be delivered. To be treated as a 503 (16.9, 8.1.3.1).
    ClientFailed {
        /// The transaction that ended.
        client: ClientKey,
        /// Its owner.
        owner: u64,
    },
    /// End after a final response had been passed up.
    ClientEnded {
        /// The transaction that ended.
        client: ClientKey,
        /// Its owner.
        owner: u64,
    },
    /// No response was given in time: an INVITE has been answered 408, any other request stays without an answer (RFC 4320
    /// section 4.2). The end follows.
    ServerExpired {
        /// The transaction.
        server: ServerKey,
        /// Its owner.
        owner: u64,
    },
    /// End: nobody acknowledged the non-2xx response to an INVITE (timer H).
    AckTimeout {
        /// The transaction that ended.
        server: ServerKey,
        /// Its owner.
        owner: u64,
    },
    /// End.
    ServerEnded {
        /// The transaction that ended.
        server: ServerKey,
        /// Its owner.
        owner: u64,
    },
}

/// No room for another transaction: answer 503 with Retry-After, statelessly.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Overload {
    /// [`TransactionConfig::max_transactions`] is reached.
    #[error("expected fewer than {limit} transactions at once")]
    Transactions {
        /// How many there may be.
        limit: usize,
    },
    /// [`TransactionConfig::max_kept_bytes`] is reached.
    #[error("expected transactions to keep less than {limit} bytes of messages")]
    Bytes {
        /// How many there may be.
        limit: usize,
    },
}

impl Overload {
    /// The status that answers it.
    #[must_use]
    pub fn status(self) -> u16 {
        503
    }
}

/// All transactions of one worker.
#[derive(Debug)]
pub struct Transactions {
    config: TransactionConfig,
    matcher: Matcher,
    branches: BranchMint,
    transactions: Slab<Box<Transaction>>,
    /// Counts transactions; makes keys and branches unique.
    serial: u32,
    servers: ServerMap,
    /// By Call-ID, From tag and CSeq, to notice merged requests.
    merges: ServerMap,
    peers: Peers,
    timers: TimerWheel<u32>,
    events: VecDeque<TransactionEvent>,
    /// Bytes of messages that are kept.
    kept: usize,
    /// For looking into kept bytes.
    scratch: Index,
}

impl Transactions {
    /// No transactions. `secret` must be random and new at each start, lest branches of an earlier run be used again.
    #[must_use]
    pub fn new(config: TransactionConfig, secret: [u8; 16]) -> Self {
        Self {
            matcher: Matcher::new(secret),
            branches: BranchMint::new(config.worker, secret),
            transactions: Slab::new(),
            serial: 0,
            servers: ServerMap::default(),
            merges: ServerMap::default(),
            peers: Peers::default(),
            timers: TimerWheel::new(),
            events: VecDeque::new(),
            kept: 0,
            scratch: Index::new(),
            config,
        }
    }

    /// Takes a validated message that came by `flow`.
    pub fn receive(&mut self, now: Instant, m: Message<'_>, flow: &Flow, out: &mut Outbox) -> Received {
        if !m.is_request() {
            return self.receive_response(now, m, flow, out);
        }
        match m.method() {
            Method::Ack => self.receive_ack(now, m),
            Method::Cancel => self.receive_cancel(m, flow, out),
            method => {
                let Some(key) = self.matcher.key(&m, method) else {
                    return Received::Absorbed;
                };
                match self.servers.find(key) {
                    Some(slot) => {
                        self.repeat_response(slot, out);
                        Received::Absorbed
                    }
                    None => Received::NewRequest(self.new_request(key, &m)),
                }
            }
        }
    }

    /// Makes a server transaction of a request that [`receive`](Self::receive) called new. Its bytes are copied. Responses go
    /// back by `flow`.
    pub fn accept(
        &mut self,
        now: Instant,
        mut request: NewRequest,
        m: Message<'_>,
        flow: &Flow,
        owner: u64,
    ) -> Result<ServerKey, Overload> {
        request.merge = request.merge.or_else(|| self.matcher.merge_key(&m));
        let invite = m.method() == Method::Invite;
        let server = ServerTransaction::new(&self.config, now, &request, m.bytes(), invite, flow);
        let key = self.insert(owner, Machine::Server(server))?;
        self.servers.insert(request.key, key.slot);
        if let Some(merge) = request.merge {
            self.merges.insert(merge, key.slot);
        }
        self.arm(now, key.slot);
        Ok(ServerKey(key))
    }

    /// Sends a response, written whole, and keeps it for retransmission where needed. `status` is its status.
    ///
    /// Returns false and sends nothing if the transaction is over, has its final response already (further 2xx to an INVITE
    /// excepted, RFC 6026), or the response must not be sent to a non-INVITE request (RFC 4320): a provisional one other than
    /// 100, or 408, which ends the transaction in silence.
    pub fn respond(
        &mut self,
        now: Instant,
        key: ServerKey,
        status: u16,
        response: &[u8],
        out: &mut Outbox,
    ) -> bool {
        self.respond_with(now, key, status, |bytes| bytes.extend_from_slice(response), out)
    }

    /// As [`respond`](Self::respond), with the response written straight into the outbox.
    pub fn respond_with(
        &mut self,
        now: Instant,
        key: ServerKey,
        status: u16,
        write: impl FnOnce(&mut Vec<u8>),
        out: &mut Outbox,
    ) -> bool {
        let Some(server) = server_mut(&mut self.transactions, key) else {
            return false;
        };
        let permitted = server.permits(status);
        if permitted {
            out.push_with(&server.flow, write);
            server.responded(&self.config, now, status, last_message(out));
        } else {
            server.refused(status);
        }
        self.settle(now, key.0.slot);
        permitted
    }

    /// Makes a client transaction and sends its request by `flow`. `write` gets the branch to put into the top Via and appends
    /// the whole request. `loop_hash` comes back from [`Branch::loop_hash`] when the request returns in a circle (RFC 5393).
    /// ACK is no transaction: it goes straight into the outbox, with a [`stateless_branch`](Self::stateless_branch).
    pub fn send(
        &mut self,
        now: Instant,
        flow: &Flow,
        method: Method<'_>,
        loop_hash: u32,
        owner: u64,
        write: impl FnOnce(&str, &mut Vec<u8>),
        out: &mut Outbox,
    ) -> Result<ClientKey, Overload> {
        debug_assert!(method != Method::Ack, "an ACK has no transaction");
        let client = ClientTransaction::new(&self.config, now, method, flow);
        let key = self.insert(owner, Machine::Client(client))?;
        let peer = self.matcher.seed(&peer_bytes(flow));
        self.peers.link(&mut self.transactions, peer, key.slot);
        let branch = self.branches.mint(key.slot, key.serial, loop_hash);
        let before = out.len();
        out.push_with(flow, |bytes| write(branch.as_str(), bytes));
        if let Some(client) = client_mut(&mut self.transactions, ClientKey(key))
            && out.len() > before
        {
            client.keep_request(last_message(out));
        }
        self.arm(now, key.slot);
        Ok(ClientKey(key))
    }

    /// Cancels an INVITE: at once if a provisional response has come, when one comes otherwise (9.1), never after a final one.
    /// `reason` is the value of a Reason header field (RFC 3326). Does nothing for other requests.
    pub fn cancel(&mut self, now: Instant, key: ClientKey, reason: Option<&str>, out: &mut Outbox) {
        let Some(client) = client_mut(&mut self.transactions, key) else {
            return;
        };
        if client.want_cancel(reason) {
            self.send_cancel(now, key.0.slot, out);
            self.settle(now, key.0.slot);
        }
    }

    /// Forgets a client transaction at once and without an event: late responses become stray ones.
    pub fn abandon(&mut self, key: ClientKey) {
        if client_mut(&mut self.transactions, key).is_some() {
            self.remove(key.0.slot);
        }
    }

    /// The request could not be sent. Ends the transaction with [`TransactionEvent::ClientFailed`] if it still waits for a
    /// final response.
    pub fn transport_failed(&mut self, key: ClientKey) {
        let Some(client) = client_mut(&mut self.transactions, key) else {
            return;
        };
        if client.awaits_final() {
            let owner = self.remove(key.0.slot);
            self.events
                .push_back(TransactionEvent::ClientFailed { client: key, owner });
        }
    }

    /// As [`transport_failed`](Self::transport_failed) for every request under way to that peer: an ICMP error (without a
    /// connection, by address) or a connection that broke or could not be made.
    pub fn flow_failed(&mut self, flow: &Flow) {
        let mut keys = Vec::new();
        let mut next = self.peers.first(self.matcher.seed(&peer_bytes(flow)));
        while let Some(slot) = next {
            let Some(transaction) = self.transactions.get(slot as usize) else {
                break;
            };
            let Machine::Client(client) = &transaction.machine else {
                break;
            };
            if client.awaits_final() && client.uses(flow) {
                keys.push(ClientKey(Key {
                    slot,
                    serial: transaction.serial,
                }));
            }
            next = client.links.next();
        }
        for key in keys {
            self.transport_failed(key);
        }
    }

    /// The request of a server transaction, until its final response has been sent.
    pub fn request(&mut self, key: ServerKey) -> Option<Message<'_>> {
        let Machine::Server(server) = &lookup(&self.transactions, key.0)?.machine else {
            return None;
        };
        let bytes = server.request.as_deref()?;
        self.scratch.parse(bytes).ok()?;
        Some(Message::new(bytes, &self.scratch))
    }

    /// Where the request of a server transaction came from.
    #[must_use]
    pub fn flow(&self, key: ServerKey) -> Option<&Flow> {
        self.server(key).map(|server| &server.flow)
    }

    /// Where the request of a client transaction went.
    #[must_use]
    pub fn client_flow(&self, key: ClientKey) -> Option<&Flow> {
        match &lookup(&self.transactions, key.0)?.machine {
            Machine::Client(client) => Some(&client.flow),
            Machine::Server(_) => None,
        }
    }

    /// Whether the request still waits for its final response.
    #[must_use]
    pub fn awaits_final(&self, key: ServerKey) -> bool {
        self.server(key).is_some_and(ServerTransaction::awaits_final)
    }

    /// The tag for To in responses of one's own to that request; the same as [`NewRequest::tag`].
    #[must_use]
    pub fn tag(&self, key: ServerKey) -> Option<Tag> {
        self.server(key).map(|server| self.matcher.tag(server.key))
    }

    /// Whose event it will be.
    pub fn set_owner(&mut self, key: ServerKey, owner: u64) {
        if server_mut(&mut self.transactions, key).is_some() {
            self.transactions[key.0.slot as usize].owner = owner;
        }
    }

    /// The owner of a server transaction.
    #[must_use]
    pub fn owner(&self, key: ServerKey) -> Option<u64> {
        self.server(key)?;
        lookup(&self.transactions, key.0).map(|t| t.owner)
    }

    /// A branch for a request without a transaction: the same again for the same `seed`, which is what a retransmission of the
    /// request keeps (16.11), such as the bytes of its top Via.
    #[must_use]
    pub fn stateless_branch(&self, seed: &[u8], loop_hash: u32) -> Branch {
        self.branches.stateless(self.matcher.seed(seed), loop_hash)
    }

    /// The worker that minted a branch, if it looks like one of this service's.
    #[must_use]
    pub fn branch_worker(branch: &str) -> Option<u8> {
        Branch::parse(branch).map(|branch| branch.worker())
    }

    /// What happened since; call until `None`.
    pub fn poll_event(&mut self) -> Option<TransactionEvent> {
        self.events.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Fires every timer that is due: retransmits, and ends what is over.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut Outbox) {
        while let Some(slot) = self.timers.pop(now) {
            self.fire(now, slot, out);
        }
    }

    /// How many transactions there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.transactions.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.transactions.is_empty()
    }

    /// Bytes of messages that are kept.
    #[must_use]
    pub fn kept_bytes(&self) -> usize {
        self.kept
    }
}

/// What a transaction costs besides the message bytes it keeps.
pub const TRANSACTION_BYTES: usize = 320;

/// The message that was written last.
fn last_message(out: &Outbox) -> &[u8] {
    match out.len() {
        0 => &[],
        len => out.get(len - 1).1,
    }
}

#[cfg(test)]
mod tests;
