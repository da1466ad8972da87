//! A histogram of sizes that takes whole batches.

use std::{
    array, fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder, NoLabelSet},
    metrics::{MetricType, TypedMetric},
};

/// Upper bounds 16 B to 256 KiB, each four times the one before, and one bucket above.
pub(crate) const BUCKETS: usize = 9;

/// The bucket of sizes of at most `2^power` bytes that are over `2^(power - 1)`.
pub(crate) const fn bucket_of_power(power: usize) -> usize {
    let bucket = power.saturating_sub(3) / 2;
    if bucket < BUCKETS {
        bucket
    } else {
        BUCKETS - 1
    }
}

/// Counts of one batch.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sizes {
    pub(crate) counts: [u64; BUCKETS],
    pub(crate) sum: u64,
}

/// Sizes of frames, in bytes. Adding a batch takes no lock.
#[derive(Clone, Default)]
pub(crate) struct SizeHistogram(Arc<Inner>);

#[derive(Default)]
struct Inner {
    counts: [AtomicU64; BUCKETS],
    sum: AtomicU64,
}

impl SizeHistogram {
    pub(crate) fn add(&self, sizes: &Sizes) {
        for (total, count) in self.0.counts.iter().zip(sizes.counts) {
            total.fetch_add(count, Relaxed);
        }
        self.0.sum.fetch_add(sizes.sum, Relaxed);
    }
}

impl fmt::Debug for SizeHistogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.0.counts).finish()
    }
}

impl TypedMetric for SizeHistogram {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for SizeHistogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let mut bound = 4.0;
        let buckets: [(f64, u64); BUCKETS] = array::from_fn(|bucket| {
            bound *= 4.0;
            let last = bucket == BUCKETS - 1;
            let count = self
                .0
                .counts
                .get(bucket)
                .map_or(0, |count| count.load(Relaxed));
            (if last { f64::INFINITY } else { bound }, count)
        });
        let count = buckets.iter().map(|(_, count)| count).sum();
        #[expect(
            clippy::cast_precision_loss,
            reason = "a sum over 2^53 bytes may be rounded"
        )]
        let sum = self.0.sum.load(Relaxed) as f64;
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_on_a_bound_belongs_below_it() {
        let buckets = [0, 4, 5, 6, 7, 18, 19, 40].map(bucket_of_power);
        assert_eq!(buckets, [0, 0, 1, 1, 2, 7, 8, 8]);
    }
}
