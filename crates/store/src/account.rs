//! An account: who may register, and what proves it.

use std::fmt;

/// One account of the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The user part of the address-of-record, unescaped: `alice`.
    pub name: String,
    /// The domain of the address-of-record, in lower case; it is also the realm that `ha1` was made with.
    pub domain: String,
    /// What the account's password is checked against.
    pub ha1: Ha1,
    /// When the account was made, in unix seconds.
    pub created: u64,
    /// A disabled account keeps its data, and neither registers nor calls.
    pub disabled: bool,
}

impl Account {
    /// The address-of-record without scheme: `alice@example.org`.
    pub fn aor(&self) -> String {
        format!("{}@{}", self.name, self.domain)
    }
}

/// `H(user ":" realm ":" password)` under each digest algorithm (RFC 7616 section 3.4.2), in lower-case hexadecimal;
/// `None` where it is not known. The password itself is never stored. Who has one of these can log in as the
/// account, so there is no `Debug` that shows them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Ha1 {
    /// For `algorithm=MD5`: 32 digits.
    pub md5: Option<String>,
    /// For `algorithm=SHA-256`: 64 digits.
    pub sha256: Option<String>,
    /// For `algorithm=SHA-512-256`: 64 digits.
    pub sha512_256: Option<String>,
}

impl fmt::Debug for Ha1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ha1(..)")
    }
}
