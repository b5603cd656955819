use proptest::prelude::*;

use super::*;

/// What a server says that is broken, lies, or is none.
#[derive(Clone, Debug)]
struct Lie {
    silent: bool,
    class: u8,
    attributes: Vec<(u8, u8)>,
    from: u8,
    socket: usize,
    /// Cut off behind so many bytes.
    cut: Option<usize>,
}

fn lie() -> impl Strategy<Value = Lie> {
    (
        any::<bool>(),
        0..4u8,
        proptest::collection::vec((0..6u8, 0..5u8), 0..4),
        0..5u8,
        0..4usize,
        prop::option::weighted(0.1, 0..60usize),
    )
        .prop_map(|(silent, class, attributes, from, socket, cut)| Lie {
            silent,
            class,
            attributes,
            from,
            socket,
            cut,
        })
}

fn address(number: u8) -> SocketAddr {
    match number {
        0 => server_address(),
        1 => "203.0.113.11:3479".parse().unwrap(),
        2 => host(0),
        3 => "[2001:db8::1]:1".parse().unwrap(),
        _ => "0.0.0.0:0".parse().unwrap(),
    }
}

fn told(lie: &Lie, id: TransactionId) -> Vec<u8> {
    let class = [Class::Success, Class::Success, Class::Error, Class::Request][usize::from(lie.class)];
    let mut buffer = vec![0; 500];
    let mut writer = Writer::new(&mut buffer, class, Method::BINDING, id);
    for &(kind, value) in &lie.attributes {
        let address = address(value);
        match kind {
            0 => writer.xor_address(AttributeType::XOR_MAPPED_ADDRESS, address),
            1 => writer.address(AttributeType::MAPPED_ADDRESS, address),
            2 => writer.address(AttributeType::OTHER_ADDRESS, address),
            3 => writer.address(AttributeType::CHANGED_ADDRESS, address),
            4 => writer.attribute(AttributeType::XOR_MAPPED_ADDRESS, &[value]),
            _ => writer.error(420, ""),
        }
    }
    let length = writer.finish().unwrap();
    buffer.truncate(lie.cut.map_or(length, |cut| cut.min(length)));
    buffer
}

fn listen(machine: &mut dyn Machine, start: Instant, lies: &[Lie]) -> Result<(), TestCaseError> {
    let (mut now, mut buffer) = (start, [0; REQUEST]);
    let mut lies = lies.iter().cycle();
    for _ in 0..1000 {
        while let Some(transmit) = machine.poll_transmit(now, &mut buffer) {
            let request = Message::parse(&buffer[..transmit.length]).unwrap();
            let lie = lies.next().unwrap();
            if !lie.silent {
                let bytes = told(lie, request.transaction_id());
                now += Duration::from_millis(1);
                machine.handle_datagram(now, lie.socket, address(lie.from), &bytes);
            }
        }
        let Some(next) = machine.poll_timeout() else {
            return Ok(());
        };
        now = now.max(next);
        machine.handle_timeout(now);
    }
    Err(TestCaseError::fail("the machine does not end"))
}

proptest! {
    #[test]
    fn whatever_a_server_says_the_machines_end(lies in proptest::collection::vec(lie(), 1..20)) {
        let (now, seed, timing) = (Instant::now(), [1; 16], Timing::default());
        let mut classification = Classification::new(now, server_address(), host(0), seed, timing);
        listen(&mut classification, now, &lies)?;
        let mut behaviour = Behaviour::new(now, server_address(), host(0), seed, timing);
        listen(&mut behaviour, now, &lies)?;
        if behaviour.report().reachable == Verdict::No {
            prop_assert_eq!(behaviour.report().mapped, None);
        }
        let mut lifetime = Lifetime::new(now, server_address(), &Lifetime::TIMES[..3], seed, timing);
        listen(&mut lifetime, now, &lies)?;
    }
}
