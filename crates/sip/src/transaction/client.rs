//! The client transactions: INVITE (RFC 3261 section 17.1.1 with RFC 6026) and all other methods (17.1.2), and the CANCEL that
//! belongs to an INVITE (9.1).

use std::time::{Duration, Instant};

use super::hop::{write_ack, write_cancel};
use super::peers::Links;
use super::{TransactionConfig, last_message};
use crate::flow::Flow;
use crate::message::{Index, Message};
use crate::method::Method;
use crate::outbox::Outbox;

#[derive(Debug)]
pub(super) struct ClientTransaction {
    state: State,
    invite: bool,
    /// Tells methods apart; responses name theirs in CSeq.
    method: u32,
    pub(super) flow: Flow,
    /// The other transactions of the peer.
    pub(super) links: Links,
    /// The request as sent, as long as it may be sent again or a CANCEL or ACK made of it; then the ACK.
    bytes: Option<Box<[u8]>>,
    cancel: Option<Box<Cancel>>,
    /// Timer A or E.
    resend_at: Option<Instant>,
    interval: Duration,
    /// When the present state ends.
    until: Instant,
}

/// The CANCEL of an INVITE: a non-INVITE client transaction that lives and ends with it.
#[derive(Debug)]
struct Cancel {
    /// A Reason header field's value.
    reason: Option<Box<str>>,
    sent: bool,
    /// To be sent again until it is answered.
    bytes: Option<Box<[u8]>>,
    resend_at: Option<Instant>,
    interval: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// No response yet (timers A and B, or E and F). Called Trying for other methods than INVITE.
    Calling,
    /// A provisional response has come (timer C, or E and F).
    Proceeding,
    /// A final response has come, of an INVITE a non-2xx; retransmissions are absorbed (timer D or K).
    Completed,
    /// A 2xx to INVITE has come; further ones pass (timer M).
    Accepted,
    Terminated,
}

/// What is to be done with a response.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Then {
    pub(super) pass_up: bool,
    /// The CANCEL that was held back may go now.
    pub(super) cancel: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fired {
    Nothing,
    /// Timer C: send a CANCEL.
    Cancel,
    Timeout,
}

impl ClientTransaction {
    pub(super) fn new(config: &TransactionConfig, now: Instant, method: Method<'_>, flow: &Flow) -> Self {
        Self {
            state: State::Calling,
            invite: method == Method::Invite,
            method: method_code(method),
            flow: *flow,
            links: Links::default(),
            bytes: None,
            cancel: None,
            resend_at: (!flow.transport.is_reliable()).then(|| now + config.t1),
            interval: config.t1,
            until: now + config.timeout(),
        }
    }

    /// The request as it was sent.
    pub(super) fn keep_request(&mut self, request: &[u8]) {
        if self.invite || !self.flow.transport.is_reliable() {
            self.bytes = Some(request.into());
        }
    }

    pub(super) fn awaits_final(&self) -> bool {
        matches!(self.state, State::Calling | State::Proceeding)
    }

    /// Whether the request went by that flow.
    pub(super) fn uses(&self, flow: &Flow) -> bool {
        let same_peer = self.flow.transport == flow.transport && self.flow.remote == flow.remote;
        same_peer
            && (flow.connection.is_none()
                || self.flow.connection.is_none()
                || flow.connection == self.flow.connection)
    }

    /// A response with this transaction's branch has come; `None` if it is not to this request nor to its CANCEL.
    pub(super) fn responded(
        &mut self,
        config: &TransactionConfig,
        now: Instant,
        m: &Message<'_>,
        flow: &Flow,
        scratch: &mut Index,
        out: &mut Outbox,
    ) -> Option<Then> {
        let method = m.cseq().ok()?.method;
        if method == Method::Cancel && self.invite {
            self.cancel_responded(config, now, m.status());
            return Some(Then {
                pass_up: false,
                cancel: false,
            });
        }
        if method_code(method) != self.method {
            return None;
        }
        if self.flow.connection.is_none() && self.flow.transport == flow.transport {
            // Now it is known which connection was taken: CANCEL and ACK follow the request (9.1, 17.1.1.2).
            self.flow.connection = flow.connection;
        }
        let pass_up = match m.status() {
            status @ ..200 => self.provisional(config, now, status),
            status if self.invite => self.invite_final(config, now, status, m, scratch, out),
            _ => self.non_invite_final(config, now),
        };
        let cancel =
            self.state == State::Proceeding && self.cancel.as_ref().is_some_and(|cancel| !cancel.sent);
        Some(Then { pass_up, cancel })
    }

    fn provisional(&mut self, config: &TransactionConfig, now: Instant, status: u16) -> bool {
        if !self.awaits_final() {
            return false;
        }
        let first = self.state == State::Calling;
        self.state = State::Proceeding;
        if self.invite {
            self.resend_at = None;
            // Timer C runs from the first response and anew from each that is more than a 100. A CANCEL has set a shorter limit.
            if (first || status > 100) && self.cancel.as_ref().is_none_or(|cancel| !cancel.sent) {
                self.until = now + config.timer_c;
            }
        } else if first && self.resend_at.is_some() {
            self.interval = config.t2;
            self.resend_at = Some(now + config.t2);
        }
        true
    }

    fn invite_final(
        &mut self,
        config: &TransactionConfig,
        now: Instant,
        status: u16,
        m: &Message<'_>,
        scratch: &mut Index,
        out: &mut Outbox,
    ) -> bool {
        let success = (200..300).contains(&status);
        match self.state {
            State::Calling | State::Proceeding if success => {
                self.state = State::Accepted;
                self.end_requests();
                self.until = now + config.timeout();
                true
            }
            State::Calling | State::Proceeding => {
                self.acknowledge(m, scratch, out);
                if self.flow.transport.is_reliable() {
                    self.state = State::Terminated;
                } else {
                    self.state = State::Completed;
                    self.until = now + config.timer_d();
                }
                true
            }
            State::Accepted => success,
            State::Completed => {
                if let (false, Some(ack)) = (success, &self.bytes) {
                    out.push(&self.flow, ack);
                }
                false
            }
            State::Terminated => false,
        }
    }

    fn non_invite_final(&mut self, config: &TransactionConfig, now: Instant) -> bool {
        if !self.awaits_final() {
            return false;
        }
        self.end_requests();
        if self.flow.transport.is_reliable() {
            self.state = State::Terminated;
        } else {
            self.state = State::Completed;
            self.until = now + config.t4;
        }
        true
    }

    /// Sends the ACK to a non-2xx and keeps it in the place of the request.
    fn acknowledge(&mut self, response: &Message<'_>, scratch: &mut Index, out: &mut Outbox) {
        let request = self.bytes.take();
        self.end_requests();
        let Some(request) = request else { return };
        if scratch.parse(&request).is_err() {
            return;
        }
        out.push_with(&self.flow, |out| {
            write_ack(&Message::new(&request, scratch), response, out)
        });
        if !self.flow.transport.is_reliable() {
            self.bytes = Some(last_message(out).into());
        }
    }

    fn end_requests(&mut self) {
        self.bytes = None;
        self.cancel = None;
        self.resend_at = None;
    }

    /// Notes that the INVITE is to be cancelled; true if the CANCEL may go now.
    pub(super) fn want_cancel(&mut self, reason: Option<&str>) -> bool {
        if !self.invite || !self.awaits_final() || self.cancel.is_some() {
            return false;
        }
        self.cancel = Some(Box::new(Cancel {
            reason: reason.map(Into::into),
            sent: false,
            bytes: None,
            resend_at: None,
            interval: Duration::ZERO,
        }));
        self.state == State::Proceeding
    }

    /// Sends the CANCEL. From then on the INVITE has 64*T1 for its final response (9.1).
    pub(super) fn send_cancel(
        &mut self,
        config: &TransactionConfig,
        now: Instant,
        scratch: &mut Index,
        out: &mut Outbox,
    ) {
        self.want_cancel(None);
        let (Some(request), Some(cancel)) = (&self.bytes, &mut self.cancel) else {
            return;
        };
        if scratch.parse(request).is_err() {
            return;
        }
        out.push_with(&self.flow, |out| {
            write_cancel(&Message::new(request, scratch), cancel.reason.as_deref(), out)
        });
        cancel.sent = true;
        self.until = now + config.timeout();
        if !self.flow.transport.is_reliable() {
            cancel.bytes = Some(last_message(out).into());
            cancel.interval = config.t1;
            cancel.resend_at = Some(now + config.t1);
        }
    }

    fn cancel_responded(&mut self, config: &TransactionConfig, now: Instant, status: u16) {
        let Some(cancel) = &mut self.cancel else { return };
        if status >= 200 {
            cancel.bytes = None;
            cancel.resend_at = None;
        } else if cancel.resend_at.is_some() {
            cancel.interval = config.t2;
            cancel.resend_at = Some(now + config.t2);
        }
    }

    pub(super) fn fire(&mut self, config: &TransactionConfig, now: Instant, out: &mut Outbox) -> Fired {
        if self.until <= now {
            return self.expire();
        }
        if self.resend_at.is_some_and(|at| at <= now) {
            if let Some(request) = &self.bytes {
                out.push(&self.flow, request);
            }
            self.interval *= 2;
            if !self.invite {
                self.interval = self.interval.min(config.t2);
            }
            self.resend_at = Some(now + self.interval);
        }
        if let Some(cancel) = &mut self.cancel
            && cancel.resend_at.is_some_and(|at| at <= now)
        {
            if let Some(bytes) = &cancel.bytes {
                out.push(&self.flow, bytes);
            }
            cancel.interval = (cancel.interval * 2).min(config.t2);
            cancel.resend_at = Some(now + cancel.interval);
        }
        Fired::Nothing
    }

    /// The state's time is over.
    fn expire(&mut self) -> Fired {
        match self.state {
            State::Proceeding if self.invite && self.cancel.is_none() && self.bytes.is_some() => {
                Fired::Cancel
            }
            State::Calling | State::Proceeding => Fired::Timeout,
            State::Completed | State::Accepted | State::Terminated => {
                self.state = State::Terminated;
                Fired::Nothing
            }
        }
    }

    /// When the next timer fires; `None` when it is over.
    pub(super) fn due(&self) -> Option<Instant> {
        if self.state == State::Terminated {
            return None;
        }
        let cancel = self.cancel.as_ref().and_then(|cancel| cancel.resend_at);
        [self.resend_at, cancel]
            .into_iter()
            .flatten()
            .chain([self.until])
            .min()
    }

    pub(super) fn kept_bytes(&self) -> usize {
        let cancel = self.cancel.as_ref().and_then(|cancel| cancel.bytes.as_ref());
        self.bytes.as_ref().map_or(0, |b| b.len()) + cancel.map_or(0, |b| b.len())
    }
}

/// FNV-1a: only a response with the right branch is ever compared.
fn method_code(method: Method<'_>) -> u32 {
    method.as_str().bytes().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}
