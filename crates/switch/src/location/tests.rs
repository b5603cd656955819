use std::collections::BTreeMap;
use std::num::NonZeroU64;

use proptest::prelude::*;
use sip::{Flow, Transport};

pub(crate) use super::binding::tests::{flow, parts};
use super::*;

const NOW: u64 = 2_000_000_000;

/// Where a test's time starts.
#[expect(clippy::disallowed_methods, reason = "any instant will do as the beginning")]
pub(crate) fn beginning() -> std::time::Instant {
    std::time::Instant::now()
}

fn location() -> Location {
    Location::new(*b"sixteen bytes ok")
}

fn contacts(location: &Location, aor: &str, now: u64) -> Vec<String> {
    location
        .lookup(aor, now)
        .iter()
        .map(|binding| binding.contact().to_owned())
        .collect()
}

fn by_connection(remote: &str, id: u64) -> Flow {
    Flow {
        transport: Transport::Tcp,
        connection: NonZeroU64::new(id).map(ConnectionId),
        ..flow(remote)
    }
}

/// As a registration does it: the change is written down with a number.
fn register(location: &Location, parts: &BindingParts<'_>) -> BindingChange {
    location.update(parts.aor, |bindings| {
        let mut after = Binding::new(parts);
        let order = bindings.next_change();
        after.pending = order as u32;
        let old = bindings
            .iter()
            .find(|(_, binding)| binding.contact() == parts.contact);
        let before = match old.map(|(slot, binding)| (slot, binding.clone())) {
            Some((slot, before)) => {
                bindings.replace(slot, after.clone());
                Some(before)
            }
            None => {
                bindings.insert(after.clone());
                None
            }
        };
        BindingChange {
            before,
            after: Some(after),
            order,
        }
    })
}

#[test]
fn lookup_gives_valid_bindings_highest_q_first_then_the_latest() {
    let location = location();
    let aor = "alice@example.org";
    for (contact, q, registered_at, expires) in [
        ("sip:a@192.0.2.1", 500, NOW, NOW + 60),
        ("sip:b@192.0.2.1", 1000, NOW, NOW + 60),
        ("sip:c@192.0.2.1", 500, NOW + 5, NOW + 60),
        ("sip:d@192.0.2.1", 900, NOW, NOW + 10),
    ] {
        let parts = parts(aor, contact, flow("192.0.2.1:5060"));
        location.restore(&BindingParts {
            q,
            registered_at,
            expires,
            ..parts
        });
    }
    assert_eq!(
        contacts(&location, aor, NOW + 9),
        [
            "sip:b@192.0.2.1",
            "sip:d@192.0.2.1",
            "sip:c@192.0.2.1",
            "sip:a@192.0.2.1"
        ]
    );
    assert_eq!(
        contacts(&location, aor, NOW + 10),
        ["sip:b@192.0.2.1", "sip:c@192.0.2.1", "sip:a@192.0.2.1"]
    );
    assert!(contacts(&location, aor, NOW + 60).is_empty());
    assert!(contacts(&location, "Alice@example.org", NOW).is_empty());
}

#[test]
fn a_later_change_has_a_higher_number_whoever_made_it() {
    let location = location();
    let ended = BindingParts {
        expires: NOW,
        ..parts("alice@example.org", "sip:a@192.0.2.1", flow("192.0.2.1:5060"))
    };
    let mut orders = vec![register(&location, &ended).order];
    for _ in 0..3 {
        let mut swept = Vec::new();
        (0..SHARDS).for_each(|part| location.sweep(part, NOW, &mut swept));
        orders.extend(swept.iter().map(|change| change.order));
        orders.push(register(&location, &ended).order);
    }
    assert!(
        orders.len() == 7 && orders.is_sorted_by(|a, b| a < b),
        "{orders:?}"
    );
}

#[test]
fn sweeping_all_parts_removes_what_has_ended_and_nothing_else() {
    let location = location();
    for i in 0..1000 {
        let aor = format!("user{i}@example.org");
        let expires = NOW + i;
        location.restore(&BindingParts {
            expires,
            ..parts(&aor, "sip:a@192.0.2.1", flow("192.0.2.1:5060"))
        });
    }
    let mut removed = Vec::new();
    (0..SHARDS).for_each(|part| location.sweep(part, NOW + 400, &mut removed));
    assert_eq!((removed.len(), location.len()), (401, 599));
    assert!(removed.iter().all(|change| change.after.is_none()));
    let mut left = 0;
    location.for_each(NOW, |binding| {
        assert!(binding.expires() > NOW + 400);
        left += 1;
    });
    assert_eq!(left, 599);
}

#[test]
fn a_closed_connection_takes_its_bindings_with_it() {
    let location = location();
    for i in 0..100 {
        let aor = format!("user{}@example.org", i / 2);
        let contact = format!("sip:{i}@192.0.2.1");
        let flow = by_connection("192.0.2.1:5060", 1 + i % 3);
        location.update(&aor, |bindings| {
            bindings.insert(Binding::new(&parts(&aor, &contact, flow)))
        });
    }
    let mut removed = Vec::new();
    let second = ConnectionId(NonZeroU64::new(2).expect("not zero"));
    location.remove_flow(second, &mut removed);
    assert_eq!((removed.len(), location.len()), (33, 67));
    location.for_each(NOW, |binding| assert_ne!(binding.flow().connection, Some(second)));
    location.remove_flow(second, &mut removed);
    assert_eq!(removed.len(), 33);
}

#[test]
fn a_restored_binding_forgets_the_connection_of_the_process_before() {
    let location = location();
    location.restore(&parts(
        "alice@example.org",
        "sip:a@192.0.2.1",
        by_connection("192.0.2.1:5060", 7),
    ));
    let found = location.lookup("alice@example.org", NOW);
    assert_eq!(
        found[0].flow(),
        Flow {
            connection: None,
            ..by_connection("192.0.2.1:5060", 7)
        }
    );
}

#[test]
fn a_failed_write_takes_the_change_back() {
    let location = location();
    let aor = "alice@example.org";
    let old = parts(aor, "sip:a@192.0.2.1", flow("192.0.2.1:5060"));
    let new = BindingParts {
        cseq: old.cseq + 1,
        flow: flow("192.0.2.1:7777"),
        ..old
    };
    let first = register(&location, &old);
    location.settle(std::slice::from_ref(&first), true);
    assert_eq!(location.lookup(aor, NOW)[0].pending, 0);

    let second = register(&location, &new);
    assert_eq!(location.lookup(aor, NOW)[0].parts(), new);
    location.settle(&[second], false);
    assert_eq!(location.lookup(aor, NOW)[0].parts(), old);

    let added = register(
        &location,
        &BindingParts {
            contact: "sip:b@192.0.2.1",
            ..old
        },
    );
    location.settle(&[added], false);
    assert_eq!(contacts(&location, aor, NOW), ["sip:a@192.0.2.1"]);

    let removed = location.update(aor, |bindings| {
        let slot = bindings.iter().next().map(|(slot, _)| slot).expect("one binding");
        BindingChange {
            before: bindings.remove(slot),
            after: None,
            order: bindings.next_change(),
        }
    });
    assert!(location.is_empty());
    location.settle(&[removed], false);
    assert_eq!(location.lookup(aor, NOW)[0].parts(), old);
}

#[test]
fn a_failed_write_leaves_a_newer_change_alone() {
    let location = location();
    let aor = "alice@example.org";
    let old = parts(aor, "sip:a@192.0.2.1", flow("192.0.2.1:5060"));
    let first = register(&location, &old);
    let second = register(
        &location,
        &BindingParts {
            cseq: old.cseq + 1,
            ..old
        },
    );
    location.settle(&[first], false);
    assert_eq!(location.lookup(aor, NOW)[0].cseq(), old.cseq + 1);
    location.settle(&[second], true);
    assert_eq!(location.lookup(aor, NOW)[0].pending, 0);
}

#[test]
fn every_binding_is_in_one_slice_of_one_part() {
    let location = location();
    for i in 0..3000 {
        let aor = format!("user{i}@example.org");
        location.restore(&parts(&aor, "sip:a@192.0.2.1", flow("192.0.2.1:5060")));
    }
    let mut seen = Vec::new();
    let mut largest = 0;
    for step in 0..SHARDS * SLICES {
        let before = seen.len();
        location.collect_slice(step % SHARDS, step / SHARDS, |_| true, &mut seen);
        largest = largest.max(seen.len() - before);
    }
    let mut aors: Vec<&str> = seen.iter().map(Binding::aor).collect();
    aors.sort_unstable();
    aors.dedup();
    assert_eq!((seen.len(), aors.len()), (3000, 3000));
    // 2.9 on average: a crowded slice would be a burst of keepalives.
    assert!(largest <= 8, "{largest} bindings in one slice");
}

/// A telephone's registration as the field sends it: with an instance, a User-Agent and a UUID for a Call-ID.
#[test]
fn a_binding_costs_less_than_400_bytes() {
    const BINDINGS: usize = 100_000;
    let location = location();
    for i in 0..BINDINGS {
        let aor = format!("user{i}@example.org");
        let contact = format!(
            "sip:user{i}@192.168.178.{}:5060;transport=udp;line=1a2b3c4d5e",
            i % 250
        );
        let call_id = format!("c1b8f0a2-3d4e-4f5a-9b6c-{i:012}");
        let instance = format!("<urn:uuid:00000000-0000-1000-8000-{i:012}>");
        let user_agent = "Yealink SIP-T46S 66.86.0.15";
        let flow = flow("198.51.100.7:40000");
        location.restore(&BindingParts {
            call_id: &call_id,
            instance: &instance,
            user_agent,
            ..parts(&aor, &contact, flow)
        });
    }
    // What an allocator rounds up comes on top; `examples/binding_memory.rs` measures the process.
    let bytes: usize = location.shards.iter().map(|lane| lane.lock().bytes()).sum();
    let each = (bytes + size_of::<Lane>() * SHARDS) / BINDINGS;
    assert!((200..400).contains(&each), "{each} bytes per binding");
}

#[derive(Clone, Debug)]
enum Step {
    Put {
        aor: u8,
        contact: u8,
        connection: u64,
        expires: u64,
    },
    Remove {
        aor: u8,
        contact: u8,
    },
    Close {
        connection: u64,
    },
    Sweep {
        now: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..12u8, 0..4u8, 0..5u64, 0..100u64)
            .prop_map(|(aor, contact, connection, expires)| Step::Put { aor, contact, connection, expires }),
        3 => (0..12u8, 0..4u8).prop_map(|(aor, contact)| Step::Remove { aor, contact }),
        1 => (1..5u64).prop_map(|connection| Step::Close { connection }),
        1 => (0..100u64).prop_map(|now| Step::Sweep { now }),
    ]
}

proptest! {
    /// Against a map: whatever happens in whatever order, both hold the same bindings.
    #[test]
    fn it_holds_what_a_simple_map_holds(steps in prop::collection::vec(step(), 1..200)) {
        let location = location();
        let mut model: BTreeMap<(String, String), (u64, u64)> = BTreeMap::new();
        let names = |aor: u8, contact: u8| (format!("u{aor}@example.org"), format!("sip:{contact}@192.0.2.1"));
        for step in steps {
            match step {
                Step::Put { aor, contact, connection, expires } => {
                    let (aor, contact) = names(aor, contact);
                    let parts = BindingParts {
                        expires: NOW + expires,
                        ..parts(&aor, &contact, by_connection("192.0.2.1:5060", connection))
                    };
                    register(&location, &parts);
                    model.insert((aor, contact), (connection, expires));
                }
                Step::Remove { aor, contact } => {
                    let (aor, contact) = names(aor, contact);
                    let removed = location.update(&aor, |bindings| {
                        let slot = bindings.iter().find(|(_, b)| b.contact() == contact).map(|(slot, _)| slot);
                        slot.and_then(|slot| bindings.remove(slot))
                    });
                    prop_assert_eq!(removed.is_some(), model.remove(&(aor, contact)).is_some());
                }
                Step::Close { connection } => {
                    let id = ConnectionId(NonZeroU64::new(connection).expect("from 1"));
                    location.remove_flow(id, &mut Vec::new());
                    model.retain(|_, (its, _)| *its != connection);
                }
                Step::Sweep { now } => {
                    (0..SHARDS).for_each(|part| location.sweep(part, NOW + now, &mut Vec::new()));
                    model.retain(|_, (_, expires)| *expires > now);
                }
            }
            prop_assert_eq!(location.len(), model.len());
        }
        let mut found = BTreeMap::new();
        location.for_each(0, |b| {
            let connection = b.flow().connection.map_or(0, |id| id.0.get());
            found.insert((b.aor().to_owned(), b.contact().to_owned()), (connection, b.expires() - NOW));
        });
        prop_assert_eq!(&found, &model);
        for aor in 0..12 {
            let (aor, _) = names(aor, 0);
            prop_assert_eq!(location.lookup(&aor, 0).len(), model.keys().filter(|key| key.0 == aor).count());
        }
    }
}
