//! Where a bucket lies: a few bytes that change in one step.

use portable_atomic::{AtomicU128, Ordering};

/// What a slot holds: nothing, a bucket, or the claim of somebody who is about to put one there.
pub(crate) trait Entry: Copy + PartialEq {
    /// Nothing.
    const EMPTY: Self;

    /// A bucket of the key with this tag.
    fn bucket(tag: u64, full_at: u64) -> Self;

    /// The intent to put a bucket here. `name` is no other claim's, or one that was withdrawn could
    /// be taken for a later one.
    fn claim(tag: u64, name: u64) -> Self;

    fn is_claim(self) -> bool;

    fn is_bucket_of(self, tag: u64) -> bool;

    /// Whether it may be a claim for this key.
    fn is_claim_for(self, tag: u64) -> bool;

    /// When the bucket is full; meaningless for a claim. No bucket of the table is full before `floor`.
    fn full_at(self, floor: u64) -> u64;
}

/// One place for a bucket, shared by all threads.
pub(crate) trait Slot {
    type Entry: Entry;

    fn load(&self) -> Self::Entry;

    /// Puts `new` where `seen` still is; else gives what is there.
    fn swap(&self, seen: Self::Entry, new: Self::Entry) -> Result<(), Self::Entry>;
}

/// What 16 bytes hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wide {
    /// Whose it is: the hash of its key, never 0. 0 for nobody's.
    tag: u64,
    /// When the bucket is full, or the name of a claim.
    word: u64,
}

/// Set in the word of a claim. What is left counts nanoseconds for 292 years.
const CLAIM: u64 = 1 << 63;

impl Entry for Wide {
    const EMPTY: Self = Self { tag: 0, word: 0 };

    /// Times behind the end of the clock are cut off there.
    #[inline]
    fn bucket(tag: u64, full_at: u64) -> Self {
        let word = full_at.min(CLAIM - 1);
        Self { tag, word }
    }

    fn claim(tag: u64, name: u64) -> Self {
        let word = CLAIM | name;
        Self { tag, word }
    }

    #[inline]
    fn is_claim(self) -> bool {
        self.word & CLAIM != 0
    }

    #[inline]
    fn is_bucket_of(self, tag: u64) -> bool {
        self.tag == tag && !self.is_claim()
    }

    fn is_claim_for(self, tag: u64) -> bool {
        self.tag == tag && self.is_claim()
    }

    #[inline]
    fn full_at(self, _: u64) -> u64 {
        self.word
    }
}

impl Wide {
    /// Whose bucket it is; 0 for nobody's.
    pub(crate) const fn tag(self) -> u64 {
        self.tag
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

/// 16 bytes that change in one step.
#[derive(Debug, Default)]
#[repr(transparent)]
pub(crate) struct WideSlot(AtomicU128);

impl Slot for WideSlot {
    type Entry = Wide;

    #[inline]
    fn load(&self) -> Wide {
        Wide::from_bits(self.0.load(Ordering::SeqCst))
    }

    #[inline]
    fn swap(&self, seen: Wide, new: Wide) -> Result<(), Wide> {
        let (seen, new) = (seen.to_bits(), new.to_bits());
        // Claims are only told apart from what came before them in one order of all threads.
        let swapped = self
            .0
            .compare_exchange(seen, new, Ordering::SeqCst, Ordering::SeqCst);
        swapped.map(drop).map_err(Wide::from_bits)
    }
}
