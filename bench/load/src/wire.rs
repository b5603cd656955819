//! The little of SIP that a load generator reads and writes: one pass over the headers of a message that the measured
//! server sent, and helpers that put a message together from pieces.
//!
//! Independent of the product's own `sip` crate on purpose: a mistake there must not be repeated here. It reads what the two
//! servers send (long header names, no folding) and nothing more; anything else shows up as a failed unit.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::LazyLock,
    time::{SystemTime, UNIX_EPOCH},
};

use memchr::{memchr, memmem};

/// A few borrowed values of one header, in the order of the message.
#[derive(Clone, Copy, Default)]
pub(crate) struct Values<'a> {
    items: [&'a [u8]; MAX_VALUES],
    len: usize,
}

/// What the generator needs from one message. Slices borrow from the datagram.
#[derive(Default)]
pub(crate) struct Message<'a> {
    /// The status code of a response, 0 for a request.
    pub(crate) status: u16,
    /// The method: of the request line, or of CSeq in a response.
    pub(crate) method: &'a [u8],
    pub(crate) cseq: u32,
    pub(crate) call_id: &'a [u8],
    pub(crate) from: &'a [u8],
    pub(crate) to: &'a [u8],
    pub(crate) contact: &'a [u8],
    pub(crate) vias: Values<'a>,
    pub(crate) record_routes: Values<'a>,
    /// WWW-Authenticate and Proxy-Authenticate.
    pub(crate) challenges: Values<'a>,
    pub(crate) authentication_info: &'a [u8],
    pub(crate) body: &'a [u8],
}

impl<'a> Values<'a> {
    fn push(&mut self, value: &'a [u8]) {
        if let Some(item) = self.items.get_mut(self.len) {
            *item = value;
            self.len += 1;
        }
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &'a [u8]> {
        self.items.into_iter().take(self.len)
    }
}

impl<'a> Message<'a> {
    /// Reads a datagram; `None` for what is no SIP message, keepalives included.
    pub(crate) fn read(datagram: &'a [u8]) -> Option<Message<'a>> {
        let mut message = Message::default();
        let (first, mut rest) = line(datagram)?;
        match first.strip_prefix(b"SIP/2.0 ") {
            Some(status) => message.status = decimal(status.get(..3)?)? as u16,
            None => message.method = word(first).filter(|_| first.ends_with(b" SIP/2.0"))?,
        }
        loop {
            let (header, next) = line(rest)?;
            rest = next;
            if header.is_empty() {
                message.body = rest;
                return (!message.call_id.is_empty()).then_some(message);
            }
            let colon = memchr(b':', header)?;
            let (name, value) = (&header[..colon], header[colon + 1..].trim_ascii());
            match name {
                b"Via" => message.vias.push(value),
                b"From" => message.from = value,
                b"To" => message.to = value,
                b"Call-ID" => message.call_id = value,
                b"Contact" => message.contact = value,
                b"Record-Route" => message.record_routes.push(value),
                b"WWW-Authenticate" | b"Proxy-Authenticate" => message.challenges.push(value),
                b"Authentication-Info" => message.authentication_info = value,
                b"CSeq" => {
                    let number = word(value)?;
                    message.cseq = decimal(number)?;
                    message.method = value[number.len()..].trim_ascii();
                }
                _ => {}
            }
        }
    }

    /// The slot and serial number that [`call_id`] wrote into the Call-ID.
    pub(crate) fn key(&self) -> Option<(usize, u32)> {
        let slot = from_hex(self.call_id.get(..8)?)?;
        let serial = from_hex(self.call_id.get(9..17)?)?;
        Some((slot as usize, serial))
    }
}

/// Appends the pieces to `out`.
pub(crate) fn put(out: &mut Vec<u8>, pieces: &[&[u8]]) {
    for piece in pieces {
        out.extend_from_slice(piece);
    }
}

/// `n` in decimal.
pub(crate) fn put_decimal(out: &mut Vec<u8>, mut n: u32) {
    let mut digits = [0u8; 10];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// `n` as eight hexadecimal digits.
pub(crate) fn put_hex(out: &mut Vec<u8>, n: u32) {
    for shift in (0..8).rev() {
        out.push(HEX[(n >> (shift * 4)) as usize & 15]);
    }
}

/// A Call-ID that names its slot and the slot's serial number, so that every message finds its unit without a table. It
/// ends in [`RUN`], so that the server does not take one run for the next.
pub(crate) fn call_id(out: &mut Vec<u8>, slot: usize, serial: u32) {
    put_hex(out, slot as u32);
    out.push(b'.');
    put_hex(out, serial);
    put(out, &[b"@", &*RUN]);
}

/// A branch or tag that differs for each request of each run.
pub(crate) fn branch(slot: usize, serial: u32, cseq: u32) -> Vec<u8> {
    let mut branch = Vec::with_capacity(40);
    for number in [slot as u32, serial, cseq] {
        put_hex(&mut branch, number);
    }
    put(&mut branch, &[b".", &*RUN]);
    branch
}

/// The URI in a name-addr or addr-spec.
pub(crate) fn uri(value: &[u8]) -> &[u8] {
    match (memchr(b'<', value), memchr(b'>', value)) {
        (Some(open), Some(close)) if open < close => &value[open + 1..close],
        _ => memchr(b';', value).map_or(value, |semicolon| &value[..semicolon]),
    }
}

/// Splits a header value at the commas outside of angle brackets and quotes.
pub(crate) fn split_commas(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut depth, mut quoted) = (0u32, false);
    value
        .split(move |byte| {
            match byte {
                b'"' => quoted = !quoted,
                b'<' if !quoted => depth += 1,
                b'>' if !quoted => depth = depth.saturating_sub(1),
                b',' => return depth == 0 && !quoted,
                _ => {}
            }
            false
        })
        .map(<[u8]>::trim_ascii)
}

/// The address and port that an SDP body names for its first audio stream.
pub(crate) fn media_address(sdp: &[u8]) -> Option<SocketAddr> {
    let port = word(&sdp[memmem::find(sdp, b"m=audio ")? + 8..])?;
    let (address, _) = line(&sdp[memmem::find(sdp, b"c=IN IP4 ")? + 9..])?;
    let address: Ipv4Addr = std::str::from_utf8(address).ok()?.parse().ok()?;
    Some((address, u16::try_from(decimal(port)?).ok()?).into())
}

fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr(b'\n', bytes)?;
    let text = &bytes[..end];
    Some((text.strip_suffix(b"\r").unwrap_or(text), &bytes[end + 1..]))
}

fn word(bytes: &[u8]) -> Option<&[u8]> {
    Some(&bytes[..memchr(b' ', bytes)?])
}

fn decimal(bytes: &[u8]) -> Option<u32> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

fn from_hex(bytes: &[u8]) -> Option<u32> {
    u32::from_str_radix(std::str::from_utf8(bytes).ok()?, 16).ok()
}

/// Names this run: the nanoseconds since the epoch when it began.
static RUN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{:x}", since.as_nanos()).into_bytes()
});
const MAX_VALUES: usize = 8;
const HEX: &[u8; 16] = b"0123456789abcdef";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_response() {
        let text = b"SIP/2.0 401 Unauthorized\r\nVia: SIP/2.0/UDP a;branch=1\r\nVia: SIP/2.0/UDP b\r\n\
            Call-ID: 0000002a.00000007@load.example\r\nCSeq: 12 REGISTER\r\nWWW-Authenticate: Digest realm=\"x\"\r\n\r\nbody";
        let message = Message::read(text).unwrap();
        assert_eq!(
            (message.status, message.cseq, message.method),
            (401, 12, &b"REGISTER"[..])
        );
        assert_eq!(message.vias.iter().count(), 2);
        assert_eq!(message.key(), Some((42, 7)));
        assert_eq!(message.body, b"body");
    }

    #[test]
    fn what_is_no_message_is_passed_over() {
        assert!(Message::read(b"\r\n\r\n").is_none());
        assert!(Message::read(b"hello\r\nCall-ID: 1\r\n\r\n").is_none());
    }

    #[test]
    fn call_id_names_slot_and_serial() {
        let mut text = Vec::new();
        call_id(&mut text, 0xabc, 5);
        let message = Message {
            call_id: &text,
            ..Message::default()
        };
        assert_eq!(message.key(), Some((0xabc, 5)));
    }

    #[test]
    fn commas_inside_brackets_do_not_split() {
        let parts: Vec<_> = split_commas(b"<sip:a;x=1,2>, \"b,c\" <sip:d>").collect();
        assert_eq!(parts, [&b"<sip:a;x=1,2>"[..], b"\"b,c\" <sip:d>"]);
    }

    #[test]
    fn reads_the_media_address() {
        let sdp = b"v=0\r\nc=IN IP4 127.0.0.9\r\nm=audio 4000 RTP/AVP 0\r\n";
        assert_eq!(media_address(sdp), Some("127.0.0.9:4000".parse().unwrap()));
    }

    #[test]
    fn numbers_are_written_in_full() {
        let mut text = Vec::new();
        put_decimal(&mut text, 0);
        put_decimal(&mut text, 4_294_967_295);
        put_hex(&mut text, 0x1f);
        assert_eq!(text, b"042949672950000001f");
    }
}
