//! The types of attributes (RFC 8489 section 14, RFC 8656 section 18, RFC 5780 section 7, RFC 3489 section 11.2) and the
//! shapes of their values that are more than a number or a text.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::message::{MAGIC_COOKIE, TransactionId};

/// The type of an attribute.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttributeType(pub u16);

impl AttributeType {
    /// Whether who does not know it must refuse the message (RFC 8489 section 14: 0x0000 to 0x7fff).
    #[must_use]
    pub fn is_comprehension_required(self) -> bool {
        self.0 < 0x8000
    }

    /// The name in the RFCs.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        NAMES
            .iter()
            .find(|(kind, _)| *kind == self)
            .map(|&(_, name)| name)
    }
}

impl fmt::Debug for AttributeType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "{:#06x}", self.0),
        }
    }
}

/// Declares the constants and their names, so that no number stands twice.
macro_rules! attribute_types {
    ($($constant:ident = $number:literal, $name:literal, $doc:literal;)*) => {
        impl AttributeType {
            $(#[doc = $doc] pub const $constant: Self = Self($number);)*
        }

        const NAMES: &[(AttributeType, &str)] = &[$((AttributeType::$constant, $name)),*];
    };
}

attribute_types! {
    MAPPED_ADDRESS = 0x0001, "MAPPED-ADDRESS", "RFC 8489 14.1: the client as the server sees it; classic clients read only this.";
    RESPONSE_ADDRESS = 0x0002, "RESPONSE-ADDRESS", "RFC 3489 11.2.2: where to send the answer.";
    CHANGE_REQUEST = 0x0003, "CHANGE-REQUEST", "RFC 5780 7.2, RFC 3489 11.2.4: answer from the other address or port.";
    SOURCE_ADDRESS = 0x0004, "SOURCE-ADDRESS", "RFC 3489 11.2.5: where the answer comes from.";
    CHANGED_ADDRESS = 0x0005, "CHANGED-ADDRESS", "RFC 3489 11.2.3: the server's other address and port.";
    USERNAME = 0x0006, "USERNAME", "RFC 8489 14.3.";
    MESSAGE_INTEGRITY = 0x0008, "MESSAGE-INTEGRITY", "RFC 8489 14.5: HMAC-SHA1.";
    ERROR_CODE = 0x0009, "ERROR-CODE", "RFC 8489 14.8.";
    UNKNOWN_ATTRIBUTES = 0x000a, "UNKNOWN-ATTRIBUTES", "RFC 8489 14.13.";
    REFLECTED_FROM = 0x000b, "REFLECTED-FROM", "RFC 3489 11.2.11: who asked for an answer that goes elsewhere.";
    CHANNEL_NUMBER = 0x000c, "CHANNEL-NUMBER", "RFC 8656 18.1.";
    LIFETIME = 0x000d, "LIFETIME", "RFC 8656 18.2: seconds.";
    XOR_PEER_ADDRESS = 0x0012, "XOR-PEER-ADDRESS", "RFC 8656 18.3.";
    DATA = 0x0013, "DATA", "RFC 8656 18.4.";
    REALM = 0x0014, "REALM", "RFC 8489 14.9.";
    NONCE = 0x0015, "NONCE", "RFC 8489 14.10.";
    XOR_RELAYED_ADDRESS = 0x0016, "XOR-RELAYED-ADDRESS", "RFC 8656 18.5.";
    REQUESTED_ADDRESS_FAMILY = 0x0017, "REQUESTED-ADDRESS-FAMILY", "RFC 8656 18.6.";
    EVEN_PORT = 0x0018, "EVEN-PORT", "RFC 8656 18.7.";
    REQUESTED_TRANSPORT = 0x0019, "REQUESTED-TRANSPORT", "RFC 8656 18.8.";
    DONT_FRAGMENT = 0x001a, "DONT-FRAGMENT", "RFC 8656 18.9.";
    MESSAGE_INTEGRITY_SHA256 = 0x001c, "MESSAGE-INTEGRITY-SHA256", "RFC 8489 14.6.";
    PASSWORD_ALGORITHM = 0x001d, "PASSWORD-ALGORITHM", "RFC 8489 14.12: what the client chose.";
    USERHASH = 0x001e, "USERHASH", "RFC 8489 14.4: SHA-256 of user and realm.";
    XOR_MAPPED_ADDRESS = 0x0020, "XOR-MAPPED-ADDRESS", "RFC 8489 14.2.";
    RESERVATION_TOKEN = 0x0022, "RESERVATION-TOKEN", "RFC 8656 18.10.";
    PADDING = 0x0026, "PADDING", "RFC 5780 7.6.";
    RESPONSE_PORT = 0x0027, "RESPONSE-PORT", "RFC 5780 7.5.";
    ADDITIONAL_ADDRESS_FAMILY = 0x8000, "ADDITIONAL-ADDRESS-FAMILY", "RFC 8656 18.11.";
    ADDRESS_ERROR_CODE = 0x8001, "ADDRESS-ERROR-CODE", "RFC 8656 18.12.";
    PASSWORD_ALGORITHMS = 0x8002, "PASSWORD-ALGORITHMS", "RFC 8489 14.11: what the server offers.";
    SOFTWARE = 0x8022, "SOFTWARE", "RFC 8489 14.14.";
    FINGERPRINT = 0x8028, "FINGERPRINT", "RFC 8489 14.7.";
    RESPONSE_ORIGIN = 0x802b, "RESPONSE-ORIGIN", "RFC 5780 7.3.";
    OTHER_ADDRESS = 0x802c, "OTHER-ADDRESS", "RFC 5780 7.4.";
}

/// An address family as attributes write it (RFC 8489 section 14.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Family {
    /// 0x01.
    Ipv4,
    /// 0x02.
    Ipv6,
}

impl Family {
    /// The family of an address; IPv6 addresses that stand for an IPv4 address are IPv6 all the same.
    #[must_use]
    pub fn of(address: &SocketAddr) -> Self {
        if address.is_ipv4() { Self::Ipv4 } else { Self::Ipv6 }
    }

    /// From the number in an attribute.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Ipv4),
            2 => Some(Self::Ipv6),
            _ => None,
        }
    }

    /// The number in an attribute.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Ipv4 => 1,
            Self::Ipv6 => 2,
        }
    }
}

/// CHANGE-REQUEST: from where the answer is to come (RFC 5780 section 7.2).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ChangeRequest {
    /// From the other address.
    pub ip: bool,
    /// From the other port.
    pub port: bool,
}

impl ChangeRequest {
    /// From the attribute's value; `None` if that has not four bytes.
    #[must_use]
    pub fn from_value(value: &[u8]) -> Option<Self> {
        let flags = read_u32(value)?;
        Some(Self {
            ip: flags & CHANGE_IP != 0,
            port: flags & CHANGE_PORT != 0,
        })
    }

    /// The attribute's value.
    #[must_use]
    pub fn value(self) -> u32 {
        u32::from(self.ip) * CHANGE_IP + u32::from(self.port) * CHANGE_PORT
    }
}

/// An address as it stands in MAPPED-ADDRESS and its like (RFC 8489 section 14.1).
#[must_use]
pub fn read_address(value: &[u8]) -> Option<SocketAddr> {
    let (&[_, family, high, low], address) = value.split_first_chunk::<4>()?;
    let ip = match Family::from_number(family)? {
        Family::Ipv4 => IpAddr::V4(<[u8; 4]>::try_from(address).ok()?.into()),
        Family::Ipv6 => IpAddr::V6(<[u8; 16]>::try_from(address).ok()?.into()),
    };
    Some(SocketAddr::new(ip, u16::from_be_bytes([high, low])))
}

/// An address as it stands in XOR-MAPPED-ADDRESS and its like (RFC 8489 section 14.2).
#[must_use]
pub fn read_xor_address(value: &[u8], id: &TransactionId) -> Option<SocketAddr> {
    read_address(value).map(|address| xor_address(address, id))
}

/// Turns an address into its XORed form, and back.
pub(crate) fn xor_address(address: SocketAddr, id: &TransactionId) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() ^ MAGIC_COOKIE)),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(
            v6.to_bits() ^ u128::from_be_bytes(*id.as_bytes()),
        )),
    };
    SocketAddr::new(ip, address.port() ^ (MAGIC_COOKIE >> 16) as u16)
}

/// A number of 32 bits that is the whole value.
#[must_use]
pub fn read_u32(value: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(value.try_into().ok()?))
}

/// The code of ERROR-CODE (RFC 8489 section 14.8) and its reason; a reason that is not UTF-8 is left out.
#[must_use]
pub fn read_error_code(value: &[u8]) -> Option<(u16, &str)> {
    let (&[_, _, class, number], reason) = value.split_first_chunk::<4>()?;
    let class = u16::from(class & 7);
    ((3..=6).contains(&class) && number < 100).then(|| {
        (
            class * 100 + u16::from(number),
            std::str::from_utf8(reason).unwrap_or_default(),
        )
    })
}

const CHANGE_IP: u32 = 4;
const CHANGE_PORT: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_a_number_and_a_name_of_its_own() {
        for (at, (kind, name)) in NAMES.iter().enumerate() {
            for (other, other_name) in &NAMES[..at] {
                assert!(kind != other && name != other_name, "{name}");
            }
        }
        assert_eq!(format!("{:?}", AttributeType::OTHER_ADDRESS), "OTHER-ADDRESS");
        assert_eq!(format!("{:?}", AttributeType(0x7777)), "0x7777");
    }

    #[test]
    fn the_upper_half_of_the_types_may_be_ignored() {
        assert!(AttributeType(0x7fff).is_comprehension_required());
        assert!(!AttributeType::ADDITIONAL_ADDRESS_FAMILY.is_comprehension_required());
    }

    #[test]
    fn addresses_of_another_length_than_their_family_has_are_refused() {
        assert_eq!(
            read_address(&[0, 1, 0x12, 0x34, 192, 0, 2, 1]),
            Some("192.0.2.1:4660".parse().unwrap())
        );
        assert_eq!(read_address(&[0, 2, 0x12, 0x34, 192, 0, 2, 1]), None);
        assert_eq!(read_address(&[0, 1, 0x12, 0x34, 192, 0, 2]), None);
        assert_eq!(read_address(&[0, 3, 0x12, 0x34, 192, 0, 2, 1]), None);
        assert_eq!(read_address(&[]), None);
    }

    #[test]
    fn error_codes_outside_300_to_699_are_refused() {
        assert_eq!(read_error_code(b"\0\0\x04\x14Unknown"), Some((420, "Unknown")));
        assert_eq!(read_error_code(b"\0\0\x02\x00"), None);
        assert_eq!(read_error_code(b"\0\0\x07\x00"), None);
        assert_eq!(read_error_code(b"\0\0\x04\x64"), None);
        assert_eq!(read_error_code(b"\0\0\x04"), None);
    }

    #[test]
    fn change_request_flags_are_bits_1_and_2() {
        let both = ChangeRequest { ip: true, port: true };
        assert_eq!(both.value(), 6);
        assert_eq!(ChangeRequest::from_value(&[0, 0, 0, 6]), Some(both));
        assert_eq!(
            ChangeRequest::from_value(&[0, 0, 0, 4]),
            Some(ChangeRequest {
                ip: true,
                port: false
            })
        );
        assert_eq!(ChangeRequest::from_value(&[0, 0, 6]), None);
    }
}
