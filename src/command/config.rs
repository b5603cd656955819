//! `trapez config`: check the configuration, print a sample, explain a key.

use std::path::PathBuf;

use clap::Subcommand;
use server::{Config, config};

use crate::failure::Failure;
use crate::globals::Globals;
use crate::output;

#[derive(Subcommand)]
pub(crate) enum Arguments {
    /// Read the configuration and report every mistake
    Check {
        /// The file [default: that of --config]
        file: Option<PathBuf>,
    },
    /// Print a file that says every key and its default
    Sample,
    /// Say what a key or a table means
    Explain {
        /// A key (media.ports) or a table (media)
        key: String,
    },
    /// Print the reference page in Markdown
    Reference,
}

pub(crate) fn run(globals: &Globals, arguments: Arguments) -> Result<(), Failure> {
    match arguments {
        Arguments::Check { file } => {
            let Some(file) = file.or_else(|| globals.config_file()) else {
                return output::print("there is no configuration file: the defaults hold\n");
            };
            Config::load(&file)?;
            output::print(&format!("{} is correct\n", file.display()))
        }
        Arguments::Sample => output::print(&config::sample()),
        Arguments::Explain { key } => output::print(&config::explain(&key)?),
        Arguments::Reference => output::print(&config::reference()),
    }
}
