//! Session descriptions: any bytes are read or refused, and what is read can be relayed, twice with the same result.
#![no_main]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use libfuzzer_sys::fuzz_target;
use media::negotiation::{Carrier, Party, RelayPolicy, Role, Session};
use media::sdp::{Edits, Sdp};
use media::{AddressFamily, PortId, PortPair, RelayPorts, SessionId};

fuzz_target!(|bytes: &[u8]| {
    let Ok(sdp) = Sdp::parse(bytes) else { return };
    for media in sdp.media() {
        let _ = (sdp.is_held(media), sdp.direction_of(media), media.line_end());
        for payload_type in media.payload_types().take(4) {
            let _ = media.rtpmap(payload_type);
        }
    }
    let mut copy = Vec::new();
    Edits::new().write(bytes, &mut copy);
    assert_eq!(copy, bytes);

    let source = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7));
    let party = Party {
        signalling: source,
        claimed: None,
    };
    let mut session = Session::new(SessionId(1), RelayPolicy::Always, party);
    let branch = session.add_branch(party);
    let (mut first, mut second, mut answer) = (Vec::new(), Vec::new(), Vec::new());
    let mut ports = Pool(0);
    let mut say = |from, carrier, out: &mut Vec<u8>| {
        session.rewrite(branch, from, carrier, source, bytes, &mut ports, out)
    };
    if say(Role::Caller, Carrier::Invite, &mut first).is_ok() {
        Sdp::parse(if first.is_empty() { bytes } else { &first }).expect("what we write we can read");
        let _ = say(Role::Caller, Carrier::Invite, &mut second);
        assert_eq!(first, second);
        let _ = say(Role::Callee, Carrier::InviteSuccess, &mut answer);
    }
});

struct Pool(u16);

impl RelayPorts for Pool {
    fn allocate(&mut self, _family: AddressFamily) -> Option<PortPair> {
        self.0 += 2;
        let rtp = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 10)), 30_000 + self.0);
        Some(PortPair {
            id: PortId(self.0.into()),
            rtp,
        })
    }

    fn release(&mut self, _id: PortId) {}
}
