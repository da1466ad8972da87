//! Times as servers take them.

use std::time::Duration;

/// Milliseconds, at least one, and no more than servers take.
pub(crate) fn ms(time: Duration) -> u64 {
    let ms = time.as_nanos().div_ceil(1_000_000);
    // A century: what ends later is not waited for by anyone.
    u64::try_from(ms)
        .unwrap_or(u64::MAX)
        .clamp(1, 100 * 365 * 86_400_000)
}
