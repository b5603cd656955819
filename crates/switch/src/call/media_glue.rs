//! The media of a call: each message with a session description, or that might bring one about, passes through the call's
//! [`Session`], which says what the other side is to read instead.

use media::Branch as MediaBranch;
use media::negotiation::{Carrier, Error, Party, Rewritten, Role, Session, Transaction};
use media::{Command, SessionId};
use sip::{Flow, Message, Method, Part, Transport};

use super::{Call, contact_of};
use crate::arena::Key;
use crate::context::Context;
use crate::event::Event;
use crate::proxy::with_branch;
use crate::record::MediaPath;
use crate::switch::Switch;
use crate::token::Token;

/// What a message's body is to be when it goes on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// As it came.
    Unchanged,
    /// This part of it is what stands in `scratch.body`.
    Rewritten(Part),
}

impl Switch {
    /// A request is about to go over a branch. An error is the status that refuses it.
    pub(crate) fn media_of_request(
        &mut self,
        key: Key<Context>,
        position: u8,
        m: Message<'_>,
        out: &Flow,
    ) -> Result<Body, u16> {
        let Some(context) = self.contexts.get(key) else {
            return Ok(Body::Unchanged);
        };
        let Some(call) = context.call else {
            return Ok(Body::Unchanged);
        };
        if context.initial {
            return self.media_of_first_invite(call, key, position, m, out);
        }
        let source = context.flow.remote.ip();
        let Some(carrier) = request_carrier(m.method()) else {
            return Ok(Body::Unchanged);
        };
        let Some((media, role)) = self.calls.get(call).and_then(|call| call.media_branch(m)) else {
            return Ok(Body::Unchanged);
        };
        with_branch(&mut self.contexts, key, position, |branch| {
            branch.media = Some(media)
        });
        self.rewrite(call, media, role, carrier, source, m)
    }

    fn media_of_first_invite(
        &mut self,
        call: Key<Call>,
        key: Key<Context>,
        position: u8,
        m: Message<'_>,
        out: &Flow,
    ) -> Result<Body, u16> {
        let policy = self.shared.config.relay;
        let (Some(context), Some(state)) = (self.contexts.get_mut(key), self.calls.get_mut(call)) else {
            return Ok(Body::Unchanged);
        };
        if out.transport == Transport::Local {
            // The built-in user agent has its own port at the relay.
            state.path = MediaPath::Local;
            return Ok(Body::Unchanged);
        }
        let inward = context.flow;
        let session = state.session.get_or_insert_with(|| {
            let caller = Party {
                signalling: inward.remote.ip(),
                claimed: contact_of(m).and_then(|uri| claimed_address(uri, &inward)),
            };
            Box::new(Session::new(SessionId(call.to_u64()), policy, caller))
        });
        let target = context.targets.get(usize::from(position));
        let uri = target.and_then(|target| target.uri.as_deref());
        let callee = Party {
            signalling: out.remote.ip(),
            claimed: uri.and_then(|uri| claimed_address(uri, out)),
        };
        let Some(branch) = context.branches.get_mut(usize::from(position)) else {
            return Ok(Body::Unchanged);
        };
        if let Some(earlier) = branch.media.take() {
            // The next address of the same target.
            session.branch_failed(earlier, &mut *self.ports);
        }
        let media = session.add_branch(callee);
        branch.media = Some(media);
        self.rewrite(call, media, Role::Caller, Carrier::Invite, inward.remote.ip(), m)
    }

    /// A response is about to go back.
    pub(crate) fn media_of_response(
        &mut self,
        key: Key<Context>,
        position: u8,
        flow: &Flow,
        m: Message<'_>,
    ) -> Result<Body, u16> {
        let Some(context) = self.contexts.get(key) else {
            return Ok(Body::Unchanged);
        };
        let Some(call_key) = context.call else {
            return Ok(Body::Unchanged);
        };
        let Some(media) = context
            .branches
            .get(usize::from(position))
            .and_then(|branch| branch.media)
        else {
            return Ok(Body::Unchanged);
        };
        let Some(call) = self.calls.get(call_key) else {
            return Ok(Body::Unchanged);
        };
        let role = if context.initial {
            Role::Callee
        } else {
            // Responses carry the requester in From.
            call.sender_of(m).other()
        };
        let (initial, status) = (context.initial, m.status());
        let Some(carrier) = response_carrier(m.method(), status) else {
            return Ok(Body::Unchanged);
        };
        let result = self.rewrite(call_key, media, role, carrier, flow.remote.ip(), m);
        if initial && carrier == Carrier::InviteSuccess {
            if let Some(session) = self
                .calls
                .get_mut(call_key)
                .and_then(|call| call.session.as_mut())
            {
                session.confirmed(media, &mut *self.ports);
            }
            self.media_commands(call_key);
        }
        result
    }

    /// An ACK for a 2xx is about to go on: the answer to a late offer may be in it.
    pub(crate) fn media_of_ack(&mut self, flow: &Flow, m: Message<'_>, token: &Token) -> Body {
        let Some(key) = self.call_of(m, token) else {
            return Body::Unchanged;
        };
        let Some((media, role)) = self.calls.get(key).and_then(|call| call.media_branch(m)) else {
            return Body::Unchanged;
        };
        // An ACK cannot be refused; what cannot be read goes on as it is.
        self.rewrite(key, media, role, Carrier::Ack, flow.remote.ip(), m)
            .unwrap_or(Body::Unchanged)
    }

    /// A branch of the first INVITE has failed.
    pub(crate) fn media_branch_failed(&mut self, key: Key<Context>, position: u8) {
        let Some(context) = self.contexts.get_mut(key) else {
            return;
        };
        let (Some(call), true) = (context.call, context.initial) else {
            return;
        };
        let media = context
            .branches
            .get_mut(usize::from(position))
            .and_then(|branch| branch.media.take());
        if let (Some(media), Some(session)) = (
            media,
            self.calls.get_mut(call).and_then(|call| call.session.as_mut()),
        ) {
            session.branch_failed(media, &mut *self.ports);
            self.media_commands(call);
        }
    }

    /// A request was refused: the first INVITE at this branch, or a later offer.
    pub(crate) fn media_of_failure(&mut self, key: Key<Context>, position: u8, m: Message<'_>) {
        let Some(context) = self.contexts.get(key) else {
            return;
        };
        if context.initial {
            return self.media_branch_failed(key, position);
        }
        let Some(call) = context.call.and_then(|call| self.calls.get(call)) else {
            return;
        };
        self.media_withdrawn(key, position, transaction_of(m.method()), call.sender_of(m));
    }

    /// A branch ended without a response.
    pub(crate) fn media_of_silence(&mut self, key: Key<Context>, position: u8) {
        let Some(context) = self.contexts.get(key) else {
            return;
        };
        if context.initial {
            return self.media_branch_failed(key, position);
        }
        let Some(call) = context.call.and_then(|call| self.calls.get(call)) else {
            return;
        };
        let Some(request) = self.transactions.request(context.server) else {
            return;
        };
        let (transaction, sender) = (transaction_of(request.method()), call.sender_of(request));
        self.media_withdrawn(key, position, transaction, sender);
    }

    /// An offer inside a dialog led to nothing.
    fn media_withdrawn(
        &mut self,
        key: Key<Context>,
        position: u8,
        transaction: Option<Transaction>,
        sender: Role,
    ) {
        let Some(context) = self.contexts.get(key) else {
            return;
        };
        let media = context
            .branches
            .get(usize::from(position))
            .and_then(|branch| branch.media);
        let (Some(call), Some(media), Some(transaction)) = (context.call, media, transaction) else {
            return;
        };
        if let Some(session) = self.calls.get_mut(call).and_then(|call| call.session.as_mut()) {
            session.failed(media, sender, transaction, &mut *self.ports);
        }
        self.media_commands(call);
    }

    /// Hands the session's orders on to the packet side.
    pub(crate) fn media_commands(&mut self, key: Key<Call>) {
        let Some(call) = self.calls.get_mut(key) else {
            return;
        };
        let Some(session) = &mut call.session else { return };
        while let Some(command) = session.poll_command() {
            if let Command::Open { .. } = &command {
                call.path = MediaPath::Relay;
            }
            self.events.push_back(Event::Media(command));
        }
        if call.codec.as_deref() != session.codec() {
            call.codec = session.codec().map(Box::from);
        }
    }

    fn rewrite(
        &mut self,
        key: Key<Call>,
        media: MediaBranch,
        role: Role,
        carrier: Carrier,
        source: std::net::IpAddr,
        m: Message<'_>,
    ) -> Result<Body, u16> {
        let Some(session) = self.calls.get_mut(key).and_then(|call| call.session.as_mut()) else {
            return Ok(Body::Unchanged);
        };
        let part = Part::find(m, "application/sdp");
        let sdp = part.as_ref().and_then(|part| m.body().get(part.content.clone()));
        self.scratch.body.clear();
        let result = session.rewrite(
            media,
            role,
            carrier,
            source,
            sdp.unwrap_or_default(),
            &mut *self.ports,
            &mut self.scratch.body,
        );
        self.media_commands(key);
        match result {
            Ok(Rewritten::Written) => Ok(part.map_or(Body::Unchanged, Body::Rewritten)),
            Ok(Rewritten::Unchanged) => Ok(Body::Unchanged),
            Err(Error::NoPorts(_)) => Err(503),
            Err(Error::UnknownBranch(_)) => Ok(Body::Unchanged),
            Err(_) => Err(488),
        }
    }
}

impl Call {
    /// The media branch of a message inside a dialog, and who sent it.
    fn media_branch(&self, m: Message<'_>) -> Option<(MediaBranch, Role)> {
        let dialog = self.dialogs.get(self.dialog_of(m)?)?;
        Some((dialog.media?, self.sender_of(m)))
    }

    /// Who sent a request inside a dialog, or the request of a response.
    fn sender_of(&self, m: Message<'_>) -> Role {
        match self.is_from_caller(m) {
            true => Role::Caller,
            false => Role::Callee,
        }
    }
}

/// The address that a Contact names as its owner's. A port other than the one that the flow has at his side says that a NAT or a
/// SIP ALG has been at one of the two, and the address proves nothing then.
fn claimed_address(uri: &str, flow: &Flow) -> Option<std::net::IpAddr> {
    let uri = sip::Uri::parse(uri).ok()?;
    let port = uri.port.unwrap_or(flow.transport.default_port());
    uri.host.ip().filter(|_| port == flow.remote.port())
}

fn transaction_of(method: Method<'_>) -> Option<Transaction> {
    match method {
        Method::Invite => Some(Transaction::Invite),
        Method::Prack => Some(Transaction::Prack),
        Method::Update => Some(Transaction::Update),
        _ => None,
    }
}

fn request_carrier(method: Method<'_>) -> Option<Carrier> {
    match method {
        Method::Invite => Some(Carrier::Invite),
        Method::Prack => Some(Carrier::Prack),
        Method::Update => Some(Carrier::Update),
        _ => None,
    }
}

fn response_carrier(method: Method<'_>, status: u16) -> Option<Carrier> {
    match (method, status) {
        (Method::Invite, 101..200) => Some(Carrier::InviteProvisional),
        (Method::Invite, 200..300) => Some(Carrier::InviteSuccess),
        (Method::Prack, 200..300) => Some(Carrier::PrackSuccess),
        (Method::Update, 200..300) => Some(Carrier::UpdateSuccess),
        _ => None,
    }
}
