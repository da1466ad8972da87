//! What a chain does as a store.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use yggdrasil::{Decision, Limit, Outcome, Together, Transacted};

use super::chain::{Job, Repeat};
use super::{HybridStore, Result};
use crate::adapter::{
    Acquired, Caps, Condition, Increment, Leased, Lifetime, OpClass, Page, StoreAdapter,
    TokenRequest, USUAL_LIMIT, Value, Written,
};
use crate::error::StoreError;
use crate::events::StoreEvent;
use crate::store::Store;
use crate::transaction::Transaction;
use crate::usage::Use;
use crate::watch::Watch;

impl HybridStore {
    /// Writes down that a key is used; tells of what is worth it.
    fn saw(&self, what: Use, key: &[u8]) {
        let Some(told) = self.0.usage.saw(what, key, Instant::now()) else {
            return;
        };
        let unusual = told.unusual.map(StoreEvent::Unusual);
        let hot = told.hot.into_iter().map(StoreEvent::HotKey);
        unusual.into_iter().chain(hot).for_each(|event| {
            tracing::info!(?event, "keys are used much");
            self.0.events.say(event);
        });
    }

    /// Whether nobody is held up because no store can be asked.
    fn lets_in(&self, error: &StoreError) -> bool {
        error.applied().is_some() && self.0.config.limits_open
    }

    /// The limit that a store of the chain holds: all of it, or this process' share.
    fn share(&self, place: usize, store: &Store, limit: &Limit) -> Limit {
        let nodes = self.0.config.expected_nodes.max(1);
        if place == 0 || store.caps().shared || nodes == 1 {
            return *limit;
        }
        let emission_ns = limit.emission_ns().saturating_mul(u64::from(nodes));
        let burst = (limit.burst() / nodes).max(1);
        Limit::new(emission_ns, burst).unwrap_or(*limit)
    }
}

/// What is decided without any store.
fn unasked(limit: &Limit) -> Decision {
    Decision {
        outcome: Outcome::Allowed,
        remaining: 0,
        retry_after_ns: 0,
        reset_after_ns: limit.room_ns(),
    }
}

impl StoreAdapter for HybridStore {
    fn name(&self) -> &str {
        "hybrid"
    }

    fn caps(&self) -> Caps {
        self.0
            .chain
            .first()
            .map(|backend| backend.store.caps())
            .unwrap_or_default()
    }

    async fn read(&self, key: &[u8]) -> Result<Option<Value>> {
        self.saw(Use::Read, key);
        let read = |_, store: Store| async move { store.read(key).await };
        let job = Job::new("read", OpClass::Cache);
        self.run(job.reads(&[key]), read).await
    }

    async fn read_many(&self, keys: &[&[u8]]) -> Result<Vec<Option<Value>>> {
        keys.iter().for_each(|key| self.saw(Use::Read, key));
        let read = |_, store: Store| async move { store.read_many(keys).await };
        let job = Job::new("read_many", OpClass::Cache);
        self.run(job.reads(keys), read).await
    }

    async fn write(
        &self,
        key: &[u8],
        value: &[u8],
        lifetime: Lifetime,
        condition: Condition<'_>,
    ) -> Result<Written> {
        self.saw(Use::Write, key);
        let write =
            |_, store: Store| async move { store.write(key, value, lifetime, condition).await };
        let job = Job::new("write", condition.class());
        self.run(job.changes(&[key]), write).await
    }

    async fn remove(&self, key: &[u8], condition: Condition<'_>) -> Result<bool> {
        self.saw(Use::Write, key);
        let remove = |_, store: Store| async move { store.remove(key, condition).await };
        let job = Job::new("remove", condition.class());
        self.run(job.changes(&[key]), remove).await
    }

    async fn set_lifetime(&self, key: &[u8], lifetime: Lifetime) -> Result<bool> {
        let set = |_, store: Store| async move { store.set_lifetime(key, lifetime).await };
        let job = Job::new("set_lifetime", OpClass::Cache);
        self.run(job.changes(&[key]), set).await
    }

    async fn lifetime(&self, key: &[u8]) -> Result<Option<Option<Duration>>> {
        let ask = |_, store: Store| async move { store.lifetime(key).await };
        let job = Job::new("lifetime", OpClass::Cache);
        self.run(job.reads(&[key]), ask).await
    }

    /// Pages of different stores do not fit together, so a scan that has begun stays with the first
    /// store.
    async fn scan(&self, prefix: &[u8], from: Option<u64>) -> Result<Page> {
        let scan = |_, store: Store| async move { store.scan(prefix, from).await };
        self.run(Job::new("scan", OpClass::Coordination), scan)
            .await
    }

    async fn add(&self, key: &[u8], increment: &Increment) -> Result<(i64, i64)> {
        self.saw(Use::Count, key);
        let add = |_, store: Store| async move { store.add(key, increment).await };
        let job = Job::new("add", OpClass::RateLimit);
        self.run(job.repeat(Repeat::Counts), add).await
    }

    async fn consume(&self, key: &[u8], limit: &Limit, cost: u32) -> Result<Decision> {
        self.saw(Use::Consume, key);
        let consume = |place, store: Store| {
            let share = self.share(place, &store, limit);
            async move { store.consume(key, &share, cost).await }
        };
        let repeat = match cost {
            0 => Repeat::Harmless,
            _ => Repeat::Counts,
        };
        let job = Job::new("consume", OpClass::RateLimit).repeat(repeat);
        match self.run(job, consume).await {
            Err(error) if self.lets_in(&error) => Ok(unasked(limit)),
            decided => decided,
        }
    }

    async fn consume_many(
        &self,
        requests: &[TokenRequest<'_>],
        together: Together,
    ) -> Result<Vec<Decision>> {
        requests
            .iter()
            .for_each(|it| self.saw(Use::Consume, it.key));
        let consume = |place, store: Store| {
            let shares = requests.iter().map(|it| TokenRequest {
                limit: self.share(place, &store, &it.limit),
                ..*it
            });
            let shares: Vec<_> = shares.collect();
            async move { store.consume_many(&shares, together).await }
        };
        let repeat = match requests.iter().all(|it| it.cost == 0) {
            true => Repeat::Harmless,
            false => Repeat::Counts,
        };
        let job = Job::new("consume_many", OpClass::RateLimit).repeat(repeat);
        match self.run(job, consume).await {
            Err(error) if self.lets_in(&error) => {
                Ok(requests.iter().map(|it| unasked(&it.limit)).collect())
            }
            decided => decided,
        }
    }

    async fn transact(&self, transaction: &Transaction<'_>) -> Result<Transacted> {
        transaction
            .changed()
            .for_each(|key| self.saw(Use::Write, key));
        let class = transaction.class();
        let repeat = match class {
            OpClass::RateLimit => Repeat::Counts,
            OpClass::Cache | OpClass::Coordination => Repeat::Harmless,
        };
        let transact = |_, store: Store| async move { store.transact(transaction).await };
        let job = Job::new("transact", class).repeat(repeat);
        let keys: Vec<_> = transaction.keys().collect();
        let written: Vec<_> = transaction.written().collect();
        self.run(job.reads(&keys).changes(&written), transact).await
    }

    async fn lease(&self, key: &[u8], holder: &[u8], ttl: Duration) -> Result<Leased> {
        self.saw(Use::Lease, key);
        let lease = |_, store: Store| async move { store.lease(key, holder, ttl).await };
        self.run(Job::new("lease", OpClass::Coordination), lease)
            .await
    }

    async fn renew(&self, key: &[u8], fence: u64, ttl: Duration) -> Result<bool> {
        let renew = |_, store: Store| async move { store.renew(key, fence, ttl).await };
        self.run(Job::new("renew", OpClass::Coordination), renew)
            .await
    }

    async fn release(&self, key: &[u8], fence: u64) -> Result<bool> {
        let release = |_, store: Store| async move { store.release(key, fence).await };
        self.run(Job::new("release", OpClass::Coordination), release)
            .await
    }

    async fn acquire(
        &self,
        key: &[u8],
        holder: &[u8],
        places: u32,
        ttl: Duration,
    ) -> Result<Acquired> {
        self.saw(Use::Lease, key);
        let acquire =
            |_, store: Store| async move { store.acquire(key, holder, places, ttl).await };
        self.run(Job::new("acquire", OpClass::Coordination), acquire)
            .await
    }

    async fn give_back(&self, key: &[u8], holder: &[u8]) -> Result<bool> {
        let give_back = |_, store: Store| async move { store.give_back(key, holder).await };
        self.run(Job::new("give_back", OpClass::Coordination), give_back)
            .await
    }

    async fn ping(&self) -> Result<()> {
        let ping = |_, store: Store| async move { store.ping().await };
        self.run(Job::new("ping", OpClass::Cache), ping).await
    }

    /// That of the first store. Values may be other ones whenever another store is asked, so `Lost` comes
    /// then, and once more when the first is asked again.
    async fn watch(&self, prefix: &[u8]) -> Result<Watch> {
        let watch = |_, store: Store| async move { store.watch(prefix).await };
        let watch = self
            .run(Job::new("watch", OpClass::Coordination), watch)
            .await?;
        self.0.watchers.add(&watch);
        // It may have changed before the watch was among those that are told.
        if self.0.place.load(Ordering::Acquire) != 0 {
            self.tell_watchers();
        }
        Ok(watch)
    }

    fn usual_limit(&self) -> Limit {
        let first = self.0.chain.first();
        first.map_or(USUAL_LIMIT, |backend| backend.store.usual_limit())
    }
}
