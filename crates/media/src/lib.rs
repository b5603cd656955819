//! SDP, RTP and RTCP: one relayed call as a pure state machine.
//!
//! - [`sdp`]: a lossless view of a session description and an edit list.
//! - [`negotiation`]: offers and answers of one call (RFC 3264), which ports it needs, its descriptions rewritten.
//! - [`stream`]: the packets of one relayed m= line: who may send, who gets it, what is counted.
//! - [`echo`]: the answer of a built-in user agent that plays back what it hears.
//! - [`command`]: what `negotiation` tells `stream`, and what comes back.
//! - [`rtp`]: RTP and RTCP headers.
//!
//! Nothing here does I/O or reads a clock. `negotiation` lives in a signalling worker, `stream` in a media worker.
#![forbid(unsafe_code)]

pub mod address;
pub mod command;
pub mod echo;
pub mod negotiation;
pub mod rtp;
pub mod sdp;
pub mod stream;

pub use command::{
    AddressFamily, Branch, Command, Component, PortId, PortPair, RelayPorts, Report, SessionId, Side,
    StreamId,
};
pub use negotiation::RelayPolicy;

#[cfg(test)]
mod testing;
