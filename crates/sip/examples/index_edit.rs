//! What one INVITE costs: indexed, checked and edited for forwarding as a proxy does it, on one core. Prints nanoseconds
//! per message. Run with `cargo run --release -p sip --example index_edit`.
#![allow(clippy::disallowed_methods, reason = "it measures time")]

use sip::{Edits, HeaderId, Index, Message};
use std::hint::black_box;
use std::sync::LazyLock;
use std::time::Instant;

const INVITE: &[u8] = include_bytes!("../tests/messages/invite.sip");
const ROUNDS: u32 = 200_000;

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

fn measure(what: &str, mut work: impl FnMut() -> bool) {
    for _ in 0..ROUNDS / 10 {
        assert!(work());
    }
    let start = cpu_time();
    for _ in 0..ROUNDS {
        black_box(work());
    }
    println!(
        "{:>6.0} ns  {what}",
        (cpu_time() - start) * 1e9 / f64::from(ROUNDS)
    );
}

/// Seconds that this thread has run: what others do on the machine does not count. Where Linux does not tell, wall time.
fn cpu_time() -> f64 {
    let scheduled = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    match scheduled
        .split(' ')
        .next()
        .and_then(|nanoseconds| nanoseconds.parse::<f64>().ok())
    {
        Some(nanoseconds) => nanoseconds / 1e9,
        None => START.elapsed().as_secs_f64(),
    }
}

static START: LazyLock<Instant> = LazyLock::new(Instant::now);
