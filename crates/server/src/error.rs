//! Why the service does not run, and the exit codes of the program.

use std::io;

use net::bind::BindError;
use store::StoreError;

use crate::control::SocketError;

/// Exit codes of the program; `docs/reference/exit-codes.md` describes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// It did what was asked.
    Ok = 0,
    /// It failed for a reason that has no code of its own.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The configuration is wrong or cannot be read.
    Configuration = 3,
    /// The data directory or the store cannot be used.
    Store = 4,
    /// An address to listen on cannot be had: mostly a port in use.
    Listen = 5,
    /// The command needs the running service, and none runs in this data directory.
    NotRunning = 6,
    /// The command is right, but what it names does not exist, exists already, or is not allowed.
    Refused = 7,
}

/// Why the service could not start or had to end. [`remedy`](Self::remedy) says what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The data directory or the store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An address to listen on cannot be had.
    #[error(transparent)]
    Listen(#[from] BindError),
    /// The control socket cannot be had.
    #[error(transparent)]
    Control(#[from] SocketError),
    /// The operating system refuses threads, descriptors or randomness.
    #[error("{what} cannot be had: {source}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
    /// A thread ended that must not: a defect of this program.
    #[error("the {thread} thread ended unexpectedly")]
    Defect {
        /// Which one.
        thread: &'static str,
    },
}

impl RunError {
    /// What to do about it: one sentence, without a full stop.
    pub fn remedy(&self) -> String {
        match self {
            Self::Store(error) => error.remedy().to_owned(),
            Self::Listen(error) => error.remedy(),
            Self::Control(error) => error.remedy().to_owned(),
            Self::System { .. } => "raise the limits of the process (`ulimit -a` shows them)".to_owned(),
            Self::Defect { .. } => "report this as a defect of trapez, with its log".to_owned(),
        }
    }

    /// The exit code of the program.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Store(_) | Self::Control(_) => ExitCode::Store,
            Self::Listen(_) => ExitCode::Listen,
            Self::System { .. } | Self::Defect { .. } => ExitCode::Failed,
        }
    }
}
