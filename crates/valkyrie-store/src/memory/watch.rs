//! Changes of the keys in this process.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use yggdrasil::{Cause, Entry, Observer};

use super::MemoryStore;
use crate::watch::{Change, Ends, Queue, Watch};

/// How often keys whose end has come are looked for while somebody watches.
const SWEEP: Duration = Duration::from_millis(100);

/// Tells one who watches.
#[derive(Debug)]
struct Told {
    prefix: Box<[u8]>,
    queue: Arc<Queue>,
}

impl Told {
    fn tell(&self, entry: &Entry, change: Change, version: u64) {
        let key = entry.key();
        if key.starts_with(&self.prefix) {
            let key = Bytes::copy_from_slice(key);
            self.queue.changed(key, change, Some(version));
        }
    }
}

impl Observer for Told {
    fn written(&self, entry: &Entry) {
        self.tell(entry, Change::Set, entry.version());
    }

    fn removed(&self, entry: &Entry, version: u64, cause: Cause) {
        let change = match cause {
            Cause::Removed | Cause::Cleared => Change::Removed,
            Cause::Expired => Change::Expired,
            Cause::Evicted => Change::Evicted,
        };
        self.tell(entry, change, version);
    }
}

/// Ends the telling.
struct Observing {
    store: MemoryStore,
    observer: Arc<dyn Observer>,
    _sweeps: Ends,
}

impl Drop for Observing {
    fn drop(&mut self) {
        self.store.0.keys.stop_observing(&self.observer);
    }
}

impl MemoryStore {
    /// Has one told of all changes from here on.
    pub(super) fn watch_keys(&self, prefix: &[u8]) -> Watch {
        let queue = Arc::new(Queue::default());
        let observer: Arc<dyn Observer> = Arc::new(Told {
            prefix: prefix.into(),
            queue: Arc::clone(&queue),
        });
        let store = self.clone();
        // Nobody may touch a key any more that ends.
        let sweeps = Ends::spawn(async move {
            let mut turns = tokio::time::interval(SWEEP);
            loop {
                turns.tick().await;
                store.sweep();
            }
        });
        self.0.keys.observe(&observer);
        let observing = Observing {
            store: self.clone(),
            observer,
            _sweeps: sweeps,
        };
        Watch::new(queue, observing)
    }
}
