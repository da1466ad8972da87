//! What a store holds that another one has changed in its place.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::adapter::{Condition, StoreAdapter};
use crate::error::StoreError;
use crate::store::Store;

/// Most keys that are remembered. At 100 bytes a key they take some 15 MB.
const KEYS_MAX: usize = 100_000;

/// Keys whose values in a store are old, because another store was asked to change them. They are
/// removed before the store is asked for them again: a value that is missing is found anew, an old one
/// is believed.
#[derive(Debug, Default)]
pub(crate) struct Stale {
    keys: Mutex<HashSet<Bytes>>,
    /// How many there are, for those who only want to know that there are none.
    count: AtomicUsize,
    lost: AtomicU64,
    /// Held while keys are removed, so that none is removed that was written anew.
    removing: tokio::sync::Mutex<()>,
}

impl Stale {
    fn keys(&self) -> MutexGuard<'_, HashSet<Bytes>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Keys that were not remembered, because there were too many.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Another store has changed this key.
    pub(crate) fn add(&self, key: &[u8]) {
        let mut keys = self.keys();
        if keys.contains(key) {
            return;
        }
        if keys.len() >= KEYS_MAX {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        keys.insert(Bytes::copy_from_slice(key));
        self.count.store(keys.len(), Ordering::Release);
    }

    /// Removes a key that is old from the store, and from those that have changed it as far as they
    /// answer: it would be old there the next time.
    pub(crate) async fn remove(
        &self,
        key: &[u8],
        store: &Store,
        others: &[&Store],
    ) -> Result<(), StoreError> {
        if !self.keys().contains(key) {
            return Ok(());
        }
        let _removing = self.removing.lock().await;
        if !self.keys().contains(key) {
            return Ok(());
        }
        store.remove(key, Condition::Always).await?;
        for other in others {
            let _ = other.remove(key, Condition::Always).await;
        }
        let mut keys = self.keys();
        keys.remove(key);
        self.count.store(keys.len(), Ordering::Release);
        Ok(())
    }

    /// Some of the keys that are old; a set that was emptied takes long to be looked through.
    pub(crate) fn some(&self) -> Vec<Bytes> {
        self.keys().iter().take(256).cloned().collect()
    }
}
