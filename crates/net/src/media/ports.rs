//! Pairs of ports for RTP and RTCP on one local address.
//!
//! `allocate` when a call needs a pair, `release` when it is over, `maintain` about once a second.
//!
//! - RTP has the even port, RTCP the odd one above it (RFC 3550, 11).
//! - Which free port comes next cannot be guessed.
//! - A used pair rests for [`PortOptions::quarantine`]: late packets of the old call must not reach the next one.
//! - Sockets stay open while they rest and wait, so that setting a call up under load costs no `socket`, `bind` and `close`.
//!   How many wait is bounded, and those that nobody needs are closed.
//! - A port that another program holds is left alone for a while.

use std::{
    collections::{VecDeque, hash_map::RandomState},
    hash::BuildHasher,
    io,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    time::{Duration, Instant},
};

use super::socket::{DSCP_MEDIA, MediaSocket, RECEIVE_BUFFER};

/// What a pool is made with.
#[derive(Clone, Debug)]
pub struct PortOptions {
    /// The ports, both ends included; a pair lies within them.
    pub ports: RangeInclusive<u16>,
    /// How long a pair rests after use.
    pub quarantine: Duration,
    /// Pairs whose sockets may stay open unused; each takes two descriptors and about 2 KB of kernel memory.
    pub spare: usize,
    /// Kernel buffer for each socket in bytes.
    pub receive_buffer: usize,
    /// Differentiated services code point, 0 to 63.
    pub dscp: u8,
}

impl PortOptions {
    /// The defaults, for these ports.
    pub fn new(ports: RangeInclusive<u16>) -> Self {
        Self {
            ports,
            quarantine: QUARANTINE,
            spare: SPARE_PAIRS,
            receive_buffer: RECEIVE_BUFFER,
            dscp: DSCP_MEDIA,
        }
    }

    /// Cuts the range into `count` disjoint ones of about the same size, for workers that share nothing.
    pub fn split(&self, count: u16) -> Vec<Self> {
        let (first, pairs) = pairs_of(&self.ports);
        let count = count.max(1);
        let start =
            |part: u16| u32::from(first) + 2 * (u32::from(pairs) * u32::from(part) / u32::from(count));
        (0..count)
            .map(|part| {
                let (from, to) = (start(part), start(part + 1));
                // A part without pairs is a range of one port: too small for a pair.
                let last = if from < to { to - 1 } else { from };
                // Behind the last pair there may be port 65,536, which only an empty part names.
                let port = |number| u16::try_from(number).unwrap_or(u16::MAX);
                let ports = port(from)..=port(last);
                Self {
                    ports,
                    ..self.clone()
                }
            })
            .collect()
    }
}

/// Two bound sockets.
#[derive(Debug)]
pub struct PortPair {
    /// The local address of both.
    pub address: IpAddr,
    /// The even port, of RTP; RTCP has the next one.
    pub port: u16,
    /// RTP, and RTCP when it is multiplexed (RFC 5761).
    pub rtp: MediaSocket,
    /// RTCP.
    pub rtcp: MediaSocket,
}

/// Why there is no pair.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PortError {
    /// All are in use, rest, or belong to other programs.
    #[error(
        "no media port is free on {address}: {in_use} of {pairs} pairs are in use, {resting} rest after use"
    )]
    Exhausted {
        /// The pool's address.
        address: IpAddr,
        /// Pairs that calls have.
        in_use: usize,
        /// Pairs in quarantine or held by other programs.
        resting: usize,
        /// Pairs in all.
        pairs: usize,
    },
    /// The system gives no sockets: too many open files, or the address is not ours any more.
    #[error("cannot bind a media port on {address}: {source}")]
    Bind {
        /// The address and port that was tried.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// The pairs of one local address.
#[derive(Debug)]
pub struct PortPool {
    address: IpAddr,
    options: PortOptions,
    /// Even ports without sockets.
    closed: Vec<u16>,
    /// Pairs with open sockets, ready to be used, and since when.
    ready: Vec<(Instant, PortPair)>,
    /// Pairs that rest, in the order in which they will be free.
    resting: VecDeque<Resting>,
    /// Ports that other programs hold, in the order in which they will be tried again.
    foreign: VecDeque<(Instant, u16)>,
    /// How many of `resting` have open sockets.
    resting_open: usize,
    in_use: usize,
    pairs: usize,
    dice: Dice,
}

#[derive(Debug)]
struct Resting {
    until: Instant,
    port: u16,
    /// `None` when there were spare sockets enough.
    pair: Option<PortPair>,
}

impl PortPool {
    /// A pool with no socket open yet. An odd first port and an even last one stay unused.
    pub fn new(address: IpAddr, options: PortOptions) -> Self {
        let (first, pairs) = pairs_of(&options.ports);
        let closed: Vec<u16> = (0..pairs).map(|index| first + 2 * index).collect();
        Self {
            address,
            options,
            pairs: closed.len(),
            closed,
            ready: Vec::new(),
            resting: VecDeque::new(),
            foreign: VecDeque::new(),
            resting_open: 0,
            in_use: 0,
            dice: Dice::new(),
        }
    }

    /// The local address of all pairs.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// How many pairs calls have.
    pub fn in_use(&self) -> usize {
        self.in_use
    }

    /// How many pairs there are in all.
    pub fn pairs(&self) -> usize {
        self.pairs
    }

    /// Hands out a pair whose sockets are empty.
    pub fn allocate(&mut self, now: Instant) -> Result<PortPair, PortError> {
        self.wake_rested(now);
        if !self.ready.is_empty() {
            let index = self.dice.below(self.ready.len());
            let (_, pair) = self.ready.swap_remove(index);
            for socket in [&pair.rtp, &pair.rtcp] {
                socket.discard(STALE_LIMIT);
                socket.set_receive_buffer(self.options.receive_buffer);
            }
            self.in_use += 1;
            return Ok(pair);
        }
        // Bounded, for a call set-up must not try thousands of ports that somebody else has.
        for _ in 0..BIND_ATTEMPTS {
            if self.closed.is_empty() {
                break;
            }
            let index = self.dice.below(self.closed.len());
            let port = self.closed.swap_remove(index);
            match self.bind(port) {
                Ok(pair) => {
                    self.in_use += 1;
                    return Ok(pair);
                }
                Err(source) if source.kind() == io::ErrorKind::AddrInUse => {
                    self.foreign.push_back((now + FOREIGN_PAUSE, port));
                }
                Err(source) => {
                    self.closed.push(port);
                    return Err(PortError::Bind {
                        address: SocketAddr::new(self.address, port),
                        source,
                    });
                }
            }
        }
        Err(PortError::Exhausted {
            address: self.address,
            in_use: self.in_use,
            resting: self.resting.len() + self.foreign.len(),
            pairs: self.pairs,
        })
    }

    /// Takes a pair back, no longer watched by any [`super::Poller`], and lets it rest.
    pub fn release(&mut self, now: Instant, pair: PortPair) {
        self.in_use = self.in_use.saturating_sub(1);
        let (until, port) = (now + self.options.quarantine, pair.port);
        let keep = self.open_spare() < self.options.spare;
        if keep {
            // What the old peer still sends is not worth the kernel's memory.
            pair.rtp.set_receive_buffer(0);
            pair.rtcp.set_receive_buffer(0);
            self.resting_open += 1;
        }
        self.resting.push_back(Resting {
            until,
            port,
            pair: keep.then_some(pair),
        });
    }

    /// Ends the rest of pairs whose time has come, and closes sockets that nobody needed for five minutes.
    pub fn maintain(&mut self, now: Instant) {
        self.wake_rested(now);
        let closed = &mut self.closed;
        self.ready.retain(|(since, pair)| {
            let keep = now.saturating_duration_since(*since) < SPARE_AGE;
            if !keep {
                closed.push(pair.port);
            }
            keep
        });
    }

    /// Pairs with open sockets that no call has.
    fn open_spare(&self) -> usize {
        self.ready.len() + self.resting_open
    }

    fn wake_rested(&mut self, now: Instant) {
        while self.resting.front().is_some_and(|resting| resting.until <= now) {
            match self.resting.pop_front() {
                Some(Resting { pair: Some(pair), .. }) => {
                    self.resting_open -= 1;
                    self.ready.push((now, pair));
                }
                Some(Resting { port, .. }) => self.closed.push(port),
                None => break,
            }
        }
        while let Some(&(until, port)) = self.foreign.front()
            && until <= now
        {
            self.foreign.pop_front();
            self.closed.push(port);
        }
    }

    fn bind(&self, port: u16) -> io::Result<PortPair> {
        let bind = |port| {
            let address = SocketAddr::new(self.address, port);
            MediaSocket::bind(address, self.options.receive_buffer, self.options.dscp)
        };
        Ok(PortPair {
            address: self.address,
            port,
            rtp: bind(port)?,
            rtcp: bind(port + 1)?,
        })
    }
}

/// The first even port of a range and how many pairs follow.
fn pairs_of(ports: &RangeInclusive<u16>) -> (u16, u16) {
    // Port 0 would bind to any port at all.
    let first = u32::from((*ports.start()).max(1)).next_multiple_of(2);
    let ports = (u32::from(*ports.end()) + 1).saturating_sub(first);
    // The quotients fit: `first` is at most 65,536, and then there is no pair.
    (u16::try_from(first).unwrap_or(0), (ports / 2) as u16)
}

/// Numbers that cannot be guessed: a keyed hash of a counter, its key from the system.
#[derive(Debug)]
struct Dice {
    key: RandomState,
    counter: u64,
}

impl Dice {
    fn new() -> Self {
        Self {
            key: RandomState::new(),
            counter: 0,
        }
    }

    /// A number below `bound`, which is at least 1.
    fn below(&mut self, bound: usize) -> usize {
        self.counter += 1;
        let number = self.key.hash_one(self.counter);
        ((u128::from(number) * bound as u128) >> u64::BITS) as usize
    }
}

/// Default of [`PortOptions::quarantine`]: longer than a peer that missed the BYE keeps sending before it notices.
pub const QUARANTINE: Duration = Duration::from_secs(30);
/// Default of [`PortOptions::spare`].
pub const SPARE_PAIRS: usize = 1_024;
/// A ready pair that was not needed for so long is closed.
const SPARE_AGE: Duration = Duration::from_secs(300);
/// A port that another program held is tried again after this time.
const FOREIGN_PAUSE: Duration = Duration::from_secs(60);
/// Ports that one `allocate` tries.
const BIND_ATTEMPTS: usize = 32;
/// Stale packets thrown away before a pair is used again; with the small buffer of a resting socket there are fewer.
const STALE_LIMIT: usize = 64;

#[cfg(test)]
mod tests;
