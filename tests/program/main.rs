//! The whole program from outside: the real `trapez` binary on loopback addresses of its own, with real telephones
//! (baresip, linphone), SIPp, sipsak, and a hand-written client for what no telephone would send.
//!
//! Every test claims a [`site::Site`] (a /24 of 127.0.0.0/8 and ranges of ports), so tests run in parallel. Every process
//! is a child that ends with its owner, every wait is bounded.
#![forbid(unsafe_code)]

mod baresip;
mod handset;
mod linphone;
mod process;
mod server;
mod sipp;
mod site;
mod tone;
mod wire;

mod calls;
mod failures;
mod holds;
mod operation;
mod protocol;
mod reconnects;
mod routers;
mod scenarios;
mod security;
