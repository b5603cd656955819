//! The response context of a proxied request (RFC 3261 16.7): one server transaction, its branches, and which of their
//! responses goes back. Pure bookkeeping; sending and receiving is done in [`proxy`](crate::proxy).

use sip::transaction::{ClientKey, ServerKey};
use sip::{Flow, HeaderId, Message, MessageBuf};
use smallvec::SmallVec;

use crate::arena::Key;
use crate::call::Call;
use crate::location::Binding;

/// One proxied request.
pub(crate) struct Context {
    /// The server transaction, where the answer goes.
    pub(crate) server: ServerKey,
    /// Where the request came from.
    pub(crate) flow: Flow,
    /// It is an INVITE: it rings, can be cancelled, and may be answered more than once.
    pub(crate) invite: bool,
    /// The call that it belongs to.
    pub(crate) call: Option<Key<Call>>,
    /// It set the call up or tried to (no To tag).
    pub(crate) initial: bool,
    /// Where it goes.
    pub(crate) targets: SmallVec<[Target; 1]>,
    /// Each target's branch, at the same place.
    pub(crate) branches: SmallVec<[Branch; 1]>,
    /// The best final response so far.
    pub(crate) best: Option<Best>,
    /// The final response that went back.
    pub(crate) finished: Option<u16>,
    /// A CANCEL came.
    pub(crate) cancelled: bool,
    /// The request, kept only where it may be sent again: a target with several addresses, or a lookup under way.
    pub(crate) request: Option<Box<MessageBuf>>,
}

/// Where a branch goes.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// The Request-URI; `None` leaves it as it came.
    pub(crate) uri: Option<Box<str>>,
    /// Route values to put in front (a binding's Path, RFC 3327), comma-separated.
    pub(crate) path: Option<Box<str>>,
    /// The flow, where it is known.
    pub(crate) flow: Option<Flow>,
    /// The user agent is at the end of the flow.
    pub(crate) direct: bool,
}

impl From<&Binding> for Target {
    /// The Request-URI is the contact as it was registered, but the request goes to where the registration came from.
    fn from(binding: &Binding) -> Self {
        let path = Some(binding.path()).filter(|path| !path.is_empty());
        Target {
            uri: Some(binding.contact().into()),
            direct: path.is_none(),
            path: path.map(Box::from),
            flow: Some(binding.flow()),
        }
    }
}

/// One branch of a fork.
pub(crate) struct Branch {
    /// The client transaction in use.
    pub(crate) client: Option<ClientKey>,
    /// What it is doing.
    pub(crate) state: BranchState,
    /// The addresses that are left to try (RFC 3263).
    pub(crate) resolution: Option<Box<sip::resolve::Resolution>>,
    /// The address in use, where it came from `resolution`.
    pub(crate) address: Option<sip::resolve::Target>,
    /// What the address before ended in.
    pub(crate) last: Option<u16>,
    /// Branch of the call's media session.
    pub(crate) media: Option<media::Branch>,
}

/// What a branch is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum BranchState {
    /// The DNS is being asked.
    Resolving,
    /// Sent, nothing heard.
    Calling,
    /// A provisional response came.
    Proceeding,
    /// A final response came, or it failed.
    Done,
}

/// A final response that waits to be forwarded.
pub(crate) struct Best {
    pub(crate) status: u16,
    /// As it goes back; `None` when Trapez makes it itself.
    pub(crate) bytes: Option<Vec<u8>>,
    /// Challenges of the other branches (RFC 3261 16.7 step 7), as header lines.
    pub(crate) challenges: Vec<u8>,
}

impl Context {
    /// Keeps the better one of the response so far and this one (RFC 3261 16.7 step 6).
    pub(crate) fn offer_best(&mut self, status: u16, bytes: Option<Vec<u8>>) {
        let better = self
            .best
            .as_ref()
            .is_none_or(|best| rank(status) < rank(best.status));
        if better {
            let challenges = self.best.take().map(|best| best.challenges).unwrap_or_default();
            self.best = Some(Best {
                status,
                bytes,
                challenges,
            });
        }
    }

    /// Keeps the challenges of a 401 or 407 that may not be the one to go back: the caller has to see those of all branches
    /// (RFC 3261 16.7 step 7). The ones of the best response itself are in its bytes.
    pub(crate) fn add_challenges(&mut self, m: Message<'_>) {
        let Some(best) = &mut self.best else { return };
        for id in [HeaderId::WwwAuthenticate, HeaderId::ProxyAuthenticate] {
            for header in m.headers_of(id) {
                let line = [id.name().as_bytes(), b": ", header.value, b"\r\n"].concat();
                let known = best
                    .bytes
                    .as_ref()
                    .is_some_and(|bytes| memchr::memmem::find(bytes, header.value).is_some());
                if !known {
                    best.challenges.extend_from_slice(&line);
                }
            }
        }
    }

    /// It is an INVITE that sets up a call, and nobody has answered it yet.
    pub(crate) fn is_unanswered(&self) -> bool {
        self.invite && self.initial && self.finished.is_none()
    }

    /// No branch is expected to answer any more.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.branches
            .iter()
            .all(|branch| branch.state == BranchState::Done)
    }
}

/// Smaller is better. 6xx is known to hold everywhere, so it comes first; among the others the lowest class, and in 4xx what
/// tells the caller most: that he has to authenticate, then what a person or telephone said (busy, declined), then what only a
/// timeout or a missing registration says.
fn rank(status: u16) -> u16 {
    match status {
        600..700 => 0,
        300..400 => 1000 + status,
        401 | 407 => 2000,
        415 | 420 | 421 | 484 | 488 => 2001,
        486 => 2002,
        487 => 2003,
        408 => 2900,
        480 => 2800,
        404 => 2850,
        400..500 => 2100 + (status - 400),
        // 503 says nothing about the callee: it becomes 500 when it is all there is (RFC 3261 16.7 step 6).
        503 => 4900,
        _ => 4000 + status % 100,
    }
}

#[cfg(test)]
mod tests {
    use super::rank;

    #[test]
    fn what_a_person_said_beats_what_a_timer_said() {
        let best = |statuses: &[u16]| {
            *statuses
                .iter()
                .min_by_key(|status| rank(**status))
                .expect("not empty")
        };
        assert_eq!(best(&[408, 486]), 486);
        assert_eq!(best(&[480, 486, 404]), 486);
        assert_eq!(best(&[486, 603]), 603);
        assert_eq!(best(&[503, 500]), 500);
        assert_eq!(best(&[503, 404]), 404);
        assert_eq!(best(&[302, 486]), 302);
        assert_eq!(best(&[486, 407]), 407);
        assert_eq!(best(&[408, 480]), 480);
    }
}
