//! Semicolon-separated parameters, of header field values (`generic-param`) and of URIs (RFC 3261, 25.1).

use crate::text::{self, find_unquoted, trim, trim_end, trim_start, unquote};

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
            let param = self.next_pair()?;
            if param != ("", None) {
                return Some(param);
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
    pub(crate) fn next_pair(&mut self) -> Option<(&'a str, Option<&'a str>)> {
        if self.rest.is_empty() {
            return None;
        }
        let rest = self.rest.strip_prefix(';').unwrap_or(self.rest);
        let bytes = rest.as_bytes();
        // Mostly there are neither quotes nor white space around the name.
        let name_end = text::token_end(bytes, 0);
        let value_end = match bytes.get(name_end) {
            None | Some(b';') => Some(name_end),
            Some(b'=') => {
                let stop = text::find(&bytes[name_end + 1..], [b';', b'"']);
                let end = stop.map_or(bytes.len(), |stop| name_end + 1 + stop);
                (bytes.get(end) != Some(&b'"')).then_some(end)
            }
            _ => None,
        };
        let Some(end) = value_end else {
            let end = find_unquoted(bytes, b';').unwrap_or(rest.len());
            self.rest = &rest[end..];
            return Some(split_param(trim(&rest[..end])));
        };
        self.rest = &rest[end..];
        let value = (end > name_end).then(|| trim(&rest[name_end + 1..end]));
        Some((&rest[..name_end], value))
    }
}

fn split_param(param: &str) -> (&str, Option<&str>) {
    match text::find(param.as_bytes(), [b'=']) {
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
