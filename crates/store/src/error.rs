//! What can go wrong with the store, and what to do about it.

use std::path::PathBuf;

/// Why the store could not be opened, read or written. [`remedy`](Self::remedy) says what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The data directory cannot be made or used.
    #[error("the data directory {} cannot be used: {source}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file of the store cannot be made or opened.
    #[error("the store {} cannot be opened: {reason}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the operating system or SQLite said.
        reason: String,
    },
    /// Another process holds the data directory.
    #[error("the data directory {} is in use by another trapez process", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// Another program holds a lock on the file.
    #[error("the store is locked by another program")]
    Locked,
    /// The file is no database, or a damaged one.
    #[error("the store is damaged: {detail}")]
    Corrupt {
        /// What SQLite said.
        detail: String,
    },
    /// The file was written by a later version of this program.
    #[error("the store has tables of version {found}, and this program knows versions up to {known}")]
    Newer {
        /// The version in the file.
        found: i64,
        /// The latest version that this program knows.
        known: i64,
    },
    /// The disk is full.
    #[error("the disk of the store is full")]
    DiskFull,
    /// The file or its directory may not be written.
    #[error("the store may not be written")]
    ReadOnly,
    /// The disk fails.
    #[error("the store cannot be read or written: {detail}")]
    Disk {
        /// What SQLite said.
        detail: String,
    },
    /// An account was to be made that exists already.
    #[error("the account {aor} exists already")]
    AccountExists {
        /// Its address-of-record.
        aor: String,
    },
    /// Anything else that SQLite reports: a defect of this program.
    #[error("the store refused a statement: {0}")]
    Statement(rusqlite::Error),
}

impl StoreError {
    /// What to do about it: one sentence, without a full stop.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Directory { .. } => "name a directory that this user may write with --data",
            Self::Open { .. } => {
                "give this user the right to read and write the file, or name another with --data"
            }
            Self::InUse { .. } => "stop the other process, or name another directory with --data",
            Self::Locked => "close the program that holds the file (an SQLite shell, a backup) and try again",
            Self::Corrupt { .. } => {
                "restore the file from a backup, or move it away to start with an empty one (accounts included)"
            }
            Self::Newer { .. } => "run the version of trapez that wrote it, or a later one",
            Self::DiskFull => "make room on the disk and try again",
            Self::ReadOnly => "give this user the right to write the file and its directory",
            Self::Disk { .. } => "look at the kernel's log (dmesg) for errors of the disk",
            Self::AccountExists { .. } => {
                "set its password with `trapez account passwd`, or choose another name"
            }
            Self::Statement(_) => "report this as a defect of trapez, with this message",
        }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode as Code;
        let Some(code) = error.sqlite_error_code() else {
            return Self::Statement(error);
        };
        match code {
            Code::DatabaseBusy | Code::DatabaseLocked | Code::FileLockingProtocolFailed => Self::Locked,
            Code::DatabaseCorrupt | Code::NotADatabase => Self::Corrupt {
                detail: error.to_string(),
            },
            Code::DiskFull => Self::DiskFull,
            Code::ReadOnly | Code::PermissionDenied => Self::ReadOnly,
            Code::SystemIoFailure | Code::CannotOpen => Self::Disk {
                detail: error.to_string(),
            },
            _ => Self::Statement(error),
        }
    }
}
