//! Spans on their way to the collector.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::mpsc;

use super::{Exporter, Span};

/// Spans that wait for the collector.
const SPANS_MAX: usize = 32 * 1024;
/// The same in the portions in which they came.
const PORTIONS_MAX: usize = 8 * 1024;

/// Where spans are put that a collector is to have. Clones share the queue.
///
/// Putting never waits: what finds the queue full is dropped and counted, because nothing may be
/// held up by a collector.
#[derive(Clone, Debug)]
pub struct SpanQueue {
    sender: mpsc::Sender<Vec<Span>>,
    numbers: Arc<Numbers>,
}

/// The other end of the queue.
#[derive(Debug)]
pub struct SpanReceiver {
    receiver: mpsc::Receiver<Vec<Span>>,
    numbers: Arc<Numbers>,
}

#[derive(Debug, Default)]
struct Numbers {
    waiting: AtomicUsize,
    dropped: AtomicU64,
}

impl SpanQueue {
    /// A queue with both its ends.
    #[must_use]
    pub fn new() -> (Self, SpanReceiver) {
        let (sender, receiver) = mpsc::channel(PORTIONS_MAX);
        let numbers = Arc::<Numbers>::default();
        let queue = Self {
            sender,
            numbers: Arc::clone(&numbers),
        };
        (queue, SpanReceiver { receiver, numbers })
    }

    /// Hands spans over.
    pub fn put(&self, spans: Vec<Span>) {
        let (count, numbers) = (spans.len(), &*self.numbers);
        let before = numbers.waiting.fetch_add(count, Ordering::Relaxed);
        if before + count > SPANS_MAX || self.sender.try_send(spans).is_err() {
            numbers.waiting.fetch_sub(count, Ordering::Relaxed);
            numbers.dropped.fetch_add(count as u64, Ordering::Relaxed);
        }
    }

    /// Spans that found the queue full, or nobody at its end.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.numbers.dropped.load(Ordering::Relaxed)
    }
}

impl SpanReceiver {
    /// Takes all spans that wait, or the next ones; `None` when every [`SpanQueue`] is gone.
    /// Cancel safe.
    pub async fn take(&mut self) -> Option<Vec<Span>> {
        let mut spans = self.receiver.recv().await?;
        while let Ok(more) = self.receiver.try_recv() {
            spans.extend(more);
        }
        let numbers = &*self.numbers;
        numbers.waiting.fetch_sub(spans.len(), Ordering::Relaxed);
        Some(spans)
    }

    /// Sends spans to a collector until every [`SpanQueue`] is gone. What does not arrive is lost,
    /// and said in the log.
    pub async fn export(mut self, exporter: Exporter) {
        while let Some(spans) = self.take().await {
            let count = spans.len();
            if let Err(error) = exporter.export(spans).await {
                tracing::warn!(spans = count, %error, "spans lost");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::{SpanKind, SpanStatus};

    fn spans(count: usize) -> Vec<Span> {
        let span = Span {
            trace_id: [1; 16],
            span_id: [2; 8],
            parent_id: None,
            name: "work".to_owned(),
            kind: SpanKind::Internal,
            start_ns: 1,
            end_ns: 2,
            attributes: Vec::new(),
            status: SpanStatus::Unset,
        };
        vec![span; count]
    }

    #[tokio::test]
    async fn a_full_queue_drops_and_counts_and_takes_again_when_it_was_emptied() {
        let (queue, mut receiver) = SpanQueue::new();
        queue.put(spans(SPANS_MAX - 1));
        queue.put(spans(2));
        assert_eq!(queue.dropped(), 2);
        queue.put(spans(1));
        assert_eq!(receiver.take().await.unwrap().len(), SPANS_MAX);
        queue.put(spans(3));
        assert_eq!(receiver.take().await.unwrap().len(), 3);
        drop(receiver);
        queue.put(spans(4));
        assert_eq!(queue.dropped(), 6);
    }
}
