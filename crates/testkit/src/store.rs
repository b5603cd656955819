//! The store of the simulated service: what it was given becomes lasting a while later, in order, in groups; a crash takes what
//! has not.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use agent::Random;
use switch::location::{Binding, Location};
use switch::{CallRecord, Change, Ticket};

/// A store that commits some time later.
#[derive(Debug, Default)]
pub struct Store {
    latency: Duration,
    bindings: BTreeMap<(String, String), Binding>,
    records: Vec<CallRecord>,
    full: bool,
    waiting: VecDeque<Write>,
}

#[derive(Debug)]
struct Write {
    due: Instant,
    worker: u8,
    ticket: Option<Ticket>,
    change: Change,
}

impl Store {
    /// An empty store whose disk takes so long.
    pub fn new(latency: Duration) -> Self {
        Store {
            latency,
            ..Store::default()
        }
    }

    /// Takes a change.
    pub fn submit(&mut self, now: Instant, worker: u8, ticket: Option<Ticket>, change: Change) {
        self.waiting.push_back(Write {
            due: now + self.latency,
            worker,
            ticket,
            change,
        });
    }

    /// When [`Store::commit`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.waiting.front().map(|write| write.due)
    }

    /// Makes lasting what has waited long enough; who is to be told, and whether it was written.
    pub fn commit(&mut self, now: Instant) -> Vec<(u8, Ticket, bool)> {
        let mut told = Vec::new();
        while let Some(write) = self.waiting.pop_front_if(|write| write.due <= now) {
            told.extend(write.ticket.map(|ticket| (write.worker, ticket, !self.full)));
            if !self.full {
                self.apply(write.change);
            }
        }
        told
    }

    /// The disk is full, or has room again.
    pub fn set_full(&mut self, full: bool) {
        self.full = full;
    }

    /// The process was killed: of what waits a part was written already, and nobody hears of it.
    pub fn crash(&mut self, random: &mut Random) {
        let written = random.below(self.waiting.len() as u64 + 1) as usize;
        for write in self.waiting.drain(..).take(written).collect::<Vec<_>>() {
            self.apply(write.change);
        }
    }

    /// Gives the bindings to a location service that starts, all but those that have ended at `unix`.
    pub fn restore(&self, unix: u64, location: &Location) {
        for binding in self.bindings.values().filter(|binding| binding.expires() > unix) {
            location.restore(&binding.parts());
        }
    }

    /// The call records.
    pub fn records(&self) -> &[CallRecord] {
        &self.records
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Bindings(changes) => {
                for change in changes.iter() {
                    let key = |binding: &Binding| (binding.aor().to_owned(), binding.contact().to_owned());
                    match (&change.before, &change.after) {
                        (_, Some(after)) => {
                            self.bindings.insert(key(after), after.clone());
                        }
                        (Some(before), None) => {
                            self.bindings.remove(&key(before));
                        }
                        (None, None) => {}
                    }
                }
            }
            Change::Record(record) => self.records.push(*record),
            _ => {}
        }
    }
}
