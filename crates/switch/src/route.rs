//! The Route header fields of a request and what is ours in them (RFC 3261 16.4 and 16.6).

use sip::headers::NameAddr;
use sip::{Edits, HeaderId, Message};
use smallvec::SmallVec;

use crate::directory::Directory;
use crate::token::Token;

/// Route values that one request may have; more are refused by the message limits anyway.
const MAX_OWN_ROUTES: usize = 4;

/// What the Route header fields of a request say.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Route<'a> {
    /// How many values at the top are ours and are taken off.
    pub(crate) own: usize,
    /// Our token, if one came and is genuine.
    pub(crate) token: Option<Token>,
    /// The previous hop is a strict router (RFC 2543): it put our URI into the Request-URI, and the real target into the last
    /// Route value, which is this one (RFC 3261 16.4).
    pub(crate) strict_target: Option<&'a str>,
    /// The first value that is not ours: the next hop.
    pub(crate) next: Option<NameAddr<'a>>,
}

impl<'a> Route<'a> {
    /// Reads the Route header fields of a request.
    pub(crate) fn of(m: Message<'a>, directory: &Directory, secret: &[u8; 16]) -> Route<'a> {
        let mut route = Route::default();
        // Only a strict router puts it there.
        let has_parameter = m.parsed_request_uri().is_ok_and(|uri| !uri.params.is_empty());
        if has_parameter && let Some(token) = token_in(m.request_uri(), secret) {
            route.strict_target = m.routes().filter_map(Result::ok).last().map(|last| last.uri);
            route.token = Some(token);
        }
        if m.header(HeaderId::Route).is_none() {
            return route;
        }
        for value in m.routes().take(MAX_OWN_ROUTES) {
            let Ok(value) = value else { break };
            let token = token_in(value.uri, secret);
            let names_us = |uri: sip::Uri<'_>| {
                uri.user.is_none() && (directory.is_local(uri.host) || directory.is_own_address(uri.host))
            };
            let own = token.is_some() || value.parsed_uri().is_ok_and(names_us);
            if !own {
                route.next = Some(value);
                break;
            }
            route.own += 1;
            route.token = route.token.or(token);
        }
        // The strict router's last value is the target and no hop.
        if let (Some(target), Some(next)) = (route.strict_target, route.next)
            && std::ptr::eq(target, next.uri)
        {
            route.next = None;
        }
        route
    }

    /// The next hop is a strict router (RFC 3261 16.6 step 6).
    fn next_is_strict(&self) -> bool {
        self.next
            .is_some_and(|next| next.parsed_uri().is_ok_and(|uri| !uri.params.contains("lr")))
    }

    /// Takes our values off the Route header fields, and does what strict routers before and behind us need.
    pub(crate) fn take_off(&self, edits: &mut Edits, m: Message<'_>) {
        if self.strict_target.is_none() && !self.next_is_strict() {
            for _ in 0..self.own {
                edits.pop_value(m, HeaderId::Route);
            }
            return;
        }
        let mut rest: SmallVec<[&str; 4]> = m.values(HeaderId::Route).skip(self.own).collect();
        if self.strict_target.is_some() {
            // It has become the Request-URI.
            rest.pop();
        }
        let target = self.strict_target.unwrap_or(m.request_uri());
        let mut list = String::new();
        let strict_next = self.next.filter(|_| self.next_is_strict());
        if let Some(next) = strict_next {
            edits.set_request_uri(m, next.uri);
            rest.remove(0);
        }
        for value in rest {
            list.push_str(if list.is_empty() { "" } else { ", " });
            list.push_str(value);
        }
        if strict_next.is_some() {
            list.push_str(if list.is_empty() { "<" } else { ", <" });
            list.push_str(target);
            list.push('>');
        }
        edits.remove_all(m, HeaderId::Route);
        if !list.is_empty() {
            edits.push_top(m, HeaderId::Route, |text| text.extend_from_slice(list.as_bytes()));
        }
    }
}

/// Our token in a URI's parameters. It looks for the parameter's name first: most URIs have none, and need no parsing.
pub(crate) fn token_in(uri: &str, secret: &[u8; 16]) -> Option<Token> {
    let start = memchr::memmem::find(uri.as_bytes(), MARKER.as_bytes())? + MARKER.len();
    let text = &uri[start..];
    let end = text.find([';', '?', '>']).unwrap_or(text.len());
    Token::read(secret, &text[..end])
}

/// What stands before a token: a semicolon, [`PARAMETER`](crate::token::PARAMETER), and an equals sign.
const MARKER: &str = ";tz=";
