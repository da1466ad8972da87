//! Changes of keys while everything moves.

use std::sync::Arc;

use super::MigratingStore;
use super::member::Access;
use super::phase::Side;
use crate::adapter::StoreAdapter;
use crate::error::StoreError;
use crate::retry::pause;
use crate::watch::{Ends, Event, Queue, Teller, Watch};

/// Pauses between tries to watch a store grow for so many of them, up to 2.5 s.
const GROWS: u32 = 8;

/// Hands changes of the store that is read to one who watches.
struct Forwarder {
    store: MigratingStore,
    prefix: Vec<u8>,
    teller: Teller,
}

/// What comes next.
enum Next {
    Told(Option<Event>),
    /// The other store is read.
    Moved,
    /// Time to see whether it is still known which store is read.
    Look,
}

impl MigratingStore {
    pub(super) async fn watch_keys(&self, prefix: &[u8]) -> Result<Watch, StoreError> {
        let queue = Arc::new(Queue::default());
        let forwarder = Forwarder {
            store: self.clone(),
            prefix: prefix.to_vec(),
            teller: Teller(Arc::clone(&queue)),
        };
        let side = self.inner.view(Access::Read).await?.phase.reads();
        let source = self.inner.side(side).watch(prefix).await?;
        let task = Ends::spawn(forwarder.run(side, source));
        let watch = Watch::new(queue, task);
        self.inner.watchers.add(&watch);
        Ok(watch)
    }
}

impl Forwarder {
    async fn run(self, mut side: Side, mut source: Watch) {
        let inner = &self.store.inner;
        let mut looks = tokio::time::interval(inner.config.refresh);
        let mut was_fresh = true;
        loop {
            let next = tokio::select! {
                // One store after the other, so that nothing of the old one comes after the loss.
                biased;
                () = inner.views.moved(side) => Next::Moved,
                _ = looks.tick() => Next::Look,
                event = source.next() => Next::Told(event),
            };
            match next {
                Next::Told(Some(event)) => self.hand_on(event, &source),
                Next::Told(None) | Next::Moved => {
                    self.teller.0.interrupted();
                    (side, source) = self.again().await;
                    self.lost(&source);
                }
                Next::Look => {
                    let is_fresh = inner.views.is_fresh();
                    if is_fresh != was_fresh {
                        was_fresh = is_fresh;
                        self.lost(&source);
                    }
                }
            }
        }
    }

    fn hand_on(&self, event: Event, source: &Watch) {
        let queue = &self.teller.0;
        match event {
            Event::Changed { key, change, .. } => {
                if !self.store.inner.registry.owns(&key) {
                    // Versions are not the same in both stores.
                    queue.changed(key, change, None);
                }
            }
            Event::Lost => self.lost(source),
        }
    }

    /// Says that something may have been missed, and whether changes are told now. While it is not known
    /// which store is read, those of another one may be what counts.
    fn lost(&self, source: &Watch) {
        let queue = &self.teller.0;
        match source.is_live() && self.store.inner.views.is_fresh() {
            true => queue.resumed(),
            false => queue.interrupted(),
        }
    }

    /// Watches the store that is read now.
    async fn again(&self) -> (Side, Watch) {
        let inner = &self.store.inner;
        let mut tries = 0;
        loop {
            let side = inner.views.last().phase.reads();
            match inner.side(side).watch(&self.prefix).await {
                Ok(source) => return (side, source),
                Err(error) => {
                    let name = inner.name.as_str();
                    tracing::warn!(migration = name, %error, "changes of keys cannot be asked for");
                }
            }
            tokio::time::sleep(pause(tries)).await;
            tries = GROWS.min(tries + 1);
        }
    }
}
