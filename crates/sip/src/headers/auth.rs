//! Credentials and challenges (RFC 3261, 20.7, 20.27, 20.28, 20.44; RFC 7616).

use crate::text::{
    self, find_unquoted, is_lws, is_token, quoted_end, skip_lws, token_end, trim, trim_end, trim_start,
    unquote,
};

/// Comma-separated `name=value` parameters. Names compare without regard to case.
#[derive(Clone, Copy, Debug)]
pub struct AuthParams<'a> {
    raw: &'a str,
}

impl<'a> AuthParams<'a> {
    /// The first parameter of that name, without its quotes; escapes stay as they are: RFC 7616, 3.4 hashes them so.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| unquote(value))
    }

    /// Names and values in order; values as they stand.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let (list, mut at) = (self.raw, 0);
        std::iter::from_fn(move || next_param(list, &mut at))
    }

    /// The text as it stands.
    pub fn as_str(&self) -> &'a str {
        self.raw
    }
}

/// The next `name=value` from `at` on, which moves behind it; what is none is passed over.
fn next_param<'a>(list: &'a str, at: &mut usize) -> Option<(&'a str, &'a str)> {
    let bytes = list.as_bytes();
    loop {
        let start = skip_lws(bytes, *at);
        // Mostly the name is followed by its `=` at once.
        let token = token_end(bytes, start);
        let name_end = match bytes.get(token)? {
            b'=' => token,
            _ => token + text::find(&bytes[token..], [b'=', b',', b'"'])?,
        };
        let is_param = bytes.get(name_end) == Some(&b'=');
        let value_start = skip_lws(bytes, name_end + usize::from(is_param));
        // Where the value is one quoted string, the comma comes next.
        let quoted = match bytes.get(value_start) {
            Some(b'"') => quoted_end(bytes, value_start),
            _ => None,
        };
        let end = match quoted {
            Some(end) if matches!(bytes.get(end), None | Some(b',')) => end,
            _ => find_unquoted(&bytes[value_start..], b',').map_or(bytes.len(), |comma| value_start + comma),
        };
        *at = end + 1;
        if is_param {
            return Some((
                trim_end(&list[start..name_end]),
                trim_end(&list[value_start..end]),
            ));
        }
    }
}

/// What Authorization or Proxy-Authorization holds: one set per header line.
#[derive(Clone, Copy, Debug)]
pub struct Credentials<'a> {
    /// Such as `Digest`.
    pub scheme: &'a str,
    /// Its parameters.
    pub params: AuthParams<'a>,
}

/// What WWW-Authenticate or Proxy-Authenticate holds: one challenge per header line.
pub type Challenge<'a> = Credentials<'a>;

impl<'a> Credentials<'a> {
    /// Parses a header line's value. The error tells what was expected.
    pub fn parse(value: &'a str) -> Result<Credentials<'a>, &'static str> {
        let value = trim(value);
        let end = value
            .bytes()
            .position(is_lws)
            .ok_or("an authentication scheme and parameters")?;
        let scheme = &value[..end];
        if !is_token(scheme) {
            return Err("an authentication scheme");
        }
        Ok(Credentials {
            scheme,
            params: AuthParams {
                raw: trim_start(&value[end..]),
            },
        })
    }

    /// True for the scheme `Digest`.
    pub fn is_digest(&self) -> bool {
        self.scheme.eq_ignore_ascii_case("Digest")
    }

    /// A parameter without its quotes.
    pub fn param(&self, name: &str) -> Option<&'a str> {
        self.params.get(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_parameter_is_passed_over() {
        let read = |raw| AuthParams { raw }.iter().collect::<Vec<_>>();
        assert_eq!(
            read(", a=1,,b ,\"c=d, e\", f = \"x,\" y ,g=\"open, h=1"),
            [("a", "1"), ("f", "\"x,\" y"), ("g", "\"open, h=1")]
        );
        assert_eq!(read(""), []);
        assert_eq!(read("a="), [("a", "")]);
    }

    #[test]
    fn parameters_are_found_across_folds_and_commas_in_quotes() {
        let value = "Digest username=\"bo,b\", realm = \"a \\\"b\\\"\",\r\n  nc=00000001 , QOP=auth";
        let credentials = Credentials::parse(value).unwrap();
        assert!(credentials.is_digest());
        assert_eq!(credentials.param("username"), Some("bo,b"));
        assert_eq!(credentials.param("realm"), Some("a \\\"b\\\""));
        assert_eq!(credentials.param("nc"), Some("00000001"));
        assert_eq!(credentials.param("qop"), Some("auth"));
        assert_eq!(credentials.param("opaque"), None);
    }
}
