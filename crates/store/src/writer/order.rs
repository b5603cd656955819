//! Which change of a binding is the latest: workers that change the same one may hand over in the wrong order, since they do so
//! after they have let go of what serialises them. A change is late by microseconds, or by as long as its worker is kept from
//! running; the last changes are remembered, as many as may wait in the queue and more, in bounded memory.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use crate::Change;

/// The latest changes of bindings.
#[derive(Debug, Default)]
pub(super) struct Orders {
    /// By a hash of the address-of-record and the contact.
    young: HashMap<u64, u64>,
    /// What was young before; it goes when the young are too many.
    old: HashMap<u64, u64>,
    keys: RandomState,
}

impl Orders {
    /// Takes note of a change that is about to be written; false when a later one was.
    pub(super) fn is_latest(&mut self, change: &Change) -> bool {
        let Some((key, order)) = self.place(change) else {
            return true;
        };
        let latest = self.young.get(&key).or_else(|| self.old.get(&key));
        if latest.is_some_and(|latest| *latest > order) {
            return false;
        }
        if self.young.len() >= REMEMBERED {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, order);
        true
    }

    /// The change could not be written.
    pub(super) fn forget(&mut self, change: &Change) {
        if let Some((key, order)) = self.place(change) {
            for orders in [&mut self.young, &mut self.old] {
                if orders.get(&key) == Some(&order) {
                    orders.remove(&key);
                }
            }
        }
    }

    fn place(&self, change: &Change) -> Option<(u64, u64)> {
        let (aor, contact, order) = match change {
            Change::PutBinding { binding, order } => {
                let fields = binding.fields();
                (fields.aor, fields.contact, *order)
            }
            Change::RemoveBinding { aor, contact, order } => (&**aor, &**contact, *order),
            _ => return None,
        };
        (order > 0).then(|| (self.keys.hash_one((aor, contact)), order))
    }
}

/// Bindings in one generation: what the queue holds. Two of them cost about 1 MB.
const REMEMBERED: usize = super::DEFAULT_QUEUE;

#[cfg(test)]
mod tests {
    use super::*;

    fn remove(number: usize, order: u64) -> Change {
        Change::RemoveBinding {
            aor: number.to_string().into(),
            contact: "c".into(),
            order,
        }
    }

    #[test]
    fn the_last_changes_are_remembered_and_not_more() {
        let mut orders = Orders::default();
        assert!(orders.is_latest(&remove(0, 2)));
        for number in 1..=REMEMBERED {
            assert!(orders.is_latest(&remove(number, 2)));
            assert!(!orders.is_latest(&remove(0, 1)));
        }
        for number in REMEMBERED..4 * REMEMBERED {
            orders.is_latest(&remove(number, 2));
            assert!(orders.young.len() + orders.old.len() <= 2 * REMEMBERED);
        }
        assert!(orders.is_latest(&remove(0, 1)));
    }
}
