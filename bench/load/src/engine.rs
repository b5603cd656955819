//! Drives a [`Scenario`]: begins units in a closed loop (so many outstanding) or an open one (so many a second), hands it the
//! datagrams that arrive, sends again what got no answer, and counts.
//!
//! One thread that never sleeps: it polls its non-blocking sockets on a core of its own, so that the latencies are the
//! server's and a slow generator does not look like a slow server.

use std::{
    collections::VecDeque,
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use socket2::{Domain, Socket, Type};

use crate::{cpu::Watch, report::Report, wire::Message};

/// A kind of unit. A slot carries at most one unit at a time.
pub(crate) trait Scenario {
    /// Sends the first message of a unit on `slot`.
    fn start(&mut self, slot: usize, net: &mut Net);

    /// Takes a message that came to `socket` for `slot`; tells when the unit is over.
    fn receive(&mut self, slot: usize, socket: usize, message: &Message<'_>, net: &mut Net) -> Progress;
}

/// What a message did to its unit.
pub(crate) enum Progress {
    /// The unit goes on.
    Open,
    /// The unit goes on; its latency is taken here and not at its end.
    Reached,
    /// The unit is over and was right.
    Completed,
    /// The unit is over and was wrong.
    Failed(String),
    /// The message belongs to no unit under way.
    Stray,
}

/// How units are begun, and when it ends.
#[derive(Clone, Debug)]
pub(crate) struct Pacing {
    /// Units a second; `None` for a closed loop.
    pub(crate) rate: Option<f64>,
    /// Units outstanding in a closed loop.
    pub(crate) outstanding: usize,
    /// Begin no more units than this.
    pub(crate) count: u64,
    /// Not measured.
    pub(crate) warmup: Duration,
    /// Measured.
    pub(crate) duration: Duration,
}

/// The generator's sockets, and what each slot would send again.
pub(crate) struct Net {
    sockets: Vec<UdpSocket>,
    addresses: Vec<String>,
    slots: Vec<Slot>,
    started: Instant,
    now: u64,
    pub(crate) challenged: u64,
    retransmissions: u64,
}

#[derive(Clone, Default)]
struct Slot {
    busy: bool,
    begun: u64,
    latency: Option<u32>,
    request: Vec<u8>,
    socket: usize,
    /// When to send `request` again; 0 for never.
    due: u64,
    interval: u64,
}

/// Runs `scenario` as `pacing` says, and samples the CPU time of `watches` around the measured window.
pub(crate) fn drive(
    scenario: &mut (impl Scenario + ?Sized),
    net: &mut Net,
    slots: usize,
    pacing: &Pacing,
    watches: &[Watch],
) -> Report {
    net.reset(slots);
    let start = net.now;
    let warm = start + nanoseconds(pacing.warmup);
    let end = warm + nanoseconds(pacing.duration);
    let mut run = Run {
        report: Report::default(),
        free: (0..slots).collect(),
        outstanding: 0,
        window: Window::Ahead,
    };
    let (mut begun, mut next_sweep) = (0, start);
    let mut buffer = [0u8; 65_535];
    loop {
        net.tick();
        let over = net.now >= end || begun >= pacing.count;
        match run.window {
            Window::Ahead if net.now >= warm => run.open_window(net, watches),
            Window::Open { .. } if net.now >= end || (over && run.outstanding == 0) => {
                run.close_window(net, watches)
            }
            _ => {}
        }
        if over && (run.outstanding == 0 || net.now >= end + DRAIN) {
            break;
        }
        while !over && begun < pacing.count && run.may_begin(pacing, begun, net.now - start) {
            begun += 1;
            run.begin(scenario, net);
        }
        for socket in 0..net.sockets.len() {
            for _ in 0..READS_PER_SOCKET {
                let Ok(length) = net.sockets[socket].recv(&mut buffer) else {
                    break;
                };
                net.tick();
                run.receive(scenario, net, socket, &buffer[..length]);
            }
        }
        if net.now >= next_sweep {
            run.sweep(net);
            next_sweep = net.now + SWEEP;
        }
    }
    for _ in 0..run.outstanding {
        run.report.fail("unfinished");
    }
    run.report.challenged = net.challenged;
    run.report.retransmissions = net.retransmissions;
    run.report
}

/// The measured part of a run.
enum Window {
    Ahead,
    Open { since: u64, cpu: Vec<u64> },
    Closed,
}

struct Run {
    report: Report,
    free: VecDeque<usize>,
    outstanding: usize,
    window: Window,
}

impl Run {
    fn open_window(&mut self, net: &mut Net, watches: &[Watch]) {
        let cpu = watches.iter().map(Watch::sample).collect();
        net.tick();
        self.window = Window::Open { since: net.now, cpu };
    }

    fn close_window(&mut self, net: &mut Net, watches: &[Watch]) {
        let Window::Open { since, cpu } = std::mem::replace(&mut self.window, Window::Closed) else {
            return;
        };
        for (watch, before) in watches.iter().zip(cpu) {
            self.report
                .cpu
                .insert(watch.name.clone(), watch.sample().saturating_sub(before));
        }
        net.tick();
        self.report.nanoseconds = net.now - since;
    }

    fn is_measuring(&self) -> bool {
        matches!(self.window, Window::Open { .. })
    }

    /// Whether the next unit is due and a slot is free for it. Where slots lack, an open loop falls behind and the lateness
    /// shows it.
    fn may_begin(&mut self, pacing: &Pacing, begun: u64, elapsed: u64) -> bool {
        if self.free.is_empty() {
            return false;
        }
        let Some(rate) = pacing.rate else {
            return self.outstanding < pacing.outstanding;
        };
        let due = (begun as f64 / rate * 1e9) as u64;
        if elapsed >= due && self.is_measuring() {
            self.report
                .lateness
                .push(u32::try_from(elapsed - due).unwrap_or(u32::MAX));
        }
        elapsed >= due
    }

    fn begin(&mut self, scenario: &mut (impl Scenario + ?Sized), net: &mut Net) {
        let Some(slot) = self.free.pop_front() else { return };
        self.outstanding += 1;
        net.tick();
        let state = &mut net.slots[slot];
        (state.busy, state.begun, state.latency) = (true, net.now, None);
        scenario.start(slot, net);
    }

    fn receive(
        &mut self,
        scenario: &mut (impl Scenario + ?Sized),
        net: &mut Net,
        socket: usize,
        datagram: &[u8],
    ) {
        let Some(message) = Message::read(datagram) else {
            return;
        };
        let slot = message
            .key()
            .map(|(slot, _)| slot)
            .filter(|slot| *slot < net.slots.len());
        let progress = slot.map_or(Progress::Stray, |slot| {
            scenario.receive(slot, socket, &message, net)
        });
        let Some(slot) = slot else {
            return self.report.strays += 1;
        };
        let latency = u32::try_from(net.now - net.slots[slot].begun).unwrap_or(u32::MAX);
        match progress {
            Progress::Open => {}
            Progress::Stray => self.report.strays += 1,
            Progress::Reached => net.slots[slot].latency = Some(latency),
            Progress::Completed => {
                self.report.completed_total += 1;
                if self.is_measuring() {
                    self.report.completed += 1;
                    self.report
                        .latencies
                        .push(net.slots[slot].latency.unwrap_or(latency));
                }
                self.finish(slot, net);
            }
            Progress::Failed(reason) => {
                self.report.fail(&reason);
                self.finish(slot, net);
            }
        }
    }

    fn finish(&mut self, slot: usize, net: &mut Net) {
        net.slots[slot].busy = false;
        net.slots[slot].due = 0;
        self.outstanding -= 1;
        self.free.push_back(slot);
    }

    /// Sends again what is due, and gives up what is too old.
    fn sweep(&mut self, net: &mut Net) {
        for slot in 0..net.slots.len() {
            let state = &mut net.slots[slot];
            if !state.busy {
                continue;
            }
            if net.now - state.begun > GIVE_UP {
                self.report.fail("timeout");
                self.finish(slot, net);
            } else if state.due != 0 && net.now >= state.due {
                state.interval = (state.interval * 2).min(T2);
                state.due = net.now + state.interval;
                net.retransmissions += 1;
                let _ = net.sockets[state.socket].send(&state.request);
            }
        }
    }
}

impl Net {
    /// Opens `count` sockets for each of `networks`, all connected to `server`: the first network's sockets come first.
    /// Socket `i` of network `127.0.N` is 127.0.N.(1+i), so that no limit per source is met.
    pub(crate) fn open(server: SocketAddr, networks: &[u8], count: u8) -> anyhow::Result<Net> {
        let addresses = networks
            .iter()
            .flat_map(|network| (1..=count).map(|host| [127, 0, *network, host]));
        let locals: Vec<_> = addresses
            .map(|octets| SocketAddrV4::new(Ipv4Addr::from(octets), PORT))
            .collect();
        let sockets = locals
            .iter()
            .map(|local| bind(*local, Some(server)))
            .collect::<Result<_, _>>()?;
        Ok(Net {
            sockets,
            addresses: locals.iter().map(SocketAddrV4::to_string).collect(),
            slots: Vec::new(),
            started: Instant::now(),
            now: 1,
            challenged: 0,
            retransmissions: 0,
        })
    }

    /// The address of a socket as it stands in Via and Contact.
    pub(crate) fn address(&self, socket: usize) -> &[u8] {
        self.addresses[socket].as_bytes()
    }

    /// Sends what `write` puts together, and sends it again until [`Net::stop`] or the next request of the slot.
    pub(crate) fn request(&mut self, slot: usize, socket: usize, write: impl FnOnce(&mut Vec<u8>)) {
        let state = &mut self.slots[slot];
        state.request.clear();
        write(&mut state.request);
        (state.socket, state.interval, state.due) = (socket, T1, self.now + T1);
        let _ = self.sockets[socket].send(&state.request);
    }

    /// Stops sending again what the slot last sent reliably, if that was from `socket`.
    pub(crate) fn stop(&mut self, slot: usize, socket: usize) {
        if self.slots[slot].socket == socket {
            self.slots[slot].due = 0;
        }
    }

    /// Sends once. What the kernel refuses counts as lost: the other side repeats.
    pub(crate) fn send(&mut self, socket: usize, datagram: &[u8]) {
        let _ = self.sockets[socket].send(datagram);
    }

    fn tick(&mut self) {
        self.now = nanoseconds(self.started.elapsed()) + 1;
    }

    fn reset(&mut self, slots: usize) {
        self.slots = vec![Slot::default(); slots];
        (self.challenged, self.retransmissions) = (0, 0);
        self.tick();
    }
}

/// A non-blocking socket with room for bursts.
pub(crate) fn bind(local: SocketAddrV4, peer: Option<SocketAddr>) -> anyhow::Result<UdpSocket> {
    let open = || -> io::Result<UdpSocket> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
        socket.set_recv_buffer_size(BUFFER)?;
        socket.set_send_buffer_size(BUFFER)?;
        socket.bind(&local.into())?;
        if let Some(peer) = peer {
            socket.connect(&peer.into())?;
        }
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    };
    let socket =
        open().with_context(|| format!("cannot open UDP {local}; does another run still hold it?"))?;
    let granted = socket2::SockRef::from(&socket).recv_buffer_size()?;
    ensure!(
        granted >= BUFFER,
        "receive buffers of {granted} bytes: raise net.core.rmem_max to {BUFFER}"
    );
    Ok(socket)
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Source port of every signalling socket: outside of the ephemeral range and of the relays' ports.
const PORT: u16 = 7060;
/// `SO_RCVBUF` and `SO_SNDBUF`, bytes: smaller ones lose packets in bursts and it looks like the server's loss.
const BUFFER: usize = 4 << 20;
/// Datagrams read from one socket before the next one has its turn.
const READS_PER_SOCKET: usize = 16;
/// RFC 3261's T1 and T2, nanoseconds.
const T1: u64 = 500_000_000;
const T2: u64 = 4_000_000_000;
/// A unit that takes longer has failed, nanoseconds.
const GIVE_UP: u64 = 8_000_000_000;
/// How often retransmissions are looked for, nanoseconds.
const SWEEP: u64 = 50_000_000;
/// How long the units under way may take once no more are begun, nanoseconds.
const DRAIN: u64 = 2_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        register::Options,
        users::{Realm, users},
    };

    /// A server that loses the first datagram and answers the others with 200, `answers` times in all.
    fn server(answers: usize) -> (SocketAddr, std::thread::JoinHandle<()>) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let serve = move || {
            let mut buffer = [0; 2048];
            socket.recv(&mut buffer).unwrap();
            for _ in 0..answers {
                let (length, peer) = socket.recv_from(&mut buffer).unwrap();
                let request = std::str::from_utf8(&buffer[..length]).unwrap();
                let (_, headers) = request.split_once("\r\n").unwrap();
                socket
                    .send_to(format!("SIP/2.0 200 OK\r\n{headers}").as_bytes(), peer)
                    .unwrap();
            }
        };
        (address, std::thread::spawn(serve))
    }

    #[test]
    fn counts_units_and_sends_again_what_was_lost() {
        let (address, server) = server(500);
        let mut net = Net::open(address, &[TEST_NETWORK], 2).unwrap();
        let realm = Realm {
            domain: b"example.org".to_vec(),
            password: Vec::new(),
        };
        let mut options = Options::new(users(&realm, &net, 'u', 20, 0, 2), &realm);
        let (warmup, duration) = (Duration::ZERO, Duration::from_secs(30));
        let pacing = Pacing {
            rate: None,
            outstanding: 8,
            count: 500,
            warmup,
            duration,
        };
        let mut report = drive(&mut options, &mut net, 20, &pacing, &[]);
        server.join().unwrap();
        assert_eq!((report.completed_total, report.completed), (500, 500));
        assert!(report.retransmissions >= 1, "the first datagram was lost");
        assert_eq!(report.json("options", "closed")["failed"], 0);
        assert_eq!(report.latencies.len(), 500);
    }

    const TEST_NETWORK: u8 = 9;
}
