//! Keys with values, for any thread.

mod blob;
mod change;
mod entry;
mod increment;
mod lease;
mod memory;
mod record;
mod shard;
mod table;
#[cfg(test)]
mod tests;
mod transaction;
mod wheel;
mod whereabouts;

use std::hash::{BuildHasher, RandomState};
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use blob::Blob;
pub use change::{Cause, Observer};
pub use entry::{Entry, Lease, Permit, Value};
pub use increment::{Beyond, IfEnd, Increment, Incremented};
pub use lease::{Acquired, Leased};
pub use memory::Eviction;
pub use record::{RECORD_OVERHEAD_BYTES, RecordError};
pub use shard::{Condition, Counts, Key, KeyError, Lifetime, Shard, Written};
pub use transaction::{STEPS_MAX, Step, Transacted};

use memory::Memory;
use whereabouts::Whereabouts;

/// Longest key in bytes.
pub const KEY_BYTES_MAX: usize = 64 << 10;
/// Longest value in bytes.
pub const VALUE_BYTES_MAX: usize = 512 << 20;

/// How a keyspace is made.
#[derive(Debug, Clone)]
pub struct KeyspaceConfig {
    /// Parts, each of which one thread uses at a time; rounded up to a power of two, 1 to 4096.
    /// Default: 256. A part that grows moves its keys at once, so more parts make shorter pauses.
    pub shards: usize,
    /// Bytes of keys, values and timers; 0 is without a limit, which is the default. Each part has its
    /// share of it.
    pub memory_bytes_max: usize,
    /// What happens when they are used up. Default: writes are refused.
    pub eviction: Eviction,
    /// Versions, and with them fencing numbers, are greater than this. Whoever forgets everything at
    /// a restart names the time in microseconds here, so that they still grow. Default: 0.
    pub first_version: u64,
}

impl Default for KeyspaceConfig {
    fn default() -> Self {
        Self {
            shards: 256,
            memory_bytes_max: 0,
            eviction: Eviction::Never,
            first_version: 0,
        }
    }
}

/// Keys with values in memory, for any thread: bytes and counters with an end, a version with each
/// change, leases with fencing numbers, limited places.
///
/// A key belongs to a [`Shard`] by its hash; a shard is used by one thread at a time, for well under a
/// microsecond. What has to be done to several keys at once is done while all of their shards are
/// [held](Self::hold). Times are milliseconds of any clock that all callers share.
///
/// ```
/// use yggdrasil::{Condition, Keyspace, KeyspaceConfig, Lifetime};
///
/// let keys = Keyspace::new(&KeyspaceConfig::default());
/// let (key, now_ms) = (keys.key(b"greeting"), 1000);
/// let end = Lifetime::Until(now_ms + 50);
/// keys.shard(key).set(key, b"hello", end, Condition::Absent, now_ms)?;
/// assert!(keys.shard(key).get(key, now_ms + 49).is_some());
/// assert!(keys.shard(key).get(key, now_ms + 50).is_none());
/// # Ok::<(), yggdrasil::KeyError>(())
/// ```
#[derive(Debug)]
pub struct Keyspace {
    shards: Box<[Line]>,
    /// How far a hash is shifted to be the number of a shard.
    shift: u32,
    hasher: RandomState,
}

/// Two cache lines, so that neighbours do not slow each other down.
#[derive(Debug)]
#[repr(align(128))]
struct Line {
    shard: Mutex<Shard>,
    /// Where entries are, for those who do not have the shard.
    whereabouts: Whereabouts,
}

impl Line {
    fn lock(&self) -> ShardGuard<'_> {
        // A panic in another thread is a bug there; each shard is left whole after each step.
        let shard = self.shard.lock().unwrap_or_else(PoisonError::into_inner);
        ShardGuard {
            shard,
            whereabouts: &self.whereabouts,
        }
    }
}

/// Bits of a hash that a cursor does not have. Shards begin at multiples of it: there are at most 4096.
const CURSOR_SHIFT: u32 = 18;

/// A shard that nobody else uses meanwhile.
#[derive(Debug)]
pub struct ShardGuard<'a> {
    shard: MutexGuard<'a, Shard>,
    whereabouts: &'a Whereabouts,
}

impl Deref for ShardGuard<'_> {
    type Target = Shard;

    #[inline]
    fn deref(&self) -> &Shard {
        &self.shard
    }
}

impl DerefMut for ShardGuard<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Shard {
        &mut self.shard
    }
}

impl Drop for ShardGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        self.whereabouts.update(&self.shard.table);
    }
}

impl Keyspace {
    /// An empty one.
    #[must_use]
    pub fn new(config: &KeyspaceConfig) -> Self {
        let shards = config.shards.clamp(1, 4096).next_power_of_two();
        let hasher = RandomState::new();
        let limit_bytes = match config.memory_bytes_max {
            0 => 0,
            bytes => (bytes / shards).max(1),
        };
        let shard = |_| {
            let memory = Memory::new(limit_bytes, config.eviction);
            let shard = Shard::new(hasher.clone(), config.first_version, memory);
            Line {
                shard: Mutex::new(shard),
                whereabouts: Whereabouts::default(),
            }
        };
        Self {
            shards: (0..shards).map(shard).collect(),
            shift: u64::BITS - shards.trailing_zeros(),
            hasher,
        }
    }

    /// The same keyspace with somebody who is [told](Self::observe) of all changes.
    #[must_use]
    pub fn with_observer(self, observer: &Arc<dyn Observer>) -> Self {
        self.observe(observer);
        self
    }

    /// Tells somebody of all changes from here on, after those who asked before. Each part of the
    /// keyspace is held for a moment, so whoever holds one must not call this.
    pub fn observe(&self, observer: &Arc<dyn Observer>) {
        for mut shard in self.shards() {
            shard.observers.push(Arc::clone(observer));
        }
    }

    /// Tells somebody nothing any more; the same parts are held as in [`observe`](Self::observe).
    pub fn stop_observing(&self, observer: &Arc<dyn Observer>) {
        for mut shard in self.shards() {
            shard.observers.retain(|one| !Arc::ptr_eq(one, observer));
        }
    }

    /// A key with its hash, for operations on its shard.
    #[must_use]
    #[inline]
    pub fn key<'a>(&self, bytes: &'a [u8]) -> Key<'a> {
        Key {
            bytes,
            hash: self.hasher.hash_one(bytes),
        }
    }

    /// Has what is kept of a key brought near, for whoever will ask for it a little later: memory takes
    /// longer than a hundred nanoseconds, and looks for many at once as fast as for one.
    #[inline]
    pub fn prefetch(&self, key: Key<'_>) {
        if let Some(line) = self.shards.get(self.number(key)) {
            line.whereabouts.prefetch(key.hash);
        }
    }

    /// The shard of a key; waits until nobody else uses it.
    #[inline]
    pub fn shard(&self, key: Key<'_>) -> ShardGuard<'_> {
        self.at(self.number(key))
    }

    /// All shards, one after the other.
    pub fn shards(&self) -> impl Iterator<Item = ShardGuard<'_>> {
        self.shards.iter().map(Line::lock)
    }

    /// Waits for the shards of all of these keys and holds them, so that nobody sees a change of one
    /// without those of the others.
    #[must_use]
    pub fn hold<'a>(&self, keys: impl IntoIterator<Item = Key<'a>>) -> Held<'_> {
        let mut numbers: Vec<usize> = keys.into_iter().map(|key| self.number(key)).collect();
        // Everyone takes them in this order, so nobody waits in a circle.
        numbers.sort_unstable();
        numbers.dedup();
        let shards = numbers.into_iter().map(|number| (number, self.at(number)));
        Held {
            keyspace: self,
            shards: shards.collect(),
        }
    }

    /// Holds all shards.
    #[must_use]
    pub fn hold_all(&self) -> Held<'_> {
        Held {
            keyspace: self,
            shards: (0..).zip(self.shards()).collect(),
        }
    }

    /// Number of keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards().map(|shard| shard.len()).sum()
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shards().all(|shard| shard.is_empty())
    }

    /// Bytes of all keys, values and timers.
    #[must_use]
    pub fn used_bytes(&self) -> usize {
        self.shards().map(|shard| shard.used_bytes()).sum()
    }

    /// Sums over all shards.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut sum = Counts::default();
        for shard in self.shards() {
            sum += shard.counts();
        }
        sum
    }

    /// Removes keys whose end has come. Nobody sees them before either; this gives their memory back.
    pub fn advance(&self, now_ms: u64) {
        for mut shard in self.shards() {
            shard.advance(now_ms);
        }
    }

    /// Removes all keys.
    pub fn clear(&self) {
        for mut shard in self.shards() {
            shard.clear();
        }
    }

    /// Calls `found` for the next keys in an order that never changes, at least `count` of them where
    /// so many are left, and says where to go on: 0 is both the beginning and the end, and all others are
    /// below 2^46, so that there is room for who else counts in the same number. A key that is there all
    /// the time is found exactly once.
    pub fn scan(
        &self,
        cursor: u64,
        count: usize,
        now_ms: u64,
        mut found: impl FnMut(&Entry),
    ) -> u64 {
        let (mut cursor, mut left) = (cursor << CURSOR_SHIFT, count.max(1));
        loop {
            let number = self.number_of(cursor);
            let shard = self.at(number);
            // The order is that of hashes. A pass over a shard finds some of them, so no more than
            // sixteen are made over each, however few keys are asked for at a time.
            let want = left.max(shard.len() / 16);
            let (seen, end) = self.pass(&shard, cursor, want, now_ms, &mut found);
            drop(shard);
            left = left.saturating_sub(seen);
            let next = match end {
                Some(next) => Some(next),
                None if number + 1 < self.shards.len() => Some((number as u64 + 1) << self.shift),
                None => None,
            };
            match next {
                None => return 0,
                Some(next) if left == 0 => return next >> CURSOR_SHIFT,
                Some(next) => cursor = next,
            }
        }
    }

    /// The first `want` entries of a shard from a hash on; how many were live, and the hash behind the
    /// last where there are more.
    fn pass(
        &self,
        shard: &Shard,
        from: u64,
        want: usize,
        now_ms: u64,
        found: &mut impl FnMut(&Entry),
    ) -> (usize, Option<u64>) {
        let hash = |entry: &Entry| self.hasher.hash_one(entry.key());
        let entries = shard.entries().map(|entry| (hash(entry), entry));
        let mut entries: Vec<_> = entries.filter(|(hash, _)| *hash >= from).collect();
        let mut end = None;
        if entries.len() > want {
            let (_, (last, _), _) = entries.select_nth_unstable_by_key(want - 1, |(hash, _)| *hash);
            // Keys whose hashes begin with the same bits belong together.
            let last = *last | ((1 << CURSOR_SHIFT) - 1);
            entries.retain(|(hash, _)| *hash <= last);
            end = last.checked_add(1);
        }
        let live = entries.iter().filter(|(_, entry)| !entry.is_over(now_ms));
        let mut seen = 0;
        for (_, entry) in live {
            found(entry);
            seen += 1;
        }
        (seen, end)
    }

    /// Takes an entry that an earlier life wrote down.
    pub fn restore(&self, entry: Entry) {
        let hash = self.hasher.hash_one(entry.key());
        self.at(self.number_of(hash)).restore(entry, hash);
    }

    /// Takes a removal that an earlier life wrote down; it counts where nothing newer is there.
    pub fn restore_removal(&self, key: &[u8], version: u64) {
        let key = self.key(key);
        let mut shard = self.shard(key);
        shard.raise_version(version);
        if shard
            .peek(key, 0)
            .is_some_and(|entry| entry.version() < version)
        {
            shard.take(key);
        }
    }

    /// Every version from here on is greater than any so far, also where keys belong to other shards
    /// than in the life that wrote them down.
    pub fn level_versions(&self) {
        let newest = self.shards().map(|shard| shard.version()).max();
        for mut shard in self.shards() {
            shard.raise_version(newest.unwrap_or(0));
        }
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "numbers are hashes shifted by as many bits as there are shards"
    )]
    fn at(&self, number: usize) -> ShardGuard<'_> {
        self.shards[number].lock()
    }

    #[inline]
    fn number(&self, key: Key<'_>) -> usize {
        self.number_of(key.hash)
    }

    #[inline]
    fn number_of(&self, hash: u64) -> usize {
        // With one shard all bits are shifted away.
        hash.checked_shr(self.shift).unwrap_or(0) as usize
    }
}

/// The shards of several keys, for a change of all at once.
#[derive(Debug)]
pub struct Held<'a> {
    keyspace: &'a Keyspace,
    /// By number.
    shards: Vec<(usize, ShardGuard<'a>)>,
}

impl Held<'_> {
    /// The shard of a key; `None` where it is not held.
    #[inline]
    pub fn shard(&mut self, key: Key<'_>) -> Option<&mut Shard> {
        let number = self.keyspace.number(key);
        let found = self
            .shards
            .binary_search_by_key(&number, |(number, _)| *number);
        let (_, shard) = self.shards.get_mut(found.ok()?)?;
        Some(shard)
    }

    /// All that are held.
    pub fn shards(&mut self) -> impl Iterator<Item = &mut Shard> {
        self.shards.iter_mut().map(|(_, shard)| &mut **shard)
    }
}
