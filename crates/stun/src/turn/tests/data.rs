use super::*;
use crate::frame::next_frame;

fn ready(client: Client) -> (World, Slot) {
    let mut world = World::new();
    let slot = slot_of(world.allocate(client, "alice").relayed());
    world.permit(client, "alice", &[PEER]);
    (world, slot)
}

#[test]
fn send_and_data_indications_carry_anything_even_nothing() {
    let (mut world, slot) = ready(alice());
    for length in [0, 1, 2, 3, 4, 5, 1200] {
        let data = vec![7; length];
        assert_eq!(
            world.send(alice(), PEER, &data),
            Some((slot, PEER.parse().unwrap(), data.clone()))
        );
        let (client, bytes) = world.receive(slot, PEER, &data).unwrap();
        let message = Message::parse(&bytes).unwrap();
        assert_eq!(client, alice());
        assert_eq!(
            (message.class(), message.method()),
            (Class::Indication, Method::DATA)
        );
        assert_eq!(message.value(AttributeType::DATA), Some(&data[..]));
        let peer = message.value(AttributeType::XOR_PEER_ADDRESS).unwrap();
        assert_eq!(
            read_xor_address(peer, &message.transaction_id()),
            Some(PEER.parse().unwrap())
        );
    }
}

#[test]
fn each_data_indication_has_an_id_of_its_own() {
    let (mut world, slot) = ready(alice());
    let id = |world: &mut World| {
        let (_, bytes) = world.receive(slot, PEER, b"x").unwrap();
        Message::parse(&bytes).unwrap().transaction_id()
    };
    assert_ne!(id(&mut world), id(&mut world));
}

#[test]
fn a_data_indication_from_an_ipv6_peer_is_as_long_as_a_prefix_may_be() {
    let mut world = World::new();
    let answer = world.allocate_with(alice(), "alice", |writer| {
        writer.attribute(AttributeType::REQUESTED_ADDRESS_FAMILY, &[2, 0, 0, 0]);
    });
    world.permit(alice(), "alice", &[PEER_V6]);
    let to = world
        .turn
        .handle_peer_datagram(
            world.now,
            slot_of(answer.relayed()),
            PEER_V6.parse().unwrap(),
            b"x",
        )
        .unwrap();
    assert_eq!(to.prefix.as_bytes().len(), Prefix::MAX);
}

#[test]
fn a_peer_is_known_by_its_ipv4_address_within_ipv6_too() {
    let (mut world, slot) = ready(alice());
    assert!(world.receive(slot, "[::ffff:198.51.100.77]:7000", b"x").is_some());
    assert!(world.send(alice(), "[::ffff:198.51.100.77]:7000", b"x").is_some());
}

#[test]
fn what_goes_to_a_stream_is_padded_and_found_again() {
    let client = stream("192.0.2.1:4000");
    let (mut world, slot) = ready(client);
    let mut bytes = Vec::new();
    bytes.extend(world.receive(slot, PEER, b"hello").unwrap().1);
    world.bind(client, "alice", 0x4001, PEER);
    bytes.extend(world.receive(slot, PEER, b"hello").unwrap().1);
    bytes.extend(world.receive(slot, PEER, b"world").unwrap().1);
    let mut rest = &bytes[..];
    let mut methods = Vec::new();
    while let Some(frame) = next_frame(rest).unwrap() {
        rest = &rest[frame.used..];
        methods.push(match ChannelData::parse(frame.bytes) {
            Some(channel) => channel.data.to_vec(),
            None => Message::parse(frame.bytes)
                .unwrap()
                .value(AttributeType::DATA)
                .unwrap()
                .to_vec(),
        });
    }
    assert!(rest.is_empty());
    assert_eq!(methods, [b"hello", b"hello", b"world"]);
}

#[test]
fn indications_that_are_not_whole_are_dropped() {
    let (mut world, _) = ready(alice());
    let peer: SocketAddr = PEER.parse().unwrap();
    let fills: [fn(&mut Writer<'_>, SocketAddr); 5] = [
        |_, _| {},
        |writer, peer| writer.xor_address(AttributeType::XOR_PEER_ADDRESS, peer),
        |writer, _| writer.attribute(AttributeType::DATA, b"x"),
        |writer, peer| {
            writer.xor_address(AttributeType::XOR_PEER_ADDRESS, peer);
            writer.attribute(AttributeType::DATA, b"x");
            writer.attribute(AttributeType(0x7001), b"");
        },
        |writer, peer| {
            writer.xor_address(AttributeType::XOR_PEER_ADDRESS, peer);
            writer.attribute(AttributeType::DATA, b"x");
            writer.attribute(AttributeType::DONT_FRAGMENT, b"");
        },
    ];
    for (number, fill) in fills.into_iter().enumerate() {
        let id = world.id();
        let bytes = message(Class::Indication, Method::SEND, id, |writer| fill(writer, peer));
        assert_eq!(world.raw(alice(), &bytes).0, Output::Silence, "{number}");
    }
    let id = world.id();
    let bytes = message(Class::Indication, Method::SEND, id, |writer| {
        writer.xor_address(AttributeType::XOR_PEER_ADDRESS, peer);
        writer.attribute(AttributeType::DATA, b"x");
        writer.attribute(AttributeType::SOFTWARE, b"may be ignored");
    });
    assert!(matches!(world.raw(alice(), &bytes).0, Output::ToPeer { .. }));
}

#[test]
fn data_of_strangers_to_slots_and_clients_is_dropped() {
    let (mut world, slot) = ready(alice());
    assert!(world.receive(Slot(slot.0 + 1), PEER, b"x").is_none());
    assert!(world.receive(Slot(u32::MAX), PEER, b"x").is_none());
    assert!(world.send(bob(), PEER, b"x").is_none());
    world.bind(alice(), "alice", 0x4000, PEER);
    assert!(world.channel(bob(), 0x4000, b"x").is_none());
    assert!(world.channel(alice(), 0x4001, b"x").is_none());
}

#[test]
fn data_that_is_too_long_for_its_header_is_dropped() {
    let (mut world, slot) = ready(alice());
    assert!(world.receive(slot, PEER, &vec![0; 65_500]).is_some());
    assert!(world.receive(slot, PEER, &vec![0; 65_530]).is_none());
}
