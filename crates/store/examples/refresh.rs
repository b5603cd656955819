//! What it costs to write bindings: CPU and time per refresh of one of 100,000 bindings, by size of the commit.
//!
//!     cargo run --release -p store --example refresh [DIRECTORY]

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use std::{env, fs};

use store::{Binding, BindingFields, Change, Sink, Store, Writer, WriterOptions};

fn main() {
    let dir = env::args()
        .nth(1)
        .map_or_else(|| env::temp_dir().join("trapez-refresh"), PathBuf::from);
    fs::create_dir_all(&dir).unwrap();
    let path = dir.join("refresh.db");
    for suffix in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(dir.join(format!("refresh.db{suffix}")));
    }
    let mut store = Store::open(&path).unwrap();
    report("made, 1,000 per commit", BINDINGS, || {
        for first in (0..BINDINGS).step_by(1000) {
            store
                .apply(&(first..first + 1000).map(|i| refresh(i, 1)).collect::<Vec<_>>())
                .unwrap();
        }
    });
    let mut random = 1u64;
    for commit in [1u64, 8, 64, 512] {
        let count = if commit == 1 { 5_000 } else { 40_000 };
        report(&format!("refreshed, {commit} per commit"), count, || {
            for n in 0..count / commit {
                let changes: Vec<_> = (0..commit)
                    .map(|_| refresh(next(&mut random) % BINDINGS, n as u32))
                    .collect();
                store.apply(&changes).unwrap();
            }
        });
    }
    through_the_writer(store, &mut random);
    println!("file {} MB", fs::metadata(&path).unwrap().len() >> 20);
}

/// 64 refreshes outstanding: the next is submitted when one was written.
fn through_the_writer(store: Store, random: &mut u64) {
    let (tell, told) = mpsc::channel();
    let written = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&written);
    let sink: Sink = Box::new(move |tickets, result| {
        result.unwrap();
        counted.fetch_add(1, Ordering::Relaxed);
        let _ = tell.send(tickets.to_vec());
    });
    let writer = Writer::start(store, WriterOptions::default(), vec![sink]).unwrap();
    let handle = writer.handle();
    let count = 100_000;
    let mut sent = vec![];
    let mut waits = vec![];
    report("refreshed, 64 outstanding through the writer", count, || {
        let mut submit = |sent: &mut Vec<Instant>| {
            let change = refresh(next(random) % BINDINGS, 7);
            handle.submit(0, sent.len() as u64, vec![change]).unwrap();
            sent.push(Instant::now());
        };
        (0..64).for_each(|_| submit(&mut sent));
        while waits.len() < count as usize {
            for ticket in told.recv().unwrap() {
                waits.push(sent[ticket as usize].elapsed());
                submit(&mut sent);
            }
        }
    });
    waits.sort();
    let at = |share: usize| {
        waits
            .get(waits.len() * share / 1000)
            .copied()
            .unwrap_or(Duration::ZERO)
    };
    println!(
        "  waited p50 {:?} p99 {:?} p99.9 {:?} max {:?}",
        at(500),
        at(990),
        at(999),
        waits[waits.len() - 1]
    );
    println!("  {} commits", written.load(Ordering::Relaxed));
    writer.stop().unwrap();
}

fn refresh(i: u64, cseq: u32) -> Change {
    let aor = format!("user{i:06}@example.org");
    let contact = format!("sip:user{i:06}@192.0.2.{}:40312;transport=udp;ob", i % 250);
    let binding = Binding::new(BindingFields {
        aor: &aor,
        contact: &contact,
        call_id: "8f1c6a0e-2f1b-4c4c-9d53-0f7e9a1d2b3c@192.168.1.23",
        path: "",
        instance: "<urn:uuid:00000000-0000-1000-8000-000A95A0E128>",
        user_agent: "baresip v1.0.0 (x86_64/Linux)",
        flow: &[7; 40],
        cseq,
        reg_id: 1,
        q: 1000,
        registered_at: 1_800_000_000 + u64::from(cseq),
        expires_at: 1_800_003_600 + u64::from(cseq),
    });
    let order = cseq.into();
    Change::PutBinding { binding, order }
}

fn next(random: &mut u64) -> u64 {
    *random = random
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    *random >> 33
}

fn report(what: &str, count: u64, run: impl FnOnce()) {
    let (cpu, started) = (cpu(), Instant::now());
    run();
    let wall = started.elapsed().as_micros() as f64 / count as f64;
    println!(
        "{what}: CPU {:.1} µs, time {wall:.1} µs each",
        (self::cpu() - cpu) as f64 / 1000.0 / count as f64
    );
}

/// Nanoseconds of CPU that this process has used.
fn cpu() -> u64 {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let of = |task: fs::DirEntry| fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
    tasks
        .flatten()
        .filter_map(|task| of(task).split(' ').next()?.parse::<u64>().ok())
        .sum()
}

const BINDINGS: u64 = 100_000;
