//! What happens in a world, all from one number: who is where, on which line, behind which box, and what people do.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use agent::{Answering, Random};
use media::RelayPolicy;

use crate::nat::{NatConfig, NatKind};
use crate::network::Line;

/// The plan of a world.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What it was made of.
    pub seed: u64,
    /// How much goes wrong.
    pub weather: Weather,
    /// Workers of the service.
    pub workers: u8,
    /// Which calls the service relays.
    pub relay: RelayPolicy,
    /// How long its disk takes.
    pub store_latency: Duration,
    /// Somebody sends packets of audio to the relay's ports, and nonsense to the service.
    pub intruder: bool,
    /// NAT boxes with their outside addresses.
    pub nats: Vec<(NatConfig, IpAddr)>,
    /// The telephones.
    pub phones: Vec<PhonePlan>,
    /// What happens when, counted from the begin.
    pub steps: Vec<(Duration, Step)>,
    /// When everybody hangs up.
    pub length: Duration,
}

/// How much goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Weather {
    /// Nothing: lines only take their time. Everything has to come out as people expect.
    Calm,
    /// Packets are lost, come twice and in another order, and lines are cut for a while.
    Stormy,
    /// Lines are calm, but the service is killed and starts again.
    Crashing,
}

/// A telephone and its place.
#[derive(Clone, Debug)]
pub struct PhonePlan {
    /// Number of its account; several telephones may share one.
    pub account: usize,
    /// It knows the account's password.
    pub knows_password: bool,
    /// Its address.
    pub address: IpAddr,
    /// Its line.
    pub line: Line,
    /// The box that it is behind.
    pub nat: Option<usize>,
    /// Time between its RTP packets.
    pub packet_interval: Duration,
}

/// Something that happens.
#[derive(Clone, Debug)]
pub enum Step {
    /// A telephone registers.
    Register(usize),
    /// A telephone removes its registration.
    Unregister(usize),
    /// Somebody calls somebody.
    Call(CallPlan),
    /// The service is killed, and starts again after that time.
    Crash(Duration),
    /// A telephone's line is dead for that time.
    Cut(usize, Duration),
    /// A telephone loses its power for that time, and knows nothing afterwards.
    Power(usize, Duration),
    /// A NAT box is switched off and on, and knows no mapping afterwards.
    RestartNat(usize),
    /// The service's disk is full for that time.
    DiskFull(Duration),
}

/// A call as people mean it to go.
#[derive(Clone, Copy, Debug)]
pub struct CallPlan {
    /// The telephone that calls.
    pub from: usize,
    /// Whom.
    pub to: Callee,
    /// The INVITE has no description.
    pub late_offer: bool,
    /// What the called telephones do, if they are free.
    pub answering: Answering,
    /// The caller gives up after that time.
    pub patience: Duration,
    /// How long they talk.
    pub talk: Duration,
    /// The called one hangs up.
    pub callee_ends: bool,
    /// Who puts whom on hold in the middle of it: the caller, or the called one.
    pub hold: Option<bool>,
}

/// Whom one calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Callee {
    /// An account.
    Account(usize),
    /// An account of no telephone.
    Unregistered,
    /// No account.
    Nobody,
    /// The echo service.
    Echo,
}

impl Plan {
    /// The plan of a seed.
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let weather = match random.below(10) {
            0..5 => Weather::Calm,
            5..8 => Weather::Stormy,
            _ => Weather::Crashing,
        };
        let mut plan = Plan {
            seed,
            weather,
            workers: 1 + random.below(2) as u8,
            relay: match random.below(4) {
                0 => RelayPolicy::Always,
                _ => RelayPolicy::Auto,
            },
            store_latency: match random.below(10) {
                // Longer than a phone is made to wait for its call's record.
                0 => Duration::from_millis(700),
                1 => Duration::from_millis(100),
                _ => Duration::from_millis(1 + random.below(20)),
            },
            intruder: random.per_mille(500),
            nats: Vec::new(),
            phones: Vec::new(),
            steps: Vec::new(),
            length: Duration::from_secs(20 + random.below(60)),
        };
        plan.place_phones(&mut random);
        plan.fill(&mut random);
        plan.steps.sort_by_key(|(at, _)| *at);
        plan
    }

    fn place_phones(&mut self, random: &mut Random) {
        let count = 2 + random.below(4) as usize;
        for number in 0..count {
            let shared = number > 0 && random.per_mille(200);
            let account = match shared {
                true => self.phones[random.below(number as u64) as usize].account,
                false => self
                    .phones
                    .iter()
                    .map(|phone| phone.account + 1)
                    .max()
                    .unwrap_or(0),
            };
            let nat = match random.below(10) {
                0..3 => None,
                3..5 if !self.nats.is_empty() => Some(random.below(self.nats.len() as u64) as usize),
                _ => Some(self.add_nat(random)),
            };
            let last = number as u8;
            let address = match nat {
                // The same in every home, but not for two telephones of one account: they would be the same contact.
                Some(_) => IpAddr::from(Ipv4Addr::new(192, 168, 1, 10 + last)),
                None if random.per_mille(250) => {
                    IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, 1 + u16::from(last)))
                }
                None => IpAddr::from(Ipv4Addr::new(198, 51, 100, 100 + last)),
            };
            let line = self.line(random);
            self.phones.push(PhonePlan {
                account,
                knows_password: !random.per_mille(40),
                address,
                line,
                nat,
                packet_interval: Duration::from_millis(if random.per_mille(100) { 20 } else { 100 }),
            });
        }
    }

    fn add_nat(&mut self, random: &mut Random) -> usize {
        let kinds = [
            NatKind::FullCone,
            NatKind::Restricted,
            NatKind::PortRestricted,
            NatKind::Symmetric,
        ];
        let config = NatConfig {
            kind: kinds[random.below(4) as usize],
            // The shortest is what boxes in homes have; the service's keepalives have to be faster.
            lifetime: Duration::from_secs([30, 60, 180][random.below(3) as usize]),
            inbound_refreshes: random.per_mille(300),
        };
        let address = Ipv4Addr::new(198, 51, 100, 1 + self.nats.len() as u8);
        self.nats.push((config, address.into()));
        self.nats.len() - 1
    }

    fn line(&self, random: &mut Random) -> Line {
        let ms = Duration::from_millis;
        match self.weather {
            Weather::Calm | Weather::Crashing => Line {
                delay: ms(1 + random.below(60)),
                jitter: Duration::from_micros(random.below(500)),
                ..Line::default()
            },
            Weather::Stormy => Line {
                delay: ms(1 + random.below(150)),
                jitter: ms(random.below(300)),
                loss: random.below(100) as u32,
                duplication: random.below(100) as u32,
            },
        }
    }

    fn fill(&mut self, random: &mut Random) {
        for phone in 0..self.phones.len() {
            if !random.per_mille(50) {
                self.steps
                    .push((self.moment(random, 2_000), Step::Register(phone)));
            }
        }
        let length = self.length.as_millis() as u64;
        for _ in 0..2 + random.below(8) {
            let call = self.call(random);
            let at = 3_000 + random.below(length - 3_000);
            self.steps.push((Duration::from_millis(at), Step::Call(call)));
        }
        for phone in 0..self.phones.len() {
            if random.per_mille(150) {
                let at = self.moment(random, length);
                let step = if random.per_mille(500) {
                    Step::Unregister(phone)
                } else {
                    Step::Register(phone)
                };
                self.steps.push((at, step));
            }
            if self.weather == Weather::Stormy && random.per_mille(150) {
                let cut = Duration::from_millis(500 + random.below(20_000));
                let step = match random.below(3) {
                    0 => Step::Power(phone, cut),
                    _ => Step::Cut(phone, cut),
                };
                self.steps.push((self.moment(random, length), step));
            }
        }
        if self.weather == Weather::Stormy {
            for nat in 0..self.nats.len() {
                if random.per_mille(100) {
                    self.steps
                        .push((self.moment(random, length), Step::RestartNat(nat)));
                }
            }
        }
        if self.weather != Weather::Calm && random.per_mille(100) {
            let full = Duration::from_millis(500 + random.below(10_000));
            self.steps
                .push((self.moment(random, length), Step::DiskFull(full)));
        }
        if self.weather == Weather::Crashing {
            for _ in 0..1 + random.below(2) {
                let down = Duration::from_millis(50 + random.below(5_000));
                let at = Duration::from_millis(100) + self.moment(random, length);
                self.steps.push((at, Step::Crash(down)));
                // Somebody's registration is answered at about that moment.
                let phone = random.below(self.phones.len() as u64) as usize;
                let before = self.phones[phone].line.delay + self.moment(random, 60);
                self.steps
                    .push((at.saturating_sub(before), Step::Register(phone)));
            }
        }
    }

    fn call(&self, random: &mut Random) -> CallPlan {
        let count = self.phones.len() as u64;
        let from = random.below(count) as usize;
        // Now and then somebody calls himself.
        let distance = if random.per_mille(50) {
            0
        } else {
            1 + random.below(count - 1)
        };
        let phone = (from + distance as usize) % self.phones.len();
        let to = match random.below(20) {
            0 => Callee::Nobody,
            1 => Callee::Unregistered,
            2..5 => Callee::Echo,
            _ => Callee::Account(self.phones[phone].account),
        };
        let after = Duration::from_millis(random.below(6_000));
        let answering = match random.below(10) {
            0 => Answering::Refuse(486, after),
            1 => Answering::Refuse(603, after),
            2 => Answering::Ring,
            _ => Answering::Accept(after),
        };
        let talk = Duration::from_millis(500 + random.below(12_000));
        CallPlan {
            from,
            to,
            late_offer: random.per_mille(100),
            answering,
            patience: match random.below(8) {
                // About when it is answered: a race.
                0 => after + Duration::from_millis(random.below(300)),
                1 => Duration::from_millis(random.below(3_000)),
                _ => Duration::from_secs(60),
            },
            talk,
            callee_ends: random.per_mille(400),
            hold: (talk > HOLDING && random.per_mille(300)).then(|| random.per_mille(500)),
        }
    }

    fn moment(&self, random: &mut Random, limit: u64) -> Duration {
        Duration::from_millis(random.below(limit))
    }
}

/// Talks that are long enough for holding and resuming.
const HOLDING: Duration = Duration::from_secs(4);
