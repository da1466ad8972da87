//! Where everything lies in the shared memory.

use crate::words::Word;

/// Smallest ring: one flush of the engine.
pub const RING_BYTES_MIN: u32 = 64 * 1024;
/// Largest ring: what the largest connection window holds.
pub const RING_BYTES_MAX: u32 = 16 * 1024 * 1024;

/// Bytes in front of the first ring: the words of both.
const HEAD_BYTES: usize = 4096;
/// Words lie this far apart. Two cache lines, because processors fetch lines in pairs.
const WORD_STRIDE: usize = 128;
const WORDS: usize = 4;

const _: () = assert!(2 * WORDS * WORD_STRIDE <= HEAD_BYTES);
const _: () = assert!(RING_BYTES_MIN.is_power_of_two() && RING_BYTES_MAX.is_power_of_two());
const _: () = assert!((RING_BYTES_MIN as usize).is_multiple_of(size_of::<u64>()));

/// Bytes that one direction holds: a power of two from [`RING_BYTES_MIN`] to [`RING_BYTES_MAX`].
///
/// A connection costs twice as much address space, and memory for what was ever used of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RingBytes(u32);

impl RingBytes {
    /// 512 KiB: eight flushes of 64 KiB. With fewer, writer and reader wait for each other; more
    /// no longer fit the second-level cache beside what the two are working on.
    pub const DEFAULT: Self = Self(512 * 1024);

    /// A ring of `bytes`; `None` if that is no power of two or out of bounds.
    #[must_use]
    pub const fn new(bytes: u32) -> Option<Self> {
        if bytes.is_power_of_two() && bytes >= RING_BYTES_MIN && bytes <= RING_BYTES_MAX {
            Some(Self(bytes))
        } else {
            None
        }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Bytes of the whole memory: the words and both rings.
    #[must_use]
    pub const fn region_bytes(self) -> usize {
        HEAD_BYTES + 2 * self.0 as usize
    }

    pub(crate) const fn ring_offset(self, direction: Direction) -> usize {
        HEAD_BYTES + direction as usize * self.0 as usize
    }
}

impl Default for RingBytes {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Which of the two rings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    ToAcceptor = 0,
    ToInitiator = 1,
}

/// Offset of a word of one ring.
pub(crate) const fn word_offset(direction: Direction, word: Word) -> usize {
    (direction as usize * WORDS + word as usize) * WORD_STRIDE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_is_a_power_of_two_within_bounds() {
        for bytes in [RING_BYTES_MIN, RingBytes::DEFAULT.get(), RING_BYTES_MAX] {
            assert_eq!(RingBytes::new(bytes).map(RingBytes::get), Some(bytes));
        }
        for bytes in [
            0,
            1,
            4096,
            65_535,
            65_537,
            100_000,
            RING_BYTES_MAX * 2,
            u32::MAX,
        ] {
            assert_eq!(RingBytes::new(bytes), None, "{bytes}");
        }
    }

    #[test]
    fn the_offsets_are_those_of_the_specification() {
        let bytes = RingBytes::DEFAULT;
        assert_eq!(word_offset(Direction::ToAcceptor, Word::Tail), 0);
        assert_eq!(word_offset(Direction::ToAcceptor, Word::WriterRests), 384);
        assert_eq!(word_offset(Direction::ToInitiator, Word::Tail), 512);
        assert_eq!(bytes.ring_offset(Direction::ToAcceptor), 4096);
        assert_eq!(bytes.ring_offset(Direction::ToInitiator), 4096 + 524_288);
        assert_eq!(bytes.region_bytes(), 4096 + 1_048_576);
    }
}
