//! Plain numbers about one connection.

use valkyrie_frame::{ErrorCode, MessageType, Priority};

use crate::on_demand::fill;

/// What happened on a connection since the numbers were last [taken](Self::take).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// Nothing while nothing is counted.
    fresh: Option<Box<Fresh>>,
    /// Frames of unknown types, and frames about calls and streams that are gone, in all.
    pub skipped: u64,
    /// Errors reported by either side, in all.
    pub errors_total: u64,
    /// Frames sent and received before the last [`take`](Self::take).
    taken: [u64; 2],
}

/// What was counted since the last take.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Fresh {
    types: Vec<TypeCount>,
    /// Place of the type that was counted last.
    recent: usize,
    errors: Vec<ErrorNote>,
}

/// Frames of one type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TypeCount {
    /// The type.
    pub kind: MessageType,
    /// Frames queued for sending, by the bands of [`Priority::band`], lowest first.
    pub sent: [u64; 4],
    /// Frames received, those that were skipped included.
    pub received: u64,
    /// Frames received and skipped.
    pub skipped: u64,
    /// Payload bytes of both directions, extensions included, headers not.
    pub bytes: u64,
    /// Frames of both directions by payload: entry `n` counts those of at most `2^n` bytes that
    /// are in no entry before.
    pub sizes: [u32; SIZE_CLASSES],
}

/// Entries of [`TypeCount::sizes`]; the last one holds the longest payload of a frame.
pub const SIZE_CLASSES: usize = 19;

/// Streams and stream bytes of one class since the last
/// [`take_stream_counts`](crate::Session::take_stream_counts).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StreamCount {
    /// Streams opened by either side.
    pub opened: u64,
    /// Streams that both sides have ended.
    pub closed: u64,
    /// Payload bytes that took credit, sent.
    pub sent: u64,
    /// Payload bytes that took credit, received.
    pub received: u64,
    /// Window of the stream that was given credit last, in bytes; 0 when none was.
    pub window: u32,
}

/// One error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorNote {
    /// Its code.
    pub code: ErrorCode,
    /// Who found it.
    pub origin: Origin,
}

/// Who reported an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// This side, about the peer.
    Local,
    /// The peer, about this side.
    Peer,
}

/// Errors kept until they are taken.
const ERRORS_KEPT: usize = 64;

impl Counters {
    /// What was counted of each type since the last [`take`](Self::take).
    #[must_use]
    pub fn types(&self) -> &[TypeCount] {
        self.fresh.as_ref().map_or(&[], |fresh| &fresh.types)
    }

    /// Frames of one type received since the last [`take`](Self::take).
    #[must_use]
    pub fn received_of(&self, kind: MessageType) -> u64 {
        let entry = self.types().iter().find(|entry| entry.kind == kind);
        entry.map_or(0, |entry| entry.received)
    }

    /// Frames sent and received, in all.
    #[must_use]
    pub fn frames(&self) -> [u64; 2] {
        let [sent, received] = self.taken;
        self.types()
            .iter()
            .fold([sent, received], |[sent, received], entry| {
                [
                    sent + entry.sent.iter().sum::<u64>(),
                    received + entry.received,
                ]
            })
    }

    /// Takes what was counted since the last call; to be called once per batch.
    pub fn take(&mut self, each: impl FnMut(&TypeCount), error: impl FnMut(ErrorNote)) {
        self.taken = self.frames();
        if let Some(fresh) = &mut self.fresh {
            fresh.types.iter().for_each(each);
            fresh.types.clear();
            fresh.errors.drain(..).for_each(error);
        }
    }

    /// Gives back memory that holds nothing.
    pub(crate) fn release(&mut self) {
        let is_empty = |fresh: &mut Box<Fresh>| fresh.types.is_empty() && fresh.errors.is_empty();
        self.fresh.take_if(is_empty);
    }

    #[inline]
    pub(crate) fn count_sent(&mut self, kind: MessageType, priority: Priority, bytes: u32) {
        self.count_sent_many(kind, priority, bytes, 1);
    }

    /// Counts `frames` frames of the same length.
    #[inline]
    pub(crate) fn count_sent_many(
        &mut self,
        kind: MessageType,
        priority: Priority,
        bytes: u32,
        frames: u32,
    ) {
        let entry = self.entry(kind);
        entry.size(bytes, frames);
        if let Some(count) = entry.sent.get_mut(band_index(priority)) {
            *count += u64::from(frames);
        }
    }

    #[inline]
    pub(crate) fn count_received(&mut self, kind: MessageType, bytes: u32) {
        self.count_received_many(kind, bytes, 1);
    }

    /// Counts `frames` frames of the same length.
    #[inline]
    pub(crate) fn count_received_many(&mut self, kind: MessageType, bytes: u32, frames: u32) {
        let entry = self.entry(kind);
        entry.size(bytes, frames);
        entry.received += u64::from(frames);
    }

    /// The frame counted last, which was received, has no meaning here.
    pub(crate) fn count_skipped(&mut self) {
        self.skipped += 1;
        if let Some(fresh) = &mut self.fresh
            && let Some(entry) = fresh.types.get_mut(fresh.recent)
        {
            entry.skipped += 1;
        }
    }

    pub(crate) fn count_error(&mut self, code: ErrorCode, origin: Origin) {
        self.errors_total += 1;
        let errors = &mut self.fresh.get_or_insert_default().errors;
        if errors.len() < ERRORS_KEPT {
            errors.push(ErrorNote { code, origin });
        }
    }

    /// Searches a list: one connection uses a handful of types, most frames have the type of the
    /// one before, and 256 slots would be more than an idle connection may cost.
    #[inline]
    fn entry(&mut self, kind: MessageType) -> &mut TypeCount {
        let fresh = match &mut self.fresh {
            Some(fresh) => &mut **fresh,
            empty @ None => fill(empty, Box::default),
        };
        let recent = fresh.types.get(fresh.recent);
        if recent.is_none_or(|entry| entry.kind != kind) {
            fresh.recent = fresh.find(kind);
        }
        fresh
            .types
            .get_mut(fresh.recent)
            .expect("`recent` was just found")
    }
}

impl Fresh {
    #[cold]
    fn find(&mut self, kind: MessageType) -> usize {
        let known = self.types.iter().position(|entry| entry.kind == kind);
        known.unwrap_or_else(|| {
            self.types.push(TypeCount::new(kind));
            self.types.len() - 1
        })
    }
}

impl TypeCount {
    const fn new(kind: MessageType) -> Self {
        Self {
            kind,
            sent: [0; 4],
            received: 0,
            skipped: 0,
            bytes: 0,
            sizes: [0; SIZE_CLASSES],
        }
    }

    #[inline]
    fn size(&mut self, bytes: u32, frames: u32) {
        self.bytes += u64::from(bytes) * u64::from(frames);
        let class = (u32::BITS - bytes.saturating_sub(1).leading_zeros()) as usize;
        if let Some(count) = self.sizes.get_mut(class.min(SIZE_CLASSES - 1)) {
            *count = count.saturating_add(frames);
        }
    }
}

#[inline]
const fn band_index(priority: Priority) -> usize {
    match priority.0 {
        0..64 => 0,
        64..160 => 1,
        160..240 => 2,
        240.. => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_counted_by_the_next_power_of_two() {
        let mut counters = Counters::default();
        for bytes in [0, 1, 2, 3, 64, 65, 262_144] {
            counters.count_received(MessageType::CALL, bytes);
        }
        let [entry] = counters.types() else {
            panic!("one type")
        };
        let mut expected = [0; SIZE_CLASSES];
        for class in [0, 0, 1, 2, 6, 7, 18] {
            expected[class] += 1;
        }
        assert_eq!((entry.sizes, entry.received), (expected, 7));
    }

    #[test]
    fn what_was_taken_is_not_given_again() {
        let mut counters = Counters::default();
        counters.count_sent(MessageType::CALL, Priority::NORMAL, 10);
        counters.count_received(MessageType::PING, 8);
        counters.count_skipped();
        let mut seen = Vec::new();
        counters.take(
            |entry| seen.push((entry.kind, entry.sent, entry.skipped)),
            |_| {},
        );
        assert_eq!(
            seen,
            [
                (MessageType::CALL, [0, 1, 0, 0], 0),
                (MessageType::PING, [0; 4], 1)
            ]
        );
        counters.take(|_| panic!("nothing is left"), |_| {});
        assert_eq!(counters.skipped, 1);
    }
}
