//! Where a message came from or goes to: transport, addresses and, for streams, the connection (RFC 3261, 18).
//! These are plain values; the sockets behind them belong to `net`.

use std::net::SocketAddr;
use std::num::NonZeroU64;

/// A SIP transport (RFC 3261, 18; WebSocket: RFC 7118).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum Transport {
    /// Datagrams.
    Udp,
    /// A plain stream.
    Tcp,
    /// TLS over TCP.
    Tls,
    /// WebSocket.
    Ws,
    /// WebSocket over TLS.
    Wss,
    /// The built-in user agent, inside the process: nothing leaves it.
    Local,
}

impl Transport {
    /// The name in a Via header field, such as `UDP`.
    pub fn as_via(self) -> &'static str {
        match self {
            Transport::Udp => "UDP",
            Transport::Tcp => "TCP",
            Transport::Tls => "TLS",
            Transport::Ws => "WS",
            Transport::Wss => "WSS",
            Transport::Local => "LOCAL",
        }
    }

    /// The value of a URI's `transport` parameter, such as `udp`. `Wss` is `ws` there (RFC 7118, 5.2.4).
    pub fn as_param(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
            Transport::Ws | Transport::Wss => "ws",
            Transport::Local => "local",
        }
    }

    /// True if the transport itself delivers or reports a failure: no SIP retransmissions.
    pub fn is_reliable(self) -> bool {
        self != Transport::Udp
    }

    /// True if nobody on the path can read along: what a `sips:` URI asks for.
    pub fn is_secure(self) -> bool {
        matches!(self, Transport::Tls | Transport::Wss | Transport::Local)
    }

    /// True if messages travel on connections.
    pub fn is_stream(self) -> bool {
        matches!(
            self,
            Transport::Tcp | Transport::Tls | Transport::Ws | Transport::Wss
        )
    }

    /// The port where a URI or a Via names none (RFC 3261, 19.1.2; RFC 7118, 10).
    pub fn default_port(self) -> u16 {
        match self {
            Transport::Udp | Transport::Tcp | Transport::Local => 5060,
            Transport::Tls => 5061,
            Transport::Ws => 80,
            Transport::Wss => 443,
        }
    }

    /// From the name in a Via, in any case of letters. `LOCAL` is never accepted from the wire.
    pub fn from_via(name: &str) -> Option<Self> {
        Transport::WIRE
            .into_iter()
            .find(|t| t.as_via().eq_ignore_ascii_case(name))
    }

    /// From the value of a `transport` parameter, in any case of letters; `ws` is [`Transport::Ws`].
    pub fn from_param(value: &str) -> Option<Self> {
        Transport::WIRE
            .into_iter()
            .find(|t| t.as_param().eq_ignore_ascii_case(value))
    }

    const WIRE: [Transport; 5] = [
        Transport::Udp,
        Transport::Tcp,
        Transport::Tls,
        Transport::Ws,
        Transport::Wss,
    ];
}

/// Names one connection of the process. Never reused, so that a stale flow cannot reach a stranger.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct ConnectionId(pub NonZeroU64);

/// Where a message came from or goes to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Flow {
    /// The transport.
    pub transport: Transport,
    /// The local socket by its real address, never a wildcard.
    pub local: SocketAddr,
    /// The peer.
    pub remote: SocketAddr,
    /// The connection. `None` on a stream means: an open connection to `remote` if there is one, else a new one.
    /// Always `None` on UDP.
    pub connection: Option<ConnectionId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_in_any_case() {
        for transport in Transport::WIRE {
            assert_eq!(
                Transport::from_via(&transport.as_via().to_lowercase()),
                Some(transport)
            );
        }
        assert_eq!(Transport::from_param("TCP"), Some(Transport::Tcp));
        assert_eq!(Transport::from_param("ws"), Some(Transport::Ws));
    }

    #[test]
    fn the_wire_cannot_name_the_local_transport() {
        assert_eq!(Transport::from_via("LOCAL"), None);
        assert_eq!(Transport::from_param("local"), None);
    }
}
