//! Any store.

use std::time::Duration;

use yggdrasil::{Decision, Limit};

use crate::adapter::{
    Acquired, Caps, Condition, Increment, Leased, Lifetime, Page, StoreAdapter, Value, Written,
};
use crate::error::StoreError;
use crate::memory::MemoryStore;
use crate::redis::RedisStore;

/// Any store. Clones share it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Store {
    /// In this process.
    Memory(MemoryStore),
    /// Redis, Valkey or Yggdrasil, over the network.
    Redis(RedisStore),
}

impl From<MemoryStore> for Store {
    fn from(store: MemoryStore) -> Self {
        Self::Memory(store)
    }
}

impl From<RedisStore> for Store {
    fn from(store: RedisStore) -> Self {
        Self::Redis(store)
    }
}

/// Hands a call to whichever it is.
macro_rules! each {
    ($self:ident, $store:ident => $call:expr) => {
        match $self {
            Self::Memory($store) => $call,
            Self::Redis($store) => $call,
        }
    };
}

type Result<T> = std::result::Result<T, StoreError>;

impl StoreAdapter for Store {
    fn name(&self) -> &str {
        each!(self, store => store.name())
    }

    fn caps(&self) -> Caps {
        each!(self, store => store.caps())
    }

    async fn read(&self, key: &[u8]) -> Result<Option<Value>> {
        each!(self, store => store.read(key).await)
    }

    async fn write(
        &self,
        key: &[u8],
        value: &[u8],
        lifetime: Lifetime,
        condition: Condition<'_>,
    ) -> Result<Written> {
        each!(self, store => store.write(key, value, lifetime, condition).await)
    }

    async fn remove(&self, key: &[u8], condition: Condition<'_>) -> Result<bool> {
        each!(self, store => store.remove(key, condition).await)
    }

    async fn set_lifetime(&self, key: &[u8], lifetime: Lifetime) -> Result<bool> {
        each!(self, store => store.set_lifetime(key, lifetime).await)
    }

    async fn lifetime(&self, key: &[u8]) -> Result<Option<Option<Duration>>> {
        each!(self, store => store.lifetime(key).await)
    }

    async fn scan(&self, prefix: &[u8], from: Option<u64>) -> Result<Page> {
        each!(self, store => store.scan(prefix, from).await)
    }

    async fn add(&self, key: &[u8], increment: &Increment) -> Result<(i64, i64)> {
        each!(self, store => store.add(key, increment).await)
    }

    async fn consume(&self, key: &[u8], limit: &Limit, cost: u32) -> Result<Decision> {
        each!(self, store => store.consume(key, limit, cost).await)
    }

    async fn lease(&self, key: &[u8], holder: &[u8], ttl: Duration) -> Result<Leased> {
        each!(self, store => store.lease(key, holder, ttl).await)
    }

    async fn renew(&self, key: &[u8], fence: u64, ttl: Duration) -> Result<bool> {
        each!(self, store => store.renew(key, fence, ttl).await)
    }

    async fn release(&self, key: &[u8], fence: u64) -> Result<bool> {
        each!(self, store => store.release(key, fence).await)
    }

    async fn acquire(
        &self,
        key: &[u8],
        holder: &[u8],
        places: u32,
        ttl: Duration,
    ) -> Result<Acquired> {
        each!(self, store => store.acquire(key, holder, places, ttl).await)
    }

    async fn give_back(&self, key: &[u8], holder: &[u8]) -> Result<bool> {
        each!(self, store => store.give_back(key, holder).await)
    }

    async fn ping(&self) -> Result<()> {
        each!(self, store => store.ping().await)
    }

    fn usual_limit(&self) -> Limit {
        each!(self, store => store.usual_limit())
    }
}
