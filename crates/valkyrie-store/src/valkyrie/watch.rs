//! Changes of keys, which the server tells until it is told to end that.

use std::sync::Arc;

use valkyrie::{Status, Streaming};
use yggdrasil_calls::v1;

use super::link::Link;
use super::{ValkyrieStore, has_ended, is_not_sent};
use crate::error::StoreError;
use crate::retry::pause;
use crate::watch::{Change, Ends, Queue, Teller, Watch};

/// Pauses between tries to ask anew grow for so many of them, up to 2.5 s.
const GROWS: u32 = 8;

/// Has one told of changes.
struct Watcher {
    store: ValkyrieStore,
    prefix: Vec<u8>,
    teller: Teller,
}

impl ValkyrieStore {
    /// Has the server tell of all changes from here on.
    pub(super) async fn watch_keys(&self, prefix: &[u8]) -> Result<Watch, StoreError> {
        let queue = Arc::new(Queue::default());
        let watcher = Watcher {
            store: self.clone(),
            prefix: prefix.to_vec(),
            teller: Teller(Arc::clone(&queue)),
        };
        let told = watcher.ask().await?;
        Ok(Watch::new(queue, Ends::spawn(watcher.run(told))))
    }
}

impl Watcher {
    async fn run(self, mut told: Streaming<v1::Changes>) {
        let (store, queue) = (self.store.0.name.as_str(), &self.teller.0);
        loop {
            let cause = match told.message().await {
                Ok(Some(changes)) => {
                    self.hand_on(changes);
                    continue;
                }
                Ok(None) => "the server has ended it".to_owned(),
                Err(status) => status.text().to_owned(),
            };
            tracing::warn!(store, cause, "changes of keys are not told; asking anew");
            queue.interrupted();
            told = self.ask_again().await;
            tracing::info!(store, "changes of keys are told again");
            queue.resumed();
        }
    }

    fn hand_on(&self, changes: v1::Changes) {
        let queue = &self.teller.0;
        if changes.lost {
            queue.lost();
        }
        for changed in changes.changed {
            let change = match changed.change() {
                v1::Change::Set => Change::Set,
                v1::Change::Removed => Change::Removed,
                v1::Change::Expired => Change::Expired,
                v1::Change::Evicted => Change::Evicted,
            };
            queue.changed(changed.key.into(), change, Some(changed.version));
        }
    }

    async fn ask_again(&self) -> Streaming<v1::Changes> {
        let mut tries = 0;
        loop {
            tokio::time::sleep(pause(tries)).await;
            tries = GROWS.min(tries + 1);
            let store = self.store.0.name.as_str();
            match self.ask().await {
                Ok(told) => return told,
                // The first says why; others come as long as it is so.
                Err(error) if tries == 1 => {
                    tracing::warn!(store, %error, "changes of keys cannot be asked for; trying again");
                }
                Err(error) => tracing::debug!(store, %error, "changes of keys cannot be asked for"),
            }
        }
    }

    /// Changes from here on.
    async fn ask(&self) -> Result<Streaming<v1::Changes>, StoreError> {
        let store = &self.store;
        let links = &store.0.links;
        let mut ended = 0;
        loop {
            let link = links.link().await;
            let link = link.map_err(|status| store.unreached(&status))?;
            let begun = tokio::time::timeout(store.0.timeout, self.begin(&link)).await;
            let begun = begun.unwrap_or_else(|_| Err(Status::timeout("no answer in time")));
            let status = match begun {
                Ok(told) => return Ok(told),
                Err(status) => status,
            };
            if has_ended(&status) {
                links.forget(&link);
                // It ended while nobody used it, as all of them may have.
                if is_not_sent(&status) && ended < links.len() {
                    ended += 1;
                    continue;
                }
            }
            return Err(store.failed(&status));
        }
    }

    async fn begin(&self, link: &Link) -> Result<Streaming<v1::Changes>, Status> {
        let keys = v1::KeysClient::new(link.client.clone());
        let request = v1::WatchRequest {
            prefix: self.prefix.clone(),
        };
        let mut told = keys.watch(request).await?.into_inner();
        match told.message().await? {
            Some(_) => Ok(told),
            None => Err(Status::internal("the server has ended it")),
        }
    }
}
