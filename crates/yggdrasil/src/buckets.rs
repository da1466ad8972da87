//! The buckets of many keys, in memory of a fixed size.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::limit::{Decision, Limit};
use crate::many::{self, Table, Together};
use crate::place;
use crate::policy::Policy;
use crate::prefetch::prefetch;
use crate::probe::{self, Ask, Crowded, Met, Slots};
use crate::seed::Seed;
use crate::slot::{Slot, Wide, WideSlot};

/// Slots in each of the two places of a key: a pair of cache lines, which processors fetch together.
const PART: usize = 8;
const LINE_BYTES: usize = 64;

/// Token buckets of keys, used by any thread without a lock.
///
/// A bucket is one 64-bit time beside the 64-bit hash of its key, 16 bytes, and a byte that says where
/// it is; a table for `n` of them has room for two fifths more. Buckets that are full equal none, so their room goes to
/// other keys without a loss and nothing has to be cleaned up. Keys are told apart by a keyed hash
/// (SipHash-1-3 with a random key) of 64 bits: among ten million keys the chance that any two share
/// a bucket is about 3 in a million.
///
/// Times are nanoseconds of any monotonic clock that all callers share; read it once for many calls.
/// They count for 292 years: after that no bucket is remembered.
///
/// ```
/// use std::time::Duration;
/// use yggdrasil::{Buckets, Limit};
///
/// let buckets = Buckets::with_room_for(10_000);
/// let limit = Limit::per(100, Duration::from_secs(1), 20)?;
/// let now = 1_000_000_000;
/// let decision = buckets.try_consume(b"user 7", &limit, 15, now);
/// assert!(decision.is_allowed());
/// let denied = buckets.try_consume(b"user 7", &limit, 10, now);
/// assert_eq!((denied.remaining, denied.retry_after_ns), (5, 50_000_000));
/// # Ok::<(), yggdrasil::LimitError>(())
/// ```
#[derive(Debug)]
pub struct Buckets {
    slots: Box<[WideSlot]>,
    /// The first slot that begins a pair of cache lines.
    first: usize,
    /// Pairs of them.
    pairs: u64,
    /// For each pair the hints of its slots.
    hints: Box<[Hints]>,
    seed: Seed,
    crowded: Crowded,
    crowds: AtomicU64,
}

impl Buckets {
    /// A table for so many buckets that are not full at the same time; at least 12. When there are so
    /// many, about one in a million finds both of its places taken, which [`Crowded`] decides about: 5
    /// to 11 of ten million in three runs of the bench.
    #[must_use]
    pub fn with_room_for(buckets: usize) -> Self {
        // At five sevenths of the slots hardly a key in ten million finds both of its places full.
        let wanted = buckets.saturating_mul(7) / 5 + 1;
        let pairs = wanted.div_ceil(PART).max(2);
        let slots: Box<[WideSlot]> = (0..pairs * PART + PART - 1)
            .map(|_| WideSlot::default())
            .collect();
        let over = slots.as_ptr().addr() / size_of::<WideSlot>() % PART;
        Self {
            slots,
            first: (PART - over) % PART,
            pairs: pairs as u64,
            hints: (0..pairs).map(|_| Hints::default()).collect(),
            seed: Seed::random(),
            crowded: Crowded::default(),
            crowds: AtomicU64::new(0),
        }
    }

    /// The same with another answer to keys that find no room. Default: [`Crowded::Forget`].
    #[must_use]
    pub const fn when_crowded(mut self, crowded: Crowded) -> Self {
        self.crowded = crowded;
        self
    }

    /// The same with keys told apart by this hash, so that a bucket lies where it lay in an earlier
    /// table. Default: one at random.
    #[must_use]
    pub const fn with_seed(mut self, seed: Seed) -> Self {
        self.seed = seed;
        self
    }

    /// Has the memory of a bucket brought near, for whoever will ask for it a little later. Of a table
    /// that fits no cache a server that looks some requests ahead does so many times as many.
    #[inline]
    pub fn prefetch(&self, key: &[u8]) {
        self.prefetch_tag(self.tag(key));
    }

    /// The same for the bucket that `key` has under a policy.
    #[inline]
    pub fn prefetch_by(&self, policy: &Policy, key: &[u8]) {
        self.prefetch_tag(self.tag_by(policy, key));
    }

    #[inline]
    fn prefetch_tag(&self, tag: u64) {
        for pair in self.pairs_of(tag) {
            if let Some(hints) = self.hints.get(pair) {
                prefetch(std::ptr::from_ref(hints).addr());
            }
            let slots = self.pair(pair).as_ptr().addr();
            prefetch(slots);
            prefetch(slots + LINE_BYTES);
        }
    }

    /// Takes `cost` tokens of the bucket of `key`, all or none. A cost of 0 only looks; one above
    /// the burst is refused for ever.
    #[inline]
    pub fn try_consume(&self, key: &[u8], limit: &Limit, cost: u32, now: u64) -> Decision {
        self.take(self.tag(key), limit, cost, now).0
    }

    /// The same of the bucket that `key` has under a policy, which is another one under each policy
    /// and without any.
    #[inline]
    pub fn try_consume_by(&self, policy: &Policy, key: &[u8], cost: u32, now: u64) -> Decision {
        let tag = self.tag_by(policy, key);
        self.take(tag, policy.limit(), cost, now).0
    }

    /// Asks for many at once, in their order; see [`Together`] for what may be taken. There is an
    /// answer for each, with [`Together::AllOrNothing`] up to the one that was refused.
    ///
    /// ```
    /// use std::time::Duration;
    /// use yggdrasil::{Buckets, Limit, Together};
    ///
    /// let buckets = Buckets::with_room_for(100);
    /// let limit = Limit::per(1, Duration::from_secs(1), 10)?;
    /// let asks = [("user 7", limit, 4), ("team 2", limit, 4)];
    /// for goes in [true, true, false] {
    ///     let decisions = buckets.try_consume_many(&asks, Together::AllOrNothing, 0);
    ///     assert_eq!(decisions.iter().all(|one| one.is_allowed()), goes);
    /// }
    /// # Ok::<(), yggdrasil::LimitError>(())
    /// ```
    pub fn try_consume_many<K: AsRef<[u8]>>(
        &self,
        asks: &[(K, Limit, u32)],
        together: Together,
        now: u64,
    ) -> Vec<Decision> {
        many::consume(self, asks, together, now)
    }

    /// The answer, and whether a bucket remembers it.
    #[inline]
    pub(crate) fn take(&self, tag: u64, limit: &Limit, cost: u32, now: u64) -> (Decision, bool) {
        let ask = Ask {
            tag,
            now,
            floor: 0,
            limit,
            cost,
            crowded: self.crowded,
        };
        let pairs = self.pairs_of(tag);
        for pair in pairs {
            let hints = self.hints.get(pair).map_or(0, |hints| hints.matching(tag));
            for index in ones(hints) {
                if let Some(slot) = self.pair(pair).get(index)
                    && let Some(decision) = probe::consume_there(slot, &ask)
                {
                    return (decision, true);
                }
            }
        }
        self.consume_anywhere(pairs, &ask)
    }

    /// Looks at every slot of the key, and makes its bucket where it has none.
    fn consume_anywhere(&self, pairs: [usize; 2], ask: &Ask<'_>) -> (Decision, bool) {
        let slots = pairs.map(|pair| self.pair(pair));
        let asked = probe::consume(slots, ask, place::claim_name);
        if asked.met == Met::Crowd {
            self.crowds.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(index) = asked.index
            && let Some(pair) = pairs.get(index / PART)
            && let Some(hints) = self.hints.get(*pair)
        {
            hints.set(index % PART, ask.tag);
        }
        (asked.decision, asked.index.is_some())
    }

    /// When the bucket of `key` is full; `None` where it has none, which is full.
    #[must_use]
    pub fn full_at(&self, key: &[u8]) -> Option<u64> {
        let tag = self.tag(key);
        probe::full_at(self.places(tag), tag, 0)
    }

    /// Fills the bucket of `key`; whether it had one.
    pub fn reset(&self, key: &[u8]) -> bool {
        let tag = self.tag(key);
        probe::forget(self.places(tag), tag)
    }

    /// Fills the bucket that `key` has under a policy; whether it had one.
    pub fn reset_by(&self, policy: &Policy, key: &[u8]) -> bool {
        let tag = self.tag_by(policy, key);
        probe::forget(self.places(tag), tag)
    }

    /// How often a key found all of its slots in use.
    #[must_use]
    pub fn crowds(&self) -> u64 {
        self.crowds.load(Ordering::Relaxed)
    }

    /// Buckets that are not full at `now`. Looks at the whole table.
    #[must_use]
    pub fn live(&self, now: u64) -> usize {
        self.keep(now).count()
    }

    /// The hash that tells its keys apart.
    #[must_use]
    pub const fn seed(&self) -> &Seed {
        &self.seed
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = Wide> {
        self.slots.iter().map(Slot::load)
    }

    /// Bytes of the table.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.slots) + size_of_val(&*self.hints)
    }

    /// The slots in which the bucket of a key may lie.
    fn places(&self, tag: u64) -> Slots<'_, WideSlot> {
        self.pairs_of(tag).map(|pair| self.pair(pair))
    }

    /// The two different pairs of lines of a key.
    #[inline]
    fn pairs_of(&self, tag: u64) -> [usize; 2] {
        place::two_of(tag, self.pairs)
    }

    /// The slots of a pair of lines.
    #[inline]
    fn pair(&self, pair: usize) -> &[WideSlot] {
        let from = self.first + pair * PART;
        self.slots.get(from..from + PART).unwrap_or_default()
    }

    #[inline]
    fn tag(&self, key: &[u8]) -> u64 {
        self.seed.hash(key).max(1)
    }

    #[inline]
    fn tag_by(&self, policy: &Policy, key: &[u8]) -> u64 {
        self.seed.hash_by(policy.id(), key).max(1)
    }
}

impl Table for Buckets {
    type Limit = Limit;

    fn prefetch(&self, key: &[u8]) {
        self.prefetch(key);
    }

    fn take(&self, key: &[u8], limit: &Limit, cost: u32, now: u64) -> (Decision, bool) {
        self.take(self.tag(key), limit, cost, now)
    }

    fn give_back(&self, key: &[u8], limit: &Limit, cost: u32) {
        let tag = self.tag(key);
        // What was allowed is at most a whole bucket.
        let time = limit.emission_ns() * u64::from(cost);
        probe::give_back(self.places(tag), tag, 0, time);
    }
}

/// A byte for each slot of a pair: a part of the tag that was put there last. They say where to look
/// first; what they say may be old, and what they do not say is looked for.
#[derive(Debug, Default)]
struct Hints(AtomicU64);

impl Hints {
    /// Of a tag; never 0.
    #[inline]
    const fn byte(tag: u64) -> u64 {
        tag & 0x7f | 0x80
    }

    /// The highest bit of each byte that may be that of `tag`.
    #[inline]
    fn matching(&self, tag: u64) -> u64 {
        // Zero bytes are found by the borrow that they cause (Warren, Hacker's Delight 6-1); one
        // behind such a byte may be found too.
        let other = self.0.load(Ordering::Relaxed) ^ (Self::byte(tag) * ONES);
        other.wrapping_sub(ONES) & !other & (0x80 * ONES)
    }

    fn set(&self, index: usize, tag: u64) {
        let shift = 8 * index;
        let set = |hints: u64| Some(hints & !(0xff << shift) | Self::byte(tag) << shift);
        // Never fails: there is always a next value.
        let _ = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, set);
    }
}

/// 1 in every byte.
const ONES: u64 = 0x0101_0101_0101_0101;

/// The numbers of the bytes of which a bit is set.
#[inline]
fn ones(mut bits: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let index = (bits != 0).then(|| bits.trailing_zeros() as usize / 8)?;
        bits &= bits - 1;
        Some(index)
    })
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::limit::Outcome;

    const SECOND: u64 = 1_000_000_000;

    fn daily(burst: u32) -> Limit {
        Limit::new(86_400 * SECOND, burst).unwrap()
    }

    #[test]
    fn bucket_takes_less_than_twenty_four_bytes() {
        let buckets = Buckets::with_room_for(1_000_000);
        assert!(buckets.bytes() < 24 * 1_000_000, "{}", buckets.bytes());
    }

    #[test]
    fn places_of_a_key_are_two_whole_pairs_of_cache_lines() {
        for room in [1, 12, 13, 100, 5000] {
            let buckets = Buckets::with_room_for(room);
            for tag in (0..1000_u64).map(|tag| tag.wrapping_mul(0x0123_4567_89ab_cdef) | 1) {
                let [one, other] = buckets.places(tag);
                assert_eq!((one.len(), other.len()), (PART, PART));
                assert_eq!(
                    (one.as_ptr().addr() % 128, other.as_ptr().addr() % 128),
                    (0, 0)
                );
                assert_ne!(one.as_ptr(), other.as_ptr());
            }
        }
    }

    #[test]
    fn as_many_buckets_as_asked_for_find_room() {
        let buckets = Buckets::with_room_for(100_000);
        let limit = daily(1);
        for key in 0..100_000_u32 {
            let decision = buckets.try_consume(&key.to_le_bytes(), &limit, 1, SECOND);
            assert!(decision.is_allowed());
        }
        // 0.1 are to be expected, each for itself; more than 5 once in a billion runs.
        let crowds = buckets.crowds();
        assert!(crowds <= 5, "{crowds}");
        assert_eq!(buckets.live(SECOND) as u64 + crowds, 100_000);
    }

    #[test]
    fn full_buckets_make_room_without_a_loss() {
        let buckets = Buckets::with_room_for(12);
        let limit = Limit::new(SECOND, 1).unwrap();
        for key in 0..10_000_u64 {
            let now = (key + 1) * SECOND;
            let decision = buckets.try_consume(&key.to_le_bytes(), &limit, 1, now);
            assert!(decision.is_allowed());
        }
        assert_eq!(buckets.crowds(), 0);
    }

    #[test]
    fn crowd_is_answered_as_asked() {
        for (crowded, outcome) in [
            (Crowded::Forget, Outcome::Allowed),
            (Crowded::Allow, Outcome::Allowed),
            (Crowded::Deny, Outcome::Denied),
        ] {
            let buckets = Buckets::with_room_for(1).when_crowded(crowded);
            let limit = daily(1);
            let mut last = None;
            for key in 0..64_u32 {
                last = Some(buckets.try_consume(&key.to_le_bytes(), &limit, 1, SECOND));
            }
            let last = last.unwrap();
            assert_eq!(last.outcome, outcome, "{crowded:?}");
            assert_eq!(buckets.crowds(), 64 - 16);
            assert_eq!(buckets.live(SECOND), 16);
            if outcome == Outcome::Denied {
                assert_eq!(last.retry_after_ns, 86_400 * SECOND);
            }
        }
    }

    #[test]
    fn hints_find_their_bytes() {
        let hints = Hints::default();
        assert_eq!(hints.matching(0), 0);
        for (index, tag) in [(0, 5), (3, 9), (7, 5 + 128)] {
            hints.set(index, tag);
        }
        assert_eq!(ones(hints.matching(5)).collect::<Vec<_>>(), [0, 7]);
        assert_eq!(ones(hints.matching(9)).collect::<Vec<_>>(), [3]);
        assert_eq!(ones(hints.matching(6)).count(), 0);
    }

    #[test]
    fn reset_fills_the_bucket() {
        let buckets = Buckets::with_room_for(100);
        let limit = daily(2);
        assert!(!buckets.reset(b"k"));
        assert!(buckets.try_consume(b"k", &limit, 2, SECOND).is_allowed());
        assert_eq!(buckets.full_at(b"k"), Some(SECOND + limit.room_ns()));
        assert!(!buckets.try_consume(b"k", &limit, 1, SECOND).is_allowed());
        assert!(buckets.reset(b"k"));
        assert_eq!(buckets.full_at(b"k"), None);
        assert!(buckets.try_consume(b"k", &limit, 2, SECOND).is_allowed());
    }

    /// Many threads, few keys, a table that is always full of claims: no token too many, and none
    /// too few, since nothing is forgotten.
    #[test]
    fn threads_together_get_exactly_the_burst() {
        const KEYS: u32 = 8;
        const BURST: u32 = 1000;
        for _ in 0..20 {
            let buckets = Buckets::with_room_for(12);
            let limit = daily(BURST);
            let allowed: u32 = thread::scope(|scope| {
                let buckets = &buckets;
                let one = |_| {
                    scope.spawn(move || {
                        let mut allowed = 0;
                        for call in 0..KEYS * BURST {
                            let key = (call % KEYS).to_le_bytes();
                            let decision = buckets.try_consume(&key, &limit, 1, SECOND);
                            allowed += u32::from(decision.is_allowed());
                        }
                        allowed
                    })
                };
                let threads: Vec<_> = (0..4).map(one).collect();
                threads.into_iter().map(|one| one.join().unwrap()).sum()
            });
            assert_eq!(allowed, KEYS * BURST);
            assert_eq!(buckets.crowds(), 0);
        }
    }
}
