//! ICMP errors, read from the socket's error queue (`ip(7)`, `IP_RECVERR`).

use std::{io, mem, net::SocketAddr, os::fd::RawFd, ptr};

use crate::sys::{self, Control, RawAddress};

/// Word that datagrams to an address do not arrive.
#[derive(Debug)]
pub struct Unreachable {
    /// Where the datagram was to go.
    pub remote: SocketAddr,
    /// Why not: connection refused is "no such port", host unreachable, network unreachable and so on.
    pub error: io::Error,
}

/// Takes one entry from the error queue of `fd`; `None` when it is empty.
pub(super) fn receive(fd: RawFd) -> Option<Unreachable> {
    loop {
        let mut address = RawAddress::zeroed();
        let mut control = Control::new();
        // SAFETY: msghdr is integers and pointers, for which zero is a value. No buffer for the offending datagram: who
        // it went to is all we need, and the rest of it is discarded.
        let mut header: libc::msghdr = unsafe { mem::zeroed() };
        header.msg_iov = ptr::null_mut();
        header.msg_name = address.as_mut_ptr().cast();
        header.msg_namelen = RawAddress::CAPACITY;
        header.msg_control = control.0.as_mut_ptr().cast();
        header.msg_controllen = control.0.len();
        let result = sys::retry(|| {
            // SAFETY: the header points to an address and a control buffer of the lengths given, which outlive the call.
            sys::check_size(unsafe {
                libc::recvmsg(fd, &raw mut header, libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT)
            })
        });
        result.ok()?;
        let length = header.msg_controllen;
        let error = control
            .find::<libc::sock_extended_err>(length, libc::IPPROTO_IP, libc::IP_RECVERR)
            .or_else(|| control.find(length, libc::IPPROTO_IPV6, libc::IPV6_RECVERR));
        // An entry without an address or an error is of no use; the next one may be.
        if let (Some(error), Some(remote)) = (error, address.decode()) {
            return Some(Unreachable {
                remote,
                error: io::Error::from_raw_os_error(error.ee_errno.cast_signed()),
            });
        }
    }
}
