//! When requests of an open loop begin.

use std::time::Instant;

/// Waits for a moment by looking at the clock between other tasks: timers of the runtime ring up to a
/// millisecond late, which would count as the server's.
pub(super) async fn until(due: Instant) {
    while Instant::now() < due {
        tokio::task::yield_now().await;
    }
}
