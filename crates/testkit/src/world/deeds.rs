//! What people and machines do in a world, step by step of its plan: calls, holds, hanging up, power cuts, intruders.

use super::*;

impl World<'_> {
    pub(super) fn plan_step(&mut self, step: Step) {
        match step {
            Step::Register(station) => {
                self.note(|world| format!("{} registers", world.stations[station].name));
                self.stations[station].phone.register(self.now);
                self.pump_phone(station);
            }
            Step::Unregister(station) => {
                self.note(|world| format!("{} unregisters", world.stations[station].name));
                self.stations[station].registered_until = None;
                let account = self.plan.phones[station].account;
                self.expect_anything(|call| call.plan.to == Callee::Account(account));
                self.stations[station].phone.unregister(self.now);
                self.pump_phone(station);
            }
            Step::Call(plan) => self.call(plan),
            Step::Crash(down) => {
                if self.service.take().is_some() {
                    self.note(|_| String::from("the service is killed"));
                    self.troubles.push((self.now, self.now + down));
                    self.store.crash(&mut self.random);
                    self.later(self.now + down, Job::Restart);
                }
            }
            Step::Cut(station, time) => {
                self.note(|world| format!("the line of {} is cut", world.stations[station].name));
                self.network.set_up(self.stations[station].host, false);
                self.later(self.now + time, Job::Repair(station));
            }
            Step::Power(station, down) => self.power_off(station, down),
            Step::RestartNat(nat) => {
                self.note(|_| format!("NAT box {nat} is switched off and on"));
                self.network.restart_nat(nat);
            }
            Step::DiskFull(time) => {
                self.note(|_| String::from("the disk is full"));
                self.store.set_full(true);
                self.troubles.push((self.now, self.now + time));
                self.later(self.now + time, Job::DiskHasRoom);
            }
        }
    }

    /// A telephone loses its power; its calls are over as far as it knows, which is nothing.
    pub(super) fn power_off(&mut self, number: usize, down: Duration) {
        self.note(|world| format!("{} has no power", world.stations[number].name));
        self.network.set_up(self.stations[number].host, false);
        let phone = Phone::new(self.phone_config(number), self.random.number());
        let station = &mut self.stations[number];
        station.phone = phone;
        station.conversations.forget();
        station.completed = 0;
        let end = End {
            at: self.now,
            cause: EndCause::Failed(503),
            media: MediaCounts::default(),
        };
        self.by_phone.retain(|(station, _), _| *station != number);
        for call in &mut self.calls {
            if call.plan.from == number {
                call.end.get_or_insert_with(|| end.clone());
                call.forgotten = true;
            }
            for callee in call.callees.iter_mut().filter(|callee| callee.station == number) {
                callee.end.get_or_insert_with(|| end.clone());
            }
        }
        self.later(self.now + down, Job::PowerOn(number));
    }

    pub(super) fn power_on(&mut self, number: usize) {
        self.note(|world| format!("{} has power again", world.stations[number].name));
        self.network.set_up(self.stations[number].host, true);
        if self.now < self.start + self.plan.length {
            self.stations[number].phone.register(self.now);
            self.pump_phone(number);
        }
    }

    /// Somebody on the network tries to get into calls, and to get answers.
    pub(super) fn intrude(&mut self) {
        let Some(host) = self.intruder else { return };
        let source = SocketAddr::new(INTRUDER, 4000);
        let mut packet = vec![0x80, 8];
        packet.extend(self.random.bytes());
        packet.resize(172, 0xd5);
        let port = self
            .service
            .as_ref()
            .and_then(|service| service.busy_port(&mut self.random));
        if let Some(port) = port.filter(SocketAddr::is_ipv4) {
            self.send(host, source, port, &packet);
        }
        let choice = self.random.below(INTRUSIONS.len() as u64) as usize;
        let mut nonsense = INTRUSIONS[choice].to_vec();
        if choice > 0 {
            // With another From an INVITE would be a stranger's call, which is let in.
            let place = self.random.below(nonsense.len() as u64) as usize;
            nonsense[place] = self.random.number() as u8;
        }
        self.send(host, source, SocketAddr::new(SERVICE[0], SIP_PORT), &nonsense);
        if self.now < self.start + self.plan.length {
            let next = self.now + Duration::from_millis(50 + self.random.below(200));
            self.later(next, Job::Intrude);
        }
    }

    pub(super) fn call(&mut self, plan: CallPlan) {
        let expected = self.expect(&plan);
        // Who calls is busy for those whose calls are on their way to him, and of two calls on their way one comes first.
        let own = Callee::Account(self.plan.phones[plan.from].account);
        self.expect_anything(|call| call.plan.to == own || call.plan.to == plan.to);
        if let Callee::Account(account) = plan.to {
            for number in 0..self.stations.len() {
                // Those in a call as well: it may end before this one arrives.
                if self.plan.phones[number].account == account && !self.is_awaited(number) {
                    self.stations[number].phone.set_answering(plan.answering);
                }
            }
        }
        let user = match plan.to {
            Callee::Account(account) => account_name(account),
            Callee::Unregistered => String::from("nobody-home"),
            Callee::Nobody => String::from("nobody"),
            Callee::Echo => String::from("echo"),
        };
        let phone = &mut self.stations[plan.from].phone;
        let key = phone.call(self.now, &format!("sip:{user}@{DOMAIN}"), plan.late_offer);
        let Some(call_id) = phone.call_id(key) else { return };
        let facts = CallFacts {
            plan,
            call_id: call_id.to_owned(),
            key,
            started: self.now,
            expected,
            answered: None,
            held: false,
            forgotten: false,
            ssrc: phone.ssrc(key).unwrap_or(0),
            end: None,
            callees: Vec::new(),
        };
        let call = self.calls.len();
        self.calls.push(facts);
        self.by_phone.insert((plan.from, key), call);
        self.note(|world| {
            format!(
                "{} calls {user}: {plan:?}, expected: {:?}",
                world.caller(call),
                world.calls[call].expected
            )
        });
        self.later(self.now + plan.patience, Job::GiveUp(call));
        self.pump_phone(plan.from);
    }

    /// Of calls to accounts that are on their way nobody can tell any more what comes of them.
    pub(super) fn expect_anything(&mut self, which: impl Fn(&CallFacts) -> bool) {
        for call in &mut self.calls {
            let on_its_way = call.callees.is_empty() && call.end.is_none();
            if on_its_way && matches!(call.plan.to, Callee::Account(_)) && which(call) {
                call.expected = Expected::Anything;
            }
        }
    }

    /// A telephone has no call, and none is on its way to it.
    pub(crate) fn is_free(&self, number: usize) -> bool {
        self.stations[number].phone.calls().next().is_none() && !self.is_awaited(number)
    }

    /// A call is on its way to a telephone.
    pub(crate) fn is_awaited(&self, number: usize) -> bool {
        let account = self.plan.phones[number].account;
        self.calls.iter().any(|call| {
            let recent = self.now.duration_since(call.started) < ON_ITS_WAY;
            // The service may have been down when it was made; then its INVITE comes much later.
            let came = call.callees.iter().any(|callee| callee.station == number);
            let open = call.end.is_none() && call.answered.is_none() && !came;
            call.plan.to == Callee::Account(account) && (recent || open)
        })
    }

    pub(super) fn hang_up(&mut self, call: usize) {
        let facts = &self.calls[call];
        if facts.forgotten {
            return;
        }
        let callee = facts
            .callees
            .iter()
            .find(|callee| callee.answered && callee.end.is_none());
        let (station, key) = match callee {
            Some(callee) if facts.plan.callee_ends => (callee.station, callee.key),
            _ => (facts.plan.from, facts.key),
        };
        self.note(|world| format!("{} hangs up", world.stations[station].name));
        self.stations[station].phone.hang_up(self.now, key);
        self.pump_phone(station);
    }

    pub(super) fn hold(&mut self, call: usize, hold: bool) {
        let facts = &mut self.calls[call];
        if facts.forgotten {
            return;
        }
        let callee = facts.callees.iter().find(|callee| callee.answered);
        let (station, key) = match (facts.plan.hold, callee) {
            (Some(false), Some(callee)) => (callee.station, callee.key),
            _ => (facts.plan.from, facts.key),
        };
        facts.held = true;
        self.note(|world| format!("{} holds: {hold}", world.stations[station].name));
        self.stations[station].phone.hold(self.now, key, hold);
        self.pump_phone(station);
    }

    pub(super) fn everybody_hangs_up(&mut self) {
        for number in 0..self.stations.len() {
            let calls: Vec<_> = self.stations[number].phone.calls().collect();
            for call in calls {
                self.stations[number].phone.hang_up(self.now, call);
            }
            self.pump_phone(number);
        }
    }
}
