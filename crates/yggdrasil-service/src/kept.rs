//! Buckets in snapshots.
//!
//! ```text
//! buckets:  u8 255, u64 and u64 of the hash of keys, then of each bucket u64 hash of its key, u64
//!           nanosecond since 1970 at which it is full
//! ```
//! Numbers are little-endian. No record of a key begins with 255.

use yggdrasil::{Buckets, KeptBucket, Seed};

use crate::clock::Moment;

const BUCKETS: u8 = u8::MAX;
/// Buckets of a record.
const MANY: usize = 1 << 16;

/// Buckets that a snapshot had.
#[derive(Debug, Default)]
pub(crate) struct KeptBuckets {
    seed: Option<[u64; 2]>,
    buckets: Vec<KeptBucket>,
}

/// Whether a record of a snapshot has buckets.
pub(crate) fn is_buckets(record: &[u8]) -> bool {
    record.first() == Some(&BUCKETS)
}

/// Gives records with the buckets that are not full to `put`, which appends them.
pub(crate) fn encode(
    buckets: &Buckets,
    now: Moment,
    mut put: impl FnMut(&mut dyn FnMut(&mut Vec<u8>)),
) {
    let mut kept = buckets.keep(now.ns).peekable();
    while kept.peek().is_some() {
        put(&mut |record| {
            record.push(BUCKETS);
            for number in buckets.seed().numbers() {
                record.extend(number.to_le_bytes());
            }
            for bucket in kept.by_ref().take(MANY) {
                record.extend(bucket.to_bytes());
            }
        });
    }
}

impl KeptBuckets {
    /// Adds those of a record. The file has a checksum, so they are whole.
    pub(crate) fn add(&mut self, record: &[u8]) {
        let (numbers, _) = record.get(1..).unwrap_or_default().as_chunks::<16>();
        let mut numbers = numbers.iter().copied();
        if let Some(seed) = numbers.next() {
            let seed = u128::from_le_bytes(seed);
            self.seed = Some([seed as u64, (seed >> 64) as u64]);
            self.buckets.extend(numbers.map(KeptBucket::from_bytes));
        }
    }

    /// Puts them into a table that is new.
    pub(crate) fn restore(mut self, table: Buckets, now: Moment) -> Buckets {
        let Some(seed) = self.seed else {
            return table;
        };
        let table = table.with_seed(Seed::new(seed));
        // By the low bits of their hashes: in the order of a table, which is that of the high ones, its
        // last places would have to take more than their share.
        let order = |bucket: &KeptBucket| u128::from_le_bytes(bucket.to_bytes()).reverse_bits();
        self.buckets.sort_unstable_by_key(order);
        for bucket in self.buckets {
            // What is full by now needs no place.
            let _ = table.restore(bucket, now.ns);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use yggdrasil::Limit;

    use super::*;

    #[test]
    fn buckets_of_many_records_come_back() {
        let now = Moment { ns: 5 };
        let limit = Limit::new(1_000_000, 3).unwrap();
        // In a table that is full, one of a million finds no place.
        let room = || Buckets::with_room_for(1_000_000);
        let buckets = room();
        for key in 0..100_000_u32 {
            buckets.try_consume(&key.to_le_bytes(), &limit, 1 + key % 3, now.ns);
        }
        let (mut records, mut kept) = (0, KeptBuckets::default());
        encode(&buckets, now, |encode| {
            let mut record = Vec::new();
            encode(&mut record);
            assert!(is_buckets(&record));
            kept.add(&record);
            records += 1;
        });
        assert_eq!(records, 2);
        let other = kept.restore(room(), now);
        assert_eq!(other.live(now.ns), 100_000);
        for key in 0..100_000_u32 {
            let look = other.try_consume(&key.to_le_bytes(), &limit, 0, now.ns);
            assert_eq!(look.remaining, 2 - key % 3);
        }
    }

    #[test]
    fn records_that_end_early_have_what_is_whole() {
        let mut kept = KeptBuckets::default();
        for record in [
            &[BUCKETS] as &[u8],
            &[BUCKETS; 16],
            &[BUCKETS; 17],
            &[BUCKETS; 40],
        ] {
            kept.add(record);
        }
        assert_eq!((kept.seed, kept.buckets.len()), (Some([u64::MAX; 2]), 1));
    }
}
