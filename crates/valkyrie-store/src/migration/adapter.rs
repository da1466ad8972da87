//! Operations while everything moves.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use yggdrasil::{Decision, Limit, Together, Transacted};

use super::behind::Work;
use super::compare::{compare, show};
use super::member::Access;
use super::phase::{MigrationState, Mirror, Phase, Side};
use super::plain::Plain;
use super::{Inner, MigratingStore};
use crate::adapter::{
    Acquired, Caps, Condition, Increment, Leased, Lifetime, Page, StoreAdapter, TokenRequest,
    Value, Written,
};
use crate::error::{Applied, StoreError};
use crate::events::StoreEvent;
use crate::transaction::{Action, Step, Transaction};
use crate::watch::Watch;

type Result<T> = std::result::Result<T, StoreError>;

/// Tries to copy a key before the answer.
const TRIES: usize = 3;

/// A change that may have been made and is not copied. When it is dropped, it is copied later.
struct Change<'a> {
    inner: &'a Arc<Inner>,
    state: Arc<MigrationState>,
    key: &'a [u8],
    is_open: bool,
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        if self.is_open && self.state.phase.mirror() != Mirror::Not {
            let late = 2 * self.inner.config.fresh;
            self.inner.behind.push_late(self.key, late);
        }
    }
}

impl Change<'_> {
    /// What has to happen after the store that counts has answered.
    async fn end<T>(mut self, result: Result<T>) -> Result<T> {
        match &result {
            // It may be done late, which leaving it open takes care of.
            Err(error) if error.applied() == Some(Applied::Unknown) => return result,
            Err(_) => self.is_open = false,
            Ok(_) => self.copy().await,
        }
        result
    }

    async fn copy(&mut self) {
        match self.state.phase.mirror() {
            Mirror::Not => {}
            Mirror::Behind => self.later(),
            Mirror::Along => self.now().await,
        }
        self.is_open = false;
    }

    fn later(&self) {
        let key = Bytes::copy_from_slice(self.key);
        self.inner.behind.push(Work::Key(key));
    }

    async fn now(&self) {
        let from = self.state.phase.primary();
        let mut tries = 0;
        loop {
            let Err(error) = self.inner.pair(from).copy(self.key).await else {
                return self.inner.tallies.copied();
            };
            self.inner.tallies.failed();
            tries += 1;
            if tries == TRIES {
                self.later();
                let key = show(self.key);
                let cause = format!("'{key}' cannot be copied: {error}");
                return self.inner.step_back(cause);
            }
        }
    }
}

impl MigratingStore {
    /// Changes a key of the store that counts, and then that of the other one.
    async fn change<T, F: Future<Output = Result<T>>>(
        &self,
        key: &[u8],
        operation: impl FnOnce(Plain) -> F,
    ) -> Result<T> {
        let state = self.inner.view(Access::Change).await?;
        let store = self.inner.side(state.phase.primary()).clone();
        let change = Change {
            inner: &self.inner,
            state,
            key,
            is_open: true,
        };
        let result = operation(store).await;
        change.end(result).await
    }

    /// The same for keys that change together. The other store gets them one after the other.
    async fn change_all<T, F: Future<Output = Result<T>>>(
        &self,
        keys: &[&[u8]],
        operation: impl FnOnce(Plain) -> F,
    ) -> Result<T> {
        let state = self.inner.view(Access::Change).await?;
        let store = self.inner.side(state.phase.primary()).clone();
        let changes = keys.iter().map(|key| Change {
            inner: &self.inner,
            state: Arc::clone(&state),
            key,
            is_open: true,
        });
        let changes: Vec<_> = changes.collect();
        let result = operation(store).await;
        for change in changes {
            let result = result.as_ref().map(drop).map_err(Clone::clone);
            // It is the same as that of all.
            let _ = change.end(result).await;
        }
        result
    }

    /// Has the other store take as much of a bucket.
    fn taken(&self, state: &MigrationState, request: &TokenRequest<'_>, decision: &Decision) {
        let &TokenRequest { key, limit, cost } = request;
        let is_taken = cost > 0 && decision.is_allowed();
        if is_taken && state.phase.mirror() != Mirror::Not {
            let key = Bytes::copy_from_slice(key);
            self.inner.behind.push(match self.inner.has_bucket_keys() {
                true => Work::Bucket(key),
                false => Work::Consume { key, limit, cost },
            });
        }
    }

    /// Looks at a key of the store that is read.
    async fn ask<T, F: Future<Output = Result<T>>>(
        &self,
        key: &[u8],
        operation: impl Fn(Plain) -> F,
    ) -> Result<T> {
        let inner = &self.inner;
        let state = inner.view(Access::Read).await?;
        let (reads, primary) = (state.phase.reads(), state.phase.primary());
        if reads == primary {
            return operation(inner.side(primary).clone()).await;
        }
        if inner.behind.has(key) {
            inner.tallies.read_old();
            return operation(inner.side(primary).clone()).await;
        }
        let result = operation(inner.side(reads).clone()).await;
        if let Err(error) = &result
            && error.applied().is_some()
        {
            inner.tallies.read_old();
            inner.step_back(format!("the new store does not answer: {error}"));
            return operation(inner.side(primary).clone()).await;
        }
        self.sample(&state, key);
        result
    }

    /// Compares some of the keys that are read.
    fn sample(&self, state: &Arc<MigrationState>, key: &[u8]) {
        let inner = &self.inner;
        if !state.phase.rolls_back_by_itself() || !inner.tallies.is_turn(inner.config.sample) {
            return;
        }
        let (inner, key) = (Arc::clone(inner), Bytes::copy_from_slice(key));
        tokio::spawn(async move {
            // One that does not answer is noticed by whoever reads it.
            if let Ok(mismatch) = compare(inner.pair(Side::Old), &key).await {
                inner.tallies.compared(mismatch);
                if let Some(mismatch) = mismatch {
                    let (kind, key) = (mismatch.name(), show(&key));
                    inner.events.say(StoreEvent::MigrationMismatch {
                        migration: inner.config.name.clone(),
                        key: key.clone(),
                        mismatch,
                    });
                    inner.step_back(format!("'{key}' differs ({kind}) in the new store"));
                }
            }
        });
    }

    /// Leases and places: one store gives them, and none while they move.
    async fn coordinate<T, F: Future<Output = Result<T>>>(
        &self,
        ttl: Option<Duration>,
        operation: impl FnOnce(Plain) -> F,
    ) -> Result<T> {
        let inner = &self.inner;
        let max = inner.config.lease_max;
        if ttl.is_some_and(|ttl| ttl > max) {
            return Err(StoreError::Rejected {
                store: inner.name.clone(),
                cause: format!("leases last {max:?} at most while stores are migrated"),
            });
        }
        let state = inner.view(Access::Read).await?;
        if ttl.is_some() && !state.phase.leases() {
            return Err(StoreError::Unavailable {
                store: inner.name.clone(),
                cause: format!("leases move to another store, which takes about {max:?}"),
                applied: Applied::No,
            });
        }
        operation(inner.side(state.phase.primary()).clone()).await
    }
}

impl StoreAdapter for MigratingStore {
    fn name(&self) -> &str {
        &self.inner.name
    }

    fn caps(&self) -> Caps {
        let (old, new) = (self.inner.old.caps(), self.inner.new.caps());
        Caps {
            // They are not the same in both stores.
            versions: false,
            nanoseconds: old.nanoseconds && new.nanoseconds,
            shared: old.shared && new.shared,
            encoded: old.encoded || new.encoded,
            watch: old.watch && new.watch,
        }
    }

    async fn read(&self, key: &[u8]) -> Result<Option<Value>> {
        let read = |store: Plain| async move { store.read(key).await };
        let value = self.ask(key, read).await?;
        Ok(value.map(|value| Value {
            version: None,
            ..value
        }))
    }

    async fn write(
        &self,
        key: &[u8],
        value: &[u8],
        lifetime: Lifetime,
        condition: Condition<'_>,
    ) -> Result<Written> {
        if let Condition::Version(_) = condition {
            return self.no_versions();
        }
        let write =
            |store: Plain| async move { store.write(key, value, lifetime, condition).await };
        Ok(match self.change(key, write).await? {
            Written::Done(_) => Written::Done(None),
            Written::Refused => Written::Refused,
        })
    }

    async fn remove(&self, key: &[u8], condition: Condition<'_>) -> Result<bool> {
        if let Condition::Version(_) = condition {
            return self.no_versions();
        }
        let remove = |store: Plain| async move { store.remove(key, condition).await };
        self.change(key, remove).await
    }

    async fn set_lifetime(&self, key: &[u8], lifetime: Lifetime) -> Result<bool> {
        let set = |store: Plain| async move { store.set_lifetime(key, lifetime).await };
        self.change(key, set).await
    }

    async fn lifetime(&self, key: &[u8]) -> Result<Option<Option<Duration>>> {
        let ask = |store: Plain| async move { store.lifetime(key).await };
        self.ask(key, ask).await
    }

    async fn scan(&self, prefix: &[u8], from: Option<u64>) -> Result<Page> {
        let state = self.inner.view(Access::Read).await?;
        // Places of pages mean something in their own store only: those of the new one are odd. No store
        // uses the highest bit.
        let (side, begin) = match (state.phase.primary(), from) {
            (side, None) => (side, None),
            (Side::Old, Some(from)) if from % 2 == 0 => (Side::Old, Some(from / 2)),
            (Side::New, Some(from)) if from % 2 == 1 => (Side::New, Some(from / 2)),
            (side, Some(_)) => (side, None),
        };
        let mut page = self.inner.side(side).scan(prefix, begin).await?;
        page.keys.retain(|key| !self.inner.registry.owns(key));
        let odd = u64::from(side == Side::New);
        page.next = page.next.map(|next| next << 1 | odd);
        Ok(page)
    }

    async fn add(&self, key: &[u8], increment: &Increment) -> Result<(i64, i64)> {
        let add = |store: Plain| async move { store.add(key, increment).await };
        self.change(key, add).await
    }

    async fn consume(&self, key: &[u8], limit: &Limit, cost: u32) -> Result<Decision> {
        let state = self.inner.view(Access::Change).await?;
        let primary = state.phase.primary();
        let decision = self.inner.side(primary).consume(key, limit, cost).await?;
        let limit = *limit;
        self.taken(&state, &TokenRequest { key, limit, cost }, &decision);
        Ok(decision)
    }

    async fn consume_many(
        &self,
        requests: &[TokenRequest<'_>],
        together: Together,
    ) -> Result<Vec<Decision>> {
        let state = self.inner.view(Access::Change).await?;
        let store = self.inner.side(state.phase.primary());
        let decisions = store.consume_many(requests, together).await?;
        let is_refused = |it: &Decision| !it.is_allowed();
        if together == Together::Each || !decisions.iter().any(is_refused) {
            for (request, decision) in requests.iter().zip(&decisions) {
                self.taken(&state, request, decision);
            }
        }
        Ok(decisions)
    }

    async fn transact(&self, transaction: &Transaction<'_>) -> Result<Transacted> {
        let is_version =
            |step: &Step<'_>| matches!(step.action, Action::Check(Condition::Version(_)));
        if transaction.steps().iter().any(is_version) {
            return self.no_versions();
        }
        let keys: Vec<&[u8]> = transaction.changed().collect();
        let transact = |store: Plain| async move { store.transact(transaction).await };
        self.change_all(&keys, transact).await
    }

    async fn lease(&self, key: &[u8], holder: &[u8], ttl: Duration) -> Result<Leased> {
        let lease = |store: Plain| async move { store.lease(key, holder, ttl).await };
        self.coordinate(Some(ttl), lease).await
    }

    async fn renew(&self, key: &[u8], fence: u64, ttl: Duration) -> Result<bool> {
        let renew = |store: Plain| async move { store.renew(key, fence, ttl).await };
        self.coordinate(Some(ttl), renew).await
    }

    async fn release(&self, key: &[u8], fence: u64) -> Result<bool> {
        let release = |store: Plain| async move { store.release(key, fence).await };
        self.coordinate(None, release).await
    }

    async fn acquire(
        &self,
        key: &[u8],
        holder: &[u8],
        places: u32,
        ttl: Duration,
    ) -> Result<Acquired> {
        let acquire = |store: Plain| async move { store.acquire(key, holder, places, ttl).await };
        self.coordinate(Some(ttl), acquire).await
    }

    async fn give_back(&self, key: &[u8], holder: &[u8]) -> Result<bool> {
        let give_back = |store: Plain| async move { store.give_back(key, holder).await };
        self.coordinate(None, give_back).await
    }

    async fn ping(&self) -> Result<()> {
        let phase = self.state().phase;
        self.inner.side(phase.primary()).ping().await
    }

    /// That of the store that is read; it moves with the phase, which is told as `Lost`.
    async fn watch(&self, prefix: &[u8]) -> Result<Watch> {
        self.watch_keys(prefix).await
    }

    fn usual_limit(&self) -> Limit {
        self.inner.old.usual_limit()
    }
}

impl MigratingStore {
    fn no_versions<T>(&self) -> Result<T> {
        Err(StoreError::Unsupported {
            store: self.inner.name.clone(),
            what: "versions",
        })
    }

    /// Whether the old store decides and the new one is out of it.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        matches!(self.state().phase, Phase::Off | Phase::RolledBack)
    }
}
