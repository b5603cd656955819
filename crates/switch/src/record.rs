//! The record of a call: what stays when it has ended.

/// One call, from the first INVITE to its end. Times are Unix milliseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct CallRecord {
    /// Names the record: unique in the service.
    pub id: u64,
    /// Call-ID of the caller's INVITE.
    pub call_id: String,
    /// The caller: the address-of-record of the From header, `user@domain`.
    pub caller: String,
    /// Whom he called: the address of the Request-URI, `user@domain`.
    pub callee: String,
    /// When the INVITE came.
    pub started: u64,
    /// When the first 18x went back, if one did.
    pub ringing: Option<u64>,
    /// When the 2xx went back, if one did.
    pub answered: Option<u64>,
    /// When it was over.
    pub ended: u64,
    /// Who ended it.
    pub ended_by: EndedBy,
    /// Final status of the INVITE.
    pub status: u16,
    /// The Reason header (RFC 3326) or our own words for why it ended.
    pub reason: Option<String>,
    /// Name of the first codec of the answer, if there was one.
    pub codec: Option<String>,
    /// Which way the media went.
    pub media: MediaPath,
    /// What the relay counted from the caller.
    pub from_caller: Traffic,
    /// What the relay counted from the callee.
    pub from_callee: Traffic,
}

/// Which way the media of a call go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MediaPath {
    /// There are none (yet).
    #[default]
    None,
    /// Straight between the phones.
    Direct,
    /// Through the relay.
    Relay,
    /// To the user agent inside the service.
    Local,
}

/// Who ended a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndedBy {
    /// The caller, with CANCEL or BYE.
    Caller,
    /// The callee, with BYE or a refusal.
    Callee,
    /// Trapez: nobody answered, no media, an operator.
    Service,
}

/// What went in one direction, summed over the call's streams.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Traffic {
    /// RTP packets relayed.
    pub packets: u64,
    /// Their bytes, RTP headers included.
    pub bytes: u64,
    /// Packets that the sequence numbers say were lost.
    pub lost: u64,
    /// Packets that came late or twice.
    pub late: u64,
    /// Interarrival jitter (RFC 3550 6.4.1) in milliseconds, of the worst stream.
    pub jitter: f32,
    /// First packet, Unix milliseconds.
    pub first: Option<u64>,
    /// Last packet, Unix milliseconds.
    pub last: Option<u64>,
}

/// A call that is up or being set up, for people.
#[derive(Clone, Debug, PartialEq)]
pub struct CallInfo {
    /// Call-ID.
    pub call_id: String,
    /// The caller, `user@domain`.
    pub caller: String,
    /// The callee, `user@domain`.
    pub callee: String,
    /// When the INVITE came, Unix milliseconds.
    pub started: u64,
    /// When it was answered, Unix milliseconds.
    pub answered: Option<u64>,
    /// What it is doing.
    pub state: CallState,
    /// Name of the codec.
    pub codec: Option<String>,
    /// Which way the media go.
    pub media: MediaPath,
    /// Packets so far from the caller.
    pub from_caller: Traffic,
    /// Packets so far from the callee.
    pub from_callee: Traffic,
}

/// What a call is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallState {
    /// The INVITE is on its way.
    Calling,
    /// A telephone rings.
    Ringing,
    /// Answered.
    Talking,
    /// It has ended; its record is being written.
    Ending,
}
