//! `trapez records`: the calls that were.

use std::time::Duration;

use clap::Args;
use server::config::parse_duration;
use server::control::{Reply, Request};
use store::{Record, RecordQuery};

use super::account::unexpected;
use crate::failure::Failure;
use crate::globals::{Globals, unix_seconds};
use crate::output;

#[derive(Args)]
pub(crate) struct Arguments {
    /// Only calls from or to this account: NAME or NAME@DOMAIN
    #[arg(long, value_name = "AOR")]
    account: Option<String>,
    /// Only the call with this Call-ID
    #[arg(long, value_name = "ID")]
    call_id: Option<String>,
    /// Only calls that started at most so long ago: 30m, 12h, 7d
    #[arg(long, value_name = "TIME", value_parser = time_ago)]
    since: Option<Duration>,
    /// Only calls that started at least so long ago
    #[arg(long, value_name = "TIME", value_parser = time_ago)]
    until: Option<Duration>,
    /// At most so many, the newest
    #[arg(long, default_value_t = 50)]
    limit: u32,
}

pub(crate) fn run(globals: &Globals, arguments: Arguments) -> Result<(), Failure> {
    let before = |ago: Duration| (unix_seconds() * 1000).saturating_sub(ago.as_millis() as u64);
    let query = RecordQuery {
        aor: arguments
            .account
            .map(|account| globals.full_account(&account))
            .transpose()?,
        call_id: arguments.call_id,
        since: arguments.since.map(before),
        until: arguments.until.map(before),
        limit: Some(arguments.limit),
    };
    let reply = globals.ask(&Request::Records(query))?;
    if globals.json {
        return output::print_json(&reply);
    }
    let Reply::Records { records } = reply else {
        return Err(unexpected());
    };
    let rows: Vec<_> = records.iter().map(row).collect();
    let heading = [
        "STARTED (UTC)",
        "FROM",
        "TO",
        "TALKED",
        "STATUS",
        "ENDED BY",
        "CODEC",
        "MEDIA",
        "PACKETS ->",
        "PACKETS <-",
        "REASON",
    ];
    output::print(&output::table(heading, &rows, "no such calls"))
}

fn row(record: &Record) -> [String; 11] {
    let talked = record
        .answered_at
        .zip(record.ended_at)
        .map(|(from, to)| to.saturating_sub(from) / 1000);
    [
        output::date_time(record.started_at / 1000),
        record.from.clone(),
        record.to.clone(),
        talked.map(output::length).unwrap_or_default(),
        record.status.to_string(),
        record.ended_by.as_str().to_owned(),
        record.codec.clone(),
        record.media.as_str().to_owned(),
        record.from_caller.packets.to_string(),
        record.from_callee.packets.to_string(),
        record.reason.clone(),
    ]
}

fn time_ago(text: &str) -> Result<Duration, &'static str> {
    parse_duration(text).ok_or("expected a number and a unit (s, m, h or d), such as 12h")
}
