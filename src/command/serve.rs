//! `trapez serve`: run the service.

use std::cell::Cell;
use std::io::{self, IsTerminal};
use std::rc::Rc;

use clap::Args;
use server::{Ready, RunOptions, run as run_service};
use store::DataDir;

use crate::demo::{self, Program};
use crate::failure::Failure;
use crate::globals::Globals;
use crate::output;

#[derive(Args)]
pub(crate) struct Arguments {
    /// Make the accounts alice and bob, and print what to type into two phones
    #[arg(long)]
    demo: bool,
}

pub(crate) fn run(globals: &Globals, arguments: Arguments) -> Result<(), Failure> {
    let config = globals.load_config()?;
    tracing_subscriber::fmt()
        .with_max_level(config.log.level)
        .with_target(false)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr)
        .init();
    let dir = DataDir::open(&globals.data_dir())?;
    if !arguments.demo {
        let on_ready = Box::new(|ready: &Ready| say(&listening(ready)));
        return Ok(run_service(
            config,
            RunOptions {
                data_dir: dir.path().to_owned(),
                on_ready,
            },
        )?);
    }
    let accounts = Rc::new(demo::make_accounts(&config, &dir)?);
    let started = Rc::new(Cell::new(false));
    let on_ready = {
        let (accounts, started, config) = (Rc::clone(&accounts), Rc::clone(&started), config.clone());
        let program = Program::of(globals);
        Box::new(move |ready: &Ready| {
            started.set(true);
            say(&demo::instructions(&program, &config, ready, &accounts));
        })
    };
    let result = run_service(
        config.clone(),
        RunOptions {
            data_dir: dir.path().to_owned(),
            on_ready,
        },
    );
    if !started.get() {
        demo::unmake_accounts(&config, &dir, &accounts);
    }
    Ok(result?)
}

/// A service goes on when nobody reads what it says.
fn say(text: &str) {
    let _ = output::print(text);
}

fn listening(ready: &Ready) -> String {
    let listen = ready
        .listen
        .iter()
        .map(|(transport, at)| format!("  {:<4} {at}\n", transport.as_via()));
    let listen: String = listen.collect();
    format!(
        "Trapez listens on\n{listen}with its data in {}. Ctrl-C ends it.\n",
        ready.data_dir.display()
    )
}
