//! Carrying the write-ahead log over into the file beside the commits, so that none of them waits for it.
//!
//! SQLite would do it in the commit that fills the log, which then takes tens of milliseconds. Here a thread with a
//! connection of its own does the bulk; what was committed meanwhile is little, and the writer carries it over itself
//! between two commits, so that the log is empty for a moment and starts again from its beginning.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use rusqlite::Connection;

use super::Store;
use crate::StoreError;

#[derive(Debug)]
pub(crate) struct Checkpointer {
    start: SyncSender<()>,
    done: Receiver<()>,
    running: bool,
    /// Changes that were committed since the last time.
    changes: usize,
}

impl Checkpointer {
    /// Starts the thread, which ends when this value is dropped. `None`: the store is in memory, or the thread
    /// cannot be had; then the commits carry the log over, as SQLite does by itself.
    pub(crate) fn start(store: &mut Store) -> Option<Self> {
        let connection = Connection::open(store.path.as_ref()?).ok()?;
        let (start, wanted) = sync_channel(1);
        let (tell, done) = sync_channel(1);
        let run = move || {
            while wanted.recv().is_ok() {
                // An error (a full disk) shows at the commits too, and there somebody is told.
                let _ = checkpoint(&connection);
                if tell.send(()).is_err() {
                    break;
                }
            }
        };
        thread::Builder::new()
            .name("checkpoint".to_owned())
            .spawn(run)
            .ok()?;
        store
            .connection
            .pragma_update(None, "wal_autocheckpoint", 0)
            .ok()?;
        Some(Self {
            start,
            done,
            running: false,
            changes: 0,
        })
    }

    /// To be called after each commit with the number of its changes.
    pub(crate) fn committed(&mut self, store: &mut Store, changes: usize) {
        self.changes += changes;
        if self.running {
            if self.done.try_recv().is_ok() {
                self.running = false;
                self.changes = 0;
                let _ = checkpoint(&store.connection);
            }
        } else if self.changes >= CHECKPOINT_CHANGES {
            self.running = self.start.try_send(()).is_ok();
        }
    }
}

/// Passive: carries over what it can and waits for nobody.
fn checkpoint(connection: &Connection) -> Result<(), StoreError> {
    Ok(connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?)
}

/// Changes after which the log is carried over. A change to one of many bindings writes about one page of 4 KiB, so
/// the log stays near 32 MiB.
const CHECKPOINT_CHANGES: usize = 8_000;
