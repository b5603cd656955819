//! `epoll(7)`, level-triggered: a socket that was not read empty is simply reported again.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use crate::sys;

/// Tells which of many sockets can be read.
#[derive(Debug)]
pub struct Poller {
    epoll: OwnedFd,
    wake: Arc<OwnedFd>,
}

/// Room for what one [`Poller::wait`] reports.
pub struct Ready {
    events: Vec<libc::epoll_event>,
    count: usize,
}

/// Ends a [`Poller::wait`] from another thread. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Waker {
    wake: Arc<OwnedFd>,
}

impl Poller {
    /// A poller that watches nothing yet.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers are involved; a valid result is a new descriptor that nobody else owns.
        let epoll = unsafe { OwnedFd::from_raw_fd(sys::check(libc::epoll_create1(libc::EPOLL_CLOEXEC))?) };
        // SAFETY: as above.
        let wake = unsafe {
            OwnedFd::from_raw_fd(sys::check(libc::eventfd(
                0,
                libc::EFD_CLOEXEC | libc::EFD_NONBLOCK,
            ))?)
        };
        let poller = Self {
            epoll,
            wake: Arc::new(wake),
        };
        poller.add(&*poller.wake, WAKE)?;
        Ok(poller)
    }

    /// Watches a socket; `token`, any number but `u64::MAX`, is what it will be reported by.
    pub fn add(&self, socket: &impl AsFd, token: u64) -> io::Result<()> {
        let mut event = libc::epoll_event {
            events: libc::EPOLLIN as u32,
            u64: token,
        };
        // SAFETY: the event lives through the call.
        sys::check(unsafe {
            libc::epoll_ctl(
                self.epoll.as_raw_fd(),
                libc::EPOLL_CTL_ADD,
                socket.as_fd().as_raw_fd(),
                &raw mut event,
            )
        })
        .map(drop)
    }

    /// Watches a socket no longer. To be called before the socket goes back to its pool, where it stays open.
    pub fn remove(&self, socket: &impl AsFd) -> io::Result<()> {
        // SAFETY: this operation takes no event (since Linux 2.6.9).
        sys::check(unsafe {
            libc::epoll_ctl(
                self.epoll.as_raw_fd(),
                libc::EPOLL_CTL_DEL,
                socket.as_fd().as_raw_fd(),
                std::ptr::null_mut(),
            )
        })
        .map(drop)
    }

    /// Waits until a socket can be read, the waker is used, or the time is over (`None`: waits for ever). Rounds a
    /// timeout up to a millisecond, so that it never returns before a timer is due.
    pub fn wait(&self, ready: &mut Ready, timeout: Option<Duration>) -> io::Result<()> {
        let timeout = timeout.map_or(-1, |time| {
            i32::try_from(time.as_nanos().div_ceil(NANOS_PER_MILLI)).unwrap_or(i32::MAX)
        });
        ready.count = 0;
        let capacity = i32::try_from(ready.events.len()).unwrap_or(i32::MAX);
        // SAFETY: the events live through the call and are as many as is said.
        let result = sys::check(unsafe {
            libc::epoll_wait(
                self.epoll.as_raw_fd(),
                ready.events.as_mut_ptr(),
                capacity,
                timeout,
            )
        });
        match result {
            Ok(count) => ready.count = usize::try_from(count).unwrap_or(0),
            // A signal: the caller looks at its timers and comes back.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if ready.events[..ready.count].iter().any(|event| event.u64 == WAKE) {
            let mut value = 0u64;
            // SAFETY: eight bytes are what an eventfd writes. Whether it had been read before does not matter.
            unsafe { libc::read(self.wake.as_raw_fd(), (&raw mut value).cast(), size_of::<u64>()) };
        }
        Ok(())
    }

    /// What ends a wait from another thread.
    pub fn waker(&self) -> Waker {
        Waker {
            wake: Arc::clone(&self.wake),
        }
    }
}

impl Ready {
    /// Room for `capacity` sockets, at least one; more than that are reported by the next wait.
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            events: vec![libc::epoll_event { events: 0, u64: 0 }; capacity.max(1)],
            count: 0,
        }
    }

    /// The tokens of the sockets that can be read or have an error. The waker is not among them.
    pub fn tokens(&self) -> impl Iterator<Item = u64> + '_ {
        self.events[..self.count]
            .iter()
            .map(|event| event.u64)
            .filter(|&token| token != WAKE)
    }

    /// How many there are, the waker included.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether the time was over before anything happened.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl Waker {
    /// Ends the current wait, or else the next one.
    pub fn wake(&self) {
        let one = 1u64;
        // SAFETY: eight bytes are read from a live integer. It can only fail when it was used 2^64 times unheard.
        unsafe { libc::write(self.wake.as_raw_fd(), (&raw const one).cast(), size_of::<u64>()) };
    }
}

/// The token of the waker.
const WAKE: u64 = u64::MAX;
const NANOS_PER_MILLI: u128 = 1_000_000;

#[cfg(test)]
mod tests {
    use std::{net::UdpSocket, thread};

    use super::*;

    fn socket() -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket
            .connect(socket.local_addr().expect("an address"))
            .expect("connected to itself");
        socket
    }

    fn tokens(poller: &Poller, timeout: Option<Duration>) -> Vec<u64> {
        let mut ready = Ready::with_capacity(8);
        poller.wait(&mut ready, timeout).expect("a wait");
        ready.tokens().collect()
    }

    #[test]
    fn a_socket_is_reported_until_it_was_read_empty() {
        let (poller, socket) = (Poller::new().expect("a poller"), socket());
        poller.add(&socket, 7).expect("added");
        assert_eq!(tokens(&poller, Some(Duration::ZERO)), []);
        socket.send(b"x").expect("sent");
        assert_eq!(tokens(&poller, None), [7]);
        assert_eq!(tokens(&poller, None), [7]);
        socket.recv(&mut [0; 8]).expect("received");
        assert_eq!(tokens(&poller, Some(Duration::ZERO)), []);
    }

    #[test]
    fn a_removed_socket_is_not_reported() {
        let (poller, socket) = (Poller::new().expect("a poller"), socket());
        poller.add(&socket, 7).expect("added");
        poller.remove(&socket).expect("removed");
        socket.send(b"x").expect("sent");
        assert_eq!(tokens(&poller, Some(Duration::ZERO)), []);
        poller.add(&socket, 8).expect("added again");
        assert_eq!(tokens(&poller, None), [8]);
    }

    #[test]
    fn the_waker_ends_one_wait() {
        let poller = Poller::new().expect("a poller");
        let waker = poller.waker();
        let other = thread::spawn(move || waker.wake());
        let mut ready = Ready::with_capacity(1);
        poller.wait(&mut ready, None).expect("a wait");
        assert_eq!((ready.len(), ready.tokens().count()), (1, 0));
        other.join().expect("the other thread");
        poller.wait(&mut ready, Some(Duration::ZERO)).expect("a wait");
        assert!(ready.is_empty());
    }
}
