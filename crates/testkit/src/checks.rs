//! What has to hold in every world, and when it is looked at.
//!
//! Always: each request of a telephone comes to one end, with one final response or none in time; nobody gets what is not his;
//! nobody rings for a call that is gone; no call has two records; a registration that was acknowledged survives a crash; at the
//! end nothing is left, no transaction, call, stream or port. In calm weather also: calls come out as people mean them to, both
//! sides hear each other and nobody else, every call has its record.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use agent::{EndCause, PhoneEvent};
use sip::{Index, Message, Method};

use crate::plan::{CallPlan, Callee, Step, Weather};
use crate::service::Load;
use crate::world::{CallFacts, CalleeFacts, End, World, outcome_of};

/// How a call is expected to go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Expected {
    /// It is answered, unless the caller loses his patience.
    Answered,
    /// It fails with that status.
    Status(u16),
    /// Too much goes on to tell.
    Anything,
}

/// The requests that a telephone sent, by branch and method, and how they were answered.
#[derive(Default)]
pub(crate) struct Conversations {
    index: Index,
    requests: BTreeMap<(String, String), Option<u16>>,
    /// How many of them the telephone knows nothing of any more.
    forgotten: usize,
}

impl Conversations {
    /// Takes note of what a telephone sends.
    pub(crate) fn sent(&mut self, bytes: &[u8]) {
        if self.index.parse(bytes).is_err() {
            return;
        }
        let m = Message::new(bytes, &self.index);
        if !m.is_request() || matches!(m.method(), Method::Ack | Method::Cancel) {
            return;
        }
        if let Some(key) = key_of(m) {
            self.requests.entry(key).or_insert(None);
        }
    }

    /// Looks at what comes to a telephone; what is wrong with it.
    pub(crate) fn received(&mut self, bytes: &[u8]) -> Option<String> {
        let text = || String::from_utf8_lossy(bytes).into_owned();
        if let Err(error) = self.index.parse(bytes) {
            return Some(format!("got no SIP message ({error}): {}", text()));
        }
        let m = Message::new(bytes, &self.index);
        let valid = match m.is_request() {
            true => m.validate_request(),
            false => m.validate_response(),
        };
        if let Err(invalid) = valid {
            return Some(format!("got an invalid message ({}): {}", invalid.reason, text()));
        }
        if m.is_request() || m.status() < 200 || m.method() == Method::Cancel {
            return None;
        }
        let Some(status) = key_of(m).and_then(|key| self.requests.get_mut(&key)) else {
            return Some(format!("got a response to nothing: {}", text()));
        };
        match *status {
            None => *status = Some(m.status()),
            Some(first) if first != m.status() => {
                return Some(format!("got {first} and then {}: {}", m.status(), text()));
            }
            Some(_) => {}
        }
        None
    }

    /// The telephone starts anew.
    pub(crate) fn forget(&mut self) {
        self.forgotten = self.requests.len();
    }

    fn len(&self) -> usize {
        self.requests.len() - self.forgotten
    }
}

fn key_of(m: Message<'_>) -> Option<(String, String)> {
    let branch = m.top_via().ok()?.branch?.to_owned();
    Some((branch, m.method().as_str().to_owned()))
}

impl World<'_> {
    /// How a call should go that begins now.
    pub(crate) fn expect(&self, plan: &CallPlan) -> Expected {
        if self.plan.weather == Weather::Stormy {
            return Expected::Anything;
        }
        if !self.plan.phones[plan.from].knows_password {
            return Expected::Status(407);
        }
        let account = match plan.to {
            Callee::Nobody => return Expected::Status(404),
            Callee::Unregistered => return Expected::Status(480),
            Callee::Echo => return Expected::Answered,
            Callee::Account(account) => account,
        };
        let own = |number: &usize| self.plan.phones[*number].account == account;
        if (0..self.stations.len())
            .filter(own)
            .any(|number| self.is_awaited(number))
        {
            return Expected::Anything;
        }
        // Boxes may have forgotten their telephones before the service that starts comes to keep them awake.
        let drowsy = self.troubles.iter().any(|(_, end)| *end + AWAKE > self.now);
        let rings = |number: &usize| {
            let phone = &self.plan.phones[*number];
            let here = phone.account == account && *number != plan.from;
            here && !(drowsy && phone.nat.is_some())
                && self.stations[*number].registered_until.is_some()
                && self.is_free(*number)
        };
        // Those that are not free say that they are busy, which counts less than whatever the others do.
        match (0..self.stations.len()).find(rings) {
            Some(_) => outcome_of(plan.answering),
            None => Expected::Anything,
        }
    }

    /// A request of a telephone came to its end.
    pub(crate) fn check_completed(&mut self, number: usize, method: &'static str, status: Option<u16>) {
        let calm = self.plan.weather == Weather::Calm;
        if calm && self.is_reachable(number) && matches!(status, None | Some(500..600)) {
            let event = PhoneEvent::Completed { method, status };
            self.fault(format!(
                "{}: {event:?} in calm weather",
                self.stations[number].name
            ));
        }
    }

    /// A call has ended at a telephone.
    pub(crate) fn check_cause(&mut self, number: usize, cause: &EndCause) {
        let cut = |(_, step): &(Duration, Step)| {
            matches!(
                step,
                Step::Cut(..) | Step::Power(..) | Step::RestartNat(_) | Step::Crash(_)
            )
        };
        let reachable = (0..self.stations.len()).all(|number| self.is_reachable(number));
        if *cause == EndCause::NoAck && reachable && !self.plan.steps.iter().any(cut) {
            let name = &self.stations[number].name;
            self.fault(format!("{name} answered a call, and nobody was there"));
        }
    }

    /// Nobody keeps the way open to an unregistered telephone behind NAT.
    fn is_reachable(&self, number: usize) -> bool {
        self.stations[number].registered_until.is_some() || self.plan.phones[number].nat.is_none()
    }

    /// It was so all the time since then.
    fn was_reachable(&self, number: usize, since: Instant) -> bool {
        let signed_off = |(at, step): &(Duration, Step)| {
            matches!(step, Step::Unregister(who) if *who == number) && self.start + *at >= since
        };
        let kept_awake = self.plan.phones[number].nat.is_none() || !self.plan.steps.iter().any(signed_off);
        self.is_reachable(number) && kept_awake
    }

    /// A re-INVITE of a telephone was answered for good.
    pub(crate) fn check_renegotiated(&mut self, number: usize, status: u16) {
        if status != 200 && self.plan.weather == Weather::Calm {
            self.fault(format!(
                "{}: a re-INVITE is answered {status}",
                self.stations[number].name
            ));
        }
    }

    /// A call has ended at the caller's a while ago.
    pub(crate) fn check_silence(&mut self, call: usize) {
        let facts = &self.calls[call];
        // Whose way to the service broke, cannot tell it to stop the ringing.
        let heard = match &facts.end {
            Some(end) => !matches!(end.cause, EndCause::Failed(408 | 503)),
            // He has given up, and waits for the answer to that.
            None => true,
        };
        let crashed = self.troubles.iter().any(|(_, end)| *end + LONGEST > self.now);
        if !heard || crashed {
            return;
        }
        let ringing = facts
            .callees
            .iter()
            .filter(|callee| callee.end.is_none() && self.was_reachable(callee.station, facts.started))
            .find(|callee| self.stations[callee.station].phone.is_ringing(callee.key));
        if let Some(callee) = ringing {
            let name = &self.stations[callee.station].name;
            self.fault(format!("{name} rings for a call that is gone: {}", facts.call_id));
        }
    }

    /// What was acknowledged is there.
    pub(crate) fn check_registrations(&mut self, when: &str) {
        for number in 0..self.stations.len() {
            let station = &self.stations[number];
            let holds = station.registered_until.is_some_and(|until| until > self.now);
            if holds && !self.is_bound(number) {
                self.fault(format!("{when} the registration of {} is lost", station.name));
            }
        }
    }

    /// Everything is over.
    pub(crate) fn check_the_end(&mut self) {
        self.check_registrations("at the end");
        if let Some(service) = &self.service {
            let (load, fault) = (service.load(), service.fault());
            if load != Load::default() {
                self.fault(format!("the service still holds {load:?}"));
            }
            if let Some(fault) = fault {
                self.fault(fault);
            }
        }
        for number in 0..self.stations.len() {
            let station = &self.stations[number];
            let (calls, transactions) = (station.phone.calls().count(), station.phone.transactions());
            let (sent, completed) = (station.conversations.len(), station.completed);
            let name = station.name.clone();
            if (calls, transactions) != (0, 0) {
                self.fault(format!(
                    "{name} still has {calls} calls, {transactions} transactions"
                ));
            }
            if sent != completed {
                self.fault(format!(
                    "{name} sent {sent} requests, and {completed} came to an end"
                ));
            }
        }
        for call in 0..self.calls.len() {
            self.expectations += usize::from(self.calls[call].expected != Expected::Anything);
            let faults = self.faults_of_call(call);
            for fault in faults {
                let facts = &self.calls[call];
                let text = format!("{fault} ({} {:?})", facts.call_id, facts.plan);
                self.fault(text);
            }
        }
    }

    fn faults_of_call(&self, call: usize) -> Vec<String> {
        let mut faults = Vec::new();
        let facts = &self.calls[call];
        let Some(end) = &facts.end else {
            return vec![String::from("the call has no end")];
        };
        if let Some(fault) = self.fault_of_record(facts, end) {
            faults.push(fault);
        }
        let disturbed = |until: Instant| {
            let during =
                |(from, to): &(Instant, Instant)| *to + DISTURBING >= facts.started && *from <= until;
            self.plan.weather == Weather::Stormy || self.troubles.iter().any(during)
        };
        if disturbed(end.at) {
            return faults;
        }
        let found = match (&end.cause, facts.answered) {
            (EndCause::Failed(status), _) => Expected::Status(*status),
            (_, Some(_)) => Expected::Answered,
            _ => Expected::Anything,
        };
        let gave_up = end.cause == EndCause::Local && facts.answered.is_none();
        if facts.expected != Expected::Anything && found != facts.expected && !gave_up {
            faults.push(format!("expected {:?}, found {found:?}", facts.expected));
        }
        let waited = end.at.duration_since(facts.started);
        let to_account =
            matches!(facts.plan.to, Callee::Account(_)) && self.plan.phones[facts.plan.from].knows_password;
        let silent = to_account && facts.callees.is_empty() && waited > RINGS_WITHIN;
        if facts.expected != Expected::Anything && gave_up && silent {
            faults.push(String::from("no telephone rang"));
        }
        // Who has not heard that the call is over, speaks on.
        if facts.answered.is_some() && !disturbed(last_end(facts, end)) {
            faults.extend(self.fault_of_media(facts, end));
        }
        faults
    }

    /// A call has one record, if it was let in and the service lived until its end.
    fn fault_of_record(&self, facts: &CallFacts, end: &End) -> Option<String> {
        let records: Vec<_> = self
            .store
            .records()
            .iter()
            .filter(|record| record.call_id == facts.call_id)
            .collect();
        // From behind a box that forgot, an INVITE sent again looks like another one, and is challenged once more.
        let boxes = |(_, step): &(Duration, Step)| matches!(step, Step::RestartNat(_));
        if records.len() > 1 && !self.plan.steps.iter().any(boxes) {
            return Some(format!("{} records: {records:?}", records.len()));
        }
        let last = last_end(facts, end);
        // A BYE may have to be sent often before it arrives.
        let written = match self.plan.weather {
            Weather::Stormy => Duration::from_secs(40),
            Weather::Calm | Weather::Crashing => RECORD_WRITTEN,
        };
        let crashed = self
            .troubles
            .iter()
            .any(|(from, to)| *to >= facts.started && *from < last + written);
        let refused = matches!(end.cause, EndCause::Failed(401 | 403 | 407 | 408 | 503));
        let calm = self.plan.weather == Weather::Calm;
        let gave_up = end.cause == EndCause::Local;
        let reached = facts.answered.is_some() || !facts.callees.is_empty() || (calm && !refused && !gave_up);
        match records.first() {
            None if reached && !crashed => Some(String::from("no record")),
            Some(record) if facts.answered.is_some() && record.answered.is_none() => {
                Some(format!("was answered, and the record says no: {record:?}"))
            }
            _ => None,
        }
    }

    fn fault_of_media(&self, facts: &CallFacts, end: &End) -> Option<String> {
        let long = end.at.duration_since(facts.answered?) >= LONG_ENOUGH;
        if facts.plan.to == Callee::Echo {
            let silent = long && end.media.received * 10 < end.media.sent * 7;
            return silent.then(|| format!("the echo is not heard: {:?}", end.media));
        }
        let spoke = |callee: &&CalleeFacts| callee.end.as_ref().is_some_and(|end| end.media.sent > 0);
        let answered: Vec<_> = facts.callees.iter().filter(spoke).collect();
        // Of two telephones that were picked up at the same moment one is heard, and which one is not known here.
        let [callee] = answered[..] else { return None };
        let there = callee.end.as_ref()?;
        for (who, heard, said, ssrc) in [
            ("caller", &end.media, &there.media, callee.ssrc),
            ("callee", &there.media, &end.media, facts.ssrc),
        ] {
            let strange = heard.foreign > 0 || heard.ssrc.is_some_and(|found| found != ssrc);
            if strange || heard.received > said.sent {
                return Some(format!("the {who} hears somebody else: {heard:?}"));
            }
            let enough = heard.received * 10 >= said.sent * 7;
            if long && !facts.held && !enough {
                return Some(format!("the {who} hears too little of {said:?}: {heard:?}"));
            }
        }
        None
    }
}

/// When the last telephone of a call was done with it; `end` is the caller's end.
fn last_end(facts: &CallFacts, end: &End) -> Instant {
    let ends = facts.callees.iter().filter_map(|callee| callee.end.as_ref());
    ends.map(|end| end.at).fold(end.at, Instant::max)
}

/// So long after a crash calls may still suffer from it.
const DISTURBING: Duration = Duration::from_secs(1);
/// A telephone that is there rings so soon on calm lines.
const RINGS_WITHIN: Duration = Duration::from_secs(1);
/// Every telephone behind NAT has been sent a keepalive after a start.
const AWAKE: Duration = Duration::from_secs(30);
/// A record is in the store so long after the end of its call.
const RECORD_WRITTEN: Duration = Duration::from_secs(2);
/// Talks that are long enough for most packets to arrive after the first have opened the way.
const LONG_ENOUGH: Duration = Duration::from_secs(4);
/// A CANCEL and the INVITE before it are sent again for so long.
const LONGEST: Duration = Duration::from_secs(140);
