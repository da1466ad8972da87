//! What the other store has yet to be told.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Notify;
use yggdrasil::Limit;

use super::Inner;
use super::phase::Mirror;
use crate::adapter::StoreAdapter;

/// Pause after a store did not take something.
const PAUSE: Duration = Duration::from_millis(50);

/// Work that is done soon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Work {
    /// The key may differ.
    Key(Bytes),
    /// Something was taken of a bucket that both stores keep as a key.
    Bucket(Bytes),
    /// So much was taken of a bucket.
    Consume { key: Bytes, limit: Limit, cost: u32 },
}

impl Work {
    fn key(&self) -> Option<&Bytes> {
        match self {
            Self::Key(key) | Self::Bucket(key) => Some(key),
            Self::Consume { .. } => None,
        }
    }

    const fn counts(&self) -> u64 {
        match self {
            Self::Key(_) => 1,
            Self::Bucket(_) | Self::Consume { .. } => 0,
        }
    }
}

/// What is behind: each key once, the one that has waited longest first.
#[derive(Debug)]
pub(super) struct Behind {
    max: usize,
    queue: Mutex<Queue>,
    more: Notify,
    lost: AtomicU64,
    /// Changes that wait or are being done. Buckets do not count: nobody waits for them.
    count: AtomicU64,
}

#[derive(Debug, Default)]
struct Queue {
    order: VecDeque<Work>,
    keys: HashSet<Bytes>,
    /// Keys whose change may come late, and until when they are to be looked at again.
    late: VecDeque<(Instant, Bytes)>,
}

impl Behind {
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            queue: Mutex::default(),
            more: Notify::new(),
            lost: AtomicU64::new(0),
            count: AtomicU64::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn len(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Whether a key is known to differ.
    pub(super) fn has(&self, key: &[u8]) -> bool {
        self.len() > 0 && self.lock().keys.contains(key)
    }

    pub(super) fn push(&self, work: Work) {
        let mut queue = self.lock();
        if work.key().is_some_and(|key| queue.keys.contains(key)) {
            return;
        }
        if queue.order.len() >= self.max {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if let Some(key) = work.key() {
            queue.keys.insert(key.clone());
        }
        self.count.fetch_add(work.counts(), Ordering::AcqRel);
        queue.order.push_back(work);
        drop(queue);
        self.more.notify_one();
    }

    /// Looks at a key now and once more after a while: a request that was not answered may be done late.
    pub(super) fn push_late(&self, key: &[u8], after: Duration) {
        let key = Bytes::copy_from_slice(key);
        self.push(Work::Key(key.clone()));
        let mut queue = self.lock();
        if queue.late.len() < self.max {
            queue.late.push_back((Instant::now() + after, key));
            self.count.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// What is next. A key can be pushed again from then on.
    fn pop(&self) -> Option<Work> {
        let mut queue = self.lock();
        if let Some((at, _)) = queue.late.front()
            && *at <= Instant::now()
        {
            return queue.late.pop_front().map(|(_, key)| Work::Key(key));
        }
        let work = queue.order.pop_front()?;
        if let Some(key) = work.key() {
            queue.keys.remove(key);
        }
        Some(work)
    }

    async fn next(&self) -> Work {
        loop {
            let more = self.more.notified();
            if let Some(work) = self.pop() {
                return work;
            }
            // Whoever waits for late ones looks now and then.
            let _ = tokio::time::timeout(PAUSE, more).await;
        }
    }

    fn done(&self, counts: u64) {
        self.count.fetch_sub(counts, Ordering::AcqRel);
    }
}

/// Does what is behind, for ever.
pub(super) async fn work(inner: Arc<Inner>) {
    loop {
        let work = inner.behind.next().await;
        let counts = work.counts();
        let state = inner.views.last();
        let from = state.phase.primary();
        if state.phase.mirror() == Mirror::Not {
            inner.behind.done(counts);
            continue;
        }
        let done = match &work {
            Work::Key(key) | Work::Bucket(key) => inner.pair(from).copy(key).await,
            Work::Consume { key, limit, cost } => {
                let taken = inner.side(from.other()).consume(key, limit, *cost);
                taken.await.map(|_| ())
            }
        };
        match (done, work) {
            (Ok(()), _) => inner.tallies.copied(),
            (Err(error), Work::Key(key)) => {
                inner.tallies.failed();
                tracing::debug!(%error, "a key was not copied; it is tried again");
                inner.behind.push(Work::Key(key));
                tokio::time::sleep(PAUSE).await;
            }
            // Taking twice would be worse than not at all, and the next one copies a bucket anyway.
            (Err(_), Work::Bucket(_) | Work::Consume { .. }) => inner.tallies.failed(),
        }
        inner.behind.done(counts);
    }
}
