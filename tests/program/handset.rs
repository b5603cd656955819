//! A telephone played by hand, whose sound can be measured at any moment: PCMU both ways, a tone out, samples in.
//!
//! The real telephones' recordings do not say what was heard after a hold; this one's do.

use std::f64::consts::TAU;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, spawn};
use std::time::{Duration, Instant};

use crate::process::wait_until;
use crate::site::Site;
use crate::tone::{Recording, Tone};
use crate::wire::{Received, Wire};

/// One account's telephone, with one call at a time.
pub(crate) struct Handset {
    wire: Wire,
    account: String,
    line: Arc<Line>,
    speaker: Option<JoinHandle<()>>,
}

/// What the signalling and the sound share.
struct Line {
    socket: UdpSocket,
    remote: Mutex<Option<SocketAddr>>,
    speaks: AtomicBool,
    ended: AtomicBool,
    samples: Mutex<Vec<f64>>,
}

impl Handset {
    /// At host `host` of the site, registered, silent until a call is answered.
    pub(crate) fn registered(site: &Site, host: u8, account: &str, tone: Tone) -> Self {
        let wire = Wire::new(site.address(host), site.server());
        let registration = wire.register(account, 300);
        assert_eq!(registration.status(), 200, "{}", registration.text);
        let socket =
            UdpSocket::bind((site.address(host), 0)).expect("a free port of a loopback address can be bound");
        socket
            .set_read_timeout(Some(PACKET))
            .expect("a timeout above zero is accepted");
        let line = Arc::new(Line {
            socket,
            remote: Mutex::new(None),
            speaks: AtomicBool::new(true),
            ended: AtomicBool::new(false),
            samples: Mutex::new(Vec::new()),
        });
        let for_speaker = Arc::clone(&line);
        let speaker = Some(spawn(move || for_speaker.run(tone)));
        Self {
            wire,
            account: account.to_owned(),
            line,
            speaker,
        }
    }

    /// Takes the next INVITE: a call, or a new offer within it. Returns the offer.
    #[track_caller]
    pub(crate) fn takes_offer(&self) -> Received {
        let invite = self.wire.request("INVITE", PATIENCE);
        let direction = direction_of(&invite.text);
        let answer = match direction {
            "sendonly" => "recvonly",
            "recvonly" => "sendonly",
            other => other,
        };
        self.line
            .speaks
            .store(matches!(answer, "sendrecv" | "sendonly"), Ordering::Relaxed);
        *self.line.remote.lock().expect("the speaker does not panic") = audio_address(&invite.text);
        let local = self
            .line
            .socket
            .local_addr()
            .expect("a bound socket has an address");
        let sdp = format!(
            "v=0\r\no=- 7 {} IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {} RTP/AVP 0\r\na={answer}\r\n",
            invite
                .header("CSeq")
                .and_then(|cseq| cseq.split(' ').next())
                .unwrap_or("1"),
            local.port(),
            ip = local.ip(),
        );
        self.wire
            .send(&invite.answer(&format!("Contact: {}", self.wire.contact(&self.account)), &sdp));
        self.wire.request("ACK", PATIENCE);
        invite
    }

    /// The direction that the last offer wants, by its name in SDP.
    #[track_caller]
    pub(crate) fn is_put_on_hold(&self) {
        let offer = self.takes_offer();
        let direction = direction_of(&offer.text);
        assert!(
            matches!(direction, "sendonly" | "inactive"),
            "no hold but {direction}:\n{}",
            offer.text
        );
    }

    /// Waits for the end of the call.
    #[track_caller]
    pub(crate) fn is_hung_up(&self) {
        let bye = self.wire.request("BYE", PATIENCE);
        self.wire.send(&bye.respond(200, &[]));
        *self.line.remote.lock().expect("the speaker does not panic") = None;
    }

    /// Seconds of `tone` that come in from now on, for as long as `listening`.
    pub(crate) fn listens(&self, tone: Tone, listening: Duration) -> f64 {
        self.forget();
        std::thread::sleep(listening);
        self.seconds_of(tone)
    }

    /// Waits until a second of `tone` came in, from now on.
    #[track_caller]
    pub(crate) fn hears(&self, tone: Tone) {
        self.forget();
        let heard = wait_until(PATIENCE, || (self.seconds_of(tone) >= 1.0).then_some(()));
        assert!(
            heard.is_some(),
            "no second of {tone:?} but {:.1} s",
            self.seconds_of(tone)
        );
    }

    fn seconds_of(&self, tone: Tone) -> f64 {
        let samples = self
            .line
            .samples
            .lock()
            .expect("the speaker does not panic")
            .clone();
        Recording::of(samples).seconds_of(tone)
    }

    fn forget(&self) {
        self.line
            .samples
            .lock()
            .expect("the speaker does not panic")
            .clear();
    }
}

impl Drop for Handset {
    fn drop(&mut self) {
        self.line.ended.store(true, Ordering::Relaxed);
        if let Some(speaker) = self.speaker.take() {
            // A panic of the speaker has been seen by whoever asked it.
            let _ = speaker.join();
        }
    }
}

impl Line {
    /// Sends a packet every 20 ms, takes in between what comes.
    fn run(&self, tone: Tone) {
        let (mut sequence, begin) = (0u16, Instant::now());
        while !self.ended.load(Ordering::Relaxed) {
            let remote = *self.remote.lock().expect("the test does not panic with the lock");
            if let (Some(remote), true) = (remote, self.speaks.load(Ordering::Relaxed)) {
                // The other side's port may not be open yet.
                let _ = self.socket.send_to(&packet(sequence, tone), remote);
            }
            sequence = sequence.wrapping_add(1);
            self.take_until(begin + PACKET * u32::from(sequence));
        }
    }

    fn take_until(&self, end: Instant) {
        let mut buffer = [0; 2048];
        while Instant::now() < end {
            let Ok((length, _)) = self.socket.recv_from(&mut buffer) else {
                continue;
            };
            // Version 2, no padding, extension or sources, payload type 0.
            if length > 12 && buffer[0] == 0x80 && buffer[1] & 0x7f == 0 {
                let mut samples = self
                    .samples
                    .lock()
                    .expect("the test does not panic with the lock");
                samples.extend(buffer[12..length].iter().map(|byte| expand(*byte)));
            }
        }
    }
}

fn packet(sequence: u16, tone: Tone) -> Vec<u8> {
    let first = u32::from(sequence) * SAMPLES;
    let mut packet = vec![0x80, 0];
    packet.extend(sequence.to_be_bytes());
    packet.extend(first.to_be_bytes());
    packet.extend(0x7e57_7e57_u32.to_be_bytes());
    packet.extend((first..first + SAMPLES).map(|n| {
        let phase = TAU * f64::from(tone.0) * f64::from(n) / 8000.0;
        compress(phase.sin() * 12_000.0)
    }));
    packet
}

/// The µ-law byte of a sample (ITU-T G.711): sign, segment, step, all inverted.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn compress(sample: f64) -> u8 {
    let sign = if sample < 0.0 { 0x80 } else { 0 };
    let biased = (sample.abs().min(32_635.0)) as u16 + 0x84;
    let segment = 8 - biased.leading_zeros() as u8;
    let step = (biased >> (segment + 3)) as u8 & 0x0f;
    !(sign | segment << 4 | step)
}

/// The sample of a µ-law byte.
fn expand(byte: u8) -> f64 {
    let byte = !byte;
    let (segment, step) = (byte >> 4 & 7, f64::from(byte & 0x0f));
    let size = (step * 8.0 + 132.0) * f64::from(1u32 << segment) - 132.0;
    if byte & 0x80 == 0 { size } else { -size }
}

fn direction_of(sdp: &str) -> &'static str {
    let is_nowhere = sdp.lines().any(|line| line == "c=IN IP4 0.0.0.0");
    let named = ["sendonly", "recvonly", "inactive"]
        .into_iter()
        .find(|name| sdp.contains(&format!("a={name}\r\n")));
    named.unwrap_or(if is_nowhere { "sendonly" } else { "sendrecv" })
}

fn audio_address(sdp: &str) -> Option<SocketAddr> {
    let line = |start: &str| sdp.lines().find_map(|line| line.strip_prefix(start));
    let port = line("m=audio ")?.split(' ').next()?.parse().ok()?;
    let ip: std::net::IpAddr = line("c=IN IP4 ")?.trim().parse().ok()?;
    (!ip.is_unspecified()).then_some(SocketAddr::new(ip, port))
}

const PACKET: Duration = Duration::from_millis(20);
/// Samples in a packet: 20 ms at 8000 Hz.
const SAMPLES: u32 = 160;
const PATIENCE: Duration = Duration::from_secs(15);

#[test]
fn companding_keeps_a_tone() {
    let samples: Vec<f64> = (0..50)
        .flat_map(|n| packet(n, crate::tone::LOW)[12..].to_vec())
        .map(expand)
        .collect();
    assert!(Recording::of(samples).seconds_of(crate::tone::LOW) > 0.9);
    for sample in [-32_000.0, -1_000.0, -8.0, 0.0, 8.0, 500.0, 31_000.0] {
        let error = (expand(compress(sample)) - sample).abs();
        assert!(
            error <= sample.abs() / 16.0 + 8.0,
            "{sample} came back as {}",
            expand(compress(sample))
        );
    }
}
