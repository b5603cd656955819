//! What every command takes: where the data is, which configuration holds, how to print; and how a command reaches the
//! service, or its store while no service runs.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{env, fs, thread};

use clap::Args;
use server::control::{Client, ClientError, Offline, Reply, Request, SOCKET_NAME};
use server::{Config, ExitCode};
use store::{DataDir, StoreError};

use crate::failure::Failure;

#[derive(Args)]
pub(crate) struct Globals {
    /// Data directory [default: /var/lib/trapez for root, otherwise ~/.local/share/trapez]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Configuration [default: trapez.toml in the data directory, if it is there]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Print JSON for programs
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

impl Globals {
    /// The data directory, whether it is there or not.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.data.clone().unwrap_or_else(default_data_dir)
    }

    /// The file that the configuration is read from; `None` when there is none and the defaults hold.
    pub(crate) fn config_file(&self) -> Option<PathBuf> {
        self.config.clone().or_else(|| {
            let file = self.data_dir().join(CONFIG_NAME);
            file.exists().then_some(file)
        })
    }

    /// The configuration.
    pub(crate) fn load_config(&self) -> Result<Config, Failure> {
        match self.config_file() {
            Some(file) => Ok(Config::load(&file)?),
            None => Ok(Config::default()),
        }
    }

    /// An account with its domain: the default one, when it was named without.
    pub(crate) fn full_account(&self, account: &str) -> Result<String, Failure> {
        if account.contains('@') {
            return Ok(account.to_owned());
        }
        Ok(format!("{account}@{}", self.load_config()?.default_domain()))
    }

    /// Asks the running service, or, while none runs, the store.
    pub(crate) fn ask(&self, request: &Request) -> Result<Reply, Failure> {
        let dir = self.data_dir();
        let deadline = Instant::now() + PATIENCE;
        loop {
            match Client::connect(&dir.join(SOCKET_NAME)) {
                Ok(mut client) => return Ok(client.ask(request)?),
                Err(ClientError::NotRunning { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            match self.ask_store(&dir, request) {
                // A service that is starting or ending, or another command: it answers or is gone in a moment.
                Err(Alone::Store(StoreError::InUse { .. })) if Instant::now() < deadline => {
                    thread::sleep(RETRY_PAUSE);
                }
                Err(Alone::Store(error)) => return Err(error.into()),
                Err(Alone::Failed(failure)) => return Err(failure),
                Ok(reply) => return Ok(reply),
            }
        }
    }

    fn ask_store(&self, dir: &Path, request: &Request) -> Result<Reply, Alone> {
        let makes = matches!(
            request,
            Request::AccountAdd { .. } | Request::AccountImport { .. }
        );
        let reads = matches!(
            request,
            Request::AccountList
                | Request::AccountShow { .. }
                | Request::AccountPasswd { .. }
                | Request::AccountRemove { .. }
                | Request::AccountDisable { .. }
                | Request::Bindings { .. }
                | Request::Records(_)
        );
        if !makes && !reads {
            return Err(Alone::Failed(
                ClientError::NotRunning {
                    path: dir.join(SOCKET_NAME),
                }
                .into(),
            ));
        }
        if !makes && !dir.exists() {
            // A slip in --data must not look like a service without accounts.
            return Err(Alone::Failed(Failure::new(
                ExitCode::Store,
                format!("there is no data directory {}", dir.display()),
                "name another with --data, or begin with `trapez account add` or `trapez serve`",
            )));
        }
        let config = self.load_config().map_err(Alone::Failed)?;
        let dir = DataDir::open(dir).map_err(Alone::Store)?;
        let mut offline = Offline::open(&dir, config).map_err(Alone::Store)?;
        offline
            .handle(request, unix_seconds())
            .map_err(|refusal| Alone::Failed(refusal.into()))
    }
}

/// Why the store gave no reply.
enum Alone {
    Store(StoreError),
    Failed(Failure),
}

/// Seconds since 1970.
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// One place per user, whatever the working directory: the commands that follow `serve` must find it again.
fn default_data_dir() -> PathBuf {
    let is_root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    if is_root {
        return PathBuf::from("/var/lib/trapez");
    }
    let absolute = |name| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|path: &PathBuf| path.is_absolute())
    };
    absolute("XDG_DATA_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
        .map_or_else(|| PathBuf::from("trapez-data"), |base| base.join("trapez"))
}

/// Name of the configuration in the data directory.
const CONFIG_NAME: &str = "trapez.toml";
/// How long a command waits for the data directory to become free.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it looks.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
