//! A UDP socket for one packet at a time, on bare system calls.

use std::{
    io,
    mem::MaybeUninit,
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
};

use socket2::{SockAddr, Socket, Type};

use crate::sys::{self, RawAddress};

/// A bound, non-blocking UDP socket that carries media.
#[derive(Debug)]
pub struct MediaSocket {
    socket: Socket,
}

impl MediaSocket {
    /// Binds a socket. The address should be a concrete one: a packet from a wildcard socket leaves from wherever the
    /// routing table says, which a peer with a secure latch of its own would not accept.
    pub fn bind(address: SocketAddr, receive_buffer: usize, dscp: u8) -> io::Result<Self> {
        let socket = sys::socket(address, Type::DGRAM)?;
        sys::set_dscp(&socket, address.ip(), dscp)?;
        sys::allow_fragments(&socket, address.ip())?;
        socket.set_recv_buffer_size(receive_buffer)?;
        socket.bind(&SockAddr::from(address))?;
        Ok(Self { socket })
    }

    /// The address that it is bound to.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket
            .local_addr()?
            .as_socket()
            .ok_or_else(|| io::ErrorKind::Unsupported.into())
    }

    /// Receives one packet; what does not fit into `buffer` is cut off. `WouldBlock` when there is none.
    #[inline]
    pub fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let mut raw = RawAddress::zeroed();
        let mut length = RawAddress::CAPACITY;
        // SAFETY: buffer, address and length are live and described by their sizes.
        let received = sys::check_size(unsafe {
            libc::recvfrom(
                self.socket.as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                libc::MSG_DONTWAIT,
                raw.as_mut_ptr(),
                &raw mut length,
            )
        })?;
        let remote = raw.decode().ok_or(io::ErrorKind::InvalidData)?;
        Ok((received, remote))
    }

    /// Sends one packet. A packet that cannot leave now is lost: late media is worse than none.
    #[inline]
    pub fn send_to(&self, bytes: &[u8], remote: SocketAddr) -> io::Result<()> {
        let (raw, length) = RawAddress::encode(remote);
        // SAFETY: bytes and address are live and described by their sizes.
        sys::check_size(unsafe {
            libc::sendto(
                self.socket.as_raw_fd(),
                bytes.as_ptr().cast(),
                bytes.len(),
                libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
                raw.as_ptr(),
                length,
            )
        })
        .map(drop)
    }

    /// Throws away what has arrived; returns how many packets that were, at most `limit`.
    pub(super) fn discard(&self, limit: usize) -> usize {
        let mut scratch = [MaybeUninit::uninit(); 1];
        (0..limit)
            .take_while(|_| self.socket.recv(&mut scratch).is_ok())
            .count()
    }

    /// Sets how much the kernel keeps for it; 0 is as little as the kernel allows, about two packets.
    pub(super) fn set_receive_buffer(&self, bytes: usize) {
        // It only fails for a descriptor that is no socket, and a wrong size would only cost memory.
        let _ = self.socket.set_recv_buffer_size(bytes);
    }
}

impl AsRawFd for MediaSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl AsFd for MediaSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Kernel buffer of a media socket in bytes, doubled by the kernel: some 100 packets, 2 s of audio or a key frame of video.
pub const RECEIVE_BUFFER: usize = 128 << 10;

/// Expedited forwarding, RFC 3246 and RFC 4594.
pub const DSCP_MEDIA: u8 = 46;

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(address: &str) -> (MediaSocket, SocketAddr) {
        let socket = MediaSocket::bind(address.parse().expect("an address"), RECEIVE_BUFFER, DSCP_MEDIA);
        let socket = socket.expect("a socket");
        let local = socket.local_addr().expect("an address");
        (socket, local)
    }

    #[test]
    fn packets_carry_the_senders_address() {
        for host in ["127.0.0.1:0", "[::1]:0"] {
            let ((a, from), (b, to)) = (bind(host), bind(host));
            a.send_to(b"rtp", to).expect("sent");
            let mut buffer = [0; 16];
            assert_eq!(b.recv_from(&mut buffer).expect("a packet"), (3, from));
            assert_eq!(&buffer[..3], b"rtp");
            let error = b.recv_from(&mut buffer).expect_err("there is no second");
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        }
    }

    #[test]
    fn discarding_empties_the_socket() {
        let ((a, _), (b, to)) = (bind("127.0.0.1:0"), bind("127.0.0.1:0"));
        for _ in 0..5 {
            a.send_to(b"stale", to).expect("sent");
        }
        assert_eq!(b.discard(100), 5);
        assert!(b.recv_from(&mut [0; 16]).is_err());
    }

    #[test]
    fn a_shrunk_buffer_keeps_next_to_nothing() {
        let ((a, _), (b, to)) = (bind("127.0.0.1:0"), bind("127.0.0.1:0"));
        b.set_receive_buffer(0);
        for _ in 0..100 {
            a.send_to(&[0; 172], to).expect("sent");
        }
        assert!(b.discard(100) <= 4);
    }
}
