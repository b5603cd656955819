use std::fs;

use super::*;
use crate::{Binding, EndedBy, Ha1, MediaPath, StreamCounters};

fn account(name: &str, key: u8) -> Account {
    Account {
        name: name.to_owned(),
        domain: "example.org".to_owned(),
        ha1: Ha1 {
            md5: Some(key.to_string()),
            sha256: None,
            sha512_256: Some(format!("{key:064x}")),
        },
        created: 1_800_000_000,
        disabled: false,
    }
}

fn binding<'a>(aor: &'a str, contact: &'a str) -> BindingFields<'a> {
    BindingFields {
        aor,
        contact,
        call_id: "a84b4c76e66710",
        path: "<sip:edge.example.org;lr>",
        instance: "<urn:uuid:00000000-0000-1000-8000-000A95A0E128>",
        user_agent: "baresip",
        flow: &[0, 1, 255],
        cseq: 4_000_000_000,
        reg_id: 1,
        q: 1000,
        registered_at: 1_800_000_000,
        expires_at: 1_800_003_600,
    }
}

fn record(id: u64, from: &str, started_at: u64) -> Record {
    let counters = |n| StreamCounters {
        packets: n,
        bytes: n * 172,
        lost: 1,
        late: 2,
        jitter_us: 300,
        first_at: 4,
        last_at: 5,
    };
    Record {
        id,
        call_id: format!("call-{id}"),
        from: from.to_owned(),
        to: "bob@example.org".to_owned(),
        started_at,
        ringing_at: Some(started_at + 100),
        answered_at: Some(started_at + 2000),
        ended_at: Some(started_at + 60_000),
        ended_by: EndedBy::Callee,
        status: 200,
        reason: "hung up".to_owned(),
        codec: "PCMA/8000".to_owned(),
        media: MediaPath::Relay,
        from_caller: counters(3000),
        from_callee: counters(2999),
    }
}

fn contacts(store: &Store, now: u64) -> Vec<String> {
    let mut contacts = Vec::new();
    store
        .each_binding(now, |b| {
            contacts.push(b.contact.to_owned());
            true
        })
        .unwrap();
    contacts
}

#[test]
fn what_was_written_is_there_after_reopening_in_a_file_of_mode_0600() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("trapez.db");
    let put = binding("alice@example.org", "sip:alice@192.0.2.4");
    let mut store = Store::open(&path).unwrap();
    store
        .apply(&[
            Change::AddAccount(Box::new(account("alice", 1))),
            Change::PutBinding {
                binding: Binding::new(put),
                order: 0,
            },
            Change::PutRecord(Box::new(record(u64::MAX, "alice@example.org", 1_800_000_000_000))),
        ])
        .unwrap();
    for file in ["trapez.db", "trapez.db-wal", "trapez.db-shm"] {
        let mode = fs::metadata(temp.path().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    drop(store);
    let store = Store::open(&path).unwrap();
    assert_eq!(store.accounts().unwrap(), [account("alice", 1)]);
    let mut found = 0;
    store
        .each_binding(0, |got| {
            assert_eq!(got, put);
            found += 1;
            true
        })
        .unwrap();
    assert_eq!(found, 1);
    let records = store.records(&RecordQuery::default()).unwrap();
    assert_eq!(
        records,
        [record(u64::MAX, "alice@example.org", 1_800_000_000_000)]
    );
}

#[test]
fn a_failing_change_leaves_nothing_of_its_transaction() {
    let mut store = Store::memory().unwrap();
    store
        .apply(&[Change::AddAccount(Box::new(account("alice", 1)))])
        .unwrap();
    let error = store
        .apply(&[
            Change::AddAccount(Box::new(account("bob", 1))),
            Change::AddAccount(Box::new(account("alice", 2))),
        ])
        .unwrap_err();
    assert!(
        matches!(error, StoreError::AccountExists { ref aor } if aor == "alice@example.org"),
        "{error}"
    );
    assert_eq!(store.accounts().unwrap(), [account("alice", 1)]);
    store
        .apply(&[Change::PutAccount(Box::new(account("alice", 2)))])
        .unwrap();
    assert_eq!(
        store.account("alice", "example.org").unwrap(),
        Some(account("alice", 2))
    );
}

#[test]
fn bindings_are_replaced_by_contact_and_removed_singly_wholly_and_by_age() {
    let mut store = Store::memory().unwrap();
    let put = |aor, contact, expires_at| {
        let binding = Binding::new(BindingFields {
            expires_at,
            ..binding(aor, contact)
        });
        Change::PutBinding { binding, order: 0 }
    };
    store
        .apply(&[
            put("a", "1", 10),
            put("a", "2", 20),
            put("b", "3", 30),
            put("a", "1", 15),
        ])
        .unwrap();
    assert_eq!(contacts(&store, 0), ["1", "2", "3"]);
    assert_eq!(contacts(&store, 15), ["2", "3"]);
    store.apply(&[Change::RemoveExpired { at: 15 }]).unwrap();
    assert_eq!(contacts(&store, 0), ["2", "3"]);
    store
        .apply(&[Change::RemoveBinding {
            aor: "b".into(),
            contact: "2".into(),
            order: 0,
        }])
        .unwrap();
    assert_eq!(contacts(&store, 0), ["2", "3"]);
    store
        .apply(&[Change::RemoveBinding {
            aor: "b".into(),
            contact: "3".into(),
            order: 0,
        }])
        .unwrap();
    assert_eq!(contacts(&store, 0), ["2"]);
    store
        .apply(&[Change::RemoveBindings { aor: "a".into() }])
        .unwrap();
    assert!(contacts(&store, 0).is_empty());
}

#[test]
fn records_are_found_by_account_call_and_time_newest_first() {
    let mut store = Store::memory().unwrap();
    for (id, from, at) in [(1, "alice@x", 100), (2, "carol@x", 200), (3, "alice@x", 300)] {
        store
            .apply(&[Change::PutRecord(Box::new(record(id, from, at)))])
            .unwrap();
    }
    let ids = |query: RecordQuery| -> Vec<u64> {
        store
            .records(&query)
            .unwrap()
            .iter()
            .map(|record| record.id)
            .collect()
    };
    let all = RecordQuery::default;
    assert_eq!(ids(all()), [3, 2, 1]);
    assert_eq!(
        ids(RecordQuery {
            aor: Some("alice@x".into()),
            ..all()
        }),
        [3, 1]
    );
    assert_eq!(
        ids(RecordQuery {
            aor: Some("bob@example.org".into()),
            limit: Some(2),
            ..all()
        }),
        [3, 2]
    );
    assert_eq!(
        ids(RecordQuery {
            call_id: Some("call-2".into()),
            ..all()
        }),
        [2]
    );
    assert_eq!(
        ids(RecordQuery {
            since: Some(200),
            until: Some(300),
            ..all()
        }),
        [2]
    );
}

#[test]
fn a_record_left_open_by_a_crash_is_closed_at_the_next_start() {
    let mut store = Store::memory().unwrap();
    let open = Record {
        ended_at: None,
        ended_by: EndedBy::Nobody,
        ..record(1, "alice@x", 100)
    };
    store
        .apply(&[
            Change::PutRecord(Box::new(open)),
            Change::PutRecord(Box::new(record(2, "alice@x", 100))),
        ])
        .unwrap();
    store.apply(&[Change::CloseOpenRecords { at: 5_000 }]).unwrap();
    let records = store.records(&RecordQuery::default()).unwrap();
    assert_eq!(records[0], record(2, "alice@x", 100));
    assert_eq!(
        (records[1].ended_at, records[1].ended_by),
        (Some(5_000), EndedBy::Restart)
    );
}

#[test]
fn old_records_are_removed_the_oldest_first_and_not_all_at_once() {
    let mut store = Store::memory().unwrap();
    let many = u64::from(Change::REMOVED_AT_ONCE);
    let put = |id| Change::PutRecord(Box::new(record(id, "alice@x", id * 10)));
    let records: Vec<_> = (1..=many + 3).rev().map(put).collect();
    store.apply(&records).unwrap();
    let ids = |store: &Store| -> Vec<u64> {
        let records = store.records(&RecordQuery::default()).unwrap();
        records.iter().map(|record| record.id).collect()
    };
    let remove = [Change::RemoveRecords {
        before: (many + 3) * 10,
    }];
    store.apply(&remove).unwrap();
    assert_eq!(ids(&store), [many + 3, many + 2, many + 1]);
    store.apply(&remove).unwrap();
    assert_eq!(ids(&store), [many + 3]);
    store.apply(&remove).unwrap();
    assert_eq!(ids(&store), [many + 3]);
}

#[test]
fn a_file_that_is_no_database_is_called_damaged_and_left_alone() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("trapez.db");
    let text = "this was never a database. ".repeat(100);
    fs::write(&path, &text).unwrap();
    let error = Store::open(&path).unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn a_file_locked_by_another_program_is_reported_and_usable_again_afterwards() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("trapez.db");
    let mut store = Store::open(&path).unwrap();
    store.connection.busy_timeout(Duration::from_millis(10)).unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let change = [Change::AddAccount(Box::new(account("alice", 1)))];
    assert!(matches!(store.apply(&change), Err(StoreError::Locked)));
    other.execute_batch("ROLLBACK").unwrap();
    store.apply(&change).unwrap();
}
