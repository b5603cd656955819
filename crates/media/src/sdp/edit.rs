//! The edit list of a description: ranges of the original and what stands there instead, written in one pass.

use std::fmt::{self, Write};
use std::ops::Range;

use smallvec::SmallVec;

/// Changes of one description, in any order. What is not mentioned leaves byte for byte.
#[derive(Clone, Debug, Default)]
pub struct Edits {
    /// Range of the original, range of `text`.
    list: SmallVec<[(Range<usize>, Range<usize>); 8]>,
    text: SmallVec<[u8; 128]>,
}

impl Edits {
    /// No changes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces a range; ranges of different edits must not overlap.
    pub fn replace(&mut self, range: Range<usize>, text: fmt::Arguments<'_>) {
        let start = self.text.len();
        // Writing into memory does not fail.
        let _ = Writer(&mut self.text).write_fmt(text);
        self.list.push((range, start..self.text.len()));
    }

    /// Adds text before the byte at `position`.
    pub fn insert(&mut self, position: usize, text: fmt::Arguments<'_>) {
        self.replace(position..position, text);
    }

    /// Leaves a range out.
    pub fn remove(&mut self, range: Range<usize>) {
        let end = self.text.len();
        self.list.push((range, end..end));
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Appends `original` with the changes to `out`.
    pub fn write(&mut self, original: &[u8], out: &mut Vec<u8>) {
        // Stable, so that two insertions at one place keep their order.
        self.list.sort_by_key(|(range, _)| range.start);
        out.reserve(original.len() + self.text.len());
        let mut copied = 0;
        for (range, text) in &self.list {
            debug_assert!(copied <= range.start, "edits do not overlap");
            out.extend_from_slice(original.get(copied..range.start).unwrap_or_default());
            out.extend_from_slice(&self.text[text.clone()]);
            copied = range.end;
        }
        out.extend_from_slice(original.get(copied..).unwrap_or_default());
    }
}

struct Writer<'a>(&'a mut SmallVec<[u8; 128]>);

impl Write for Writer<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}
