//! The one place of this crate that reads the clocks for the scheduler.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustci_scheduler::Now;
use valkyrie_frame::{Time, WallTime};

/// Both clocks, the monotonic one from the start of the engine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self {
            start: Instant::now(),
        }
    }

    pub(crate) fn now(&self) -> Now {
        let nanos = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        Now {
            time: Time::from_nanos(nanos),
            wall: WallTime::from_millis(millis),
        }
    }

    /// The instant at which the monotonic clock shows `time`.
    pub(crate) fn instant(&self, time: Time) -> Instant {
        let after = Duration::from_nanos(time.as_nanos());
        self.start.checked_add(after).unwrap_or(self.start)
    }
}
