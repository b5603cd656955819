//! Which addresses can be reached from where.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether hosts all over the Internet can send to this address. (The standard library's `is_global` is not stable.)
pub fn is_global(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => is_global_v4(v4),
        IpAddr::V6(v6) => is_global_v6(v6),
    }
}

/// Whether it names one host, here or elsewhere: neither unspecified nor multicast nor broadcast.
pub fn is_unicast(address: IpAddr) -> bool {
    !address.is_unspecified() && !address.is_multicast() && address != IpAddr::V4(Ipv4Addr::BROADCAST)
}

/// Whether two IPv4 addresses lie in one /24.
pub(crate) fn same_slash_24(a: IpAddr, b: IpAddr) -> bool {
    match (a.to_canonical(), b.to_canonical()) {
        (IpAddr::V4(a), IpAddr::V4(b)) => a.octets()[..3] == b.octets()[..3],
        _ => false,
    }
}

fn is_global_v4(v4: Ipv4Addr) -> bool {
    let octets = v4.octets();
    !(octets[0] == 0
        || v4.is_private()
        || v4.is_loopback()
        || v4.is_link_local()
        || v4.is_multicast()
        // Shared space of carrier-grade NAT, RFC 6598.
        || (octets[0] == 100 && octets[1] & 0xc0 == 64)
        // Benchmarks, RFC 2544.
        || (octets[0] == 198 && octets[1] & 0xfe == 18)
        // Reserved, with broadcast.
        || octets[0] >= 240)
}

fn is_global_v6(v6: Ipv6Addr) -> bool {
    !(v6.is_unspecified()
        || v6.is_loopback()
        || v6.is_unique_local()
        || v6.is_unicast_link_local()
        || v6.is_multicast()
        // Discard only, RFC 6666.
        || v6.segments()[0] == 0x0100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_shared_and_special_addresses_are_not_global() {
        for address in [
            "0.0.0.0",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.9.9",
            "127.0.0.1",
            "169.254.1.1",
            "172.16.0.1",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "fd00::1",
            "ff02::1",
            "100::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(!is_global(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn public_addresses_are_global() {
        for address in [
            "8.8.8.8",
            "100.63.0.1",
            "100.128.0.1",
            "172.32.0.1",
            "203.0.113.10",
            "2001:db8::1",
            "::ffff:8.8.8.8",
        ] {
            assert!(is_global(address.parse().unwrap()), "{address}");
        }
    }
}
