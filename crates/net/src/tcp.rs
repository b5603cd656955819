//! The stream connections of one worker: accepted and opened, read, written, and closed in time.
//!
//! A worker makes one [`Connections`] inside its tokio runtime, gives it [`Listener`]s with [`Connections::listen`], waits
//! for [`Connections::recv`], which fills an [`Inbox`] with everything that happened, and answers with
//! [`Connections::send`] and [`Connections::close`]. Where a message ends in the bytes of a stream is not known here.
//!
//! - **Order**: what is sent on a connection leaves in that order; several messages leave in one write when they can.
//! - **Back-pressure**: what a peer does not read waits in a queue of at most [`TcpOptions::send_queue`] bytes; one more
//!   message closes the connection, for a peer that does not read would be served at everybody's cost. When the worker
//!   does not keep up with an [`Inbox`] of [`TcpOptions::inbox`] bytes, sockets are not read, and the peers' windows close.
//! - **Limits** on the number of connections, in all and per source, and on idle ones.
//! - One task per connection, no allocation per message: bytes are read straight into the inbox.
//!
//! TLS and WebSocket: whatever is `AsyncRead + AsyncWrite` becomes a connection by [`Connections::attach`], by a
//! [`Connections`] of its own, so that [`Connections::find`] cannot mix transports.

use std::{
    future::poll_fn,
    io,
    net::{IpAddr, SocketAddr},
    num::NonZeroU64,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use socket2::{SockAddr, Socket, TcpKeepalive, Type};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpSocket, TcpStream},
    time::{sleep, timeout},
};

use crate::{
    bind::{BindError, Protocol},
    sys,
};

mod connection;
mod inbox;
mod table;

pub use inbox::{CloseReason, ConnectionEvent, Inbox, OpenError};

use connection::Connection;
use table::Shared;

/// What names a connection: never used twice, and different in each worker.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Id(pub NonZeroU64);

impl Id {
    /// The worker whose connection it is: as it was given to [`Connections::new`].
    pub fn worker(self) -> u8 {
        (self.0.get() >> WORKER_SHIFT) as u8
    }
}

/// The limits of connections. `Default` has the named constants of this module.
#[derive(Clone, Copy, Debug)]
pub struct TcpOptions {
    /// Bytes that wait to be written on one connection.
    pub send_queue: usize,
    /// Bytes read from all connections and not yet taken by [`Connections::recv`].
    pub inbox: usize,
    /// A connection on which nothing was read or written for so long is closed.
    pub idle: Duration,
    /// An accepted connection whose peer has not said anything for so long is closed.
    pub first_data: Duration,
    /// Time to open a connection.
    pub connect: Duration,
    /// Time for a connection that is being closed: to write what is queued, and for the peer to notice.
    pub linger: Duration,
    /// Accepted connections in all, and as many opened ones.
    pub connections: usize,
    /// Accepted connections from one source: an IPv4 address or an IPv6 /64.
    pub per_source: usize,
    /// Differentiated services code point, 0 to 63.
    pub dscp: u8,
}

impl Default for TcpOptions {
    fn default() -> Self {
        Self {
            send_queue: SEND_QUEUE,
            inbox: INBOX,
            idle: IDLE,
            first_data: FIRST_DATA,
            connect: CONNECT,
            linger: LINGER,
            connections: CONNECTIONS,
            per_source: PER_SOURCE,
            dscp: crate::udp::DSCP_SIGNALLING,
        }
    }
}

/// A bound TCP port that nobody accepts from yet: made before the workers start, so that a port in use ends the program
/// with a sentence instead of a worker with a panic.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    local: SocketAddr,
}

impl Listener {
    /// Binds one listener; port 0 takes any free one.
    pub fn bind(address: SocketAddr) -> Result<Self, BindError> {
        let mut group = Self::bind_group(address, 1)?;
        group
            .pop()
            .ok_or_else(|| bind_error(address, io::ErrorKind::Other.into()))
    }

    /// Binds one listener per worker to the same address; the kernel spreads new connections among them. Fails when
    /// another program has the port, even if that one is willing to share.
    pub fn bind_group(address: SocketAddr, count: usize) -> Result<Vec<Self>, BindError> {
        let make = || {
            let socket = sys::socket(address, Type::STREAM)?;
            // A restart must not wait for the last connections' TIME_WAIT.
            socket.set_reuse_address(true)?;
            Ok(socket)
        };
        let listen = |socket: Socket| {
            socket.listen(BACKLOG)?;
            let local = socket.local_addr()?.as_socket().unwrap_or(address);
            Ok(Self { socket, local })
        };
        let sockets = sys::bind_group(address, count, make).map_err(|source| bind_error(address, source))?;
        sockets
            .into_iter()
            .map(|socket| listen(socket).map_err(|source| bind_error(address, source)))
            .collect()
    }

    /// The address that it is bound to; a wildcard if it was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }
}

/// The stream connections of one worker. To be used inside a tokio runtime; dropping it closes all.
pub struct Connections {
    shared: Arc<Shared>,
}

impl Connections {
    /// No connections yet. `worker` becomes part of each [`Id`].
    pub fn new(options: TcpOptions, worker: u8) -> Self {
        Self {
            shared: Arc::new(Shared::new(options, u64::from(worker) << WORKER_SHIFT)),
        }
    }

    /// Accepts from `listener` until this is dropped.
    pub fn listen(&self, listener: Listener) -> io::Result<()> {
        let listener = TcpListener::from_std(listener.socket.into())?;
        tokio::spawn(accept(Arc::clone(&self.shared), listener));
        Ok(())
    }

    /// Opens a connection, from `local` if that is given. It may be sent on at once: [`ConnectionEvent::Opened`] or
    /// [`ConnectionEvent::Failed`] tells how that went. `Err` when there are too many connections.
    pub fn connect(&self, local: Option<IpAddr>, remote: SocketAddr) -> Result<Id, OpenError> {
        let id = self.shared.reserve(remote)?;
        tokio::spawn(open(Arc::clone(&self.shared), id, local, remote));
        Ok(id)
    }

    /// Makes a stream that was opened elsewhere a connection: after a TLS handshake, say. The event
    /// [`ConnectionEvent::Opened`] follows.
    pub fn attach<S>(&self, stream: S, local: SocketAddr, remote: SocketAddr) -> Result<Id, OpenError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let id = self.shared.admit(local, remote)?;
        tokio::spawn(Connection::opened(Arc::clone(&self.shared), id, stream));
        Ok(id)
    }

    /// Queues bytes on a connection. Returns false when there is none of that name, or its queue is full: then it is
    /// being closed, and [`ConnectionEvent::Closed`] follows.
    pub fn send(&self, id: Id, bytes: &[u8]) -> bool {
        self.shared.lock().send(id, bytes)
    }

    /// Writes what is queued on a connection, then closes it. What the peer still says is thrown away.
    pub fn close(&self, id: Id) {
        self.shared.lock().close(id);
    }

    /// An open connection to `remote`, or one that is being opened: the youngest, if there are several.
    pub fn find(&self, remote: SocketAddr) -> Option<Id> {
        self.shared.lock().find(remote)
    }

    /// How many connections there are.
    pub fn len(&self) -> usize {
        self.shared.lock().len()
    }

    /// Whether there are no connections.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many accepted connections were turned away by a limit since the start.
    pub fn turned_away(&self) -> u64 {
        self.shared.lock().turned_away
    }

    /// Waits until something happened and puts it all into `inbox`, over what that held. To be called with the same
    /// inbox again and again: the two sides exchange buffers. May be cancelled.
    pub async fn recv(&self, inbox: &mut Inbox) {
        poll_fn(|context| {
            let mut state = self.shared.lock();
            if state.take(inbox) {
                return Poll::Ready(());
            }
            state.receiver = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        self.shared.shut_down();
    }
}

/// Accepts until the worker's `Connections` is gone.
async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shared.closed() => return,
        };
        match accepted {
            Ok((stream, remote)) => {
                let local = match prepare(&stream, shared.options.dscp) {
                    Ok(local) => local,
                    // The peer left while it waited to be accepted.
                    Err(_) => continue,
                };
                match shared.admit_accepted(local, remote) {
                    Ok(id) => drop(tokio::spawn(Connection::accepted(
                        Arc::clone(&shared),
                        id,
                        stream,
                    ))),
                    Err(_) => drop(stream),
                }
            }
            Err(error) => {
                // Out of files, mostly: trying at once again would only burn the processor.
                tracing::warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Opens a connection and becomes its task.
async fn open(shared: Arc<Shared>, id: Id, local: Option<IpAddr>, remote: SocketAddr) {
    let connect = timeout(shared.options.connect, dial(local, remote, shared.options.dscp));
    let result = tokio::select! {
        result = connect => result.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
        () = shared.closed() => return,
    };
    match result {
        Ok((stream, local)) => {
            shared.lock().opened(id, local, remote);
            Connection::opened(shared, id, stream).await;
        }
        Err(error) => shared.lock().failed(id, remote, error),
    }
}

async fn dial(local: Option<IpAddr>, remote: SocketAddr, dscp: u8) -> io::Result<(TcpStream, SocketAddr)> {
    let socket = sys::socket(remote, Type::STREAM)?;
    if let Some(ip) = local
        && ip.is_ipv4() == remote.is_ipv4()
        && !ip.is_unspecified()
    {
        // The port is chosen when connecting, so that one port may serve many peers.
        sys::set_option(&socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)?;
        socket.bind(&SockAddr::from(SocketAddr::new(ip, 0)))?;
    }
    let stream = TcpSocket::from_std_stream(socket.into()).connect(remote).await?;
    let local = prepare(&stream, dscp)?;
    Ok((stream, local))
}

/// What every connection's socket gets; returns its local address.
fn prepare(stream: &TcpStream, dscp: u8) -> io::Result<SocketAddr> {
    let local = stream.local_addr()?;
    stream.set_nodelay(true)?;
    let socket = socket2::SockRef::from(stream);
    // A peer that vanished without a word is found out in about a minute, whether we write or not.
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(KEEPALIVE)
            .with_interval(KEEPALIVE / 4),
    )?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    sys::set_dscp(stream, local.ip(), dscp)?;
    Ok(local)
}

fn bind_error(address: SocketAddr, source: io::Error) -> BindError {
    BindError {
        protocol: Protocol::Tcp,
        address,
        source,
    }
}

/// Default of [`TcpOptions::send_queue`]: a peer that leaves 200 messages unread has stopped reading.
pub const SEND_QUEUE: usize = 256 << 10;
/// Default of [`TcpOptions::inbox`].
pub const INBOX: usize = 1 << 20;
/// Default of [`TcpOptions::idle`]: above the 840 s that RFC 5626 (4.4.1) allows between two keepalives.
pub const IDLE: Duration = Duration::from_secs(900);
/// Default of [`TcpOptions::first_data`].
pub const FIRST_DATA: Duration = Duration::from_secs(32);
/// Default of [`TcpOptions::connect`]: leaves time for other targets before a caller gives up.
pub const CONNECT: Duration = Duration::from_secs(4);
/// Default of [`TcpOptions::linger`].
pub const LINGER: Duration = Duration::from_secs(4);
/// Default of [`TcpOptions::connections`], per worker.
pub const CONNECTIONS: usize = 20_000;
/// Default of [`TcpOptions::per_source`], per worker: many phones share the address of a company or a carrier's NAT.
pub const PER_SOURCE: usize = 1_000;

/// Connections that the kernel completes before they are accepted: all phones of a town after a power cut.
const BACKLOG: i32 = 4_096;
/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Idle time before the kernel asks whether the peer still lives.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// How long written bytes may stay unacknowledged: SIP's own timers end after 32 s.
const USER_TIMEOUT: Duration = Duration::from_secs(32);
/// The upper byte of an id is the worker's.
const WORKER_SHIFT: u32 = 56;

#[cfg(test)]
mod tests;
