//! Where keys lie, and names for claims.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

/// Two different numbers below `parts`, which is at least 2, by a hash.
#[inline]
pub(crate) const fn two_of(hash: u64, parts: u64) -> [usize; 2] {
    let one = share(hash, parts);
    let further = share(hash.wrapping_mul(SPREAD), parts - 1) + 1;
    let other = match one + further {
        other if other < parts => other,
        other => other - parts,
    };
    [one as usize, other as usize]
}

/// A number below each of two, by a hash.
#[inline]
pub(crate) const fn shares(hash: u64, [one, other]: [u64; 2]) -> [usize; 2] {
    let one = share(hash, one);
    let other = share(hash.wrapping_mul(SPREAD), other);
    [one as usize, other as usize]
}

/// Odd, so that no two tags become the same; mixes low bits into high ones (2^64 divided by the golden
/// ratio, Knuth, The Art of Computer Programming 3, 6.4).
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// A number below `parts`, by the high bits of `tag`.
#[inline]
const fn share(tag: u64, parts: u64) -> u64 {
    ((tag as u128 * parts as u128) >> 64) as u64
}

/// Names that a thread takes at once.
const NAMES: u64 = 1 << 20;

/// A name for a claim that no other claim of this process has.
pub(crate) fn claim_name() -> u64 {
    static TAKEN: AtomicU64 = AtomicU64::new(0);
    thread_local! {
        static NEXT: Cell<u64> = const { Cell::new(0) };
    }
    NEXT.with(|next| {
        let name = match next.get() % NAMES {
            0 => TAKEN.fetch_add(NAMES, Ordering::Relaxed) + 1,
            _ => next.get(),
        };
        next.set(name + 1);
        name
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::thread;

    use super::*;

    #[test]
    fn names_of_claims_are_all_different() {
        let names = |_| thread::spawn(|| (0..1000).map(|_| claim_name()).collect::<Vec<_>>());
        let threads: Vec<_> = (0..4).map(names).collect();
        let all: Vec<u64> = threads
            .into_iter()
            .flat_map(|one| one.join().unwrap())
            .collect();
        let distinct: HashSet<u64> = all.iter().copied().collect();
        assert_eq!(distinct.len(), all.len());
    }

    #[test]
    fn names_go_on_behind_the_end_of_a_range() {
        let names = thread::spawn(|| {
            let names: Vec<u64> = (0..2 * NAMES + 3).map(|_| claim_name()).collect();
            let distinct: HashSet<u64> = names.iter().copied().collect();
            (names.len(), distinct.len())
        });
        let (names, distinct) = names.join().unwrap();
        assert_eq!(names, distinct);
    }
}
