//! What is sent, and how what arrived is counted and timed.

use std::time::Instant;

use anyhow::{Context, Result, ensure};

/// Bytes of a small message.
pub(crate) const MESSAGE_BYTES: usize = 64;

/// The figures of one slice, by the name of their metric.
pub(crate) type Figures = Vec<(&'static str, f64)>;

/// A message that says which one it is in its first eight bytes.
pub(crate) fn message(index: u64) -> [u8; MESSAGE_BYTES] {
    let mut bytes = [0x5a; MESSAGE_BYTES];
    stamp(&mut bytes, index);
    bytes
}

/// Writes `index` where [`index_of`] finds it.
pub(crate) fn stamp(message: &mut [u8], index: u64) {
    if let Some(first) = message.first_chunk_mut() {
        *first = index.to_le_bytes();
    }
}

/// Which message it is.
#[inline]
pub(crate) fn index_of(message: &[u8]) -> Result<u64> {
    let first = message
        .first_chunk()
        .context("a message is too short for its number")?;
    Ok(u64::from_le_bytes(*first))
}

/// Fails unless `echo` is message `index` and has all its bytes.
pub(crate) fn ensure_echo(echo: &[u8], index: u64) -> Result<()> {
    ensure!(
        echo.len() == MESSAGE_BYTES && index_of(echo)? == index,
        "message {index} came back as another"
    );
    Ok(())
}

/// Which messages came: each number counts once, and all of them have to.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) count: u64,
    pub(crate) sum: u64,
    pub(crate) bytes: u64,
}

impl Tally {
    /// Counts a message that has its number inside.
    #[inline]
    pub(crate) fn add(&mut self, message: &[u8]) -> Result<()> {
        self.add_as(index_of(message)?, message.len());
        Ok(())
    }

    /// Counts a message that has its number beside it.
    #[inline]
    pub(crate) fn add_as(&mut self, index: u64, bytes: usize) {
        self.count += 1;
        self.sum = self.sum.wrapping_add(index);
        self.bytes += bytes as u64;
    }

    /// Fails unless messages 0 to `count` of `bytes_each` are what came.
    pub(crate) fn ensure(&self, count: u64, bytes_each: usize) -> Result<()> {
        let sum = (0..count).fold(0_u64, u64::wrapping_add);
        ensure!(
            self.count == count && self.sum == sum,
            "{} of {count} messages came, their numbers add up to {} and not {sum}",
            self.count,
            self.sum
        );
        let bytes = count * bytes_each as u64;
        ensure!(self.bytes == bytes, "{} of {bytes} bytes came", self.bytes);
        Ok(())
    }
}

/// Times of many round trips.
pub(crate) struct Hist {
    nanos: Vec<u32>,
}

impl Hist {
    /// Room for `samples` of them, so that taking one never allocates.
    pub(crate) fn new(samples: usize) -> Self {
        Self {
            nanos: Vec::with_capacity(samples),
        }
    }

    /// Adds the time since `start`.
    #[inline]
    pub(crate) fn since(&mut self, start: Instant) {
        let nanos = start.elapsed().as_nanos();
        self.nanos.push(u32::try_from(nanos).unwrap_or(u32::MAX));
    }

    /// Microseconds below which `share` of the samples lie.
    pub(crate) fn us(&mut self, share: f64) -> f64 {
        self.nanos.sort_unstable();
        let last = self.nanos.len().saturating_sub(1);
        let index = ((self.nanos.len() as f64 * share) as usize).min(last);
        self.nanos
            .get(index)
            .map_or(f64::NAN, |&nanos| f64::from(nanos) / 1e3)
    }
}

/// Round trips at the start of a slice that do not count.
pub(crate) const WARM_UP: usize = 500;

/// How many a second, since `start`.
pub(crate) fn per_second(count: u64, start: Instant) -> f64 {
    count as f64 / start.elapsed().as_secs_f64()
}

/// GB a second, since `start`.
pub(crate) fn gb_per_second(bytes: u64, start: Instant) -> f64 {
    per_second(bytes, start) / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_lost_doubled_or_shortened_is_noticed() {
        let mut tally = Tally::default();
        for index in [2, 0, 1] {
            tally.add(&message(index)).unwrap();
        }
        tally.ensure(3, MESSAGE_BYTES).unwrap();
        assert!(tally.ensure(4, MESSAGE_BYTES).is_err());
        tally.add(&message(1)).unwrap();
        assert!(tally.ensure(4, MESSAGE_BYTES).is_err());
        let mut short = Tally::default();
        short.add(&0_u64.to_le_bytes()).unwrap();
        assert!(short.ensure(1, MESSAGE_BYTES).is_err());
    }

    #[test]
    fn percentiles_are_microseconds() {
        let mut hist = Hist {
            nanos: (1..=100).rev().map(|us| us * 1_000).collect(),
        };
        assert_eq!(hist.us(0.5), 51.0);
        assert_eq!(hist.us(0.99), 100.0);
    }
}
