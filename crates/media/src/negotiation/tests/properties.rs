//! Whatever is said in whatever order: nothing panics, no port is lost, what the relay does not own stays as it is.

use proptest::prelude::*;

use super::*;

fn carriers() -> impl Strategy<Value = Carrier> {
    prop_oneof![
        Just(Carrier::Invite),
        Just(Carrier::InviteProvisional),
        Just(Carrier::InviteSuccess),
        Just(Carrier::Ack),
        Just(Carrier::Prack),
        Just(Carrier::PrackSuccess),
        Just(Carrier::Update),
        Just(Carrier::UpdateSuccess),
    ]
}

#[derive(Clone, Debug)]
enum Step {
    Says {
        branch: u16,
        from: Role,
        carrier: Carrier,
        sdp: String,
    },
    AddBranch,
    BranchFailed(u16),
    Failed {
        branch: u16,
        sender: Role,
        transaction: Transaction,
    },
    Confirmed(u16),
}

fn roles() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Caller), Just(Role::Callee)]
}

/// Lines as phones write them, m= and c= included, that the relay has to leave alone.
fn other_lines() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("a=rtpmap:101 telephone-event/8000".to_owned()),
        Just("a=ptime:20".to_owned()),
        Just("b=AS:84".to_owned()),
        Just("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz".to_owned()),
        Just("a=ssrc:1 cname:x".to_owned()),
        Just("a=sendonly".to_owned()),
        "a=x-[a-z]{1,8}:[ -~]{0,30}",
    ]
}

fn descriptions() -> impl Strategy<Value = String> {
    let media = prop_oneof![
        (0u16..3, 1_024u16..60_000).prop_map(|(kind, port)| match kind {
            0 => format!("m=audio {port} RTP/AVP 8 101"),
            1 => format!("m=video {port} RTP/AVPF 96"),
            _ => format!("m=image {port} udptl t38"),
        }),
        Just("m=audio 0 RTP/AVP 8".to_owned()),
        Just("m=message 2855 TCP/MSRP *".to_owned()),
    ];
    let owned = prop_oneof![
        Just("a=rtcp:4001".to_owned()),
        Just("a=candidate:1 1 UDP 2130706431 10.0.0.5 4000 typ host".to_owned()),
        Just("a=ice-ufrag:abcd".to_owned()),
        Just("c=IN IP4 10.0.0.5".to_owned()),
    ];
    let line = prop_oneof![3 => other_lines(), 1 => owned];
    let section = (media, proptest::collection::vec(line, 0..8));
    (proptest::collection::vec(section, 0..4), any::<bool>(), 0u8..4).prop_map(|(sections, crlf, address)| {
        let address = ["192.168.1.5", "0.0.0.0", "203.0.113.77", "phone.example.org"][usize::from(address)];
        let mut text = format!("v=0\no=- 1 1 IN IP4 10.0.0.5\ns= \nc=IN IP4 {address}\nt=0 0\n");
        for (media, lines) in sections {
            text += &media;
            text.push('\n');
            lines.into_iter().for_each(|line| text += &(line + "\n"));
        }
        if crlf { text.replace('\n', "\r\n") } else { text }
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let transactions = prop_oneof![
        Just(Transaction::Invite),
        Just(Transaction::Prack),
        Just(Transaction::Update)
    ];
    let sdp = prop_oneof![6 => descriptions(), 1 => Just(String::new()), 1 => "[ -~\r\n]{0,60}"];
    let step = prop_oneof![
        12 => (0u16..3, roles(), carriers(), sdp)
            .prop_map(|(branch, from, carrier, sdp)| Step::Says { branch, from, carrier, sdp }),
        2 => Just(Step::AddBranch),
        1 => (0u16..3).prop_map(Step::BranchFailed),
        2 => (0u16..3, roles(), transactions)
            .prop_map(|(branch, sender, transaction)| Step::Failed { branch, sender, transaction }),
        1 => (0u16..3).prop_map(Step::Confirmed),
    ];
    proptest::collection::vec(step, 0..40)
}

/// The lines that the relay may change, take out or add.
fn is_owned(line: &str) -> bool {
    ["c=", "a=rtcp:", "a=candidate:", "a=ice-"]
        .iter()
        .any(|start| line.starts_with(start))
}

/// A description without what the relay owns.
fn rest(text: &str) -> Vec<String> {
    let without_port = |line: &str| match line.strip_prefix("m=").and_then(|media| media.split_once(' ')) {
        Some((media, rest)) => format!("m={media} {}", rest.split_once(' ').map_or("", |(_, rest)| rest)),
        None => line.to_owned(),
    };
    text.split_inclusive('\n')
        .filter(|line| !is_owned(line))
        .map(without_port)
        .collect()
}

proptest! {
    #[test]
    fn untouched_lines_keep_their_order_and_their_ends(text in descriptions()) {
        let mut call = Call::new(RelayPolicy::Always, CALLER);
        let branch = call.session.add_branch(CALLEE);
        let told = call.says(branch, Role::Caller, Carrier::Invite, &text);
        prop_assert_eq!(rest(&told), rest(&text));
        // And twice the same.
        prop_assert_eq!(call.says(branch, Role::Caller, Carrier::Invite, &text), told.clone());
        // Nobody is told an address that the relay stands in for.
        let sdp = Sdp::parse(told.as_bytes()).unwrap();
        for media in sdp.media().iter().filter(|media| media.port != 0 && media.transport() != MediaTransport::Other) {
            let host = sdp.connection_of(media).unwrap().host;
            prop_assert!(["203.0.113.10", "0.0.0.0"].contains(&host), "{}", told);
            prop_assert!(media.attributes().all(|attribute| !attribute.is_ice()));
        }
    }

    #[test]
    fn no_sequence_of_messages_panics_or_loses_a_port(
        steps in steps(),
        policy in 0u8..3,
        limit in 0usize..12,
    ) {
        let policy = [RelayPolicy::Auto, RelayPolicy::Always, RelayPolicy::Never][usize::from(policy)];
        let mut call = Call::new(policy, CALLER);
        call.pool.limit = Some(limit);
        call.session.add_branch(CALLEE);
        let mut open = std::collections::BTreeMap::new();
        for step in steps {
            match step {
                Step::Says { branch, from, carrier, sdp } => {
                    let _ = call.try_says(Branch(branch), from, carrier, &sdp);
                }
                Step::AddBranch => _ = call.session.add_branch(CALLEE),
                Step::BranchFailed(branch) => call.session.branch_failed(Branch(branch), &mut call.pool),
                Step::Failed { branch, sender, transaction } => {
                    call.session.failed(Branch(branch), sender, transaction, &mut call.pool);
                }
                Step::Confirmed(branch) => call.session.confirmed(Branch(branch), &mut call.pool),
            }
            follow(&mut open, call.commands());
            // What the packet side holds open is what the pool has given.
            let held: Vec<PortId> = open.values().copied().collect();
            prop_assert!(held.iter().all(|id| call.pool.taken.contains(id)), "a released port is still in use");
        }
        call.session.end(&mut call.pool);
        follow(&mut open, call.commands());
        prop_assert!(call.pool.taken.is_empty(), "ports are lost");
        prop_assert!(open.is_empty(), "legs stay open: {:?}", open);
    }
}

/// Keeps the packet side's book: which leg has which ports.
fn follow(open: &mut std::collections::BTreeMap<(u8, Side), PortId>, commands: Vec<Command>) {
    for command in commands {
        match command {
            Command::Open { stream, side, leg } => {
                assert_eq!(
                    open.insert((stream.line, side), leg.ports.id),
                    None,
                    "a leg is opened twice"
                );
            }
            Command::Update { stream, side, leg } => {
                assert_eq!(
                    open.get(&(stream.line, side)),
                    Some(&leg.ports.id),
                    "an update keeps the ports"
                );
            }
            Command::Select { stream, branch } => {
                assert!(
                    open.contains_key(&(stream.line, Side::Callee(branch))),
                    "a closed branch is selected"
                );
            }
            Command::CloseLeg { stream, side } => assert!(open.remove(&(stream.line, side)).is_some()),
            Command::Close { stream } => open.retain(|(line, _), _| *line != stream.line),
            _ => {}
        }
    }
}
