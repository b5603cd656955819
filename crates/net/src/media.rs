//! What a relay thread is made of: sockets, a poller, a pace. No tokio: a call's sockets see one packet in 20 ms each, so
//! what counts is how often the thread wakes and what one packet costs in system calls.
//!
//! - [`PortPool`] hands out [`PortPair`]s, RTP on an even port and RTCP on the next one (RFC 3550, 11), whose sockets are
//!   bound already. It belongs to the signalling worker, which needs the port number for the SDP at once; the pair then
//!   moves to the media thread and comes back when the call is over.
//! - [`MediaSocket`] receives and sends single packets.
//! - [`Poller`] tells which sockets have packets, [`Waker`] interrupts it from another thread.
//! - [`Pace`] says how long to nap between two polls, so that packets of many calls share one wake-up.
//!
//! The loop of a thread: `poller.wait`; for each token `recv_from` until it would block (a thread that was kept from
//! running must catch up) and `send_to`; `pace.nap`.

mod pace;
mod poller;
mod ports;
mod socket;

pub use pace::{NAP, Pace};
pub use poller::{Poller, Ready, Waker};
pub use ports::{PortError, PortOptions, PortPair, PortPool, QUARANTINE, SPARE_PAIRS};
pub use socket::{DSCP_MEDIA, MediaSocket, RECEIVE_BUFFER};
