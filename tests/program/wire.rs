//! A hand-written SIP client on UDP for what no telephone would send.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use md5::{Digest, Md5};

use crate::server::password;
use crate::site::DOMAIN;

/// A socket that talks to one server.
pub(crate) struct Wire {
    socket: UdpSocket,
    server: SocketAddr,
}

/// A message that came: a response, or a request to us.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) text: String,
}

/// A request in the making; what is not set is as a well-behaved telephone would have it.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) method: &'static str,
    pub(crate) uri: String,
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) call_id: String,
    pub(crate) sequence: u32,
    pub(crate) max_forwards: u32,
    /// Whole lines without their end.
    pub(crate) more: Vec<String>,
    pub(crate) body: String,
}

impl Request {
    /// From `account` of our domain to `uri`.
    pub(crate) fn new(method: &'static str, account: &str, uri: &str) -> Self {
        let number = unique();
        Self {
            method,
            uri: uri.to_owned(),
            from: format!("<sip:{account}@{DOMAIN}>;tag=f{number}"),
            to: format!("<{uri}>"),
            call_id: format!("{number}-{}@{DOMAIN}", std::process::id()),
            sequence: 1,
            max_forwards: 70,
            more: Vec::new(),
            body: String::new(),
        }
    }

    pub(crate) fn with(mut self, line: impl Into<String>) -> Self {
        self.more.push(line.into());
        self
    }
}

impl Wire {
    pub(crate) fn new(address: IpAddr, server: SocketAddr) -> Self {
        Self::at(SocketAddr::new(address, 0), server)
    }

    pub(crate) fn at(local: SocketAddr, server: SocketAddr) -> Self {
        let socket = UdpSocket::bind(local).unwrap_or_else(|why| panic!("{local} cannot be bound: {why}"));
        Self { socket, server }
    }

    pub(crate) fn local(&self) -> SocketAddr {
        self.socket.local_addr().expect("a bound socket has an address")
    }

    /// Contact of `account` at this socket.
    pub(crate) fn contact(&self, account: &str) -> String {
        format!("<sip:{account}@{}>", self.local())
    }

    /// Writes out `request` with a new branch.
    pub(crate) fn render(&self, request: &Request) -> String {
        let local = self.local();
        let mut text = format!(
            "{} {} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bK{}-{};rport\r\nMax-Forwards: {}\r\nFrom: {}\r\n\
             To: {}\r\nCall-ID: {}\r\nCSeq: {} {}\r\n",
            request.method,
            request.uri,
            unique(),
            std::process::id(),
            request.max_forwards,
            request.from,
            request.to,
            request.call_id,
            request.sequence,
            request.method,
        );
        for line in &request.more {
            text.push_str(line);
            text.push_str("\r\n");
        }
        text.push_str(&format!(
            "Content-Length: {}\r\n\r\n{}",
            request.body.len(),
            request.body
        ));
        text
    }

    pub(crate) fn options(&self, uri: &str) -> String {
        self.render(&Request::new("OPTIONS", "probe", uri))
    }

    /// A datagram, as it is.
    pub(crate) fn send(&self, text: &str) {
        self.send_bytes(text.as_bytes());
    }

    pub(crate) fn send_bytes(&self, bytes: &[u8]) {
        // A server that is not there yet, or no more, shows up as an error of the next call.
        let _ = self.socket.send_to(bytes, self.server);
    }

    /// The next datagram that is a message.
    pub(crate) fn receive(&self, patience: Duration) -> Option<Received> {
        let end = Instant::now() + patience;
        let mut buffer = vec![0; 65_536];
        loop {
            let rest = end.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return None;
            }
            self.socket
                .set_read_timeout(Some(rest))
                .expect("a timeout above zero is accepted");
            match self.socket.recv(&mut buffer) {
                Ok(length) if length > 4 => {
                    return Some(Received {
                        text: String::from_utf8_lossy(&buffer[..length]).into_owned(),
                    });
                }
                _ => {}
            }
        }
    }

    /// The next response that is final.
    #[track_caller]
    pub(crate) fn final_response(&self, patience: Duration) -> Received {
        self.try_final_response(patience)
            .unwrap_or_else(|| panic!("no final response within {patience:?}"))
    }

    fn try_final_response(&self, patience: Duration) -> Option<Received> {
        let end = Instant::now() + patience;
        loop {
            let received = self.receive(end.saturating_duration_since(Instant::now()))?;
            if received.status() >= 200 {
                return Some(received);
            }
        }
    }

    /// The next request with this method; responses and other requests are passed over.
    #[track_caller]
    pub(crate) fn request(&self, method: &str, patience: Duration) -> Received {
        let end = Instant::now() + patience;
        while let Some(received) = self.receive(end.saturating_duration_since(Instant::now())) {
            if received.text.starts_with(&format!("{method} ")) {
                return received;
            }
        }
        panic!("no {method} within {patience:?}");
    }

    /// Sends text and returns the final response to it.
    #[track_caller]
    pub(crate) fn exchange(&self, text: &str) -> Received {
        self.send(text);
        self.final_response(PATIENCE)
    }

    /// Sends `request`, answers a challenge for `account`, returns the final response; acknowledges a refused INVITE.
    #[track_caller]
    pub(crate) fn ask(&self, request: &Request, account: &str) -> Received {
        self.try_ask(request, account)
            .unwrap_or_else(|| panic!("no answer to {} within {PATIENCE:?}", request.method))
    }

    /// The same where the server may be gone.
    pub(crate) fn try_ask(&self, request: &Request, account: &str) -> Option<Received> {
        let mut request = request.clone();
        self.send(&self.render(&request));
        let mut response = self.try_final_response(PATIENCE)?;
        if let Some(authorization) = response.authorization(&request, account) {
            self.acknowledge(&request, &response);
            request.sequence += 1;
            request.more.push(authorization);
            self.send(&self.render(&request));
            response = self.try_final_response(PATIENCE)?;
        }
        self.acknowledge(&request, &response);
        Some(response)
    }

    /// REGISTER of `account` by itself, with a Contact at this socket.
    #[track_caller]
    pub(crate) fn register(&self, account: &str, expires: u32) -> Received {
        self.try_register(account, expires)
            .unwrap_or_else(|| panic!("no answer to REGISTER within {PATIENCE:?}"))
    }

    /// The same where the server may be gone.
    pub(crate) fn try_register(&self, account: &str, expires: u32) -> Option<Received> {
        let request = Request {
            to: format!("<sip:{account}@{DOMAIN}>"),
            ..Request::new("REGISTER", account, &format!("sip:{DOMAIN}"))
        };
        self.try_ask(
            &request.with(format!("Contact: {};expires={expires}", self.contact(account))),
            account,
        )
    }

    /// ACK to a final response other than 2xx: same branch, hop by hop.
    fn acknowledge(&self, request: &Request, response: &Received) {
        if request.method == "INVITE" && response.status() >= 300 {
            let via = response.header("Via").expect("a response has our Via");
            let to = response.header("To").expect("a response has a To");
            self.send(&format!(
                "ACK {} SIP/2.0\r\nVia: {via}\r\nMax-Forwards: 70\r\nFrom: {}\r\nTo: {to}\r\nCall-ID: {}\r\n\
                 CSeq: {} ACK\r\nContent-Length: 0\r\n\r\n",
                request.uri, request.from, request.call_id, request.sequence
            ));
        }
    }
}

impl Received {
    /// The status of a response, 0 for a request.
    pub(crate) fn status(&self) -> u16 {
        self.text
            .strip_prefix("SIP/2.0 ")
            .and_then(|rest| rest.get(..3)?.parse().ok())
            .unwrap_or(0)
    }

    /// The value of the first header line with this (long) name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers(name).next()
    }

    pub(crate) fn headers(&self, name: &str) -> impl Iterator<Item = &str> {
        self.text
            .lines()
            .take_while(|line| !line.is_empty())
            .filter_map(move |line| {
                let (found, value) = line.split_once(':')?;
                found.trim().eq_ignore_ascii_case(name).then(|| value.trim())
            })
    }

    /// A response to this request, as our telephone gives it.
    pub(crate) fn respond(&self, status: u16, more: &[&str]) -> String {
        self.respond_with(status, more, "")
    }

    /// 200 with this session description.
    pub(crate) fn answer(&self, contact: &str, sdp: &str) -> String {
        self.respond_with(200, &[contact, "Content-Type: application/sdp"], sdp)
    }

    fn respond_with(&self, status: u16, more: &[&str], body: &str) -> String {
        let mut text = format!("SIP/2.0 {status} As Tested\r\n");
        for name in ["Via", "Record-Route", "From", "Call-ID", "CSeq"] {
            for value in self.headers(name) {
                text.push_str(&format!("{name}: {value}\r\n"));
            }
        }
        let to = self.header("To").expect("a request has a To");
        let tag = if to.contains("tag=") || status == 100 {
            ""
        } else {
            ";tag=callee"
        };
        text.push_str(&format!("To: {to}{tag}\r\n"));
        for line in more {
            text.push_str(&format!("{line}\r\n"));
        }
        text.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
        text
    }

    /// The header line that answers this challenge for MD5, or none if it is no challenge.
    pub(crate) fn authorization(&self, request: &Request, account: &str) -> Option<String> {
        self.authorization_with(request, account, &password(account))
    }

    pub(crate) fn authorization_with(
        &self,
        request: &Request,
        account: &str,
        password: &str,
    ) -> Option<String> {
        let (challenge, name) = match self.status() {
            401 => ("WWW-Authenticate", "Authorization"),
            407 => ("Proxy-Authenticate", "Proxy-Authorization"),
            _ => return None,
        };
        let offered: Vec<&str> = self.headers(challenge).collect();
        let challenge = offered.iter().find(|value| {
            let algorithm = parameter(value, "algorithm");
            algorithm.is_none_or(|algorithm| algorithm.eq_ignore_ascii_case("MD5"))
        });
        let challenge = challenge.unwrap_or_else(|| panic!("no challenge for MD5 in {offered:?}"));
        let realm = parameter(challenge, "realm").expect("a challenge has a realm");
        let nonce = parameter(challenge, "nonce").expect("a challenge has a nonce");
        let (method, uri) = (request.method, &request.uri);
        let cnonce = format!("c{}", unique());
        let secret = md5(&format!("{account}:{realm}:{password}"));
        let what = md5(&format!("{method}:{uri}"));
        let response = md5(&format!("{secret}:{nonce}:00000001:{cnonce}:auth:{what}"));
        Some(format!(
            "{name}: Digest username=\"{account}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{uri}\", \
             response=\"{response}\", cnonce=\"{cnonce}\", nc=00000001, qop=auth, algorithm=MD5"
        ))
    }
}

/// The value of a challenge's parameter, without its quotes.
fn parameter<'a>(challenge: &'a str, name: &str) -> Option<&'a str> {
    challenge.trim_start_matches("Digest").split(',').find_map(|one| {
        let (found, value) = one.split_once('=')?;
        found
            .trim()
            .eq_ignore_ascii_case(name)
            .then(|| value.trim().trim_matches('"'))
    })
}

fn md5(text: &str) -> String {
    Md5::digest(text)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn unique() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Longer than the server needs for anything that it decides itself.
const PATIENCE: Duration = Duration::from_secs(5);
