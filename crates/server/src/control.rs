//! The control socket: how the commands talk to the running service.
//!
//! A unix domain socket in the data directory, whose file permissions are its guard: who may write there may do
//! everything. One request per line and one response per line, both JSON ([`Request`], [`Response`]). The service
//! binds a [`ControlSocket`] and answers with a [`Handler`]; a command uses a [`Client`]. While no service runs,
//! [`Offline`] answers the same requests from the store, as far as that can be done without one.

mod accounts;
mod client;
mod offline;
mod protocol;
mod socket;

pub use accounts::{AccountError, Plan, directory_account, plan};
pub use client::{Client, ClientError};
pub use offline::{Offline, binding_info};
pub use protocol::{
    AccountInfo, BindingInfo, CallInfo, NewAccount, Password, Refusal, RefusalKind, Reply, Request, Response,
    Status,
};
pub use socket::{ControlSocket, Handler, SocketError};

/// Name of the socket in the data directory.
pub const SOCKET_NAME: &str = "trapez.sock";

#[cfg(test)]
mod tests;
