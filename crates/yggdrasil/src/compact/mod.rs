//! Buckets of 8 bytes.
//!
//! A bucket is the low 40 bits of a microsecond. Which microsecond is meant says the *floor* of the
//! table: the first one behind it with these bits. That is the right one as long as no bucket is full
//! before the floor or a whole horizon (2^40 us) after it:
//! - nobody asks with a time before the floor (such a time counts as the floor), so no bucket becomes
//!   full before it;
//! - limits fill a bucket within half of the horizon, and nobody asks later than three eighths of it
//!   behind the floor: before that the floor is moved. An eighth is left for who is interrupted between
//!   looking at the floor and using it;
//! - the floor is moved to an eighth of the horizon before now, after all buckets that were full before
//!   that are forgotten, which is no loss.

mod limit;
mod slot;
#[cfg(test)]
mod tests;

pub use limit::CompactLimit;
#[cfg(test)]
pub(crate) use slot::Narrow;

use std::sync::atomic::{AtomicU64, Ordering};

use self::slot::{HORIZON_US, NarrowSlot, tag_of};
use crate::limit::Decision;
use crate::many::{self, Table, Together};
use crate::place;
use crate::policy::Policy;
use crate::prefetch::prefetch;
use crate::probe::{self, Ask, Crowded, Met, Slots};
use crate::seed::Seed;
use crate::slot::{Entry, Slot};

/// Slots of a set: a cache line.
const WAYS: usize = 8;
const NS_PER_US: u64 = 1000;
/// How far the floor is behind the time at which it is moved.
const LAG_US: u64 = HORIZON_US / 8;
/// How far it may be behind.
const LATE_US: u64 = 3 * HORIZON_US / 8;
/// The floor of a table that nobody has asked yet; no time in microseconds is as great.
const NO_FLOOR: u64 = 1 << 63;

/// Token buckets of 8 bytes, half the size of those of [`Buckets`](crate::Buckets), used by any thread
/// without a lock.
///
/// What is given up for that:
/// - Time is in whole microseconds, and a limit may take 6.3 days to fill a bucket; see
///   [`CompactLimit`].
/// - Keys are told apart by where they lie and 24 bits of a keyed hash. A key that is new shares the
///   bucket of another one with a chance of 1 in 16.8 million for each of the at most 16 buckets that
///   are in use where it may lie: 7 in ten million in a table as full as it was made for, 9.5 at most.
/// - About once in three days the whole table is looked at; see [`sweep`](Self::sweep).
///
/// Each key may lie in two sets of eight slots, a cache line each. A table for `n` buckets has room for
/// two fifths more, 11.2 bytes for each of the `n`. Filled to the last slot, 8 bytes for each key, it
/// forgets four of a hundred.
///
/// ```
/// use std::time::Duration;
/// use yggdrasil::{CompactBuckets, CompactLimit};
///
/// let buckets = CompactBuckets::with_room_for(10_000);
/// let limit = CompactLimit::per(100, Duration::from_secs(1), 20)?;
/// let now = 1_000_000_000;
/// assert!(buckets.try_consume(b"user 7", &limit, 15, now).is_allowed());
/// let denied = buckets.try_consume(b"user 7", &limit, 10, now);
/// assert_eq!((denied.remaining, denied.retry_after_ns), (5, 50_000_000));
/// # Ok::<(), yggdrasil::LimitError>(())
/// ```
#[derive(Debug)]
pub struct CompactBuckets {
    sets: Box<[Set]>,
    /// The first microsecond that a bucket may mean.
    floor: AtomicU64,
    seed: Seed,
    crowded: Crowded,
    crowds: AtomicU64,
    evicted: AtomicU64,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Set([NarrowSlot; WAYS]);

impl CompactBuckets {
    /// A table for so many buckets that are not full at the same time; at least 12.
    #[must_use]
    pub fn with_room_for(buckets: usize) -> Self {
        // At five sevenths of the slots hardly a key in ten million finds both of its sets full.
        let sets = (buckets.saturating_mul(7) / 5 + 1).div_ceil(WAYS).max(2);
        Self {
            sets: (0..sets).map(|_| Set::default()).collect(),
            floor: AtomicU64::new(NO_FLOOR),
            seed: Seed::random(),
            crowded: Crowded::default(),
            crowds: AtomicU64::new(0),
            evicted: AtomicU64::new(0),
        }
    }

    /// The same with another answer to keys that find no room. Default: [`Crowded::Forget`].
    #[must_use]
    pub const fn when_crowded(mut self, crowded: Crowded) -> Self {
        self.crowded = crowded;
        self
    }

    /// The same with keys told apart by this hash. Default: one at random.
    #[must_use]
    pub const fn with_seed(mut self, seed: Seed) -> Self {
        self.seed = seed;
        self
    }

    /// Has the memory of a bucket brought near, for whoever will ask for it a little later.
    #[inline]
    pub fn prefetch(&self, key: &[u8]) {
        for set in self.sets_of(self.seed.hash(key)) {
            prefetch(set.as_ptr().addr());
        }
    }

    /// Takes `cost` tokens of the bucket of `key`, all or none. A cost of 0 only looks; one above
    /// the burst is refused for ever. `now` is in nanoseconds, of which whole microseconds count.
    #[inline]
    pub fn try_consume(&self, key: &[u8], limit: &CompactLimit, cost: u32, now: u64) -> Decision {
        self.take(self.seed.hash(key), limit, cost, now).0
    }

    /// The same of the bucket that `key` has under a policy, which is another one under each policy
    /// and without any. The limit is `limit`, not that of the policy.
    #[inline]
    pub fn try_consume_by(
        &self,
        policy: &Policy,
        key: &[u8],
        limit: &CompactLimit,
        cost: u32,
        now: u64,
    ) -> Decision {
        let hash = self.seed.hash_by(policy.id(), key);
        self.take(hash, limit, cost, now).0
    }

    /// Asks for many at once, in their order; see [`Together`] for what may be taken. There is an
    /// answer for each, with [`Together::AllOrNothing`] up to the one that was refused.
    pub fn try_consume_many<K: AsRef<[u8]>>(
        &self,
        asks: &[(K, CompactLimit, u32)],
        together: Together,
        now: u64,
    ) -> Vec<Decision> {
        many::consume(self, asks, together, now)
    }

    /// Forgets buckets that were full 1.6 days before `now`, which is no loss, so that the times of
    /// others stay clear for another 3.2 days. Looks at the whole table. A call that comes later than
    /// that after the last one does it before anything else, so who sweeps once a day has no call that
    /// takes so long.
    pub fn sweep(&self, now: u64) {
        let (now, floor) = self.times(now / NS_PER_US);
        if now - floor > LAG_US {
            self.move_floor(floor, now);
        }
    }

    /// When the bucket of `key` is full, in nanoseconds; `None` where it has none, which is full.
    #[must_use]
    pub fn full_at(&self, key: &[u8]) -> Option<u64> {
        let hash = self.seed.hash(key);
        let floor = self.floor();
        let full_at = probe::full_at(self.sets_of(hash), tag_of(hash), floor);
        full_at.map(|full_at| full_at.saturating_mul(NS_PER_US))
    }

    /// Fills the bucket of `key`; whether it had one.
    pub fn reset(&self, key: &[u8]) -> bool {
        let hash = self.seed.hash(key);
        probe::forget(self.sets_of(hash), tag_of(hash))
    }

    /// How often a key found all of its slots in use.
    #[must_use]
    pub fn crowds(&self) -> u64 {
        self.crowds.load(Ordering::Relaxed)
    }

    /// Buckets that were forgotten before they were full, for such keys.
    #[must_use]
    pub fn evicted_live(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    /// Buckets that are not full at `now`. Looks at the whole table.
    #[must_use]
    pub fn live(&self, now: u64) -> usize {
        let (now, floor) = self.times(now / NS_PER_US);
        let entries = self.slots().map(Slot::load);
        let live = entries.filter(|it| !it.is_free() && it.full_at(floor) > now);
        live.count()
    }

    /// Bytes of the table.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.sets)
    }

    /// The answer, and whether a bucket remembers it.
    #[inline]
    fn take(&self, hash: u64, limit: &CompactLimit, cost: u32, now: u64) -> (Decision, bool) {
        let (now, floor) = self.times(now / NS_PER_US);
        let ask = Ask {
            tag: tag_of(hash),
            now,
            floor,
            limit: limit.in_us(),
            cost,
            crowded: self.crowded,
        };
        let sets = self.sets_of(hash);
        for slot in sets.into_iter().flatten() {
            if let Some(decision) = probe::consume_there(slot, &ask) {
                return (in_ns(decision), true);
            }
        }
        self.consume_anywhere(sets, &ask)
    }

    /// Looks at every slot of the key, and makes its bucket where it has none.
    fn consume_anywhere(&self, sets: Slots<'_, NarrowSlot>, ask: &Ask<'_>) -> (Decision, bool) {
        let asked = probe::consume(sets, ask, place::claim_name);
        let is_remembered = asked.index.is_some();
        if asked.met == Met::Crowd {
            self.crowds.fetch_add(1, Ordering::Relaxed);
            // Who is remembered all the same has the place of another one.
            self.evicted
                .fetch_add(u64::from(is_remembered), Ordering::Relaxed);
        }
        (in_ns(asked.decision), is_remembered)
    }

    /// The sets of a key, one of the first half and one of the second. Claims do not say whose they are,
    /// so of two in the same sets all have to see the same one first; and where both are equally full,
    /// the first is taken, which fills tables more evenly than either (Vöcking, How Asymmetry Helps Load
    /// Balancing, 1999).
    #[inline]
    fn sets_of(&self, hash: u64) -> Slots<'_, NarrowSlot> {
        let (first, second) = self.sets.split_at(self.sets.len() / 2);
        let [one, other] = place::shares(hash, [first.len() as u64, second.len() as u64]);
        [first.get(one), second.get(other)].map(|set| match set {
            Some(set) => set.0.as_slice(),
            None => &[],
        })
    }

    fn slots(&self) -> impl Iterator<Item = &NarrowSlot> {
        self.sets.iter().flat_map(|set| &set.0)
    }

    fn floor(&self) -> u64 {
        match self.floor.load(Ordering::SeqCst) {
            NO_FLOOR => 0,
            floor => floor,
        }
    }

    /// A time that is not before the floor nor too far behind it, and the floor.
    #[inline]
    fn times(&self, now: u64) -> (u64, u64) {
        let floor = self.floor.load(Ordering::SeqCst);
        match now.wrapping_sub(floor) <= LATE_US {
            true => (now, floor),
            false => self.settle(now, floor),
        }
    }

    #[cold]
    fn settle(&self, now: u64, mut floor: u64) -> (u64, u64) {
        loop {
            floor = match floor {
                NO_FLOOR => self.set_floor(NO_FLOOR, now.saturating_sub(LAG_US)),
                _ if now < floor => return (floor, floor),
                _ if now - floor <= LATE_US => return (now, floor),
                _ => self.move_floor(floor, now),
            };
        }
    }

    /// Gives the floor that there is then.
    fn set_floor(&self, from: u64, to: u64) -> u64 {
        let set = self
            .floor
            .compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst);
        set.map_or_else(|there| there, |_| to)
    }

    /// Forgets what was full before the floor that belongs to `now`, and moves the floor there, unless
    /// somebody else did. Gives the floor that there is then.
    fn move_floor(&self, floor: u64, now: u64) -> u64 {
        let next = now - LAG_US;
        for slot in self.slots() {
            let mut seen = slot.load();
            while !seen.is_free() && seen.full_at(floor) < next {
                // With another floor it may be a later time.
                match self.floor.load(Ordering::SeqCst) {
                    same if same == floor => {}
                    moved => return moved,
                }
                match slot.swap(seen, Entry::EMPTY) {
                    Ok(()) => break,
                    Err(now) => seen = now,
                }
            }
        }
        self.set_floor(floor, next)
    }
}

impl Table for CompactBuckets {
    type Limit = CompactLimit;

    fn prefetch(&self, key: &[u8]) {
        self.prefetch(key);
    }

    fn take(&self, key: &[u8], limit: &CompactLimit, cost: u32, now: u64) -> (Decision, bool) {
        self.take(self.seed.hash(key), limit, cost, now)
    }

    fn give_back(&self, key: &[u8], limit: &CompactLimit, cost: u32) {
        let hash = self.seed.hash(key);
        // What was allowed is at most a whole bucket.
        let time = limit.emission_us() * u64::from(cost);
        probe::give_back(self.sets_of(hash), tag_of(hash), self.floor(), time);
    }
}

/// Of an answer in microseconds.
#[inline]
const fn in_ns(decision: Decision) -> Decision {
    Decision {
        retry_after_ns: decision.retry_after_ns.saturating_mul(NS_PER_US),
        reset_after_ns: decision.reset_after_ns.saturating_mul(NS_PER_US),
        ..decision
    }
}
