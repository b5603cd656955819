//! Trapez: the SIP service provider in one binary. This is the command line; the service is in the crate `server`.
#![forbid(unsafe_code)]

mod command;
mod csv;
mod demo;
mod failure;
mod globals;
mod output;
mod password;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::globals::Globals;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The SIP service provider in one binary.
#[derive(Parser)]
#[command(
    version,
    after_help = "Exit codes are listed in docs/reference/exit-codes.md."
)]
struct CommandLine {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the service until Ctrl-C or SIGTERM.
    Serve(command::serve::Arguments),
    /// Check the configuration, print a sample, explain a key.
    #[command(subcommand)]
    Config(command::config::Arguments),
    /// Make, list, change and remove accounts.
    #[command(subcommand)]
    Account(command::account::Arguments),
    /// Who is registered where.
    Bindings(command::bindings::Arguments),
    /// The calls of this moment.
    Calls(command::calls::Arguments),
    /// The calls that were.
    Records(command::records::Arguments),
    /// What the running service is doing.
    Status,
    /// End the running service.
    Stop,
}

fn main() -> ExitCode {
    let CommandLine { globals, command } = CommandLine::parse();
    let result = match command {
        Command::Serve(arguments) => command::serve::run(&globals, arguments),
        Command::Config(arguments) => command::config::run(&globals, arguments),
        Command::Account(arguments) => command::account::run(&globals, arguments),
        Command::Bindings(arguments) => command::bindings::run(&globals, arguments),
        Command::Calls(arguments) => command::calls::run(&globals, arguments),
        Command::Records(arguments) => command::records::run(&globals, arguments),
        Command::Status => command::status::run(&globals),
        Command::Stop => command::status::stop(&globals),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(globals.json),
    }
}
