//! Semicolon-separated parameters, of header field values (`generic-param`) and of URIs (RFC 3261, 25.1).

use crate::text::{find_unquoted, trim, trim_end, trim_start, unquote};

/// Parameters, parsed as they are asked for. Names compare without regard to case.
#[derive(Clone, Copy, Debug, Default)]
pub struct Params<'a> {
    raw: &'a str,
}

impl<'a> Params<'a> {
    /// The parameters in `raw`, which may start with the semicolon before the first of them.
    pub fn new(raw: &'a str) -> Self {
        Params { raw: trim_end(raw) }
    }

    /// The text as it stands in the message, starting with a semicolon unless empty.
    pub fn as_str(&self) -> &'a str {
        self.raw
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// The first parameter of that name: `None` if absent, `Some(None)` without a value. A quoted value keeps its quotes.
    #[inline]
    pub fn get(&self, name: &str) -> Option<Option<&'a str>> {
        self.iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// The value of the first parameter of that name, without the quotes; `None` if absent or without a value.
    #[inline]
    pub fn value(&self, name: &str) -> Option<&'a str> {
        self.get(name).flatten().map(unquote)
    }

    /// True if there is a parameter of that name, with or without a value.
    pub fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Names and values in order.
    #[inline]
    pub fn iter(&self) -> ParamsIter<'a> {
        ParamsIter { rest: self.raw }
    }
}

/// The iterator of [`Params::iter`].
#[derive(Clone, Debug)]
pub struct ParamsIter<'a> {
    rest: &'a str,
}

impl<'a> Iterator for ParamsIter<'a> {
    type Item = (&'a str, Option<&'a str>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let param = self.next_raw()?;
            if !param.is_empty() {
                return Some(split_param(param));
            }
        }
    }
}

impl<'a> ParamsIter<'a> {
    #[inline]
    pub(crate) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// What stands between two semicolons, trimmed, even if that is nothing. What stands before the first is a parameter
    /// too, unless it is empty.
    #[inline]
    pub(crate) fn next_raw(&mut self) -> Option<&'a str> {
        if self.rest.is_empty() {
            return None;
        }
        let rest = self.rest.strip_prefix(';').unwrap_or(self.rest);
        let end = find_unquoted(rest.as_bytes(), b';').unwrap_or(rest.len());
        self.rest = &rest[end..];
        Some(trim(&rest[..end]))
    }
}

#[inline]
pub(crate) fn split_param(param: &str) -> (&str, Option<&str>) {
    match memchr::memchr(b'=', param.as_bytes()) {
        Some(equals) => (trim_end(&param[..equals]), Some(trim_start(&param[equals + 1..]))),
        None => (param, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_compare_without_case_and_values_may_be_absent() {
        let params = Params::new(";lr ; Tag = 98asjd8\r\n ;x=\"a;b=\\\"c\" ; y=");
        assert_eq!(params.get("LR"), Some(None));
        assert_eq!(params.get("tag"), Some(Some("98asjd8")));
        assert_eq!(params.get("x"), Some(Some("\"a;b=\\\"c\"")));
        assert_eq!(params.value("x"), Some("a;b=\\\"c"));
        assert_eq!(params.get("y"), Some(Some("")));
        assert_eq!(params.get("z"), None);
        assert_eq!(params.iter().count(), 4);
    }
}
