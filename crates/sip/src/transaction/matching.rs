//! Which server transaction a request belongs to (RFC 3261 section 17.2.3, RFC 2543 included), merged requests (8.2.2.2), tags.

use std::hash::Hasher;

use hashbrown::HashTable;
use siphasher::sip::SipHasher13;

use crate::message::Message;
use crate::method::Method;

/// A request that belongs to no transaction yet. It is good for one [`accept`](super::Transactions::accept).
#[derive(PartialEq, Eq, Debug)]
#[must_use]
pub struct NewRequest {
    pub(super) key: u64,
    pub(super) merge: Option<u64>,
    pub(super) merged: bool,
    pub(super) tag: Tag,
}

impl NewRequest {
    /// Whether the same request for the same Request-URI has already come by another way (8.2.2.2), to be answered 482; by a proxy
    /// only if it has not been there itself in between: that would be a spiral, which is no error (16.3).
    #[must_use]
    pub fn is_merged(&self) -> bool {
        self.merged
    }

    /// The tag to put into To of responses of one's own. The ACK to a stateless response is recognised by it.
    #[must_use]
    pub fn tag(&self) -> Tag {
        self.tag
    }
}

/// A tag: 16 hexadecimal digits, the same for every retransmission of a request, and not to be guessed (19.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tag([u8; 16]);

impl Tag {
    /// What follows `tag=`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Only ASCII is ever stored.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// Hashes requests with the service's secret.
pub(super) struct Matcher {
    hasher: SipHasher13,
}

impl Matcher {
    pub(super) fn new(secret: [u8; 16]) -> Self {
        Self {
            hasher: SipHasher13::new_with_key(&secret),
        }
    }

    fn fields(&self) -> Fields {
        Fields {
            hasher: self.hasher,
            buffer: [0; 256],
            used: 0,
        }
    }

    /// The key of the transaction that `m` belongs to if it was made by a request with `method`: for ACK and CANCEL, INVITE.
    pub(super) fn key(&self, m: &Message<'_>, method: Method<'_>) -> Option<u64> {
        let via = m.top_via().ok()?;
        let mut fields = self.fields();
        match via.branch {
            Some(branch) if via.has_magic_cookie() => {
                fields.put(b"3");
                fields.field(branch.as_bytes());
                fields.host(via.sent_by_host);
                fields.put(&via.sent_by_port.unwrap_or(0).to_ne_bytes());
            }
            // The To tag is left out: the ACK has one where the INVITE has none. What it would tell apart, two dialogs that one
            // request has forked into, differs in CSeq or branch with every client that was ever seen.
            _ => {
                fields.put(b"2");
                fields.field(m.request_uri().as_bytes());
                fields.field(m.from_tag().unwrap_or("").as_bytes());
                fields.field(m.call_id().ok()?.as_bytes());
                fields.put(&m.cseq().ok()?.number.to_ne_bytes());
                fields.field(via.as_str().as_bytes());
            }
        }
        fields.field(method.as_str().as_bytes());
        Some(fields.hash())
    }

    /// What two copies of a request have in common that came by different ways. A request inside a dialog has none. The
    /// Request-URI is part of it: what was forked to two addresses of this service are two requests here.
    pub(super) fn merge_key(&self, m: &Message<'_>) -> Option<u64> {
        if m.to_tag().is_some() {
            return None;
        }
        let cseq = m.cseq().ok()?;
        let mut fields = self.fields();
        fields.put(b"m");
        fields.field(m.request_uri().as_bytes());
        fields.field(m.from_tag()?.as_bytes());
        fields.field(m.call_id().ok()?.as_bytes());
        fields.put(&cseq.number.to_ne_bytes());
        fields.field(cseq.method.as_str().as_bytes());
        Some(fields.hash())
    }

    /// The tag of the transaction with that key, whether it exists or not.
    pub(super) fn tag(&self, key: u64) -> Tag {
        let mut bytes = [b't'; 9];
        bytes[1..].copy_from_slice(&key.to_ne_bytes());
        let number = self.hasher.hash(&bytes);
        let mut text = [0; 16];
        text[..8].copy_from_slice(&hexadecimal(number as u32));
        text[8..].copy_from_slice(&hexadecimal((number >> 32) as u32));
        Tag(text)
    }

    /// For stateless branches.
    pub(super) fn seed(&self, seed: &[u8]) -> u64 {
        let mut hasher = self.hasher;
        hasher.write_u8(b's');
        hasher.write(seed);
        hasher.finish()
    }
}

impl std::fmt::Debug for Matcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Matcher").finish_non_exhaustive()
    }
}

/// From keys to slots. Keys are keyed hashes already, so they are not hashed again.
#[derive(Debug, Default)]
pub(super) struct ServerMap {
    entries: HashTable<(u64, u32)>,
}

impl ServerMap {
    pub(super) fn find(&self, key: u64) -> Option<u32> {
        self.entries
            .find(key, |entry| entry.0 == key)
            .map(|entry| entry.1)
    }

    pub(super) fn insert(&mut self, key: u64, slot: u32) {
        self.entries.insert_unique(key, (key, slot), |entry| entry.0);
    }

    pub(super) fn remove(&mut self, key: u64, slot: u32) {
        if let Ok(entry) = self.entries.find_entry(key, |entry| *entry == (key, slot)) {
            entry.remove();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

/// What a key is made of. It is hashed in large pieces: a hasher that is fed word by word takes several times as long.
struct Fields {
    hasher: SipHasher13,
    buffer: [u8; 256],
    used: usize,
}

impl Fields {
    fn put(&mut self, bytes: &[u8]) {
        if let Some(room) = self.buffer.get_mut(self.used..self.used + bytes.len()) {
            room.copy_from_slice(bytes);
            self.used += bytes.len();
        } else {
            self.hasher.write(&self.buffer[..self.used]);
            self.hasher.write(bytes);
            self.used = 0;
        }
    }

    /// A field and its length, so that no two sequences of fields are the same bytes.
    fn field(&mut self, bytes: &[u8]) {
        self.put(bytes);
        self.put(&(bytes.len() as u32).to_ne_bytes());
    }

    /// Hosts compare without regard to case.
    fn host(&mut self, host: &str) {
        let mut lower = [0; 32];
        for chunk in host.as_bytes().chunks(lower.len()) {
            let lower = &mut lower[..chunk.len()];
            lower.copy_from_slice(chunk);
            lower.make_ascii_lowercase();
            self.put(lower);
        }
        self.put(&(host.len() as u32).to_ne_bytes());
    }

    fn hash(mut self) -> u64 {
        self.hasher.write(&self.buffer[..self.used]);
        self.hasher.finish()
    }
}

/// The digits of a number, the lowest first: all eight at once, each in a byte of its own.
fn hexadecimal(number: u32) -> [u8; 8] {
    let mut digits = u64::from(number);
    digits = (digits | digits << 16) & 0x0000_ffff_0000_ffff;
    digits = (digits | digits << 8) & 0x00ff_00ff_00ff_00ff;
    digits = (digits | digits << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    let letters = (digits + 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101;
    let gap = u64::from(b'a' - b'9' - 1);
    (digits + 0x3030_3030_3030_3030 + gap * letters).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_hexadecimal_the_lowest_first() {
        for number in [0, 0x0123_4567, 0x89ab_cdef, 0x9999_9999, u32::MAX] {
            let written: String = format!("{number:08x}").chars().rev().collect();
            assert_eq!(hexadecimal(number), written.as_bytes());
        }
    }
}
