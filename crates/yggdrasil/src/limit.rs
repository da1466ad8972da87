//! How much of something is allowed, and what was decided.

use std::str::FromStr;
use std::time::Duration;

/// A rate with a burst: a bucket of `burst` tokens, into which one comes every `emission`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Limit {
    emission_ns: u64,
    burst: u32,
}

/// Why a limit is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LimitError {
    /// Tokens would come without end.
    #[error("the time between two tokens is 0; name at least 1 ns")]
    NoTime,
    /// The bucket would hold nothing.
    #[error("the burst is 0; name at least 1 token")]
    NoBurst,
    /// A full bucket would take longer than the clock goes.
    #[error(
        "{burst} tokens, one every {emission_ns} ns, take {years} years to come back; the most is 100"
    )]
    TooSlow {
        /// Nanoseconds between two tokens.
        emission_ns: u64,
        /// Tokens of a full bucket.
        burst: u32,
        /// Time of a whole bucket, rounded down.
        years: u64,
    },
    /// Tokens would come faster than a compact bucket counts.
    #[error(
        "a token every {emission_ns} ns is too fast for a compact bucket; name at least 1000 ns"
    )]
    TooFast {
        /// Nanoseconds between two tokens.
        emission_ns: u64,
    },
    /// A full compact bucket would take longer than half of what its clock tells apart.
    #[error(
        "{burst} tokens, one every {emission_us} us, come back after the horizon of compact buckets; \
         the most is 549755813888 us in all, 6.3 days"
    )]
    BeyondHorizon {
        /// Microseconds between two tokens.
        emission_us: u64,
        /// Tokens of a full bucket.
        burst: u32,
    },
}

/// A text is no limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LimitTextError {
    /// It is not written as one.
    #[error(
        "'{0}' is no rate; write COUNT/s, /m or /h, and :BURST where that differs, such as 100/s:400"
    )]
    Form(String),
    /// It is written as one, and is none.
    #[error("'{text}': {error}")]
    Value {
        /// The text.
        text: String,
        /// What is wrong with it.
        error: LimitError,
    },
}

/// `COUNT/s`, `COUNT/m` or `COUNT/h`, with `:BURST` behind it where not just as many may be saved up.
///
/// ```
/// use yggdrasil::Limit;
///
/// let limit: Limit = "100/s:400".parse()?;
/// assert_eq!((limit.emission_ns(), limit.burst()), (10_000_000, 400));
/// # Ok::<(), yggdrasil::LimitTextError>(())
/// ```
impl FromStr for Limit {
    type Err = LimitTextError;

    fn from_str(text: &str) -> Result<Self, LimitTextError> {
        let form = || LimitTextError::Form(text.to_owned());
        let (rate, burst) = match text.split_once(':') {
            Some((rate, burst)) => (rate, Some(burst.parse().map_err(|_| form())?)),
            None => (text, None),
        };
        let (count, unit) = rate.split_once('/').ok_or_else(form)?;
        let count: u32 = count.parse().map_err(|_| form())?;
        let period = match unit {
            "s" => Duration::from_secs(1),
            "m" => Duration::from_secs(60),
            "h" => Duration::from_secs(3600),
            _ => return Err(form()),
        };
        let limit = Self::per(u64::from(count), period, burst.unwrap_or(count));
        limit.map_err(|error| LimitTextError::Value {
            text: text.to_owned(),
            error,
        })
    }
}

/// Longest time in which an empty bucket may become full: 100 years in nanoseconds. Sums of a few
/// of them still fit the clock.
const ROOM_NS_MAX: u64 = 100 * YEAR_NS;
const YEAR_NS: u64 = 365 * 24 * 3600 * 1_000_000_000;

impl Limit {
    /// One token every `emission_ns` nanoseconds, at most `burst` of them saved up.
    ///
    /// # Errors
    /// See [`LimitError`].
    pub const fn new(emission_ns: u64, burst: u32) -> Result<Self, LimitError> {
        if emission_ns == 0 {
            return Err(LimitError::NoTime);
        }
        if burst == 0 {
            return Err(LimitError::NoBurst);
        }
        match emission_ns.checked_mul(burst as u64) {
            Some(room) if room <= ROOM_NS_MAX => Ok(Self { emission_ns, burst }),
            _ => Err(LimitError::TooSlow {
                emission_ns,
                burst,
                years: (emission_ns / YEAR_NS).saturating_mul(burst as u64),
            }),
        }
    }

    /// `count` tokens in every `period`, at most `burst` of them saved up. The time between two
    /// tokens is rounded up to whole nanoseconds, so it is never more than that.
    ///
    /// # Errors
    /// See [`LimitError`]; a `count` of 0 is [`TooSlow`](LimitError::TooSlow).
    pub fn per(count: u64, period: Duration, burst: u32) -> Result<Self, LimitError> {
        let period = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX);
        match count {
            0 => Self::new(u64::MAX, burst),
            count => Self::new(period.div_ceil(count), burst),
        }
    }

    /// Nanoseconds between two tokens; at least 1.
    #[must_use]
    #[inline]
    pub const fn emission_ns(&self) -> u64 {
        self.emission_ns
    }

    /// Tokens of a full bucket; at least 1.
    #[must_use]
    #[inline]
    pub const fn burst(&self) -> u32 {
        self.burst
    }

    /// Nanoseconds in which an empty bucket becomes full.
    #[must_use]
    #[inline]
    pub const fn room_ns(&self) -> u64 {
        self.emission_ns * self.burst as u64
    }
}

/// What came of asking for tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Whether they were taken.
    pub outcome: Outcome,
    /// Whole tokens that are left.
    pub remaining: u32,
    /// Nanoseconds until there are as many as were asked for, if nobody else takes any; 0 unless
    /// they were [denied](Outcome::Denied).
    pub retry_after_ns: u64,
    /// Nanoseconds until the bucket is full, if nobody takes any.
    pub reset_after_ns: u64,
}

/// Whether tokens were taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// All of them.
    Allowed,
    /// None: there are too few now.
    Denied,
    /// None: a full bucket holds fewer.
    Never,
}

impl Decision {
    /// Whether the tokens were taken.
    #[must_use]
    #[inline]
    pub const fn is_allowed(&self) -> bool {
        matches!(self.outcome, Outcome::Allowed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_that_are_none_are_refused_with_what_is_wrong() {
        assert_eq!(Limit::new(0, 1), Err(LimitError::NoTime));
        assert_eq!(Limit::new(1, 0), Err(LimitError::NoBurst));
        let error = Limit::new(YEAR_NS, 101).unwrap_err();
        assert_eq!(
            error.to_string(),
            "101 tokens, one every 31536000000000000 ns, take 101 years to come back; the most is 100"
        );
        assert!(Limit::new(YEAR_NS, 100).is_ok());
        assert!(Limit::new(u64::MAX, u32::MAX).is_err());
        assert!(Limit::per(0, Duration::from_secs(1), 1).is_err());
    }

    #[test]
    fn rate_is_rounded_down() {
        let limit = Limit::per(3, Duration::from_secs(1), 1).unwrap();
        assert_eq!(limit.emission_ns(), 333_333_334);
        let daily = Limit::per(1, Duration::from_secs(86_400), 1).unwrap();
        assert_eq!(daily.emission_ns(), 86_400_000_000_000);
    }
}
