//! Every key of the configuration, and the rules that hold between keys.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use media::negotiation::RelayPolicy;
use sip::digest::Algorithm;
use switch::registrar::{UnknownPath, WhenFull};

use super::declare::{Key, Section, bounds, configuration, section};
use super::read::Reader;
use super::value::{Domain, PortRange, StoreUrl, Value};

configuration! {
    /// The configuration of a service, checked: every value is usable as it is.
    pub struct Config {
        ..General { domains: Vec<Domain> },
        listen: Listen,
        auth: Auth,
        registrar: RegistrarSection,
        proxy: Proxy,
        media: Media,
        nat: Nat,
        limits: Limits,
        server: Server,
        records: Records,
        store: StoreSection,
        log: Log,
    }
}

section! {
    /// What the service is.
    pub(super) struct General in "" {
        /// The domains that the service answers for.
        ///
        /// Accounts belong to one of them; the first is meant when an account is named without a domain. A domain is
        /// a host name or an IP address. When there is none, the service answers for its own IP addresses, which
        /// count as one domain named `trapez`: that is enough for a first try and for a small office. The domain is
        /// also the realm of its accounts' passwords, so an account cannot move to another domain: make it anew.
        domains: Vec<Domain> = [], since "0.1";
    }
}

section! {
    /// Where the service listens for SIP.
    pub struct Listen in "listen" {
        /// Addresses for SIP over UDP.
        ///
        /// `0.0.0.0` and `[::]` stand for every address of the machine; answers leave from the address that was asked
        /// all the same. `[::]` takes IPv6 only. On a machine without IPv6 it is left out. An empty list means no UDP.
        udp: Vec<SocketAddr> = ["0.0.0.0:5060", "[::]:5060"], since "0.1";
        /// Addresses for SIP over TCP.
        ///
        /// As for `udp`. Phones switch to TCP for messages that do not fit into one packet (RFC 3261 section 18.1.1),
        /// so leave it on.
        tcp: Vec<SocketAddr> = ["0.0.0.0:5060", "[::]:5060"], since "0.1";
        /// The public address of a service that stands behind a NAT itself, instead of its own.
        ///
        /// It is written into Via, Record-Route and SDP. The router in front must map the ports of `listen` and of
        /// `media.ports` one to one. Name at most one IPv4 and one IPv6 address. Without it every message carries the
        /// address that it leaves from, which is right for a service with public addresses.
        advertise: Vec<IpAddr> = [], since "0.1";
    }
}

section! {
    /// Who has to prove who he is.
    pub struct Auth in "auth" {
        /// Networks whose requests are believed without a password.
        ///
        /// For gateways and servers that cannot log in. Whoever sends from such an address may call anywhere and as
        /// anyone, so name single addresses where you can. Over UDP a source address can be forged.
        trusted: Vec<IpNet> = [], since "0.1";
        /// Digest algorithms that are offered, one challenge each, in this order (RFC 7616, RFC 8760).
        ///
        /// A phone should take the first that it knows, but many give up as soon as one is offered that they do not
        /// know: baresip 1.0 beside anything but MD5, linphone 5.1 beside SHA-512-256. So MD5 stands alone until you
        /// know your phones; then name the strongest first. Accounts are ready for all three.
        algorithms: Vec<Algorithm> = ["MD5"], since "0.1";
        /// How long a phone may go on using one challenge.
        ///
        /// After that it is challenged again with `stale=true` and answers by itself. When it is longer than a
        /// registration, a phone refreshes with one round trip instead of two.
        nonce_lifetime: Duration = "1h", from "1m" to "1d", since "0.1";
        /// Wrong passwords for one account from one source, an IPv4 address or an IPv6 /64, before it is refused.
        ///
        /// Then everything from there that carries a password for that account is answered 403, the right password as
        /// well, until `wrong_passwords_within` is over. A right password before starts the count anew. `0` refuses
        /// nobody, and passwords can be guessed at the speed of the line.
        wrong_passwords: u32 = 10, from 0 to 10_000, since "0.1";
        /// How long wrong passwords count, and how long their source is refused when they are too many.
        wrong_passwords_within: Duration = "5m", from "1s" to "1d", since "0.1";
    }
}

section! {
    /// How phones register.
    pub struct RegistrarSection in "registrar" {
        /// Whether a registration that was answered 200 survives a crash and a restart.
        ///
        /// The answer waits until the registration is on the disk, which takes a few milliseconds; many share one
        /// write. With `false` registrations live in memory, and after a restart phones are reached again when they
        /// next refresh.
        durable: bool = true, since "0.1";
        /// The shortest registration that is accepted.
        ///
        /// Shorter ones are answered 423 with this as Min-Expires (RFC 3261 section 10.3).
        min_expires: Duration = "60s", from "1s" to "1h", since "0.1";
        /// The length of a registration that does not say how long.
        ///
        /// When it is not given, `max_expires` bounds it.
        default_expires: Duration = "1h", from "1s" to "7d", since "0.1";
        /// The longest registration that is given.
        ///
        /// Who asks for more gets this. Long registrations save load; short ones find out sooner that a phone is gone.
        max_expires: Duration = "1h", from "1s" to "7d", since "0.1";
        /// How many places one account may be registered at.
        max_bindings: u32 = 10, from 1 to 1000, since "0.1";
        /// What happens when an account registers at one place too many.
        ///
        /// `"replace-oldest"` drops the one that was refreshed longest ago, mostly what a phone left behind when its
        /// address changed; `"refuse"` answers 403.
        when_full: WhenFull = "replace-oldest", since "0.1";
        /// What happens to a Path header (RFC 3327) when the phone does not say that it knows them.
        ///
        /// `"refuse"` answers 420 as the RFC recommends. `"accept"` is for phones behind an edge proxy of your own.
        unknown_path: UnknownPath = "refuse", since "0.1";
    }
}

section! {
    /// How requests are forwarded.
    pub struct Proxy in "proxy" {
        /// How long a call may ring without news before it is given up (timer C, RFC 3261 section 16.6).
        timer_c: Duration = "185s", from "181s" to "1h", since "0.1";
        /// Max-Forwards for requests that have none (RFC 3261 section 16.6).
        max_forwards: u32 = 70, from 1 to 255, since "0.1";
        /// Max-Breadth for requests that have none (RFC 5393): how many branches a request may have in all.
        max_breadth: u32 = 60, from 1 to 1000, since "0.1";
        /// How many targets one request is forwarded to.
        max_targets: u32 = 32, from 1 to 1000, since "0.1";
    }
}

section! {
    /// How sound takes its way.
    pub struct Media in "media" {
        /// When media is led over this service.
        ///
        /// `"auto"` relays unless both ends provably reach each other, `"always"` relays every call, `"never"` leaves
        /// the addresses in SDP as they came.
        relay: RelayPolicy = "auto", since "0.1";
        /// UDP ports of the relay, first and last.
        ///
        /// A call with one audio stream takes four: RTP and RTCP on each side. They must be reachable from outside,
        /// and must not overlap with what other programs use.
        ports: PortRange = "30000-39999", since "0.1";
        /// A call without a packet from either side for so long is ended.
        silence_timeout: Duration = "60s", from "5s" to "1d", since "0.1";
        /// The same for a call on hold, where silence is usual.
        hold_timeout: Duration = "1h", from "5s" to "7d", since "0.1";
    }
}

section! {
    /// What is done for phones behind NAT routers.
    pub struct Nat in "nat" {
        /// How often the way through the router of a registered phone is kept open.
        ///
        /// Many routers forget a way after 30 seconds without a packet from outside or inside. `"0s"` sends nothing,
        /// and then calls reach only phones that keep their way open themselves.
        keepalive: Duration = "25s", from "0s" to "10m", since "0.1";
    }
}

section! {
    /// What the service holds at most. Beyond that it refuses politely instead of running out of memory.
    pub struct Limits in "limits" {
        /// Transactions of one worker at a time; more are answered 503.
        transactions: u32 = 200_000, from 1000 to 16_000_000, since "0.1";
        /// Calls of one worker at a time; more are answered 503.
        calls: u32 = 100_000, from 1 to 1_000_000, since "0.1";
        /// How long an answered call may last; then it is ended on both sides with a BYE and a Reason.
        ///
        /// A relayed call that nobody is in any more ends much sooner, by `media.silence_timeout`. This is for the others,
        /// and against calls that somebody has forgotten.
        call_duration: Duration = "1d", from "1m" to "30d", since "0.1";
        /// TCP connections at a time; more are not accepted.
        connections: u32 = 20_000, from 10 to 1_000_000, since "0.1";
        /// TCP connections at a time from one source: an IPv4 address or an IPv6 /64.
        ///
        /// Many customers may share one address of a carrier's NAT.
        connections_per_source: u32 = 1_000, from 1 to 1_000_000, since "0.1";
        /// A TCP connection on which nothing was read or written for so long is closed.
        connection_idle: Duration = "15m", from "1m" to "7d", since "0.1";
    }
}

section! {
    /// How the service uses the machine.
    pub struct Server in "server" {
        /// Threads for signalling: `"auto"` is one per core.
        workers: Option<u8> = "auto", since "0.1";
        /// Threads for relayed media: `"auto"` is one per core.
        media_workers: Option<u8> = "auto", since "0.1";
    }
}

section! {
    /// What is written down about calls.
    pub struct Records in "records" {
        /// Whether a record of each call is written to the store when it ends.
        ///
        /// The answer to the phone that hangs up waits until the record is on the disk, which takes a few
        /// milliseconds; many share one write. With `false` nothing is written, and `trapez records` shows nothing.
        enabled: bool = true, since "0.1";
        /// How long a record is kept; older ones are removed.
        ///
        /// It counts from the beginning of the call. `"0s"` keeps all for ever, and the file grows. Mind what the law says
        /// about how long you may, or must, know who talked to whom.
        keep: Duration = "365d", from "0s" to "36500d", since "0.1";
    }
}

section! {
    /// Where accounts, registrations and call records are kept.
    pub struct StoreSection in "store" {
        /// The store: `sqlite:` and a file, relative to the data directory.
        url: StoreUrl = "sqlite:trapez.db", since "0.1";
    }
}

section! {
    /// What is logged.
    pub struct Log in "log" {
        /// The least important level that is logged: `"error"`, `"warn"`, `"info"`, `"debug"` or `"trace"`.
        level: tracing::Level = "info", since "0.1";
    }
}

/// The rules that hold between keys. Each error names the key that is to be changed.
pub(super) fn check(config: &mut Config, reader: &mut Reader<'_>) {
    let registrar = &mut config.registrar;
    if !reader.has("registrar", "default_expires") {
        registrar.default_expires = registrar.default_expires.clamp(
            registrar.min_expires,
            registrar.max_expires.max(registrar.min_expires),
        );
    }
    if registrar.max_expires < registrar.min_expires {
        reader.refuse(
            "registrar.max_expires",
            "is shorter than registrar.min_expires",
            "make it at least as long",
        );
    } else if registrar.default_expires < registrar.min_expires
        || registrar.default_expires > registrar.max_expires
    {
        reader.refuse(
            "registrar.default_expires",
            "lies outside of registrar.min_expires and registrar.max_expires",
            "choose a length between the two",
        );
    }
    if config.listen.udp.is_empty() && config.listen.tcp.is_empty() {
        reader.refuse(
            "listen.udp",
            "and listen.tcp are both empty",
            "name at least one address in one of them",
        );
    }
    for (key, repeated) in [
        ("domains", has_repeated(&config.domains)),
        ("listen.udp", has_repeated(&config.listen.udp)),
        ("listen.tcp", has_repeated(&config.listen.tcp)),
        ("auth.algorithms", has_repeated(&config.auth.algorithms)),
    ] {
        if repeated {
            reader.refuse(key, "names something twice", "name it once");
        }
    }
    if config.auth.algorithms.is_empty() {
        reader.refuse(
            "auth.algorithms",
            "is empty",
            "name at least one of \"SHA-512-256\", \"SHA-256\", \"MD5\"",
        );
    }
    let advertise = &config.listen.advertise;
    if advertise.iter().filter(|ip| ip.is_ipv4()).count() > 1
        || advertise.iter().filter(|ip| ip.is_ipv6()).count() > 1
    {
        reader.refuse(
            "listen.advertise",
            "names several addresses of one family",
            "name at most one IPv4 and one IPv6 address",
        );
    }
    if advertise.iter().any(IpAddr::is_unspecified) {
        reader.refuse(
            "listen.advertise",
            "names an address that stands for all",
            "name the address that phones reach",
        );
    }
}

fn has_repeated<T: PartialEq>(list: &[T]) -> bool {
    list.iter().enumerate().any(|(i, item)| list[..i].contains(item))
}
