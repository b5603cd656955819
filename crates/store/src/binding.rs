//! A binding: where an address-of-record is reached until when (RFC 3261 section 10, RFC 5626).

use std::fmt;

/// The columns of a binding, borrowed: what a [`Binding`] is built from and what the store reads back.
///
/// The key is `aor` and `contact`, compared byte for byte. Whether two Contacts are the same under the rules of
/// RFC 3261 section 19.1.4 is the registrar's business: when a refresh spells its Contact differently, it removes
/// the old spelling and puts the new one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BindingFields<'a> {
    /// The address-of-record, in the form in which the registrar compares them.
    pub aor: &'a str,
    /// The Contact URI as the phone wrote it.
    pub contact: &'a str,
    /// `Call-ID` of the REGISTER that wrote this binding.
    pub call_id: &'a str,
    /// The values of the Path header, comma-separated (RFC 3327); empty for none.
    pub path: &'a str,
    /// `+sip.instance` (RFC 5626); empty for none.
    pub instance: &'a str,
    /// The User-Agent header of the phone; empty for none.
    pub user_agent: &'a str,
    /// The flow by which the REGISTER came, in a form of the caller's.
    pub flow: &'a [u8],
    /// `CSeq` number of the REGISTER that wrote this binding.
    pub cseq: u32,
    /// `reg-id` (RFC 5626); 0 for none.
    pub reg_id: u32,
    /// Preference in thousandths: 0 to 1000.
    pub q: u16,
    /// When it was last registered, in unix seconds.
    pub registered_at: u64,
    /// When it expires, in unix seconds.
    pub expires_at: u64,
}

/// An owned binding on its way to the store: two allocations, however many columns.
#[derive(Clone, PartialEq, Eq)]
pub struct Binding {
    text: Box<str>,
    /// Where each of `aor`, `contact`, `call_id`, `path`, `instance` ends in `text`; `user_agent` is the rest.
    ends: [u32; 5],
    flow: Box<[u8]>,
    cseq: u32,
    reg_id: u32,
    q: u16,
    registered_at: u64,
    expires_at: u64,
}

impl Binding {
    /// Copies the columns.
    pub fn new(fields: BindingFields<'_>) -> Self {
        let parts = [
            fields.aor,
            fields.contact,
            fields.call_id,
            fields.path,
            fields.instance,
            fields.user_agent,
        ];
        let mut text = String::with_capacity(parts.iter().map(|part| part.len()).sum());
        let mut ends = [0; 5];
        for (i, part) in parts.into_iter().enumerate() {
            text.push_str(part);
            if let Some(end) = ends.get_mut(i) {
                *end = text.len() as u32;
            }
        }
        Self {
            text: text.into_boxed_str(),
            ends,
            flow: fields.flow.into(),
            cseq: fields.cseq,
            reg_id: fields.reg_id,
            q: fields.q,
            registered_at: fields.registered_at,
            expires_at: fields.expires_at,
        }
    }

    /// The columns.
    pub fn fields(&self) -> BindingFields<'_> {
        let [aor, contact, call_id, path, instance] = self.ends.map(|end| end as usize);
        BindingFields {
            aor: &self.text[..aor],
            contact: &self.text[aor..contact],
            call_id: &self.text[contact..call_id],
            path: &self.text[call_id..path],
            instance: &self.text[path..instance],
            user_agent: &self.text[instance..],
            flow: &self.flow,
            cseq: self.cseq,
            reg_id: self.reg_id,
            q: self.q,
            registered_at: self.registered_at,
            expires_at: self.expires_at,
        }
    }
}

impl From<BindingFields<'_>> for Binding {
    fn from(fields: BindingFields<'_>) -> Self {
        Self::new(fields)
    }
}

impl fmt::Debug for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fields().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owned_binding_gives_its_columns_back() {
        let fields = BindingFields {
            aor: "älice@example.org",
            contact: "sip:alice@192.0.2.4:40312",
            call_id: "a84b4c76e66710",
            path: "",
            instance: "<urn:uuid:00000000-0000-1000-8000-000A95A0E128>",
            user_agent: "baresip",
            flow: &[0, 255, 7],
            cseq: u32::MAX,
            reg_id: 1,
            q: 700,
            registered_at: 1_800_000_000,
            expires_at: 1_800_003_600,
        };
        assert_eq!(Binding::new(fields).fields(), fields);
        assert_eq!(
            Binding::new(BindingFields::default()).fields(),
            BindingFields::default()
        );
    }
}
