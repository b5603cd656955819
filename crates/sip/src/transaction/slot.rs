//! Where transactions live: what each costs, its timer, its end.

use std::time::Instant;

use slab::Slab;

use super::client::ClientTransaction;
use super::server::ServerTransaction;
use super::{ClientKey, Key, Overload, ServerKey, TransactionEvent, Transactions, branch, client, server};
use crate::outbox::Outbox;
use crate::timer::TimerId;

#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) serial: u32,
    pub(super) owner: u64,
    /// The timer that is set, and for when.
    pub(super) timer: Option<(TimerId, Instant)>,
    /// Its share of [`Transactions::kept`].
    kept: usize,
    pub(super) machine: Machine,
}

#[derive(Debug)]
pub(super) enum Machine {
    Server(ServerTransaction),
    Client(ClientTransaction),
}

impl Transaction {
    /// When its next timer fires; `None` when it is over.
    pub(super) fn due(&self) -> Option<Instant> {
        match &self.machine {
            Machine::Server(server) => server.due(),
            Machine::Client(client) => client.due(),
        }
    }

    pub(super) fn kept_bytes(&self) -> usize {
        match &self.machine {
            Machine::Server(server) => server.kept_bytes(),
            Machine::Client(client) => client.kept_bytes(),
        }
    }
}

pub(super) fn lookup(transactions: &Slab<Box<Transaction>>, key: Key) -> Option<&Transaction> {
    transactions
        .get(key.slot as usize)
        .map(|t| &**t)
        .filter(|t| t.serial == key.serial)
}

pub(super) fn server_mut(
    transactions: &mut Slab<Box<Transaction>>,
    key: ServerKey,
) -> Option<&mut ServerTransaction> {
    let transaction = transactions
        .get_mut(key.0.slot as usize)
        .filter(|t| t.serial == key.0.serial)?;
    match &mut transaction.machine {
        Machine::Server(server) => Some(server),
        Machine::Client(_) => None,
    }
}

pub(super) fn client_mut(
    transactions: &mut Slab<Box<Transaction>>,
    key: ClientKey,
) -> Option<&mut ClientTransaction> {
    let transaction = transactions
        .get_mut(key.0.slot as usize)
        .filter(|t| t.serial == key.0.serial)?;
    match &mut transaction.machine {
        Machine::Client(client) => Some(client),
        Machine::Server(_) => None,
    }
}

impl Transactions {
    pub(super) fn fire(&mut self, now: Instant, slot: u32, out: &mut Outbox) {
        let Some(transaction) = self.transactions.get_mut(slot as usize) else {
            return;
        };
        transaction.timer = None;
        let (key, owner) = (
            Key {
                slot,
                serial: transaction.serial,
            },
            transaction.owner,
        );
        match &mut transaction.machine {
            Machine::Server(server) => {
                let tag = self.matcher.tag(server.key);
                match server.fire(&self.config, now, tag, &mut self.scratch, out) {
                    server::Fired::Nothing => {}
                    server::Fired::Expired => {
                        self.events.push_back(TransactionEvent::ServerExpired {
                            server: ServerKey(key),
                            owner,
                        });
                    }
                    server::Fired::AckTimeout => {
                        self.remove(slot);
                        self.events.push_back(TransactionEvent::AckTimeout {
                            server: ServerKey(key),
                            owner,
                        });
                        return;
                    }
                }
            }
            Machine::Client(client) => match client.fire(&self.config, now, out) {
                client::Fired::Nothing => {}
                client::Fired::Cancel => self.send_cancel(now, slot, out),
                client::Fired::Timeout => {
                    self.remove(slot);
                    self.events.push_back(TransactionEvent::ClientTimeout {
                        client: ClientKey(key),
                        owner,
                    });
                    return;
                }
            },
        }
        self.settle(now, slot);
    }

    pub(super) fn send_cancel(&mut self, now: Instant, slot: u32, out: &mut Outbox) {
        let Some(transaction) = self.transactions.get_mut(slot as usize) else {
            return;
        };
        if let Machine::Client(client) = &mut transaction.machine {
            client.send_cancel(&self.config, now, &mut self.scratch, out);
        }
    }

    /// After a change: ends the transaction if it is over, else sets its timer anew.
    pub(super) fn settle(&mut self, now: Instant, slot: u32) {
        let Some(transaction) = self.transactions.get(slot as usize) else {
            return;
        };
        if transaction.due().is_some() {
            return self.arm(now, slot);
        }
        let key = Key {
            slot,
            serial: transaction.serial,
        };
        let server = matches!(transaction.machine, Machine::Server(_));
        let owner = self.remove(slot);
        self.events.push_back(if server {
            TransactionEvent::ServerEnded {
                server: ServerKey(key),
                owner,
            }
        } else {
            TransactionEvent::ClientEnded {
                client: ClientKey(key),
                owner,
            }
        });
    }

    /// Sets the timer for when it is due, and counts what it keeps.
    pub(super) fn arm(&mut self, now: Instant, slot: u32) {
        let Some(transaction) = self.transactions.get_mut(slot as usize) else {
            return;
        };
        let kept = transaction.kept_bytes();
        self.kept = self.kept - std::mem::replace(&mut transaction.kept, kept) + kept;
        let Some(due) = transaction.due() else { return };
        match transaction.timer {
            Some((_, armed)) if armed == due => {}
            timer => {
                if let Some((id, _)) = timer {
                    self.timers.cancel(id);
                }
                transaction.timer = Some((self.timers.schedule(now, due, slot), due));
            }
        }
    }

    pub(super) fn insert(&mut self, owner: u64, machine: Machine) -> Result<Key, Overload> {
        let limit = self.config.max_transactions.min(branch::MAX_SLOTS);
        if self.transactions.len() >= limit {
            return Err(Overload::Transactions { limit });
        }
        let limit = self.config.max_kept_bytes;
        if self.kept >= limit {
            return Err(Overload::Bytes { limit });
        }
        self.serial = self.serial.wrapping_add(1);
        let serial = self.serial;
        let slot = self.transactions.insert(Box::new(Transaction {
            serial,
            owner,
            timer: None,
            kept: 0,
            machine,
        }));
        Ok(Key {
            slot: slot as u32,
            serial,
        })
    }

    pub(super) fn remove(&mut self, slot: u32) -> u64 {
        let transaction = self.transactions.remove(slot as usize);
        self.kept -= transaction.kept;
        if let Some((id, _)) = transaction.timer {
            self.timers.cancel(id);
        }
        match &transaction.machine {
            Machine::Server(server) => {
                self.servers.remove(server.key, slot);
                if let Some(merge) = server.merge {
                    self.merges.remove(merge, slot);
                }
            }
            Machine::Client(client) => self.peers.unlink(&mut self.transactions, client.links),
        }
        transaction.owner
    }

    pub(super) fn server(&self, key: ServerKey) -> Option<&ServerTransaction> {
        match &lookup(&self.transactions, key.0)?.machine {
            Machine::Server(server) => Some(server),
            Machine::Client(_) => None,
        }
    }
}
