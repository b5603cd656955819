//! What a REGISTER asks for: its contacts with their times, and what all of them have in common (RFC 3261 10.3 steps 6 and 7).

use std::borrow::Cow;

use sip::headers::{Contacts, NameAddr};
use sip::uri::Uri;
use sip::{Flow, HeaderId, Message, Transport};
use smallvec::SmallVec;

use super::{PATH, Refusal, RegistrarConfig, UnknownPath};

/// A REGISTER, read and checked.
pub(super) struct Requested<'m> {
    pub(super) call_id: &'m str,
    pub(super) cseq: u32,
    pub(super) contacts: Wish<'m>,
    /// Values of Path, comma-separated.
    pub(super) path: Cow<'m, str>,
    pub(super) user_agent: Cow<'m, str>,
    pub(super) flow: Flow,
    pub(super) behind_nat: bool,
}

/// What is to become of the bindings.
pub(super) enum Wish<'m> {
    /// `Contact: *` with `Expires: 0`.
    RemoveAll,
    /// Each of these; none is a question only.
    Each(SmallVec<[RequestedContact<'m>; 1]>),
}

/// One contact of a REGISTER.
pub(super) struct RequestedContact<'m> {
    pub(super) uri: Uri<'m>,
    /// Seconds granted; 0 removes.
    pub(super) expires: u32,
    pub(super) q: u16,
    pub(super) instance: &'m str,
    pub(super) reg_id: u16,
}

impl<'m> Requested<'m> {
    pub(super) fn read(m: Message<'m>, flow: &Flow, config: &RegistrarConfig) -> Result<Self, Refusal<'m>> {
        let call_id = m.call_id().map_err(|_| Refusal::Plain(400, "Bad Call-ID"))?;
        if call_id.len() > MAX_CALL_ID {
            return Err(Refusal::Plain(400, "Call-ID Too Long"));
        }
        let cseq = m.cseq().map_err(|_| Refusal::Plain(400, "Bad CSeq"))?.number;
        let contacts = match m.contacts().map_err(|_| Refusal::Plain(400, "Bad Contact"))? {
            Contacts::Star if m.expires().ok().flatten() == Some(0) => Wish::RemoveAll,
            Contacts::Star => return Err(Refusal::Plain(400, "Contact * Without Expires 0")),
            Contacts::List(list) => {
                let header_expires = m.expires().ok().flatten().unwrap_or(config.default_expires);
                let mut contacts: SmallVec<[RequestedContact<'m>; 1]> = SmallVec::new();
                for contact in list {
                    let contact = contact.map_err(|_| Refusal::Plain(400, "Bad Contact"))?;
                    let contact = RequestedContact::read(&contact, header_expires, config)?;
                    // The same contact twice: the later one is what the user agent means.
                    contacts.retain(|earlier| !earlier.uri.equivalent(&contact.uri));
                    if contacts.len() >= config.max_bindings {
                        return Err(Refusal::Plain(403, "Too Many Contacts"));
                    }
                    contacts.push(contact);
                }
                Wish::Each(contacts)
            }
        };
        let path = read_path(m, config)?;
        let behind_nat = path.is_empty() && is_behind_nat(m, flow, &contacts);
        let user_agent = m.value(HeaderId::UserAgent).ok().flatten().unwrap_or("");
        let user_agent = unfolded(&user_agent[..user_agent.floor_char_boundary(MAX_USER_AGENT)]);
        Ok(Requested {
            call_id,
            cseq,
            contacts,
            path,
            user_agent,
            flow: *flow,
            behind_nat,
        })
    }
}

impl<'m> RequestedContact<'m> {
    /// `header_expires` holds where the contact itself says nothing.
    fn read(
        contact: &NameAddr<'m>,
        header_expires: u32,
        config: &RegistrarConfig,
    ) -> Result<Self, Refusal<'m>> {
        let uri = contact
            .parsed_uri()
            .map_err(|_| Refusal::Plain(400, "Bad Contact"))?;
        if !uri.is_sip() {
            // A binding that no request could ever be sent to.
            return Err(Refusal::Plain(400, "Contact Is No SIP URI"));
        }
        if contact.uri.len() > MAX_CONTACT {
            return Err(Refusal::Plain(400, "Contact Too Long"));
        }
        let (mut expires, mut q, mut instance, mut reg_id) = (header_expires, 1000, "", 0);
        for (name, value) in contact.params.iter() {
            match name.len() {
                1 if name.eq_ignore_ascii_case("q") => q = contact.q(),
                // What cannot be read counts as no wish (RFC 3261 10.2.1.1).
                7 if name.eq_ignore_ascii_case("expires") => {
                    expires = contact.expires().unwrap_or(config.default_expires);
                }
                6 if name.eq_ignore_ascii_case("reg-id") => {
                    reg_id = value.and_then(|text| text.parse().ok()).unwrap_or(0);
                }
                13 if name.eq_ignore_ascii_case("+sip.instance") => {
                    instance = value.and_then(usable_instance).unwrap_or("");
                }
                _ => {}
            }
        }
        if expires > 0 && expires < config.min_expires.min(ONE_HOUR) {
            return Err(Refusal::TooBrief(config.min_expires.min(ONE_HOUR)));
        }
        Ok(RequestedContact {
            uri,
            expires: expires.min(config.max_expires),
            q,
            instance,
            reg_id,
        })
    }
}

/// What is between the quotes, as far as it can be kept.
fn usable_instance(quoted: &str) -> Option<&str> {
    let instance = quoted.strip_prefix('"')?.strip_suffix('"')?;
    let usable = instance.len() <= MAX_INSTANCE && !instance.bytes().any(|byte| byte < b' ' || byte == b'"');
    usable.then_some(instance)
}

fn read_path<'m>(m: Message<'m>, config: &RegistrarConfig) -> Result<Cow<'m, str>, Refusal<'m>> {
    let mut path = Cow::Borrowed("");
    if m.header(HeaderId::Path).is_none() {
        return Ok(path);
    }
    for value in m.paths() {
        let value = value.map_err(|_| Refusal::Plain(400, "Bad Path"))?;
        value
            .parsed_uri()
            .ok()
            .filter(Uri::is_sip)
            .ok_or(Refusal::Plain(400, "Bad Path"))?;
        let text = unfolded(value.as_str());
        if path.is_empty() {
            path = text;
        } else {
            path.to_mut().push_str(", ");
            path.to_mut().push_str(&text);
        }
        if path.len() > MAX_PATH {
            return Err(Refusal::Plain(400, "Path Too Long"));
        }
    }
    let refused = config.unknown_path == UnknownPath::Refuse && !m.has_token(HeaderId::Supported, PATH);
    if refused && !path.is_empty() {
        Err(Refusal::Path)
    } else {
        Ok(path)
    }
}

/// A NAT is between, unless the user agent names itself just as we see it. Devices that rewrite SIP make it name what we see,
/// and then keep the way open themselves. Behind a proxy it is the proxy that has to care.
fn is_behind_nat(m: Message<'_>, flow: &Flow, contacts: &Wish<'_>) -> bool {
    let Wish::Each(contacts) = contacts else {
        return false;
    };
    if m.lower_vias().next().is_some() || flow.transport == Transport::Local {
        return false;
    }
    let source = flow.remote.ip().to_canonical();
    let here = |contact: &RequestedContact<'_>| {
        let port = contact.uri.port.unwrap_or_else(|| flow.transport.default_port());
        // A stream's source port is never the port that its user agent listens at.
        let same_port = flow.transport.is_stream() || port == flow.remote.port();
        contact.uri.host.ip().map(|ip| ip.to_canonical()) == Some(source) && same_port
    };
    !contacts.iter().all(here)
}

/// One line of what may be several.
fn unfolded(text: &str) -> Cow<'_, str> {
    if text.bytes().any(|byte| byte < b' ') {
        Cow::Owned(text.replace(|c: char| c < ' ', " "))
    } else {
        Cow::Borrowed(text)
    }
}

/// Seconds below which a registration may be called too brief (RFC 3261 10.3 step 7).
const ONE_HOUR: u32 = 3600;

/// Longest contact URI kept, in bytes.
const MAX_CONTACT: usize = 512;

/// Longest Call-ID kept, in bytes.
const MAX_CALL_ID: usize = 256;

/// Longest Path kept, in bytes over all of its values.
const MAX_PATH: usize = 1024;

/// Longest instance kept, in bytes; a longer one counts as none.
const MAX_INSTANCE: usize = 128;

/// Bytes of the User-Agent header that are kept.
const MAX_USER_AGENT: usize = 48;
