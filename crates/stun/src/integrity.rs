//! MESSAGE-INTEGRITY, MESSAGE-INTEGRITY-SHA256 and FINGERPRINT (RFC 8489 sections 14.5 to 14.7), and the keys of the long-term
//! credential mechanism (section 9.2.2).
//!
//! Writing: [`Writer::integrity`] behind all other attributes, then [`Writer::fingerprint`]. Reading: [`verify`] and
//! [`verify_fingerprint`]. User names, realms and passwords are taken as they are: OpaqueString preparation (RFC 8265) is the
//! caller's, and plain ASCII needs none.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::attribute::AttributeType;
use crate::message::{HEADER, Message, Writer};

/// Which of the two integrity attributes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Integrity {
    /// MESSAGE-INTEGRITY: HMAC-SHA1, 20 bytes.
    Sha1,
    /// MESSAGE-INTEGRITY-SHA256: HMAC-SHA256. Always the full 32 bytes: no usage here allows to cut it.
    Sha256,
}

/// How a password becomes a key (RFC 8489 section 18.5).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PasswordAlgorithm {
    /// 0x0001: what every client knows.
    Md5,
    /// 0x0002.
    Sha256,
}

impl PasswordAlgorithm {
    /// From the number in PASSWORD-ALGORITHM.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        match number {
            1 => Some(Self::Md5),
            2 => Some(Self::Sha256),
            _ => None,
        }
    }

    /// The number in PASSWORD-ALGORITHM.
    #[must_use]
    pub fn number(self) -> u16 {
        match self {
            Self::Md5 => 1,
            Self::Sha256 => 2,
        }
    }
}

/// The key of a long-term credential: the hash of user, realm and password with a colon between them. The HA1 of SIP digest
/// (RFC 7616) with the same algorithm and realm is the same value. As worth protecting as a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    bytes: [u8; 32],
    algorithm: PasswordAlgorithm,
}

impl Key {
    /// From the password, which is not kept.
    #[must_use]
    pub fn new(algorithm: PasswordAlgorithm, username: &str, realm: &str, password: &str) -> Self {
        let parts = [username, ":", realm, ":", password];
        match algorithm {
            PasswordAlgorithm::Md5 => Self::from_md5(hash::<Md5>(&parts).into()),
            PasswordAlgorithm::Sha256 => Self::from_sha256(hash::<Sha256>(&parts).into()),
        }
    }

    /// From a stored hash.
    #[must_use]
    pub fn from_md5(hash: [u8; 16]) -> Self {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(&hash);
        Self {
            bytes,
            algorithm: PasswordAlgorithm::Md5,
        }
    }

    /// From a stored hash.
    #[must_use]
    pub fn from_sha256(bytes: [u8; 32]) -> Self {
        Self {
            bytes,
            algorithm: PasswordAlgorithm::Sha256,
        }
    }

    /// The algorithm it was made with.
    #[must_use]
    pub fn algorithm(&self) -> PasswordAlgorithm {
        self.algorithm
    }

    /// 16 or 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match self.algorithm {
            PasswordAlgorithm::Md5 => &self.bytes[..16],
            PasswordAlgorithm::Sha256 => &self.bytes,
        }
    }
}

impl fmt::Debug for Key {
    /// Names the algorithm only: logs must not help anybody to log in.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:?})", self.algorithm)
    }
}

/// USERHASH: what stands for a user name that is not to be seen (RFC 8489 section 14.4).
#[must_use]
pub fn userhash(username: &str, realm: &str) -> [u8; 32] {
    hash::<Sha256>(&[username, ":", realm]).into()
}

/// Whether the integrity attribute of this kind was made with `key`; `None` where the message has none.
#[must_use]
pub fn verify(message: &Message<'_>, integrity: Integrity, key: &[u8]) -> Option<bool> {
    let found = message.attribute(integrity.attribute())?;
    let (start, rest) = covered(message, found.offset, integrity.length());
    let mut expected = [0; 32];
    let expected = integrity.mac(key, &[&start, rest], &mut expected);
    Some(expected.ct_eq(found.value).into())
}

/// Whether FINGERPRINT is right; `None` where the message has none.
#[must_use]
pub fn verify_fingerprint(message: &Message<'_>) -> Option<bool> {
    let found = message.attribute(AttributeType::FINGERPRINT)?;
    let (start, rest) = covered(message, found.offset, FINGERPRINT);
    let mut crc = crc32fast::Hasher::new();
    crc.update(&start);
    crc.update(rest);
    Some(found.value == (crc.finalize() ^ FINGERPRINT_XOR).to_be_bytes())
}

impl Writer<'_> {
    /// Adds an integrity attribute over all that is written so far.
    pub fn integrity(&mut self, integrity: Integrity, key: &[u8]) {
        let mut mac = [0; 32];
        let written = self.written(4 + integrity.length());
        let mac = integrity.mac(key, &[written], &mut mac);
        self.attribute(integrity.attribute(), mac);
    }

    /// Adds FINGERPRINT, which ends the message.
    pub fn fingerprint(&mut self) {
        let crc = crc32fast::hash(self.written(4 + FINGERPRINT)) ^ FINGERPRINT_XOR;
        self.number(AttributeType::FINGERPRINT, crc);
    }
}

impl Integrity {
    pub(crate) fn attribute(self) -> AttributeType {
        match self {
            Self::Sha1 => AttributeType::MESSAGE_INTEGRITY,
            Self::Sha256 => AttributeType::MESSAGE_INTEGRITY_SHA256,
        }
    }

    fn length(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }

    fn mac<'o>(self, key: &[u8], parts: &[&[u8]], out: &'o mut [u8; 32]) -> &'o [u8] {
        let out = &mut out[..self.length()];
        match self {
            Self::Sha1 => out.copy_from_slice(&hmac::<Hmac<Sha1>>(key, parts)),
            Self::Sha256 => out.copy_from_slice(&hmac::<Hmac<Sha256>>(key, parts)),
        }
        out
    }
}

/// What an attribute at `offset` with a value of `length` bytes covers: the message before it, whose header counts up to the
/// attribute's own end. In two pieces, for the header differs from the one that came.
fn covered<'a>(message: &Message<'a>, offset: usize, length: usize) -> ([u8; 4], &'a [u8]) {
    let bytes = message.as_bytes();
    let counted = (offset + 4 + length - HEADER) as u16;
    let [high, low] = counted.to_be_bytes();
    ([bytes[0], bytes[1], high, low], &bytes[4..offset])
}

fn hmac<M: Mac + KeyInit>(key: &[u8], parts: &[&[u8]]) -> hmac::digest::Output<M> {
    let mut mac = <M as KeyInit>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes()
}

fn hash<D: Digest>(parts: &[&str]) -> hmac::digest::Output<D> {
    let mut hasher = D::new();
    for part in parts {
        hasher.update(part.as_bytes());
    }
    hasher.finalize()
}

const FINGERPRINT: usize = 4;
/// "STUN", so that a protocol of another CRC-32 is told apart (RFC 8489 section 14.7).
const FINGERPRINT_XOR: u32 = 0x5354_554e;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::attribute::{read_u32, read_xor_address};
    use crate::message::{Class, Method, TransactionId};

    const PASSWORD: &[u8] = b"VOkJxbRl1RmTxUk/WvJxBt";
    const MATRIX: &str = "\u{30de}\u{30c8}\u{30ea}\u{30c3}\u{30af}\u{30b9}";

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    /// Any single bit that is turned must be noticed.
    fn every_bit_counts(bytes: &[u8], integrity: Integrity, key: &[u8]) {
        for bit in 0..bytes.len() * 8 {
            let mut turned = bytes.to_vec();
            turned[bit / 8] ^= 1 << (bit % 8);
            if let Ok(message) = Message::parse(&turned) {
                let fine = verify(&message, integrity, key) == Some(true)
                    && verify_fingerprint(&message) != Some(false);
                // Turned bits of FINGERPRINT's type make it an attribute behind the integrity, which is ignored.
                assert!(!fine || bit / 8 >= bytes.len() - 8, "bit {bit}");
            }
        }
    }

    #[test]
    fn rfc_5769_section_2_1_sample_request() {
        let bytes = bytes(
            "000100582112a442b7e7a701bc34d686fa87dfae802200105354554e207465737420636c69656e74
             002400046e0001ff80290008932ff9b151263b36000600096576746a3a68367659202020
             000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a280280004e57a3bcf",
        );
        let message = Message::parse(&bytes).unwrap();
        assert_eq!(
            (message.class(), message.method()),
            (Class::Request, Method::BINDING)
        );
        assert_eq!(
            message.value(AttributeType::SOFTWARE),
            Some(&b"STUN test client"[..])
        );
        assert_eq!(message.value(AttributeType::USERNAME), Some(&b"evtj:h6vY"[..]));
        assert_eq!(
            message.value(AttributeType(0x0024)).and_then(read_u32),
            Some(0x6e00_01ff)
        );
        assert_eq!(verify(&message, Integrity::Sha1, PASSWORD), Some(true));
        assert_eq!(verify(&message, Integrity::Sha1, b"another"), Some(false));
        assert_eq!(verify(&message, Integrity::Sha256, PASSWORD), None);
        assert_eq!(verify_fingerprint(&message), Some(true));
        every_bit_counts(&bytes, Integrity::Sha1, PASSWORD);
    }

    #[test]
    fn rfc_5769_section_2_2_sample_ipv4_response() {
        let expected = bytes(
            "0101003c2112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000080001a147e112a643
             000800142b91f599fd9e90c38c7489f92af9ba53f06be7d780280004c07d4c96",
        );
        assert_response(&expected, "192.0.2.1:32853");
    }

    #[test]
    fn rfc_5769_section_2_3_sample_ipv6_response() {
        let expected = bytes(
            "010100482112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220
             002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d9
             00080014a382954e4be67bf11784c97c8292c275bfe3ed4180280004c8fb0b4c",
        );
        assert_response(&expected, "[2001:db8:1234:5678:11:2233:4455:6677]:32853");
    }

    fn assert_response(bytes: &[u8], address: &str) {
        let message = Message::parse(bytes).unwrap();
        assert_eq!(
            (message.class(), message.method()),
            (Class::Success, Method::BINDING)
        );
        assert_eq!(message.value(AttributeType::SOFTWARE), Some(&b"test vector"[..]));
        let mapped = message.value(AttributeType::XOR_MAPPED_ADDRESS).unwrap();
        assert_eq!(
            read_xor_address(mapped, &message.transaction_id()),
            Some(address.parse().unwrap())
        );
        assert_eq!(verify(&message, Integrity::Sha1, PASSWORD), Some(true));
        assert_eq!(verify_fingerprint(&message), Some(true));
        every_bit_counts(bytes, Integrity::Sha1, PASSWORD);
    }

    #[test]
    fn rfc_5769_section_2_4_sample_request_with_long_term_authentication() {
        let expected = bytes(
            "000100602112a44278ad3433c6ad72c029da412e00060012e3839ee38388e383aae38383e382afe382b90000
             0015001c662f2f3439396b39353464364f4c33346f4c394653547679363473410014000b6578616d706c652e6f726700
             00080014f67024656dd64a3e02b8e0712e85c9a28ca89666",
        );
        let key = Key::new(PasswordAlgorithm::Md5, MATRIX, "example.org", "TheMatrIX");
        let message = Message::parse(&expected).unwrap();
        assert_eq!(verify(&message, Integrity::Sha1, key.as_bytes()), Some(true));
        assert_eq!(verify_fingerprint(&message), None);
        // Nothing in it depends on the padding, so that we write the same bytes.
        let mut buffer = [0; 200];
        let mut writer = Writer::new(
            &mut buffer,
            Class::Request,
            Method::BINDING,
            message.transaction_id(),
        );
        writer.attribute(AttributeType::USERNAME, MATRIX.as_bytes());
        writer.attribute(AttributeType::NONCE, b"f//499k954d6OL34oL9FSTvy64sA");
        writer.attribute(AttributeType::REALM, b"example.org");
        writer.integrity(Integrity::Sha1, key.as_bytes());
        let length = writer.finish().unwrap();
        assert_eq!(buffer[..length], expected);
        every_bit_counts(&expected, Integrity::Sha1, key.as_bytes());
    }

    /// As erratum 6268 corrects it: the RFC's own bytes have a wrong length and no PASSWORD-ALGORITHM.
    #[test]
    fn rfc_8489_appendix_b_1_request_with_sha_256_and_userhash() {
        let expected = bytes(
            "000100902112a44278ad3433c6ad72c029da412e001e00204a3cf38fef6992bda952c6780417da0f24819415569e60b2
             05c46e41407f17040015002 96f624d61744a6f733241414143662f2f3439396b39353464364f4c33346f4c39465354
             76793634734100000000 14000b6578616d706c652e6f726700001d000400020000001c0020b5c7bf005b6c52a21c51c5
             e892f81924136296cb927c43149309278cc6518e65",
        );
        let key = Key::new(PasswordAlgorithm::Sha256, MATRIX, "example.org", "TheMatrIX");
        let message = Message::parse(&expected).unwrap();
        assert_eq!(
            message.value(AttributeType::USERHASH),
            Some(&userhash(MATRIX, "example.org")[..])
        );
        assert_eq!(
            message.value(AttributeType::NONCE),
            Some(&b"obMatJos2AAACf//499k954d6OL34oL9FSTvy64sA"[..])
        );
        assert_eq!(verify(&message, Integrity::Sha256, key.as_bytes()), Some(true));
        every_bit_counts(&expected, Integrity::Sha256, key.as_bytes());
    }

    #[test]
    fn a_cut_hmac_is_not_believed() {
        let mut buffer = [0; 100];
        let id = TransactionId::new([3; 12]);
        let mut writer = Writer::new(&mut buffer, Class::Request, Method::BINDING, id);
        writer.integrity(Integrity::Sha256, b"key");
        let length = writer.finish().unwrap();
        let whole = buffer[..length].to_vec();
        assert_eq!(
            verify(&Message::parse(&whole).unwrap(), Integrity::Sha256, b"key"),
            Some(true)
        );
        let mut cut = Vec::from(&whole[..HEADER + 4 + 16]);
        cut[3] = 20;
        cut[HEADER + 3] = 16;
        assert_eq!(
            verify(&Message::parse(&cut).unwrap(), Integrity::Sha256, b"key"),
            Some(false)
        );
    }

    #[test]
    fn a_key_tells_nothing_to_a_log() {
        let key = Key::new(PasswordAlgorithm::Md5, "user", "realm", "pass");
        assert_eq!(format!("{key:?}"), "Key(Md5)");
        assert_eq!(key.as_bytes()[..4], [0x84, 0x93, 0xfb, 0xc5]);
        assert_eq!(key, Key::from_md5(key.as_bytes().try_into().unwrap()));
    }

    proptest! {
        #[test]
        fn what_is_protected_verifies_with_the_same_key_only(
            value in proptest::collection::vec(any::<u8>(), 0..40),
            key in proptest::collection::vec(any::<u8>(), 0..100),
            other in proptest::collection::vec(any::<u8>(), 0..100),
            sha256 in any::<bool>(),
        ) {
            // HMAC fills short keys up with zeros.
            let trimmed = |key: &[u8]| key.iter().rposition(|&b| b != 0).map_or(0, |at| at + 1);
            prop_assume!(key[..trimmed(&key)] != other[..trimmed(&other)]);
            let integrity = if sha256 { Integrity::Sha256 } else { Integrity::Sha1 };
            let mut buffer = [0; 200];
            let id = TransactionId::new([3; 12]);
            let mut writer = Writer::new(&mut buffer, Class::Request, Method::ALLOCATE, id);
            writer.attribute(AttributeType::SOFTWARE, &value);
            writer.integrity(integrity, &key);
            writer.fingerprint();
            let length = writer.finish().unwrap();
            let message = Message::parse(&buffer[..length]).unwrap();
            prop_assert_eq!(verify(&message, integrity, &key), Some(true));
            prop_assert_eq!(verify(&message, integrity, &other), Some(false));
            prop_assert_eq!(verify_fingerprint(&message), Some(true));
        }
    }
}
