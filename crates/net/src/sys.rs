//! The thin layer over libc: socket addresses in the kernel's form, socket options, control messages.
//!
//! IPv6 sockets are made IPv6-only throughout, so an IPv4-mapped address never appears.

use std::{
    io, mem,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
    os::fd::AsRawFd,
};

use socket2::{Domain, SockAddr, Socket, Type};

/// A socket address as the kernel writes it, no larger than IPv6 needs: 28 bytes instead of `sockaddr_storage`'s 128.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) union RawAddress {
    family: libc::sa_family_t,
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

impl RawAddress {
    /// The size of the storage that the kernel may fill.
    pub(crate) const CAPACITY: libc::socklen_t = size_of::<RawAddress>() as libc::socklen_t;

    pub(crate) const fn zeroed() -> Self {
        // SAFETY: all variants are structs of integers, for which zero is a value.
        unsafe { mem::zeroed() }
    }

    /// The kernel's form of `address` and the length that goes with it.
    #[inline]
    pub(crate) fn encode(address: SocketAddr) -> (Self, libc::socklen_t) {
        let mut raw = Self::zeroed();
        match address {
            SocketAddr::V4(v4) => {
                raw.v4 = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: v4.port().to_be(),
                    sin_addr: in_addr(*v4.ip()),
                    sin_zero: [0; 8],
                };
                (raw, size_of::<libc::sockaddr_in>() as libc::socklen_t)
            }
            SocketAddr::V6(v6) => {
                raw.v6 = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: v6.port().to_be(),
                    sin6_flowinfo: v6.flowinfo(),
                    sin6_addr: in6_addr(*v6.ip()),
                    sin6_scope_id: v6.scope_id(),
                };
                (raw, size_of::<libc::sockaddr_in6>() as libc::socklen_t)
            }
        }
    }

    /// The address, or `None` when the kernel wrote none (a zeroed storage has family 0) or one of another family.
    #[inline]
    pub(crate) fn decode(&self) -> Option<SocketAddr> {
        // SAFETY: the storage began as zeros and was only written by `encode` or by the kernel as a whole sockaddr; every
        // bit pattern of these integer structs is a value.
        unsafe {
            match i32::from(self.family) {
                libc::AF_INET => {
                    let ip = Ipv4Addr::from(u32::from_be(self.v4.sin_addr.s_addr));
                    Some(SocketAddr::V4(SocketAddrV4::new(
                        ip,
                        u16::from_be(self.v4.sin_port),
                    )))
                }
                libc::AF_INET6 => {
                    let ip = Ipv6Addr::from(self.v6.sin6_addr.s6_addr);
                    let port = u16::from_be(self.v6.sin6_port);
                    // The flow label says nothing about who the peer is; kept, it would make one peer look like many.
                    Some(SocketAddr::V6(SocketAddrV6::new(
                        ip,
                        port,
                        0,
                        self.v6.sin6_scope_id,
                    )))
                }
                _ => None,
            }
        }
    }

    #[inline]
    pub(crate) fn as_ptr(&self) -> *const libc::sockaddr {
        (&raw const *self).cast()
    }

    #[inline]
    pub(crate) fn as_mut_ptr(&mut self) -> *mut libc::sockaddr {
        (&raw mut *self).cast()
    }
}

#[inline]
pub(crate) fn in_addr(ip: Ipv4Addr) -> libc::in_addr {
    libc::in_addr {
        s_addr: u32::from(ip).to_be(),
    }
}

#[inline]
pub(crate) fn in6_addr(ip: Ipv6Addr) -> libc::in6_addr {
    libc::in6_addr { s6_addr: ip.octets() }
}

/// A non-blocking, close-on-exec socket for `address`'s family; IPv6 ones are IPv6-only.
pub(crate) fn socket(address: SocketAddr, kind: Type) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, None)?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

/// Binds `count` sockets that share one address with `SO_REUSEPORT`, the kernel spreading peers among them.
///
/// The first is bound without the option and gets it afterwards: two sharing programs of one user could otherwise both
/// "have" a port, each seeing half of the traffic, and nobody would be told.
pub(crate) fn bind_group(
    address: SocketAddr,
    count: usize,
    mut make: impl FnMut() -> io::Result<Socket>,
) -> io::Result<Vec<Socket>> {
    let first = make()?;
    first.bind(&SockAddr::from(address))?;
    first.set_reuse_port(true)?;
    let bound = first.local_addr()?.as_socket().unwrap_or(address);
    let mut group = vec![first];
    while group.len() < count {
        let socket = make()?;
        socket.set_reuse_port(true)?;
        socket.bind(&SockAddr::from(bound))?;
        group.push(socket);
    }
    Ok(group)
}

/// Sets an integer socket option.
pub(crate) fn set_option(socket: &impl AsRawFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    // SAFETY: the pointer and length describe a live i32.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    };
    check(result).map(drop)
}

/// Marks what leaves the socket with a differentiated services code point (RFC 2474), 0 to 63.
pub(crate) fn set_dscp(socket: &impl AsRawFd, ip: IpAddr, dscp: u8) -> io::Result<()> {
    let value = i32::from(dscp & 0x3f) << 2;
    match ip {
        IpAddr::V4(_) => set_option(socket, libc::IPPROTO_IP, libc::IP_TOS, value),
        IpAddr::V6(_) => set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_TCLASS, value),
    }
}

/// Never sets "don't fragment": a SIP message over the MTU may be fragmented, it must not vanish.
pub(crate) fn allow_fragments(socket: &impl AsRawFd, ip: IpAddr) -> io::Result<()> {
    match ip {
        IpAddr::V4(_) => set_option(
            socket,
            libc::IPPROTO_IP,
            libc::IP_MTU_DISCOVER,
            libc::IP_PMTUDISC_DONT,
        ),
        IpAddr::V6(_) => set_option(
            socket,
            libc::IPPROTO_IPV6,
            libc::IPV6_MTU_DISCOVER,
            libc::IPV6_PMTUDISC_DONT,
        ),
    }
}

/// Asks for socket buffers of these sizes: past the system's limit where the process may (CAP_NET_ADMIN), else up to it.
pub(crate) fn set_buffers(socket: &Socket, receive: usize, send: usize) -> io::Result<()> {
    let size = |bytes: usize| i32::try_from(bytes).unwrap_or(i32::MAX);
    if set_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, size(receive)).is_err() {
        socket.set_recv_buffer_size(receive)?;
    }
    if set_option(socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, size(send)).is_err() {
        socket.set_send_buffer_size(send)?;
    }
    Ok(())
}

/// A buffer for control messages, aligned as `cmsghdr` wants it.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(crate) struct Control(pub(crate) [u8; CONTROL_SIZE]);

impl Control {
    pub(crate) const fn new() -> Self {
        Self([0; CONTROL_SIZE])
    }

    /// Writes the control message that makes a datagram leave from `source`; returns how many bytes it takes.
    #[inline]
    pub(crate) fn write_source(&mut self, source: SocketAddr) -> usize {
        match source {
            SocketAddr::V4(v4) => {
                let info = libc::in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: in_addr(*v4.ip()),
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                self.write(libc::IPPROTO_IP, libc::IP_PKTINFO, info)
            }
            SocketAddr::V6(v6) => {
                let info = libc::in6_pktinfo {
                    ipi6_addr: in6_addr(*v6.ip()),
                    ipi6_ifindex: v6.scope_id(),
                };
                self.write(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info)
            }
        }
    }

    fn write<T: Copy>(&mut self, level: i32, kind: i32, value: T) -> usize {
        let header = size_of::<libc::cmsghdr>();
        const { assert!(size_of::<libc::cmsghdr>() + size_of::<T>() <= CONTROL_SIZE) };
        // SAFETY: `self` is 8-aligned, and the assertion above holds header and value inside it; on Linux CMSG_DATA is
        // what follows the header, the header's size being a multiple of its alignment.
        unsafe {
            let mut message: libc::cmsghdr = mem::zeroed();
            message.cmsg_len = header + size_of::<T>();
            message.cmsg_level = level;
            message.cmsg_type = kind;
            let base = self.0.as_mut_ptr();
            base.cast::<libc::cmsghdr>().write(message);
            base.add(header).cast::<T>().write_unaligned(value);
        }
        header + size_of::<T>().next_multiple_of(align_of::<usize>())
    }

    /// The local address that a received datagram was sent to, from the first `length` bytes that the kernel wrote.
    #[inline]
    pub(crate) fn destination(&self, length: usize) -> Option<(IpAddr, u32)> {
        if let Some(info) = self.find::<libc::in_pktinfo>(length, libc::IPPROTO_IP, libc::IP_PKTINFO) {
            // `ipi_spec_dst` and not `ipi_addr`: for a broadcast it is the address that an answer may leave from.
            return Some((
                IpAddr::V4(Ipv4Addr::from(u32::from_be(info.ipi_spec_dst.s_addr))),
                0,
            ));
        }
        let info = self.find::<libc::in6_pktinfo>(length, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO)?;
        let ip = Ipv6Addr::from(info.ipi6_addr.s6_addr);
        Some((
            IpAddr::V6(ip),
            if ip.is_unicast_link_local() {
                info.ipi6_ifindex
            } else {
                0
            },
        ))
    }

    /// Finds a control message of this level and kind and copies its value.
    ///
    /// `T` must be one of libc's plain integer structs, for which every bit pattern is a value.
    pub(crate) fn find<T: Copy>(&self, length: usize, level: i32, kind: i32) -> Option<T> {
        let header = size_of::<libc::cmsghdr>();
        let written = self.0.get(..length.min(CONTROL_SIZE))?;
        let mut at = 0;
        while at + header <= written.len() {
            // SAFETY: `header` bytes are there, and cmsghdr is made of integers.
            let message = unsafe { written.as_ptr().add(at).cast::<libc::cmsghdr>().read_unaligned() };
            if message.cmsg_len < header {
                return None;
            }
            if message.cmsg_level == level
                && message.cmsg_type == kind
                && message.cmsg_len >= header + size_of::<T>()
                && at + header + size_of::<T>() <= written.len()
            {
                // SAFETY: the value lies within `written` by the check above; T is a plain integer struct.
                return Some(unsafe { written.as_ptr().add(at + header).cast::<T>().read_unaligned() });
            }
            at += message.cmsg_len.next_multiple_of(align_of::<usize>());
        }
        None
    }
}

/// Turns a C result into an `io::Result`.
#[inline]
pub(crate) fn check(result: i32) -> io::Result<i32> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// The same for calls that return a size.
#[inline]
pub(crate) fn check_size(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Repeats a call that a signal interrupted.
#[inline]
pub(crate) fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Room for a packet-info message (40 bytes) or an extended error with the offender's address (64 bytes).
const CONTROL_SIZE: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_kernels_form() {
        for text in [
            "192.0.2.1:5060",
            "[2001:db8::1]:5061",
            "0.0.0.0:0",
            "[fe80::1%7]:5060",
        ] {
            let address: SocketAddr = text.parse().expect("an address");
            let (raw, length) = RawAddress::encode(address);
            assert!(length <= RawAddress::CAPACITY);
            assert_eq!(raw.decode(), Some(address));
        }
        assert_eq!(RawAddress::zeroed().decode(), None);
    }

    #[test]
    fn a_written_control_message_is_found_again() {
        let mut control = Control::new();
        let length = control.write_source("192.0.2.7:0".parse().expect("an address"));
        assert_eq!(
            control.destination(length),
            Some((IpAddr::from([192, 0, 2, 7]), 0))
        );
        let length = control.write_source("[2001:db8::7]:0".parse().expect("an address"));
        assert_eq!(
            control.destination(length),
            Some(("2001:db8::7".parse().expect("an address"), 0))
        );
    }

    #[test]
    fn cut_off_control_messages_are_not_read() {
        let mut control = Control::new();
        let length = control.write_source("192.0.2.7:0".parse().expect("an address"));
        for cut in 0..length - 4 {
            assert_eq!(control.destination(cut), None, "{cut} bytes");
        }
        control.0[..8].copy_from_slice(&0usize.to_ne_bytes());
        assert_eq!(
            control.destination(length),
            None,
            "a length of zero must not loop"
        );
    }
}
