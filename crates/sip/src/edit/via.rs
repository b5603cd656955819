//! The `received` and `rport` parameters of the top Via (RFC 3261, 18.2.1; RFC 3581, 4).

use crate::message::Message;
use crate::text::offset_in;
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
            Value::Address(address) => write!(out, "{address}"),
            Value::Port(port) => write!(out, "{port}"),
        }
        .expect("a Vec takes all");
    }
}

/// What makes the top Via tell where the message came from, in order of place; nothing if the Via cannot be read. Two
/// insertions at the same place are to be made in the order given.
pub(crate) fn source_changes(m: Message<'_>, source: SocketAddr) -> [Option<SourceChange>; 2] {
    let Ok(via) = m.top_via() else { return [None, None] };
    let end = offset_in(m.source(), via.as_str().as_bytes()) + via.as_str().len();
    let address = Value::Address(source.ip().to_canonical());
    let port = Value::Port(source.port());
    let received = change(m, &via.params, "received", end, [";received=", "=", ""], address);
    let rport = change(m, &via.params, "rport", end, [";rport=", "=", ""], port);
    // A parameter that is new comes after one that only lacks its value, though both may be inserted at the end.
    let place = |change: &SourceChange| (change.range.start, change.before.starts_with(';'));
    if place(&received) <= place(&rport) {
        [Some(received), Some(rport)]
    } else {
        [Some(rport), Some(received)]
    }
}

/// `before`: what to write before the value if the parameter is absent, has no value, or has one.
fn change(
    m: Message<'_>,
    params: &crate::headers::Params<'_>,
    name: &str,
    end: usize,
    before: [&'static str; 3],
    value: Value,
) -> SourceChange {
    let found = params.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
    let (range, before) = match found {
        None => (end..end, before[0]),
        Some((name, None)) => {
            let after = offset_in(m.source(), name.as_bytes()) + name.len();
            (after..after, before[1])
        }
        Some((_, Some(old))) => {
            let start = offset_in(m.source(), old.as_bytes());
            (start..start + old.len(), before[2])
        }
    };
    SourceChange { range, before, value }
}
