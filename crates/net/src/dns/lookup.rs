//! One question to the name servers, by hickory-resolver: wire format, retransmission, TCP for long answers, CNAMEs.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolverConfig},
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    proto::{
        op::ResponseCode,
        rr::{self, Name, RData},
    },
    system_conf,
};
use tokio::{task::JoinSet, time::timeout};

use super::{DnsOptions, LookupError, Naptr, Query, RecordType, Records, Srv};

/// What came out of a question.
pub(super) struct Found {
    pub(super) result: Result<Records, LookupError>,
    /// How long it may be kept, if the answer says.
    pub(super) ttl: Option<Duration>,
}

impl Found {
    pub(super) fn failed(error: LookupError) -> Self {
        Self {
            result: Err(error),
            ttl: None,
        }
    }

    /// Whether another server need not be asked.
    fn is_knowledge(&self) -> bool {
        matches!(
            self.result,
            Ok(_) | Err(LookupError::NotFound | LookupError::NoRecords)
        )
    }
}

/// The name servers, each asked by a resolver of its own: hickory's pool takes the first server's failure for an answer.
pub(super) struct Lookup {
    servers: Vec<Arc<TokioResolver>>,
    /// The server that answered last: it is asked first.
    preferred: AtomicUsize,
    patience: Duration,
}

impl Lookup {
    pub(super) fn new(options: &DnsOptions) -> Self {
        let servers = if options.servers.is_empty() {
            system_servers()
        } else {
            options.servers.iter().copied().map(server).collect()
        };
        let servers = servers
            .into_iter()
            .filter_map(|server| resolver(server, options))
            .map(Arc::new);
        Self {
            servers: servers.collect(),
            preferred: AtomicUsize::new(0),
            patience: options.patience,
        }
    }

    /// Asks one server; when it fails the next, and when it is silent for a while the next as well. The first to know
    /// wins, and "there is no such name" is knowing.
    pub(super) async fn find(&self, query: &Query) -> Found {
        let Ok(mut name) = Name::from_ascii(&query.name) else {
            return Found::failed(LookupError::InvalidName);
        };
        name.set_fqdn(true);
        let first = self.preferred.load(Ordering::Relaxed);
        let mut candidates = (0..self.servers.len()).map(|offset| (first + offset) % self.servers.len());
        let mut asked = JoinSet::new();
        let mut failure = Found::failed(LookupError::Failed);
        loop {
            let candidate = candidates.next();
            if let Some(index) = candidate {
                let (resolver, name, record_type) =
                    (Arc::clone(&self.servers[index]), name.clone(), query.record_type);
                asked.spawn(async move { (index, ask(&resolver, name, record_type).await) });
            }
            let answered = if candidate.is_some() {
                timeout(self.patience, asked.join_next()).await
            } else {
                Ok(asked.join_next().await)
            };
            match answered {
                Ok(Some(Ok((index, found)))) if found.is_knowledge() => {
                    self.preferred.store(index, Ordering::Relaxed);
                    return found;
                }
                Ok(Some(Ok((_, found)))) => failure = found,
                Ok(None) => return failure,
                // Patience is at its end, or a task panicked.
                Err(_) | Ok(Some(Err(_))) => {}
            }
        }
    }
}

async fn ask(resolver: &TokioResolver, name: Name, record_type: RecordType) -> Found {
    match resolver.lookup(name, type_of(record_type)).await {
        Ok(lookup) => found(record_type, lookup.answers()),
        Err(error) => failed(error),
    }
}

/// A resolver that asks one server, and neither gives up before the budget does nor keeps anything: there is one cache,
/// and it is ours.
fn resolver(server: NameServerConfig, options: &DnsOptions) -> Option<TokioResolver> {
    let config = ResolverConfig::from_name_servers(vec![server]);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    let settings = builder.options_mut();
    settings.timeout = options.budget;
    settings.attempts = 0;
    settings.max_active_requests = options.pending;
    settings.cache_size = 0;
    builder
        .build()
        .inspect_err(|error| tracing::warn!(%error, "a name server cannot be used"))
        .ok()
}

fn found(record_type: RecordType, answers: &[rr::Record]) -> Found {
    // A chain of CNAMEs holds as long as its shortest-lived link.
    let ttl = answers
        .iter()
        .map(|record| record.ttl)
        .min()
        .map(|ttl| Duration::from_secs(ttl.into()));
    let data = answers.iter().map(|record| &record.data);
    let records = match record_type {
        RecordType::Naptr => Records::Naptr(data.filter_map(naptr).collect()),
        RecordType::Srv => Records::Srv(data.filter_map(srv).collect()),
        RecordType::A => Records::A(
            data.filter_map(|data| {
                if let RData::A(address) = data {
                    Some(address.0)
                } else {
                    None
                }
            })
            .collect(),
        ),
        RecordType::Aaaa => Records::Aaaa(
            data.filter_map(|data| {
                if let RData::AAAA(address) = data {
                    Some(address.0)
                } else {
                    None
                }
            })
            .collect(),
        ),
    };
    Found {
        result: Ok(records),
        ttl,
    }
}

fn failed(error: NetError) -> Found {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => {
            let error = match none.response_code {
                ResponseCode::NXDomain => LookupError::NotFound,
                ResponseCode::NoError => LookupError::NoRecords,
                _ => LookupError::Failed,
            };
            let ttl = none.negative_ttl.map(|ttl| Duration::from_secs(ttl.into()));
            Found {
                result: Err(error),
                ttl,
            }
        }
        NetError::Timeout => Found::failed(LookupError::Timeout),
        error => {
            tracing::debug!(%error, "a lookup failed");
            Found::failed(LookupError::Failed)
        }
    }
}

fn naptr(data: &RData) -> Option<Naptr> {
    let RData::NAPTR(naptr) = data else { return None };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Some(Naptr {
        order: naptr.order,
        preference: naptr.preference,
        flags: text(&naptr.flags),
        service: text(&naptr.services),
        regexp: text(&naptr.regexp),
        replacement: host(&naptr.replacement),
    })
}

fn srv(data: &RData) -> Option<Srv> {
    let RData::SRV(srv) = data else { return None };
    Some(Srv {
        priority: srv.priority,
        weight: srv.weight,
        port: srv.port,
        target: host(&srv.target),
    })
}

fn host(name: &Name) -> String {
    let mut text = name.to_ascii();
    text.truncate(text.trim_end_matches('.').len());
    text
}

fn type_of(record_type: RecordType) -> rr::RecordType {
    match record_type {
        RecordType::Naptr => rr::RecordType::NAPTR,
        RecordType::Srv => rr::RecordType::SRV,
        RecordType::A => rr::RecordType::A,
        RecordType::Aaaa => rr::RecordType::AAAA,
    }
}

/// The name servers of `/etc/resolv.conf`; without any, the one on this machine, as `resolv.conf(5)` has it.
fn system_servers() -> Vec<NameServerConfig> {
    let mut servers = match system_conf::read_system_conf() {
        Ok((config, _)) => config.name_servers().to_vec(),
        Err(error) => {
            tracing::warn!(%error, "no name servers in /etc/resolv.conf: asking 127.0.0.1");
            Vec::new()
        }
    };
    if servers.is_empty() {
        servers.push(NameServerConfig::udp_and_tcp([127, 0, 0, 1].into()));
    }
    servers
}

fn server(address: SocketAddr) -> NameServerConfig {
    let with_port = |mut connection: ConnectionConfig| {
        connection.port = address.port();
        connection
    };
    let connections = vec![
        with_port(ConnectionConfig::udp()),
        with_port(ConnectionConfig::tcp()),
    ];
    NameServerConfig::new(address.ip(), true, connections)
}
