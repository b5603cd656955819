//! Simulated worlds: a network with bad lines and NAT boxes, the real service in it, telephones, and a clock that jumps.
//!
//! A [`Plan`] is made of a number; [`run`] goes through it and gives what did not hold. Everything is decided by the seed, so a
//! world that fails fails again: `TRAPEZ_WORLD=<seed> cargo test -p testkit --test worlds -- --nocapture one_world` prints what
//! happened in it.
//!
//! - [`network`], [`nat`]: lines with delay, jitter, loss and duplication, and boxes of every kind;
//! - [`service`], [`relay`], [`store`]: the real state machines put together as the server does it, and a disk that takes time;
//! - [`plan`]: who is where, and what people do; `checks`: what has to hold.
#![forbid(unsafe_code)]

pub mod nat;
pub mod network;
pub mod plan;
pub mod relay;
pub mod service;
pub mod store;
pub mod world;

mod checks;

pub use plan::{Plan, Weather};
pub use world::{Outcome, run};
