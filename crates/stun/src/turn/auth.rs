//! The long-term credential mechanism (RFC 8489 section 9.2), server side: who sent this request, without any memory.

use std::borrow::Cow;
use std::time::Instant;

use super::nonce::{Nonces, offers_algorithms};
use super::{Client, Refusal};
use crate::attribute::AttributeType;
use crate::integrity::{Integrity, Key, PasswordAlgorithm, verify};
use crate::message::{Message, Writer};

/// How a request names its user.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum User<'a> {
    /// By name.
    Name(&'a str),
    /// By the SHA-256 of name and realm ([`crate::integrity::userhash`]).
    Hash(&'a [u8; 32]),
}

/// A user with the key of one algorithm.
#[derive(Clone, Debug)]
pub struct Account<'a> {
    /// What quotas are counted by, and who may use an allocation: usually the user name.
    pub name: Cow<'a, str>,
    /// The key for the realm.
    pub key: Key,
}

/// Knows the users, and is told who guesses.
pub trait Accounts {
    /// The account, if there is one that may use the relay from there and has a key of this algorithm.
    fn find<'a>(
        &'a self,
        user: User<'a>,
        algorithm: PasswordAlgorithm,
        client: &Client,
    ) -> Option<Account<'a>>;

    /// The client has not the account's password. `proof` is what it led to: a request that comes again is no other guess.
    fn wrong_password(&self, _account: &str, _client: &Client, _proof: &[u8]) {}

    /// The client has the account's password, and this is no old request of somebody else's.
    fn right_password(&self, _account: &str, _client: &Client) {}
}

/// Who sent a request, proven.
pub(super) struct Proven<'a> {
    pub(super) account: Account<'a>,
    pub(super) integrity: Integrity,
}

/// Checks credentials and asks for them.
pub(super) struct Authenticator {
    pub(super) realm: Box<str>,
    pub(super) nonces: Nonces,
}

impl Authenticator {
    /// The checks of RFC 8489 section 9.2.4. A nonce is looked at last: it is stale only where the rest is right.
    pub(super) fn prove<'a>(
        &self,
        now: Instant,
        client: &Client,
        request: &Message<'a>,
        accounts: &'a dyn Accounts,
    ) -> Result<Proven<'a>, Refusal> {
        let integrity = if request
            .attribute(AttributeType::MESSAGE_INTEGRITY_SHA256)
            .is_some()
        {
            Integrity::Sha256
        } else if request.attribute(AttributeType::MESSAGE_INTEGRITY).is_some() {
            Integrity::Sha1
        } else {
            return Err(Refusal::Unauthenticated);
        };
        let user = user(request)?;
        // What it says does not matter: the key is made for ours.
        request.value(AttributeType::REALM).ok_or(Refusal::BadRequest)?;
        let nonce = request.value(AttributeType::NONCE).ok_or(Refusal::BadRequest)?;
        let algorithm = algorithm(request, nonce)?;
        let account = accounts
            .find(user, algorithm, client)
            .ok_or(Refusal::Unauthenticated)?;
        if verify(request, integrity, account.key.as_bytes()) != Some(true) {
            let proof = request.value(integrity.attribute()).unwrap_or_default();
            accounts.wrong_password(&account.name, client, proof);
            return Err(Refusal::Unauthenticated);
        }
        if !self.nonces.is_valid(now, client, nonce) {
            return Err(Refusal::StaleNonce);
        }
        accounts.right_password(&account.name, client);
        Ok(Proven { account, integrity })
    }

    /// What a client needs to try again.
    pub(super) fn challenge(&self, now: Instant, client: &Client, writer: &mut Writer<'_>) {
        writer.attribute(AttributeType::REALM, self.realm.as_bytes());
        writer.attribute(AttributeType::NONCE, &self.nonces.mint(now, client));
        writer.attribute(AttributeType::PASSWORD_ALGORITHMS, &ALGORITHMS);
    }
}

fn user<'a>(request: &Message<'a>) -> Result<User<'a>, Refusal> {
    match (
        request.value(AttributeType::USERNAME),
        request.value(AttributeType::USERHASH),
    ) {
        (Some(name), None) => std::str::from_utf8(name)
            .map(User::Name)
            .map_err(|_| Refusal::BadRequest),
        (None, Some(hash)) => hash.try_into().map(User::Hash).map_err(|_| Refusal::BadRequest),
        _ => Err(Refusal::BadRequest),
    }
}

/// The algorithm that the client chose. It must repeat our whole offer, so that nobody on the way can have taken the better one
/// out of it; a client of RFC 5389 says nothing and means MD5.
fn algorithm(request: &Message<'_>, nonce: &[u8]) -> Result<PasswordAlgorithm, Refusal> {
    if !offers_algorithms(nonce) {
        return Ok(PasswordAlgorithm::Md5);
    }
    match (
        request.value(AttributeType::PASSWORD_ALGORITHMS),
        request.value(AttributeType::PASSWORD_ALGORITHM),
    ) {
        (None, None) => Ok(PasswordAlgorithm::Md5),
        (Some(offer), Some(&[high, low, 0, 0])) if offer == ALGORITHMS => {
            PasswordAlgorithm::from_number(u16::from_be_bytes([high, low])).ok_or(Refusal::BadRequest)
        }
        _ => Err(Refusal::BadRequest),
    }
}

/// PASSWORD-ALGORITHMS: SHA-256, then MD5, both without parameters (RFC 8489 section 14.11).
const ALGORITHMS: [u8; 8] = [0, 2, 0, 0, 0, 1, 0, 0];
