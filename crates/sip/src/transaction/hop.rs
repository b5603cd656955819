//! The two requests that a client transaction makes by itself: CANCEL (RFC 3261 section 9.1) and the ACK to a non-2xx (17.1.1.3).

use crate::header_id::HeaderId;
use crate::message::Message;

/// Appends the CANCEL of `request`, an INVITE as it was sent. `reason` is the value of a Reason header field.
pub(super) fn write_cancel(request: &Message<'_>, reason: Option<&str>, out: &mut Vec<u8>) {
    start(request, "CANCEL", out);
    copy(request, HeaderId::To, out);
    end(request, "CANCEL", out);
    if let Some(reason) = reason {
        line("Reason", reason.as_bytes(), out);
    }
    out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
}

/// Appends the ACK to `response`, a final one other than 2xx, of `request`, an INVITE as it was sent.
pub(super) fn write_ack(request: &Message<'_>, response: &Message<'_>, out: &mut Vec<u8>) {
    start(request, "ACK", out);
    copy(response, HeaderId::To, out);
    end(request, "ACK", out);
    out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
}

/// The request line, the one Via, Max-Forwards, the route and From.
fn start(request: &Message<'_>, method: &str, out: &mut Vec<u8>) {
    for part in [method, " ", request.request_uri(), " SIP/2.0\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    if let Some(via) = request.values(HeaderId::Via).next() {
        line("Via", via.as_bytes(), out);
    }
    out.extend_from_slice(b"Max-Forwards: 70\r\n");
    copy(request, HeaderId::Route, out);
    copy(request, HeaderId::From, out);
}

fn end(request: &Message<'_>, method: &str, out: &mut Vec<u8>) {
    copy(request, HeaderId::CallId, out);
    if let Ok(cseq) = request.cseq() {
        line("CSeq", format!("{} {method}", cseq.number).as_bytes(), out);
    }
}

fn copy(from: &Message<'_>, id: HeaderId, out: &mut Vec<u8>) {
    for header in from.headers_of(id) {
        line(id.name(), header.value, out);
    }
}

fn line(name: &str, value: &[u8], out: &mut Vec<u8>) {
    for part in [name.as_bytes(), b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}
