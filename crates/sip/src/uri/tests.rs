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
