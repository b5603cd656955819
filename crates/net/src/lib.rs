//! Everything that touches the operating system: sockets, names, interfaces, the clock.
//!
//! This crate moves bytes. It knows nothing of SIP, SDP or RTP: what a datagram means, where a message on a stream ends
//! and which target comes after a failed one is decided by its callers. It is also the one crate that may contain
//! `unsafe`, and each block says why it is sound.
//!
//! | module | what it is | who runs it |
//! |---|---|---|
//! | [`udp`] | datagram sockets read and written in batches | a signalling worker |
//! | [`tcp`] | the stream connections of one worker | a signalling worker |
//! | [`media`] | port pairs, a poller and single-packet calls for relaying RTP | a media thread |
//! | [`dns`] | lookups with a time budget and a cache | a thread of its own |
//! | [`interfaces`], [`process`], [`clock`] | local addresses; cores and limits; time | anybody |
//!
//! It is written for Linux: `recvmmsg`, `IP_PKTINFO`, the socket error queue and `epoll` have no portable counterpart of
//! the same speed. The modules that need them are `udp`, `media`, `interfaces` and `process`; `tcp`, `dns` and `clock`
//! are portable but for a few socket options.

#[cfg(not(target_os = "linux"))]
compile_error!(
    "Trapez runs on Linux: its sockets use recvmmsg, IP_PKTINFO, the socket error queue and epoll"
);

pub mod bind;
pub mod clock;
pub mod dns;
pub mod interfaces;
pub mod media;
pub mod process;
mod sys;
pub mod tcp;
pub mod udp;
