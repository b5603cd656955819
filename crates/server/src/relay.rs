//! A relay thread: the sockets of the calls of one or more signalling workers, and their [`Stream`]s.
//!
//! Orders come through a channel, with the sockets that an order opens; reports go back to the worker that the stream belongs
//! to. Packets are read one per socket and poll: what is left makes the socket ready again, and most have one every 20 ms. The
//! thread naps between polls when packets come often enough to share a wake-up ([`Pace`]).

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use media::stream::{Action, Stream, StreamConfig};
use media::{Command, Component, PortId, Report, Side, StreamId};
use net::media::{Pace, Poller, PortPair, Ready, Waker};
use slab::Slab;
use tracing::error;

use crate::ports::{Pools, lock};
use crate::worker::{Mail, Mailbox};

/// An order of a worker.
pub(crate) struct Order {
    /// Index of the worker, which gets the reports.
    pub(crate) worker: u8,
    /// What to do.
    pub(crate) command: Command,
    /// The sockets that [`Command::Open`] brings along.
    pub(crate) sockets: Option<PortPair>,
}

/// The way to a relay thread.
#[derive(Clone)]
pub(crate) struct RelayHandle {
    orders: mpsc::Sender<Order>,
    waker: Waker,
}

impl RelayHandle {
    /// Gives an order; [`RelayHandle::wake`] makes the thread look.
    pub(crate) fn send(&self, order: Order) {
        // The thread outlives the workers.
        let _ = self.orders.send(order);
    }

    /// Makes the thread look for orders now.
    pub(crate) fn wake(&self) {
        self.waker.wake();
    }
}

/// A relay thread that runs; dropping its handles ends it.
pub(crate) fn start(
    number: usize,
    pools: Arc<Mutex<Pools>>,
    config: StreamConfig,
    workers: Vec<Mailbox>,
) -> io::Result<(RelayHandle, JoinHandle<()>)> {
    let poller = Poller::new()?;
    let waker = poller.waker();
    let (orders, received) = mpsc::channel();
    let relay = Relay {
        poller,
        pools,
        config,
        workers,
        streams: Slab::new(),
        places: HashMap::new(),
    };
    let thread = thread::Builder::new()
        .name(format!("relay-{number}"))
        .spawn(move || relay.run(&received))?;
    Ok((RelayHandle { orders, waker }, thread))
}

struct Relay {
    poller: Poller,
    pools: Arc<Mutex<Pools>>,
    config: StreamConfig,
    workers: Vec<Mailbox>,
    streams: Slab<Entry>,
    places: HashMap<(u8, StreamId), usize>,
}

struct Entry {
    worker: u8,
    stream: Stream,
    legs: Vec<LegSockets>,
}

struct LegSockets {
    side: Side,
    id: PortId,
    pair: PortPair,
}

impl Relay {
    fn run(mut self, orders: &mpsc::Receiver<Order>) {
        let mut ready = Ready::with_capacity(EVENTS);
        let mut pace = Pace::new(net::media::NAP);
        let mut buffer = vec![0; LARGEST_PACKET].into_boxed_slice();
        let mut tick = net::clock::now() + TICK;
        loop {
            let now = net::clock::now();
            if let Err(error) = self
                .poller
                .wait(&mut ready, Some(tick.saturating_duration_since(now)))
            {
                error!(%error, "the relay cannot wait for packets");
                return;
            }
            let now = net::clock::now();
            // Orders first: packets that come with the answer's news find it carried out.
            loop {
                match orders.try_recv() {
                    Ok(order) => self.carry_out(now, order),
                    Err(mpsc::TryRecvError::Empty) => break,
                    Err(mpsc::TryRecvError::Disconnected) => return,
                }
            }
            let mut handled = 0;
            for token in ready.tokens() {
                handled += usize::from(self.relay_packet(now, token, &mut buffer));
            }
            if now >= tick {
                self.tick(now);
                tick = now + TICK;
            }
            let nap = pace.nap(handled, now);
            if !nap.is_zero() {
                thread::sleep(nap);
            }
        }
    }

    /// Reads one packet and passes it on. False when there was none after all.
    fn relay_packet(&mut self, now: Instant, token: u64, buffer: &mut [u8]) -> bool {
        let (place, leg, component) = split_token(token);
        let Some(entry) = self.streams.get_mut(place) else {
            return false;
        };
        let Some(sockets) = entry.legs.get(leg) else {
            return false;
        };
        let Ok((length, source)) = socket(&sockets.pair, component).recv_from(buffer) else {
            return false;
        };
        let packet = &mut buffer[..length];
        match entry
            .stream
            .handle_packet(now, sockets.side, component, source, packet)
        {
            Action::Forward {
                port,
                component,
                destination,
                ..
            } => {
                if let Some(out) = entry.legs.iter().find(|leg| leg.id == port) {
                    // What the kernel refuses now is lost, as packets are; ICMP errors of earlier ones show up here as well.
                    let _ = socket(&out.pair, component).send_to(packet, destination);
                }
            }
            Action::Absorb | Action::Drop(_) => {}
        }
        true
    }

    fn carry_out(&mut self, now: Instant, order: Order) {
        let Order {
            worker,
            command,
            sockets,
        } = order;
        let id = command.stream();
        let place = *self.places.entry((worker, id)).or_insert_with(|| {
            self.streams.insert(Entry {
                worker,
                stream: Stream::new(now, id, self.config),
                legs: Vec::new(),
            })
        });
        let Some(entry) = self.streams.get_mut(place) else {
            return;
        };
        if let (Command::Open { side, leg, .. }, Some(pair)) = (&command, sockets) {
            let at = entry.legs.len();
            for component in [Component::Rtp, Component::Rtcp] {
                if let Err(error) = self
                    .poller
                    .add(socket(&pair, component), token(place, at, component))
                {
                    error!(%error, "the relay cannot watch a port");
                }
            }
            entry.legs.push(LegSockets {
                side: *side,
                id: leg.ports.id,
                pair,
            });
        }
        let closed = match &command {
            Command::CloseLeg { side, .. } => Some(Some(*side)),
            Command::Close { .. } => Some(None),
            _ => None,
        };
        entry.stream.apply(now, command);
        if let Some(side) = closed {
            self.close(place, side);
        }
        self.report(place);
    }

    /// Gives the sockets of one leg, or of all, back to their pool.
    fn close(&mut self, place: usize, side: Option<Side>) {
        let Some(entry) = self.streams.get_mut(place) else {
            return;
        };
        let mut pools = lock(&self.pools);
        let mut at = 0;
        while at < entry.legs.len() {
            if side.is_some_and(|side| entry.legs[at].side != side) {
                at += 1;
                continue;
            }
            let LegSockets { pair, .. } = entry.legs.remove(at);
            for component in [Component::Rtp, Component::Rtcp] {
                let _ = self.poller.remove(socket(&pair, component));
            }
            pools.release(pair);
        }
        drop(pools);
        // The places of the legs behind have changed, and with them their tokens.
        for (at, leg) in entry.legs.iter().enumerate() {
            for component in [Component::Rtp, Component::Rtcp] {
                let socket = socket(&leg.pair, component);
                let _ = self.poller.remove(socket);
                let _ = self.poller.add(socket, token(place, at, component));
            }
        }
    }

    /// Passes on what a stream has to say, and forgets it when that was its last.
    fn report(&mut self, place: usize) {
        let Some(entry) = self.streams.get_mut(place) else {
            return;
        };
        while let Some(report) = entry.stream.poll_report() {
            send_report(&self.workers, entry.worker, report);
        }
        if entry.stream.is_closed() {
            self.places.remove(&(entry.worker, entry.stream.id()));
            self.streams.remove(place);
        }
    }

    /// Looks for silence, and keeps the pools.
    fn tick(&mut self, now: Instant) {
        for (_, entry) in &mut self.streams {
            if entry.stream.poll_timeout().is_some_and(|at| at <= now) {
                entry.stream.handle_timeout(now);
            }
            // That packets flow again is reported here as well: no packet has to ask.
            while let Some(report) = entry.stream.poll_report() {
                send_report(&self.workers, entry.worker, report);
            }
        }
        lock(&self.pools).maintain();
    }
}

fn send_report(workers: &[Mailbox], worker: u8, report: Report) {
    if let Some(mailbox) = workers.get(usize::from(worker)) {
        mailbox.send(Mail::Report(report));
    }
}

fn socket(pair: &PortPair, component: Component) -> &net::media::MediaSocket {
    match component {
        Component::Rtp => &pair.rtp,
        Component::Rtcp => &pair.rtcp,
    }
}

fn token(place: usize, leg: usize, component: Component) -> u64 {
    (place as u64) << 16 | (leg as u64) << 1 | u64::from(component == Component::Rtcp)
}

fn split_token(token: u64) -> (usize, usize, Component) {
    let component = if token & 1 == 0 {
        Component::Rtp
    } else {
        Component::Rtcp
    };
    ((token >> 16) as usize, (token >> 1 & 0x7fff) as usize, component)
}

/// Sockets that one poll reports; more come with the next.
const EVENTS: usize = 1024;
/// The largest UDP datagram.
const LARGEST_PACKET: usize = 65_535;
/// How often silence is looked for.
const TICK: Duration = Duration::from_secs(1);
