//! The switch of one signalling worker: every message goes in here, every decision comes out.
//!
//! Call one of the `handle_…` methods with what happened, then send what [`Switch::outbox`] holds, in order, and clear it; then
//! take [`Switch::poll_event`] until it is empty; then wait until [`Switch::poll_timeout`] and call [`Switch::handle_timeout`].
//! A switch shares the [`Directory`] and the [`Location`] with those of the other workers,
//! and nothing else: what belongs to another worker comes out as [`Event::HandOver`].

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use hashbrown::HashMap;
use media::SessionId;
use sip::resolve::FailedTargets;
use sip::timer::{TimerId, TimerWheel};
use sip::transaction::{TransactionConfig, Transactions};
use sip::{Edits, Flow, Index, Message, Outbox};

use crate::arena::{Arena, Key};
use crate::auth::{AuthShared, Authenticator};
use crate::call::Call;
use crate::config::Config;
use crate::context::Context;
use crate::directory::Directory;
use crate::event::{Change, DnsId, Event, Ticket};
use crate::keepalive::Keepalive;
use crate::location::Location;
use crate::record::CallInfo;
use crate::registrar::{BindingChange, Registrar, RegistrarConfig};

/// What all workers of a service share.
pub struct Shared {
    /// The settings.
    pub config: Config,
    /// Settings of the registrar.
    pub registrar: RegistrarConfig,
    /// The accounts and domains.
    pub directory: Arc<Directory>,
    /// The bindings.
    pub location: Arc<Location>,
    /// Who may do what.
    pub auth: Arc<AuthShared>,
    /// How many workers there are.
    pub workers: u8,
    /// Keys what phones carry for us: tokens and tags. It has to outlive a restart for dialogs to go on.
    pub secret: [u8; 16],
}

/// The switch of one worker.
pub struct Switch {
    pub(crate) shared: Arc<Shared>,
    pub(crate) worker: u8,
    pub(crate) clock: Clock,
    pub(crate) ports: Box<dyn media::RelayPorts + Send>,
    pub(crate) transactions: Transactions,
    pub(crate) contexts: Arena<Context>,
    pub(crate) calls: Arena<Call>,
    /// The calls to the user agents inside the service, by what they call them.
    pub(crate) local_sessions: HashMap<SessionId, Key<Call>>,
    pub(crate) timers: TimerWheel<TimerKey>,
    pub(crate) outbox: Outbox,
    pub(crate) events: VecDeque<Event>,
    pub(crate) lookups: HashMap<DnsId, Lookup>,
    pub(crate) failed_targets: FailedTargets,
    pub(crate) auth: Authenticator,
    pub(crate) scratch: Scratch,
    registrar: Registrar,
    keepalive: Keepalive,
    tickets: HashMap<Ticket, Waiting>,
    pub(crate) counter: u64,
    /// The worker that the message at hand came to from the network.
    pub(crate) first: u8,
    seed: [u8; 16],
    /// In a box, so that it can be taken out and put back at no cost; never empty in between.
    index: Option<Box<Index>>,
}

/// What the timers of the switch are for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TimerKey {
    /// A lookup took too long.
    Lookup(DnsId),
    /// A call's end waited long enough for the relay's counters and the store.
    Ending(Key<Call>),
    /// A call lasts too long.
    Longest(Key<Call>),
}

/// A question to the DNS that is open.
pub(crate) struct Lookup {
    pub(crate) context: Key<Context>,
    pub(crate) position: u8,
    pub(crate) query: sip::resolve::Query,
    pub(crate) timer: TimerId,
}

/// What waits for the store.
pub(crate) enum Waiting {
    /// The answer of a REGISTER.
    Register {
        flow: Flow,
        response: Vec<u8>,
        changes: Arc<[BindingChange]>,
    },
    /// The end of a call.
    Record(Key<Call>),
}

/// Buffers that are reused from message to message.
#[derive(Default)]
pub(crate) struct Scratch {
    pub(crate) edits: Edits,
    pub(crate) bytes: Vec<u8>,
    pub(crate) body: Vec<u8>,
}

/// Ties [`Instant`]s to the calendar.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Some moment,
    pub instant: Instant,
    /// and what it is in Unix milliseconds.
    pub unix_ms: u64,
}

impl Clock {
    /// Unix milliseconds at `now`.
    pub fn unix_ms(&self, now: Instant) -> u64 {
        match now.checked_duration_since(self.instant) {
            Some(since) => self.unix_ms + since.as_millis() as u64,
            None => self
                .unix_ms
                .saturating_sub(self.instant.duration_since(now).as_millis() as u64),
        }
    }

    /// Unix seconds at `now`.
    pub fn unix(&self, now: Instant) -> u64 {
        self.unix_ms(now) / 1000
    }
}

impl Switch {
    /// A switch for worker number `worker`. `seed` is random, new at each start, and differs from worker to worker.
    pub fn new(
        shared: Arc<Shared>,
        worker: u8,
        clock: Clock,
        ports: Box<dyn media::RelayPorts + Send>,
        seed: [u8; 16],
    ) -> Self {
        let transactions = TransactionConfig {
            worker,
            max_transactions: shared.config.max_transactions,
            timer_c: shared.config.timer_c,
            invite_patience: shared.config.timer_c + INVITE_MARGIN,
            ..TransactionConfig::default()
        };
        let registrar = Registrar::new(
            shared.registrar.clone(),
            Arc::clone(&shared.directory),
            Arc::clone(&shared.location),
            worker,
            shared.workers,
            clock.instant,
        );
        Switch {
            worker,
            clock,
            ports,
            transactions: Transactions::new(transactions, seed),
            contexts: Arena::new(),
            calls: Arena::new(),
            local_sessions: HashMap::new(),
            timers: TimerWheel::new(),
            outbox: Outbox::new(),
            events: VecDeque::new(),
            lookups: HashMap::new(),
            failed_targets: FailedTargets::new(FAILED_TARGETS),
            auth: Authenticator::new(Arc::clone(&shared.auth), Arc::clone(&shared.directory), worker),
            scratch: Scratch::default(),
            registrar,
            keepalive: Keepalive::new(
                shared.config.keepalive.clone(),
                Arc::clone(&shared.location),
                worker,
                shared.workers,
                clock.instant,
                u64::from_ne_bytes([
                    seed[0], seed[1], seed[2], seed[3], seed[4], seed[5], seed[6], seed[7],
                ]),
            ),
            tickets: HashMap::new(),
            counter: 0,
            first: worker,
            seed,
            index: None,
            shared,
        }
    }

    /// A message came over `flow`.
    pub fn handle_message(&mut self, now: Instant, flow: &Flow, bytes: &[u8]) {
        self.handle_handed_over(now, flow, bytes, self.worker);
    }

    /// A message came over `flow` to the worker `first`, and was handed over to this one.
    pub fn handle_handed_over(&mut self, now: Instant, flow: &Flow, bytes: &[u8], first: u8) {
        self.first = first;
        let mut index = self.index.take().unwrap_or_default();
        let parsed = index.parse(bytes);
        let m = Message::new(bytes, &index);
        match parsed {
            Ok(()) => self.message(now, flow, m),
            Err(error) if m.is_answerable() => self.refuse(flow, m, error.status(), None),
            Err(_) => {}
        }
        self.index = Some(index);
        self.settle(now);
    }

    /// A flow turned out to be dead: the peer's port is closed, its host unreachable, the connection gone or refused.
    pub fn handle_flow_failed(&mut self, now: Instant, flow: &Flow) {
        self.transactions.flow_failed(flow);
        if let Some(connection) = flow.connection {
            let mut removed = Vec::new();
            self.shared.location.remove_flow(connection, &mut removed);
            self.forget_bindings(removed);
        }
        self.settle(now);
    }

    /// The store has written what the ticket stands for, or could not.
    pub fn handle_stored(&mut self, now: Instant, ticket: Ticket, stored: bool) {
        match self.tickets.remove(&ticket) {
            Some(Waiting::Register {
                flow,
                mut response,
                changes,
            }) => {
                self.registrar.stored(&changes, stored, &mut response);
                self.outbox.push(&flow, &response);
            }
            Some(Waiting::Record(call)) => self.record_stored(now, call),
            None => {}
        }
        self.settle(now);
    }

    /// What is to be sent, in order.
    pub fn outbox(&mut self) -> &mut Outbox {
        &mut self.outbox
    }

    /// The next thing that the world around is asked for.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Switch::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let timers = [
            self.transactions.poll_timeout(),
            self.timers.next(),
            Some(self.registrar.poll_timeout()),
            self.keepalive.poll_timeout(),
        ];
        timers.into_iter().flatten().min()
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.transactions.handle_timeout(now, &mut self.outbox);
        while let Some(timer) = self.timers.pop(now) {
            match timer {
                TimerKey::Lookup(id) => self.handle_dns(now, id, sip::resolve::Answer::Failed),
                TimerKey::Ending(call) => self.ending_timeout(now, call),
                TimerKey::Longest(call) => self.hang_up_both(now, call, "longest duration of a call reached"),
            }
        }
        let removed = self.registrar.handle_timeout(now, self.clock.unix(now)).collect();
        self.forget_bindings(removed);
        self.keepalive
            .handle_timeout(now, self.clock.unix(now), &mut self.outbox);
        self.settle(now);
    }

    /// Ends every call, with a reason for people: an answered one with a BYE to both sides; one that is not answered yet is
    /// cancelled, and its caller told 503.
    pub fn hang_up_all(&mut self, now: Instant, reason: &str) {
        let calls: Vec<_> = self.calls.iter().map(|(key, _)| key).collect();
        for call in calls {
            self.hang_up_both(now, call, reason);
        }
        let unanswered = self
            .contexts
            .iter()
            .filter(|(_, context)| context.is_unanswered());
        let unanswered: Vec<_> = unanswered.map(|(key, _)| key).collect();
        for context in unanswered {
            self.give_up(now, context, reason);
        }
        self.settle(now);
    }

    /// The calls that are up or being set up.
    pub fn calls(&self) -> impl Iterator<Item = CallInfo> + '_ {
        self.calls.iter().map(|(_, call)| call.info(&self.clock))
    }

    /// What the worker holds: transactions, calls.
    pub fn load(&self) -> (usize, usize) {
        (self.transactions.len(), self.calls.len())
    }

    /// All that is under way, requests and writes among it: 0 when nothing goes on.
    pub fn pending(&self) -> usize {
        self.transactions.len()
            + self.calls.len()
            + self.contexts.len()
            + self.tickets.len()
            + self.lookups.len()
    }

    /// Asks the packet side for its counters; [`Switch::calls`] has them once its reports have come.
    pub fn ask_for_counters(&mut self) {
        let streams: Vec<_> = self
            .calls
            .iter()
            .filter_map(|(_, call)| call.session.as_ref())
            .flat_map(|s| s.streams())
            .collect();
        self.events.extend(
            streams
                .into_iter()
                .map(|stream| Event::Media(media::Command::Snapshot { stream })),
        );
    }

    /// A REGISTER for this service; `tag` is for its answer.
    pub(crate) fn register(&mut self, now: Instant, flow: &Flow, m: Message<'_>, tag: &str) {
        let unix = self.clock.unix(now);
        let mut response = std::mem::take(&mut self.scratch.bytes);
        response.clear();
        let outcome = self
            .registrar
            .register(unix, m, flow, &mut self.auth, tag, &mut response);
        let nothing_done = outcome.status == 200 && outcome.changes.is_empty();
        let too_early = nothing_done && self.shared.registrar.durable && self.is_being_removed(m);
        if outcome.status == 0 || too_early {
            self.scratch.bytes = response;
            return;
        }
        if outcome.changes.is_empty() {
            self.outbox.push(flow, &response);
            self.scratch.bytes = response;
            return;
        }
        let changes: Arc<[BindingChange]> = outcome.changes.into_vec().into();
        let waiting = Waiting::Register {
            flow: *flow,
            response,
            changes: Arc::clone(&changes),
        };
        self.store(Change::Bindings(changes), Some(waiting));
    }

    /// A binding of the same registration is gone, and its end not stored yet: the REGISTER that ended it, sent again, finds nothing
    /// to do, but must not be told so before it is true for good.
    fn is_being_removed(&self, m: Message<'_>) -> bool {
        let removed = |change: &BindingChange| {
            change.after.is_none()
                && change
                    .before
                    .as_ref()
                    .is_some_and(|before| m.call_id() == Ok(before.call_id()))
        };
        self.tickets.values().any(
            |waiting| matches!(waiting, Waiting::Register { changes, .. } if changes.iter().any(removed)),
        )
    }

    /// Gives something to the store; `waiting` goes on when it is written.
    pub(crate) fn store(&mut self, change: Change, waiting: Option<Waiting>) {
        let ticket = waiting.map(|waiting| {
            let ticket = Ticket(self.next_number());
            self.tickets.insert(ticket, waiting);
            ticket
        });
        self.events.push_back(Event::Store { ticket, change });
    }

    fn forget_bindings(&mut self, removed: Vec<BindingChange>) {
        if !removed.is_empty() && self.shared.registrar.durable {
            self.store(Change::Bindings(removed.into()), None);
        }
    }

    /// A number that was not given before in this worker; never 0.
    pub(crate) fn next_number(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    /// A number that cannot be guessed, for the choice among targets of equal rank.
    pub(crate) fn random(&mut self) -> u64 {
        use std::hash::Hasher;
        let mut hasher = siphasher::sip::SipHasher13::new_with_key(&self.seed);
        hasher.write_u64(self.next_number());
        hasher.finish()
    }

    /// Passes on what the transactions have to say since.
    pub(crate) fn settle(&mut self, now: Instant) {
        while let Some(event) = self.transactions.poll_event() {
            self.transaction_event(now, event);
        }
    }
}

/// Addresses that are remembered to have failed.
const FAILED_TARGETS: usize = 1024;

/// How much longer than timer C a server transaction waits for its branches: they have 64*T1 more to end in.
const INVITE_MARGIN: std::time::Duration = std::time::Duration::from_secs(50);
