//! Nonces that need no memory: time, worker and serial number under a MAC with the service's secret.
//!
//! A nonce is 24 bytes in 32 characters of base64: seconds since 1970 (4), the worker that minted it (1), a serial number (7) and
//! 12 bytes of SipHash-2-4-128 over these. The worker is named because the nonce-count's replay window lives there.

use std::fmt;
use std::hash::Hasher;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use siphasher::sip128::{Hasher128, SipHasher24};
use subtle::ConstantTimeEq;

/// Mints and checks the nonces of one worker. Workers that share a secret recognise each other's.
#[derive(Clone)]
pub struct NonceMint {
    secret: [u8; 16],
    lifetime: Duration,
    worker: u8,
    serial: u64,
}

/// A nonce as text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Nonce([u8; TEXT]);

/// Tells nonces apart; what the replay window is kept under.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct NonceId {
    /// Seconds since 1970.
    pub minted: u32,
    /// Who minted it.
    pub worker: u8,
    /// Counts up within a worker; 56 bits.
    pub serial: u64,
}

/// What a nonce that came back is worth.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NonceCheck {
    /// Ours and young enough.
    Valid {
        /// Since it was minted.
        age: Duration,
        /// Which one.
        id: NonceId,
    },
    /// Ours but too old: challenge again with `stale=true`.
    Stale,
    /// Not ours, or of an earlier secret: challenge again; `stale=true` if the proof is right.
    Forged,
}

impl NonceMint {
    /// `secret` is random, and new at each start of the service: serial numbers begin anew as well. A nonce is accepted for
    /// `lifetime`; an hour lets a phone refresh its registration without another challenge.
    #[must_use]
    pub fn new(secret: [u8; 16], lifetime: Duration, worker: u8) -> Self {
        Self {
            secret,
            lifetime,
            worker,
            serial: 0,
        }
    }

    /// A nonce that nobody else gets. `unix` is in seconds since 1970.
    pub fn mint(&mut self, unix: u64) -> Nonce {
        self.serial += 1;
        let id = NonceId {
            minted: unix as u32,
            worker: self.worker,
            serial: self.serial & SERIAL_MASK,
        };
        let mut raw = [0; RAW];
        raw[..PLAIN].copy_from_slice(&id.to_bytes());
        raw[PLAIN..].copy_from_slice(&self.mac(&id.to_bytes()));
        let mut text = [0; TEXT];
        // 24 bytes always give 32 characters.
        let _ = STANDARD_NO_PAD.encode_slice(raw, &mut text);
        Nonce(text)
    }

    /// Checks a nonce that came back at `unix`, in seconds since 1970.
    #[must_use]
    pub fn check(&self, unix: u64, nonce: &str) -> NonceCheck {
        let mut raw = [0; RAW];
        if nonce.len() != TEXT || STANDARD_NO_PAD.decode_slice(nonce, &mut raw) != Ok(RAW) {
            return NonceCheck::Forged;
        }
        let (plain, mac) = raw.split_at(PLAIN);
        if !bool::from(self.mac(plain).as_slice().ct_eq(mac)) {
            return NonceCheck::Forged;
        }
        let id = NonceId::from_bytes(plain);
        // Modulo 2^32, so that 2106 is no special year. A clock that was set back makes nonces of the future: they are stale,
        // unless they may come from a worker that read the clock a moment later.
        let age = (unix as u32).wrapping_sub(id.minted);
        let age = if id.minted.wrapping_sub(unix as u32) <= CLOCK_SKEW {
            0
        } else {
            age
        };
        let age = Duration::from_secs(age.into());
        if age <= self.lifetime {
            NonceCheck::Valid { age, id }
        } else {
            NonceCheck::Stale
        }
    }

    fn mac(&self, plain: &[u8]) -> [u8; RAW - PLAIN] {
        let mut hasher = SipHasher24::new_with_key(&self.secret);
        hasher.write(plain);
        let full = hasher.finish128().as_bytes();
        let mut mac = [0; RAW - PLAIN];
        mac.copy_from_slice(&full[..RAW - PLAIN]);
        mac
    }
}

impl fmt::Debug for NonceMint {
    /// Leaves the secret out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NonceMint")
            .field("lifetime", &self.lifetime)
            .field("worker", &self.worker)
            .finish_non_exhaustive()
    }
}

impl Nonce {
    /// The text: base64, safe inside quotes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // base64 is ASCII.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl NonceId {
    fn to_bytes(self) -> [u8; PLAIN] {
        let mut bytes = [0; PLAIN];
        bytes[..4].copy_from_slice(&self.minted.to_be_bytes());
        bytes[4..].copy_from_slice(&(u64::from(self.worker) << 56 | self.serial).to_be_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Self {
        let minted = bytes.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
        let number = bytes.last_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        Self {
            minted,
            worker: (number >> 56) as u8,
            serial: number & SERIAL_MASK,
        }
    }
}

const PLAIN: usize = 12;
const RAW: usize = 24;
const TEXT: usize = 32;
const SERIAL_MASK: u64 = (1 << 56) - 1;
/// Seconds by which another worker's clock reading may be ahead.
const CLOCK_SKEW: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;
    const HOUR: Duration = Duration::from_secs(3600);

    fn mint() -> NonceMint {
        NonceMint::new([7; 16], HOUR, 3)
    }

    #[test]
    fn nonce_is_valid_until_its_lifetime_is_over() {
        let mut mint = mint();
        let nonce = mint.mint(NOW);
        let check = |unix| mint.check(unix, nonce.as_str());
        let id = NonceId {
            minted: NOW as u32,
            worker: 3,
            serial: 1,
        };
        assert_eq!(
            check(NOW),
            NonceCheck::Valid {
                age: Duration::ZERO,
                id
            }
        );
        assert_eq!(check(NOW + 3600), NonceCheck::Valid { age: HOUR, id });
        assert_eq!(check(NOW + 3601), NonceCheck::Stale);
        assert_eq!(
            check(NOW - 1),
            NonceCheck::Valid {
                age: Duration::ZERO,
                id
            },
            "another worker's clock reading"
        );
        assert_eq!(check(NOW - 60), NonceCheck::Stale, "the clock was set back");
    }

    #[test]
    fn no_two_nonces_are_the_same() {
        let mut mint = mint();
        let nonces: std::collections::HashSet<_> =
            (0..1_000).map(|_| mint.mint(NOW).as_str().to_owned()).collect();
        assert_eq!(nonces.len(), 1_000);
    }

    #[test]
    fn worker_with_the_same_secret_recognises_it() {
        let nonce = mint().mint(NOW);
        let other = NonceMint::new([7; 16], HOUR, 9);
        assert!(matches!(
            other.check(NOW, nonce.as_str()),
            NonceCheck::Valid {
                id: NonceId { worker: 3, .. },
                ..
            }
        ));
        let stranger = NonceMint::new([8; 16], HOUR, 3);
        assert_eq!(stranger.check(NOW, nonce.as_str()), NonceCheck::Forged);
    }

    #[test]
    fn every_changed_character_is_noticed() {
        let mut mint = mint();
        let nonce = mint.mint(NOW);
        for at in 0..TEXT {
            let mut text = nonce.as_str().to_owned().into_bytes();
            text[at] = if text[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(
                mint.check(NOW, std::str::from_utf8(&text).unwrap()),
                NonceCheck::Forged
            );
        }
        for text in [
            "",
            "AAAA",
            &"A".repeat(31),
            &"A".repeat(32),
            &"A".repeat(33),
            &"\u{e4}".repeat(16),
            &"=".repeat(32),
        ] {
            assert_eq!(mint.check(NOW, text), NonceCheck::Forged);
        }
    }
}
