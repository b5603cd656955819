//! What a request about accounts changes: decided in one place, whether the service runs or not.

use sip::digest::{Algorithm, Ha1, Ha1Error};
use store::{Account, Change, Store, StoreError};

use super::protocol::{AccountInfo, NewAccount, Password, Refusal, RefusalKind, Reply, Request};
use crate::config::{Config, Domain};

/// What is to be written for a request, and what is to be replied when it is.
#[derive(Debug)]
pub struct Plan {
    /// The changes, which belong together; empty when the request only asks.
    pub changes: Vec<Change>,
    /// The reply.
    pub reply: Reply,
}

/// Decides a request about accounts; `None` when it is about something else. `now` is in unix seconds.
pub fn plan(
    request: &Request,
    store: &Store,
    config: &Config,
    now: u64,
) -> Option<Result<Plan, AccountError>> {
    let planner = Planner { store, config, now };
    Some(match request {
        Request::AccountAdd { account, password } => planner.add(account, password),
        Request::AccountImport { accounts } => planner.import(accounts),
        Request::AccountList => planner.list(),
        Request::AccountShow { account } => planner.show(account),
        Request::AccountPasswd { account, password } => planner.passwd(account, password),
        Request::AccountRemove { account } => planner.remove(account),
        Request::AccountDisable { account, disabled } => planner.disable(account, *disabled),
        _ => return None,
    })
}

/// An account of the store as the switch wants it; fails when the store holds what this program does not write.
pub fn directory_account(account: &Account) -> Result<switch::directory::Account, Ha1Error> {
    let store::Ha1 {
        md5,
        sha256,
        sha512_256,
    } = &account.ha1;
    switch::directory::Account::from_hex(
        md5.as_deref(),
        sha256.as_deref(),
        sha512_256.as_deref(),
        account.disabled,
    )
}

/// Why a request about accounts is not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccountError {
    /// The name is none.
    #[error(
        "{name:?} is no account name: expected 1 to {MAX_NAME} bytes without spaces, control characters and any of : @ \" < > \\"
    )]
    Name {
        /// What was given.
        name: String,
    },
    /// The name is the service's own.
    #[error("{name} is the name of the service's own user agent")]
    Reserved {
        /// The name.
        name: String,
    },
    /// The domain is none.
    #[error("{domain:?} is no domain")]
    Domain {
        /// What was given.
        domain: String,
    },
    /// The service does not answer for the domain.
    #[error("the service does not answer for the domain {domain}")]
    NotServed {
        /// The domain.
        domain: String,
    },
    /// The password is none.
    #[error("the password is no good: expected 1 to {MAX_PASSWORD} bytes without control characters")]
    Password,
    /// There is such an account.
    #[error("the account {aor} exists already")]
    Exists {
        /// Its address-of-record.
        aor: String,
    },
    /// There is no such account.
    #[error("there is no account {aor}")]
    Missing {
        /// Its address-of-record.
        aor: String,
    },
    /// Lines of an import are wrong; nothing was imported.
    #[error("{} of the lines cannot be imported:{}", .0.len(), listed(.0))]
    Import(Vec<(u64, AccountError)>),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl AccountError {
    /// What to do about it: one sentence, without a full stop.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Name { .. } | Self::Reserved { .. } => "choose another name",
            Self::Domain { .. } => "write NAME@DOMAIN, such as alice@example.org",
            Self::NotServed { .. } => "add the domain to `domains` in the configuration, or leave it out",
            Self::Password => "give a password on one line, or let one be made",
            Self::Exists { .. } => "set its password with `trapez account passwd`, or choose another name",
            Self::Missing { .. } => "`trapez account list` shows the accounts",
            Self::Import(_) => "correct these lines and import the file again; nothing was imported",
            Self::Store(error) => error.remedy(),
        }
    }
}

impl From<&AccountError> for Refusal {
    fn from(error: &AccountError) -> Self {
        match error {
            AccountError::Store(error) => error.into(),
            _ => Self {
                kind: RefusalKind::Refused,
                message: error.to_string(),
                remedy: error.remedy().to_owned(),
            },
        }
    }
}

struct Planner<'a> {
    store: &'a Store,
    config: &'a Config,
    now: u64,
}

impl Planner<'_> {
    fn add(&self, account: &str, password: &Password) -> Result<Plan, AccountError> {
        let account = self.new_account(account, password)?;
        let reply = Reply::Account(self.info(&account));
        Ok(Plan {
            changes: vec![Change::AddAccount(Box::new(account))],
            reply,
        })
    }

    fn import(&self, accounts: &[NewAccount]) -> Result<Plan, AccountError> {
        let mut seen = std::collections::HashSet::new();
        let mut changes = Vec::with_capacity(accounts.len());
        let mut errors = Vec::new();
        for new in accounts {
            match self.new_account(&new.account, &new.password) {
                Ok(account) if seen.insert(account.aor()) => {
                    changes.push(Change::AddAccount(Box::new(account)));
                }
                Ok(account) => errors.push((new.line, AccountError::Exists { aor: account.aor() })),
                Err(AccountError::Store(error)) => return Err(error.into()),
                Err(error) => errors.push((new.line, error)),
            }
        }
        if !errors.is_empty() {
            return Err(AccountError::Import(errors));
        }
        let reply = Reply::Imported {
            count: changes.len() as u64,
        };
        Ok(Plan { changes, reply })
    }

    fn list(&self) -> Result<Plan, AccountError> {
        let accounts = self
            .store
            .accounts()?
            .iter()
            .map(|account| self.info(account))
            .collect();
        Ok(Plan {
            changes: Vec::new(),
            reply: Reply::Accounts { accounts },
        })
    }

    fn show(&self, account: &str) -> Result<Plan, AccountError> {
        let account = self.existing(account)?;
        Ok(Plan {
            changes: Vec::new(),
            reply: Reply::Account(self.info(&account)),
        })
    }

    fn passwd(&self, account: &str, password: &Password) -> Result<Plan, AccountError> {
        let mut account = self.existing(account)?;
        account.ha1 = ha1(&account.name, &account.domain, password)?;
        let reply = Reply::Account(self.info(&account));
        Ok(Plan {
            changes: vec![Change::PutAccount(Box::new(account))],
            reply,
        })
    }

    fn remove(&self, account: &str) -> Result<Plan, AccountError> {
        let account = self.existing(account)?;
        let reply = Reply::Account(self.info(&account));
        let aor = account.aor().into();
        let remove = Change::RemoveAccount {
            name: account.name,
            domain: account.domain,
        };
        Ok(Plan {
            changes: vec![remove, Change::RemoveBindings { aor }],
            reply,
        })
    }

    fn disable(&self, account: &str, disabled: bool) -> Result<Plan, AccountError> {
        let account = Account {
            disabled,
            ..self.existing(account)?
        };
        let reply = Reply::Account(self.info(&account));
        let unregister = Change::RemoveBindings {
            aor: account.aor().into(),
        };
        let mut changes = vec![Change::PutAccount(Box::new(account))];
        changes.extend(disabled.then_some(unregister));
        Ok(Plan { changes, reply })
    }

    fn new_account(&self, account: &str, password: &Password) -> Result<Account, AccountError> {
        let (name, domain) = self.address(account)?;
        if name == switch::Config::default().echo_user {
            return Err(AccountError::Reserved { name });
        }
        if !self.config.serves(&domain) {
            return Err(AccountError::NotServed { domain });
        }
        let ha1 = ha1(&name, &domain, password)?;
        let account = Account {
            name,
            domain,
            ha1,
            created: self.now,
            disabled: false,
        };
        match self.store.account(&account.name, &account.domain)? {
            Some(_) => Err(AccountError::Exists { aor: account.aor() }),
            None => Ok(account),
        }
    }

    fn existing(&self, account: &str) -> Result<Account, AccountError> {
        let (name, domain) = self.address(account)?;
        let missing = || AccountError::Missing {
            aor: format!("{name}@{domain}"),
        };
        self.store.account(&name, &domain)?.ok_or_else(missing)
    }

    /// Name and domain, as they are stored.
    fn address(&self, account: &str) -> Result<(String, String), AccountError> {
        let (name, domain) = match account.rsplit_once('@') {
            None => (account, self.config.default_domain().to_owned()),
            Some((name, domain)) => {
                let bad = || AccountError::Domain {
                    domain: domain.to_owned(),
                };
                (name, Domain::parse(domain).ok_or_else(bad)?.as_str().to_owned())
            }
        };
        // A colon would make HA1 ambiguous; the others would have to be escaped in every phone.
        let bad = |c: char| c.is_whitespace() || c.is_control() || ":@\"<>\\".contains(c);
        if name.is_empty() || name.len() > MAX_NAME || name.contains(bad) {
            return Err(AccountError::Name {
                name: name.to_owned(),
            });
        }
        Ok((name.to_owned(), domain))
    }

    fn info(&self, account: &Account) -> AccountInfo {
        AccountInfo {
            name: account.name.clone(),
            domain: account.domain.clone(),
            created: account.created,
            disabled: account.disabled,
            served: self.config.serves(&account.domain),
        }
    }
}

fn ha1(name: &str, domain: &str, password: &Password) -> Result<store::Ha1, AccountError> {
    let password = password.reveal();
    if password.is_empty() || password.len() > MAX_PASSWORD || password.contains(char::is_control) {
        return Err(AccountError::Password);
    }
    let hex = |algorithm| Some(Ha1::new(algorithm, name, domain, password).as_str().to_owned());
    Ok(store::Ha1 {
        md5: hex(Algorithm::Md5),
        sha256: hex(Algorithm::Sha256),
        sha512_256: hex(Algorithm::Sha512_256),
    })
}

/// The first errors of an import, a line each.
fn listed(errors: &[(u64, AccountError)]) -> String {
    let mut text: String = errors
        .iter()
        .take(MAX_LISTED)
        .map(|(line, error)| format!("\n  line {line}: {error}"))
        .collect();
    if let Some(more) = errors.len().checked_sub(MAX_LISTED).filter(|more| *more > 0) {
        text.push_str(&format!("\n  and {more} more"));
    }
    text
}

/// Bytes of an account's name.
const MAX_NAME: usize = 64;
/// Bytes of a password.
const MAX_PASSWORD: usize = 128;
/// Errors of an import that are told one by one.
const MAX_LISTED: usize = 20;
