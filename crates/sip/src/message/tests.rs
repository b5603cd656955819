use super::*;

const INVITE: &str = "INVITE sip:bob@biloxi.com SIP/2.0\r\n\
    Via: SIP/2.0/UDP pc33.atlanta.com;branch=z9hG4bK776asdhds\r\n\
    Max-Forwards: 70\r\n\
    To: Bob <sip:bob@biloxi.com>\r\n\
    From: Alice <sip:alice@atlanta.com>;tag=1928301774\r\n\
    Call-ID: a84b4c76e66710@pc33.atlanta.com\r\n\
    CSeq: 314159 INVITE\r\n\
    Contact: <sip:alice@pc33.atlanta.com>\r\n\
    Content-Type: application/sdp\r\n\
    Content-Length: 4\r\n\
    \r\n\
    v=0\n";

#[test]
fn the_example_of_rfc3261_is_read() {
    let owned = MessageBuf::parse(INVITE).unwrap();
    let m = owned.message();
    m.validate_request().unwrap();
    assert_eq!(m.method(), Method::Invite);
    assert_eq!(m.request_uri(), "sip:bob@biloxi.com");
    let via = m.top_via().unwrap();
    assert_eq!(
        (via.transport, via.sent_by_host, via.branch),
        ("UDP", "pc33.atlanta.com", Some("z9hG4bK776asdhds"))
    );
    assert_eq!(m.from().unwrap().tag(), Some("1928301774"));
    assert_eq!(m.to().unwrap().display, Some("Bob"));
    assert_eq!(
        m.cseq().unwrap(),
        CSeq {
            number: 314159,
            method: Method::Invite
        }
    );
    assert_eq!(m.max_forwards().unwrap(), Some(70));
    assert_eq!(m.body(), b"v=0\n");
    assert!(m.is_content_type("application/sdp"));
}
