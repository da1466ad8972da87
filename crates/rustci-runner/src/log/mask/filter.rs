//! Finds the few places of a text where a pattern could begin, without looking at each byte.
//!
//! Every pattern has at least four bytes. The filter knows which groups of four bytes stand in the
//! first bytes of a pattern, as bits by hash, and looks only at every `stride`-th place of the
//! text: wherever a pattern begins, one of its groups lies at a place that is looked at.

use std::collections::BTreeSet;

use crate::limits::MASKED_BYTES_MIN;

/// Bytes looked at together.
const GROUP: usize = 4;

/// A longer stride would fill the table with groups faster than it skips text.
const STRIDE_MAX: usize = 4;

/// Bits per group and the largest table: 256 KiB stay in the second cache of one core.
const BITS_PER_GROUP: usize = 64;
const TABLE_BITS_MAX: u32 = 21;
const TABLE_BITS_MIN: u32 = 10;

const _: () = assert!(GROUP <= MASKED_BYTES_MIN);

/// Which groups of bytes stand near the start of any pattern.
pub(super) struct Filter {
    table: Vec<u64>,
    /// Bits of the hash that are dropped.
    shift: u32,
    stride: usize,
}

impl Filter {
    /// Knows all patterns; none is shorter than a group.
    pub(super) fn new(patterns: &BTreeSet<Vec<u8>>) -> Self {
        let shortest = patterns.iter().map(Vec::len).min().unwrap_or(GROUP);
        let stride = (shortest + 1).saturating_sub(GROUP).clamp(1, STRIDE_MAX);
        let groups = patterns.len() * stride;
        let bits = (groups * BITS_PER_GROUP).next_power_of_two().ilog2();
        let bits = bits.clamp(TABLE_BITS_MIN, TABLE_BITS_MAX);
        let mut filter = Self {
            table: vec![0; 1 << (bits - 6)],
            shift: 32 - bits,
            stride,
        };
        for pattern in patterns {
            let groups = pattern.windows(GROUP).take(stride);
            groups.for_each(|group| filter.add(group));
        }
        filter
    }

    /// How far before a place that was found a pattern may have begun, and how many bytes at the
    /// end of a text [`find`](Self::find) says nothing about, less one.
    pub(super) fn reach(&self) -> usize {
        self.stride - 1
    }

    /// The first place from `from` on that may lie in the first bytes of a pattern, or `Err` with
    /// the first place that was not looked at.
    pub(super) fn find(&self, text: &[u8], from: usize) -> Result<usize, usize> {
        let mut at = from;
        while let Some(group) = text.get(at..).and_then(<[u8]>::first_chunk::<GROUP>) {
            if self.holds(*group) {
                return Ok(at);
            }
            at += self.stride;
        }
        Err(at)
    }

    fn add(&mut self, group: &[u8]) {
        if let Some(group) = group.first_chunk::<GROUP>() {
            let (word, bit) = self.place(*group);
            if let Some(word) = self.table.get_mut(word) {
                *word |= 1 << bit;
            }
        }
    }

    fn holds(&self, group: [u8; GROUP]) -> bool {
        let (word, bit) = self.place(group);
        self.table
            .get(word)
            .is_some_and(|word| word >> bit & 1 == 1)
    }

    /// Multiplication by the golden ratio: the high bits depend on all four bytes.
    fn place(&self, group: [u8; GROUP]) -> (usize, u32) {
        let hash = u32::from_le_bytes(group).wrapping_mul(0x9E37_79B1) >> self.shift;
        ((hash >> 6) as usize, hash & 63)
    }
}
