use super::*;

#[test]
fn an_allocation_tells_its_relayed_address_its_lifetime_and_the_clients_address() {
    let mut world = World::new();
    let answer = world.allocate(alice(), "alice");
    assert_eq!(answer.relayed().ip().to_string(), "203.0.113.10");
    assert_eq!(answer.xor(AttributeType::XOR_MAPPED_ADDRESS), [alice().address]);
    assert_eq!(answer.lifetime(), 600);
    assert_eq!(answer.message().value(AttributeType::RESERVATION_TOKEN), None);
    assert_eq!(world.turn.allocations(), 1);
}

#[test]
fn lifetimes_are_kept_between_the_default_and_the_maximum() {
    for (asked, given) in [
        (0, 600),
        (1, 600),
        (600, 600),
        (1000, 1000),
        (3600, 3600),
        (u32::MAX, 3600),
    ] {
        let mut world = World::new();
        let answer = world.allocate_with(alice(), "alice", |writer| {
            writer.number(AttributeType::LIFETIME, asked);
        });
        assert_eq!(answer.lifetime(), given, "{asked}");
        if asked > 0 {
            assert_eq!(
                world.refresh(alice(), "alice", asked).lifetime(),
                given,
                "{asked}"
            );
        }
    }
}

#[test]
fn an_allocation_ends_with_its_lifetime_and_gives_its_port_back() {
    let mut world = World::new();
    let slot = slot_of(world.allocate(alice(), "alice").relayed());
    world.permit(alice(), "alice", &[PEER]);
    world.pass(299);
    assert!(world.receive(slot, PEER, b"x").is_some());
    world.refresh(alice(), "alice", 600);
    world.permit(alice(), "alice", &[PEER]);
    assert_eq!(
        world.turn.poll_timeout(),
        Some(world.now + Duration::from_secs(301)),
        "as it was at first: refreshing moves no timers"
    );
    world.pass(301);
    world.turn.handle_timeout(world.now, &mut world.ports);
    assert_eq!(world.turn.allocations(), 1);
    assert_eq!(
        world.turn.poll_timeout(),
        Some(world.now + Duration::from_secs(299))
    );
    world.pass(299);
    // Even before the timer is looked at.
    assert!(world.receive(slot, PEER, b"x").is_none());
    assert!(world.send(alice(), PEER, b"x").is_none());
    world.turn.handle_timeout(world.now, &mut world.ports);
    assert_eq!((world.turn.allocations(), world.ports.used.len()), (0, 0));
    assert_eq!(world.turn.poll_timeout(), None);
}

#[test]
fn an_allocation_that_is_refreshed_to_end_earlier_does() {
    let mut world = World::new();
    world.allocate_with(alice(), "alice", |writer| {
        writer.number(AttributeType::LIFETIME, 3600);
    });
    assert_eq!(world.refresh(alice(), "alice", 600).lifetime(), 600);
    assert_eq!(
        world.turn.poll_timeout(),
        Some(world.now + Duration::from_secs(600))
    );
    world.pass(600);
    world.turn.handle_timeout(world.now, &mut world.ports);
    assert_eq!((world.turn.allocations(), world.ports.used.len()), (0, 0));
    assert_eq!(world.turn.poll_timeout(), None);
}

#[test]
fn refresh_with_lifetime_zero_ends_the_allocation_at_once() {
    let mut world = World::new();
    world.allocate(alice(), "alice");
    assert_eq!(world.refresh(alice(), "alice", 0).lifetime(), 0);
    assert_eq!((world.turn.allocations(), world.ports.used.len()), (0, 0));
    assert_eq!(world.turn.poll_timeout(), None, "nothing is left behind");
    assert_eq!(world.refresh(alice(), "alice", 0).code(), 437);
    assert_eq!(
        world.allocate(alice(), "alice").code(),
        0,
        "the 5-tuple is free again"
    );
}

#[test]
fn a_second_allocation_of_the_same_5_tuple_is_437_and_its_repetition_is_not() {
    let mut world = World::new();
    let id = world.id();
    let fill = |writer: &mut Writer<'_>| {
        writer.attribute(AttributeType::REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
    };
    let bytes = world.sealed(alice(), "alice", Protection::Old, Method::ALLOCATE, id, fill);
    let first = world.answered(alice(), &bytes).unwrap();
    world.pass(2);
    let again = world.answered(alice(), &bytes).unwrap();
    assert_eq!(again.relayed(), first.relayed());
    assert_eq!((first.lifetime(), again.lifetime()), (600, 598));
    assert_eq!(world.allocate(alice(), "alice").code(), 437);
    // Another port, listener or transport of the same host is another 5-tuple.
    assert_eq!(world.allocate(udp("192.0.2.1:4001"), "alice").code(), 0);
    assert_eq!(world.allocate(stream("192.0.2.1:4000"), "alice").code(), 0);
    let listener = Client {
        listener: 1,
        ..alice()
    };
    assert_eq!(world.allocate(listener, "alice").code(), 0);
}

#[test]
fn only_a_datagram_of_the_same_user_can_be_a_repetition() {
    let fill = |writer: &mut Writer<'_>| {
        writer.attribute(AttributeType::REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
    };
    for (client, second) in [(stream("192.0.2.1:4000"), "alice"), (alice(), "bob")] {
        let mut world = World::new();
        let id = world.id();
        for (user, code) in [("alice", 0), (second, 437)] {
            let bytes = world.sealed(client, user, Protection::Old, Method::ALLOCATE, id, fill);
            assert_eq!(world.answered(client, &bytes).unwrap().code(), code);
        }
    }
}

#[test]
fn an_allocation_that_has_ended_makes_room_for_another_of_the_same_5_tuple() {
    let mut world = World::new();
    world.allocate(alice(), "alice");
    world.pass(600);
    assert_eq!(world.allocate(alice(), "alice").code(), 0);
    assert_eq!(world.turn.allocations(), 1);
    world.pass(599);
    world.turn.handle_timeout(world.now, &mut world.ports);
    assert_eq!(
        world.turn.allocations(),
        1,
        "the first one's end is not the second one's"
    );
}

#[test]
fn requested_transport_is_needed_and_must_be_udp() {
    for (value, code) in [
        (None, 400),
        (Some(&[6, 0, 0, 0][..]), 442),
        (Some(&[17, 0][..]), 400),
    ] {
        let mut world = World::new();
        let answer = world.ask(alice(), "alice", Method::ALLOCATE, |writer| {
            if let Some(value) = value {
                writer.attribute(AttributeType::REQUESTED_TRANSPORT, value);
            }
        });
        assert_eq!(answer.code(), code, "{value:?}");
    }
}

#[test]
fn requests_without_an_allocation_are_437() {
    let mut world = World::new();
    assert_eq!(world.refresh(alice(), "alice", 600).code(), 437);
    assert_eq!(world.permit(alice(), "alice", &[PEER]).code(), 437);
    assert_eq!(world.bind(alice(), "alice", 0x4000, PEER).code(), 437);
}

#[test]
fn another_user_on_the_same_5_tuple_is_441() {
    let mut world = World::new();
    world.allocate(alice(), "alice");
    assert_eq!(world.refresh(alice(), "bob", 0).code(), 441);
    assert_eq!(world.permit(alice(), "bob", &[PEER]).code(), 441);
    assert_eq!(world.bind(alice(), "bob", 0x4000, PEER).code(), 441);
    assert_eq!(world.turn.allocations(), 1);
}

#[test]
fn a_time_limited_user_may_refresh_with_a_later_name() {
    let mut world = World::new();
    let ask = |world: &mut World, username: &str, method| {
        let password = TimeLimited::parse(username).unwrap().password(SECRET, 0).unwrap();
        let nonce = world.nonce(alice());
        let id = world.id();
        let bytes = message(Class::Request, method, id, |writer| {
            writer.attribute(AttributeType::REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
            seal(writer, username, password.as_str(), &nonce, Protection::Old);
        });
        world.answered(alice(), &bytes).unwrap().code()
    };
    assert_eq!(ask(&mut world, "1000100:carol", Method::ALLOCATE), 0);
    world.users.unix += 200;
    assert_eq!(ask(&mut world, "1000100:carol", Method::REFRESH), 401);
    assert_eq!(ask(&mut world, "1000900:carol", Method::REFRESH), 0);
    assert_eq!(ask(&mut world, "1000900:dave", Method::REFRESH), 441);
}

#[test]
fn even_port_gives_an_even_port() {
    let mut world = World::new();
    assert!(!world.allocate(bob(), "bob").relayed().port().is_multiple_of(2));
    let answer = world.allocate_with(alice(), "alice", |writer| {
        writer.attribute(AttributeType::EVEN_PORT, &[0]);
    });
    assert!(answer.relayed().port().is_multiple_of(2));
    assert_eq!(answer.message().value(AttributeType::RESERVATION_TOKEN), None);
}

/// An even port for RTP; the token of the port above for RTCP.
fn pair(world: &mut World, client: Client, user: &str) -> (SocketAddr, Vec<u8>) {
    let answer = world.allocate_with(client, user, |writer| {
        writer.attribute(AttributeType::EVEN_PORT, &[0x80]);
    });
    let token = answer.message().value(AttributeType::RESERVATION_TOKEN).unwrap();
    (answer.relayed(), token.to_vec())
}

fn claim(world: &mut World, client: Client, user: &str, token: &[u8]) -> Answer {
    world.allocate_with(client, user, |writer| {
        writer.attribute(AttributeType::RESERVATION_TOKEN, token);
    })
}

#[test]
fn a_reserved_port_is_the_next_higher_one_and_serves_once() {
    let mut world = World::new();
    let (rtp, token) = pair(&mut world, alice(), "alice");
    assert!(rtp.port().is_multiple_of(2));
    assert_eq!(token.len(), 8);
    let rtcp = claim(&mut world, udp("192.0.2.1:4001"), "alice", &token).relayed();
    assert_eq!(rtcp.port(), rtp.port() + 1);
    assert_eq!(
        claim(&mut world, udp("192.0.2.1:4002"), "alice", &token).code(),
        508
    );
}

#[test]
fn a_reservation_ends_after_30_seconds_and_gives_its_port_back() {
    let mut world = World::new();
    let (_, token) = pair(&mut world, alice(), "alice");
    assert_eq!(world.ports.used.len(), 2);
    assert_eq!(
        world.turn.poll_timeout(),
        Some(world.now + Duration::from_secs(30))
    );
    world.pass(30);
    assert_eq!(
        claim(&mut world, udp("192.0.2.1:4001"), "alice", &token).code(),
        508
    );
    assert_eq!(world.ports.used.len(), 1);
}

#[test]
fn a_reserved_port_of_ipv6_is_given_where_there_is_no_ipv4() {
    let mut world = World::new();
    world.ports.ipv4 = false;
    let answer = world.allocate_with(alice(), "alice", |writer| {
        writer.attribute(AttributeType::EVEN_PORT, &[0x80]);
        writer.attribute(AttributeType::REQUESTED_ADDRESS_FAMILY, &[2, 0, 0, 0]);
    });
    let token = answer.message().value(AttributeType::RESERVATION_TOKEN).unwrap();
    let second = claim(&mut world, udp("192.0.2.1:4001"), "alice", token).relayed();
    assert!(second.is_ipv6());
}

#[test]
fn anothers_reservation_is_not_given_away() {
    let mut world = World::new();
    let (_, token) = pair(&mut world, alice(), "alice");
    assert_eq!(claim(&mut world, bob(), "bob", &token).code(), 508);
    assert_eq!(
        claim(&mut world, udp("192.0.2.1:4001"), "alice", &token).code(),
        0
    );
}

#[test]
fn attributes_that_exclude_each_other_are_400() {
    let even = (AttributeType::EVEN_PORT, &[0][..]);
    let pair = (AttributeType::EVEN_PORT, &[0x80][..]);
    let token = (AttributeType::RESERVATION_TOKEN, &[1, 2, 3, 4, 5, 6, 7, 8][..]);
    let requested = (AttributeType::REQUESTED_ADDRESS_FAMILY, &[2, 0, 0, 0][..]);
    let additional = (AttributeType::ADDITIONAL_ADDRESS_FAMILY, &[2, 0, 0, 0][..]);
    let additional_ipv4 = (AttributeType::ADDITIONAL_ADDRESS_FAMILY, &[1, 0, 0, 0][..]);
    let short = (AttributeType::RESERVATION_TOKEN, &[1, 2, 3, 4][..]);
    let long = (AttributeType::EVEN_PORT, &[0, 0][..]);
    for attributes in [
        &[token, even][..],
        &[token, pair],
        &[token, requested],
        &[token, additional],
        &[requested, additional],
        &[pair, additional],
        &[additional_ipv4],
        &[short],
        &[long],
    ] {
        let mut world = World::new();
        let answer = world.allocate_with(alice(), "alice", |writer| {
            for (kind, value) in attributes {
                writer.attribute(*kind, value);
            }
        });
        assert_eq!(answer.code(), 400, "{attributes:?}");
        assert_eq!(world.ports.used.len(), 0);
    }
}

#[test]
fn a_family_may_be_asked_for_and_is_440_where_there_is_none() {
    let mut world = World::new();
    let ask = |world: &mut World, number| {
        world.allocate_with(udp(&format!("192.0.2.1:400{number}")), "alice", |writer| {
            writer.attribute(AttributeType::REQUESTED_ADDRESS_FAMILY, &[number, 0, 0, 0]);
        })
    };
    assert!(ask(&mut world, 1).relayed().is_ipv4());
    assert!(ask(&mut world, 2).relayed().is_ipv6());
    assert_eq!(ask(&mut world, 3).code(), 440);
    world.ports.ipv6 = false;
    world.refresh(udp("192.0.2.1:4002"), "alice", 0);
    assert_eq!(ask(&mut world, 2).code(), 440);
    world.ports.ipv4 = false;
    assert_eq!(
        world.allocate(bob(), "bob").code(),
        440,
        "IPv4 is meant when none is named"
    );
}

fn both(world: &mut World) -> Answer {
    world.allocate_with(alice(), "alice", |writer| {
        writer.attribute(AttributeType::ADDITIONAL_ADDRESS_FAMILY, &[2, 0, 0, 0]);
    })
}

#[test]
fn an_additional_family_gives_two_relayed_addresses() {
    let mut world = World::new();
    let relayed = both(&mut world).xor(AttributeType::XOR_RELAYED_ADDRESS);
    assert!(relayed[0].is_ipv4() && relayed[1].is_ipv6(), "{relayed:?}");
    assert_eq!(world.permit(alice(), "alice", &[PEER, PEER_V6]).code(), 0);
    let (slot, peer, _) = world.send(alice(), PEER, b"x").unwrap();
    assert_eq!((slot, peer), (slot_of(relayed[0]), PEER.parse().unwrap()));
    let (slot, peer, _) = world.send(alice(), PEER_V6, b"x").unwrap();
    assert_eq!((slot, peer), (slot_of(relayed[1]), PEER_V6.parse().unwrap()));
}

#[test]
fn an_additional_family_that_cannot_be_had_is_told_with_the_other_address() {
    for (ipv4, ipv6, family, code) in [(true, false, 2, 40), (false, true, 1, 40)] {
        let mut world = World::new();
        (world.ports.ipv4, world.ports.ipv6) = (ipv4, ipv6);
        let answer = both(&mut world);
        assert_eq!(answer.relayed().is_ipv4(), ipv4);
        assert_eq!(
            answer.message().value(AttributeType::ADDRESS_ERROR_CODE),
            Some(&[family, 0, 4, code][..])
        );
    }
    let mut world = World::new();
    world.ports.room = 1;
    let answer = both(&mut world);
    assert_eq!(
        answer.message().value(AttributeType::ADDRESS_ERROR_CODE),
        Some(&[2, 0, 5, 8][..])
    );
    let mut world = World::new();
    world.ports.room = 0;
    assert_eq!(both(&mut world).code(), 508);
}

#[test]
fn one_of_two_families_may_be_given_up() {
    let mut world = World::new();
    both(&mut world);
    world.permit(alice(), "alice", &[PEER, PEER_V6]);
    let drop_ipv6 = |world: &mut World, lifetime| {
        world.ask(alice(), "alice", Method::REFRESH, |writer| {
            writer.number(AttributeType::LIFETIME, lifetime);
            writer.attribute(AttributeType::REQUESTED_ADDRESS_FAMILY, &[2, 0, 0, 0]);
        })
    };
    assert_eq!(drop_ipv6(&mut world, 0).code(), 0);
    assert_eq!((world.turn.allocations(), world.ports.used.len()), (1, 1));
    assert!(world.send(alice(), PEER, b"x").is_some());
    assert!(world.send(alice(), PEER_V6, b"x").is_none());
    assert_eq!(drop_ipv6(&mut world, 600).code(), 443);
}

#[test]
fn giving_up_the_only_family_ends_the_allocation() {
    let mut world = World::new();
    world.allocate(alice(), "alice");
    let answer = world.ask(alice(), "alice", Method::REFRESH, |writer| {
        writer.number(AttributeType::LIFETIME, 0);
        writer.attribute(AttributeType::REQUESTED_ADDRESS_FAMILY, &[1, 0, 0, 0]);
    });
    assert_eq!(answer.code(), 0);
    assert_eq!((world.turn.allocations(), world.ports.used.len()), (0, 0));
}

#[test]
fn quotas_are_per_user_and_over_all() {
    let mut world = World::with(|config| {
        config.max_per_user = 2;
        config.max_allocations = 3;
    });
    let allocate =
        |world: &mut World, port, user: &str| world.allocate(udp(&format!("192.0.2.3:{port}")), user).code();
    assert_eq!(allocate(&mut world, 1, "alice"), 0);
    assert_eq!(allocate(&mut world, 2, "alice"), 0);
    assert_eq!(allocate(&mut world, 3, "alice"), 486);
    assert_eq!(allocate(&mut world, 3, "bob"), 0);
    assert_eq!(allocate(&mut world, 4, "bob"), 508);
    world.refresh(udp("192.0.2.3:1"), "alice", 0);
    assert_eq!(allocate(&mut world, 5, "alice"), 0);
}

#[test]
fn reserved_ports_count_until_they_are_claimed_or_end() {
    let mut world = World::with(|config| config.max_per_user = 2);
    assert_eq!(world.allocate(udp("192.0.2.1:4002"), "alice").code(), 0);
    let both = world.allocate_with(alice(), "alice", |writer| {
        writer.attribute(AttributeType::EVEN_PORT, &[0x80]);
    });
    assert_eq!(both.code(), 486, "a pair is two");
    world.refresh(udp("192.0.2.1:4002"), "alice", 0);
    let (_, token) = pair(&mut world, alice(), "alice");
    let second = udp("192.0.2.1:4001");
    assert_eq!(world.allocate(second, "alice").code(), 486);
    assert_eq!(claim(&mut world, second, "alice", &token).code(), 0);
    world.refresh(second, "alice", 0);
    assert_eq!(world.allocate(second, "alice").code(), 0);
    world.refresh(second, "alice", 0);
    world.refresh(alice(), "alice", 0);
    pair(&mut world, alice(), "alice");
    assert_eq!(world.allocate(second, "alice").code(), 486);
    world.pass(30);
    assert_eq!(world.allocate(second, "alice").code(), 0);
}

#[test]
fn reserved_ports_count_among_all_too() {
    let mut world = World::with(|config| config.max_allocations = 3);
    pair(&mut world, alice(), "alice");
    let answer = world.allocate_with(bob(), "bob", |writer| {
        writer.attribute(AttributeType::EVEN_PORT, &[0x80]);
    });
    assert_eq!(answer.code(), 508);
    assert_eq!(world.allocate(bob(), "bob").code(), 0);
}

#[test]
fn no_port_left_is_508() {
    let mut world = World::new();
    world.ports.room = 0;
    assert_eq!(world.allocate(alice(), "alice").code(), 508);
    assert_eq!(world.turn.allocations(), 0);
}

#[test]
fn a_stream_that_ends_takes_its_allocation_with_it() {
    let mut world = World::new();
    let client = stream("192.0.2.1:4000");
    world.allocate(client, "alice");
    world.turn.handle_disconnect(&alice(), &mut world.ports);
    assert_eq!(world.turn.allocations(), 1, "that was another client");
    world.turn.handle_disconnect(&client, &mut world.ports);
    assert_eq!((world.turn.allocations(), world.ports.used.len()), (0, 0));
    assert_eq!(world.turn.poll_timeout(), None);
}

#[test]
fn dont_fragment_is_420_where_sockets_cannot_and_passed_on_where_they_can() {
    let mut world = World::new();
    let fill = |writer: &mut Writer<'_>| writer.attribute(AttributeType::DONT_FRAGMENT, &[]);
    let answer = world.allocate_with(alice(), "alice", fill);
    assert_eq!(answer.code(), 420);
    assert_eq!(
        answer.message().value(AttributeType::UNKNOWN_ATTRIBUTES),
        Some(&[0, 0x1a][..])
    );
    let mut world = World::with(|config| config.dont_fragment = true);
    assert_eq!(world.allocate_with(alice(), "alice", fill).code(), 0);
    world.permit(alice(), "alice", &[PEER]);
    let id = world.id();
    let bytes = message(Class::Indication, Method::SEND, id, |writer| {
        writer.xor_address(AttributeType::XOR_PEER_ADDRESS, PEER.parse().unwrap());
        writer.attribute(AttributeType::DATA, b"x");
        fill(writer);
    });
    assert!(matches!(
        world.raw(alice(), &bytes).0,
        Output::ToPeer {
            dont_fragment: true,
            ..
        }
    ));
}

#[test]
fn unknown_attributes_are_420_for_who_has_proven_his_name_only() {
    let mut world = World::new();
    let fill = |writer: &mut Writer<'_>| writer.attribute(AttributeType(0x7001), &[]);
    let answer = world.allocate_with(alice(), "alice", fill);
    assert_eq!(answer.code(), 420);
    let id = world.id();
    let bytes = message(Class::Request, Method::ALLOCATE, id, fill);
    assert_eq!(world.answered(alice(), &bytes).unwrap().code(), 401);
}
