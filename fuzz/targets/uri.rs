//! Two URIs in two lines: parsed, compared, made canonical. Equality is reflexive and symmetric, an address-of-record
//! holds no control characters and, unless it resolves escapes, is its own address-of-record.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sip::Uri;
use sip::headers::NameAddr;

fuzz_target!(|text: &str| {
    let (a, b) = text.split_once('\n').unwrap_or((text, text));
    let _ = NameAddr::parse(text).map(|address| (address.display_name(), address.q(), address.parsed_uri()));
    let Ok(a) = Uri::parse(a) else { return };
    assert!(a.equivalent(&a), "{a}");
    let aor = a.aor();
    assert!(!aor.chars().any(|c| c.is_ascii_control()), "{aor:?}");
    if a.is_sip()
        && !a.user.unwrap_or("").contains('%')
        && let Ok(again) = Uri::parse(&format!("sip:{aor}"))
    {
        assert_eq!(again.aor(), aor);
    }
    let Ok(b) = Uri::parse(b) else { return };
    assert_eq!(a.equivalent(&b), b.equivalent(&a), "{a} {b}");
});
