//! Limits that compact buckets can keep.

use std::time::Duration;

use super::slot::HORIZON_US;
use crate::limit::{Limit, LimitError};

/// Longest time in which an empty compact bucket may become full: 6.3 days in microseconds.
const ROOM_US_MAX: u64 = HORIZON_US / 2;
const NS_PER_US: u64 = 1000;

/// A [`Limit`] in whole microseconds, whose bucket becomes full within half of the horizon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CompactLimit(Limit);

impl CompactLimit {
    /// One token every `emission_us` microseconds, at most `burst` of them saved up.
    ///
    /// # Errors
    /// See [`LimitError`]; a full bucket may take 549,755,813,888 microseconds, 6.3 days, to come back.
    pub const fn new(emission_us: u64, burst: u32) -> Result<Self, LimitError> {
        let beyond = LimitError::BeyondHorizon { emission_us, burst };
        match emission_us.checked_mul(burst as u64) {
            Some(room) if room <= ROOM_US_MAX => {}
            _ => return Err(beyond),
        }
        // It has no unit of its own.
        match Limit::new(emission_us, burst) {
            Ok(limit) => Ok(Self(limit)),
            Err(error) => Err(error),
        }
    }

    /// `count` tokens in every `period`, at most `burst` of them saved up. The time between two
    /// tokens is rounded up to whole microseconds, so it is never more than that.
    ///
    /// # Errors
    /// See [`LimitError`]; more than one token a microsecond is [`TooFast`](LimitError::TooFast).
    pub fn per(count: u64, period: Duration, burst: u32) -> Result<Self, LimitError> {
        Self::try_from(Limit::per(count, period, burst)?)
    }

    /// Microseconds between two tokens; at least 1.
    #[must_use]
    #[inline]
    pub const fn emission_us(&self) -> u64 {
        self.0.emission_ns()
    }

    /// Tokens of a full bucket; at least 1.
    #[must_use]
    #[inline]
    pub const fn burst(&self) -> u32 {
        self.0.burst()
    }

    /// For arithmetic in microseconds.
    #[inline]
    pub(super) const fn in_us(&self) -> &Limit {
        &self.0
    }
}

/// The time between two tokens is rounded up to whole microseconds.
impl TryFrom<Limit> for CompactLimit {
    type Error = LimitError;

    fn try_from(limit: Limit) -> Result<Self, LimitError> {
        match limit.emission_ns() {
            emission_ns @ ..NS_PER_US => Err(LimitError::TooFast { emission_ns }),
            emission_ns => Self::new(emission_ns.div_ceil(NS_PER_US), limit.burst()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn full_bucket_comes_back_within_half_of_the_horizon() {
        assert!(CompactLimit::per(1, DAY, 6).is_ok());
        let error = CompactLimit::per(1, DAY, 10).unwrap_err();
        assert_eq!(
            error.to_string(),
            "10 tokens, one every 86400000000 us, come back after the horizon of compact buckets; \
             the most is 549755813888 us in all, 6.3 days"
        );
        assert!(CompactLimit::new(ROOM_US_MAX, 1).is_ok());
        assert!(CompactLimit::new(ROOM_US_MAX + 1, 1).is_err());
        assert!(CompactLimit::new(u64::MAX, u32::MAX).is_err());
    }

    #[test]
    fn limits_that_are_none_are_refused() {
        assert_eq!(CompactLimit::new(0, 1), Err(LimitError::NoTime));
        assert_eq!(CompactLimit::new(1, 0), Err(LimitError::NoBurst));
        let fast = Limit::new(999, 5).unwrap();
        let refused = CompactLimit::try_from(fast);
        assert_eq!(refused, Err(LimitError::TooFast { emission_ns: 999 }));
    }

    #[test]
    fn rate_is_rounded_down() {
        let limit = CompactLimit::per(300, Duration::from_secs(1), 7).unwrap();
        assert_eq!((limit.emission_us(), limit.burst()), (3334, 7));
    }
}
