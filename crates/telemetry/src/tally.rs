//! Counts frames on the thread that moves them.

use valkyrie_frame::{MessageType, Priority};

use crate::{
    ValkyrieMetrics,
    size::{Sizes, bucket_of},
};

/// What became of a received frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// It was handled.
    Success,
    /// It was skipped: its type has no meaning here.
    Skipped,
    /// It was answered with an ERROR.
    Error,
}

impl Received {
    pub(crate) const ALL: [&'static str; 3] = ["success", "skipped", "error"];
}

/// The values of the label `priority`, in the order of [`Row::sent`].
pub(crate) const BANDS: [&str; 4] = ["low", "normal", "high", "critical"];

/// Known types, `application` and `unknown`.
const ROWS: usize = MessageType::ALL.len() + 2;
// One bit of `FrameTally::dirty` for each row.
const _: () = assert!(ROWS <= 64);

/// Row of each of the 256 message types.
#[expect(clippy::indexing_slicing, reason = "evaluated when the crate is built")]
const ROW_OF: [u8; 256] = {
    let mut rows = [0; 256];
    let mut value = 0;
    let mut known = 0;
    while value < 256 {
        let kind = MessageType(value as u8);
        rows[value] = if kind.is_application() {
            ROWS as u8 - 2
        } else if kind.is_known() {
            known += 1;
            known - 1
        } else {
            ROWS as u8 - 1
        };
        value += 1;
    }
    rows
};

/// What is counted for one type of message.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Row {
    /// By [`BANDS`].
    pub(crate) sent: [u64; 4],
    /// By [`Received`].
    pub(crate) received: [u64; 3],
    pub(crate) sizes: Sizes,
}

/// Frame counts of one thread, added to the shared families by [`flush`](Self::flush).
///
/// Counting costs a few plain additions; only a flush, once per tick, touches shared memory.
/// Dropping the tally flushes it.
#[derive(Debug)]
pub struct FrameTally {
    metrics: ValkyrieMetrics,
    rows: Box<[Row; ROWS]>,
    dirty: u64,
}

impl FrameTally {
    /// A tally that adds to `metrics`.
    #[must_use]
    pub fn new(metrics: &ValkyrieMetrics) -> Self {
        Self {
            metrics: metrics.clone(),
            rows: Box::new([Row::default(); ROWS]),
            dirty: 0,
        }
    }

    /// Counts a frame that was queued for sending; `bytes` is its payload.
    #[inline]
    pub fn sent(&mut self, kind: MessageType, priority: Priority, bytes: u32) {
        let band = match priority.band() {
            "low" => 0,
            "normal" => 1,
            "high" => 2,
            _ => 3,
        };
        if let Some(count) = self.row(kind, bytes).sent.get_mut(band) {
            *count += 1;
        }
    }

    /// Counts a frame that was received; `bytes` is its payload.
    #[inline]
    pub fn received(&mut self, kind: MessageType, outcome: Received, bytes: u32) {
        if let Some(count) = self.row(kind, bytes).received.get_mut(outcome as usize) {
            *count += 1;
        }
    }

    /// The row of a type, with the size counted.
    #[inline]
    fn row(&mut self, kind: MessageType, bytes: u32) -> &mut Row {
        let index = ROW_OF.get(usize::from(kind.0)).copied().unwrap_or_default();
        self.dirty |= 1 << index;
        let row = self
            .rows
            .get_mut(usize::from(index))
            .expect("ROW_OF holds indices of rows");
        if let Some(count) = row.sizes.counts.get_mut(bucket_of(bytes)) {
            *count += 1;
        }
        row.sizes.sum += u64::from(bytes);
        row
    }

    /// Adds what was counted to the shared families and starts again at zero.
    pub fn flush(&mut self) {
        let names = MessageType::ALL.iter().map(|kind| kind.name());
        let rows = names
            .chain(["application", "unknown"])
            .zip(self.rows.iter_mut());
        for (bit, (name, row)) in rows.enumerate() {
            if self.dirty >> bit & 1 == 1 {
                self.metrics.add_frames(name, row);
                *row = Row::default();
            }
        }
        self.dirty = 0;
    }
}

impl Drop for FrameTally {
    fn drop(&mut self) {
        self.flush();
    }
}
