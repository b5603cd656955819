//! ChannelData messages (RFC 8656 section 12.4), and how they and STUN messages follow one another on a stream (RFC 8489
//! section 6.2.2, RFC 8656 section 12.5).
//!
//! A stream's reader calls [`next_frame`] on what has arrived until it says that more is needed. Limits: a frame has at most
//! [`MAX_FRAME`] bytes. There is no way back into step once a stream has lost it: it is closed.

/// Bytes of the longest frame: a STUN message with as much as its length can tell.
pub const MAX_FRAME: usize = 20 + 65_532;

/// Bytes of a ChannelData message's header.
pub const CHANNEL_HEADER: usize = 4;

/// The numbers that a channel may have. RFC 8656 section 12 leaves 0x4000 to 0x4fff of those that RFC 5766 had, lest they be
/// taken for other protocols on one port; clients of the older RFC choose from all, and here nothing else begins so.
pub const CHANNELS: std::ops::RangeInclusive<u16> = 0x4000..=0x7fff;

/// What comes next on a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame<'a> {
    /// A STUN message or a ChannelData message, without padding.
    pub bytes: &'a [u8],
    /// Bytes of the stream that it takes up.
    pub used: usize,
}

/// Why a stream cannot be read any further.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// Neither begins like this.
    #[error("expected a STUN or ChannelData message, found a first byte of {first:#04x}")]
    First {
        /// The first byte.
        first: u8,
    },
    /// STUN messages have a length in words of four.
    #[error("expected the length of a STUN message as a multiple of 4, found {found}")]
    Length {
        /// The length in the header.
        found: u16,
    },
}

/// The first frame of what has arrived; `None` if it has not arrived as a whole.
pub fn next_frame(stream: &[u8]) -> Result<Option<Frame<'_>>, FrameError> {
    let Some(&first) = stream.first() else {
        return Ok(None);
    };
    if !is_stun(first) && !is_channel_data(first) {
        return Err(FrameError::First { first });
    }
    let &[_, _, high, low, ..] = stream else {
        return Ok(None);
    };
    let found = u16::from_be_bytes([high, low]);
    let length = if is_stun(first) {
        if !found.is_multiple_of(4) {
            return Err(FrameError::Length { found });
        }
        20 + usize::from(found)
    } else {
        CHANNEL_HEADER + usize::from(found)
    };
    let used = length.next_multiple_of(4);
    Ok((stream.len() >= used).then(|| Frame {
        bytes: &stream[..length],
        used,
    }))
}

/// A ChannelData message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChannelData<'a> {
    /// One of [`CHANNELS`].
    pub number: u16,
    /// The application's data.
    pub data: &'a [u8],
}

impl<'a> ChannelData<'a> {
    /// Reads a datagram or a frame. What follows the data is padding and not looked at (RFC 8656 section 12.5).
    #[must_use]
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (&[a, b, high, low], rest) = bytes.split_first_chunk::<CHANNEL_HEADER>()?;
        let number = u16::from_be_bytes([a, b]);
        let data = rest.get(..usize::from(u16::from_be_bytes([high, low])))?;
        CHANNELS.contains(&number).then_some(Self { number, data })
    }

    /// The header before data of this many bytes; `None` if that is more than a datagram holds.
    #[must_use]
    pub fn header(number: u16, length: usize) -> Option<[u8; CHANNEL_HEADER]> {
        let [a, b] = number.to_be_bytes();
        let [high, low] = u16::try_from(length).ok()?.to_be_bytes();
        Some([a, b, high, low])
    }
}

/// Whether bytes that begin so may be a STUN message.
#[must_use]
pub fn is_stun(first: u8) -> bool {
    first < 0x40
}

/// Whether bytes that begin so may be a ChannelData message.
#[must_use]
pub fn is_channel_data(first: u8) -> bool {
    (0x40..0x80).contains(&first)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::attribute::AttributeType;
    use crate::message::{Class, Method, TransactionId, Writer};

    fn stun(length: usize) -> Vec<u8> {
        let mut buffer = vec![0; 200];
        let mut writer = Writer::new(
            &mut buffer,
            Class::Request,
            Method::BINDING,
            TransactionId::new([1; 12]),
        );
        writer.zeros(AttributeType::PADDING, length);
        let length = writer.finish().unwrap();
        buffer.truncate(length);
        buffer
    }

    fn channel_data(number: u16, data: &[u8]) -> Vec<u8> {
        let mut bytes = ChannelData::header(number, data.len()).unwrap().to_vec();
        bytes.extend(data);
        bytes
    }

    #[test]
    fn channel_data_is_read_with_and_without_padding() {
        let mut bytes = channel_data(0x4001, b"abcde");
        let expected = Some(ChannelData {
            number: 0x4001,
            data: b"abcde",
        });
        assert_eq!(ChannelData::parse(&bytes), expected);
        bytes.extend([0; 3]);
        assert_eq!(ChannelData::parse(&bytes), expected);
        assert_eq!(ChannelData::parse(&bytes[..8]), None, "a byte is missing");
        assert_eq!(ChannelData::parse(&[0x3f, 0xff, 0, 0]), None);
        assert_eq!(ChannelData::parse(&[0x80, 0x00, 0, 0]), None);
        assert_eq!(ChannelData::header(0x4001, 70_000), None);
    }

    #[test]
    fn a_stream_that_is_out_of_step_is_told() {
        for first in [0x80, 0xbf, 0xff] {
            assert_eq!(next_frame(&[first]), Err(FrameError::First { first }));
        }
        assert_eq!(next_frame(&[0, 1, 0, 3]), Err(FrameError::Length { found: 3 }));
    }

    proptest! {
        #[test]
        fn frames_are_found_however_the_stream_is_cut(
            lengths in proptest::collection::vec((any::<bool>(), 0..30usize), 1..8),
            cut in any::<prop::sample::Index>(),
        ) {
            let (mut stream, mut expected) = (Vec::new(), Vec::new());
            for (is_stun, length) in lengths {
                let frame = if is_stun { stun(length) } else { channel_data(0x4000, &vec![7; length]) };
                stream.extend(&frame);
                stream.resize(stream.len().next_multiple_of(4), 0);
                expected.push(frame);
            }
            let cut = cut.index(stream.len());
            let (mut found, mut begin) = (Vec::new(), 0);
            for end in [cut, stream.len()] {
                while let Some(frame) = next_frame(&stream[begin..end]).unwrap() {
                    found.push(frame.bytes.to_vec());
                    begin += frame.used;
                }
            }
            prop_assert_eq!(begin, stream.len());
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn arbitrary_streams_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(Some(frame)) = next_frame(&bytes) {
                prop_assert!(frame.used <= bytes.len() && frame.bytes.len() <= frame.used);
            }
            let _ = ChannelData::parse(&bytes);
        }
    }
}
