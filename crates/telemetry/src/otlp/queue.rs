//! Spans on their way to the collector.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;

use super::{Exporter, Span};

/// Batches that wait for the collector; each has at most 512 spans.
const BATCHES_MAX: usize = 64;

/// Where spans are put that a collector is to have. Clones share the queue.
///
/// Putting never waits: what finds the queue full is dropped and counted, because nothing may be
/// held up by a collector.
#[derive(Clone, Debug)]
pub struct SpanQueue {
    sender: mpsc::Sender<Vec<Span>>,
    dropped: Arc<AtomicU64>,
}

/// The end of the queue that sends them.
#[derive(Debug)]
pub struct SpanSender {
    receiver: mpsc::Receiver<Vec<Span>>,
    exporter: Exporter,
}

impl SpanQueue {
    /// A queue, and what empties it: let [`SpanSender::run`] run on a tokio runtime.
    #[must_use]
    pub fn new(exporter: Exporter) -> (Self, SpanSender) {
        let (sender, receiver) = mpsc::channel(BATCHES_MAX);
        let queue = Self {
            sender,
            dropped: Arc::default(),
        };
        (queue, SpanSender { receiver, exporter })
    }

    /// Hands spans over.
    pub fn put(&self, spans: Vec<Span>) {
        let count = spans.len() as u64;
        if self.sender.try_send(spans).is_err() {
            self.dropped.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Spans that found the queue full, or nobody to send them.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl SpanSender {
    /// Sends spans until every [`SpanQueue`] is gone.
    pub async fn run(mut self) {
        while let Some(mut spans) = self.receiver.recv().await {
            while let Ok(more) = self.receiver.try_recv() {
                spans.extend(more);
            }
            let count = spans.len();
            if let Err(error) = self.exporter.export(spans).await {
                tracing::warn!(spans = count, %error, "spans lost");
            }
        }
    }
}
