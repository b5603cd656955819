//! What is to be changed in a message, written out in one pass; everything else leaves byte for byte as it came.
//!
//! Collect changes in any order, then [`Edits::write`]; [`Edits::clear`] makes the list ready for the next message
//! without giving memory back, so that steady state allocates nothing. All changes of one list are made to the same
//! message, the one that `write` gets. Where changes overlap, the one that starts first (of two, the longer) wins: the
//! removal of a line swallows changes inside it.
//!
//! Values are written as given: who passes text that came from outside must know that it holds no line break.

mod via;

pub(crate) use via::source_changes;

use crate::header_id::HeaderId;
use crate::headers::CommaList;
use crate::message::Message;
use crate::multipart::Part;
use crate::text::offset_in;
use smallvec::SmallVec;
use std::fmt;
use std::io::Write;
use std::net::SocketAddr;
use std::ops::Range;

/// What is to be changed in a message.
#[derive(Debug, Default)]
pub struct Edits {
    /// In order of `start`; at the same place insertions before replacements.
    list: Vec<Edit>,
    text: Vec<u8>,
    /// How many values of a header field have been popped.
    popped: SmallVec<[(HeaderId, usize); 4]>,
}

#[derive(Clone, Debug)]
struct Edit {
    /// What it replaces, in the message; empty for an insertion.
    range: Range<usize>,
    /// By what, in `text`.
    text: Range<usize>,
}

impl Edits {
    /// No changes; allocates with the first one.
    pub fn new() -> Self {
        Edits::default()
    }

    /// Forgets all changes and keeps the memory.
    pub fn clear(&mut self) {
        self.list.clear();
        self.text.clear();
        self.popped.clear();
    }

    /// True if nothing is to be changed.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Replaces the Request-URI. Does nothing to a response.
    pub fn set_request_uri(&mut self, m: Message<'_>, uri: impl Text) {
        if m.is_request() {
            self.replace(m.index().request_uri(), |out| uri.append_to(out));
        }
    }

    /// Puts a new header line before the first of its kind; if there is none, after the Via lines at the top. `write`
    /// appends the value, without name and line end. Of several, the last pushed comes out on top.
    pub fn push_top(&mut self, m: Message<'_>, id: HeaderId, write: impl FnOnce(&mut Vec<u8>)) {
        let position = m
            .index()
            .first(id)
            .or_else(|| m.index().first_other_than(HeaderId::Via));
        let at = position.map_or(m.index().headers_end(), |p| m.header_ranges(p).line.start);
        self.insert(at, true, |out| {
            write_line(out, id.into(), write);
        });
    }

    /// Puts a new header line after the last one. Of several, the last appended comes out last.
    pub fn append<'n>(&mut self, m: Message<'_>, name: impl Into<HeaderName<'n>>, value: impl Text) {
        let name = name.into();
        self.insert(m.index().headers_end(), false, |out| {
            write_line(out, name, |out| value.append_to(out))
        });
    }

    /// Replaces the value of the header line at `position`, folds and all.
    pub fn replace_value(&mut self, m: Message<'_>, position: usize, value: impl Text) {
        let ranges = m.header_ranges(position);
        let name_and_colon = m
            .source()
            .get(ranges.line.start..ranges.value.start)
            .unwrap_or_default();
        // From the colon on, so that the range is never empty.
        if let Some(colon) = memchr::memchr(b':', name_and_colon) {
            self.replace(ranges.line.start + colon..ranges.value.end, |out| {
                out.extend_from_slice(b": ");
                value.append_to(out);
            });
        }
    }

    /// Replaces the value of the first header line with that id and removes the others; appends it if there is none.
    pub fn set(&mut self, m: Message<'_>, id: HeaderId, value: impl Text) {
        match m.index().first(id) {
            None => self.append(m, id, value),
            Some(first) => {
                for position in m.index().positions(id).skip(1) {
                    self.remove(m, position);
                }
                self.replace_value(m, first, value);
            }
        }
    }

    /// Removes the header line at `position`.
    pub fn remove(&mut self, m: Message<'_>, position: usize) {
        self.replace(m.header_ranges(position).line, |_| {});
    }

    /// Removes all header lines with that id.
    pub fn remove_all(&mut self, m: Message<'_>, id: HeaderId) {
        for position in m.index().positions(id) {
            self.remove(m, position);
        }
    }

    /// Drops the first value of a list header field (Via, Route), with its line if it is alone there. Called again, the
    /// next one. Beyond the last it does nothing.
    pub fn pop_value(&mut self, m: Message<'_>, id: HeaderId) {
        let mut skip = match self.popped.iter_mut().find(|(popped, _)| *popped == id) {
            Some((_, count)) => {
                *count += 1;
                *count - 1
            }
            None => {
                self.popped.push((id, 1));
                0
            }
        };
        for position in m.index().positions(id) {
            // A line that is not UTF-8 counts as one value.
            let mut elements = CommaList::new(m.header_at(position).text().unwrap_or("?"));
            while let Some(element) = elements.next() {
                if skip > 0 {
                    skip -= 1;
                    continue;
                }
                match elements.next() {
                    None => self.remove(m, position),
                    Some(next) => {
                        let start = |part: &str| offset_in(m.source(), part.as_bytes());
                        self.replace(start(element)..start(next), |_| {});
                    }
                }
                return;
            }
        }
    }

    /// Writes into the top Via where the message really came from: `received` and `rport`, as RFC 3581, 4 wants where it
    /// was asked for. Here it is forced always, whether asked for or not: that is what reaches telephones behind NAT.
    pub fn fix_top_via(&mut self, m: Message<'_>, source: SocketAddr) {
        for change in source_changes(m, source).into_iter().flatten() {
            if change.range.is_empty() {
                self.insert(change.range.start, false, |out| change.write(out));
            } else {
                self.replace(change.range.clone(), |out| change.write(out));
            }
        }
    }

    /// Sets Max-Forwards, or adds it.
    pub fn set_max_forwards(&mut self, m: Message<'_>, value: u32) {
        self.set(m, HeaderId::MaxForwards, value);
    }

    /// Max-Forwards less one; `default` if there is none or it cannot be read (RFC 3261, 16.6, 3). Who calls has refused
    /// a value of 0.
    pub fn decrement_max_forwards(&mut self, m: Message<'_>, default: u32) {
        let value = m
            .max_forwards()
            .ok()
            .flatten()
            .map_or(default, |n| n.saturating_sub(1));
        self.set_max_forwards(m, value);
    }

    /// Replaces the content of one part of the body, and says how long the body is then.
    pub fn set_part(&mut self, m: Message<'_>, part: &Part, content: &[u8]) {
        let body = m.index().body_range();
        let at = |range: &Range<usize>| body.start + range.start..body.start + range.end;
        let mut length = body.len() - part.content.len() + content.len();
        if let Some(own) = &part.length {
            let digits = content.len().to_string();
            length = length - own.len() + digits.len();
            self.replace_range(at(own), digits.as_str());
        }
        self.set(
            m,
            HeaderId::ContentLength,
            u32::try_from(length).unwrap_or(u32::MAX),
        );
        let range = at(&part.content);
        if range.is_empty() {
            self.insert(range.start, false, |out| out.extend_from_slice(content));
        } else {
            self.replace(range, |out| out.extend_from_slice(content));
        }
    }

    /// Replaces a part of a value, given as a slice of the message that an accessor returned; an empty slice inserts.
    pub fn replace_slice(&mut self, m: Message<'_>, part: &str, text: impl Text) {
        let start = offset_in(m.source(), part.as_bytes());
        self.replace_range(start..start + part.len(), text);
    }

    /// Replaces a range of the bytes that the message's index was made of; an empty range inserts.
    pub fn replace_range(&mut self, range: Range<usize>, text: impl Text) {
        if range.is_empty() {
            self.insert(range.start, false, |out| text.append_to(out));
        } else {
            self.replace(range, |out| text.append_to(out));
        }
    }

    /// Appends the changed message to `out`.
    pub fn write(&self, m: Message<'_>, out: &mut Vec<u8>) {
        let source = m.source();
        let range = m.index().message_range();
        let mut at = range.start;
        for edit in &self.list {
            if edit.range.start < at {
                continue;
            }
            out.extend_from_slice(source.get(at..edit.range.start).unwrap_or_default());
            out.extend_from_slice(self.text.get(edit.text.clone()).unwrap_or_default());
            at = edit.range.end;
        }
        out.extend_from_slice(source.get(at..range.end).unwrap_or_default());
    }

    fn insert(&mut self, at: usize, on_top: bool, write: impl FnOnce(&mut Vec<u8>)) {
        let text = self.append_text(write);
        let place = self.list.partition_point(|edit| {
            edit.range.start < at || (!on_top && edit.range.start == at && edit.range.is_empty())
        });
        self.list.insert(place, Edit { range: at..at, text });
    }

    fn replace(&mut self, range: Range<usize>, write: impl FnOnce(&mut Vec<u8>)) {
        let text = self.append_text(write);
        let place = self.list.partition_point(|edit| {
            edit.range.start < range.start
                || (edit.range.start == range.start && (edit.range.is_empty() || edit.range.end > range.end))
        });
        match self.list.get_mut(place) {
            Some(edit) if edit.range == range => edit.text = text,
            _ => self.list.insert(place, Edit { range, text }),
        }
    }

    fn append_text(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Range<usize> {
        let start = self.text.len();
        write(&mut self.text);
        start..self.text.len()
    }
}

/// The name of a header field to be written.
#[derive(Clone, Copy, Debug)]
pub enum HeaderName<'n> {
    /// By its id.
    Id(HeaderId),
    /// By its text.
    Text(&'n str),
}

impl HeaderName<'_> {
    /// The name.
    pub fn as_str(&self) -> &str {
        match self {
            HeaderName::Id(id) => id.name(),
            HeaderName::Text(text) => text,
        }
    }
}

impl From<HeaderId> for HeaderName<'_> {
    fn from(id: HeaderId) -> Self {
        HeaderName::Id(id)
    }
}

impl<'n> From<&'n str> for HeaderName<'n> {
    fn from(text: &'n str) -> Self {
        HeaderName::Text(text)
    }
}

/// Text that can be appended: a string, bytes, a number in decimal, or `format_args!`.
pub trait Text {
    /// Appends it.
    fn append_to(self, out: &mut Vec<u8>);
}

impl Text for &str {
    fn append_to(self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }
}

impl Text for &String {
    fn append_to(self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }
}

impl Text for &[u8] {
    fn append_to(self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
}

impl Text for u32 {
    fn append_to(self, out: &mut Vec<u8>) {
        crate::text::push_decimal(out, self);
    }
}

impl Text for fmt::Arguments<'_> {
    fn append_to(self, out: &mut Vec<u8>) {
        out.write_fmt(self).expect("a Vec takes all");
    }
}

pub(crate) fn write_line(out: &mut Vec<u8>, name: HeaderName<'_>, write: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    write(out);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests;
