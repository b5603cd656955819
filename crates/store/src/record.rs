//! A call record: what is known of a call when it has ended, and which records one asks for.

use serde::{Deserialize, Serialize};

/// One call. It is written when the call is answered, with nobody having ended it yet, and again when it ends: the
/// second write replaces the first, since both have the same `id`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Names the record; chosen by the caller, unique in the file.
    pub id: u64,
    /// `Call-ID` of the caller's INVITE.
    pub call_id: String,
    /// The caller's address-of-record, without scheme.
    pub from: String,
    /// The address-of-record that was called, without scheme.
    pub to: String,
    /// When the INVITE came, in unix milliseconds.
    pub started_at: u64,
    /// When the first 180 or 183 left, in unix milliseconds.
    pub ringing_at: Option<u64>,
    /// When the call was answered, in unix milliseconds.
    pub answered_at: Option<u64>,
    /// When the call ended, in unix milliseconds; `None` while it lasts.
    pub ended_at: Option<u64>,
    /// Who ended it.
    pub ended_by: EndedBy,
    /// The final status of the INVITE; 0 before there is one.
    pub status: u16,
    /// Why it ended, in words: a Reason header's text, or the service's own.
    pub reason: String,
    /// The codec agreed on, as SDP names it (`PCMA/8000`); empty when there was no media.
    pub codec: String,
    /// Which way the media went.
    pub media: MediaPath,
    /// What the caller sent.
    pub from_caller: StreamCounters,
    /// What the callee sent.
    pub from_callee: StreamCounters,
}

/// Who ended a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndedBy {
    /// Nobody: it lasts.
    #[default]
    Nobody,
    /// The caller, by BYE or CANCEL.
    Caller,
    /// The callee, by BYE or by a final response that refuses.
    Callee,
    /// This service: a timeout, no media, no answer.
    Service,
    /// A crash or a stop of this service, found at the next start.
    Restart,
}

/// Which way the media of a call went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MediaPath {
    /// There was none.
    #[default]
    None,
    /// Straight between the phones.
    Direct,
    /// Over this service's relay.
    Relay,
    /// To the user agent inside this service.
    Local,
}

/// What was counted of the packets of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamCounters {
    /// RTP packets that arrived.
    pub packets: u64,
    /// Their bytes, RTP headers included.
    pub bytes: u64,
    /// Packets that never arrived, by sequence number (RFC 3550 appendix A.3).
    pub lost: u64,
    /// Packets that arrived behind a later one.
    pub late: u64,
    /// Interarrival jitter (RFC 3550 section 6.4.1), in microseconds.
    pub jitter_us: u32,
    /// When the first packet arrived, in unix milliseconds; 0 for never.
    pub first_at: u64,
    /// When the last packet arrived, in unix milliseconds; 0 for never.
    pub last_at: u64,
}

/// Which records one asks for. The answer is ordered by start, the newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RecordQuery {
    /// Only calls from or to this address-of-record.
    pub aor: Option<String>,
    /// Only calls with this `Call-ID`.
    pub call_id: Option<String>,
    /// Only calls that started at this time or later, in unix milliseconds.
    pub since: Option<u64>,
    /// Only calls that started before this time, in unix milliseconds.
    pub until: Option<u64>,
    /// At most so many.
    pub limit: Option<u32>,
}

impl EndedBy {
    pub(crate) const ALL: [Self; 5] = [
        Self::Nobody,
        Self::Caller,
        Self::Callee,
        Self::Service,
        Self::Restart,
    ];

    /// The word used in the store and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::Caller => "caller",
            Self::Callee => "callee",
            Self::Service => "service",
            Self::Restart => "restart",
        }
    }
}

impl MediaPath {
    pub(crate) const ALL: [Self; 4] = [Self::None, Self::Direct, Self::Relay, Self::Local];

    /// The word used in the store and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Direct => "direct",
            Self::Relay => "relay",
            Self::Local => "local",
        }
    }
}
