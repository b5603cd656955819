use proptest::prelude::*;

use super::*;
use crate::attribute::{read_error_code, read_xor_address};
use crate::message::TransactionId;

const CLIENT: &str = "198.51.100.7:40000";

fn server() -> Server {
    let config = Config {
        alternate: Some("203.0.113.11:3479".parse().unwrap()),
        ..Config::new("203.0.113.10:3478".parse().unwrap())
    };
    Server::new(config, [1; 16], Instant::now()).unwrap()
}

fn single() -> Server {
    Server::new(
        Config::new("203.0.113.10:3478".parse().unwrap()),
        [1; 16],
        Instant::now(),
    )
    .unwrap()
}

fn modern() -> TransactionId {
    TransactionId::new(*b"abcdefghijkl")
}

fn classic() -> TransactionId {
    TransactionId::classic(*b"classic id of 16")
}

fn request(id: TransactionId, fill: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut buffer = vec![0; 3000];
    let mut writer = Writer::new(&mut buffer, Class::Request, Method::BINDING, id);
    fill(&mut writer);
    let length = writer.finish().unwrap();
    buffer.truncate(length);
    buffer
}

struct Answer {
    bytes: Vec<u8>,
    transmit: Transmit,
}

impl Answer {
    fn message(&self) -> Message<'_> {
        Message::parse(&self.bytes).unwrap()
    }

    fn plain(&self, kind: AttributeType) -> Option<String> {
        self.message()
            .value(kind)
            .map(|value| read_address(value).unwrap().to_string())
    }

    fn error(&self) -> u16 {
        let message = self.message();
        assert_eq!(message.class(), Class::Error);
        read_error_code(message.value(AttributeType::ERROR_CODE).unwrap())
            .unwrap()
            .0
    }

    fn kinds(&self) -> Vec<AttributeType> {
        self.message()
            .attributes()
            .map(|attribute| attribute.kind)
            .collect()
    }
}

fn ask(server: &mut Server, bytes: &[u8], at: Socket) -> Option<Answer> {
    let mut buffer = vec![0; 1500];
    let from = CLIENT.parse().unwrap();
    let transmit = server.handle_datagram(server_start(server), bytes, from, at, &mut buffer)?;
    buffer.truncate(transmit.length);
    Some(Answer {
        bytes: buffer,
        transmit,
    })
}

/// Time stands still in these tests.
fn server_start(server: &Server) -> Instant {
    server.budget.start()
}

fn must(server: &mut Server, bytes: &[u8]) -> Answer {
    ask(server, bytes, Socket::PRIMARY).expect("an answer")
}

#[test]
fn a_request_of_today_gets_the_xored_address_back_from_where_it_was_sent_to() {
    let answer = must(&mut single(), &request(modern(), |_| {}));
    assert_eq!(answer.kinds(), [AttributeType::XOR_MAPPED_ADDRESS]);
    assert_eq!(answer.message().class(), Class::Success);
    assert_eq!(answer.message().transaction_id(), modern());
    let value = answer.message().value(AttributeType::XOR_MAPPED_ADDRESS).unwrap();
    assert_eq!(read_xor_address(value, &modern()), Some(CLIENT.parse().unwrap()));
    assert_eq!(
        (answer.transmit.from, answer.transmit.to),
        (Socket::PRIMARY, CLIENT.parse().unwrap())
    );
}

#[test]
fn a_classic_request_gets_the_three_plain_addresses_and_nothing_newer() {
    let answer = must(&mut server(), &request(classic(), |_| {}));
    assert_eq!(
        answer.kinds(),
        [
            AttributeType::MAPPED_ADDRESS,
            AttributeType::SOURCE_ADDRESS,
            AttributeType::CHANGED_ADDRESS
        ]
    );
    assert_eq!(
        answer.plain(AttributeType::MAPPED_ADDRESS).as_deref(),
        Some(CLIENT)
    );
    assert_eq!(
        answer.plain(AttributeType::SOURCE_ADDRESS).as_deref(),
        Some("203.0.113.10:3478")
    );
    assert_eq!(
        answer.plain(AttributeType::CHANGED_ADDRESS).as_deref(),
        Some("203.0.113.11:3479")
    );
    assert_eq!(answer.message().transaction_id(), classic());
}

/// Table 1 of RFC 3489 section 8.1 and of RFC 5780 section 6.1, on each of the four sockets.
#[test]
fn the_source_of_an_answer_is_as_in_table_1() {
    let addresses = [
        "203.0.113.10:3478",
        "203.0.113.10:3479",
        "203.0.113.11:3478",
        "203.0.113.11:3479",
    ];
    let mut server = server();
    for id in [modern(), classic()] {
        for at in Socket::ALL {
            for (change, source) in [
                (ChangeRequest::default(), 0),
                (
                    ChangeRequest {
                        ip: false,
                        port: true,
                    },
                    1,
                ),
                (
                    ChangeRequest {
                        ip: true,
                        port: false,
                    },
                    2,
                ),
                (ChangeRequest { ip: true, port: true }, 3),
            ] {
                let bytes = request(id, |writer| {
                    writer.number(AttributeType::CHANGE_REQUEST, change.value())
                });
                let answer = ask(&mut server, &bytes, at).unwrap();
                let source = at.index() ^ source;
                assert_eq!(answer.transmit.from.index(), source);
                let (origin, other) = if id.is_classic() {
                    (AttributeType::SOURCE_ADDRESS, AttributeType::CHANGED_ADDRESS)
                } else {
                    (AttributeType::RESPONSE_ORIGIN, AttributeType::OTHER_ADDRESS)
                };
                assert_eq!(answer.plain(origin).as_deref(), Some(addresses[source]));
                assert_eq!(
                    answer.plain(other).as_deref(),
                    Some(addresses[at.index() ^ 3]),
                    "whatever is changed"
                );
            }
        }
    }
}

#[test]
fn both_forms_of_the_address_are_told_where_behaviour_is_discovered() {
    let answer = must(&mut server(), &request(modern(), |_| {}));
    assert_eq!(
        answer.plain(AttributeType::MAPPED_ADDRESS).as_deref(),
        Some(CLIENT)
    );
    assert!(
        answer
            .message()
            .value(AttributeType::XOR_MAPPED_ADDRESS)
            .is_some()
    );
}

#[test]
fn attributes_that_must_be_understood_and_are_not_are_420_and_listed() {
    let bytes = request(modern(), |writer| {
        writer.attribute(AttributeType(0x7001), &[1]);
        writer.attribute(AttributeType(0xc001), &[1]);
        writer.attribute(AttributeType(0x0024), &[0; 4]);
    });
    let answer = must(&mut server(), &bytes);
    assert_eq!(answer.error(), 420);
    assert_eq!(
        answer.message().value(AttributeType::UNKNOWN_ATTRIBUTES),
        Some(&[0x70, 1, 0, 0x24][..])
    );
}

#[test]
fn a_classic_420_lists_an_even_number_of_attributes() {
    let bytes = request(classic(), |writer| {
        writer.attribute(AttributeType::XOR_MAPPED_ADDRESS, &[0; 8]);
    });
    let answer = must(&mut server(), &bytes);
    assert_eq!(answer.error(), 420);
    assert_eq!(
        answer.message().value(AttributeType::UNKNOWN_ATTRIBUTES),
        Some(&[0, 0x20, 0, 0x20][..])
    );
}

#[test]
fn attributes_that_only_answers_have_and_credentials_are_ignored() {
    let bytes = request(modern(), |writer| {
        writer.attribute(AttributeType::MAPPED_ADDRESS, &[1, 2, 3]);
        writer.attribute(AttributeType::USERNAME, b"a");
        writer.attribute(AttributeType::REALM, b"b");
        writer.attribute(AttributeType::NONCE, b"c");
        writer.integrity(crate::integrity::Integrity::Sha256, b"key");
    });
    assert_eq!(must(&mut server(), &bytes).message().class(), Class::Success);
}

#[test]
fn change_request_without_an_alternate_address_is_420() {
    let bytes = request(modern(), |writer| writer.number(AttributeType::CHANGE_REQUEST, 6));
    let answer = must(&mut single(), &bytes);
    assert_eq!(answer.error(), 420);
    assert_eq!(
        answer.message().value(AttributeType::UNKNOWN_ATTRIBUTES),
        Some(&[0, 3][..])
    );
}

#[test]
fn response_port_leads_the_answer_to_another_port_of_the_same_host() {
    let bytes = request(modern(), |writer| {
        writer.attribute(AttributeType::RESPONSE_PORT, &[0x27, 0x0f, 0, 0])
    });
    let answer = must(&mut server(), &bytes);
    assert_eq!(answer.transmit.to, "198.51.100.7:9999".parse().unwrap());
    assert_eq!(
        answer.plain(AttributeType::MAPPED_ADDRESS).as_deref(),
        Some(CLIENT)
    );
}

#[test]
fn padding_is_given_back_in_the_same_length_and_not_with_response_port() {
    for length in [0, 1, 4, 1000, 2000] {
        let bytes = request(modern(), |writer| {
            writer.zeros(AttributeType::PADDING, length);
            writer.fingerprint();
        });
        let answer = must(&mut server(), &bytes);
        let padding = answer.message().value(AttributeType::PADDING).unwrap();
        assert_eq!(
            padding.len(),
            length.min(1500 - 20 - 48 - 12),
            "what fits into 1500 bytes"
        );
        assert_eq!(verify_fingerprint(&answer.message()), Some(true));
    }
    let bytes = request(modern(), |writer| {
        writer.zeros(AttributeType::PADDING, 1000);
        writer.attribute(AttributeType::RESPONSE_PORT, &[0x27, 0x0f, 0, 0]);
    });
    assert_eq!(must(&mut server(), &bytes).error(), 400);
}

#[test]
fn malformed_values_are_400() {
    for (kind, value) in [
        (AttributeType::CHANGE_REQUEST, &[0, 0, 6][..]),
        (AttributeType::RESPONSE_PORT, &[0, 0, 0, 0]),
        (AttributeType::RESPONSE_PORT, &[0x27, 0x0f]),
    ] {
        let bytes = request(modern(), |writer| writer.attribute(kind, value));
        assert_eq!(must(&mut server(), &bytes).error(), 400, "{kind:?}");
    }
}

#[test]
fn a_classic_response_address_may_only_be_another_port_of_who_asks() {
    let with = |address: &str| {
        let address = address.parse().unwrap();
        request(classic(), |writer| {
            writer.address(AttributeType::RESPONSE_ADDRESS, address)
        })
    };
    let answer = must(&mut server(), &with("198.51.100.7:1234"));
    assert_eq!(answer.transmit.to, "198.51.100.7:1234".parse().unwrap());
    assert_eq!(
        answer.plain(AttributeType::REFLECTED_FROM).as_deref(),
        Some(CLIENT)
    );
    for elsewhere in ["192.0.2.66:1234", "198.51.100.7:0"] {
        let answer = must(&mut server(), &with(elsewhere));
        assert_eq!(answer.error(), 420);
        assert_eq!(answer.transmit.to, CLIENT.parse().unwrap());
        assert_eq!(
            answer.message().value(AttributeType::UNKNOWN_ATTRIBUTES),
            Some(&[0, 2, 0, 2][..])
        );
    }
}

#[test]
fn a_client_seen_as_ipv4_within_ipv6_is_the_same_host() {
    let mut server = server();
    let mut buffer = [0; ANSWER];
    let from = "[::ffff:198.51.100.7]:40000".parse().unwrap();
    let bytes = request(classic(), |writer| {
        writer.address(
            AttributeType::RESPONSE_ADDRESS,
            "198.51.100.7:1234".parse().unwrap(),
        )
    });
    let now = server_start(&server);
    let transmit = server
        .handle_datagram(now, &bytes, from, Socket::PRIMARY, &mut buffer)
        .unwrap();
    assert_eq!(
        transmit.to,
        "[::ffff:198.51.100.7]:1234".parse().unwrap(),
        "as the socket wants it"
    );
    let message = Message::parse(&buffer[..transmit.length]).unwrap();
    let mapped = message
        .value(AttributeType::MAPPED_ADDRESS)
        .and_then(read_address);
    assert_eq!(mapped, Some(CLIENT.parse().unwrap()));
}

#[test]
fn the_answer_to_a_link_local_client_keeps_its_scope() {
    let config = Config::new("[fe80::1]:3478".parse().unwrap());
    let mut server = Server::new(config, [1; 16], Instant::now()).unwrap();
    let now = server_start(&server);
    let from = "[fe80::2%3]:40000".parse().unwrap();
    let bytes = request(modern(), |_| {});
    let mut buffer = [0; ANSWER];
    let transmit = server
        .handle_datagram(now, &bytes, from, Socket::PRIMARY, &mut buffer)
        .unwrap();
    assert_eq!(transmit.to, from);
}

#[test]
fn attributes_of_rfc_5780_are_unknown_in_classic_requests() {
    for kind in [AttributeType::RESPONSE_PORT, AttributeType::PADDING] {
        let bytes = request(classic(), |writer| writer.attribute(kind, &[0x27, 0x0f, 0, 0]));
        let answer = must(&mut server(), &bytes);
        assert_eq!(answer.error(), 420, "{kind:?}");
    }
}

#[test]
fn a_source_without_a_port_is_not_answered() {
    let mut server = server();
    let now = server_start(&server);
    let from = "198.51.100.7:0".parse().unwrap();
    let bytes = request(modern(), |_| {});
    let mut buffer = [0; ANSWER];
    assert_eq!(
        server.handle_datagram(now, &bytes, from, Socket::PRIMARY, &mut buffer),
        None
    );
}

#[test]
fn classic_integrity_and_shared_secrets_get_the_codes_of_rfc_3489() {
    let named = request(classic(), |writer| {
        writer.attribute(AttributeType::USERNAME, b"user");
        writer.attribute(AttributeType::MESSAGE_INTEGRITY, &[0; 20]);
    });
    assert_eq!(must(&mut server(), &named).error(), 430);
    let nameless = request(classic(), |writer| {
        writer.attribute(AttributeType::MESSAGE_INTEGRITY, &[0; 20]);
    });
    assert_eq!(must(&mut server(), &nameless).error(), 432);
    let mut buffer = [0; 20];
    Writer::new(&mut buffer, Class::Request, Method::SHARED_SECRET, classic())
        .finish()
        .unwrap();
    let answer = must(&mut server(), &buffer);
    assert_eq!(answer.error(), 433);
    assert_eq!(answer.bytes[..2], [0x01, 0x12], "a Shared Secret Error Response");
}

#[test]
fn a_wrong_fingerprint_is_silence_and_a_right_one_is_answered_with_one() {
    let mut bytes = request(modern(), |writer| writer.fingerprint());
    assert_eq!(
        verify_fingerprint(&must(&mut server(), &bytes).message()),
        Some(true)
    );
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    assert!(ask(&mut server(), &bytes, Socket::PRIMARY).is_none());
}

#[test]
fn what_is_no_binding_request_is_silence() {
    let mut server = server();
    for (class, method) in [
        (Class::Indication, Method::BINDING),
        (Class::Success, Method::BINDING),
        (Class::Error, Method::BINDING),
        (Class::Request, Method::ALLOCATE),
        (Class::Request, Method::SHARED_SECRET),
    ] {
        let mut buffer = [0; 20];
        Writer::new(&mut buffer, class, method, modern())
            .finish()
            .unwrap();
        assert!(
            ask(&mut server, &buffer, Socket::PRIMARY).is_none(),
            "{class:?} {method:?}"
        );
    }
    assert!(ask(&mut server, b"OPTIONS sip:x SIP/2.0\r\n", Socket::PRIMARY).is_none());
}

#[test]
fn software_is_told_when_it_is_configured() {
    let config = Config {
        software: Some("trapez".into()),
        ..Config::new("203.0.113.10:3478".parse().unwrap())
    };
    let mut server = Server::new(config, [1; 16], Instant::now()).unwrap();
    let answer = must(&mut server, &request(modern(), |_| {}));
    assert_eq!(
        answer.message().value(AttributeType::SOFTWARE),
        Some(&b"trapez"[..])
    );
}

#[test]
fn a_stream_cannot_ask_for_answers_from_elsewhere() {
    let server = server();
    let mut buffer = [0; ANSWER];
    let from = CLIENT.parse().unwrap();
    let plain = request(modern(), |_| {});
    assert!(
        server
            .handle_message(&plain, from, Socket::PRIMARY, &mut buffer)
            .is_some()
    );
    for kind in [AttributeType::CHANGE_REQUEST, AttributeType::RESPONSE_PORT] {
        let bytes = request(modern(), |writer| writer.attribute(kind, &[0, 4, 0, 4]));
        let length = server
            .handle_message(&bytes, from, Socket::PRIMARY, &mut buffer)
            .unwrap();
        let message = Message::parse(&buffer[..length]).unwrap();
        let value = message.value(AttributeType::UNKNOWN_ATTRIBUTES).unwrap();
        assert_eq!(value, kind.0.to_be_bytes());
    }
}

#[test]
fn a_source_gets_no_more_than_its_budget_beyond_what_it_sends() {
    let mut server = server();
    let bytes = request(modern(), |_| {});
    let (mut sent, mut got) = (0, 0);
    for _ in 0..100_000 {
        sent += bytes.len();
        got += ask(&mut server, &bytes, Socket::PRIMARY).map_or(0, |answer| answer.bytes.len());
    }
    assert!(got > 64 * 1024 && got < sent, "{got} for {sent}");
    // Who sends as much as he gets is served all the same.
    let large = request(modern(), |writer| writer.zeros(AttributeType::PADDING, 100));
    let answer = ask(&mut server, &large, Socket::PRIMARY);
    assert!(answer.is_none(), "the addresses are on top of the padding");
    let large = request(modern(), |writer| {
        writer.attribute(AttributeType(0xc000), &[0; 100])
    });
    assert!(ask(&mut server, &large, Socket::PRIMARY).is_some());
}

#[test]
fn software_is_no_longer_than_the_rfc_allows() {
    for (length, fits) in [(763, true), (764, false)] {
        let config = Config {
            software: Some("x".repeat(length).into()),
            ..Config::new("203.0.113.10:3478".parse().unwrap())
        };
        let server = Server::new(config, [1; 16], Instant::now());
        assert_eq!(server.is_ok(), fits);
    }
}

#[test]
fn an_alternate_must_differ_in_both_and_be_of_the_same_family() {
    for alternate in ["203.0.113.10:3479", "203.0.113.11:3478", "[2001:db8::1]:3479"] {
        let config = Config {
            alternate: Some(alternate.parse().unwrap()),
            ..Config::new("203.0.113.10:3478".parse().unwrap())
        };
        assert!(
            matches!(
                Server::new(config, [1; 16], Instant::now()),
                Err(ConfigError::Alternate { .. })
            ),
            "{alternate}"
        );
    }
}

proptest! {
    #[test]
    fn an_answer_goes_to_who_asks_and_is_well_formed(
        is_classic in any::<bool>(),
        socket in 0..4usize,
        attributes in proptest::collection::vec(
            (prop_oneof![0..0x30u16, 0x8000..0x8030u16, any::<u16>()], proptest::collection::vec(any::<u8>(), 0..24)), 0..6),
    ) {
        let id = if is_classic { classic() } else { modern() };
        let bytes = request(id, |writer| {
            for (kind, value) in &attributes {
                writer.attribute(AttributeType(*kind), value);
            }
        });
        if let Some(answer) = ask(&mut server(), &bytes, Socket::ALL[socket]) {
            let client: SocketAddr = CLIENT.parse().unwrap();
            prop_assert_eq!(answer.transmit.to.ip(), client.ip());
            prop_assert!(answer.transmit.to.port() != 0);
            prop_assert_eq!(answer.message().transaction_id(), id);
            prop_assert!(matches!(answer.message().class(), Class::Success | Class::Error));
            let unknown = answer.message().value(AttributeType::UNKNOWN_ATTRIBUTES).is_some_and(|v| !v.is_empty());
            let code = answer.message().value(AttributeType::ERROR_CODE).and_then(read_error_code).map(|(code, _)| code);
            prop_assert_eq!(unknown, code == Some(420));
        }
    }

    #[test]
    fn arbitrary_datagrams_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100), room in 0..200usize) {
        let mut buffer = vec![0; room];
        let mut server = server();
        let now = server_start(&server);
        let _ = server.handle_datagram(now, &bytes, CLIENT.parse().unwrap(), Socket::PRIMARY, &mut buffer);
    }
}
