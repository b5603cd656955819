//! A place of its own for each test: loopback addresses, port ranges and a folder.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// The domain that every test's server serves.
pub(crate) const DOMAIN: &str = "trapez.test";

/// 127.80.`number`.0/24 or `::1`, a range of telephones' ports and a range of relay ports; released when dropped.
pub(crate) struct Site {
    number: u16,
    ipv6: bool,
    folder: TempDir,
    /// Bound for as long as the site is ours: the kernel lets nobody else have it, and forgets it with the process.
    _claim: UdpSocket,
}

impl Site {
    /// The first free site of this machine; other test processes may hold some.
    pub(crate) fn claim() -> Self {
        for number in 0..SITES {
            let lock = SocketAddr::from((address(number, 255 - 1), CLAIM_PORT));
            if let Ok(claim) = UdpSocket::bind(lock) {
                let folder = tempfile::Builder::new()
                    .prefix("trapez-test-")
                    .tempdir()
                    .expect("a temporary folder can be made");
                return Self {
                    number,
                    ipv6: false,
                    folder,
                    _claim: claim,
                };
            }
        }
        panic!("all {SITES} test sites are taken; is something left over?");
    }

    /// The same on IPv6, where loopback has one address: all hosts share it.
    pub(crate) fn claim_ipv6() -> Self {
        Self {
            ipv6: true,
            ..Self::claim()
        }
    }

    /// The address of host `host` (1 is the server).
    pub(crate) fn address(&self, host: u8) -> IpAddr {
        match self.ipv6 {
            true => Ipv6Addr::LOCALHOST.into(),
            false => address(self.number, host).into(),
        }
    }

    /// Where telephones that cannot have an address of their own are.
    pub(crate) fn localhost(&self) -> IpAddr {
        match self.ipv6 {
            true => Ipv6Addr::LOCALHOST.into(),
            false => Ipv4Addr::LOCALHOST.into(),
        }
    }

    /// The server's address and port; on IPv6 the first port of the last telephone, for want of addresses.
    pub(crate) fn server(&self) -> SocketAddr {
        let port = match self.ipv6 {
            true => self.phone_ports(PHONES - 1),
            false => 5060,
        };
        SocketAddr::new(self.address(1), port)
    }

    /// First of the ten ports of telephone `slot` (0 to 4): RTP from the first on, then signalling and control.
    pub(crate) fn phone_ports(&self, slot: u16) -> u16 {
        assert!(slot < PHONES, "a site has {PHONES} telephones");
        PHONE_PORTS + self.number * PHONES * 10 + slot * 10
    }

    /// First and last port of the server's media relay.
    pub(crate) fn relay_ports(&self) -> (u16, u16) {
        let first = RELAY_PORTS + self.number * RELAY_WIDTH;
        (first, first + RELAY_WIDTH - 1)
    }

    /// A folder that goes with the site.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A new sub-folder.
    pub(crate) fn make_folder(&self, name: &str) -> PathBuf {
        let path = self.folder().join(name);
        std::fs::create_dir_all(&path).expect("a folder can be made in the temporary folder");
        path
    }
}

fn address(number: u16, host: u8) -> Ipv4Addr {
    Ipv4Addr::new(
        127,
        80,
        u8::try_from(number).expect("there are fewer than 256 sites"),
        host,
    )
}

const SITES: u16 = 160;
const CLAIM_PORT: u16 = 4_999;
const PHONES: u16 = 5;
/// Below the ephemeral ports (32768), so that nobody gets these by chance.
const PHONE_PORTS: u16 = 10_000;
const RELAY_PORTS: u16 = 20_000;
const RELAY_WIDTH: u16 = 60;
