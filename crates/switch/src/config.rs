//! What an operator can decide about the switch, as plain values. Reading them from a file is the server's work.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use media::negotiation::RelayPolicy;
use sip::Transport;

use crate::keepalive::KeepaliveConfig;

/// Settings of one [`Switch`](crate::Switch). Every worker of a service has the same ones.
#[derive(Clone, Debug)]
pub struct Config {
    /// The address written into Via, Record-Route and SDP instead of the local one (a service behind a 1:1 NAT): at most one per family.
    pub advertise: Vec<IpAddr>,
    /// Timer C (RFC 3261 16.6 step 11, more than 3 minutes): how long an INVITE may ring without news.
    pub timer_c: Duration,
    /// Max-Forwards put into requests that have none (RFC 3261 16.6 step 3).
    pub max_forwards: u32,
    /// Max-Breadth put into requests that have none (RFC 5393 5.3.3).
    pub max_breadth: u32,
    /// Targets of one request, over all of its forks.
    pub max_targets: usize,
    /// Calls that one worker holds; more are refused with 503.
    pub max_calls: usize,
    /// Transactions that one worker holds; more are refused with 503.
    pub max_transactions: usize,
    /// How long a call may last; then it is ended on both sides. The media relay notices much sooner when nobody is there any more,
    /// but a call whose media do not go through it would be kept for ever if no BYE came.
    pub longest_call: Duration,
    /// How long a lookup in the DNS may take before the target counts as unreachable.
    pub dns_timeout: Duration,
    /// How long the final answer of a BYE is held for the call record to be stored.
    pub record_wait: Duration,
    /// Local addresses that requests to the outside leave from, by transport: the first that fits.
    pub outbound: Vec<(Transport, SocketAddr)>,
    /// How phones behind NAT are kept reachable.
    pub keepalive: KeepaliveConfig,
    /// How media takes its way.
    pub relay: RelayPolicy,
    /// Call records are written to the store.
    pub records: bool,
    /// User part of the echo service's address (`sip:echo@DOMAIN`).
    pub echo_user: String,
    /// Value of the Server header in responses of our own.
    pub server_name: &'static str,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            advertise: Vec::new(),
            timer_c: Duration::from_secs(185),
            max_forwards: 70,
            max_breadth: 60,
            max_targets: 32,
            max_calls: 100_000,
            max_transactions: 500_000,
            longest_call: Duration::from_secs(24 * 3600),
            dns_timeout: Duration::from_secs(5),
            record_wait: Duration::from_millis(500),
            outbound: Vec::new(),
            keepalive: KeepaliveConfig::default(),
            relay: RelayPolicy::Auto,
            records: true,
            echo_user: String::from("echo"),
            server_name: "Trapez",
        }
    }
}
