//! Keeping the queue short.

use std::time::Duration;

use super::Round;
use crate::limits::{TUNE_QUEUE_FREE, TUNE_QUEUE_MAX};
use crate::way::Way;

/// Grows while the window is used up and round trips do not become longer; shrinks when they do.
///
/// What a round trip takes beyond the shortest one is time in a queue. A little of it says nothing,
/// very much always asks for less, and between the two it is the trend that decides: a queue that
/// becomes shorter is left alone.
#[derive(Debug, Default)]
pub(super) struct Gradient {
    /// Number of the sample that was looked at last, and what it said.
    seen: u32,
    previous: Duration,
    growth: Growth,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Growth {
    /// No queue was ever seen: the window doubles.
    #[default]
    Fast,
    /// The size is about right: it grows by an eighth.
    Slow,
}

impl Gradient {
    /// The window after `round`.
    pub(super) fn judge(&mut self, round: &Round, way: &Way) -> u32 {
        let (last, number) = way.last();
        if number == self.seen {
            return round.window;
        }
        let rising = self.seen > 0 && last > self.previous;
        self.seen = number;
        self.previous = last;
        let shortest = way.shortest().unwrap_or(last);
        let queue = last.saturating_sub(shortest);
        let free = (shortest / 4).max(TUNE_QUEUE_FREE);
        let most = shortest.max(TUNE_QUEUE_MAX);
        if queue > most || queue > free && rising {
            self.growth = Growth::Slow;
            return round.window - round.window / 4;
        }
        if queue > free || !round.is_blocked() {
            return round.window;
        }
        round.window.saturating_add(match self.growth {
            Growth::Fast => round.window,
            Growth::Slow => round.window / 8,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Link;
    use super::*;
    use crate::flow::Rule;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_window_ends_near_what_the_link_holds() {
        // 10 MB/s times 50 ms are 500 kB.
        let mut link = Link::new(Rule::DelayGradient, 50 * MS, 10_000_000);
        link.run(2000 * MS);
        for _ in 0..100 {
            let window = link.run(100 * MS);
            assert!((400_000..=900_000).contains(&window), "{window}");
        }
    }

    #[test]
    fn a_window_that_only_makes_a_queue_shrinks() {
        let mut link = Link::new(Rule::DelayGradient, 50 * MS, 1_000_000);
        link.window = 4 << 20;
        link.way.note(50 * MS);
        let window = link.run(60_000 * MS);
        assert!(window < 200_000, "{window}");
    }
}
