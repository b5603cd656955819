//! DNS lookups: NAPTR, SRV, A and AAAA, with a budget of time and a cache. Which to ask for, in which order to try what
//! comes back and when to go on to the next is RFC 3263, and not decided here.
//!
//! [`Resolver::query`] hands a question to a thread of its own and returns; the answer comes to a closure. A worker that
//! must not wait looks into the cache with [`Resolver::cached`] first.
//!
//! - Every question is answered within [`DnsOptions::budget`], be it with [`LookupError::Timeout`]. A name server that
//!   fails is followed by the next at once, one that is silent after [`DnsOptions::patience`]; the one that answered last
//!   is asked first.
//! - Questions asked twice before the answer is there are asked once.
//! - Answers are kept for their TTL; "does not exist" for the time its SOA says (RFC 2308), failures for a few seconds
//!   (RFC 9520), for a dead domain must not cost a lookup per call.
//! - Names are absolute: no search list. `/etc/hosts` is heeded for A and AAAA.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use tokio::{runtime, sync::mpsc};

use crate::clock;

mod cache;
mod lookup;
mod service;

use cache::Cache;
use service::{Request, Service};

/// What a resolver is made with. `Default` has the named constants of this module and the system's name servers.
#[derive(Clone, Debug)]
pub struct DnsOptions {
    /// Name servers; when empty, those of `/etc/resolv.conf`, and without that 127.0.0.1.
    pub servers: Vec<SocketAddr>,
    /// Time for a lookup, whatever happens.
    pub budget: Duration,
    /// How long a name server may be silent before the next one is asked as well.
    pub patience: Duration,
    /// How long "does not exist" is kept when the answer does not say; also the most that it is kept if it does.
    pub negative_ttl: Duration,
    /// How long a failure is kept.
    pub failure_ttl: Duration,
    /// The most that any answer is kept.
    pub longest_ttl: Duration,
    /// Answers that are kept.
    pub cache: usize,
    /// Questions that wait for their answer.
    pub pending: usize,
}

impl Default for DnsOptions {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            budget: BUDGET,
            patience: PATIENCE,
            negative_ttl: NEGATIVE_TTL,
            failure_ttl: FAILURE_TTL,
            longest_ttl: LONGEST_TTL,
            cache: CACHE,
            pending: PENDING,
        }
    }
}

/// The types of records that RFC 3263 needs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RecordType {
    /// RFC 3403.
    Naptr,
    /// RFC 2782.
    Srv,
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
}

/// A question.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Query {
    /// What is asked for.
    pub record_type: RecordType,
    /// The absolute name, in lower case.
    pub name: String,
}

impl Query {
    /// A question about `name`, with or without a dot at its end.
    pub fn new(record_type: RecordType, name: &str) -> Self {
        Self {
            record_type,
            name: name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase(),
        }
    }
}

/// An answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// What was asked.
    pub query: Query,
    /// The records, at least one.
    pub result: Result<Records, LookupError>,
    /// Until when it holds.
    pub expires: Instant,
}

/// Records, in the order in which they came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Records {
    /// To a question for NAPTR.
    Naptr(Vec<Naptr>),
    /// To a question for SRV.
    Srv(Vec<Srv>),
    /// To a question for A.
    A(Vec<Ipv4Addr>),
    /// To a question for AAAA.
    Aaaa(Vec<Ipv6Addr>),
}

/// A naming authority pointer (RFC 3403, 4.1).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Naptr {
    /// Lower comes first.
    pub order: u16,
    /// Within the same order, lower comes first.
    pub preference: u16,
    /// `s`: the replacement has SRV records; `a`: addresses; `u`: the expression makes a URI.
    pub flags: String,
    /// Such as `SIP+D2U` (RFC 3263, 4.1).
    pub service: String,
    /// The rewriting expression of ENUM; SIP targets have none.
    pub regexp: String,
    /// The next name, without a dot at its end.
    pub replacement: String,
}

/// A service location (RFC 2782).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Srv {
    /// Lower comes first.
    pub priority: u16,
    /// The share within the same priority.
    pub weight: u16,
    /// The port.
    pub port: u16,
    /// The host, without a dot at its end; empty when the service is "decidedly not available".
    pub target: String,
}

/// Why there are no records.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LookupError {
    /// The name does not exist (NXDOMAIN).
    #[error("the name does not exist")]
    NotFound,
    /// The name exists and has no record of this type.
    #[error("the name has no such record")]
    NoRecords,
    /// What was asked for cannot be a domain name.
    #[error("not a domain name")]
    InvalidName,
    /// No name server answered in time.
    #[error("no name server answered in time")]
    Timeout,
    /// The name servers answered with a failure, or nonsense, or could not be reached.
    #[error("the name servers failed")]
    Failed,
    /// Too many questions wait already.
    #[error("too many lookups at once")]
    Busy,
}

/// Asks name servers. Clones share thread and cache; the thread ends with the last of them.
#[derive(Clone)]
pub struct Resolver {
    requests: mpsc::Sender<Request>,
    cache: Arc<Mutex<Cache>>,
}

impl Resolver {
    /// Starts the thread. It fails when the system has no thread for us; whether there are name servers is seen later.
    pub fn new(options: DnsOptions) -> io::Result<Self> {
        let (requests, received) = mpsc::channel(options.pending.max(1));
        let cache = Arc::new(Mutex::new(Cache::new(&options)));
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let shared = Arc::clone(&cache);
        thread::Builder::new()
            .name("dns".to_owned())
            .spawn(move || runtime.block_on(Service::new(options, shared).run(received)))?;
        Ok(Self { requests, cache })
    }

    /// An answer from the cache, and nothing else.
    pub fn cached(&self, query: &Query, now: Instant) -> Option<Answer> {
        self.cache
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(query, now)
    }

    /// Asks, and calls `reply` with the answer exactly once, from another thread, or from this one when too many wait.
    /// When the last `Resolver` is dropped, those who still wait hear nothing.
    pub fn query(&self, query: Query, reply: impl FnOnce(Answer) + Send + 'static) {
        if let Err(error) = self.requests.try_send(Request {
            query,
            reply: Box::new(reply),
        }) {
            let Request { query, reply } = error.into_inner();
            reply(Answer {
                query,
                result: Err(LookupError::Busy),
                expires: clock::now(),
            });
        }
    }
}

/// Default of [`DnsOptions::budget`]: a caller waits no longer for a name, and there may be several to ask for.
pub const BUDGET: Duration = Duration::from_secs(3);
/// Default of [`DnsOptions::patience`]: a server that asks others itself needs 100 to 200 ms.
pub const PATIENCE: Duration = Duration::from_millis(400);
/// Default of [`DnsOptions::negative_ttl`].
pub const NEGATIVE_TTL: Duration = Duration::from_secs(60);
/// Default of [`DnsOptions::failure_ttl`]; RFC 9520 (3.2) wants 1 s to 5 min.
pub const FAILURE_TTL: Duration = Duration::from_secs(5);
/// Default of [`DnsOptions::longest_ttl`].
pub const LONGEST_TTL: Duration = Duration::from_secs(86_400);
/// Default of [`DnsOptions::cache`].
pub const CACHE: usize = 4_096;
/// Default of [`DnsOptions::pending`].
pub const PENDING: usize = 1_024;

#[cfg(test)]
mod tests;
