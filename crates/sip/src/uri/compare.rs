//! When two URIs mean the same (RFC 3261, 19.1.4; RFC 3966, 4).

use super::{Scheme, Uri};
use crate::text;

/// Parameters that must be in both URIs or in none. The RFC's list; all others compare only where both have them.
const DECISIVE: [&str; 5] = ["user", "ttl", "method", "maddr", "transport"];

pub(super) fn equivalent(a: &Uri<'_>, b: &Uri<'_>) -> bool {
    match (a.scheme, b.scheme) {
        (Scheme::Sip, Scheme::Sip) | (Scheme::Sips, Scheme::Sips) => {
            same_option(a.user, b.user)
                && same_option(a.password, b.password)
                && a.host == b.host
                && a.port == b.port
                && params_agree(a, b)
                && params_agree(b, a)
                && headers_contained(a, b)
                && headers_contained(b, a)
        }
        (Scheme::Tel, Scheme::Tel) => {
            same_number(a.user.unwrap_or(""), b.user.unwrap_or(""))
                && tel_params_contained(a, b)
                && tel_params_contained(b, a)
        }
        (Scheme::Other(x), Scheme::Other(y)) => {
            x.eq_ignore_ascii_case(y) && a.text[x.len()..] == b.text[y.len()..]
        }
        _ => false,
    }
}

pub(super) fn is_visual_separator(c: char) -> bool {
    matches!(c, '-' | '.' | '(' | ')')
}

fn same_option(a: Option<&str>, b: Option<&str>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => characters(a).eq(characters(b)),
        _ => false,
    }
}

/// Of a parameter that is repeated, against 19.1.1, the first counts.
fn params_agree(a: &Uri<'_>, b: &Uri<'_>) -> bool {
    a.params
        .iter()
        .all(|(name, _)| match (a.params.get(name), b.params.get(name)) {
            (Some(value), Some(other)) => same_ignoring_case(value.unwrap_or(""), other.unwrap_or("")),
            _ => !DECISIVE.iter().any(|d| d.eq_ignore_ascii_case(name)),
        })
}

/// True if each header field of `a` stands in `b`, as often.
fn headers_contained(a: &Uri<'_>, b: &Uri<'_>) -> bool {
    let count = |uri: &Uri<'_>, name: &str, value: &str| {
        uri.header_fields()
            .filter(|(n, v)| same_ignoring_case(n, name) && characters(v).eq(characters(value)))
            .count()
    };
    a.header_fields()
        .all(|(name, value)| count(a, name, value) == count(b, name, value))
}

fn tel_params_contained(a: &Uri<'_>, b: &Uri<'_>) -> bool {
    a.params.iter().all(|(name, _)| {
        let (Some(value), Some(other)) = (a.params.get(name), b.params.get(name)) else {
            return false;
        };
        let is_number = name.eq_ignore_ascii_case("ext") || name.eq_ignore_ascii_case("phone-context");
        let same = if is_number {
            same_number
        } else {
            same_ignoring_case
        };
        same(value.unwrap_or(""), other.unwrap_or(""))
    })
}

fn same_number(a: &str, b: &str) -> bool {
    let digits = |s: &'_ str| {
        let kept: smallvec::SmallVec<[char; 32]> = s
            .chars()
            .filter(|c| !is_visual_separator(*c))
            .map(|c| c.to_ascii_lowercase())
            .collect();
        kept
    };
    digits(a) == digits(b)
}

fn same_ignoring_case(a: &str, b: &str) -> bool {
    let lower = |c: u16| {
        if c < 0x80 {
            u16::from((c as u8).to_ascii_lowercase())
        } else {
            c
        }
    };
    characters(a).map(lower).eq(characters(b).map(lower))
}

/// The characters of `part` with escapes resolved. The escape of a reserved character is not that character, so it
/// yields a value above all bytes.
fn characters(part: &str) -> impl Iterator<Item = u16> + '_ {
    let bytes = part.as_bytes();
    let mut i = 0;
    std::iter::from_fn(move || {
        let byte = *bytes.get(i)?;
        i += 1;
        if byte == b'%'
            && let (Some(high), Some(low)) = (
                bytes.get(i).and_then(|b| text::hex(*b)),
                bytes.get(i + 1).and_then(|b| text::hex(*b)),
            )
        {
            i += 2;
            let value = u16::from(high << 4 | low);
            let is_reserved = b";/?:@&=+$,".contains(&(value as u8));
            return Some(if is_reserved { value | 0x100 } else { value });
        }
        Some(u16::from(byte))
    })
}
