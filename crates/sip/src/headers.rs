//! Typed views of header field values (RFC 3261, 20 and 25). Each is parsed when asked for and borrows the message.

pub mod auth;
pub mod date;
pub mod name_addr;
pub mod params;
pub mod session;
pub mod via;

pub use auth::{AuthParams, Challenge, Credentials};
pub use name_addr::{Contacts, NameAddr};
pub use params::Params;
pub use session::{CSeq, RAck, ReasonValue, SessionExpires};
pub use via::Via;

/// The elements of a comma-separated list (RFC 3261, 7.3.1): trimmed, in order, empty ones left out. Commas inside
/// quoted strings and `<>` do not separate.
#[derive(Clone, Copy, Debug)]
pub struct CommaList<'a> {
    rest: &'a str,
}

impl<'a> CommaList<'a> {
    /// The elements of `value`.
    pub fn new(value: &'a str) -> Self {
        CommaList { rest: value }
    }
}

impl<'a> Iterator for CommaList<'a> {
    type Item = &'a str;

    #[inline]
    fn next(&mut self) -> Option<&'a str> {
        while !self.rest.is_empty() {
            let (element, rest) = match crate::text::find_comma(self.rest.as_bytes()) {
                Some(comma) => (&self.rest[..comma], &self.rest[comma + 1..]),
                None => (self.rest, ""),
            };
            self.rest = rest;
            let element = crate::text::trim(element);
            if !element.is_empty() {
                return Some(element);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_in_quotes_and_angles_do_not_separate() {
        let list: Vec<_> = CommaList::new(r#" "a,b" <sip:c,d@e> ,, <sip:f>;x="1,2", g "#).collect();
        assert_eq!(list, [r#""a,b" <sip:c,d@e>"#, r#"<sip:f>;x="1,2""#, "g"]);
    }
}
