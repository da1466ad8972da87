//! The arithmetic of a token bucket in one number.
//!
//! The generic cell rate algorithm (ITU-T I.371, virtual scheduling) keeps the *theoretical arrival
//! time*: when the bucket will be full again. That it is in the past means the bucket is full, so a
//! bucket that nobody has used for a while equals none at all. Tokens come back continuously, and no
//! rounding is carried from call to call.

use crate::limit::{Decision, Limit, Outcome};

/// Asks for `cost` tokens of a bucket at `now`, both in nanoseconds of the same clock; gives the
/// bucket as it is then and the answer. Nothing is taken where not all of it can be.
///
/// The time of a bucket is never lowered, neither by a clock that went back nor by a limit that is
/// narrower than the one before: both are waited for, and `retry_after_ns` says how long. A cost of
/// 0 only looks.
#[must_use]
#[inline]
pub fn step(full_at: u64, now: u64, limit: &Limit, cost: u32) -> (u64, Decision) {
    let (each, room) = (limit.emission_ns(), limit.room_ns());
    // How far the bucket is from being full; more than a whole bucket where it waits as said above.
    let lacks = full_at.saturating_sub(now);
    let remaining = |lacks: u64| tokens(room.saturating_sub(lacks), each);
    let decide = |outcome, retry_after_ns, lacks| Decision {
        outcome,
        remaining: remaining(lacks),
        retry_after_ns,
        reset_after_ns: lacks,
    };
    if cost > limit.burst() {
        return (full_at, decide(Outcome::Never, 0, lacks));
    }
    let after = lacks.saturating_add(each * u64::from(cost));
    if after > room && cost > 0 {
        return (full_at, decide(Outcome::Denied, after - room, lacks));
    }
    let decision = decide(Outcome::Allowed, 0, after);
    match cost {
        0 => (full_at, decision),
        _ => (now.saturating_add(after), decision),
    }
}

/// Whole tokens in so much time.
#[inline]
fn tokens(time: u64, each: u64) -> u32 {
    u32::try_from(time / each).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::oracle::{Oracle, random};

    const SECOND: u64 = 1_000_000_000;

    fn limit(per_second: u64, burst: u32) -> Limit {
        Limit::new(SECOND / per_second, burst).unwrap()
    }

    #[test]
    fn bucket_gives_its_burst_at_once_and_then_its_rate() {
        let limit = limit(10, 3);
        let mut bucket = 0;
        let now = 100 * SECOND;
        for left in [2, 1, 0] {
            let (next, decision) = step(bucket, now, &limit, 1);
            assert_eq!(
                (decision.outcome, decision.remaining),
                (Outcome::Allowed, left)
            );
            bucket = next;
        }
        let (same, denied) = step(bucket, now, &limit, 1);
        assert_eq!((same, denied.outcome), (bucket, Outcome::Denied));
        assert_eq!(denied.retry_after_ns, SECOND / 10);
        assert_eq!(denied.reset_after_ns, 3 * SECOND / 10);
        let (_, later) = step(bucket, now + denied.retry_after_ns, &limit, 1);
        assert_eq!(later.outcome, Outcome::Allowed);
        let (_, early) = step(bucket, now + denied.retry_after_ns - 1, &limit, 1);
        assert_eq!((early.outcome, early.retry_after_ns), (Outcome::Denied, 1));
    }

    #[test]
    fn asking_more_often_than_the_rate_starves_nobody() {
        let limit = limit(10, 1);
        let (mut bucket, mut allowed) = (0, 0);
        for call in 0..1000 {
            let (next, decision) = step(bucket, SECOND + call * SECOND / 100, &limit, 1);
            bucket = next;
            allowed += u32::from(decision.outcome == Outcome::Allowed);
        }
        assert_eq!(allowed, 100);
    }

    #[test]
    fn cost_above_the_burst_is_refused_for_ever_and_takes_nothing() {
        let limit = limit(10, 3);
        let (bucket, decision) = step(0, SECOND, &limit, 4);
        assert_eq!((bucket, decision.outcome), (0, Outcome::Never));
        assert_eq!(decision.remaining, 3);
    }

    #[test]
    fn look_changes_nothing() {
        let limit = limit(10, 3);
        let (bucket, _) = step(0, SECOND, &limit, 2);
        let (same, decision) = step(bucket, SECOND, &limit, 0);
        assert_eq!((same, decision.remaining), (bucket, 1));
        assert_eq!(decision.outcome, Outcome::Allowed);
    }

    /// Denied at `now` and a nanosecond too early, allowed at the time that it named.
    fn ensure_retry_is_exact(bucket: u64, now: u64, limit: &Limit) -> u64 {
        let (same, denied) = step(bucket, now, limit, 1);
        assert_eq!((same, denied.outcome), (bucket, Outcome::Denied));
        let (_, early) = step(bucket, now + denied.retry_after_ns - 1, limit, 1);
        assert_eq!(early.outcome, Outcome::Denied);
        let (_, allowed) = step(bucket, now + denied.retry_after_ns, limit, 1);
        assert_eq!(allowed.outcome, Outcome::Allowed);
        denied.retry_after_ns
    }

    #[test]
    fn clock_that_goes_back_gives_no_tokens() {
        let limit = limit(10, 3);
        let (bucket, _) = step(0, 10 * SECOND, &limit, 3);
        let wait = ensure_retry_is_exact(bucket, 9 * SECOND, &limit);
        assert_eq!(wait, SECOND + SECOND / 10);
    }

    #[test]
    fn narrower_limit_waits_for_what_the_wider_one_gave() {
        let (bucket, _) = step(0, SECOND, &limit(1, 100), 100);
        let narrow = limit(10, 2);
        let wait = ensure_retry_is_exact(bucket, SECOND, &narrow);
        assert_eq!(wait, 100 * SECOND - SECOND / 10);
        let (same, look) = step(bucket, SECOND, &narrow, 0);
        assert_eq!((same, look.remaining), (bucket, 0));
    }

    #[test]
    fn end_of_the_clock_does_not_wrap() {
        let limit = limit(1, 10);
        let (bucket, decision) = step(u64::MAX - 5, u64::MAX - 5, &limit, 10);
        assert_eq!((bucket, decision.outcome), (u64::MAX, Outcome::Allowed));
    }

    /// Ten thousand limits, from a token a nanosecond to one in hours, each asked a thousand times:
    /// at once, at any time, and exactly when it said.
    #[test]
    fn ten_million_steps_equal_an_exact_bucket() {
        let (mut chance, mut outcomes) = (7, [0_u64; 3]);
        for _ in 0..10_500 {
            let each = random(&mut chance) % (1 << (1 + random(&mut chance) % 44)) + 1;
            let burst = (random(&mut chance) % (1 << (1 + random(&mut chance) % 16)) + 1) as u32;
            let Ok(limit) = Limit::new(each, burst) else {
                continue;
            };
            // Far from the end of the clock, where times do not grow any more.
            let mut now = random(&mut chance) % (1 << 60);
            let (mut bucket, mut wait) = (0, 0);
            let mut oracle = Oracle::full(&limit, now);
            for _ in 0..1000 {
                now += match random(&mut chance) % 4 {
                    0 => 0,
                    1 => wait,
                    _ => random(&mut chance) % (2 * each),
                };
                if now > 1 << 63 {
                    break;
                }
                let cost = (random(&mut chance) % (u64::from(burst) + 2)) as u32;
                let cost = cost >> (random(&mut chance) % 20);
                let (next_bucket, decision) = step(bucket, now, &limit, cost);
                assert_eq!(decision, oracle.consume(now, &limit, cost));
                wait = decision.retry_after_ns;
                outcomes[decision.outcome as usize] += 1;
                bucket = next_bucket;
            }
        }
        assert!(outcomes.iter().sum::<u64>() >= 10_000_000, "{outcomes:?}");
        assert!(outcomes.iter().all(|count| *count > 10_000), "{outcomes:?}");
    }

    proptest! {
        #[test]
        fn bucket_equals_an_exact_one(
            each in 1..2 * SECOND,
            burst in 1..200_u32,
            calls in proptest::collection::vec((0..3 * SECOND, 0..220_u32), 1..200),
        ) {
            let limit = Limit::new(each, burst).unwrap();
            let (mut now, mut bucket) = (SECOND, 0);
            let mut oracle = Oracle::full(&limit, now);
            for (pause, cost) in calls {
                now += pause;
                let (next, decision) = step(bucket, now, &limit, cost);
                prop_assert_eq!(decision, oracle.consume(now, &limit, cost));
                bucket = next;
            }
        }
    }
}
