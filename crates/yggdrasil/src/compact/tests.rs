use std::thread;

use super::*;
use crate::Limit;
use crate::limit::Outcome;
use crate::oracle::{Oracle, random};

const SECOND: u64 = 1_000_000_000;
const DAY: u64 = 86_400 * SECOND;
const HORIZON: u64 = HORIZON_US * NS_PER_US;

fn daily(burst: u32) -> CompactLimit {
    CompactLimit::new(86_400_000_000, burst).unwrap()
}

#[test]
fn slot_takes_eight_bytes_and_a_bucket_of_those_asked_for_less_than_twelve() {
    for room in [1_000, 1_000_000] {
        let mut slots = 0;
        let counted = allocation_counter::measure(|| {
            let buckets = CompactBuckets::with_room_for(room);
            slots = buckets.slots().count();
            assert_eq!(buckets.bytes(), 8 * slots);
        });
        assert_eq!(counted.bytes_total, 8 * slots as u64);
        assert!(counted.bytes_total < 12 * room as u64, "{counted:?}");
    }
}

/// As many keys as slots: 8 bytes for each.
#[test]
fn table_filled_to_its_last_slot_forgets_few() {
    let buckets = CompactBuckets::with_room_for(75_000);
    let slots = buckets.slots().count() as u32;
    for key in 0..slots {
        let decision = buckets.try_consume(&key.to_le_bytes(), &daily(1), 1, SECOND);
        assert!(decision.is_allowed());
    }
    let forgotten = buckets.evicted_live();
    assert!(forgotten < u64::from(slots) / 20, "{forgotten} of {slots}");
    assert_eq!(buckets.live(SECOND) as u64 + forgotten, u64::from(slots));
}

#[test]
fn sets_of_a_key_are_two_cache_lines_in_order() {
    for room in [1, 12, 13, 100, 5000] {
        let buckets = CompactBuckets::with_room_for(room);
        let mut chance = 3;
        for _ in 0..1000 {
            let [one, other] = buckets.sets_of(random(&mut chance));
            assert_eq!((one.len(), other.len()), (WAYS, WAYS));
            let (one, other) = (one.as_ptr().addr(), other.as_ptr().addr());
            assert_eq!((one % 64, other % 64), (0, 0));
            assert!(one < other);
        }
    }
}

#[test]
fn as_many_buckets_as_asked_for_find_room() {
    let buckets = CompactBuckets::with_room_for(200_000);
    let mut shared = 0;
    for key in 0..200_000_u32 {
        let decision = buckets.try_consume(&key.to_le_bytes(), &daily(1), 1, SECOND);
        shared += usize::from(!decision.is_allowed());
    }
    assert_eq!((buckets.crowds(), buckets.evicted_live()), (0, 0));
    assert_eq!(buckets.live(SECOND) + shared, 200_000);
    // 0.07 are to be expected, each for itself; more than 3 once in ten million runs.
    assert!(shared <= 3, "{shared}");
}

#[test]
fn full_buckets_make_room_without_a_loss() {
    let buckets = CompactBuckets::with_room_for(12);
    let limit = CompactLimit::new(1_000_000, 1).unwrap();
    for key in 0..10_000_u64 {
        let now = (key + 1) * SECOND;
        let decision = buckets.try_consume(&key.to_le_bytes(), &limit, 1, now);
        assert!(decision.is_allowed());
    }
    assert_eq!((buckets.crowds(), buckets.evicted_live()), (0, 0));
}

#[test]
fn crowd_is_answered_as_asked() {
    for (crowded, outcome, evicted) in [
        (Crowded::Forget, Outcome::Allowed, 48),
        (Crowded::Allow, Outcome::Allowed, 0),
        (Crowded::Deny, Outcome::Denied, 0),
    ] {
        let seed = Seed::new([1, 2]);
        let buckets = CompactBuckets::with_room_for(1)
            .when_crowded(crowded)
            .with_seed(seed);
        let ask = |key: u32| buckets.try_consume(&key.to_le_bytes(), &daily(1), 1, SECOND);
        let last = (0..64).map(ask).last().unwrap();
        assert_eq!(last.outcome, outcome, "{crowded:?}");
        assert_eq!((buckets.crowds(), buckets.evicted_live()), (48, evicted));
        assert_eq!(buckets.live(SECOND), 16);
        if outcome == Outcome::Denied {
            assert_eq!(last.retry_after_ns, DAY);
        }
    }
}

#[test]
fn reset_fills_the_bucket() {
    let buckets = CompactBuckets::with_room_for(100);
    assert_eq!((buckets.full_at(b"k"), buckets.reset(b"k")), (None, false));
    assert!(buckets.try_consume(b"k", &daily(2), 2, SECOND).is_allowed());
    assert_eq!(buckets.full_at(b"k"), Some(SECOND + 2 * DAY));
    assert!(!buckets.try_consume(b"k", &daily(2), 1, SECOND).is_allowed());
    assert!(buckets.reset(b"k"));
    assert!(buckets.try_consume(b"k", &daily(2), 2, SECOND).is_allowed());
}

/// Many threads, few keys, a table that is always full of claims: no token too many, and none too few.
#[test]
fn threads_together_get_exactly_the_burst() {
    const KEYS: u32 = 8;
    const BURST: u32 = 1000;
    let limit = CompactLimit::new(500_000_000, BURST).unwrap();
    for _ in 0..20 {
        // Keys of which none shares a bucket with another one.
        let buckets = CompactBuckets::with_room_for(12).with_seed(Seed::new([5, 6]));
        let allowed: u32 = thread::scope(|scope| {
            let buckets = &buckets;
            let one = |_| {
                scope.spawn(move || {
                    let ask = |call: u32| {
                        let key = (call % KEYS).to_le_bytes();
                        let decision = buckets.try_consume(&key, &limit, 1, SECOND);
                        u32::from(decision.is_allowed())
                    };
                    (0..KEYS * BURST).map(ask).sum::<u32>()
                })
            };
            let threads: Vec<_> = (0..4).map(one).collect();
            threads.into_iter().map(|one| one.join().unwrap()).sum()
        });
        assert_eq!(allowed, KEYS * BURST);
        assert_eq!(buckets.crowds(), 0);
    }
}

/// Threads that find the floor too far behind at the same time, with buckets that are used meanwhile.
#[test]
fn threads_that_move_the_floor_together_lose_nothing() {
    const BURST: u32 = 200;
    let limit = CompactLimit::new(HORIZON_US / 2 / u64::from(BURST), BURST).unwrap();
    let buckets = CompactBuckets::with_room_for(1000).with_seed(Seed::new([5, 6]));
    let mut now = DAY;
    for _ in 0..30 {
        let allowed: u32 = thread::scope(|scope| {
            let buckets = &buckets;
            let one = |_| {
                scope.spawn(move || {
                    let ask = |call: u32| {
                        let key = (call % 4).to_le_bytes();
                        let decision = buckets.try_consume(&key, &limit, 1, now);
                        u32::from(decision.is_allowed())
                    };
                    (0..4 * BURST).map(ask).sum::<u32>()
                })
            };
            let threads: Vec<_> = (0..4).map(one).collect();
            threads.into_iter().map(|one| one.join().unwrap()).sum()
        });
        assert_eq!(allowed, 4 * BURST);
        // All tokens are back, and several horizons may have passed.
        now += HORIZON / 2 + now % (3 * HORIZON);
    }
}

#[test]
fn nothing_is_taken_for_later_or_earlier_than_it_is_over_many_horizons() {
    let buckets = CompactBuckets::with_room_for(12).with_seed(Seed::new([5, 6]));
    let limit = daily(6);
    let mut now = 0;
    // Idle for all kinds of times, around every bound.
    for eighths in (0..40).chain([80, 801]) {
        for around in [0, 1, 2 * NS_PER_US] {
            now += eighths * HORIZON / 8 + around;
            buckets.reset(b"k");
            assert!(buckets.try_consume(b"k", &limit, 6, now).is_allowed());
            let denied = buckets.try_consume(b"k", &limit, 1, now);
            assert_eq!(denied.retry_after_ns, DAY, "{eighths} {around}");
            // Idle at last: full, however long it takes.
            now += 6 * DAY + eighths * HORIZON / 8;
            let look = buckets.try_consume(b"k", &limit, 0, now);
            assert_eq!((look.remaining, look.reset_after_ns), (6, 0));
        }
    }
}

#[test]
fn live_bucket_outlives_silence_and_sweeps() {
    for sweeps in [false, true] {
        let buckets = CompactBuckets::with_room_for(12);
        let limit = daily(6);
        assert!(buckets.try_consume(b"k", &limit, 6, DAY).is_allowed());
        if sweeps {
            (1..6).for_each(|day| buckets.sweep(DAY + day * DAY));
        }
        let late = DAY + 5 * DAY + DAY / 2;
        let decision = buckets.try_consume(b"k", &limit, 5, late);
        assert!(decision.is_allowed());
        assert_eq!(decision.reset_after_ns, 5 * DAY + DAY / 2);
    }
}

#[test]
fn sweep_forgets_what_has_been_full_for_long_and_nothing_else() {
    let buckets = CompactBuckets::with_room_for(1000).with_seed(Seed::new([5, 6]));
    let short = CompactLimit::new(1_000_000, 1).unwrap();
    for key in 0..100_u32 {
        buckets.try_consume(&key.to_le_bytes(), &short, 1, DAY);
        buckets.try_consume(&(1000 + key).to_le_bytes(), &daily(5), 5, DAY);
    }
    let used = || {
        buckets
            .slots()
            .filter(|slot| !slot.load().is_free())
            .count()
    };
    buckets.sweep(DAY + SECOND);
    assert_eq!(used(), 200);
    buckets.sweep(3 * DAY);
    assert_eq!((used(), buckets.live(3 * DAY)), (100, 100));
    for key in 0..100_u32 {
        let look = buckets.try_consume(&(1000 + key).to_le_bytes(), &daily(5), 0, 3 * DAY);
        assert_eq!(look.reset_after_ns, 3 * DAY);
    }
}

#[test]
fn time_before_the_floor_counts_as_the_floor() {
    let buckets = CompactBuckets::with_room_for(12);
    let limit = daily(2);
    let late = 100 * DAY;
    assert!(buckets.try_consume(b"k", &limit, 2, late).is_allowed());
    // The floor is 1.6 days before; a day before that is not.
    let back = buckets.try_consume(b"k", &limit, 1, late - DAY);
    assert_eq!(back.retry_after_ns, 2 * DAY);
    for earlier in [0, DAY, 98 * DAY] {
        let back = buckets.try_consume(b"k", &limit, 1, earlier);
        assert_eq!(back.outcome, Outcome::Denied);
        assert_eq!(back.reset_after_ns, 2 * DAY + LAG_US * NS_PER_US);
        let fresh = buckets.try_consume(&earlier.to_le_bytes(), &limit, 2, earlier);
        assert!(fresh.is_allowed());
    }
}

/// A thousand limits, from a token a microsecond to one in days, each asked ten thousand times: at once,
/// at any time, exactly when it said, and after many horizons. Everything that a table does is in it.
#[test]
fn ten_million_calls_equal_an_exact_bucket() {
    let (mut chance, mut outcomes) = (7, [0_u64; 3]);
    for round in 0..1_100_u64 {
        let each = random(&mut chance) % (1 << (1 + random(&mut chance) % 38)) + 1;
        let burst = (random(&mut chance) % (1 << (1 + random(&mut chance) % 12)) + 1) as u32;
        let Ok(limit) = CompactLimit::new(each, burst) else {
            continue;
        };
        let exact = Limit::new(each, burst).unwrap();
        let buckets = CompactBuckets::with_room_for(1);
        let mut now = random(&mut chance) % (1 << 50);
        let (mut wait, mut oracle) = (0, Oracle::full(&exact, now));
        let key = round.to_le_bytes();
        for _ in 0..10_500 {
            now += match random(&mut chance) % 64 {
                0..16 => 0,
                16..32 => wait,
                32 => random(&mut chance) % (3 * HORIZON_US),
                _ => random(&mut chance) % (2 * each),
            };
            let cost = (random(&mut chance) % (u64::from(burst) + 2)) as u32;
            let cost = cost >> (random(&mut chance) % 20);
            // Parts of a microsecond do not count.
            let now_ns = now * NS_PER_US + random(&mut chance) % NS_PER_US;
            let decision = buckets.try_consume(&key, &limit, cost, now_ns);
            let expected = oracle.consume(now, &exact, cost);
            assert_eq!(decision, in_ns(expected));
            wait = expected.retry_after_ns;
            outcomes[decision.outcome as usize] += 1;
        }
    }
    assert!(outcomes.iter().sum::<u64>() >= 10_000_000, "{outcomes:?}");
    assert!(outcomes.iter().all(|count| *count > 10_000), "{outcomes:?}");
}
