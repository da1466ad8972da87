//! The edges of token buckets, for both tables.

use crate::buckets::Buckets;
use crate::compact::{CompactBuckets, CompactLimit};
use crate::limit::{Decision, Limit, LimitError, Outcome};
use crate::policy::Policy;

const SECOND: u64 = 1_000_000_000;
const DAY: u64 = 86_400 * SECOND;
/// Wall clocks say something like this.
const NOW: u64 = 1_800_000_000 * SECOND;

/// Asks either table, which both keep whole microseconds.
trait Table {
    fn new() -> Self;

    fn limit(emission_ns: u64, burst: u32) -> Result<(), LimitError>;

    fn ask(&self, limit: (u64, u32), cost: u32, now: u64) -> Decision;

    fn ask_by(&self, policy: &Policy, cost: u32, now: u64) -> Decision;
}

impl Table for Buckets {
    fn new() -> Self {
        Self::with_room_for(12)
    }

    fn limit(emission_ns: u64, burst: u32) -> Result<(), LimitError> {
        Limit::new(emission_ns, burst).map(drop)
    }

    fn ask(&self, (emission_ns, burst): (u64, u32), cost: u32, now: u64) -> Decision {
        let limit = Limit::new(emission_ns, burst).unwrap();
        self.try_consume(b"k", &limit, cost, now)
    }

    fn ask_by(&self, policy: &Policy, cost: u32, now: u64) -> Decision {
        self.try_consume_by(policy, b"k", cost, now)
    }
}

impl Table for CompactBuckets {
    fn new() -> Self {
        Self::with_room_for(12).with_seed(crate::Seed::new([5, 6]))
    }

    fn limit(emission_ns: u64, burst: u32) -> Result<(), LimitError> {
        CompactLimit::new(emission_ns / 1000, burst).map(drop)
    }

    fn ask(&self, (emission_ns, burst): (u64, u32), cost: u32, now: u64) -> Decision {
        let limit = CompactLimit::new(emission_ns / 1000, burst).unwrap();
        self.try_consume(b"k", &limit, cost, now)
    }

    fn ask_by(&self, policy: &Policy, cost: u32, now: u64) -> Decision {
        let limit = CompactLimit::try_from(*policy.limit()).unwrap();
        self.try_consume_by(policy, b"k", &limit, cost, now)
    }
}

fn no_time_and_no_burst_are_no_limits<T: Table>() {
    assert_eq!(T::limit(0, 1), Err(LimitError::NoTime));
    assert_eq!(T::limit(SECOND, 0), Err(LimitError::NoBurst));
}

fn cost_of_nothing_only_looks<T: Table>() {
    let table = T::new();
    for now in [NOW, NOW + SECOND] {
        let look = table.ask((SECOND, 5), 0, now);
        assert_eq!((look.outcome, look.remaining), (Outcome::Allowed, 5));
    }
    table.ask((SECOND, 5), 5, NOW);
    for _ in 0..3 {
        let look = table.ask((SECOND, 5), 0, NOW);
        assert_eq!((look.outcome, look.remaining), (Outcome::Allowed, 0));
        assert_eq!(look.reset_after_ns, 5 * SECOND);
    }
}

fn cost_above_the_burst_is_refused_for_ever<T: Table>() {
    let table = T::new();
    for cost in [6, u32::MAX] {
        let never = table.ask((SECOND, 5), cost, NOW);
        assert_eq!((never.outcome, never.remaining), (Outcome::Never, 5));
    }
    assert_eq!(table.ask((SECOND, 5), 5, NOW).remaining, 0);
}

fn time_that_goes_back_gives_nothing<T: Table>() {
    let table = T::new();
    table.ask((SECOND, 5), 5, NOW);
    for back in [1000, SECOND, 3600 * SECOND] {
        let denied = table.ask((SECOND, 5), 1, NOW - back);
        assert_eq!(denied.outcome, Outcome::Denied);
        assert_eq!(denied.retry_after_ns, SECOND + back);
    }
    assert!(table.ask((SECOND, 5), 1, NOW + SECOND).is_allowed());
}

fn longer_emission_keeps_the_time_of_the_bucket<T: Table>() {
    let table = T::new();
    table.ask((SECOND, 5), 5, NOW);
    let denied = table.ask((2 * SECOND, 5), 3, NOW);
    // Full in 5 seconds, so 2 of 5 tokens are there at this rate; the third comes in a second.
    assert_eq!((denied.remaining, denied.retry_after_ns), (2, SECOND));
    assert!(table.ask((2 * SECOND, 5), 3, NOW + SECOND).is_allowed());
}

fn smaller_burst_waits_for_what_was_given<T: Table>() {
    let table = T::new();
    table.ask((SECOND, 100), 100, NOW);
    let denied = table.ask((SECOND, 2), 1, NOW);
    assert_eq!((denied.remaining, denied.retry_after_ns), (0, 99 * SECOND));
    // And the wider one is as it was.
    assert!(table.ask((SECOND, 100), 1, NOW + SECOND).is_allowed());
}

fn one_a_day_is_exact<T: Table>() {
    let table = T::new();
    assert!(table.ask((DAY, 1), 1, NOW).is_allowed());
    let denied = table.ask((DAY, 1), 1, NOW + DAY - 1000);
    assert_eq!(
        (denied.outcome, denied.retry_after_ns),
        (Outcome::Denied, 1000)
    );
    assert!(table.ask((DAY, 1), 1, NOW + DAY).is_allowed());
    // Six of them saved up, which compact buckets keep just about.
    assert!(table.ask((DAY, 6), 5, NOW + DAY).is_allowed());
    assert_eq!(table.ask((DAY, 6), 1, NOW + DAY).retry_after_ns, DAY);
    assert!(table.ask((DAY, 6), 5, NOW + 6 * DAY).is_allowed());
}

fn policies_of_a_key_have_buckets_of_their_own<T: Table>() {
    let table = T::new();
    let limit = Limit::new(SECOND, 5).unwrap();
    let [reads, writes] = ["reads", "writes"].map(|name| Policy::new(name, limit).unwrap());
    assert!(table.ask_by(&reads, 5, NOW).is_allowed());
    assert!(!table.ask_by(&reads, 1, NOW).is_allowed());
    assert!(table.ask_by(&writes, 5, NOW).is_allowed());
    assert!(table.ask((SECOND, 5), 5, NOW).is_allowed());
}

fn beginning_of_the_clock_is_a_time_like_any<T: Table>() {
    let table = T::new();
    assert!(table.ask((SECOND, 5), 5, 0).is_allowed());
    assert_eq!(table.ask((SECOND, 5), 1, 0).retry_after_ns, SECOND);
    assert!(table.ask((SECOND, 5), 1, SECOND).is_allowed());
}

macro_rules! tables {
    ($($edge:ident),* $(,)?) => {
        mod sixteen_bytes {
            $(#[test] fn $edge() { super::$edge::<super::Buckets>(); })*
        }

        mod eight_bytes {
            $(#[test] fn $edge() { super::$edge::<super::CompactBuckets>(); })*
        }
    };
}

tables![
    no_time_and_no_burst_are_no_limits,
    cost_of_nothing_only_looks,
    cost_above_the_burst_is_refused_for_ever,
    time_that_goes_back_gives_nothing,
    longer_emission_keeps_the_time_of_the_bucket,
    smaller_burst_waits_for_what_was_given,
    one_a_day_is_exact,
    policies_of_a_key_have_buckets_of_their_own,
    beginning_of_the_clock_is_a_time_like_any,
];

/// A 64-bit clock of nanoseconds ends after 584 years; a slot has room for half of them.
#[test]
fn end_of_the_clock_is_an_end_and_no_beginning() {
    let half = 1 << 63;
    for (now, is_limited) in [(half - 10 * SECOND, true), (half, false), (u64::MAX, false)] {
        let buckets = Buckets::new();
        assert!(buckets.ask((SECOND, 5), 5, now).is_allowed());
        let next = buckets.ask((SECOND, 5), 1, now);
        assert_eq!(!next.is_allowed(), is_limited, "{now}");
        assert!(next.remaining <= 5 && next.reset_after_ns <= 5 * SECOND);
    }
    // What was taken before the end is never taken for something after a new beginning.
    let buckets = Buckets::new();
    assert!(buckets.ask((SECOND, 5), 5, half - SECOND).is_allowed());
    assert!(!buckets.ask((SECOND, 5), 1, 0).is_allowed());
}

/// Compact buckets count microseconds, of which the clock has no end.
#[test]
fn compact_buckets_go_on_to_the_end_of_the_clock() {
    let buckets = CompactBuckets::new();
    for now in [1 << 63, u64::MAX - DAY, u64::MAX] {
        assert!(buckets.ask((SECOND, 5), 5, now).is_allowed());
        assert_eq!(buckets.ask((SECOND, 5), 1, now).retry_after_ns, SECOND);
    }
}

#[test]
fn ten_days_of_tokens_are_beyond_the_horizon_of_compact_buckets() {
    let beyond = CompactBuckets::limit(DAY, 10);
    assert!(matches!(
        beyond,
        Err(LimitError::BeyondHorizon { burst: 10, .. })
    ));
    assert_eq!(Buckets::limit(DAY, 10), Ok(()));
}
