//! Which header field a name means (RFC 3261, 20 and 7.3.3: compact forms, any case of letters).

/// A header field that the product knows by name; all others are [`HeaderId::Other`].
macro_rules! header_ids {
    ($($variant:ident $name:literal $($compact:literal)?,)*) => {
        /// A header field that the product knows by name; all others are [`HeaderId::Other`].
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
        #[repr(u8)]
        #[allow(missing_docs, reason = "each is named as in its RFC")]
        pub enum HeaderId {
            $($variant,)*
            /// A header field known only by its text.
            Other,
        }

        const IDS: &[HeaderId] = &[$(HeaderId::$variant,)*];
        const NAMES: &[&str] = &[$($name,)*];
        const COMPACT: &[(&str, HeaderId)] = &[$($(($compact, HeaderId::$variant),)?)*];
    };
}

header_ids! {
    Via "Via" "v",
    From "From" "f",
    To "To" "t",
    CallId "Call-ID" "i",
    CSeq "CSeq",
    Contact "Contact" "m",
    Route "Route",
    RecordRoute "Record-Route",
    Path "Path",
    ServiceRoute "Service-Route",
    MaxForwards "Max-Forwards",
    MaxBreadth "Max-Breadth",
    ContentLength "Content-Length" "l",
    ContentType "Content-Type" "c",
    ContentEncoding "Content-Encoding" "e",
    ContentDisposition "Content-Disposition",
    ContentLanguage "Content-Language",
    MimeVersion "MIME-Version",
    Expires "Expires",
    MinExpires "Min-Expires",
    Require "Require",
    ProxyRequire "Proxy-Require",
    Supported "Supported" "k",
    Unsupported "Unsupported",
    Allow "Allow",
    Accept "Accept",
    AcceptEncoding "Accept-Encoding",
    AcceptLanguage "Accept-Language",
    Authorization "Authorization",
    ProxyAuthorization "Proxy-Authorization",
    WwwAuthenticate "WWW-Authenticate",
    ProxyAuthenticate "Proxy-Authenticate",
    AuthenticationInfo "Authentication-Info",
    UserAgent "User-Agent",
    Server "Server",
    Date "Date",
    Timestamp "Timestamp",
    RetryAfter "Retry-After",
    Reason "Reason",
    RSeq "RSeq",
    RAck "RAck",
    SessionExpires "Session-Expires" "x",
    MinSe "Min-SE",
    Event "Event" "o",
    AllowEvents "Allow-Events" "u",
    SubscriptionState "Subscription-State",
    SipETag "SIP-ETag",
    SipIfMatch "SIP-If-Match",
    ReferTo "Refer-To" "r",
    ReferredBy "Referred-By" "b",
    ReferSub "Refer-Sub",
    Replaces "Replaces",
    Join "Join",
    TargetDialog "Target-Dialog",
    Diversion "Diversion",
    HistoryInfo "History-Info",
    PAssertedIdentity "P-Asserted-Identity",
    PPreferredIdentity "P-Preferred-Identity",
    RemotePartyId "Remote-Party-ID",
    Privacy "Privacy",
    Identity "Identity" "y",
    IdentityInfo "Identity-Info" "n",
    AcceptContact "Accept-Contact" "a",
    RejectContact "Reject-Contact" "j",
    RequestDisposition "Request-Disposition" "d",
    FlowTimer "Flow-Timer",
    SessionId "Session-ID",
    Subject "Subject" "s",
    Organization "Organization",
    Priority "Priority",
    Warning "Warning",
    AlertInfo "Alert-Info",
    CallInfo "Call-Info",
    ErrorInfo "Error-Info",
    InReplyTo "In-Reply-To",
    ReplyTo "Reply-To",
    InfoPackage "Info-Package",
    RecvInfo "Recv-Info",
    UserToUser "User-to-User",
}

impl HeaderId {
    /// How many ids there are, [`HeaderId::Other`] included.
    pub const COUNT: usize = NAMES.len() + 1;

    /// The id that a name means, long or compact, in any case of letters.
    #[inline]
    pub fn of(name: &str) -> HeaderId {
        HeaderId::of_bytes(name.as_bytes())
    }

    /// As [`HeaderId::of`], of bytes.
    #[inline(always)]
    pub fn of_bytes(name: &[u8]) -> HeaderId {
        if let [letter] = name {
            return LETTERS[letter.to_ascii_lowercase() as usize];
        }
        let slot = hash(name);
        let id = TABLE[slot];
        // Nearly all are spelt as in the RFC, and equal bytes are found much faster than equal letters.
        match id.name().as_bytes() == name {
            true => id,
            false => HeaderId::probe(name, slot),
        }
    }

    #[cold]
    fn probe(name: &[u8], mut slot: usize) -> HeaderId {
        loop {
            let id = TABLE[slot];
            match NAMES.get(id as usize) {
                None => return HeaderId::Other,
                Some(candidate) if candidate.as_bytes().eq_ignore_ascii_case(name) => return id,
                Some(_) => slot = (slot + 1) % SLOTS,
            }
        }
    }

    /// The name as RFC 3261 and its extensions spell it; empty for [`HeaderId::Other`].
    pub fn name(self) -> &'static str {
        NAMES.get(self as usize).copied().unwrap_or("")
    }

    /// True where a line may hold a comma-separated list of values (RFC 3261, 7.3.1).
    pub fn is_list(self) -> bool {
        matches!(
            self,
            HeaderId::Via
                | HeaderId::Contact
                | HeaderId::Route
                | HeaderId::RecordRoute
                | HeaderId::Path
                | HeaderId::ServiceRoute
                | HeaderId::ContentEncoding
                | HeaderId::ContentLanguage
                | HeaderId::Require
                | HeaderId::ProxyRequire
                | HeaderId::Supported
                | HeaderId::Unsupported
                | HeaderId::Allow
                | HeaderId::Accept
                | HeaderId::AcceptEncoding
                | HeaderId::AcceptLanguage
                | HeaderId::Reason
                | HeaderId::AllowEvents
                | HeaderId::Diversion
                | HeaderId::HistoryInfo
                | HeaderId::PAssertedIdentity
                | HeaderId::PPreferredIdentity
                | HeaderId::AcceptContact
                | HeaderId::RejectContact
                | HeaderId::RequestDisposition
                | HeaderId::Warning
                | HeaderId::AlertInfo
                | HeaderId::CallInfo
                | HeaderId::ErrorInfo
                | HeaderId::InReplyTo
                | HeaderId::RecvInfo
        )
    }
}

const fn hash(name: &[u8]) -> usize {
    let length = name.len();
    if length == 0 {
        return 0;
    }
    let first = (name[0] | 0x20) as usize;
    let middle = (name[length / 2] | 0x20) as usize;
    let last = (name[length - 1] | 0x20) as usize;
    (first.wrapping_mul(7) ^ middle.wrapping_mul(31) ^ last.wrapping_mul(3) ^ length.wrapping_mul(61)) % SLOTS
}

const SLOTS: usize = 256;

/// Open addressing: the id of a name is at its hash or in the slots after it, before the next free slot.
static TABLE: [HeaderId; SLOTS] = {
    let mut table = [HeaderId::Other; SLOTS];
    let mut i = 0;
    while i < NAMES.len() {
        let mut slot = hash(NAMES[i].as_bytes());
        while !matches!(table[slot], HeaderId::Other) {
            slot = (slot + 1) % SLOTS;
        }
        table[slot] = IDS[i];
        i += 1;
    }
    table
};

static LETTERS: [HeaderId; 256] = {
    let mut letters = [HeaderId::Other; 256];
    let mut i = 0;
    while i < COMPACT.len() {
        letters[COMPACT[i].0.as_bytes()[0] as usize] = COMPACT[i].1;
        i += 1;
    }
    letters
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_in_any_case() {
        for (name, id) in NAMES.iter().zip(IDS) {
            assert_eq!(HeaderId::of(name), *id);
            assert_eq!(HeaderId::of(&name.to_uppercase()), *id);
            assert_eq!(HeaderId::of(&name.to_lowercase()), *id);
            assert_eq!(id.name(), *name);
        }
    }

    #[test]
    fn every_compact_form_is_found_in_any_case() {
        for (letter, id) in COMPACT {
            assert_eq!(HeaderId::of(letter), *id);
            assert_eq!(HeaderId::of(&letter.to_uppercase()), *id);
        }
    }

    #[test]
    fn other_names_are_other() {
        for name in [
            "", "X-Via", "Vi\u{e0}", "Viaa", "z", "-", "Call_ID", "from ", "\0",
        ] {
            assert_eq!(HeaderId::of(name), HeaderId::Other, "{name:?}");
        }
    }

    #[test]
    fn probes_stay_short() {
        for (name, id) in NAMES.iter().zip(IDS) {
            let start = hash(name.as_bytes());
            let at = (0..SLOTS).find(|i| TABLE[(start + i) % SLOTS] == *id).unwrap();
            assert!(at <= 6, "{name} takes {at} probes");
        }
    }
}
