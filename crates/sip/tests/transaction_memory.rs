//! What transactions and authentication cost in memory. A test program of its own, since it counts what the whole process
//! allocates.
#![allow(unsafe_code, reason = "a global allocator cannot be written without")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sip::digest::{Algorithm, DigestCredentials, Ha1, NonceCheck, NonceMint, NonceUse, ReplayGuard};
use sip::headers::Credentials;
use sip::transaction::{Received, TransactionConfig, Transactions};
use sip::{Flow, MessageBuf, Method, Outbox, Transport};

struct Counting;

static BYTES: AtomicIsize = AtomicIsize::new(0);
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all calls go to the system's allocator unchanged; counting touches nothing but atomics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size() as isize, Ordering::Relaxed);
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const TRANSACTIONS: usize = 10_000;

/// One test, because two at once would count each other's bytes.
#[test]
fn memory() {
    transactions_cost_their_message_and_less_than_a_kilobyte_and_give_it_back();
    checking_credentials_allocates_nothing();
}

#[expect(clippy::disallowed_methods, reason = "any instant will do as the beginning")]
fn transactions_cost_their_message_and_less_than_a_kilobyte_and_give_it_back() {
    let mut now = Instant::now();
    let config = TransactionConfig::default();
    let mut transactions = Transactions::new(config, [1; 16]);
    let [local, remote] =
        ["192.0.2.1:5060", "198.51.100.7:5060"].map(|address| address.parse().expect("an address"));
    let flow = Flow {
        transport: Transport::Udp,
        local,
        remote,
        connection: None,
    };
    let mut out = Outbox::new();
    let before = BYTES.load(Ordering::Relaxed);

    let mut messages = 0;
    for n in 0..TRANSACTIONS / 2 {
        let request = MessageBuf::parse(invite(&format!("z9hG4bK{n}"))).expect("a request");
        let received = transactions.receive(now, request.message(), &flow, &mut out);
        let Received::NewRequest(new) = received else {
            panic!("{received:?}")
        };
        transactions
            .accept(now, new, request.message(), &flow, 0)
            .expect("room");
        let write = |branch: &str, out: &mut Vec<u8>| out.extend_from_slice(&invite(branch));
        transactions
            .send(now, &flow, Method::Invite, 0, 0, write, &mut out)
            .expect("room");
        messages += request.bytes().len() + out.get(out.len() - 1).1.len();
        out.clear();
    }
    out = Outbox::new();
    assert_eq!(
        (transactions.len(), transactions.kept_bytes()),
        (TRANSACTIONS, messages)
    );
    let used = BYTES.load(Ordering::Relaxed) - before;
    let each = (used as usize - messages) / TRANSACTIONS;
    assert!(each < 1024, "{each} bytes per transaction besides its message");

    while let Some(next) = transactions.poll_timeout() {
        now = next;
        transactions.handle_timeout(now, &mut out);
        out.clear();
        while transactions.poll_event().is_some() {}
    }
    drop(out);
    assert!(transactions.is_empty());
    let left = (BYTES.load(Ordering::Relaxed) - before) as usize;
    // Slots, timers, map entries and the queue of events keep their places for the next burst.
    assert!(left / TRANSACTIONS < 200, "{left} bytes are left");
}

fn checking_credentials_allocates_nothing() {
    let unix = 1_800_000_000;
    let lifetime = Duration::from_secs(3600);
    let mut mint = NonceMint::new([1; 16], lifetime, 0);
    let mut guard = ReplayGuard::new(1024, lifetime);
    for algorithm in Algorithm::STRONGEST_FIRST {
        let ha1 = Ha1::new(algorithm, "alice", "example.org", "secret");
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        let nonce = mint.mint(unix);
        let NonceCheck::Valid { id, .. } = mint.check(unix, nonce.as_str()) else {
            panic!("not valid")
        };
        assert_eq!(guard.check(unix, id, 1, 7), NonceUse::Fresh);
        let credentials = Credentials::parse(AUTHORIZATION).expect("credentials");
        let digest = DigestCredentials::new(&credentials)
            .expect("digest")
            .expect("complete");
        assert!(!digest.verify(&ha1, "REGISTER", b""));
        assert_eq!(ALLOCATIONS.load(Ordering::Relaxed), before);
    }
}

const AUTHORIZATION: &str = "Digest username=\"alice\", realm=\"example.org\", nonce=\"n\", uri=\"sip:example.org\", \
    response=\"00000000000000000000000000000000\", cnonce=\"c\", nc=00000001, qop=auth, algorithm=MD5";

fn invite(branch: &str) -> Vec<u8> {
    let body = "v=0\r\n".repeat(160);
    format!(
        "INVITE sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.7;branch={branch}\r\nMax-Forwards: 69\r\n\
         From: <sip:alice@example.org>;tag=a\r\nTo: <sip:bob@example.com>\r\nCall-ID: c1\r\nCSeq: 1 INVITE\r\n\
         Contact: <sip:alice@198.51.100.7>\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
