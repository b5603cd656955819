//! Pools of a few ports on loopback addresses of their own.

use std::{collections::HashSet, net::UdpSocket};

use super::*;
use crate::clock;

const PORTS: RangeInclusive<u16> = 41_001..=41_020;

/// A pool on an address that no other test uses, so that tests may run at once.
fn pool(last: u8, options: PortOptions) -> PortPool {
    PortPool::new(IpAddr::from([127, 0, 61, last]), options)
}

fn all(pool: &mut PortPool, now: Instant) -> Vec<PortPair> {
    let mut pairs = Vec::new();
    loop {
        match pool.allocate(now) {
            Ok(pair) => pairs.push(pair),
            Err(PortError::Exhausted { .. }) => return pairs,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn pairs_are_even_distinct_and_within_the_range() {
    let mut pool = pool(1, PortOptions::new(PORTS));
    let pairs = all(&mut pool, clock::now());
    // 41,001 is odd and 41,020 has no partner.
    assert_eq!(pairs.len(), 9);
    let ports: HashSet<u16> = pairs.iter().map(|pair| pair.port).collect();
    assert_eq!(ports, (41_002..=41_018).step_by(2).collect());
    for pair in &pairs {
        assert_eq!(
            pair.rtp.local_addr().expect("an address"),
            SocketAddr::new(pool.address(), pair.port)
        );
        assert_eq!(
            pair.rtcp.local_addr().expect("an address"),
            SocketAddr::new(pool.address(), pair.port + 1)
        );
    }
    assert_eq!((pool.in_use(), pool.pairs()), (9, 9));
}

#[test]
fn a_released_pair_rests_before_it_is_used_again() {
    let start = clock::now();
    for spare in [0, 100] {
        let mut pool = pool(
            2,
            PortOptions {
                spare,
                ..PortOptions::new(PORTS)
            },
        );
        let mut pairs = all(&mut pool, start);
        let pair = pairs.pop().expect("a pair");
        let port = pair.port;
        pool.release(start, pair);
        let early = start + QUARANTINE - Duration::from_millis(1);
        let error = pool.allocate(early).expect_err("it rests");
        assert!(
            matches!(
                error,
                PortError::Exhausted {
                    in_use: 8,
                    resting: 1,
                    pairs: 9,
                    ..
                }
            ),
            "{error:?}"
        );
        assert_eq!(
            pool.allocate(start + QUARANTINE).expect("it has rested").port,
            port
        );
    }
}

#[test]
fn stale_packets_do_not_reach_the_next_call() {
    let start = clock::now();
    let mut pool = pool(3, PortOptions::new(41_000..=41_001));
    let pair = pool.allocate(start).expect("a pair");
    let rtp = pair.rtp.local_addr().expect("an address");
    let old_peer = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    old_peer.send_to(b"before", rtp).expect("sent");
    pool.release(start, pair);
    old_peer.send_to(b"after", rtp).expect("sent");
    let pair = pool.allocate(start + QUARANTINE).expect("the pair");
    assert!(
        pair.rtp.recv_from(&mut [0; 16]).is_err(),
        "the new call's sockets are empty"
    );
    for _ in 0..50 {
        old_peer.send_to(&[0; 172], rtp).expect("sent");
    }
    let received = (0..50)
        .filter(|_| pair.rtp.recv_from(&mut [0; 200]).is_ok())
        .count();
    assert_eq!(received, 50, "and have their full buffer");
}

#[test]
fn a_port_of_another_program_is_skipped_and_tried_again_later() {
    let mut pool = pool(4, PortOptions::new(41_000..=41_003));
    let foreign = UdpSocket::bind(SocketAddr::new(pool.address(), 41_001)).expect("a socket");
    let start = clock::now();
    let pairs = all(&mut pool, start);
    assert_eq!(pairs.iter().map(|pair| pair.port).collect::<Vec<_>>(), [41_002]);
    // The even half was let go when the odd one was taken.
    drop(UdpSocket::bind(SocketAddr::new(pool.address(), 41_000)).expect("it is free"));
    drop(foreign);
    assert!(pool.allocate(start).is_err());
    assert_eq!(pool.allocate(start + FOREIGN_PAUSE).expect("a pair").port, 41_000);
}

#[test]
fn sockets_stay_open_within_the_bound_and_are_closed_when_not_needed() {
    let start = clock::now();
    let mut pool = pool(
        5,
        PortOptions {
            spare: 3,
            ..PortOptions::new(PORTS)
        },
    );
    let address = pool.address();
    let open = || {
        let is_taken = |port| UdpSocket::bind(SocketAddr::new(address, port)).is_err();
        (41_002..=41_018u16)
            .step_by(2)
            .filter(|&port| is_taken(port))
            .count()
    };
    let pairs = all(&mut pool, start);
    assert_eq!(open(), 9);
    for pair in pairs {
        pool.release(start, pair);
    }
    assert_eq!(open(), 3);
    let rested = start + QUARANTINE;
    pool.maintain(rested);
    assert_eq!(open(), 3);
    pool.maintain(rested + SPARE_AGE);
    assert_eq!(open(), 0);
    assert_eq!(all(&mut pool, rested + SPARE_AGE).len(), 9, "no port was lost");
}

#[test]
fn the_order_of_ports_differs_from_pool_to_pool() {
    let order = |last| {
        let mut pool = pool(last, PortOptions::new(41_000..=41_199));
        all(&mut pool, clock::now())
            .iter()
            .map(|pair| pair.port)
            .collect::<Vec<_>>()
    };
    let (first, second) = (order(6), order(7));
    assert_eq!(first.len(), 100);
    assert_ne!(first, second);
    assert!(!first.is_sorted());
}

#[test]
fn an_address_that_is_not_ours_is_an_error_and_loses_no_port() {
    let mut pool = PortPool::new(IpAddr::from([198, 51, 100, 1]), PortOptions::new(41_000..=41_001));
    for _ in 0..3 {
        let error = pool.allocate(clock::now()).expect_err("not ours");
        assert!(matches!(error, PortError::Bind { .. }), "{error:?}");
    }
}

#[test]
fn workers_get_disjoint_parts_of_the_whole_range() {
    for ports in [
        30_000..=39_999,
        41_001..=41_020,
        65_530..=65_535,
        0..=65_535,
        5..=5,
    ] {
        for count in [1, 2, 3, 7] {
            let whole = PortPool::new([127, 0, 0, 1].into(), PortOptions::new(ports.clone()));
            let mut parts: Vec<u16> = PortOptions::new(ports.clone())
                .split(count)
                .into_iter()
                .flat_map(|part| PortPool::new([127, 0, 0, 1].into(), part).closed)
                .collect();
            parts.sort_unstable();
            assert_eq!(parts, whole.closed, "{ports:?} in {count}");
            assert!(parts.iter().all(|port| port % 2 == 0 && *port > 0));
        }
    }
}
