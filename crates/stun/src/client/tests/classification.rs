use super::*;

fn classify(world: &mut World) -> Classification {
    let local = host(0);
    let mut machine = Classification::new(world.now, server_address(), local, [1; 16], Timing::default());
    world.run(&mut machine);
    machine
}

#[test]
fn the_seven_types_of_rfc_3489_are_told_apart() {
    let behind = |mapping, filtering| {
        World::behind(NatKind {
            mapping,
            filtering,
            ..NatKind::default()
        })
    };
    let cases = [
        (World::open(None), NatType::OpenInternet),
        (World::open(Some(By::AddressAndPort)), NatType::SymmetricFirewall),
        (behind(By::Endpoint, By::Endpoint), NatType::FullCone),
        (behind(By::Endpoint, By::Address), NatType::Restricted),
        (behind(By::Endpoint, By::AddressAndPort), NatType::PortRestricted),
        (behind(By::AddressAndPort, By::AddressAndPort), NatType::Symmetric),
        (behind(By::Address, By::Address), NatType::Symmetric),
    ];
    for (mut world, expected) in cases {
        assert_eq!(classify(&mut world).nat_type(), expected);
    }
    let mut silent = World::open(None);
    silent.server = None;
    assert_eq!(classify(&mut silent).nat_type(), NatType::Blocked);
}

#[test]
fn the_type_is_found_when_every_third_datagram_is_lost() {
    for (filtering, expected) in [
        (By::Endpoint, NatType::FullCone),
        (By::Address, NatType::Restricted),
        (By::AddressAndPort, NatType::PortRestricted),
    ] {
        let mut world = World::behind(NatKind {
            filtering,
            ..NatKind::default()
        });
        world.lose_every = 3;
        assert_eq!(classify(&mut world).nat_type(), expected);
    }
}

#[test]
fn a_server_with_one_address_cannot_tell() {
    let mut world = World::behind(NatKind::default());
    world.server = Some(Server::new(Config::new(server_address()), [1; 16], world.now).unwrap());
    let machine = classify(&mut world);
    assert_eq!(machine.nat_type(), NatType::Unknown);
    assert_eq!(machine.mapped(), Some("198.51.100.1:20000".parse().unwrap()));
}

/// It would make every NAT a full cone, or one with a filter by address where the answer to test II is lost.
#[test]
fn a_server_that_answers_from_where_it_was_asked_is_not_believed() {
    for unless in [NOTHING, BOTH] {
        let mut world = World::behind(NatKind::default());
        world.deaf = Some(unless);
        assert_eq!(classify(&mut world).nat_type(), NatType::Unknown);
    }
}

#[test]
fn answers_of_others_and_to_other_requests_are_ignored() {
    let now = Instant::now();
    let mut machine = Classification::new(now, server_address(), host(0), [1; 16], Timing::default());
    let mut buffer = [0; REQUEST];
    machine.poll_transmit(now, &mut buffer).unwrap();
    let next = machine.poll_timeout();
    let mut answer = [0; 200];
    for id in [TransactionId::new([1; 12]), TransactionId::classic([2; 16])] {
        let length = BindingRequest::default().write(id, &mut buffer).unwrap();
        let transmit = full_server(now)
            .handle_datagram(now, &buffer[..length], host(0), Socket::PRIMARY, &mut answer)
            .unwrap();
        machine.handle_datagram(now, 0, server_address(), &answer[..transmit.length]);
    }
    machine.handle_datagram(now, 0, server_address(), b"garbage");
    machine.handle_timeout(now);
    assert_eq!(machine.poll_timeout(), next);
}
