//! The media of a built-in user agent that plays back what it hears: its answers to offers, its offer when the INVITE had
//! none, and the one leg at the packet side that sends back what comes in.
//!
//! [`Echo::answer`] for each INVITE and UPDATE with a description, [`Echo::offer`] for an INVITE without and
//! [`Echo::answered`] for its ACK, [`Echo::confirmed`] with the ACK, [`Echo::end`] with the BYE; [`Echo::poll_command`] after
//! each. Any codec will do, since packets come back as they were; encrypted media will not, as each side has keys of its own.

use std::collections::VecDeque;
use std::fmt;
use std::io::Write;
use std::net::IpAddr;

use crate::command::{AddressFamily, Command, Leg, PortPair, RelayPorts, SessionId, Side, StreamId};
use crate::negotiation::{Codec, Line};
use crate::sdp::{Direction, Media, MediaTransport, ParseError, RtpMap, Sdp};

/// Why there is no echo.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EchoError {
    /// Unreadable: the peer's fault (400).
    #[error(transparent)]
    Sdp(#[from] ParseError),
    /// No audio over plain RTP is offered (488).
    #[error("expected an offer with an m=audio line over RTP/AVP or RTP/AVPF")]
    NotAcceptable,
    /// The relay's ports are used up: ours (503).
    #[error("no free relay port for {0:?}")]
    NoPorts(AddressFamily),
}

/// One call to the echo.
#[derive(Debug)]
pub struct Echo {
    session: SessionId,
    caller: IpAddr,
    pair: Option<PortPair>,
    /// Counts descriptions, for o=.
    version: u32,
    /// The leg is open.
    opened: bool,
    codec: Option<Codec>,
    commands: VecDeque<Command>,
}

impl Echo {
    /// A call whose signalling comes from `caller`.
    pub fn new(session: SessionId, caller: IpAddr) -> Self {
        Echo {
            session,
            caller: caller.to_canonical(),
            pair: None,
            version: 0,
            opened: false,
            codec: None,
            commands: VecDeque::new(),
        }
    }

    /// Answers an offer that came from `source`: appends the answer to `out`. After an error all is as before.
    pub fn answer(
        &mut self,
        source: IpAddr,
        offer: &[u8],
        ports: &mut dyn RelayPorts,
        out: &mut Vec<u8>,
    ) -> Result<(), EchoError> {
        let sdp = Sdp::parse(offer)?;
        let line = acceptable(&sdp).ok_or(EchoError::NotAcceptable)?;
        let media = &sdp.media()[line];
        let address = sdp.connection_of(media).and_then(|connection| connection.address);
        let pair = self.take_pair(address.unwrap_or(source), ports)?;
        self.caller = source.to_canonical();
        self.listen(pair, &sdp, media);
        let direction = mirrored(sdp.direction_of(media));
        let formats: Vec<RtpMap<'_>> = accepted_formats(media);
        self.write_head(pair, out);
        for (place, other) in sdp.media().iter().enumerate() {
            if place != line {
                write(out, format_args!("m={} 0 {}", other.media, other.proto));
                other
                    .formats()
                    .for_each(|format| write(out, format_args!(" {format}")));
                write(out, format_args!("\r\n"));
                continue;
            }
            write(out, format_args!("m=audio {} {}", pair.rtp.port(), media.proto));
            formats
                .iter()
                .for_each(|map| write(out, format_args!(" {}", map.payload_type)));
            write(out, format_args!("\r\n"));
            for attribute in media.attributes() {
                // What the caller says about these formats holds for their echo.
                let about = std::str::from_utf8(attribute.value)
                    .ok()
                    .and_then(|value| value.split(' ').next());
                let about = about.and_then(|format| format.parse::<u8>().ok());
                let accepted = about.is_some_and(|about| formats.iter().any(|map| map.payload_type == about));
                if accepted && matches!(attribute.name, b"rtpmap" | b"fmtp") {
                    out.extend_from_slice(offer[attribute.line.clone()].trim_ascii_end());
                    out.extend_from_slice(b"\r\n");
                }
            }
            write(out, format_args!("a={direction}\r\n"));
        }
        Ok(())
    }

    /// An offer for a caller who leaves it to us (INVITE without description): G.711 and telephone-event.
    pub fn offer(&mut self, ports: &mut dyn RelayPorts, out: &mut Vec<u8>) -> Result<(), EchoError> {
        let pair = self.take_pair(self.caller, ports)?;
        self.write_head(pair, out);
        write(
            out,
            format_args!(
                "m=audio {} RTP/AVP 8 0 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\n\
                 a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=sendrecv\r\n",
                pair.rtp.port()
            ),
        );
        Ok(())
    }

    /// The answer to [`Echo::offer`].
    pub fn answered(&mut self, source: IpAddr, answer: &[u8]) -> Result<(), EchoError> {
        let sdp = Sdp::parse(answer)?;
        let media = sdp
            .media()
            .first()
            .filter(|media| media.port != 0)
            .ok_or(EchoError::NotAcceptable)?;
        self.caller = source.to_canonical();
        if let Some(pair) = self.pair {
            self.listen(pair, &sdp, media);
        }
        Ok(())
    }

    /// The call is answered: silence counts from now on.
    pub fn confirmed(&mut self) {
        if self.pair.is_some() {
            self.commands.push_back(Command::Confirm {
                stream: self.stream(),
            });
        }
    }

    /// The counters are wanted: [`Report::Counters`](crate::Report::Counters) will bring them.
    pub fn ask_for_counters(&mut self) {
        if self.opened {
            self.commands.push_back(Command::Snapshot {
                stream: self.stream(),
            });
        }
    }

    /// The call is over.
    pub fn end(&mut self, ports: &mut dyn RelayPorts) {
        if let Some(pair) = self.pair.take() {
            self.commands.push_back(Command::Close {
                stream: self.stream(),
            });
            ports.release(pair.id);
        }
    }

    /// What the packet side is to do, in this order.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// The stream at the packet side.
    pub fn stream(&self) -> StreamId {
        StreamId {
            session: self.session,
            line: 0,
        }
    }

    /// The codec that is echoed.
    pub fn codec(&self) -> Option<&str> {
        self.codec.as_ref().map(Codec::as_str)
    }

    fn take_pair(&mut self, address: IpAddr, ports: &mut dyn RelayPorts) -> Result<PortPair, EchoError> {
        let family = AddressFamily::of(address);
        let pair = match self.pair {
            Some(pair) => pair,
            None => ports.allocate(family).ok_or(EchoError::NoPorts(family))?,
        };
        self.pair = Some(pair);
        Ok(pair)
    }

    /// Opens or updates the leg.
    fn listen(&mut self, pair: PortPair, sdp: &Sdp<'_>, media: &Media<'_>) {
        let line_facts = Line::of(sdp, media);
        self.codec = line_facts.codec;
        let leg = leg(pair, self.caller, line_facts);
        let (stream, side) = (self.stream(), Side::Caller);
        let opened = std::mem::replace(&mut self.opened, true);
        self.commands.push_back(match opened {
            true => Command::Update { stream, side, leg },
            false => Command::Open { stream, side, leg },
        });
    }

    fn write_head(&mut self, pair: PortPair, out: &mut Vec<u8>) {
        self.version += 1;
        let ip = pair.rtp.ip();
        let family = if ip.is_ipv6() { "IP6" } else { "IP4" };
        write(
            out,
            format_args!(
                "v=0\r\no=- {} {} IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\n",
                self.session.0 & 0x7fff_ffff,
                self.version
            ),
        );
    }
}

/// The first m= line that can be echoed.
fn acceptable(sdp: &Sdp<'_>) -> Option<usize> {
    sdp.media().iter().position(|media| {
        media.media == "audio"
            && media.port != 0
            && ["RTP/AVP", "RTP/AVPF"].contains(&media.proto)
            && !accepted_formats(media).is_empty()
    })
}

/// The caller's favourite codec, and telephone-event at the same clock rate if it is offered.
fn accepted_formats<'a>(media: &Media<'a>) -> Vec<RtpMap<'a>> {
    let is = |map: &RtpMap<'_>, name: &str| map.encoding.eq_ignore_ascii_case(name);
    let mut offered = media
        .payload_types()
        .filter_map(|payload_type| media.rtpmap(payload_type));
    let Some(codec) = offered.find(|map| !is(map, "telephone-event") && !is(map, "CN")) else {
        return Vec::new();
    };
    let mut offered = media
        .payload_types()
        .filter_map(|payload_type| media.rtpmap(payload_type));
    let events = offered.find(|map| is(map, "telephone-event") && map.clock_rate == codec.clock_rate);
    std::iter::once(codec).chain(events).collect()
}

/// The answer's direction (RFC 3264 section 6.1).
fn mirrored(direction: Direction) -> &'static str {
    match direction {
        Direction::SendRecv => "sendrecv",
        Direction::SendOnly => "recvonly",
        Direction::RecvOnly => "sendonly",
        Direction::Inactive => "inactive",
    }
}

fn leg(ports: PortPair, caller: IpAddr, line: Line) -> Leg {
    Leg {
        ports,
        transport: MediaTransport::Rtp,
        rtp: line.rtp,
        rtcp: line.rtcp,
        described: true,
        signalling: caller,
        enabled: line.enabled,
        held: line.held,
        rtcp_mux: false,
        echo: true,
        formats: line.formats,
    }
}

fn write(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    // Writing into memory does not fail.
    let _ = out.write_fmt(text);
}

#[cfg(test)]
mod tests;
