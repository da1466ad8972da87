//! One adapter with its queue and its task.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, watch};

use super::NotificationMessage;
use super::adapter::{NotificationAdapter, deliver};

/// Messages that wait for one adapter.
const QUEUE_MAX: usize = 1_024;

type Queue = mpsc::Receiver<Arc<NotificationMessage>>;

/// One adapter with its queue and its task.
pub(super) struct Lane {
    pub(super) adapter: Arc<dyn NotificationAdapter>,
    sender: mpsc::Sender<Arc<NotificationMessage>>,
    /// The other end of the queue until there is a runtime for the task.
    idle: Mutex<Option<Queue>>,
    numbers: Arc<Numbers>,
    /// What is under way in all lanes.
    pending: Arc<watch::Sender<usize>>,
}

#[derive(Debug, Default)]
struct Numbers {
    sent: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
    last_error: Mutex<Option<String>>,
}

/// What one adapter did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneCounts {
    /// Its name.
    pub adapter: String,
    /// Messages that arrived.
    pub sent: u64,
    /// Messages that did not, after all tries.
    pub failed: u64,
    /// Messages that found its queue of 1,024 full.
    pub dropped: u64,
    /// Why the last one that failed did.
    pub last_error: Option<String>,
}

impl Lane {
    pub(super) fn new(
        adapter: Arc<dyn NotificationAdapter>,
        pending: Arc<watch::Sender<usize>>,
    ) -> Self {
        let (sender, queue) = mpsc::channel(QUEUE_MAX);
        Self {
            adapter,
            sender,
            idle: Mutex::new(Some(queue)),
            numbers: Arc::default(),
            pending,
        }
    }

    /// Queues a message, or counts it as dropped. Within a runtime.
    pub(super) fn put(&self, message: Arc<NotificationMessage>) {
        let idle = self
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(queue) = idle {
            let (adapter, numbers) = (Arc::clone(&self.adapter), Arc::clone(&self.numbers));
            tokio::spawn(work(adapter, queue, numbers, Arc::clone(&self.pending)));
        }
        self.pending.send_modify(|pending| *pending += 1);
        if self.sender.try_send(message).is_err() {
            self.numbers.dropped.fetch_add(1, Ordering::Relaxed);
            done(&self.pending);
        }
    }

    pub(super) fn counts(&self) -> LaneCounts {
        let number = |of: &AtomicU64| of.load(Ordering::Relaxed);
        LaneCounts {
            adapter: self.adapter.name().to_owned(),
            sent: number(&self.numbers.sent),
            failed: number(&self.numbers.failed),
            dropped: number(&self.numbers.dropped),
            last_error: self.numbers.last_error().clone(),
        }
    }
}

impl Numbers {
    fn last_error(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends what is queued until nobody can queue any more.
async fn work(
    adapter: Arc<dyn NotificationAdapter>,
    mut queue: Queue,
    numbers: Arc<Numbers>,
    pending: Arc<watch::Sender<usize>>,
) {
    while let Some(message) = queue.recv().await {
        match deliver(&*adapter, &message).await {
            Ok(_) => {
                numbers.sent.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                numbers.failed.fetch_add(1, Ordering::Relaxed);
                *numbers.last_error() = Some(error.to_string());
                let title = &message.title;
                tracing::warn!(adapter = adapter.name(), title, %error, "notification lost");
            }
        }
        done(&pending);
    }
}

/// One thing less is under way.
pub(super) fn done(pending: &watch::Sender<usize>) {
    pending.send_modify(|pending| *pending = pending.saturating_sub(1));
}
