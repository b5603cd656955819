//! UDP sockets that are read and written in batches.
//!
//! Sockets are bound before the workers start ([`UdpSocket::bind_group`]); each worker makes its own an
//! [`AsyncUdpSocket`], waits for it ([`AsyncUdpSocket::wait`]), reads a batch ([`AsyncUdpSocket::recv_batch`]), handles
//! each [`Datagram`], and sends what became of them ([`AsyncUdpSocket::send_batch`]). Reading and sending are one system
//! call per [`BATCH`] datagrams.
//!
//! - A datagram knows the local address that it was sent to, also on a wildcard socket (`IP_PKTINFO`), and an answer
//!   leaves from the address that it names.
//! - ICMP errors come back through [`UdpSocket::recv_unreachable`] with the destination they are about (`IP_RECVERR`), so
//!   that the next target can be tried at once (RFC 3261, 18.4) and not after 32 s.
//! - "Don't fragment" is never set: a SIP message may be larger than a packet.
//!
//! Datagrams to one peer leave in the order in which they were given.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
    time::Duration,
};

use socket2::{Socket, Type};

use crate::{
    bind::{BindError, Protocol},
    sys,
};

mod batch;
mod registered;
mod unreachable;

pub use batch::{Datagram, MAX_REFUSED, RecvBatch, SendBatch};
pub use registered::AsyncUdpSocket;
pub use unreachable::Unreachable;

/// What a socket is made with.
#[derive(Clone, Copy, Debug)]
pub struct UdpOptions {
    /// Kernel buffer for datagrams that arrived and were not read, in bytes. The system's `net.core.rmem_max` bounds it
    /// unless the process has CAP_NET_ADMIN.
    pub receive_buffer: usize,
    /// Kernel buffer for datagrams that were sent and did not leave, in bytes (`net.core.wmem_max`).
    pub send_buffer: usize,
    /// Differentiated services code point, 0 to 63.
    pub dscp: u8,
}

impl Default for UdpOptions {
    fn default() -> Self {
        Self {
            receive_buffer: RECEIVE_BUFFER,
            send_buffer: SEND_BUFFER,
            dscp: DSCP_SIGNALLING,
        }
    }
}

/// A bound, non-blocking UDP socket.
#[derive(Debug)]
pub struct UdpSocket {
    socket: Socket,
    local: SocketAddr,
}

impl UdpSocket {
    /// Binds one socket; port 0 takes any free one.
    pub fn bind(address: SocketAddr, options: &UdpOptions) -> Result<Self, BindError> {
        let mut group = Self::bind_group(address, 1, options)?;
        group
            .pop()
            .ok_or_else(|| bind_error(address, io::ErrorKind::Other.into()))
    }

    /// Binds one socket per worker to the same address; the kernel gives all datagrams of one peer to the same socket.
    /// Fails when another program has the port, even if that one is willing to share.
    pub fn bind_group(
        address: SocketAddr,
        count: usize,
        options: &UdpOptions,
    ) -> Result<Vec<Self>, BindError> {
        let make = || {
            let socket = sys::socket(address, Type::DGRAM)?;
            sys::set_buffers(&socket, options.receive_buffer, options.send_buffer)?;
            sys::set_dscp(&socket, address.ip(), options.dscp)?;
            sys::allow_fragments(&socket, address.ip())?;
            report_errors(&socket, address.ip())?;
            if address.ip().is_unspecified() {
                report_destination(&socket, address.ip())?;
            }
            Ok(socket)
        };
        let sockets = sys::bind_group(address, count, make).map_err(|source| bind_error(address, source))?;
        sockets
            .into_iter()
            .map(|socket| {
                let local = socket
                    .local_addr()
                    .map_err(|source| bind_error(address, source))?;
                Ok(Self {
                    socket,
                    local: local.as_socket().unwrap_or(address),
                })
            })
            .collect()
    }

    /// Hands the socket to the tokio runtime that this is called in.
    pub fn into_async(self) -> io::Result<AsyncUdpSocket> {
        AsyncUdpSocket::new(self)
    }

    /// The address that the socket is bound to; a wildcard if it was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Reads what has arrived, at most [`BATCH`] datagrams, over what `batch` held before. `WouldBlock` when there is
    /// nothing. When less than a full batch came, the socket was empty.
    pub fn recv_batch(&self, batch: &mut RecvBatch) -> io::Result<usize> {
        batch.receive(self.socket.as_raw_fd(), self.local)
    }

    /// Sends messages in order, each given as (local, remote, bytes): `local` is the address to leave from (an
    /// unspecified one leaves the choice to the routing table; the port is the socket's).
    ///
    /// Returns how many were dealt with: sent, or refused by the system and then to be found in
    /// [`SendBatch::refused`]. Fewer than given means that the kernel's buffer is full: go on with the rest after
    /// [`SEND_PAUSE`].
    pub fn send_batch<'a>(
        &self,
        batch: &mut SendBatch,
        messages: impl IntoIterator<Item = (SocketAddr, SocketAddr, &'a [u8])>,
    ) -> usize {
        batch.send(self.socket.as_raw_fd(), self.local, messages.into_iter())
    }

    /// Takes the oldest ICMP error, `None` when there is none. To be called until then.
    pub fn recv_unreachable(&self) -> Option<Unreachable> {
        unreachable::receive(self.socket.as_raw_fd())
    }
}

impl AsRawFd for UdpSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn bind_error(address: SocketAddr, source: io::Error) -> BindError {
    BindError {
        protocol: Protocol::Udp,
        address,
        source,
    }
}

fn report_errors(socket: &Socket, ip: IpAddr) -> io::Result<()> {
    match ip {
        IpAddr::V4(_) => sys::set_option(socket, libc::IPPROTO_IP, libc::IP_RECVERR, 1),
        IpAddr::V6(_) => sys::set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVERR, 1),
    }
}

fn report_destination(socket: &Socket, ip: IpAddr) -> io::Result<()> {
    match ip {
        IpAddr::V4(_) => sys::set_option(socket, libc::IPPROTO_IP, libc::IP_PKTINFO, 1),
        IpAddr::V6(_) => sys::set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1),
    }
}

/// Datagrams per system call. Beyond 8 to 16 the call itself no longer matters, and a larger batch only delays the first.
pub const BATCH: usize = 16;

/// Default of [`UdpOptions::receive_buffer`]: about 1,500 messages of 1 KB as the kernel counts them, a burst of 50 ms at
/// 30,000 messages per second.
pub const RECEIVE_BUFFER: usize = 4 << 20;

/// Default of [`UdpOptions::send_buffer`].
pub const SEND_BUFFER: usize = 1 << 20;

/// How long to wait before what a full kernel buffer did not take is tried again.
pub const SEND_PAUSE: Duration = Duration::from_millis(1);

/// Default of [`UdpOptions::dscp`]: class selector 3, which telephones ship with for signalling (RFC 4594 would have CS5).
pub const DSCP_SIGNALLING: u8 = 24;

#[cfg(test)]
mod tests;
