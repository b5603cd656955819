use super::*;

#[test]
fn without_a_permission_nothing_passes_in_either_direction() {
    let mut world = World::new();
    let slot = slot_of(world.allocate(alice(), "alice").relayed());
    assert!(world.send(alice(), PEER, b"x").is_none());
    assert!(world.receive(slot, PEER, b"x").is_none());
    assert_eq!(world.permit(alice(), "alice", &[PEER]).code(), 0);
    assert!(world.send(alice(), PEER, b"x").is_some());
    assert!(world.receive(slot, PEER, b"x").is_some());
    // It is for the host: ports do not matter.
    assert!(world.receive(slot, "198.51.100.77:9", b"x").is_some());
    assert!(world.receive(slot, "198.51.100.78:7000", b"x").is_none());
}

#[test]
fn a_permission_ends_after_300_seconds_unless_it_is_refreshed() {
    let mut world = World::new();
    let slot = slot_of(world.allocate(alice(), "alice").relayed());
    world.permit(alice(), "alice", &[PEER]);
    world.pass(299);
    assert!(world.receive(slot, PEER, b"x").is_some());
    world.permit(alice(), "alice", &[PEER]);
    world.pass(299);
    assert!(world.receive(slot, PEER, b"x").is_some());
    assert!(world.send(alice(), PEER, b"x").is_some());
    world.pass(1);
    assert!(world.receive(slot, PEER, b"x").is_none());
    assert!(
        world.send(alice(), PEER, b"x").is_none(),
        "sending refreshes nothing"
    );
}

#[test]
fn permissions_are_installed_all_or_none() {
    let mut world = World::new();
    world.allocate(alice(), "alice");
    for (peers, code) in [
        (&[PEER, "10.0.0.1:1"][..], 403),
        (&[PEER, PEER_V6], 443),
        (&[], 400),
    ] {
        assert_eq!(world.permit(alice(), "alice", peers).code(), code, "{peers:?}");
        assert!(world.send(alice(), PEER, b"x").is_none());
    }
    let answer = world.ask(alice(), "alice", Method::CREATE_PERMISSION, |writer| {
        writer.xor_address(AttributeType::XOR_PEER_ADDRESS, PEER.parse().unwrap());
        writer.attribute(AttributeType::XOR_PEER_ADDRESS, &[0, 1, 2]);
    });
    assert_eq!(answer.code(), 400);
    assert!(world.send(alice(), PEER, b"x").is_none());
}

#[test]
fn inner_addresses_are_403_for_permissions_and_channels() {
    let mut world = World::new();
    world.allocate(alice(), "alice");
    for peer in ["127.0.0.1:22", "192.168.0.1:80", "169.254.169.254:80"] {
        assert_eq!(world.permit(alice(), "alice", &[peer]).code(), 403, "{peer}");
        assert_eq!(world.bind(alice(), "alice", 0x4000, peer).code(), 403, "{peer}");
    }
}

#[test]
fn two_clients_of_one_server_reach_each_other_but_no_other_port_of_it() {
    let mut world = World::with(|config| {
        config.peers.own = vec!["203.0.113.10".parse().unwrap()];
    });
    let of_alice = world.allocate(alice(), "alice").relayed();
    let of_bob = world.allocate(bob(), "bob").relayed();
    assert_eq!(world.permit(alice(), "alice", &[&of_bob.to_string()]).code(), 0);
    assert_eq!(world.permit(bob(), "bob", &[&of_alice.to_string()]).code(), 0);
    let (slot, peer, data) = world.send(alice(), &of_bob.to_string(), b"hello").unwrap();
    assert_eq!((slot, peer), (slot_of(of_alice), of_bob));
    let (client, bytes) = world
        .receive(slot_of(of_bob), &of_alice.to_string(), &data)
        .unwrap();
    assert_eq!(client, bob());
    assert_eq!(
        Message::parse(&bytes).unwrap().value(AttributeType::DATA),
        Some(&b"hello"[..])
    );
    assert!(world.send(alice(), "203.0.113.10:5060", b"x").is_none());
    assert_eq!(
        world.bind(alice(), "alice", 0x4000, "203.0.113.10:5060").code(),
        403
    );
}

#[test]
fn permissions_are_limited_and_ended_ones_do_not_count() {
    let mut world = World::with(|config| config.max_permissions = 2);
    world.allocate_with(alice(), "alice", |writer| {
        writer.number(AttributeType::LIFETIME, 3600);
    });
    let peers = ["198.51.100.1:1", "198.51.100.2:1", "198.51.100.3:1"];
    assert_eq!(world.permit(alice(), "alice", &peers[..2]).code(), 0);
    assert_eq!(world.permit(alice(), "alice", &peers[2..]).code(), 508);
    assert_eq!(
        world.permit(alice(), "alice", &[peers[0]; 3]).code(),
        508,
        "nobody needs to name one three times"
    );
    assert_eq!(world.bind(alice(), "alice", 0x4000, peers[2]).code(), 508);
    assert_eq!(world.permit(alice(), "alice", &peers[..2]).code(), 0, "refreshed");
    world.pass(300);
    assert_eq!(world.permit(alice(), "alice", &peers[2..]).code(), 0);
}

#[test]
fn a_channel_permits_its_peer_and_carries_data_both_ways() {
    let mut world = World::new();
    let slot = slot_of(world.allocate(alice(), "alice").relayed());
    assert!(world.channel(alice(), 0x4001, b"x").is_none());
    assert_eq!(world.bind(alice(), "alice", 0x4001, PEER).code(), 0);
    assert_eq!(
        world.channel(alice(), 0x4001, b"hello"),
        Some((slot, PEER.parse().unwrap(), b"hello".to_vec()))
    );
    let (client, bytes) = world.receive(slot, PEER, b"world").unwrap();
    assert_eq!(client, alice());
    assert_eq!(bytes, b"\x40\x01\0\x05world");
    // Another port of the same host is permitted, but not on the channel.
    let (_, bytes) = world.receive(slot, "198.51.100.77:9", b"world").unwrap();
    assert_eq!(Message::parse(&bytes).unwrap().method(), Method::DATA);
}

#[test]
fn channels_are_of_one_peer_and_one_number_while_they_last() {
    let mut world = World::new();
    world.allocate_with(alice(), "alice", |writer| {
        writer.number(AttributeType::LIFETIME, 3600);
    });
    assert_eq!(world.bind(alice(), "alice", 0x4001, PEER).code(), 0);
    assert_eq!(world.bind(alice(), "alice", 0x4001, PEER).code(), 0, "refreshed");
    let other = "198.51.100.77:7001";
    assert_eq!(world.bind(alice(), "alice", 0x4002, PEER).code(), 400);
    assert_eq!(world.bind(alice(), "alice", 0x4001, other).code(), 400);
    assert_eq!(world.bind(alice(), "alice", 0x4002, other).code(), 0);
    assert_eq!(
        world.bind(alice(), "alice", 0x4001, other).code(),
        400,
        "both are taken, by different channels"
    );
    // Another client's channels are its own.
    world.allocate(bob(), "bob");
    assert_eq!(world.bind(bob(), "bob", 0x4001, other).code(), 0);
    world.pass(600);
    assert_eq!(
        world.bind(alice(), "alice", 0x4001, other).code(),
        0,
        "both have ended"
    );
}

#[test]
fn a_channel_lasts_600_seconds_and_its_permission_300() {
    let mut world = World::new();
    let slot = slot_of(
        world
            .allocate_with(alice(), "alice", |writer| {
                writer.number(AttributeType::LIFETIME, 3600);
            })
            .relayed(),
    );
    world.bind(alice(), "alice", 0x4001, PEER);
    world.pass(300);
    assert!(
        world.receive(slot, PEER, b"x").is_none(),
        "the permission has ended"
    );
    assert!(
        world.channel(alice(), 0x4001, b"x").is_some(),
        "the channel has not"
    );
    world.permit(alice(), "alice", &[PEER]);
    world.pass(299);
    let (_, bytes) = world.receive(slot, PEER, b"x").unwrap();
    assert_eq!(bytes[0], 0x40);
    world.pass(1);
    assert!(world.channel(alice(), 0x4001, b"x").is_none());
    world.permit(alice(), "alice", &[PEER]);
    let (_, bytes) = world.receive(slot, PEER, b"x").unwrap();
    assert_eq!(bytes[0], 0, "a Data indication again");
}

#[test]
fn channel_numbers_outside_4000_to_7fff_and_malformed_requests_are_400() {
    let mut world = World::new();
    world.allocate(alice(), "alice");
    for (number, code) in [(0x3fff, 400), (0x7fff, 0), (0x8000, 400), (0xffff, 400)] {
        assert_eq!(
            world.bind(alice(), "alice", number, PEER).code(),
            code,
            "{number:#x}"
        );
    }
    let answer = world.ask(alice(), "alice", Method::CHANNEL_BIND, |writer| {
        writer.attribute(AttributeType::CHANNEL_NUMBER, &[0x40, 1, 0, 0]);
    });
    assert_eq!(answer.code(), 400);
    let answer = world.ask(alice(), "alice", Method::CHANNEL_BIND, |writer| {
        writer.xor_address(AttributeType::XOR_PEER_ADDRESS, PEER.parse().unwrap());
    });
    assert_eq!(answer.code(), 400);
}

#[test]
fn peers_of_another_family_are_443() {
    let mut world = World::new();
    world.allocate(alice(), "alice");
    assert_eq!(world.permit(alice(), "alice", &[PEER_V6]).code(), 443);
    assert_eq!(world.bind(alice(), "alice", 0x4000, PEER_V6).code(), 443);
}

#[test]
fn channels_are_limited() {
    let mut world = World::with(|config| config.max_channels = 1);
    world.allocate(alice(), "alice");
    assert_eq!(world.bind(alice(), "alice", 0x4000, PEER).code(), 0);
    assert_eq!(world.bind(alice(), "alice", 0x4001, "198.51.100.1:1").code(), 508);
    assert_eq!(world.bind(alice(), "alice", 0x4000, PEER).code(), 0);
}
