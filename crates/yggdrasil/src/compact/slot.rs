//! 8 bytes that are a bucket.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::slot::{Entry, Slot};

const TIME_BITS: u32 = 40;
const TIMES: u64 = (1 << TIME_BITS) - 1;
const TAGS: u64 = u64::MAX >> TIME_BITS;
/// Times that are told apart, in microseconds: 12.7 days.
pub(crate) const HORIZON_US: u64 = 1 << TIME_BITS;

/// What 8 bytes hold: 24 bits that say whose it is, and the low 40 bits of the microsecond at which the
/// bucket is full. Nobody's tag is 0; with it are the claims, and the rest of them is their name, so
/// whose claim it is nobody knows. 0 is nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Narrow(u64);

impl Narrow {
    /// Whether no bucket is there.
    pub(super) const fn is_free(self) -> bool {
        self.0 >> TIME_BITS == 0
    }
}

/// The part of a hash that is a tag; never 0.
#[inline]
pub(crate) const fn tag_of(hash: u64) -> u64 {
    match hash & TAGS {
        0 => 1,
        tag => tag,
    }
}

impl Entry for Narrow {
    const EMPTY: Self = Self(0);

    #[inline]
    fn bucket(tag: u64, full_at: u64) -> Self {
        Self(tag << TIME_BITS | full_at & TIMES)
    }

    /// Names come again after a million million claims. That is no other claim's name as long as no
    /// thread is interrupted for so many between two of its steps.
    fn claim(_: u64, name: u64) -> Self {
        Self(name % TIMES + 1)
    }

    #[inline]
    fn is_claim(self) -> bool {
        self.0 >> TIME_BITS == 0 && self.0 != 0
    }

    #[inline]
    fn is_bucket_of(self, tag: u64) -> bool {
        self.0 >> TIME_BITS == tag
    }

    fn is_claim_for(self, _: u64) -> bool {
        self.is_claim()
    }

    /// The one time behind `floor`, and not a whole horizon behind it, that ends with the same bits.
    #[inline]
    fn full_at(self, floor: u64) -> u64 {
        floor.saturating_add(self.0.wrapping_sub(floor) & TIMES)
    }
}

/// 8 bytes that change in one step.
#[derive(Debug, Default)]
#[repr(transparent)]
pub(crate) struct NarrowSlot(AtomicU64);

impl Slot for NarrowSlot {
    type Entry = Narrow;

    #[inline]
    fn load(&self) -> Narrow {
        Narrow(self.0.load(Ordering::SeqCst))
    }

    #[inline]
    fn swap(&self, seen: Narrow, new: Narrow) -> Result<(), Narrow> {
        // Claims are only told apart from what came before them in one order of all threads.
        let swapped = self
            .0
            .compare_exchange(seen.0, new.0, Ordering::SeqCst, Ordering::SeqCst);
        swapped.map(drop).map_err(Narrow)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_within_a_horizon_of_the_floor_come_back() {
        for floor in [0, 1, TIMES, HORIZON_US, 3 * HORIZON_US + 5, 1 << 54] {
            for behind in [0, 1, HORIZON_US / 2, HORIZON_US - 1] {
                let entry = Narrow::bucket(TAGS, floor + behind);
                assert_eq!(entry.full_at(floor), floor + behind);
                assert!(entry.is_bucket_of(TAGS) && !entry.is_claim());
            }
            let beyond = Narrow::bucket(1, floor + HORIZON_US);
            assert_eq!(beyond.full_at(floor), floor);
        }
    }

    #[test]
    fn claims_are_nobody_s_and_not_nothing() {
        for name in [0, 1, TIMES - 1, TIMES, TIMES + 1, u64::MAX] {
            let claim = Narrow::claim(7, name);
            assert!(claim.is_claim() && claim != Narrow::EMPTY);
            assert!(!claim.is_bucket_of(tag_of(7)) && claim.is_claim_for(9));
        }
        assert!(!Narrow::EMPTY.is_claim());
    }

    #[test]
    fn tags_are_24_bits_and_never_0() {
        assert_eq!(tag_of(0), 1);
        assert_eq!(tag_of(u64::MAX), TAGS);
        assert_eq!(tag_of(5 << TIME_BITS | 9), 9);
    }
}
