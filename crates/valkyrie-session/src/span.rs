//! A duration in eight bytes.

use std::num::NonZeroU64;
use std::time::Duration;

/// How long something takes, in nanoseconds, 584 years at most. It is half as long as a
/// [`Duration`], also as an `Option`: an idle connection has half a dozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span(
    /// One more than the nanoseconds.
    NonZeroU64,
);

impl Default for Span {
    fn default() -> Self {
        Self::ZERO
    }
}

impl Span {
    pub(crate) const ZERO: Self = Self(NonZeroU64::MIN);

    pub(crate) const fn of(duration: Duration) -> Self {
        let nanos = duration.as_nanos();
        let nanos = if nanos < u64::MAX as u128 {
            nanos as u64
        } else {
            u64::MAX
        };
        Self(NonZeroU64::MIN.saturating_add(nanos))
    }

    pub(crate) const fn of_some(duration: Option<Duration>) -> Option<Self> {
        match duration {
            Some(duration) => Some(Self::of(duration)),
            None => None,
        }
    }

    pub(crate) const fn duration(self) -> Duration {
        Duration::from_nanos(self.0.get() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_come_back_and_end_at_the_longest() {
        for duration in [
            Duration::ZERO,
            Duration::from_nanos(1),
            Duration::from_secs(86_400),
        ] {
            assert_eq!(Span::of(duration).duration(), duration);
        }
        assert_eq!(Span::ZERO.duration(), Duration::ZERO);
        let longest = Span::of(Duration::MAX).duration();
        assert_eq!(longest, Duration::from_nanos(u64::MAX - 1));
        assert_eq!(size_of::<Option<Span>>(), 8);
    }
}
