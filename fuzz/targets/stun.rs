//! STUN messages and streams of them: read within their bounds, and a server's answers are well-formed and go to who asks.
//! The first byte chooses the socket; the rest is one datagram, and a stream.
#![no_main]

use std::net::SocketAddr;
use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use stun::attribute::{read_address, read_error_code, read_xor_address};
use stun::frame::{ChannelData, next_frame};
use stun::integrity::{Integrity, verify, verify_fingerprint};
use stun::message::{Class, Message};
use stun::server::{Config, Server, Socket};

fuzz_target!(|bytes: &[u8]| {
    let [socket, bytes @ ..] = bytes else { return };
    if let Ok(message) = Message::parse(bytes) {
        for attribute in message.attributes() {
            let _ = read_address(attribute.value);
            let _ = read_xor_address(attribute.value, &message.transaction_id());
            let _ = read_error_code(attribute.value);
        }
        let _ = verify(&message, Integrity::Sha1, b"key");
        let _ = verify(&message, Integrity::Sha256, b"key");
        let _ = verify_fingerprint(&message);
    }
    let mut rest = bytes;
    while let Ok(Some(frame)) = next_frame(rest) {
        let _ = ChannelData::parse(frame.bytes);
        rest = &rest[frame.used..];
    }
    let from: SocketAddr = ([198, 51, 100, 7], 40_000).into();
    let now = Instant::now();
    let config = Config {
        alternate: Some(([203, 0, 113, 11], 3479).into()),
        ..Config::new(([203, 0, 113, 10], 3478).into())
    };
    let mut server = Server::new(config, [0; 16], now).expect("both differ");
    let mut buffer = [0; 1500];
    let at = Socket::ALL[usize::from(socket & 3)];
    if let Some(transmit) = server.handle_datagram(now, bytes, from, at, &mut buffer) {
        let answer = Message::parse(&buffer[..transmit.length]).expect("what we write we can read");
        let request = Message::parse(bytes).expect("only messages are answered");
        assert_eq!(answer.transaction_id(), request.transaction_id());
        assert!(matches!(answer.class(), Class::Success | Class::Error));
        assert_ne!(verify_fingerprint(&answer), Some(false));
        assert_eq!(transmit.to.ip(), from.ip());
    }
    let _ = server.handle_message(bytes, from, at, &mut buffer);
});
