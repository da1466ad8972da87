//! The text of a file, and places in it.

use std::ops::Range;

use super::node::Node;
use crate::diagnostic::Span;

/// A file's text with an index of its lines.
///
/// Places are bytes counted through all files of a pipeline: those of a file begin at its base.
#[derive(Debug)]
pub(crate) struct Source<'t> {
    pub(crate) file: &'t str,
    pub(crate) text: &'t str,
    base: usize,
    line_starts: Vec<usize>,
    /// Where each character begins; none when each is one byte.
    char_starts: Option<Vec<usize>>,
}

impl<'t> Source<'t> {
    pub(crate) fn new(file: &'t str, text: &'t str) -> Self {
        Self::at(0, file, text)
    }

    /// A file whose places begin at `base`.
    pub(crate) fn at(base: usize, file: &'t str, text: &'t str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let line_starts = std::iter::once(0)
            .chain(breaks.map(|(index, _)| index + 1))
            .collect();
        let char_starts =
            (!text.is_ascii()).then(|| text.char_indices().map(|(index, _)| index).collect());
        Self {
            file,
            text,
            base,
            line_starts,
            char_starts,
        }
    }

    /// The first place behind this file.
    pub(crate) fn end(&self) -> usize {
        self.base + self.text.len() + 1
    }

    /// Some bytes of the text.
    fn slice(&self, bytes: Range<usize>) -> &'t str {
        self.text.get(bytes).unwrap_or_default()
    }

    /// A place as bytes of this text.
    fn own(&self, place: Range<usize>) -> Range<usize> {
        place.start.saturating_sub(self.base)..place.end.saturating_sub(self.base)
    }

    /// The place at which a character begins.
    pub(super) fn byte_of_char(&self, index: usize) -> usize {
        let start = match &self.char_starts {
            Some(starts) => starts.get(index).copied(),
            None => Some(index),
        };
        self.base + start.map_or(self.text.len(), |start| start.min(self.text.len()))
    }

    /// The place of some bytes; of several lines, the part on the first.
    pub(crate) fn span(&self, place: Range<usize>) -> Span {
        let bytes = self.own(place);
        let line = self
            .line_starts
            .partition_point(|start| *start <= bytes.start)
            .max(1);
        let line_start = self.line_starts.get(line - 1).copied().unwrap_or(0);
        let before = self.slice(line_start..bytes.start);
        let marked = self
            .slice(bytes)
            .lines()
            .next()
            .unwrap_or_default()
            .trim_end();
        let count = |text: &str| u32::try_from(text.chars().count()).unwrap_or(u32::MAX);
        Span {
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column: count(before).saturating_add(1),
            len: count(marked).max(1),
        }
    }

    /// Where a part of a scalar's text stands in the file. There the text may be indented, folded
    /// or escaped, so the part is searched for; when that fails it is the scalar's own place.
    pub(crate) fn within(&self, node: &Node, part: Range<usize>) -> Range<usize> {
        self.find_within(node, part)
            .unwrap_or_else(|| node.at.clone())
    }

    /// The same occurrence of the same text, between the bytes of the node.
    fn find_within(&self, node: &Node, part: Range<usize>) -> Option<Range<usize>> {
        let text = node.text()?;
        let marked = text.get(part.clone())?.lines().next()?;
        if marked.is_empty() {
            return None;
        }
        let nth = text.get(..part.start)?.matches(marked).count();
        let written = self.slice(self.own(node.at.clone()));
        let (index, _) = written.match_indices(marked).nth(nth)?;
        let start = node.at.start + index;
        Some(start..start + marked.len())
    }
}
