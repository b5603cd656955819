//! `trapez bindings`: who is registered where.

use clap::Args;
use server::control::{BindingInfo, Reply, Request};

use super::account::unexpected;
use crate::failure::Failure;
use crate::globals::{Globals, unix_seconds};
use crate::output;

#[derive(Args)]
pub(crate) struct Arguments {
    /// Only this account: NAME or NAME@DOMAIN
    #[arg(value_name = "AOR")]
    account: Option<String>,
    /// At most so many
    #[arg(long, default_value_t = 1000)]
    limit: u32,
}

pub(crate) fn run(globals: &Globals, arguments: Arguments) -> Result<(), Failure> {
    let account = arguments
        .account
        .map(|account| globals.full_account(&account))
        .transpose()?;
    let reply = globals.ask(&Request::Bindings {
        account,
        limit: arguments.limit,
    })?;
    if globals.json {
        return output::print_json(&reply);
    }
    let Reply::Bindings { bindings, more } = reply else {
        return Err(unexpected());
    };
    let now = unix_seconds();
    let rows: Vec<_> = bindings.iter().map(|binding| row(binding, now)).collect();
    let heading = ["ACCOUNT", "CONTACT", "FROM", "NAT", "EXPIRES IN", "PHONE"];
    let mut text = output::table(heading, &rows, "nobody is registered");
    if more {
        text.push_str(&format!(
            "and more than {}; --limit shows more\n",
            arguments.limit
        ));
    }
    output::print(&text)
}

fn row(binding: &BindingInfo, now: u64) -> [String; 6] {
    [
        binding.aor.clone(),
        binding.contact.clone(),
        format!("{} {}", binding.transport.to_lowercase(), binding.remote),
        if binding.behind_nat { "yes" } else { "no" }.to_owned(),
        output::length(binding.expires_at.saturating_sub(now)),
        binding.user_agent.clone(),
    ]
}
