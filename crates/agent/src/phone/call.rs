//! The calls of a telephone: what both sides of a call have in common, and the caller's work (RFC 3261 13.2, 14.1, 15).

use std::io::Write;
use std::time::{Duration, Instant};

use sip::dialog::Dialog;
use sip::digest::ClientAuthorization;
use sip::timer::TimerId;
use sip::transaction::ClientKey;
use sip::{Flow, HeaderId, Message, MessageBuf, Method};

use super::media::CallMedia;
use super::requests::{Incoming, Unacknowledged};
use super::{ALLOW, CallKey, EndCause, Phone, PhoneEvent, Purpose, SDP, Timer};

/// A call of a telephone.
pub(super) struct Call {
    pub(super) media: CallMedia,
    pub(super) dialog: Option<Dialog>,
    pub(super) outgoing: Option<Outgoing>,
    pub(super) incoming: Option<Incoming>,
    pub(super) unacknowledged: Option<Unacknowledged>,
    /// The 2xx has been sent or received.
    pub(super) answered: bool,
    /// The user has hung up, and the end has to wait for something.
    pub(super) closing: bool,
    /// The other side's telephone rings.
    rings_there: bool,
    renegotiation: Option<Renegotiation>,
    pub(super) decide: Option<TimerId>,
    packets: Option<TimerId>,
}

/// The INVITE of a caller.
pub(super) struct Outgoing {
    target: String,
    tag: String,
    call_id: String,
    cseq: u32,
    late_offer: bool,
    client: Option<ClientKey>,
    /// The last request carried credentials.
    tried: bool,
}

/// A re-INVITE of this side.
struct Renegotiation {
    hold: bool,
    /// Sent and not answered.
    under_way: bool,
    timer: Option<TimerId>,
}

/// An INVITE that was sent, until its transaction ends: each of its 2xx wants an ACK (13.2.2.4).
pub(super) struct SentInvite {
    pub(super) client: ClientKey,
    request: MessageBuf,
    /// The dialog that it was sent in.
    dialog: Option<Dialog>,
    /// The dialog that it has made.
    tag: String,
    ack: Option<(Flow, Vec<u8>)>,
}

impl Call {
    pub(super) fn new(media: CallMedia) -> Self {
        Call {
            media,
            dialog: None,
            outgoing: None,
            incoming: None,
            unacknowledged: None,
            answered: false,
            closing: false,
            rings_there: false,
            renegotiation: None,
            decide: None,
            packets: None,
        }
    }

    pub(super) fn call_id(&self) -> Option<&str> {
        let outgoing = self.outgoing.as_ref().map(|outgoing| outgoing.call_id.as_str());
        outgoing.or(self.dialog.as_ref().map(Dialog::call_id))
    }

    /// An offer of this side waits for its answer, or is about to be made.
    pub(super) fn is_renegotiating(&self) -> bool {
        self.renegotiation.as_ref().is_some_and(|r| r.under_way)
    }
}

impl Phone {
    /// Calls a URI. With `late_offer` the INVITE has no description, and the answer goes with the ACK.
    pub fn call(&mut self, now: Instant, target: &str, late_offer: bool) -> CallKey {
        let (key, media) = self.new_call();
        let mut call = Call::new(media);
        call.outgoing = Some(Outgoing {
            target: target.to_owned(),
            tag: format!("{:08x}", self.random.number() as u32),
            call_id: format!("{:016x}@{}", self.random.number(), self.config.local.ip()),
            cseq: self.random.below(1000) as u32,
            late_offer,
            client: None,
            tried: false,
        });
        self.calls.insert(key, call);
        self.send_invite(now, key);
        key
    }

    /// Hangs up, gives up, or refuses.
    pub fn hang_up(&mut self, now: Instant, key: CallKey) {
        let Some(call) = self.calls.get_mut(&key) else {
            return;
        };
        if call.incoming.is_some() && !call.answered {
            return self.refuse_call(now, key, 486);
        }
        let awaits_ack = call.unacknowledged.is_some();
        if call.dialog.is_none() || awaits_ack {
            // The callee waits for the ACK (15), the caller for his final response.
            call.closing = true;
            let client = call.outgoing.as_ref().and_then(|outgoing| outgoing.client);
            if let Some(client) = client.filter(|_| !awaits_ack) {
                self.transactions.cancel(now, client, None, &mut self.outbox);
            }
            return;
        }
        self.send_bye(now, key);
        self.end(key, EndCause::Local);
    }

    /// Puts the other side on hold, or takes it off; [`PhoneEvent::Renegotiated`] tells how it went. Nothing happens while the
    /// call is not up, or another change is under way.
    pub fn hold(&mut self, now: Instant, key: CallKey, hold: bool) {
        let Some(call) = self.calls.get_mut(&key) else {
            return;
        };
        let up = call.answered && !call.closing && call.unacknowledged.is_none();
        if up && call.renegotiation.is_none() {
            call.renegotiation = Some(Renegotiation {
                hold,
                under_way: false,
                timer: None,
            });
            self.renegotiate(now, key);
        }
    }

    pub(super) fn new_call(&mut self) -> (CallKey, CallMedia) {
        let place = self.serial % MEDIA_PORTS;
        self.serial += 1;
        let mut address = self.config.local;
        address.set_port(self.config.media_port + 2 * place as u16);
        (CallKey(self.serial), CallMedia::new(address, &mut self.random))
    }

    fn send_invite(&mut self, now: Instant, key: CallKey) {
        let (flow, aor, contact) = (self.server_flow(), self.address_of_record(), self.contact());
        let Some(call) = self.calls.get_mut(&key) else {
            return;
        };
        let Some(outgoing) = &mut call.outgoing else {
            return;
        };
        outgoing.cseq += 1;
        let (target, tag, call_id, cseq) =
            (&outgoing.target, &outgoing.tag, &outgoing.call_id, outgoing.cseq);
        let body = match outgoing.late_offer {
            true => String::new(),
            false => call.media.offer(false),
        };
        let mut lines = Vec::new();
        if let Some(authorization) = &mut self.proxy_authorization {
            lines.extend_from_slice(b"Proxy-Authorization: ");
            let random = self.random.number();
            let login = &self.config.login;
            authorization.write(login, "INVITE", target, body.as_bytes(), random, &mut lines);
            lines.extend_from_slice(b"\r\n");
        }
        if !body.is_empty() {
            let _ = write!(lines, "Content-Type: {SDP}\r\n");
        }
        let (transport, local) = (self.config.transport.as_via(), self.config.local);
        let mut request = Vec::new();
        let sent = self.transactions.send(
            now,
            &flow,
            Method::Invite,
            0,
            Purpose::Invite(key).to_owner(),
            |branch, out| {
                let _ = write!(
                    request,
                    "INVITE {target} SIP/2.0\r\nVia: SIP/2.0/{transport} {local};branch={branch};rport\r\n\
                     Max-Forwards: 70\r\nFrom: <{aor}>;tag={tag}\r\nTo: <{target}>\r\nCall-ID: {call_id}\r\n\
                     CSeq: {cseq} INVITE\r\nContact: <{contact}>\r\nAllow: {ALLOW}\r\n"
                );
                request.extend_from_slice(&lines);
                let _ = write!(request, "Content-Length: {}\r\n\r\n{body}", body.len());
                out.extend_from_slice(&request);
            },
            &mut self.outbox,
        );
        outgoing.client = sent.ok();
        let sent = sent.ok().zip(MessageBuf::parse(request).ok());
        match sent {
            Some((client, request)) => self.invites.push(SentInvite {
                client,
                request,
                dialog: None,
                tag: String::new(),
                ack: None,
            }),
            None => self.end(key, EndCause::Failed(503)),
        }
    }

    /// A response to the INVITE that sets up a call.
    pub(super) fn invite_response(&mut self, now: Instant, key: CallKey, client: ClientKey, m: Message<'_>) {
        match m.status() {
            200..300 => return self.accepted(now, key, client, m),
            401 | 407 if self.try_credentials(now, key, m) => return,
            _ => {}
        }
        let Some(call) = self.calls.get_mut(&key) else {
            return;
        };
        match m.status() {
            180..200 if !call.rings_there => {
                call.rings_there = true;
                self.events.push_back(PhoneEvent::Ringing { call: key });
            }
            100..200 => {}
            _ if call.closing => self.end(key, EndCause::Local),
            status => self.end(key, EndCause::Failed(status)),
        }
    }

    /// Sends the INVITE again with credentials, if that can help.
    fn try_credentials(&mut self, now: Instant, key: CallKey, m: Message<'_>) -> bool {
        let id = match m.status() {
            401 => HeaderId::WwwAuthenticate,
            _ => HeaderId::ProxyAuthenticate,
        };
        let Ok(challenge) = ClientAuthorization::from_challenges(m.challenges(id).flatten()) else {
            return false;
        };
        let outgoing = self.calls.get_mut(&key).filter(|call| !call.closing);
        let Some(outgoing) = outgoing.and_then(|call| call.outgoing.as_mut()) else {
            return false;
        };
        if outgoing.tried && !challenge.is_stale() {
            return false;
        }
        outgoing.tried = true;
        self.proxy_authorization = Some(challenge);
        self.send_invite(now, key);
        true
    }

    /// A 2xx to the first INVITE: the first one, the same again, or that of another fork.
    fn accepted(&mut self, now: Instant, key: CallKey, client: ClientKey, m: Message<'_>) {
        let tag = m.to().ok().and_then(|to| to.tag()).unwrap_or_default();
        let Some(place) = self.invites.iter().position(|invite| invite.client == client) else {
            return;
        };
        if let Some((flow, ack)) = &self.invites[place].ack
            && self.invites[place].tag == tag
        {
            return self.outbox.push(flow, ack);
        }
        let Ok(dialog) = Dialog::as_caller(self.invites[place].request.message(), m) else {
            return self.end(key, EndCause::Failed(500));
        };
        let number = m.cseq().map_or(0, |cseq| cseq.number);
        if self.invites[place].ack.is_some() || !self.calls.contains_key(&key) {
            return self.dismiss(now, dialog, number);
        }
        let call = self.calls.get_mut(&key);
        let late = call
            .as_ref()
            .is_some_and(|call| call.outgoing.as_ref().is_some_and(|o| o.late_offer));
        let (described, body) = match call {
            Some(call) if late => match call.media.answer(m.body()) {
                Ok(answer) => (true, answer),
                Err(_) => (false, String::new()),
            },
            Some(call) => (call.media.take(m.body()).is_ok(), String::new()),
            None => (false, String::new()),
        };
        let ack = self.ack(&dialog, number, &body);
        self.outbox.push(&ack.0, &ack.1);
        self.invites[place].tag = tag.to_owned();
        self.invites[place].ack = Some(ack);
        let Some(call) = self.calls.get_mut(&key) else {
            return;
        };
        call.dialog = Some(dialog);
        call.answered = true;
        if call.closing || !described {
            self.send_bye(now, key);
            return self.end(key, EndCause::Local);
        }
        self.events.push_back(PhoneEvent::Answered { call: key });
        self.start_packets(now, key);
    }

    /// Another telephone has picked up as well: thanks, and good-bye.
    fn dismiss(&mut self, now: Instant, mut dialog: Dialog, number: u32) {
        let (flow, ack) = self.ack(&dialog, number, "");
        self.outbox.push(&flow, &ack);
        self.send_in_dialog(now, &mut dialog, Method::Bye, Purpose::Dismissal, "");
    }

    fn ack(&self, dialog: &Dialog, number: u32, body: &str) -> (Flow, Vec<u8>) {
        let flow = self.way_to(dialog.next_hop());
        let seed = format!("{}{number}{}", dialog.call_id(), dialog.remote_tag());
        let branch = self.transactions.stateless_branch(seed.as_bytes(), 0);
        let mut bytes = Vec::new();
        let body = (!body.is_empty()).then_some((SDP, body.as_bytes()));
        dialog.write_ack(number, &self.via(branch.as_str()), |_| {}, body, &mut bytes);
        (flow, bytes)
    }

    pub(super) fn send_bye(&mut self, now: Instant, key: CallKey) {
        let Some(mut dialog) = self.calls.get_mut(&key).and_then(|call| call.dialog.take()) else {
            return;
        };
        self.send_in_dialog(now, &mut dialog, Method::Bye, Purpose::Bye(key), "");
        if let Some(call) = self.calls.get_mut(&key) {
            call.dialog = Some(dialog);
        }
    }

    fn send_in_dialog(
        &mut self,
        now: Instant,
        dialog: &mut Dialog,
        method: Method<'_>,
        purpose: Purpose,
        body: &str,
    ) -> Option<(ClientKey, Vec<u8>)> {
        let flow = self.way_to(dialog.next_hop());
        let (contact, transport, local) = (self.contact(), self.config.transport, self.config.local);
        let mut request = Vec::new();
        let client = self.transactions.send(
            now,
            &flow,
            method,
            0,
            purpose.to_owner(),
            |branch, out| {
                let via = format!("SIP/2.0/{} {local};branch={branch};rport", transport.as_via());
                let headers = |out: &mut Vec<u8>| {
                    if method == Method::Invite {
                        let _ = write!(out, "Contact: <{contact}>\r\nAllow: {ALLOW}\r\n");
                    }
                };
                let body = (!body.is_empty()).then_some((SDP, body.as_bytes()));
                dialog.write_request(method, &via, headers, body, &mut request);
                out.extend_from_slice(&request);
            },
            &mut self.outbox,
        );
        client.ok().map(|client| (client, request))
    }

    /// Sends the re-INVITE that is wanted.
    pub(super) fn renegotiate(&mut self, now: Instant, key: CallKey) {
        let Some(call) = self.calls.get_mut(&key) else {
            return;
        };
        let Some(wanted) = call.renegotiation.as_mut().filter(|r| !r.under_way) else {
            return;
        };
        let Some(mut dialog) = call.dialog.take() else {
            return;
        };
        wanted.under_way = true;
        wanted.timer = None;
        let offer = call.media.offer(wanted.hold);
        let sent = self.send_in_dialog(now, &mut dialog, Method::Invite, Purpose::Reinvite(key), &offer);
        if let Some((client, request)) = sent
            && let Ok(request) = MessageBuf::parse(request)
        {
            self.invites.push(SentInvite {
                client,
                request,
                dialog: Some(dialog.clone()),
                tag: String::new(),
                ack: None,
            });
        }
        if let Some(call) = self.calls.get_mut(&key) {
            call.dialog = Some(dialog);
        }
    }

    pub(super) fn reinvite_response(
        &mut self,
        now: Instant,
        key: CallKey,
        client: ClientKey,
        m: Message<'_>,
    ) {
        let status = m.status();
        if status < 200 {
            return;
        }
        if status < 300 && self.repeat_ack(client, m) {
            return;
        }
        let Some(call) = self.calls.get_mut(&key) else {
            return;
        };
        let Some(wanted) = call.renegotiation.take() else {
            return;
        };
        match status {
            200..300 => {
                let described = call.media.take(m.body()).is_ok();
                if let Some(dialog) = &mut call.dialog {
                    // A 2xx without Contact leaves the target as it is.
                    let _ = dialog.refresh_target(&m);
                }
                self.events
                    .push_back(PhoneEvent::Renegotiated { call: key, status });
                if !described {
                    self.hang_up(now, key);
                }
            }
            491 => {
                // Whoever made the Call-ID waits longer (14.1).
                let (least, spread) = if call.outgoing.is_some() {
                    (2100, 1900)
                } else {
                    (0, 2000)
                };
                let wait = Duration::from_millis(least + self.random.below(spread));
                let timer = self.timers.schedule(now, now + wait, Timer::Glare(key));
                call.renegotiation = Some(Renegotiation {
                    under_way: false,
                    timer: Some(timer),
                    ..wanted
                });
            }
            481 | 408 => self.hang_up(now, key),
            _ => {
                // All is as it was before (14.1).
                call.media.set_holding(!wanted.hold);
                self.events
                    .push_back(PhoneEvent::Renegotiated { call: key, status });
            }
        }
    }

    /// Sends the ACK to a 2xx to a re-INVITE; true when it was sent before.
    fn repeat_ack(&mut self, client: ClientKey, m: Message<'_>) -> bool {
        let Some(place) = self.invites.iter().position(|invite| invite.client == client) else {
            return true;
        };
        if let Some((flow, ack)) = &self.invites[place].ack {
            self.outbox.push(flow, ack);
            return true;
        }
        if let Some(dialog) = &self.invites[place].dialog {
            let ack = self.ack(dialog, m.cseq().map_or(0, |cseq| cseq.number), "");
            self.outbox.push(&ack.0, &ack.1);
            self.invites[place].ack = Some(ack);
        }
        false
    }

    /// The response is not the first 2xx to its INVITE.
    pub(super) fn is_repeated(&self, client: ClientKey) -> bool {
        self.invites
            .iter()
            .any(|invite| invite.client == client && invite.ack.is_some())
    }

    pub(super) fn start_packets(&mut self, now: Instant, key: CallKey) {
        if let Some(call) = self.calls.get_mut(&key)
            && call.packets.is_none()
        {
            call.packets = Some(self.timers.schedule(now, now, Timer::Packet(key)));
        }
    }

    pub(super) fn send_packet(&mut self, now: Instant, key: CallKey) {
        let Some(call) = self.calls.get_mut(&key) else {
            return;
        };
        if let Some((remote, bytes)) = call.media.next_packet() {
            let local = call.media.local;
            self.packets
                .push_back(super::MediaDatagram { local, remote, bytes });
        }
        let next = now + self.config.packet_interval;
        call.packets = Some(self.timers.schedule(now, next, Timer::Packet(key)));
    }

    /// The call is over; what is still to be said to the other side is said by transactions.
    pub(super) fn end(&mut self, key: CallKey, cause: EndCause) {
        let Some(call) = self.calls.remove(&key) else {
            return;
        };
        let renegotiation = call.renegotiation.and_then(|r| r.timer);
        let repeat = call.unacknowledged.map(|waiting| waiting.timer);
        for timer in [call.decide, call.packets, renegotiation, repeat]
            .into_iter()
            .flatten()
        {
            self.timers.cancel(timer);
        }
        let media = call.media.counts;
        self.events.push_back(PhoneEvent::Ended {
            call: key,
            cause,
            media,
        });
    }
}

/// Pairs of media ports that are used in turns.
const MEDIA_PORTS: u32 = 64;
