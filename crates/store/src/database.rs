//! The SQLite file: opening it, bringing its tables up to date, writing changes and reading them back.
//!
//! Write-ahead log with `synchronous=FULL`: a transaction that was committed is on the disk, and readers (a command
//! that lists records) never wait for the writer. The file has mode 0600, since who reads HA1 values can log in.

mod checkpoint;
mod read;
mod schema;
mod write;

pub(crate) use checkpoint::Checkpointer;

use std::fs::{OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use crate::{Account, BindingFields, Change, Record, RecordQuery, StoreError};

/// An open store. One writes at a time; others may have the same file open to read.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    /// `None`: in memory.
    path: Option<PathBuf>,
}

impl Store {
    /// Opens the file, makes it when it is not there, and brings its tables up to date.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let refused = |error: io::Error| StoreError::Open {
            path: path.to_owned(),
            reason: error.to_string(),
        };
        // SQLite would make the file with the umask's rights; its log and index files take over those of the file.
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(FILE_MODE)
            .open(path)
            .map_err(refused)?;
        if file.metadata().map_err(refused)?.permissions().mode() & 0o077 != 0 {
            file.set_permissions(Permissions::from_mode(FILE_MODE))
                .map_err(refused)?;
        }
        drop(file);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(|error| StoreError::Open {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
        Self::prepare(connection, Some(path.to_owned()))
    }

    /// A store in memory, which ends with the value: for tests, and for a service that is to forget.
    pub fn memory() -> Result<Self, StoreError> {
        Self::prepare(Connection::open_in_memory()?, None)
    }

    fn prepare(connection: Connection, path: Option<PathBuf>) -> Result<Self, StoreError> {
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
        connection.pragma_update(None, "page_size", PAGE_SIZE)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
        connection.pragma_update(None, "journal_size_limit", LOG_SIZE_LIMIT)?;
        connection.pragma_update(None, "cache_size", CACHE_SIZE)?;
        let mut store = Self { connection, path };
        schema::migrate(&mut store.connection)?;
        Ok(store)
    }

    /// Writes the changes in order in one transaction: all of them, or, on an error, none. When it returns they
    /// are on the disk.
    pub fn apply(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        self.apply_all(changes)
    }

    /// [`apply`](Self::apply) for changes that are not in one slice.
    pub fn apply_all<'a>(&mut self, changes: impl IntoIterator<Item = &'a Change>) -> Result<(), StoreError> {
        write::apply(&mut self.connection, changes)
    }

    /// Every account, ordered by domain and name.
    pub fn accounts(&self) -> Result<Vec<Account>, StoreError> {
        read::accounts(&self.connection)
    }

    /// One account.
    pub fn account(&self, name: &str, domain: &str) -> Result<Option<Account>, StoreError> {
        read::account(&self.connection, name, domain)
    }

    /// Hands over every binding that expires after `now` (unix seconds), one at a time, ordered by
    /// address-of-record; `each` returns whether to go on.
    pub fn each_binding(
        &self,
        now: u64,
        each: impl FnMut(BindingFields<'_>) -> bool,
    ) -> Result<(), StoreError> {
        read::each_binding(&self.connection, None, now, each)
    }

    /// [`each_binding`](Self::each_binding) of one address-of-record.
    pub fn each_binding_of(
        &self,
        aor: &str,
        now: u64,
        each: impl FnMut(BindingFields<'_>) -> bool,
    ) -> Result<(), StoreError> {
        read::each_binding(&self.connection, Some(aor), now, each)
    }

    /// The call records that the query asks for, the newest first.
    pub fn records(&self, query: &RecordQuery) -> Result<Vec<Record>, StoreError> {
        read::records(&self.connection, query)
    }
}

/// Only the user that runs the service reads and writes the file.
const FILE_MODE: u32 = 0o600;
/// How long to wait for another process that holds the file: a backup or a command.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// More than there are statements, so that each is compiled once.
const STATEMENT_CACHE: usize = 32;
/// Bytes per page.
const PAGE_SIZE: u32 = 4096;
/// Pages in the log after which a commit carries them over into the file, where no [`Writer`](crate::Writer) does it
/// beside the commits.
const CHECKPOINT_PAGES: u32 = 2000;
/// Bytes to which the log file is cut when it was carried over: a burst leaves no big file behind.
const LOG_SIZE_LIMIT: u32 = 64 << 20;
/// Page cache; negative: in KiB, as SQLite wants it. Measured: more of it does not make writing cheaper, since the
/// kernel caches the file too.
const CACHE_SIZE: i32 = -2048;

#[cfg(test)]
mod tests;
