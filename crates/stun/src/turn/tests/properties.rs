use proptest::prelude::*;

use super::*;

/// One step of some client's.
#[derive(Clone, Debug)]
enum Step {
    Allocate { even: Option<u8>, families: u8 },
    Refresh { lifetime: u32 },
    Permit { peer: u8 },
    Bind { number: u16, peer: u8 },
    Send { peer: u8 },
    Channel { number: u16 },
    Receive { slot: u32, peer: u8 },
    Disconnect,
    Pass { seconds: u64 },
    Timeout,
}

fn step() -> impl Strategy<Value = (usize, Step)> {
    let step = prop_oneof![
        3 => (prop::option::of(prop_oneof![Just(0u8), Just(0x80)]), 0..4u8)
            .prop_map(|(even, families)| Step::Allocate { even, families }),
        2 => prop_oneof![Just(0), Just(600), Just(5000)].prop_map(|lifetime| Step::Refresh { lifetime }),
        2 => (0..4u8).prop_map(|peer| Step::Permit { peer }),
        2 => (0x4000..0x4003u16, 0..4u8).prop_map(|(number, peer)| Step::Bind { number, peer }),
        2 => (0..4u8).prop_map(|peer| Step::Send { peer }),
        2 => (0x4000..0x4003u16).prop_map(|number| Step::Channel { number }),
        2 => (0..8u32, 0..4u8).prop_map(|(slot, peer)| Step::Receive { slot, peer }),
        1 => Just(Step::Disconnect),
        2 => prop_oneof![1..100u64, 250..700u64].prop_map(|seconds| Step::Pass { seconds }),
        1 => Just(Step::Timeout),
    ];
    (0..4usize, step)
}

fn peer(number: u8) -> &'static str {
    ["198.51.100.1:1", "198.51.100.1:2", "[2a00:1::1]:1", "10.0.0.1:1"][usize::from(number)]
}

proptest! {
    /// Whatever clients do: every port is given back in the end, no data goes to where none may, and nothing is left.
    #[test]
    fn every_port_comes_back_and_nothing_is_left(steps in proptest::collection::vec(step(), 1..60)) {
        let clients = [alice(), bob(), udp("192.0.2.1:4001"), stream("192.0.2.2:4000")];
        let users = ["alice", "bob", "alice", "bob"];
        let mut world = World::with(|config| config.max_per_user = 3);
        for (who, step) in steps {
            let (client, user) = (clients[who], users[who]);
            match step {
                Step::Allocate { even, families } => {
                    world.allocate_with(client, user, |writer| {
                        if let Some(flags) = even {
                            writer.attribute(AttributeType::EVEN_PORT, &[flags]);
                        }
                        match families {
                            1 => writer.attribute(AttributeType::REQUESTED_ADDRESS_FAMILY, &[2, 0, 0, 0]),
                            2 => writer.attribute(AttributeType::ADDITIONAL_ADDRESS_FAMILY, &[2, 0, 0, 0]),
                            _ => {}
                        }
                    });
                }
                Step::Refresh { lifetime } => { world.refresh(client, user, lifetime); }
                Step::Permit { peer: number } => { world.permit(client, user, &[peer(number)]); }
                Step::Bind { number, peer: to } => { world.bind(client, user, number, peer(to)); }
                Step::Send { peer: number } => {
                    let sent = world.send(client, peer(number), b"data");
                    prop_assert!(sent.is_none() || number != 3);
                    if let Some((slot, _, _)) = sent {
                        prop_assert!(world.ports.used.contains(&slot.0));
                    }
                }
                Step::Channel { number } => {
                    if let Some((slot, to, _)) = world.channel(client, number, b"data") {
                        prop_assert!(world.ports.used.contains(&slot.0));
                        prop_assert!(to != peer(3).parse().unwrap());
                    }
                }
                Step::Receive { slot, peer: from } => {
                    if world.receive(Slot(slot), peer(from), b"data").is_some() {
                        prop_assert!(world.ports.used.contains(&slot));
                    }
                }
                Step::Disconnect => world.turn.handle_disconnect(&client, &mut world.ports),
                Step::Pass { seconds } => world.pass(seconds),
                Step::Timeout => {
                    world.turn.handle_timeout(world.now, &mut world.ports);
                    prop_assert!(world.turn.poll_timeout().is_none_or(|at| at > world.now));
                    // What is left is alive.
                    let alive = clients.iter().filter(|client| world.turn.table.of_client(world.now, client).is_some());
                    prop_assert_eq!(alive.count(), world.turn.allocations());
                }
            }
            prop_assert!(world.turn.allocations() <= 4);
            prop_assert!(world.ports.used.is_empty() || world.turn.poll_timeout().is_some());
        }
        world.pass(5000);
        world.turn.handle_timeout(world.now, &mut world.ports);
        prop_assert_eq!((world.turn.allocations(), world.ports.used.len()), (0, 0));
        prop_assert_eq!(world.turn.poll_timeout(), None);
        prop_assert_eq!(world.turn.table.held_by("alice") + world.turn.table.held_by("bob"), 0);
    }

    #[test]
    fn arbitrary_messages_never_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..100),
        attributes in proptest::collection::vec(
            (prop_oneof![0..0x30u16, any::<u16>()], proptest::collection::vec(any::<u8>(), 0..12)), 0..6),
        method in prop_oneof![
            Just(Method::ALLOCATE), Just(Method::REFRESH), Just(Method::CREATE_PERMISSION),
            Just(Method::CHANNEL_BIND)],
    ) {
        let mut world = World::new();
        world.allocate(alice(), "alice");
        let _ = world.raw(alice(), &bytes);
        let _ = world.receive(Slot(1), PEER, &bytes);
        // Behind a good signature, where most of the code is.
        for client in [alice(), bob()] {
            let id = world.id();
            let sealed = world.sealed(client, "alice", Protection::New, method, id, |writer| {
                for (kind, value) in &attributes {
                    writer.attribute(AttributeType(*kind), value);
                }
            });
            let _ = world.raw(client, &sealed);
        }
    }
}
