//! STUN and TURN: messages, the state machines of server and client, discovery of a NAT's behaviour.
//! - [`client`]: finds out what kind of NAT it is behind.
//! - [`turn`]: relays for clients that cannot be reached otherwise.
//! - [`budget`]: keeps both from being used against others.
//!
//! - [`message`], [`attribute`], [`integrity`]: messages as bytes, read without copying and written into a caller's buffer.
//! - [`frame`]: ChannelData messages, and the messages of a stream.
//! - [`server`]: answers binding requests, of RFC 3489 too, and for the discovery of NAT behaviour.
//!
//! Nothing here does I/O or reads a clock: time and randomness are arguments.
#![forbid(unsafe_code)]

pub mod attribute;
pub mod budget;
pub mod client;
pub mod frame;
pub mod integrity;
pub mod message;
pub mod server;
pub mod turn;
