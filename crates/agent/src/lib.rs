//! User agents as pure state machines: messages and time in, messages and events out.
//!
//! - [`EchoService`]: the built-in user agent that answers calls and sends back what it hears.
#![forbid(unsafe_code)]

pub mod echo;

pub use echo::{EchoConfig, EchoService};
