//! What moves the size of one receive window.
//!
//! A [`Tuner`] is made when a window gives credit back for the first time, so a stream that never
//! fills a quarter of its window has none. It divides time into rounds of at least one round trip
//! and judges each by what was consumed in it.

mod adaptive;
mod bandit;
mod gradient;

use std::time::Duration;

use valkyrie_frame::Time;

use crate::flow::{Policy, Rule};
use crate::limits::{TUNE_IDLE, TUNE_ROUND_MIN};
use crate::way::Way;
use adaptive::Adaptive;
use bandit::Bandit;
use gradient::Gradient;

/// What is known of a window when it is judged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    pub(crate) now: Time,
    /// The window, in bytes.
    pub(crate) window: u32,
    /// Position up to which everything was taken.
    pub(crate) consumed: u64,
    /// Bytes that came and were not taken.
    pub(crate) unread: u64,
}

/// Watches one window.
#[derive(Debug)]
pub(crate) struct Tuner {
    began: Time,
    consumed: u64,
    mode: Mode,
}

#[derive(Debug)]
enum Mode {
    Adaptive(Adaptive),
    Gradient(Gradient),
    Bandit(Bandit),
}

/// A round that is over.
#[derive(Debug, Clone, Copy)]
struct Round {
    now: Time,
    window: u32,
    /// The largest that the window may become.
    max: u32,
    elapsed: Duration,
    /// Bytes per second that were taken.
    rate: u64,
    /// Bytes that the link holds at this rate when nothing stands in a queue.
    in_flight: u64,
    /// Whether the application had read what came.
    read: Read,
}

/// How far the application is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Read {
    /// It waits for the peer.
    All,
    /// The peer waits for it.
    Behind,
}

impl Tuner {
    /// Begins the first round; `None` where the window is fixed.
    pub(crate) fn new(policy: &Policy, reading: &Reading) -> Option<Self> {
        let mode = match policy.rule {
            Rule::Fixed => return None,
            Rule::Adaptive => Mode::Adaptive(Adaptive::default()),
            Rule::DelayGradient => Mode::Gradient(Gradient::default()),
            Rule::Bandit { seed } => Mode::Bandit(Bandit::new(seed)),
        };
        Some(Self {
            began: reading.now,
            consumed: reading.consumed,
            mode,
        })
    }

    /// The window from now on.
    pub(crate) fn judge(&mut self, policy: &Policy, way: &Way, reading: &Reading) -> u32 {
        let window = reading.window;
        let Some(round) = self.round(policy, way, reading) else {
            return window;
        };
        let wanted = if round.is_idle() {
            self.mode.idle();
            round.shrunk()
        } else {
            match &mut self.mode {
                Mode::Adaptive(adaptive) => adaptive.judge(&round),
                Mode::Gradient(gradient) => gradient.judge(&round, way),
                Mode::Bandit(bandit) => bandit.judge(&round, way, policy),
            }
        };
        // A window that its opener made smaller than usual is not raised by being idle.
        wanted.clamp(policy.min.min(window), policy.max.max(window))
    }

    /// The round that ends now, if one does.
    fn round(&mut self, policy: &Policy, way: &Way, reading: &Reading) -> Option<Round> {
        let shortest = way.shortest()?;
        let elapsed = reading.now.saturating_since(self.began);
        let bytes = reading.consumed.saturating_sub(self.consumed);
        let window = u64::from(reading.window);
        // Logs and files give credit back with every batch, which alone says little.
        let enough = bytes >= window / 4 || elapsed >= TUNE_IDLE;
        if elapsed < shortest.max(TUNE_ROUND_MIN) || !enough {
            return None;
        }
        self.began = reading.now;
        self.consumed = reading.consumed;
        let read = match reading.unread <= window / 4 {
            true => Read::All,
            false => Read::Behind,
        };
        let rate = over(bytes, 1_000_000_000, elapsed.as_nanos());
        Some(Round {
            now: reading.now,
            window: reading.window,
            max: policy.max,
            elapsed,
            rate,
            in_flight: over(bytes, shortest.as_nanos(), elapsed.as_nanos()),
            read,
        })
    }
}

impl Mode {
    /// Forgets what was tried when the traffic ended.
    const fn idle(&mut self) {
        match self {
            Self::Adaptive(adaptive) => adaptive.idle(),
            Self::Bandit(bandit) => bandit.idle(),
            Self::Gradient(_) => {}
        }
    }
}

impl Round {
    /// Whether the sender may have waited for credit and not the link for it. Quarters that are
    /// given back late take up to a third of a window, and a lost segment as much as a round trip.
    const fn is_blocked(&self) -> bool {
        matches!(self.read, Read::All) && self.in_flight >= self.window as u64 * 3 / 8
    }

    /// Whether an eighth of the window would have done for a long time.
    fn is_idle(&self) -> bool {
        self.elapsed >= TUNE_IDLE && self.in_flight < u64::from(self.window) / 8
    }

    /// The window halved for each second.
    fn shrunk(&self) -> u32 {
        let seconds = self.elapsed.as_secs() / TUNE_IDLE.as_secs();
        let halvings = u32::try_from(seconds).unwrap_or(u32::MAX);
        self.window.checked_shr(halvings).unwrap_or(0)
    }
}

/// `bytes` times `parts` over `whole`.
fn over(bytes: u64, parts: u128, whole: u128) -> u64 {
    let scaled = u128::from(bytes) * parts / whole.max(1);
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A sender that is blocked whenever the window allows less than the link does.
    pub(crate) struct Link {
        pub(crate) rtt: Duration,
        pub(crate) rate: u64,
        pub(crate) policy: Policy,
        pub(crate) way: Way,
        pub(crate) now: Time,
        pub(crate) consumed: u64,
        pub(crate) window: u32,
        tuner: Option<Tuner>,
    }

    impl Link {
        pub(crate) fn new(rule: Rule, rtt: Duration, rate: u64) -> Self {
            let mut way = Way::default();
            way.note(rtt);
            Self {
                rtt,
                rate,
                policy: Policy {
                    rule,
                    min: 64 << 10,
                    max: 16 << 20,
                },
                way,
                now: Time::ZERO,
                consumed: 0,
                window: 256 << 10,
                tuner: None,
            }
        }

        fn judge(&mut self, unread: u64) {
            let reading = Reading {
                now: self.now,
                window: self.window,
                consumed: self.consumed,
                unread,
            };
            match &mut self.tuner {
                Some(tuner) => self.window = tuner.judge(&self.policy, &self.way, &reading),
                None => self.tuner = Tuner::new(&self.policy, &reading),
            }
        }

        /// Saturates the link for this long; queues make round trips longer.
        pub(crate) fn run(&mut self, time: Duration) -> u32 {
            let end = self.now + time;
            while self.now < end {
                let window = u64::from(self.window);
                let flight = over(self.rate, self.rtt.as_nanos(), 1_000_000_000);
                let full = over(window, 1_000_000_000, u128::from(self.rate));
                let turn = self.rtt.max(Duration::from_nanos(full));
                self.now = self.now + turn;
                self.consumed += window;
                let queue = over(
                    window.saturating_sub(flight),
                    1_000_000_000,
                    self.rate.into(),
                );
                self.way.note(self.rtt + Duration::from_nanos(queue));
                self.judge(0);
            }
            self.window
        }

        /// Lets a quarter of the window trickle in.
        pub(crate) fn trickle(&mut self, time: Duration, unread: u64) -> u32 {
            self.now = self.now + time;
            self.consumed += u64::from(self.window / 4);
            self.judge(unread);
            self.window
        }
    }

    #[test]
    fn a_fixed_window_has_no_tuner() {
        let mut link = Link::new(Rule::Fixed, Duration::from_millis(200), 125_000_000);
        assert_eq!(link.run(Duration::from_secs(20)), 256 << 10);
        assert!(link.tuner.is_none());
    }

    #[test]
    fn every_rule_fills_a_long_fat_link_and_stays_in_its_bounds() {
        for rule in [
            Rule::Adaptive,
            Rule::DelayGradient,
            Rule::Bandit { seed: 7 },
        ] {
            let mut link = Link::new(rule, Duration::from_millis(200), 12_500_000);
            let window = link.run(Duration::from_secs(60));
            assert!(window >= 2_000_000, "{rule:?} ends with {window}");
            for seconds in 1..40 {
                let window = link.trickle(Duration::from_secs(seconds), 0);
                assert!(
                    (64 << 10..=16 << 20).contains(&window),
                    "{rule:?}: {window}"
                );
            }
            assert_eq!(link.window, 64 << 10, "{rule:?} shrinks when nothing comes");
        }
    }
}
