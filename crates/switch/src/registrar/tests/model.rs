//! The registrar against a simple model of RFC 3261 10.3, over random requests.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Request {
    RemoveAll {
        call_id: u8,
        cseq: u32,
    },
    Each {
        call_id: u8,
        cseq: u32,
        contacts: Vec<(u8, u32)>,
    },
    /// The last request again.
    Repeat,
    Wait {
        seconds: u64,
    },
}

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    call_id: u8,
    cseq: u32,
    ends: u64,
}

/// Contacts by their number.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model(BTreeMap<u8, Entry>);

impl Model {
    /// The status, and what holds afterwards.
    fn register(&mut self, now: u64, request: &Request) -> u16 {
        self.0.retain(|_, entry| entry.ends > now);
        let mut next = self.clone();
        match request {
            Request::RemoveAll { call_id, cseq } => {
                if self
                    .0
                    .values()
                    .any(|entry| entry.call_id == *call_id && *cseq <= entry.cseq)
                {
                    return 500;
                }
                next.0.clear();
            }
            Request::Each {
                call_id,
                cseq,
                contacts,
            } => {
                if contacts.iter().any(|(_, expires)| *expires > 0 && *expires < 60) {
                    return 423;
                }
                for (contact, expires) in contacts {
                    let old = self.0.get(contact).filter(|entry| entry.call_id == *call_id);
                    match old.map(|old| cseq.cmp(&old.cseq)) {
                        Some(std::cmp::Ordering::Equal) if *expires > 0 => return 200,
                        Some(std::cmp::Ordering::Equal | std::cmp::Ordering::Less) => return 500,
                        Some(std::cmp::Ordering::Greater) | None if *expires == 0 => {
                            next.0.remove(contact);
                        }
                        Some(std::cmp::Ordering::Greater) | None => {
                            let ends = now + u64::from(*expires).min(3600);
                            next.0.insert(
                                *contact,
                                Entry {
                                    call_id: *call_id,
                                    cseq: *cseq,
                                    ends,
                                },
                            );
                        }
                    }
                }
            }
            Request::Repeat | Request::Wait { .. } => {}
        }
        *self = next;
        200
    }
}

fn request() -> impl Strategy<Value = Request> {
    let contact = (
        0..4u8,
        prop_oneof![4 => 60..5000u32, 2 => Just(0u32), 1 => 1..60u32],
    );
    prop_oneof![
        8 => (0..3u8, 0..12u32, prop::collection::vec(contact, 0..4)).prop_map(|(call_id, cseq, contacts)| {
            // Twice the same contact in one request is another test's matter.
            let contacts: BTreeMap<u8, u32> = contacts.into_iter().collect();
            Request::Each { call_id, cseq, contacts: contacts.into_iter().collect() }
        }),
        1 => (0..3u8, 0..12u32).prop_map(|(call_id, cseq)| Request::RemoveAll { call_id, cseq }),
        2 => Just(Request::Repeat),
        2 => (1..2000u64).prop_map(|seconds| Request::Wait { seconds }),
    ]
}

fn contact_uri(contact: u8) -> String {
    format!("sip:{contact}@192.0.2.1:5060")
}

fn build(request: &Request) -> Option<Register> {
    let (call_id, cseq, lines) = match request {
        Request::RemoveAll { call_id, cseq } => (call_id, cseq, "Contact: *\nExpires: 0".to_owned()),
        Request::Each {
            call_id,
            cseq,
            contacts,
        } => {
            let lines = contacts
                .iter()
                .map(|(contact, expires)| format!("Contact: <{}>;expires={expires}", contact_uri(*contact)));
            (call_id, cseq, lines.collect::<Vec<_>>().join("\n"))
        }
        Request::Repeat | Request::Wait { .. } => return None,
    };
    Some(register(*cseq, &lines).call_id(&call_id.to_string()))
}

proptest! {
    /// With each request goes whether the store fails to take it: then it must leave no trace.
    #[test]
    fn it_does_what_the_model_does(
        requests in prop::collection::vec((request(), prop::bool::weighted(0.1)), 1..60),
        durable in any::<bool>(),
    ) {
        let mut service = Service::new(RegistrarConfig { durable, ..RegistrarConfig::default() });
        let (mut model, mut now, mut last) = (Model::default(), NOW, None);
        for (request, fails) in requests {
            if let Request::Wait { seconds } = request {
                now += seconds;
            }
            let request = if matches!(request, Request::Repeat) { last.clone().unwrap_or(request) } else { request };
            let Some(message) = build(&request) else { continue };
            last = Some(request.clone());

            let mut after = model.clone();
            let status = after.register(now, &request);
            let answer = service.register_at(now, &message);
            prop_assert_eq!(answer.status, status, "{:?}", request);
            if !durable {
                prop_assert!(answer.changes.is_empty());
            }
            let fails = fails && !answer.changes.is_empty();
            let mut response = answer.text.clone().into_bytes();
            service.registrar.stored(&answer.changes, !fails, &mut response);
            if fails {
                prop_assert!(response.starts_with(b"SIP/2.0 500 "));
                after = model.clone();
                after.0.retain(|_, entry| entry.ends > now);
            }
            model = after;

            let expected: Vec<(String, u64)> =
                model.0.iter().map(|(contact, entry)| (contact_uri(*contact), entry.ends - now)).collect();
            prop_assert_eq!(&service.bindings(now), &expected);
            if status == 200 && !fails {
                let mut listed = answer.header("Contact");
                listed.sort_unstable();
                let expected: Vec<String> =
                    expected.iter().map(|(contact, expires)| format!("<{contact}>;expires={expires}")).collect();
                prop_assert_eq!(listed, expected);
            }
        }
    }
}
