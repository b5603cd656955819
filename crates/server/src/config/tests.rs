use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use media::negotiation::RelayPolicy;
use sip::digest::Algorithm;
use switch::registrar::WhenFull;

use super::*;

fn errors(text: &str) -> Vec<String> {
    match Config::parse("trapez.toml", text) {
        Ok(config) => panic!("accepted: {config:?}"),
        Err(errors) => errors.0.iter().map(ToString::to_string).collect(),
    }
}

fn parse(text: &str) -> Config {
    Config::parse("trapez.toml", text).unwrap_or_else(|errors| panic!("{errors}"))
}

#[test]
fn an_empty_file_is_valid_and_every_default_is_a_value_within_its_bounds() {
    let config = parse("");
    let every: Vec<SocketAddr> = vec!["0.0.0.0:5060".parse().unwrap(), "[::]:5060".parse().unwrap()];
    assert_eq!(config.listen.udp, every);
    assert_eq!(config.listen.tcp, every);
    assert_eq!(config.default_domain(), "trapez");
    assert!(config.registrar.durable);
    assert_eq!(
        config.media.ports,
        PortRange {
            first: 30_000,
            last: 39_999
        }
    );
    assert_eq!(config.nat.keepalive, Duration::from_secs(25));
    assert_eq!(config.store.url, StoreUrl::Sqlite("trapez.db".into()));
    assert_eq!(config, Config::default());
    // Written out, the defaults are checked like anybody's values.
    let written: String = sample().lines().filter_map(written_out).collect();
    assert_eq!(parse(&written), config);
}

/// A line of the sample with its key in force.
fn written_out(line: &str) -> Option<String> {
    match line.strip_prefix('#') {
        Some(rest) if !rest.starts_with(' ') => Some(format!("{rest}\n")),
        Some(_) => None,
        None => Some(format!("{line}\n")),
    }
}

#[test]
fn the_sample_as_printed_changes_nothing() {
    assert_eq!(parse(&sample()), Config::default());
}

#[test]
fn the_reference_page_is_current() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../docs/reference/configuration.md"
    );
    let current = fs::read_to_string(path).unwrap_or_default();
    assert!(
        current == reference(),
        "docs/reference/configuration.md is out of date: run \
         `cargo run -- config reference > docs/reference/configuration.md`"
    );
}

#[test]
fn values_are_read_as_what_they_are() {
    let config = parse(
        r#"
        domains = ["Example.ORG.", "192.0.2.1", "[2001:db8::1]"]
        [listen]
        udp = "192.0.2.1:5080"
        advertise = "203.0.113.10"
        [auth]
        trusted = ["192.0.2.0/24", "2001:db8::7"]
        algorithms = ["MD5"]
        nonce_lifetime = "90m"
        [registrar]
        durable = false
        when_full = "refuse"
        max_expires = "10m"
        [media]
        relay = "always"
        ports = "1024-65535"
        [limits]
        calls = 1_000
        [server]
        workers = 2
        [store]
        url = "sqlite:/srv/phones.db"
        [log]
        level = "debug"
        "#,
    );
    let domains: Vec<&str> = config.domains.iter().map(Domain::as_str).collect();
    assert_eq!(domains, ["example.org", "192.0.2.1", "2001:db8::1"]);
    assert!(config.serves("example.org") && !config.serves("trapez"));
    assert_eq!(config.listen.udp, ["192.0.2.1:5080".parse().unwrap()]);
    assert_eq!(
        config.listen.advertise,
        ["203.0.113.10".parse::<IpAddr>().unwrap()]
    );
    assert_eq!(
        config.auth.trusted,
        [
            "192.0.2.0/24".parse().unwrap(),
            "2001:db8::7/128".parse().unwrap()
        ]
    );
    assert_eq!(config.auth.algorithms, [Algorithm::Md5]);
    assert_eq!(config.auth.nonce_lifetime, Duration::from_secs(5400));
    assert!(!config.registrar.durable);
    assert_eq!(config.registrar.when_full, WhenFull::Refuse);
    assert_eq!(
        config.registrar.default_expires,
        Duration::from_secs(600),
        "bounded by max_expires"
    );
    assert_eq!(config.media.relay, RelayPolicy::Always);
    assert_eq!(config.limits.calls, 1000);
    assert_eq!(
        (config.server.workers, config.server.media_workers),
        (Some(2), None)
    );
    assert_eq!(config.store.url, StoreUrl::Sqlite("/srv/phones.db".into()));
    assert_eq!(config.log.level, tracing::Level::DEBUG);
}

#[test]
fn every_mistake_is_reported_with_its_place_and_a_remedy() {
    let text = "\
domain = [\"example.org\"]
ports = \"1-2\"
[lisen]
udp = []
[registrar]
durabel = true
max_bindings = 0
when_full = \"replace\"
min_expires = 60
[media]
quality = 1
realy = \"auto\"
ports = \"30000\"
[auth]
trusted = [
  \"192.0.2.0/24\",
  \"192.0.2.7/24\",
]
[log.level]
";
    let expected = "\
trapez.toml:1:1: domain: there is no such key; did you mean domains?
trapez.toml:2:1: ports: there is no such key; move ports to the table [media]
trapez.toml:3:2: lisen: there is no such table; did you mean [listen]?
trapez.toml:6:1: registrar.durabel: there is no such key; did you mean durable?
trapez.toml:7:16: registrar.max_bindings: expected a whole number from 1 to 1000, found 0; choose a value in between
trapez.toml:8:13: registrar.when_full: expected \"refuse\" or \"replace-oldest\", found \"replace\"; the default is when_full = \"replace-oldest\"
trapez.toml:9:15: registrar.min_expires: expected a length of time with its unit (ms, s, m, h or d), such as \"25s\", found 60; the default is min_expires = \"60s\"
trapez.toml:11:1: media.quality: there is no such key; the keys of [media] are relay, ports, silence_timeout, hold_timeout
trapez.toml:12:1: media.realy: there is no such key; did you mean relay?
trapez.toml:13:9: media.ports: expected a range of at least four ports from 1024 up, such as \"30000-39999\", found \"30000\"; the default is ports = \"30000-39999\"
trapez.toml:17:3: auth.trusted: expected a network, such as \"192.0.2.0/24\", or a single IP address, found \"192.0.2.7/24\"; the default is trusted = []
trapez.toml:19:1: log.level: expected \"error\", \"warn\", \"info\", \"debug\" or \"trace\", found a table; the default is level = \"info\"";
    assert_eq!(errors(text).join("\n"), expected);
}

#[test]
fn keys_that_contradict_each_other_are_refused() {
    let text = "[registrar]\nmin_expires = \"20m\"\nmax_expires = \"10m\"\n[listen]\nudp = []\ntcp = []\nadvertise = [\"192.0.2.1\", \"192.0.2.2\"]\n";
    assert_eq!(
        errors(text),
        [
            "trapez.toml:3:1: registrar.max_expires: is shorter than registrar.min_expires; make it at least as long",
            "trapez.toml:5:1: listen.udp: and listen.tcp are both empty; name at least one address in one of them",
            "trapez.toml:7:1: listen.advertise: names several addresses of one family; name at most one IPv4 and one IPv6 address",
        ]
    );
    assert_eq!(
        errors("[registrar]\ndefault_expires = \"2h\"\n"),
        [
            "trapez.toml:2:1: registrar.default_expires: lies outside of registrar.min_expires and registrar.max_expires; choose a length between the two"
        ]
    );
    assert_eq!(
        errors("domains = [\"a.org\", \"A.org\"]"),
        ["trapez.toml:1:1: domains: names something twice; name it once"]
    );
}

#[test]
fn text_that_is_no_toml_is_reported_with_its_place() {
    let errors = errors("[listen]\nudp = [\"0.0.0.0:5060\"\n");
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].starts_with("trapez.toml:"), "{errors:?}");
}

#[test]
fn a_domain_is_a_host_name_or_an_address() {
    for good in [
        "example.org",
        "xn--mnchen-3ya.de",
        "localhost",
        "192.0.2.1",
        "2001:db8::1",
        "a_b.example",
    ] {
        assert_eq!(Domain::parse(good).map(|d| d.to_string()), Some(good.to_owned()));
    }
    for bad in [
        "",
        ".",
        "a..b",
        "-a.org",
        "a b",
        "münchen.de",
        "192.0.2.256",
        "1.2.3",
        "sip:example.org",
        "a@b",
        "a.org:5060",
    ] {
        assert_eq!(Domain::parse(bad), None, "{bad}");
    }
}

#[test]
fn explain_takes_a_key_its_last_part_or_a_table_and_suggests_the_nearest() {
    let text = explain("media.ports").unwrap();
    assert!(
        text.starts_with("media.ports\n\nUDP ports of the relay"),
        "{text}"
    );
    assert!(text.contains("default  \"30000-39999\""), "{text}");
    assert_eq!(explain("ports").unwrap(), text);
    assert!(explain("registrar").unwrap().contains("max_bindings"));
    let error = explain("media.prots").unwrap_err();
    assert_eq!(
        error.to_string(),
        "there is no key or table media.prots; did you mean media.ports?"
    );
}
