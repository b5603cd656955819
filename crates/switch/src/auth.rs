//! Who sent a request (RFC 3261 22, RFC 7616, RFC 8760), and whether he may (no relaying for strangers, no false From).
//!
//! [`Authenticator::authenticate_register`] is asked about a REGISTER to this service, [`Authenticator::authenticate_proxy`]
//! about any other request outside of dialogs, except ACK and CANCEL, which nobody can be asked about (RFC 3261 22.1). The
//! [`Verdict`] says what to do; a challenge comes with its header lines written. An unknown user is challenged and checked just
//! as a known one, so that neither answers nor time tell who has an account. Who gives too many wrong passwords is refused for a
//! while, whether the next one is right or not.
//!
//! Whether the digest's `uri` names the request's target is not compared: devices on the way rewrite Request-URIs.

mod guesses;

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use sip::digest::{
    Algorithm, CredentialsError, DigestCredentials, NonceCheck, NonceId, NonceMint, NonceUse, Qop,
    ReplayGuard, write_challenge,
};
use sip::uri::Host;
use sip::{Flow, HeaderId, Message, Transport};
use siphasher::sip::SipHasher13;

use self::guesses::{Guesses, Suspicion};
use crate::directory::{Account, AddressOfRecord, Directory};

/// Settings of authentication.
#[derive(Clone, Debug)]
pub struct AuthConfig {
    /// Networks that are not challenged, and believed what they say in From.
    pub trusted: Vec<IpNet>,
    /// Algorithms offered, in the order of the challenges; by default all, strongest first.
    pub algorithms: Vec<Algorithm>,
    /// Protections offered. By default `auth` alone: telephones that are offered `auth-int` as well choose it and compute it
    /// over something else. A request that uses `auth-int` is checked either way.
    pub qop: Vec<Qop>,
    /// How long a nonce is accepted. An hour lets a telephone refresh its registration without another challenge.
    pub nonce_lifetime: Duration,
    /// Nonces in use that each worker remembers, 48 bytes each; when there are more, telephones are challenged more often.
    pub nonces: usize,
    /// Wrong passwords for one account from one source (an IPv4 address or an IPv6 /64) before credentials for that account are
    /// refused there with 403. 0: never.
    pub wrong_passwords: u32,
    /// The time within which they count, and how long credentials are refused then.
    pub wrong_passwords_within: Duration,
}

impl Default for AuthConfig {
    fn default() -> Self {
        AuthConfig {
            trusted: Vec::new(),
            algorithms: Algorithm::STRONGEST_FIRST.to_vec(),
            qop: vec![Qop::Auth],
            nonce_lifetime: Duration::from_secs(3600),
            nonces: 65_536,
            wrong_passwords: 10,
            wrong_passwords_within: Duration::from_secs(300),
        }
    }
}

/// What the authenticators of all workers share.
#[derive(Debug)]
pub struct AuthShared {
    config: AuthConfig,
    secret: [u8; 16],
    /// By the worker that minted the nonce. A telephone's packets mostly come to one worker, so the locks are free.
    guards: Vec<Mutex<ReplayGuard>>,
    guesses: Guesses,
}

/// Authentication in one worker.
pub struct Authenticator {
    shared: Arc<AuthShared>,
    directory: Arc<Directory>,
    mint: NonceMint,
    /// What the credentials of unknown users are checked against.
    nobody: Account,
    /// What a fingerprint is made of: hashed in one piece it takes a third of the time.
    kept: Vec<u8>,
}

/// Who sent a request, or what to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A trusted network, or the built-in user agent.
    Trusted,
    /// An account, and its From (in a REGISTER: To) is its own.
    Account(AddressOfRecord),
    /// The same of a REGISTER that was here before: it comes again from the same place.
    Repeated(AddressOfRecord),
    /// Anybody, who may reach accounts of this service and nothing else.
    Stranger,
    /// Ask for (other) credentials.
    Challenge {
        /// 401 or 407.
        status: u16,
        /// WWW-Authenticate or Proxy-Authenticate lines, each with its line end.
        headers: Vec<u8>,
    },
    /// Refuse.
    Refused {
        /// 400, 403 or 404.
        status: u16,
        /// Reason phrase.
        reason: &'static str,
    },
}

impl AuthShared {
    /// For a service of `workers` workers. `secret` is random and new at each start.
    pub fn new(config: AuthConfig, workers: u8, secret: [u8; 16]) -> Self {
        let guard = || Mutex::new(ReplayGuard::new(config.nonces, config.nonce_lifetime));
        AuthShared {
            guards: (0..workers.max(1)).map(|_| guard()).collect(),
            guesses: Guesses::new(config.wrong_passwords, config.wrong_passwords_within, secret),
            secret,
            config,
        }
    }
}

impl Authenticator {
    /// The authenticator of worker number `worker`.
    pub fn new(shared: Arc<AuthShared>, directory: Arc<Directory>, worker: u8) -> Self {
        let mint = NonceMint::new(shared.secret, shared.config.nonce_lifetime, worker);
        let nobody = Account::with_password(&AddressOfRecord::new("", ""), "");
        Authenticator {
            shared,
            directory,
            mint,
            nobody,
            kept: Vec::new(),
        }
    }

    /// Who sent a REGISTER to this service. An account may register for its own address-of-record, a trusted network for any,
    /// and nobody else may at all. `unix` is in seconds.
    pub fn authenticate_register(&mut self, unix: u64, m: Message<'_>, flow: &Flow) -> Verdict {
        let to = m.to_uri();
        let Some(claimed) = to.and_then(|uri| self.directory.address_of_record(&uri)) else {
            return Verdict::Refused {
                status: 404,
                reason: "Address Of Record Not Of This Domain",
            };
        };
        if self.is_trusted(flow) {
            return Verdict::Trusted;
        }
        let proven = self.check(unix, m, flow, claimed.domain(), Side::REGISTRAR, Some(&claimed));
        match proven.map(|(account, nonce_use)| (*account == claimed, nonce_use)) {
            Ok((true, NonceUse::Retransmission)) => Verdict::Repeated(claimed),
            Ok((true, _)) => Verdict::Account(claimed),
            Ok((false, _)) => Verdict::Refused {
                status: 403,
                reason: "Registration For Another Account",
            },
            Err(verdict) => verdict,
        }
    }

    /// Who sent any other request. `local` says that the request goes to an account or service of ours: a stranger may send
    /// nothing else (no open relay). `unix` is in seconds.
    pub fn authenticate_proxy(&mut self, unix: u64, m: Message<'_>, flow: &Flow, local: bool) -> Verdict {
        if self.is_trusted(flow) {
            return Verdict::Trusted;
        }
        let Some(from) = m.from_uri() else {
            return Verdict::Refused {
                status: 400,
                reason: "Bad From",
            };
        };
        if self.directory.is_local(from.host) {
            let Some(claimed) = self.directory.address_of_record(&from) else {
                return Verdict::Refused {
                    status: 403,
                    reason: "From Names No Account",
                };
            };
            let proven = self.check(unix, m, flow, claimed.domain(), Side::PROXY, Some(&claimed));
            return match proven.map(|(account, _)| *account == claimed) {
                Ok(true) => Verdict::Account(claimed),
                Ok(false) => Verdict::Refused {
                    status: 403,
                    reason: "From Names Another Account",
                },
                Err(verdict) => verdict,
            };
        }
        // A telephone that hides its number (RFC 3323 4.1.1.3) names no account, but may prove one.
        let anonymous = from.host == Host::Name(ANONYMOUS_HOST);
        if anonymous && (!local || m.header(HeaderId::ProxyAuthorization).is_some()) {
            let directory = Arc::clone(&self.directory);
            return match self.check(unix, m, flow, directory.default_domain(), Side::PROXY, None) {
                Ok((account, _)) => Verdict::Account(account.into_owned()),
                Err(verdict) => verdict,
            };
        }
        if local {
            Verdict::Stranger
        } else {
            Verdict::Refused {
                status: 403,
                reason: "Relaying Denied",
            }
        }
    }

    fn is_trusted(&self, flow: &Flow) -> bool {
        let source = flow.remote.ip().to_canonical();
        flow.transport == Transport::Local
            || self
                .shared
                .config
                .trusted
                .iter()
                .any(|network| network.contains(&source))
    }

    /// The account that the request's credentials for `realm` prove, and whether this very request was here before. `claimed` is
    /// the account that the request names elsewhere.
    fn check<'c>(
        &mut self,
        unix: u64,
        m: Message<'_>,
        flow: &Flow,
        realm: &str,
        side: Side,
        claimed: Option<&'c AddressOfRecord>,
    ) -> Result<(Cow<'c, AddressOfRecord>, NonceUse), Verdict> {
        let credentials = match self.credentials(m, realm, side) {
            Some(Ok(credentials)) => credentials,
            Some(Err(refused)) => return Err(refused),
            None => return Err(self.challenge(unix, realm, side, claimed, false)),
        };
        let aor = match claimed {
            Some(claimed) if claimed.user() == credentials.username => Cow::Borrowed(claimed),
            _ => Cow::Owned(AddressOfRecord::new(credentials.username, realm)),
        };
        let source = flow.remote.ip();
        let suspicion = self.shared.guesses.look(unix, source, aor.as_str());
        if suspicion == Suspicion::TooMany {
            return Err(Verdict::Refused {
                status: 403,
                reason: "Too Many Wrong Passwords",
            });
        }
        let account = self.directory.account(&aor);
        let known = account
            .as_ref()
            .and_then(|account| account.ha1(credentials.algorithm));
        let exists = known.is_some();
        let Some(ha1) = known.or_else(|| self.nobody.ha1(credentials.algorithm)) else {
            return Err(self.challenge(unix, realm, side, claimed, false));
        };
        let proven = credentials.verify(&ha1, m.method().as_str(), m.body()) && exists;
        let Some(account) = account.filter(|_| proven) else {
            // Whatever the nonce: an old one is no leave to guess.
            let guess = credentials.response;
            self.shared.guesses.wrong(unix, source, aor.as_str(), guess);
            return Err(self.challenge(unix, realm, side, claimed, false));
        };
        let nonce_use = match self.mint.check(unix, credentials.nonce) {
            NonceCheck::Valid { id, .. } => self.note_use(unix, id, &credentials, m, flow),
            NonceCheck::Stale | NonceCheck::Forged => NonceUse::Forgotten,
        };
        if matches!(nonce_use, NonceUse::Replayed | NonceUse::Forgotten) {
            // The password is right, so the telephone need not ask its user for it again.
            return Err(self.challenge(unix, realm, side, claimed, true));
        }
        if suspicion == Suspicion::Some && nonce_use == NonceUse::Fresh {
            self.shared.guesses.forget(source, aor.as_str());
        }
        if account.disabled {
            return Err(Verdict::Refused {
                status: 403,
                reason: "Account Disabled",
            });
        }
        Ok((aor, nonce_use))
    }

    /// The first credentials for `realm` with an algorithm that is offered; the error says what is wrong with them.
    fn credentials<'m>(
        &self,
        m: Message<'m>,
        realm: &str,
        side: Side,
    ) -> Option<Result<DigestCredentials<'m>, Verdict>> {
        for credentials in m.credentials(side.credentials) {
            let digest = credentials.as_ref().ok().and_then(DigestCredentials::new);
            match digest {
                Some(Ok(found)) if found.realm != realm => {}
                Some(Ok(found)) if !self.shared.config.algorithms.contains(&found.algorithm) => {}
                Some(Ok(found)) => return Some(Ok(found)),
                Some(Err(CredentialsError::Algorithm)) => {}
                Some(Err(_)) if credentials.is_ok_and(|c| c.param("realm") != Some(realm)) => {}
                Some(Err(_)) => {
                    return Some(Err(Verdict::Refused {
                        status: 400,
                        reason: "Bad Credentials",
                    }));
                }
                None => {}
            }
        }
        None
    }

    /// Notes that a nonce was used.
    fn note_use(
        &mut self,
        unix: u64,
        id: NonceId,
        credentials: &DigestCredentials<'_>,
        m: Message<'_>,
        flow: &Flow,
    ) -> NonceUse {
        // Without qop there is no count: such a nonce is good for one request.
        let count = credentials.protection.map_or(1, |protection| protection.count);
        let fingerprint = self.fingerprint(credentials, m, flow);
        let Some(guard) = self.shared.guards.get(usize::from(id.worker)) else {
            return NonceUse::Forgotten;
        };
        let mut guard = guard.lock().unwrap_or_else(PoisonError::into_inner);
        guard.check(unix, id, count, fingerprint)
    }

    /// What the same request has again when it is sent again, from the same place: REGISTER is answered without a transaction,
    /// so its retransmissions come to here.
    fn fingerprint(&mut self, credentials: &DigestCredentials<'_>, m: Message<'_>, flow: &Flow) -> u64 {
        let kept = &mut self.kept;
        kept.clear();
        kept.extend_from_slice(&flow.remote.port().to_ne_bytes());
        match flow.remote.ip() {
            std::net::IpAddr::V4(ip) => kept.extend_from_slice(&ip.octets()),
            std::net::IpAddr::V6(ip) => kept.extend_from_slice(&ip.octets()),
        }
        kept.extend_from_slice(&m.cseq().map_or(0, |cseq| cseq.number).to_ne_bytes());
        for text in [
            credentials.response,
            m.top_via().map_or("", |via| via.as_str()),
            m.call_id().unwrap_or(""),
        ] {
            kept.extend_from_slice(text.as_bytes());
            kept.push(0);
        }
        SipHasher13::new_with_key(&self.shared.secret).hash(kept)
    }

    /// One challenge per algorithm. An account that came without its password may lack some algorithms; all others, and those
    /// that do not exist, are offered the same.
    fn challenge(
        &mut self,
        unix: u64,
        realm: &str,
        side: Side,
        claimed: Option<&AddressOfRecord>,
        stale: bool,
    ) -> Verdict {
        let nonce = self.mint.mint(unix);
        let account = claimed.and_then(|aor| self.directory.account(aor));
        let known = |algorithm: Algorithm| account.as_ref().is_none_or(|account| account.knows(algorithm));
        let config = &self.shared.config;
        let mut headers = Vec::with_capacity(config.algorithms.len() * (CHALLENGE_LENGTH + realm.len()));
        for algorithm in config.algorithms.iter().filter(|algorithm| known(**algorithm)) {
            headers.extend_from_slice(side.challenge.name().as_bytes());
            headers.extend_from_slice(b": ");
            write_challenge(
                &mut headers,
                realm,
                nonce.as_str(),
                *algorithm,
                &config.qop,
                stale,
            );
            headers.extend_from_slice(b"\r\n");
        }
        Verdict::Challenge {
            status: side.status,
            headers,
        }
    }
}

/// Where the credentials are and what asks for them (RFC 3261 22.2 and 22.3).
#[derive(Clone, Copy)]
struct Side {
    status: u16,
    credentials: HeaderId,
    challenge: HeaderId,
}

impl Side {
    const REGISTRAR: Side = Side {
        status: 401,
        credentials: HeaderId::Authorization,
        challenge: HeaderId::WwwAuthenticate,
    };
    const PROXY: Side = Side {
        status: 407,
        credentials: HeaderId::ProxyAuthorization,
        challenge: HeaderId::ProxyAuthenticate,
    };
}

/// Host of the From of one who stays anonymous (RFC 3323 4.1.1.3).
const ANONYMOUS_HOST: &str = "anonymous.invalid";

/// A challenge header line without its realm.
const CHALLENGE_LENGTH: usize = 140;

#[cfg(test)]
mod tests;
