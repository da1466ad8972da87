//! How times are spread.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use crate::style;

/// Least, middle and greatest of some times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spread {
    min: Duration,
    average: Duration,
    p50: Duration,
    p99: Duration,
    max: Duration,
}

impl Spread {
    /// Of times in any order; `None` of no times.
    pub(crate) fn of(times: &[Duration]) -> Option<Self> {
        let mut sorted = times.to_vec();
        sorted.sort_unstable();
        let count = u32::try_from(sorted.len()).ok()?;
        Some(Self {
            min: *sorted.first()?,
            average: sorted.iter().sum::<Duration>().checked_div(count)?,
            p50: *percentile(&sorted, 50)?,
            p99: *percentile(&sorted, 99)?,
            max: *sorted.last()?,
        })
    }

    /// In microseconds.
    pub(crate) fn to_json(self) -> Value {
        let us = |time: Duration| time.as_nanos() as f64 / 1e3;
        json!({
            "min": us(self.min), "avg": us(self.average), "p50": us(self.p50),
            "p99": us(self.p99), "max": us(self.max),
        })
    }
}

/// The least time that `percent` of all are no longer than.
fn percentile(sorted: &[Duration], percent: usize) -> Option<&Duration> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1))
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "min {}  avg {}  p50 {}  p99 {}  max {}",
            style::time(self.min),
            style::time(self.average),
            style::time(self.p50),
            style::time(self.p99),
            style::time(self.max),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_were_measured() {
        let times: Vec<Duration> = (1..=200).rev().map(Duration::from_micros).collect();
        let spread = Spread::of(&times).unwrap();
        let us = Duration::from_micros;
        assert_eq!((spread.min, spread.p50), (us(1), us(100)));
        assert_eq!((spread.p99, spread.max), (us(198), us(200)));
        assert_eq!(spread.average, Duration::from_nanos(100_500));
        assert_eq!(Spread::of(&[]), None);
    }
}
