//! The server beside a model of it that is slow, keeps seconds instead of queues, and forgets at once.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Allocate { pair: bool, families: u8, lifetime: u32 },
    Claim,
    Refresh { lifetime: u32, family: u8 },
    Permit { peer: usize },
    Bind { number: u16, peer: usize },
    Send { peer: usize },
    Channel { number: u16 },
    Receive { peer: usize },
    Disconnect,
    Pass { seconds: u64 },
}

const PEERS: [&str; 6] = [
    "198.51.100.1:1",
    "198.51.100.1:2",
    "198.51.100.2:1",
    "198.51.100.3:1",
    "[2a00:1::1]:1",
    "10.0.0.1:1",
];
const INNER: usize = 5;
const USERS: [&str; 3] = ["alice", "alice", "bob"];
const PER_USER: usize = 3;
const PERMISSIONS: usize = 2;
const CHANNELS: usize = 2;

fn step() -> impl Strategy<Value = (usize, Step)> {
    let lifetime = || prop_oneof![Just(0u32), Just(600), Just(900), Just(9000)];
    let peer = || 0..PEERS.len();
    let number = || 0x4000..0x4003u16;
    let step = prop_oneof![
        3 => (prop::bool::weighted(0.3), 0..3u8, lifetime())
            .prop_map(|(pair, families, lifetime)| Step::Allocate { pair, families, lifetime }),
        1 => Just(Step::Claim),
        2 => (lifetime(), 0..3u8).prop_map(|(lifetime, family)| Step::Refresh { lifetime, family }),
        3 => peer().prop_map(|peer| Step::Permit { peer }),
        3 => (number(), peer()).prop_map(|(number, peer)| Step::Bind { number, peer }),
        2 => peer().prop_map(|peer| Step::Send { peer }),
        2 => number().prop_map(|number| Step::Channel { number }),
        3 => peer().prop_map(|peer| Step::Receive { peer }),
        1 => Just(Step::Disconnect),
        3 => prop_oneof![1..40u64, 100..400u64, 500..4000u64].prop_map(|seconds| Step::Pass { seconds }),
    ];
    (0..USERS.len(), step)
}

#[derive(Default)]
struct Model {
    now: u64,
    allocations: HashMap<usize, Allocated>,
    /// The last one of each user that can still be claimed is the last here.
    reservations: Vec<(Vec<u8>, &'static str, u64)>,
}

struct Allocated {
    ends: u64,
    slots: HashMap<Family, Slot>,
    permissions: HashMap<std::net::IpAddr, u64>,
    channels: Vec<(u16, usize, u64)>,
}

fn address(peer: usize) -> SocketAddr {
    PEERS[peer].parse().unwrap()
}

impl Model {
    fn forget(&mut self) {
        let now = self.now;
        self.allocations.retain(|_, allocated| allocated.ends > now);
        self.reservations.retain(|(_, _, ends)| *ends > now);
        for allocated in self.allocations.values_mut() {
            allocated.permissions.retain(|_, ends| *ends > now);
            allocated.channels.retain(|(_, _, ends)| *ends > now);
        }
    }

    fn held(&self, user: &str) -> usize {
        let allocations = self.allocations.keys().filter(|who| USERS[**who] == user).count();
        allocations + self.reservations.iter().filter(|(_, of, _)| *of == user).count()
    }

    fn ports(&self) -> usize {
        let relayed: usize = self.allocations.values().map(|it| it.slots.len()).sum();
        relayed + self.reservations.len()
    }

    /// The code of an Allocate request.
    fn allocate(&self, who: usize, pair: bool, families: u8) -> u16 {
        if self.allocations.contains_key(&who) {
            437
        } else if pair && families == 2 {
            400
        } else if self.held(USERS[who]) + 1 + usize::from(pair) > PER_USER {
            486
        } else {
            0
        }
    }

    fn refresh(&mut self, who: usize, lifetime: u32, family: Option<Family>) -> u16 {
        let now = self.now;
        let Some(allocated) = self.allocations.get_mut(&who) else {
            return 437;
        };
        if family.is_some_and(|family| !allocated.slots.contains_key(&family)) {
            return 443;
        }
        match family {
            _ if lifetime > 0 => allocated.ends = now + clamp(lifetime),
            Some(family) if allocated.slots.len() == 2 => {
                allocated.slots.remove(&family);
            }
            _ => {
                self.allocations.remove(&who);
            }
        }
        0
    }

    /// What a peer must fulfil for a permission.
    fn judge(&self, who: usize, peer: usize) -> u16 {
        let Some(allocated) = self.allocations.get(&who) else {
            return 437;
        };
        let host = address(peer).ip();
        if !allocated.slots.contains_key(&Family::of(&address(peer))) {
            443
        } else if peer == INNER {
            403
        } else if !allocated.permissions.contains_key(&host) && allocated.permissions.len() == PERMISSIONS {
            508
        } else {
            0
        }
    }

    fn permit(&mut self, who: usize, peer: usize) -> u16 {
        let code = self.judge(who, peer);
        if code == 0 {
            let allocated = self.allocations.get_mut(&who).unwrap();
            allocated.permissions.insert(address(peer).ip(), self.now + 300);
        }
        code
    }

    fn bind(&mut self, who: usize, number: u16, peer: usize) -> u16 {
        let code = self.judge(who, peer);
        if code != 0 {
            return code;
        }
        let ends = self.now + 600;
        let allocated = self.allocations.get_mut(&who).unwrap();
        let channels = &mut allocated.channels;
        match channels.iter().position(|(n, p, _)| *n == number || *p == peer) {
            Some(at) if channels[at].0 == number && channels[at].1 == peer => channels[at].2 = ends,
            Some(_) => return 400,
            None if channels.len() == CHANNELS => return 508,
            None => channels.push((number, peer, ends)),
        }
        self.permit(who, peer)
    }

    /// The slot from which data to a peer leaves, and at which its data arrives.
    fn slot(&self, who: usize, peer: usize) -> Option<Slot> {
        let allocated = self.allocations.get(&who)?;
        allocated.slots.get(&Family::of(&address(peer))).copied()
    }

    fn is_permitted(&self, who: usize, peer: usize) -> bool {
        self.allocations
            .get(&who)
            .is_some_and(|it| it.permissions.contains_key(&address(peer).ip()))
    }
}

fn clamp(lifetime: u32) -> u64 {
    u64::from(lifetime.clamp(600, 3600))
}

fn number_of(family: u8) -> Option<Family> {
    Family::from_number(family)
}

fn carry_out(world: &mut World, model: &mut Model, who: usize, step: &Step) -> Result<(), TestCaseError> {
    let clients = [alice(), udp("192.0.2.1:4001"), stream("192.0.2.2:4000")];
    let (client, user) = (clients[who], USERS[who]);
    match *step {
        Step::Allocate {
            pair,
            families,
            lifetime,
        } => {
            let expected = model.allocate(who, pair, families);
            let answer = world.allocate_with(client, user, |writer| {
                writer.number(AttributeType::LIFETIME, lifetime);
                if pair {
                    writer.attribute(AttributeType::EVEN_PORT, &[0x80]);
                }
                match families {
                    1 => writer.attribute(AttributeType::REQUESTED_ADDRESS_FAMILY, &[2, 0, 0, 0]),
                    2 => writer.attribute(AttributeType::ADDITIONAL_ADDRESS_FAMILY, &[2, 0, 0, 0]),
                    _ => {}
                }
            });
            prop_assert_eq!(answer.code(), expected);
            if expected == 0 {
                allocated(model, who, &answer, clamp(lifetime));
                if let Some(token) = answer.message().value(AttributeType::RESERVATION_TOKEN) {
                    model.reservations.push((token.to_vec(), user, model.now + 30));
                }
            }
        }
        Step::Claim => {
            let last = model.reservations.iter().rposition(|(_, of, _)| *of == user);
            let token = last.map_or(vec![0; 8], |at| model.reservations[at].0.clone());
            let expected = match (model.allocations.contains_key(&who), last) {
                (true, _) => 437,
                (false, None) => 508,
                (false, Some(_)) => 0,
            };
            let answer = world.allocate_with(client, user, |writer| {
                writer.attribute(AttributeType::RESERVATION_TOKEN, &token);
            });
            prop_assert_eq!(answer.code(), expected);
            if let (0, Some(at)) = (expected, last) {
                model.reservations.remove(at);
                allocated(model, who, &answer, 600);
            }
        }
        Step::Refresh { lifetime, family } => {
            let expected = model.refresh(who, lifetime, number_of(family));
            let answer = world.ask(client, user, Method::REFRESH, |writer| {
                writer.number(AttributeType::LIFETIME, lifetime);
                if family > 0 {
                    writer.attribute(AttributeType::REQUESTED_ADDRESS_FAMILY, &[family, 0, 0, 0]);
                }
            });
            prop_assert_eq!(answer.code(), expected);
        }
        Step::Permit { peer } => {
            let expected = model.permit(who, peer);
            prop_assert_eq!(world.permit(client, user, &[PEERS[peer]]).code(), expected);
        }
        Step::Bind { number, peer } => {
            let expected = model.bind(who, number, peer);
            prop_assert_eq!(world.bind(client, user, number, PEERS[peer]).code(), expected);
        }
        Step::Send { peer } => {
            let expected = model
                .slot(who, peer)
                .filter(|_| model.is_permitted(who, peer))
                .map(|slot| (slot, address(peer), b"data".to_vec()));
            prop_assert_eq!(world.send(client, PEERS[peer], b"data"), expected);
        }
        Step::Channel { number } => {
            let bound = model
                .allocations
                .get(&who)
                .and_then(|it| it.channels.iter().find(|(n, _, _)| *n == number));
            let expected = bound.and_then(|&(_, peer, _)| {
                let slot = model.slot(who, peer)?;
                Some((slot, address(peer), b"data".to_vec()))
            });
            prop_assert_eq!(world.channel(client, number, b"data"), expected);
        }
        Step::Receive { peer } => {
            let Some(slot) = model.slot(who, peer) else {
                return Ok(());
            };
            let heard = world.receive(slot, PEERS[peer], b"data");
            prop_assert_eq!(heard.is_some(), model.is_permitted(who, peer));
            if let Some((to, bytes)) = heard {
                prop_assert_eq!(to, client);
                let channels = &model.allocations[&who].channels;
                let expected = channels.iter().find(|(_, p, _)| *p == peer).map(|(n, _, _)| *n);
                let found = ChannelData::parse(&bytes).map(|data| data.number);
                prop_assert_eq!(found, expected);
            }
        }
        Step::Disconnect => {
            world.turn.handle_disconnect(&client, &mut world.ports);
            model.allocations.remove(&who);
        }
        Step::Pass { seconds } => {
            world.pass(seconds);
            model.now += seconds;
            model.forget();
        }
    }
    Ok(())
}

fn allocated(model: &mut Model, who: usize, answer: &Answer, lifetime: u64) {
    let relayed = answer.xor(AttributeType::XOR_RELAYED_ADDRESS);
    let slots = relayed
        .iter()
        .map(|address| (Family::of(address), slot_of(*address)));
    model.allocations.insert(
        who,
        Allocated {
            ends: model.now + lifetime,
            slots: slots.collect(),
            permissions: HashMap::new(),
            channels: Vec::new(),
        },
    );
}

proptest! {
    #[test]
    fn it_does_what_the_model_does(steps in proptest::collection::vec(step(), 1..80)) {
        let mut world = World::with(|config| {
            config.max_per_user = PER_USER;
            config.max_permissions = PERMISSIONS;
            config.max_channels = CHANNELS;
        });
        let mut model = Model::default();
        for (who, step) in steps {
            carry_out(&mut world, &mut model, who, &step)?;
            // Only the timer makes the server forget what nobody asks for.
            if world.turn.poll_timeout().is_some_and(|at| at <= world.now) {
                world.turn.handle_timeout(world.now, &mut world.ports);
            }
            prop_assert_eq!(world.turn.allocations(), model.allocations.len());
            prop_assert_eq!(world.ports.used.len(), model.ports());
        }
    }
}
