//! Many questions at once.

use crate::limit::Decision;

/// What may be taken of many buckets that are asked at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Together {
    /// All that is asked for, or nothing.
    ///
    /// Tokens are taken in the order of the questions; at the first refusal those that were taken are
    /// given back and nothing more is asked. Who asks one of the buckets meanwhile sees them taken: it
    /// may be denied although the whole is refused in the end, but it never gets a token that the whole
    /// got too. Given back is exactly what was taken, by everyone's clock that is not ahead of `now`.
    /// Where somebody with a clock ahead of it asked a bucket in between, as many tokens as came
    /// between the two times can be given back that had come back by themselves.
    ///
    /// Tokens of [`Crowded::Allow`](crate::Crowded::Allow) that no bucket remembers are not given back.
    AllOrNothing,
    /// Each by itself.
    Each,
}

/// Questions whose memory is brought near before the first is answered.
const AHEAD: usize = 16;

/// Buckets of keys.
pub(crate) trait Table {
    type Limit;

    fn prefetch(&self, key: &[u8]);

    /// Takes tokens; the answer, and whether a bucket remembers it.
    fn take(&self, key: &[u8], limit: &Self::Limit, cost: u32, now: u64) -> (Decision, bool);

    /// Gives tokens back that were taken.
    fn give_back(&self, key: &[u8], limit: &Self::Limit, cost: u32);
}

pub(crate) fn consume<T: Table, K: AsRef<[u8]>>(
    table: &T,
    asks: &[(K, T::Limit, u32)],
    together: Together,
    now: u64,
) -> Vec<Decision> {
    for (key, _, _) in asks.iter().take(AHEAD) {
        table.prefetch(key.as_ref());
    }
    let mut decisions = Vec::with_capacity(asks.len());
    // Those that no bucket remembers.
    let mut unremembered = Vec::new();
    for (index, (key, limit, cost)) in asks.iter().enumerate() {
        if let Some((ahead, _, _)) = asks.get(index + AHEAD) {
            table.prefetch(ahead.as_ref());
        }
        let (decision, is_remembered) = table.take(key.as_ref(), limit, *cost, now);
        decisions.push(decision);
        if together == Together::Each {
            continue;
        }
        if !decision.is_allowed() {
            let taken = asks.iter().enumerate().take(index).rev();
            for (_, (key, limit, cost)) in taken.filter(|(at, _)| !unremembered.contains(at)) {
                table.give_back(key.as_ref(), limit, *cost);
            }
            break;
        }
        if !is_remembered {
            unremembered.push(index);
        }
    }
    decisions
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread;

    use super::*;
    use crate::{Buckets, CompactBuckets, CompactLimit, Crowded, Limit, Outcome};

    const SECOND: u64 = 1_000_000_000;

    fn limit(burst: u32) -> Limit {
        Limit::new(86_400 * SECOND, burst).unwrap()
    }

    #[test]
    fn each_is_asked_by_itself() {
        let buckets = Buckets::with_room_for(1000);
        let asks: Vec<_> = (0..100_u32)
            .map(|key| ((key % 50).to_le_bytes(), limit(1), 1 + u32::from(key == 3)))
            .collect();
        let decisions = buckets.try_consume_many(&asks, Together::Each, SECOND);
        let outcomes: Vec<_> = decisions.iter().map(|one| one.outcome).collect();
        for (index, outcome) in outcomes.iter().enumerate() {
            let expected = match index {
                3 => Outcome::Never,
                53 => Outcome::Allowed,
                50.. => Outcome::Denied,
                _ => Outcome::Allowed,
            };
            assert_eq!(*outcome, expected, "{index}");
        }
    }

    #[test]
    fn nothing_is_taken_where_one_is_refused() {
        let buckets = Buckets::with_room_for(100);
        let compact = CompactBuckets::with_room_for(100);
        let narrow = |burst| CompactLimit::try_from(limit(burst)).unwrap();
        // The same key twice, then one that has too few.
        let asks = [("a", 2), ("b", 5), ("a", 3), ("c", 2), ("d", 1)];
        let wide: Vec<_> = asks.map(|(key, cost)| (key, limit(5), cost)).to_vec();
        let small: Vec<_> = asks.map(|(key, cost)| (key, narrow(5), cost)).to_vec();
        for _ in 0..3 {
            let decision = buckets.try_consume(b"c", &limit(5), 4, SECOND);
            let same = compact.try_consume(b"c", &narrow(5), 4, SECOND);
            assert_eq!(decision, same);
            let decisions = buckets.try_consume_many(&wide, Together::AllOrNothing, SECOND);
            let others = compact.try_consume_many(&small, Together::AllOrNothing, SECOND);
            assert_eq!(decisions, others);
            let allowed: Vec<_> = decisions.iter().map(Decision::is_allowed).collect();
            assert_eq!(allowed, [true, true, true, false]);
            for (key, left) in [(b"a", 5), (b"b", 5), (b"c", 1), (b"d", 5)] {
                let look = buckets.try_consume(key, &limit(5), 0, SECOND);
                let other = compact.try_consume(key, &narrow(5), 0, SECOND);
                assert_eq!((look.remaining, other.remaining), (left, left));
            }
        }
        buckets.reset(b"c");
        let decisions = buckets.try_consume_many(&wide, Together::AllOrNothing, SECOND);
        assert_eq!(decisions.len(), 5);
        assert!(decisions.iter().all(Decision::is_allowed));
        let look = buckets.try_consume(b"a", &limit(5), 0, SECOND);
        assert_eq!(look.remaining, 0);
    }

    #[test]
    fn tokens_that_nobody_remembers_are_not_given_back() {
        let buckets = Buckets::with_room_for(1).when_crowded(Crowded::Allow);
        for key in 0..64_u32 {
            buckets.try_consume(&key.to_le_bytes(), &limit(2), 1, SECOND);
        }
        let asks: Vec<_> = (100..120_u32)
            .map(|key| (key.to_le_bytes(), limit(2), 2 + u32::from(key == 119)))
            .collect();
        let live = buckets.live(SECOND);
        let decisions = buckets.try_consume_many(&asks, Together::AllOrNothing, SECOND);
        assert_eq!(decisions.len(), 20);
        assert_eq!(buckets.live(SECOND), live);
    }

    /// Threads that take pairs in different orders, most of which are refused: what was given is what
    /// is missing, to the token.
    #[test]
    fn threads_together_get_what_is_missing() {
        const KEYS: u64 = 6;
        const BURST: u32 = 5000;
        let buckets = Buckets::with_room_for(100);
        let given: Vec<AtomicU64> = (0..KEYS).map(|_| AtomicU64::new(0)).collect();
        thread::scope(|scope| {
            for thread in 0..4_u64 {
                let (buckets, given) = (&buckets, &given);
                scope.spawn(move || {
                    for call in 0..10_000_u64 {
                        let one = (call * 7 + thread) % KEYS;
                        let other = (call * 5 + 3 * thread + 1) % KEYS;
                        let asks = [one, other]
                            .map(|key| (key.to_le_bytes(), limit(BURST), 1 + (call % 3) as u32));
                        let decisions =
                            buckets.try_consume_many(&asks, Together::AllOrNothing, SECOND);
                        if decisions.iter().all(Decision::is_allowed) {
                            for key in [one, other] {
                                given[key as usize].fetch_add(1 + call % 3, Ordering::Relaxed);
                            }
                        }
                    }
                });
            }
        });
        for (key, given) in (0..KEYS).zip(given) {
            let look = buckets.try_consume(&key.to_le_bytes(), &limit(BURST), 0, SECOND);
            assert_eq!(
                u64::from(look.remaining) + given.into_inner(),
                u64::from(BURST)
            );
        }
    }
}
