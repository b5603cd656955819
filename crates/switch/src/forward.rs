//! How messages are changed on their way through the proxy (RFC 3261 16.6 and 16.7 step 3, RFC 5658): Via, Max-Forwards,
//! Max-Breadth, Route, Record-Route, credentials and SDP, each as an edit; everything else leaves byte for byte.

use std::net::SocketAddr;
use std::time::Instant;

use sip::{Edits, Flow, HeaderId, Message, Method, Response};

use crate::arena::Key;
use crate::call::Body;
use crate::context::{Best, BranchState, Context};
use crate::proxy::{owner_of, with_branch};
use crate::record::EndedBy;
use crate::request::other_side;
use crate::route::Route;
use crate::switch::Switch;
use crate::token::{Leg, PARAMETER, Token, tag_hash};

impl Switch {
    /// Sends one branch's request over `out`.
    pub(crate) fn send_branch(
        &mut self,
        now: Instant,
        key: Key<Context>,
        position: u8,
        m: Message<'_>,
        route: &Route<'_>,
        out: &Flow,
    ) {
        let body = match self.media_of_request(key, position, m, out) {
            Ok(body) => body,
            Err(status) => return self.branch_done(key, position, status),
        };
        let loop_hash = self.loop_hash(m);
        let breadth = self.breadth(m);
        let (out_address, sent_by) = (*out, self.sent_by(out));
        let Some(context) = self.contexts.get(key) else {
            return;
        };
        let inward = context.flow;
        let in_address = self.sent_by(&inward);
        let target = &context.targets[usize::from(position)];
        let edits = &mut self.scratch.edits;
        edits.clear();
        if let Some(uri) = target.uri.as_deref() {
            edits.set_request_uri(m, uri);
        }
        edits.fix_top_via(m, inward.remote);
        edits.decrement_max_forwards(m, self.shared.config.max_forwards);
        route.take_off(edits, m);
        if let Some(path) = target.path.as_deref() {
            edits.push_top(m, HeaderId::Route, |text| text.extend_from_slice(path.as_bytes()));
        }
        if context.initial && makes_dialog(m.method()) {
            let token = Token {
                worker: self.worker,
                call: context.call.map_or(0, Key::to_u64),
                caller_tag: m.from_tag().map_or(0, tag_hash),
                caller: Leg {
                    flow: inward,
                    direct: m.lower_vias().next().is_none(),
                },
                callee: Leg {
                    flow: *out,
                    direct: target.direct,
                },
            };
            record_route(edits, m, &self.shared.secret, &token, in_address, sent_by);
        }
        Switch::strip_credentials(edits, m, &self.shared.directory);
        if let Body::Rewritten(part) = &body {
            edits.set_part(m, part, &self.scratch.body);
        }
        let share = (breadth / context.targets.len().max(1) as u32).max(1);
        edits.set(m, HeaderId::MaxBreadth, format_args!("{share}"));
        let sent = self.transactions.send(
            now,
            &out_address,
            m.method(),
            loop_hash,
            owner_of(key, position),
            |branch, bytes| {
                push_via(edits, m, out, sent_by, branch);
                edits.write(m, bytes);
            },
            &mut self.outbox,
        );
        match sent {
            Ok(client) => with_branch(&mut self.contexts, key, position, |branch| {
                branch.client = Some(client);
                branch.state = BranchState::Calling;
            }),
            Err(overload) => self.branch_done(key, position, overload.status()),
        }
    }

    /// Forwards an ACK for a 2xx, which has no response: nothing is kept.
    pub(crate) fn forward_ack(&mut self, now: Instant, flow: &Flow, m: Message<'_>, route: &Route<'_>) {
        // Without our token it is the ACK for a refusal of our own, or stray.
        let Some(token) = route.token else { return };
        if m.max_forwards().ok().flatten() == Some(0) {
            return;
        }
        let leg = other_side(m, &token);
        let there = self.flow_to_receiver(now, m, route, &token, leg.flow);
        // Where the next hop has to be looked up, the ACK takes the way of its INVITE: it cannot wait for the DNS.
        let next = route
            .next
            .map(|next| next.uri)
            .or(route.strict_target)
            .unwrap_or(m.request_uri());
        let out = match leg.direct || route.next.is_some() {
            true => there,
            false => self.numeric_flow(next, flow).unwrap_or(there),
        };
        let body = self.media_of_ack(flow, m, &token);
        let seed = m.top_via().map_or(&b""[..], |via| via.as_str().as_bytes());
        let branch = self.transactions.stateless_branch(seed, self.loop_hash(m));
        let sent_by = self.sent_by(&out);
        let edits = &mut self.scratch.edits;
        edits.clear();
        if let Some(uri) = route.strict_target {
            edits.set_request_uri(m, uri);
        }
        edits.fix_top_via(m, flow.remote);
        edits.decrement_max_forwards(m, self.shared.config.max_forwards);
        route.take_off(edits, m);
        Switch::strip_credentials(edits, m, &self.shared.directory);
        if let Body::Rewritten(part) = &body {
            edits.set_part(m, part, &self.scratch.body);
        }
        push_via(edits, m, &out, sent_by, branch.as_str());
        self.outbox.push_with(&out, |bytes| edits.write(m, bytes));
    }

    /// Sends a response back as it came from a branch, without our Via, with the relay's addresses in its SDP.
    pub(crate) fn forward_response(
        &mut self,
        now: Instant,
        key: Key<Context>,
        position: u8,
        flow: &Flow,
        m: Message<'_>,
    ) {
        // What the relay cannot read goes on as it is: a refusal now would leave the phone ringing or in a call.
        let body = self
            .media_of_response(key, position, flow, m)
            .unwrap_or(Body::Unchanged);
        let mut bytes = std::mem::take(&mut self.scratch.bytes);
        bytes.clear();
        let edits = &mut self.scratch.edits;
        edits.clear();
        edits.pop_value(m, HeaderId::Via);
        if let Body::Rewritten(part) = &body {
            edits.set_part(m, part, &self.scratch.body);
        }
        edits.write(m, &mut bytes);
        self.respond(now, key, m.status(), &bytes);
        self.scratch.bytes = bytes;
    }

    /// A failure as it goes back when it turns out to be the best.
    pub(crate) fn returned(&mut self, m: Message<'_>) -> Vec<u8> {
        let edits = &mut self.scratch.edits;
        edits.clear();
        edits.pop_value(m, HeaderId::Via);
        let mut bytes = Vec::with_capacity(m.bytes().len());
        edits.write(m, &mut bytes);
        bytes
    }

    /// Sends the response that won.
    pub(crate) fn final_response(&mut self, now: Instant, key: Key<Context>, best: Best) {
        match best.bytes {
            // A 503 would make the caller's side avoid this service as a whole (RFC 3261 16.7 step 6).
            Some(_) if best.status == 503 => self.respond_ourselves(now, key, 500),
            Some(mut bytes) => {
                if matches!(best.status, 401 | 407) {
                    insert_lines(&mut bytes, &best.challenges);
                }
                let by = if best.status == 487 {
                    EndedBy::Caller
                } else {
                    EndedBy::Callee
                };
                self.note_failure(now, key, best.status, by, None);
                self.respond(now, key, best.status, &bytes);
            }
            None => self.respond_ourselves(now, key, best.status),
        }
    }

    /// Answers the request of a context with a response of our own.
    pub(crate) fn respond_ourselves(&mut self, now: Instant, key: Key<Context>, status: u16) {
        let by = if status == 487 {
            EndedBy::Caller
        } else {
            EndedBy::Service
        };
        self.note_failure(now, key, status, by, None);
        let Some(context) = self.contexts.get(key) else {
            return;
        };
        let (server, source) = (context.server, context.flow.remote);
        let Some(tag) = self.transactions.tag(server) else {
            return;
        };
        let Some(request) = self.transactions.request(server) else {
            return;
        };
        let mut bytes = std::mem::take(&mut self.scratch.bytes);
        bytes.clear();
        Response::new(request, status)
            .to_tag(tag.as_str())
            .source(source)
            .header(HeaderId::Server, self.shared.config.server_name)
            .write(&mut bytes);
        self.respond(now, key, status, &bytes);
        self.scratch.bytes = bytes;
    }

    /// Hands a response to the server transaction, or holds it back while the call's record is on its way to the store.
    fn respond(&mut self, now: Instant, key: Key<Context>, status: u16, bytes: &[u8]) {
        let Some(context) = self.contexts.get_mut(key) else {
            return;
        };
        let server = context.server;
        let invite = context.invite;
        if status >= 200 {
            context.finished = Some(status);
        }
        let call = context.call.filter(|_| status >= 200 && !invite);
        match call.filter(|call| self.is_ending(*call)) {
            Some(call) => self.hold(call, server, status, bytes),
            None => {
                self.transactions
                    .respond(now, server, status, bytes, &mut self.outbox);
            }
        }
        if status >= 200 && !invite {
            // Further responses to it mean nothing (RFC 4320); the server transaction answers retransmissions by itself.
            self.contexts.remove(key);
        }
    }

    /// 100 Trying for an INVITE (RFC 3261 16.2), at once: the phone need not retransmit.
    pub(crate) fn trying(
        &mut self,
        now: Instant,
        server: sip::transaction::ServerKey,
        m: Message<'_>,
        flow: &Flow,
    ) {
        let response = Response::new(m, 100).source(flow.remote);
        self.transactions
            .respond_with(now, server, 100, |out| response.write(out), &mut self.outbox);
    }

    /// What a message out over `flow` says in Via and Record-Route about where we are.
    pub(crate) fn sent_by(&self, flow: &Flow) -> SocketAddr {
        let advertised = self
            .shared
            .config
            .advertise
            .iter()
            .find(|ip| ip.is_ipv4() == flow.local.is_ipv4());
        advertised.map_or(flow.local, |ip| SocketAddr::new(*ip, flow.local.port()))
    }

    /// The breadth that a request brings (RFC 5393 5.3).
    pub(crate) fn breadth(&self, m: Message<'_>) -> u32 {
        m.max_breadth()
            .ok()
            .flatten()
            .unwrap_or(self.shared.config.max_breadth)
    }
}

fn push_via(edits: &mut Edits, m: Message<'_>, out: &Flow, sent_by: SocketAddr, branch: &str) {
    edits.push_top(m, HeaderId::Via, |text| {
        text.extend_from_slice(b"SIP/2.0/");
        text.extend_from_slice(out.transport.as_via().as_bytes());
        text.push(b' ');
        sip::push_host_port(text, sent_by);
        text.extend_from_slice(b";branch=");
        text.extend_from_slice(branch.as_bytes());
        text.extend_from_slice(b";rport");
    });
}

/// Puts us on the way of the dialog's further requests: once, or once per side where the sides differ (RFC 5658), the caller's
/// side below.
fn record_route(
    edits: &mut Edits,
    m: Message<'_>,
    secret: &[u8; 16],
    token: &Token,
    in_address: SocketAddr,
    out_address: SocketAddr,
) {
    let (inward, outward) = (token.caller.flow, token.callee.flow);
    let mut push = |transport: sip::Transport, address: SocketAddr| {
        edits.push_top(m, HeaderId::RecordRoute, |text| {
            text.extend_from_slice(b"<sip:");
            sip::push_host_port(text, address);
            if transport.is_stream() {
                text.extend_from_slice(b";transport=");
                text.extend_from_slice(transport.as_param().as_bytes());
            }
            text.extend_from_slice(b";lr;");
            text.extend_from_slice(PARAMETER.as_bytes());
            text.push(b'=');
            token.write(secret, text);
            text.push(b'>');
        });
    };
    push(inward.transport, in_address);
    let inside = outward.transport == sip::Transport::Local;
    if !inside && (outward.transport, out_address) != (inward.transport, in_address) {
        push(outward.transport, out_address);
    }
}

/// Requests that can set up a dialog, and so have to lead its later requests through here.
fn makes_dialog(method: Method<'_>) -> bool {
    matches!(
        method,
        Method::Invite | Method::Subscribe | Method::Refer | Method::Notify
    )
}

/// Inserts header lines after the status line.
fn insert_lines(bytes: &mut Vec<u8>, lines: &[u8]) {
    if let (false, Some(end)) = (lines.is_empty(), memchr::memchr(b'\n', bytes)) {
        bytes.splice(end + 1..end + 1, lines.iter().copied());
    }
}
