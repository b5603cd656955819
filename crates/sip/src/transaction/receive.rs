//! What a message that comes in belongs to, and what is done with it.

use std::time::Instant;

use super::matching::NewRequest;
use super::slot::Machine;
use super::{Branch, ClientKey, Key, Received, ServerKey, Transactions};
use crate::flow::Flow;
use crate::message::Message;
use crate::method::Method;
use crate::outbox::Outbox;
use crate::respond::Response;

impl Transactions {
    pub(super) fn new_request(&self, key: u64, m: &Message<'_>) -> NewRequest {
        // Mostly there is nothing to be merged with; a key is then made for what becomes a transaction.
        let merge = match self.merges.is_empty() {
            true => None,
            false => self.matcher.merge_key(m),
        };
        let merged = merge.is_some_and(|merge| self.merges.find(merge).is_some());
        NewRequest {
            key,
            merge,
            merged,
            tag: self.matcher.tag(key),
        }
    }

    pub(super) fn receive_ack(&mut self, now: Instant, m: Message<'_>) -> Received {
        let Some(key) = self.matcher.key(&m, Method::Invite) else {
            return Received::Absorbed;
        };
        let Some(slot) = self.servers.find(key) else {
            // The ACK to a response that was sent statelessly, with our tag, needs nothing more.
            let tag = m.to_tag();
            let ours = tag.is_some_and(|tag| tag == self.matcher.tag(key).as_str());
            return if ours { Received::Absorbed } else { Received::Ack };
        };
        let Some(Machine::Server(server)) = self.transactions.get_mut(slot as usize).map(|t| &mut t.machine)
        else {
            return Received::Absorbed;
        };
        let received = server.acknowledged(&self.config, now);
        self.settle(now, slot);
        received
    }

    /// A CANCEL needs no transaction of its own: it is answered in the same way as often as it comes.
    pub(super) fn receive_cancel(&mut self, m: Message<'_>, flow: &Flow, out: &mut Outbox) -> Received {
        let Some(key) = self.matcher.key(&m, Method::Invite) else {
            return Received::Absorbed;
        };
        let Some(slot) = self.servers.find(key) else {
            return Received::Cancel { invite: None };
        };
        let Some(transaction) = self.transactions.get_mut(slot as usize) else {
            return Received::Absorbed;
        };
        let serial = transaction.serial;
        let Machine::Server(server) = &mut transaction.machine else {
            return Received::Absorbed;
        };
        let tag = self.matcher.tag(key);
        out.push_with(flow, |bytes| {
            Response::new(m, 200)
                .to_tag(tag.as_str())
                .source(flow.remote)
                .write(bytes)
        });
        if !server.awaits_final() || std::mem::replace(&mut server.cancelled, true) {
            return Received::Absorbed;
        }
        Received::Cancel {
            invite: Some(ServerKey(Key { slot, serial })),
        }
    }

    pub(super) fn receive_response(
        &mut self,
        now: Instant,
        m: Message<'_>,
        flow: &Flow,
        out: &mut Outbox,
    ) -> Received {
        let Some(slot) = self.find_client(&m) else {
            return Received::StrayResponse;
        };
        let Some(transaction) = self.transactions.get_mut(slot as usize) else {
            return Received::StrayResponse;
        };
        let (serial, owner) = (transaction.serial, transaction.owner);
        let Machine::Client(client) = &mut transaction.machine else {
            return Received::StrayResponse;
        };
        let Some(then) = client.responded(&self.config, now, &m, flow, &mut self.scratch, out) else {
            return Received::StrayResponse;
        };
        if then.cancel {
            self.send_cancel(now, slot, out);
        }
        self.settle(now, slot);
        if then.pass_up {
            Received::Response {
                client: ClientKey(Key { slot, serial }),
                owner,
            }
        } else {
            Received::Absorbed
        }
    }

    pub(super) fn find_client(&self, m: &Message<'_>) -> Option<u32> {
        let branch = Branch::parse(m.top_via().ok()?.branch?)?;
        let slot = branch.slot()?;
        let transaction = self.transactions.get(slot as usize)?;
        self.branches
            .is_genuine(&branch, slot, transaction.serial)
            .then_some(slot)
    }

    /// Answers a retransmitted request with what was answered before.
    pub(super) fn repeat_response(&mut self, slot: u32, out: &mut Outbox) {
        if let Some(Machine::Server(server)) = self.transactions.get(slot as usize).map(|t| &t.machine) {
            server.repeat(&mut self.scratch, out);
        }
    }
}
