//! What is said on the control socket. Fields are added, never renamed: `--json` prints replies as they are here.

use std::fmt;

use serde::{Deserialize, Serialize};
use store::{MediaPath, Record, RecordQuery, StreamCounters};

/// What a command asks for. Accounts are named as people name them: `alice`, or `alice@example.org`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Make an account.
    AccountAdd {
        /// Its name, with or without domain.
        account: String,
        /// Its password.
        password: Password,
    },
    /// Make many accounts: all or none.
    AccountImport {
        /// The accounts.
        accounts: Vec<NewAccount>,
    },
    /// Every account.
    AccountList,
    /// One account.
    AccountShow {
        /// Its name, with or without domain.
        account: String,
    },
    /// Give an account another password.
    AccountPasswd {
        /// Its name, with or without domain.
        account: String,
        /// The new password.
        password: Password,
    },
    /// Remove an account and its registrations.
    AccountRemove {
        /// Its name, with or without domain.
        account: String,
    },
    /// Shut an account out, or let it in again.
    AccountDisable {
        /// Its name, with or without domain.
        account: String,
        /// Shut out.
        disabled: bool,
    },
    /// Who is registered where.
    Bindings {
        /// Only this account.
        account: Option<String>,
        /// At most so many.
        limit: u32,
    },
    /// The calls of this moment.
    Calls {
        /// At most so many.
        limit: u32,
    },
    /// Calls that were.
    Records(RecordQuery),
    /// What the service is doing.
    Status,
    /// End the service as SIGTERM does.
    Stop,
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Response {
    /// It was done.
    Ok(Reply),
    /// It was not done, and nothing was changed.
    Error(Refusal),
}

/// What a request led to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum Reply {
    /// One account, as it is now or, when removed, as it was.
    Account(AccountInfo),
    /// Accounts, ordered by domain and name.
    Accounts {
        /// The accounts.
        accounts: Vec<AccountInfo>,
    },
    /// Accounts were made.
    Imported {
        /// How many.
        count: u64,
    },
    /// Registrations.
    Bindings {
        /// The registrations.
        bindings: Vec<BindingInfo>,
        /// There are more than the limit.
        more: bool,
    },
    /// Calls of this moment.
    Calls {
        /// The calls.
        calls: Vec<CallInfo>,
        /// There are more than the limit.
        more: bool,
    },
    /// Calls that were, the newest first.
    Records {
        /// The records.
        records: Vec<Record>,
    },
    /// What the service is doing.
    Status(Status),
    /// The service ends.
    Stopping,
}

/// Why a request was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// What kind of reason.
    pub kind: RefusalKind,
    /// The reason in words.
    pub message: String,
    /// What to do about it: one sentence, without a full stop.
    pub remedy: String,
}

/// Kinds of reasons why a request is not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalKind {
    /// What it names does not exist, exists already, or is not allowed.
    Refused,
    /// The store cannot be read or written.
    Store,
    /// Only a running service can do this.
    NotRunning,
    /// The line is no request that this version knows.
    Protocol,
}

/// A password on its way to become HA1 values: it shows in no log.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Password(String);

impl Password {
    /// Takes a password.
    pub fn new(password: impl Into<String>) -> Self {
        Self(password.into())
    }

    /// The password, for the two places that need it: hashing it, and showing a new one to its owner.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

/// An account of an import.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NewAccount {
    /// The line of the file that it came from, to name it in errors.
    pub line: u64,
    /// Its name, with or without domain.
    pub account: String,
    /// Its password.
    pub password: Password,
}

/// An account as commands show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountInfo {
    /// The user part of the address-of-record.
    pub name: String,
    /// The domain of the address-of-record.
    pub domain: String,
    /// When it was made, in unix seconds.
    pub created: u64,
    /// It neither registers nor calls.
    pub disabled: bool,
    /// Its domain is one that the configuration names.
    pub served: bool,
}

/// A registration as commands show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindingInfo {
    /// The address-of-record, without scheme.
    pub aor: String,
    /// The Contact URI as the phone wrote it.
    pub contact: String,
    /// The transport by which it came (`UDP`).
    pub transport: String,
    /// The address and port that it came from.
    pub remote: String,
    /// A NAT stands between.
    pub behind_nat: bool,
    /// When it was registered, in unix seconds.
    pub registered_at: u64,
    /// When it expires, in unix seconds.
    pub expires_at: u64,
    /// Preference in thousandths.
    pub q: u16,
    /// The values of the Path header; empty for none.
    pub path: String,
    /// `+sip.instance`; empty for none.
    pub instance: String,
    /// The phone's User-Agent; empty for none.
    pub user_agent: String,
}

/// A call of this moment as commands show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallInfo {
    /// `Call-ID` of the caller's INVITE.
    pub call_id: String,
    /// The caller, without scheme.
    pub from: String,
    /// Who was called, without scheme.
    pub to: String,
    /// When the INVITE came, in unix milliseconds.
    pub started_at: u64,
    /// When it was answered, in unix milliseconds.
    pub answered_at: Option<u64>,
    /// `calling`, `ringing`, `talking` or `ending`.
    pub state: String,
    /// The codec; empty before one is agreed on.
    pub codec: String,
    /// Which way the media goes.
    pub media: MediaPath,
    /// What the caller sent so far.
    pub from_caller: StreamCounters,
    /// What the callee sent so far.
    pub from_callee: StreamCounters,
}

/// What the service is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the program.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// When it started, in unix seconds.
    pub started_at: u64,
    /// The domains that it answers for; empty: its own addresses.
    pub domains: Vec<String>,
    /// Where it listens: `udp 192.0.2.1:5060`.
    pub listen: Vec<String>,
    /// Signalling workers.
    pub workers: u32,
    /// Media workers.
    pub media_workers: u32,
    /// Accounts.
    pub accounts: u64,
    /// Registrations.
    pub bindings: u64,
    /// Calls of this moment.
    pub calls: u64,
}

impl Refusal {
    /// That only a running service can do this.
    pub fn not_running() -> Self {
        Self {
            kind: RefusalKind::NotRunning,
            message: "the service does not run in this data directory".to_owned(),
            remedy: "start it with `trapez serve`, or name its data directory with --data".to_owned(),
        }
    }
}

impl From<&store::StoreError> for Refusal {
    fn from(error: &store::StoreError) -> Self {
        let kind = match error {
            store::StoreError::AccountExists { .. } => RefusalKind::Refused,
            _ => RefusalKind::Store,
        };
        Self {
            kind,
            message: error.to_string(),
            remedy: error.remedy().to_owned(),
        }
    }
}
