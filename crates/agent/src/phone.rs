//! A telephone as a pure state machine: it registers, calls, answers, holds, and sends and counts media, as its script says.
//!
//! Call [`Phone::register`], [`Phone::call`] and their like for what its user does, [`Phone::handle_message`] for each SIP
//! message that arrives, [`Phone::handle_media`] for each packet at a media port; after each, send what [`Phone::outbox`] holds
//! and [`Phone::poll_media`] gives, and take [`Phone::poll_event`]. Wait until [`Phone::poll_timeout`] and call
//! [`Phone::handle_timeout`].
//!
//! It keeps to the RFCs to the letter, since it is there to find out who does not: requests inside a dialog go along the route
//! set, and those that come must name its Contact. It is a user agent of RFC 3261 with digest, offer and answer, re-INVITE and
//! UPDATE (answered only); it has no reliable provisional responses and speaks G.711 alone.

mod call;
mod media;
mod registration;
mod requests;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sip::digest::{ClientAuthorization, Login};
use sip::timer::TimerWheel;
use sip::transaction::{ClientKey, Received, TransactionConfig, TransactionEvent, Transactions};
use sip::{Flow, Index, Message, Outbox, Response, Transport, Uri};

use crate::random::Random;
use call::{Call, SentInvite};
pub use media::MediaCounts;
use registration::Registration;

/// What a telephone is and does.
#[derive(Clone, Debug)]
pub struct PhoneConfig {
    /// Account and password.
    pub login: Login,
    /// The domain of its address-of-record.
    pub domain: String,
    /// Where requests outside of dialogs go: registrar and proxy in one.
    pub server: SocketAddr,
    /// How they go there.
    pub transport: Transport,
    /// The address that it knows itself by: behind NAT a private one.
    pub local: SocketAddr,
    /// The port of its first call's audio; further calls take the even ports behind.
    pub media_port: u16,
    /// The registration that it asks for, in seconds.
    pub expires: u32,
    /// After which time a failed registration is tried again.
    pub retry: Duration,
    /// What it does when it is called.
    pub answering: Answering,
    /// Calls at once; more are answered 486.
    pub max_calls: usize,
    /// Time between two RTP packets.
    pub packet_interval: Duration,
    /// Timers and limits of its transactions.
    pub transactions: TransactionConfig,
}

impl PhoneConfig {
    /// A telephone with the usual settings: UDP, an hour's registration, one call, which is answered after two seconds.
    pub fn new(login: Login, domain: &str, server: SocketAddr, local: SocketAddr) -> Self {
        PhoneConfig {
            login,
            domain: domain.to_owned(),
            server,
            transport: Transport::Udp,
            local,
            media_port: 4000,
            expires: 3600,
            retry: Duration::from_secs(30),
            answering: Answering::Accept(Duration::from_secs(2)),
            max_calls: 1,
            packet_interval: Duration::from_millis(20),
            transactions: TransactionConfig::default(),
        }
    }
}

/// What a telephone does when it is called, after it has answered 180.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answering {
    /// Takes the call after that time.
    Accept(Duration),
    /// Refuses it with that status after that time.
    Refuse(u16, Duration),
    /// Lets it ring.
    Ring,
}

/// Names a call of a telephone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CallKey(u32);

/// What happened to a telephone.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PhoneEvent {
    /// The registrar has accepted the registration for so many seconds.
    Registered {
        /// What was granted.
        expires: u32,
    },
    /// The registrar refused or did not answer (408, 503); it is tried again.
    RegistrationFailed {
        /// The status.
        status: u16,
    },
    /// The registrar has removed the registration.
    Unregistered,
    /// Somebody calls; it rings.
    Incoming {
        /// The call.
        call: CallKey,
    },
    /// The called telephone rings.
    Ringing {
        /// The call.
        call: CallKey,
    },
    /// The call is up: its 2xx has come, or the ACK to its own.
    Answered {
        /// The call.
        call: CallKey,
    },
    /// The first packet of audio has come.
    MediaReceived {
        /// The call.
        call: CallKey,
        /// Its source.
        from: SocketAddr,
    },
    /// A re-INVITE of its own has been answered.
    Renegotiated {
        /// The call.
        call: CallKey,
        /// The final status.
        status: u16,
    },
    /// The call is over.
    Ended {
        /// The call.
        call: CallKey,
        /// How it ended.
        cause: EndCause,
        /// Its media.
        media: MediaCounts,
    },
    /// A request of its own has its final response, or none within the time that RFC 3261 gives it. An INVITE with several
    /// 2xx is said once.
    Completed {
        /// INVITE, BYE, REGISTER.
        method: &'static str,
        /// The status; `None` when there was no response in time or no way to send it.
        status: Option<u16>,
    },
    /// A request came that names another Contact than its own, or a dialog that it does not know, and is no retransmission.
    Misrouted {
        /// What came.
        request: String,
    },
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndCause {
    /// This side hung up, refused or gave up.
    Local,
    /// The other side hung up or cancelled, with the text of its Reason.
    Remote(Option<String>),
    /// The INVITE got this final response: 408 stands for silence, 503 for a broken way.
    Failed(u16),
    /// No ACK came for its 2xx.
    NoAck,
}

/// A packet of audio to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaDatagram {
    /// From which of its ports.
    pub local: SocketAddr,
    /// Where to.
    pub remote: SocketAddr,
    /// The packet.
    pub bytes: Vec<u8>,
}

/// A telephone.
pub struct Phone {
    config: PhoneConfig,
    random: Random,
    transactions: Transactions,
    registration: Registration,
    proxy_authorization: Option<ClientAuthorization>,
    calls: BTreeMap<CallKey, Call>,
    invites: Vec<SentInvite>,
    serial: u32,
    timers: TimerWheel<Timer>,
    outbox: Outbox,
    packets: VecDeque<MediaDatagram>,
    events: VecDeque<PhoneEvent>,
    index: Index,
}

/// What the timers of a telephone are for.
#[derive(Clone, Copy, Debug)]
enum Timer {
    /// The registration is to be refreshed, or tried again.
    Register,
    /// Somebody picks up, or refuses.
    Decide(CallKey),
    /// The 2xx is due again.
    Repeat(CallKey),
    /// The next packet of audio.
    Packet(CallKey),
    /// A re-INVITE that crossed another one.
    Glare(CallKey),
}

/// Whose response it is: the owner of a client transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Register,
    Invite(CallKey),
    Reinvite(CallKey),
    Bye(CallKey),
    /// A BYE to a fork that nobody wants.
    Dismissal,
}

impl Phone {
    /// A telephone that does nothing yet. `seed` makes its tags and numbers.
    pub fn new(config: PhoneConfig, seed: u64) -> Self {
        let mut random = Random::new(seed);
        Phone {
            transactions: Transactions::new(config.transactions.clone(), random.bytes()),
            registration: Registration::new(&mut random),
            proxy_authorization: None,
            calls: BTreeMap::new(),
            invites: Vec::new(),
            serial: 0,
            timers: TimerWheel::new(),
            outbox: Outbox::new(),
            packets: VecDeque::new(),
            events: VecDeque::new(),
            index: Index::new(),
            random,
            config,
        }
    }

    /// What it is and does.
    pub fn config(&self) -> &PhoneConfig {
        &self.config
    }

    /// Changes what it does when it is called next.
    pub fn set_answering(&mut self, answering: Answering) {
        self.config.answering = answering;
    }

    /// A message came in by `flow`, which answers go back by.
    pub fn handle_message(&mut self, now: Instant, flow: &Flow, bytes: &[u8]) {
        let mut index = std::mem::take(&mut self.index);
        if index.parse(bytes).is_ok() {
            self.message(now, flow, Message::new(bytes, &index));
        }
        self.index = index;
        self.settle(now);
    }

    /// A packet came in at one of its media ports.
    pub fn handle_media(&mut self, local: SocketAddr, source: SocketAddr, packet: &[u8]) {
        let found = self.calls.iter_mut().find(|(_, call)| call.media.local == local);
        if let Some((&call, state)) = found
            && state.media.received(source, packet)
        {
            let from = source;
            self.events.push_back(PhoneEvent::MediaReceived { call, from });
        }
    }

    /// SIP messages to be sent, in order.
    pub fn outbox(&mut self) -> &mut Outbox {
        &mut self.outbox
    }

    /// The next packet of audio to be sent.
    pub fn poll_media(&mut self) -> Option<MediaDatagram> {
        self.packets.pop_front()
    }

    /// What happened since.
    pub fn poll_event(&mut self) -> Option<PhoneEvent> {
        self.events.pop_front()
    }

    /// When [`Phone::handle_timeout`] wants to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.transactions.poll_timeout(), self.timers.next()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.transactions.handle_timeout(now, &mut self.outbox);
        while let Some(timer) = self.timers.pop(now) {
            match timer {
                Timer::Register => self.refresh(now),
                Timer::Decide(call) => self.decide(now, call),
                Timer::Repeat(call) => self.repeat(now, call),
                Timer::Packet(call) => self.send_packet(now, call),
                Timer::Glare(call) => self.renegotiate(now, call),
            }
        }
        self.settle(now);
    }

    /// The calls that it has, ringing ones among them.
    pub fn calls(&self) -> impl Iterator<Item = CallKey> + '_ {
        self.calls.keys().copied()
    }

    /// The Call-ID of a call.
    pub fn call_id(&self, call: CallKey) -> Option<&str> {
        self.calls.get(&call)?.call_id()
    }

    /// What a call's media did so far.
    pub fn media(&self, call: CallKey) -> Option<MediaCounts> {
        self.calls.get(&call).map(|call| call.media.counts)
    }

    /// The synchronisation source that it sends in a call.
    pub fn ssrc(&self, call: CallKey) -> Option<u32> {
        self.calls.get(&call).map(|call| call.media.ssrc())
    }

    /// Transactions under way.
    pub fn transactions(&self) -> usize {
        self.transactions.len()
    }

    fn message(&mut self, now: Instant, flow: &Flow, m: Message<'_>) {
        if !m.is_request() {
            if m.validate_response().is_ok()
                && let Received::Response { client, owner } =
                    self.transactions.receive(now, m, flow, &mut self.outbox)
                && let Some(purpose) = Purpose::from_owner(owner)
            {
                self.response(now, m, client, purpose);
            }
            return;
        }
        if let Err(invalid) = m.validate_request() {
            if m.is_answerable() {
                self.answer(flow, Response::new(m, invalid.status));
            }
            return;
        }
        match self.transactions.receive(now, m, flow, &mut self.outbox) {
            Received::NewRequest(new) => self.request(now, flow, m, new),
            Received::Cancel { invite: Some(invite) } => self.cancelled(now, m, invite),
            Received::Cancel { invite: None } => self.answer(flow, Response::new(m, 481)),
            Received::Ack => self.acknowledged(now, m),
            _ => {}
        }
    }

    fn response(&mut self, now: Instant, m: Message<'_>, client: ClientKey, purpose: Purpose) {
        let status = m.status();
        if status >= 200 && !self.is_repeated(client) {
            self.complete(purpose, Some(status));
        }
        match purpose {
            Purpose::Register => self.register_response(now, m),
            Purpose::Invite(call) => self.invite_response(now, call, client, m),
            Purpose::Reinvite(call) => self.reinvite_response(now, call, client, m),
            Purpose::Bye(_) | Purpose::Dismissal => {}
        }
    }

    /// What the transactions have to say.
    fn settle(&mut self, now: Instant) {
        while let Some(event) = self.transactions.poll_event() {
            let (client, owner, status) = match event {
                TransactionEvent::ClientTimeout { client, owner } => (client, owner, Some(408)),
                TransactionEvent::ClientFailed { client, owner } => (client, owner, Some(503)),
                TransactionEvent::ClientEnded { client, owner } => (client, owner, None),
                TransactionEvent::ServerExpired { server, .. } => {
                    self.expired(server);
                    continue;
                }
                _ => continue,
            };
            self.invites.retain(|invite| invite.client != client);
            let (Some(purpose), Some(status)) = (Purpose::from_owner(owner), status) else {
                continue;
            };
            self.complete(purpose, None);
            match purpose {
                Purpose::Register => self.registration_failed(now, status),
                Purpose::Invite(call) => self.end(call, EndCause::Failed(status)),
                // A dialog that gives no sign of life is over (RFC 3261 12.2.1.2).
                Purpose::Reinvite(call) => self.hang_up(now, call),
                Purpose::Bye(_) | Purpose::Dismissal => {}
            }
        }
    }

    fn complete(&mut self, purpose: Purpose, status: Option<u16>) {
        let method = match purpose {
            Purpose::Register => "REGISTER",
            Purpose::Invite(_) | Purpose::Reinvite(_) => "INVITE",
            Purpose::Bye(_) | Purpose::Dismissal => "BYE",
        };
        self.events.push_back(PhoneEvent::Completed { method, status });
    }

    /// Answers without a transaction.
    fn answer(&mut self, flow: &Flow, response: Response<'_>) {
        let response = response.source(flow.remote);
        self.outbox.push_with(flow, |out| response.write(out));
    }

    /// The way to the server.
    fn server_flow(&self) -> Flow {
        self.flow_to(self.config.server)
    }

    fn flow_to(&self, remote: SocketAddr) -> Flow {
        Flow {
            transport: self.config.transport,
            local: self.config.local,
            remote,
            connection: None,
        }
    }

    /// The way to a URI: its address where it is one, else the server, which knows how to go on.
    fn way_to(&self, uri: &str) -> Flow {
        let parsed = Uri::parse(uri).ok();
        let address = parsed.and_then(|uri| {
            let port = uri.port.unwrap_or(self.config.transport.default_port());
            Some(SocketAddr::new(uri.host.ip()?, port))
        });
        self.flow_to(address.unwrap_or(self.config.server))
    }

    /// Its Contact, without angle brackets.
    fn contact(&self) -> String {
        let transport = match self.config.transport {
            Transport::Udp => "",
            _ => ";transport=tcp",
        };
        format!(
            "sip:{}@{}{transport}",
            self.config.login.username, self.config.local
        )
    }

    fn address_of_record(&self) -> String {
        format!("sip:{}@{}", self.config.login.username, self.config.domain)
    }

    /// The value of Via.
    fn via(&self, branch: &str) -> String {
        let name = self.config.transport.as_via();
        format!("SIP/2.0/{name} {};branch={branch};rport", self.config.local)
    }

    /// A request names its Contact, as the other side must have taken it.
    fn is_mine(&self, m: Message<'_>) -> bool {
        let contact = self.contact();
        let own = Uri::parse(&contact);
        m.parsed_request_uri()
            .is_ok_and(|uri| own.is_ok_and(|own| uri.equivalent(&own)))
    }

    fn misrouted(&mut self, m: Message<'_>) {
        let request = String::from_utf8_lossy(m.bytes()).into_owned();
        self.events.push_back(PhoneEvent::Misrouted { request });
    }
}

impl Purpose {
    fn to_owner(self) -> u64 {
        let (kind, call) = match self {
            Purpose::Register => (1, 0),
            Purpose::Invite(CallKey(call)) => (2, call),
            Purpose::Reinvite(CallKey(call)) => (3, call),
            Purpose::Bye(CallKey(call)) => (4, call),
            Purpose::Dismissal => (5, 0),
        };
        u64::from(call) << 8 | kind
    }

    fn from_owner(owner: u64) -> Option<Self> {
        let call = CallKey((owner >> 8) as u32);
        Some(match owner & 0xff {
            1 => Purpose::Register,
            2 => Purpose::Invite(call),
            3 => Purpose::Reinvite(call),
            4 => Purpose::Bye(call),
            5 => Purpose::Dismissal,
            _ => return None,
        })
    }
}

/// Methods that it understands.
const ALLOW: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE";
const SDP: &str = "application/sdp";

#[cfg(test)]
mod tests;
