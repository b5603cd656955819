//! Nonces that need no memory: the time and a MAC over time and client, keyed with the server's secret.
//!
//! A nonce is the nonce cookie of RFC 8489 section 9.2 with the bits for password algorithms and user-name anonymity, then 16
//! bytes in base64: seconds since the server's start (4), and 12 bytes of SipHash-2-4-128.

use std::hash::{Hash, Hasher};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use siphasher::sip128::{Hasher128, SipHasher24};
use subtle::ConstantTimeEq;

use super::Client;

/// Makes and checks nonces.
#[derive(Clone)]
pub(crate) struct Nonces {
    secret: [u8; 16],
    start: Instant,
    lifetime: Duration,
}

/// A nonce as it stands in NONCE.
pub(crate) type Nonce = [u8; COOKIE.len() + TEXT];

impl Nonces {
    pub(crate) fn new(secret: [u8; 16], start: Instant, lifetime: Duration) -> Self {
        Self {
            secret,
            start,
            lifetime,
        }
    }

    pub(crate) fn mint(&self, now: Instant, client: &Client) -> Nonce {
        let mut raw = [0; RAW];
        raw[..4].copy_from_slice(&self.seconds(now).to_be_bytes());
        let mac = self.mac(&raw[..4], client);
        raw[4..].copy_from_slice(&mac);
        let mut nonce = [0; COOKIE.len() + TEXT];
        nonce[..COOKIE.len()].copy_from_slice(COOKIE);
        // 16 bytes always give 22 characters.
        let _ = STANDARD_NO_PAD.encode_slice(raw, &mut nonce[COOKIE.len()..]);
        nonce
    }

    /// Whether it is ours, was given to this client, and is young enough.
    pub(crate) fn is_valid(&self, now: Instant, client: &Client, nonce: &[u8]) -> bool {
        let mut raw = [0; RAW];
        let Some(text) = nonce.strip_prefix(COOKIE).filter(|text| text.len() == TEXT) else {
            return false;
        };
        if STANDARD_NO_PAD.decode_slice(text, &mut raw) != Ok(RAW) {
            return false;
        }
        let (time, mac) = raw.split_at(4);
        if !bool::from(self.mac(time, client).as_slice().ct_eq(mac)) {
            return false;
        }
        let minted = u32::from_be_bytes([raw[0], raw[1], raw[2], raw[3]]);
        let age = self.seconds(now).saturating_sub(minted);
        Duration::from_secs(age.into()) < self.lifetime
    }

    fn seconds(&self, now: Instant) -> u32 {
        now.saturating_duration_since(self.start).as_secs() as u32
    }

    fn mac(&self, time: &[u8], client: &Client) -> [u8; RAW - 4] {
        let mut hasher = SipHasher24::new_with_key(&self.secret);
        hasher.write(time);
        client.hash(&mut hasher);
        let full = hasher.finish128().as_bytes();
        let mut mac = [0; RAW - 4];
        mac.copy_from_slice(&full[..RAW - 4]);
        mac
    }
}

/// Whether a nonce says that the server offers password algorithms (RFC 8489 section 9.2.1, bit 0 of section 18.1).
pub(crate) fn offers_algorithms(nonce: &[u8]) -> bool {
    let mut features = [0; 3];
    nonce
        .strip_prefix(COOKIE_TEXT)
        .and_then(|rest| rest.get(..4))
        .is_some_and(|text| {
            STANDARD_NO_PAD.decode_slice(text, &mut features) == Ok(3) && features[2] & 1 != 0
        })
}

const COOKIE_TEXT: &[u8] = b"obMatJos2";
/// With 24 feature bits in base64: bits 0 and 1.
const COOKIE: &[u8; 13] = b"obMatJos2AAAD";
const RAW: usize = 16;
const TEXT: usize = 22;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::turn::Transport;

    fn client(address: &str) -> Client {
        Client {
            transport: Transport::Udp,
            address: address.parse().unwrap(),
            listener: 0,
        }
    }

    #[test]
    fn a_nonce_serves_its_client_for_its_lifetime() {
        let start = Instant::now();
        let nonces = Nonces::new([1; 16], start, Duration::from_secs(3600));
        let alice = client("192.0.2.1:5000");
        let minted = start + Duration::from_secs(100);
        let nonce = nonces.mint(minted, &alice);
        assert!(nonces.is_valid(minted, &alice, &nonce));
        assert!(nonces.is_valid(minted + Duration::from_secs(3599), &alice, &nonce));
        assert!(!nonces.is_valid(minted + Duration::from_secs(3600), &alice, &nonce));
        assert!(!nonces.is_valid(minted, &client("192.0.2.1:5001"), &nonce));
        assert!(!nonces.is_valid(minted, &client("192.0.2.2:5000"), &nonce));
        let others = Nonces::new([2; 16], start, Duration::from_secs(3600));
        assert!(!others.is_valid(minted, &alice, &nonce));
    }

    #[test]
    fn a_nonce_that_was_changed_is_none_of_ours() {
        let start = Instant::now();
        let nonces = Nonces::new([1; 16], start, Duration::from_secs(3600));
        let alice = client("192.0.2.1:5000");
        let nonce = nonces.mint(start, &alice);
        for at in 0..nonce.len() {
            let mut changed = nonce;
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert!(!nonces.is_valid(start, &alice, &changed), "character {at}");
        }
        assert!(!nonces.is_valid(start, &alice, &nonce[..nonce.len() - 1]));
        assert!(!nonces.is_valid(start, &alice, b""));
    }

    #[test]
    fn the_cookie_tells_that_algorithms_are_offered() {
        let nonces = Nonces::new([1; 16], Instant::now(), Duration::from_secs(3600));
        assert!(offers_algorithms(
            &nonces.mint(Instant::now(), &client("192.0.2.1:1"))
        ));
        // The nonce of RFC 8489 appendix B.1 has bit 1 only.
        assert!(!offers_algorithms(b"obMatJos2AAACf//499k954d6OL34oL9FSTvy64sA"));
        assert!(!offers_algorithms(b"f//499k954d6OL34oL9FSTvy64sA"));
        assert!(!offers_algorithms(b"obMatJos2AA"));
    }
}
