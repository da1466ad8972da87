//! Any store.

use crate::error::StoreError;
use crate::forward::forward_adapter;
use crate::memory::MemoryStore;
use crate::migration::MigratingStore;
use crate::redis::{RedisConfig, RedisStore, Topology};
use crate::valkyrie::{ValkyrieConfig, ValkyrieStore};

/// Any store. Clones share it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Store {
    /// In this process.
    Memory(MemoryStore),
    /// Redis, Valkey or Yggdrasil, over the network.
    Redis(RedisStore),
    /// Yggdrasil over Valkyrie.
    Valkyrie(ValkyrieStore),
    /// Two stores, from one of which everything moves to the other.
    Migrating(MigratingStore),
}

impl Store {
    /// The store behind a URL: Yggdrasil over Valkyrie where it begins with `valkyrie+`, else
    /// [`RedisStore`]. Connections are made when they are needed.
    ///
    /// # Errors
    /// [`Config`](StoreError::Config) where a setting is none, or none of such a store.
    pub fn open(config: &RedisConfig) -> Result<Self, StoreError> {
        if !config.url.starts_with("valkyrie+") {
            return RedisStore::new(config).map(Self::from);
        }
        let is_more = config.tls.is_some() || config.codec.is_some();
        if is_more || config.topology == Topology::Cluster {
            let (name, url) = (&config.name, &config.url);
            return Err(StoreError::Config(format!(
                "{name}: {url} is reached over Valkyrie, where there is no TLS, no cluster, and no \
                 compression or encryption of values"
            )));
        }
        ValkyrieStore::new(&ValkyrieConfig {
            name: config.name.clone(),
            url: config.url.clone(),
            username: config.username.clone(),
            password: config.password.clone(),
            password_from: config.password_from.clone(),
            connections: config.connections,
            retries: config.retries,
            connect_timeout: config.connect_timeout,
            timeout: config.timeout,
            usual_limit: config.usual_limit,
            ..ValkyrieConfig::default()
        })
        .map(Self::from)
    }
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

impl From<ValkyrieStore> for Store {
    fn from(store: ValkyrieStore) -> Self {
        Self::Valkyrie(store)
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
            Self::Valkyrie($store) => $call,
            Self::Migrating($store) => $call,
        }
    };
}

forward_adapter!(Store, each);
