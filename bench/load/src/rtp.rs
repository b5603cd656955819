//! RTP through the relay: both legs of every call send 172 bytes each 20 ms; every packet is expected at the other leg.
//!
//! Each packet carries its leg, its number and the time it was sent, so that the receiver counts losses, finds packets that
//! came to the wrong call, and measures the delay that the relay adds. Legs send one after the other, evenly spread over the
//! 20 ms. A leg's socket is looked at only while a packet for it is under way.

use std::{
    collections::VecDeque,
    net::{SocketAddr, SocketAddrV4, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::bail;

use crate::{call::Media, cpu::Watch, engine::bind, report::Report};

/// The two telephones of each call. Leg `2n` is call `n`'s caller, leg `2n + 1` its callee.
pub(crate) struct Legs {
    sockets: Vec<UdpSocket>,
}

impl Legs {
    /// Opens the sockets of `calls` calls: each telephone has an address of its own.
    pub(crate) fn open(calls: usize) -> anyhow::Result<Legs> {
        let sockets = (0..calls * 2)
            .map(|leg| bind(address(leg), None))
            .collect::<Result<_, _>>()?;
        Ok(Legs { sockets })
    }

    /// Sends and receives for `warmup` and then `duration`, the part that is measured.
    pub(crate) fn exchange(
        &self,
        media: &[Media],
        warmup: Duration,
        duration: Duration,
        watches: &[Watch],
    ) -> anyhow::Result<Report> {
        if media.len() * 2 != self.sockets.len() {
            bail!("{} of {} calls came up", media.len(), self.sockets.len() / 2);
        }
        for (call, media) in media.iter().enumerate() {
            self.sockets[2 * call].connect(media.caller_sends_to)?;
            self.sockets[2 * call + 1].connect(media.callee_sends_to)?;
        }
        let mut exchange = Exchange {
            sockets: &self.sockets,
            legs: vec![Leg::default(); self.sockets.len()],
            awaited: VecDeque::new(),
            report: Report::default(),
            started: Instant::now(),
            measuring: false,
        };
        exchange.prime();
        exchange.run(warmup, duration, watches);
        Ok(exchange.finish())
    }
}

/// The media addresses of call `call` for its SDP.
pub(crate) fn addresses(call: usize) -> (SocketAddr, SocketAddr) {
    (address(2 * call).into(), address(2 * call + 1).into())
}

fn address(leg: usize) -> SocketAddrV4 {
    SocketAddrV4::new(
        [127, 1, (leg / HOSTS) as u8, (leg % HOSTS + 1) as u8].into(),
        PORT,
    )
}

struct Exchange<'a> {
    sockets: &'a [UdpSocket],
    legs: Vec<Leg>,
    /// Legs for which a packet is under way, the oldest first.
    awaited: VecDeque<usize>,
    report: Report,
    started: Instant,
    measuring: bool,
}

#[derive(Clone, Default)]
struct Leg {
    sent: u32,
    received: u32,
    awaited_until: u64,
}

impl Exchange<'_> {
    /// Both telephones of each call say a first word, which is not counted: a relay may wait for it where it has no reason to
    /// believe the address in the SDP, which here is another than that of the signalling.
    fn prime(&mut self) {
        (0..self.legs.len()).for_each(|leg| self.send(leg));
        std::thread::sleep(Duration::from_nanos(DRAIN));
        let mut packet = [0u8; SIZE + 1];
        for (socket, leg) in self.sockets.iter().zip(&mut self.legs) {
            while socket.recv(&mut packet).is_ok() {}
            leg.awaited_until = 0;
        }
        self.awaited.clear();
        self.started = Instant::now();
    }

    fn run(&mut self, warmup: Duration, duration: Duration, watches: &[Watch]) {
        let warm = warmup.as_nanos() as u64;
        let end = warm + duration.as_nanos() as u64;
        let step = INTERVAL / self.legs.len() as u64;
        let (mut count, mut opened, mut before) = (0u64, 0, Vec::new());
        loop {
            let now = self.now();
            if !self.measuring && now >= warm {
                before = watches.iter().map(Watch::sample).collect();
                self.measuring = true;
                opened = self.now();
            }
            if now >= end {
                break;
            }
            for _ in 0..SENDS_PER_TURN {
                let due = count * step;
                if due > self.now() {
                    break;
                }
                if self.measuring {
                    self.report
                        .lateness
                        .push(u32::try_from(self.now() - due).unwrap_or(u32::MAX));
                }
                self.send((count % self.legs.len() as u64) as usize);
                count += 1;
            }
            self.receive_awaited();
        }
        for (watch, before) in watches.iter().zip(before) {
            self.report
                .cpu
                .insert(watch.name.clone(), watch.sample().saturating_sub(before));
        }
        self.report.nanoseconds = self.now() - opened;
        self.measuring = false;
        while self.now() < end + DRAIN {
            (0..self.legs.len()).for_each(|leg| while self.receive(leg) {});
        }
    }

    fn send(&mut self, leg: usize) {
        let now = self.now();
        let number = self.legs[leg].sent;
        self.legs[leg].sent += 1;
        let mut packet = [0x55u8; SIZE];
        packet[..2].copy_from_slice(&[0x80, 0]);
        packet[2..4].copy_from_slice(&(number as u16).to_be_bytes());
        packet[4..8].copy_from_slice(&(number.wrapping_mul(160)).to_be_bytes());
        packet[8..12].copy_from_slice(&(leg as u32).to_be_bytes());
        packet[12..20].copy_from_slice(&now.to_be_bytes());
        let _ = self.sockets[leg].send(&packet);
        let other = leg ^ 1;
        if self.legs[other].awaited_until == 0 {
            self.awaited.push_back(other);
        }
        self.legs[other].awaited_until = now + INTERVAL;
    }

    /// Looks once at each leg for which a packet is under way.
    fn receive_awaited(&mut self) {
        for _ in 0..self.awaited.len() {
            let Some(leg) = self.awaited.pop_front() else {
                return;
            };
            let arrived = self.receive(leg);
            if arrived || self.now() >= self.legs[leg].awaited_until {
                while self.receive(leg) {}
                self.legs[leg].awaited_until = 0;
            } else {
                self.awaited.push_back(leg);
            }
        }
    }

    fn receive(&mut self, leg: usize) -> bool {
        let mut packet = [0u8; SIZE + 1];
        let Ok(length) = self.sockets[leg].recv(&mut packet) else {
            return false;
        };
        let field = |from: usize| {
            packet[from..from + 8]
                .try_into()
                .map(u64::from_be_bytes)
                .unwrap_or_default()
        };
        let source = (field(8) >> 32) as usize;
        if length != SIZE || source != leg ^ 1 {
            self.report.fail("packet at the wrong leg");
            return true;
        }
        self.legs[leg].received += 1;
        self.report.completed_total += 1;
        if self.measuring {
            self.report.completed += 1;
            let delay = self.now().saturating_sub(field(12));
            self.report
                .latencies
                .push(u32::try_from(delay).unwrap_or(u32::MAX));
        }
        true
    }

    /// Counts what was sent and did not arrive.
    fn finish(mut self) -> Report {
        for leg in 0..self.legs.len() {
            // The first word is not among them.
            let sent = self.legs[leg ^ 1].sent.saturating_sub(1);
            let lost = sent.abs_diff(self.legs[leg].received);
            if lost > 0 {
                *self.report.failures.entry("lost".into()).or_default() += u64::from(lost);
            }
        }
        self.report
    }

    fn now(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }
}

/// RTP header and 20 ms of G.711, bytes.
const SIZE: usize = 172;
/// Between two packets of a leg, nanoseconds.
const INTERVAL: u64 = 20_000_000;
/// How long packets may still arrive after the last was sent, nanoseconds.
const DRAIN: u64 = 300_000_000;
/// Sends that are made up in one go when the machine paused.
const SENDS_PER_TURN: usize = 4;
const HOSTS: usize = 250;
/// Source port of every leg: outside of the ephemeral range and of the relays' ports.
const PORT: u16 = 7080;
