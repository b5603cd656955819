//! RTP and RTCP headers (RFC 3550), and which protocol a datagram on a media port belongs to (RFC 7983, RFC 5761).
//!
//! Views over the bytes of one datagram: every length is checked in `parse`, nothing is copied. Payloads are not looked at.

/// The protocol of a datagram, told by its first bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PacketKind {
    /// RTP or SRTP.
    Rtp,
    /// RTCP or SRTCP: by the payload type, as RFC 5761 section 4 tells them apart.
    Rtcp,
    /// STUN, with the magic cookie of RFC 8489.
    Stun,
    /// ZRTP (RFC 6189 section 5).
    Zrtp,
    /// A DTLS record.
    Dtls,
    /// None of these, or too short for what it claims to be.
    Unknown,
}

impl PacketKind {
    /// Looks at the first byte (RFC 7983 section 7), then at what that protocol guarantees.
    pub fn of(packet: &[u8]) -> Self {
        match packet {
            [128..=191, payload_type, ..] => match payload_type {
                192..=223 if packet.len() >= RTCP_HEADER => Self::Rtcp,
                192..=223 => Self::Unknown,
                _ if packet.len() >= RTP_HEADER => Self::Rtp,
                _ => Self::Unknown,
            },
            [0..=3, _, _, _, 0x21, 0x12, 0xa4, 0x42, ..] if packet.len() >= 20 => Self::Stun,
            [16..=19, _, _, _, b'Z', b'R', b'T', b'P', ..] => Self::Zrtp,
            // Content type, version 1.0 or 1.2 (0xfeff, 0xfefd), epoch, sequence number, length.
            [20..=63, 0xfe, ..] if packet.len() >= 13 => Self::Dtls,
            _ => Self::Unknown,
        }
    }
}

/// An RTP packet's header (RFC 3550 section 5.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rtp<'a> {
    bytes: &'a [u8],
    payload: (usize, usize),
}

impl<'a> Rtp<'a> {
    /// Checks version, the room for CSRC list and extension, and that the padding lies within. SRTP's padding bit is
    /// encrypted along with its count, hence a count that does not fit is taken as payload.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let &[first, _, _, _, _, _, _, _, _, _, _, _, ..] = bytes else {
            return None;
        };
        if first >> 6 != VERSION {
            return None;
        }
        let mut start = RTP_HEADER + 4 * usize::from(first & 0x0f);
        if first & 0x10 != 0 {
            let words = bytes.get(start + 2..start + 4)?;
            start += 4 + 4 * usize::from(u16::from_be_bytes([words[0], words[1]]));
        }
        if start > bytes.len() {
            return None;
        }
        let mut end = bytes.len();
        if first & 0x20 != 0 {
            let padding = usize::from(bytes[end - 1]);
            if padding <= end - start {
                end -= padding;
            }
        }
        Some(Rtp {
            bytes,
            payload: (start, end),
        })
    }

    /// 0 to 127.
    pub fn payload_type(&self) -> u8 {
        self.bytes[1] & 0x7f
    }

    /// The marker bit: begin of a talk spurt, end of a video frame.
    pub fn marker(&self) -> bool {
        self.bytes[1] & 0x80 != 0
    }

    /// Grows by one per packet and wraps.
    pub fn sequence(&self) -> u16 {
        u16::from_be_bytes([self.bytes[2], self.bytes[3]])
    }

    /// In units of the payload type's clock rate.
    pub fn timestamp(&self) -> u32 {
        be32(self.bytes, 4)
    }

    /// The synchronisation source.
    pub fn ssrc(&self) -> u32 {
        be32(self.bytes, 8)
    }

    /// What follows the header, without padding.
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[self.payload.0..self.payload.1]
    }
}

/// The first packet of an RTCP datagram (RFC 3550 section 6.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rtcp<'a> {
    bytes: &'a [u8],
}

impl<'a> Rtcp<'a> {
    /// Checks version, a type from 192 to 223, and that the first packet's length fits. The packets behind it may be
    /// encrypted (SRTCP) and are not judged.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let &[first, 192..=223, high, low, _, _, _, _, ..] = bytes else {
            return None;
        };
        let length = 4 * (usize::from(u16::from_be_bytes([high, low])) + 1);
        (first >> 6 == VERSION && length <= bytes.len()).then_some(Rtcp { bytes })
    }

    /// 200 sender report, 201 receiver report, 202 source description, 203 bye, 204 application, 205 and 206 feedback.
    pub fn packet_type(&self) -> u8 {
        self.bytes[1]
    }

    /// Who sends it.
    pub fn ssrc(&self) -> u32 {
        be32(self.bytes, 4)
    }

    /// The packets of the datagram, as type and body behind the 4-byte header; ends at the first that does not fit.
    pub fn packets(&self) -> impl Iterator<Item = (u8, &'a [u8])> + use<'a> {
        let mut rest = self.bytes;
        std::iter::from_fn(move || {
            let &[first, packet_type, high, low, ..] = rest else {
                return None;
            };
            let length = 4 * (usize::from(u16::from_be_bytes([high, low])) + 1);
            if first >> 6 != VERSION || length > rest.len() {
                return None;
            }
            let (packet, tail) = rest.split_at(length);
            rest = tail;
            Some((packet_type, &packet[4..]))
        })
    }
}

/// Turns the SSRC of an RTP packet into another one: its complement. Nothing happens to shorter packets.
pub fn complement_ssrc(packet: &mut [u8]) {
    if let Some(ssrc) = packet.get_mut(8..RTP_HEADER) {
        ssrc.iter_mut().for_each(|byte| *byte = !*byte);
    }
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

const VERSION: u8 = 2;
const RTP_HEADER: usize = 12;
const RTCP_HEADER: usize = 8;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PCMA: [u8; 14] = [
        0x80, 0x88, 0x12, 0x34, 0, 0, 1, 0x40, 0xde, 0xad, 0xbe, 0xef, 0x55, 0xd5,
    ];

    #[test]
    fn rtp_header_fields_are_read() {
        let rtp = Rtp::parse(&PCMA).unwrap();
        assert_eq!(
            (rtp.payload_type(), rtp.marker(), rtp.sequence()),
            (8, true, 0x1234)
        );
        assert_eq!(
            (rtp.timestamp(), rtp.ssrc(), rtp.payload()),
            (320, 0xdead_beef, &[0x55, 0xd5][..])
        );
    }

    #[test]
    fn csrc_extension_and_padding_are_not_payload() {
        let mut packet = vec![0x80 | 0x20 | 0x10 | 2, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9];
        packet.extend([0; 8]); // two CSRCs
        packet.extend([0xbe, 0xde, 0, 1, 1, 2, 3, 4]); // one word of extension
        packet.extend([7, 7, 7, 0, 2]); // three bytes of payload, two of padding
        assert_eq!(Rtp::parse(&packet).unwrap().payload(), [7, 7, 7]);
    }

    #[test]
    fn header_that_claims_more_than_there_is_is_refused() {
        assert_eq!(Rtp::parse(&PCMA[..11]), None);
        assert_eq!(Rtp::parse(&[0x8f; 14]), None, "15 CSRCs do not fit");
        let mut extension = PCMA;
        extension[0] |= 0x10;
        assert_eq!(Rtp::parse(&extension), None, "an extension does not fit");
        let mut version = PCMA;
        version[0] = 0x40;
        assert_eq!(Rtp::parse(&version), None);
        assert_eq!(
            Rtcp::parse(&[0x80, 200, 0, 6, 0, 0, 0, 1]),
            None,
            "28 bytes are claimed"
        );
    }

    #[test]
    fn compound_rtcp_is_walked_until_it_ends() {
        let compound = [0x81, 201, 0, 1, 0, 0, 0, 5, 0x80, 203, 0, 0, 0x80, 202, 0, 9];
        let rtcp = Rtcp::parse(&compound).unwrap();
        assert_eq!((rtcp.packet_type(), rtcp.ssrc()), (201, 5));
        assert_eq!(
            rtcp.packets()
                .map(|(kind, body)| (kind, body.len()))
                .collect::<Vec<_>>(),
            [(201, 4), (203, 0)]
        );
    }

    #[test]
    fn protocols_on_one_port_are_told_apart() {
        assert_eq!(PacketKind::of(&PCMA), PacketKind::Rtp);
        assert_eq!(PacketKind::of(&[0x80, 200, 0, 0, 0, 0, 0, 0]), PacketKind::Rtcp);
        let mut stun = [0u8; 20];
        stun[1] = 1;
        stun[4..8].copy_from_slice(&[0x21, 0x12, 0xa4, 0x42]);
        assert_eq!(PacketKind::of(&stun), PacketKind::Stun);
        assert_eq!(PacketKind::of(b"\x10\x00\x00\x00ZRTP...."), PacketKind::Zrtp);
        assert_eq!(
            PacketKind::of(&[22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            PacketKind::Dtls
        );
        assert_eq!(PacketKind::of(b""), PacketKind::Unknown);
        assert_eq!(PacketKind::of(b"\r\n\r\n"), PacketKind::Unknown);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = PacketKind::of(&bytes);
            if let Some(rtp) = Rtp::parse(&bytes) {
                prop_assert!(rtp.payload().len() <= bytes.len() - RTP_HEADER);
                let _ = (rtp.payload_type(), rtp.marker(), rtp.sequence(), rtp.timestamp(), rtp.ssrc());
            }
            if let Some(rtcp) = Rtcp::parse(&bytes) {
                let _ = (rtcp.packet_type(), rtcp.ssrc());
                prop_assert!(rtcp.packets().count() >= 1);
            }
        }
    }
}
