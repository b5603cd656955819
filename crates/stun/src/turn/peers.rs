//! Which peers a client may reach (RFC 8656 sections 5 and 21.2): a relay must not open the provider's own network to its
//! customers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// The rules, in the order in which they count.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerPolicy {
    /// Allowed whatever follows. Empty by default.
    pub allow: Vec<IpNet>,
    /// The server's own addresses: every one of the host's, and those by which it is seen from outside. Only their relayed ports
    /// may be reached: two clients of one server find each other there, and no other service of the host is opened, this
    /// server itself included (a relay within a relay could be led in a circle). Empty by default: the caller knows them.
    pub own: Vec<IpAddr>,
    /// The ports of relayed addresses. 49152 to 65535 by default (RFC 8656 section 7.2).
    pub relay_ports: RangeInclusive<u16>,
    /// Refused. By default everything that is not a host of the Internet: loopback, link-local, private, shared, reserved and
    /// multicast addresses.
    pub deny: Vec<IpNet>,
}

impl Default for PeerPolicy {
    fn default() -> Self {
        Self {
            allow: Vec::new(),
            own: Vec::new(),
            relay_ports: 49_152..=65_535,
            deny: INNER.to_vec(),
        }
    }
}

impl PeerPolicy {
    /// Whether a permission for this host may be installed; its ports are judged by [`permits`](Self::permits).
    #[must_use]
    pub fn permits_host(&self, host: IpAddr) -> bool {
        let host = host.to_canonical();
        if covers(&self.allow, host) || self.own.contains(&host) {
            return true;
        }
        if covers(&self.deny, host) {
            return false;
        }
        // Gateways would carry packets for these to the IPv4 address within.
        match host {
            IpAddr::V6(v6) => embedded(v6).is_none_or(|v4| self.permits_host(IpAddr::V4(v4))),
            IpAddr::V4(_) => true,
        }
    }

    /// Whether data may go to this peer.
    #[must_use]
    pub fn permits(&self, peer: SocketAddr) -> bool {
        let host = peer.ip().to_canonical();
        if peer.port() == 0 || !self.permits_host(host) {
            return false;
        }
        covers(&self.allow, host) || !self.own.contains(&host) || self.relay_ports.contains(&peer.port())
    }
}

fn covers(nets: &[IpNet], host: IpAddr) -> bool {
    nets.iter().any(|net| net.contains(&host))
}

/// The IPv4 address in an address of NAT64 (RFC 6052) or 6to4 (RFC 3056).
fn embedded(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let octets = v6.octets();
    let at = match v6.segments() {
        [0x0064, 0xff9b, 0, 0, 0, 0, ..] => 12,
        [0x2002, ..] => 2,
        _ => return None,
    };
    Some(Ipv4Addr::new(
        octets[at],
        octets[at + 1],
        octets[at + 2],
        octets[at + 3],
    ))
}

const fn v4(a: u8, b: u8, c: u8, prefix: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, 0), prefix))
}

const fn v6(a: u16, b: u16, c: u16, prefix: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), prefix))
}

/// The special-purpose addresses of RFC 6890 and its registries that no peer on the Internet has. Documentation addresses are
/// not among them: they lead nowhere.
const INNER: [IpNet; 16] = [
    v4(0, 0, 0, 8),
    v4(10, 0, 0, 8),
    v4(100, 64, 0, 10),
    v4(127, 0, 0, 8),
    v4(169, 254, 0, 16),
    v4(172, 16, 0, 12),
    v4(192, 0, 0, 24),
    v4(192, 168, 0, 16),
    v4(198, 18, 0, 15),
    v4(224, 0, 0, 3),
    // Unspecified, loopback, and the addresses that once stood for IPv4.
    v6(0, 0, 0, 32),
    // NAT64 with prefixes of one's own.
    v6(0x64, 0xff9b, 1, 48),
    v6(0x100, 0, 0, 64),
    v6(0xfc00, 0, 0, 7),
    v6(0xfe80, 0, 0, 9),
    v6(0xff00, 0, 0, 8),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn host(policy: &PeerPolicy, host: &str) -> bool {
        policy.permits_host(host.parse().unwrap())
    }

    #[test]
    fn inner_addresses_are_refused_in_every_guise() {
        let policy = PeerPolicy::default();
        for address in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "127.255.255.255",
            "169.254.169.254",
            "172.31.255.255",
            "192.168.1.1",
            "198.19.0.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::1",
            "2002:c0a8:101::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!host(&policy, address), "{address}");
        }
    }

    #[test]
    fn hosts_of_the_internet_are_reached() {
        let policy = PeerPolicy::default();
        for address in [
            "8.8.8.8",
            "100.63.255.255",
            "172.32.0.1",
            "198.51.100.1",
            "2a00::1",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2002:808:808::1",
        ] {
            assert!(host(&policy, address), "{address}");
        }
    }

    #[test]
    fn what_is_allowed_counts_before_what_is_denied() {
        let policy = PeerPolicy {
            allow: vec!["10.9.0.0/16".parse().unwrap()],
            ..PeerPolicy::default()
        };
        assert!(host(&policy, "10.9.1.1"));
        assert!(host(&policy, "::ffff:10.9.1.1"));
        assert!(!host(&policy, "10.8.1.1"));
    }

    #[test]
    fn of_the_servers_own_addresses_only_relayed_ports_are_reached() {
        let policy = PeerPolicy {
            own: vec!["203.0.113.10".parse().unwrap()],
            ..PeerPolicy::default()
        };
        assert!(host(&policy, "203.0.113.10"));
        assert!(policy.permits("203.0.113.10:50000".parse().unwrap()));
        assert!(!policy.permits("203.0.113.10:5060".parse().unwrap()));
        assert!(!policy.permits("[::ffff:203.0.113.10]:22".parse().unwrap()));
        assert!(policy.permits("203.0.113.12:22".parse().unwrap()));
        assert!(!policy.permits("203.0.113.12:0".parse().unwrap()));
    }
}
