//! What the resolver's thread does: takes questions, asks each one once, tells everybody who waits.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::mpsc,
    task::{self, JoinSet},
};

use super::{
    Answer, DnsOptions, LookupError, Query, Records,
    cache::Cache,
    lookup::{Found, Lookup},
};
use crate::clock;

/// A question and who wants to know.
pub(super) struct Request {
    pub(super) query: Query,
    pub(super) reply: Reply,
}

pub(super) type Reply = Box<dyn FnOnce(Answer) + Send>;

pub(super) struct Service {
    options: DnsOptions,
    cache: Arc<Mutex<Cache>>,
    lookup: Arc<Lookup>,
    tasks: JoinSet<Found>,
    queries: HashMap<task::Id, Query>,
    waiting: HashMap<Query, Vec<Reply>>,
    /// Replies in `waiting`.
    count: usize,
}

impl Service {
    pub(super) fn new(options: DnsOptions, cache: Arc<Mutex<Cache>>) -> Self {
        let lookup = Arc::new(Lookup::new(&options));
        Self {
            options,
            cache,
            lookup,
            tasks: JoinSet::new(),
            queries: HashMap::new(),
            waiting: HashMap::new(),
            count: 0,
        }
    }

    /// Runs until nobody is left who could ask.
    pub(super) async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        loop {
            tokio::select! {
                request = requests.recv() => match request {
                    Some(request) => self.handle_request(request),
                    None => return,
                },
                Some(finished) = self.tasks.join_next_with_id() => {
                    let (id, found) = match finished {
                        Ok((id, found)) => (id, found),
                        // The task panicked: those who wait must not wait for ever.
                        Err(error) => (error.id(), Found::failed(LookupError::Failed)),
                    };
                    self.handle_found(id, found);
                }
            }
        }
    }

    fn handle_request(&mut self, Request { query, reply }: Request) {
        let now = clock::now();
        let cached = self.cache().get(&query, now);
        if let Some(answer) = cached {
            return reply(answer);
        }
        if self.count >= self.options.pending {
            return reply(Answer {
                query,
                result: Err(LookupError::Busy),
                expires: now,
            });
        }
        self.count += 1;
        if let Some(replies) = self.waiting.get_mut(&query) {
            return replies.push(reply);
        }
        let (lookup, asked, budget) = (Arc::clone(&self.lookup), query.clone(), self.options.budget);
        let task = self
            .tasks
            .spawn(async move { find(&lookup, &asked, budget).await });
        self.queries.insert(task.id(), query.clone());
        self.waiting.insert(query, vec![reply]);
    }

    fn handle_found(&mut self, id: task::Id, found: Found) {
        let Some(query) = self.queries.remove(&id) else {
            return;
        };
        let replies = self.waiting.remove(&query).unwrap_or_default();
        self.count -= replies.len();
        let answer = self.cache().insert(query, found.result, found.ttl, clock::now());
        for reply in replies {
            reply(answer.clone());
        }
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn find(lookup: &Lookup, query: &Query, budget: Duration) -> Found {
    match tokio::time::timeout(budget, lookup.find(query)).await {
        Ok(found) if matches!(&found.result, Ok(records) if records.is_empty()) => {
            Found::failed(LookupError::NoRecords)
        }
        Ok(found) => found,
        Err(_) => Found::failed(LookupError::Timeout),
    }
}

impl Records {
    fn is_empty(&self) -> bool {
        match self {
            Records::Naptr(records) => records.is_empty(),
            Records::Srv(records) => records.is_empty(),
            Records::A(records) => records.is_empty(),
            Records::Aaaa(records) => records.is_empty(),
        }
    }
}
