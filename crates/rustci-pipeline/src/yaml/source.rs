//! The text of a file, and places in it.

use std::ops::Range;

use super::node::Node;
use crate::diagnostic::Span;

/// A file's text with an index of its lines.
#[derive(Debug)]
pub(crate) struct Source<'t> {
    pub(crate) file: &'t str,
    pub(crate) text: &'t str,
    line_starts: Vec<usize>,
    /// Where each character begins; none when each is one byte.
    char_starts: Option<Vec<usize>>,
}

impl<'t> Source<'t> {
    pub(crate) fn new(file: &'t str, text: &'t str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let line_starts = std::iter::once(0)
            .chain(breaks.map(|(index, _)| index + 1))
            .collect();
        let char_starts =
            (!text.is_ascii()).then(|| text.char_indices().map(|(index, _)| index).collect());
        Self {
            file,
            text,
            line_starts,
            char_starts,
        }
    }

    /// Some bytes of the text.
    fn slice(&self, bytes: Range<usize>) -> &'t str {
        self.text.get(bytes).unwrap_or_default()
    }

    /// The byte at which a character begins.
    pub(super) fn byte_of_char(&self, index: usize) -> usize {
        let start = match &self.char_starts {
            Some(starts) => starts.get(index).copied(),
            None => Some(index),
        };
        start.map_or(self.text.len(), |start| start.min(self.text.len()))
    }

    /// The line of a byte, from 1.
    pub(crate) fn line(&self, byte: usize) -> u32 {
        let line = self
            .line_starts
            .partition_point(|start| *start <= byte)
            .max(1);
        u32::try_from(line).unwrap_or(u32::MAX)
    }

    /// The place of some bytes; of several lines, the part on the first.
    pub(crate) fn span(&self, bytes: Range<usize>) -> Span {
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
        let (index, _) = self.slice(node.at.clone()).match_indices(marked).nth(nth)?;
        let start = node.at.start + index;
        Some(start..start + marked.len())
    }
}
