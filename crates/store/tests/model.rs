//! Any sequence of changes, with the file closed and opened again in between, leaves what a map would hold.

use std::collections::BTreeMap;

use proptest::prelude::*;
use store::{Account, Binding, BindingFields, Change, Ha1, Store, StoreError};

#[derive(Clone, Debug)]
enum Step {
    Apply(Vec<Change>),
    Reopen,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    accounts: BTreeMap<(String, String), Account>,
    bindings: BTreeMap<(String, String), Binding>,
}

impl Model {
    /// Applies all, or none and says so.
    fn apply(&mut self, changes: &[Change]) -> bool {
        let mut next = self.clone();
        for change in changes {
            match change {
                Change::AddAccount(account) => {
                    let key = (account.domain.clone(), account.name.clone());
                    if next.accounts.insert(key, (**account).clone()).is_some() {
                        return false;
                    }
                }
                Change::PutAccount(account) => {
                    next.accounts.insert(
                        (account.domain.clone(), account.name.clone()),
                        (**account).clone(),
                    );
                }
                Change::RemoveAccount { name, domain } => {
                    next.accounts.remove(&(domain.clone(), name.clone()));
                }
                Change::PutBinding { binding, .. } => {
                    let fields = binding.fields();
                    next.bindings.insert(
                        (fields.aor.to_owned(), fields.contact.to_owned()),
                        binding.clone(),
                    );
                }
                Change::RemoveBinding { aor, contact, .. } => {
                    next.bindings.remove(&(aor.to_string(), contact.to_string()));
                }
                Change::RemoveBindings { aor } => next.bindings.retain(|(of, _), _| **of != **aor),
                Change::RemoveExpired { at } => next.bindings.retain(|_, b| b.fields().expires_at > *at),
                other => unreachable!("not generated: {other:?}"),
            }
        }
        *self = next;
        true
    }
}

fn read(store: &Store) -> Model {
    let mut model = Model::default();
    for account in store.accounts().unwrap() {
        model
            .accounts
            .insert((account.domain.clone(), account.name.clone()), account);
    }
    store
        .each_binding(0, |fields| {
            model
                .bindings
                .insert((fields.aor.to_owned(), fields.contact.to_owned()), fields.into());
            true
        })
        .unwrap();
    model
}

/// Few names, so that changes meet; with quotes, NUL and letters beyond ASCII, so that nothing is spliced into SQL.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("alice".to_owned()),
        Just("o'neill\"; --".to_owned()),
        Just("ü\0%".to_owned())
    ]
}

fn account() -> impl Strategy<Value = Box<Account>> {
    (name(), name(), any::<u8>(), any::<u32>(), any::<bool>()).prop_map(
        |(name, domain, key, created, disabled)| {
            let ha1 = Ha1 {
                md5: Some(key.to_string()),
                sha256: None,
                sha512_256: Some(format!("{key:064x}")),
            };
            Box::new(Account {
                name,
                domain,
                ha1,
                created: created.into(),
                disabled,
            })
        },
    )
}

fn binding() -> impl Strategy<Value = Binding> {
    (
        name(),
        name(),
        any::<String>(),
        any::<Vec<u8>>(),
        any::<u32>(),
        1..50u64,
    )
        .prop_map(|(aor, contact, user_agent, flow, cseq, expires_at)| {
            Binding::new(BindingFields {
                aor: &aor,
                contact: &contact,
                call_id: &user_agent,
                path: &contact,
                instance: &aor,
                user_agent: &user_agent,
                flow: &flow,
                cseq,
                reg_id: cseq / 2,
                q: (cseq % 1001) as u16,
                registered_at: u64::from(cseq),
                expires_at,
            })
        })
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        1 => account().prop_map(Change::AddAccount),
        2 => account().prop_map(Change::PutAccount),
        1 => (name(), name()).prop_map(|(name, domain)| Change::RemoveAccount { name, domain }),
        6 => binding().prop_map(|binding| Change::PutBinding { binding, order: 0 }),
        2 => (name(), name())
            .prop_map(|(aor, contact)| Change::RemoveBinding { aor: aor.into(), contact: contact.into(), order: 0 }),
        1 => name().prop_map(|aor| Change::RemoveBindings { aor: aor.into() }),
        1 => (0..50u64).prop_map(|at| Change::RemoveExpired { at }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop::collection::vec(change(), 0..6).prop_map(Step::Apply),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_store_holds_what_a_map_would(steps in prop::collection::vec(step(), 1..20)) {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("trapez.db");
        let mut store = Store::open(&path).unwrap();
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Apply(changes) => {
                    let applied = match store.apply(&changes) {
                        Ok(()) => true,
                        Err(StoreError::AccountExists { .. }) => false,
                        Err(error) => panic!("{error}"),
                    };
                    prop_assert_eq!(applied, model.apply(&changes));
                }
                Step::Reopen => {
                    drop(store);
                    store = Store::open(&path).unwrap();
                }
            }
            prop_assert_eq!(&read(&store), &model);
        }
    }
}
