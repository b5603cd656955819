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
