//! How long the way to the peer and back takes.

use std::time::Duration;

/// Timeout before anything is known.
const TIMEOUT_FIRST: Duration = Duration::from_secs(1);
/// Least timeout: a peer may be busy for that long without being gone.
const TIMEOUT_MIN: Duration = Duration::from_millis(200);

/// Round trips of PINGs, smoothed as RFC 6298 smooths them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoundTrip {
    /// The last one.
    pub latest: Duration,
    /// The mean, in which each new one counts an eighth.
    pub smoothed: Duration,
    /// The mean distance from it, in which each new one counts a quarter.
    pub deviation: Duration,
}

impl RoundTrip {
    /// What the first sample tells.
    pub(crate) const fn first(sample: Duration) -> Self {
        let deviation = Duration::from_nanos(sample.as_nanos() as u64 / 2);
        Self {
            latest: sample,
            smoothed: sample,
            deviation,
        }
    }

    /// The same with one more sample.
    pub(crate) fn with(self, sample: Duration) -> Self {
        let distance = self.smoothed.abs_diff(sample);
        Self {
            latest: sample,
            smoothed: (self.smoothed * 7 + sample) / 8,
            deviation: (self.deviation * 3 + distance) / 4,
        }
    }

    /// When an answer counts as late.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        (self.smoothed + self.deviation * 4).max(TIMEOUT_MIN)
    }

    /// The timeout of a connection that may not have been measured.
    pub(crate) fn timeout_of(known: Option<&Self>) -> Duration {
        known.map_or(TIMEOUT_FIRST, Self::timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn the_numbers_are_those_of_the_rfc() {
        let one = RoundTrip::first(ms(100));
        assert_eq!((one.smoothed, one.deviation), (ms(100), ms(50)));
        assert_eq!(one.timeout(), ms(300));
        // SRTT = 7/8 * 100 + 1/8 * 180, RTTVAR = 3/4 * 50 + 1/4 * 80.
        let two = one.with(ms(180));
        assert_eq!(two.smoothed, ms(110));
        assert_eq!(two.deviation, Duration::from_micros(57_500));
        assert_eq!(two.timeout(), ms(340));
    }

    #[test]
    fn a_fast_link_does_not_make_the_timeout_tiny() {
        let mut trip = RoundTrip::first(Duration::from_micros(30));
        for _ in 0..50 {
            trip = trip.with(Duration::from_micros(30));
        }
        assert_eq!(trip.timeout(), TIMEOUT_MIN);
        assert_eq!(RoundTrip::timeout_of(None), TIMEOUT_FIRST);
    }
}
