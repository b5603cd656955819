//! The addresses of this machine: what to print for a phone to use, and where a packet to somebody would leave from.

use std::{
    ffi::CStr,
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    ptr,
};

use crate::sys::{RawAddress, check};

/// An address of an interface that is up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InterfaceAddress {
    /// The interface, as `ip link` names it.
    pub name: String,
    /// The address.
    pub address: IpAddr,
    /// It belongs to the loopback interface.
    pub is_loopback: bool,
}

impl InterfaceAddress {
    /// Whether somebody on another machine could send here: neither loopback nor link-local, where an address without
    /// its interface means nothing.
    pub fn is_reachable(&self) -> bool {
        let link_local = match self.address {
            IpAddr::V4(v4) => v4.is_link_local(),
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
        };
        !self.is_loopback && !self.address.is_loopback() && !link_local
    }
}

/// All addresses of the interfaces that are up, in the system's order.
pub fn addresses() -> io::Result<Vec<InterfaceAddress>> {
    let mut list: *mut libc::ifaddrs = ptr::null_mut();
    // SAFETY: the pointer receives a list that `freeifaddrs` releases below.
    check(unsafe { libc::getifaddrs(&raw mut list) })?;
    let mut found = Vec::new();
    let mut entry = list;
    // SAFETY: `entry` walks the list that the system made, until its null; nothing of it is kept.
    while let Some(interface) = unsafe { entry.as_ref() } {
        entry = interface.ifa_next;
        if interface.ifa_flags & libc::IFF_UP as u32 == 0 {
            continue;
        }
        // SAFETY: the address is null or a sockaddr of its family, valid until the list is freed.
        let Some(address) = (unsafe { read_address(interface.ifa_addr) }) else {
            continue;
        };
        // SAFETY: the name is a C string, valid until the list is freed.
        let name = unsafe { CStr::from_ptr(interface.ifa_name) }
            .to_string_lossy()
            .into_owned();
        let is_loopback = interface.ifa_flags & libc::IFF_LOOPBACK as u32 != 0;
        found.push(InterfaceAddress {
            name,
            address,
            is_loopback,
        });
    }
    // SAFETY: `list` came from getifaddrs and is freed once.
    unsafe { libc::freeifaddrs(list) };
    Ok(found)
}

/// The address that a packet to `remote` would leave from, by the routing table; nothing is sent.
pub fn source_for(remote: IpAddr) -> io::Result<IpAddr> {
    let any: SocketAddr = match remote {
        IpAddr::V4(_) => SocketAddr::from(([0, 0, 0, 0], 0)),
        IpAddr::V6(_) => SocketAddr::from(([0u16; 8], 0)),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect((remote, DISCARD_PORT))?;
    Ok(socket.local_addr()?.ip())
}

/// # Safety
/// `address` is null or points to a sockaddr of the size that its family says.
unsafe fn read_address(address: *const libc::sockaddr) -> Option<IpAddr> {
    // SAFETY: by the contract above.
    let family = i32::from(unsafe { address.as_ref() }?.sa_family);
    let size = match family {
        libc::AF_INET => size_of::<libc::sockaddr_in>(),
        libc::AF_INET6 => size_of::<libc::sockaddr_in6>(),
        _ => return None,
    };
    let mut raw = RawAddress::zeroed();
    // SAFETY: `size` bytes are there by the contract, and RawAddress holds either family.
    unsafe { ptr::copy_nonoverlapping(address.cast::<u8>(), raw.as_mut_ptr().cast::<u8>(), size) };
    raw.decode().map(|address| address.ip())
}

/// RFC 863; connecting a UDP socket only asks the routing table, so any port would do.
const DISCARD_PORT: u16 = 9;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_listed_and_not_reachable_from_elsewhere() {
        let all = addresses().expect("the interfaces");
        let loopback = all
            .iter()
            .find(|a| a.address == IpAddr::from([127, 0, 0, 1]))
            .expect("127.0.0.1");
        assert!(loopback.is_loopback && !loopback.is_reachable());
        assert_eq!(loopback.name, "lo");
    }

    #[test]
    fn link_local_addresses_are_not_offered() {
        let link_local = |ip: &str| InterfaceAddress {
            name: "e".into(),
            address: ip.parse().expect("ip"),
            is_loopback: false,
        };
        assert!(!link_local("fe80::1").is_reachable());
        assert!(!link_local("169.254.3.4").is_reachable());
        assert!(link_local("192.0.2.1").is_reachable());
    }

    #[test]
    fn the_way_to_loopback_leaves_from_loopback() {
        let source = source_for(IpAddr::from([127, 0, 0, 9])).expect("a route");
        assert!(source.is_loopback());
    }
}
