//! RTP, RTCP and whatever else arrives at a media port: read within its bounds, judged and counted by a stream.
//! The input is a series of datagrams, each behind a byte for its length and one for where it comes from.
#![no_main]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use media::command::{Formats, Leg};
use media::rtp::{PacketKind, Rtcp, Rtp};
use media::sdp::MediaTransport;
use media::stream::{Action, Stream, StreamConfig};
use media::{Command, Component, PortId, PortPair, SessionId, Side, StreamId};

fuzz_target!(|bytes: &[u8]| {
    let id = StreamId {
        session: SessionId(1),
        line: 0,
    };
    let mut now = Instant::now();
    let mut stream = Stream::new(now, id, StreamConfig::default());
    stream.apply(
        now,
        Command::Open {
            stream: id,
            side: Side::Caller,
            leg: leg(),
        },
    );
    let mut rest = bytes;
    while let [length, origin, tail @ ..] = rest {
        let (datagram, tail) = tail.split_at(usize::from(*length).min(tail.len()));
        rest = tail;
        let _ = PacketKind::of(datagram);
        if let Some(rtp) = Rtp::parse(datagram) {
            let _ = (rtp.payload(), rtp.marker(), rtp.timestamp());
        }
        if let Some(rtcp) = Rtcp::parse(datagram) {
            let _ = (rtcp.ssrc(), rtcp.packets().count());
        }
        now += Duration::from_millis(u64::from(origin >> 3) * 10);
        let stranger = origin & 1 != 0;
        let host = if stranger {
            Ipv4Addr::new(45, 9, 9, 9)
        } else {
            PHONE
        };
        let source = SocketAddr::new(IpAddr::V4(host), 4_000 + u16::from(origin >> 2 & 1));
        let component = if origin & 2 != 0 {
            Component::Rtcp
        } else {
            Component::Rtp
        };
        let action = stream.handle_packet(now, Side::Caller, component, source, &mut datagram.to_vec());
        if let Action::Forward { destination, .. } = action {
            assert!(!stranger && destination.ip() == IpAddr::V4(PHONE), "{action:?}");
        }
    }
});

/// An echo, so that what is accepted is also sent.
fn leg() -> Leg {
    Leg {
        ports: PortPair {
            id: PortId(1),
            rtp: SocketAddr::new(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 10)), 30_000),
        },
        transport: MediaTransport::Rtp,
        rtp: None,
        rtcp: None,
        described: true,
        signalling: IpAddr::V4(PHONE),
        enabled: true,
        held: false,
        rtcp_mux: false,
        echo: true,
        formats: Formats::default(),
    }
}

const PHONE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
