//! A store for one go of work that may be done again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use yggdrasil::{Decision, Limit};

use crate::adapter::{
    Acquired, Caps, Condition, Increment, Leased, Lifetime, Page, StoreAdapter, Value, Written,
};
use crate::error::{Applied, StoreError};
use crate::store::Store;

type Result<T> = std::result::Result<T, StoreError>;

/// A store for one go of [`execute_with_fallback`](crate::HybridStore::execute_with_fallback), which remembers
/// whether anything may have been written.
#[derive(Debug, Clone)]
pub struct Attempt {
    store: Store,
    wrote: Arc<AtomicBool>,
}

impl Attempt {
    pub(crate) fn new(store: Store) -> Self {
        Self {
            store,
            wrote: Arc::default(),
        }
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
        self.store.read(key).await
    }

    async fn write(
        &self,
        key: &[u8],
        value: &[u8],
        lifetime: Lifetime,
        condition: Condition<'_>,
    ) -> Result<Written> {
        self.wrote(self.store.write(key, value, lifetime, condition).await)
    }

    async fn remove(&self, key: &[u8], condition: Condition<'_>) -> Result<bool> {
        self.wrote(self.store.remove(key, condition).await)
    }

    async fn set_lifetime(&self, key: &[u8], lifetime: Lifetime) -> Result<bool> {
        self.wrote(self.store.set_lifetime(key, lifetime).await)
    }

    async fn lifetime(&self, key: &[u8]) -> Result<Option<Option<Duration>>> {
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

    fn usual_limit(&self) -> Limit {
        self.store.usual_limit()
    }
}
