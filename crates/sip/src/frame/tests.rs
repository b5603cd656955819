use super::*;

const MESSAGE: &str = "OPTIONS sip:a SIP/2.0\r\nl: 2\r\n\r\nhi";

fn all(framer: &mut Framer) -> Vec<String> {
    let mut seen = Vec::new();
    loop {
        match framer.next() {
            Ok(Some(Framed::Message(range))) => {
                seen.push(String::from_utf8_lossy(framer.bytes(range)).into_owned())
            }
            Ok(Some(Framed::Keepalive(keepalive))) => seen.push(format!("{keepalive:?}")),
            Ok(None) => return seen,
            Err(error) => {
                seen.push(error.to_string());
                return seen;
            }
        }
    }
}

fn one(bytes: &[u8]) -> Vec<String> {
    let mut framer = Framer::new();
    framer.push(bytes);
    all(&mut framer)
}

#[test]
fn messages_are_found_however_the_stream_is_cut() {
    let stream = format!("{MESSAGE}{MESSAGE}\r\n\r\n{MESSAGE}");
    for size in 1..stream.len() {
        let mut framer = Framer::new();
        let mut seen = Vec::new();
        for piece in stream.as_bytes().chunks(size) {
            framer.push(piece);
            seen.extend(all(&mut framer));
        }
        seen.retain(|s| s != "Pong");
        assert_eq!(seen, [MESSAGE, MESSAGE, "Ping", MESSAGE], "pieces of {size}");
        assert_eq!(framer.pending(), 0);
    }
}

#[test]
fn pings_and_pongs_are_told_apart() {
    let mut framer = Framer::new();
    framer.push(b"\r\n\r\n");
    assert_eq!(all(&mut framer), ["Ping"]);
    framer.push(b"\r\n");
    assert_eq!(all(&mut framer), ["Pong"]);
    framer.push(MESSAGE.as_bytes());
    framer.push(b"\r\n");
    assert_eq!(all(&mut framer), [MESSAGE, "Pong"]);
}

#[test]
fn a_content_length_is_found_in_every_spelling() {
    for header in [
        "Content-Length:2",
        "l : 2",
        "CONTENT-LENGTH: 2",
        "L:\r\n 2",
        "Content-Length : 002 ",
    ] {
        let message = format!("OPTIONS sip:a SIP/2.0\r\nTo: x\r\n{header}\r\nc: y\r\n\r\nhi");
        assert_eq!(one(message.as_bytes()), [message]);
    }
}

#[test]
fn a_content_length_inside_another_value_does_not_count() {
    let message = "OPTIONS sip:a SIP/2.0\r\nSubject: x\r\n l: 2\r\nX: l: 3\r\nl: 0\r\n\r\n";
    assert_eq!(one(message.as_bytes()), [message]);
}

#[test]
fn a_message_that_forgot_its_content_length_has_no_body() {
    let message = "OPTIONS sip:a SIP/2.0\r\nTo: x\r\n\r\n";
    assert_eq!(one(format!("{message}{MESSAGE}").as_bytes()), [message, MESSAGE]);
}

#[test]
fn a_content_length_that_decides_nothing_ends_the_stream_with_the_head_at_hand() {
    for header in [
        "l: -1",
        "l: 1\r\nl: 2",
        "Content-Length: 1x",
        "l: 99999999999999999999",
        "l:",
    ] {
        let mut framer = Framer::new();
        framer.push(format!("OPTIONS sip:a SIP/2.0\r\n{header}\r\n\r\nhi").as_bytes());
        let error = framer.next().unwrap_err();
        assert_eq!(error.status(), 400, "{header}");
        assert!(
            framer.bytes(error.head().unwrap()).ends_with(b"\r\n\r\n"),
            "{header}"
        );
        assert_eq!(framer.next(), Err(FrameError::Closed));
    }
    let equal = "OPTIONS sip:a SIP/2.0\r\nl: 2\r\nl: 2\r\n\r\nhi";
    assert_eq!(one(equal.as_bytes()), [equal]);
}

#[test]
fn what_is_no_sip_ends_the_stream_at_once() {
    for garbage in [
        &b"\x16\x03\x01\x02\x00"[..],
        b"GET / HTTP/1.1\r\n",
        b"hello\n",
        b"\0",
        b" INVITE",
    ] {
        let mut framer = Framer::new();
        framer.push(garbage);
        assert!(
            matches!(framer.next(), Err(FrameError::NotSip { .. })),
            "{garbage:?}"
        );
    }
    let mut framer = Framer::new();
    framer.push(&[b'x'; LONGEST_START_LINE]);
    assert_eq!(framer.next(), Ok(None));
    framer.push(b"x");
    assert!(matches!(framer.next(), Err(FrameError::NotSip { .. })));
}

#[test]
fn the_memory_of_a_stream_is_bounded() {
    let mut framer = Framer::new();
    framer.push(b"OPTIONS sip:a SIP/2.0\r\n");
    let mut pushed = 0;
    let error = loop {
        framer.push(&[b'x'; 1000]);
        pushed += 1000;
        if let Err(error) = framer.next() {
            break error;
        }
        assert!(pushed < 2 * limits::MESSAGE_BYTES);
    };
    assert_eq!(error, FrameError::TooLarge { head: None });
    framer.push(&[b'x'; 1000]);
    assert!(framer.pending() <= limits::MESSAGE_BYTES + 2000);

    let mut framer = Framer::new();
    framer.push(b"OPTIONS sip:a SIP/2.0\r\nl: 65535\r\n\r\n");
    let error = framer.next().unwrap_err();
    assert_eq!((error.status(), error.head().is_some()), (513, true));
}
