//! Telephones that do anything at any time, in any order, twice or not at all. Whatever they do, every call makes one record, and
//! when all timers have fired nothing is left: no transaction, no call, no relay port.

use std::collections::BTreeSet;

use proptest::prelude::*;

use crate::phone::*;
use crate::world::*;

/// What happens next; the numbers choose among what there is.
#[derive(Clone, Debug)]
enum Step {
    Call,
    CallElsewhere,
    Cancel(usize),
    Answer(usize, u16),
    InDialog(usize, &'static str),
    Repeat(usize),
    Dns(bool),
    FlowFails(usize),
    Store,
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let which = 0..64usize;
    let status = prop::sample::select(vec![
        100, 180, 183, 183, 200, 200, 200, 202, 302, 401, 404, 408, 481, 486, 487, 488, 491, 503, 600, 603,
    ]);
    let method = prop::sample::select(vec![
        "ACK", "ACK", "BYE", "BYE", "INVITE", "UPDATE", "PRACK", "INFO",
    ]);
    prop_oneof![
        2 => Just(Step::Call),
        1 => Just(Step::CallElsewhere),
        2 => which.clone().prop_map(Step::Cancel),
        8 => (which.clone(), status).prop_map(|(n, status)| Step::Answer(n, status)),
        4 => (which.clone(), method).prop_map(|(n, method)| Step::InDialog(n, method)),
        2 => which.clone().prop_map(Step::Repeat),
        1 => any::<bool>().prop_map(Step::Dns),
        1 => which.prop_map(Step::FlowFails),
        1 => Just(Step::Store),
        2 => prop::sample::select(vec![1, 100, 500, 5_000, 33_000, 200_000]).prop_map(Step::Pass),
    ]
}

struct Chaos {
    world: World,
    /// What was said, to be said again.
    said: Vec<(Phone, String)>,
    invites: Vec<String>,
    calls: BTreeSet<String>,
    /// Requests that telephones have got, to be answered.
    got: Vec<(Phone, Sent)>,
    dialogs: Vec<Dialog>,
}

impl Chaos {
    fn new(store_answers: bool) -> Self {
        let mut world = World::with(1, |config| {
            config.longest_call = std::time::Duration::from_secs(3_000)
        });
        world.register(&bob());
        world.register(&bob2());
        world.store_answers = store_answers;
        Chaos {
            world,
            said: Vec::new(),
            invites: Vec::new(),
            calls: BTreeSet::new(),
            got: Vec::new(),
            dialogs: Vec::new(),
        }
    }

    fn phones() -> [Phone; 4] {
        [alice(), bob(), bob2(), udp("server", "192.0.2.81:5060")]
    }

    fn say(&mut self, phone: &Phone, text: String) {
        self.world.say(phone, &text);
        self.said.push((phone.clone(), text));
        self.listen();
    }

    /// Each telephone takes note of what it was sent.
    fn listen(&mut self) {
        for phone in Self::phones() {
            for sent in self.world.to(&phone) {
                if !sent.body().is_empty() {
                    sent.assert_length();
                }
                match sent.status() {
                    None => self.got.push((phone.clone(), sent)),
                    Some(101..300) if sent.get("CSeq").ends_with("INVITE") => {
                        self.dialogs.push(Dialog::caller(&phone, &sent));
                    }
                    Some(_) => {}
                }
            }
        }
    }

    fn call(&mut self, to: &str) {
        let text = invite(&alice(), to);
        self.invites.push(text.clone());
        self.calls
            .insert(crate::phone::text(&text).get("Call-ID").to_owned());
        self.say(&alice(), text);
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Call => self.call("bob"),
            Step::CallElsewhere => self.call("sip:x@far.example"),
            Step::Cancel(n) => {
                if let Some(text) = pick(&self.invites, n) {
                    self.say(&alice(), hop(&text, "CANCEL", ""));
                }
            }
            Step::Answer(n, status) => {
                let Some((phone, request)) =
                    pick(&self.got, n).filter(|(_, request)| request.method() != "ACK")
                else {
                    return;
                };
                let tag = format!("{}-{}", phone.flow.remote.port(), n % 2);
                let body = match request.method() {
                    "INVITE" | "UPDATE" if (101..300).contains(&status) => sdp("10.0.0.2", 5000, ""),
                    _ => String::new(),
                };
                let lines = format!("Contact: <{}>\n", phone.contact);
                if request.method() == "INVITE" && !request.get("To").contains(";tag=") {
                    self.dialogs.push(Dialog::callee(&phone, &request, &tag));
                }
                self.say(&phone, reply(&request, status, &tag, &lines, &body));
            }
            Step::InDialog(n, method) => {
                if self.dialogs.is_empty() {
                    return;
                }
                let n = n % self.dialogs.len();
                let body = match method {
                    "INVITE" | "UPDATE" => sdp("10.0.0.1", 4000, "m=video 4002 RTP/AVP 31\n"),
                    _ => String::new(),
                };
                let text = self.dialogs[n].next(method, "", &body);
                let phone = self.dialogs[n].phone.clone();
                if method == "INVITE" {
                    self.invites.push(text.clone());
                }
                self.say(&phone, text);
            }
            Step::Repeat(n) => {
                if let Some((phone, text)) = pick(&self.said, n) {
                    self.say(&phone, text);
                }
            }
            Step::Dns(known) => {
                self.world.dns(|query| match query.record_type {
                    sip::resolve::RecordType::A if known => {
                        sip::resolve::Answer::A(vec![[192, 0, 2, 81].into(), [192, 0, 2, 82].into()])
                    }
                    _ => sip::resolve::Answer::NoRecords,
                });
                self.listen();
            }
            Step::FlowFails(n) => {
                let phone = &Self::phones()[n % 4];
                self.world.switches[0].handle_flow_failed(self.world.now, &phone.flow);
                self.world.collect();
                self.listen();
            }
            Step::Store => {
                self.world.store_now();
                self.listen();
            }
            Step::Pass(ms) => {
                self.world.pass_ms(ms);
                self.listen();
            }
        }
    }

    fn check(mut self) {
        // Calls in which nobody has hung up end at the longest duration.
        self.world.pass_s(3_001);
        self.world.store_now();
        self.world.ends_empty();
        let recorded: BTreeSet<String> = self
            .world
            .records
            .iter()
            .map(|record| record.call_id.clone())
            .collect();
        // An INVITE that is repeated after its transaction is over is another call with the same Call-ID.
        assert!(self.world.records.len() >= self.calls.len());
        assert_eq!(recorded, self.calls);
        let ids: BTreeSet<u64> = self.world.records.iter().map(|record| record.id).collect();
        assert_eq!(ids.len(), self.world.records.len());
    }
}

fn pick<T: Clone>(list: &[T], n: usize) -> Option<T> {
    // The later ones matter most.
    let back = n % list.len().max(1);
    list.len().checked_sub(1 + back).map(|at| list[at].clone())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn whatever_telephones_do_nothing_of_their_calls_is_left(
        store_answers in any::<bool>(),
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let mut chaos = Chaos::new(store_answers);
        for step in &steps {
            chaos.run(step);
        }
        chaos.check();
    }
}
