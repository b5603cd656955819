//! What goes before a peer's data on its way to the client: the header of a ChannelData message, or a Data indication as far
//! as its DATA attribute's value.

use std::net::SocketAddr;

use crate::attribute::AttributeType;
use crate::frame::ChannelData;
use crate::message::{Class, Method, TransactionId, Writer};

/// Up to [`Prefix::MAX`] bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Prefix {
    bytes: [u8; Self::MAX],
    length: u8,
}

impl Prefix {
    /// The longest: a Data indication from an IPv6 peer. Who leaves as many bytes free before what he receives can send it on
    /// from the same buffer.
    pub const MAX: usize = 20 + 24 + 4;

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    pub(super) fn channel_data(number: u16, data: usize) -> Option<Self> {
        let header = ChannelData::header(number, data)?;
        let mut bytes = [0; Self::MAX];
        bytes[..header.len()].copy_from_slice(&header);
        Some(Self {
            bytes,
            length: header.len() as u8,
        })
    }

    pub(super) fn data_indication(id: TransactionId, peer: SocketAddr, data: usize) -> Option<Self> {
        let mut bytes = [0; Self::MAX];
        let mut writer = Writer::new(&mut bytes, Class::Indication, Method::DATA, id);
        writer.xor_address(AttributeType::XOR_PEER_ADDRESS, peer);
        writer.attribute(AttributeType::DATA, &[]);
        let length = writer.finish().ok()?;
        // DATA and the message are longer than what is written here by the data.
        bytes[length - 2..length].copy_from_slice(&u16::try_from(data).ok()?.to_be_bytes());
        let whole = u16::try_from(length - 20 + data.next_multiple_of(4)).ok()?;
        bytes[2..4].copy_from_slice(&whole.to_be_bytes());
        Some(Self {
            bytes,
            length: length as u8,
        })
    }
}
