//! Buckets that outlive their table.

use crate::buckets::Buckets;
use crate::limit::Limit;
use crate::slot::{Entry, Wide};

/// A bucket that is not full, without its key: for a table with the same [`Seed`](crate::Seed).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptBucket {
    tag: u64,
    full_at: u64,
}

impl KeptBucket {
    /// Bytes of one.
    pub const BYTES: usize = 16;

    /// As bytes: the hash of its key and the nanosecond at which it is full, both little-endian.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let bits = u128::from(self.full_at) << 64 | u128::from(self.tag);
        bits.to_le_bytes()
    }

    /// Of such bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        let bits = u128::from_le_bytes(bytes);
        Self {
            tag: bits as u64,
            full_at: (bits >> 64) as u64,
        }
    }
}

impl Buckets {
    /// All buckets that are not full at `now`, each as it was at some moment while they are looked at.
    pub fn keep(&self, now: u64) -> impl Iterator<Item = KeptBucket> {
        let live = move |entry: &Wide| !entry.is_claim() && entry.full_at(0) > now;
        self.entries().filter(live).map(|entry| KeptBucket {
            tag: entry.tag(),
            full_at: entry.full_at(0),
        })
    }

    /// Puts a bucket into a table that has the seed of the one it was kept of, by a clock that goes on
    /// where the other one was. `false` where it is full by now, where its key has a bucket that is not
    /// full, and where it is none.
    pub fn restore(&self, kept: KeptBucket, now: u64) -> bool {
        // All that is missing is taken as one token.
        let lacks = kept.full_at.saturating_sub(now);
        let limit = Limit::new(lacks, 1);
        kept.tag != 0 && limit.is_ok_and(|limit| self.take(kept.tag, &limit, 1, now).0.is_allowed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn buckets_are_in_another_table_what_they_were() {
        let buckets = Buckets::with_room_for(1000);
        let limit = Limit::new(SECOND, 10).unwrap();
        for key in 0..500_u32 {
            buckets.try_consume(&key.to_le_bytes(), &limit, 1 + key % 10, SECOND);
        }
        let now = 6 * SECOND;
        let kept: Vec<_> = buckets.keep(now).map(KeptBucket::to_bytes).collect();
        assert_eq!(kept.len(), 250);
        let other = Buckets::with_room_for(2000).with_seed(*buckets.seed());
        for bytes in &kept {
            assert!(other.restore(KeptBucket::from_bytes(*bytes), now));
            // It is there already.
            assert!(!other.restore(KeptBucket::from_bytes(*bytes), now));
        }
        for key in 0..500_u32 {
            let look = |buckets: &Buckets| buckets.try_consume(&key.to_le_bytes(), &limit, 0, now);
            assert_eq!(look(&buckets), look(&other));
        }
    }

    #[test]
    fn what_is_full_or_no_bucket_is_not_restored() {
        let buckets = Buckets::with_room_for(100);
        for (tag, full_at) in [(0, 9), (1, 5), (1, 0), (1, u64::MAX)] {
            let kept = KeptBucket { tag, full_at };
            assert!(!buckets.restore(kept, 5), "{kept:?}");
        }
        assert_eq!(buckets.keep(5).count(), 0);
    }
}
