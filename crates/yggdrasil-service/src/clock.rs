//! What time it is.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Nanoseconds since 1970 by the wall clock when the server began and by the monotonic clock since,
/// so that nothing ends early or late where somebody sets the time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    began: Instant,
    began_ns: u64,
}

/// A moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Moment {
    /// Nanoseconds since 1970.
    pub(crate) ns: u64,
}

impl Clock {
    pub(crate) fn start() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            began: Instant::now(),
            // Until the year 2554.
            began_ns: since.map_or(0, |since| since.as_nanos() as u64),
        }
    }

    pub(crate) fn now(&self) -> Moment {
        Moment {
            ns: self.began_ns + self.began.elapsed().as_nanos() as u64,
        }
    }

    pub(crate) fn uptime_s(&self) -> u64 {
        self.began.elapsed().as_secs()
    }
}

impl Moment {
    pub(crate) const fn ms(self) -> u64 {
        self.ns / 1_000_000
    }
}
