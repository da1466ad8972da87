//! The way of an operation along the chain.

use std::pin::Pin;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::{Backend, HybridStore, Result};
use crate::adapter::{OpClass, StoreAdapter};
use crate::attempt::Attempt;
use crate::breaker::BreakerState;
use crate::error::{Applied, StoreError};
use crate::events::StoreEvent;
use crate::spans::Recording;
use crate::store::Store;

/// Whether an operation that may have been done may be done once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// It comes to the same.
    Harmless,
    /// It would count twice.
    Counts,
}

/// What an operation is to a chain of stores.
#[derive(Debug, Clone, Copy)]
pub(super) struct Job<'a> {
    /// In spans.
    name: &'static str,
    class: OpClass,
    repeat: Repeat,
    /// Keys whose values it reads.
    reads: &'a [&'a [u8]],
    /// Keys whose values it changes.
    changes: &'a [&'a [u8]],
}

impl<'a> Job<'a> {
    /// One that may be repeated and looks at nothing.
    pub(super) const fn new(name: &'static str, class: OpClass) -> Self {
        Self {
            name,
            class,
            repeat: Repeat::Harmless,
            reads: &[],
            changes: &[],
        }
    }

    pub(super) const fn repeat(self, repeat: Repeat) -> Self {
        Self { repeat, ..self }
    }

    pub(super) const fn reads(self, reads: &'a [&'a [u8]]) -> Self {
        Self { reads, ..self }
    }

    pub(super) const fn changes(self, changes: &'a [&'a [u8]]) -> Self {
        Self { changes, ..self }
    }
}

impl HybridStore {
    /// Does several operations on one store. They are done again, from the beginning, on the next one
    /// only where the one that failed was certainly not applied and none before it wrote anything.
    ///
    /// # Errors
    /// That of the operations.
    pub async fn execute_with_fallback<T>(
        &self,
        mut work: impl FnMut(Attempt) -> Pin<Box<dyn Future<Output = Result<T>> + Send>>,
    ) -> Result<T> {
        let mut recording = self.0.recorder.begin("execute");
        let mut last = None;
        for (place, backend) in self.0.chain.iter().enumerate() {
            if !backend.breaker.allows(Instant::now()) {
                let error = last.get_or_insert_with(|| backend.left_alone());
                if let Some(recording) = recording.as_mut() {
                    recording.failed(backend.store.name(), error);
                }
                continue;
            }
            let attempt = Attempt::new(self.clone(), place, backend.store.clone());
            let wrote = attempt.writes();
            match work(attempt).await {
                Ok(value) => {
                    self.answered(place, backend, recording.as_mut());
                    return Ok(value);
                }
                Err(error) => {
                    self.failed(backend, &error, recording.as_mut());
                    if !error.is_not_applied() || wrote.load(Ordering::Acquire) {
                        return Err(error);
                    }
                    last = Some(error);
                }
            }
        }
        Err(last.unwrap_or_else(|| StoreError::Config("a chain of stores has none".to_owned())))
    }

    /// Does an operation on the first store that may and can.
    pub(super) async fn run<T, F: Future<Output = Result<T>>>(
        &self,
        job: Job<'_>,
        operation: impl Fn(usize, Store) -> F,
    ) -> Result<T> {
        let mut recording = self.0.recorder.begin(job.name);
        let may_fall_back = job.class != OpClass::Coordination;
        let stores = if may_fall_back { usize::MAX } else { 1 };
        let mut last = None;
        for (place, backend) in self.0.chain.iter().enumerate().take(stores) {
            if !backend.breaker.allows(Instant::now()) {
                let error = last.get_or_insert_with(|| backend.left_alone());
                if let Some(recording) = recording.as_mut() {
                    recording.failed(backend.store.name(), error);
                }
                continue;
            }
            let done = match self.forget(place, &[job.reads, job.changes]).await {
                Ok(()) => operation(place, backend.store.clone()).await,
                Err(error) => Err(error),
            };
            match done {
                Ok(value) => {
                    self.answered(place, backend, recording.as_mut());
                    self.changed(place, job.changes);
                    return Ok(value);
                }
                Err(error) => {
                    self.failed(backend, &error, recording.as_mut());
                    let elsewhere = match error.applied() {
                        Some(Applied::No) => true,
                        Some(Applied::Unknown) => job.repeat == Repeat::Harmless,
                        None => false,
                    };
                    if !elsewhere {
                        return Err(error);
                    }
                    last = Some(error);
                }
            }
        }
        Err(last.unwrap_or_else(|| StoreError::Config("a chain of stores has none".to_owned())))
    }

    fn answered(&self, place: usize, backend: &Backend, recording: Option<&mut Recording>) {
        self.trusted(backend);
        if backend.stale.len() > 0 {
            self.clean(place);
        }
        backend.answered.fetch_add(1, Ordering::Relaxed);
        let store = backend.store.name();
        if let Some(recording) = recording {
            recording.answered(store, place);
        }
        if place > 0 {
            self.0.fell_back.fetch_add(1, Ordering::Relaxed);
        }
        if self.0.place.load(Ordering::Relaxed) == place
            || self.0.place.swap(place, Ordering::AcqRel) == place
        {
            return;
        }
        self.tell_watchers();
        if place > 0 {
            let first = self.0.chain.first().map(|first| first.store.name());
            self.0.events.say(StoreEvent::FellBack {
                from: first.unwrap_or_default().to_owned(),
                to: store.to_owned(),
            });
        }
    }

    /// Has a store that is back forget everything that others have changed in its place, while
    /// operations go on.
    fn clean(&self, place: usize) {
        let (Some(backend), Ok(runtime)) = (
            self.0.chain.get(place),
            tokio::runtime::Handle::try_current(),
        ) else {
            return;
        };
        if backend.breaker.state() != BreakerState::Closed
            || backend.is_cleaned.swap(true, Ordering::AcqRel)
        {
            return;
        }
        let this = self.clone();
        runtime.spawn(async move {
            let Some(backend) = this.0.chain.get(place) else {
                return;
            };
            loop {
                let keys = backend.stale.some();
                let names: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
                if names.is_empty() || this.forget(place, &[&names]).await.is_err() {
                    break;
                }
            }
            backend.is_cleaned.store(false, Ordering::Release);
        });
    }

    /// Has a store forget what others have changed of these keys in its place. That is no part of an
    /// operation yet.
    pub(crate) async fn forget(&self, place: usize, keys: &[&[&[u8]]]) -> Result<()> {
        let mut chain = self.0.chain.iter().skip(place);
        let Some(backend) = chain.next().filter(|backend| backend.stale.len() > 0) else {
            return Ok(());
        };
        let others = chain.filter(|other| other.breaker.state() == BreakerState::Closed);
        let others: Vec<&Store> = others.map(|other| &other.store).collect();
        for keys in keys {
            for key in *keys {
                let removed = backend.stale.remove(key, &backend.store, &others).await;
                removed.map_err(StoreError::but_not_applied)?;
            }
        }
        Ok(())
    }

    /// A store has changed these keys; those before it do not know.
    pub(crate) fn changed(&self, place: usize, keys: &[&[u8]]) {
        for before in self.0.chain.iter().take(place) {
            keys.iter().for_each(|key| before.stale.add(key));
        }
    }

    /// Tells those who watch the first store whether it is asked.
    pub(super) fn tell_watchers(&self) {
        let place = &self.0.place;
        self.0
            .watchers
            .each(|queue| match place.load(Ordering::Acquire) {
                0 => queue.came_back(),
                _ => queue.fell_back(),
            });
    }

    /// Writes down what an error says of a store. One that it answered says that it is there.
    fn failed(&self, backend: &Backend, error: &StoreError, recording: Option<&mut Recording>) {
        let store = backend.store.name();
        if let Some(recording) = recording {
            recording.failed(store, error);
        }
        if error.applied().is_none() {
            self.trusted(backend);
            return;
        }
        backend.failed.fetch_add(1, Ordering::Relaxed);
        *backend.last_error() = Some(error.to_string());
        if backend.breaker.failed(Instant::now()) {
            tracing::warn!(store, %error, "store is left alone");
            self.0.events.say(StoreEvent::BreakerOpened {
                store: store.to_owned(),
                cause: error.to_string(),
            });
        }
    }

    fn trusted(&self, backend: &Backend) {
        if backend.breaker.succeeded() {
            let store = backend.store.name().to_owned();
            tracing::info!(store, "store is trusted again");
            self.0.events.say(StoreEvent::BreakerClosed { store });
        }
    }
}

impl Backend {
    pub(super) fn last_error(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn left_alone(&self) -> StoreError {
        let cause = match &*self.last_error() {
            Some(error) => format!("it is left alone for a while after: {error}"),
            None => "it is left alone for a while".to_owned(),
        };
        StoreError::Unavailable {
            store: self.store.name().to_owned(),
            cause,
            applied: Applied::No,
        }
    }
}
