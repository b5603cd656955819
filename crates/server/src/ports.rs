//! The relay's ports as a signalling worker takes them: bound already, from the pools that it shares with its relay thread.
//!
//! A pair waits at the desk from [`RelayPorts::allocate`] until the command that opens its leg takes it along to the relay
//! thread ([`PortDesk::take`]); the relay thread gives it back to its pool when the leg is closed. A pair that never got that
//! far goes back with [`RelayPorts::release`].

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use media::{AddressFamily, PortId, PortPair, RelayPorts};
use net::media::{PortOptions, PortPool};
use tracing::warn;

/// The pools of one relay thread, by local address.
#[derive(Debug)]
pub(crate) struct Pools {
    options: PortOptions,
    pools: HashMap<IpAddr, PortPool>,
}

impl Pools {
    /// No pool yet: they are made when an address is first used.
    pub(crate) fn new(options: PortOptions) -> Self {
        Pools {
            options,
            pools: HashMap::new(),
        }
    }

    /// The pool of a local address.
    fn at(&mut self, address: IpAddr) -> &mut PortPool {
        self.pools
            .entry(address)
            .or_insert_with(|| PortPool::new(address, self.options.clone()))
    }

    /// Takes back a pair that no poller watches any more.
    pub(crate) fn release(&mut self, pair: net::media::PortPair) {
        self.at(pair.address).release(net::clock::now(), pair);
    }

    /// To be called about once a second.
    pub(crate) fn maintain(&mut self) {
        let now = net::clock::now();
        self.pools.values_mut().for_each(|pool| pool.maintain(now));
    }
}

/// What a worker takes ports from. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct PortDesk {
    desk: Arc<Mutex<Desk>>,
}

#[derive(Debug)]
struct Desk {
    pools: Arc<Mutex<Pools>>,
    advertise: Vec<IpAddr>,
    /// Where the message that is being handled came to: the phone reaches the relay there as well.
    here: IpAddr,
    default_v4: Option<IpAddr>,
    default_v6: Option<IpAddr>,
    waiting: HashMap<PortId, net::media::PortPair>,
    next: u32,
}

impl PortDesk {
    /// A desk on the pools of the worker's relay thread.
    pub(crate) fn new(pools: Arc<Mutex<Pools>>, advertise: Vec<IpAddr>) -> Self {
        let route = |to: IpAddr| net::interfaces::source_for(to).ok();
        let desk = Desk {
            pools,
            advertise,
            here: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            default_v4: route(IpAddr::V4(FAR_V4)).or(Some(IpAddr::V4(Ipv4Addr::LOCALHOST))),
            default_v6: route(IpAddr::V6(FAR_V6)).or(Some(IpAddr::V6(Ipv6Addr::LOCALHOST))),
            waiting: HashMap::new(),
            next: 0,
        };
        PortDesk {
            desk: Arc::new(Mutex::new(desk)),
        }
    }

    /// Notes the local address that the message to be handled came to.
    pub(crate) fn set_here(&self, address: IpAddr) {
        self.lock().here = address;
    }

    /// The sockets of a pair, for the relay thread.
    pub(crate) fn take(&self, id: PortId) -> Option<net::media::PortPair> {
        self.lock().waiting.remove(&id)
    }

    fn lock(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RelayPorts for PortDesk {
    fn allocate(&mut self, family: AddressFamily) -> Option<PortPair> {
        let mut desk = self.lock();
        let here =
            Some(desk.here).filter(|here| !here.is_unspecified() && AddressFamily::of(*here) == family);
        let address = here.or(match family {
            AddressFamily::V4 => desk.default_v4,
            AddressFamily::V6 => desk.default_v6,
        })?;
        let pair = lock(&desk.pools).at(address).allocate(net::clock::now());
        let pair = match pair {
            Ok(pair) => pair,
            Err(error) => {
                warn!(%error, "a call gets no media port");
                return None;
            }
        };
        let id = PortId(desk.next);
        desk.next = desk.next.wrapping_add(1);
        let seen = desk
            .advertise
            .iter()
            .find(|ip| ip.is_ipv4() == address.is_ipv4())
            .copied()
            .unwrap_or(address);
        let rtp = SocketAddr::new(seen, pair.port);
        desk.waiting.insert(id, pair);
        Some(PortPair { id, rtp })
    }

    fn release(&mut self, id: PortId) {
        let mut desk = self.lock();
        if let Some(pair) = desk.waiting.remove(&id) {
            lock(&desk.pools).release(pair);
        }
    }
}

/// The pools, whatever became of who held the lock.
pub(crate) fn lock(pools: &Mutex<Pools>) -> MutexGuard<'_, Pools> {
    pools.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Addresses for documentation (RFC 5737, RFC 3849), far away for every routing table: they find the default route, and
/// nothing is sent to them.
const FAR_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const FAR_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
