//! Runs the switch and the media relay on the network and the store.
#![forbid(unsafe_code)]

pub mod config;
pub mod control;
mod error;
mod handler;
mod ports;
mod relay;
mod run;
mod storage;
mod worker;

pub use config::Config;
pub use error::{ExitCode, RunError};
pub use run::{Ready, RunOptions, run};
pub use sip::Transport;
