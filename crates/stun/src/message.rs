//! STUN messages as bytes (RFC 8489 section 5; RFC 3489 section 11 for classic ones, without the magic cookie).
//!
//! [`Message::parse`] checks the header and that every attribute lies within, once; all views after that cannot fail on
//! bounds. Nothing is copied. [`Writer`] builds a message in the caller's buffer, front to back; integrity and fingerprint
//! ([`crate::integrity`]) come last. What attributes mean is in [`crate::attribute`].

use std::fmt;

use crate::attribute::AttributeType;

mod writer;

pub use writer::{BufferTooSmall, Writer};

/// The first word behind the length since RFC 5389.
pub const MAGIC_COOKIE: u32 = 0x2112_a442;

/// Bytes of a header.
pub const HEADER: usize = 20;

/// What a message is to its method (RFC 8489 section 5).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Class {
    /// Wants an answer.
    Request,
    /// Wants none.
    Indication,
    /// The request was carried out.
    Success,
    /// It was not.
    Error,
}

/// What is asked for; 12 bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Method(u16);

impl Method {
    /// RFC 8489 section 3: which address do you see?
    pub const BINDING: Self = Self(0x001);
    /// RFC 3489 section 8.2; reserved today.
    pub const SHARED_SECRET: Self = Self(0x002);
    /// RFC 8656 section 7: a relayed address.
    pub const ALLOCATE: Self = Self(0x003);
    /// RFC 8656 section 8.
    pub const REFRESH: Self = Self(0x004);
    /// RFC 8656 section 11; indication only.
    pub const SEND: Self = Self(0x006);
    /// RFC 8656 section 11; indication only.
    pub const DATA: Self = Self(0x007);
    /// RFC 8656 section 10.
    pub const CREATE_PERMISSION: Self = Self(0x008);
    /// RFC 8656 section 12.
    pub const CHANNEL_BIND: Self = Self(0x009);
}

/// Ties an answer to its request: 96 bits behind the magic cookie, or the 128 bits of a classic message.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TransactionId([u8; 16]);

impl TransactionId {
    /// With the magic cookie.
    #[must_use]
    pub fn new(random: [u8; 12]) -> Self {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&MAGIC_COOKIE.to_be_bytes());
        bytes[4..].copy_from_slice(&random);
        Self(bytes)
    }

    /// Of RFC 3489. One that begins with the magic cookie by chance makes a message of today.
    #[must_use]
    pub fn classic(random: [u8; 16]) -> Self {
        Self(random)
    }

    /// Whether the magic cookie is missing.
    #[must_use]
    pub fn is_classic(&self) -> bool {
        !self.0.starts_with(&MAGIC_COOKIE.to_be_bytes())
    }

    /// With the magic cookie, or what stands in its place.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// A well-formed message.
#[derive(Clone, Copy)]
pub struct Message<'a> {
    bytes: &'a [u8],
}

/// One attribute of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attribute<'a> {
    /// Its type.
    pub kind: AttributeType,
    /// Its value without padding.
    pub value: &'a [u8],
    /// Where its header begins, in bytes from the message's begin.
    pub(crate) offset: usize,
}

impl<'a> Message<'a> {
    /// Reads a message that takes up all of `bytes`.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let &[first, _, high, low, ..] = bytes else {
            return Err(ParseError::Short { found: bytes.len() });
        };
        if first >= 0x40 {
            return Err(ParseError::NotStun { first });
        }
        let expected = HEADER + usize::from(u16::from_be_bytes([high, low]));
        if bytes.len() < HEADER {
            return Err(ParseError::Short { found: bytes.len() });
        }
        if expected != bytes.len() || !expected.is_multiple_of(4) {
            return Err(ParseError::Length {
                expected,
                found: bytes.len(),
            });
        }
        let mut at = HEADER;
        while at < bytes.len() {
            at = end_of_attribute(bytes, at).ok_or(ParseError::Attribute { offset: at })?;
        }
        Ok(Self { bytes })
    }

    /// All of it.
    #[must_use]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Request, indication or response.
    #[must_use]
    pub fn class(&self) -> Class {
        match (self.bytes[0] & 1 != 0, self.bytes[1] & 0x10 != 0) {
            (false, false) => Class::Request,
            (false, true) => Class::Indication,
            (true, false) => Class::Success,
            (true, true) => Class::Error,
        }
    }

    /// What it is about.
    #[must_use]
    pub fn method(&self) -> Method {
        let (high, low) = (u16::from(self.bytes[0]), u16::from(self.bytes[1]));
        Method((high & 0x3e) << 6 | (low & 0xe0) >> 1 | low & 0x0f)
    }

    /// Its transaction.
    #[must_use]
    pub fn transaction_id(&self) -> TransactionId {
        let mut id = [0; 16];
        id.copy_from_slice(&self.bytes[4..HEADER]);
        TransactionId(id)
    }

    /// Whether it is of RFC 3489: no magic cookie.
    #[must_use]
    pub fn is_classic(&self) -> bool {
        self.transaction_id().is_classic()
    }

    /// The attributes in their order. Those that must be ignored are left out: behind MESSAGE-INTEGRITY all but
    /// MESSAGE-INTEGRITY-SHA256 and FINGERPRINT, behind that all but FINGERPRINT, behind FINGERPRINT all (RFC 8489
    /// sections 14.5 to 14.7).
    pub fn attributes(&self) -> Attributes<'a> {
        Attributes {
            bytes: self.bytes,
            at: HEADER,
            sealed: Seal::None,
        }
    }

    /// The first attribute of a type: further ones are ignored where an RFC does not say otherwise (RFC 8489 section 14).
    #[must_use]
    pub fn attribute(&self, kind: AttributeType) -> Option<Attribute<'a>> {
        self.attributes().find(|attribute| attribute.kind == kind)
    }

    /// The value of the first attribute of a type.
    #[must_use]
    pub fn value(&self, kind: AttributeType) -> Option<&'a [u8]> {
        self.attribute(kind).map(|attribute| attribute.value)
    }

    /// The attributes that must be understood and are not among `known`.
    pub fn unknown(&self, known: &[AttributeType]) -> impl Iterator<Item = AttributeType> {
        self.attributes()
            .map(|attribute| attribute.kind)
            .filter(|kind| kind.is_comprehension_required() && !known.contains(kind))
    }
}

impl fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} {:?} {:?} ",
            self.method(),
            self.class(),
            self.transaction_id()
        )?;
        f.debug_list().entries(self.attributes()).finish()
    }
}

/// The attributes of a message that count.
#[derive(Clone, Debug)]
pub struct Attributes<'a> {
    bytes: &'a [u8],
    at: usize,
    sealed: Seal,
}

/// What has been passed; the order is that in which they must come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Seal {
    None,
    Integrity,
    IntegritySha256,
    Fingerprint,
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Attribute<'a>;

    fn next(&mut self) -> Option<Attribute<'a>> {
        while self.at < self.bytes.len() {
            let offset = self.at;
            // `parse` has gone the same way and found every attribute within.
            self.at = end_of_attribute(self.bytes, offset)?;
            let kind = AttributeType(u16::from_be_bytes([self.bytes[offset], self.bytes[offset + 1]]));
            let length = usize::from(u16::from_be_bytes([
                self.bytes[offset + 2],
                self.bytes[offset + 3],
            ]));
            let seal = match kind {
                AttributeType::MESSAGE_INTEGRITY => Seal::Integrity,
                AttributeType::MESSAGE_INTEGRITY_SHA256 => Seal::IntegritySha256,
                AttributeType::FINGERPRINT => Seal::Fingerprint,
                _ => Seal::None,
            };
            if self.sealed == Seal::None || seal > self.sealed {
                self.sealed = self.sealed.max(seal);
                return Some(Attribute {
                    kind,
                    value: &self.bytes[offset + 4..offset + 4 + length],
                    offset,
                });
            }
        }
        None
    }
}

/// Where the attribute at `at` ends with its padding; `None` if that is outside.
fn end_of_attribute(bytes: &[u8], at: usize) -> Option<usize> {
    let length = bytes.get(at + 2..at + 4)?;
    let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
    let end = at + 4 + length.next_multiple_of(4);
    (end <= bytes.len()).then_some(end)
}

/// Why bytes are no message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// Too few for a header.
    #[error("expected at least 20 bytes of header, found {found}")]
    Short {
        /// Bytes.
        found: usize,
    },
    /// The two first bits are not zero.
    #[error("expected a STUN message, found a first byte of {first:#04x}")]
    NotStun {
        /// The first byte.
        first: u8,
    },
    /// The header tells another length, or one that is no multiple of four.
    #[error("expected {expected} bytes in words of four by the header, found {found}")]
    Length {
        /// Bytes with the header.
        expected: usize,
        /// Bytes.
        found: usize,
    },
    /// An attribute goes beyond the end.
    #[error("expected room for the attribute at byte {offset}, found the end of the message")]
    Attribute {
        /// Where it begins.
        offset: usize,
    },
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id() -> TransactionId {
        TransactionId::new(*b"abcdefghijkl")
    }

    #[test]
    fn method_and_class_are_woven_as_in_figure_3() {
        let mut buffer = [0; 20];
        for method in [0x001, 0x009, 0x00f, 0x010, 0x080, 0xabc, 0xfff] {
            for class in [Class::Request, Class::Indication, Class::Success, Class::Error] {
                Writer::new(&mut buffer, class, Method(method), id())
                    .finish()
                    .unwrap();
                let message = Message::parse(&buffer).unwrap();
                assert_eq!((message.method(), message.class()), (Method(method), class));
            }
        }
        Writer::new(&mut buffer, Class::Error, Method::BINDING, id())
            .finish()
            .unwrap();
        assert_eq!(buffer[..2], [0x01, 0x11]);
    }

    #[test]
    fn what_is_no_message_is_told_why() {
        let mut bytes = [0; 24];
        assert_eq!(Message::parse(&[]).unwrap_err(), ParseError::Short { found: 0 });
        assert_eq!(
            Message::parse(&bytes[..19]).unwrap_err(),
            ParseError::Short { found: 19 }
        );
        assert_eq!(
            Message::parse(&bytes).unwrap_err(),
            ParseError::Length {
                expected: 20,
                found: 24
            }
        );
        bytes[3] = 4;
        assert!(Message::parse(&bytes).is_ok(), "an attribute without a value");
        bytes[23] = 1;
        assert_eq!(
            Message::parse(&bytes).unwrap_err(),
            ParseError::Attribute { offset: 20 }
        );
        bytes[0] = 0x40;
        assert_eq!(
            Message::parse(&bytes).unwrap_err(),
            ParseError::NotStun { first: 0x40 }
        );
        bytes[0] = 0;
        bytes[3] = 2;
        assert!(Message::parse(&bytes[..22]).is_err(), "not in words of four");
    }

    #[test]
    fn a_message_without_the_magic_cookie_is_classic() {
        let mut buffer = [0; 20];
        let id = TransactionId::classic([7; 16]);
        Writer::new(&mut buffer, Class::Request, Method::BINDING, id)
            .finish()
            .unwrap();
        let message = Message::parse(&buffer).unwrap();
        assert!(message.is_classic());
        assert_eq!(message.transaction_id(), id);
    }

    #[test]
    fn attributes_behind_integrity_and_fingerprint_are_ignored() {
        let mut buffer = [0; 200];
        let mut writer = Writer::new(&mut buffer, Class::Request, Method::BINDING, id());
        let kinds = [
            AttributeType::SOFTWARE,
            AttributeType::MESSAGE_INTEGRITY,
            AttributeType::USERNAME,
            AttributeType::MESSAGE_INTEGRITY,
            AttributeType::MESSAGE_INTEGRITY_SHA256,
            AttributeType::MESSAGE_INTEGRITY,
            AttributeType::REALM,
            AttributeType::FINGERPRINT,
            AttributeType::FINGERPRINT,
            AttributeType(0x7777),
        ];
        for kind in kinds {
            writer.attribute(kind, &[1, 2, 3]);
        }
        let length = writer.finish().unwrap();
        let message = Message::parse(&buffer[..length]).unwrap();
        let counted: Vec<_> = message.attributes().map(|attribute| attribute.kind).collect();
        assert_eq!(
            counted,
            [
                AttributeType::SOFTWARE,
                AttributeType::MESSAGE_INTEGRITY,
                AttributeType::MESSAGE_INTEGRITY_SHA256,
                AttributeType::FINGERPRINT
            ]
        );
        assert_eq!(message.value(AttributeType::USERNAME), None);
        assert_eq!(message.unknown(&counted).count(), 0);
    }

    #[test]
    fn attributes_that_must_be_understood_and_are_not_are_listed() {
        let mut buffer = [0; 100];
        let mut writer = Writer::new(&mut buffer, Class::Request, Method::BINDING, id());
        for kind in [0x7000, 0xc000, 0x0006, 0x7001] {
            writer.attribute(AttributeType(kind), &[]);
        }
        let length = writer.finish().unwrap();
        let message = Message::parse(&buffer[..length]).unwrap();
        let unknown: Vec<_> = message.unknown(&[AttributeType::USERNAME]).collect();
        assert_eq!(unknown, [AttributeType(0x7000), AttributeType(0x7001)]);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            classic in any::<bool>(),
            random in any::<[u8; 16]>(),
            method in 0..0x1000u16,
            attributes in proptest::collection::vec(
                (any::<u16>(), proptest::collection::vec(any::<u8>(), 0..20)), 0..8),
        ) {
            let id = if classic {
                TransactionId::classic(random)
            } else {
                TransactionId::new(random[..12].try_into().unwrap())
            };
            // Those that hide what follows have tests of their own.
            let attributes: Vec<_> = attributes
                .into_iter()
                .filter(|(kind, _)| ![0x0008, 0x001c, 0x8028].contains(kind))
                .collect();
            let mut buffer = [0; 300];
            let mut writer = Writer::new(&mut buffer, Class::Indication, Method(method), id);
            for (kind, value) in &attributes {
                writer.attribute(AttributeType(*kind), value);
            }
            let length = writer.finish().unwrap();
            let message = Message::parse(&buffer[..length]).unwrap();
            prop_assert_eq!(message.method(), Method(method));
            prop_assert_eq!(message.class(), Class::Indication);
            prop_assert_eq!(message.transaction_id(), id);
            let read: Vec<_> = message.attributes().map(|a| (a.kind.0, a.value.to_vec())).collect();
            prop_assert_eq!(read, attributes);
        }

        #[test]
        fn arbitrary_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..120), whole in any::<bool>()) {
            if whole && bytes.len() >= HEADER {
                bytes.truncate(bytes.len() & !3);
                let length = (bytes.len() - HEADER) as u16;
                bytes[0] &= 0x3f;
                bytes[2..4].copy_from_slice(&length.to_be_bytes());
            }
            if let Ok(message) = Message::parse(&bytes) {
                let _ = format!("{message:?}");
                prop_assert!(message.attributes().count() <= bytes.len() / 4);
            }
        }
    }
}
