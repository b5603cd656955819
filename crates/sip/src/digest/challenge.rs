//! Challenges: writing them (server) and answering them (client).

use std::fmt;
use std::io::Write;

use super::{Algorithm, Ha1, HexHash, Qop, response};
use crate::headers::Challenge;
use crate::text::unquote;

/// Appends the value of a WWW-Authenticate or Proxy-Authenticate header field. Write one header field per algorithm, in the
/// order of [`Algorithm::STRONGEST_FIRST`]: a phone takes the first that it knows (RFC 8760 section 2.4).
///
/// `qop` lists what is offered; an empty list means RFC 2069, without replay protection. Many phones fail on an offer that is not
/// just `auth`. `realm` must not contain quotes or backslashes.
pub fn write_challenge(
    out: &mut Vec<u8>,
    realm: &str,
    nonce: &str,
    algorithm: Algorithm,
    qop: &[Qop],
    stale: bool,
) {
    out.extend_from_slice(b"Digest realm=\"");
    out.extend_from_slice(realm.as_bytes());
    out.extend_from_slice(b"\", nonce=\"");
    out.extend_from_slice(nonce.as_bytes());
    out.extend_from_slice(b"\", algorithm=");
    out.extend_from_slice(algorithm.as_str().as_bytes());
    for (at, qop) in qop.iter().enumerate() {
        out.extend_from_slice(if at == 0 { b", qop=\"" } else { b"," });
        out.extend_from_slice(qop.as_str().as_bytes());
    }
    if !qop.is_empty() {
        out.push(b'"');
    }
    if stale {
        out.extend_from_slice(b", stale=true");
    }
}

/// A user name and a password, kept out of logs.
#[derive(Clone)]
pub struct Login {
    /// The user's name.
    pub username: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// A client's side of one realm: the challenge it was given and how often it has answered.
///
/// A request that was answered 401 or 407 is sent again with [`write`](Self::write)'s value; later requests carry it from the
/// start, until the server sends another challenge.
#[derive(Clone, Debug)]
pub struct ClientAuthorization {
    realm: String,
    nonce: String,
    opaque: Option<String>,
    /// As the server wrote it; absent if it wrote none.
    algorithm_given: bool,
    algorithm: Algorithm,
    qop: Option<Qop>,
    stale: bool,
    count: u32,
}

impl ClientAuthorization {
    /// Takes the first challenge that can be answered (RFC 8760 section 2.4).
    pub fn from_challenges<'a>(
        challenges: impl IntoIterator<Item = Challenge<'a>>,
    ) -> Result<Self, ChallengeError> {
        let mut error = ChallengeError::None;
        for challenge in challenges {
            match Self::from_challenge(&challenge) {
                Ok(this) => return Ok(this),
                Err(found) => error = found,
            }
        }
        Err(error)
    }

    fn from_challenge(challenge: &Challenge<'_>) -> Result<Self, ChallengeError> {
        if !challenge.is_digest() {
            return Err(ChallengeError::Scheme);
        }
        let param = |name| challenge.param(name);
        let algorithm = param("algorithm");
        let offered = param("qop").map(unquote);
        let qop = match offered {
            None => None,
            // auth is enough where it is offered: the body of a request to a relaying provider is rewritten on the way.
            Some(list) => {
                let known = || list.split(',').filter_map(|token| Qop::from_token(token.trim()));
                let auth = known().find(|qop| *qop == Qop::Auth).or_else(|| known().next());
                Some(auth.ok_or(ChallengeError::Qop)?)
            }
        };
        Ok(Self {
            realm: param("realm").ok_or(ChallengeError::Missing("realm"))?.to_owned(),
            nonce: param("nonce").ok_or(ChallengeError::Missing("nonce"))?.to_owned(),
            opaque: param("opaque").map(str::to_owned),
            algorithm_given: algorithm.is_some(),
            algorithm: algorithm
                .map_or(Some(Algorithm::Md5), Algorithm::from_token)
                .ok_or(ChallengeError::Algorithm)?,
            qop,
            stale: param("stale").is_some_and(|value| value.eq_ignore_ascii_case("true")),
            count: 0,
        })
    }

    /// The realm, to find the log-in for.
    #[must_use]
    pub fn realm(&self) -> &str {
        &self.realm
    }

    /// Whether the server only wants a newer nonce. If not, and the last request carried credentials, the password is wrong:
    /// do not try the same again.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.stale
    }

    /// Appends the value of the Authorization or Proxy-Authorization header field. `random` makes the client's nonce.
    pub fn write(
        &mut self,
        login: &Login,
        method: &str,
        uri: &str,
        body: &[u8],
        random: u64,
        out: &mut Vec<u8>,
    ) {
        self.count += 1;
        let ha1 = Ha1::new(self.algorithm, &login.username, &self.realm, &login.password);
        let (nc, cnonce) = (format!("{:08x}", self.count), format!("{random:016x}"));
        let protection = self.qop.map(|qop| (qop, cnonce.as_str(), nc.as_str()));
        let proof = response(&ha1, &self.nonce, protection, method, uri, body);
        // Writing into a Vec cannot fail.
        let _ = self.write_params(&login.username, uri, &proof, protection, out);
    }

    fn write_params(
        &self,
        username: &str,
        uri: &str,
        proof: &HexHash,
        protection: Option<(Qop, &str, &str)>,
        out: &mut Vec<u8>,
    ) -> std::io::Result<()> {
        out.extend_from_slice(b"Digest username=\"");
        for byte in username.bytes() {
            if matches!(byte, b'"' | b'\\') {
                out.push(b'\\');
            }
            out.push(byte);
        }
        write!(
            out,
            "\", realm=\"{}\", nonce=\"{}\", uri=\"{uri}\", response=\"",
            self.realm, self.nonce
        )?;
        out.extend_from_slice(proof.as_bytes());
        out.push(b'"');
        if self.algorithm_given {
            write!(out, ", algorithm={}", self.algorithm.as_str())?;
        }
        if let Some((qop, cnonce, nc)) = protection {
            write!(out, ", cnonce=\"{cnonce}\", qop={}, nc={nc}", qop.as_str())?;
        }
        if let Some(opaque) = &self.opaque {
            write!(out, ", opaque=\"{opaque}\"")?;
        }
        Ok(())
    }
}

/// Why a challenge cannot be answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChallengeError {
    /// There was none.
    #[error("expected a challenge in the response, found none")]
    None,
    /// Another scheme.
    #[error("expected the scheme Digest")]
    Scheme,
    /// Another algorithm.
    #[error("expected algorithm MD5, SHA-256 or SHA-512-256")]
    Algorithm,
    /// Another protection.
    #[error("expected qop auth or auth-int among those offered")]
    Qop,
    /// A parameter is absent.
    #[error("expected the parameter {0} in the challenge")]
    Missing(&'static str),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::DigestCredentials;
    use crate::headers::Credentials;

    fn login() -> Login {
        Login {
            username: "alice".into(),
            password: "secret".into(),
        }
    }

    fn challenge(algorithm: Algorithm, qop: &[Qop], stale: bool) -> String {
        let mut out = Vec::new();
        write_challenge(&mut out, "example.org", "abc", algorithm, qop, stale);
        String::from_utf8(out).unwrap()
    }

    fn answer(client: &mut ClientAuthorization, method: &str, body: &[u8]) -> String {
        let mut out = Vec::new();
        client.write(&login(), method, "sip:example.org", body, 42, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn challenge_is_written_as_phones_expect_it() {
        assert_eq!(
            challenge(Algorithm::Sha256, &[Qop::Auth, Qop::AuthInt], true),
            "Digest realm=\"example.org\", nonce=\"abc\", algorithm=SHA-256, qop=\"auth,auth-int\", stale=true"
        );
        assert_eq!(
            challenge(Algorithm::Md5, &[], false),
            "Digest realm=\"example.org\", nonce=\"abc\", algorithm=MD5"
        );
    }

    #[test]
    fn answer_to_every_kind_of_challenge_verifies() {
        for algorithm in Algorithm::STRONGEST_FIRST {
            for qop in [&[][..], &[Qop::Auth], &[Qop::AuthInt]] {
                let text = challenge(algorithm, qop, false);
                let mut client =
                    ClientAuthorization::from_challenges(Credentials::parse(&text).ok()).unwrap();
                let ha1 = Ha1::new(algorithm, "alice", "example.org", "secret");
                let wrong = Ha1::new(algorithm, "alice", "example.org", "Secret");
                for count in 1..3 {
                    let value = answer(&mut client, "REGISTER", b"body");
                    let parsed = Credentials::parse(&value).unwrap();
                    let credentials = DigestCredentials::new(&parsed).unwrap().unwrap();
                    assert!(credentials.verify(&ha1, "REGISTER", b"body"), "{value}");
                    assert!(!credentials.verify(&wrong, "REGISTER", b"body"), "{value}");
                    assert_eq!(
                        credentials.protection.map(|p| p.count),
                        qop.first().map(|_| count)
                    );
                }
            }
        }
    }

    #[test]
    fn first_challenge_that_is_known_is_answered() {
        let lines = [
            "Digest realm=\"a\", nonce=\"n\", algorithm=SHA3-512, qop=\"auth\"".to_owned(),
            challenge(Algorithm::Sha512_256, &[Qop::Auth], false),
            challenge(Algorithm::Md5, &[Qop::Auth], false),
        ];
        let parsed = lines.iter().map(|line| Credentials::parse(line).unwrap());
        let client = ClientAuthorization::from_challenges(parsed).unwrap();
        assert_eq!(client.algorithm, Algorithm::Sha512_256);
        assert_eq!(client.realm(), "example.org");
    }

    #[test]
    fn challenge_that_cannot_be_answered_says_why() {
        let error =
            |line: &str| ClientAuthorization::from_challenges(Credentials::parse(line).ok()).unwrap_err();
        assert_eq!(
            ClientAuthorization::from_challenges([]).unwrap_err(),
            ChallengeError::None
        );
        assert_eq!(error("Basic realm=\"x\""), ChallengeError::Scheme);
        assert_eq!(error("Digest realm=\"x\""), ChallengeError::Missing("nonce"));
        assert_eq!(
            error("Digest realm=\"x\", nonce=\"n\", algorithm=MD5-sess"),
            ChallengeError::Algorithm
        );
        assert_eq!(
            error("Digest realm=\"x\", nonce=\"n\", qop=\"odd\""),
            ChallengeError::Qop
        );
    }

    #[test]
    fn login_stays_out_of_logs() {
        assert!(!format!("{:?}", login()).contains("secret"));
    }
}
