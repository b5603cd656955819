//! The registration of a telephone (RFC 3261 10.2): made, refreshed, removed, and asked for again after a failure.

use std::io::Write;
use std::time::{Duration, Instant};

use sip::digest::ClientAuthorization;
use sip::headers::Contacts;
use sip::timer::TimerId;
use sip::{HeaderId, Message, Method, Uri};

use super::{Phone, PhoneEvent, Purpose, Timer};
use crate::random::Random;

/// What a telephone knows about its registration.
#[derive(Debug)]
pub(super) struct Registration {
    call_id: String,
    tag: String,
    cseq: u32,
    authorization: Option<ClientAuthorization>,
    /// The last request carried credentials.
    tried: bool,
    /// What is asked for, in seconds; 0 to be removed, `None` when it is no concern.
    wanted: Option<u32>,
    under_way: bool,
    /// What is wanted has changed since the request under way was sent.
    changed: bool,
    timer: Option<TimerId>,
}

impl Registration {
    pub(super) fn new(random: &mut Random) -> Self {
        Registration {
            call_id: format!("{:016x}", random.number()),
            tag: format!("{:08x}", random.number() as u32),
            cseq: random.below(1000) as u32,
            authorization: None,
            tried: false,
            wanted: None,
            under_way: false,
            changed: false,
            timer: None,
        }
    }
}

impl Phone {
    /// Registers, and keeps the registration alive.
    pub fn register(&mut self, now: Instant) {
        self.want(now, self.config.expires);
    }

    /// Removes the registration.
    pub fn unregister(&mut self, now: Instant) {
        self.want(now, 0);
    }

    /// Asks no more; what was registered stays so until it ends.
    pub fn stop_registering(&mut self) {
        self.registration.wanted = None;
        if let Some(timer) = self.registration.timer.take() {
            self.timers.cancel(timer);
        }
    }

    fn want(&mut self, now: Instant, expires: u32) {
        self.registration.wanted = Some(expires);
        if self.registration.under_way {
            // Only one at a time (10.2).
            self.registration.changed = true;
            return;
        }
        self.registration.tried = false;
        self.send_register(now);
    }

    /// The timer says that it is time to register again.
    pub(super) fn refresh(&mut self, now: Instant) {
        self.registration.timer = None;
        if self.registration.wanted.is_some() && !self.registration.under_way {
            self.registration.tried = false;
            self.send_register(now);
        }
    }

    fn send_register(&mut self, now: Instant) {
        let Some(expires) = self.registration.wanted else {
            return;
        };
        if let Some(timer) = self.registration.timer.take() {
            self.timers.cancel(timer);
        }
        let uri = format!("sip:{}", self.config.domain);
        let (flow, aor, contact) = (self.server_flow(), self.address_of_record(), self.contact());
        let registration = &mut self.registration;
        registration.cseq += 1;
        registration.under_way = true;
        registration.changed = false;
        let mut credentials = Vec::new();
        if let Some(authorization) = &mut registration.authorization {
            credentials.extend_from_slice(b"Authorization: ");
            let random = self.random.number();
            authorization.write(
                &self.config.login,
                "REGISTER",
                &uri,
                b"",
                random,
                &mut credentials,
            );
            credentials.extend_from_slice(b"\r\n");
        }
        let (tag, call_id, cseq) = (&registration.tag, &registration.call_id, registration.cseq);
        let transport = self.config.transport.as_via();
        let local = self.config.local;
        let sent = self.transactions.send(
            now,
            &flow,
            Method::Register,
            0,
            Purpose::Register.to_owner(),
            |branch, out| {
                let _ = write!(
                    out,
                    "REGISTER {uri} SIP/2.0\r\nVia: SIP/2.0/{transport} {local};branch={branch};rport\r\n\
                     Max-Forwards: 70\r\nFrom: <{aor}>;tag={tag}\r\nTo: <{aor}>\r\nCall-ID: {call_id}\r\n\
                     CSeq: {cseq} REGISTER\r\nContact: <{contact}>\r\nExpires: {expires}\r\n"
                );
                out.extend_from_slice(&credentials);
                out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
            },
            &mut self.outbox,
        );
        if sent.is_err() {
            self.registration_failed(now, 503);
        }
    }

    pub(super) fn register_response(&mut self, now: Instant, m: Message<'_>) {
        if m.status() < 200 {
            return;
        }
        self.registration.under_way = false;
        if self.registration.changed {
            self.registration.tried = false;
            return self.send_register(now);
        }
        match m.status() {
            200..300 => self.registered(now, m),
            401 => {
                let challenge =
                    ClientAuthorization::from_challenges(m.challenges(HeaderId::WwwAuthenticate).flatten());
                match challenge {
                    Ok(challenge) if !self.registration.tried || challenge.is_stale() => {
                        self.registration.tried = true;
                        self.registration.authorization = Some(challenge);
                        self.send_register(now);
                    }
                    _ => self.registration_failed(now, 401),
                }
            }
            423 => {
                let minimum = m.min_expires().ok().flatten().unwrap_or(MAX_EXPIRES);
                if self.registration.wanted.is_some_and(|wanted| wanted < minimum) {
                    self.registration.wanted = Some(minimum);
                    return self.send_register(now);
                }
                self.registration_failed(now, 423);
            }
            status => self.registration_failed(now, status),
        }
    }

    fn registered(&mut self, now: Instant, m: Message<'_>) {
        if self.registration.wanted == Some(0) {
            self.registration.wanted = None;
            self.events.push_back(PhoneEvent::Unregistered);
            return;
        }
        let contact = self.contact();
        let own = Uri::parse(&contact);
        let Ok(Contacts::List(mut list)) = m.contacts() else {
            return self.registration_failed(now, 500);
        };
        let granted = list.find_map(|found| {
            let found = found.ok()?;
            let uri = found.parsed_uri().ok()?;
            let same = own.as_ref().is_ok_and(|own| uri.equivalent(own));
            same.then(|| found.expires().or(m.expires().ok().flatten()))
                .flatten()
        });
        let Some(expires) = granted else {
            // A 200 that does not list the contact (10.3 step 8) is none.
            return self.registration_failed(now, 500);
        };
        self.events.push_back(PhoneEvent::Registered { expires });
        if self.registration.wanted.is_none() {
            return;
        }
        let refresh = Duration::from_secs(u64::from(expires) * 3 / 4);
        self.registration.timer = Some(self.timers.schedule(now, now + refresh, Timer::Register));
    }

    pub(super) fn registration_failed(&mut self, now: Instant, status: u16) {
        self.registration.under_way = false;
        self.events.push_back(PhoneEvent::RegistrationFailed { status });
        if self.registration.wanted.is_none() {
            return;
        }
        self.registration.timer = Some(
            self.timers
                .schedule(now, now + self.config.retry, Timer::Register),
        );
    }
}

/// What a registrar can ask for at most, when it does not say what it asks for.
const MAX_EXPIRES: u32 = 3600;
