//! What a telephone does with requests: it is called (RFC 3261 13.3), put on hold (14.2), hung up on (15.1.2), asked (11.2).

use std::time::{Duration, Instant};

use sip::dialog::{Dialog, DialogState};
use sip::timer::TimerId;
use sip::transaction::{NewRequest, ServerKey};
use sip::{Flow, HeaderId, Message, MessageBuf, Method, Response};

use super::call::Call;
use super::{ALLOW, Answering, CallKey, EndCause, Phone, PhoneEvent, SDP, Timer};

/// The INVITE of a call that comes in.
pub(super) struct Incoming {
    server: ServerKey,
    flow: Flow,
    request: MessageBuf,
    tag: String,
    answering: Answering,
}

/// A 2xx that is sent again until its ACK comes (13.3.1.4).
pub(super) struct Unacknowledged {
    number: u32,
    flow: Flow,
    response: Vec<u8>,
    /// The answer to the 2xx's offer is to come in the ACK.
    offers: bool,
    interval: Duration,
    give_up: Instant,
    pub(super) timer: TimerId,
}

impl Phone {
    /// Whether a call rings here.
    pub fn is_ringing(&self, key: CallKey) -> bool {
        self.calls
            .get(&key)
            .is_some_and(|call| call.incoming.is_some() && !call.answered)
    }

    pub(super) fn request(&mut self, now: Instant, flow: &Flow, m: Message<'_>, new: NewRequest) {
        let tag = new.tag();
        let tag = tag.as_str();
        let refuse = |status| Response::new(m, status).to_tag(tag);
        if !self.is_mine(m) {
            self.misrouted(m);
            return self.answer(flow, refuse(404));
        }
        if m.to().is_ok_and(|to| to.tag().is_some()) {
            return self.request_in_dialog(now, flow, m, new);
        }
        let required = m.tokens(HeaderId::Require).collect::<Vec<_>>().join(", ");
        match m.method() {
            _ if !required.is_empty() => {
                self.answer(flow, refuse(420).header(HeaderId::Unsupported, &required));
            }
            Method::Options => self.answer(flow, refuse(200).header(HeaderId::Allow, ALLOW)),
            Method::Invite if new.is_merged() => self.answer(flow, refuse(482)),
            Method::Invite if self.calls.len() >= self.config.max_calls => {
                // Within a transaction: sent again, it must not ring, even if the line is free by then.
                if let Ok(server) = self.transactions.accept(now, new, m, flow, 0) {
                    let mut busy = Vec::new();
                    refuse(486).source(flow.remote).write(&mut busy);
                    self.transactions
                        .respond(now, server, 486, &busy, &mut self.outbox);
                }
            }
            Method::Invite => self.invited(now, flow, m, new),
            _ => self.answer(flow, refuse(405).header(HeaderId::Allow, ALLOW)),
        }
    }

    fn invited(&mut self, now: Instant, flow: &Flow, m: Message<'_>, new: NewRequest) {
        let tag = new.tag();
        let dialog = match Dialog::as_callee(m, tag.as_str(), DialogState::Early) {
            Ok(dialog) => dialog,
            Err(error) => return self.answer(flow, Response::new(m, error.status()).to_tag(tag.as_str())),
        };
        let (key, media) = self.new_call();
        let Ok(server) = self.transactions.accept(now, new, m, flow, 0) else {
            return self.answer(flow, Response::new(m, 503).to_tag(tag.as_str()));
        };
        let mut call = Call::new(media);
        let answering = self.config.answering;
        call.dialog = Some(dialog);
        call.incoming = Some(Incoming {
            server,
            flow: *flow,
            request: MessageBuf::from_message(m),
            tag: tag.as_str().to_owned(),
            answering,
        });
        let after = match answering {
            Answering::Accept(after) | Answering::Refuse(_, after) => Some(after),
            Answering::Ring => None,
        };
        call.decide = after.map(|after| self.timers.schedule(now, now + after, Timer::Decide(key)));
        self.calls.insert(key, call);
        self.respond(now, key, 180, "");
        self.events.push_back(PhoneEvent::Incoming { call: key });
    }

    /// It has rung long enough.
    pub(super) fn decide(&mut self, now: Instant, key: CallKey) {
        let incoming = self.calls.get(&key).and_then(|call| call.incoming.as_ref());
        match incoming.map(|incoming| incoming.answering) {
            Some(Answering::Accept(_)) => self.pick_up(now, key),
            Some(Answering::Refuse(status, _)) => self.refuse_call(now, key, status),
            Some(Answering::Ring) | None => {}
        }
    }

    /// Takes a call that rings.
    pub fn pick_up(&mut self, now: Instant, key: CallKey) {
        let Some(call) = self.calls.get_mut(&key).filter(|call| !call.answered) else {
            return;
        };
        let Some(incoming) = &call.incoming else { return };
        let offer = incoming.request.message().body().to_vec();
        let offers = offer.is_empty();
        let body = match offers {
            true => call.media.offer(false),
            false => match call.media.answer(&offer) {
                Ok(answer) => answer,
                Err(_) => return self.refuse_call(now, key, 488),
            },
        };
        call.answered = true;
        if let Some(dialog) = &mut call.dialog {
            dialog.confirmed();
        }
        let number = incoming.request.message().cseq().map_or(0, |cseq| cseq.number);
        let flow = incoming.flow;
        let response = self.respond(now, key, 200, &body);
        self.await_ack(now, key, number, flow, response, offers);
        if !offers {
            self.start_packets(now, key);
        }
    }

    pub(super) fn refuse_call(&mut self, now: Instant, key: CallKey, status: u16) {
        self.respond(now, key, status, "");
        self.end(key, EndCause::Local);
    }

    /// Answers the INVITE of a call that comes in; the response.
    fn respond(&mut self, now: Instant, key: CallKey, status: u16, body: &str) -> Vec<u8> {
        let contact = format!("<{}>", self.contact());
        let Some(incoming) = self.calls.get(&key).and_then(|call| call.incoming.as_ref()) else {
            return Vec::new();
        };
        let mut response = Response::new(incoming.request.message(), status)
            .to_tag(&incoming.tag)
            .source(incoming.flow.remote);
        if status < 300 {
            response = response
                .copy(HeaderId::RecordRoute)
                .header(HeaderId::Contact, &contact);
        }
        let mut bytes = Vec::new();
        response.body(SDP, body.as_bytes()).write(&mut bytes);
        self.transactions
            .respond(now, incoming.server, status, &bytes, &mut self.outbox);
        bytes
    }

    fn await_ack(
        &mut self,
        now: Instant,
        key: CallKey,
        number: u32,
        flow: Flow,
        response: Vec<u8>,
        offers: bool,
    ) {
        let interval = self.config.transactions.t1;
        let timer = self.timers.schedule(now, now + interval, Timer::Repeat(key));
        let waiting = Unacknowledged {
            number,
            flow,
            response,
            offers,
            interval,
            give_up: now + interval * 64,
            timer,
        };
        if let Some(call) = self.calls.get_mut(&key)
            && let Some(earlier) = call.unacknowledged.replace(waiting)
        {
            self.timers.cancel(earlier.timer);
        }
    }

    /// No ACK so far: the 2xx goes out again, or the call is given up.
    pub(super) fn repeat(&mut self, now: Instant, key: CallKey) {
        let t2 = self.config.transactions.t2;
        let Some(call) = self.calls.get_mut(&key) else {
            return;
        };
        let Some(waiting) = &mut call.unacknowledged else {
            return;
        };
        if now >= waiting.give_up {
            self.send_bye(now, key);
            return self.end(key, EndCause::NoAck);
        }
        self.outbox.push(&waiting.flow, &waiting.response);
        waiting.interval = (waiting.interval * 2).min(t2);
        let due = (now + waiting.interval).min(waiting.give_up);
        waiting.timer = self.timers.schedule(now, due, Timer::Repeat(key));
    }

    pub(super) fn acknowledged(&mut self, now: Instant, m: Message<'_>) {
        if !self.is_mine(m) {
            return self.misrouted(m);
        }
        let Some(key) = self.find(m) else { return };
        let Some(call) = self.calls.get_mut(&key) else {
            return;
        };
        let number = m.cseq().map(|cseq| cseq.number).ok();
        let Some(waiting) = call
            .unacknowledged
            .take_if(|waiting| Some(waiting.number) == number)
        else {
            return;
        };
        self.timers.cancel(waiting.timer);
        let described = !waiting.offers || call.media.take(m.body()).is_ok();
        if call.incoming.take().is_some() {
            self.events.push_back(PhoneEvent::Answered { call: key });
        }
        let closing = self.calls.get(&key).is_some_and(|call| call.closing);
        if closing || !described {
            self.send_bye(now, key);
            return self.end(key, EndCause::Local);
        }
        self.start_packets(now, key);
    }

    pub(super) fn cancelled(&mut self, now: Instant, cancel: Message<'_>, invite: ServerKey) {
        let found = self.calls.iter().find(|(_, call)| {
            let incoming = call.incoming.as_ref().filter(|_| !call.answered);
            incoming.is_some_and(|incoming| incoming.server == invite)
        });
        if let Some((&key, _)) = found {
            self.respond(now, key, 487, "");
            self.end(key, EndCause::Remote(reason_of(cancel)));
        }
    }

    /// The INVITE of a call that rings has been answered 408 by its transaction.
    pub(super) fn expired(&mut self, server: ServerKey) {
        let found = self.calls.iter().find(|(_, call)| {
            let incoming = call.incoming.as_ref();
            !call.answered && incoming.is_some_and(|incoming| incoming.server == server)
        });
        if let Some((&key, _)) = found {
            self.end(key, EndCause::Failed(408));
        }
    }

    fn request_in_dialog(&mut self, now: Instant, flow: &Flow, m: Message<'_>, new: NewRequest) {
        let Ok(server) = self.transactions.accept(now, new, m, flow, 0) else {
            return self.answer(flow, Response::new(m, 503));
        };
        let found = self
            .find(m)
            .and_then(|key| Some((key, self.calls.get_mut(&key)?)));
        let Some((key, call)) = found else {
            self.reply(now, server, flow, m, 481, "");
            return;
        };
        let order = call.dialog.as_mut().map(|dialog| dialog.accept_request(&m));
        if let Some(Err(error)) = order {
            self.reply(now, server, flow, m, error.status(), "");
            return;
        }
        match m.method() {
            Method::Bye => {
                self.reply(now, server, flow, m, 200, "");
                if self.is_ringing(key) {
                    self.respond(now, key, 487, "");
                }
                self.end(key, EndCause::Remote(reason_of(m)));
            }
            Method::Invite | Method::Update => self.offered(now, key, flow, m, server),
            method => {
                let status = if method == Method::Options { 200 } else { 405 };
                self.reply(now, server, flow, m, status, "");
            }
        }
    }

    /// A re-INVITE or UPDATE (14.2, RFC 3311 section 5.2).
    fn offered(&mut self, now: Instant, key: CallKey, flow: &Flow, m: Message<'_>, server: ServerKey) {
        let invite = m.method() == Method::Invite;
        let Some(call) = self.calls.get_mut(&key) else {
            return;
        };
        let offers = invite && m.body().is_empty();
        let body = if call.is_renegotiating() {
            Err(491)
        } else if invite && call.unacknowledged.is_some() {
            Err(500)
        } else if offers {
            Ok(call.media.same_offer())
        } else if m.body().is_empty() {
            Ok(String::new())
        } else {
            call.media.answer(m.body()).map_err(|_| 488)
        };
        let body = match body {
            Ok(body) => body,
            Err(status) => {
                self.reply(now, server, flow, m, status, "");
                return;
            }
        };
        if let Some(dialog) = &mut call.dialog {
            // Without a Contact the target stays as it is.
            let _ = dialog.refresh_target(&m);
        }
        let bytes = self.reply(now, server, flow, m, 200, &body);
        if invite {
            let number = m.cseq().map_or(0, |cseq| cseq.number);
            self.await_ack(now, key, number, *flow, bytes, offers);
        }
    }

    /// Answers within a transaction; the response.
    fn reply(
        &mut self,
        now: Instant,
        server: ServerKey,
        flow: &Flow,
        m: Message<'_>,
        status: u16,
        body: &str,
    ) -> Vec<u8> {
        let contact = format!("<{}>", self.contact());
        let mut response = Response::new(m, status).source(flow.remote);
        response = match status {
            // Wanted in the 2xx of INVITE and UPDATE, and of no harm in others.
            200..300 => response
                .header(HeaderId::Contact, &contact)
                .header(HeaderId::Allow, ALLOW),
            405 => response.header(HeaderId::Allow, ALLOW),
            500 => response.header(HeaderId::RetryAfter, "5"),
            _ => response,
        };
        let mut bytes = Vec::new();
        response.body(SDP, body.as_bytes()).write(&mut bytes);
        self.transactions
            .respond(now, server, status, &bytes, &mut self.outbox);
        bytes
    }

    /// The call whose dialog a message belongs to.
    fn find(&self, m: Message<'_>) -> Option<CallKey> {
        let belongs = |call: &Call| {
            call.dialog
                .as_ref()
                .is_some_and(|dialog| dialog.matches_request(&m))
        };
        self.calls
            .iter()
            .find(|(_, call)| belongs(call))
            .map(|(key, _)| *key)
    }
}

fn reason_of(m: Message<'_>) -> Option<String> {
    let reason = m.reason_header().next()?.ok()?;
    reason.text().map(str::to_owned)
}
