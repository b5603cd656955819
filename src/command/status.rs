//! `trapez status` and `trapez stop`: what the running service is doing, and its end.

use server::control::{Reply, Request};

use super::account::unexpected;
use crate::failure::Failure;
use crate::globals::{Globals, unix_seconds};
use crate::output;

pub(crate) fn run(globals: &Globals) -> Result<(), Failure> {
    let reply = globals.ask(&Request::Status)?;
    if globals.json {
        return output::print_json(&reply);
    }
    let Reply::Status(status) = reply else {
        return Err(unexpected());
    };
    let domains = if status.domains.is_empty() {
        "its own addresses".to_owned()
    } else {
        status.domains.join(", ")
    };
    output::print(&format!(
        "version   {}\nprocess   {}\nup        {}\ndomains   {domains}\nlisten    {}\nworkers   {} signalling, {} media\n\
         accounts  {}\nbindings  {}\ncalls     {}\n",
        status.version,
        status.pid,
        output::length(unix_seconds().saturating_sub(status.started_at)),
        status.listen.join(", "),
        status.workers,
        status.media_workers,
        status.accounts,
        status.bindings,
        status.calls
    ))
}

pub(crate) fn stop(globals: &Globals) -> Result<(), Failure> {
    let reply = globals.ask(&Request::Stop)?;
    if globals.json {
        return output::print_json(&reply);
    }
    output::print("the service ends\n")
}
