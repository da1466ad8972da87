//! The parts of a text that are to be hidden: in order, apart from each other.

use std::ops::Range;

/// Stretches of a text, none empty, none touching another.
#[derive(Default)]
pub(super) struct Stretches(Vec<Range<usize>>);

impl Stretches {
    /// Adds a stretch; whatever it overlaps or touches becomes one with it.
    pub(super) fn add(&mut self, stretch: Range<usize>) {
        let first = self.0.partition_point(|known| known.end < stretch.start);
        let Some(behind) = self.0.get(first..).filter(|behind| !behind.is_empty()) else {
            return self.0.push(stretch);
        };
        let count = behind.partition_point(|known| known.start <= stretch.end);
        let joined = behind.iter().take(count).fold(stretch, |joined, known| {
            joined.start.min(known.start)..joined.end.max(known.end)
        });
        self.0.splice(first..first + count, [joined]);
    }

    /// The stretches before `end`, the last one cut there.
    pub(super) fn until(&self, end: usize) -> impl Iterator<Item = Range<usize>> {
        let before = self.0.iter().take_while(move |known| known.start < end);
        before.map(move |known| known.start..known.end.min(end))
    }

    /// Forgets the first `count` bytes of the text.
    pub(super) fn advance(&mut self, count: usize) {
        let over = self.0.partition_point(|known| known.end <= count);
        self.0.drain(..over);
        for known in &mut self.0 {
            *known = known.start.saturating_sub(count)..known.end - count;
        }
    }
}
