//! The hash that tells keys apart.

use std::hash::{BuildHasher, Hasher, RandomState};

use siphasher::sip::SipHasher13;

/// A keyed hash (SipHash-1-3) of keys, so that nobody who does not know it can choose keys that share a
/// bucket. Keep it as secret as that is important.
#[derive(Debug, Clone, Copy)]
pub struct Seed {
    plain: [u64; 2],
    /// For keys under policies, so that no key without one looks like them.
    by_policy: [u64; 2],
}

impl Seed {
    /// The hash with these numbers.
    #[must_use]
    pub fn new(numbers: [u64; 2]) -> Self {
        let plain = hasher(numbers);
        Self {
            plain: numbers,
            by_policy: [1, 2_u64].map(|index| plain.hash(&index.to_le_bytes())),
        }
    }

    /// One that nobody knows.
    #[must_use]
    pub fn random() -> Self {
        Self::new([1, 2_u64].map(|index| RandomState::new().hash_one(index)))
    }

    /// The numbers from which [`new`](Self::new) makes the same hash.
    #[must_use]
    pub const fn numbers(&self) -> [u64; 2] {
        self.plain
    }

    #[inline]
    pub(crate) fn hash(&self, key: &[u8]) -> u64 {
        hasher(self.plain).hash(key)
    }

    #[inline]
    pub(crate) fn hash_by(&self, policy: u64, key: &[u8]) -> u64 {
        let mut hasher = hasher(self.by_policy);
        hasher.write_u64(policy);
        hasher.write(key);
        hasher.finish()
    }
}

#[inline]
fn hasher([first, second]: [u64; 2]) -> SipHasher13 {
    SipHasher13::new_with_keys(first, second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_numbers_make_the_same_hash_and_others_another() {
        let one = Seed::new([3, 4]);
        let same = Seed::new(one.numbers());
        assert_eq!(one.hash(b"key"), same.hash(b"key"));
        assert_eq!(one.hash_by(7, b"key"), same.hash_by(7, b"key"));
        assert_ne!(one.hash(b"key"), Seed::new([4, 3]).hash(b"key"));
        assert_ne!(one.numbers(), Seed::random().numbers());
    }

    #[test]
    fn policies_and_keys_without_one_are_apart() {
        let seed = Seed::random();
        let with_id = [7_u64.to_ne_bytes().as_slice(), b"key"].concat();
        let hashes = [
            seed.hash(b"key"),
            seed.hash(&with_id),
            seed.hash_by(7, b"key"),
            seed.hash_by(8, b"key"),
        ];
        let distinct: std::collections::HashSet<u64> = hashes.into_iter().collect();
        assert_eq!(distinct.len(), hashes.len());
    }
}
