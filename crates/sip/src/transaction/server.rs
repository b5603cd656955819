//! The server transactions: INVITE (RFC 3261 section 17.2.1 with RFC 6026) and all other methods (17.2.2 with RFC 4320).

use std::time::{Duration, Instant};

use super::matching::{NewRequest, Tag};
use super::{Received, TransactionConfig};
use crate::flow::Flow;
use crate::message::{Index, Message};
use crate::outbox::Outbox;
use crate::respond::Response;

#[derive(Debug)]
pub(super) struct ServerTransaction {
    state: State,
    invite: bool,
    /// The INVITE's CANCEL has been passed up.
    pub(super) cancelled: bool,
    /// A 100 was sent without being asked for.
    trying_sent: bool,
    pub(super) key: u64,
    pub(super) merge: Option<u64>,
    pub(super) flow: Flow,
    /// Until the final response.
    pub(super) request: Option<Box<[u8]>>,
    /// What a retransmission of the request is answered with: the last response. Nothing on a reliable transport.
    response: Option<Box<[u8]>>,
    /// When to send something by oneself: the 100, later timer G.
    resend_at: Option<Instant>,
    /// Timer G's interval.
    interval: Duration,
    /// When the present state ends.
    until: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// No final response yet. Called Trying for other methods than INVITE as long as there is none at all.
    Proceeding,
    /// Of an INVITE, a non-2xx waits for its ACK (timer H); of another method, retransmissions are answered (timer J).
    Completed,
    /// The ACK has come; further ones are absorbed (timer I).
    Confirmed,
    /// A 2xx to INVITE was sent; the user's further ones pass (timer L).
    Accepted,
    Terminated,
}

/// What the owner is to be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fired {
    Nothing,
    Expired,
    AckTimeout,
}

impl ServerTransaction {
    pub(super) fn new(
        config: &TransactionConfig,
        now: Instant,
        new: &NewRequest,
        request: &[u8],
        invite: bool,
        flow: &Flow,
    ) -> Self {
        let (trying_after, patience) = if invite {
            (config.trying_after, config.invite_patience)
        } else {
            (config.non_invite_trying_after(), config.timeout())
        };
        Self {
            state: State::Proceeding,
            invite,
            cancelled: false,
            trying_sent: false,
            key: new.key,
            merge: new.merge,
            flow: *flow,
            request: Some(request.into()),
            response: None,
            resend_at: Some(now + trying_after),
            interval: config.t1,
            until: now + patience,
        }
    }

    pub(super) fn awaits_final(&self) -> bool {
        self.state == State::Proceeding
    }

    /// Whether a response with that status may be sent now.
    pub(super) fn permits(&self, status: u16) -> bool {
        match self.state {
            State::Proceeding => self.invite || status == 100 || (status >= 200 && status != 408),
            State::Accepted => (200..300).contains(&status),
            _ => false,
        }
    }

    /// A response that is not permitted was to be sent.
    pub(super) fn refused(&mut self, status: u16) {
        if self.state == State::Proceeding && status >= 200 {
            self.terminate();
        }
    }

    /// A permitted response has been sent.
    pub(super) fn responded(
        &mut self,
        config: &TransactionConfig,
        now: Instant,
        status: u16,
        response: &[u8],
    ) {
        if self.state == State::Accepted {
            return;
        }
        self.resend_at = None;
        let keep = || (!self.flow.transport.is_reliable()).then(|| response.into());
        match (status, self.invite) {
            (..200, true) => {
                self.response = keep();
                self.until = now + config.invite_patience;
            }
            (..200, false) => self.response = keep(),
            (200..300, true) => {
                self.state = State::Accepted;
                (self.request, self.response) = (None, None);
                self.until = now + config.timeout();
            }
            (_, true) => {
                self.state = State::Completed;
                (self.request, self.response) = (None, keep());
                self.until = now + config.timeout();
                if !self.flow.transport.is_reliable() {
                    self.interval = config.t1;
                    self.resend_at = Some(now + self.interval);
                }
            }
            (_, false) if self.flow.transport.is_reliable() => self.terminate(),
            (_, false) => {
                self.state = State::Completed;
                (self.request, self.response) = (None, keep());
                self.until = now + config.timeout();
            }
        }
    }

    /// The request has come again.
    pub(super) fn repeat(&self, scratch: &mut Index, out: &mut Outbox) {
        match (self.state, &self.response) {
            (State::Proceeding | State::Completed, Some(response)) => out.push(&self.flow, response),
            (State::Proceeding, None) if self.trying_sent || self.invite => {
                self.write_own(100, None, scratch, out)
            }
            _ => {}
        }
    }

    /// An ACK that matches the INVITE has come.
    pub(super) fn acknowledged(&mut self, config: &TransactionConfig, now: Instant) -> Received {
        match self.state {
            State::Completed if self.invite => {
                self.response = None;
                self.resend_at = None;
                if self.flow.transport.is_reliable() {
                    self.terminate();
                } else {
                    self.state = State::Confirmed;
                    self.until = now + config.t4;
                }
                Received::Absorbed
            }
            // Only a client of RFC 2543 acknowledges a 2xx with the INVITE's branch.
            State::Accepted => Received::Ack,
            _ => Received::Absorbed,
        }
    }

    pub(super) fn fire(
        &mut self,
        config: &TransactionConfig,
        now: Instant,
        tag: Tag,
        scratch: &mut Index,
        out: &mut Outbox,
    ) -> Fired {
        if self.until <= now {
            return self.expire(config, now, tag, scratch, out);
        }
        if self.resend_at.is_none_or(|at| at > now) {
            return Fired::Nothing;
        }
        self.resend_at = None;
        match self.state {
            State::Proceeding => {
                self.write_own(100, None, scratch, out);
                self.trying_sent = true;
            }
            State::Completed => {
                if let Some(response) = &self.response {
                    out.push(&self.flow, response);
                }
                self.interval = (self.interval * 2).min(config.t2);
                self.resend_at = Some(now + self.interval);
            }
            State::Confirmed | State::Accepted | State::Terminated => {}
        }
        Fired::Nothing
    }

    /// The state's time is over.
    fn expire(
        &mut self,
        config: &TransactionConfig,
        now: Instant,
        tag: Tag,
        scratch: &mut Index,
        out: &mut Outbox,
    ) -> Fired {
        match self.state {
            State::Proceeding if self.invite => {
                let before = out.len();
                self.write_own(408, Some(tag), scratch, out);
                let sent = if out.len() > before {
                    super::last_message(out)
                } else {
                    &[]
                };
                self.responded(config, now, 408, sent);
                Fired::Expired
            }
            State::Proceeding => {
                self.terminate();
                Fired::Expired
            }
            State::Completed if self.invite => {
                self.terminate();
                Fired::AckTimeout
            }
            _ => {
                self.terminate();
                Fired::Nothing
            }
        }
    }

    /// A response made of the kept request.
    fn write_own(&self, status: u16, tag: Option<Tag>, scratch: &mut Index, out: &mut Outbox) {
        let Some(bytes) = self.request.as_deref() else {
            return;
        };
        if scratch.parse(bytes).is_err() {
            return;
        }
        let mut response = Response::new(Message::new(bytes, scratch), status).source(self.flow.remote);
        if let Some(tag) = &tag {
            response = response.to_tag(tag.as_str());
        }
        out.push_with(&self.flow, |out| response.write(out));
    }

    fn terminate(&mut self) {
        self.state = State::Terminated;
    }

    /// When the next timer fires; `None` when it is over.
    pub(super) fn due(&self) -> Option<Instant> {
        (self.state != State::Terminated).then(|| self.resend_at.map_or(self.until, |at| at.min(self.until)))
    }

    pub(super) fn kept_bytes(&self) -> usize {
        self.request.as_ref().map_or(0, |b| b.len()) + self.response.as_ref().map_or(0, |b| b.len())
    }
}
