//! Nothing is allocated per message in steady state. A test program of its own, since it counts what the whole process
//! allocates.
#![allow(unsafe_code, reason = "a global allocator cannot be written without")]

use sip::{Edits, Flow, HeaderId, Index, Message, Outbox, Part, Response, Transport};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: all calls go to the system's allocator unchanged; counting touches nothing but an atomic.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const INVITE: &[u8] = include_bytes!("messages/invite.sip");

/// What a proxy does with a request, into the outbox: a 100 back and the request onwards.
fn forward(index: &mut Index, edits: &mut Edits, outbox: &mut Outbox, flow: &Flow) {
    outbox.clear();
    edits.clear();
    index.parse(INVITE).unwrap();
    let m = Message::new(INVITE, index);
    m.validate_request().unwrap();
    outbox.push_with(flow, |out| Response::new(m, 100).source(flow.remote).write(out));
    edits.set_request_uri(m, format_args!("sip:bob@{}", flow.remote));
    edits.fix_top_via(m, flow.remote);
    edits.push_top(m, HeaderId::Via, |out| {
        out.extend_from_slice(b"SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1")
    });
    edits.push_top(m, HeaderId::RecordRoute, |out| {
        out.extend_from_slice(b"<sip:192.0.2.1;lr>")
    });
    edits.pop_value(m, HeaderId::Route);
    edits.decrement_max_forwards(m, 70);
    let sdp = Part::find(m, "application/sdp").unwrap();
    edits.set_part(m, &sdp, b"v=0\r\n");
    edits.append(m, "X-Trace", "1");
    outbox.push_with(flow, |out| edits.write(m, out));
}

#[test]
fn a_forwarded_request_allocates_nothing_in_steady_state() {
    let flow = Flow {
        transport: Transport::Udp,
        local: "192.0.2.1:5060".parse().unwrap(),
        remote: "203.0.113.7:1024".parse().unwrap(),
        connection: None,
    };
    let (mut index, mut edits, mut outbox) = (Index::new(), Edits::new(), Outbox::new());
    forward(&mut index, &mut edits, &mut outbox, &flow);
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    for _ in 0..1000 {
        forward(&mut index, &mut edits, &mut outbox, &flow);
    }
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
    // The test harness's own thread may allocate a little meanwhile; once per message would be a thousand.
    assert!(allocations < 100, "{allocations} allocations for 1000 messages");
    assert_eq!(outbox.len(), 2);
}
