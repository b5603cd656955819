//! One branch: its ports, what its two ends have agreed on, and which of its descriptions is an offer, which an answer.

use smallvec::SmallVec;

use crate::command::Branch;

use super::description::{Codec, Description};
use super::{Carrier, Party, Ports, Role, Transaction};

/// One branch.
#[derive(Debug)]
pub(super) struct Fork {
    pub(super) branch: Branch,
    pub(super) callee: Party,
    pub(super) relayed: bool,
    /// Facing the branch, by m= line.
    pub(super) ports: Ports,
    /// What both ends have agreed on, each by its own description; empty before the first answer.
    pub(super) caller_agreed: Description,
    pub(super) callee_agreed: Description,
    pub(super) codec: Option<Codec>,
    pub(super) exchanges: SmallVec<[Exchange; 1]>,
}

/// An offer and the request that brings it or brings it about.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) transaction: Transaction,
    /// Who sent the request.
    pub(super) sender: Role,
    pub(super) offerer: Role,
    pub(super) offer: Description,
    pub(super) progress: Progress,
    /// What was agreed before, to be restored when the request fails after all.
    pub(super) before: Option<Box<(Description, Description)>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Progress {
    Offered,
    Answered,
    /// A later exchange has been agreed on since: repeats of this one's answer mean nothing any more.
    Superseded,
}

/// What a description is, by what went before.
pub(super) enum Meaning {
    Offer(Transaction, Role),
    /// Of the exchange at this place.
    Answer(usize),
    Repeat,
}

impl Fork {
    /// Offer or answer? (RFC 3264, RFC 6337 section 2.2 lists the ways.)
    pub(super) fn meaning(&self, from: Role, carrier: Carrier) -> Meaning {
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
    pub(super) fn begin(&mut self, exchange: Exchange) {
        self.exchanges
            .retain(|old| !old.is(exchange.transaction, exchange.sender));
        self.exchanges.push(exchange);
    }
}

impl Exchange {
    pub(super) fn is(&self, transaction: Transaction, sender: Role) -> bool {
        self.transaction == transaction && self.sender == sender
    }
}
