//! One direction of a connection.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep, sleep_until};

use crate::Faults;
use crate::rng::Rng;

/// Bytes read at once.
const READ_BYTES: usize = 64 * 1024;

/// What a timer may be late by.
const TIMER: Duration = Duration::from_millis(2);

/// What one direction carried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Carried {
    /// Bytes that were written on.
    pub bytes: u64,
    /// Bytes that were changed.
    pub corrupted: u64,
}

/// Carries bytes to the end of the direction, or to where its reader is gone.
pub(crate) async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    faults: Faults,
    rng: Rng,
) -> Carried {
    let mut carried = Carried::default();
    let mut buffer = vec![0; READ_BYTES];
    let mut way = Way {
        faults,
        rng,
        free_at: Instant::now(),
    };
    // An error is the end of a peer, which the other one is to see as such.
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let (bytes, _) = buffer.split_at_mut(count);
        if way.pass(bytes, &mut to, &mut carried).await.is_none() {
            break;
        }
    }
    drop(to.shutdown().await);
    // Who is still writing must not be stopped by a full pipe: its reader has finished, not it.
    while let Ok(1..) = from.read(&mut buffer).await {}
    carried
}

/// What lies between the two ends.
struct Way {
    faults: Faults,
    rng: Rng,
    /// When everything before the next piece has passed a narrow way.
    free_at: Instant,
}

impl Way {
    /// Passes on what was read at once; `None` when nothing more is to be passed on.
    async fn pass(
        &mut self,
        mut bytes: &mut [u8],
        to: &mut (impl AsyncWrite + Unpin),
        carried: &mut Carried,
    ) -> Option<()> {
        while !bytes.is_empty() {
            let left = self.faults.finish_at.map(|end| end - carried.bytes);
            let count = self.piece(bytes.len() as u64).min(left.unwrap_or(u64::MAX));
            let (piece, rest) = bytes.split_at_mut(usize::try_from(count).ok()?);
            bytes = rest;
            self.wait(count).await;
            carried.corrupted += self.corrupt(piece, carried.bytes);
            to.write_all(piece).await.ok()?;
            to.flush().await.ok()?;
            carried.bytes += count;
            if self.faults.finish_at == Some(carried.bytes) {
                return None;
            }
        }
        Some(())
    }

    /// How many of `bytes` go on at once.
    fn piece(&mut self, bytes: u64) -> u64 {
        match self.faults.slice_bytes_max {
            Some(most) => 1 + self.rng.up_to((most as u64).clamp(1, bytes) - 1),
            None => bytes,
        }
    }

    /// Changes the byte that is to be changed, if it is in `piece`, which begins at `begin`.
    fn corrupt(&mut self, piece: &mut [u8], begin: u64) -> u64 {
        let at = self.faults.corrupt_at.and_then(|at| at.checked_sub(begin));
        let Some(byte) = at.and_then(|at| piece.get_mut(usize::try_from(at).ok()?)) else {
            return 0;
        };
        *byte ^= 1 << self.rng.up_to(7);
        1
    }

    /// Lets the time pass that a piece needs.
    async fn wait(&mut self, bytes: u64) {
        let delay = u64::try_from(self.faults.delay_max.as_nanos()).unwrap_or(u64::MAX);
        if delay > 0 {
            sleep(Duration::from_nanos(self.rng.up_to(delay))).await;
        }
        if let Some(rate) = self.faults.bytes_per_second {
            let time = Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / rate.max(1));
            // Counted from when the way was free, or the coarseness of timers would add up; but
            // nothing is saved up while nobody sends.
            let idle_since = Instant::now().checked_sub(TIMER).unwrap_or(self.free_at);
            self.free_at = self.free_at.max(idle_since) + time;
            sleep_until(self.free_at).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes out of `sent`.
    async fn through(sent: &[u8], faults: Faults) -> (Vec<u8>, Carried) {
        let mut out = Vec::new();
        let carried = carry(sent, &mut out, faults, Rng::new(7)).await;
        (out, carried)
    }

    #[tokio::test]
    async fn slices_change_nothing_and_a_flipped_bit_is_the_only_change() {
        let sent: Vec<u8> = (0..100_000u32).map(|at| at as u8).collect();
        let mut faults = Faults {
            slice_bytes_max: Some(700),
            ..Faults::default()
        };
        let (out, carried) = through(&sent, faults).await;
        assert!(out == sent);
        assert_eq!((carried.bytes, carried.corrupted), (100_000, 0));
        for at in [0, 1, 65_535, 65_536, 99_999] {
            faults.corrupt_at = Some(at);
            let (out, carried) = through(&sent, faults).await;
            let changed: Vec<_> = (0..sent.len()).filter(|at| out[*at] != sent[*at]).collect();
            assert_eq!(changed, [at as usize]);
            assert_eq!((out[at as usize] ^ sent[at as usize]).count_ones(), 1);
            assert_eq!(carried.corrupted, 1);
        }
    }

    #[tokio::test]
    async fn a_direction_ends_where_it_is_told_to() {
        let sent = vec![5; 70_000];
        for end in [1, 300, 65_536, 69_999] {
            let faults = Faults {
                finish_at: Some(end),
                slice_bytes_max: Some(1000),
                ..Faults::default()
            };
            assert_eq!(through(&sent, faults).await.0.len() as u64, end);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn bandwidth_is_kept_to() {
        let began = Instant::now();
        let faults = Faults {
            bytes_per_second: Some(1_000_000),
            slice_bytes_max: Some(10_000),
            ..Faults::default()
        };
        through(&vec![1; 500_000], faults).await;
        let took = began.elapsed().as_millis();
        assert!((500..600).contains(&took), "{took} ms");
    }
}
