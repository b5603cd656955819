//! Calls: what the switch knows about an INVITE and the dialogs that come of it, their media, and their end.
//!
//! A call begins with the INVITE ([`Call::new`]), takes note of each response to it, and ends with the BYE of either side, the
//! failure of the INVITE, or because no media flow any more. Its end has an order: the relay's streams are closed and report
//! their counters, the record goes to the store, and only when it is safe there the answer to the BYE goes back. So a record is
//! never lost once the phone has its 200.
//!
//! The media side of each message is in [`media`]; building a BYE of our own is in [`bye`].

mod bye;
mod media_glue;

use std::time::Instant;

use media::negotiation::Session;
use media::stream::StreamCounters;
use media::{SessionId, StreamId};
use sip::headers::Contacts;
use sip::timer::TimerId;
use sip::transaction::ServerKey;
use sip::{Flow, HeaderId, Message, Method, Uri};
use smallvec::SmallVec;

pub(crate) use bye::NOBODY;
pub(crate) use media_glue::Body;

use crate::arena::Key;
use crate::context::Context;
use crate::directory::Directory;
use crate::event::{Change, Event};
use crate::reconnect::Whereabouts;
use crate::record::{CallInfo, CallRecord, CallState, EndedBy, MediaPath, Traffic};
use crate::route::token_in;
use crate::switch::{Clock, Switch, TimerKey, Waiting};
use crate::token::Token;

/// A call.
pub(crate) struct Call {
    call_id: Box<str>,
    caller_address: Box<str>,
    callee_address: Box<str>,
    caller: Party,
    /// The early dialogs and the confirmed one.
    dialogs: SmallVec<[Dialog; 1]>,
    /// Place of the answered one in `dialogs`.
    confirmed: Option<usize>,
    pub(crate) session: Option<Box<Session>>,
    /// The stream of the user agent inside the service that answered.
    local: Option<StreamId>,
    state: CallState,
    started: u64,
    ringing: Option<u64>,
    answered: Option<u64>,
    /// When an answered call has lasted too long.
    longest: Option<TimerId>,
    ending: Option<Ending>,
    codec: Option<Box<str>>,
    path: MediaPath,
    traffic: SmallVec<[(StreamId, StreamCounters); 1]>,
}

/// One end of a dialog, as far as a BYE of our own needs it (RFC 3261 12.2.1.1).
#[derive(Default)]
struct Party {
    at: Option<Whereabouts>,
    /// The From or To value that names it, with its tag.
    address: Box<str>,
    tag: Box<str>,
    /// Its Contact.
    target: Box<str>,
    /// Route values between here and there.
    routes: Box<str>,
    /// The last CSeq that it used.
    cseq: u32,
}

struct Dialog {
    callee: Party,
    media: Option<media::Branch>,
}

/// The end of a call, under way.
struct Ending {
    ended: u64,
    by: EndedBy,
    status: u16,
    reason: Option<Box<str>>,
    /// Streams whose last report has not come.
    streams: SmallVec<[StreamId; 1]>,
    /// Responses that wait for the record.
    held: SmallVec<[(ServerKey, u16, Vec<u8>); 1]>,
    timer: TimerId,
}

impl Call {
    pub(crate) fn new(m: Message<'_>, flow: &Flow, started: u64, directory: &Directory) -> Self {
        let from = m.from().ok();
        Call {
            call_id: m.call_id().unwrap_or_default().into(),
            caller_address: from
                .map(|from| address_of(from.uri, directory))
                .unwrap_or_default(),
            callee_address: address_of(m.request_uri(), directory),
            caller: Party {
                at: Some(Whereabouts::new(flow)),
                address: header_text(m, HeaderId::From),
                tag: from.and_then(|from| from.tag()).unwrap_or_default().into(),
                target: contact_of(m)
                    .or(from.map(|from| from.uri))
                    .unwrap_or_default()
                    .into(),
                routes: joined(m.values(HeaderId::RecordRoute)),
                cseq: m.cseq().map_or(0, |cseq| cseq.number),
            },
            dialogs: SmallVec::new(),
            confirmed: None,
            session: None,
            local: None,
            state: CallState::Calling,
            started,
            ringing: None,
            answered: None,
            longest: None,
            ending: None,
            codec: None,
            path: MediaPath::None,
            traffic: SmallVec::new(),
        }
    }

    /// The call for people.
    pub(crate) fn info(&self, clock: &Clock) -> CallInfo {
        let (from_caller, from_callee) = self.traffic(clock);
        CallInfo {
            call_id: self.call_id.to_string(),
            caller: self.caller_address.to_string(),
            callee: self.callee_address.to_string(),
            started: self.started,
            answered: self.answered,
            state: self.state,
            codec: self.codec.as_deref().map(String::from),
            media: self.path,
            from_caller,
            from_callee,
        }
    }

    /// The dialog that a message inside it belongs to: the callee's tag is in To when the caller sends it, else in From.
    fn dialog_of(&self, m: Message<'_>) -> Option<usize> {
        let (from, to) = (from_tag(m), to_tag(m));
        let callee = match (from == &*self.caller.tag, to == &*self.caller.tag) {
            (true, _) => to,
            (false, true) => from,
            (false, false) => return None,
        };
        self.dialogs
            .iter()
            .position(|dialog| &*dialog.callee.tag == callee)
    }

    /// The message is a request of the caller, or a response to one.
    fn is_from_caller(&self, m: Message<'_>) -> bool {
        from_tag(m) == &*self.caller.tag
    }

    /// Where the side is that a request inside a dialog goes to.
    pub(crate) fn receiver(&mut self, m: Message<'_>) -> Option<&mut Whereabouts> {
        let party = match self.is_from_caller(m) {
            true => {
                let place = self.dialog_of(m)?;
                &mut self.dialogs.get_mut(place)?.callee
            }
            false => &mut self.caller,
        };
        party.at.as_mut()
    }

    /// What the caller sent and what the callee sent, over all streams.
    fn traffic(&self, clock: &Clock) -> (Traffic, Traffic) {
        let (mut caller, mut callee) = (Traffic::default(), Traffic::default());
        for (_, counters) in &self.traffic {
            caller.add(&counters.caller, clock);
            callee.add(&counters.callee, clock);
        }
        (caller, callee)
    }
}

impl Switch {
    /// The call that a request inside a dialog belongs to.
    pub(crate) fn call_of(&self, m: Message<'_>, token: &Token) -> Option<Key<Call>> {
        let key = Key::from_u64(token.call);
        let call = self.calls.get(key)?;
        (m.call_id().ok()? == &*call.call_id).then_some(key)
    }

    /// Takes note of the CSeq that a side has come to: a BYE of our own in its name has to be above. And of its new Contact (RFC
    /// 3261 12.2), and of a new connection.
    pub(crate) fn note_request(&mut self, key: Key<Call>, flow: &Flow, m: Message<'_>) {
        let (Some(call), Ok(cseq)) = (self.calls.get_mut(key), m.cseq()) else {
            return;
        };
        let Some(place) = call.dialog_of(m) else { return };
        let party = if call.is_from_caller(m) {
            &mut call.caller
        } else {
            &mut call.dialogs[place].callee
        };
        party.cseq = party.cseq.max(cseq.number);
        if let Some(at) = &mut party.at {
            at.seen(flow);
        }
        if let (Method::Invite | Method::Update, Some(contact)) = (m.method(), contact_of(m)) {
            party.target = contact.into();
        }
    }

    /// A response to the INVITE that sets the call up went back to the caller: takes note of what it says.
    pub(crate) fn note_response(
        &mut self,
        now: Instant,
        key: Key<Context>,
        position: u8,
        flow: &Flow,
        m: Message<'_>,
    ) {
        let at = self.clock.unix_ms(now);
        let Some(context) = self.contexts.get(key) else {
            return;
        };
        let (Some(call), true) = (context.call, context.initial) else {
            return;
        };
        let media = context
            .branches
            .get(usize::from(position))
            .and_then(|branch| branch.media);
        let (key, secret) = (call, &self.shared.secret);
        let Some(call) = self.calls.get_mut(key) else {
            return;
        };
        if m.status() >= 180 && call.state == CallState::Calling {
            call.state = CallState::Ringing;
            call.ringing = (m.status() < 200).then_some(at);
        }
        let tag = to_tag(m);
        let known = call.dialogs.iter().position(|dialog| &*dialog.callee.tag == tag);
        if m.status() < 200 && (known.is_some() || tag.is_empty() || call.dialogs.len() >= MAX_EARLY_DIALOGS)
        {
            return;
        }
        let place = known.unwrap_or_else(|| {
            call.dialogs.push(Dialog {
                callee: Party {
                    at: Some(Whereabouts::new(flow)),
                    tag: tag.into(),
                    ..Party::default()
                },
                media,
            });
            call.dialogs.len() - 1
        });
        if m.status() >= 200 && call.confirmed.is_none() {
            call.confirmed = Some(place);
            call.answered = Some(at);
            call.state = CallState::Talking;
            if call.path == MediaPath::None {
                call.path = MediaPath::Direct;
            }
            if call.path == MediaPath::Local {
                let session = SessionId::local(tag);
                call.local = Some(StreamId { session, line: 0 });
                self.local_sessions.insert(session, key);
            }
            let longest = self.shared.config.longest_call;
            call.longest = Some(self.timers.schedule(now, now + longest, TimerKey::Longest(key)));
            let callee = &mut call.dialogs[place].callee;
            callee.at = Some(Whereabouts::new(flow));
            callee.address = header_text(m, HeaderId::To);
            callee.target = callee_target(m);
            callee.routes = routes_to_callee(m, |token| token.call == key.to_u64(), secret);
        }
    }

    /// The INVITE failed for good.
    pub(crate) fn note_failure(
        &mut self,
        now: Instant,
        key: Key<Context>,
        status: u16,
        by: EndedBy,
        reason: Option<Box<str>>,
    ) {
        let Some(context) = self.contexts.get(key) else {
            return;
        };
        if let (Some(call), true) = (context.call, context.initial) {
            self.end_call(now, call, by, status, reason);
        }
    }

    /// A BYE goes by: the call is over, whatever the other side answers.
    pub(crate) fn note_bye(&mut self, now: Instant, key: Key<Call>, m: Message<'_>) {
        let Some(call) = self.calls.get(key) else { return };
        // A forked call has early dialogs besides the confirmed one; their BYEs are not the end of the call.
        if call.confirmed.is_none() || call.dialog_of(m) != call.confirmed {
            return;
        }
        let by = if call.is_from_caller(m) {
            EndedBy::Caller
        } else {
            EndedBy::Callee
        };
        let reason = m
            .header(HeaderId::Reason)
            .and_then(|header| header.text().ok())
            .map(Box::from);
        self.end_call(now, key, by, 200, reason);
    }

    /// Begins the end of a call: closes its streams, then writes its record.
    pub(crate) fn end_call(
        &mut self,
        now: Instant,
        key: Key<Call>,
        by: EndedBy,
        status: u16,
        reason: Option<Box<str>>,
    ) {
        let ended = self.clock.unix_ms(now);
        let Some(call) = self.calls.get_mut(key) else {
            return;
        };
        if call.ending.is_some() {
            return;
        }
        call.state = CallState::Ending;
        // The user agent inside closes its stream itself.
        let mut streams: SmallVec<[StreamId; 1]> = call.local.into_iter().collect();
        if let Some(session) = &mut call.session {
            session.end(&mut *self.ports);
            while let Some(command) = session.poll_command() {
                if let media::Command::Close { stream } = command {
                    streams.push(stream);
                }
                self.events.push_back(Event::Media(command));
            }
        }
        let nothing_to_wait_for = streams.is_empty();
        let timer = self
            .timers
            .schedule(now, now + self.shared.config.record_wait, TimerKey::Ending(key));
        call.ending = Some(Ending {
            ended,
            by,
            status,
            reason,
            streams,
            held: SmallVec::new(),
            timer,
        });
        if nothing_to_wait_for {
            self.write_record(now, key);
        }
    }

    /// The packet side reports.
    pub fn handle_report(&mut self, now: Instant, report: &media::Report) {
        let session = report.stream().session;
        let local = self.local_sessions.get(&session).copied();
        let key = local.unwrap_or(Key::from_u64(session.0));
        let Some(call) = self.calls.get_mut(key) else {
            return;
        };
        match report {
            media::Report::Counters { stream, counters } | media::Report::Ended { stream, counters } => {
                match call.traffic.iter_mut().find(|(known, _)| known == stream) {
                    Some((_, last)) => *last = *counters,
                    None => call.traffic.push((*stream, *counters)),
                }
            }
            _ => {}
        }
        if let media::Report::Ended { .. } = report {
            if let Some(ending) = &mut call.ending {
                let before = ending.streams.len();
                ending.streams.retain(|stream| *stream != report.stream());
                if before > 0 && ending.streams.is_empty() {
                    self.write_record(now, key);
                }
            }
        } else if let Some(session) = &mut call.session
            && let Some(media::negotiation::SessionEvent::Dead { silence }) = session.handle_report(report)
        {
            let reason = format!("no media for {} s", silence.as_secs());
            self.hang_up_both(now, key, &reason);
        }
        self.settle(now);
    }

    /// The store has written the record, or could not: the call is over.
    pub(crate) fn record_stored(&mut self, now: Instant, key: Key<Call>) {
        let Some(call) = self.calls.remove(key) else {
            return;
        };
        if let Some(local) = call.local {
            self.local_sessions.remove(&local.session);
        }
        if let Some(timer) = call.longest {
            self.timers.cancel(timer);
        }
        if let Some(ending) = call.ending {
            self.timers.cancel(ending.timer);
            for (server, status, bytes) in ending.held {
                self.transactions
                    .respond(now, server, status, &bytes, &mut self.outbox);
            }
        }
    }

    /// The record took too long: the phones are answered all the same. What the store has been given, it still writes.
    pub(crate) fn ending_timeout(&mut self, now: Instant, key: Key<Call>) {
        let waits_for_media = self
            .calls
            .get(key)
            .and_then(|call| call.ending.as_ref())
            .is_some_and(|ending| !ending.streams.is_empty());
        if waits_for_media {
            self.write_record(now, key);
        }
        self.record_stored(now, key);
    }

    /// The call's record is not safe yet.
    pub(crate) fn is_ending(&self, key: Key<Call>) -> bool {
        self.calls.get(key).is_some_and(|call| call.ending.is_some())
    }

    /// Keeps a response until the call's record is safe.
    pub(crate) fn hold(&mut self, key: Key<Call>, server: ServerKey, status: u16, bytes: &[u8]) {
        if let Some(ending) = self.calls.get_mut(key).and_then(|call| call.ending.as_mut()) {
            ending.held.push((server, status, bytes.to_vec()));
        }
    }

    fn write_record(&mut self, now: Instant, key: Key<Call>) {
        let clock = self.clock;
        let records = self.shared.config.records;
        let number = self.next_number();
        let Some(call) = self.calls.get_mut(key) else {
            return;
        };
        let (from_caller, from_callee) = call.traffic(&clock);
        let Some(ending) = &mut call.ending else { return };
        ending.streams.clear();
        let record = CallRecord {
            // Milliseconds, worker, and a counter against calls of the same moment: 41 + 8 + 14 bits.
            id: call.started << 22 | u64::from(self.worker) << 14 | number & 0x3fff,
            call_id: call.call_id.to_string(),
            caller: call.caller_address.to_string(),
            callee: call.callee_address.to_string(),
            started: call.started,
            ringing: call.ringing,
            answered: call.answered,
            ended: ending.ended,
            ended_by: ending.by,
            status: ending.status,
            reason: ending.reason.as_deref().map(String::from),
            codec: call.codec.as_deref().map(String::from),
            media: call.path,
            from_caller,
            from_callee,
        };
        if records {
            self.store(Change::Record(Box::new(record)), Some(Waiting::Record(key)));
        } else {
            self.record_stored(now, key);
        }
    }
}

impl Traffic {
    fn add(&mut self, counters: &media::stream::Counters, clock: &Clock) {
        self.packets += counters.packets;
        self.bytes += counters.bytes;
        self.lost += counters.lost;
        self.late += counters.late;
        self.jitter = self.jitter.max(counters.jitter_us as f32 / 1000.0);
        let unix = |at: Option<Instant>| at.map(|at| clock.unix_ms(at));
        self.first = self.first.into_iter().chain(unix(counters.first)).min();
        self.last = self.last.max(unix(counters.last));
    }
}

/// The address-of-record that a URI names here, or its `user@host`, or the URI as it is where it has no such parts.
fn address_of(uri: &str, directory: &Directory) -> Box<str> {
    let Ok(parsed) = Uri::parse(uri) else {
        return uri.into();
    };
    match directory.address_of_record(&parsed) {
        Some(own) => own.as_str().into(),
        None if parsed.is_sip() => parsed.aor().into(),
        None => uri.into(),
    }
}

/// The tag of From; none (RFC 2543) is as good as an empty one.
fn from_tag(m: Message<'_>) -> &str {
    m.from_tag().unwrap_or_default()
}

fn to_tag(m: Message<'_>) -> &str {
    m.to_tag().unwrap_or_default()
}

fn header_text(m: Message<'_>, id: HeaderId) -> Box<str> {
    m.value(id).ok().flatten().unwrap_or_default().into()
}

/// The URI of the Contact: where requests inside the dialog go.
fn contact_of(m: Message<'_>) -> Option<&str> {
    match m.contacts() {
        Ok(Contacts::List(mut list)) => Some(list.next()?.ok()?.uri),
        _ => None,
    }
}

/// Where requests to the sender of a 2xx go: its Contact, or what it was called by where it names none.
fn callee_target(m: Message<'_>) -> Box<str> {
    let to = || m.to().ok().map(|to| to.uri);
    contact_of(m).or_else(to).unwrap_or_default().into()
}

/// The route set between us and the sender of a 2xx: what stands above our own Record-Route was put there behind us.
fn routes_to_callee(m: Message<'_>, is_ours: impl Fn(&Token) -> bool, secret: &[u8; 16]) -> Box<str> {
    let mut values: SmallVec<[&str; 4]> = m
        .values(HeaderId::RecordRoute)
        .take_while(|value| !token_in(value, secret).is_some_and(|token| is_ours(&token)))
        .collect();
    values.reverse();
    joined(values)
}

fn joined<'a>(values: impl IntoIterator<Item = &'a str>) -> Box<str> {
    let values: SmallVec<[&str; 4]> = values.into_iter().collect();
    values.join(", ").into()
}

/// Early dialogs of a call that are remembered: each telephone that rings makes one.
const MAX_EARLY_DIALOGS: usize = 64;
