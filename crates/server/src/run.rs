//! Runs a service until it is told to end.
//!
//! The order of things: everything that can fail for a reason that the operator can mend comes first (data directory, store,
//! ports), then the threads: the store's writer, relay threads, signalling workers. The calling thread then answers the control
//! socket and waits for a signal.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{io, thread};

use agent::{EchoConfig, EchoService};
use net::dns::{DnsOptions, Resolver};
use net::media::PortOptions;
use net::tcp::{Listener, TcpOptions};
use net::udp::{UdpOptions, UdpSocket};
use sip::Transport;
use store::{Change, DataDir, Store, Writer, WriterHandle, WriterOptions};
use switch::auth::{AuthConfig, AuthShared};
use switch::keepalive::KeepaliveConfig;
use switch::registrar::RegistrarConfig;
use switch::{Clock, Directory, Location, Shared, Switch};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

use crate::config::StoreUrl;
use crate::control::{ControlSocket, SOCKET_NAME, directory_account};
use crate::handler::ServiceHandler;
use crate::ports::{Pools, PortDesk};
use crate::relay::{self, RelayHandle};
use crate::worker::{self, Mail, Mailbox, Parts};
use crate::{Config, RunError, storage};

/// What the command line says beside the configuration.
pub struct RunOptions {
    /// The data directory: store, lock and control socket.
    pub data_dir: PathBuf,
    /// Called once, when the service listens.
    pub on_ready: Box<dyn FnOnce(&Ready)>,
}

/// A service that listens.
#[derive(Clone, Debug)]
pub struct Ready {
    /// Where it listens: wildcards are spelled out.
    pub listen: Vec<(Transport, SocketAddr)>,
    /// The data directory, as an absolute path.
    pub data_dir: PathBuf,
}

/// Runs the service. Returns when SIGINT, SIGTERM or the control socket ends it, or when it cannot start.
pub fn run(config: Config, options: RunOptions) -> Result<(), RunError> {
    let dir = DataDir::open(&options.data_dir)?;
    let _lock = dir.lock()?;
    let mut store = open_store(&config, &dir)?;
    let signalling = usize::from(config.server.workers.unwrap_or_else(cores).max(1));
    let sockets = Sockets::bind(&config, signalling)?;
    if let Err(error) = net::process::raise_open_files() {
        warn!(%error, "the limit of open files stays low");
    }
    if let Err(error) = net::process::decline_huge_pages() {
        warn!(%error, "memory may come in huge pages, and pauses with them");
    }
    let local = spelled_out(&sockets.bound);
    let shared = shared(&config, signalling as u8, &mut store, &dir, &local)?;
    // Read by the commands beside the writer, which has a connection of its own.
    let reader = open_store(&config, &dir)?;

    let (mailboxes, mut letters): (Vec<_>, Vec<_>) = (0..signalling).map(|_| Mailbox::new()).unzip();
    let sinks = mailboxes.iter().cloned().map(sink).collect();
    let writer = Writer::start(store, WriterOptions::default(), sinks).map_err(thread_refused)?;
    let (relays, relay_threads) = start_relays(&config, signalling, &mailboxes)?;
    let resolver = Resolver::new(DnsOptions::default()).map_err(thread_refused)?;
    let clock = clock();

    let mut threads = Vec::new();
    for (number, (udp, listeners)) in sockets.shares.into_iter().enumerate() {
        let Some(mail) = (!letters.is_empty()).then(|| letters.remove(0)) else {
            break;
        };
        let (relay, pools) = relays[number % relays.len()].clone();
        let desk = PortDesk::new(pools, config.listen.advertise.clone());
        let ports = Box::new(desk.clone());
        let number = number as u8;
        let parts = Parts {
            number,
            switch: Switch::new(Arc::clone(&shared), number, clock, ports, random()?),
            echo: EchoService::new(EchoConfig::default(), Box::new(desk.clone()), number, random()?),
            udp,
            listeners,
            tcp: tcp_options(&config, signalling),
            mail,
            workers: mailboxes.clone(),
            relay,
            desk,
            writer: writer.handle(),
            resolver: resolver.clone(),
        };
        threads.push(spawn(&format!("worker-{number}"), move || worker::run(parts))?);
    }
    drop(relays);

    let socket = ControlSocket::bind(&dir.file(SOCKET_NAME))?;
    let (stop, stopped) = tokio::sync::mpsc::channel(1);
    let keep = config.records.keep;
    let records = writer.handle();
    let handler = ServiceHandler::new(
        config,
        shared,
        mailboxes.clone(),
        writer.handle(),
        reader,
        local.clone(),
        stop,
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(thread_refused)?;
    let signals = {
        let _entered = runtime.enter();
        Signals::listen().map_err(thread_refused)?
    };
    (options.on_ready)(&Ready {
        listen: local,
        data_dir: dir.path().to_owned(),
    });
    info!(workers = signalling, "the service is running");
    let ended = runtime.block_on(async {
        tokio::select! {
            ended = serve(socket, Arc::new(handler), stopped, signals, &threads) => ended,
            never = forget_records(keep, records) => match never {},
        }
    });
    info!("the service is stopping");
    for mailbox in &mailboxes {
        mailbox.send(Mail::Stop);
    }
    drop(runtime);
    for thread in threads {
        let _ = thread.join();
    }
    // The workers' handles were the last, so the relays end by themselves; the writer writes what it was given.
    for thread in relay_threads {
        let _ = thread.join();
    }
    let _ = writer.stop();
    ended
}

/// Answers commands until a signal, a command or the end of a thread.
async fn serve(
    socket: ControlSocket,
    handler: Arc<ServiceHandler>,
    mut stopped: tokio::sync::mpsc::Receiver<()>,
    mut signals: Signals,
    threads: &[JoinHandle<io::Result<()>>],
) -> Result<(), RunError> {
    let mut watch = tokio::time::interval(WATCH);
    let control = socket.serve(handler);
    let mut control = std::pin::pin!(control);
    loop {
        tokio::select! {
            result = &mut control => result.map_err(thread_refused)?,
            _ = signals.interrupt.recv() => return Ok(()),
            _ = signals.terminate.recv() => return Ok(()),
            _ = stopped.recv() => return Ok(()),
            _ = watch.tick() => {
                if threads.iter().any(JoinHandle::is_finished) {
                    return Err(RunError::Defect { thread: "signalling" });
                }
            }
        }
    }
}

/// Removes the records that are older than `keep`, a portion at a time, for ever.
async fn forget_records(keep: Duration, writer: WriterHandle) -> Infallible {
    if keep.is_zero() {
        return std::future::pending().await;
    }
    let mut sweep = tokio::time::interval(SWEEP);
    loop {
        sweep.tick().await;
        let age = u64::try_from(keep.as_millis()).unwrap_or(u64::MAX);
        let before = clock().unix_ms.saturating_sub(age);
        let forgotten = writer.submit_then(vec![Change::RemoveRecords { before }], |result| {
            if let Err(error) = result {
                warn!(%error, "old call records cannot be removed");
            }
        });
        if let Err(error) = forgotten {
            warn!(%error, "old call records are removed later");
        }
    }
}

/// The signals that end the service, listened to before it says that it runs. Each has one listener for the whole life: a signal
/// that comes while there is none would be lost.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }
}

fn open_store(config: &Config, dir: &DataDir) -> Result<Store, RunError> {
    let StoreUrl::Sqlite(file) = &config.store.url;
    Ok(Store::open(&dir.file(file))?)
}

/// What the workers share, filled from the store.
fn shared(
    config: &Config,
    workers: u8,
    store: &mut Store,
    dir: &DataDir,
    local: &[(Transport, SocketAddr)],
) -> Result<Arc<Shared>, RunError> {
    let own = local
        .iter()
        .map(|(_, address)| address.ip())
        .chain(config.listen.advertise.iter().copied());
    let domains = config.domains.iter().map(|domain| domain.as_str());
    let directory = Directory::new(domains, own, random()?);
    for account in store.accounts()? {
        let aor = switch::directory::AddressOfRecord::new(&account.name, &account.domain);
        match directory_account(&account) {
            Ok(known) => directory.put(aor, known),
            Err(error) => warn!(account = %account.aor(), %error, "an account is not usable"),
        }
    }
    let location = Location::new(random()?);
    if config.registrar.durable {
        store.each_binding(net::clock::unix_seconds(), |fields| {
            storage::restore(&fields, &directory, &location);
            true
        })?;
    }
    let seconds = |duration: Duration| u32::try_from(duration.as_secs()).unwrap_or(u32::MAX);
    let keepalive = KeepaliveConfig {
        interval: config.nat.keepalive,
        advertise: config.listen.advertise.clone(),
        ..KeepaliveConfig::default()
    };
    let auth = AuthConfig {
        trusted: config.auth.trusted.clone(),
        algorithms: config.auth.algorithms.clone(),
        nonce_lifetime: config.auth.nonce_lifetime,
        wrong_passwords: config.auth.wrong_passwords,
        wrong_passwords_within: config.auth.wrong_passwords_within,
        ..AuthConfig::default()
    };
    Ok(Arc::new(Shared {
        config: switch::Config {
            advertise: config.listen.advertise.clone(),
            timer_c: config.proxy.timer_c,
            max_forwards: config.proxy.max_forwards,
            max_breadth: config.proxy.max_breadth,
            max_targets: config.proxy.max_targets as usize,
            max_calls: config.limits.calls as usize,
            max_transactions: config.limits.transactions as usize,
            longest_call: config.limits.call_duration,
            outbound: local.to_vec(),
            keepalive,
            relay: config.media.relay,
            records: config.records.enabled,
            ..switch::Config::default()
        },
        registrar: RegistrarConfig {
            durable: config.registrar.durable,
            min_expires: seconds(config.registrar.min_expires),
            default_expires: seconds(config.registrar.default_expires),
            max_expires: seconds(config.registrar.max_expires),
            max_bindings: config.registrar.max_bindings as usize,
            when_full: config.registrar.when_full,
            unknown_path: config.registrar.unknown_path,
        },
        directory: Arc::new(directory),
        location: Arc::new(location),
        auth: Arc::new(AuthShared::new(auth, workers, random()?)),
        workers,
        secret: lasting_secret(dir)?,
    }))
}

/// The key of what phones carry for us, kept in the data directory so that calls go on after a restart.
fn lasting_secret(dir: &DataDir) -> Result<[u8; 16], RunError> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let path = dir.file(SECRET_FILE);
    let refused = |source| {
        RunError::Store(store::StoreError::Directory {
            path: path.clone(),
            source,
        })
    };
    if let Ok(bytes) = std::fs::read(&path)
        && let Ok(secret) = bytes.try_into()
    {
        return Ok(secret);
    }
    let secret = random()?;
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(&path)
        .map_err(refused)?;
    file.write_all(&secret)
        .and_then(|()| file.sync_all())
        .map_err(refused)?;
    Ok(secret)
}

/// The sockets of all workers.
struct Sockets {
    /// Where they are bound.
    bound: Vec<(Transport, SocketAddr)>,
    /// Each worker's.
    shares: Vec<(Vec<UdpSocket>, Vec<Listener>)>,
}

impl Sockets {
    fn bind(config: &Config, workers: usize) -> Result<Self, RunError> {
        let mut sockets = Sockets {
            bound: Vec::new(),
            shares: (0..workers).map(|_| (Vec::new(), Vec::new())).collect(),
        };
        for address in &config.listen.udp {
            if is_left_out(*address) {
                continue;
            }
            for (share, socket) in sockets.shares.iter_mut().zip(UdpSocket::bind_group(
                *address,
                workers,
                &UdpOptions::default(),
            )?) {
                sockets.bound.push((Transport::Udp, socket.local_addr()));
                share.0.push(socket);
            }
        }
        for address in &config.listen.tcp {
            if is_left_out(*address) {
                continue;
            }
            for (share, listener) in sockets
                .shares
                .iter_mut()
                .zip(Listener::bind_group(*address, workers)?)
            {
                sockets.bound.push((Transport::Tcp, listener.local_addr()));
                share.1.push(listener);
            }
        }
        sockets.bound.sort();
        sockets.bound.dedup();
        Ok(sockets)
    }
}

/// `[::]` on a machine without IPv6.
fn is_left_out(address: SocketAddr) -> bool {
    let has_v6 =
        || net::interfaces::addresses().is_ok_and(|list| list.iter().any(|found| found.address.is_ipv6()));
    address.is_ipv6() && address.ip().is_unspecified() && !has_v6()
}

/// The addresses behind the wildcards: those that others can reach first.
fn spelled_out(bound: &[(Transport, SocketAddr)]) -> Vec<(Transport, SocketAddr)> {
    let mut interfaces = net::interfaces::addresses().unwrap_or_default();
    interfaces.sort_by_key(|interface| !interface.is_reachable());
    let mut local = Vec::new();
    for (transport, address) in bound {
        if !address.ip().is_unspecified() {
            local.push((*transport, *address));
            continue;
        }
        let same = interfaces
            .iter()
            .map(|interface| interface.address)
            .filter(|ip| ip.is_ipv4() == address.is_ipv4());
        local.extend(same.map(|ip: IpAddr| (*transport, SocketAddr::new(ip, address.port()))));
    }
    local
}

type RelayOf = (RelayHandle, Arc<Mutex<Pools>>);

fn start_relays(
    config: &Config,
    signalling: usize,
    mailboxes: &[Mailbox],
) -> Result<(Vec<RelayOf>, Vec<JoinHandle<()>>), RunError> {
    let count = usize::from(config.server.media_workers.unwrap_or_else(cores).max(1)).min(signalling);
    let stream = media::stream::StreamConfig {
        silence: config.media.silence_timeout,
        hold_silence: config.media.hold_timeout,
        ..media::stream::StreamConfig::default()
    };
    let ports = PortOptions::new(config.media.ports.first..=config.media.ports.last);
    let mut relays = Vec::new();
    let mut threads = Vec::new();
    for (number, options) in ports.split(count as u16).into_iter().enumerate() {
        let pools = Arc::new(Mutex::new(Pools::new(options)));
        let (handle, thread) =
            relay::start(number, Arc::clone(&pools), stream, mailboxes.to_vec()).map_err(thread_refused)?;
        relays.push((handle, pools));
        threads.push(thread);
    }
    Ok((relays, threads))
}

fn tcp_options(config: &Config, workers: usize) -> TcpOptions {
    let share = |limit: u32| (limit as usize).div_ceil(workers);
    TcpOptions {
        idle: config.limits.connection_idle,
        connections: share(config.limits.connections),
        per_source: share(config.limits.connections_per_source),
        ..TcpOptions::default()
    }
}

/// Tells a worker what was written.
fn sink(mailbox: Mailbox) -> store::Sink {
    Box::new(move |tickets, result| {
        if let Err(error) = result {
            warn!(%error, "the store could not write");
        }
        mailbox.send(Mail::Stored {
            tickets: tickets.to_vec(),
            stored: result.is_ok(),
        });
    })
}

fn clock() -> Clock {
    let since = net::clock::wall()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    Clock {
        instant: net::clock::now(),
        unix_ms: since.as_millis() as u64,
    }
}

fn cores() -> u8 {
    u8::try_from(net::process::cores().len()).unwrap_or(u8::MAX)
}

fn random<const N: usize>() -> Result<[u8; N], RunError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| RunError::System {
        what: "randomness",
        source: io::Error::other(error.to_string()),
    })?;
    Ok(bytes)
}

fn spawn<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, RunError> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .map_err(thread_refused)
}

fn thread_refused(source: io::Error) -> RunError {
    RunError::System {
        what: "a thread",
        source,
    }
}

/// Where [`lasting_secret`] is kept.
const SECRET_FILE: &str = "trapez.key";

/// How often the threads are looked after.
const WATCH: Duration = Duration::from_millis(500);

/// How often old records are looked for: with what the store removes at once, eight million a day.
const SWEEP: Duration = Duration::from_secs(10);
