//! `trapez account`: make, list, change and remove accounts.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;
use server::ExitCode;
use server::control::{AccountInfo, Password, Reply, Request};

use crate::failure::Failure;
use crate::globals::Globals;
use crate::{csv, output, password};

#[derive(Subcommand)]
pub(crate) enum Arguments {
    /// Make an account; without --password-stdin a good password is made and shown once
    Add(WithPassword),
    /// Make the accounts of a CSV file with the header account,password: all of them or none
    Import {
        /// The file
        file: PathBuf,
    },
    /// List all accounts
    List,
    /// Show one account
    Show {
        /// NAME or NAME@DOMAIN
        account: String,
    },
    /// Set a new password; without --password-stdin a good one is made and shown once
    Passwd(WithPassword),
    /// Shut an account out: it keeps its password, and neither registers nor calls
    Disable {
        /// NAME or NAME@DOMAIN
        account: String,
    },
    /// Let a disabled account in again
    Enable {
        /// NAME or NAME@DOMAIN
        account: String,
    },
    /// Remove an account and its registrations
    Remove {
        /// NAME or NAME@DOMAIN
        account: String,
    },
}

#[derive(Args)]
pub(crate) struct WithPassword {
    /// NAME or NAME@DOMAIN
    account: String,
    /// Read the password from the first line of standard input
    #[arg(long)]
    password_stdin: bool,
}

pub(crate) fn run(globals: &Globals, arguments: Arguments) -> Result<(), Failure> {
    match arguments {
        Arguments::Add(arguments) => with_password(globals, &arguments, "made", |account, password| {
            Request::AccountAdd { account, password }
        }),
        Arguments::Passwd(arguments) => {
            with_password(globals, &arguments, "has a new password", |account, password| {
                Request::AccountPasswd { account, password }
            })
        }
        Arguments::Import { file } => import(globals, &file),
        Arguments::List => list(globals),
        Arguments::Show { account } => show(globals, Request::AccountShow { account }),
        Arguments::Disable { account } => {
            let disabled = true;
            change(
                globals,
                &Request::AccountDisable { account, disabled },
                "disabled",
            )
        }
        Arguments::Enable { account } => {
            let disabled = false;
            change(globals, &Request::AccountDisable { account, disabled }, "enabled")
        }
        Arguments::Remove { account } => change(globals, &Request::AccountRemove { account }, "removed"),
    }
}

/// The reply about an account whose password was made here, which nobody can show again.
#[derive(Serialize)]
struct Made<'a> {
    #[serde(flatten)]
    reply: &'a Reply,
    password: &'a str,
}

fn with_password(
    globals: &Globals,
    arguments: &WithPassword,
    done: &str,
    request: impl FnOnce(String, Password) -> Request,
) -> Result<(), Failure> {
    let password = if arguments.password_stdin {
        password::from_stdin()?
    } else {
        password::generate()?
    };
    let reply = globals.ask(&request(arguments.account.clone(), password.clone()))?;
    let Reply::Account(account) = &reply else {
        return Err(unexpected());
    };
    match (arguments.password_stdin, globals.json) {
        (true, true) => output::print_json(&reply),
        (true, false) => output::print(&format!("account {} {done}\n", aor(account))),
        (false, true) => output::print_json(&Made {
            reply: &reply,
            password: password.reveal(),
        }),
        (false, false) => {
            let shown = password.reveal();
            output::print(&format!(
                "account  {} {done}\npassword {shown}  (shown this once: it is not stored)\n",
                aor(account)
            ))
        }
    }
}

fn import(globals: &Globals, file: &Path) -> Result<(), Failure> {
    let text = fs::read_to_string(file).map_err(|error| {
        let message = format!("{} cannot be read: {error}", file.display());
        Failure::new(ExitCode::Failed, message, "name a readable file of UTF-8 text")
    })?;
    let accounts = csv::accounts(&text).map_err(|bad| {
        let shown: Vec<String> = bad
            .iter()
            .take(SHOWN_LINES)
            .map(|line| format!("  {line}"))
            .collect();
        let message = format!(
            "{} of the lines cannot be imported:\n{}",
            bad.len(),
            shown.join("\n")
        );
        Failure::new(
            ExitCode::Refused,
            message,
            "correct these lines and import the file again; nothing was imported",
        )
    })?;
    let reply = globals.ask(&Request::AccountImport { accounts })?;
    print(globals, &reply, |reply| match reply {
        Reply::Imported { count } => Some(format!("{count} accounts made\n")),
        _ => None,
    })
}

fn list(globals: &Globals) -> Result<(), Failure> {
    let reply = globals.ask(&Request::AccountList)?;
    print(globals, &reply, |reply| match reply {
        Reply::Accounts { accounts } => {
            let row = |account: &AccountInfo| {
                [
                    aor(account),
                    output::date_time(account.created),
                    state(account).to_owned(),
                ]
            };
            let rows: Vec<_> = accounts.iter().map(row).collect();
            Some(output::table(
                ["ACCOUNT", "MADE (UTC)", "STATE"],
                &rows,
                "no accounts; `trapez account add NAME` makes one",
            ))
        }
        _ => None,
    })
}

fn show(globals: &Globals, request: Request) -> Result<(), Failure> {
    let reply = globals.ask(&request)?;
    print(globals, &reply, |reply| match reply {
        Reply::Account(account) => Some(format!(
            "account  {}\nuser     {}\ndomain   {}\nmade     {} UTC\nstate    {}\n",
            aor(account),
            account.name,
            account.domain,
            output::date_time(account.created),
            state(account)
        )),
        _ => None,
    })
}

fn change(globals: &Globals, request: &Request, done: &str) -> Result<(), Failure> {
    let reply = globals.ask(request)?;
    print(globals, &reply, |reply| match reply {
        Reply::Account(account) => Some(format!("account {} {done}\n", aor(account))),
        _ => None,
    })
}

fn print(
    globals: &Globals,
    reply: &Reply,
    text: impl FnOnce(&Reply) -> Option<String>,
) -> Result<(), Failure> {
    if globals.json {
        return output::print_json(reply);
    }
    output::print(&text(reply).ok_or_else(unexpected)?)
}

/// A reply to another question.
pub(crate) fn unexpected() -> Failure {
    Failure::new(
        ExitCode::Failed,
        "the service's answer does not fit the question",
        "use the same version of trapez for the service and the commands",
    )
}

fn aor(account: &AccountInfo) -> String {
    format!("{}@{}", account.name, account.domain)
}

fn state(account: &AccountInfo) -> &'static str {
    match (account.disabled, account.served) {
        (true, _) => "disabled",
        (false, true) => "enabled",
        (false, false) => "domain not configured",
    }
}

/// Bad lines of a file that are told one by one.
const SHOWN_LINES: usize = 20;
