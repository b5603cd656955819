//! What relaying one RTP packet costs, before anything is decided about it: a bare loop over socket pairs, for comparing
//! ways to wait and to read. It justifies the defaults in `net::media` and is the limit line for measurements of the relay.
//!
//!     cargo run --release -p net --example relay_loop [CALLS...]
//!
//! One thread is the phones: each call has two, and each of them sends 50 packets of 172 bytes in a second. The other
//! thread is the relay; its processor time per packet is printed. A run takes 2 s; with the default of 100, 300 and 500
//! calls all is done in less than a minute.

use std::{
    fs, io, mem,
    net::{SocketAddr, UdpSocket},
    os::fd::AsRawFd,
    ptr,
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use net::{
    clock,
    media::{DSCP_MEDIA, MediaSocket, NAP, Pace, Poller, RECEIVE_BUFFER, Ready},
    process,
};

/// One way to run the loop.
#[derive(Clone, Copy)]
struct Way {
    name: &'static str,
    rest: Rest,
    read: Read,
}

#[derive(Clone, Copy)]
enum Rest {
    /// Back to the poller at once.
    Never,
    /// A nap after each poll.
    Always(Duration),
    /// A nap when it pays.
    Paced,
}

#[derive(Clone, Copy)]
enum Read {
    /// One packet per report; the poller reports again if there is more.
    Once,
    /// `recvfrom` until it would block.
    Empty,
    /// `recvmmsg` for four.
    Batch,
}

const WAYS: [Way; 7] = [
    way("epoll, recvfrom until empty", Rest::Never, Read::Empty),
    way("epoll, one recvfrom", Rest::Never, Read::Once),
    way("nap 0.5 ms, recvfrom until empty", Rest::Always(NAP), Read::Empty),
    way("nap 0.5 ms, one recvfrom", Rest::Always(NAP), Read::Once),
    way("nap 0.5 ms, recvmmsg of 4", Rest::Always(NAP), Read::Batch),
    way(
        "nap 0.9 ms, recvfrom until empty",
        Rest::Always(Duration::from_micros(900)),
        Read::Empty,
    ),
    way("paced 0.5 ms, recvfrom until empty", Rest::Paced, Read::Empty),
];

const fn way(name: &'static str, rest: Rest, read: Read) -> Way {
    Way { name, rest, read }
}

fn main() -> io::Result<()> {
    process::raise_open_files()?;
    // Asked before this thread is pinned to one of them.
    let cores = process::cores();
    let (&[relay_core, ..], &[.., phones_core]) = (cores.as_slice(), cores.as_slice()) else {
        return Err(io::Error::other("no core to run on"));
    };
    let mut loads: Vec<usize> = std::env::args()
        .skip(1)
        .filter_map(|argument| argument.parse().ok())
        .collect();
    if loads.is_empty() {
        loads = vec![100, 300, 500];
    }
    println!(
        "{:36} {:>6} {:>9} {:>12} {:>10}",
        "way", "calls", "packets", "µs/packet", "polls/s"
    );
    for calls in loads {
        for way in WAYS {
            let outcome = run(way, calls, phones_core, relay_core)?;
            let packets = outcome.packets.max(1) as f64;
            println!(
                "{:36} {calls:6} {:9} {:12.2} {:10.0}",
                way.name,
                outcome.packets,
                outcome.cpu.as_secs_f64() * 1e6 / packets,
                outcome.polls as f64 / RUN.as_secs_f64(),
            );
        }
    }
    Ok(())
}

struct Outcome {
    packets: u64,
    polls: u64,
    cpu: Duration,
}

fn run(way: Way, calls: usize, phones_core: usize, relay_core: usize) -> io::Result<Outcome> {
    let mut sockets = Vec::new();
    let mut phones = Vec::new();
    for _ in 0..2 * calls {
        let socket = MediaSocket::bind(SocketAddr::from(([127, 0, 0, 1], 0)), RECEIVE_BUFFER, DSCP_MEDIA)?;
        let phone = UdpSocket::bind("127.0.0.1:0")?;
        phone.set_nonblocking(true)?;
        phone.connect(socket.local_addr()?)?;
        sockets.push(socket);
        phones.push(phone);
    }
    // What comes in on one socket of a call leaves from the other one, to the phone at that side.
    let targets = phones
        .iter()
        .map(UdpSocket::local_addr)
        .collect::<io::Result<Vec<_>>>()?;
    let stop = Arc::new(AtomicBool::new(false));
    let polls = Arc::new(AtomicU64::new(0));
    // The relay starts on the phones' core, where it would not get away from under a spinning thread.
    let in_place = Arc::new(Barrier::new(2));
    let relay = {
        let (stop, polls, in_place) = (Arc::clone(&stop), Arc::clone(&polls), Arc::clone(&in_place));
        thread::spawn(move || {
            process::pin_to_core(relay_core)?;
            in_place.wait();
            relay(way, &sockets, &targets, &stop, &polls)
        })
    };
    in_place.wait();
    process::pin_to_core(phones_core)?;
    send(&phones, clock::now() + RUN);
    stop.store(true, Ordering::Relaxed);
    let (packets, cpu) = relay
        .join()
        .map_err(|_| io::Error::other("the relay panicked"))??;
    Ok(Outcome {
        packets,
        polls: polls.load(Ordering::Relaxed),
        cpu,
    })
}

fn relay(
    way: Way,
    sockets: &[MediaSocket],
    targets: &[SocketAddr],
    stop: &AtomicBool,
    polls: &AtomicU64,
) -> io::Result<(u64, Duration)> {
    let poller = Poller::new()?;
    for (token, socket) in sockets.iter().enumerate() {
        poller.add(socket, token as u64)?;
    }
    let mut ready = Ready::with_capacity(256);
    let mut pace = Pace::new(NAP);
    let mut batch = Batch::new();
    let mut buffer = [0; 2048];
    let mut packets = 0;
    let before = cpu_time()?;
    while !stop.load(Ordering::Relaxed) {
        poller.wait(&mut ready, Some(Duration::from_millis(100)))?;
        let mut handled = 0;
        for token in ready.tokens() {
            let index = token as usize;
            let (socket, other) = (&sockets[index], index ^ 1);
            match way.read {
                Read::Once => {
                    let (length, _) = socket.recv_from(&mut buffer)?;
                    sockets[other].send_to(&buffer[..length], targets[other])?;
                    handled += 1;
                }
                Read::Empty => {
                    while let Ok((length, _)) = socket.recv_from(&mut buffer) {
                        sockets[other].send_to(&buffer[..length], targets[other])?;
                        handled += 1;
                    }
                }
                Read::Batch => {
                    for (slot, length) in batch.receive(socket) {
                        sockets[other].send_to(&batch.buffers[slot][..length], targets[other])?;
                        handled += 1;
                    }
                }
            }
        }
        packets += handled as u64;
        polls.fetch_add(1, Ordering::Relaxed);
        let nap = match way.rest {
            Rest::Never => Duration::ZERO,
            Rest::Always(nap) => nap,
            Rest::Paced => pace.nap(handled, clock::now()),
        };
        if !nap.is_zero() {
            thread::sleep(nap);
        }
    }
    Ok((packets, cpu_time()? - before))
}

/// Sends for each phone in turn, evenly over the 20 ms, and throws away what it hears.
fn send(phones: &[UdpSocket], until: Instant) {
    let gap = PACKET_TIME / phones.len() as u32;
    let packet = [0x80; 172];
    let mut next = clock::now();
    'run: loop {
        for phone in phones {
            while clock::now() < next {
                std::hint::spin_loop();
            }
            if next > until {
                break 'run;
            }
            next += gap;
            while phone.recv(&mut [0; 256]).is_ok() {}
            // A full buffer is a lost packet, and counted as none by the relay.
            let _ = phone.send(&packet);
        }
    }
}

/// Processor time of the calling thread, by the scheduler's own account.
fn cpu_time() -> io::Result<Duration> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos = text
        .split_whitespace()
        .next()
        .and_then(|field| field.parse().ok());
    nanos
        .map(Duration::from_nanos)
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Room for four packets of one socket.
struct Batch {
    buffers: [[u8; 2048]; 4],
}

impl Batch {
    fn new() -> Self {
        Self {
            buffers: [[0; 2048]; 4],
        }
    }

    fn receive(&mut self, socket: &MediaSocket) -> Vec<(usize, usize)> {
        let mut vectors = self.buffers.each_mut().map(|buffer| libc::iovec {
            iov_base: buffer.as_mut_ptr().cast(),
            iov_len: buffer.len(),
        });
        // SAFETY: these are integers and pointers, for which zero is a value.
        let mut names: [libc::sockaddr_in; 4] = unsafe { mem::zeroed() };
        // SAFETY: as above.
        let mut headers: [libc::mmsghdr; 4] = unsafe { mem::zeroed() };
        for ((header, vector), name) in headers.iter_mut().zip(&mut vectors).zip(&mut names) {
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_name = (&raw mut *name).cast();
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in>() as u32;
        }
        // SAFETY: the headers point to buffers and names of the lengths given, which outlive the call.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                4,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        let count = usize::try_from(count).unwrap_or(0);
        headers[..count]
            .iter()
            .map(|header| header.msg_len as usize)
            .enumerate()
            .collect()
    }
}

const RUN: Duration = Duration::from_secs(2);
const PACKET_TIME: Duration = Duration::from_millis(20);
