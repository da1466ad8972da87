//! The sidecar of a log: a BLAKE3 chain over its blocks, which is also its line index.
//!
//! One 48-byte entry per 64 KiB of log, and one for the part block at the end of a finished log:
//! u32 offset in the block at which its first record starts (`0xffff_ffff`: none does), u32 zero, u64
//! lines that ended before that record, 32 bytes `BLAKE3(previous link ‖ block)`. All numbers are
//! big-endian. A reader finds the last N lines by walking these entries backwards instead of the log.

use valkyrie_frame::log::LogRecord;

use crate::limits::CHAIN_BLOCK_BYTES;
use crate::logs::record::ends_line;

/// Bytes of one entry.
pub(crate) const ENTRY_BYTES: usize = 48;
const NO_RECORD: u32 = u32::MAX;

/// What the sidecar says about one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Where in the block its first record starts.
    pub(crate) first_record: Option<u32>,
    /// Lines that ended before that record.
    pub(crate) lines_before: u64,
    /// The link of the chain after this block.
    pub(crate) link: [u8; 32],
}

impl Entry {
    /// Reads one entry; `None` when it is cut off.
    pub(crate) fn parse(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (entry, rest) = bytes.split_first_chunk::<ENTRY_BYTES>()?;
        let (first, tail) = entry.split_first_chunk::<4>()?;
        let (_, tail) = tail.split_first_chunk::<4>()?;
        let (lines, link) = tail.split_first_chunk::<8>()?;
        let first = u32::from_be_bytes(*first);
        Some((
            Self {
                lines_before: u64::from_be_bytes(*lines),
                first_record: (first != NO_RECORD).then_some(first),
                link: *link.first_chunk::<32>()?,
            },
            rest,
        ))
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.first_record.unwrap_or(NO_RECORD).to_be_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.lines_before.to_be_bytes());
        out.extend_from_slice(&self.link);
    }
}

/// Computes the chain while bytes pass by.
#[derive(Debug)]
pub(crate) struct Chain {
    hasher: blake3::Hasher,
    /// Bytes of the current block that went into `hasher`.
    filled: usize,
    first_record: Option<u32>,
    lines_before: u64,
    lines: u64,
}

impl Chain {
    /// The chain of an empty log: its first link starts from 32 zero bytes.
    pub(crate) fn new() -> Self {
        Self::after(&[0; 32], 0)
    }

    fn after(link: &[u8; 32], lines: u64) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(link);
        Self {
            hasher,
            filled: 0,
            first_record: None,
            lines_before: lines,
            lines,
        }
    }

    /// Takes one whole record with its bytes; entries of blocks that became full go to `out`.
    pub(crate) fn push(&mut self, record: &LogRecord<'_>, mut bytes: &[u8], out: &mut Vec<u8>) {
        if self.first_record.is_none() {
            self.first_record = u32::try_from(self.filled).ok();
            self.lines_before = self.lines;
        }
        while !bytes.is_empty() {
            let room = CHAIN_BLOCK_BYTES - self.filled;
            let (now, later) = bytes.split_at_checked(room).unwrap_or((bytes, &[]));
            self.hasher.update(now);
            self.filled += now.len();
            bytes = later;
            if self.filled == CHAIN_BLOCK_BYTES {
                let entry = self.entry();
                entry.encode(out);
                *self = Self::after(&entry.link, self.lines);
            }
        }
        self.lines += u64::from(ends_line(record));
    }

    /// Writes the entry of the part block at the end of a finished log, if there is one.
    pub(crate) fn seal(&self, out: &mut Vec<u8>) {
        if self.filled > 0 {
            self.entry().encode(out);
        }
    }

    fn entry(&self) -> Entry {
        Entry {
            lines_before: self.lines_before,
            first_record: self.first_record,
            link: *self.hasher.finalize().as_bytes(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::record::tests::line;
    use crate::logs::record::walk;

    fn entries(log: &[u8]) -> Vec<Entry> {
        let (mut chain, mut out) = (Chain::new(), Vec::new());
        walk(log, |at, record| {
            chain.push(record, &log[at..at + record.encoded_len()], &mut out);
        });
        chain.seal(&mut out);
        let mut rest = out.as_slice();
        std::iter::from_fn(|| {
            let (entry, after) = Entry::parse(rest)?;
            rest = after;
            Some(entry)
        })
        .collect()
    }

    #[test]
    fn links_cover_the_previous_link_and_the_block() {
        let log: Vec<u8> = (0..9).flat_map(|_| line(&[b'x'; 20_000])).collect();
        let entries = entries(&log);
        let mut link = [0; 32];
        for (block, entry) in log.chunks(CHAIN_BLOCK_BYTES).zip(&entries) {
            let bytes = [&link[..], block].concat();
            link = *blake3::hash(&bytes).as_bytes();
            assert_eq!(entry.link, link);
        }
        assert_eq!(entries.len(), log.len().div_ceil(CHAIN_BLOCK_BYTES));
    }

    #[test]
    fn entries_point_at_the_first_record_and_count_lines_before_it() {
        let log: Vec<u8> = (0..9).flat_map(|_| line(&[b'x'; 20_000])).collect();
        let entries = entries(&log);
        assert_eq!(
            (entries[0].first_record, entries[0].lines_before),
            (Some(0), 0)
        );
        // Records start at multiples of 20,015; the fifth at 80,060.
        assert_eq!(entries[1].first_record, Some(80_060 - 65_536));
        assert_eq!(entries[1].lines_before, 4);
    }

    #[test]
    fn a_record_that_fills_its_block_counts_for_the_next() {
        let text = vec![b'y'; CHAIN_BLOCK_BYTES / 2 - 15];
        let log: Vec<u8> = (0..3).flat_map(|_| line(&text)).collect();
        let entries = entries(&log);
        assert_eq!(
            (entries[1].first_record, entries[1].lines_before),
            (Some(0), 2)
        );
    }
}
