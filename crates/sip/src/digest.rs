//! Digest authentication (RFC 3261 section 22, RFC 7616, RFC 8760; without `qop` as in RFC 2069 for old phones).
//!
//! A server writes one challenge per algorithm, strongest first ([`write_challenge`] with a nonce of a [`NonceMint`]). For each
//! request with credentials it calls, in this order: [`DigestCredentials::new`]; [`NonceMint::check`]; looks up the [`Ha1`] of
//! the user; [`DigestCredentials::verify`]; and, when that holds, [`ReplayGuard::check`]. Credentials that verify but whose
//! nonce is not valid are challenged again with `stale=true`, so that the phone does not ask its user for the password.
//! A client keeps a [`ClientAuthorization`] per realm.
//!
//! Verifying costs two short hashes and no allocation. Not done here: `userhash`, the `-sess` algorithms and `Authentication-Info`;
//! whether `uri` names the request's target (proxies rewrite Request-URIs), which accounts there are, and who is challenged.

use std::fmt;

use md5::{Digest, Md5};
use sha2::{Sha256, Sha512_256};
use subtle::ConstantTimeEq;

use crate::headers::Credentials;
use crate::text::unquote;

mod challenge;
mod nonce;
mod replay;

pub use challenge::{ChallengeError, ClientAuthorization, Login, write_challenge};
pub use nonce::{Nonce, NonceCheck, NonceId, NonceMint};
pub use replay::{NonceUse, ReplayGuard};

/// A hash algorithm of RFC 7616 section 6.1. The order is that of strength.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Algorithm {
    /// What every phone knows.
    Md5,
    /// SHA-256.
    Sha256,
    /// SHA-512 cut to 256 bits, with start values of its own.
    Sha512_256,
}

impl Algorithm {
    /// All of them, strongest first: the order of challenges (RFC 8760 section 2.3).
    pub const STRONGEST_FIRST: [Self; 3] = [Self::Sha512_256, Self::Sha256, Self::Md5];

    /// The value of the parameter `algorithm`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha256 => "SHA-256",
            Self::Sha512_256 => "SHA-512-256",
        }
    }

    /// From the value of the parameter, in any case of letters. The `-sess` variants are not known.
    #[must_use]
    pub fn from_token(token: &str) -> Option<Self> {
        Self::STRONGEST_FIRST
            .into_iter()
            .find(|algorithm| algorithm.as_str().eq_ignore_ascii_case(token))
    }

    /// Digits of a hash in hexadecimal.
    #[must_use]
    pub fn hex_len(self) -> usize {
        match self {
            Self::Md5 => 32,
            Self::Sha256 | Self::Sha512_256 => 64,
        }
    }

    /// Of the parts with colons between them.
    fn hash(self, parts: &[&[u8]]) -> HexHash {
        match self {
            Self::Md5 => hash_with::<Md5>(self, parts),
            Self::Sha256 => hash_with::<Sha256>(self, parts),
            Self::Sha512_256 => hash_with::<Sha512_256>(self, parts),
        }
    }
}

/// H(user:realm:password): what is stored instead of a password, and as worth protecting: it is enough to log in.
#[derive(Clone)]
pub struct Ha1(HexHash);

impl Ha1 {
    /// From the password, which is not kept.
    #[must_use]
    pub fn new(algorithm: Algorithm, username: &str, realm: &str, password: &str) -> Self {
        Self(algorithm.hash(&[username.as_bytes(), realm.as_bytes(), password.as_bytes()]))
    }

    /// From the hexadecimal text that [`as_str`](Self::as_str) gave.
    pub fn from_hex(algorithm: Algorithm, text: &str) -> Result<Self, Ha1Error> {
        let expected = algorithm.hex_len();
        if text.len() != expected {
            return Err(Ha1Error::Length {
                algorithm: algorithm.as_str(),
                expected,
                found: text.len(),
            });
        }
        if !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(Ha1Error::Digit);
        }
        let mut hex = [0; MAX_HEX];
        hex[..expected].copy_from_slice(text.as_bytes());
        hex.make_ascii_lowercase();
        Ok(Self(HexHash { algorithm, hex }))
    }

    /// From the hash itself, as many bytes as the algorithm gives.
    pub fn from_bytes(algorithm: Algorithm, hash: &[u8]) -> Result<Self, Ha1Error> {
        if 2 * hash.len() != algorithm.hex_len() {
            return Err(Ha1Error::Length {
                algorithm: algorithm.as_str(),
                expected: algorithm.hex_len(),
                found: 2 * hash.len(),
            });
        }
        Ok(Self(HexHash::new(algorithm, hash)))
    }

    /// The algorithm it was made with.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.0.algorithm
    }

    /// Lower-case hexadecimal.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Only hexadecimal digits are ever stored.
        std::str::from_utf8(self.0.as_bytes()).unwrap_or_default()
    }
}

impl fmt::Debug for Ha1 {
    /// Names the algorithm only: logs must not help anybody to log in.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ha1({})", self.0.algorithm.as_str())
    }
}

/// Why a text is no [`Ha1`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Ha1Error {
    /// Another number of digits than the algorithm gives.
    #[error("expected {expected} hexadecimal digits for {algorithm}, found {found} characters")]
    Length {
        /// The algorithm's name.
        algorithm: &'static str,
        /// Digits.
        expected: usize,
        /// Bytes of text.
        found: usize,
    },
    /// Not hexadecimal.
    #[error("expected hexadecimal digits only")]
    Digit,
}

/// Quality of protection (RFC 7616 section 3.3).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Qop {
    /// Method and URI are protected.
    Auth,
    /// The body too.
    AuthInt,
}

impl Qop {
    /// The value of the parameter `qop`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::AuthInt => "auth-int",
        }
    }

    /// From the value of the parameter, in any case of letters.
    #[must_use]
    pub fn from_token(token: &str) -> Option<Self> {
        [Self::Auth, Self::AuthInt]
            .into_iter()
            .find(|qop| qop.as_str().eq_ignore_ascii_case(token))
    }
}

/// What an Authorization or Proxy-Authorization header field says, with every parameter that verifying needs.
#[derive(Clone, Copy, Debug)]
pub struct DigestCredentials<'a> {
    /// The user, as the phone's owner typed it; escapes are kept.
    pub username: &'a str,
    /// The realm; to be compared with one's own before the account is looked up.
    pub realm: &'a str,
    /// The server's nonce.
    pub nonce: &'a str,
    /// The URI that was hashed. Usually the Request-URI as the phone sent it.
    pub uri: &'a str,
    /// The phone's proof, in hexadecimal.
    pub response: &'a str,
    /// MD5 where the header field names none.
    pub algorithm: Algorithm,
    /// `None`: RFC 2069, which has no `qop`.
    pub protection: Option<Protection<'a>>,
    /// Comes back as it was sent.
    pub opaque: Option<&'a str>,
}

/// The parameters that come together with `qop`.
#[derive(Clone, Copy, Debug)]
pub struct Protection<'a> {
    /// What is protected.
    pub qop: Qop,
    /// The client's nonce.
    pub cnonce: &'a str,
    /// The nonce-count as it stands; eight hexadecimal digits by the grammar.
    pub nc: &'a str,
    /// The nonce-count.
    pub count: u32,
}

impl<'a> DigestCredentials<'a> {
    /// Reads the parameters. `None` if the scheme is not Digest.
    pub fn new(credentials: &Credentials<'a>) -> Option<Result<Self, CredentialsError>> {
        credentials
            .is_digest()
            .then(|| Self::from_params(credentials.params.iter()))
    }

    fn from_params(params: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Self, CredentialsError> {
        let (mut username, mut realm, mut nonce, mut uri, mut response) = (None, None, None, None, None);
        let (mut algorithm, mut qop, mut cnonce, mut nc, mut opaque) = (None, None, None, None, None);
        for (name, value) in params {
            let is = |known: &str| name.eq_ignore_ascii_case(known);
            let place = match name.len() {
                2 if is("nc") => &mut nc,
                3 if is("uri") => &mut uri,
                3 if is("qop") => &mut qop,
                5 if is("realm") => &mut realm,
                5 if is("nonce") => &mut nonce,
                6 if is("cnonce") => &mut cnonce,
                6 if is("opaque") => &mut opaque,
                8 if is("username") => &mut username,
                8 if is("response") => &mut response,
                9 if is("algorithm") => &mut algorithm,
                _ => continue,
            };
            place.get_or_insert(unquote(value));
        }
        let need = |value: Option<&'a str>, name| value.ok_or(CredentialsError::Missing(name));
        let algorithm = match algorithm {
            None => Algorithm::Md5,
            Some(token) => Algorithm::from_token(token).ok_or(CredentialsError::Algorithm)?,
        };
        let protection = match qop {
            None => None,
            Some(token) => {
                let nc = need(nc, "nc")?;
                if nc.is_empty() || nc.len() > 8 {
                    return Err(CredentialsError::NonceCount);
                }
                let digit = |byte| char::from(byte).to_digit(16).ok_or(CredentialsError::NonceCount);
                Some(Protection {
                    qop: Qop::from_token(token).ok_or(CredentialsError::Qop)?,
                    cnonce: need(cnonce, "cnonce")?,
                    nc,
                    count: nc
                        .bytes()
                        .try_fold(0, |count, byte| Ok(count << 4 | digit(byte)?))?,
                })
            }
        };
        Ok(Self {
            username: need(username, "username")?,
            realm: need(realm, "realm")?,
            nonce: need(nonce, "nonce")?,
            uri: need(uri, "uri")?,
            response: need(response, "response")?,
            algorithm,
            protection,
            opaque,
        })
    }

    /// Whether whoever wrote this knows the password behind `ha1`. `method` is the request's, `body` its body.
    ///
    /// Takes the same time wherever the proof differs. False as well if `ha1` is of another algorithm.
    #[must_use]
    pub fn verify(&self, ha1: &Ha1, method: &str, body: &[u8]) -> bool {
        if ha1.algorithm() != self.algorithm || self.response.len() != self.algorithm.hex_len() {
            return false;
        }
        let expected = self.expected_response(ha1, method, body);
        let mut found = [0; MAX_HEX];
        found[..self.response.len()].copy_from_slice(self.response.as_bytes());
        found.make_ascii_lowercase();
        words(&expected.hex).ct_eq(&words(&found)).into()
    }

    fn expected_response(&self, ha1: &Ha1, method: &str, body: &[u8]) -> HexHash {
        let protection = self.protection.map(|p| (p.qop, p.cnonce, p.nc));
        response(ha1, self.nonce, protection, method, self.uri, body)
    }
}

/// Why credentials cannot be verified at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// A parameter is absent.
    #[error("expected the parameter {0} in the digest credentials")]
    Missing(&'static str),
    /// An algorithm that was not offered.
    #[error("expected algorithm MD5, SHA-256 or SHA-512-256")]
    Algorithm,
    /// A protection that was not offered.
    #[error("expected qop auth or auth-int")]
    Qop,
    /// `nc` is no number.
    #[error("expected up to eight hexadecimal digits as nc")]
    NonceCount,
}

impl CredentialsError {
    /// The status that answers them (RFC 7616 section 3.5).
    #[must_use]
    pub fn status(self) -> u16 {
        400
    }
}

/// `response` of RFC 7616 section 3.4.1; without protection, of RFC 2069.
fn response(
    ha1: &Ha1,
    nonce: &str,
    protection: Option<(Qop, &str, &str)>,
    method: &str,
    uri: &str,
    body: &[u8],
) -> HexHash {
    let algorithm = ha1.algorithm();
    let (method, uri) = (method.as_bytes(), uri.as_bytes());
    let ha2 = match protection {
        Some((Qop::AuthInt, ..)) => {
            let body = algorithm.hash(&[body]);
            algorithm.hash(&[method, uri, body.as_bytes()])
        }
        _ => algorithm.hash(&[method, uri]),
    };
    let (ha1, ha2, nonce) = (ha1.0.as_bytes(), ha2.as_bytes(), nonce.as_bytes());
    match protection {
        Some((qop, cnonce, nc)) => {
            let (qop, cnonce, nc) = (qop.as_str().as_bytes(), cnonce.as_bytes(), nc.as_bytes());
            algorithm.hash(&[ha1, nonce, nc, cnonce, qop, ha2])
        }
        None => algorithm.hash(&[ha1, nonce, ha2]),
    }
}

/// A hash as lower-case hexadecimal, on the stack.
#[derive(Clone)]
struct HexHash {
    algorithm: Algorithm,
    /// Zeros after the digits.
    hex: [u8; MAX_HEX],
}

impl HexHash {
    fn new(algorithm: Algorithm, hash: &[u8]) -> Self {
        let mut hex = [0; MAX_HEX];
        for (pair, byte) in hex.as_chunks_mut::<2>().0.iter_mut().zip(hash) {
            *pair = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
        }
        Self { algorithm, hex }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.hex[..self.algorithm.hex_len()]
    }
}

fn hash_with<D: Digest>(algorithm: Algorithm, parts: &[&[u8]]) -> HexHash {
    let mut hasher = D::new();
    // In one piece, as far as it fits: a hasher takes almost as long for a colon as for a word.
    let mut piece = [0; PIECE];
    let mut used = 0;
    for (at, part) in parts.iter().enumerate() {
        if used + 1 + part.len() > PIECE {
            hasher.update(&piece[..used]);
            used = 0;
        }
        if at > 0 {
            piece[used] = b':';
            used += 1;
        }
        match piece.get_mut(used..used + part.len()) {
            Some(room) => {
                room.copy_from_slice(part);
                used += part.len();
            }
            None => {
                hasher.update(&piece[..used]);
                hasher.update(part);
                used = 0;
            }
        }
    }
    hasher.update(&piece[..used]);
    HexHash::new(algorithm, &hasher.finalize())
}

/// Words compare in an eighth of the time of bytes.
fn words(hex: &[u8; MAX_HEX]) -> [u64; MAX_HEX / 8] {
    std::array::from_fn(|at| u64::from_ne_bytes(hex.as_chunks::<8>().0[at]))
}

const HEX: &[u8; 16] = b"0123456789abcdef";
const MAX_HEX: usize = 64;
/// Bytes that go to a hasher together: mostly all.
const PIECE: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<DigestCredentials<'_>, CredentialsError> {
        DigestCredentials::new(&Credentials::parse(text).unwrap()).unwrap()
    }

    fn mufasa(algorithm: &str, qop: &str, response: &str) -> String {
        format!(
            "Digest username=\"Mufasa\", realm=\"http-auth@example.org\", uri=\"/dir/index.html\", algorithm={algorithm}, \
             nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", nc=00000001, \
             cnonce=\"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ\", qop={qop}, response=\"{response}\", \
             opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\""
        )
    }

    fn mufasa_ha1(algorithm: Algorithm) -> Ha1 {
        Ha1::new(algorithm, "Mufasa", "http-auth@example.org", "Circle of Life")
    }

    #[test]
    fn rfc_7616_section_3_9_1_md5() {
        let text = mufasa("MD5", "auth", "8ca523f5e9506fed4657c9700eebdbec");
        let credentials = parse(&text).unwrap();
        assert!(credentials.verify(&mufasa_ha1(Algorithm::Md5), "GET", b""));
        assert!(!credentials.verify(&mufasa_ha1(Algorithm::Md5), "PUT", b""));
        assert!(!credentials.verify(&mufasa_ha1(Algorithm::Sha256), "GET", b""));
        assert_eq!(
            credentials.opaque,
            Some("FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS")
        );
    }

    #[test]
    fn rfc_7616_section_3_9_1_sha_256() {
        let text = mufasa(
            "SHA-256",
            "auth",
            "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
        );
        assert!(
            parse(&text)
                .unwrap()
                .verify(&mufasa_ha1(Algorithm::Sha256), "GET", b"")
        );
    }

    /// The RFC's own figures are wrong here: they cut SHA-512 without its own start values. This is the response of erratum 4897.
    #[test]
    fn rfc_7616_section_3_9_2_sha_512_256() {
        let ha1 = Ha1::new(
            Algorithm::Sha512_256,
            "J\u{e4}s\u{f8}n Doe",
            "api@example.org",
            "Secret, or not?",
        );
        let text = "Digest username=\"J\u{e4}s\u{f8}n Doe\", realm=\"api@example.org\", uri=\"/doe.json\", algorithm=SHA-512-256, \
             nonce=\"5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK\", nc=00000001, \
             cnonce=\"NTg6RKcb9boFIAS3KrFK9BGeh+iDa/sm6jUMp2wds69v\", qop=auth, \
             response=\"3798d4131c277846293534c3edc11bd8a5e4cdcbff78b05db9d95eeb1cec68a5\"";
        assert!(parse(text).unwrap().verify(&ha1, "GET", b""));
    }

    /// RFC 2617 section 3.5's example, whose response without qop is the one of RFC 2069.
    #[test]
    fn credentials_without_qop_are_those_of_rfc_2069() {
        let ha1 = Ha1::new(Algorithm::Md5, "Mufasa", "testrealm@host.com", "Circle Of Life");
        assert_eq!(ha1.as_str(), "939e7578ed9e3c518a452acee763bce9");
        let text = "Digest username=\"Mufasa\", realm=\"testrealm@host.com\", \
             nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\", uri=\"/dir/index.html\", \
             response=\"670fd8c2df070c60b045671b8b24ff02\"";
        assert!(parse(text).unwrap().verify(&ha1, "GET", b""));
    }

    #[test]
    fn auth_int_protects_the_body() {
        let ha1 = mufasa_ha1(Algorithm::Md5);
        let blank = mufasa("MD5", "auth-int", "");
        let proof = parse(&blank).unwrap().expected_response(&ha1, "GET", b"body");
        let text = mufasa("MD5", "auth-int", std::str::from_utf8(proof.as_bytes()).unwrap());
        let credentials = parse(&text).unwrap();
        assert!(credentials.verify(&ha1, "GET", b"body"));
        assert!(!credentials.verify(&ha1, "GET", b"Body"));
        assert!(
            !parse(&text.replace("auth-int", "auth"))
                .unwrap()
                .verify(&ha1, "GET", b"body")
        );
    }

    #[test]
    fn proof_in_capitals_is_accepted_and_a_cut_one_is_not() {
        let upper = mufasa("MD5", "auth", "8CA523F5E9506FED4657C9700EEBDBEC");
        assert!(
            parse(&upper)
                .unwrap()
                .verify(&mufasa_ha1(Algorithm::Md5), "GET", b"")
        );
        let cut = mufasa("MD5", "auth", "8ca523f5e9506fed4657c9700eebdbe");
        assert!(
            !parse(&cut)
                .unwrap()
                .verify(&mufasa_ha1(Algorithm::Md5), "GET", b"")
        );
    }

    #[test]
    fn every_wrong_digit_is_noticed() {
        let right = "8ca523f5e9506fed4657c9700eebdbec";
        for at in 0..right.len() {
            let digit = if right.as_bytes()[at] == b'0' { "1" } else { "0" };
            let wrong = format!("{}{digit}{}", &right[..at], &right[at + 1..]);
            let text = mufasa("MD5", "auth", &wrong);
            assert!(
                !parse(&text)
                    .unwrap()
                    .verify(&mufasa_ha1(Algorithm::Md5), "GET", b"")
            );
        }
    }

    #[test]
    fn incomplete_credentials_name_what_is_missing() {
        let text = mufasa("MD5", "auth", "8ca523f5e9506fed4657c9700eebdbec");
        for name in ["username", "realm", "nonce", "uri", "response", "cnonce", "nc"] {
            let without = text.replace(&format!(" {name}="), " x=");
            assert_eq!(
                parse(&without).unwrap_err(),
                CredentialsError::Missing(name),
                "{without}"
            );
        }
        assert_eq!(
            parse(&text.replace("=MD5", "=MD5-sess")).unwrap_err(),
            CredentialsError::Algorithm
        );
        assert_eq!(
            parse(&text.replace("qop=auth", "qop=all")).unwrap_err(),
            CredentialsError::Qop
        );
        assert_eq!(
            parse(&text.replace("00000001", "+0000001")).unwrap_err(),
            CredentialsError::NonceCount
        );
        assert!(DigestCredentials::new(&Credentials::parse("Basic dTpw").unwrap()).is_none());
    }

    /// Whatever the parts' lengths, around those of the piece that is hashed at once.
    #[test]
    fn parts_of_any_length_are_hashed_with_colons_between_them() {
        let text = "x".repeat(3 * PIECE);
        for first in [0, 1, PIECE - 2, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE] {
            for second in [0, 1, PIECE - 1, PIECE, PIECE + 1] {
                let (user, realm) = (&text[..first], &text[..second]);
                let expected = Md5::digest(format!("{user}:{realm}:secret"));
                let expected = Ha1::from_bytes(Algorithm::Md5, &expected).unwrap();
                let found = Ha1::new(Algorithm::Md5, user, realm, "secret");
                assert_eq!(found.as_str(), expected.as_str(), "{first} and {second} bytes");
            }
        }
    }

    #[test]
    fn ha1_survives_storage_and_stays_out_of_logs() {
        for algorithm in Algorithm::STRONGEST_FIRST {
            let ha1 = mufasa_ha1(algorithm);
            let again = Ha1::from_hex(algorithm, &ha1.as_str().to_uppercase()).unwrap();
            assert_eq!(again.as_str(), ha1.as_str());
            assert!(!format!("{ha1:?}").contains(ha1.as_str()));
            assert!(matches!(
                Ha1::from_hex(algorithm, "00"),
                Err(Ha1Error::Length { found: 2, .. })
            ));
            let bad = "g".repeat(algorithm.hex_len());
            assert_eq!(Ha1::from_hex(algorithm, &bad).unwrap_err(), Ha1Error::Digit);
        }
    }
}
