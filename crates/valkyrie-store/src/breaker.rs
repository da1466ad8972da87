//! Leaves a store alone that does not answer.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// When a store is left alone, and when it is asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerConfig {
    /// Failures in a row after which it is left alone; at least 1. Default: 5.
    pub failures: u32,
    /// How long before it is asked once. Default: 2 s; twice as long after each time that fails, up to
    /// 30 s.
    pub open_for: Duration,
    /// Answers in a row after which it is trusted again; at least 1. Default: 3.
    pub successes: u32,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            failures: 5,
            open_for: Duration::from_secs(2),
            successes: 3,
        }
    }
}

const OPEN_FOR_MAX: Duration = Duration::from_secs(30);

/// What is known of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BreakerState {
    /// It is asked.
    Closed,
    /// It is left alone.
    Open,
    /// It is asked one thing at a time, until it is trusted again.
    HalfOpen,
}

impl BreakerState {
    /// Its name in status and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// Leaves a store alone that does not answer. Time comes in as an argument.
///
/// ```text
///           failures in a row            open_for is over
///   Closed -------------------> Open ----------------------> HalfOpen
///     ^                          ^           a failure          |
///     |                          +------------------------------+
///     +---------------------------------------------------------+
///                           successes in a row
/// ```
#[derive(Debug)]
pub struct Breaker {
    config: BreakerConfig,
    inner: Mutex<Inner>,
}

#[derive(Debug, Clone, Copy)]
enum Inner {
    Closed {
        failures: u32,
    },
    Open {
        until: Instant,
        waited: Duration,
    },
    HalfOpen {
        successes: u32,
        probe: Probe,
        waited: Duration,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Probe {
    /// Nobody is asking.
    Free,
    /// Somebody is; who never comes back is forgotten after this time.
    Taken(Instant),
}

impl Breaker {
    /// One that trusts its store.
    #[must_use]
    pub const fn new(config: BreakerConfig) -> Self {
        Self {
            config,
            inner: Mutex::new(Inner::Closed { failures: 0 }),
        }
    }

    /// Whether the store may be asked now; who asks tells what came of it.
    pub fn allows(&self, now: Instant) -> bool {
        let mut inner = self.lock();
        match *inner {
            Inner::Closed { .. } => true,
            Inner::Open { until, waited } if now >= until => {
                *inner = Inner::HalfOpen {
                    successes: 0,
                    probe: Probe::Taken(now + waited),
                    waited,
                };
                true
            }
            Inner::Open { .. } => false,
            Inner::HalfOpen {
                successes,
                probe,
                waited,
            } => {
                let free = match probe {
                    Probe::Free => true,
                    Probe::Taken(until) => now >= until,
                };
                if free {
                    *inner = Inner::HalfOpen {
                        successes,
                        probe: Probe::Taken(now + waited),
                        waited,
                    };
                }
                free
            }
        }
    }

    /// The store answered. Whether it is trusted from now on and was not before.
    pub fn succeeded(&self) -> bool {
        let mut inner = self.lock();
        let before = *inner;
        *inner = match before {
            Inner::HalfOpen {
                successes, waited, ..
            } if successes + 1 < self.config.successes => Inner::HalfOpen {
                successes: successes + 1,
                probe: Probe::Free,
                waited,
            },
            // A late answer to an old question says nothing of now.
            open @ Inner::Open { .. } => open,
            Inner::Closed { .. } | Inner::HalfOpen { .. } => Inner::Closed { failures: 0 },
        };
        matches!(
            (before, *inner),
            (Inner::HalfOpen { .. }, Inner::Closed { .. })
        )
    }

    /// The store could not be reached, or did not answer in time. Whether it is left alone from now on
    /// and was not before.
    pub fn failed(&self, now: Instant) -> bool {
        let mut inner = self.lock();
        let open = |waited: Duration| Inner::Open {
            until: now + waited,
            waited,
        };
        let (next, opened) = match *inner {
            Inner::Closed { failures } if failures + 1 < self.config.failures => {
                let failures = failures + 1;
                (Inner::Closed { failures }, false)
            }
            Inner::Closed { .. } => (open(self.config.open_for), true),
            Inner::HalfOpen { waited, .. } => (open((waited * 2).min(OPEN_FOR_MAX)), false),
            still @ Inner::Open { .. } => (still, false),
        };
        *inner = next;
        opened
    }

    /// What is known of the store.
    #[must_use]
    pub fn state(&self) -> BreakerState {
        match *self.lock() {
            Inner::Closed { .. } => BreakerState::Closed,
            Inner::Open { .. } => BreakerState::Open,
            Inner::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn store_is_left_alone_and_asked_again() {
        let breaker = Breaker::new(BreakerConfig {
            failures: 2,
            open_for: SECOND,
            successes: 2,
        });
        let now = Instant::now();
        assert!(breaker.allows(now));
        assert!(!breaker.failed(now));
        breaker.succeeded();
        assert!(!breaker.failed(now));
        assert!(breaker.failed(now));
        assert_eq!(breaker.state(), BreakerState::Open);
        assert!(!breaker.allows(now + SECOND / 2));
        // One at a time.
        let later = now + SECOND;
        assert!(breaker.allows(later));
        assert!(!breaker.allows(later));
        assert!(!breaker.failed(later));
        // Twice as long.
        assert!(!breaker.allows(later + SECOND));
        let later = later + 2 * SECOND;
        assert!(breaker.allows(later));
        breaker.succeeded();
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        assert!(breaker.allows(later));
        breaker.succeeded();
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    #[test]
    fn probe_that_never_comes_back_is_forgotten() {
        let breaker = Breaker::new(BreakerConfig {
            failures: 1,
            open_for: SECOND,
            successes: 1,
        });
        let now = Instant::now();
        assert!(breaker.failed(now));
        assert!(breaker.allows(now + SECOND));
        assert!(!breaker.allows(now + SECOND));
        assert!(breaker.allows(now + 2 * SECOND));
        breaker.succeeded();
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    #[test]
    fn late_answers_do_not_close() {
        let breaker = Breaker::new(BreakerConfig {
            failures: 1,
            ..BreakerConfig::default()
        });
        let now = Instant::now();
        breaker.failed(now);
        breaker.succeeded();
        assert_eq!(breaker.state(), BreakerState::Open);
    }
}
