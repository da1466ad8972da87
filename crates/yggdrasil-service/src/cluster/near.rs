//! Tokens of buckets of other nodes, for those who ask nearby.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Buckets that are looked after at once.
const BUCKETS_MAX: usize = 10_000;
/// Requests within [`PERIOD`] from which on tokens are fetched.
const HOT: u32 = 8;
const PERIOD: Duration = Duration::from_secs(1);
/// How long tokens that were fetched may be given.
const CHUNK_TTL: Duration = Duration::from_secs(1);
/// A chunk is this part of the burst.
const PARTS: u32 = 16;

/// Chunks of tokens that were taken of hot buckets on their nodes, to be given here without asking.
///
/// A token that was taken at one moment may be given up to [`CHUNK_TTL`] later, when the bucket has
/// filled again, so of a bucket with a burst of `B` up to `B / 16 * (nodes - 1)` more are let through in
/// a while than its node alone would.
#[derive(Debug, Default)]
pub(crate) struct Near {
    buckets: Mutex<HashMap<Box<[u8]>, Bucket>>,
}

#[derive(Debug)]
struct Bucket {
    node: String,
    emission_ns: u64,
    burst: u32,
    left: u32,
    until: Instant,
    asked: u32,
    since: Instant,
}

/// Tokens that are to be taken on another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) key: Box<[u8]>,
    pub(crate) emission_ns: u64,
    pub(crate) burst: u32,
    pub(crate) chunk: u32,
}

impl Near {
    fn lock(&self) -> MutexGuard<'_, HashMap<Box<[u8]>, Bucket>> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes tokens of a bucket of another node, and how many of the chunk are left; `None` where there
    /// are not enough here, so that the node itself has to be asked.
    pub(crate) fn take(
        &self,
        (node, key): (&str, &[u8]),
        (emission_ns, burst): (u64, u32),
        cost: u32,
    ) -> Option<u32> {
        let now = Instant::now();
        let mut buckets = self.lock();
        let known = buckets.get_mut(key);
        let bucket = known
            .filter(|it| it.node == node && (it.emission_ns, it.burst) == (emission_ns, burst));
        let Some(bucket) = bucket else {
            if buckets.len() >= BUCKETS_MAX {
                buckets.retain(|_, it| now < it.until || it.since.elapsed() < PERIOD);
            }
            if buckets.len() < BUCKETS_MAX {
                let bucket = Bucket {
                    node: node.to_owned(),
                    emission_ns,
                    burst,
                    left: 0,
                    until: now,
                    asked: 1,
                    since: now,
                };
                buckets.insert(key.into(), bucket);
            }
            return None;
        };
        if bucket.since.elapsed() > PERIOD {
            (bucket.since, bucket.asked) = (now, 0);
        }
        bucket.asked = bucket.asked.saturating_add(1);
        if now >= bucket.until || bucket.left < cost {
            return None;
        }
        bucket.left -= cost;
        Some(bucket.left)
    }

    /// What is worth to be fetched of a node.
    pub(crate) fn wanted(&self, node: &str) -> Vec<Wanted> {
        let now = Instant::now();
        let buckets = self.lock();
        let wants = buckets.iter().filter(|(_, it)| {
            let chunk = chunk(it.burst);
            let is_low = now >= it.until || it.left < chunk.div_ceil(2);
            it.node == node && it.asked >= HOT && it.since.elapsed() < PERIOD && is_low
        });
        wants
            .map(|(key, it)| Wanted {
                key: key.clone(),
                emission_ns: it.emission_ns,
                burst: it.burst,
                chunk: chunk(it.burst),
            })
            .collect()
    }

    /// Tokens were taken on the node. What was left of an earlier chunk is given up, so that there is
    /// never more than one here.
    pub(crate) fn fetched(&self, wanted: &Wanted, asked: Instant) {
        if let Some(bucket) = self.lock().get_mut(&wanted.key) {
            bucket.left = wanted.chunk;
            bucket.until = asked + CHUNK_TTL;
        }
    }
}

fn chunk(burst: u32) -> u32 {
    (burst / PARTS).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hot_buckets_are_fetched_and_given_out() {
        let near = Near::default();
        let take = |cost| near.take(("a", b"k"), (1000, 160), cost);
        for _ in 0..HOT - 1 {
            assert_eq!(take(1), None);
        }
        assert!(near.wanted("a").is_empty());
        assert_eq!(take(1), None);
        let wanted = near.wanted("a");
        assert_eq!(wanted.len(), 1);
        assert!(near.wanted("b").is_empty());
        let first = wanted.first().unwrap();
        assert_eq!((first.chunk, first.burst), (10, 160));
        near.fetched(first, Instant::now());
        assert_eq!(take(4), Some(6));
        assert_eq!(take(7), None);
        assert_eq!(take(6), Some(0));
        near.fetched(first, Instant::now() - 2 * CHUNK_TTL);
        assert_eq!(take(1), None);
        // Another limit is another bucket.
        assert_eq!(near.take(("a", b"k"), (1000, 320), 1), None);
    }
}
