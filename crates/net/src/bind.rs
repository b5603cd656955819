//! Why a socket could not be had, in words for the person who started the program.

use std::{fmt, io, net::SocketAddr};

/// The protocol of a listening socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// UDP.
    Udp,
    /// TCP, bare or below TLS or WebSocket.
    Tcp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Udp => "udp",
            Protocol::Tcp => "tcp",
        })
    }
}

/// A listening address that could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {protocol} {address}: {}", reason(.source))]
pub struct BindError {
    /// What was to be listened for.
    pub protocol: Protocol,
    /// The address that was asked for.
    pub address: SocketAddr,
    /// What the system said.
    pub source: io::Error,
}

impl BindError {
    /// One sentence that says what to do about it.
    pub fn remedy(&self) -> String {
        let (address, port) = (self.address.ip(), self.address.port());
        match self.source.kind() {
            io::ErrorKind::AddrInUse => {
                let filter = match self.protocol {
                    Protocol::Udp => "-lunp",
                    Protocol::Tcp => "-ltnp",
                };
                format!(
                    "stop the program that holds it (`ss {filter} 'sport = :{port}'` names it) or choose another port"
                )
            }
            io::ErrorKind::AddrNotAvailable => {
                format!("no interface of this machine has {address}: choose one that `ip address` shows")
            }
            io::ErrorKind::PermissionDenied => {
                format!(
                    "port {port} needs a privilege: choose one from 1024 up, or grant CAP_NET_BIND_SERVICE"
                )
            }
            _ => "check the address and the limits of the process (`ulimit -n`)".to_owned(),
        }
    }
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "the port is in use".to_owned(),
        io::ErrorKind::AddrNotAvailable => "the address does not belong to this machine".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}
