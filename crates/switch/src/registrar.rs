//! The registrar (RFC 3261 10.3, with Path of RFC 3327): REGISTER in, bindings changed, response out.
//!
//! [`Registrar::register`] takes a REGISTER whose Request-URI names this service, and appends its response. When the
//! [`Outcome`] has changes, they have to reach the store first: the caller keeps the response, has the changes written, calls
//! [`Registrar::stored`] with what became of that, and sends then. REGISTER runs without a server transaction, so the same request
//! again gets the same answer and changes nothing. While its changes are still being written it gets none, and when a newer one
//! has been here since, neither: whoever sent that one waits for no answer to this one (RFC 3261 10.2).
//!
//! A clock is needed for what ends: [`Registrar::poll_timeout`], [`Registrar::handle_timeout`].
//! Third-party registration is for trusted networks only. GRUU and Outbound (RFC 5627, 5626) are not offered, but a contact with
//! an instance takes the place of the one that the same instance left behind.

mod contact;
mod response;
mod update;

use std::sync::Arc;
use std::time::{Duration, Instant};

use sip::{Flow, HeaderId, Message};
use smallvec::SmallVec;

use self::contact::Requested;
use self::response::Writer;
use crate::auth::{Authenticator, Verdict};
use crate::directory::{AddressOfRecord, Directory};
pub use crate::location::BindingChange;
use crate::location::{Binding, Location, SHARDS};

/// Settings of the registrar.
#[derive(Clone, Debug)]
pub struct RegistrarConfig {
    /// What is answered 200 has to be in the store before. Otherwise bindings live in memory only.
    pub durable: bool,
    /// Shortest registration accepted, in seconds; shorter ones (except 0) get 423. At most 3600 (RFC 3261 10.3 step 7).
    pub min_expires: u32,
    /// Length of a registration that asks for none, in seconds.
    pub default_expires: u32,
    /// Longest registration given, in seconds; whoever asks for more gets this.
    pub max_expires: u32,
    /// Bindings of one account.
    pub max_bindings: usize,
    /// What happens to a registration beyond that.
    pub when_full: WhenFull,
    /// What happens to a Path that the user agent does not say it knows.
    pub unknown_path: UnknownPath,
}

/// What happens to a registration beyond the limit of bindings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// It is refused with 403.
    Refuse,
    /// The binding that was refreshed longest ago goes: mostly a contact that a telephone left behind.
    ReplaceOldest,
}

/// What happens to a Path in a REGISTER whose user agent does not list `path` in Supported (RFC 3327 5.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownPath {
    /// 420, as the RFC recommends: the user agent would never see who put himself in between.
    Refuse,
    /// It is kept and used, for telephones behind an edge proxy of one's own that know nothing of it.
    Accept,
}

impl Default for RegistrarConfig {
    fn default() -> Self {
        RegistrarConfig {
            durable: true,
            min_expires: 60,
            default_expires: 3600,
            max_expires: 3600,
            max_bindings: 10,
            when_full: WhenFull::ReplaceOldest,
            unknown_path: UnknownPath::Refuse,
        }
    }
}

/// The registrar of one worker.
pub struct Registrar {
    config: RegistrarConfig,
    directory: Arc<Directory>,
    location: Arc<Location>,
    writer: Writer,
    sweep: Sweep,
}

/// What a REGISTER has led to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Status of the response. 0: there is none, because the request came before, and is still being stored or is overtaken.
    pub status: u16,
    /// What is to be stored before the response is sent. Empty: send it at once.
    pub changes: SmallVec<[BindingChange; 1]>,
}

impl Registrar {
    /// The registrar of worker number `worker` of `workers`.
    pub fn new(
        config: RegistrarConfig,
        directory: Arc<Directory>,
        location: Arc<Location>,
        worker: u8,
        workers: u8,
        now: Instant,
    ) -> Self {
        let sweep = Sweep {
            part: worker.into(),
            step: workers.max(1).into(),
            next: now + SWEEP_INTERVAL,
            ended: Vec::new(),
        };
        Registrar {
            config,
            directory,
            location,
            writer: Writer::new(),
            sweep,
        }
    }

    /// Carries out a REGISTER that came over `flow` and appends its response to `out`. `unix` is in seconds. `tag` is for the
    /// response's To: the same for the same request, though nothing is remembered of it (RFC 3261 8.2.7).
    pub fn register(
        &mut self,
        unix: u64,
        m: Message<'_>,
        flow: &Flow,
        authenticator: &mut Authenticator,
        tag: &str,
        out: &mut Vec<u8>,
    ) -> Outcome {
        match self.process(unix, m, flow, authenticator) {
            Ok(Registered::Silently) => Outcome::default(),
            Ok(Registered::Done { bindings, changes }) => {
                self.writer.ok(unix, m, flow, tag, &bindings, out);
                let changes = if self.config.durable {
                    changes
                } else {
                    SmallVec::new()
                };
                Outcome { status: 200, changes }
            }
            Err(refusal) => {
                let status = refusal.status();
                self.writer.refusal(m, flow, tag, refusal, out);
                Outcome {
                    status,
                    changes: SmallVec::new(),
                }
            }
        }
    }

    /// The store has written `changes`, or could not: then they are undone, and `response` becomes 500 (RFC 3261 10.3 step 7).
    pub fn stored(&self, changes: &[BindingChange], stored: bool, response: &mut Vec<u8>) {
        self.location.settle(changes, stored);
        if !stored {
            response::turn_into_500(response);
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    pub fn poll_timeout(&self) -> Instant {
        self.sweep.next
    }

    /// Removes bindings that have ended, a part of them at a time; `unix` is in seconds. What comes back is to be removed from the
    /// store as well; nothing waits for that.
    pub fn handle_timeout(&mut self, now: Instant, unix: u64) -> impl Iterator<Item = BindingChange> + '_ {
        if now >= self.sweep.next {
            self.sweep.next = now + SWEEP_INTERVAL;
            self.sweep.part = (self.sweep.part + self.sweep.step) % SHARDS.next_multiple_of(self.sweep.step);
            self.location.sweep(self.sweep.part, unix, &mut self.sweep.ended);
        }
        if !self.config.durable {
            self.sweep.ended.clear();
        }
        self.sweep.ended.drain(..)
    }

    /// The steps of RFC 3261 10.3, in their order.
    fn process<'m>(
        &mut self,
        unix: u64,
        m: Message<'m>,
        flow: &Flow,
        authenticator: &mut Authenticator,
    ) -> Result<Registered, Refusal<'m>> {
        // 1 is the caller's: another domain's REGISTER is proxied. 2: what the user agent requires.
        if m.tokens(HeaderId::Require).any(|tag| !is_supported(tag)) {
            return Err(Refusal::Unsupported(m));
        }
        // 3 to 5: who it is, whether he may, and for which address-of-record.
        let (aor, repeated) = match authenticator.authenticate_register(unix, m, flow) {
            Verdict::Account(aor) => (aor, false),
            Verdict::Repeated(aor) => (aor, true),
            Verdict::Trusted => (self.third_party(m)?, false),
            Verdict::Challenge { status, headers } => return Err(Refusal::Challenge { status, headers }),
            Verdict::Refused { status, reason } => return Err(Refusal::Plain(status, reason)),
            Verdict::Stranger => return Err(Refusal::Plain(403, "Not An Account")),
        };
        // Mostly the Request-URI is just the domain, and need not be parsed.
        if m.request_uri().strip_prefix("sip:") != Some(aor.domain()) {
            let target = m
                .parsed_request_uri()
                .map_err(|_| Refusal::Plain(400, "Bad Request-URI"))?;
            let domain = self.directory.canonical_domain(target.host);
            if domain != Some(aor.domain()) && !self.directory.is_own_address(target.host) {
                return Err(Refusal::Plain(404, "Address Of Record Not Of This Domain"));
            }
        }
        // 6 and 7: what is asked for, and whether all of it can be done.
        let request = Requested::read(m, flow, &self.config)?;
        let update = update::Update {
            unix,
            aor: aor.as_str(),
            request: &request,
            repeated,
            config: &self.config,
        };
        update.apply(&self.location)
    }

    /// The address-of-record that a trusted network registers for.
    fn third_party<'m>(&self, m: Message<'m>) -> Result<AddressOfRecord, Refusal<'m>> {
        let to = m.to_uri();
        let aor = to.and_then(|uri| self.directory.address_of_record(&uri));
        let Some((aor, account)) =
            aor.and_then(|aor| self.directory.account(&aor).map(|account| (aor, account)))
        else {
            return Err(Refusal::Plain(404, "No Such Account"));
        };
        if account.disabled {
            return Err(Refusal::Plain(403, "Account Disabled"));
        }
        Ok(aor)
    }
}

/// A REGISTER that was carried out.
enum Registered {
    /// The same came before. The store has not confirmed it yet, or what it did holds no longer.
    Silently,
    Done {
        /// All current bindings, those of this request first.
        bindings: SmallVec<[Binding; 2]>,
        changes: SmallVec<[BindingChange; 1]>,
    },
}

/// Why a REGISTER was not carried out.
enum Refusal<'m> {
    Plain(u16, &'static str),
    Challenge {
        status: u16,
        headers: Vec<u8>,
    },
    /// 420 with the option tags that we do not know.
    Unsupported(Message<'m>),
    /// 420: a Path that the user agent does not know.
    Path,
    /// 423 with the seconds that we want.
    TooBrief(u32),
}

impl Refusal<'_> {
    fn status(&self) -> u16 {
        match self {
            Refusal::Plain(status, _) | Refusal::Challenge { status, .. } => *status,
            Refusal::Unsupported(_) | Refusal::Path => 420,
            Refusal::TooBrief(_) => 423,
        }
    }
}

/// What a worker does about bindings that have ended.
struct Sweep {
    part: usize,
    step: usize,
    next: Instant,
    ended: Vec<BindingChange>,
}

/// An extension that a REGISTER may require.
fn is_supported(option_tag: &str) -> bool {
    option_tag.eq_ignore_ascii_case(PATH)
}

/// Between two parts that are swept. A single worker comes round within 32 seconds.
const SWEEP_INTERVAL: Duration = Duration::from_millis(500);

/// Option tag of RFC 3327.
const PATH: &str = "path";

#[cfg(test)]
mod tests;
