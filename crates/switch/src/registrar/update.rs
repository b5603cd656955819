//! The change itself, under the lock of the address-of-record: first all that could be in the way, then all of it at once
//! (RFC 3261 10.3 steps 6 and 7: processed completely or not at all).

use sip::uri::Uri;
use smallvec::SmallVec;

use super::contact::{Requested, RequestedContact, Wish};
use super::{Refusal, Registered, RegistrarConfig, WhenFull};
use crate::location::{Binding, BindingChange, BindingParts, Bindings, Location, Slot};

/// A REGISTER that is to be carried out.
pub(super) struct Update<'r, 'm> {
    pub(super) unix: u64,
    pub(super) aor: &'r str,
    pub(super) request: &'r Requested<'m>,
    /// It is known that the same request was here before: it changes nothing a second time.
    pub(super) repeated: bool,
    pub(super) config: &'r RegistrarConfig,
}

/// What becomes of one contact of the request.
enum Step {
    /// A contact that goes, and is not there.
    Nothing,
    Add,
    Replace(Slot),
    Remove(Slot),
}

impl<'m> Update<'_, 'm> {
    pub(super) fn apply(&self, location: &Location) -> Result<Registered, Refusal<'m>> {
        location.update(self.aor, |bindings| match &self.request.contacts {
            Wish::RemoveAll => self.remove_all(bindings),
            Wish::Each(contacts) => self.each(bindings, contacts),
        })
    }

    fn remove_all(&self, bindings: &mut Bindings<'_>) -> Result<Registered, Refusal<'m>> {
        if bindings
            .iter()
            .any(|(_, binding)| self.is_valid(binding) && !self.is_newer_than(binding))
        {
            return self.out_of_order();
        }
        if self.repeated && bindings.iter().any(|(_, binding)| self.is_valid(binding)) {
            return Ok(Registered::Silently);
        }
        let slots: SmallVec<[Slot; 4]> = bindings.iter().map(|(slot, _)| slot).collect();
        let mut changes = SmallVec::new();
        let order = bindings.next_change();
        slots
            .into_iter()
            .for_each(|slot| remove(bindings, slot, order, &mut changes));
        Ok(Registered::Done {
            bindings: SmallVec::new(),
            changes,
        })
    }

    fn each(
        &self,
        bindings: &mut Bindings<'_>,
        contacts: &[RequestedContact<'m>],
    ) -> Result<Registered, Refusal<'m>> {
        let mut steps: SmallVec<[Step; 2]> = SmallVec::new();
        for contact in contacts {
            let step = match self.find(bindings, contact, &steps) {
                None if contact.expires == 0 => Step::Nothing,
                None => Step::Add,
                Some((_, old)) if self.is_repeated(old) && contact.expires > 0 => {
                    return Ok(self.repeated(bindings, contacts));
                }
                Some((_, old)) if !self.is_newer_than(old) => return self.out_of_order(),
                Some((slot, _)) if contact.expires == 0 => Step::Remove(slot),
                Some((slot, _)) => Step::Replace(slot),
            };
            steps.push(step);
        }
        if !self.replace_same_instances(bindings, contacts, &mut steps) {
            return self.out_of_order();
        }
        let surplus = self.make_room(bindings, &steps)?;
        if self.repeated && !steps.iter().all(|step| matches!(step, Step::Nothing)) {
            // What it did the first time was taken back, by a newer request or because it could not be stored.
            return Ok(Registered::Silently);
        }

        let mut changes = SmallVec::new();
        let order = bindings.next_change();
        let pending = if self.config.durable {
            (order as u32).max(1)
        } else {
            0
        };
        for slot in surplus {
            remove(bindings, slot, order, &mut changes);
        }
        for (contact, step) in contacts.iter().zip(&steps) {
            match *step {
                Step::Nothing => {}
                Step::Remove(slot) => remove(bindings, slot, order, &mut changes),
                Step::Add => {
                    let mut after = Binding::new(&self.parts(contact, self.unix));
                    after.pending = pending;
                    bindings.insert(after.clone());
                    changes.push(BindingChange {
                        before: None,
                        after: Some(after),
                        order,
                    });
                }
                Step::Replace(slot) => {
                    let Some(before) = bindings.get(slot).cloned() else {
                        continue;
                    };
                    let mut after = before.refreshed(&self.parts(contact, before.registered_at()));
                    after.pending = pending;
                    if before.has_contact(contact.uri.as_str()) {
                        bindings.replace(slot, after.clone());
                        changes.push(BindingChange {
                            before: Some(before),
                            after: Some(after),
                            order,
                        });
                    } else {
                        // Spelt otherwise it is another one to the store.
                        remove(bindings, slot, order, &mut changes);
                        bindings.insert(after.clone());
                        changes.push(BindingChange {
                            before: None,
                            after: Some(after),
                            order,
                        });
                    }
                }
            }
        }
        Ok(Registered::Done {
            bindings: self.current(bindings, contacts),
            changes,
        })
    }

    /// A newer request of the same Call-ID was here. 10.3 says that the request fails, and 12.2.2 with what: 500. But not if it had
    /// an answer before: it would have two.
    fn out_of_order(&self) -> Result<Registered, Refusal<'m>> {
        if self.repeated {
            Ok(Registered::Silently)
        } else {
            Err(Refusal::Plain(500, "CSeq Out Of Order"))
        }
    }

    /// The request came before: nothing changes, and its answer is what holds now.
    fn repeated(&self, bindings: &Bindings<'_>, contacts: &[RequestedContact<'m>]) -> Registered {
        let pending = |(_, binding): (Slot, &Binding)| self.is_repeated(binding) && binding.pending != 0;
        if bindings.iter().any(pending) {
            return Registered::Silently;
        }
        Registered::Done {
            bindings: self.current(bindings, contacts),
            changes: SmallVec::new(),
        }
    }

    /// A telephone that comes back with another address leaves its old contact behind, where calls would ring for nobody. Its
    /// instance tells that it is the same telephone. False: a newer request was here.
    fn replace_same_instances(
        &self,
        bindings: &Bindings<'_>,
        contacts: &[RequestedContact<'m>],
        steps: &mut [Step],
    ) -> bool {
        for at in 0..steps.len() {
            let contact = &contacts[at];
            if contact.instance.is_empty() || !matches!(steps[at], Step::Add) {
                continue;
            }
            let left_behind = bindings.iter().find(|(slot, old)| {
                self.is_valid(old)
                    && old.has_instance(contact.instance)
                    && old.reg_id() == contact.reg_id
                    && !is_taken(*slot, steps)
            });
            if let Some((slot, old)) = left_behind {
                if !self.is_newer_than(old) {
                    return false;
                }
                steps[at] = Step::Replace(slot);
            }
        }
        true
    }

    /// Bindings that have to go: what has ended, and what is too much.
    fn make_room(&self, bindings: &Bindings<'_>, steps: &[Step]) -> Result<SmallVec<[Slot; 2]>, Refusal<'m>> {
        let count = |wanted: fn(&Step) -> bool| steps.iter().filter(|step| wanted(step)).count();
        let mut room: SmallVec<[Slot; 2]> = SmallVec::new();
        let mut others: SmallVec<[(u64, Slot); 8]> = SmallVec::new();
        for (slot, binding) in bindings.iter().filter(|(slot, _)| !is_taken(*slot, steps)) {
            if self.is_valid(binding) {
                others.push((binding.expires(), slot));
            } else {
                room.push(slot);
            }
        }
        let added = count(|step| matches!(step, Step::Add));
        let kept = count(|step| matches!(step, Step::Replace(_)));
        let surplus = (others.len() + kept + added).saturating_sub(self.config.max_bindings);
        if surplus > 0 && added > 0 {
            if self.config.when_full == WhenFull::Refuse {
                return Err(Refusal::Plain(403, "Too Many Bindings"));
            }
            others.sort_unstable_by_key(|(expires, _)| *expires);
            room.extend(others.into_iter().take(surplus).map(|(_, slot)| slot));
        }
        Ok(room)
    }

    /// All valid bindings, those of the request first: telephones tend to look at the first one only.
    fn current(&self, bindings: &Bindings<'_>, contacts: &[RequestedContact<'m>]) -> SmallVec<[Binding; 2]> {
        let mut current: SmallVec<[Binding; 2]> = bindings
            .iter()
            .map(|(_, binding)| binding)
            .filter(|binding| self.is_valid(binding))
            .cloned()
            .collect();
        if current.len() > 1 {
            let asked = |binding: &Binding| contacts.iter().any(|contact| is_same(binding, contact));
            current.sort_by_cached_key(|binding| (!asked(binding), std::cmp::Reverse(binding.expires())));
        }
        current
    }

    /// The binding that a contact means, unless an earlier contact of the request has changed it: equality of URIs is not
    /// transitive, so two that differ can both be equal to the same binding.
    fn find<'b>(
        &self,
        bindings: &'b Bindings<'_>,
        contact: &RequestedContact<'_>,
        steps: &[Step],
    ) -> Option<(Slot, &'b Binding)> {
        let same = |binding: &Binding| self.is_valid(binding) && is_same(binding, contact);
        bindings
            .iter()
            .find(|(slot, binding)| same(binding) && !is_taken(*slot, steps))
    }

    fn is_valid(&self, binding: &Binding) -> bool {
        binding.expires() > self.unix
    }

    /// The order of requests is known within one Call-ID only.
    fn is_newer_than(&self, binding: &Binding) -> bool {
        !binding.has_call_id(self.request.call_id) || self.request.cseq > binding.cseq()
    }

    fn is_repeated(&self, binding: &Binding) -> bool {
        binding.has_call_id(self.request.call_id) && self.request.cseq == binding.cseq()
    }

    fn parts<'p>(&'p self, contact: &'p RequestedContact<'m>, registered_at: u64) -> BindingParts<'p> {
        BindingParts {
            aor: self.aor,
            contact: contact.uri.as_str(),
            call_id: self.request.call_id,
            cseq: self.request.cseq,
            q: contact.q,
            expires: self.unix + u64::from(contact.expires),
            registered_at,
            path: &self.request.path,
            instance: contact.instance,
            reg_id: contact.reg_id,
            user_agent: &self.request.user_agent,
            flow: self.request.flow,
            behind_nat: self.request.behind_nat,
        }
    }
}

/// RFC 3261 19.1.4; the usual case, that nothing has changed, needs no parsing.
fn is_same(binding: &Binding, contact: &RequestedContact<'_>) -> bool {
    binding.has_contact(contact.uri.as_str())
        || Uri::parse(binding.contact()).is_ok_and(|uri| uri.equivalent(&contact.uri))
}

/// One of the steps changes the binding in `slot`.
fn is_taken(slot: Slot, steps: &[Step]) -> bool {
    steps
        .iter()
        .any(|step| matches!(step, Step::Replace(taken) | Step::Remove(taken) if *taken == slot))
}

fn remove(bindings: &mut Bindings<'_>, slot: Slot, order: u64, changes: &mut SmallVec<[BindingChange; 1]>) {
    if let Some(before) = bindings.remove(slot) {
        changes.push(BindingChange {
            before: Some(before),
            after: None,
            order,
        });
    }
}
