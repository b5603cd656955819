//! Keepalives of the service to telephones behind NAT that register over UDP, so that the way to them stays open.
//!
//! Many NATs forget a mapping after 30 s, and some count only what the telephone itself sends: an OPTIONS makes it answer, CRLF
//! does not. Bindings have no timer of their own. The location service is walked through in small slices at a steady pace, once
//! per interval: each binding has its moment in the interval as long as it lives, and there are no bursts. After a start the
//! first round is faster: nobody has kept the NATs awake since the process before, and a telephone whose NAT has forgotten it
//! cannot be reached until it registers again. Worker `i` of `n` cares
//! for every n-th part.
//!
//! Wait until [`Keepalive::poll_timeout`], then call [`Keepalive::handle_timeout`]. The telephones' answers are recognised by
//! [`is_answer`] and need no transaction: whatever they say, they have kept the way open.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sip::{Message, Outbox, Transport};

use crate::location::{Binding, Location, SHARDS, SLICES};

/// Settings of the keepalives.
#[derive(Clone, Debug)]
pub struct KeepaliveConfig {
    /// Between two keepalives to the same binding; below 30 s, which is what NATs in homes wait. Zero sends none.
    pub interval: Duration,
    /// What is sent.
    pub content: KeepaliveContent,
    /// The address that Via names instead of the local one (a service behind a 1:1 NAT): at most one per family.
    pub advertise: Vec<IpAddr>,
}

/// What a keepalive is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepaliveContent {
    /// A request, so that the telephone sends something as well.
    Options,
    /// Two line ends (RFC 5626 3.5.1 has them from the other side): the least that keeps most NATs open.
    Crlf,
}

impl Default for KeepaliveConfig {
    fn default() -> Self {
        KeepaliveConfig {
            interval: Duration::from_secs(25),
            content: KeepaliveContent::Options,
            advertise: Vec::new(),
        }
    }
}

/// The keepalives of one worker.
pub struct Keepalive {
    config: KeepaliveConfig,
    location: Arc<Location>,
    worker: usize,
    workers: usize,
    /// When step 0 was, in all workers about the same.
    start: Instant,
    /// The next step of this worker, counted from the start; [`STEPS`] of them make an interval.
    step: u64,
    /// Makes the branches unique.
    serial: u64,
    due: Vec<Binding>,
}

impl Keepalive {
    /// The keepalives of worker number `worker` of `workers`. `random` differs from start to start.
    pub fn new(
        config: KeepaliveConfig,
        location: Arc<Location>,
        worker: u8,
        workers: u8,
        now: Instant,
        random: u64,
    ) -> Self {
        let mut keepalive = Keepalive {
            config,
            location,
            worker: worker.into(),
            workers: workers.max(1).into(),
            start: now,
            step: 0,
            serial: random,
            due: Vec::new(),
        };
        keepalive.step = keepalive.own_step(0);
        keepalive
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called; never where keepalives are off.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.config.interval.is_zero() {
            return None;
        }
        let next = self.start + self.time_of(self.step);
        // With nobody to be kept alive, a look now and then is enough.
        Some(if self.location.is_empty() {
            next + IDLE_LOOK
        } else {
            next
        })
    }

    /// Sends what is due by `now`; `unix` is in seconds.
    pub fn handle_timeout(&mut self, now: Instant, unix: u64, out: &mut Outbox) {
        if self.config.interval.is_zero() {
            return;
        }
        let elapsed = now.saturating_duration_since(self.start);
        if elapsed.saturating_sub(self.time_of(self.step)) > self.config.interval {
            // The process slept: one round late is late enough, and all at once would be a burst.
            let steady = elapsed.saturating_sub(self.first_round());
            let steps = steady.as_nanos() / (self.config.interval.as_nanos() / u128::from(STEPS)).max(1);
            self.step = self.own_step(STEPS + u64::try_from(steps).unwrap_or(u64::MAX / 2));
        }
        while self.time_of(self.step) <= elapsed {
            let (part, slice) = (self.step as usize % SHARDS, self.step as usize / SHARDS % SLICES);
            self.step = self.own_step(self.step + 1);
            let wanted = |binding: &Binding| {
                binding.behind_nat() && binding.expires() > unix && binding.transport() == Transport::Udp
            };
            self.location.collect_slice(part, slice, wanted, &mut self.due);
            let due = std::mem::take(&mut self.due);
            for binding in &due {
                self.send(binding, out);
            }
            self.due = due;
            self.due.clear();
        }
    }

    fn send(&mut self, binding: &Binding, out: &mut Outbox) {
        let flow = binding.flow();
        if self.config.content == KeepaliveContent::Crlf {
            return out.push(&flow, b"\r\n\r\n");
        }
        self.serial = self.serial.wrapping_add(1);
        let (serial, contact) = (self.serial, binding.contact());
        let same_family = |ip: &&IpAddr| ip.is_ipv4() == flow.local.is_ipv4();
        let advertised = self.config.advertise.iter().find(same_family).copied();
        let host = SocketAddr::new(advertised.unwrap_or(flow.local.ip()), flow.local.port());
        let domain = binding.aor().rsplit_once('@').map_or("", |(_, domain)| domain);
        out.push_with(&flow, |out| {
            // A Vec takes all.
            let _ = write!(
                out,
                "OPTIONS {contact} SIP/2.0\r\n\
                 Via: SIP/2.0/UDP {host};branch={BRANCH}{serial:x};rport\r\n\
                 Max-Forwards: 70\r\n\
                 From: <sip:{domain}>;tag=k{serial:x}\r\n\
                 To: <{contact}>\r\n\
                 Call-ID: k{serial:x}\r\n\
                 CSeq: 1 OPTIONS\r\n\
                 Content-Length: 0\r\n\r\n"
            );
        });
    }

    /// The first step of this worker from `step` on.
    fn own_step(&self, step: u64) -> u64 {
        // Of a part's steps each one is the same worker's, so the search ends within the parts.
        (step..)
            .find(|step| *step as usize % SHARDS % self.workers == self.worker)
            .unwrap_or(step)
    }

    /// When a step is due, counted from the start.
    fn time_of(&self, step: u64) -> Duration {
        let (first, part) = (self.first_round(), (step % STEPS) as u32);
        match step / STEPS {
            0 => first * part / STEPS as u32,
            round => {
                let whole = u32::try_from(round - 1).unwrap_or(u32::MAX);
                first
                    + self.config.interval.saturating_mul(whole)
                    + self.config.interval * part / STEPS as u32
            }
        }
    }

    fn first_round(&self) -> Duration {
        FIRST_ROUND.min(self.config.interval)
    }
}

/// The response answers a keepalive.
pub fn is_answer(m: Message<'_>) -> bool {
    !m.is_request()
        && m.top_via()
            .is_ok_and(|via| via.branch.is_some_and(|branch| branch.starts_with(BRANCH)))
}

/// Start of the branches of keepalives, which no transaction has.
const BRANCH: &str = "z9hG4bK-keepalive-";

/// Steps that make an interval.
const STEPS: u64 = (SHARDS * SLICES) as u64;

/// How long the first round after a start takes. Longer, and NATs that forget after 30 s would do so; shorter, and a hundred
/// thousand bindings would be a burst.
const FIRST_ROUND: Duration = Duration::from_secs(5);

/// Between two looks at a service without bindings.
const IDLE_LOOK: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::location::BindingParts;
    use crate::location::tests::{beginning, flow, parts};
    use sip::MessageBuf;

    const UNIX: u64 = 2_000_000_000;

    fn location(bindings: usize) -> Arc<Location> {
        let location = Location::new(*b"sixteen bytes ok");
        for i in 0..bindings {
            let (aor, remote) = (
                format!("user{i}@example.org"),
                format!("198.51.100.7:{}", 10_000 + i),
            );
            location.restore(&parts(&aor, "sip:user@192.168.1.10", flow(&remote)));
        }
        Arc::new(location)
    }

    fn keepalive(location: &Arc<Location>, worker: u8, workers: u8, now: Instant) -> Keepalive {
        Keepalive::new(
            KeepaliveConfig::default(),
            Arc::clone(location),
            worker,
            workers,
            now,
            1,
        )
    }

    /// Runs up to `end` and tells when each port was written to.
    fn run(keepalive: &mut Keepalive, from: Instant, length: Duration) -> Vec<(Duration, u16)> {
        let (mut now, mut sent) = (from, Vec::new());
        let mut out = Outbox::new();
        while now <= from + length {
            out.clear();
            keepalive.handle_timeout(now, UNIX, &mut out);
            sent.extend(out.iter().map(|(flow, _)| (now - from, flow.remote.port())));
            now = keepalive
                .poll_timeout()
                .expect("keepalives are on")
                .max(now + Duration::from_millis(1));
        }
        sent
    }

    #[test]
    fn every_binding_is_kept_alive_once_per_interval_whichever_worker() {
        let start = beginning();
        let location = location(2000);
        let mut times = vec![Vec::new(); 2000];
        for worker in 0..3 {
            let mut keepalive = keepalive(&location, worker, 3, start);
            for (time, port) in run(&mut keepalive, start, FIRST_ROUND + Duration::from_millis(74_999)) {
                times[usize::from(port) - 10_000].push(time);
            }
        }
        for times in times {
            assert_eq!(times.len(), 4);
            assert!(
                times[1..]
                    .windows(2)
                    .all(|pair| pair[1] - pair[0] == Duration::from_secs(25)),
                "{times:?}"
            );
        }
    }

    #[test]
    fn after_a_start_every_binding_is_kept_alive_soon() {
        let start = beginning();
        let location = location(2000);
        let mut times = vec![Vec::new(); 2000];
        for worker in 0..3 {
            let mut keepalive = keepalive(&location, worker, 3, start);
            for (time, port) in run(&mut keepalive, start, Duration::from_secs(40)) {
                times[usize::from(port) - 10_000].push(time);
            }
        }
        for times in times {
            assert!(times[0] <= FIRST_ROUND, "{times:?}");
            assert!(times[1] - times[0] <= Duration::from_secs(25), "{times:?}");
        }
    }

    #[test]
    fn they_are_spread_over_the_interval() {
        let start = beginning();
        let location = location(10_000);
        let mut sent = run(
            &mut keepalive(&location, 0, 1, start),
            start,
            FIRST_ROUND + Duration::from_millis(24_999),
        );
        let mut per_second = [0; 25];
        sent.retain(|(time, _)| *time >= FIRST_ROUND);
        sent.iter()
            .for_each(|(time, _)| per_second[(*time - FIRST_ROUND).as_secs() as usize] += 1);
        assert_eq!(sent.len(), 10_000);
        assert!(
            per_second.iter().all(|count| (300..500).contains(count)),
            "{per_second:?}"
        );
    }

    #[test]
    fn a_worker_that_slept_makes_no_burst() {
        let start = beginning();
        let location = location(5000);
        let mut keepalive = keepalive(&location, 0, 1, start);
        let mut out = Outbox::new();
        keepalive.handle_timeout(start + Duration::from_secs(3600), UNIX, &mut out);
        assert!(out.len() < 50, "{} at once", out.len());
        let woken = start + Duration::from_secs(3600);
        assert!(
            keepalive
                .poll_timeout()
                .is_some_and(|next| next <= woken + Duration::from_millis(50))
        );
    }

    #[test]
    fn only_valid_bindings_behind_nat_over_udp_get_one() {
        let location = Location::new(*b"sixteen bytes ok");
        let tcp = sip::Flow {
            transport: Transport::Tcp,
            ..flow("198.51.100.7:2")
        };
        for parts in [
            parts("a@example.org", "sip:a@192.168.1.10", flow("198.51.100.7:1")),
            parts("b@example.org", "sip:b@192.168.1.10", tcp),
            BindingParts {
                behind_nat: false,
                ..parts("c@example.org", "sip:c@198.51.100.7:3", flow("198.51.100.7:3"))
            },
            BindingParts {
                expires: UNIX,
                ..parts("d@example.org", "sip:d@192.168.1.10", flow("198.51.100.7:4"))
            },
        ] {
            location.restore(&parts);
        }
        let start = beginning();
        let sent = run(
            &mut keepalive(&Arc::new(location), 0, 1, start),
            start,
            FIRST_ROUND - Duration::from_millis(1),
        );
        assert_eq!(sent.iter().map(|(_, port)| *port).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn a_keepalive_is_a_request_whose_answer_is_recognised() {
        let location = location(1);
        let start = beginning();
        let mut keepalive = keepalive(&location, 0, 1, start);
        let mut out = Outbox::new();
        keepalive.handle_timeout(start + Duration::from_secs(25), UNIX, &mut out);
        let (_, request) = out.get(0);
        let request = MessageBuf::parse(request).expect("a message");
        let m = request.message();
        assert!(m.validate_request().is_ok());
        assert_eq!(
            (m.method(), m.request_uri()),
            (sip::Method::Options, "sip:user@192.168.1.10")
        );
        assert!(!is_answer(m));
        let mut answer = Vec::new();
        sip::Response::new(m, 404).to_tag("t").write(&mut answer);
        assert!(is_answer(MessageBuf::parse(answer).expect("a message").message()));
    }

    #[test]
    fn a_keepalive_names_the_advertised_address_of_its_family() {
        let config = KeepaliveConfig {
            advertise: ["203.0.113.99", "2001:db8::99"]
                .map(|ip| ip.parse().expect("an address"))
                .into(),
            ..KeepaliveConfig::default()
        };
        let v6 = sip::Flow {
            local: "[2001:db8::2]:5060".parse().expect("an address"),
            remote: "[2001:db8:1::7]:40000".parse().expect("an address"),
            ..flow("198.51.100.7:1")
        };
        for (flow, via) in [(flow("198.51.100.7:1"), "203.0.113.99"), (v6, "[2001:db8::99]")] {
            let location = Location::new(*b"sixteen bytes ok");
            location.restore(&parts("a@example.org", "sip:a@192.168.1.10", flow));
            let start = beginning();
            let mut out = Outbox::new();
            Keepalive::new(config.clone(), Arc::new(location), 0, 1, start, 1).handle_timeout(
                start + Duration::from_secs(25),
                UNIX,
                &mut out,
            );
            let request = MessageBuf::parse(out.get(0).1).expect("a message");
            let top = request.message().top_via().expect("a Via");
            assert_eq!((top.sent_by_host, out.get(0).0.remote), (via, flow.remote));
        }
    }

    #[test]
    fn crlf_and_none_can_be_chosen() {
        let location = location(1);
        let start = beginning();
        let later = start + Duration::from_secs(25);
        let mut out = Outbox::new();
        let config = KeepaliveConfig {
            content: KeepaliveContent::Crlf,
            ..KeepaliveConfig::default()
        };
        Keepalive::new(config, Arc::clone(&location), 0, 1, start, 1).handle_timeout(later, UNIX, &mut out);
        assert_eq!(out.get(0).1, b"\r\n\r\n");
        out.clear();
        let config = KeepaliveConfig {
            interval: Duration::ZERO,
            ..KeepaliveConfig::default()
        };
        let mut off = Keepalive::new(config, location, 0, 1, start, 1);
        off.handle_timeout(later, UNIX, &mut out);
        assert!(out.is_empty() && off.poll_timeout().is_none());
    }
}
