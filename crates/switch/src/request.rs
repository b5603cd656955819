//! What happens to a request (RFC 3261 16.3 to 16.5): is it sane, is it for this worker, who sent it, where does it go. What it
//! decides is carried out in [`proxy`](crate::proxy), [`registrar`](crate::registrar) or at once by a stateless answer.

use std::time::Instant;

use sip::headers::Credentials;
use sip::transaction::{Branch, NewRequest, Received, Transactions};
use sip::{Edits, Flow, HeaderId, Message, Method, Response, Transport};
use siphasher::sip::SipHasher13;
use smallvec::SmallVec;

use crate::auth::Verdict;
use crate::context::Target;
use crate::event::Event;
use crate::route::Route;
use crate::switch::Switch;
use crate::token::{Leg, Token, tag_hash};

impl Switch {
    /// A message that could be parsed.
    pub(crate) fn message(&mut self, now: Instant, flow: &Flow, m: Message<'_>) {
        if m.is_request() {
            self.request(now, flow, m);
        } else if let Ok(essentials) = &m.validate_response() {
            self.response(now, flow, m.with(essentials));
        }
    }

    fn response(&mut self, now: Instant, flow: &Flow, m: Message<'_>) {
        match self.transactions.receive(now, m, flow, &mut self.outbox) {
            Received::Response { client, owner } => self.proxy_response(now, flow, m, client, owner),
            Received::StrayResponse => {
                let worker = m
                    .top_via()
                    .ok()
                    .and_then(|via| Transactions::branch_worker(via.branch?));
                if let Some(worker) = worker.filter(|worker| self.is_other(*worker)) {
                    self.hand_over(worker, flow, m);
                }
            }
            _ => {}
        }
    }

    fn request(&mut self, now: Instant, flow: &Flow, m: Message<'_>) {
        let checked = m.validate_request();
        let essentials = match &checked {
            Ok(essentials) => essentials,
            Err(invalid) => {
                if m.is_answerable() {
                    self.refuse(flow, m, invalid.status, Some(invalid.reason));
                }
                return;
            }
        };
        let m = m.with(essentials);
        let route = Route::of(m, &self.shared.directory, &self.shared.secret);
        if let Some(token) = route.token.filter(|token| self.is_other(token.worker)) {
            return self.hand_over(token.worker, flow, m);
        }
        match self.transactions.receive(now, m, flow, &mut self.outbox) {
            Received::NewRequest(new) => self.new_request(now, flow, m, &route, new),
            Received::Cancel { invite: Some(invite) } => self.cancelled(now, m, invite),
            Received::Cancel { invite: None } => self.stray_cancel(flow, m),
            Received::Ack => self.forward_ack(now, flow, m, &route),
            _ => {}
        }
    }

    /// A CANCEL whose INVITE is not here. It may be with another worker: a NAT that has forgotten a caller while the other
    /// telephone rang gives him another port, and that may be another worker's. So it goes around once.
    fn stray_cancel(&mut self, flow: &Flow, m: Message<'_>) {
        let next = (self.worker + 1) % self.shared.workers;
        if next == self.first {
            self.refuse(flow, m, 481, None);
        } else {
            self.hand_over(next, flow, m);
        }
    }

    /// RFC 3261 16.3 and 16.4, then who it is for.
    fn new_request(&mut self, now: Instant, flow: &Flow, m: Message<'_>, route: &Route<'_>, new: NewRequest) {
        if m.max_forwards().ok().flatten() == Some(0) {
            match m.method() {
                // RFC 3261 16.3 lets whoever is the last answer it: it is how a path is traced.
                Method::Options => return self.answer_options(flow, m, &new),
                // It is not to be forwarded.
                Method::Register if self.is_for_us(m, route) => {}
                _ => return self.answer(flow, Response::new(m, 483).to_tag(new.tag().as_str())),
            }
        }
        if self.is_loop(m) || (new.is_merged() && !has_been_here(m)) {
            return self.answer(flow, Response::new(m, 482).to_tag(new.tag().as_str()));
        }
        if m.header(HeaderId::ProxyRequire).is_some() {
            let unsupported = m.values(HeaderId::ProxyRequire).collect::<Vec<_>>().join(", ");
            let tag = new.tag();
            let response = Response::new(m, 420)
                .to_tag(tag.as_str())
                .header(HeaderId::Unsupported, &unsupported);
            return self.answer(flow, response);
        }
        // Without a To tag it is no request inside a dialog, and a token saves nobody from saying who he is.
        if m.to_tag().is_some() {
            return match route.token {
                Some(token) => self.in_dialog(now, flow, m, route, new, &token),
                // A dialog that did not go through here, or whose Record-Route somebody took away or changed.
                None => self.answer(flow, Response::new(m, 481)),
            };
        }
        match m.method() {
            Method::Register if self.is_for_us(m, route) => {
                self.register(now, flow, m, new.tag().as_str());
            }
            Method::Options if self.is_for_us(m, route) && has_no_user(m) => {
                self.answer_options(flow, m, &new);
            }
            _ => self.out_of_dialog(now, flow, m, route, new),
        }
    }

    /// It has come to its end here: the Request-URI names this service, and no Route leads on.
    fn is_for_us(&self, m: Message<'_>, route: &Route<'_>) -> bool {
        route.next.is_none() && self.names_us(m)
    }

    /// The host of the Request-URI is a domain or an address of this service.
    fn names_us(&self, m: Message<'_>) -> bool {
        m.parsed_request_uri().is_ok_and(|uri| {
            self.shared.directory.is_local(uri.host) || self.shared.directory.is_own_address(uri.host)
        })
    }

    /// A request that starts something: who sends it, and whom is it for?
    fn out_of_dialog(
        &mut self,
        now: Instant,
        flow: &Flow,
        m: Message<'_>,
        route: &Route<'_>,
        new: NewRequest,
    ) {
        let local = self.is_for_us(m, route);
        let known = match self.auth.authenticate_proxy(self.clock.unix(now), m, flow, local) {
            Verdict::Account(_) | Verdict::Repeated(_) | Verdict::Trusted => true,
            Verdict::Stranger => false,
            Verdict::Challenge { status, headers } => {
                return self.answer(
                    flow,
                    Response::new(m, status)
                        .to_tag(new.tag().as_str())
                        .lines(&headers),
                );
            }
            Verdict::Refused { status, reason } => {
                return self.answer(
                    flow,
                    Response::new(m, status).reason(reason).to_tag(new.tag().as_str()),
                );
            }
        };
        let targets = if local {
            self.local_targets(now, flow, m, known)
        } else {
            Ok(SmallVec::from_iter([Target {
                uri: None,
                path: None,
                flow: None,
                direct: false,
            }]))
        };
        match targets {
            Ok(targets) => self.start(now, flow, m, route, new, targets),
            Err(status) if m.method() == Method::Invite => self.start_refused(now, flow, m, new, status),
            Err(status) => self.answer(flow, Response::new(m, status).to_tag(new.tag().as_str())),
        }
    }

    /// Where an address-of-record of this service is, or the status that says why nowhere: 404 where there is no such account,
    /// 480 where it is not registered.
    fn local_targets(
        &self,
        now: Instant,
        flow: &Flow,
        m: Message<'_>,
        known: bool,
    ) -> Result<SmallVec<[Target; 1]>, u16> {
        let uri = m.parsed_request_uri().map_err(|_| 400u16)?;
        if known && uri.user == Some(self.shared.config.echo_user.as_str()) {
            let echo = Flow {
                transport: Transport::Local,
                connection: None,
                ..*flow
            };
            return Ok(SmallVec::from_iter([Target {
                uri: None,
                path: None,
                flow: Some(echo),
                direct: true,
            }]));
        }
        let aor = self.shared.directory.address_of_record(&uri).ok_or(404u16)?;
        let bindings = self.shared.location.lookup(aor.as_str(), self.clock.unix(now));
        if bindings.is_empty() {
            return Err(if self.shared.directory.exists(&aor) {
                480
            } else {
                404
            });
        }
        Ok(bindings.iter().map(Target::from).collect())
    }

    /// A request inside a dialog that was set up through here goes to the other side's flow.
    fn in_dialog(
        &mut self,
        now: Instant,
        flow: &Flow,
        m: Message<'_>,
        route: &Route<'_>,
        new: NewRequest,
        token: &Token,
    ) {
        let leg = other_side(m, token);
        let there = self.flow_to_receiver(now, m, route, token, leg.flow);
        let target = Target {
            uri: route.strict_target.map(Box::from),
            path: None,
            flow: (leg.direct || route.next.is_some()).then_some(there),
            direct: leg.direct,
        };
        self.start_in_dialog(now, flow, m, route, new, token, target);
    }

    /// The request was here before and nothing about it has changed since (RFC 5393 4.2): one of our branches stands in its Via
    /// header fields, with the same hash over what routing depends on.
    fn is_loop(&self, m: Message<'_>) -> bool {
        let mut own = m
            .lower_vias()
            .filter_map(|via| Branch::parse(via.ok()?.branch?))
            .peekable();
        own.peek().is_some() && {
            let hash = self.loop_hash(m);
            own.any(|earlier| earlier.loop_hash() == hash)
        }
    }

    /// Hash over the fields that decide where a request goes (RFC 5393 4.2.1).
    pub(crate) fn loop_hash(&self, m: Message<'_>) -> u32 {
        use std::hash::Hasher;
        let mut hasher = SipHasher13::new_with_key(&self.shared.secret);
        hasher.write(m.request_uri().as_bytes());
        for id in LOOP_FIELDS {
            for header in m.headers_of(id) {
                hasher.write(header.value);
                hasher.write_u8(0);
            }
        }
        hasher.finish() as u32
    }

    fn is_other(&self, worker: u8) -> bool {
        worker != self.worker && worker < self.shared.workers
    }

    fn hand_over(&mut self, worker: u8, flow: &Flow, m: Message<'_>) {
        self.events.push_back(Event::HandOver {
            worker,
            flow: *flow,
            message: m.bytes().to_vec(),
            first: self.first,
        });
    }

    fn answer_options(&mut self, flow: &Flow, m: Message<'_>, new: &NewRequest) {
        let tag = new.tag();
        let response = Response::new(m, 200).to_tag(tag.as_str()).lines(CAPABILITIES);
        self.answer(flow, response);
    }

    /// Refuses a request that cannot even be matched.
    pub(crate) fn refuse(&mut self, flow: &Flow, m: Message<'_>, status: u16, reason: Option<&str>) {
        let tag = format!("{:08x}", self.loop_hash(m));
        let response = Response::new(m, status).to_tag(&tag);
        self.answer(
            flow,
            match reason {
                Some(reason) => response.reason(reason),
                None => response,
            },
        );
    }

    /// Answers without a transaction (RFC 3261 8.2.7): the same request gets the same answer with the same tag again.
    pub(crate) fn answer(&mut self, flow: &Flow, response: Response<'_>) {
        let response = response
            .source(flow.remote)
            .header(HeaderId::Server, self.shared.config.server_name);
        self.outbox.push_with(flow, |out| response.write(out));
    }

    /// Takes off the credentials that were meant for this service (RFC 3261 22.3 leaves them to us; the phone that is called
    /// need not see them).
    pub(crate) fn strip_credentials(edits: &mut Edits, m: Message<'_>, directory: &crate::Directory) {
        for header in m.headers_of(HeaderId::ProxyAuthorization) {
            let realm = header
                .text()
                .ok()
                .and_then(|value| Credentials::parse(value).ok()?.param("realm"));
            let host = realm.and_then(sip::uri::Host::parse);
            if host.is_some_and(|host| directory.is_local(host)) {
                edits.remove(m, header.position);
            }
        }
    }
}

/// One of our Vias is below the top one: the request comes back from somewhere that we sent it to.
fn has_been_here(m: Message<'_>) -> bool {
    m.lower_vias()
        .any(|via| via.is_ok_and(|via| via.branch.is_some_and(|branch| Branch::parse(branch).is_some())))
}

/// The side of a dialog that a request goes to: the caller's From tag says which one it comes from.
pub(crate) fn other_side(m: Message<'_>, token: &Token) -> Leg {
    let from_caller = m.from_tag().map_or(0, tag_hash) == token.caller_tag;
    if from_caller { token.callee } else { token.caller }
}

fn has_no_user(m: Message<'_>) -> bool {
    m.parsed_request_uri().is_ok_and(|uri| uri.user.is_none())
}

/// What the service itself understands and lets through.
const CAPABILITIES: &[u8] = b"Accept: application/sdp\r\n\
    Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, REGISTER, PRACK, UPDATE, INFO, MESSAGE, REFER, NOTIFY, SUBSCRIBE, PUBLISH\r\n\
    Supported: path\r\n";

/// Fields that the decision of where a request goes depends on. Via is not among them: it differs every time.
const LOOP_FIELDS: [HeaderId; 7] = [
    HeaderId::From,
    HeaderId::To,
    HeaderId::CallId,
    HeaderId::CSeq,
    HeaderId::Route,
    HeaderId::ProxyRequire,
    HeaderId::ProxyAuthorization,
];
