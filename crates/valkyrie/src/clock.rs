//! The process's monotonic clock as [`Time`].

use std::sync::OnceLock;

use tokio::time::Instant;
use valkyrie_frame::Time;

static START: OnceLock<Instant> = OnceLock::new();

fn start() -> Instant {
    *START.get_or_init(Instant::now)
}

/// The time since this process first asked for it.
#[must_use]
pub fn now() -> Time {
    let nanos = Instant::now().saturating_duration_since(start()).as_nanos();
    Time::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}
