//! Runs the switch and the media relay on the network and the store.
#![forbid(unsafe_code)]

pub mod config;
pub mod control;
mod error;
mod run;

pub use config::Config;
pub use error::{ExitCode, RunError};
pub use run::{RunOptions, run};
