//! Time-limited credentials that a web service hands out with a secret that it shares with the server (the "REST API for
//! access to TURN services", draft-uberti-behave-turn-rest-00, as browsers' applications use it).
//!
//! The user name is "expiry:name" with the expiry in seconds since 1970, or the expiry alone; the password is the base64 of
//! HMAC-SHA1 of the user name. An [`Accounts`](super::Accounts) makes a [`Key`](crate::integrity::Key) from both.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

/// A user name of this kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimeLimited<'a> {
    /// When it ends, in seconds since 1970.
    pub expiry: u64,
    /// Whom the web service means: what quotas are counted by. The whole user name if it does not say.
    pub name: &'a str,
    username: &'a str,
}

impl<'a> TimeLimited<'a> {
    /// Reads a user name; `None` if it is not of this kind.
    #[must_use]
    pub fn parse(username: &'a str) -> Option<Self> {
        let (expiry, name) = username.split_once(':').unwrap_or((username, username));
        if expiry.is_empty() || !expiry.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        Some(Self {
            expiry: expiry.parse().ok()?,
            name,
            username,
        })
    }

    /// Its password, unless it has ended by `unix` (seconds since 1970).
    #[must_use]
    pub fn password(&self, secret: &[u8], unix: u64) -> Option<Password> {
        if self.expiry < unix {
            return None;
        }
        let mut mac = Hmac::<Sha1>::new_from_slice(secret).expect("HMAC takes keys of any length");
        mac.update(self.username.as_bytes());
        let mut text = [0; TEXT];
        // 20 bytes always give 28 characters.
        let _ = STANDARD.encode_slice(mac.finalize().into_bytes(), &mut text);
        Some(Password(text))
    }
}

/// A password in base64. No `Debug`: it is not for logs.
#[derive(Clone)]
pub struct Password([u8; TEXT]);

impl Password {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // base64 is ASCII.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

const TEXT: usize = 28;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_the_hmac_of_the_user_name() {
        let user = TimeLimited::parse("1433065916:alice").unwrap();
        assert_eq!((user.expiry, user.name), (1_433_065_916, "alice"));
        let password = user.password(b"north", 1_433_065_916).unwrap();
        // printf 1433065916:alice | openssl dgst -sha1 -hmac north -binary | base64
        assert_eq!(password.as_str(), EXPECTED);
        assert!(user.password(b"north", 1_433_065_917).is_none(), "it has ended");
        let other = user.password(b"south", 1_433_065_916).unwrap();
        assert_ne!(other.as_str(), EXPECTED);
    }

    #[test]
    fn the_name_may_be_missing_and_may_hold_colons() {
        assert_eq!(TimeLimited::parse("17").unwrap().name, "17");
        assert_eq!(TimeLimited::parse("17:a:b").unwrap().name, "a:b");
    }

    #[test]
    fn other_user_names_are_left_to_others() {
        for username in [
            "alice",
            "",
            ":alice",
            "+17:alice",
            "1x:alice",
            "99999999999999999999:a",
        ] {
            assert_eq!(TimeLimited::parse(username), None, "{username}");
        }
    }

    const EXPECTED: &str = "Mf4on1SFftbyvGsi4mM2Um1ZIUQ=";
}
