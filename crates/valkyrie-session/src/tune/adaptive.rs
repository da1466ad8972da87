//! Doubling while that pays.

use std::time::Duration;

use valkyrie_frame::Time;

use super::Round;
use crate::limits::{TUNE_HOLD, TUNE_HOLD_DOUBLINGS_MAX};

/// A blocked sender gets twice the window; if it does not become faster by that, the window goes
/// back and the next try waits, longer each time.
///
/// The round trip alone cannot tell a link that needs more from one whose samples are long because
/// a thread had to be woken. So the estimate only says when to try, and the result whether to keep.
#[derive(Debug, Default)]
pub(super) struct Adaptive {
    trial: Trial,
    hold_until: Time,
    failed: u8,
}

#[derive(Debug, Default)]
enum Trial {
    #[default]
    None,
    /// The larger window was granted; what comes in now was sent before.
    Granted { rate: u64 },
    /// The round shows what the larger window does.
    Running { rate: u64 },
}

impl Adaptive {
    /// The window after `round`.
    pub(super) fn judge(&mut self, round: &Round) -> u32 {
        match self.trial {
            Trial::None => {}
            Trial::Granted { rate } => {
                self.trial = Trial::Running { rate };
                return round.window;
            }
            Trial::Running { rate } => {
                self.trial = Trial::None;
                if round.rate < rate.saturating_add(rate / 8) {
                    self.hold_until = round.now + self.hold();
                    self.failed = (self.failed + 1).min(TUNE_HOLD_DOUBLINGS_MAX);
                    return round.window / 2;
                }
                self.failed = 0;
            }
        }
        let may_try = round.window < round.max && round.now >= self.hold_until;
        if may_try && round.is_blocked() {
            self.trial = Trial::Granted { rate: round.rate };
            return round.window.saturating_mul(2);
        }
        round.window
    }

    /// What was tried says nothing any more.
    pub(super) const fn idle(&mut self) {
        self.trial = Trial::None;
        self.failed = 0;
    }

    fn hold(&self) -> Duration {
        TUNE_HOLD * (1 << self.failed)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Link;
    use super::*;
    use crate::flow::Rule;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_long_fat_link_gets_what_it_needs_and_no_more() {
        // 10 MB/s times 200 ms are 2 MB.
        let mut link = Link::new(Rule::Adaptive, 200 * MS, 10_000_000);
        assert_eq!(link.run(4000 * MS), 2 << 20);
        // Twice as much is tried again and again, rarely, and does not pay.
        let windows: Vec<_> = (0..300).map(|_| link.run(200 * MS)).collect();
        let larger = windows.iter().filter(|window| **window > 2 << 20).count();
        assert!(larger < 20, "{larger} of 300 rounds");
        assert!(windows.iter().all(|window| *window <= 4 << 20));
        let mut link = Link::new(Rule::Adaptive, 200 * MS, 125_000_000);
        for _ in 0..20 {
            link.run(6000 * MS);
            assert_eq!(
                link.window,
                16 << 20,
                "the largest window is not tried again"
            );
        }
    }

    #[test]
    fn a_fast_short_link_keeps_the_first_window() {
        let mut link = Link::new(Rule::Adaptive, MS / 33, 3_000_000_000);
        assert_eq!(link.run(5000 * MS), 256 << 10);
    }

    #[test]
    fn a_window_that_does_not_pay_is_taken_back() {
        // The samples say 1 ms, but it is the reader's thread that takes so long: the rate is the
        // same with every window.
        let mut link = Link::new(Rule::Adaptive, MS, 1_000_000_000);
        link.rtt = MS / 10;
        link.way = crate::way::Way::default();
        link.way.note(MS);
        let mut larger = 0;
        for _ in 0..20_000 {
            let window = link.window;
            link.now = link.now + MS;
            link.consumed += 1_000_000;
            link.trickle(Duration::ZERO, 0);
            larger += u32::from(window > 256 << 10);
        }
        assert!(larger < 60, "{larger} of 20,000 rounds");
        assert_eq!(link.window, 256 << 10);
    }

    #[test]
    fn a_slow_reader_gets_no_more() {
        let mut link = Link::new(Rule::Adaptive, 200 * MS, 10_000_000);
        for _ in 0..20 {
            assert_eq!(link.trickle(50 * MS, 250_000), 256 << 10);
        }
    }
}
