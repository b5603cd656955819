//! The proxy (RFC 3261 section 16): forwards requests over one or several branches, collects their responses in a
//! [`Context`], and sends back what 16.7 says.
//!
//! [`Switch::start`] begins with a request outside a dialog and its targets, [`Switch::start_in_dialog`] with one inside;
//! [`Switch::proxy_response`], [`Switch::transaction_event`] and [`Switch::cancelled`] bring it to its end. How a message is
//! changed on its way is in [`forward`](crate::forward), how the next hop is found in [`next_hop`](crate::next_hop). Timer C is
//! kept by the transactions.

use std::time::{Duration, Instant};

use sip::transaction::{ClientKey, NewRequest, ServerKey, TransactionEvent};
use sip::{Flow, HeaderId, Message, MessageBuf, Method, Response};
use smallvec::SmallVec;

use crate::arena::{Arena, Key};
use crate::call::{Call, NOBODY};
use crate::context::{Branch, BranchState, Context, Target};
use crate::route::Route;
use crate::switch::Switch;
use crate::token::Token;

/// Most branches of one context: the owner of a transaction has 8 bits for the branch.
pub(crate) const MAX_BRANCHES: usize = 255;

impl Switch {
    /// Forwards a request outside a dialog to its targets, all at once.
    pub(crate) fn start(
        &mut self,
        now: Instant,
        flow: &Flow,
        m: Message<'_>,
        route: &Route<'_>,
        new: NewRequest,
        mut targets: SmallVec<[Target; 1]>,
    ) {
        targets.truncate(self.shared.config.max_targets.min(MAX_BRANCHES));
        if (self.breadth(m) as usize) < targets.len() {
            // RFC 5393 5.3.3: no room for so many branches.
            let tag = new.tag();
            let response = Response::new(m, 440)
                .reason("Max-Breadth Exceeded")
                .to_tag(tag.as_str());
            return self.answer(flow, response);
        }
        if let Some(key) = self.open_initial(now, flow, m, new, targets) {
            self.launch_all(now, key, m, route);
        }
    }

    /// Answers an INVITE that can go nowhere, within a transaction: its call gets one record, however often it is sent.
    pub(crate) fn start_refused(
        &mut self,
        now: Instant,
        flow: &Flow,
        m: Message<'_>,
        new: NewRequest,
        status: u16,
    ) {
        if let Some(key) = self.open_initial(now, flow, m, new, SmallVec::new()) {
            if let Some(context) = self.contexts.get_mut(key) {
                context.offer_best(status, None);
            }
            self.conclude(now, key);
        }
    }

    /// Forwards a request inside a dialog.
    pub(crate) fn start_in_dialog(
        &mut self,
        now: Instant,
        flow: &Flow,
        m: Message<'_>,
        route: &Route<'_>,
        new: NewRequest,
        token: &Token,
        target: Target,
    ) {
        let call = self.call_of(m, token);
        let Some((key, server)) = self.open(now, flow, m, new, SmallVec::from_iter([target])) else {
            return;
        };
        if let (Some(call), Some(context)) = (call, self.contexts.get_mut(key)) {
            context.call = Some(call);
        }
        match (m.method(), call) {
            (Method::Invite, _) => self.trying(now, server, m, flow),
            (Method::Bye, Some(call)) => self.note_bye(now, call, m),
            _ => {}
        }
        if let Some(call) = call {
            self.note_request(call, flow, m);
        }
        self.launch_all(now, key, m, route);
    }

    fn open_initial(
        &mut self,
        now: Instant,
        flow: &Flow,
        m: Message<'_>,
        new: NewRequest,
        targets: SmallVec<[Target; 1]>,
    ) -> Option<Key<Context>> {
        let invite = m.method() == Method::Invite;
        if invite && self.calls.len() >= self.shared.config.max_calls {
            self.overloaded(flow, m);
            return None;
        }
        let (key, server) = self.open(now, flow, m, new, targets)?;
        let context = self.contexts.get_mut(key)?;
        context.initial = true;
        if invite {
            context.call = Some(self.calls.insert(Call::new(
                m,
                flow,
                self.clock.unix_ms(now),
                &self.shared.directory,
            )));
            if !context.targets.is_empty() {
                self.trying(now, server, m, flow);
            }
        }
        Some(key)
    }

    /// Opens the server transaction and the response context. Answers 503 itself when there is no room.
    fn open(
        &mut self,
        now: Instant,
        flow: &Flow,
        m: Message<'_>,
        new: NewRequest,
        targets: SmallVec<[Target; 1]>,
    ) -> Option<(Key<Context>, ServerKey)> {
        let Ok(server) = self.transactions.accept(now, new, m, flow, NOBODY) else {
            self.overloaded(flow, m);
            return None;
        };
        // A request that may have to be sent a second time, elsewhere, is kept.
        let retry = targets.iter().any(|target| target.flow.is_none());
        let key = self.contexts.insert(Context {
            server,
            flow: *flow,
            invite: m.method() == Method::Invite,
            call: None,
            initial: false,
            branches: SmallVec::new(),
            targets,
            best: None,
            finished: None,
            cancelled: false,
            request: retry.then(|| Box::new(MessageBuf::from_message(m))),
        });
        self.transactions.set_owner(server, key.to_u64());
        Some((key, server))
    }

    fn launch_all(&mut self, now: Instant, key: Key<Context>, m: Message<'_>, route: &Route<'_>) {
        let count = self.contexts.get(key).map_or(0, |context| context.targets.len());
        for position in 0..count {
            self.launch(now, key, position as u8, m, route);
        }
        self.conclude(now, key);
    }

    /// Starts one branch: at once where the flow is known, after the DNS was asked where it is not.
    fn launch(&mut self, now: Instant, key: Key<Context>, position: u8, m: Message<'_>, route: &Route<'_>) {
        let Some(context) = self.contexts.get_mut(key) else {
            return;
        };
        let state = BranchState::Resolving;
        context.branches.push(Branch {
            client: None,
            state,
            resolution: None,
            address: None,
            last: None,
            media: None,
        });
        match context.targets[usize::from(position)].flow {
            Some(flow) => self.send_branch(now, key, position, m, route, &flow),
            None => self.resolve_target(now, key, position, m, route),
        }
    }

    /// A response came to one of our client transactions.
    pub(crate) fn proxy_response(
        &mut self,
        now: Instant,
        flow: &Flow,
        m: Message<'_>,
        client: ClientKey,
        owner: u64,
    ) {
        let (key, position) = split_owner(owner);
        let Some(context) = self.contexts.get_mut(key) else {
            if owner != NOBODY && m.method() == Method::Invite && (200..300).contains(&m.status()) {
                self.dismiss(now, flow, m);
            }
            return;
        };
        let Some(branch) = context.branches.get_mut(usize::from(position)) else {
            return;
        };
        if branch.client != Some(client) {
            // A late answer from an address that was given up in favour of the next one.
            return;
        }
        match m.status() {
            100 => branch.state = branch.state.max(BranchState::Proceeding),
            101..200 => {
                branch.state = branch.state.max(BranchState::Proceeding);
                if context.finished.is_none() {
                    self.note_response(now, key, position, flow, m);
                    self.forward_response(now, key, position, flow, m);
                }
            }
            200..300 => self.success(now, key, position, flow, m),
            503 if self.try_next_address(now, key, position, 503, retry_after(m)) => {}
            _ => self.failure(now, key, position, m),
        }
        self.conclude(now, key);
    }

    fn success(&mut self, now: Instant, key: Key<Context>, position: u8, flow: &Flow, m: Message<'_>) {
        let Some(context) = self.contexts.get_mut(key) else {
            return;
        };
        context.branches[usize::from(position)].state = BranchState::Done;
        match context.finished {
            None => {
                context.finished = Some(m.status());
                self.note_response(now, key, position, flow, m);
                self.cancel_others(
                    now,
                    key,
                    Some(position),
                    "SIP;cause=200;text=\"Call completed elsewhere\"",
                );
                self.forward_response(now, key, position, flow, m);
            }
            // The 2xx again, or that of a second phone that was picked up at the same moment (RFC 3261 16.7 step 5).
            Some(200..300) if context.invite => self.forward_response(now, key, position, flow, m),
            Some(_) if context.invite => self.dismiss(now, flow, m),
            Some(_) => {}
        }
    }

    fn failure(&mut self, now: Instant, key: Key<Context>, position: u8, m: Message<'_>) {
        let status = m.status();
        self.media_of_failure(key, position, m);
        let bytes = self.returned(m);
        let Some(context) = self.contexts.get_mut(key) else {
            return;
        };
        let branch = &mut context.branches[usize::from(position)];
        if branch.state == BranchState::Done {
            return;
        }
        branch.state = BranchState::Done;
        context.offer_best(status, Some(bytes));
        if matches!(status, 401 | 407) {
            context.add_challenges(m);
        }
        if status >= 600 {
            self.cancel_others(
                now,
                key,
                Some(position),
                "SIP;cause=603;text=\"Declined elsewhere\"",
            );
        }
    }

    /// A branch ends without a response of its own, as if it had been `status`.
    pub(crate) fn branch_done(&mut self, key: Key<Context>, position: u8, status: u16) {
        self.media_of_silence(key, position);
        let Some(context) = self.contexts.get_mut(key) else {
            return;
        };
        let Some(branch) = context.branches.get_mut(usize::from(position)) else {
            return;
        };
        if branch.state != BranchState::Done {
            branch.state = BranchState::Done;
            context.offer_best(status, None);
        }
    }

    /// What the transactions have to say.
    pub(crate) fn transaction_event(&mut self, now: Instant, event: TransactionEvent) {
        match event {
            TransactionEvent::ClientTimeout { client, owner } => self.branch_failed(now, client, owner, 408),
            // RFC 3261 16.9 says 503, which would make the caller avoid us; and it is the telephone that is out of reach.
            TransactionEvent::ClientFailed { client, owner } => self.branch_failed(now, client, owner, 480),
            // The layer has answered 408 by itself, or nobody wants an answer any more.
            TransactionEvent::ServerExpired { owner, .. } => {
                let key = Key::from_u64(owner);
                if let Some(context) = self.contexts.get_mut(key)
                    && context.finished.is_none()
                {
                    context.finished = Some(408);
                    self.note_failure(now, key, 408, crate::EndedBy::Service, None);
                    self.cancel_others(now, key, None, "SIP;cause=408;text=\"Request timeout\"");
                }
            }
            TransactionEvent::AckTimeout { owner, .. } | TransactionEvent::ServerEnded { owner, .. } => {
                self.contexts.remove(Key::from_u64(owner));
            }
            _ => {}
        }
    }

    /// Nobody answered at the address in use, or it cannot be reached: the next one (RFC 3263 4.3), or the branch has failed.
    fn branch_failed(&mut self, now: Instant, client: ClientKey, owner: u64, status: u16) {
        let (key, position) = split_owner(owner);
        let branch = self
            .contexts
            .get(key)
            .and_then(|context| context.branches.get(usize::from(position)));
        let current = branch.is_some_and(|b| b.client == Some(client) && b.state != BranchState::Done);
        if current {
            if !self.try_next_address(now, key, position, status, None) {
                self.branch_done(key, position, status);
            }
            self.conclude(now, key);
        }
    }

    /// Sends the final response once there is nothing left to wait for.
    pub(crate) fn conclude(&mut self, now: Instant, key: Key<Context>) {
        let Some(context) = self.contexts.get_mut(key) else {
            return;
        };
        if context.finished.is_some() || !context.is_exhausted() {
            return;
        }
        let best = context.best.take();
        // Whoever cancelled is told 487, whatever silence his phones ended in.
        let silence = best
            .as_ref()
            .is_none_or(|best| matches!(best.status, 408 | 480 | 503));
        if context.cancelled && silence {
            return self.respond_ourselves(now, key, 487);
        }
        match best {
            Some(best) => self.final_response(now, key, best),
            None => self.respond_ourselves(now, key, 500),
        }
    }

    /// The caller gave up (RFC 3261 16.10).
    pub(crate) fn cancelled(&mut self, now: Instant, cancel: Message<'_>, invite: ServerKey) {
        let Some(owner) = self.transactions.owner(invite) else {
            return;
        };
        let key = Key::from_u64(owner);
        let Some(context) = self.contexts.get_mut(key) else {
            return;
        };
        if context.finished.is_some() {
            return;
        }
        context.cancelled = true;
        // The caller's own Reason goes on to the phones (RFC 3326).
        let reason = cancel.value(HeaderId::Reason).ok().flatten();
        self.cancel_others(
            now,
            key,
            None,
            reason.unwrap_or("SIP;cause=487;text=\"Originator cancel\""),
        );
        self.conclude(now, key);
    }

    /// The service gives up an INVITE that nobody has answered: as if its caller had cancelled, but he is told 503.
    pub(crate) fn give_up(&mut self, now: Instant, key: Key<Context>, reason: &str) {
        let header = format!("SIP;cause=503;text=\"{reason}\"");
        self.cancel_others(now, key, None, &header);
        self.note_failure(now, key, 503, crate::EndedBy::Service, Some(reason.into()));
        self.respond_ourselves(now, key, 503);
    }

    /// Cancels the branches that are still open, except one. Where nothing was heard yet, the transaction holds the CANCEL back
    /// until the phone answers, and the caller need not wait for that; but inside a dialog he does, since a 2xx that crosses
    /// cannot be undone by hanging up.
    fn cancel_others(&mut self, now: Instant, key: Key<Context>, except: Option<u8>, reason: &str) {
        let Some(context) = self.contexts.get_mut(key) else {
            return;
        };
        if !context.invite {
            return;
        }
        let mut silent = SmallVec::<[u8; 4]>::new();
        for (position, branch) in context.branches.iter().enumerate() {
            let position = position as u8;
            if Some(position) == except || branch.state == BranchState::Done {
                continue;
            }
            if let Some(client) = branch.client {
                self.transactions
                    .cancel(now, client, Some(reason), &mut self.outbox);
            }
            match branch.state {
                BranchState::Resolving => silent.push(position),
                BranchState::Calling if context.initial => silent.push(position),
                _ => {}
            }
        }
        for position in silent {
            self.branch_done(key, position, 487);
        }
    }

    fn overloaded(&mut self, flow: &Flow, m: Message<'_>) {
        let tag = format!("{:08x}", self.loop_hash(m));
        self.answer(
            flow,
            Response::new(m, 503)
                .to_tag(&tag)
                .header(HeaderId::RetryAfter, RETRY_AFTER),
        );
    }
}

fn retry_after(m: Message<'_>) -> Option<Duration> {
    let seconds = m.retry_after().ok().flatten()?;
    Some(Duration::from_secs(seconds.into()))
}

/// The owner of a branch's client transaction.
pub(crate) fn owner_of(key: Key<Context>, position: u8) -> u64 {
    key.to_u64() | u64::from(position) << BRANCH_SHIFT
}

fn split_owner(owner: u64) -> (Key<Context>, u8) {
    (
        Key::from_u64(owner & ((1 << BRANCH_SHIFT) - 1)),
        (owner >> BRANCH_SHIFT) as u8,
    )
}

/// Runs `change` on a branch, if it is still there.
pub(crate) fn with_branch(
    contexts: &mut Arena<Context>,
    key: Key<Context>,
    position: u8,
    change: impl FnOnce(&mut Branch),
) {
    if let Some(branch) = contexts
        .get_mut(key)
        .and_then(|context| context.branches.get_mut(usize::from(position)))
    {
        change(branch);
    }
}

/// An arena's key leaves these bits free.
const BRANCH_SHIFT: u32 = 56;

/// Seconds after which somebody turned away may come again.
const RETRY_AFTER: &str = "5";
