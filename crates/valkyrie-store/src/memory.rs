//! A store in this process.

mod watch;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use yggdrasil::{
    Buckets, Decision, Entry, IfEnd, Keyspace, KeyspaceConfig, Limit, Together, Transacted,
    Written as W,
};

use crate::adapter::{
    Acquired, Caps, Condition, Increment, Leased, Lifetime, Page, StoreAdapter, TokenRequest,
    Value, Written,
};
use crate::error::StoreError;
use crate::transaction::{Action, Transaction};
use crate::watch::Watch;

/// Token buckets of a store that nobody set up otherwise: 24 bytes each.
const BUCKETS: usize = 100_000;
/// Keys of a page.
const PAGE: usize = 100;

/// A store in this process: `yggdrasil` without a server. Clones share it. Everything is gone with the
/// process.
#[derive(Clone)]
pub struct MemoryStore(Arc<Inner>);

struct Inner {
    keys: Keyspace,
    buckets: Buckets,
    began: Instant,
    began_ns: u64,
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// With room for 100,000 buckets and any number of keys.
    #[must_use]
    pub fn new() -> Self {
        Self::with(KeyspaceConfig::default(), BUCKETS)
    }

    /// With these settings, and room for so many buckets that are not full.
    #[must_use]
    pub fn with(mut keys: KeyspaceConfig, buckets: usize) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let began_ns = since.map_or(0, |since| since.as_nanos() as u64);
        // Fencing numbers grow over restarts although nothing is remembered.
        keys.first_version = keys.first_version.max(began_ns / 1000);
        Self(Arc::new(Inner {
            keys: Keyspace::new(&keys),
            buckets: Buckets::with_room_for(buckets),
            began: Instant::now(),
            began_ns,
        }))
    }

    /// Takes tokens of a bucket, all or none, at once.
    #[inline]
    pub fn consume_now(&self, key: &[u8], limit: &Limit, cost: u32) -> Decision {
        self.0.buckets.try_consume(key, limit, cost, self.now_ns())
    }

    /// Removes what has ended. Nobody sees it before either; this gives its memory back.
    pub fn sweep(&self) {
        self.0.keys.advance(self.now_ms());
    }

    fn now_ns(&self) -> u64 {
        self.0.began_ns + self.0.began.elapsed().as_nanos() as u64
    }

    fn now_ms(&self) -> u64 {
        self.now_ns() / 1_000_000
    }

    /// When something ends that stays for so long, rounded up.
    fn until(&self, ttl: Duration) -> u64 {
        let ms = u64::try_from(ttl.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        self.now_ms().saturating_add(ms)
    }

    fn end(&self, lifetime: Lifetime) -> yggdrasil::Lifetime {
        match lifetime {
            Lifetime::Unlimited => yggdrasil::Lifetime::Unlimited,
            Lifetime::Keep => yggdrasil::Lifetime::Keep,
            Lifetime::For(ttl) => yggdrasil::Lifetime::Until(self.until(ttl)),
        }
    }

    fn step<'a>(&self, action: Action<'a>) -> yggdrasil::Step<'a> {
        match action {
            Action::Check(when) => yggdrasil::Step::Check(condition(when)),
            Action::Set(value, lifetime) => yggdrasil::Step::Set(value, self.end(lifetime)),
            Action::Remove => yggdrasil::Step::Remove,
            Action::Add(by) => yggdrasil::Step::Add(by),
        }
    }

    fn left(&self, until_ms: u64) -> Duration {
        Duration::from_millis(until_ms.saturating_sub(self.now_ms()))
    }
}

const NAME: &str = "memory";

fn error(error: yggdrasil::KeyError) -> StoreError {
    let store = NAME.to_owned();
    match error {
        yggdrasil::KeyError::WrongType => StoreError::WrongType { store },
        other => StoreError::Rejected {
            store,
            cause: other.to_string(),
        },
    }
}

const fn condition(condition: Condition<'_>) -> yggdrasil::Condition<'_> {
    match condition {
        Condition::Always => yggdrasil::Condition::Always,
        Condition::Absent => yggdrasil::Condition::Absent,
        Condition::Present => yggdrasil::Condition::Present,
        Condition::Equals(bytes) => yggdrasil::Condition::Equals(bytes),
        Condition::Version(version) => yggdrasil::Condition::Version(version),
    }
}

fn value(entry: &Entry) -> Result<Value, StoreError> {
    let bytes = match entry.value() {
        yggdrasil::Value::Bytes(bytes) => Bytes::copy_from_slice(bytes.as_slice()),
        yggdrasil::Value::Integer(value) => Bytes::from(value.to_string()),
        _ => return Err(error(yggdrasil::KeyError::WrongType)),
    };
    Ok(Value {
        bytes,
        version: Some(entry.version()),
    })
}

impl StoreAdapter for MemoryStore {
    fn name(&self) -> &str {
        NAME
    }

    fn caps(&self) -> Caps {
        Caps {
            versions: true,
            nanoseconds: true,
            shared: false,
            encoded: false,
            watch: true,
        }
    }

    async fn read(&self, key: &[u8]) -> Result<Option<Value>, StoreError> {
        let key = self.0.keys.key(key);
        let mut shard = self.0.keys.shard(key);
        shard.get(key, self.now_ms()).map(value).transpose()
    }

    async fn write(
        &self,
        key: &[u8],
        value: &[u8],
        lifetime: Lifetime,
        when: Condition<'_>,
    ) -> Result<Written, StoreError> {
        let key = self.0.keys.key(key);
        let end = self.end(lifetime);
        let mut shard = self.0.keys.shard(key);
        let written = shard.set(key, value, end, condition(when), self.now_ms());
        Ok(match written.map_err(error)? {
            W::Done(version) => Written::Done(Some(version)),
            W::Refused(_) => Written::Refused,
        })
    }

    async fn remove(&self, key: &[u8], when: Condition<'_>) -> Result<bool, StoreError> {
        let key = self.0.keys.key(key);
        let mut shard = self.0.keys.shard(key);
        Ok(shard.remove(key, condition(when), self.now_ms()).is_some())
    }

    async fn set_lifetime(&self, key: &[u8], lifetime: Lifetime) -> Result<bool, StoreError> {
        let key = self.0.keys.key(key);
        let end_ms = match lifetime {
            Lifetime::Unlimited => None,
            Lifetime::For(ttl) => Some(self.until(ttl)),
            Lifetime::Keep => {
                let shard = self.0.keys.shard(key);
                return Ok(shard.peek(key, self.now_ms()).is_some());
            }
        };
        let mut shard = self.0.keys.shard(key);
        Ok(shard.set_end(key, end_ms, self.now_ms()))
    }

    async fn lifetime(&self, key: &[u8]) -> Result<Option<Option<Duration>>, StoreError> {
        let key = self.0.keys.key(key);
        let shard = self.0.keys.shard(key);
        let end_ms = shard.peek(key, self.now_ms()).map(Entry::end_ms);
        Ok(end_ms.map(|end_ms| end_ms.map(|end_ms| self.left(end_ms))))
    }

    async fn scan(&self, prefix: &[u8], from: Option<u64>) -> Result<Page, StoreError> {
        let mut keys = Vec::new();
        let next = self
            .0
            .keys
            .scan(from.unwrap_or(0), PAGE, self.now_ms(), |entry| {
                if entry.key().starts_with(prefix) {
                    keys.push(Bytes::copy_from_slice(entry.key()));
                }
            });
        let next = (next != 0).then_some(next);
        Ok(Page { keys, next })
    }

    async fn add(&self, key: &[u8], increment: &Increment) -> Result<(i64, i64), StoreError> {
        let key = self.0.keys.key(key);
        let (min, max) = increment.bounds.unwrap_or((i64::MIN, i64::MAX));
        let lifetime = match increment.ttl {
            None => yggdrasil::Lifetime::Keep,
            Some(ttl) => yggdrasil::Lifetime::Until(self.until(ttl)),
        };
        let increment = yggdrasil::Increment {
            by: increment.by,
            min,
            max,
            beyond: increment.beyond,
            lifetime,
            end: IfEnd::Leave,
        };
        let mut shard = self.0.keys.shard(key);
        let done = shard.increment(key, &increment, self.now_ms());
        done.map(|done| (done.value, done.applied)).map_err(error)
    }

    async fn consume(&self, key: &[u8], limit: &Limit, cost: u32) -> Result<Decision, StoreError> {
        Ok(self.consume_now(key, limit, cost))
    }

    async fn consume_many(
        &self,
        requests: &[TokenRequest<'_>],
        together: Together,
    ) -> Result<Vec<Decision>, StoreError> {
        let asks: Vec<_> = requests
            .iter()
            .map(|it| (it.key, it.limit, it.cost))
            .collect();
        let buckets = &self.0.buckets;
        Ok(buckets.try_consume_many(&asks, together, self.now_ns()))
    }

    async fn transact(&self, transaction: &Transaction<'_>) -> Result<Transacted, StoreError> {
        transaction.is_sound(NAME)?;
        let steps = transaction.steps().iter();
        let steps = steps.map(|step| (self.0.keys.key(step.key), self.step(step.action)));
        let steps: Vec<_> = steps.collect();
        self.0.keys.transact(&steps, self.now_ms()).map_err(error)
    }

    async fn lease(&self, key: &[u8], holder: &[u8], ttl: Duration) -> Result<Leased, StoreError> {
        let key = self.0.keys.key(key);
        let until = self.until(ttl);
        let mut shard = self.0.keys.shard(key);
        let leased = shard.lease(key, holder, until, self.now_ms());
        Ok(match leased.map_err(error)? {
            yggdrasil::Leased::Held { fence } => Leased::Held { fence },
            yggdrasil::Leased::Taken { until_ms } => Leased::Taken {
                for_at_most: self.left(until_ms),
            },
        })
    }

    async fn renew(&self, key: &[u8], fence: u64, ttl: Duration) -> Result<bool, StoreError> {
        let key = self.0.keys.key(key);
        let until = self.until(ttl);
        let mut shard = self.0.keys.shard(key);
        shard.renew(key, fence, until, self.now_ms()).map_err(error)
    }

    async fn release(&self, key: &[u8], fence: u64) -> Result<bool, StoreError> {
        let key = self.0.keys.key(key);
        let mut shard = self.0.keys.shard(key);
        shard.release(key, fence, self.now_ms()).map_err(error)
    }

    async fn acquire(
        &self,
        key: &[u8],
        holder: &[u8],
        places: u32,
        ttl: Duration,
    ) -> Result<Acquired, StoreError> {
        let key = self.0.keys.key(key);
        let until = self.until(ttl);
        let mut shard = self.0.keys.shard(key);
        let acquired = shard.acquire(key, holder, places, until, self.now_ms());
        Ok(match acquired.map_err(error)? {
            yggdrasil::Acquired::Held { held } => Acquired::Held { held },
            yggdrasil::Acquired::Full { until_ms } => Acquired::Full {
                retry_after: (until_ms != u64::MAX).then(|| self.left(until_ms)),
            },
        })
    }

    async fn give_back(&self, key: &[u8], holder: &[u8]) -> Result<bool, StoreError> {
        let key = self.0.keys.key(key);
        let mut shard = self.0.keys.shard(key);
        shard.give_back(key, holder, self.now_ms()).map_err(error)
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn watch(&self, prefix: &[u8]) -> Result<Watch, StoreError> {
        Ok(self.watch_keys(prefix))
    }
}
