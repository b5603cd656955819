//! What becomes of bindings after their REGISTER: stored or taken back, ended, swept.

use super::*;

#[test]
fn a_200_waits_for_the_store_and_so_does_its_retransmission() {
    let mut service = Service::new(RegistrarConfig::default());
    let request = register(1, "Contact: <sip:a@192.0.2.1>");
    let mut first = service.register(&request);
    assert_eq!((first.status, first.changes.len()), (200, 1));
    assert_eq!(service.register(&request).status, 0);
    let before = first.text.clone();
    let mut response = std::mem::take(&mut first.text).into_bytes();
    service.registrar.stored(&first.changes, true, &mut response);
    assert_eq!(response, before.as_bytes());
    let again = service.register(&request);
    assert_eq!(
        (again.status, again.changes.len(), &again.text),
        (200, 0, &before)
    );
}

#[test]
fn a_write_that_fails_takes_everything_back_and_is_500() {
    let mut service = Service::new(RegistrarConfig::default());
    let first = service.register(&register(
        1,
        "Contact: <sip:a@192.0.2.1>;expires=600, <sip:b@192.0.2.1>",
    ));
    service.registrar.stored(&first.changes, true, &mut Vec::new());
    let before = service.bindings(NOW);
    let lines = "Contact: <sip:a@192.0.2.1>;expires=900, <sip:b@192.0.2.1>;expires=0, <sip:c@192.0.2.1>";
    let second = service.register(&register(2, lines));
    assert_eq!((second.status, second.changes.len()), (200, 3));
    let mut response = second.text.into_bytes();
    service.registrar.stored(&second.changes, false, &mut response);
    assert_eq!(service.bindings(NOW), before);
    let text = String::from_utf8(response).expect("text");
    assert!(
        text.starts_with("SIP/2.0 500 ")
            && !text.contains("Contact")
            && text.contains("CSeq: 2 REGISTER\r\n")
    );
    assert_eq!(
        service.register(&register(3, lines)).status,
        200,
        "the telephone tries again"
    );
}

#[test]
fn in_memory_only_nothing_is_to_be_stored() {
    let mut service = Service::in_memory();
    let answer = service.register(&register(1, "Contact: <sip:a@192.0.2.1>;expires=60"));
    assert_eq!((answer.status, answer.changes.len()), (200, 0));
    assert_eq!(service.location.lookup("alice@example.org", NOW)[0].pending, 0);
}

#[test]
fn ended_bindings_are_swept_part_by_part() {
    let mut service = Service::new(RegistrarConfig::default());
    let first = service.register(&register(
        1,
        "Contact: <sip:a@192.0.2.1>;expires=60, <sip:b@192.0.2.1>;expires=600",
    ));
    service.registrar.stored(&first.changes, true, &mut Vec::new());
    let mut removed: Vec<BindingChange> = Vec::new();
    let mut now = service.start;
    for _ in 0..SHARDS {
        now = service.registrar.poll_timeout().max(now);
        removed.extend(service.registrar.handle_timeout(now, NOW + 60));
    }
    assert!(now - service.start <= Duration::from_secs(32));
    assert_eq!((removed.len(), service.location.len()), (1, 1));
    let before = removed[0].before.as_ref().map(|binding| binding.contact());
    assert_eq!((before, &removed[0].after), (Some("sip:a@192.0.2.1"), &None));
}

#[test]
fn workers_share_the_parts_to_sweep() {
    for workers in [1u8, 2, 3, 7, 64, 100] {
        let mut swept = Vec::new();
        for worker in 0..workers {
            let service = Service::in_memory();
            let (directory, location) = (Arc::clone(&service.directory), Arc::clone(&service.location));
            let mut registrar = Registrar::new(
                RegistrarConfig::default(),
                directory,
                location,
                worker,
                workers,
                service.start,
            );
            let mut now = service.start;
            for _ in 0..SHARDS.div_ceil(workers.into()) {
                now += SWEEP_INTERVAL;
                assert_eq!(registrar.handle_timeout(now, NOW).count(), 0);
                swept.push(registrar.sweep.part);
            }
        }
        let missed = (0..SHARDS).filter(|part| !swept.contains(part)).count();
        assert_eq!(missed, 0, "{workers} workers");
    }
}
