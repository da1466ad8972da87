//! A store for one go of work that may be done again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use yggdrasil::{Decision, Limit, Together, Transacted};

use crate::adapter::{
    Acquired, Caps, Condition, Increment, Leased, Lifetime, Page, StoreAdapter, TokenRequest,
    Value, Written,
};
use crate::error::{Applied, StoreError};
use crate::hybrid::HybridStore;
use crate::store::Store;
use crate::transaction::Transaction;
use crate::watch::Watch;

type Result<T> = std::result::Result<T, StoreError>;

/// A store for one go of [`execute_with_fallback`](crate::HybridStore::execute_with_fallback), which remembers
/// whether anything may have been written.
#[derive(Debug, Clone)]
pub struct Attempt {
    store: Store,
    wrote: Arc<AtomicBool>,
    /// The chain of the store, and its place there.
    chain: HybridStore,
    place: usize,
}

impl Attempt {
    pub(crate) fn new(chain: HybridStore, place: usize, store: Store) -> Self {
        Self {
            store,
            wrote: Arc::default(),
            chain,
            place,
        }
    }

    /// Has the store forget what it has of these keys, if that is old.
    async fn forget(&self, keys: &[&[u8]]) -> Result<()> {
        self.chain.forget(self.place, &[keys]).await
    }

    /// What came of a change of these keys.
    fn changed<T>(&self, keys: &[&[u8]], result: Result<T>) -> Result<T> {
        if result.is_ok() {
            self.chain.changed(self.place, keys);
        }
        self.wrote(result)
    }

    /// Whether anything may have been written.
    pub(crate) fn writes(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.wrote)
    }

    /// What came of an operation that writes.
    fn wrote<T>(&self, result: Result<T>) -> Result<T> {
        let may_have = match &result {
            Ok(_) => true,
            Err(error) => error.applied() == Some(Applied::Unknown),
        };
        if may_have {
            self.wrote.store(true, Ordering::Release);
        }
        result
    }
}

impl StoreAdapter for Attempt {
    fn name(&self) -> &str {
        self.store.name()
    }

    fn caps(&self) -> Caps {
        self.store.caps()
    }

    async fn read(&self, key: &[u8]) -> Result<Option<Value>> {
        self.forget(&[key]).await?;
        self.store.read(key).await
    }

    async fn read_many(&self, keys: &[&[u8]]) -> Result<Vec<Option<Value>>> {
        self.forget(keys).await?;
        self.store.read_many(keys).await
    }

    async fn write(
        &self,
        key: &[u8],
        value: &[u8],
        lifetime: Lifetime,
        condition: Condition<'_>,
    ) -> Result<Written> {
        self.forget(&[key]).await?;
        let written = self.store.write(key, value, lifetime, condition).await;
        self.changed(&[key], written)
    }

    async fn remove(&self, key: &[u8], condition: Condition<'_>) -> Result<bool> {
        self.forget(&[key]).await?;
        let removed = self.store.remove(key, condition).await;
        self.changed(&[key], removed)
    }

    async fn set_lifetime(&self, key: &[u8], lifetime: Lifetime) -> Result<bool> {
        self.forget(&[key]).await?;
        let set = self.store.set_lifetime(key, lifetime).await;
        self.changed(&[key], set)
    }

    async fn lifetime(&self, key: &[u8]) -> Result<Option<Option<Duration>>> {
        self.forget(&[key]).await?;
        self.store.lifetime(key).await
    }

    async fn scan(&self, prefix: &[u8], from: Option<u64>) -> Result<Page> {
        self.store.scan(prefix, from).await
    }

    async fn add(&self, key: &[u8], increment: &Increment) -> Result<(i64, i64)> {
        self.wrote(self.store.add(key, increment).await)
    }

    async fn consume(&self, key: &[u8], limit: &Limit, cost: u32) -> Result<Decision> {
        self.wrote(self.store.consume(key, limit, cost).await)
    }

    async fn consume_many(
        &self,
        requests: &[TokenRequest<'_>],
        together: Together,
    ) -> Result<Vec<Decision>> {
        self.wrote(self.store.consume_many(requests, together).await)
    }

    async fn transact(&self, transaction: &Transaction<'_>) -> Result<Transacted> {
        let keys: Vec<_> = transaction.keys().collect();
        self.forget(&keys).await?;
        let done = self.store.transact(transaction).await;
        let written: Vec<_> = transaction.written().collect();
        self.changed(&written, done)
    }

    async fn lease(&self, key: &[u8], holder: &[u8], ttl: Duration) -> Result<Leased> {
        self.wrote(self.store.lease(key, holder, ttl).await)
    }

    async fn renew(&self, key: &[u8], fence: u64, ttl: Duration) -> Result<bool> {
        self.wrote(self.store.renew(key, fence, ttl).await)
    }

    async fn release(&self, key: &[u8], fence: u64) -> Result<bool> {
        self.wrote(self.store.release(key, fence).await)
    }

    async fn acquire(
        &self,
        key: &[u8],
        holder: &[u8],
        places: u32,
        ttl: Duration,
    ) -> Result<Acquired> {
        self.wrote(self.store.acquire(key, holder, places, ttl).await)
    }

    async fn give_back(&self, key: &[u8], holder: &[u8]) -> Result<bool> {
        self.wrote(self.store.give_back(key, holder).await)
    }

    async fn ping(&self) -> Result<()> {
        self.store.ping().await
    }

    async fn watch(&self, prefix: &[u8]) -> Result<Watch> {
        self.store.watch(prefix).await
    }

    fn usual_limit(&self) -> Limit {
        self.store.usual_limit()
    }
}
