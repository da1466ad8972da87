//! Counts frames on the thread that moves them.

use valkyrie_frame::MessageType;

use crate::{
    ValkyrieMetrics,
    size::{Sizes, bucket_of_power},
};

/// Frames of one type, as a connection counted them since it was asked last.
#[derive(Clone, Copy, Debug, Default)]
pub struct FrameCounts<'a> {
    /// Frames queued for sending, by the bands of `Priority::band`, lowest first.
    pub sent: [u64; 4],
    /// Frames received, those that were skipped included.
    pub received: u64,
    /// Frames received that have no meaning here.
    pub skipped: u64,
    /// Payload bytes of both directions.
    pub bytes: u64,
    /// Frames of both directions by payload: entry `n` counts those of at most `2^n` bytes that
    /// are in no entry before.
    pub sizes: &'a [u32],
}

/// The values of the label `status`: handled, or without a meaning here.
pub(crate) const STATUS: [&str; 2] = ["success", "skipped"];

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
    /// By [`STATUS`].
    pub(crate) received: [u64; 2],
    pub(crate) sizes: Sizes,
}

/// Frame counts of one thread, added to the shared families by [`flush`](Self::flush).
///
/// Adding is plain memory of this thread; only a flush touches what others read.
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

    /// Adds what one connection counted of one type.
    pub fn add(&mut self, kind: MessageType, counts: &FrameCounts<'_>) {
        let index = ROW_OF.get(usize::from(kind.0)).copied().unwrap_or_default();
        self.dirty |= 1 << index;
        let row = self
            .rows
            .get_mut(usize::from(index))
            .expect("ROW_OF holds indices of rows");
        for (total, count) in row.sent.iter_mut().zip(counts.sent) {
            *total += count;
        }
        let success = counts.received.saturating_sub(counts.skipped);
        for (total, count) in row.received.iter_mut().zip([success, counts.skipped]) {
            *total += count;
        }
        for (power, &frames) in counts.sizes.iter().enumerate() {
            if let Some(count) = row.sizes.counts.get_mut(bucket_of_power(power)) {
                *count += u64::from(frames);
            }
        }
        row.sizes.sum += counts.bytes;
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
