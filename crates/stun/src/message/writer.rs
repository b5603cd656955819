//! Builds a message in a buffer of the caller's: header, attributes in the order of the calls, then integrity and
//! fingerprint. A buffer that is too small is told once, by `finish`.

use std::net::{IpAddr, SocketAddr};

use super::{Class, HEADER, Message, Method, TransactionId};
use crate::attribute::{AttributeType, xor_address};

/// A message being written.
#[derive(Debug)]
pub struct Writer<'a> {
    buffer: &'a mut [u8],
    /// Bytes written; stays where it was once something did not fit.
    length: usize,
    id: TransactionId,
    overflow: bool,
}

impl<'a> Writer<'a> {
    /// Begins a message.
    pub fn new(buffer: &'a mut [u8], class: Class, method: Method, id: TransactionId) -> Self {
        let mut writer = Self {
            buffer,
            length: 0,
            id,
            overflow: false,
        };
        let method = method.0;
        let class = match class {
            Class::Request => 0,
            Class::Indication => 0x010,
            Class::Success => 0x100,
            Class::Error => 0x110,
        };
        let kind = (method & 0xf80) << 2 | (method & 0x070) << 1 | method & 0x00f | class;
        writer.put(&kind.to_be_bytes());
        writer.put(&[0, 0]);
        writer.put(id.as_bytes());
        writer
    }

    /// Begins the answer to a request.
    pub fn answer(buffer: &'a mut [u8], class: Class, request: &Message<'_>) -> Self {
        Self::new(buffer, class, request.method(), request.transaction_id())
    }

    /// Any attribute; the padding is zero.
    pub fn attribute(&mut self, kind: AttributeType, value: &[u8]) {
        if self.open(kind, value.len()) {
            self.put(value);
            self.pad();
        }
    }

    /// An attribute of zeros.
    pub fn zeros(&mut self, kind: AttributeType, length: usize) {
        if self.open(kind, length) {
            let end = self.length + length;
            self.buffer[self.length..end].fill(0);
            self.length = end;
            self.pad();
        }
    }

    /// A number of 32 bits.
    pub fn number(&mut self, kind: AttributeType, value: u32) {
        self.attribute(kind, &value.to_be_bytes());
    }

    /// An address as in MAPPED-ADDRESS. Addresses of IPv4 within IPv6 become IPv4.
    pub fn address(&mut self, kind: AttributeType, address: SocketAddr) {
        self.plain_address(kind, canonical(address));
    }

    /// An address as in XOR-MAPPED-ADDRESS. Addresses of IPv4 within IPv6 become IPv4.
    pub fn xor_address(&mut self, kind: AttributeType, address: SocketAddr) {
        self.plain_address(kind, xor_address(canonical(address), &self.id));
    }

    /// ERROR-CODE with its reason (RFC 8489 section 14.8).
    pub fn error(&mut self, code: u16, reason: &str) {
        if self.open(AttributeType::ERROR_CODE, 4 + reason.len()) {
            self.put(&[0, 0, (code / 100) as u8, (code % 100) as u8]);
            self.put(reason.as_bytes());
            self.pad();
        }
    }

    /// UNKNOWN-ATTRIBUTES (RFC 8489 section 14.13). Classic messages have no padding: an odd number of types is made even by
    /// saying the last one twice (RFC 3489 section 11.2.10).
    pub fn unknown_attributes(&mut self, kinds: impl Iterator<Item = AttributeType>) {
        let header = self.length;
        if !self.open(AttributeType::UNKNOWN_ATTRIBUTES, 0) {
            return;
        }
        let begin = self.length;
        let mut last = None;
        for kind in kinds.take(MAX_UNKNOWN) {
            self.put(&kind.0.to_be_bytes());
            last = Some(kind);
        }
        if let Some(last) = last.filter(|_| self.id.is_classic() && !(self.length - begin).is_multiple_of(4))
        {
            self.put(&last.0.to_be_bytes());
        }
        let length = (self.length - begin) as u16;
        self.buffer[header + 2..begin].copy_from_slice(&length.to_be_bytes());
        self.pad();
    }

    /// The message's length, written into its header.
    pub fn finish(mut self) -> Result<usize, BufferTooSmall> {
        if self.overflow {
            return Err(BufferTooSmall {
                found: self.buffer.len(),
            });
        }
        self.set_length(0);
        Ok(self.length)
    }

    /// Bytes that still fit.
    #[must_use]
    pub fn room(&self) -> usize {
        self.buffer.len() - self.length
    }

    /// What is written so far, with a header that counts `further` bytes more: what integrity and fingerprint are made of.
    pub(crate) fn written(&mut self, further: usize) -> &[u8] {
        self.set_length(further);
        &self.buffer[..self.length]
    }

    fn set_length(&mut self, further: usize) {
        if let (Some(length), Some(field)) = (
            (self.length + further).checked_sub(HEADER),
            self.buffer.get_mut(2..4),
        ) {
            field.copy_from_slice(&(length as u16).to_be_bytes());
        }
    }

    fn plain_address(&mut self, kind: AttributeType, address: SocketAddr) {
        let mut value = [0; 20];
        value[2..4].copy_from_slice(&address.port().to_be_bytes());
        match address.ip() {
            IpAddr::V4(v4) => {
                value[1] = 1;
                value[4..8].copy_from_slice(&v4.octets());
                self.attribute(kind, &value[..8]);
            }
            IpAddr::V6(v6) => {
                value[1] = 2;
                value[4..].copy_from_slice(&v6.octets());
                self.attribute(kind, &value);
            }
        }
    }

    /// Writes an attribute's header if the whole of it will fit.
    fn open(&mut self, kind: AttributeType, length: usize) -> bool {
        let Ok(short) = u16::try_from(length) else {
            self.overflow = true;
            return false;
        };
        let end = self.length + 4 + length.next_multiple_of(4);
        if self.overflow || end > self.buffer.len() || end - HEADER > usize::from(u16::MAX) {
            self.overflow = true;
            return false;
        }
        self.put(&kind.0.to_be_bytes());
        self.put(&short.to_be_bytes());
        true
    }

    fn put(&mut self, bytes: &[u8]) {
        let end = self.length + bytes.len();
        match self.buffer.get_mut(self.length..end) {
            Some(room) => {
                room.copy_from_slice(bytes);
                self.length = end;
            }
            None => self.overflow = true,
        }
    }

    fn pad(&mut self) {
        self.put(&[0; 3][..self.length.wrapping_neg() & 3]);
    }
}

/// The buffer does not hold the message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("expected a buffer that holds the message, found one of {found} bytes")]
pub struct BufferTooSmall {
    /// The buffer's bytes.
    pub found: usize,
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Types that UNKNOWN-ATTRIBUTES lists at most; who sends more of them learns of the rest with the next request.
const MAX_UNKNOWN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribute::{read_address, read_error_code, read_xor_address};

    fn write(
        size: usize,
        id: TransactionId,
        fill: impl FnOnce(&mut Writer<'_>),
    ) -> Result<Vec<u8>, BufferTooSmall> {
        let mut buffer = vec![0xee; size];
        let mut writer = Writer::new(&mut buffer, Class::Success, Method::BINDING, id);
        fill(&mut writer);
        let length = writer.finish()?;
        buffer.truncate(length);
        Ok(buffer)
    }

    fn id() -> TransactionId {
        TransactionId::new([9; 12])
    }

    #[test]
    fn addresses_come_back_in_both_forms_and_both_families() {
        for address in ["192.0.2.1:32853", "[2001:db8::1]:5"] {
            let address: SocketAddr = address.parse().unwrap();
            let bytes = write(100, id(), |writer| {
                writer.address(AttributeType::MAPPED_ADDRESS, address);
                writer.xor_address(AttributeType::XOR_MAPPED_ADDRESS, address);
            })
            .unwrap();
            let message = Message::parse(&bytes).unwrap();
            let plain = message.value(AttributeType::MAPPED_ADDRESS).unwrap();
            let xored = message.value(AttributeType::XOR_MAPPED_ADDRESS).unwrap();
            assert_eq!(read_address(plain), Some(address));
            assert_ne!(plain, xored);
            assert_eq!(read_xor_address(xored, &id()), Some(address));
        }
    }

    #[test]
    fn an_ipv4_address_within_ipv6_is_written_as_ipv4() {
        let bytes = write(100, id(), |writer| {
            writer.address(
                AttributeType::MAPPED_ADDRESS,
                "[::ffff:192.0.2.1]:7".parse().unwrap(),
            );
        })
        .unwrap();
        let message = Message::parse(&bytes).unwrap();
        let value = message.value(AttributeType::MAPPED_ADDRESS).unwrap();
        assert_eq!(read_address(value), Some("192.0.2.1:7".parse().unwrap()));
    }

    #[test]
    fn every_buffer_that_is_too_small_is_told() {
        let fill = |writer: &mut Writer<'_>| {
            writer.attribute(AttributeType::SOFTWARE, b"trapez");
            writer.error(420, "Unknown Attribute");
            writer.unknown_attributes([AttributeType(1), AttributeType(2), AttributeType(3)].into_iter());
            writer.zeros(AttributeType::PADDING, 6);
        };
        let whole = write(500, id(), fill).unwrap();
        for size in 0..whole.len() {
            assert_eq!(write(size, id(), fill), Err(BufferTooSmall { found: size }));
        }
        assert_eq!(write(whole.len(), id(), fill), Ok(whole));
    }

    #[test]
    fn unknown_attributes_are_padded_by_repetition_in_classic_messages_only() {
        let kinds = [
            AttributeType(0x7001),
            AttributeType(0x7002),
            AttributeType(0x7003),
        ];
        let value = |id| {
            let bytes = write(100, id, |writer| writer.unknown_attributes(kinds.into_iter())).unwrap();
            let message = Message::parse(&bytes).unwrap();
            message.value(AttributeType::UNKNOWN_ATTRIBUTES).unwrap().to_vec()
        };
        assert_eq!(value(id()), [0x70, 1, 0x70, 2, 0x70, 3]);
        assert_eq!(
            value(TransactionId::classic([1; 16])),
            [0x70, 1, 0x70, 2, 0x70, 3, 0x70, 3]
        );
    }

    #[test]
    fn padding_is_zero_whatever_was_in_the_buffer() {
        let bytes = write(100, id(), |writer| writer.error(486, "a")).unwrap();
        assert_eq!(bytes[20..], [0, 9, 0, 5, 0, 0, 4, 86, b'a', 0, 0, 0]);
        let message = Message::parse(&bytes).unwrap();
        let value = message.value(AttributeType::ERROR_CODE).unwrap();
        assert_eq!(read_error_code(value), Some((486, "a")));
    }
}
