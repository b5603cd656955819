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
use crate::command::{AddressFamily, Branch, Command, PortPair, RelayPorts, Report, SessionId, StreamId};
use crate::sdp::{MAX_MEDIA, ParseError, Sdp};

pub(crate) use description::{Codec, Line};
use description::{Description, describe};
use fork::{Exchange, Fork, Meaning, Progress};

mod description;
mod fork;
mod line;
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
    /// The branch is not one of this session, has failed, or another one has won. The 2xx of a second branch is passed on
    /// as it is: the caller is about to end that dialog.
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
        self.branches.push(winner);
        // What only the losers had, or all of it when the winner is reached directly.
        self.close_lines(|_, winner| winner.is_none(), ports);
        if self.selected != Some(branch) {
            self.select(branch);
        }
        // Also without news: who picks up may be another device than the one that sent early media from this address.
        self.update_lines(0);
        for stream in self.streams() {
            self.commands.push_back(Command::Confirm { stream });
        }
    }

    /// The call is over: all streams are closed, all ports released.
    pub fn end(&mut self, ports: &mut dyn RelayPorts) {
        self.close_lines(|_, _| true, ports);
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
        let Some(place) = self.place(branch) else { return };
        for line in 0..self.branches[place].ports.len() {
            if self.branches[place].ports[line].is_some() {
                let stream = self.stream(line);
                self.commands.push_back(Command::Select { stream, branch });
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

#[cfg(test)]
mod tests;
