//! A signalling worker: one thread, one tokio runtime on it, one [`Switch`], sockets of its own.
//!
//! Its loop waits for whichever comes first (datagrams, bytes on connections, mail from the other threads, a timer), gives it to
//! the switch, and then carries out what the switch wants, in order: messages to send, and [`Event`]s. Nothing in it waits for
//! anything else.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use agent::EchoService;
use net::dns::Resolver;
use net::tcp::{ConnectionEvent, Connections, Id, Inbox};
use net::udp::{AsyncUdpSocket, RecvBatch, SendBatch, UdpSocket};
use sip::frame::{Framed, Framer, Keepalive};
use sip::{ConnectionId, Flow, Outbox, Transport};
use store::WriterHandle;
use switch::{CallInfo, DnsId, Event, Switch, Ticket};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Sleep;
use tracing::{debug, warn};

use crate::ports::PortDesk;
use crate::relay::{Order, RelayHandle};
use crate::storage;

/// What other threads have for a worker.
pub(crate) enum Mail {
    /// A message that another worker got.
    Message { flow: Flow, bytes: Vec<u8>, first: u8 },
    /// Bytes for a connection of this worker, from another one.
    Send { flow: Flow, bytes: Vec<u8>, from: u8 },
    /// The connection that this worker gave bytes for is gone.
    Failed(Flow),
    /// What the packet side has noticed.
    Report(media::Report),
    /// The store has written, or could not.
    Stored { tickets: Vec<u64>, stored: bool },
    /// The DNS has answered.
    Dns { id: DnsId, answer: net::dns::Answer },
    /// Somebody wants to see the calls: first the counters are asked for, with [`Mail::Calls`] they are read.
    RefreshCounters,
    /// The calls, please.
    Calls(oneshot::Sender<Vec<CallInfo>>),
    /// How many transactions and calls are there?
    Load(oneshot::Sender<(usize, usize)>),
    /// Hang up on everybody, and stop.
    Stop,
}

/// The way to a worker.
#[derive(Clone)]
pub(crate) struct Mailbox(mpsc::UnboundedSender<Mail>);

impl Mailbox {
    /// A mailbox and what reads it.
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Mail>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Mailbox(sender), receiver)
    }

    /// Puts something in. After the worker's end it is lost, as it has to be.
    pub(crate) fn send(&self, mail: Mail) {
        let _ = self.0.send(mail);
    }
}

/// What a worker is made of.
pub(crate) struct Parts {
    pub(crate) number: u8,
    pub(crate) switch: Switch,
    pub(crate) echo: EchoService,
    pub(crate) udp: Vec<UdpSocket>,
    pub(crate) listeners: Vec<net::tcp::Listener>,
    pub(crate) tcp: net::tcp::TcpOptions,
    pub(crate) mail: mpsc::UnboundedReceiver<Mail>,
    pub(crate) workers: Vec<Mailbox>,
    pub(crate) relay: RelayHandle,
    pub(crate) desk: PortDesk,
    pub(crate) writer: WriterHandle,
    pub(crate) resolver: Resolver,
}

/// Runs a worker on this thread until it is told to stop.
pub(crate) fn run(parts: Parts) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .event_interval(EVENT_INTERVAL)
        .build()?;
    runtime.block_on(async move { Worker::new(parts)?.run().await })
}

struct Worker {
    number: u8,
    switch: Switch,
    echo: EchoService,
    udp: Vec<Rc<AsyncUdpSocket>>,
    connections: Connections,
    streams: HashMap<Id, StreamState>,
    mail: mpsc::UnboundedReceiver<Mail>,
    workers: Vec<Mailbox>,
    relay: RelayHandle,
    desk: PortDesk,
    writer: WriterHandle,
    resolver: Resolver,
    send: Box<SendBatch>,
    /// Takes turns with the outbox of the switch.
    outbox: Outbox,
    stopping: Option<Instant>,
}

/// A connection as seen from here.
struct StreamState {
    flow: Flow,
    framer: Framer,
}

impl Worker {
    fn new(parts: Parts) -> io::Result<Self> {
        let connections = Connections::new(parts.tcp, parts.number);
        for listener in parts.listeners {
            connections.listen(listener)?;
        }
        let udp = parts
            .udp
            .into_iter()
            .map(|socket| socket.into_async().map(Rc::new))
            .collect::<Result<_, _>>()?;
        Ok(Worker {
            number: parts.number,
            switch: parts.switch,
            echo: parts.echo,
            udp,
            connections,
            streams: HashMap::new(),
            mail: parts.mail,
            workers: parts.workers,
            relay: parts.relay,
            desk: parts.desk,
            writer: parts.writer,
            resolver: parts.resolver,
            send: SendBatch::new(),
            outbox: Outbox::new(),
            stopping: None,
        })
    }

    async fn run(mut self) -> io::Result<()> {
        let mut batch = RecvBatch::new();
        let mut inbox = Inbox::new();
        let mut arrivals: Vec<Arrival> = self.udp.iter().map(arrival).collect();
        let mut sleep = pin!(tokio::time::sleep(Duration::ZERO));
        loop {
            let deadlines = [self.switch.poll_timeout(), self.echo.poll_timeout()];
            let deadline = deadlines.into_iter().flatten().min();
            let woken = wait(
                &mut arrivals,
                &self.connections,
                &mut inbox,
                &mut self.mail,
                deadline,
                sleep.as_mut(),
            )
            .await;
            match woken {
                Woken::Datagrams(socket) => {
                    self.datagrams(socket, &mut batch);
                    arrivals[socket] = arrival(&self.udp[socket]);
                }
                Woken::Connections => self.connections(&inbox),
                Woken::Mail(first) => {
                    self.mail(first);
                    // What came in the meantime shares the wake-up.
                    for _ in 0..MAIL_BATCH {
                        match self.mail.try_recv() {
                            Ok(mail) => self.mail(mail),
                            Err(_) => break,
                        }
                    }
                }
                Woken::Closed => return Ok(()),
                Woken::Timer => {}
            }
            let now = net::clock::now();
            if self.switch.poll_timeout().is_some_and(|at| at <= now) {
                self.switch.handle_timeout(now);
            }
            if self.echo.poll_timeout().is_some_and(|at| at <= now) {
                self.echo.handle_timeout(now);
            }
            self.carry_out();
            if let Some(at) = self.stopping
                && (now >= at || self.switch.load().1 == 0)
            {
                return Ok(());
            }
        }
    }

    /// Reads what has arrived at a socket.
    fn datagrams(&mut self, socket: usize, batch: &mut RecvBatch) {
        let udp = Rc::clone(&self.udp[socket]);
        for _ in 0..BATCHES {
            let received = udp.recv_batch(batch).unwrap_or(0);
            if received > 0 {
                let now = net::clock::now();
                for datagram in batch.iter().filter(|datagram| !is_keepalive(datagram.bytes)) {
                    let (local, remote) = (datagram.local, datagram.remote);
                    let flow = Flow {
                        transport: Transport::Udp,
                        local,
                        remote,
                        connection: None,
                    };
                    self.desk.set_here(local.ip());
                    self.switch.handle_message(now, &flow, datagram.bytes);
                }
                self.carry_out();
            }
            if received < net::udp::BATCH {
                break;
            }
        }
        self.unreachable(socket);
    }

    /// Tells the switch which peers the network says cannot be reached.
    fn unreachable(&mut self, socket: usize) {
        while let Some(unreachable) = self.udp[socket].recv_unreachable() {
            debug!(remote = %unreachable.remote, error = %unreachable.error, "a peer cannot be reached");
            self.peer_failed(socket, unreachable.remote);
        }
    }

    fn peer_failed(&mut self, socket: usize, remote: SocketAddr) {
        let local = self.udp[socket].local_addr();
        let flow = Flow {
            transport: Transport::Udp,
            local,
            remote,
            connection: None,
        };
        self.switch.handle_flow_failed(net::clock::now(), &flow);
    }

    /// Deals with what happened on the connections.
    fn connections(&mut self, inbox: &Inbox) {
        let now = net::clock::now();
        for event in inbox.events() {
            match event {
                ConnectionEvent::Opened { id, local, remote } => {
                    let flow = Flow {
                        transport: Transport::Tcp,
                        local,
                        remote,
                        connection: Some(ConnectionId(id.0)),
                    };
                    self.streams.insert(
                        id,
                        StreamState {
                            flow,
                            framer: Framer::new(),
                        },
                    );
                }
                ConnectionEvent::Data { id, bytes } => self.stream_data(now, id, bytes),
                ConnectionEvent::Closed { id, remote, .. } | ConnectionEvent::Failed { id, remote, .. } => {
                    let known = self.streams.remove(&id).map(|stream| stream.flow);
                    let connection = Some(ConnectionId(id.0));
                    let unspecified = SocketAddr::new(unspecified(remote), 0);
                    let flow = Flow {
                        transport: Transport::Tcp,
                        local: unspecified,
                        remote,
                        connection,
                    };
                    let flow = known.unwrap_or(flow);
                    self.switch.handle_flow_failed(now, &flow);
                    self.switch.handle_flow_failed(
                        now,
                        &Flow {
                            connection: None,
                            ..flow
                        },
                    );
                }
                _ => {}
            }
        }
    }

    /// Cuts a stream into messages. A stream whose framing is lost is closed (RFC 3261 18.3).
    fn stream_data(&mut self, now: Instant, id: Id, bytes: &[u8]) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        self.desk.set_here(stream.flow.local.ip());
        stream.framer.push(bytes);
        loop {
            match stream.framer.next() {
                Ok(Some(Framed::Message(range))) => {
                    self.switch
                        .handle_message(now, &stream.flow, stream.framer.bytes(range));
                }
                Ok(Some(Framed::Keepalive(Keepalive::Ping))) => {
                    self.connections.send(id, b"\r\n");
                }
                Ok(Some(_)) => {}
                Ok(None) => return,
                Err(error) => {
                    debug!(remote = %stream.flow.remote, %error, "a connection is closed");
                    if let Some(head) = error.head() {
                        // The status that says why goes out before the end.
                        self.switch
                            .handle_message(now, &stream.flow, stream.framer.bytes(head));
                    }
                    self.carry_out();
                    return self.connections.close(id);
                }
            }
        }
    }

    fn mail(&mut self, mail: Mail) {
        let now = net::clock::now();
        match mail {
            Mail::Message { flow, bytes, first } => {
                self.desk.set_here(flow.local.ip());
                self.switch.handle_handed_over(now, &flow, &bytes, first);
            }
            Mail::Send { flow, bytes, from } => {
                let sent = self.send_stream(now, &flow, &bytes);
                if !sent && let Some(mailbox) = self.workers.get(usize::from(from)) {
                    mailbox.send(Mail::Failed(flow));
                }
            }
            Mail::Failed(flow) => self.switch.handle_flow_failed(now, &flow),
            Mail::Report(report) => {
                if report.stream().session.is_local() {
                    self.echo.handle_report(now, &report);
                }
                self.switch.handle_report(now, &report);
            }
            Mail::Stored { tickets, stored } => {
                for ticket in tickets {
                    self.switch.handle_stored(now, Ticket(ticket), stored);
                }
            }
            Mail::Dns { id, answer } => self.switch.handle_dns(now, id, storage::dns_answer(answer)),
            Mail::RefreshCounters => {
                self.switch.ask_for_counters();
                self.echo.ask_for_counters();
            }
            Mail::Calls(reply) => {
                let _ = reply.send(self.switch.calls().collect());
            }
            Mail::Load(reply) => {
                let _ = reply.send(self.switch.load());
            }
            Mail::Stop => {
                self.switch.hang_up_all(now, "The service is stopping");
                self.stopping = Some(now + STOP_PATIENCE);
            }
        }
    }

    /// Does what the switch and the echo service want until they want nothing more.
    fn carry_out(&mut self) {
        loop {
            let mut orders = false;
            while let Some(event) = self.switch.poll_event() {
                orders |= self.event(event);
            }
            while let Some(command) = self.echo.poll_command() {
                self.order(command);
                orders = true;
            }
            if orders {
                self.relay.wake();
            }
            if self.switch.outbox().is_empty() && self.echo.outbox().is_empty() {
                return;
            }
            // Sending can lead to more: the news of a connection that is gone, an answer of the echo service.
            let mut outbox = std::mem::take(&mut self.outbox);
            std::mem::swap(self.switch.outbox(), &mut outbox);
            self.send_all(&outbox);
            outbox.clear();
            std::mem::swap(self.echo.outbox(), &mut outbox);
            let now = net::clock::now();
            for (flow, bytes) in outbox.iter() {
                self.switch.handle_message(now, flow, bytes);
            }
            outbox.clear();
            self.outbox = outbox;
        }
    }

    /// Sends messages in their order: runs of datagrams for the same socket in one batch.
    fn send_all(&mut self, outbox: &Outbox) {
        let mut at = 0;
        while at < outbox.len() {
            let (flow, bytes) = outbox.get(at);
            if flow.transport != Transport::Udp {
                let (flow, bytes) = (*flow, bytes);
                self.send_stream(net::clock::now(), &flow, bytes);
                at += 1;
                continue;
            }
            let Some(socket) = self.socket_for(flow) else {
                warn!(local = %flow.local, "no socket to send from");
                at += 1;
                continue;
            };
            let end = (at..outbox.len())
                .find(|next| {
                    let (next, _) = outbox.get(*next);
                    next.transport != Transport::Udp || self.socket_for(next) != Some(socket)
                })
                .unwrap_or(outbox.len());
            let messages = (at..end).map(|index| {
                let (flow, bytes) = outbox.get(index);
                (flow.local, flow.remote, bytes)
            });
            let sent = self.udp[socket].send_batch(&mut self.send, messages);
            if sent < end - at {
                // The kernel's buffer is full: the network does not keep up, and SIP's retransmissions exist for that.
                debug!(lost = end - at - sent, "datagrams could not be sent");
            }
            at = end;
            self.refused(socket);
        }
    }

    fn refused(&mut self, socket: usize) {
        let refused: Vec<_> = self.send.refused().collect();
        if refused.is_empty() {
            return;
        }
        for unreachable in refused {
            self.peer_failed(socket, unreachable.remote);
        }
    }

    /// The socket that a flow's local address belongs to.
    fn socket_for(&self, flow: &Flow) -> Option<usize> {
        self.udp.iter().position(|udp| {
            let bound = udp.local_addr();
            bound.port() == flow.local.port()
                && bound.is_ipv4() == flow.local.is_ipv4()
                && (bound.ip().is_unspecified() || bound.ip() == flow.local.ip())
        })
    }

    /// Sends on the connection that the flow names, or on one to the same peer, or on a new one; inside the process to the echo
    /// service. False when there is no such connection any more; the switch has been told.
    fn send_stream(&mut self, now: Instant, flow: &Flow, bytes: &[u8]) -> bool {
        if flow.transport == Transport::Local {
            self.desk.set_here(flow.local.ip());
            self.echo.handle_message(now, flow, bytes);
            return true;
        }
        let id = match flow.connection {
            Some(ConnectionId(id)) => {
                let worker = Id(id).worker();
                if worker != self.number
                    && let Some(mailbox) = self.workers.get(usize::from(worker))
                {
                    mailbox.send(Mail::Send {
                        flow: *flow,
                        bytes: bytes.to_vec(),
                        from: self.number,
                    });
                    return true;
                }
                // After a restart the number that a token names can be that of another peer.
                let known = self.streams.get(&Id(id));
                known
                    .filter(|stream| stream.flow.remote == flow.remote)
                    .map(|_| Id(id))
            }
            None => None,
        };
        // A connection that is gone may have a successor: the phone has opened a new one, and has not registered again.
        let id = id.or_else(|| self.connections.find(flow.remote));
        let id = match id {
            Some(id) => Ok(id),
            None if flow.connection.is_some() => Err(()),
            None => self
                .connections
                .connect(Some(flow.local.ip()), flow.remote)
                .map_err(|error| {
                    debug!(remote = %flow.remote, %error, "no connection");
                }),
        };
        let sent = id.is_ok_and(|id| self.connections.send(id, bytes));
        if !sent {
            self.switch.handle_flow_failed(now, flow);
        }
        sent
    }

    /// Carries out one wish of the switch. True when the relay thread has something to look at.
    fn event(&mut self, event: Event) -> bool {
        match event {
            Event::HandOver {
                worker,
                flow,
                message: bytes,
                first,
            } => {
                if let Some(mailbox) = self.workers.get(usize::from(worker)) {
                    mailbox.send(Mail::Message { flow, bytes, first });
                }
            }
            Event::Store { ticket, change } => self.store(ticket, &change),
            Event::Media(command) => {
                self.order(command);
                return true;
            }
            Event::Dns { id, query } => {
                let mailbox = self.workers[usize::from(self.number)].clone();
                self.resolver.query(storage::dns_query(&query), move |answer| {
                    mailbox.send(Mail::Dns { id, answer })
                });
            }
            _ => {}
        }
        false
    }

    /// Gives an order to the relay thread, with the sockets that it opens.
    fn order(&self, command: media::Command) {
        let sockets = match &command {
            media::Command::Open { leg, .. } => self.desk.take(leg.ports.id),
            _ => None,
        };
        self.relay.send(Order {
            worker: self.number,
            command,
            sockets,
        });
    }

    fn store(&mut self, ticket: Option<Ticket>, change: &switch::Change) {
        let changes = storage::changes(change);
        let submitted = match ticket {
            Some(Ticket(ticket)) => self.writer.submit(self.number.into(), ticket, changes),
            None => self.writer.submit_then(changes, |_| {}),
        };
        if let Err(error) = submitted {
            warn!(%error, "the store does not keep up");
            if let Some(ticket) = ticket {
                self.switch.handle_stored(net::clock::now(), ticket, false);
            }
        }
    }
}

enum Woken {
    Datagrams(usize),
    Connections,
    Mail(Mail),
    Closed,
    Timer,
}

/// Ends when something has arrived at a socket.
type Arrival = Pin<Box<dyn Future<Output = io::Result<()>>>>;

fn arrival(socket: &Rc<AsyncUdpSocket>) -> Arrival {
    let socket = Rc::clone(socket);
    Box::pin(async move { socket.wait().await })
}

/// Waits for whatever comes first.
async fn wait(
    arrivals: &mut [Arrival],
    connections: &Connections,
    inbox: &mut Inbox,
    mail: &mut mpsc::UnboundedReceiver<Mail>,
    deadline: Option<Instant>,
    mut sleep: Pin<&mut Sleep>,
) -> Woken {
    if let Some(deadline) = deadline.map(tokio::time::Instant::from_std)
        && sleep.deadline() != deadline
    {
        sleep.as_mut().reset(deadline);
    }
    let datagrams = std::future::poll_fn(|context| {
        let ready = arrivals
            .iter_mut()
            .position(|arrival| arrival.as_mut().poll(context).is_ready());
        ready.map_or(Poll::Pending, Poll::Ready)
    });
    tokio::select! {
        socket = datagrams => Woken::Datagrams(socket),
        mail = mail.recv() => mail.map_or(Woken::Closed, Woken::Mail),
        () = connections.recv(inbox) => Woken::Connections,
        () = sleep, if deadline.is_some() => Woken::Timer,
    }
}

/// Line ends and zeros that keep a NAT's binding open, and nothing else.
fn is_keepalive(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| matches!(byte, b'\r' | b'\n' | 0 | b' '))
}

fn unspecified(like: SocketAddr) -> IpAddr {
    match like {
        SocketAddr::V4(_) => IpAddr::from([0; 4]),
        SocketAddr::V6(_) => IpAddr::from([0; 16]),
    }
}

/// Batches read from one socket before the others have their turn.
const BATCHES: usize = 8;
/// Letters read before the sockets have their turn.
const MAIL_BATCH: usize = 256;
/// How many turns tokio gives its tasks before it looks at the sockets.
const EVENT_INTERVAL: u32 = 31;
/// How long a stopping worker waits for the records of its calls.
const STOP_PATIENCE: Duration = Duration::from_secs(2);
