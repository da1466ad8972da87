//! Any store.

use crate::forward::forward_adapter;
use crate::memory::MemoryStore;
use crate::migration::MigratingStore;
use crate::redis::RedisStore;

/// Any store. Clones share it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Store {
    /// In this process.
    Memory(MemoryStore),
    /// Redis, Valkey or Yggdrasil, over the network.
    Redis(RedisStore),
    /// Two stores, from one of which everything moves to the other.
    Migrating(MigratingStore),
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

impl From<MigratingStore> for Store {
    fn from(store: MigratingStore) -> Self {
        Self::Migrating(store)
    }
}

/// Hands a call to whichever it is.
macro_rules! each {
    ($self:ident, $store:ident => $call:expr) => {
        match $self {
            Self::Memory($store) => $call,
            Self::Redis($store) => $call,
            Self::Migrating($store) => $call,
        }
    };
}

forward_adapter!(Store, each);
