//! `kill -9` while the writer writes: what was reported as written is there afterwards, whole.
//!
//! The test runs itself as a child process, which writes as fast as it can and prints each ticket that the writer
//! reports; the parent kills it in the midst and compares the file with what was printed. It has no test harness, since
//! the child must print nothing else.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio, exit};
use std::time::Duration;
use std::{env, io, thread};

use store::{
    Binding, BindingFields, Change, Record, RecordQuery, Rejected, Sink, Store, Writer, WriterOptions,
};

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["write", path, first] => write(Path::new(path), first.parse().unwrap()),
        // What test runners ask before they run it.
        ["--list", ..] => println!("nothing_acknowledged_is_lost_by_kill_9: test"),
        _ => nothing_acknowledged_is_lost_by_kill_9(),
    }
}

fn nothing_acknowledged_is_lost_by_kill_9() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("trapez.db");
    let mut acknowledged = HashSet::new();
    for round in 0..ROUNDS {
        let (told, exited) = run_and_kill(&path, round * TICKETS_PER_ROUND, round);
        assert!(!exited, "the child ended by itself");
        assert!(
            !told.is_empty(),
            "round {round}: nothing was written before the kill"
        );
        acknowledged.extend(told);
        let found = tickets(&path);
        let lost: Vec<_> = acknowledged.difference(&found).collect();
        assert!(lost.is_empty(), "round {round}: acknowledged and lost: {lost:?}");
    }
    println!(
        "test nothing_acknowledged_is_lost_by_kill_9 ... ok: {} acknowledged",
        acknowledged.len()
    );
}

/// Runs the child until it has told of some tickets, kills it a little later, and returns all that it told.
fn run_and_kill(path: &Path, first: u64, round: u64) -> (Vec<u64>, bool) {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["write".as_ref(), path.as_os_str(), first.to_string().as_ref()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut told: Vec<u64> = Vec::new();
    let enough = 200 + 300 * round as usize;
    while told.len() < enough {
        match lines.next() {
            Some(line) => told.push(line.unwrap().trim_end_matches('.').parse().unwrap()),
            None => break,
        }
    }
    thread::sleep(Duration::from_micros(300 * round));
    let exited = child.try_wait().unwrap().is_some();
    child.kill().unwrap();
    child.wait().unwrap();
    // The pipe still holds what the child said before it died; a last line may be cut, and then it was not said.
    told.extend(
        lines
            .map_while(Result::ok)
            .filter_map(|line| line.strip_suffix('.')?.parse::<u64>().ok()),
    );
    (told, exited)
}

/// The tickets of which both halves are in the file: a binding and a record each. One without the other fails.
fn tickets(path: &Path) -> HashSet<u64> {
    let store = Store::open(path).unwrap();
    let mut bindings = HashSet::new();
    store
        .each_binding(0, |binding| {
            bindings.insert(binding.aor.parse::<u64>().unwrap());
            true
        })
        .unwrap();
    let records: HashSet<u64> = store
        .records(&RecordQuery::default())
        .unwrap()
        .into_iter()
        .map(|record| record.id)
        .collect();
    assert_eq!(bindings, records, "a transaction was written in part");
    bindings
}

/// The child: writes until it is killed.
fn write(path: &Path, first: u64) {
    let mut stdout = io::stdout();
    let sink: Sink = Box::new(move |tickets, result| {
        if let Err(error) = result {
            eprintln!("{error}");
            exit(1);
        }
        let lines: String = tickets.iter().map(|ticket| format!("{ticket}.\n")).collect();
        // The parent reads no more: it is over.
        if stdout
            .write_all(lines.as_bytes())
            .and_then(|()| stdout.flush())
            .is_err()
        {
            exit(0);
        }
    });
    let store = Store::open(path).unwrap();
    let writer = Writer::start(store, WriterOptions::default(), vec![sink]).unwrap();
    let handle = writer.handle();
    for ticket in first.. {
        let aor = ticket.to_string();
        let binding = Binding::new(BindingFields {
            aor: &aor,
            expires_at: 10,
            ..Default::default()
        });
        let record = Record {
            id: ticket,
            ..Default::default()
        };
        let put = Change::PutBinding {
            binding,
            order: ticket,
        };
        let changes = vec![put, Change::PutRecord(Box::new(record))];
        while handle.submit(0, ticket, changes.clone()) == Err(Rejected::Full) {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

const ROUNDS: u64 = 8;
const TICKETS_PER_ROUND: u64 = 1_000_000;
