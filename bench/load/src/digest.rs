//! The client's side of digest authentication (RFC 7616) with MD5: what both servers are asked with, so that like is
//! compared with like. Of several challenges the one for MD5 is taken.

use md5::{Digest, Md5};

use crate::wire::{Values, put, put_hex, split_commas};

/// One user's cached challenge, and how often its nonce was used.
#[derive(Default)]
pub(crate) struct Credentials {
    ha1: Hex,
    realm: Vec<u8>,
    nonce: Vec<u8>,
    opaque: Vec<u8>,
    quality: bool,
    count: u32,
}

impl Credentials {
    /// Whether a challenge was taken that can be answered.
    pub(crate) fn is_ready(&self) -> bool {
        !self.nonce.is_empty()
    }

    /// Takes the challenge for MD5 from a 401 or 407; false if there is none.
    pub(crate) fn challenged(&mut self, challenges: &Values<'_>, user: &[u8], password: &[u8]) -> bool {
        let Some(challenge) = challenges.iter().find(|challenge| is_md5(challenge)) else {
            return false;
        };
        let realm = parameter(challenge, b"realm").unwrap_or_default();
        if self.realm != realm {
            self.realm = realm.to_vec();
            self.ha1 = hash(&[user, realm, password]);
        }
        replace(
            &mut self.nonce,
            parameter(challenge, b"nonce").unwrap_or_default(),
        );
        replace(
            &mut self.opaque,
            parameter(challenge, b"opaque").unwrap_or_default(),
        );
        self.quality = parameter(challenge, b"qop").is_some();
        self.count = 0;
        self.is_ready()
    }

    /// Takes the next nonce, if an Authentication-Info header offers one.
    pub(crate) fn informed(&mut self, authentication_info: &[u8]) {
        if let Some(nonce) = parameter(authentication_info, b"nextnonce") {
            replace(&mut self.nonce, nonce);
            self.count = 0;
        }
    }

    /// Writes the credentials for one request: the whole header line, called `name`.
    pub(crate) fn put(&mut self, out: &mut Vec<u8>, name: &[u8], user: &[u8], method: &[u8], uri: &[u8]) {
        self.count += 1;
        let mut count = Vec::with_capacity(8);
        put_hex(&mut count, self.count);
        let ha2 = hash(&[method, uri]);
        let response = match self.quality {
            true => hash(&[&self.ha1, &self.nonce, &count, CNONCE, b"auth", &ha2]),
            false => hash(&[&self.ha1, &self.nonce, &ha2]),
        };
        put(
            out,
            &[name, b": Digest username=\"", user, b"\", realm=\"", &self.realm],
        );
        put(
            out,
            &[
                b"\", nonce=\"",
                &self.nonce,
                b"\", uri=\"",
                uri,
                b"\", response=\"",
                &response,
            ],
        );
        put(out, &[b"\", algorithm=MD5"]);
        if self.quality {
            put(out, &[b", qop=auth, cnonce=\"", CNONCE, b"\", nc=", &count]);
        }
        if !self.opaque.is_empty() {
            put(out, &[b", opaque=\"", &self.opaque, b"\""]);
        }
        put(out, &[b"\r\n"]);
    }
}

fn is_md5(challenge: &[u8]) -> bool {
    parameter(challenge, b"algorithm").is_none_or(|algorithm| algorithm.eq_ignore_ascii_case(b"MD5"))
}

/// The unquoted value of a parameter in a challenge or in Authentication-Info.
fn parameter<'a>(header: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let parameters = header.strip_prefix(b"Digest ").unwrap_or(header);
    split_commas(parameters).find_map(|parameter| {
        let value = parameter.get(name.len()..)?.strip_prefix(b"=")?;
        let value = value
            .strip_prefix(b"\"")
            .and_then(|value| value.strip_suffix(b"\""))
            .unwrap_or(value);
        parameter[..name.len()]
            .eq_ignore_ascii_case(name)
            .then_some(value)
    })
}

/// MD5 of the parts with colons between them.
fn hash(parts: &[&[u8]]) -> Hex {
    let mut md5 = Md5::new();
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            md5.update(b":");
        }
        md5.update(part);
    }
    let mut hex = [0; 32];
    for (pair, byte) in hex.chunks_exact_mut(2).zip(md5.finalize()) {
        pair[0] = HEX[(byte >> 4) as usize];
        pair[1] = HEX[(byte & 15) as usize];
    }
    hex
}

fn replace(field: &mut Vec<u8>, value: &[u8]) {
    field.clear();
    field.extend_from_slice(value);
}

type Hex = [u8; 32];

/// The generator's own contribution to the hash need not be secret or fresh.
const CNONCE: &[u8] = b"0a4f113b";
const HEX: &[u8; 16] = b"0123456789abcdef";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Message;

    /// The example of RFC 7616, section 3.9.1 (its `cnonce` is longer than ours, so only the parts are compared).
    #[test]
    fn hashes_as_the_rfc_shows() {
        let ha1 = hash(&[b"Mufasa", b"http-auth@example.org", b"Circle of Life"]);
        let ha2 = hash(&[b"GET", b"/dir/index.html"]);
        let nonce = b"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v";
        let cnonce = b"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
        let response = hash(&[&ha1, nonce, b"00000001", cnonce, b"auth", &ha2]);
        assert_eq!(&response, b"8ca523f5e9506fed4657c9700eebdbec");
    }

    #[test]
    fn takes_the_challenge_for_md5_out_of_several() {
        let response = b"SIP/2.0 401 Unauthorized\r\nCall-ID: x\r\n\
            WWW-Authenticate: Digest realm=\"r\", nonce=\"one\", algorithm=SHA-256, qop=\"auth\"\r\n\
            WWW-Authenticate: Digest realm=\"r\", qop=\"auth,auth-int\", nonce=\"two\", algorithm=MD5\r\n\r\n";
        let message = Message::read(response).unwrap();
        let mut credentials = Credentials::default();
        assert!(credentials.challenged(&message.challenges, b"u", b"p"));
        let mut out = Vec::new();
        credentials.put(&mut out, b"Authorization", b"u", b"REGISTER", b"sip:r");
        credentials.put(&mut out, b"Authorization", b"u", b"REGISTER", b"sip:r");
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("nonce=\"two\"") && text.contains("qop=auth") && text.contains("nc=00000002"));
    }
}
