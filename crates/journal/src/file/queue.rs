//! What the owner of a journal and its writer thread share.

use std::{
    collections::VecDeque,
    sync::{
        Condvar, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use super::SyncMode;
use crate::{Batch, Index, JournalError, SyncedFn, Taken};

/// A snapshot on its way to the disk.
pub(super) type Snapshot = (Index, Vec<u8>);

/// The queue between the owner and the writer, and what the writer reports back.
pub(super) struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    /// Set with every change of the queue, so that the writer can look without the lock.
    pending: AtomicBool,
    synced: AtomicU64,
    backlog: AtomicUsize,
    storing: AtomicBool,
    failed: OnceLock<JournalError>,
    callback: Mutex<Option<SyncedFn>>,
}

#[derive(Default)]
struct Queue {
    work: Work,
    /// A written batch whose allocation is used again.
    spare: Option<Batch>,
    sleeping: bool,
    closed: bool,
}

/// Everything the writer takes in one go.
#[derive(Default)]
pub(super) struct Work {
    pub(super) batches: VecDeque<Batch>,
    pub(super) snapshot: Option<Snapshot>,
    /// A snapshot after this record is stored; older segments may go.
    pub(super) stored: Option<Index>,
}

impl Work {
    fn is_empty(&self) -> bool {
        self.batches.is_empty() && self.snapshot.is_none() && self.stored.is_none()
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("synced", &self.synced)
            .finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn new(synced: Index) -> Self {
        Self {
            queue: Mutex::default(),
            wake: Condvar::new(),
            pending: AtomicBool::new(false),
            synced: AtomicU64::new(synced.get()),
            backlog: AtomicUsize::new(0),
            storing: AtomicBool::new(false),
            failed: OnceLock::new(),
            callback: Mutex::new(None),
        }
    }

    /// Hands a batch to the writer and leaves an empty one in its place.
    pub(super) fn push(&self, batch: &mut Batch, mode: SyncMode) {
        self.backlog.fetch_add(batch.len(), Ordering::Relaxed);
        let mut queue = self.queue();
        let mut next = queue.spare.take().unwrap_or_default();
        match queue.work.batches.back_mut() {
            Some(last) if mode != SyncMode::Always => last.absorb(batch),
            _ => {
                std::mem::swap(&mut next, batch);
                queue.work.batches.push_back(next);
            }
        }
        self.notify(queue);
    }

    pub(super) fn push_snapshot(&self, index: Index, state: Vec<u8>) -> Taken {
        if self.storing.swap(true, Ordering::AcqRel) {
            return Taken::Busy;
        }
        let mut queue = self.queue();
        queue.work.snapshot = Some((index, state));
        self.notify(queue);
        Taken::Yes
    }

    /// Reports that a snapshot is stored, so that the writer removes old segments.
    pub(super) fn snapshot_stored(&self, index: Index) {
        let mut queue = self.queue();
        queue.work.stored = Some(index);
        self.storing.store(false, Ordering::Release);
        self.notify(queue);
    }

    pub(super) fn close(&self) {
        let mut queue = self.queue();
        queue.closed = true;
        self.notify(queue);
    }

    fn notify(&self, queue: MutexGuard<'_, Queue>) {
        self.pending.store(true, Ordering::Release);
        let sleeping = queue.sleeping;
        drop(queue);
        if sleeping {
            self.wake.notify_one();
        }
    }

    /// Waits for work; `None` once the journal is closed and nothing is left to do.
    pub(super) fn take(&self, spin: Duration) -> Option<Work> {
        self.spin(spin);
        let mut queue = self.queue();
        while queue.work.is_empty() && !queue.closed {
            queue.sleeping = true;
            queue = self
                .wake
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
            queue.sleeping = false;
        }
        self.pending.store(false, Ordering::Release);
        let work = std::mem::take(&mut queue.work);
        (!work.is_empty()).then_some(work)
    }

    fn spin(&self, limit: Duration) {
        let start = Instant::now();
        while !self.pending.load(Ordering::Acquire) && start.elapsed() < limit {
            // Yielding lets the owner run when both share one processor.
            std::thread::yield_now();
        }
    }

    /// Takes a written batch back for its allocation.
    pub(super) fn recycle(&self, mut batch: Batch) {
        self.backlog.fetch_sub(batch.len(), Ordering::Relaxed);
        batch.clear();
        self.queue().spare.get_or_insert(batch);
    }

    pub(super) fn report(&self, synced: Index) {
        self.synced.store(synced.get(), Ordering::Release);
        self.call(Ok(synced));
    }

    /// Ends the journal. Only the first error counts.
    pub(super) fn fail(&self, error: JournalError) {
        tracing::error!(%error, "the journal stops; nothing is acknowledged from now on");
        if self.failed.set(error.clone()).is_ok() {
            self.call(Err(error));
        }
    }

    fn call(&self, progress: Result<Index, JournalError>) {
        let mut callback = self.callback.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(callback) = callback.as_mut() {
            callback(progress);
        }
    }

    pub(super) fn set_callback(&self, callback: SyncedFn) {
        *self.callback.lock().unwrap_or_else(PoisonError::into_inner) = Some(callback);
    }

    pub(super) fn synced(&self) -> Index {
        Index::new(self.synced.load(Ordering::Acquire))
    }

    pub(super) fn backlog_bytes(&self) -> usize {
        self.backlog.load(Ordering::Relaxed)
    }

    pub(super) fn failed(&self) -> Option<JournalError> {
        self.failed.get().cloned()
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
