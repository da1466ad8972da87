//! Where files are cut.
//!
//! Cuts follow the content (FastCDC): a byte put into a file moves the cuts behind it along, so all
//! but a few chunks are the ones of the version before.

use fastcdc::v2020::{MASKS, cut};

use crate::limits::{CHUNK_BYTES_AVERAGE, CHUNK_BYTES_MAX, CHUNK_BYTES_MIN, WHOLE_FILE_BYTES_MAX};

/// Finds the cuts of one file.
#[derive(Debug, Clone, Copy)]
pub struct Cutter {
    whole: bool,
}

/// Cuts are normalised by one bit around the average.
const BITS: usize = CHUNK_BYTES_AVERAGE.ilog2() as usize;
const MASK_BEFORE: u64 = MASKS[BITS + 1];
const MASK_BEHIND: u64 = MASKS[BITS - 1];

impl Cutter {
    /// For a file of `size` bytes.
    #[must_use]
    pub const fn new(size: u64) -> Self {
        Self {
            whole: size <= WHOLE_FILE_BYTES_MAX,
        }
    }

    /// Length of the chunk that `bytes` begin with. They have to hold [`CHUNK_BYTES_MAX`] bytes, or
    /// all that is left of the file.
    #[must_use]
    pub fn cut(&self, bytes: &[u8]) -> usize {
        if self.whole || bytes.len() <= CHUNK_BYTES_MIN {
            return bytes.len().min(CHUNK_BYTES_MAX);
        }
        let (_, length) = cut(
            bytes,
            CHUNK_BYTES_MIN,
            CHUNK_BYTES_AVERAGE,
            CHUNK_BYTES_MAX,
            MASK_BEFORE,
            MASK_BEHIND,
            MASK_BEFORE << 1,
            MASK_BEHIND << 1,
        );
        length
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::Digest;

    fn noise(bytes: usize, seed: u64) -> Vec<u8> {
        let mut state = seed;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        };
        let mut out: Vec<u8> = (0..bytes.div_ceil(8)).flat_map(|_| next()).collect();
        out.truncate(bytes);
        out
    }

    fn chunks(bytes: &[u8]) -> Vec<Digest> {
        let cutter = Cutter::new(bytes.len() as u64);
        let (mut rest, mut chunks) = (bytes, Vec::new());
        while !rest.is_empty() {
            let length = cutter.cut(&rest[..rest.len().min(CHUNK_BYTES_MAX)]);
            assert!(length <= CHUNK_BYTES_MAX);
            chunks.push(Digest::of(&rest[..length]));
            rest = &rest[length..];
        }
        chunks
    }

    #[test]
    fn a_small_file_is_one_chunk() {
        assert_eq!(chunks(&noise(1 << 20, 1)).len(), 1);
        assert_eq!(chunks(&[]).len(), 0);
    }

    #[test]
    fn a_byte_put_in_changes_few_chunks() {
        let before = noise(24 << 20, 7);
        let mut after = before.clone();
        after.insert(9 << 20, 0x55);
        let (before, after) = (chunks(&before), chunks(&after));
        assert!(before.len() > 8, "{}", before.len());
        let known: HashSet<_> = before.into_iter().collect();
        let new = after.iter().filter(|chunk| !known.contains(chunk)).count();
        assert!(new <= 3, "{new} of {} chunks are new", after.len());
    }
}
