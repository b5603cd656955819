//! The `received` and `rport` parameters of the top Via (RFC 3261, 18.2.1; RFC 3581, 4).

use crate::header_id::HeaderId;
use crate::headers::Params;
use crate::headers::via::SourceParams;
use crate::message::Message;
use crate::text::{has_closed_quotes, offset_in, push_decimal, push_v4};
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

/// One change of the top Via.
pub(crate) struct SourceChange {
    /// In the bytes that the message's index was made of.
    pub(crate) range: Range<usize>,
    before: &'static str,
    value: Value,
}

enum Value {
    Address(IpAddr),
    Port(u16),
}

impl SourceChange {
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.before.as_bytes());
        match self.value {
            Value::Address(IpAddr::V4(address)) => push_v4(out, address),
            Value::Address(IpAddr::V6(address)) => write!(out, "{address}").expect("a Vec takes all"),
            Value::Port(port) => push_decimal(out, port.into()),
        }
    }
}

/// What makes the top Via tell where the message came from, in order of place. Two insertions at the same place are to be
/// made in the order given. Nothing if there is no Via, or an open quote would swallow what is inserted.
pub(crate) fn source_changes(m: Message<'_>, source: SocketAddr) -> [Option<SourceChange>; 2] {
    let (via, found) = match m.checked_via() {
        Some(via) => (via.as_str(), via.source_params),
        None => {
            let via = m.values(HeaderId::Via).next().unwrap_or_default();
            if via.is_empty() || !has_closed_quotes(via.as_bytes()) {
                return [None, None];
            }
            // Not parsed as a Via: all that matters here are its parameters.
            let params = Params::new(memchr::memchr(b';', via.as_bytes()).map_or("", |start| &via[start..]));
            (via, SourceParams::of(params))
        }
    };
    let offset = |part: &str| offset_in(m.source(), part.as_bytes());
    let end = offset(via) + via.len();
    let address = Value::Address(source.ip().to_canonical());
    let mut received = SourceChange {
        range: end..end,
        before: ";received=",
        value: address,
    };
    let mut rport = SourceChange {
        range: end..end,
        before: ";rport=",
        value: Value::Port(source.port()),
    };
    for (param, change) in [(found.received, &mut received), (found.rport, &mut rport)] {
        let Some((name, value)) = param else { continue };
        (change.range, change.before) = match value {
            None => (offset(name) + name.len()..offset(name) + name.len(), "="),
            Some(old) => (offset(old)..offset(old) + old.len(), ""),
        };
    }
    // A parameter that is new comes after one that only lacks its value, though both may be inserted at the end.
    let place = |change: &SourceChange| (change.range.start, change.before.starts_with(';'));
    let mut changes = if place(&received) <= place(&rport) {
        [received, rport]
    } else {
        [rport, received]
    };
    // A semicolon with nothing behind it is forgiven at the end of a Via, but not in its middle.
    if via.trim_end().ends_with(';')
        && let Some(first) = changes.iter_mut().find(|change| change.before.starts_with(';'))
    {
        first.before = first.before.trim_start_matches(';');
    }
    changes.map(Some)
}
