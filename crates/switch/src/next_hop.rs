//! Where a request goes that is not for a binding: the next hop's URI becomes an address (RFC 3263, RFC 3261 18.1.1), the
//! address a flow.

use std::time::Instant;

use sip::{Flow, Message, Uri};

use crate::arena::Key;
use crate::context::Context;
use crate::route::Route;
use crate::switch::Switch;

impl Switch {
    /// Finds the address of a branch's target and sends there, or asks the DNS first.
    pub(crate) fn resolve_target(
        &mut self,
        now: Instant,
        key: Key<Context>,
        position: u8,
        m: Message<'_>,
        route: &Route<'_>,
    ) {
        let Some(context) = self.contexts.get(key) else {
            return;
        };
        let uri = context.targets[usize::from(position)].uri.as_deref();
        // RFC 3261 16.6 step 7: the first Route value, else the Request-URI.
        let next = route.next.map(|next| next.uri).or(uri).unwrap_or(m.request_uri());
        let inward = context.flow;
        match self.numeric_flow(next, &inward) {
            Some(flow) => self.send_branch(now, key, position, m, route, &flow),
            None => self.branch_done(key, position, 404),
        }
    }

    /// The DNS answered.
    pub fn handle_dns(&mut self, _now: Instant, id: crate::DnsId, _answer: crate::resolve::Answer) {
        self.lookups.remove(&id);
    }

    /// Sends to the next address of the target, if there is one and nobody cancelled.
    pub(crate) fn try_next_address(&mut self, _now: Instant, _key: Key<Context>, _position: u8) -> bool {
        false
    }

    /// The flow to a URI that names an address, from the side that `inward` came in by where that fits.
    pub(crate) fn numeric_flow(&self, uri: &str, inward: &Flow) -> Option<Flow> {
        let uri = Uri::parse(uri).ok()?;
        let ip = uri.host.ip()?;
        let transport = uri
            .params
            .value("transport")
            .and_then(sip::Transport::from_param)
            .unwrap_or(sip::Transport::Udp);
        self.flow_to(
            transport,
            std::net::SocketAddr::new(ip, uri.port.unwrap_or(transport.default_port())),
            inward,
        )
    }

    /// A flow to an address: from the local address that the request came in by, where family and transport allow, or else from
    /// the first of ours that fits.
    fn flow_to(
        &self,
        transport: sip::Transport,
        remote: std::net::SocketAddr,
        inward: &Flow,
    ) -> Option<Flow> {
        let fits = |(known, local): &&(sip::Transport, std::net::SocketAddr)| {
            *known == transport && local.is_ipv4() == remote.is_ipv4()
        };
        let outbound = &self.shared.config.outbound;
        let same = outbound
            .iter()
            .filter(fits)
            .find(|(_, local)| local.ip() == inward.local.ip());
        let (_, local) = same.or_else(|| outbound.iter().find(fits))?;
        Some(Flow {
            transport,
            local: *local,
            remote,
            connection: None,
        })
    }
}
