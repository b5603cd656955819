//! The accounts of the service and the domains that it answers for, shared by all workers.
//!
//! Reading happens on every request, writing when an operator changes an account: the table is split into parts with a
//! reader-writer lock each, on cache lines of their own, so that workers hardly ever touch the same line. Nothing here is a
//! password: an account holds one HA1 per digest algorithm (RFC 7616 3.4.2).

use std::fmt;
use std::hash::Hasher;
use std::net::IpAddr;
use std::sync::{PoisonError, RwLock};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use sip::digest::{Algorithm, Ha1, Ha1Error};
use sip::uri::{Host, Uri};
use siphasher::sip::SipHasher13;

/// The accounts and domains.
pub struct Directory {
    domains: Vec<Box<str>>,
    own_addresses: Vec<IpAddr>,
    secret: [u8; 16],
    shards: Box<[Shard]>,
}

/// What the service knows about an account. Its `Debug` shows no HA1: that is enough to log in.
#[derive(Clone, PartialEq, Eq)]
pub struct Account {
    md5: Option<[u8; 16]>,
    sha256: Option<[u8; 32]>,
    sha512_256: Option<[u8; 32]>,
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
            own_addresses: own_addresses
                .into_iter()
                .map(|address| address.to_canonical())
                .collect(),
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
            Host::V4(_) | Host::V6(_) => self
                .domains
                .iter()
                .find(|n| Host::parse(n) == Some(host))
                .map(|n| &**n),
        }
    }

    /// `host` is a domain of this service.
    pub fn is_local(&self, host: Host<'_>) -> bool {
        self.canonical_domain(host).is_some()
    }

    /// `host` is an address of this service (whether or not it counts as a domain).
    pub fn is_own_address(&self, host: Host<'_>) -> bool {
        host.ip()
            .is_some_and(|ip| self.own_addresses.contains(&ip.to_canonical()))
    }

    /// The address-of-record that a SIP URI names; `None` when it has no user or its domain is not one of this service.
    pub fn address_of_record(&self, uri: &Uri<'_>) -> Option<AddressOfRecord> {
        let user = uri.user.filter(|_| uri.is_sip())?;
        let domain = self.canonical_domain(uri.host)?;
        if !user.contains('%') {
            return Some(AddressOfRecord::new(user, domain));
        }
        let mut text = uri.aor();
        // A user may hold an escaped `@`, a host none at all.
        text.truncate(text.rfind('@')? + 1);
        text.push_str(domain);
        Some(AddressOfRecord(text.into()))
    }

    /// The account of an address-of-record.
    pub fn account(&self, aor: &AddressOfRecord) -> Option<Account> {
        let hash = self.hash(&aor.0);
        let shard = self.shard(hash).0.read().unwrap_or_else(PoisonError::into_inner);
        shard
            .find(hash, |(key, _)| *key == *aor)
            .map(|(_, account)| account.clone())
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
        shard
            .find_entry(hash, |(key, _)| *key == *aor)
            .map(|entry| entry.remove())
            .is_ok()
    }

    /// Number of accounts.
    pub fn len(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| shard.0.read().unwrap_or_else(PoisonError::into_inner).len())
            .sum()
    }

    /// True when there is no account.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn named(&self, name: &str) -> Option<&str> {
        let name = without_dot(name);
        self.domains
            .iter()
            // Mostly it is written just as it is here, which takes one comparison.
            .find(|domain| &***domain == name || domain.eq_ignore_ascii_case(name))
            .map(|domain| &**domain)
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
        let mut text = String::with_capacity(user.len() + 1 + domain.len());
        text.push_str(user);
        text.push('@');
        text.push_str(domain);
        AddressOfRecord(text.into())
    }

    /// `user@domain`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The user, unescaped.
    pub fn user(&self) -> &str {
        self.0.get(..self.at()).unwrap_or("")
    }

    /// The canonical domain.
    pub fn domain(&self) -> &str {
        self.0.get(self.at() + 1..).unwrap_or("")
    }

    /// Where the `@` is; a user may hold others.
    fn at(&self) -> usize {
        self.0.bytes().rposition(|byte| byte == b'@').unwrap_or(0)
    }
}

impl fmt::Display for AddressOfRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Account {
    /// An account from its HA1s (H(user:realm:password) in hexadecimal, the realm being the domain of its address-of-record), as
    /// far as they are known.
    pub fn from_hex(
        md5: Option<&str>,
        sha256: Option<&str>,
        sha512_256: Option<&str>,
        disabled: bool,
    ) -> Result<Self, Ha1Error> {
        let read =
            |algorithm, text: Option<&str>| text.map(|text| Ha1::from_hex(algorithm, text)).transpose();
        Ok(Account {
            md5: read(Algorithm::Md5, md5)?.map(|ha1| unhex(ha1.as_str())),
            sha256: read(Algorithm::Sha256, sha256)?.map(|ha1| unhex(ha1.as_str())),
            sha512_256: read(Algorithm::Sha512_256, sha512_256)?.map(|ha1| unhex(ha1.as_str())),
            disabled,
        })
    }

    /// An account from its password, which is not kept.
    pub fn with_password(aor: &AddressOfRecord, password: &str) -> Self {
        let ha1 = |algorithm| Ha1::new(algorithm, aor.user(), aor.domain(), password);
        Account {
            md5: Some(unhex(ha1(Algorithm::Md5).as_str())),
            sha256: Some(unhex(ha1(Algorithm::Sha256).as_str())),
            sha512_256: Some(unhex(ha1(Algorithm::Sha512_256).as_str())),
            disabled: false,
        }
    }

    /// The HA1 for that algorithm is known.
    pub fn knows(&self, algorithm: Algorithm) -> bool {
        match algorithm {
            Algorithm::Md5 => self.md5.is_some(),
            Algorithm::Sha256 => self.sha256.is_some(),
            Algorithm::Sha512_256 => self.sha512_256.is_some(),
        }
    }

    /// The HA1 for an algorithm, where it is known.
    pub fn ha1(&self, algorithm: Algorithm) -> Option<Ha1> {
        let raw: &[u8] = match algorithm {
            Algorithm::Md5 => self.md5.as_ref()?,
            Algorithm::Sha256 => self.sha256.as_ref()?,
            Algorithm::Sha512_256 => self.sha512_256.as_ref()?,
        };
        Ha1::from_bytes(algorithm, raw).ok()
    }
}

/// Bytes of a text that is known to be hexadecimal and as long.
fn unhex<const N: usize>(text: &str) -> [u8; N] {
    let digit = |at: usize| {
        text.as_bytes()
            .get(at)
            .and_then(|&b| char::from(b).to_digit(16))
            .unwrap_or(0) as u8
    };
    std::array::from_fn(|byte| digit(2 * byte) << 4 | digit(2 * byte + 1))
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account")
            .field("disabled", &self.disabled)
            .finish_non_exhaustive()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(domains: &[&str]) -> Directory {
        let own = ["203.0.113.2", "2001:db8::2"].map(|ip| ip.parse().expect("a literal address"));
        Directory::new(domains, own, *b"sixteen bytes ok")
    }

    fn aor(directory: &Directory, uri: &str) -> Option<String> {
        directory
            .address_of_record(&Uri::parse(uri).expect("a URI"))
            .map(|aor| aor.as_str().to_owned())
    }

    #[test]
    fn an_address_of_record_is_canonical() {
        let directory = directory(&["Example.org.", "example.com"]);
        for uri in [
            "sip:alice@example.org",
            "sips:alice@EXAMPLE.ORG:5061;transport=tls",
            "sip:%61lice:secret@example.org.;user=phone?subject=x",
        ] {
            assert_eq!(
                aor(&directory, uri).as_deref(),
                Some("alice@example.org"),
                "{uri}"
            );
        }
        assert_eq!(
            aor(&directory, "sip:Alice@example.com").as_deref(),
            Some("Alice@example.com")
        );
        for uri in [
            "sip:example.org",
            "sip:alice@example.net",
            "sip:alice@203.0.113.2",
            "tel:+4930123",
            "mailto:a@example.org",
        ] {
            assert_eq!(aor(&directory, uri), None, "{uri}");
        }
        let odd = directory
            .address_of_record(&Uri::parse("sip:a%40b@example.org").expect("a URI"))
            .expect("ours");
        assert_eq!((odd.user(), odd.domain()), ("a@b", "example.org"));
    }

    #[test]
    fn without_domains_the_own_addresses_are_the_default_domain() {
        let directory = directory(&[]);
        for uri in [
            "sip:bob@203.0.113.2:5070",
            "sip:bob@[2001:db8:0::2]",
            "sip:bob@[::ffff:203.0.113.2]",
            "sip:bob@trapez",
        ] {
            assert_eq!(aor(&directory, uri).as_deref(), Some("bob@trapez"), "{uri}");
        }
        for uri in ["sip:bob@203.0.113.3", "sip:bob@example.org"] {
            assert_eq!(aor(&directory, uri), None, "{uri}");
        }
    }

    #[test]
    fn a_configured_domain_may_be_an_address() {
        let directory = directory(&["192.0.2.77", "[2001:db8::77]"]);
        assert_eq!(
            aor(&directory, "sip:bob@192.0.2.77").as_deref(),
            Some("bob@192.0.2.77")
        );
        assert_eq!(
            aor(&directory, "sip:bob@[2001:DB8::77]").as_deref(),
            Some("bob@[2001:db8::77]")
        );
        assert_eq!(aor(&directory, "sip:bob@203.0.113.2"), None);
        assert!(directory.is_own_address(Host::parse("203.0.113.2").expect("a host")));
        assert!(!directory.is_own_address(Host::parse("192.0.2.77").expect("a host")));
    }

    #[test]
    fn accounts_come_and_go_at_run_time() {
        let directory = directory(&["example.org"]);
        let alice = AddressOfRecord::new("alice", "example.org");
        let account = Account::with_password(&alice, "wonderland");
        directory.put(alice.clone(), account.clone());
        assert!(directory.exists(&alice));
        assert_eq!(directory.account(&alice), Some(account));
        let disabled = Account {
            disabled: true,
            ..Account::with_password(&alice, "looking glass")
        };
        directory.put(alice.clone(), disabled.clone());
        assert_eq!((directory.account(&alice), directory.len()), (Some(disabled), 1));
        assert!(directory.remove(&alice));
        assert!(!directory.remove(&alice));
        assert!(directory.is_empty() && directory.account(&alice).is_none());
    }

    #[test]
    fn an_account_keeps_the_digests_of_its_password() {
        let alice = AddressOfRecord::new("alice", "example.org");
        let account = Account::with_password(&alice, "wonderland");
        for algorithm in Algorithm::STRONGEST_FIRST {
            let expected = Ha1::new(algorithm, "alice", "example.org", "wonderland");
            assert_eq!(
                account
                    .ha1(algorithm)
                    .map(|ha1| ha1.as_str().to_owned())
                    .as_deref(),
                Some(expected.as_str())
            );
        }
        let md5 = account.ha1(Algorithm::Md5).expect("made above");
        let imported = Account::from_hex(Some(md5.as_str()), None, None, false).expect("32 digits");
        assert_eq!(imported.md5, account.md5);
        assert!(imported.ha1(Algorithm::Sha256).is_none());
        assert!(Account::from_hex(None, Some(md5.as_str()), None, false).is_err());
        assert_eq!(format!("{account:?}"), "Account { disabled: false, .. }");
    }
}
