use proptest::prelude::*;

use super::*;

const OFFER: &str = "v=0\r\n\
    o=alice 1 1 IN IP4 192.168.1.5\r\n\
    s=-\r\n\
    c=IN IP4 192.168.1.5\r\n\
    t=0 0\r\n\
    a=sendonly\r\n\
    m=audio 49170/2 RTP/AVP 8 0 97 101\r\n\
    i=a title\r\n\
    a=rtpmap:97 opus/48000/2\r\n\
    a=rtpmap:101 telephone-event/8000\r\n\
    a=fmtp:101 0-16\r\n\
    a=rtcp:53020 IN IP4 126.16.64.4\r\n\
    m=video 0 RTP/AVP 31\r\n\
    c=IN IP6 2001:db8::5\r\n\
    a=rtcp-mux\r\n\
    a=recvonly\r\n";

fn media<'s, 'a>(sdp: &'s Sdp<'a>, line: usize) -> &'s Media<'a> {
    &sdp.media()[line]
}

#[test]
fn values_are_found_with_their_places() {
    let sdp = Sdp::parse(OFFER.as_bytes()).unwrap();
    let audio = media(&sdp, 0);
    assert_eq!(
        (audio.media, audio.port, audio.port_count, audio.proto),
        ("audio", 49170, 2, "RTP/AVP")
    );
    assert_eq!(&OFFER[audio.port_range.clone()], "49170/2");
    assert_eq!(audio.formats().collect::<Vec<_>>(), ["8", "0", "97", "101"]);
    let connection = sdp.connection_of(audio).unwrap();
    assert_eq!(
        (&OFFER[connection.range.clone()], connection.is_ipv6),
        ("IN IP4 192.168.1.5", false)
    );
    let rtcp = audio.rtcp.as_ref().unwrap();
    assert_eq!(
        (rtcp.port, rtcp.address),
        (53020, Some("126.16.64.4".parse().unwrap()))
    );
    assert_eq!(&OFFER[rtcp.range.clone()], "53020 IN IP4 126.16.64.4");
    assert!(
        OFFER[audio.connection_position()..].starts_with("a=rtpmap:97"),
        "behind m= and i="
    );

    let video = media(&sdp, 1);
    assert_eq!(
        (video.port, video.rtcp_mux, video.rtcp.is_none()),
        (0, true, true)
    );
    assert_eq!(
        sdp.connection_of(video).unwrap().address,
        Some("2001:db8::5".parse().unwrap())
    );
}

#[test]
fn codecs_are_named_by_rtpmap_or_by_rfc_3551() {
    let sdp = Sdp::parse(OFFER.as_bytes()).unwrap();
    let audio = media(&sdp, 0);
    assert_eq!(audio.rtpmap(8).unwrap().encoding, "PCMA");
    assert_eq!(
        audio.rtpmap(97),
        Some(RtpMap {
            payload_type: 97,
            encoding: "opus",
            clock_rate: 48_000
        })
    );
    assert_eq!(audio.rtpmap(98), None);
    assert_eq!(audio.fmtp("101"), Some("0-16"));
}

#[test]
fn own_direction_counts_before_the_sessions() {
    let sdp = Sdp::parse(OFFER.as_bytes()).unwrap();
    assert_eq!(sdp.direction_of(media(&sdp, 0)), Direction::SendOnly);
    assert_eq!(sdp.direction_of(media(&sdp, 1)), Direction::RecvOnly);
    let plain = Sdp::parse(b"v=0\r\nc=IN IP4 192.0.2.1\r\nm=audio 4 RTP/AVP 0\r\n").unwrap();
    assert_eq!(plain.direction_of(media(&plain, 0)), Direction::SendRecv);
}

#[test]
fn hold_is_seen_in_all_its_forms() {
    let held = |address: &str, port: u16, direction: &str| {
        let text = format!("v=0\nc=IN {address}\nm=audio {port} RTP/AVP 0\na={direction}\n");
        let sdp = Sdp::parse(text.as_bytes()).unwrap();
        sdp.is_held(media(&sdp, 0))
    };
    assert!(held("IP4 192.0.2.1", 4000, "sendonly"));
    assert!(held("IP4 192.0.2.1", 4000, "inactive"));
    assert!(held("IP4 0.0.0.0", 4000, "sendrecv"));
    assert!(held("IP6 ::", 4000, "sendrecv"));
    assert!(held("IP4 192.0.2.1", 0, "sendrecv"));
    assert!(!held("IP4 192.0.2.1", 4000, "sendrecv"));
    assert!(
        !held("IP4 192.0.2.1", 4000, "recvonly"),
        "the other side may talk"
    );
}

#[test]
fn transports_are_told_apart() {
    for (proto, transport) in [
        ("RTP/AVP", MediaTransport::Rtp),
        ("RTP/SAVPF", MediaTransport::Rtp),
        ("UDP/TLS/RTP/SAVPF", MediaTransport::Rtp),
        ("TCP/RTP/AVP", MediaTransport::Other),
        ("udptl", MediaTransport::Datagram),
        ("UDPTL", MediaTransport::Datagram),
        ("UDP/BFCP", MediaTransport::Datagram),
        ("DTLS/SCTP", MediaTransport::Datagram),
        ("TCP/MSRP", MediaTransport::Other),
        ("TCP", MediaTransport::Other),
        ("SIP", MediaTransport::Other),
        ("Ünknown", MediaTransport::Other),
    ] {
        assert_eq!(MediaTransport::of(proto), transport, "{proto}");
    }
}

#[test]
fn unreadable_lines_are_named() {
    let parse = |text: &str| Sdp::parse(text.as_bytes()).map(|_| ()).unwrap_err();
    assert_eq!(parse("hello"), ParseError::NoVersion);
    assert_eq!(
        parse("v=0\r\nm=audio x RTP/AVP 0\r\n"),
        ParseError::BadMedia { line: 2 }
    );
    assert_eq!(
        parse("v=0\r\nm=audio 70000 RTP/AVP 0\r\n"),
        ParseError::BadMedia { line: 2 }
    );
    assert_eq!(parse("v=0\r\nm=audio\r\n"), ParseError::BadMedia { line: 2 });
    assert_eq!(
        parse("v=0\r\ns=-\r\nc=IN IP4\r\n"),
        ParseError::BadConnection { line: 3 }
    );
}

#[test]
fn limits_hold() {
    let parse = |text: String| Sdp::parse(text.as_bytes()).map(|_| ());
    let lines = |count: usize| "v=0\r\n".to_owned() + &"a=x\r\n".repeat(count - 1);
    assert_eq!(parse(lines(MAX_LINES)), Ok(()));
    assert_eq!(parse(lines(MAX_LINES + 1)), Err(ParseError::TooManyLines));
    let media = |count: usize| "v=0\r\n".to_owned() + &"m=audio 4 RTP/AVP 0\r\n".repeat(count);
    assert_eq!(parse(media(MAX_MEDIA)), Ok(()));
    assert_eq!(parse(media(MAX_MEDIA + 1)), Err(ParseError::TooManyMedia));
    let long = "v=0\r\n".to_owned() + &"x".repeat(MAX_BYTES);
    assert_eq!(
        parse(long.clone()),
        Err(ParseError::TooLarge { found: long.len() })
    );
}

#[test]
fn host_names_and_multicast_have_no_single_address() {
    let sdp = Sdp::parse(b"v=0\nc=IN IP4 phone.example.org\nm=audio 4 RTP/AVP 0\nc=IN IP4 224.2.1.1/127/3\n")
        .unwrap();
    assert_eq!(sdp.connection().unwrap().address, None);
    assert_eq!(sdp.connection().unwrap().host, "phone.example.org");
    let own = media(&sdp, 0).connection.as_ref().unwrap();
    assert_eq!(own.address, Some("224.2.1.1".parse().unwrap()));
    assert_eq!(own.value, "IN IP4 224.2.1.1/127/3");
}

#[test]
fn edits_are_written_in_one_pass_in_any_order() {
    let text = b"0123456789";
    let mut edits = Edits::new();
    edits.replace(8..9, format_args!("eight"));
    edits.remove(2..4);
    edits.insert(5, format_args!("<"));
    edits.insert(5, format_args!(">"));
    let mut out = b"x".to_vec();
    edits.write(text, &mut out);
    assert_eq!(String::from_utf8(out).unwrap(), "x014<>567eight9");
}

/// Descriptions made of lines that are met and lines that are not.
fn descriptions() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        Just("c=IN IP4 10.0.0.1".to_owned()),
        Just("c=IN IP6 fe80::1".to_owned()),
        Just("m=audio 4000 RTP/AVP 0 8".to_owned()),
        Just("m=image 4004 udptl t38".to_owned()),
        Just("m=message 5060 TCP/MSRP *".to_owned()),
        Just("a=rtcp:4001".to_owned()),
        Just("a=sendonly".to_owned()),
        Just("a=candidate:1 1 UDP 1 10.0.0.1 4000 typ host".to_owned()),
        "[a-z]=[ -~]{0,20}".prop_filter("m= and c= lines can be wrong", |line| !line
            .starts_with(['m', 'c'])),
        "[ -~]{0,10}".prop_filter("as above", |line| !line.starts_with("m=")
            && !line.starts_with("c=")),
    ];
    (proptest::collection::vec((line, prop_oneof![Just("\r\n"), Just("\n")]), 0..20)).prop_map(|lines| {
        lines
            .into_iter()
            .fold("v=0\r\n".to_owned(), |text, (line, end)| text + &line + end)
    })
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut bytes = bytes;
        let _ = Sdp::parse(&bytes);
        bytes.splice(0..0, *b"v=0\nc=IN IP4 1.2.3.4\nm=audio 4 RTP/AVP 0\na=rtcp:");
        let _ = Sdp::parse(&bytes);
    }

    #[test]
    fn every_place_that_is_named_holds_what_it_says(text in descriptions()) {
        let sdp = Sdp::parse(text.as_bytes()).unwrap();
        let mut sections = 0;
        for media in sdp.media() {
            prop_assert!(text[media.port_range.clone()].starts_with(&media.port.to_string()));
            if let Some(own) = &media.connection {
                prop_assert_eq!(&text[own.range.clone()], own.value);
            }
            for attribute in media.attributes() {
                prop_assert!(text.as_bytes()[attribute.line.clone()].starts_with(b"a="));
            }
            prop_assert!(text[..media.connection_position()].ends_with('\n'));
            sections += 1;
        }
        prop_assert_eq!(sections, text.lines().filter(|line| line.starts_with("m=")).count());
    }

    #[test]
    fn no_edits_leave_all_as_it_is(text in descriptions()) {
        let mut out = Vec::new();
        Edits::new().write(text.as_bytes(), &mut out);
        prop_assert_eq!(out, text.into_bytes());
    }
}
