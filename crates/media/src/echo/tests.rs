use super::*;
use crate::testing::{Pool, addr, ip};

const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 192.168.1.5\r\ns=-\r\nc=IN IP4 192.168.1.5\r\nt=0 0\r\n\
    m=video 4004 RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\n\
    m=audio 4000 RTP/AVP 97 8 0 100 101\r\na=rtpmap:97 opus/48000/2\r\na=fmtp:97 useinbandfec=1\r\n\
    a=rtpmap:100 telephone-event/8000\r\na=rtpmap:101 telephone-event/48000\r\na=fmtp:101 0-15\r\na=sendonly\r\n";

fn answer(echo: &mut Echo, pool: &mut Pool, offer: &str) -> Result<String, EchoError> {
    let mut out = Vec::new();
    echo.answer(ip("198.51.100.7"), offer.as_bytes(), pool, &mut out)?;
    Ok(String::from_utf8(out).unwrap())
}

fn echo() -> (Echo, Pool) {
    (Echo::new(SessionId(7), ip("198.51.100.7")), Pool::default())
}

#[test]
fn favourite_codec_and_its_events_are_taken_and_other_lines_refused() {
    let (mut echo, mut pool) = echo();
    insta::assert_snapshot!(answer(&mut echo, &mut pool, OFFER).unwrap().replace('\r', "␍"));
}

#[test]
fn leg_sends_back_what_comes_in() {
    let (mut echo, mut pool) = echo();
    answer(&mut echo, &mut pool, OFFER).unwrap();
    echo.confirmed();
    let Some(Command::Open {
        stream,
        side: Side::Caller,
        leg,
    }) = echo.poll_command()
    else {
        panic!("no leg")
    };
    assert_eq!(
        (stream, echo.stream()),
        (
            StreamId {
                session: SessionId(7),
                line: 0
            },
            stream
        )
    );
    assert!(leg.echo && leg.described && leg.held && !leg.rtcp_mux);
    assert_eq!(
        (leg.rtp, leg.signalling),
        (Some(addr("192.168.1.5:4000")), ip("198.51.100.7"))
    );
    assert_eq!(
        (echo.poll_command(), echo.codec()),
        (Some(Command::Confirm { stream }), Some("opus"))
    );
    echo.end(&mut pool);
    assert_eq!(echo.poll_command(), Some(Command::Close { stream }));
    assert!(pool.taken.is_empty());
}

#[test]
fn further_offers_keep_the_port_and_count_the_version() {
    let (mut echo, mut pool) = echo();
    let first = answer(&mut echo, &mut pool, OFFER).unwrap();
    let second = answer(&mut echo, &mut pool, &OFFER.replace("sendonly", "sendrecv")).unwrap();
    assert!(first.contains("o=- 7 1 IN IP4 203.0.113.10") && second.contains("o=- 7 2 IN IP4 203.0.113.10"));
    assert!(first.contains("a=recvonly") && second.contains("a=sendrecv"));
    assert!(second.contains("m=audio 30000 "));
    assert_eq!(pool.taken.len(), 1);
    assert!(matches!(echo.poll_command(), Some(Command::Open { .. })));
    assert!(matches!(echo.poll_command(), Some(Command::Update { .. })));
}

#[test]
fn what_cannot_be_echoed_is_refused_and_takes_no_port() {
    let (mut echo, mut pool) = echo();
    for (from, to) in [
        ("RTP/AVP 97", "RTP/SAVP 97"),
        ("m=audio 4000", "m=audio 0"),
        ("97 8 0 100 101", "101"),
    ] {
        let result = answer(&mut echo, &mut pool, &OFFER.replace(from, to));
        assert_eq!(result, Err(EchoError::NotAcceptable), "{to}");
    }
    assert!(matches!(
        answer(&mut echo, &mut pool, "hello"),
        Err(EchoError::Sdp(_))
    ));
    assert!(pool.taken.is_empty());
    pool.limit = Some(0);
    assert_eq!(
        answer(&mut echo, &mut pool, OFFER),
        Err(EchoError::NoPorts(AddressFamily::V4))
    );
}

#[test]
fn caller_without_an_offer_gets_one() {
    let (mut echo, mut pool) = echo();
    let mut offer = Vec::new();
    echo.offer(&mut pool, &mut offer).unwrap();
    let offer = String::from_utf8(offer).unwrap();
    let sdp = Sdp::parse(offer.as_bytes()).unwrap();
    assert_eq!(
        (
            sdp.media()[0].port,
            sdp.media()[0].payload_types().collect::<Vec<_>>()
        ),
        (30_000, vec![8, 0, 101])
    );
    assert_eq!(echo.poll_command(), None);
    let answer = "v=0\r\nc=IN IP4 192.168.1.5\r\nm=audio 4000 RTP/AVP 8\r\n";
    echo.answered(ip("198.51.100.7"), answer.as_bytes()).unwrap();
    let Some(Command::Open { stream, leg, .. }) = echo.poll_command() else {
        panic!("no leg")
    };
    assert_eq!((stream.line, leg.rtp), (0, Some(addr("192.168.1.5:4000"))));
    let refused = answer.replace("4000", "0");
    assert_eq!(
        echo.answered(ip("198.51.100.7"), refused.as_bytes()),
        Err(EchoError::NotAcceptable)
    );
}
