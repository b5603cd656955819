//! The branches that this service mints (RFC 3261 section 8.1.1.7).
//!
//! After the magic cookie come 14 bytes in hexadecimal: the worker (1), the slot of the transaction (3), a tag (6) and the loop
//! hash (4). The tag is a keyed hash over the rest and the transaction's serial number: who has not seen the request cannot make
//! up a response to it, and a slot that is used again has another branch.

use std::fmt;
use std::hash::Hasher;

use siphasher::sip::SipHasher13;

/// The text of a branch, or one that was read.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Branch([u8; TEXT]);

impl Branch {
    /// Reads a branch of this form, whoever minted it: loops are noticed even across restarts.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text: &[u8; TEXT] = text.as_bytes().try_into().ok()?;
        let known = text.starts_with(COOKIE.as_bytes())
            && text[COOKIE.len()..]
                .iter()
                .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        known.then_some(Self(*text))
    }

    /// What goes into the Via.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Only ASCII is ever stored.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The worker that minted it.
    #[must_use]
    pub fn worker(&self) -> u8 {
        self.number(0, 1) as u8
    }

    /// What was passed when it was minted (RFC 5393 section 4.2.1).
    #[must_use]
    pub fn loop_hash(&self) -> u32 {
        self.number(10, 4) as u32
    }

    /// The slot of the transaction; none in a stateless branch.
    pub(super) fn slot(&self) -> Option<u32> {
        let slot = self.number(1, 3) as u32;
        (slot != STATELESS).then_some(slot)
    }

    fn tag(&self) -> u64 {
        self.number(4, 6)
    }

    fn new(worker: u8, slot: u32, tag: u64, loop_hash: u32) -> Self {
        let mut text = [0; TEXT];
        text[..COOKIE.len()].copy_from_slice(COOKIE.as_bytes());
        let number = u128::from(worker) << 104
            | u128::from(slot) << 80
            | u128::from(tag) << 32
            | u128::from(loop_hash);
        for (at, digit) in text[COOKIE.len()..].iter_mut().rev().enumerate() {
            *digit = HEX[(number >> (4 * at)) as usize & 15];
        }
        Self(text)
    }

    /// `len` bytes from byte `at` as a number.
    fn number(&self, at: usize, len: usize) -> u64 {
        let digits = &self.0[COOKIE.len() + 2 * at..][..2 * len];
        digits.iter().fold(0, |number, &digit| {
            let value = if digit <= b'9' {
                digit - b'0'
            } else {
                digit - b'a' + 10
            };
            number << 4 | u64::from(value)
        })
    }
}

impl fmt::Debug for Branch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Mints the branches of one worker and recognises them.
pub(super) struct BranchMint {
    worker: u8,
    hasher: SipHasher13,
}

impl BranchMint {
    pub(super) fn new(worker: u8, secret: [u8; 16]) -> Self {
        let mut hasher = SipHasher13::new_with_key(&secret);
        hasher.write(b"branch");
        Self { worker, hasher }
    }

    pub(super) fn mint(&self, slot: u32, serial: u32, loop_hash: u32) -> Branch {
        Branch::new(self.worker, slot, self.tag(slot, serial, loop_hash), loop_hash)
    }

    /// A branch of no transaction; `seed` makes it unique.
    pub(super) fn stateless(&self, seed: u64, loop_hash: u32) -> Branch {
        Branch::new(self.worker, STATELESS, seed & TAG_MASK, loop_hash)
    }

    /// Whether this worker minted `branch` for the transaction in `slot` with that serial number.
    pub(super) fn is_genuine(&self, branch: &Branch, slot: u32, serial: u32) -> bool {
        branch.worker() == self.worker && branch.tag() == self.tag(slot, serial, branch.loop_hash())
    }

    fn tag(&self, slot: u32, serial: u32, loop_hash: u32) -> u64 {
        let mut hasher = self.hasher;
        let mut bytes = [0; 13];
        bytes[..4].copy_from_slice(&slot.to_le_bytes());
        bytes[4..8].copy_from_slice(&serial.to_le_bytes());
        bytes[8..12].copy_from_slice(&loop_hash.to_le_bytes());
        bytes[12] = self.worker;
        hasher.write(&bytes);
        hasher.finish() & TAG_MASK
    }
}

impl fmt::Debug for BranchMint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BranchMint")
            .field("worker", &self.worker)
            .finish_non_exhaustive()
    }
}

/// How many slots a branch can name.
pub(super) const MAX_SLOTS: usize = STATELESS as usize;

const COOKIE: &str = "z9hG4bK";
const TEXT: usize = COOKIE.len() + 28;
const HEX: &[u8; 16] = b"0123456789abcdef";
const STATELESS: u32 = 0xff_ffff;
const TAG_MASK: u64 = (1 << 48) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branch_carries_worker_slot_and_loop_hash() {
        let mint = BranchMint::new(0xa5, [1; 16]);
        let branch = Branch::parse(mint.mint(0x12_3456, 7, 0xdead_beef).as_str()).unwrap();
        assert!(branch.as_str().starts_with("z9hG4bKa5123456"));
        assert!(branch.as_str().ends_with("deadbeef"));
        assert_eq!(
            (branch.worker(), branch.slot(), branch.loop_hash()),
            (0xa5, Some(0x12_3456), 0xdead_beef)
        );
        assert!(mint.is_genuine(&branch, 0x12_3456, 7));
    }

    #[test]
    fn branch_of_another_transaction_worker_or_secret_is_not_genuine() {
        let mint = BranchMint::new(1, [1; 16]);
        let branch = mint.mint(5, 7, 0);
        assert!(!mint.is_genuine(&branch, 5, 8), "the slot was used again");
        assert!(!mint.is_genuine(&branch, 6, 7));
        assert!(!BranchMint::new(2, [1; 16]).is_genuine(&branch, 5, 7));
        assert!(!BranchMint::new(1, [2; 16]).is_genuine(&branch, 5, 7));
        let forged = branch.as_str().replace("00000000", "00000001");
        assert!(!mint.is_genuine(&Branch::parse(&forged).unwrap(), 5, 7));
    }

    #[test]
    fn stateless_branch_names_no_slot() {
        let mint = BranchMint::new(1, [1; 16]);
        assert_eq!(mint.stateless(42, 0).slot(), None);
        assert_eq!(mint.stateless(42, 0), mint.stateless(42, 0));
        assert_ne!(mint.stateless(42, 0), mint.stateless(43, 0));
    }

    #[test]
    fn foreign_branches_are_not_read() {
        let own = BranchMint::new(1, [1; 16]).mint(1, 1, 1);
        let own = own.as_str();
        for text in [
            "",
            "z9hG4bK",
            "z9hG4bK776asdhds",
            &own[1..],
            &own.to_uppercase(),
            &format!("{own}0"),
            &own.replace("z9", "y9"),
        ] {
            assert!(Branch::parse(text).is_none(), "{text}");
        }
    }
}
