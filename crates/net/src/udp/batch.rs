//! The memory of a batch: buffers, addresses and control messages that are used again and again.

use std::{io, mem, net::SocketAddr, os::fd::RawFd, ptr};

use super::{BATCH, unreachable::Unreachable};
use crate::sys::{self, Control, RawAddress};

/// A datagram in a [`RecvBatch`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Datagram<'a> {
    /// The local address that it was sent to: never a wildcard.
    pub local: SocketAddr,
    /// The peer.
    pub remote: SocketAddr,
    /// The payload; may be empty.
    pub bytes: &'a [u8],
}

/// Room for [`BATCH`] datagrams of any size. One serves all sockets of a worker.
///
/// It reserves 1 MiB of address space; of each slot only the pages that a datagram reached take memory.
pub struct RecvBatch {
    /// `BATCH` slots of `SLOT` bytes.
    buffers: Box<[u8]>,
    addresses: [RawAddress; BATCH],
    controls: [Control; BATCH],
    received: [Received; BATCH],
    count: usize,
}

#[derive(Clone, Copy)]
struct Received {
    local: SocketAddr,
    remote: SocketAddr,
    length: usize,
}

impl RecvBatch {
    /// An empty batch.
    pub fn new() -> Box<Self> {
        let nobody = SocketAddr::from(([0, 0, 0, 0], 0));
        Box::new(Self {
            buffers: vec![0; BATCH * SLOT].into_boxed_slice(),
            addresses: [RawAddress::zeroed(); BATCH],
            controls: [Control::new(); BATCH],
            received: [Received {
                local: nobody,
                remote: nobody,
                length: 0,
            }; BATCH],
            count: 0,
        })
    }

    /// How many datagrams the last `recv_batch` read.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether the last `recv_batch` read nothing.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn clear(&mut self) {
        self.count = 0;
    }

    /// The datagrams in the order of their arrival.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Datagram<'_>> {
        self.received[..self.count]
            .iter()
            .zip(self.buffers.chunks_exact(SLOT))
            .map(|(received, slot)| Datagram {
                local: received.local,
                remote: received.remote,
                bytes: &slot[..received.length],
            })
    }

    pub(super) fn receive(&mut self, fd: RawFd, bound: SocketAddr) -> io::Result<usize> {
        self.count = 0;
        let is_wildcard = bound.ip().is_unspecified();
        let mut vectors: [libc::iovec; BATCH] = [libc::iovec {
            iov_base: ptr::null_mut(),
            iov_len: 0,
        }; BATCH];
        // SAFETY: mmsghdr is integers and pointers, for which zero is a value.
        let mut headers: [libc::mmsghdr; BATCH] = unsafe { mem::zeroed() };
        for ((((header, vector), slot), address), control) in headers
            .iter_mut()
            .zip(&mut vectors)
            .zip(self.buffers.chunks_exact_mut(SLOT))
            .zip(&mut self.addresses)
            .zip(&mut self.controls)
        {
            *vector = libc::iovec {
                iov_base: slot.as_mut_ptr().cast(),
                iov_len: slot.len(),
            };
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_name = address.as_mut_ptr().cast();
            header.msg_hdr.msg_namelen = RawAddress::CAPACITY;
            if is_wildcard {
                header.msg_hdr.msg_control = control.0.as_mut_ptr().cast();
                header.msg_hdr.msg_controllen = control.0.len();
            }
        }
        // An ICMP error that waits is reported here first, once, and says nothing about what else arrived.
        let mut pending_error = true;
        let read = loop {
            // SAFETY: the headers point to buffers, addresses and control buffers of the lengths given, all of which
            // outlive the call and are not otherwise touched during it.
            let result = unsafe {
                libc::recvmmsg(
                    fd,
                    headers.as_mut_ptr(),
                    BATCH as u32,
                    libc::MSG_DONTWAIT,
                    ptr::null_mut(),
                )
            };
            match sys::check(result) {
                Ok(read) => break usize::try_from(read).unwrap_or(0).min(BATCH),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() != io::ErrorKind::WouldBlock && mem::take(&mut pending_error) => {}
                Err(error) => return Err(error),
            }
        };
        for (index, header) in headers.iter().enumerate().take(read) {
            // Without a source there is nobody to answer: it does not happen on UDP, but would be no reason to stop.
            let Some(remote) = self.addresses[index].decode() else {
                continue;
            };
            let mut local = bound;
            if is_wildcard
                && let Some((ip, scope)) = self.controls[index].destination(header.msg_hdr.msg_controllen)
            {
                local.set_ip(ip);
                if let SocketAddr::V6(v6) = &mut local {
                    v6.set_scope_id(scope);
                }
            }
            let length = (header.msg_len as usize).min(SLOT);
            if self.count != index {
                self.buffers
                    .copy_within(index * SLOT..index * SLOT + length, self.count * SLOT);
            }
            self.received[self.count] = Received {
                local,
                remote,
                length,
            };
            self.count += 1;
        }
        Ok(self.count)
    }
}

/// What a batch of datagrams to send is put together in, and which of them the system refused.
pub struct SendBatch {
    addresses: [RawAddress; BATCH],
    controls: [Control; BATCH],
    remotes: [SocketAddr; BATCH],
    refused: Vec<Unreachable>,
}

impl SendBatch {
    /// An empty batch. One serves all sockets of a worker.
    pub fn new() -> Box<Self> {
        Box::new(Self {
            addresses: [RawAddress::zeroed(); BATCH],
            controls: [Control::new(); BATCH],
            remotes: [SocketAddr::from(([0, 0, 0, 0], 0)); BATCH],
            refused: Vec::new(),
        })
    }

    /// Takes the destinations of messages that the system would not send: no route, no such local address, a packet
    /// filter. Kept over several calls until they are taken, at most [`MAX_REFUSED`].
    pub fn refused(&mut self) -> impl Iterator<Item = Unreachable> + '_ {
        self.refused.drain(..)
    }

    pub(super) fn send<'a>(
        &mut self,
        fd: RawFd,
        bound: SocketAddr,
        mut messages: impl Iterator<Item = (SocketAddr, SocketAddr, &'a [u8])>,
    ) -> usize {
        let mut done = 0;
        loop {
            let mut vectors: [libc::iovec; BATCH] = [libc::iovec {
                iov_base: ptr::null_mut(),
                iov_len: 0,
            }; BATCH];
            // SAFETY: mmsghdr is integers and pointers, for which zero is a value.
            let mut headers: [libc::mmsghdr; BATCH] = unsafe { mem::zeroed() };
            let mut count = 0;
            for (local, remote, bytes) in messages.by_ref().take(BATCH) {
                self.remotes[count] = remote;
                let (raw, length) = RawAddress::encode(remote);
                self.addresses[count] = raw;
                // sendmmsg only reads what the vector points to.
                vectors[count] = libc::iovec {
                    iov_base: bytes.as_ptr().cast_mut().cast(),
                    iov_len: bytes.len(),
                };
                let header = &mut headers[count].msg_hdr;
                header.msg_iov = &raw mut vectors[count];
                header.msg_iovlen = 1;
                header.msg_name = self.addresses[count].as_mut_ptr().cast();
                header.msg_namelen = length;
                // A socket that is bound to one address leaves from there anyway.
                if bound.ip().is_unspecified()
                    && !local.ip().is_unspecified()
                    && local.is_ipv4() == bound.is_ipv4()
                {
                    let used = self.controls[count].write_source(local);
                    header.msg_control = self.controls[count].0.as_mut_ptr().cast();
                    header.msg_controllen = used;
                }
                count += 1;
            }
            let sent = self.transmit(fd, &mut headers[..count]);
            done += sent;
            if sent < count || count < BATCH {
                return done;
            }
        }
    }

    /// Sends all of `headers` or as many as the kernel has room for.
    fn transmit(&mut self, fd: RawFd, headers: &mut [libc::mmsghdr]) -> usize {
        let mut sent = 0;
        let mut tried_again = false;
        while sent < headers.len() {
            let rest = &mut headers[sent..];
            // SAFETY: the headers point to bytes, addresses and control messages that outlive the call; only `msg_len`
            // is written.
            let result =
                unsafe { libc::sendmmsg(fd, rest.as_mut_ptr(), rest.len() as u32, libc::MSG_DONTWAIT) };
            match sys::check(result) {
                Ok(count) => {
                    sent += usize::try_from(count).unwrap_or(0);
                    tried_again = false;
                }
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR) => {}
                    Some(libc::EAGAIN) => break,
                    // The interface's queue is full: as good as lost on the way, and SIP sends again.
                    Some(libc::ENOBUFS) => sent += 1,
                    // It may be an ICMP error about an earlier message to somebody else, reported here once: only when
                    // it comes again is it about this one.
                    _ if !tried_again => tried_again = true,
                    _ => {
                        if self.refused.len() < MAX_REFUSED {
                            self.refused.push(Unreachable {
                                remote: self.remotes[sent],
                                error,
                            });
                        }
                        sent += 1;
                        tried_again = false;
                    }
                },
            }
        }
        sent
    }
}

/// Bytes per datagram slot: the largest UDP payload is 65,507 bytes, so none is ever cut off.
const SLOT: usize = 1 << 16;

/// Refused messages that are remembered until [`SendBatch::refused`] takes them.
pub const MAX_REFUSED: usize = 256;
