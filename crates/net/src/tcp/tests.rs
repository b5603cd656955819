//! Connections on loopback; the other side is a plain tokio stream.

use std::{future::Future, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    runtime,
};

use super::*;
use crate::clock;

/// An event with its bytes copied.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Opened(Id, SocketAddr),
    Data(Id, Vec<u8>),
    Closed(Id, String),
    Failed(Id, io::ErrorKind),
}

struct Worker {
    connections: Connections,
    address: SocketAddr,
    inbox: Inbox,
    seen: std::collections::VecDeque<Seen>,
}

impl Worker {
    fn new(options: TcpOptions) -> Self {
        let listener = Listener::bind("127.0.0.1:0".parse().expect("an address")).expect("a listener");
        let (address, connections) = (listener.local_addr(), Connections::new(options, 3));
        connections.listen(listener).expect("listening");
        Self {
            connections,
            address,
            inbox: Inbox::new(),
            seen: Default::default(),
        }
    }

    async fn next(&mut self) -> Seen {
        while self.seen.is_empty() {
            timeout(PATIENCE, self.connections.recv(&mut self.inbox))
                .await
                .expect("something happens");
            self.seen.extend(self.inbox.events().map(|event| match event {
                ConnectionEvent::Opened { id, remote, .. } => Seen::Opened(id, remote),
                ConnectionEvent::Data { id, bytes } => Seen::Data(id, bytes.to_vec()),
                ConnectionEvent::Closed { id, reason, .. } => Seen::Closed(id, reason.to_string()),
                ConnectionEvent::Failed { id, error, .. } => Seen::Failed(id, error.kind()),
            }));
        }
        self.seen.pop_front().expect("it is not empty")
    }

    async fn opened(&mut self) -> Id {
        match self.next().await {
            Seen::Opened(id, _) => id,
            other => panic!("expected an opened connection, found {other:?}"),
        }
    }

    /// Everything said on a connection until `count` bytes are there.
    async fn data(&mut self, count: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while all.len() < count {
            match self.next().await {
                Seen::Data(_, bytes) => all.extend(bytes),
                other => panic!("expected data, found {other:?}"),
            }
        }
        all
    }
}

fn run(test: impl Future<Output = ()>) {
    runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(test);
}

fn closed(id: Id, reason: CloseReason) -> Seen {
    Seen::Closed(id, reason.to_string())
}

#[test]
fn what_is_said_on_an_accepted_connection_is_answered_on_it() {
    run(async {
        let mut worker = Worker::new(TcpOptions::default());
        let mut peer = TcpStream::connect(worker.address).await.expect("connected");
        peer.write_all(b"hello").await.expect("written");
        let id = worker.opened().await;
        assert_eq!(id.worker(), 3);
        assert_eq!(worker.next().await, Seen::Data(id, b"hello".to_vec()));
        assert_eq!(
            worker.connections.find(peer.local_addr().expect("an address")),
            Some(id)
        );
        assert!(worker.connections.send(id, b"to "));
        assert!(worker.connections.send(id, b"you"));
        let mut answer = [0; 6];
        peer.read_exact(&mut answer).await.expect("an answer");
        assert_eq!(&answer, b"to you");
        drop(peer);
        assert_eq!(worker.next().await, closed(id, CloseReason::Peer));
        assert!(worker.connections.is_empty());
        assert!(!worker.connections.send(id, b"too late"));
    });
}

#[test]
fn what_is_sent_while_connecting_leaves_when_connected() {
    run(async {
        let mut worker = Worker::new(TcpOptions::default());
        let other = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let remote = other.local_addr().expect("an address");
        let id = worker
            .connections
            .connect(Some([127, 0, 0, 5].into()), remote)
            .expect("room");
        assert_eq!(worker.connections.find(remote), Some(id));
        worker.connections.send(id, b"first");
        worker.connections.send(id, b" second");
        let (mut peer, from) = other.accept().await.expect("accepted");
        assert_eq!(from.ip(), IpAddr::from([127, 0, 0, 5]));
        let mut text = [0; 12];
        peer.read_exact(&mut text).await.expect("the text");
        assert_eq!(&text, b"first second");
        assert_eq!(worker.next().await, Seen::Opened(id, remote));
    });
}

#[test]
fn a_refused_connection_fails_and_is_forgotten() {
    run(async {
        let mut worker = Worker::new(TcpOptions::default());
        let free = Listener::bind("127.0.0.1:0".parse().expect("an address"))
            .expect("a port")
            .local_addr();
        let id = worker.connections.connect(None, free).expect("room");
        worker.connections.send(id, b"anybody");
        assert_eq!(
            worker.next().await,
            Seen::Failed(id, io::ErrorKind::ConnectionRefused)
        );
        assert_eq!(worker.connections.find(free), None);
    });
}

#[test]
fn a_connection_that_is_not_answered_times_out() {
    run(async {
        // A listener with a full backlog answers no more; on loopback that is the only silence there is.
        let deaf = Socket::new(socket2::Domain::IPV4, Type::STREAM, None).expect("a socket");
        deaf.bind(&"127.0.0.1:0".parse::<SocketAddr>().expect("an address").into())
            .expect("bound");
        deaf.listen(0).expect("listening");
        let remote = deaf
            .local_addr()
            .expect("an address")
            .as_socket()
            .expect("an address");
        let mut worker = Worker::new(TcpOptions {
            connect: Duration::from_millis(50),
            ..Default::default()
        });
        let _filling: Vec<_> = (0..4).map(|_| worker.connections.connect(None, remote)).collect();
        loop {
            match worker.next().await {
                Seen::Opened(..) => {}
                Seen::Failed(_, kind) => break assert_eq!(kind, io::ErrorKind::TimedOut),
                other => panic!("unexpected {other:?}"),
            }
        }
    });
}

#[test]
fn a_peer_that_does_not_read_is_cut_off() {
    run(async {
        let mut worker = Worker::new(TcpOptions {
            send_queue: 64 << 10,
            ..Default::default()
        });
        let peer = TcpStream::connect(worker.address).await.expect("connected");
        let id = worker.opened().await;
        let message = [b'x'; 4096];
        let mut taken = 0;
        while worker.connections.send(id, &message) {
            taken += message.len();
            assert!(taken < 64 << 20, "a queue without end");
            tokio::task::yield_now().await;
        }
        assert!(taken >= 64 << 10);
        assert_eq!(worker.next().await, closed(id, CloseReason::Overflow));
        drop(peer);
    });
}

#[test]
fn much_that_is_sent_arrives_whole_and_in_order() {
    run(async {
        let worker = &mut Worker::new(TcpOptions::default());
        let mut peer = TcpStream::connect(worker.address).await.expect("connected");
        let id = worker.opened().await;
        let mut sent = Vec::new();
        let mut received = Vec::new();
        let mut chunk = vec![0; 100_000];
        for round in 0..60u8 {
            let message = vec![round; 50_000];
            sent.extend_from_slice(&message);
            assert!(worker.connections.send(id, &message));
            while received.len() + 100_000 < sent.len() {
                let count = peer.read(&mut chunk).await.expect("bytes");
                received.extend_from_slice(&chunk[..count]);
            }
        }
        worker.connections.close(id);
        peer.read_to_end(&mut received).await.expect("the rest");
        assert!(received == sent, "{} bytes of {}", received.len(), sent.len());
    });
}

#[test]
fn a_worker_that_is_slow_slows_its_peers() {
    run(async {
        let mut worker = Worker::new(TcpOptions {
            inbox: 32 << 10,
            ..Default::default()
        });
        let mut peer = TcpStream::connect(worker.address).await.expect("connected");
        worker.opened().await;
        let written = tokio::spawn(async move {
            let mut written = 0;
            // Ends when nobody reads for a while: the kernel's buffers are full.
            while let Ok(result) = timeout(Duration::from_millis(200), peer.write(&[b'x'; 65_536])).await {
                written += result.expect("written");
                assert!(written < 256 << 20, "a queue without end");
            }
            (peer, written)
        });
        let (_peer, written) = written.await.expect("the writer");
        assert_eq!(
            worker.data(written).await.len(),
            written,
            "nothing is lost by waiting"
        );
    });
}

#[test]
fn silent_connections_are_closed() {
    run(async {
        let options = TcpOptions {
            first_data: Duration::from_millis(20),
            ..Default::default()
        };
        let mut worker = Worker::new(options);
        let _peer = TcpStream::connect(worker.address).await.expect("connected");
        let id = worker.opened().await;
        assert_eq!(worker.next().await, closed(id, CloseReason::Idle));
    });
}

#[test]
fn idle_connections_are_closed_and_busy_ones_are_not() {
    run(async {
        let limit = Duration::from_millis(200);
        let mut worker = Worker::new(TcpOptions {
            idle: limit,
            ..Default::default()
        });
        let mut peer = TcpStream::connect(worker.address).await.expect("connected");
        let id = worker.opened().await;
        for _ in 0..8 {
            peer.write_all(b"x").await.expect("written");
            assert_eq!(worker.next().await, Seen::Data(id, b"x".to_vec()));
            sleep(limit / 8).await;
        }
        let last = clock::now();
        assert_eq!(worker.next().await, closed(id, CloseReason::Idle));
        assert!(last.elapsed() > limit / 2);
    });
}

#[test]
fn the_last_words_arrive_although_the_peer_kept_talking() {
    run(async {
        let mut worker = Worker::new(TcpOptions::default());
        let mut peer = TcpStream::connect(worker.address).await.expect("connected");
        peer.write_all(b"nonsense").await.expect("written");
        let id = worker.opened().await;
        worker.data(8).await;
        peer.write_all(&[b'x'; 100_000]).await.expect("written");
        worker.connections.send(id, b"400 Bad Request");
        worker.connections.close(id);
        let mut text = Vec::new();
        peer.read_to_end(&mut text).await.expect("no reset");
        assert_eq!(text, b"400 Bad Request");
        drop(peer);
        loop {
            match worker.next().await {
                Seen::Data(..) => {}
                other => break assert_eq!(other, closed(id, CloseReason::Local)),
            }
        }
    });
}

#[test]
fn a_source_gets_its_share_of_connections_and_no_more() {
    run(async {
        let mut worker = Worker::new(TcpOptions {
            per_source: 2,
            ..Default::default()
        });
        let first = TcpStream::connect(worker.address).await.expect("connected");
        let _second = TcpStream::connect(worker.address).await.expect("connected");
        let id = worker.opened().await;
        worker.opened().await;
        let mut third = TcpStream::connect(worker.address).await.expect("connected");
        assert!(
            matches!(third.read(&mut [0; 1]).await, Ok(0) | Err(_)),
            "it is closed at once"
        );
        assert_eq!(worker.connections.turned_away(), 1);
        drop(first);
        assert_eq!(worker.next().await, closed(id, CloseReason::Peer));
        let _fourth = TcpStream::connect(worker.address).await.expect("connected");
        worker.opened().await;
    });
}

#[test]
fn more_connections_than_allowed_are_not_opened() {
    run(async {
        let mut worker = Worker::new(TcpOptions {
            connections: 1,
            ..Default::default()
        });
        let _stranger = TcpStream::connect(worker.address).await.expect("connected");
        worker.opened().await;
        let mut second = TcpStream::connect(worker.address).await.expect("connected");
        assert!(
            matches!(second.read(&mut [0; 1]).await, Ok(0) | Err(_)),
            "it is closed at once"
        );
        // Strangers do not take the place of our own.
        let other = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let remote = other.local_addr().expect("an address");
        worker.connections.connect(None, remote).expect("room");
        assert_eq!(
            worker.connections.connect(None, remote),
            Err(OpenError::TooMany(1))
        );
    });
}

#[test]
fn dropping_the_manager_closes_everything() {
    run(async {
        let mut worker = Worker::new(TcpOptions::default());
        let mut peer = TcpStream::connect(worker.address).await.expect("connected");
        worker.opened().await;
        let address = worker.address;
        drop(worker);
        assert!(matches!(
            timeout(PATIENCE, peer.read(&mut [0; 1])).await,
            Ok(Ok(0) | Err(_))
        ));
        timeout(PATIENCE, async {
            while TcpStream::connect(address).await.is_ok() {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("the listener is gone");
    });
}

#[test]
fn a_port_in_use_is_refused_although_both_would_share() {
    let group = Listener::bind_group("127.0.0.1:0".parse().expect("an address"), 2).expect("a group");
    let error = Listener::bind(group[0].local_addr()).expect_err("in use");
    assert_eq!(error.source.kind(), io::ErrorKind::AddrInUse);
}

#[test]
fn any_stream_can_become_a_connection() {
    run(async {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let connections = Connections::new(TcpOptions::default(), 0);
        let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let id = connections
            .attach(ours, address("192.0.2.1:5061"), address("192.0.2.2:40000"))
            .expect("room");
        connections.send(id, b"through anything");
        let mut text = [0; 16];
        theirs.read_exact(&mut text).await.expect("the text");
        assert_eq!(&text, b"through anything");
    });
}

const PATIENCE: Duration = Duration::from_secs(10);
