//! Where a request goes that is not for a binding: the next hop's URI becomes a list of addresses (RFC 3263), an address becomes
//! a flow, and one that fails is followed by the next.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sip::resolve::{Answer, Next, Reach, Resolution};
use sip::{Flow, Message, Transport, Uri};
use smallvec::SmallVec;

use crate::arena::Key;
use crate::context::Context;
use crate::event::{DnsId, Event};
use crate::proxy::with_branch;
use crate::route::Route;
use crate::switch::{Lookup, Switch, TimerKey};

impl Switch {
    /// Finds the addresses of a branch's target and sends to the first, or asks the DNS before.
    pub(crate) fn resolve_target(
        &mut self,
        now: Instant,
        key: Key<Context>,
        position: u8,
        m: Message<'_>,
        route: &Route<'_>,
    ) {
        let random = self.random();
        let Some(context) = self.contexts.get(key) else {
            return;
        };
        let uri = context.targets[usize::from(position)].uri.as_deref();
        // RFC 3261 16.6 step 7: the first Route value, else the Request-URI.
        let next = route.next.map(|next| next.uri).or(uri).unwrap_or(m.request_uri());
        let outbound = &self.shared.config.outbound;
        let mut transports = SmallVec::<[Transport; 4]>::new();
        for (transport, _) in outbound {
            if !transports.contains(transport) {
                transports.push(*transport);
            }
        }
        let reach = Reach {
            transports: &transports,
            ipv4: outbound.iter().any(|(_, local)| local.is_ipv4()),
            ipv6: outbound.iter().any(|(_, local)| local.is_ipv6()),
            large: m.bytes().len() + ADDED_BYTES > DATAGRAM_LIMIT,
        };
        let resolution = Uri::parse(next)
            .map_err(|error| error.status())
            .and_then(|uri| Resolution::new(&uri, &reach, random).map_err(|error| error.status()));
        match resolution {
            Ok(resolution) => {
                with_branch(&mut self.contexts, key, position, |branch| {
                    branch.resolution = Some(Box::new(resolution))
                });
                self.advance(now, key, position);
            }
            Err(status) => self.branch_done(key, position, status),
        }
    }

    /// Takes the next step of a branch's resolution: sends to the next address, asks the next questions, or gives up: with the
    /// status that the last address ended in, if there was one.
    fn advance(&mut self, now: Instant, key: Key<Context>, position: u8) {
        let failed = &self.failed_targets;
        let Some(context) = self.contexts.get_mut(key) else {
            return;
        };
        let inward = context.flow;
        let Some(branch) = context.branches.get_mut(usize::from(position)) else {
            return;
        };
        let Some(resolution) = &mut branch.resolution else {
            return;
        };
        match resolution.next_target(|target| failed.contains(now, target)) {
            Next::Target(target) => {
                branch.address = Some(target);
                let last = branch.last;
                let Some(flow) = self.flow_to(target.transport, target.address, &inward) else {
                    // We have the transport and the family, but not together.
                    with_branch(&mut self.contexts, key, position, |branch| {
                        branch.last = last.or(Some(480));
                    });
                    return self.advance(now, key, position);
                };
                // Taken out for the while: sending does not need the context's copy.
                let Some(request) = self
                    .contexts
                    .get_mut(key)
                    .and_then(|context| context.request.take())
                else {
                    return;
                };
                let m = request.message();
                let route = Route::of(m, &self.shared.directory, &self.shared.secret);
                self.send_branch(now, key, position, m, &route, &flow);
                if let Some(context) = self.contexts.get_mut(key) {
                    context.request = Some(request);
                }
            }
            Next::Pending => {
                while let Some(query) = resolution.poll_query() {
                    self.counter += 1;
                    let id = DnsId(self.counter);
                    let timer =
                        self.timers
                            .schedule(now, now + self.shared.config.dns_timeout, TimerKey::Lookup(id));
                    self.lookups.insert(
                        id,
                        Lookup {
                            context: key,
                            position,
                            query: query.clone(),
                            timer,
                        },
                    );
                    self.events.push_back(Event::Dns { id, query });
                }
            }
            Next::Exhausted(error) => {
                let status = branch.last.unwrap_or(error.status());
                self.branch_done(key, position, status);
            }
        }
    }

    /// The DNS answered. Answers to questions that are no longer open are ignored.
    pub fn handle_dns(&mut self, now: Instant, id: DnsId, answer: Answer) {
        let Some(lookup) = self.lookups.remove(&id) else {
            return;
        };
        self.timers.cancel(lookup.timer);
        let mut waits = false;
        with_branch(&mut self.contexts, lookup.context, lookup.position, |branch| {
            waits = branch.state == crate::context::BranchState::Resolving;
            if let Some(resolution) = &mut branch.resolution {
                resolution.handle_answer(&lookup.query, answer);
            }
        });
        if waits {
            self.advance(now, lookup.context, lookup.position);
            self.conclude(now, lookup.context);
        }
        self.settle(now);
    }

    /// The address in use has failed: notes it for as long as it wants to be left alone, and sends to the next one of the target,
    /// if there is one and nobody cancelled.
    pub(crate) fn try_next_address(
        &mut self,
        now: Instant,
        key: Key<Context>,
        position: u8,
        status: u16,
        retry_after: Option<Duration>,
    ) -> bool {
        let Some(context) = self.contexts.get_mut(key) else {
            return false;
        };
        let cancelled = context.cancelled || context.finished.is_some();
        let Some(branch) = context.branches.get_mut(usize::from(position)) else {
            return false;
        };
        if cancelled {
            return false;
        }
        if branch.resolution.is_none() {
            return status == 480 && self.send_again(now, key, position);
        }
        if let Some(address) = branch.address.take() {
            self.failed_targets.insert(now, address, retry_after);
        }
        branch.client = None;
        branch.last = Some(status);
        branch.state = crate::context::BranchState::Resolving;
        self.advance(now, key, position);
        // `advance` has ended the branch when there was nothing left.
        true
    }

    /// The flow to a URI that names an address, from the side that `inward` came in by where that fits.
    pub(crate) fn numeric_flow(&self, uri: &str, inward: &Flow) -> Option<Flow> {
        let uri = Uri::parse(uri).ok()?;
        let ip = uri.host.ip()?;
        let transport = uri
            .params
            .value("transport")
            .map_or(Some(Transport::Udp), Transport::from_param)?;
        self.flow_to(
            transport,
            SocketAddr::new(ip, uri.port.unwrap_or(transport.default_port())),
            inward,
        )
    }

    /// A flow to an address: from the local address that the request came in by, where family and transport allow, or else from
    /// the first of ours that fits.
    fn flow_to(&self, transport: Transport, remote: SocketAddr, inward: &Flow) -> Option<Flow> {
        let outbound = &self.shared.config.outbound;
        let fits = |(known, local): &&(Transport, SocketAddr)| {
            *known == transport && local.is_ipv4() == remote.is_ipv4()
        };
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

/// About what forwarding adds to a request: Via, Record-Route with a token, Max-Breadth.
const ADDED_BYTES: usize = 350;

/// Above this a request does not go over UDP where there is a choice (RFC 3261 18.1.1: the path's MTU is not known, so 1300).
const DATAGRAM_LIMIT: usize = 1300;
