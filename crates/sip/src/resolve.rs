//! From a URI to the addresses to try, in order (RFC 3263 section 4), as a machine that asks and does no lookup itself.
//!
//! Order of calls: [`Resolution::new`] for the URI of the next hop. Then, until a request has got through: ask what
//! [`Resolution::poll_query`] wants to know, hand each answer to [`Resolution::handle_answer`], and try what
//! [`Resolution::next_target`] gives. When a target fails (no response, 503, no connection, an ICMP error: section 4.3), note it in
//! [`FailedTargets`] and take the next one. Questions are asked as late as possible: a second host is only looked up when the first
//! has failed.
//!
//! Not done here: ENUM (tel URIs), WebSocket services (a server is found, never called, by WebSocket), and section 5 (where
//! responses go when the flow of the request is gone).

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::flow::Transport;
use crate::uri::{Scheme, Uri};

mod failed;
mod order;

pub use failed::{FailedTargets, HOLD, LONGEST_HOLD};

use order::{Random, by_weight};

/// What can be sent from here, and how big the request is.
#[derive(Clone, Debug)]
pub struct Reach<'a> {
    /// The transports to use, the preferred one first; their order decides where DNS does not.
    pub transports: &'a [Transport],
    /// Whether there are IPv4 sockets.
    pub ipv4: bool,
    /// Whether there are IPv6 sockets. If both, IPv6 addresses are tried first (RFC 6724).
    pub ipv6: bool,
    /// The request is too big for a datagram (RFC 3261 section 18.1.1): where UDP would be used, the same address is tried with TCP
    /// before.
    pub large: bool,
}

/// Where to send.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Target {
    /// The transport.
    pub transport: Transport,
    /// Address and port.
    pub address: SocketAddr,
}

/// A type of DNS record.
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

/// A question to the DNS.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Query {
    /// What is asked for.
    pub record_type: RecordType,
    /// The absolute name in lower case, without a dot at its end.
    pub name: String,
}

/// What the DNS says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// To a question for NAPTR.
    Naptr(Vec<Naptr>),
    /// To a question for SRV.
    Srv(Vec<Srv>),
    /// To a question for A.
    A(Vec<Ipv4Addr>),
    /// To a question for AAAA.
    Aaaa(Vec<Ipv6Addr>),
    /// The name does not exist or has no such records.
    NoRecords,
    /// No answer in time, or a failure.
    Failed,
}

/// A naming authority pointer (RFC 3403 section 4.1), as far as SIP needs it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Naptr {
    /// Lower comes first.
    pub order: u16,
    /// Within the same order, lower comes first.
    pub preference: u16,
    /// `s` for SIP: the replacement has SRV records.
    pub flags: String,
    /// Such as `SIP+D2U`.
    pub service: String,
    /// The name to ask for SRV.
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
    /// The host; empty or `.` when the service is not offered.
    pub target: String,
}

/// What [`Resolution::next_target`] gives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// Try this.
    Target(Target),
    /// Answers are missing: ask what [`Resolution::poll_query`] says, or wait.
    Pending,
    /// There is no further target. The error says why there was none at all; it is of interest if none was tried.
    Exhausted(ResolveError),
}

/// Why there is no target.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// Not a SIP URI.
    #[error("expected a sip or sips URI")]
    Scheme,
    /// The URI wants a transport that is not to be had, or addresses of a family that is not.
    #[error("expected a transport and an address family that are in use here")]
    NoTransport,
    /// The DNS has nothing for the name.
    #[error("expected a name that the DNS knows")]
    NotFound,
    /// The DNS did not answer.
    #[error("expected an answer from the DNS")]
    Dns,
}

impl ResolveError {
    /// The status that answers the request.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::Scheme => 416,
            // RFC 3261 section 21.4.18: the callee cannot be contacted; it exists for all that is known.
            Self::NoTransport => 480,
            Self::NotFound => 404,
            // Section 21.5.5 names the DNS as an example.
            Self::Dns => 504,
        }
    }
}

/// One URI on its way to addresses.
#[derive(Clone, Debug)]
pub struct Resolution {
    transports: Vec<Transport>,
    ipv4: bool,
    ipv6: bool,
    large: bool,
    random: Random,
    /// What is left to be tried, in order.
    plan: VecDeque<Step>,
    /// Used if there is no SRV record at all (sections 4.1 and 4.2).
    fallback: Option<Host>,
    /// Avoided targets: tried when nothing else is left.
    avoided: VecDeque<Target>,
    /// The UDP side of a target that is being tried with TCP.
    after_large: Option<Target>,
    error: ResolveError,
    given: usize,
}

#[derive(Clone, Debug)]
enum Step {
    Target(Target),
    Host {
        host: Host,
        v4: Lookup<Ipv4Addr>,
        v6: Lookup<Ipv6Addr>,
    },
    Service {
        name: String,
        transport: Transport,
        lookup: Lookup<Srv>,
    },
    Naptr {
        domain: String,
        lookup: Lookup<Naptr>,
    },
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Host {
    name: String,
    port: u16,
    transport: Transport,
}

#[derive(Clone, Debug)]
enum Lookup<T> {
    Wanted,
    Asked,
    /// What was found; nothing as well if the DNS failed.
    Done(Vec<T>),
}

impl Resolution {
    /// Prepares to find `uri`. `random` decides between SRV records by their weight.
    pub fn new(uri: &Uri<'_>, reach: &Reach<'_>, random: u64) -> Result<Self, ResolveError> {
        let secure = match uri.scheme {
            Scheme::Sip => false,
            Scheme::Sips => true,
            _ => return Err(ResolveError::Scheme),
        };
        let usable = |transport: &Transport| transport.is_secure() || !secure;
        let transports: Vec<_> = reach.transports.iter().copied().filter(usable).collect();
        let wanted = wanted_transport(uri, secure)?;
        if transports.is_empty() || wanted.is_some_and(|wanted| !transports.contains(&wanted)) {
            return Err(ResolveError::NoTransport);
        }
        let mut this = Self {
            transports,
            ipv4: reach.ipv4,
            ipv6: reach.ipv6,
            large: reach.large,
            random: Random::new(random),
            plan: VecDeque::new(),
            fallback: None,
            avoided: VecDeque::new(),
            after_large: None,
            error: ResolveError::NotFound,
            given: 0,
        };
        this.start(uri, wanted, secure)?;
        Ok(this)
    }

    fn start(&mut self, uri: &Uri<'_>, wanted: Option<Transport>, secure: bool) -> Result<(), ResolveError> {
        // Section 4: TARGET is maddr, if there is one.
        let maddr = uri.params.value("maddr").and_then(crate::uri::Host::parse);
        let host = maddr.unwrap_or(uri.host);
        let default = if secure { Transport::Tls } else { Transport::Udp };
        let transport = wanted
            .or_else(|| self.transports.contains(&default).then_some(default))
            .or_else(|| self.transports.first().copied())
            .ok_or(ResolveError::NoTransport)?;
        let port = uri.port.unwrap_or(transport.default_port());
        if let Some(ip) = host.ip() {
            if !self.has_family(ip) {
                return Err(ResolveError::NoTransport);
            }
            self.plan.push_back(Step::Target(Target {
                transport,
                address: (ip, port).into(),
            }));
            return Ok(());
        }
        let mut name = String::new();
        host.write_canonical(&mut name);
        let name = canonical(&name);
        let host = Host {
            name: name.clone(),
            port,
            transport,
        };
        match (uri.port, wanted) {
            (Some(_), _) => {
                let step = self.host(host);
                self.plan.push_back(step);
            }
            (None, Some(transport)) => {
                self.plan.extend(Step::service(transport, &name));
                self.fallback = Some(host);
            }
            (None, None) => {
                self.plan.push_back(Step::Naptr {
                    domain: name,
                    lookup: Lookup::Wanted,
                });
                self.fallback = Some(host);
            }
        }
        Ok(())
    }

    /// A question that must be answered before there is another target. Call until `None`; they may be asked side by side.
    pub fn poll_query(&mut self) -> Option<Query> {
        self.advance();
        // Services that follow each other are alternatives of one domain: which exist is asked at once.
        let services = self
            .plan
            .iter()
            .take_while(|step| matches!(step, Step::Service { .. }))
            .count();
        self.plan.iter_mut().take(services.max(1)).find_map(Step::query)
    }

    /// Takes an answer. Answers to questions that were not asked do nothing.
    pub fn handle_answer(&mut self, query: &Query, answer: Answer) {
        if answer == Answer::Failed {
            self.error = ResolveError::Dns;
        }
        for step in &mut self.plan {
            if step.answer(query, &answer) {
                break;
            }
        }
    }

    /// The next target. Those that `avoid` names, for having failed lately, are put off until no other is left.
    pub fn next_target(&mut self, avoid: impl Fn(&Target) -> bool) -> Next {
        loop {
            if let Some(target) = self.after_large.take() {
                return self.give(target);
            }
            self.advance();
            let target = match self.plan.front() {
                Some(Step::Target(target)) => *target,
                Some(_) => return Next::Pending,
                None => match self.avoided.pop_front() {
                    Some(target) => return self.give(target),
                    None => return Next::Exhausted(self.error),
                },
            };
            self.plan.pop_front();
            if avoid(&target) {
                self.avoided.push_back(target);
            } else if self.large
                && target.transport == Transport::Udp
                && self.transports.contains(&Transport::Tcp)
            {
                self.after_large = Some(target);
                return self.give(Target {
                    transport: Transport::Tcp,
                    ..target
                });
            } else {
                return self.give(target);
            }
        }
    }

    fn give(&mut self, target: Target) -> Next {
        if self.given >= MAX_TARGETS {
            return Next::Exhausted(self.error);
        }
        self.given += 1;
        Next::Target(target)
    }

    /// Replaces what has been answered at the front of the plan by what follows from it, until a target or an unanswered question
    /// is there.
    fn advance(&mut self) {
        loop {
            match self.plan.front() {
                None => match self.fallback.take() {
                    Some(host) => {
                        let step = self.host(host);
                        self.plan.push_back(step);
                    }
                    None => return,
                },
                Some(step) if !step.is_done() => return,
                Some(Step::Target(_)) => return,
                Some(_) => {
                    let Some(step) = self.plan.pop_front() else { return };
                    let next = self.expand(step);
                    for step in next.into_iter().rev() {
                        self.plan.push_front(step);
                    }
                }
            }
        }
    }

    fn expand(&mut self, step: Step) -> Vec<Step> {
        match step {
            Step::Target(_) => Vec::new(),
            Step::Host {
                host: Host { port, transport, .. },
                v4,
                v6,
            } => {
                let addresses = v6
                    .found()
                    .into_iter()
                    .map(IpAddr::V6)
                    .chain(v4.found().into_iter().map(IpAddr::V4));
                addresses
                    .map(|ip| {
                        Step::Target(Target {
                            transport,
                            address: (ip, port).into(),
                        })
                    })
                    .collect()
            }
            Step::Service {
                transport, lookup, ..
            } => {
                let mut records = lookup.found();
                records.truncate(MAX_RECORDS);
                if !records.is_empty() {
                    self.fallback = None;
                }
                let hosts = by_weight(records, &mut self.random)
                    .into_iter()
                    .filter_map(|record| {
                        let name = canonical(&record.target);
                        // The root as the target means: decidedly not available (RFC 2782).
                        (!name.is_empty() && record.port != 0).then_some(Host {
                            name,
                            port: record.port,
                            transport,
                        })
                    });
                hosts.map(|host| self.host(host)).collect()
            }
            Step::Naptr { domain, lookup, .. } => {
                let mut records = lookup.found();
                records.retain(|record| {
                    record.flags.eq_ignore_ascii_case("s")
                        && self.service_transport(&record.service).is_some()
                });
                records.truncate(MAX_RECORDS);
                records.sort_by_key(|record| (record.order, record.preference));
                if records.is_empty() {
                    return self
                        .transports
                        .iter()
                        .filter_map(|transport| Step::service(*transport, &domain))
                        .collect();
                }
                // Once an order has matched, later ones do not count (RFC 3403 section 4.1).
                let order = records[0].order;
                records.retain(|record| record.order == order);
                let services = records.into_iter().filter_map(|record| {
                    let transport = self.service_transport(&record.service)?;
                    Some(Step::Service {
                        name: canonical(&record.replacement),
                        transport,
                        lookup: Lookup::Wanted,
                    })
                });
                services.collect()
            }
        }
    }

    /// The transport behind a NAPTR service (section 4.1), if it can be used for this URI.
    fn service_transport(&self, service: &str) -> Option<Transport> {
        let known = [
            ("SIP+D2U", Transport::Udp),
            ("SIP+D2T", Transport::Tcp),
            ("SIPS+D2T", Transport::Tls),
        ];
        let (_, transport) = known
            .into_iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(service))?;
        self.transports.contains(&transport).then_some(transport)
    }

    fn host(&self, host: Host) -> Step {
        // Some zones name addresses where a name should be.
        match host.name.parse::<IpAddr>() {
            Ok(ip) => Step::Target(Target {
                transport: host.transport,
                address: (ip, host.port).into(),
            }),
            Err(_) => Step::Host {
                host,
                v4: Lookup::new(self.ipv4),
                v6: Lookup::new(self.ipv6),
            },
        }
    }

    fn has_family(&self, ip: IpAddr) -> bool {
        if ip.is_ipv4() { self.ipv4 } else { self.ipv6 }
    }
}

impl Step {
    fn service(transport: Transport, domain: &str) -> Option<Self> {
        let prefix = match transport {
            Transport::Udp => "_sip._udp.",
            Transport::Tcp => "_sip._tcp.",
            Transport::Tls => "_sips._tcp.",
            Transport::Ws | Transport::Wss | Transport::Local => return None,
        };
        Some(Self::Service {
            name: format!("{prefix}{domain}"),
            transport,
            lookup: Lookup::Wanted,
        })
    }

    fn is_done(&self) -> bool {
        match self {
            Self::Target(_) => true,
            Self::Host { v4, v6, .. } => v4.is_done() && v6.is_done(),
            Self::Service { lookup, .. } => lookup.is_done(),
            Self::Naptr { lookup, .. } => lookup.is_done(),
        }
    }

    /// A question of this step that has not been asked.
    fn query(&mut self) -> Option<Query> {
        let (record_type, name) = match self {
            Self::Target(_) => return None,
            Self::Host { host, v4, v6 } => {
                let record_type = if v6.ask() {
                    RecordType::Aaaa
                } else if v4.ask() {
                    RecordType::A
                } else {
                    return None;
                };
                (record_type, host.name.clone())
            }
            Self::Service { name, lookup, .. } => (lookup.ask().then_some(RecordType::Srv)?, name.clone()),
            Self::Naptr { domain, lookup } => (lookup.ask().then_some(RecordType::Naptr)?, domain.clone()),
        };
        Some(Query { record_type, name })
    }

    /// Takes the answer if it asked that question.
    fn answer(&mut self, query: &Query, answer: &Answer) -> bool {
        match self {
            Self::Host { host, v4, .. } if query.record_type == RecordType::A && host.name == query.name => {
                v4.answer(if let Answer::A(found) = answer {
                    cut(found, MAX_ADDRESSES)
                } else {
                    Vec::new()
                })
            }
            Self::Host { host, v6, .. }
                if query.record_type == RecordType::Aaaa && host.name == query.name =>
            {
                v6.answer(if let Answer::Aaaa(found) = answer {
                    cut(found, MAX_ADDRESSES)
                } else {
                    Vec::new()
                })
            }
            Self::Service { name, lookup, .. }
                if query.record_type == RecordType::Srv && *name == query.name =>
            {
                lookup.answer(if let Answer::Srv(found) = answer {
                    cut(found, MAX_RECORDS)
                } else {
                    Vec::new()
                })
            }
            Self::Naptr { domain, lookup, .. }
                if query.record_type == RecordType::Naptr && *domain == query.name =>
            {
                lookup.answer(if let Answer::Naptr(found) = answer {
                    cut(found, MAX_RECORDS)
                } else {
                    Vec::new()
                })
            }
            _ => false,
        }
    }
}

impl<T> Lookup<T> {
    /// A lookup that is done without asking, unless it is wanted.
    fn new(wanted: bool) -> Self {
        if wanted {
            Self::Wanted
        } else {
            Self::Done(Vec::new())
        }
    }

    fn is_done(&self) -> bool {
        matches!(self, Self::Done(_))
    }

    /// Whether to ask now: once.
    fn ask(&mut self) -> bool {
        let wanted = matches!(self, Self::Wanted);
        if wanted {
            *self = Self::Asked;
        }
        wanted
    }

    /// Whether it waited for this.
    fn answer(&mut self, found: Vec<T>) -> bool {
        let asked = matches!(self, Self::Asked);
        if asked {
            *self = Self::Done(found);
        }
        asked
    }

    fn found(self) -> Vec<T> {
        if let Self::Done(found) = self {
            found
        } else {
            Vec::new()
        }
    }
}

/// The transport that the URI asks for (section 4.1).
fn wanted_transport(uri: &Uri<'_>, secure: bool) -> Result<Option<Transport>, ResolveError> {
    let Some(param) = uri.params.value("transport") else {
        return Ok(None);
    };
    let transport = Transport::from_param(param).ok_or(ResolveError::NoTransport)?;
    Ok(Some(match (transport, secure) {
        // A sips URI names the protocol below TLS (RFC 3261 section 26.2.2).
        (Transport::Tcp, true) => Transport::Tls,
        (Transport::Ws, true) => Transport::Wss,
        (transport, _) => transport,
    }))
}

fn cut<T: Clone>(found: &[T], most: usize) -> Vec<T> {
    found.iter().take(most).cloned().collect()
}

fn canonical(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// How many targets are tried for one URI. A caller does not wait for more.
pub const MAX_TARGETS: usize = 16;
/// How many SRV or NAPTR records of one answer are looked at.
pub const MAX_RECORDS: usize = 32;
/// How many addresses of each family are looked at per host.
pub const MAX_ADDRESSES: usize = 8;

#[cfg(test)]
mod tests;
