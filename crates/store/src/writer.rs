//! The thread that writes: whoever wants something written hands it over and goes on, and is told when it is on the
//! disk.
//!
//! The writer takes everything that is waiting, commits it in one transaction, and then reports each job to its
//! sink, in one call per sink and commit: a worker is woken once, however many of its jobs were written. Before it
//! commits it waits a moment for more ([`WriterOptions::gather`]), since a commit costs the same for one change as
//! for a hundred. What a later change of the same binding has overtaken on the way here is left out
//! ([`Change::PutBinding`]). A second thread carries the write-ahead log over into the file meanwhile. Submitting never waits: when the queue is full, the job is refused and the caller answers so.

mod order;

use std::sync::mpsc::{Receiver, RecvError, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{fmt, io};

use self::order::Orders;
use crate::database::Checkpointer;
use crate::{Change, Store, StoreError};

/// Told which tickets of one worker were written or could not be; called on the writer's thread, so it must not
/// wait.
pub type Sink = Box<dyn FnMut(&[u64], Result<(), &StoreError>) + Send>;

type Callback = Box<dyn FnOnce(Result<(), &StoreError>) + Send>;

/// The running writer. [`stop`](Self::stop) it to be sure that everything was written.
#[derive(Debug)]
pub struct Writer {
    queue: SyncSender<Job>,
    thread: JoinHandle<Store>,
}

/// Hands jobs to the writer. Clone it for every thread that has something to write.
#[derive(Clone, Debug)]
pub struct WriterHandle {
    queue: SyncSender<Job>,
}

/// How the writer works.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WriterOptions {
    /// How long it waits for more after the first job: what an answer may be late for the sake of fewer commits.
    pub gather: Duration,
    /// Jobs that may wait; beyond that they are refused.
    pub queue: usize,
}

impl Default for WriterOptions {
    fn default() -> Self {
        Self {
            gather: DEFAULT_GATHER,
            queue: DEFAULT_QUEUE,
        }
    }
}

/// Why a job was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// More jobs are waiting than the queue holds: the disk does not keep up.
    #[error("the store's queue is full")]
    Full,
    /// The writer was stopped.
    #[error("the store was closed")]
    Stopped,
}

impl Writer {
    /// Starts the thread. Jobs name their sink by its place in `sinks`.
    pub fn start(store: Store, options: WriterOptions, sinks: Vec<Sink>) -> io::Result<Self> {
        let (queue, jobs) = sync_channel(options.queue.max(1));
        let thread = thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || run(store, &jobs, options.gather, sinks))?;
        Ok(Self { queue, thread })
    }

    /// A handle for one thread.
    pub fn handle(&self) -> WriterHandle {
        WriterHandle {
            queue: self.queue.clone(),
        }
    }

    /// Writes and reports what was submitted before, ends the thread, and gives the store back. Waits.
    pub fn stop(self) -> thread::Result<Store> {
        // An error means that the thread is gone already; joining says how.
        let _ = self.queue.send(Job::Stop);
        self.thread.join()
    }
}

impl WriterHandle {
    /// Hands over changes that belong together; the sink is told with this ticket when they are on the disk. Jobs
    /// are written in the order in which they were submitted.
    pub fn submit(&self, sink: usize, ticket: u64, changes: Vec<Change>) -> Result<(), Rejected> {
        self.push(Job::Write {
            changes,
            reply: Reply::Sink { sink, ticket },
        })
    }

    /// Hands over changes, and has a function called on the writer's thread when they are on the disk.
    pub fn submit_then(
        &self,
        changes: Vec<Change>,
        then: impl FnOnce(Result<(), &StoreError>) + Send + 'static,
    ) -> Result<(), Rejected> {
        self.push(Job::Write {
            changes,
            reply: Reply::Call(Box::new(then)),
        })
    }

    fn push(&self, job: Job) -> Result<(), Rejected> {
        self.queue.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => Rejected::Full,
            TrySendError::Disconnected(_) => Rejected::Stopped,
        })
    }
}

enum Job {
    Write { changes: Vec<Change>, reply: Reply },
    Stop,
}

enum Reply {
    Sink { sink: usize, ticket: u64 },
    Call(Callback),
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Job(..)")
    }
}

fn run(mut store: Store, jobs: &Receiver<Job>, gather: Duration, sinks: Vec<Sink>) -> Store {
    let mut checkpointer = Checkpointer::start(&mut store);
    let mut outcomes = Outcomes::new(sinks);
    let mut orders = Orders::default();
    let mut batch = Vec::with_capacity(MAX_BATCH);
    loop {
        let stopped = collect(jobs, gather, &mut batch);
        let changes = batch.iter().map(|(changes, _)| changes.len()).sum();
        commit(&mut store, &mut batch, &mut orders, &mut outcomes);
        if let Some(checkpointer) = &mut checkpointer {
            checkpointer.committed(&mut store, changes);
        }
        if stopped {
            return store;
        }
    }
}

/// Takes what is waiting, up to [`MAX_BATCH`] jobs; true when the writer is to stop after these.
fn collect(jobs: &Receiver<Job>, gather: Duration, batch: &mut Vec<(Vec<Change>, Reply)>) -> bool {
    match jobs.recv() {
        Ok(Job::Write { changes, reply }) => batch.push((changes, reply)),
        Ok(Job::Stop) | Err(RecvError) => return true,
    }
    // Asleep and not waiting on the queue: a submitter then has nobody to wake, which is most of what it costs.
    thread::sleep(gather);
    while batch.len() < MAX_BATCH {
        match jobs.try_recv() {
            Ok(Job::Write { changes, reply }) => batch.push((changes, reply)),
            Ok(Job::Stop) => return true,
            Err(_) => break,
        }
    }
    false
}

fn commit(
    store: &mut Store,
    batch: &mut Vec<(Vec<Change>, Reply)>,
    orders: &mut Orders,
    outcomes: &mut Outcomes,
) {
    match write(store, orders, || batch.iter().flat_map(|(changes, _)| changes)) {
        Ok(()) => batch
            .drain(..)
            .for_each(|(_, reply)| outcomes.push(reply, Ok(()))),
        // One job may be at fault, and the others not: each on its own.
        Err(StoreError::AccountExists { .. } | StoreError::Statement(_)) if batch.len() > 1 => {
            for (changes, reply) in batch.drain(..) {
                let result = write(store, orders, || changes.iter());
                outcomes.push(reply, result.as_ref().copied());
            }
        }
        Err(error) => batch
            .drain(..)
            .for_each(|(_, reply)| outcomes.push(reply, Err(&error))),
    }
    outcomes.flush();
}

/// Writes what no later change has overtaken. An overtaken one counts as written: what holds now is there.
fn write<'a, C: Iterator<Item = &'a Change>>(
    store: &mut Store,
    orders: &mut Orders,
    changes: impl Fn() -> C,
) -> Result<(), StoreError> {
    let written = store.apply_all(changes().filter(|change| orders.is_latest(change)));
    if written.is_err() {
        changes().for_each(|change| orders.forget(change));
    }
    written
}

/// The tickets that were written, by sink, until they are reported together.
struct Outcomes {
    sinks: Vec<(Sink, Vec<u64>)>,
}

impl Outcomes {
    fn new(sinks: Vec<Sink>) -> Self {
        Self {
            sinks: sinks.into_iter().map(|sink| (sink, Vec::new())).collect(),
        }
    }

    fn push(&mut self, reply: Reply, result: Result<(), &StoreError>) {
        match (reply, result) {
            (Reply::Call(call), result) => call(result),
            (Reply::Sink { sink, ticket }, Ok(())) => {
                if let Some((_, written)) = self.sinks.get_mut(sink) {
                    written.push(ticket);
                }
            }
            (Reply::Sink { sink, ticket }, Err(error)) => {
                if let Some((sink, _)) = self.sinks.get_mut(sink) {
                    sink(&[ticket], Err(error));
                }
            }
        }
    }

    fn flush(&mut self) {
        for (sink, written) in &mut self.sinks {
            if !written.is_empty() {
                sink(written, Ok(()));
                written.clear();
            }
        }
    }
}

/// A phone does not notice 1 ms, and at 1,000 registrations a second it saves every other commit.
const DEFAULT_GATHER: Duration = Duration::from_millis(1);
/// Some seconds of work for a disk that stalls; about 100 bytes each plus their changes.
const DEFAULT_QUEUE: usize = 16_384;
/// Jobs in one transaction: few enough that the first does not wait long for the last.
const MAX_BATCH: usize = 1024;

#[cfg(test)]
mod tests;
