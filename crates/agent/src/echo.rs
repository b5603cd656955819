//! The echo service: a user agent inside the process that answers calls and sends back what it hears (RFC 3261 sections 8.2, 12
//! and 13.3). It is how one tests a line.
//!
//! The switch proxies to it over a flow whose transport is [`Transport::Local`](sip::Transport::Local) and whose remote address
//! is the caller's. Give such messages to [`EchoService::handle_message`], and what [`EchoService::outbox`] holds back to the
//! switch, over the same flow; give [`EchoService::poll_command`]'s orders to the packet side, and its reports, as far as their
//! session [is local](SessionId::is_local), to [`EchoService::handle_report`]; wait until [`EchoService::poll_timeout`] and call
//! [`EchoService::handle_timeout`].
//!
//! Such a flow neither loses nor repeats nor reorders, so requests are answered without server transactions (8.2.7). The 2xx is
//! sent again until its ACK comes nevertheless: the way between the switch and the caller may lose it (13.3.1.4).

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use media::echo::{Echo, EchoError};
use media::{Command, RelayPorts, Report, SessionId};
use sip::dialog::{Dialog, DialogState};
use sip::timer::{TimerId, TimerWheel};
use sip::transaction::{Received, TransactionConfig, Transactions};
use sip::{Flow, HeaderId, Index, Message, Method, Outbox, Response};

/// Settings of an echo service.
#[derive(Clone, Debug)]
pub struct EchoConfig {
    /// Calls at once; more are answered 486. 200.
    pub max_calls: usize,
    /// How long a call may last before it is hung up. An hour.
    pub max_duration: Duration,
    /// Value of the Server header in responses.
    pub server_name: &'static str,
}

impl Default for EchoConfig {
    fn default() -> Self {
        EchoConfig {
            max_calls: 200,
            max_duration: Duration::from_secs(3600),
            server_name: "Trapez",
        }
    }
}

/// The echo service of one worker.
pub struct EchoService {
    config: EchoConfig,
    ports: Box<dyn RelayPorts + Send>,
    timing: TransactionConfig,
    transactions: Transactions,
    calls: BTreeMap<SessionId, Call>,
    timers: TimerWheel<Timer>,
    outbox: Outbox,
    commands: VecDeque<Command>,
    index: Index,
    body: Vec<u8>,
}

/// A call to the echo.
struct Call {
    flow: Flow,
    dialog: Dialog,
    echo: Echo,
    /// A 2xx whose ACK has not come.
    unacknowledged: Option<Unacknowledged>,
    limit: TimerId,
}

/// A 2xx that is sent again until its ACK comes.
struct Unacknowledged {
    cseq: u32,
    response: Vec<u8>,
    /// The 2xx holds an offer, and the ACK is to bring the answer.
    offers: bool,
    interval: Duration,
    give_up: Instant,
    timer: TimerId,
}

#[derive(Clone, Copy, Debug)]
enum Timer {
    /// The 2xx is due again.
    Repeat(SessionId),
    /// The call has lasted long enough.
    Limit(SessionId),
}

impl EchoService {
    /// An echo service for worker number `worker`. `seed` is random and new at each start.
    pub fn new(config: EchoConfig, ports: Box<dyn RelayPorts + Send>, worker: u8, seed: [u8; 16]) -> Self {
        let timing = TransactionConfig {
            worker,
            ..TransactionConfig::default()
        };
        EchoService {
            config,
            ports,
            transactions: Transactions::new(timing.clone(), seed),
            timing,
            calls: BTreeMap::new(),
            timers: TimerWheel::new(),
            outbox: Outbox::new(),
            commands: VecDeque::new(),
            index: Index::new(),
            body: Vec::new(),
        }
    }

    /// A message came from the switch.
    pub fn handle_message(&mut self, now: Instant, flow: &Flow, bytes: &[u8]) {
        let mut index = std::mem::take(&mut self.index);
        if index.parse(bytes).is_ok() {
            self.message(now, flow, Message::new(bytes, &index));
        }
        self.index = index;
        // The BYEs are this end's only requests, and what becomes of them changes nothing.
        while self.transactions.poll_event().is_some() {}
    }

    /// The packet side reports about a session that [is local](SessionId::is_local).
    pub fn handle_report(&mut self, now: Instant, report: &Report) {
        if let Report::Timeout { stream, silence } = report {
            let reason = format!("no media for {} s", silence.as_secs());
            self.hang_up(now, stream.session, &reason);
        }
    }

    /// Asks the packet side for the counters of all calls. Its reports concern the switch, which keeps the calls' records.
    pub fn ask_for_counters(&mut self) {
        for call in self.calls.values_mut() {
            call.echo.ask_for_counters();
            while let Some(command) = call.echo.poll_command() {
                self.commands.push_back(command);
            }
        }
    }

    /// What is to be given to the switch, in order.
    pub fn outbox(&mut self) -> &mut Outbox {
        &mut self.outbox
    }

    /// The next order to the packet side.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// When [`EchoService::handle_timeout`] wants to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.timers.next(), self.transactions.poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.transactions.handle_timeout(now, &mut self.outbox);
        while self.transactions.poll_event().is_some() {}
        while let Some(timer) = self.timers.pop(now) {
            match timer {
                Timer::Repeat(session) => self.repeat(now, session),
                Timer::Limit(session) => {
                    let reason = format!("the echo lasts {} s", self.config.max_duration.as_secs());
                    self.hang_up(now, session, &reason);
                }
            }
        }
    }

    /// How many calls there are.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.calls.len()
    }

    fn message(&mut self, now: Instant, flow: &Flow, m: Message<'_>) {
        let valid = match m.is_request() {
            true => m.validate_request(),
            false => m.validate_response(),
        };
        // The switch lets nothing through that is not.
        let Ok(essentials) = valid else { return };
        let m = m.with(&essentials);
        match self.transactions.receive(now, m, flow, &mut self.outbox) {
            Received::NewRequest(new) => self.request(now, flow, m, new.tag().as_str()),
            // An INVITE is answered at once, so a CANCEL always comes too late.
            Received::Cancel { .. } => self.answer(flow, Response::new(m, 481)),
            Received::Ack => self.acknowledged(now, m),
            _ => {}
        }
    }

    fn request(&mut self, now: Instant, flow: &Flow, m: Message<'_>, tag: &str) {
        let response = |status| Response::new(m, status).to_tag(tag);
        let required: Vec<_> = m.tokens(HeaderId::Require).collect();
        if !required.is_empty() {
            let required = required.join(", ");
            return self.answer(flow, response(420).header(HeaderId::Unsupported, &required));
        }
        let in_dialog = m.to().is_ok_and(|to| to.tag().is_some());
        let session = in_dialog.then(|| self.find(m)).flatten();
        match (m.method(), session) {
            (_, None) if in_dialog => self.answer(flow, response(481)),
            (Method::Options, _) => {
                let capable = response(200).header(HeaderId::Accept, SDP);
                self.answer(flow, capable.header(HeaderId::Allow, ALLOW));
            }
            (Method::Invite, None) => self.invited(now, flow, m, tag),
            (Method::Invite | Method::Update | Method::Bye, Some(session)) => {
                self.request_in_call(now, flow, m, session);
            }
            _ => self.answer(flow, response(405).header(HeaderId::Allow, ALLOW)),
        }
    }

    /// An INVITE that begins a call.
    fn invited(&mut self, now: Instant, flow: &Flow, m: Message<'_>, tag: &str) {
        let session = SessionId::local(tag);
        if self.calls.len() >= self.config.max_calls || self.calls.contains_key(&session) {
            return self.refuse(flow, m, tag, 486);
        }
        let dialog = match Dialog::as_callee(m, tag, DialogState::Confirmed) {
            Ok(dialog) => dialog,
            Err(error) => return self.refuse(flow, m, tag, error.status()),
        };
        let mut echo = Echo::new(session, flow.remote.ip());
        match describe(&mut echo, m, flow, &mut *self.ports, &mut self.body) {
            Err(status) => self.refuse(flow, m, tag, status),
            Ok(offers) => {
                let limit = self
                    .timers
                    .schedule(now, now + self.config.max_duration, Timer::Limit(session));
                self.calls.insert(
                    session,
                    Call {
                        flow: *flow,
                        dialog,
                        echo,
                        unacknowledged: None,
                        limit,
                    },
                );
                self.accept(now, flow, m, session, tag, offers);
            }
        }
    }

    fn request_in_call(&mut self, now: Instant, flow: &Flow, m: Message<'_>, session: SessionId) {
        let Some(call) = self.calls.get_mut(&session) else {
            return;
        };
        if let Err(error) = call.dialog.accept_request(&m) {
            return self.refuse(flow, m, "", error.status());
        }
        if m.method() == Method::Bye {
            self.end(session);
            return self.answer(flow, Response::new(m, 200));
        }
        let update = m.method() == Method::Update;
        if update && m.body().is_empty() {
            // Without a description an UPDATE says only where its sender is (RFC 3311 section 5.1).
            return match call.dialog.refresh_target(&m) {
                Ok(()) => self.answer(flow, Response::new(m, 200)),
                Err(error) => self.refuse(flow, m, "", error.status()),
            };
        }
        if call.unacknowledged.as_ref().is_some_and(|waiting| waiting.offers) {
            // The answer to the last offer is still to come (RFC 3261 section 14.2, RFC 3311 section 5.2).
            return self.refuse(flow, m, "", 491);
        }
        match describe(&mut call.echo, m, flow, &mut *self.ports, &mut self.body) {
            Err(status) => self.refuse(flow, m, "", status),
            Ok(offers) => {
                // A Contact that cannot be read leaves the target as it is.
                let _ = call.dialog.refresh_target(&m);
                match update {
                    true => self.answer_with_body(flow, m),
                    false => self.accept(now, flow, m, session, "", offers),
                }
            }
        }
    }

    /// Answers an INVITE with 200 and the description in `body`, again and again until the ACK.
    fn accept(
        &mut self,
        now: Instant,
        flow: &Flow,
        m: Message<'_>,
        session: SessionId,
        tag: &str,
        offers: bool,
    ) {
        self.pass_commands(session);
        let Some(call) = self.calls.get_mut(&session) else {
            return;
        };
        let mut response = Vec::with_capacity(RESPONSE_BYTES + self.body.len());
        Response::new(m, 200)
            .to_tag(tag)
            .source(flow.remote)
            .copy(HeaderId::RecordRoute)
            .header(HeaderId::Contact, format_args!("<sip:echo@{}>", flow.local))
            .header(HeaderId::Allow, ALLOW)
            .header(HeaderId::Server, self.config.server_name)
            .body(SDP, &self.body)
            .write(&mut response);
        self.outbox.push(flow, &response);
        if let Some(earlier) = call.unacknowledged.take() {
            self.timers.cancel(earlier.timer);
        }
        let interval = self.timing.t1;
        call.unacknowledged = Some(Unacknowledged {
            cseq: m.cseq().map_or(0, |cseq| cseq.number),
            response,
            offers,
            interval,
            give_up: now + self.timing.t1 * 64,
            timer: self.timers.schedule(now, now + interval, Timer::Repeat(session)),
        });
    }

    /// The 2xx was not acknowledged in time: it is sent again, or the call ends (13.3.1.4).
    fn repeat(&mut self, now: Instant, session: SessionId) {
        let Some(call) = self.calls.get_mut(&session) else {
            return;
        };
        let Some(waiting) = &mut call.unacknowledged else {
            return;
        };
        if now >= waiting.give_up {
            return self.hang_up(now, session, "no ACK");
        }
        self.outbox.push(&call.flow, &waiting.response);
        waiting.interval = (waiting.interval * 2).min(self.timing.t2);
        let due = (now + waiting.interval).min(waiting.give_up);
        waiting.timer = self.timers.schedule(now, due, Timer::Repeat(session));
    }

    fn acknowledged(&mut self, now: Instant, m: Message<'_>) {
        let Some(call) = self.find(m).and_then(|session| self.calls.get_mut(&session)) else {
            return;
        };
        let number = m.cseq().map(|cseq| cseq.number).ok();
        let Some(waiting) = call
            .unacknowledged
            .take_if(|waiting| Some(waiting.cseq) == number)
        else {
            return;
        };
        self.timers.cancel(waiting.timer);
        let session = call.echo.stream().session;
        if waiting.offers && call.echo.answered(call.flow.remote.ip(), sdp_of(m)).is_err() {
            return self.hang_up(now, session, "no answer to the offer");
        }
        call.echo.confirmed();
        self.pass_commands(session);
    }

    /// Ends a call from this side.
    fn hang_up(&mut self, now: Instant, session: SessionId, reason: &str) {
        let Some(call) = self.calls.get_mut(&session) else {
            return;
        };
        let (flow, dialog) = (call.flow, &mut call.dialog);
        // Without room for the transaction the caller finds out by himself.
        let _ = self.transactions.send(
            now,
            &flow,
            Method::Bye,
            0,
            0,
            |branch, out| {
                let via = format!(
                    "SIP/2.0/{} {};branch={branch};rport",
                    flow.transport.as_via(),
                    flow.local
                );
                let reason = format!("Reason: SIP;cause=200;text=\"{reason}\"\r\n");
                let headers = |out: &mut Vec<u8>| out.extend_from_slice(reason.as_bytes());
                dialog.write_request(Method::Bye, &via, headers, None, out);
            },
            &mut self.outbox,
        );
        self.end(session);
    }

    fn end(&mut self, session: SessionId) {
        let Some(mut call) = self.calls.remove(&session) else {
            return;
        };
        self.timers.cancel(call.limit);
        if let Some(waiting) = call.unacknowledged.take() {
            self.timers.cancel(waiting.timer);
        }
        call.echo.end(&mut *self.ports);
        while let Some(command) = call.echo.poll_command() {
            self.commands.push_back(command);
        }
    }

    fn pass_commands(&mut self, session: SessionId) {
        let Some(call) = self.calls.get_mut(&session) else {
            return;
        };
        while let Some(command) = call.echo.poll_command() {
            self.commands.push_back(command);
        }
    }

    /// The call whose dialog a message belongs to.
    fn find(&self, m: Message<'_>) -> Option<SessionId> {
        let session = SessionId::local(m.to().ok()?.tag()?);
        let call = self.calls.get(&session)?;
        call.dialog.matches_request(&m).then_some(session)
    }

    fn answer(&mut self, flow: &Flow, response: Response<'_>) {
        let response = response
            .source(flow.remote)
            .header(HeaderId::Server, self.config.server_name);
        self.outbox.push_with(flow, |out| response.write(out));
    }

    fn refuse(&mut self, flow: &Flow, m: Message<'_>, tag: &str, status: u16) {
        let response = Response::new(m, status).to_tag(tag);
        match status {
            415 => self.answer(flow, response.header(HeaderId::Accept, SDP)),
            _ => self.answer(flow, response),
        }
    }

    /// 200 to an UPDATE, with the description in `body`.
    fn answer_with_body(&mut self, flow: &Flow, m: Message<'_>) {
        if let Some(session) = self.find(m) {
            self.pass_commands(session);
        }
        let body = std::mem::take(&mut self.body);
        let contact = format!("<sip:echo@{}>", flow.local);
        let response = Response::new(m, 200).header(HeaderId::Contact, &contact);
        self.answer(flow, response.body(SDP, &body));
        self.body = body;
    }
}

/// Writes the answer to the offer in `m` into `body`, or an offer if there is none, which is what `true` means. The error is the
/// status that refuses the request.
fn describe(
    echo: &mut Echo,
    m: Message<'_>,
    flow: &Flow,
    ports: &mut dyn RelayPorts,
    body: &mut Vec<u8>,
) -> Result<bool, u16> {
    body.clear();
    let offer = sdp_of(m);
    if !m.body().is_empty() && offer.is_empty() {
        return Err(415);
    }
    let offers = m.body().is_empty();
    let described = match offers {
        true => echo.offer(ports, body),
        false => echo.answer(flow.remote.ip(), offer, ports, body),
    };
    described.map(|()| offers).map_err(|error| match error {
        EchoError::Sdp(_) => 400,
        EchoError::NoPorts(_) => 503,
        _ => 488,
    })
}

fn sdp_of<'a>(m: Message<'a>) -> &'a [u8] {
    let part = sip::Part::find(m, SDP);
    part.and_then(|part| m.body().get(part.content))
        .unwrap_or_default()
}

const SDP: &str = "application/sdp";
const ALLOW: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE";
/// A response without its body, roughly.
const RESPONSE_BYTES: usize = 1024;

#[cfg(test)]
mod tests;
