//! `trapez calls`: the calls of this moment.

use clap::Args;
use server::control::{CallInfo, Reply, Request};

use super::account::unexpected;
use crate::failure::Failure;
use crate::globals::{Globals, unix_seconds};
use crate::output;

#[derive(Args)]
pub(crate) struct Arguments {
    /// At most so many
    #[arg(long, default_value_t = 1000)]
    limit: u32,
}

pub(crate) fn run(globals: &Globals, arguments: Arguments) -> Result<(), Failure> {
    let reply = globals.ask(&Request::Calls {
        limit: arguments.limit,
    })?;
    if globals.json {
        return output::print_json(&reply);
    }
    let Reply::Calls { calls, more } = reply else {
        return Err(unexpected());
    };
    let now = unix_seconds();
    let rows: Vec<_> = calls.iter().map(|call| row(call, now)).collect();
    let heading = [
        "FROM",
        "TO",
        "STATE",
        "SINCE",
        "CODEC",
        "MEDIA",
        "PACKETS ->",
        "PACKETS <-",
    ];
    let mut text = output::table(heading, &rows, "no calls");
    if more {
        text.push_str(&format!(
            "and more than {}; --limit shows more\n",
            arguments.limit
        ));
    }
    output::print(&text)
}

fn row(call: &CallInfo, now: u64) -> [String; 8] {
    let since = call.answered_at.unwrap_or(call.started_at) / 1000;
    [
        call.from.clone(),
        call.to.clone(),
        call.state.clone(),
        output::length(now.saturating_sub(since)),
        call.codec.clone(),
        call.media.as_str().to_owned(),
        call.from_caller.packets.to_string(),
        call.from_callee.packets.to_string(),
    ]
}
