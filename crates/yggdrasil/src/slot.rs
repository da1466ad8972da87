//! Where a bucket lies: 16 bytes that change in one step.

use portable_atomic::{AtomicU128, Ordering};

/// What a slot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Whose it is: the hash of its key, never 0. 0 for nobody's.
    pub(crate) tag: u64,
    /// When the bucket is full, or the name of a [claim](Self::claim).
    word: u64,
}

/// Set in the word of a claim. What is left counts nanoseconds for 292 years.
const CLAIM: u64 = 1 << 63;

impl Entry {
    pub(crate) const EMPTY: Self = Self { tag: 0, word: 0 };

    /// A bucket. Times behind the end of the clock are cut off there.
    pub(crate) const fn bucket(tag: u64, full_at: u64) -> Self {
        let word = if full_at < CLAIM { full_at } else { CLAIM - 1 };
        Self { tag, word }
    }

    /// The intent to put a bucket here. `name` is no other claim's, or one that was withdrawn could
    /// be taken for a later one.
    pub(crate) const fn claim(tag: u64, name: u64) -> Self {
        let word = CLAIM | name;
        Self { tag, word }
    }

    pub(crate) const fn is_claim(self) -> bool {
        self.word & CLAIM != 0
    }

    /// When the bucket is full; meaningless for a claim.
    pub(crate) const fn full_at(self) -> u64 {
        self.word
    }

    const fn to_bits(self) -> u128 {
        (self.tag as u128) << 64 | self.word as u128
    }

    const fn from_bits(bits: u128) -> Self {
        Self {
            tag: (bits >> 64) as u64,
            word: bits as u64,
        }
    }
}

/// One place for a bucket, shared by all threads.
pub(crate) trait Slot {
    fn load(&self) -> Entry;

    /// Puts `new` where `seen` still is; else gives what is there.
    fn swap(&self, seen: Entry, new: Entry) -> Result<(), Entry>;
}

/// The real one.
#[derive(Debug, Default)]
#[repr(transparent)]
pub(crate) struct Word(AtomicU128);

impl Slot for Word {
    #[inline]
    fn load(&self) -> Entry {
        Entry::from_bits(self.0.load(Ordering::SeqCst))
    }

    #[inline]
    fn swap(&self, seen: Entry, new: Entry) -> Result<(), Entry> {
        let (seen, new) = (seen.to_bits(), new.to_bits());
        // Claims are only told apart from what came before them in one order of all threads.
        let swapped = self
            .0
            .compare_exchange(seen, new, Ordering::SeqCst, Ordering::SeqCst);
        swapped.map(drop).map_err(Entry::from_bits)
    }
}
