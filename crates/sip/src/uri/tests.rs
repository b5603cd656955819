use super::*;

fn uri(text: &str) -> Uri<'_> {
    Uri::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"))
}

#[test]
fn all_parts_are_found() {
    let u = uri("sips:alice:secret%20word@gateway.com:5061;transport=tls;lr?subject=x&priority=urgent");
    assert_eq!(u.scheme, Scheme::Sips);
    assert_eq!((u.user, u.password), (Some("alice"), Some("secret%20word")));
    assert_eq!((u.host, u.port), (Host::Name("gateway.com"), Some(5061)));
    assert_eq!(u.params.get("lr"), Some(None));
    assert_eq!(
        u.header_fields().collect::<Vec<_>>(),
        [("subject", "x"), ("priority", "urgent")]
    );
}

#[test]
fn the_examples_of_19_1_3_are_read() {
    for text in [
        "sip:alice@atlanta.com",
        "sip:alice:secretword@atlanta.com;transport=tcp",
        "sips:alice@atlanta.com?subject=project%20x&priority=urgent",
        "sip:+1-212-555-1212:1234@gateway.com;user=phone",
        "sips:1212@gateway.com",
        "sip:alice@192.0.2.4",
        "sip:atlanta.com;method=REGISTER?to=alice%40atlanta.com",
        "sip:alice;day=tuesday@atlanta.com",
    ] {
        assert_eq!(uri(text).as_str(), text);
    }
    assert_eq!(
        uri("sip:alice;day=tuesday@atlanta.com").user,
        Some("alice;day=tuesday")
    );
    assert_eq!(
        uri("sip:atlanta.com;method=REGISTER?to=alice%40atlanta.com").user,
        None
    );
}

#[test]
fn equivalent_uris_of_19_1_4() {
    for (a, b) in [
        (
            "sip:%61lice@atlanta.com;transport=TCP",
            "sip:alice@AtLanTa.CoM;Transport=tcp",
        ),
        ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
        ("sip:carol@chicago.com", "sip:carol@chicago.com;security=on"),
        (
            "sip:carol@chicago.com;newparam=5",
            "sip:carol@chicago.com;security=on",
        ),
        (
            "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
            "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
        ),
        (
            "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
            "sip:alice@atlanta.com?priority=urgent&subject=project%20x",
        ),
        ("sip:a@[2001:db8::1]", "sip:a@[2001:DB8:0:0::1]"),
        ("sip:a@b?Subject=x", "sip:a@b?subject=x"),
        ("sip:a@b;x=1;x=2", "sip:a@b;x=1;x=2"),
    ] {
        assert!(uri(a).equivalent(&uri(b)), "{a} {b}");
        assert!(uri(b).equivalent(&uri(a)), "{b} {a}");
    }
}

#[test]
fn different_uris_of_19_1_4() {
    for (a, b) in [
        (
            "SIP:ALICE@AtLanTa.CoM;Transport=udp",
            "sip:alice@AtLanTa.CoM;Transport=UDP",
        ),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp"),
        (
            "sip:carol@chicago.com",
            "sip:carol@chicago.com?Subject=next%20meeting",
        ),
        ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"),
        (
            "sip:carol@chicago.com;security=on",
            "sip:carol@chicago.com;security=off",
        ),
        // Beyond the RFC's list: scheme, password, decisive parameters, escapes of reserved characters, repetition.
        ("sip:bob@biloxi.com", "sips:bob@biloxi.com"),
        ("sip:bob:a@biloxi.com", "sip:bob:A@biloxi.com"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com;maddr=192.0.2.1"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com;user=phone"),
        ("sip:a%3Bb@biloxi.com", "sip:a;b@biloxi.com"),
        ("sip:a@b?x=1&x=1", "sip:a@b?x=1"),
        ("sip:biloxi.com", "sip:bob@biloxi.com"),
    ] {
        assert!(!uri(a).equivalent(&uri(b)), "{a} {b}");
        assert!(!uri(b).equivalent(&uri(a)), "{b} {a}");
    }
}

#[test]
fn tel_uris_compare_by_digits() {
    assert!(uri("tel:+1-201-555-0123").equivalent(&uri("TEL:+1(201)5550123")));
    assert!(
        uri("tel:7042;phone-context=example.com").equivalent(&uri("tel:70-42;Phone-Context=EXAMPLE.com"))
    );
    assert!(!uri("tel:7042;phone-context=example.com").equivalent(&uri("tel:7042")));
    assert!(!uri("tel:+12015550123").equivalent(&uri("tel:12015550123")));
    assert!(!uri("tel:+12015550123").equivalent(&uri("sip:+12015550123@gateway.com")));
}

#[test]
fn an_address_of_record_is_canonical() {
    for (text, expected) in [
        ("sip:Bob@Biloxi.COM:5070;transport=tcp?x=y", "Bob@biloxi.com"),
        ("sips:bob:secret@biloxi.com.", "bob@biloxi.com"),
        ("sip:%62%6Fb@biloxi.com", "bob@biloxi.com"),
        ("sip:biloxi.com", "biloxi.com"),
        ("sip:a@[2001:DB8:0::1]:5060", "a@[2001:db8::1]"),
        ("sip:a@192.0.2.1", "a@192.0.2.1"),
        ("sip:j%C3%B6rg@x.de", "jörg@x.de"),
        ("sip:j%c3rg@x.de", "j%C3rg@x.de"),
        ("sip:a%0d%0ab%25%20@x.de", "a%0D%0Ab%25%20@x.de"),
        ("tel:+1-201-555-0123;ext=5", "+12015550123"),
    ] {
        assert_eq!(uri(text).aor(), expected, "{text}");
    }
}

#[test]
fn what_telephones_send_unescaped_is_read() {
    assert_eq!(uri("sip:#31#0123@example.org").user, Some("#31#0123"));
    assert_eq!(uri("sip:jörg@example.org").aor(), "jörg@example.org");
    assert_eq!(uri("sip:bob@my_host.local").host, Host::Name("my_host.local"));
    assert_eq!(uri("sip:bob@example.org;").params.iter().count(), 0);
}

#[test]
fn malformed_uris_are_refused() {
    for text in [
        "",
        "sip",
        "sip:",
        "sip:@example.org",
        "sip:bob@",
        "sip:bob@example.org:",
        "sip:bob@example.org:65536",
        "sip:bob@example.org:-1",
        "sip:bob@example.org:5060x",
        "sip:2001:db8::1",
        "sip:[2001:db8::1",
        "sip:[2001:db8::g]",
        "sip:[192.0.2.1]",
        "sip:bob%4@example.org",
        "sip:bob%zz@example.org",
        "sip:bob@exam ple.org",
        "sip:bob@example.org;x=\"y\"",
        "sip:a@b@c",
        "sip:a..b",
        "sip:.a",
        "sip:bob@example.org?a=<b>",
        "3sip:x",
        "s ip:x",
        "tel:",
        "tel:+",
        "tel:12x",
        "isbn:",
        "http://a b",
    ] {
        assert!(Uri::parse(text).is_err(), "{text}");
    }
}

#[test]
fn errors_tell_what_was_expected_and_found() {
    let error = Uri::parse("sip:bob@example.org:99999").unwrap_err();
    assert_eq!(
        error.to_string(),
        "malformed URI: expected a host, and a port from 0 to 65535, found 'example.org:99999'"
    );
    assert_eq!((error.status(), error.fault()), (400, Fault::Peer));
}

#[test]
fn a_third_colon_counts_only_before_an_embedded_ipv4_address() {
    assert_eq!(
        uri("sip:[2001:db8:::192.0.2.1]").host,
        uri("sip:[2001:db8::192.0.2.1]").host
    );
    assert!(Uri::parse("sip:[2001:db8:::1]").is_err());
    assert!(Uri::parse("sip:[2001::db8:::192.0.2.1]").is_err());
}
