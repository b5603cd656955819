//! Dialogs (RFC 3261 section 12): what two user agents share after an INVITE, and the requests built from it.
//!
//! A caller makes one with [`Dialog::as_caller`] from its INVITE and each response that has a To tag of its own, and
//! [`Dialog::confirm`]s it with the 2xx; a callee with [`Dialog::as_callee`]. Who stands between them gets both ends' views with
//! [`Dialog::observed`], to end the call in the name of either. After that, [`Dialog::accept_request`] checks each request that
//! arrives, and [`Dialog::write_request`] builds one: BYE, re-INVITE, UPDATE and so on; [`Dialog::write_ack`] the ACK to a 2xx.
//!
//! Not done here: transactions, sending the 2xx and its ACK again (13.2.2.4, 13.3.1.4), offers and answers.

use std::io::Write;

use crate::header_id::HeaderId;
use crate::headers::{Contacts, NameAddr};
use crate::message::{HeaderError, Message};
use crate::method::Method;
use crate::uri::Uri;

/// A dialog as one of its ends sees it. Texts are kept as they stood in the messages.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dialog {
    state: DialogState,
    call_id: String,
    local_tag: String,
    /// Empty if the peer has none, as RFC 2543 allows.
    remote_tag: String,
    /// The value of From in requests of this end, with the tag.
    local: String,
    /// The value of To in requests of this end, with the tag.
    remote: String,
    /// A URI.
    remote_target: String,
    /// Values of Route, the next hop first.
    route_set: Vec<String>,
    local_cseq: Option<u32>,
    remote_cseq: Option<u32>,
}

/// How far it has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DialogState {
    /// Made by a provisional response.
    Early,
    /// Made or confirmed by a 2xx.
    Confirmed,
}

impl Dialog {
    /// The caller's view, from its request and a response to it: a provisional one with a To tag, or a 2xx (12.1.2).
    pub fn as_caller(request: Message<'_>, response: Message<'_>) -> Result<Self, DialogError> {
        let (from, to) = (request.from()?, response.to()?);
        let mut route_set = record_route(&response);
        route_set.reverse();
        Ok(Self {
            state: if response.status() < 200 {
                DialogState::Early
            } else {
                DialogState::Confirmed
            },
            call_id: request.call_id()?.to_owned(),
            local_tag: from.tag().ok_or(DialogError::Tag)?.to_owned(),
            remote_tag: to.tag().unwrap_or_default().to_owned(),
            local: from.as_str().to_owned(),
            remote: to.as_str().to_owned(),
            remote_target: contact(&response)?.to_owned(),
            route_set,
            local_cseq: Some(request.cseq()?.number),
            remote_cseq: None,
        })
    }

    /// The callee's view, from the request and the tag that its responses bear (12.1.1). `state` is that of the response.
    pub fn as_callee(request: Message<'_>, local_tag: &str, state: DialogState) -> Result<Self, DialogError> {
        let (from, to) = (request.from()?, request.to()?);
        Ok(Self {
            state,
            call_id: request.call_id()?.to_owned(),
            local_tag: local_tag.to_owned(),
            remote_tag: from.tag().unwrap_or_default().to_owned(),
            local: match to.tag() {
                Some(_) => to.as_str().to_owned(),
                None => format!("{};tag={local_tag}", to.as_str()),
            },
            remote: from.as_str().to_owned(),
            remote_target: contact(&request)?.to_owned(),
            route_set: record_route(&request),
            local_cseq: None,
            remote_cseq: Some(request.cseq()?.number),
        })
    }

    /// Both views of a dialog that passes through this element, from the INVITE and its 2xx as they are on the wire: the
    /// caller's, for requests to the callee, and the callee's, for requests to the caller. `is_own` knows the URIs that this
    /// element has put into Record-Route; each view's route begins beyond them.
    pub fn observed(
        request: Message<'_>,
        response: Message<'_>,
        is_own: impl Fn(&str) -> bool,
    ) -> Result<(Self, Self), DialogError> {
        let mut caller = Self::as_caller(request, response)?;
        // The response lists the callee's side first.
        let routes = record_route(&response);
        let own = |route: &String| NameAddr::parse(route).is_ok_and(|route| is_own(route.uri));
        let first = routes.iter().position(own).unwrap_or(0);
        let after = routes.iter().rposition(own).map_or(0, |last| last + 1);
        caller.route_set = routes[..first].iter().rev().cloned().collect();
        let callee = Self {
            state: caller.state,
            call_id: caller.call_id.clone(),
            local_tag: caller.remote_tag.clone(),
            remote_tag: caller.local_tag.clone(),
            local: caller.remote.clone(),
            remote: caller.local.clone(),
            remote_target: contact(&request)?.to_owned(),
            route_set: routes[after..].to_vec(),
            local_cseq: None,
            remote_cseq: caller.local_cseq,
        };
        Ok((caller, callee))
    }

    /// Takes the caller's 2xx: the route set and the target are taken from it anew (13.2.2.4).
    pub fn confirm(&mut self, response: Message<'_>) -> Result<(), DialogError> {
        self.remote_target = contact(&response)?.to_owned();
        if self.state == DialogState::Early {
            self.route_set = record_route(&response);
            self.route_set.reverse();
            self.state = DialogState::Confirmed;
        }
        Ok(())
    }

    /// Takes the callee's own 2xx having been sent.
    pub fn confirmed(&mut self) {
        self.state = DialogState::Confirmed;
    }

    /// How far it has come.
    #[must_use]
    pub fn state(&self) -> DialogState {
        self.state
    }

    /// Call-ID.
    #[must_use]
    pub fn call_id(&self) -> &str {
        &self.call_id
    }

    /// This end's tag.
    #[must_use]
    pub fn local_tag(&self) -> &str {
        &self.local_tag
    }

    /// The other end's tag; empty if it has none.
    #[must_use]
    pub fn remote_tag(&self) -> &str {
        &self.remote_tag
    }

    /// The other end's Contact URI.
    #[must_use]
    pub fn remote_target(&self) -> &str {
        &self.remote_target
    }

    /// Whether a request that arrived at this end belongs to the dialog (12.2.2).
    #[must_use]
    pub fn matches_request(&self, request: &Message<'_>) -> bool {
        let tag = |address: Result<NameAddr<'_>, _>, expected: &str| {
            address.is_ok_and(|address| address.tag().unwrap_or_default() == expected)
        };
        request.call_id() == Ok(self.call_id.as_str())
            && tag(request.to(), &self.local_tag)
            && tag(request.from(), &self.remote_tag)
    }

    /// Checks the order of a request that belongs to the dialog (12.2.2). ACK and CANCEL have the number of their INVITE and
    /// are not checked.
    pub fn accept_request(&mut self, request: &Message<'_>) -> Result<(), DialogError> {
        let cseq = request.cseq()?;
        if matches!(cseq.method, Method::Ack | Method::Cancel) {
            return Ok(());
        }
        if let Some(last) = self.remote_cseq.filter(|last| cseq.number <= *last) {
            return Err(DialogError::Order {
                last,
                found: cseq.number,
            });
        }
        self.remote_cseq = Some(cseq.number);
        Ok(())
    }

    /// Takes the Contact of a re-INVITE or UPDATE that succeeded, or of the 2xx to one's own (12.2.1.2, 12.2.2).
    pub fn refresh_target(&mut self, m: &Message<'_>) -> Result<(), DialogError> {
        self.remote_target = contact(m)?.to_owned();
        Ok(())
    }

    /// Notes the CSeq of a request that this end has sent without [`write_request`](Self::write_request): for observers.
    pub fn raise_local_cseq(&mut self, number: u32) {
        self.local_cseq = self.local_cseq.max(Some(number));
    }

    /// The URI to send requests to (12.2.1.1): to be resolved as RFC 3263 says.
    #[must_use]
    pub fn next_hop(&self) -> &str {
        let first = self
            .route_set
            .first()
            .and_then(|route| NameAddr::parse(route).ok());
        first.map_or(self.remote_target.as_str(), |route| route.uri)
    }

    /// Appends a request of this end (12.2.1.1) and gives its CSeq number. `via` is the value of the Via header field; `headers`
    /// appends further header lines, each with its line end: a Contact belongs among them for INVITE and UPDATE.
    pub fn write_request(
        &mut self,
        method: Method<'_>,
        via: &str,
        headers: impl FnOnce(&mut Vec<u8>),
        body: Option<(&str, &[u8])>,
        out: &mut Vec<u8>,
    ) -> u32 {
        let number = self.local_cseq.map_or(1, |last| last.saturating_add(1));
        self.local_cseq = Some(number);
        self.write(method, number, via, headers, body, out);
        number
    }

    /// Appends the ACK to a 2xx (13.2.2.4). `number` is the CSeq number of the INVITE.
    pub fn write_ack(
        &self,
        number: u32,
        via: &str,
        headers: impl FnOnce(&mut Vec<u8>),
        body: Option<(&str, &[u8])>,
        out: &mut Vec<u8>,
    ) {
        self.write(Method::Ack, number, via, headers, body, out);
    }

    fn write(
        &self,
        method: Method<'_>,
        number: u32,
        via: &str,
        headers: impl FnOnce(&mut Vec<u8>),
        body: Option<(&str, &[u8])>,
        out: &mut Vec<u8>,
    ) {
        let (request_uri, routes, last) = self.route();
        let mut line = |arguments: std::fmt::Arguments<'_>| {
            // Writing into a Vec cannot fail.
            let _ = out.write_fmt(arguments);
            out.extend_from_slice(b"\r\n");
        };
        line(format_args!("{method} {request_uri} SIP/2.0"));
        line(format_args!("Via: {via}"));
        line(format_args!("Max-Forwards: 70"));
        for route in routes {
            line(format_args!("Route: {route}"));
        }
        if let Some(last) = last {
            line(format_args!("Route: <{last}>"));
        }
        line(format_args!("From: {}", self.local));
        line(format_args!("To: {}", self.remote));
        line(format_args!("Call-ID: {}", self.call_id));
        line(format_args!("CSeq: {number} {method}"));
        headers(out);
        let (content_type, body) = body.unwrap_or_default();
        if !body.is_empty() {
            let _ = write!(out, "Content-Type: {content_type}\r\n");
        }
        let _ = write!(out, "Content-Length: {}\r\n\r\n", body.len());
        out.extend_from_slice(body);
    }

    /// The Request-URI, the values of Route, and a last one to be put into angle brackets (12.2.1.1).
    fn route(&self) -> (&str, &[String], Option<&str>) {
        let Some((first, rest)) = self.route_set.split_first() else {
            return (&self.remote_target, &[], None);
        };
        let parsed = NameAddr::parse(first).ok();
        let is_loose = |uri: &str| Uri::parse(uri).is_ok_and(|uri| uri.params.contains("lr"));
        match parsed {
            // A strict router (RFC 2543) wants itself in the Request-URI and the target at the end.
            Some(route) if !is_loose(route.uri) => (route.uri, rest, Some(&self.remote_target)),
            _ => (&self.remote_target, &self.route_set, None),
        }
    }
}

/// Why there is no dialog, or a request does not fit into it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialogError {
    /// A header field that a dialog is made of cannot be read.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// From has no tag.
    #[error("expected a tag in From")]
    Tag,
    /// No Contact with one SIP URI.
    #[error("expected a Contact with a SIP URI")]
    Contact,
    /// An older request than the last one.
    #[error("expected a CSeq number above {last}, found {found}")]
    Order {
        /// That of the last request.
        last: u32,
        /// That of this one.
        found: u32,
    },
}

impl DialogError {
    /// The status that answers the request.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::Order { .. } => 500,
            Self::Header(_) | Self::Tag | Self::Contact => 400,
        }
    }
}

fn contact<'a>(m: &Message<'a>) -> Result<&'a str, DialogError> {
    let Contacts::List(mut list) = m.contacts()? else {
        return Err(DialogError::Contact);
    };
    let uri = list.next().ok_or(DialogError::Contact)??.uri;
    let is_sip = Uri::parse(uri).is_ok_and(|uri| uri.is_sip());
    is_sip.then_some(uri).ok_or(DialogError::Contact)
}

fn record_route(m: &Message<'_>) -> Vec<String> {
    m.values(HeaderId::RecordRoute).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::MessageBuf;

    const INVITE: &str = "INVITE sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.7;branch=z9hG4bK1\r\n\
        Record-Route: <sip:p2.example.com;lr>\r\nRecord-Route: <sip:p1.example.com;lr>\r\n\
        From: \"Alice\" <sip:alice@example.org>;tag=a\r\nTo: Bob <sip:bob@example.com>\r\nCall-ID: c1\r\n\
        CSeq: 7 INVITE\r\nContact: <sip:alice@198.51.100.7:5070>\r\nContent-Length: 0\r\n\r\n";

    fn ok(status: u16, routes: &str) -> MessageBuf {
        let text = format!(
            "SIP/2.0 {status} X\r\nVia: SIP/2.0/UDP 198.51.100.7;branch=z9hG4bK1\r\n{routes}\
             From: \"Alice\" <sip:alice@example.org>;tag=a\r\nTo: Bob <sip:bob@example.com>;tag=b\r\nCall-ID: c1\r\n\
             CSeq: 7 INVITE\r\nContact: <sip:bob@203.0.113.9>\r\nContent-Length: 0\r\n\r\n"
        );
        MessageBuf::parse(text).unwrap()
    }

    fn invite() -> MessageBuf {
        MessageBuf::parse(INVITE).unwrap()
    }

    fn routes() -> &'static str {
        "Record-Route: <sip:p2.example.com;lr>, <sip:p1.example.com;lr>\r\n"
    }

    fn written(dialog: &mut Dialog, method: Method<'_>) -> String {
        let mut out = Vec::new();
        dialog.write_request(method, "SIP/2.0/UDP me;branch=z9hG4bK9", |_| {}, None, &mut out);
        MessageBuf::parse(out.clone())
            .unwrap()
            .message()
            .validate_request()
            .unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn caller_sends_along_the_reversed_record_route() {
        let mut dialog = Dialog::as_caller(invite().message(), ok(200, routes()).message()).unwrap();
        assert_eq!(
            written(&mut dialog, Method::Bye),
            "BYE sip:bob@203.0.113.9 SIP/2.0\r\nVia: SIP/2.0/UDP me;branch=z9hG4bK9\r\nMax-Forwards: 70\r\n\
             Route: <sip:p1.example.com;lr>\r\nRoute: <sip:p2.example.com;lr>\r\n\
             From: \"Alice\" <sip:alice@example.org>;tag=a\r\nTo: Bob <sip:bob@example.com>;tag=b\r\nCall-ID: c1\r\n\
             CSeq: 8 BYE\r\nContent-Length: 0\r\n\r\n"
        );
        assert_eq!(dialog.next_hop(), "sip:p1.example.com;lr");
        assert_eq!(dialog.state(), DialogState::Confirmed);
    }

    #[test]
    fn callee_sends_along_the_record_route_as_it_stands() {
        let mut dialog = Dialog::as_callee(invite().message(), "b", DialogState::Early).unwrap();
        assert_eq!(
            written(&mut dialog, Method::Bye),
            "BYE sip:alice@198.51.100.7:5070 SIP/2.0\r\nVia: SIP/2.0/UDP me;branch=z9hG4bK9\r\nMax-Forwards: 70\r\n\
             Route: <sip:p2.example.com;lr>\r\nRoute: <sip:p1.example.com;lr>\r\n\
             From: Bob <sip:bob@example.com>;tag=b\r\nTo: \"Alice\" <sip:alice@example.org>;tag=a\r\nCall-ID: c1\r\n\
             CSeq: 1 BYE\r\nContent-Length: 0\r\n\r\n"
        );
        dialog.confirmed();
        assert_eq!(dialog.state(), DialogState::Confirmed);
    }

    #[test]
    fn ack_has_the_number_of_its_invite_and_may_carry_an_answer() {
        let dialog = Dialog::as_caller(invite().message(), ok(200, "").message()).unwrap();
        let mut out = Vec::new();
        let headers = |out: &mut Vec<u8>| out.extend_from_slice(b"User-Agent: x\r\n");
        dialog.write_ack(
            7,
            "SIP/2.0/UDP me;branch=z9hG4bK9",
            headers,
            Some(("application/sdp", b"v=0\r\n")),
            &mut out,
        );
        let ack = MessageBuf::parse(out).unwrap();
        let ack = ack.message();
        assert_eq!((ack.method(), ack.cseq().unwrap().number), (Method::Ack, 7));
        assert_eq!(ack.request_uri(), "sip:bob@203.0.113.9");
        assert_eq!(
            (ack.body(), ack.content_type()),
            (&b"v=0\r\n"[..], Ok(Some("application/sdp")))
        );
        assert!(ack.header(HeaderId::UserAgent).is_some());
    }

    #[test]
    fn strict_router_gets_itself_in_the_request_uri() {
        let strict = "Record-Route: <sip:p2.example.com;lr>, <sip:p1.example.com>\r\n";
        let mut dialog = Dialog::as_caller(invite().message(), ok(200, strict).message()).unwrap();
        let text = written(&mut dialog, Method::Bye);
        assert!(text.starts_with("BYE sip:p1.example.com SIP/2.0\r\n"));
        assert!(text.contains("Route: <sip:p2.example.com;lr>\r\nRoute: <sip:bob@203.0.113.9>\r\n"));
        assert_eq!(dialog.next_hop(), "sip:p1.example.com");
    }

    #[test]
    fn early_dialog_takes_route_and_target_from_the_2xx() {
        let mut dialog = Dialog::as_caller(invite().message(), ok(180, "").message()).unwrap();
        assert_eq!(
            (dialog.state(), dialog.next_hop()),
            (DialogState::Early, "sip:bob@203.0.113.9")
        );
        dialog.confirm(ok(200, routes()).message()).unwrap();
        assert_eq!(
            (dialog.state(), dialog.next_hop()),
            (DialogState::Confirmed, "sip:p1.example.com;lr")
        );
        dialog.confirm(ok(200, "").message()).unwrap();
        assert_eq!(
            dialog.next_hop(),
            "sip:p1.example.com;lr",
            "a re-INVITE does not change the route set"
        );
    }

    #[test]
    fn element_between_sees_both_views() {
        let list = "Record-Route: <sip:far.example.com;lr>, <sip:own.example.com;lr;x=1>, <sip:own.example.com;lr;x=2>, <sip:near.example.org;lr>\r\n";
        let own = |uri: &str| uri.contains("own.example.com");
        let (mut caller, mut callee) =
            Dialog::observed(invite().message(), ok(200, list).message(), own).unwrap();
        let to_callee = written(&mut caller, Method::Bye);
        assert!(to_callee.starts_with("BYE sip:bob@203.0.113.9 SIP/2.0\r\n"));
        assert!(to_callee.contains("Max-Forwards: 70\r\nRoute: <sip:far.example.com;lr>\r\nFrom: \"Alice\""));
        assert!(to_callee.contains("CSeq: 8 BYE"));
        callee.raise_local_cseq(41);
        callee.raise_local_cseq(3);
        let to_caller = written(&mut callee, Method::Bye);
        assert!(to_caller.starts_with("BYE sip:alice@198.51.100.7:5070 SIP/2.0\r\n"));
        assert!(to_caller.contains("Max-Forwards: 70\r\nRoute: <sip:near.example.org;lr>\r\nFrom: Bob"));
        assert!(to_caller.contains("CSeq: 42 BYE"));
    }

    #[test]
    fn requests_are_matched_by_call_id_and_tags_and_must_come_in_order() {
        let mut caller = Dialog::as_caller(invite().message(), ok(200, "").message()).unwrap();
        let mut callee = Dialog::as_callee(invite().message(), "b", DialogState::Confirmed).unwrap();
        let bye = MessageBuf::parse(written(&mut caller, Method::Bye)).unwrap();
        assert!(callee.matches_request(&bye.message()) && !caller.matches_request(&bye.message()));
        callee.accept_request(&bye.message()).unwrap();
        let again = callee.accept_request(&bye.message()).unwrap_err();
        assert_eq!(
            (again.clone(), again.status()),
            (DialogError::Order { last: 8, found: 8 }, 500)
        );
        for (from, to) in [("tag=a", "tag=x"), ("tag=b", "tag=x"), ("c1", "c2")] {
            let other = MessageBuf::parse(String::from_utf8_lossy(bye.bytes()).replace(from, to)).unwrap();
            assert!(!callee.matches_request(&other.message()));
        }
        let ack = String::from_utf8_lossy(bye.bytes())
            .replace("8 BYE", "7 ACK")
            .replace("BYE ", "ACK ");
        callee
            .accept_request(&MessageBuf::parse(ack).unwrap().message())
            .unwrap();
    }

    #[test]
    fn dialog_needs_a_contact_that_can_be_called() {
        let without = ok(200, "");
        for contact in ["", "Contact: *\r\n", "Contact: <mailto:bob@example.com>\r\n"] {
            let text = String::from_utf8_lossy(without.bytes())
                .replace("Contact: <sip:bob@203.0.113.9>\r\n", contact);
            let response = MessageBuf::parse(text).unwrap();
            let error = Dialog::as_caller(invite().message(), response.message()).unwrap_err();
            assert_eq!((error.clone(), error.status()), (DialogError::Contact, 400));
        }
        let mut dialog = Dialog::as_caller(invite().message(), without.message()).unwrap();
        dialog.refresh_target(&invite().message()).unwrap();
        assert_eq!(dialog.remote_target(), "sip:alice@198.51.100.7:5070");
    }
}
