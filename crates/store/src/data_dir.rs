//! The data directory: where the files of a service are, and who may write them.
//!
//! A service holds the directory's lock as long as it runs; a command that changes accounts while no service runs
//! holds it for that moment. The kernel drops the lock when its holder dies, so nothing stale stays behind.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::StoreError;

/// A directory that exists and may be written.
#[derive(Clone, Debug)]
pub struct DataDir {
    path: PathBuf,
}

/// The right to write in a data directory; given back when dropped.
#[derive(Debug)]
pub struct DataLock {
    _file: File,
}

impl DataDir {
    /// Makes the directory if it is not there (mode 0700), and sees whether it can be used.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let refused = |source: io::Error| StoreError::Directory {
            path: path.to_owned(),
            source,
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(refused)?;
        // The absolute path: what is printed and handed to other processes must mean the same there.
        let path = fs::canonicalize(path).map_err(refused)?;
        Ok(Self { path })
    }

    /// The directory, as an absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file in the directory.
    pub fn file(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// Takes the directory's lock, or says that another process has it.
    pub fn lock(&self) -> Result<DataLock, StoreError> {
        let refused = |source: io::Error| StoreError::Directory {
            path: self.path.clone(),
            source,
        };
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(self.file(LOCK_FILE))
            .map_err(refused)?;
        match file.try_lock() {
            Ok(()) => Ok(DataLock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(StoreError::InUse {
                path: self.path.clone(),
            }),
            Err(TryLockError::Error(source)) => Err(refused(source)),
        }
    }
}

const LOCK_FILE: &str = "trapez.lock";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_told_that_the_directory_is_in_use() {
        let temp = tempfile::tempdir().unwrap();
        let dir = DataDir::open(&temp.path().join("a/b")).unwrap();
        let lock = dir.lock().unwrap();
        assert!(matches!(dir.lock(), Err(StoreError::InUse { .. })));
        drop(lock);
        dir.lock().unwrap();
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("file");
        fs::write(&file, "").unwrap();
        let error = DataDir::open(&file.join("data")).unwrap_err();
        assert!(error.to_string().contains("file/data"), "{error}");
    }
}
