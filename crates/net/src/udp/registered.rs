//! A UDP socket in a tokio runtime.

use std::{io, net::SocketAddr};

use tokio::io::{Interest, unix::AsyncFd};

use super::{BATCH, RecvBatch, SendBatch, UdpSocket, Unreachable};

/// A [`UdpSocket`] that a task can wait for.
///
/// It is not waited for until it can be *written*: with that the kernel would wake the task for each datagram that left.
/// When a batch was not sent whole, which takes an interface that is slower than we are, try the rest after
/// [`super::SEND_PAUSE`].
#[derive(Debug)]
pub struct AsyncUdpSocket {
    registered: AsyncFd<UdpSocket>,
}

impl AsyncUdpSocket {
    pub(super) fn new(socket: UdpSocket) -> io::Result<Self> {
        // SAFETY: the descriptor is owned by the socket, which never replaces it, and both live in the `AsyncFd` from now
        // on; nothing gives the socket out mutably or takes it back.
        let registered = unsafe { AsyncFd::register_with_interest(socket, ARRIVAL) };
        registered
            .map(|registered| Self { registered })
            .map_err(io::Error::from)
    }

    /// As [`UdpSocket::local_addr`].
    pub fn local_addr(&self) -> SocketAddr {
        self.registered.get_ref().local_addr()
    }

    /// Waits until a datagram or an ICMP error has arrived. May be cancelled.
    pub async fn wait(&self) -> io::Result<()> {
        self.registered.ready(ARRIVAL).await.map(drop)
    }

    /// As [`UdpSocket::recv_batch`]; costs nothing when nothing has arrived, and 0 says so.
    pub fn recv_batch(&self, batch: &mut RecvBatch) -> io::Result<usize> {
        batch.clear();
        let result = self
            .registered
            .try_io(Interest::READABLE, |socket| match socket.recv_batch(batch)? {
                BATCH => Ok(()),
                // A short batch has emptied the socket: to wait again there is no need to hear that from the kernel.
                _ => Err(io::ErrorKind::WouldBlock.into()),
            });
        match result {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(batch.len()),
        }
    }

    /// As [`UdpSocket::recv_unreachable`]; costs nothing when nothing has arrived.
    pub fn recv_unreachable(&self) -> Option<Unreachable> {
        let take = |socket: &UdpSocket| {
            socket
                .recv_unreachable()
                .ok_or_else(|| io::ErrorKind::WouldBlock.into())
        };
        self.registered.try_io(Interest::ERROR, take).ok()
    }

    /// As [`UdpSocket::send_batch`].
    pub fn send_batch<'a>(
        &self,
        batch: &mut SendBatch,
        messages: impl IntoIterator<Item = (SocketAddr, SocketAddr, &'a [u8])>,
    ) -> usize {
        self.registered.get_ref().send_batch(batch, messages)
    }
}

const ARRIVAL: Interest = Interest::READABLE.add(Interest::ERROR);
