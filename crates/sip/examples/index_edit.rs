//! What one INVITE costs: indexed, checked and edited for forwarding as a proxy does it, on one core. Prints nanoseconds
//! per message. Run with `cargo run --release -p sip --example index_edit`.
#![allow(clippy::disallowed_methods, reason = "it measures time")]

use sip::{Edits, HeaderId, Index, Message};
use std::hint::black_box;
use std::time::Instant;

const INVITE: &[u8] = include_bytes!("../tests/messages/invite.sip");
const BATCHES: u32 = 5_000;
const ROUNDS: u32 = 20;

fn main() {
    let (mut index, mut edits, mut out) = (Index::new(), Edits::new(), Vec::new());
    let source = "203.0.113.7:1024".parse().expect("an address");
    println!("an INVITE of {} bytes", INVITE.len());

    measure("index", || index.parse(black_box(INVITE)).is_ok());
    measure("index, validate", || {
        index.parse(black_box(INVITE)).is_ok() && Message::new(INVITE, &index).validate_request().is_ok()
    });
    measure("index, edit, write", || {
        let parsed = index.parse(black_box(INVITE)).is_ok();
        let m = Message::new(INVITE, &index);
        forward(m, source, &mut edits, &mut out);
        parsed
    });
    measure("index, validate, edit, write", || {
        let parsed = index.parse(black_box(INVITE)).is_ok();
        let m = Message::new(INVITE, &index);
        let valid = m.validate_request().is_ok();
        forward(m, source, &mut edits, &mut out);
        parsed && valid
    });
    println!("{} bytes written", out.len());
}

fn forward(m: Message<'_>, source: std::net::SocketAddr, edits: &mut Edits, out: &mut Vec<u8>) {
    edits.clear();
    out.clear();
    edits.set_request_uri(m, "sip:bob@198.51.100.4:5060;ob");
    edits.fix_top_via(m, source);
    edits.push_top(m, HeaderId::Via, |out| {
        out.extend_from_slice(b"SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK0123456789abcdef")
    });
    edits.push_top(m, HeaderId::RecordRoute, |out| {
        out.extend_from_slice(b"<sip:192.0.2.1;lr>")
    });
    edits.pop_value(m, HeaderId::Route);
    edits.decrement_max_forwards(m, 70);
    edits.remove_all(m, HeaderId::ProxyAuthorization);
    edits.write(m, out);
    black_box(&out);
}

/// The fastest of many batches: what the machine does besides only ever adds.
fn measure(what: &str, mut work: impl FnMut() -> bool) {
    let mut fastest = f64::INFINITY;
    for _ in 0..BATCHES {
        let start = Instant::now();
        for _ in 0..ROUNDS {
            assert!(black_box(work()));
        }
        fastest = fastest.min(start.elapsed().as_secs_f64());
    }
    println!("{:>6.0} ns  {what}", fastest * 1e9 / f64::from(ROUNDS));
}
