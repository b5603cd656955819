//! The characters of RFC 3261, 25.1, and small scanners over them, used by every typed view.
//!
//! A folded header field value keeps its line breaks, so CR and LF count as white space here; the framing of
//! lines has already been decided when a value reaches these functions.

use std::net::{Ipv4Addr, SocketAddr};

/// The offset of the first of `needles`, eight bytes at a time. Header field values are short: the call of a vectorised search
/// would cost more than it saves.
#[inline]
pub(crate) fn find<const N: usize>(bytes: &[u8], needles: [u8; N]) -> Option<usize> {
    let (words, tail) = bytes.as_chunks::<8>();
    for (i, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let mut hits = 0;
        for needle in needles {
            hits |= bytes_below(word ^ (EACH_BYTE * u64::from(needle)), 1);
        }
        if hits != 0 {
            return Some(8 * i + hits.trailing_zeros() as usize / 8);
        }
    }
    let found = tail.iter().position(|byte| needles.contains(byte))?;
    Some(8 * words.len() + found)
}

/// The offset of the first byte below `limit`, which is at most 128. Sixteen bytes at a time: the compiler makes vector
/// instructions of the comparison of a block.
#[inline]
pub(crate) fn find_below(bytes: &[u8], limit: u8) -> Option<usize> {
    let (blocks, tail) = bytes.as_chunks::<16>();
    for (i, block) in blocks.iter().enumerate() {
        if block.iter().fold(false, |any, byte| any | (*byte < limit)) {
            let block = u128::from_le_bytes(*block);
            let (low, high) = (block as u64, (block >> 64) as u64);
            let found = match bytes_below(low, limit) {
                0 => 64 + bytes_below(high, limit).trailing_zeros(),
                hits => hits.trailing_zeros(),
            };
            return Some(16 * i + found as usize / 8);
        }
    }
    let found = tail.iter().position(|byte| *byte < limit)?;
    Some(16 * blocks.len() + found)
}

/// The highest bit of each byte that is below `limit`. Above the lowest such byte others may be marked by mistake.
#[inline]
fn bytes_below(word: u64, limit: u8) -> u64 {
    word.wrapping_sub(EACH_BYTE * u64::from(limit)) & !word & (EACH_BYTE << 7)
}

/// True if a byte is a control character, a space, or one of those that never stand in a URI: `"`, `<`, DEL.
#[inline]
pub(crate) fn has_no_uri_char(bytes: &[u8]) -> bool {
    let (words, tail) = bytes.as_chunks::<8>();
    words.iter().any(|word| {
        let word = u64::from_le_bytes(*word);
        let is = |byte: u8| bytes_below(word ^ (EACH_BYTE * u64::from(byte)), 1);
        (bytes_below(word, b' ' + 1) | is(b'"') | is(b'<') | is(0x7f)) != 0
    }) || tail.iter().any(|b| *b <= b' ' || matches!(b, b'"' | b'<' | 0x7f))
}

/// True for linear white space, folds included.
#[inline]
pub(crate) fn is_lws(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// Without linear white space at both ends.
#[inline]
pub(crate) fn trim(text: &str) -> &str {
    trim_end(trim_start(text))
}

#[inline]
pub(crate) fn trim_start(text: &str) -> &str {
    // Mostly there is nothing to trim, and a look at one byte tells.
    if text.as_bytes().first().is_some_and(|byte| !is_lws(*byte)) {
        return text;
    }
    text.trim_start_matches([' ', '\t', '\r', '\n'])
}

#[inline]
pub(crate) fn trim_end(text: &str) -> &str {
    if text.as_bytes().last().is_some_and(|byte| !is_lws(*byte)) {
        return text;
    }
    text.trim_end_matches([' ', '\t', '\r', '\n'])
}

/// Where the run of `token` characters from `start` on ends.
#[inline]
pub(crate) fn token_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start;
    while bytes.get(at).is_some_and(|byte| is_token_char(*byte)) {
        at += 1;
    }
    at
}

/// Where the white space from `start` on ends.
#[inline]
pub(crate) fn skip_lws(bytes: &[u8], start: usize) -> usize {
    let mut at = start;
    while bytes.get(at).is_some_and(|byte| is_lws(*byte)) {
        at += 1;
    }
    at
}

/// A character of `token`.
#[inline]
pub(crate) fn is_token_char(byte: u8) -> bool {
    CLASS[byte as usize] & TOKEN != 0
}

/// True for a `token` of at least one character.
#[inline]
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token_char)
}

/// Where the run of characters of `class` from `start` on ends, and the classes of all of them together.
#[inline]
pub(crate) fn run(bytes: &[u8], start: usize, class: u8) -> (usize, u8) {
    let (mut at, mut seen) = (start, 0);
    while let Some(byte) = bytes.get(at) {
        let of = CLASS[*byte as usize];
        if of & class == 0 {
            break;
        }
        seen |= of;
        at += 1;
    }
    (at, seen)
}

/// All classes that a character is of.
#[inline]
pub(crate) fn class(byte: u8) -> u8 {
    CLASS[byte as usize]
}

/// The end of the quoted string that opens at `start` (its closing quote's offset plus 1), or `None` if it is not closed.
#[inline]
pub(crate) fn quoted_end(bytes: &[u8], start: usize) -> Option<usize> {
    let mut i = start + 1;
    loop {
        let found = find(bytes.get(i..)?, [b'"', b'\\'])?;
        i += found;
        if bytes.get(i) == Some(&b'"') {
            return Some(i + 1);
        }
        i += 2;
    }
}

/// The offset of the first `stop` outside quoted strings. An unclosed quote runs to the end.
#[inline]
pub(crate) fn find_unquoted(bytes: &[u8], stop: u8) -> Option<usize> {
    let mut i = 0;
    loop {
        i += find(bytes.get(i..)?, [stop, b'"'])?;
        if bytes.get(i) == Some(&stop) {
            return Some(i);
        }
        i = quoted_end(bytes, i)?;
    }
}

/// The offset of the first comma outside quoted strings and `<>`. An unclosed quote or angle runs to the end.
#[inline]
pub(crate) fn find_comma(bytes: &[u8]) -> Option<usize> {
    let mut i = 0;
    loop {
        i += find(bytes.get(i..)?, [b',', b'"', b'<'])?;
        match bytes.get(i) {
            Some(b'"') => i = quoted_end(bytes, i)?,
            Some(b'<') => i += find(bytes.get(i..)?, [b'>'])? + 1,
            _ => return Some(i),
        }
    }
}

/// Appends an address and its port as SIP writes them (`sent-by`, `hostport`): an IPv6 address in brackets. The formatter of the
/// standard library takes ten times as long.
pub fn push_host_port(out: &mut Vec<u8>, address: SocketAddr) {
    use std::io::Write;
    match address {
        SocketAddr::V4(v4) => push_v4(out, *v4.ip()),
        SocketAddr::V6(v6) => write!(out, "[{}]", v6.ip()).expect("a Vec takes all"),
    }
    out.push(b':');
    push_decimal(out, address.port().into());
}

/// Appends an IPv4 address.
pub(crate) fn push_v4(out: &mut Vec<u8>, address: Ipv4Addr) {
    let mut text = [0; 15];
    let mut end = 0;
    let mut put = |byte| {
        text[end] = byte;
        end += 1;
    };
    for (i, octet) in address.octets().into_iter().enumerate() {
        if i > 0 {
            put(b'.');
        }
        if octet >= 100 {
            put(b'0' + octet / 100);
        }
        if octet >= 10 {
            put(b'0' + octet / 10 % 10);
        }
        put(b'0' + octet % 10);
    }
    out.extend_from_slice(&text[..end]);
}

/// Appends a number in decimal. The formatter of the standard library takes several times as long.
#[inline]
pub(crate) fn push_decimal(out: &mut Vec<u8>, mut number: u32) {
    let mut digits = [0; 10];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

/// True if every quoted string is closed. Otherwise what is appended to the text would become a part of the last one.
#[inline]
pub(crate) fn has_closed_quotes(bytes: &[u8]) -> bool {
    // Mostly there is nothing that could be a quote.
    if find_below(bytes, b'"' + 1).is_none() {
        return true;
    }
    let mut i = 0;
    while let Some(found) = find(bytes.get(i..).unwrap_or_default(), [b'"']) {
        match quoted_end(bytes, i + found) {
            Some(end) => i = end,
            None => return false,
        }
    }
    true
}

/// An unsigned number of digits only.
#[inline]
pub(crate) fn number(text: &str) -> Option<u32> {
    if text.is_empty() {
        return None;
    }
    let mut value: u32 = 0;
    for byte in text.bytes() {
        if !byte.is_ascii_digit() {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(u32::from(byte - b'0'))?;
    }
    Some(value)
}

/// A number of digits only, where more than `u32` holds counts as the largest (delta-seconds, RFC 3261, 20.19).
#[inline]
pub(crate) fn saturating_number(text: &str) -> Option<u32> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(number(text).unwrap_or(u32::MAX))
}

/// The content of a quoted string without its quotes, or the text itself. Escapes stay as they are.
#[inline]
pub(crate) fn unquote(text: &str) -> &str {
    text.strip_prefix('"')
        .and_then(|t| t.strip_suffix('"'))
        .unwrap_or(text)
}

/// Where `inner`, a part of `outer`, starts in it.
#[inline]
pub(crate) fn offset_in(outer: &[u8], inner: &[u8]) -> usize {
    let offset = (inner.as_ptr() as usize).wrapping_sub(outer.as_ptr() as usize);
    debug_assert!(offset + inner.len() <= outer.len(), "inner is a part of outer");
    offset.min(outer.len())
}

/// The value of a hexadecimal digit.
#[inline]
pub(crate) fn hex(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

const EACH_BYTE: u64 = u64::MAX / 255;

const TOKEN: u8 = 1;
/// A character that may stand in a user part: `user-unreserved`, the start of an escape, `;` and `:` aside. Beyond the
/// grammar, `#`, `[`, `]`, `^`, `|` and raw UTF-8 are let through: telephones send them and nothing else reads them.
pub(crate) const USER: u8 = 2;
/// A character of URI parameters (`paramchar` and the separators `;` and `=`).
pub(crate) const PARAM: u8 = 4;
/// A character of URI headers (`hname`, `hvalue` and the separators `&` and `=`).
pub(crate) const HEADER: u8 = 8;
/// A character of a host name.
pub(crate) const HOST: u8 = 16;
/// `%` and `:`, which mean something inside a URI's parts.
pub(crate) const SPECIAL: u8 = 32;
/// The dot, which stands between the labels of a host name.
pub(crate) const DOT: u8 = 64;

static CLASS: [u8; 256] = {
    let mut class = [0u8; 256];
    const fn add(class: &mut [u8; 256], bytes: &[u8], bit: u8) {
        let mut i = 0;
        while i < bytes.len() {
            class[bytes[i] as usize] |= bit;
            i += 1;
        }
    }
    let mut byte = 0;
    while byte < 128u8 {
        if byte.is_ascii_alphanumeric() {
            class[byte as usize] = TOKEN | USER | PARAM | HEADER | HOST;
        }
        byte += 1;
    }
    add(&mut class, b"-.!%*_+`'~", TOKEN);
    add(&mut class, b"-_.!~*'()%&=+$,;?/:#[]^|", USER);
    add(&mut class, b"-_.!~*'()%[]/:&+$;=", PARAM);
    add(&mut class, b"-_.!~*'()%[]/?:+$&=", HEADER);
    add(&mut class, b"-._", HOST);
    add(&mut class, b"%:", SPECIAL);
    add(&mut class, b".", DOT);
    let mut byte = 128;
    while byte < 256 {
        class[byte] |= USER;
        byte += 1;
    }
    class
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stops_inside_quotes_and_angles_do_not_count() {
        assert_eq!(find_comma(br#""a,\",b" <sip:x,y>,z"#), Some(18));
        assert_eq!(find_comma(br#""unclosed, "#), None);
        assert_eq!(find_comma(b"<unclosed, "), None);
        assert_eq!(find_unquoted(b"a=\"x;\\\";\";b", b';'), Some(9));
    }

    #[test]
    fn the_first_of_several_bytes_is_found_wherever_it_stands() {
        let text: Vec<u8> = (0..40)
            .map(|i| if i % 3 == 0 { 0x80 } else { b'a' + (i % 7) })
            .collect();
        for at in 0..text.len() {
            for (first, second) in [(b';', b'"'), (b'"', b';'), (b';', b':')] {
                let mut text = text.clone();
                text[at] = first;
                if let Some(later) = text.get_mut(at + 3) {
                    *later = second;
                }
                assert_eq!(find(&text, [b';', b'"', b':']), Some(at));
                assert_eq!(find(&text, [b'?']), None);
            }
        }
        assert_eq!(find(b"", [b'x']), None);
    }

    #[test]
    fn the_first_byte_below_a_limit_is_found_wherever_it_stands() {
        for low in [0, b'\t', b'\r'] {
            for at in 0..40 {
                let mut text: Vec<u8> = (0..40).map(|i| [0xff, 0x80, b'\r' + 1, b' '][i % 4]).collect();
                assert_eq!(find_below(&text, b'\r' + 1), None);
                text[at] = low;
                text[39] = low;
                assert_eq!(find_below(&text, b'\r' + 1), Some(at), "{low} at {at}");
            }
        }
    }

    #[test]
    fn what_never_stands_in_a_uri_is_found_wherever_it_stands() {
        for byte in 0..=255u8 {
            let is_bad = byte <= b' ' || matches!(byte, b'"' | b'<' | 0x7f);
            for at in 0..20 {
                let mut text = [b'!'; 20];
                text[at] = byte;
                assert_eq!(has_no_uri_char(&text), is_bad, "{byte} at {at}");
            }
        }
    }

    #[test]
    fn numbers_are_written_in_decimal() {
        for number in [0, 9, 10, 65_535, u32::MAX] {
            let mut out = Vec::new();
            push_decimal(&mut out, number);
            assert_eq!(out, number.to_string().into_bytes());
        }
    }

    #[test]
    fn addresses_are_written_with_dots() {
        for address in ["0.0.0.0", "255.255.255.255", "10.200.9.99", "192.0.2.10"] {
            let mut out = Vec::new();
            push_v4(&mut out, address.parse().unwrap());
            assert_eq!(out, address.as_bytes());
        }
        for address in ["192.0.2.10:5060", "[2001:db8::1]:65535"] {
            let mut out = Vec::new();
            push_host_port(&mut out, address.parse().unwrap());
            assert_eq!(out, address.as_bytes());
        }
    }

    #[test]
    fn numbers_are_digits_only() {
        assert_eq!(number("0068"), Some(68));
        assert_eq!(number("4294967295"), Some(u32::MAX));
        for bad in ["", "-1", "+1", "4294967296", "1 2"] {
            assert_eq!(number(bad), None, "{bad}");
        }
        assert_eq!(saturating_number("100000000000000"), Some(u32::MAX));
    }
}
