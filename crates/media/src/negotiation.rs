//! Offers and answers of one call across the relay (RFC 3264), over whatever SIP messages carry them: INVITE, 18x, 200 and
//! ACK, late offers, PRACK (RFC 3262), UPDATE (RFC 3311), re-INVITE, with forks, hold and glare.
//!
//! A [`Session`] belongs to a call. The caller has one pair of relay ports per m= line, shared by all branches; each branch
//! has its own pairs, so that what early media belong to is never in doubt. In this order:
//!
//! 1. [`Session::new`], then [`Session::add_branch`] for each destination, before the INVITE goes there;
//! 2. [`Session::rewrite`] for **each** INVITE, PRACK, UPDATE, their 1xx (without 100) and 2xx, and ACK, in both directions,
//!    also for those without a description (an empty one then): whether a description is an offer or an answer depends on
//!    what went before;
//! 3. [`Session::branch_failed`] for a final failure of the first INVITE at a branch, [`Session::failed`] for that of a later
//!    request, [`Session::confirmed`] for the first 2xx that is passed on;
//! 4. [`Session::end`] with the BYE, or when no branch is left and no further comes;
//! 5. after each of these, [`Session::poll_command`] until it is empty; the reports of the packet side go to
//!    [`Session::handle_report`].
//!
//! When the facts take effect: those of a first offer at once, for early media; all later ones with their answer. A withdrawn
//! or refused offer thus leaves no trace at the packet side. Early media come from the branch that described itself last.
//!
//! Rewriting depends on nothing but the ports: a description that is sent again comes out the same.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use smallvec::SmallVec;

use crate::address;
use crate::command::{
    AddressFamily, Branch, Command, Formats, Leg, PortPair, RelayPorts, Report, SessionId, Side, StreamId,
};
use crate::sdp::{MAX_MEDIA, MediaTransport, ParseError, Sdp};

pub(crate) use description::Line;
use description::{Codec, Description, describe};

mod description;
mod rewrite;

/// Whether media go through the relay.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum RelayPolicy {
    /// Where it is needed: always, unless both ends are provably public. See [`needs_relay`].
    #[default]
    Auto,
    /// For every call.
    Always,
    /// For none: descriptions stay as they are.
    Never,
}

/// What is known about one end of a call apart from its description.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Party {
    /// Where its signalling comes from or goes to, as the socket sees it.
    pub signalling: IpAddr,
    /// The address that it names as its own in Contact or Via; `None` for a host name, or where it has proven wrong.
    pub claimed: Option<IpAddr>,
}

/// Which end of the call.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Role {
    /// Who sent the first INVITE.
    Caller,
    /// The branch.
    Callee,
}

/// The SIP message that carries a description.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Carrier {
    /// INVITE, first or later.
    Invite,
    /// 101 to 199 to an INVITE.
    InviteProvisional,
    /// 2xx to an INVITE.
    InviteSuccess,
    /// ACK to a 2xx.
    Ack,
    /// PRACK.
    Prack,
    /// 2xx to a PRACK.
    PrackSuccess,
    /// UPDATE.
    Update,
    /// 2xx to an UPDATE.
    UpdateSuccess,
}

/// A request whose offer can be refused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Transaction {
    /// INVITE within a dialog.
    Invite,
    /// PRACK.
    Prack,
    /// UPDATE.
    Update,
}

/// What became of a description.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Rewritten {
    /// It goes on as it is; nothing was written.
    Unchanged,
    /// The new one was appended.
    Written,
}

/// What a call's signalling has to react to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SessionEvent {
    /// No media on any line for so long: the call is dead and is to be ended on both sides.
    Dead {
        /// How long.
        silence: Duration,
    },
}

/// Why a description cannot be relayed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Unreadable: the peer's fault (400 or 488).
    #[error(transparent)]
    Sdp(#[from] ParseError),
    /// An m= line without an address: the peer's fault (400 or 488).
    #[error("expected a c= line for m= line {line}, found neither its own nor the session's")]
    NoConnection {
        /// Counted from 1.
        line: usize,
    },
    /// The relay's ports are used up: ours (503).
    #[error("no free relay port for {0:?}")]
    NoPorts(AddressFamily),
    /// The branch is not one of this session, or has failed.
    #[error("branch {} is not part of the session", .0.0)]
    UnknownBranch(Branch),
}

/// The media of one call.
#[derive(Debug)]
pub struct Session {
    id: SessionId,
    policy: RelayPolicy,
    caller: Party,
    /// Facing the caller, by m= line.
    caller_ports: Ports,
    branches: SmallVec<[Fork; 1]>,
    next_branch: u16,
    /// The branch whose media the caller gets.
    selected: Option<Branch>,
    confirmed: Option<Branch>,
    /// Bit n: line n was reported silent.
    silent: u16,
    commands: VecDeque<Command>,
}

type Ports = SmallVec<[Option<PortPair>; 2]>;

/// One branch.
#[derive(Debug)]
struct Fork {
    branch: Branch,
    callee: Party,
    relayed: bool,
    /// Facing the branch, by m= line.
    ports: Ports,
    /// What both ends have agreed on, each by its own description; empty before the first answer.
    caller_agreed: Description,
    callee_agreed: Description,
    codec: Option<Codec>,
    exchanges: SmallVec<[Exchange; 1]>,
}

/// An offer and the request that brings it or brings it about.
#[derive(Debug)]
struct Exchange {
    transaction: Transaction,
    /// Who sent the request.
    sender: Role,
    offerer: Role,
    offer: Description,
    progress: Progress,
    /// What was agreed before, to be restored when the request fails after all.
    before: Option<Box<(Description, Description)>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Progress {
    Offered,
    Answered,
    /// A later exchange has been agreed on since: repeats of this one's answer mean nothing any more.
    Superseded,
}

/// What a description is, by what went before.
enum Meaning {
    Offer(Transaction, Role),
    /// Of the exchange at this place.
    Answer(usize),
    Repeat,
}

impl Session {
    /// A call that has just come in.
    pub fn new(id: SessionId, policy: RelayPolicy, caller: Party) -> Self {
        Session {
            id,
            policy,
            caller,
            caller_ports: Ports::new(),
            branches: SmallVec::new(),
            next_branch: 0,
            selected: None,
            confirmed: None,
            silent: 0,
            commands: VecDeque::new(),
        }
    }

    /// A destination that the call is about to be forked to.
    pub fn add_branch(&mut self, callee: Party) -> Branch {
        let branch = Branch(self.next_branch);
        self.next_branch = self.next_branch.wrapping_add(1);
        self.branches.push(Fork {
            branch,
            callee,
            relayed: false,
            ports: Ports::new(),
            caller_agreed: Description::new(),
            callee_agreed: Description::new(),
            codec: None,
            exchanges: SmallVec::new(),
        });
        branch
    }

    /// Takes note of what `from` says to the other end of `branch` in `carrier`, and appends to `out` what the other end is to
    /// be told instead. `sdp` is empty for a message without a description; `source` is where the message came from.
    /// After an error the session is as before, but for ports that it may already have taken.
    pub fn rewrite(
        &mut self,
        branch: Branch,
        from: Role,
        carrier: Carrier,
        source: IpAddr,
        sdp: &[u8],
        ports: &mut dyn RelayPorts,
        out: &mut Vec<u8>,
    ) -> Result<Rewritten, Error> {
        let place = self.place(branch).ok_or(Error::UnknownBranch(branch))?;
        if sdp.is_empty() {
            self.note_empty(place, from, carrier);
            return Ok(Rewritten::Unchanged);
        }
        let sdp = match Sdp::parse(sdp) {
            Ok(sdp) => sdp,
            Err(_) if self.policy == RelayPolicy::Never => return Ok(Rewritten::Unchanged),
            Err(error) => return Err(error.into()),
        };
        let description = describe(&sdp);
        let meaning = self.branches[place].meaning(from, carrier);
        let source = source.to_canonical();
        if matches!(meaning, Meaning::Offer(..)) && !self.branches[place].relayed {
            self.branches[place].relayed = self.decide(place, from, source, &description);
        }
        let mut rewritten = Rewritten::Unchanged;
        if self.branches[place].relayed {
            self.open_lines(place, from, source, &description, ports)?;
            let facing = match from {
                Role::Caller => &self.branches[place].ports,
                Role::Callee => &self.caller_ports,
            };
            if rewrite::write_relayed(&sdp, |line| facing.get(line).copied().flatten(), out)? {
                rewritten = Rewritten::Written;
            }
        }
        match from {
            Role::Caller => self.caller.signalling = source,
            Role::Callee => self.branches[place].callee.signalling = source,
        }
        match meaning {
            Meaning::Offer(transaction, sender) => {
                self.branches[place].begin(Exchange {
                    transaction,
                    sender,
                    offerer: from,
                    offer: description,
                    progress: Progress::Offered,
                    before: None,
                });
            }
            Meaning::Answer(exchange) => self.agree(place, exchange, description, carrier),
            Meaning::Repeat => {}
        }
        if carrier == Carrier::Ack {
            self.branches[place]
                .exchanges
                .retain(|exchange| !exchange.is(Transaction::Invite, from));
        }
        Ok(rewritten)
    }

    /// The first INVITE has failed at a branch, or was cancelled there. Its ports are released.
    pub fn branch_failed(&mut self, branch: Branch, ports: &mut dyn RelayPorts) {
        let Some(place) = self.place(branch) else { return };
        let fork = self.branches.remove(place);
        self.close_branch(&fork, ports);
        if self.selected == Some(branch) {
            self.selected = None;
        }
        if self.confirmed == Some(branch) {
            self.confirmed = None;
        }
    }

    /// A later request of `sender` has failed (491 included): its offer is withdrawn, and what was agreed before is agreed.
    pub fn failed(
        &mut self,
        branch: Branch,
        sender: Role,
        transaction: Transaction,
        ports: &mut dyn RelayPorts,
    ) {
        let Some(place) = self.place(branch) else { return };
        let fork = &mut self.branches[place];
        let Some(exchange) = fork
            .exchanges
            .iter()
            .position(|exchange| exchange.is(transaction, sender))
        else {
            return;
        };
        let exchange = fork.exchanges.remove(exchange);
        if let Some(before) = exchange.before
            && exchange.progress == Progress::Answered
        {
            (fork.caller_agreed, fork.callee_agreed) = *before;
            self.update_lines(place);
        }
        self.trim_lines(ports);
    }

    /// The first 2xx to the first INVITE is passed on: this branch has won, the others' ports are released.
    /// A 2xx of a second branch changes nothing.
    pub fn confirmed(&mut self, branch: Branch, ports: &mut dyn RelayPorts) {
        if self.confirmed.is_some() {
            return;
        }
        let Some(place) = self.place(branch) else { return };
        self.confirmed = Some(branch);
        let winner = self.branches.remove(place);
        for loser in std::mem::take(&mut self.branches) {
            self.close_branch(&loser, ports);
        }
        let relayed = winner.relayed;
        self.branches.push(winner);
        if !relayed {
            self.close_lines(0, ports);
            return;
        }
        if self.selected != Some(branch) {
            self.select(branch);
            if !self.branches[0].callee_agreed.is_empty() {
                self.update_lines(0);
            }
        }
        for stream in self.streams() {
            self.commands.push_back(Command::Confirm { stream });
        }
    }

    /// The call is over: all streams are closed, all ports released.
    pub fn end(&mut self, ports: &mut dyn RelayPorts) {
        self.close_lines(0, ports);
        self.branches.clear();
        self.selected = None;
        self.confirmed = None;
    }

    /// What the packet side is to do, in this order.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// What the packet side has noticed.
    pub fn handle_report(&mut self, report: &Report) -> Option<SessionEvent> {
        let bit = 1u16.checked_shl(report.stream().line.into()).unwrap_or(0);
        match *report {
            Report::Resumed { .. } => {
                self.silent &= !bit;
                None
            }
            Report::Timeout { silence, .. } => {
                self.silent |= bit;
                let enabled = self.streams().filter(|stream| self.is_enabled(stream.line));
                let expected = enabled.fold(0u16, |bits, stream| bits | 1 << stream.line);
                (self.confirmed.is_some() && expected & !self.silent == 0)
                    .then_some(SessionEvent::Dead { silence })
            }
            _ => None,
        }
    }

    /// The call's number.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// The branch that has won.
    pub fn winner(&self) -> Option<Branch> {
        self.confirmed
    }

    /// The m= lines that are relayed.
    pub fn streams(&self) -> impl Iterator<Item = StreamId> + use<> {
        let session = self.id;
        let lines: SmallVec<[u8; MAX_MEDIA]> = self
            .caller_ports
            .iter()
            .zip(0u8..)
            .filter(|(pair, _)| pair.is_some())
            .map(|(_, line)| line)
            .collect();
        lines.into_iter().map(move |line| StreamId { session, line })
    }

    /// Whether the call's media go through the relay, now.
    pub fn is_relayed(&self) -> bool {
        self.current().is_some_and(|fork| fork.relayed)
    }

    /// The codec of the first m= line, as the answer names it.
    pub fn codec(&self) -> Option<&str> {
        self.current()?.codec.as_ref().map(Codec::as_str)
    }

    /// Whether either end has the first m= line on hold.
    pub fn is_held(&self) -> bool {
        self.current().is_some_and(|fork| {
            [&fork.caller_agreed, &fork.callee_agreed]
                .iter()
                .any(|agreed| agreed.first().is_some_and(|line| line.held))
        })
    }

    fn place(&self, branch: Branch) -> Option<usize> {
        self.branches.iter().position(|fork| fork.branch == branch)
    }

    /// The branch that counts: the winner, else the one that is heard.
    fn current(&self) -> Option<&Fork> {
        let branch = self.confirmed.or(self.selected)?;
        self.branches.iter().find(|fork| fork.branch == branch)
    }

    fn is_enabled(&self, line: u8) -> bool {
        let is_enabled = |agreed: &Description| agreed.get(usize::from(line)).is_none_or(|line| line.enabled);
        self.current()
            .is_none_or(|fork| is_enabled(&fork.caller_agreed) && is_enabled(&fork.callee_agreed))
    }

    fn stream(&self, line: usize) -> StreamId {
        // Descriptions have at most MAX_MEDIA lines.
        StreamId {
            session: self.id,
            line: line as u8,
        }
    }

    fn decide(&self, place: usize, from: Role, source: IpAddr, offer: &Description) -> bool {
        let (caller, callee) = (self.caller, self.branches[place].callee);
        let (offerer, answerer) = match from {
            Role::Caller => (
                Party {
                    signalling: source,
                    ..caller
                },
                callee,
            ),
            Role::Callee => (
                Party {
                    signalling: source,
                    ..callee
                },
                caller,
            ),
        };
        match self.policy {
            RelayPolicy::Always => true,
            RelayPolicy::Never => false,
            RelayPolicy::Auto => needs_relay(
                &offerer,
                offer.iter().filter(|line| line.enabled).map(|line| line.address),
                &answerer,
            ),
        }
    }

    /// Takes ports for the lines that have none yet, and opens their legs.
    fn open_lines(
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
            let opened_caller = take_pair(&mut self.caller_ports, line, caller_family, ports)?;
            let opened_callee = take_pair(&mut self.branches[place].ports, line, callee_family, ports)?;
            let stream = self.stream(line);
            let facts_of = |role| (role == from).then_some(facts);
            if opened_caller
                && let Some(leg) = self.leg(place, Role::Caller, line, facts_of(Role::Caller), None)
            {
                self.commands.push_back(Command::Open {
                    stream,
                    side: Side::Caller,
                    leg,
                });
            }
            if opened_callee
                && let Some(leg) = self.leg(place, Role::Callee, line, facts_of(Role::Callee), None)
            {
                let branch = self.branches[place].branch;
                self.commands.push_back(Command::Open {
                    stream,
                    side: Side::Callee(branch),
                    leg,
                });
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
        Some(Leg {
            ports: pairs.get(line).copied().flatten()?,
            transport: both().next().map_or(MediaTransport::Rtp, |line| line.transport),
            rtp: own.and_then(|own| own.rtp),
            rtcp: own.and_then(|own| own.rtcp).filter(|_| !rtcp_mux),
            described: own.is_some(),
            signalling: party.signalling,
            enabled: both().all(|line| line.enabled),
            held: both().any(|line| line.held),
            rtcp_mux,
            echo: false,
            formats,
        })
    }

    /// An answer has come: what both have said counts from now on.
    fn agree(&mut self, place: usize, exchange: usize, answer: Description, carrier: Carrier) {
        let fork = &mut self.branches[place];
        let Exchange {
            offerer, progress, ..
        } = fork.exchanges[exchange];
        let answered_by = if offerer == Role::Caller {
            &fork.callee_agreed
        } else {
            &fork.caller_agreed
        };
        if progress == Progress::Answered && *answered_by == answer {
            return;
        }
        let offer = fork.exchanges[exchange].offer.clone();
        let codec = answer
            .iter()
            .find(|line| line.enabled)
            .or(answer.first())
            .and_then(|line| line.codec);
        let (caller, callee) = match offerer {
            Role::Caller => (offer, answer),
            Role::Callee => (answer, offer),
        };
        let before = (
            std::mem::replace(&mut fork.caller_agreed, caller),
            std::mem::replace(&mut fork.callee_agreed, callee),
        );
        fork.codec = codec;
        for (other, superseded) in fork.exchanges.iter_mut().enumerate() {
            if other != exchange && superseded.progress == Progress::Answered {
                superseded.progress = Progress::Superseded;
            }
        }
        let exchange = &mut fork.exchanges[exchange];
        exchange.progress = Progress::Answered;
        if carrier == Carrier::InviteProvisional && exchange.before.is_none() && !before.0.is_empty() {
            exchange.before = Some(Box::new(before));
        }
        let branch = fork.branch;
        if self.confirmed.is_some_and(|winner| winner != branch) {
            return;
        }
        if self.selected != Some(branch) {
            self.select(branch);
        }
        self.update_lines(place);
    }

    fn select(&mut self, branch: Branch) {
        self.selected = Some(branch);
        for stream in self.streams() {
            self.commands.push_back(Command::Select { stream, branch });
        }
    }

    /// Tells the packet side what was agreed on at a branch.
    fn update_lines(&mut self, place: usize) {
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

    fn close_branch(&mut self, fork: &Fork, ports: &mut dyn RelayPorts) {
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
    fn trim_lines(&mut self, ports: &mut dyn RelayPorts) {
        let needed = |fork: &Fork| {
            let offers = fork.exchanges.iter().map(|exchange| exchange.offer.len());
            offers
                .chain([fork.caller_agreed.len(), fork.callee_agreed.len()])
                .max()
                .unwrap_or(0)
        };
        let needed = self.branches.iter().map(needed).max().unwrap_or(0);
        self.close_lines(needed, ports);
    }

    /// Closes all lines from `first` on.
    fn close_lines(&mut self, first: usize, ports: &mut dyn RelayPorts) {
        for line in first..self.caller_ports.len() {
            let stream = self.stream(line);
            if self.caller_ports[line].is_some() {
                self.commands.push_back(Command::Close { stream });
            }
        }
        let all = self
            .branches
            .iter_mut()
            .map(|fork| &mut fork.ports)
            .chain([&mut self.caller_ports]);
        for pairs in all {
            for pair in pairs.drain(first.min(pairs.len())..).flatten() {
                ports.release(pair.id);
            }
        }
    }

    /// A message without a description.
    fn note_empty(&mut self, place: usize, from: Role, carrier: Carrier) {
        if matches!(carrier, Carrier::Invite | Carrier::Ack) {
            self.branches[place]
                .exchanges
                .retain(|exchange| !exchange.is(Transaction::Invite, from));
        }
    }
}

impl Fork {
    /// Offer or answer? (RFC 3264, RFC 6337 section 2.2 lists the ways.)
    fn meaning(&self, from: Role, carrier: Carrier) -> Meaning {
        let other = from.other();
        match carrier {
            Carrier::Invite => Meaning::Offer(Transaction::Invite, from),
            Carrier::Update => Meaning::Offer(Transaction::Update, from),
            // PRACK answers the offer of a reliable provisional response, else it makes one of its own.
            Carrier::Prack => match self.find(Transaction::Invite, from) {
                Some((place, exchange))
                    if exchange.offerer == other && exchange.progress == Progress::Offered =>
                {
                    Meaning::Answer(place)
                }
                _ => Meaning::Offer(Transaction::Prack, from),
            },
            Carrier::Ack => match self.find(Transaction::Invite, from) {
                Some((place, exchange))
                    if exchange.offerer == other && exchange.progress == Progress::Offered =>
                {
                    Meaning::Answer(place)
                }
                _ => Meaning::Repeat,
            },
            Carrier::InviteProvisional | Carrier::InviteSuccess => {
                match self.find(Transaction::Invite, other) {
                    None => Meaning::Offer(Transaction::Invite, other),
                    Some((_, exchange)) if exchange.progress == Progress::Superseded => Meaning::Repeat,
                    Some((place, exchange)) if exchange.offerer == other => Meaning::Answer(place),
                    Some((_, exchange)) if exchange.progress == Progress::Offered => {
                        Meaning::Offer(Transaction::Invite, other)
                    }
                    Some(_) => Meaning::Repeat,
                }
            }
            Carrier::PrackSuccess => self.answer_to(Transaction::Prack, other),
            Carrier::UpdateSuccess => self.answer_to(Transaction::Update, other),
        }
    }

    fn answer_to(&self, transaction: Transaction, sender: Role) -> Meaning {
        match self.find(transaction, sender) {
            Some((place, exchange)) if exchange.progress != Progress::Superseded => Meaning::Answer(place),
            _ => Meaning::Repeat,
        }
    }

    fn find(&self, transaction: Transaction, sender: Role) -> Option<(usize, &Exchange)> {
        self.exchanges
            .iter()
            .enumerate()
            .find(|(_, exchange)| exchange.is(transaction, sender))
    }

    /// A new offer takes the place of the one that the same kind of request brought before.
    fn begin(&mut self, exchange: Exchange) {
        self.exchanges
            .retain(|old| !old.is(exchange.transaction, exchange.sender));
        self.exchanges.push(exchange);
    }
}

impl Exchange {
    fn is(&self, transaction: Transaction, sender: Role) -> bool {
        self.transaction == transaction && self.sender == sender
    }
}

impl Role {
    /// The other end.
    pub fn other(self) -> Self {
        match self {
            Role::Caller => Role::Callee,
            Role::Callee => Role::Caller,
        }
    }
}

/// Whether an offer has to go through the relay under [`RelayPolicy::Auto`]. It need not if both ends are provably public
/// and reach each other: the offerer's media addresses are the one that it signals from, the answerer, whose description is
/// not known yet, signals from the address that it claims as its own, all are global, and of one family.
pub fn needs_relay(
    offerer: &Party,
    mut media: impl Iterator<Item = Option<IpAddr>>,
    answerer: &Party,
) -> bool {
    let is_public = |party: &Party, own: Option<IpAddr>| {
        own.map(|ip| ip.to_canonical()) == Some(party.signalling.to_canonical())
            && address::is_global(party.signalling)
    };
    let direct = is_public(answerer, answerer.claimed)
        && AddressFamily::of(offerer.signalling) == AddressFamily::of(answerer.signalling)
        && media.all(|own| is_public(offerer, own));
    !direct
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

#[cfg(test)]
mod tests;
