//! One binding of an address-of-record to a contact (RFC 3261 10.3), in one small allocation.
//!
//! A service holds a hundred thousand of these and more, so everything that a refresh leaves as it is (texts, flow, q) is packed
//! into one shared block, and only what each refresh changes lies beside it. A clone copies no text.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::Arc;

use sip::{ConnectionId, Flow, Transport};
use smallvec::SmallVec;

/// A binding as the location service holds it. Cloning shares the texts.
#[derive(Clone, PartialEq)]
pub struct Binding {
    /// Lengths of the texts, q, reg-id, length of the flow, flow, texts.
    packed: Arc<[u8]>,
    expires: u32,
    registered_at: u32,
    cseq: u32,
    /// Number of the change whose write to the store is under way, as far as it fits; 0 when there is none.
    pub(crate) pending: u32,
}

/// The parts of a binding, as a registration or the store gives them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BindingParts<'a> {
    /// The address-of-record in canonical form, `user@domain`.
    pub aor: &'a str,
    /// The contact URI as the user agent wrote it.
    pub contact: &'a str,
    /// Call-ID of the registration.
    pub call_id: &'a str,
    /// CSeq number of the REGISTER that set it last.
    pub cseq: u32,
    /// Preference in thousandths (RFC 3261 20.10), 1000 when the contact had none.
    pub q: u16,
    /// When it ends, Unix seconds.
    pub expires: u64,
    /// When the contact was first registered, Unix seconds.
    pub registered_at: u64,
    /// The Path header's values, comma-separated (RFC 3327); empty when there is none.
    pub path: &'a str,
    /// The `+sip.instance` parameter without its quotes (RFC 5626 4.1); empty when there is none.
    pub instance: &'a str,
    /// The `reg-id` parameter (RFC 5626 4.2), 0 when there is none.
    pub reg_id: u16,
    /// The User-Agent header, possibly cut short; empty when there is none.
    pub user_agent: &'a str,
    /// The way the REGISTER came and requests to the contact go.
    pub flow: Flow,
    /// A NAT stands between the user agent and this service.
    pub behind_nat: bool,
}

impl Binding {
    /// Packs a binding. A text longer than 65,535 bytes is cut there; the registrar's limits are far below.
    pub fn new(parts: &BindingParts<'_>) -> Binding {
        Binding::with_packed(Arc::from(&pack(parts)[..]), parts)
    }

    /// The same contact registered again: the block is shared when the new registration says the same as the old one.
    pub(crate) fn refreshed(&self, parts: &BindingParts<'_>) -> Binding {
        let packed = if self.is_packed_of(parts) {
            Arc::clone(&self.packed)
        } else {
            Arc::from(&pack(parts)[..])
        };
        Binding::with_packed(packed, parts)
    }

    /// Whether [`pack`] would give the block that is here already.
    fn is_packed_of(&self, parts: &BindingParts<'_>) -> bool {
        let texts = texts(parts);
        let (head, length) = pack_head(parts, &texts);
        let Some(mut rest) = self.packed.strip_prefix(&head[..length]) else {
            return false;
        };
        texts.iter().all(|text| match rest.strip_prefix(text.as_bytes()) {
            Some(after) => {
                rest = after;
                true
            }
            None => false,
        })
    }

    fn with_packed(packed: Arc<[u8]>, parts: &BindingParts<'_>) -> Binding {
        Binding {
            packed,
            expires: seconds(parts.expires),
            registered_at: seconds(parts.registered_at),
            cseq: parts.cseq,
            pending: 0,
        }
    }

    /// All parts, borrowed.
    pub fn parts(&self) -> BindingParts<'_> {
        BindingParts {
            aor: self.aor(),
            contact: self.contact(),
            call_id: self.call_id(),
            cseq: self.cseq,
            q: self.q(),
            expires: self.expires(),
            registered_at: self.registered_at(),
            path: self.path(),
            instance: self.instance(),
            reg_id: self.reg_id(),
            user_agent: self.user_agent(),
            flow: self.flow(),
            behind_nat: self.behind_nat(),
        }
    }

    /// The address-of-record, `user@domain`.
    pub fn aor(&self) -> &str {
        self.text(0)
    }

    /// The contact URI as the user agent wrote it.
    pub fn contact(&self) -> &str {
        self.text(1)
    }

    /// Call-ID of the registration.
    pub fn call_id(&self) -> &str {
        self.text(2)
    }

    /// The Path header's values, comma-separated; empty when there is none.
    pub fn path(&self) -> &str {
        self.text(3)
    }

    /// The `+sip.instance` parameter without its quotes; empty when there is none.
    pub fn instance(&self) -> &str {
        self.text(4)
    }

    /// The User-Agent header, possibly cut short; empty when there is none.
    pub fn user_agent(&self) -> &str {
        self.text(5)
    }

    /// Preference in thousandths.
    pub fn q(&self) -> u16 {
        self.number(TEXTS * 2)
    }

    /// The `reg-id` parameter, 0 when there is none.
    pub fn reg_id(&self) -> u16 {
        self.number(TEXTS * 2 + 2)
    }

    /// When it ends, Unix seconds.
    pub fn expires(&self) -> u64 {
        u64::from(self.expires)
    }

    /// When the contact was first registered, Unix seconds.
    pub fn registered_at(&self) -> u64 {
        u64::from(self.registered_at)
    }

    /// CSeq number of the REGISTER that set it last.
    pub fn cseq(&self) -> u32 {
        self.cseq
    }

    /// A NAT stands between the user agent and this service.
    pub fn behind_nat(&self) -> bool {
        self.byte(HEAD) & FLAG_NAT != 0
    }

    /// The way the REGISTER came and requests to the contact go.
    pub fn flow(&self) -> Flow {
        // Written by `new` alone, so it always decodes; the fallback keeps this free of panics.
        decode_flow(self.flow_bytes()).map_or(NOWHERE, |(flow, _)| flow)
    }

    /// The flow and whether a NAT is in it, as bytes for a store; [`decode_flow`] reads them.
    pub fn flow_bytes(&self) -> &[u8] {
        self.packed
            .get(HEAD..HEAD + self.flow_length())
            .unwrap_or_default()
    }

    /// The contact as bytes: writing it needs no check that it is text.
    pub(crate) fn contact_bytes(&self) -> &[u8] {
        self.text_bytes(1)
    }

    /// The instance as bytes.
    pub(crate) fn instance_bytes(&self) -> &[u8] {
        self.text_bytes(4)
    }

    /// It is a binding of that address-of-record. Comparing needs no check that the bytes are text.
    pub(crate) fn is_of(&self, aor: &str) -> bool {
        self.text_bytes(0) == aor.as_bytes()
    }

    /// It has that contact, written in the same way.
    pub(crate) fn has_contact(&self, contact: &str) -> bool {
        self.text_bytes(1) == contact.as_bytes()
    }

    /// A REGISTER with that Call-ID made it.
    pub(crate) fn has_call_id(&self, call_id: &str) -> bool {
        self.text_bytes(2) == call_id.as_bytes()
    }

    /// It has that instance.
    pub(crate) fn has_instance(&self, instance: &str) -> bool {
        self.text_bytes(4) == instance.as_bytes()
    }

    /// The transport of the flow.
    pub fn transport(&self) -> Transport {
        transport_of(self.byte(HEAD)).unwrap_or(Transport::Udp)
    }

    /// The connection it came by, for a stream that was not restored from the store.
    pub(crate) fn connection(&self) -> Option<ConnectionId> {
        if self.byte(HEAD) & FLAG_CONNECTION == 0 {
            return None;
        }
        let id = self.flow_bytes().last_chunk::<8>()?;
        NonZeroU64::new(u64::from_le_bytes(*id)).map(ConnectionId)
    }

    /// Bytes of the shared block, with the two counters of its `Arc`.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.packed.len() + 2 * size_of::<usize>()
    }

    fn text(&self, which: usize) -> &str {
        str::from_utf8(self.text_bytes(which)).unwrap_or("")
    }

    fn text_bytes(&self, which: usize) -> &[u8] {
        self.packed.get(self.range(which)).unwrap_or_default()
    }

    fn range(&self, which: usize) -> Range<usize> {
        let before: usize = (0..which).map(|text| usize::from(self.number(text * 2))).sum();
        let start = HEAD + self.flow_length() + before;
        start..start + usize::from(self.number(which * 2))
    }

    fn flow_length(&self) -> usize {
        usize::from(self.byte(HEAD - 1))
    }

    fn number(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.byte(at), self.byte(at + 1)])
    }

    fn byte(&self, at: usize) -> u8 {
        self.packed.get(at).copied().unwrap_or(0)
    }
}

impl fmt::Debug for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts().fmt(f)
    }
}

/// Lengths, numbers, flow and texts in one block; put together on the stack.
fn pack(parts: &BindingParts<'_>) -> SmallVec<[u8; 512]> {
    let texts = texts(parts);
    let (head, length) = pack_head(parts, &texts);
    let mut packed = SmallVec::new();
    packed.extend_from_slice(&head[..length]);
    for text in texts {
        packed.extend_from_slice(text.as_bytes());
    }
    packed
}

/// What stands before the texts, and its length.
fn pack_head(parts: &BindingParts<'_>, texts: &[&str; TEXTS]) -> ([u8; HEAD + MAX_FLOW], usize) {
    let mut head = [0; HEAD + MAX_FLOW];
    let (numbers, flow) = head.split_at_mut(HEAD);
    let lengths = texts.map(|text| text.len() as u16);
    let values = lengths.into_iter().chain([parts.q, parts.reg_id]);
    for (place, value) in numbers.as_chunks_mut::<2>().0.iter_mut().zip(values) {
        *place = value.to_le_bytes();
    }
    let flow_length = encode_flow(&parts.flow, parts.behind_nat, flow);
    head[HEAD - 1] = flow_length as u8;
    (head, HEAD + flow_length)
}

/// The texts in their order, none longer than its length can say.
fn texts<'a>(parts: &BindingParts<'a>) -> [&'a str; TEXTS] {
    [
        parts.aor,
        parts.contact,
        parts.call_id,
        parts.path,
        parts.instance,
        parts.user_agent,
    ]
    .map(|text| &text[..text.floor_char_boundary(usize::from(u16::MAX))])
}

/// Texts of a binding.
const TEXTS: usize = 6;

/// Bytes before the flow: six lengths, q, reg-id, length of the flow.
const HEAD: usize = TEXTS * 2 + 5;

/// Longest flow: IPv6 over a connection.
const MAX_FLOW: usize = 1 + 2 * 18 + 8;

const FLAG_NAT: u8 = 0x80;
const FLAG_V6: u8 = 0x40;
const FLAG_CONNECTION: u8 = 0x20;

const NOWHERE: Flow = Flow {
    transport: Transport::Udp,
    local: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
    remote: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
    connection: None,
};

/// Reads what [`Binding::flow_bytes`] gave: the flow, and whether a NAT is in it. `None` when it is something else.
pub fn decode_flow(bytes: &[u8]) -> Option<(Flow, bool)> {
    let (&head, mut rest) = bytes.split_first()?;
    let transport = transport_of(head)?;
    let local = decode_address(head & FLAG_V6 != 0, &mut rest)?;
    let remote = decode_address(head & FLAG_V6 != 0, &mut rest)?;
    let connection = match head & FLAG_CONNECTION {
        0 => None,
        _ => Some(ConnectionId(NonZeroU64::new(u64::from_le_bytes(
            *rest.first_chunk()?,
        ))?)),
    };
    Some((
        Flow {
            transport,
            local,
            remote,
            connection,
        },
        head & FLAG_NAT != 0,
    ))
}

fn transport_of(head: u8) -> Option<Transport> {
    Some(match head & !(FLAG_NAT | FLAG_V6 | FLAG_CONNECTION) {
        0 => Transport::Udp,
        1 => Transport::Tcp,
        2 => Transport::Tls,
        3 => Transport::Ws,
        4 => Transport::Wss,
        5 => Transport::Local,
        _ => return None,
    })
}

/// Times fit 32 bits until 2106.
fn seconds(unix: u64) -> u32 {
    u32::try_from(unix).unwrap_or(u32::MAX)
}

fn encode_flow(flow: &Flow, behind_nat: bool, out: &mut [u8]) -> usize {
    let Flow {
        transport,
        local,
        remote,
        connection,
    } = *flow;
    let v6 = local.is_ipv6() || remote.is_ipv6();
    let mut length = 1;
    let mut put = |bytes: &[u8]| {
        out[length..length + bytes.len()].copy_from_slice(bytes);
        length += bytes.len();
    };
    for address in [local, remote] {
        match address.ip() {
            IpAddr::V4(ip) if !v6 => put(&ip.octets()),
            IpAddr::V4(ip) => put(&ip.to_ipv6_mapped().octets()),
            IpAddr::V6(ip) => put(&ip.octets()),
        }
        put(&address.port().to_le_bytes());
    }
    if let Some(ConnectionId(id)) = connection {
        put(&id.get().to_le_bytes());
    }
    out[0] = match transport {
        Transport::Udp => 0,
        Transport::Tcp => 1,
        Transport::Tls => 2,
        Transport::Ws => 3,
        Transport::Wss => 4,
        Transport::Local => 5,
    } | if v6 { FLAG_V6 } else { 0 }
        | if connection.is_some() { FLAG_CONNECTION } else { 0 }
        | if behind_nat { FLAG_NAT } else { 0 };
    length
}

fn decode_address(v6: bool, rest: &mut &[u8]) -> Option<SocketAddr> {
    let ip = if v6 {
        let (octets, tail) = rest.split_first_chunk::<16>()?;
        *rest = tail;
        Ipv6Addr::from(*octets).to_canonical()
    } else {
        let (octets, tail) = rest.split_first_chunk::<4>()?;
        *rest = tail;
        IpAddr::V4(Ipv4Addr::from(*octets))
    };
    let (port, tail) = rest.split_first_chunk::<2>()?;
    *rest = tail;
    Some(SocketAddr::new(ip, u16::from_le_bytes(*port)))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn flow(remote: &str) -> Flow {
        let remote: SocketAddr = remote.parse().expect("a literal address");
        let local = if remote.is_ipv6() {
            "[2001:db8::2]:5060"
        } else {
            "203.0.113.2:5060"
        };
        Flow {
            transport: Transport::Udp,
            local: local.parse().expect("a literal address"),
            remote,
            connection: None,
        }
    }

    pub(crate) fn parts<'a>(aor: &'a str, contact: &'a str, flow: Flow) -> BindingParts<'a> {
        BindingParts {
            aor,
            contact,
            call_id: "a84b4c76e66710@192.168.1.10",
            cseq: 1826,
            q: 1000,
            expires: 2_000_003_600,
            registered_at: 2_000_000_000,
            path: "",
            instance: "<urn:uuid:00000000-0000-1000-8000-000a95a0e128>",
            reg_id: 1,
            user_agent: "baresip v3.16.0",
            flow,
            behind_nat: true,
        }
    }

    #[test]
    fn a_binding_gives_back_what_was_packed() {
        for (remote, connection, transport) in [
            ("192.0.2.7:40000", 0, Transport::Udp),
            ("192.0.2.7:40000", 7, Transport::Tcp),
            ("[2001:db8::7]:1", u64::MAX, Transport::Wss),
            ("[2001:db8::7]:65535", 0, Transport::Tls),
        ] {
            let flow = Flow {
                transport,
                connection: NonZeroU64::new(connection).map(ConnectionId),
                ..flow(remote)
            };
            let parts = BindingParts {
                path: "<sip:edge.example.org;lr>, <sip:inner.example.org;lr>",
                q: 300,
                ..parts(
                    "alice@example.org",
                    "sip:alice@192.168.1.10:5060;transport=udp",
                    flow,
                )
            };
            let binding = Binding::new(&parts);
            assert_eq!(binding.parts(), parts);
            assert_eq!(binding.connection(), flow.connection);
        }
    }

    #[test]
    fn a_refresh_that_changes_no_text_shares_the_block() {
        let parts = parts(
            "alice@example.org",
            "sip:alice@192.168.1.10",
            flow("192.0.2.7:40000"),
        );
        let binding = Binding::new(&parts);
        let same = binding.refreshed(&BindingParts {
            cseq: 1827,
            expires: 2_000_007_200,
            ..parts
        });
        assert!(Arc::ptr_eq(&binding.packed, &same.packed));
        assert_eq!((same.cseq(), same.expires()), (1827, 2_000_007_200));
        let moved = binding.refreshed(&BindingParts {
            flow: flow("192.0.2.7:40001"),
            ..parts
        });
        assert_eq!(moved.flow(), flow("192.0.2.7:40001"));
    }

    #[test]
    fn a_text_too_long_is_cut_at_a_character() {
        let long = "ä".repeat(40_000);
        let binding = Binding::new(&BindingParts {
            user_agent: &long,
            ..parts(
                "alice@example.org",
                "sip:alice@192.168.1.10",
                flow("192.0.2.7:40000"),
            )
        });
        assert_eq!(binding.user_agent().len(), 65_534);
        assert_eq!(binding.contact(), "sip:alice@192.168.1.10");
    }
}
