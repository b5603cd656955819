//! The m= lines of a session as the packet side knows them: their ports, and what is said about each leg.

use std::net::{IpAddr, SocketAddr};

use crate::command::{AddressFamily, Command, Formats, Leg, PortPair, RelayPorts, Side};
use crate::sdp::MediaTransport;

use super::description::{Description, Line};
use super::fork::Fork;
use super::{Error, Ports, Role, Session};

impl Session {
    /// Takes ports for the lines that have none yet, and opens their legs.
    pub(super) fn open_lines(
        &mut self,
        place: usize,
        from: Role,
        source: IpAddr,
        description: &Description,
        ports: &mut dyn RelayPorts,
    ) -> Result<(), Error> {
        for (line, facts) in description
            .iter()
            .enumerate()
            .filter(|(_, facts)| facts.is_relayed())
        {
            let own_family = AddressFamily::of(facts.address.unwrap_or(source));
            let fork = &self.branches[place];
            let (caller_family, callee_family) = match from {
                Role::Caller => (own_family, AddressFamily::of(fork.callee.signalling)),
                Role::Callee => (AddressFamily::of(self.caller.signalling), own_family),
            };
            let stream = self.stream(line);
            let facts_of = |role| (role == from).then_some(facts);
            if take_pair(&mut self.caller_ports, line, caller_family, ports)?
                && let Some(leg) = self.leg(place, Role::Caller, line, facts_of(Role::Caller), None)
            {
                let side = Side::Caller;
                self.commands.push_back(Command::Open { stream, side, leg });
            }
            if take_pair(&mut self.branches[place].ports, line, callee_family, ports)?
                && let Some(leg) = self.leg(place, Role::Callee, line, facts_of(Role::Callee), None)
            {
                let branch = self.branches[place].branch;
                let side = Side::Callee(branch);
                self.commands.push_back(Command::Open { stream, side, leg });
                if self.confirmed == Some(branch) {
                    self.commands.push_back(Command::Select { stream, branch });
                    self.commands.push_back(Command::Confirm { stream });
                }
            }
        }
        Ok(())
    }

    /// The leg of `role` at a line, from its own description and the other end's.
    fn leg(
        &self,
        place: usize,
        role: Role,
        line: usize,
        own: Option<&Line>,
        other: Option<&Line>,
    ) -> Option<Leg> {
        let fork = &self.branches[place];
        let (pairs, party) = match role {
            Role::Caller => (&self.caller_ports, &self.caller),
            Role::Callee => (&fork.ports, &fork.callee),
        };
        let both = || own.into_iter().chain(other);
        let mut formats = Formats::default();
        both().for_each(|line| formats.extend(&line.formats));
        let rtcp_mux = own.is_some_and(|own| own.rtcp_mux) && other.is_some_and(|other| other.rtcp_mux);
        // An address of the call's own would make packets go round in circles.
        let foreign = |address: &SocketAddr| !self.is_own(place, *address);
        Some(Leg {
            ports: pairs.get(line).copied().flatten()?,
            transport: both().next().map_or(MediaTransport::Rtp, |line| line.transport),
            rtp: own.and_then(|own| own.rtp).filter(foreign),
            rtcp: own.and_then(|own| own.rtcp).filter(foreign).filter(|_| !rtcp_mux),
            described: own.is_some(),
            signalling: party.signalling,
            enabled: both().all(|line| line.enabled),
            held: both().any(|line| line.held),
            rtcp_mux,
            echo: false,
            formats,
        })
    }

    fn is_own(&self, place: usize, address: SocketAddr) -> bool {
        let pairs = self
            .caller_ports
            .iter()
            .chain(&self.branches[place].ports)
            .flatten();
        pairs
            .into_iter()
            .any(|pair| pair.rtp == address || pair.rtcp() == address)
    }

    /// Tells the packet side what was agreed on at a branch.
    pub(super) fn update_lines(&mut self, place: usize) {
        for line in 0..self.caller_ports.len() {
            let fork = &self.branches[place];
            let side = Side::Callee(fork.branch);
            let (caller, callee) = (fork.caller_agreed.get(line), fork.callee_agreed.get(line));
            let stream = self.stream(line);
            if caller.is_none() && callee.is_none() {
                continue;
            }
            let caller_leg = self.leg(place, Role::Caller, line, caller, callee);
            let callee_leg = self.leg(place, Role::Callee, line, callee, caller);
            for (side, leg) in [(Side::Caller, caller_leg), (side, callee_leg)] {
                if let Some(leg) = leg {
                    self.commands.push_back(Command::Update { stream, side, leg });
                }
            }
        }
    }

    pub(super) fn close_branch(&mut self, fork: &Fork, ports: &mut dyn RelayPorts) {
        for (line, pair) in fork.ports.iter().enumerate() {
            if let Some(pair) = pair {
                let stream = self.stream(line);
                self.commands.push_back(Command::CloseLeg {
                    stream,
                    side: Side::Callee(fork.branch),
                });
                ports.release(pair.id);
            }
        }
    }

    /// Closes the lines that no agreed or pending description has.
    pub(super) fn trim_lines(&mut self, ports: &mut dyn RelayPorts) {
        let needed = |fork: &Fork| {
            let offers = fork.exchanges.iter().map(|exchange| exchange.offer.len());
            offers
                .chain([fork.caller_agreed.len(), fork.callee_agreed.len()])
                .max()
                .unwrap_or(0)
        };
        let needed = self.branches.iter().map(needed).max().unwrap_or(0);
        self.close_lines(|line, _| line >= needed, ports);
    }

    /// Closes the lines that `closes` picks by their number and the first branch's ports.
    pub(super) fn close_lines(
        &mut self,
        closes: impl Fn(usize, Option<PortPair>) -> bool,
        ports: &mut dyn RelayPorts,
    ) {
        for line in 0..self.caller_ports.len() {
            let first = self.branches.first().and_then(|fork| *fork.ports.get(line)?);
            let Some(pair) = self.caller_ports[line].filter(|_| closes(line, first)) else {
                continue;
            };
            let stream = self.stream(line);
            self.commands.push_back(Command::Close { stream });
            self.caller_ports[line] = None;
            ports.release(pair.id);
            for fork in &mut self.branches {
                if let Some(pair) = fork.ports.get_mut(line).and_then(Option::take) {
                    ports.release(pair.id);
                }
            }
        }
    }
}

/// Makes sure that `pairs` has a pair for `line`. True when it is new. Where a family has no ports the other one may do.
fn take_pair(
    pairs: &mut Ports,
    line: usize,
    family: AddressFamily,
    ports: &mut dyn RelayPorts,
) -> Result<bool, Error> {
    if pairs.len() <= line {
        pairs.resize(line + 1, None);
    }
    if pairs[line].is_some() {
        return Ok(false);
    }
    let pair = ports.allocate(family).or_else(|| {
        ports.allocate(match family {
            AddressFamily::V4 => AddressFamily::V6,
            AddressFamily::V6 => AddressFamily::V4,
        })
    });
    pairs[line] = Some(pair.ok_or(Error::NoPorts(family))?);
    Ok(true)
}
