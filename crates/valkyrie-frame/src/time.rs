//! Time as a value that is passed in.

use std::fmt;
use std::num::NonZeroU64;
use std::ops::Add;
use std::time::Duration;

/// A point on the monotonic clock of this process, in nanoseconds.
///
/// Only differences mean anything; it is never stored or sent. It reaches 584 years.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(
    /// One more than the nanoseconds, so that an `Option` of it is no longer: a connection has a
    /// dozen.
    NonZeroU64,
);

impl Time {
    /// Where the clock starts.
    pub const ZERO: Self = Self(NonZeroU64::MIN);
    /// Later than anything that happens.
    pub const MAX: Self = Self(NonZeroU64::MAX);

    /// The point `nanos` after [`ZERO`](Self::ZERO); [`MAX`](Self::MAX) at the latest.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(NonZeroU64::MIN.saturating_add(nanos))
    }

    /// Nanoseconds since [`ZERO`](Self::ZERO).
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0.get() - 1
    }

    /// How long ago `earlier` was; zero when it is not in the past.
    #[must_use]
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.get().saturating_sub(earlier.0.get()))
    }
}

impl Default for Time {
    fn default() -> Self {
        Self::ZERO
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Time").field(&self.as_nanos()).finish()
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    /// Stops at [`MAX`](Self::MAX).
    fn add(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }
}

/// A point in civil time, in milliseconds since the Unix epoch.
///
/// For what is stored and shown; a clock that jumps moves it, so no deadline of a running process
/// depends on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallTime(u64);

impl WallTime {
    /// The Unix epoch.
    pub const ZERO: Self = Self(0);
    /// Later than anything that happens.
    pub const MAX: Self = Self(u64::MAX);

    /// The point `millis` after the Unix epoch.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// How long ago `earlier` was; zero when it is not in the past.
    #[must_use]
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for WallTime {
    type Output = Self;

    /// Stops at [`MAX`](Self::MAX); parts of a millisecond are dropped.
    fn add(self, duration: Duration) -> Self {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(millis))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_saturates_at_both_ends() {
        let early = Time::from_nanos(5);
        assert_eq!(Time::ZERO.saturating_since(early), Duration::ZERO);
        assert_eq!(early + Duration::MAX, Time::MAX);
        assert_eq!((early + Duration::from_nanos(7)).as_nanos(), 12);
    }

    #[test]
    fn wall_time_counts_milliseconds() {
        let start = WallTime::from_millis(1_000);
        let end = start + Duration::from_secs(2);
        assert_eq!(end.as_millis(), 3_000);
        assert_eq!(end.saturating_since(start), Duration::from_secs(2));
    }
}
