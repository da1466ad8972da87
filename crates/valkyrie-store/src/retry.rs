//! When a connection that cannot be made is tried again.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Before the try with this number: 10 ms, 20 ms and so on, each times a number between 0 and 1.
pub(crate) fn pause(tries: u32) -> Duration {
    use std::hash::{BuildHasher, RandomState};
    let chance = RandomState::new().hash_one(tries) as f64 / u64::MAX as f64;
    (Duration::from_millis(10) * 2_u32.pow(tries.min(10))).mul_f64(chance)
}

/// Keeps retries to a tenth of operations, so that a server in trouble is not given more.
#[derive(Debug)]
pub(crate) struct Budget(AtomicUsize);

/// Retries that may come at once.
const RETRIES_AT_ONCE: usize = 10;

impl Default for Budget {
    fn default() -> Self {
        Self(AtomicUsize::new(10 * RETRIES_AT_ONCE))
    }
}

impl Budget {
    /// An operation begins.
    pub(crate) fn operation(&self) {
        let more = |have: usize| (have < 10 * RETRIES_AT_ONCE).then_some(have + 1);
        // Full is as good.
        let _ = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    /// Whether there is room for one more.
    pub(crate) fn retry(&self) -> bool {
        let less = |have: usize| have.checked_sub(10);
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
            .is_ok()
    }
}
