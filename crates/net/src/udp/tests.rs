//! Two sockets on loopback, and sometimes nobody at the other end.

use std::{
    net::{Ipv4Addr, Ipv6Addr, UdpSocket as StdSocket},
    time::Duration,
};

use super::*;

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn bind(text: &str) -> UdpSocket {
    UdpSocket::bind(address(text), &UdpOptions::default()).expect("a socket")
}

fn peer(text: &str) -> StdSocket {
    let socket = StdSocket::bind(text).expect("a peer");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket
}

/// Waits until the socket is readable or has an error.
fn wait(socket: &UdpSocket) {
    let mut poll = libc::pollfd {
        fd: socket.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one live pollfd.
    let ready = unsafe { libc::poll(&raw mut poll, 1, 5_000) };
    assert_eq!(ready, 1, "nothing happened on the socket");
}

fn receive_all(socket: &UdpSocket, count: usize) -> Vec<(SocketAddr, SocketAddr, Vec<u8>)> {
    let mut batch = RecvBatch::new();
    let mut all = Vec::new();
    while all.len() < count {
        wait(socket);
        socket.recv_batch(&mut batch).expect("a batch");
        all.extend(batch.iter().map(|d| (d.local, d.remote, d.bytes.to_vec())));
    }
    all
}

#[test]
fn batches_keep_the_order() {
    let (sender, receiver) = (bind("127.0.0.1:0"), bind("127.0.0.1:0"));
    let messages: Vec<Vec<u8>> = (0..100u32).map(|n| n.to_be_bytes().to_vec()).collect();
    let mut batch = SendBatch::new();
    let items = messages
        .iter()
        .map(|m| (sender.local_addr(), receiver.local_addr(), m.as_slice()));
    assert_eq!(sender.send_batch(&mut batch, items), 100);
    let received = receive_all(&receiver, 100);
    assert!(
        received
            .iter()
            .all(|(_, remote, _)| *remote == sender.local_addr())
    );
    assert_eq!(
        received
            .into_iter()
            .map(|(_, _, bytes)| bytes)
            .collect::<Vec<_>>(),
        messages
    );
}

#[test]
fn an_empty_socket_would_block() {
    let mut batch = RecvBatch::new();
    let error = bind("127.0.0.1:0")
        .recv_batch(&mut batch)
        .expect_err("nothing came");
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    assert!(batch.is_empty());
}

#[test]
fn the_largest_and_the_smallest_datagram_arrive_whole() {
    let (sender, receiver) = (bind("127.0.0.1:0"), bind("127.0.0.1:0"));
    let large = vec![7u8; 65_507];
    let mut batch = SendBatch::new();
    let route = (sender.local_addr(), receiver.local_addr());
    let messages = [
        (route.0, route.1, large.as_slice()),
        (route.0, route.1, &[]),
        (route.0, route.1, &[1]),
    ];
    assert_eq!(sender.send_batch(&mut batch, messages), 3);
    let lengths: Vec<usize> = receive_all(&receiver, 3)
        .iter()
        .map(|(_, _, bytes)| bytes.len())
        .collect();
    assert_eq!(lengths, [65_507, 0, 1]);
}

#[test]
fn a_wildcard_socket_answers_from_the_address_that_was_asked() {
    let server = bind("0.0.0.0:0");
    let port = server.local_addr().port();
    let client = peer("127.0.0.1:0");
    for last in [1, 2, 77] {
        let asked = SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), port));
        client.send_to(b"who are you", asked).expect("sent");
        let (local, remote, _) = receive_all(&server, 1).remove(0);
        assert_eq!(local, asked);
        server.send_batch(&mut SendBatch::new(), [(local, remote, b"me".as_slice())]);
        let (_, from) = client.recv_from(&mut [0; 8]).expect("an answer");
        assert_eq!(from, asked);
    }
}

#[test]
fn an_ipv6_wildcard_socket_knows_its_address_and_takes_no_ipv4() {
    let server = bind("[::]:0");
    let port = server.local_addr().port();
    let client = peer("[::1]:0");
    let asked = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    client.send_to(b"who are you", asked).expect("sent");
    let (local, remote, _) = receive_all(&server, 1).remove(0);
    assert_eq!(local, asked);
    server.send_batch(&mut SendBatch::new(), [(local, remote, b"me".as_slice())]);
    assert_eq!(client.recv_from(&mut [0; 8]).expect("an answer").1, asked);
    // The IPv4 port of the same number is still free.
    bind(&format!("0.0.0.0:{port}"));
}

#[test]
fn a_closed_port_is_reported_with_its_address_and_harms_nobody_else() {
    for host in ["127.0.0.1:0", "[::1]:0"] {
        let (sender, receiver) = (bind(host), bind(host));
        let closed = bind(host).local_addr();
        let mut batch = SendBatch::new();
        let local = sender.local_addr();
        assert_eq!(
            sender.send_batch(&mut batch, [(local, closed, b"anybody".as_slice())]),
            1
        );
        // The error waits on the socket now; a message to somebody else must go out all the same.
        let to_receiver = (local, receiver.local_addr(), b"hello".as_slice());
        assert_eq!(sender.send_batch(&mut batch, [to_receiver]), 1);
        assert_eq!(receive_all(&receiver, 1).len(), 1);
        assert_eq!(batch.refused().count(), 0);
        let unreachable = sender.recv_unreachable().expect("an error");
        assert_eq!(unreachable.remote, closed);
        assert_eq!(unreachable.error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(sender.recv_unreachable().is_none());
    }
}

#[test]
fn a_pending_error_does_not_hide_what_arrived() {
    let socket = bind("127.0.0.1:0");
    let closed = bind("127.0.0.1:0").local_addr();
    socket.send_batch(
        &mut SendBatch::new(),
        [(socket.local_addr(), closed, b"anybody".as_slice())],
    );
    peer("127.0.0.1:0")
        .send_to(b"hello", socket.local_addr())
        .expect("sent");
    assert_eq!(receive_all(&socket, 1)[0].2, b"hello");
    assert_eq!(socket.recv_unreachable().expect("an error").remote, closed);
}

#[test]
fn a_message_that_the_system_refuses_is_named_and_the_rest_goes_out() {
    let (sender, receiver) = (bind("0.0.0.0:0"), bind("127.0.0.1:0"));
    let good = (address("127.0.0.1:0"), receiver.local_addr(), b"good".as_slice());
    // An address that is not ours cannot be left from.
    let bad = (address("192.0.2.99:0"), address("127.0.0.1:9"), b"bad".as_slice());
    let mut batch = SendBatch::new();
    assert_eq!(sender.send_batch(&mut batch, [good, bad, good]), 3);
    assert_eq!(receive_all(&receiver, 2).len(), 2);
    let refused: Vec<_> = batch.refused().map(|u| u.remote).collect();
    assert_eq!(refused, [address("127.0.0.1:9")]);
}

#[test]
fn a_port_in_use_is_refused_although_both_would_share() {
    let first = UdpSocket::bind_group(address("127.0.0.1:0"), 2, &UdpOptions::default()).expect("a group");
    assert_eq!(first[0].local_addr(), first[1].local_addr());
    let error = UdpSocket::bind(first[0].local_addr(), &UdpOptions::default()).expect_err("in use");
    assert_eq!(error.source.kind(), io::ErrorKind::AddrInUse);
    assert!(error.to_string().ends_with("the port is in use"), "{error}");
    assert!(error.remedy().contains("ss -lunp"), "{}", error.remedy());
}

#[test]
fn a_group_shares_the_peers_among_its_sockets() {
    let group = UdpSocket::bind_group(address("127.0.0.1:0"), 2, &UdpOptions::default()).expect("a group");
    for _ in 0..64 {
        let client = peer("127.0.0.1:0");
        client.send_to(b"one", group[0].local_addr()).expect("sent");
        client.send_to(b"two", group[0].local_addr()).expect("sent");
    }
    let counts: Vec<usize> = group
        .iter()
        .map(|socket| {
            let mut batch = RecvBatch::new();
            let mut messages: Vec<(SocketAddr, Vec<u8>)> = Vec::new();
            while let Ok(read) = socket.recv_batch(&mut batch) {
                assert!(read > 0);
                messages.extend(batch.iter().map(|d| (d.remote, d.bytes.to_vec())));
            }
            // Both messages of a peer land on the same socket, in order.
            for pair in messages.chunks(2) {
                assert_eq!(pair[0].0, pair[1].0);
                assert_eq!(
                    (pair[0].1.as_slice(), pair[1].1.as_slice()),
                    (&b"one"[..], &b"two"[..])
                );
            }
            messages.len()
        })
        .collect();
    assert_eq!(counts.iter().sum::<usize>(), 128);
    assert!(counts.iter().all(|&count| count > 0), "{counts:?}");
}

#[test]
fn a_task_wakes_for_datagrams_and_for_errors_and_then_sleeps_again() {
    use tokio::{runtime, time::timeout};

    runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(async {
            let closed = bind("127.0.0.1:0").local_addr();
            let socket = bind("127.0.0.1:0").into_async().expect("registered");
            let (local, mut batch) = (socket.local_addr(), RecvBatch::new());
            let peer = peer("127.0.0.1:0");
            for round in 0..3 {
                for _ in 0..BATCH + 1 {
                    peer.send_to(b"hello", local).expect("sent");
                }
                timeout(PATIENCE, socket.wait())
                    .await
                    .expect("awake")
                    .expect("ready");
                assert_eq!(
                    socket.recv_batch(&mut batch).expect("a batch"),
                    BATCH,
                    "round {round}"
                );
                assert_eq!(socket.recv_batch(&mut batch).expect("a batch"), 1);
                assert_eq!(socket.recv_batch(&mut batch).expect("no batch"), 0);
                assert!(
                    timeout(Duration::from_millis(10), socket.wait()).await.is_err(),
                    "nothing has arrived"
                );

                socket.send_batch(&mut SendBatch::new(), [(local, closed, b"anybody".as_slice())]);
                timeout(PATIENCE, socket.wait())
                    .await
                    .expect("awake")
                    .expect("ready");
                assert_eq!(socket.recv_unreachable().expect("an error").remote, closed);
                assert!(socket.recv_unreachable().is_none());
                assert_eq!(socket.recv_batch(&mut batch).expect("no batch"), 0);
                assert!(
                    timeout(Duration::from_millis(10), socket.wait()).await.is_err(),
                    "nothing has arrived"
                );
            }
        });
}

const PATIENCE: Duration = Duration::from_secs(5);
