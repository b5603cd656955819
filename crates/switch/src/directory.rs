//! The accounts of the service and the domains that it answers for, shared by all workers.
//!
//! Reading happens on every request, writing when an operator changes an account: the table is split into parts with a
//! reader-writer lock each, on cache lines of their own, so that workers hardly ever touch the same line. Nothing here is a
//! password: an account holds one HA1 per digest algorithm (RFC 7616 3.4.2).

use std::hash::Hasher;
use std::net::IpAddr;
use std::sync::{PoisonError, RwLock};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use sip::digest::{Algorithm, Ha1};
use sip::uri::{Host, Uri};
use siphasher::sip::SipHasher13;

/// The accounts and domains.
pub struct Directory {
    domains: Vec<Box<str>>,
    own_addresses: Vec<IpAddr>,
    secret: [u8; 16],
    shards: Box<[Shard]>,
}

/// What the service knows about an account.
#[derive(Clone, Debug, PartialEq)]
pub struct Account {
    /// HA1 for MD5, where known.
    pub md5: Option<Ha1>,
    /// HA1 for SHA-256, where known.
    pub sha256: Option<Ha1>,
    /// HA1 for SHA-512-256, where known.
    pub sha512_256: Option<Ha1>,
    /// The account exists, but may not register or call.
    pub disabled: bool,
}

/// An address-of-record in canonical form (RFC 3261 10.3 step 5): user unescaped, canonical domain, nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AddressOfRecord(Box<str>);

/// The domain of accounts when no domain is configured; it is also their realm. The service's own addresses stand for it.
pub const DEFAULT_DOMAIN: &str = "trapez";

impl Directory {
    /// A directory without accounts. `domains` are the names that the service answers for; the first one is the default. When
    /// there is none, its own addresses count as one domain, named [`DEFAULT_DOMAIN`]. `secret` keys the hash tables.
    pub fn new<S: AsRef<str>>(
        domains: impl IntoIterator<Item = S>,
        own_addresses: impl IntoIterator<Item = IpAddr>,
        secret: [u8; 16],
    ) -> Self {
        let mut names: Vec<Box<str>> = Vec::new();
        for domain in domains {
            let name = canonical_name(domain.as_ref());
            if !names.contains(&name) {
                names.push(name);
            }
        }
        Directory {
            domains: names,
            own_addresses: own_addresses.into_iter().map(|address| address.to_canonical()).collect(),
            secret,
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
        }
    }

    /// The domain of accounts that are named without one.
    pub fn default_domain(&self) -> &str {
        self.domains.first().map_or(DEFAULT_DOMAIN, |name| name)
    }

    /// The canonical name of the domain that `host` stands for, which is the realm of its accounts too; `None` when the host is
    /// not a domain of this service.
    pub fn canonical_domain(&self, host: Host<'_>) -> Option<&str> {
        if self.domains.is_empty() {
            let own = match host {
                Host::Name(name) => without_dot(name).eq_ignore_ascii_case(DEFAULT_DOMAIN),
                Host::V4(_) | Host::V6(_) => self.is_own_address(host),
            };
            return own.then_some(DEFAULT_DOMAIN);
        }
        match host {
            Host::Name(name) => self.named(name),
            Host::V4(_) | Host::V6(_) => self.domains.iter().find(|n| Host::parse(n) == Some(host)).map(|n| &**n),
        }
    }

    /// `host` is a domain of this service.
    pub fn is_local(&self, host: Host<'_>) -> bool {
        self.canonical_domain(host).is_some()
    }

    /// `host` is an address of this service (whether or not it counts as a domain).
    pub fn is_own_address(&self, host: Host<'_>) -> bool {
        host.ip().is_some_and(|ip| self.own_addresses.contains(&ip.to_canonical()))
    }

    /// The address-of-record that a SIP URI names; `None` when it has no user or its domain is not one of this service.
    pub fn address_of_record(&self, uri: &Uri<'_>) -> Option<AddressOfRecord> {
        if !uri.is_sip() || uri.user.is_none() {
            return None;
        }
        let domain = self.canonical_domain(uri.host)?;
        let mut text = String::with_capacity(uri.as_str().len() + domain.len());
        uri.write_aor(&mut text);
        // A user may hold an escaped `@`, a host none at all.
        text.truncate(text.rfind('@')? + 1);
        text.push_str(domain);
        Some(AddressOfRecord(text.into()))
    }

    /// The account of an address-of-record.
    pub fn account(&self, aor: &AddressOfRecord) -> Option<Account> {
        let hash = self.hash(&aor.0);
        let shard = self.shard(hash).0.read().unwrap_or_else(PoisonError::into_inner);
        shard.find(hash, |(key, _)| *key == *aor).map(|(_, account)| account.clone())
    }

    /// The account exists, disabled or not.
    pub fn exists(&self, aor: &AddressOfRecord) -> bool {
        let hash = self.hash(&aor.0);
        let shard = self.shard(hash).0.read().unwrap_or_else(PoisonError::into_inner);
        shard.find(hash, |(key, _)| *key == *aor).is_some()
    }

    /// Adds an account, or replaces what is known about it.
    pub fn put(&self, aor: AddressOfRecord, account: Account) {
        let hash = self.hash(&aor.0);
        let mut shard = self.shard(hash).0.write().unwrap_or_else(PoisonError::into_inner);
        match shard.entry(hash, |(key, _)| *key == aor, |(key, _)| self.hash(&key.0)) {
            Entry::Occupied(mut entry) => entry.get_mut().1 = account,
            Entry::Vacant(entry) => {
                entry.insert((aor, account));
            }
        }
    }

    /// Removes an account; false when there was none.
    pub fn remove(&self, aor: &AddressOfRecord) -> bool {
        let hash = self.hash(&aor.0);
        let mut shard = self.shard(hash).0.write().unwrap_or_else(PoisonError::into_inner);
        shard.find_entry(hash, |(key, _)| *key == *aor).map(|entry| entry.remove()).is_ok()
    }

    /// Number of accounts.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.0.read().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }

    /// True when there is no account.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn named(&self, name: &str) -> Option<&str> {
        let name = without_dot(name);
        self.domains.iter().find(|domain| domain.eq_ignore_ascii_case(name)).map(|domain| &**domain)
    }

    fn hash(&self, aor: &str) -> u64 {
        let mut hasher = SipHasher13::new_with_key(&self.secret);
        hasher.write(aor.as_bytes());
        hasher.finish()
    }

    fn shard(&self, hash: u64) -> &Shard {
        // The tables take their bits from both ends of the hash; these are from its middle.
        &self.shards[(hash >> 32) as usize % SHARDS]
    }
}

impl AddressOfRecord {
    /// From a user (unescaped, not empty) and a canonical domain.
    pub fn new(user: &str, domain: &str) -> Self {
        AddressOfRecord([user, "@", domain].concat().into())
    }

    /// `user@domain`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The user, unescaped.
    pub fn user(&self) -> &str {
        self.0.rsplit_once('@').map_or("", |(user, _)| user)
    }

    /// The canonical domain.
    pub fn domain(&self) -> &str {
        self.0.rsplit_once('@').map_or("", |(_, domain)| domain)
    }
}

impl std::fmt::Display for AddressOfRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Account {
    /// The HA1 for an algorithm, where known.
    pub fn ha1(&self, algorithm: Algorithm) -> Option<&Ha1> {
        match algorithm {
            Algorithm::Md5 => self.md5.as_ref(),
            Algorithm::Sha256 => self.sha256.as_ref(),
            Algorithm::Sha512_256 => self.sha512_256.as_ref(),
        }
    }
}

/// Accounts behind their lock, on cache lines of their own.
#[derive(Default)]
#[repr(align(128))]
struct Shard(RwLock<HashTable<(AddressOfRecord, Account)>>);

/// Parts with a lock of their own.
const SHARDS: usize = 64;

fn without_dot(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

fn canonical_name(domain: &str) -> Box<str> {
    without_dot(domain.trim()).to_ascii_lowercase().into()
}
