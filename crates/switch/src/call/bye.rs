//! Requests that Trapez sends inside a call by itself: the BYEs with which it ends one on both sides, and the ACK and BYE for
//! a phone that picks up after its caller is gone.

use std::io::Write;
use std::time::Instant;

use sip::headers::NameAddr;
use sip::{Flow, HeaderId, Message, Method};

use super::{Call, Party, callee_target, routes_to_callee};
use crate::arena::Key;
use crate::record::EndedBy;
use crate::switch::Switch;

/// The owner of client transactions whose responses interest nobody.
pub(crate) const NOBODY: u64 = 0;

impl Switch {
    /// Ends an answered call: a BYE to each side, with the reason, and the call's record.
    pub(crate) fn hang_up_both(&mut self, now: Instant, key: Key<Call>, reason: &str) {
        let Some(call) = self.calls.get(key) else {
            return;
        };
        let Some(place) = call.confirmed.filter(|_| call.ending.is_none()) else {
            return;
        };
        // Far above what the phones have used: each side sees one number space per direction.
        let byes = {
            let callee = &call.dialogs[place].callee;
            let to = |party: &Party| {
                let address = NameAddr::parse(&party.address).map_or("", |address| address.uri);
                Some(self.present_flow(now, party.at.as_ref()?, address, &party.target))
            };
            [
                (to(callee), bye(call, &call.caller, callee)),
                (to(&call.caller), bye(call, callee, &call.caller)),
            ]
        };
        for (flow, mut bye) in byes {
            let Some(flow) = flow else { continue };
            let _ = write!(
                bye,
                "Reason: SIP;cause=200;text=\"{reason}\"\r\nContent-Length: 0\r\n\r\n"
            );
            self.send_own(now, &flow, Method::Bye, &bye);
        }
        self.end_call(now, key, EndedBy::Service, 200, Some(reason.into()));
    }

    /// A phone answered an INVITE whose caller has been told that it is over: it is thanked and hung up on, or it would sit in a
    /// call with nobody.
    pub(crate) fn dismiss(&mut self, now: Instant, flow: &Flow, response: Message<'_>) {
        let (Ok(from), Ok(to), Ok(cseq), Ok(call_id)) = (
            response.value(HeaderId::From),
            response.value(HeaderId::To),
            response.cseq(),
            response.call_id(),
        ) else {
            return;
        };
        let (from, to) = (from.unwrap_or_default(), to.unwrap_or_default());
        let target = callee_target(response);
        let routes = routes_to_callee(response, |_| true, &self.shared.secret);
        for (method, number) in [
            (Method::Ack, cseq.number),
            (Method::Bye, cseq.number.saturating_add(1)),
        ] {
            let mut request = head(method, &target, &routes, from, to, call_id, number);
            request.extend_from_slice(b"Content-Length: 0\r\n\r\n");
            match method {
                Method::Ack => {
                    let sent_by = self.sent_by(flow);
                    let branch = self.transactions.stateless_branch(call_id.as_bytes(), 0);
                    let via = format!(
                        "SIP/2.0/{} {sent_by};branch={};rport",
                        flow.transport.as_via(),
                        branch.as_str()
                    );
                    self.outbox.push_with(flow, |out| insert_via(&request, &via, out));
                }
                _ => self.send_own(now, flow, method, &request),
            }
        }
    }

    fn send_own(&mut self, now: Instant, flow: &Flow, method: Method<'_>, request: &[u8]) {
        let sent_by = self.sent_by(flow);
        // Without room for a transaction there is no room for this courtesy either.
        let _ = self.transactions.send(
            now,
            flow,
            method,
            0,
            NOBODY,
            |branch, out| {
                let via = format!(
                    "SIP/2.0/{} {sent_by};branch={branch};rport",
                    flow.transport.as_via()
                );
                insert_via(request, &via, out);
            },
            &mut self.outbox,
        );
    }
}

/// A BYE as if from one party to the other, without Via and without the end of the head.
fn bye(call: &Call, from: &Party, to: &Party) -> Vec<u8> {
    let cseq = from.cseq.saturating_add(CSEQ_STEP);
    head(
        Method::Bye,
        &to.target,
        &to.routes,
        &from.address,
        &to.address,
        &call.call_id,
        cseq,
    )
}

fn head(
    method: Method<'_>,
    target: &str,
    routes: &str,
    from: &str,
    to: &str,
    call_id: &str,
    cseq: u32,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(600);
    let method = method.as_str();
    let _ = write!(out, "{method} {target} SIP/2.0\r\nMax-Forwards: 70\r\n");
    if !routes.is_empty() {
        let _ = write!(out, "Route: {routes}\r\n");
    }
    let _ = write!(
        out,
        "From: {from}\r\nTo: {to}\r\nCall-ID: {call_id}\r\nCSeq: {cseq} {method}\r\n"
    );
    out
}

/// Puts the Via line after the start line.
fn insert_via(request: &[u8], via: &str, out: &mut Vec<u8>) {
    let end = request
        .iter()
        .position(|byte| *byte == b'\n')
        .map_or(0, |end| end + 1);
    out.extend_from_slice(&request[..end]);
    let _ = write!(out, "Via: {via}\r\n");
    out.extend_from_slice(&request[end..]);
}

/// How far our CSeq in a phone's name is above its last one, so that requests on their way do not overtake it.
const CSEQ_STEP: u32 = 1000;
