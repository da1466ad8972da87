//! A store that is not a migration itself.

use crate::error::StoreError;
use crate::forward::forward_adapter;
use crate::memory::MemoryStore;
use crate::redis::{Flavor, RedisStore};
use crate::store::Store;
use crate::valkyrie::ValkyrieStore;

/// One of the two stores of a migration.
#[derive(Debug, Clone)]
pub(super) enum Plain {
    Memory(MemoryStore),
    Redis(RedisStore),
    Valkyrie(ValkyrieStore),
}

impl TryFrom<Store> for Plain {
    type Error = StoreError;

    fn try_from(store: Store) -> Result<Self, StoreError> {
        match store {
            Store::Memory(store) => Ok(Self::Memory(store)),
            Store::Redis(store) => Ok(Self::Redis(store)),
            Store::Valkyrie(store) => Ok(Self::Valkyrie(store)),
            Store::Migrating(_) => Err(StoreError::Config(
                "a store that is being migrated cannot be part of another migration".to_owned(),
            )),
        }
    }
}

/// Hands a call to whichever it is.
macro_rules! each {
    ($self:ident, $store:ident => $call:expr) => {
        match $self {
            Self::Memory($store) => $call,
            Self::Redis($store) => $call,
            Self::Valkyrie($store) => $call,
        }
    };
}

impl Plain {
    /// The same store with values as it keeps them. Counters are values there, too, and would be none any
    /// more if they were encrypted.
    pub(super) fn as_stored(&self) -> Self {
        match self {
            Self::Memory(store) => Self::Memory(store.clone()),
            Self::Redis(store) => Self::Redis(store.as_stored()),
            Self::Valkyrie(store) => Self::Valkyrie(store.clone()),
        }
    }

    /// The server behind it, if there is one.
    pub(super) const fn server(&self) -> Option<&RedisStore> {
        match self {
            Self::Memory(_) | Self::Valkyrie(_) => None,
            Self::Redis(store) => Some(store),
        }
    }

    /// Whether token buckets are keys among others there.
    pub(super) async fn has_bucket_keys(&self) -> Result<bool, StoreError> {
        match self {
            Self::Memory(_) | Self::Valkyrie(_) => Ok(false),
            Self::Redis(store) => Ok(store.flavor().await? != Flavor::Yggdrasil),
        }
    }
}

forward_adapter!(Plain, each);
