//! STUN and TURN: messages, the state machines of server and client, discovery of a NAT's behaviour.
//!
//! - [`message`], [`attribute`], [`integrity`]: messages as bytes, read without copying and written into a caller's buffer.
//!
//! Nothing here does I/O or reads a clock: time and randomness are arguments.
#![forbid(unsafe_code)]

pub mod attribute;
pub mod integrity;
pub mod message;
