//! `name-addr` and `addr-spec` with parameters: From, To, Contact, Route, Record-Route, Path, Refer-To, … (RFC 3261,
//! 20.10 and 25.1).

use super::{CommaList, Params};
use crate::text::{self, trim, trim_end, trim_start};
use crate::uri::{Uri, UriError};

/// An address with an optional display name and parameters.
#[derive(Clone, Copy, Debug)]
pub struct NameAddr<'a> {
    /// The display name as it stands, a quoted string with its quotes.
    pub display: Option<&'a str>,
    /// The URI without its angle brackets, not yet parsed.
    pub uri: &'a str,
    /// The header field's parameters, not the URI's.
    pub params: Params<'a>,
    raw: &'a str,
}

impl<'a> NameAddr<'a> {
    /// Parses one value, without the commas around it. The error tells what was expected.
    ///
    /// Without angle brackets all parameters belong to the header field, and a URI with a comma, a question mark or a
    /// semicolon of its own is refused (RFC 3261, 20.10). A display name of several words needs no quotes here even if
    /// they are no tokens: RFC 4475, 3.1.2.15 lets an element guess the intent.
    #[inline]
    pub fn parse(raw: &'a str) -> Result<NameAddr<'a>, &'static str> {
        let address = NameAddr::split(raw)?;
        if !is_plain(address.uri) {
            return Err("an address without white space");
        }
        Ok(address)
    }

    /// As [`NameAddr::parse`], but what stands where the URI should is not looked at: the caller parses it.
    #[inline]
    pub(crate) fn split(raw: &'a str) -> Result<NameAddr<'a>, &'static str> {
        let value = trim(raw);
        let bytes = value.as_bytes();
        let mut open = 0;
        if bytes.first() == Some(&b'"') {
            open = text::quoted_end(bytes, 0).ok_or("a closing quote after the display name")?;
        }
        let after = &value[open..];
        let angle = match after.as_bytes().first() {
            Some(b'<') => Some(0),
            _ => text::find(after.as_bytes(), [b'<']),
        };
        let Some(angle) = angle else {
            return if open == 0 {
                NameAddr::parse_addr_spec(value)
            } else {
                Err("'<' after the display name")
            };
        };
        if open == 0 && text::find(&after.as_bytes()[..angle], [b'"']).is_some() {
            // A quote further on: either a parameter's value after a bare address, or a broken display name.
            return match text::find(after.as_bytes(), [b';', b'"']) {
                Some(i) if bytes.get(i) == Some(&b';') => NameAddr::parse_addr_spec(value),
                _ => Err("a display name with balanced quotes"),
            };
        }
        if open != 0 && !trim(&after[..angle]).is_empty() {
            return Err("'<' after the quoted display name");
        }
        let display = match open + angle {
            0 => "",
            end => trim(&value[..end]),
        };
        let rest = &after[angle + 1..];
        let close = text::find(rest.as_bytes(), [b'>']).ok_or("'>' after the address")?;
        let uri = &rest[..close];
        let params = trim_start(&rest[close + 1..]);
        if !params.is_empty() && !text::has_closed_quotes(params.as_bytes()) {
            return Err("a closing quote in the parameters");
        }
        if !(params.is_empty() || params.starts_with(';')) {
            return Err("';' or nothing after the address");
        }
        Ok(NameAddr {
            display: (!display.is_empty()).then_some(display),
            uri,
            params: Params::new(params),
            raw: value,
        })
    }

    fn parse_addr_spec(value: &'a str) -> Result<NameAddr<'a>, &'static str> {
        let end = text::find(value.as_bytes(), [b';']).unwrap_or(value.len());
        let uri = trim_end(&value[..end]);
        if uri.bytes().any(|b| matches!(b, b'?' | b',')) {
            return Err("angle brackets around an address with a question mark or a comma");
        }
        if !text::has_closed_quotes(value.as_bytes()) {
            return Err("a closing quote in the parameters");
        }
        Ok(NameAddr {
            display: None,
            uri,
            params: Params::new(&value[end..]),
            raw: value,
        })
    }

    /// The value as it stands.
    pub fn as_str(&self) -> &'a str {
        self.raw
    }

    /// The URI, parsed.
    pub fn parsed_uri(&self) -> Result<Uri<'a>, UriError> {
        Uri::parse(self.uri)
    }

    /// The display name without quotes and with its escapes resolved.
    pub fn display_name(&self) -> Option<String> {
        let display = self.display?;
        let Some(inner) = display.strip_prefix('"').and_then(|d| d.strip_suffix('"')) else {
            return Some(display.to_owned());
        };
        let mut name = String::with_capacity(inner.len());
        let mut characters = inner.chars();
        while let Some(c) = characters.next() {
            name.push(if c == '\\' {
                characters.next().unwrap_or('\\')
            } else {
                c
            });
        }
        Some(name)
    }

    /// The `tag` parameter.
    #[inline]
    pub fn tag(&self) -> Option<&'a str> {
        self.params.get("tag").flatten()
    }

    /// The `q` parameter in thousandths, 1000 if absent or not readable (RFC 3261, 10.2.1.2).
    pub fn q(&self) -> u16 {
        self.param("q").and_then(q_value).unwrap_or(1000)
    }

    /// The `expires` parameter in seconds; `None` if absent or not readable.
    pub fn expires(&self) -> Option<u32> {
        self.param("expires").and_then(text::saturating_number)
    }

    /// A parameter's value without quotes.
    pub fn param(&self, name: &str) -> Option<&'a str> {
        self.params.value(name)
    }
}

/// The value of Contact: in a REGISTER it may be `*` (RFC 3261, 10.2.2).
#[derive(Clone, Debug)]
pub enum Contacts<'a> {
    /// All bindings are meant.
    Star,
    /// The contacts of all lines, in order; possibly none.
    List(ContactList<'a>),
}

/// The contacts of a message.
#[derive(Clone, Debug)]
pub struct ContactList<'a> {
    pub(crate) values: crate::message::Values<'a>,
}

impl<'a> Iterator for ContactList<'a> {
    type Item = Result<NameAddr<'a>, crate::message::HeaderError>;

    fn next(&mut self) -> Option<Self::Item> {
        let id = self.values.id();
        self.values.next().map(|v| {
            NameAddr::parse(v).map_err(|expected| crate::message::HeaderError::malformed(id, expected, v))
        })
    }
}

/// Addresses in the elements of a list header field's value, such as that of a Route outside a message.
pub fn parse_list(value: &str) -> impl Iterator<Item = Result<NameAddr<'_>, &'static str>> {
    CommaList::new(value).map(NameAddr::parse)
}

fn is_plain(uri: &str) -> bool {
    !uri.is_empty() && !text::has_no_uri_char(uri.as_bytes())
}

/// `( "0" [ "." 0*3DIGIT ] ) / ( "1" [ "." 0*3("0") ] )` in thousandths.
fn q_value(text: &str) -> Option<u16> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let whole = match whole {
        "" | "0" => 0,
        "1" => 1000,
        _ => return None,
    };
    if fraction.len() > 3 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let thousandths = fraction
        .bytes()
        .chain([b'0'; 3])
        .take(3)
        .fold(0, |n, b| n * 10 + u16::from(b - b'0'));
    Some(whole + thousandths).filter(|q| *q <= 1000)
}
