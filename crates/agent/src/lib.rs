//! User agents as pure state machines: messages and time in, messages and events out.
//!
//! - [`EchoService`]: the built-in user agent that answers calls and sends back what it hears.
//! - [`Phone`]: a telephone that registers, calls and is called as a script says, for tests, probes and simulated worlds.
#![forbid(unsafe_code)]

pub mod echo;
pub mod phone;
pub mod random;

pub use echo::{EchoConfig, EchoService};
pub use phone::{Answering, CallKey, EndCause, Phone, PhoneConfig, PhoneEvent};
pub use random::Random;
