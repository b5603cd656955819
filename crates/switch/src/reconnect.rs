//! Telephones that come back over another connection while a dialog goes on (RFC 3261 18.1.1 lets them close and open connections
//! as they like; RFC 5626 calls it flow recovery).
//!
//! A token names the connection that a dialog was set up over. When the telephone has changed to another one, because its
//! network did or its router forgot the old one, there are three signs of it: a request of the dialog itself comes by the new
//! connection ([`Whereabouts::seen`]), its Contact is registered by the new one (`Switch::present_flow`),
//! or the old one fails and the account has exactly one other telephone connection by that name (`Switch::send_again`). UDP
//! flows are addresses and need none of this; they stay as they are.

use std::time::Instant;

use sip::{ConnectionId, Flow, Message, MessageBuf, Uri};
use smallvec::SmallVec;

use crate::arena::Key;
use crate::context::{BranchState, Context};
use crate::location::Binding;
use crate::proxy::with_branch;
use crate::route::Route;
use crate::switch::Switch;
use crate::token::Token;

/// Where one side of a dialog is, as far as its own requests say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Whereabouts {
    /// The flow of its last request, or that of the set-up.
    pub(crate) flow: Flow,
    /// The connection before, which it has left.
    pub(crate) left: Option<ConnectionId>,
}

impl Whereabouts {
    /// At the flow that the dialog was set up over.
    pub(crate) fn new(flow: &Flow) -> Self {
        Whereabouts {
            flow: *flow,
            left: None,
        }
    }

    /// Takes note of a flow that leads to this side. Only a change from connection to connection counts: a large
    /// request may take TCP once and leave the dialog on UDP.
    pub(crate) fn seen(&mut self, flow: &Flow) {
        if let (Some(was), Some(is)) = (self.flow.connection, flow.connection)
            && was != is
        {
            *self = Whereabouts {
                flow: *flow,
                left: Some(was),
            };
        }
    }
}

impl Switch {
    /// The flow to the receiver of a request inside a dialog, which was at `leg` when the dialog was set up.
    pub(crate) fn flow_to_receiver(
        &mut self,
        now: Instant,
        m: Message<'_>,
        route: &Route<'_>,
        token: &Token,
        leg: Flow,
    ) -> Flow {
        if leg.connection.is_none() {
            return leg;
        }
        let call = self.call_of(m, token).and_then(|key| self.calls.get_mut(key));
        let known = call.and_then(|call| call.receiver(m)).copied();
        let known = known.unwrap_or(Whereabouts::new(&leg));
        let address = m.to().map_or("", |to| to.uri);
        self.present_flow(
            now,
            &known,
            address,
            route.strict_target.unwrap_or(m.request_uri()),
        )
    }

    /// The flow to a side of a dialog now: that of its registration, when its Contact `target` has been registered anew by another
    /// connection since.
    pub(crate) fn present_flow(
        &self,
        now: Instant,
        known: &Whereabouts,
        address: &str,
        target: &str,
    ) -> Flow {
        let Some(connection) = known.flow.connection else {
            return known.flow;
        };
        let bindings = self.bindings_of(now, address);
        if bindings.iter().any(|b| b.connection() == Some(connection)) {
            return known.flow;
        }
        bindings
            .iter()
            .find(|b| b.has_contact(target) && b.connection().is_some() && b.connection() != known.left)
            .map_or(known.flow, Binding::flow)
    }

    /// The connection that a request inside a dialog went over has failed: sends it once more, over the one connection by which
    /// the same user of the account is registered now, if there is exactly one.
    pub(crate) fn send_again(&mut self, now: Instant, key: Key<Context>, position: u8) -> bool {
        let Some(context) = self.contexts.get(key) else {
            return false;
        };
        let (Some(target), Some(branch)) = (
            context.targets.get(usize::from(position)),
            context.branches.get(usize::from(position)),
        ) else {
            return false;
        };
        let failed = target.flow.and_then(|flow| flow.connection);
        let over =
            context.initial || context.cancelled || context.finished.is_some() || branch.last.is_some();
        if failed.is_none() || over {
            return false;
        }
        let Some(request) = self
            .transactions
            .request(context.server)
            .map(MessageBuf::from_message)
        else {
            return false;
        };
        let m = request.message();
        let user = user_of(target.uri.as_deref().unwrap_or(m.request_uri()));
        let bindings = self.bindings_of(now, m.to().map_or("", |to| to.uri));
        let mut others = bindings
            .iter()
            .filter(|b| b.connection().is_some() && b.connection() != failed && user_of(b.contact()) == user);
        let (Some(binding), None) = (others.next(), others.next()) else {
            return false;
        };
        let flow = binding.flow();
        self.media_of_silence(key, position);
        if let Some(context) = self.contexts.get_mut(key) {
            context.targets[usize::from(position)].flow = Some(flow);
            let call = context.call.and_then(|call| self.calls.get_mut(call));
            if let Some(receiver) = call.and_then(|call| call.receiver(m)) {
                receiver.seen(&flow);
            }
        }
        with_branch(&mut self.contexts, key, position, |branch| {
            branch.client = None;
            branch.last = Some(480);
            branch.state = BranchState::Resolving;
        });
        let shared = std::sync::Arc::clone(&self.shared);
        let route = Route::of(m, &shared.directory, &shared.secret);
        self.send_branch(now, key, position, m, &route, &flow);
        true
    }

    fn bindings_of(&self, now: Instant, address: &str) -> SmallVec<[Binding; 2]> {
        Uri::parse(address)
            .ok()
            .and_then(|uri| self.shared.directory.address_of_record(&uri))
            .map(|aor| self.shared.location.lookup(aor.as_str(), self.clock.unix(now)))
            .unwrap_or_default()
    }
}

fn user_of(uri: &str) -> Option<&str> {
    Uri::parse(uri).ok()?.user
}
