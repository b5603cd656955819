//! The kinds of values that keys take: what each is called, and how it is read.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use media::negotiation::RelayPolicy;
use sip::digest::Algorithm;
use switch::registrar::{UnknownPath, WhenFull};
use toml::Spanned;
use toml::de::DeValue;

/// A value of the file.
pub(super) trait Value: Sized {
    /// What it is called after "expected".
    const KIND: &'static str;

    fn read(value: &Spanned<DeValue<'_>>) -> Result<Self, Problem>;
}

/// Why a value is not what it should be.
pub(super) struct Problem {
    /// The bytes of the file that are at fault.
    pub(super) span: Range<usize>,
    /// What stands there.
    pub(super) found: String,
    /// What was expected.
    pub(super) expected: &'static str,
}

/// A value that is written as a TOML string.
trait FromText: Sized {
    const KIND: &'static str;
    /// The name of a list of these.
    const LIST: &'static str;

    fn from_text(text: &str) -> Option<Self>;
}

impl<T: FromText> Value for T {
    const KIND: &'static str = T::KIND;

    fn read(value: &Spanned<DeValue<'_>>) -> Result<Self, Problem> {
        value
            .get_ref()
            .as_str()
            .and_then(T::from_text)
            .ok_or_else(|| problem(value, T::KIND))
    }
}

/// A list, for which a single value may stand as well.
impl<T: FromText> Value for Vec<T> {
    const KIND: &'static str = T::LIST;

    fn read(value: &Spanned<DeValue<'_>>) -> Result<Self, Problem> {
        match value.get_ref() {
            DeValue::Array(items) => items.iter().map(T::read).collect(),
            DeValue::String(_) => Ok(vec![T::read(value)?]),
            _ => Err(problem(value, T::LIST)),
        }
    }
}

impl Value for bool {
    const KIND: &'static str = "true or false";

    fn read(value: &Spanned<DeValue<'_>>) -> Result<Self, Problem> {
        value
            .get_ref()
            .as_bool()
            .ok_or_else(|| problem(value, Self::KIND))
    }
}

impl Value for u32 {
    const KIND: &'static str = "a whole number";

    fn read(value: &Spanned<DeValue<'_>>) -> Result<Self, Problem> {
        whole_number(value).ok_or_else(|| problem(value, Self::KIND))
    }
}

/// A number of threads; `None` for as many as suit the machine.
impl Value for Option<u8> {
    const KIND: &'static str = "\"auto\" or a whole number from 1 to 64";

    fn read(value: &Spanned<DeValue<'_>>) -> Result<Self, Problem> {
        match (value.get_ref().as_str(), whole_number(value)) {
            (Some("auto"), _) => Ok(None),
            (_, Some(number @ 1..=64)) => Ok(Some(number as u8)),
            _ => Err(problem(value, Self::KIND)),
        }
    }
}

fn whole_number(value: &Spanned<DeValue<'_>>) -> Option<u32> {
    let integer = value.get_ref().as_integer()?;
    u32::from_str_radix(integer.as_str(), integer.radix()).ok()
}

fn problem(value: &Spanned<DeValue<'_>>, expected: &'static str) -> Problem {
    let found = match value.get_ref() {
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Integer(number) => number.as_str().to_owned(),
        DeValue::Float(number) => number.as_str().to_owned(),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    };
    Problem {
        span: value.span(),
        found,
        expected,
    }
}

/// A domain: a host name in lower case, or an IP address (IPv6 without brackets).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain(String);

impl Domain {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads a domain as people write it: any case, a dot at the end, IPv6 with or without brackets.
    pub fn parse(text: &str) -> Option<Self> {
        let bare = text
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(text);
        if let Ok(ip) = bare.parse::<IpAddr>() {
            return Some(Self(ip.to_string()));
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let label = |label: &str| {
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        // A name of digits and dots only would be an address with a slip in it.
        let alphabetic = name.bytes().any(|b| b.is_ascii_alphabetic());
        (name.len() <= 253 && alphabetic && name.split('.').all(label)).then_some(Self(name))
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A range of UDP ports, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    /// The first port.
    pub first: u16,
    /// The last port.
    pub last: u16,
}

/// Where the store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrl {
    /// An SQLite file; relative to the data directory.
    Sqlite(PathBuf),
}

impl FromText for SocketAddr {
    const KIND: &'static str = "an IP address with port, such as \"0.0.0.0:5060\" or \"[::]:5060\"";
    const LIST: &'static str = "a list of IP addresses with port, such as [\"0.0.0.0:5060\", \"[::]:5060\"]";

    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl FromText for IpAddr {
    const KIND: &'static str = "an IP address, such as \"203.0.113.10\"";
    const LIST: &'static str = "an IP address or a list of them, such as \"203.0.113.10\"";

    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl FromText for IpNet {
    const KIND: &'static str = "a network, such as \"192.0.2.0/24\", or a single IP address";
    const LIST: &'static str = "a list of networks, such as [\"192.0.2.0/24\", \"2001:db8::/32\"]";

    fn from_text(text: &str) -> Option<Self> {
        match text.parse::<IpAddr>() {
            Ok(address) => Some(address.into()),
            // 192.0.2.7/24 names a host: whoever wrote it meant that, or a network; only he knows.
            Err(_) => text
                .parse::<Self>()
                .ok()
                .filter(|network| network.trunc() == *network),
        }
    }
}

impl FromText for Domain {
    const KIND: &'static str = "a domain, such as \"example.org\"";
    const LIST: &'static str = "a list of domains, such as [\"example.org\"]";

    fn from_text(text: &str) -> Option<Self> {
        Self::parse(text)
    }
}

impl FromText for PortRange {
    const KIND: &'static str = "a range of at least four ports from 1024 up, such as \"30000-39999\"";
    const LIST: &'static str = "a list of port ranges";

    fn from_text(text: &str) -> Option<Self> {
        let (first, last) = text.split_once('-')?;
        let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        (first >= 1024 && last >= first && last - first >= 3).then_some(Self { first, last })
    }
}

impl FromText for Duration {
    const KIND: &'static str = "a length of time with its unit (ms, s, m, h or d), such as \"25s\"";
    const LIST: &'static str = "a list of lengths of time";

    fn from_text(text: &str) -> Option<Self> {
        parse_duration(text)
    }
}

/// Reads a length of time as the configuration writes it: a whole number and ms, s, m, h or d.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let unit = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit);
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number
        .parse::<u64>()
        .ok()?
        .checked_mul(milliseconds)
        .map(Duration::from_millis)
}

impl FromText for StoreUrl {
    const KIND: &'static str = "\"sqlite:\" and a file, such as \"sqlite:trapez.db\"";
    const LIST: &'static str = "a list of stores";

    fn from_text(text: &str) -> Option<Self> {
        match text.strip_prefix("sqlite:")? {
            // SQLite's word for a store that ends with the program: nothing that was answered 200 may end so.
            "" | ":memory:" => None,
            path => Some(Self::Sqlite(Path::new(path).to_owned())),
        }
    }
}

/// Values that are one of some words.
macro_rules! words {
    ($($type:ty, $kind:literal: $($word:literal => $value:expr),+;)+) => {$(
        impl FromText for $type {
            const KIND: &'static str = $kind;
            const LIST: &'static str = concat!("a list of ", $kind);

            fn from_text(text: &str) -> Option<Self> {
                match text {
                    $($word => Some($value),)+
                    _ => None,
                }
            }
        }
    )+};
}

words! {
    RelayPolicy, "\"auto\", \"always\" or \"never\"":
        "auto" => RelayPolicy::Auto, "always" => RelayPolicy::Always, "never" => RelayPolicy::Never;
    WhenFull, "\"refuse\" or \"replace-oldest\"":
        "refuse" => WhenFull::Refuse, "replace-oldest" => WhenFull::ReplaceOldest;
    UnknownPath, "\"refuse\" or \"accept\"":
        "refuse" => UnknownPath::Refuse, "accept" => UnknownPath::Accept;
    Algorithm, "\"SHA-512-256\", \"SHA-256\" or \"MD5\"":
        "SHA-512-256" => Algorithm::Sha512_256, "SHA-256" => Algorithm::Sha256, "MD5" => Algorithm::Md5;
    tracing::Level, "\"error\", \"warn\", \"info\", \"debug\" or \"trace\"":
        "error" => tracing::Level::ERROR, "warn" => tracing::Level::WARN, "info" => tracing::Level::INFO,
        "debug" => tracing::Level::DEBUG, "trace" => tracing::Level::TRACE;
}
