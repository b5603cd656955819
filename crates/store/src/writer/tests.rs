use std::sync::mpsc;
use std::sync::{Arc, Mutex};

use super::*;
use crate::{Account, Binding, BindingFields, Ha1};

fn account(name: &str) -> Change {
    Change::AddAccount(Box::new(Account {
        name: name.to_owned(),
        domain: "example.org".to_owned(),
        ha1: Ha1::default(),
        created: 7,
        disabled: false,
    }))
}

fn binding(i: u64) -> Change {
    let aor = format!("{i}@example.org");
    put(&aor, 10, 0)
}

fn put(aor: &str, expires_at: u64, order: u64) -> Change {
    let binding = Binding::new(BindingFields {
        aor,
        contact: "sip:a@192.0.2.1",
        expires_at,
        ..Default::default()
    });
    Change::PutBinding { binding, order }
}

fn remove(aor: &str, order: u64) -> Change {
    Change::RemoveBinding {
        aor: aor.into(),
        contact: "sip:a@192.0.2.1".into(),
        order,
    }
}

fn bindings(store: &Store) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    store
        .each_binding(0, |fields| {
            found.push((fields.aor.to_owned(), fields.expires_at));
            true
        })
        .unwrap();
    found
}

#[test]
fn every_sink_is_told_its_own_tickets_and_the_changes_are_there() {
    let seen = Arc::new(Mutex::new(vec![Vec::new(), Vec::new()]));
    let sinks = (0..2)
        .map(|i| {
            let seen = Arc::clone(&seen);
            Box::new(move |tickets: &[u64], result: Result<(), &StoreError>| {
                result.unwrap();
                seen.lock().unwrap()[i].extend_from_slice(tickets);
            }) as Sink
        })
        .collect();
    let writer = Writer::start(Store::memory().unwrap(), WriterOptions::default(), sinks).unwrap();
    let handle = writer.handle();
    for i in 0..100 {
        handle.submit((i % 2) as usize, i, vec![binding(i)]).unwrap();
    }
    let store = writer.stop().unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!(seen[0], (0..100).step_by(2).collect::<Vec<_>>());
    assert_eq!(seen[1], (1..100).step_by(2).collect::<Vec<_>>());
    let mut count = 0;
    store
        .each_binding(0, |_| {
            count += 1;
            true
        })
        .unwrap();
    assert_eq!(count, 100);
    assert_eq!(handle.submit(0, 1, vec![]), Err(Rejected::Stopped));
}

#[test]
fn one_job_that_fails_does_not_take_the_others_with_it() {
    let (tell, told) = mpsc::channel();
    let writer = Writer::start(Store::memory().unwrap(), WriterOptions::default(), vec![]).unwrap();
    for name in ["alice", "bob", "alice", "carol"] {
        let tell = tell.clone();
        let then = move |result: Result<(), &StoreError>| {
            tell.send((name, result.is_ok())).unwrap();
        };
        writer.handle().submit_then(vec![account(name)], then).unwrap();
    }
    let store = writer.stop().unwrap();
    let told: Vec<_> = told.try_iter().collect();
    assert_eq!(
        told,
        [("alice", true), ("bob", true), ("alice", false), ("carol", true)]
    );
    assert_eq!(store.accounts().unwrap().len(), 3);
}

#[test]
fn a_full_queue_refuses_instead_of_waiting() {
    let (release, held) = mpsc::channel::<()>();
    let options = WriterOptions {
        queue: 2,
        ..WriterOptions::default()
    };
    let writer = Writer::start(Store::memory().unwrap(), options, vec![]).unwrap();
    let handle = writer.handle();
    let (tell, entered) = mpsc::channel();
    handle
        .submit_then(vec![], move |_| {
            tell.send(()).unwrap();
            held.recv().unwrap();
        })
        .unwrap();
    entered.recv().unwrap();
    handle.submit_then(vec![binding(1)], |_| ()).unwrap();
    handle.submit_then(vec![binding(2)], |_| ()).unwrap();
    assert_eq!(handle.submit_then(vec![binding(3)], |_| ()), Err(Rejected::Full));
    release.send(()).unwrap();
    writer.stop().unwrap();
}

#[test]
fn a_change_that_was_overtaken_on_its_way_is_left_out() {
    let (tell, told) = mpsc::channel();
    for separately in [false, true] {
        let options = WriterOptions::default();
        let mut writer = Writer::start(Store::memory().unwrap(), options.clone(), vec![]).unwrap();
        // Removed, and registered anew; registered twice; registered, and removed.
        for changes in [
            vec![put("anew", 20, 2), remove("anew", 1)],
            vec![put("twice", 20, 2), put("twice", 10, 1)],
            vec![remove("gone", 2), put("gone", 10, 1)],
            vec![remove("in-order", 1), put("in-order", 30, 2)],
            vec![put("unordered", 10, 0), put("unordered", 40, 0)],
        ] {
            for change in changes {
                let tell = tell.clone();
                let then = move |result: Result<(), &StoreError>| tell.send(result.is_ok()).unwrap();
                writer.handle().submit_then(vec![change], then).unwrap();
                if separately {
                    assert!(told.recv().unwrap());
                }
            }
        }
        let store = writer.stop().unwrap();
        assert!(told.try_iter().all(|written| written));
        let expected = [("anew", 20), ("in-order", 30), ("twice", 20), ("unordered", 40)];
        assert_eq!(
            bindings(&store),
            expected.map(|(aor, expires_at)| (aor.to_owned(), expires_at))
        );
        writer = Writer::start(store, options, vec![]).unwrap();
        // After a start the numbers begin anew.
        writer
            .handle()
            .submit_then(vec![remove("anew", 1)], |_| {})
            .unwrap();
        assert_eq!(bindings(&writer.stop().unwrap()).len(), 3);
    }
}

#[test]
fn a_change_that_could_not_be_written_has_overtaken_nothing() {
    let writer = Writer::start(Store::memory().unwrap(), WriterOptions::default(), vec![]).unwrap();
    let handle = writer.handle();
    handle.submit_then(vec![account("alice")], |_| {}).unwrap();
    let (tell, told) = mpsc::channel();
    let then = move |result: Result<(), &StoreError>| tell.send(result.is_ok()).unwrap();
    let fails = vec![put("a", 20, 2), account("alice")];
    handle.submit_then(fails, then).unwrap();
    handle.submit_then(vec![put("a", 10, 1)], |_| {}).unwrap();
    assert_eq!(bindings(&writer.stop().unwrap()), [("a".to_owned(), 10)]);
    assert!(!told.recv().unwrap());
}
