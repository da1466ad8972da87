//! Learning which size is worth it.

use super::Round;
use crate::flow::Policy;
use crate::way::Way;

/// Sizes from 4 KiB to 16 MiB that double.
const RUNGS: usize = 13;
/// The smallest size as a power of two.
const FIRST: u32 = 12;
/// One round in so many tries a neighbour.
const EXPLORE_ONE_IN: u64 = 8;
/// What twice the memory has to earn, in thousandths of the rate.
const RUNG_COST: u64 = 15;
/// Rounds that what is known of a size fades over.
const FADE: u64 = 4;

/// Holds a worth for each size and stays where it is best among itself and its neighbours, but for
/// the rounds in which it tries one of them.
#[derive(Debug)]
pub(super) struct Bandit {
    chance: u64,
    /// Bytes per second that each size gave, less what its queue costs; 0 where it was not tried.
    rates: [u64; RUNGS],
    settle: Settle,
}

/// Whether a round shows what the present size does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Settle {
    Yes,
    No,
}

impl Bandit {
    pub(super) const fn new(seed: u64) -> Self {
        Self {
            chance: seed,
            rates: [0; RUNGS],
            settle: Settle::No,
        }
    }

    /// The window after `round`.
    pub(super) fn judge(&mut self, round: &Round, way: &Way, policy: &Policy) -> u32 {
        if self.settle == Settle::Yes {
            self.settle = Settle::No;
            return round.window;
        }
        let rung = rung_of(round.window);
        self.learn(rung, round, way);
        let (low, high) = (rung_of(policy.min), rung_of(policy.max));
        let next = self.choose(rung, low, high);
        if next == rung {
            return round.window;
        }
        self.settle = Settle::Yes;
        1 << (FIRST + next as u32)
    }

    /// What was noted of the sizes holds, but the next round begins anew.
    pub(super) const fn idle(&mut self) {
        self.settle = Settle::Yes;
    }

    /// Mixes this round into what is known of its size. A round trip of queue takes a fiftieth off
    /// its rate, ten and more take a fifth.
    fn learn(&mut self, rung: usize, round: &Round, way: &Way) {
        let (last, _) = way.last();
        let shortest = way.shortest().unwrap_or(last).as_nanos().max(1);
        let queue = last.as_nanos().saturating_sub(shortest) * 20 / shortest;
        let queue = u64::try_from(queue).unwrap_or(u64::MAX).min(200);
        let worth = (round.rate / 1000).saturating_mul(1000 - queue).max(1);
        if let Some(known) = self.rates.get_mut(rung) {
            *known = match *known {
                0 => worth,
                old => old - old / FADE + worth / FADE,
            };
        }
    }

    fn choose(&mut self, rung: usize, low: usize, high: usize) -> usize {
        let (below, above) = (rung.saturating_sub(1).max(low), (rung + 1).min(high));
        let chance = self.next();
        if chance.is_multiple_of(EXPLORE_ONE_IN) {
            return if chance & 0x100 == 0 { below } else { above };
        }
        // A larger size that was never tried is tried: memory is the smaller risk.
        if self.worth(above) == 0 {
            return above;
        }
        let best_of = |best, other| {
            if self.worth(other) > self.worth(best) {
                other
            } else {
                best
            }
        };
        [below, above].into_iter().fold(rung, best_of)
    }

    fn worth(&self, rung: usize) -> u64 {
        let cost = RUNG_COST * rung as u64;
        self.rates.get(rung).copied().unwrap_or(0) / 1000 * (1000 - cost)
    }

    /// SplitMix64.
    const fn next(&mut self) -> u64 {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.chance ^ (self.chance >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// The largest size that is not above `window`.
fn rung_of(window: u32) -> usize {
    let power = window.max(1).ilog2().saturating_sub(FIRST) as usize;
    power.min(RUNGS - 1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::tests::Link;
    use super::*;
    use crate::flow::Rule;

    #[test]
    fn every_window_has_a_size() {
        let rungs = [0, 1, 4096, 8191, 8192, 16 << 20, u32::MAX].map(rung_of);
        assert_eq!(rungs, [0, 0, 0, 0, 1, 12, 12]);
    }

    #[test]
    fn one_seed_is_one_history() {
        let play = |seed| {
            let mut link = Link::new(Rule::Bandit { seed }, Duration::from_millis(50), 10_000_000);
            let run = |_| link.run(Duration::from_millis(100));
            (0..100).map(run).collect::<Vec<_>>()
        };
        assert_eq!(play(1), play(1));
        assert_ne!(play(1), play(2));
    }
}
