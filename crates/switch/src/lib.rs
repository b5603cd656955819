//! What the provider decides: authentication, registrar, location, routing, forking, NAT policy, the calls and their media.
//!
//! [`Switch`] is one worker's; its documentation says in which order it is called. A request goes through these files:
//!
//! - `switch`: the entry; `request`: is it sane, is it ours, who sent it, whom is it for;
//! - [`auth`], [`directory`]: digest, trusted networks, accounts; [`registrar`], [`location`]: REGISTER and the bindings;
//! - `proxy` with `context`, `forward`, `next_hop`, `reconnect`, `route`, [`token`]: forwarding, forking, responses, Record-Route;
//! - `call` with [`record`]: calls, the media relay's orders, the call's record; [`keepalive`]: phones behind NAT.
//!
//! Nothing here does I/O; [`Event`] is what the switch asks of the world.
#![forbid(unsafe_code)]

pub mod auth;
pub mod config;
pub mod directory;
pub mod event;
pub mod keepalive;
pub mod location;
pub mod record;
pub mod registrar;
pub mod token;

mod arena;
mod call;
mod context;
mod forward;
mod next_hop;
mod proxy;
mod reconnect;
mod request;
mod route;
mod switch;

pub use config::Config;
pub use directory::Directory;
pub use event::{Change, DnsId, Event, Ticket};
pub use location::Location;
pub use record::{CallInfo, CallRecord, CallState, EndedBy, MediaPath, Traffic};
pub use switch::{Clock, Shared, Switch};
