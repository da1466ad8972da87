//! What the owner of a journal and its writer thread share.

use std::{
    collections::VecDeque,
    sync::{
        Condvar, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use super::{StoredFn, SyncMode};
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
    on_stored: Mutex<Option<StoredFn>>,
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
            on_stored: Mutex::new(None),
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

    /// Reports that a snapshot is stored, so that the writer removes old segments, or why it is not.
    pub(super) fn snapshot_over(&self, stored: Result<Index, JournalError>) {
        if let Ok(index) = stored {
            let mut queue = self.queue();
            queue.work.stored = Some(index);
            self.notify(queue);
        }
        self.storing.store(false, Ordering::Release);
        let mut callback = lock(&self.on_stored);
        match (callback.as_mut(), stored) {
            (Some(callback), stored) => callback(stored),
            (None, Ok(_)) => {}
            (None, Err(error)) => self.fail(error),
        }
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

    /// Waits for work; `false` once the journal is closed and nothing is left to do.
    pub(super) fn wait(&self, spin: Duration) -> bool {
        self.spin(spin);
        let mut queue = self.queue();
        while queue.work.is_empty() && !queue.closed {
            queue.sleeping = true;
            let waited = self.wake.wait(queue);
            queue = waited.unwrap_or_else(PoisonError::into_inner);
            queue.sleeping = false;
        }
        !queue.work.is_empty()
    }

    /// Takes everything there is to do.
    pub(super) fn take(&self) -> Work {
        let mut queue = self.queue();
        self.pending.store(false, Ordering::Release);
        std::mem::take(&mut queue.work)
    }

    /// Takes the next batch.
    pub(super) fn take_batch(&self) -> Option<Batch> {
        let mut queue = self.queue();
        let batch = queue.work.batches.pop_front();
        if queue.work.is_empty() {
            self.pending.store(false, Ordering::Release);
        }
        batch
    }

    /// Puts back a batch that was taken and could not be written.
    pub(super) fn put_back(&self, batch: Batch) {
        let mut queue = self.queue();
        queue.work.batches.push_front(batch);
        self.notify(queue);
    }

    /// Takes the snapshot that was stored, which lets segments go.
    pub(super) fn take_stored(&self) -> Option<Index> {
        self.queue().work.stored.take()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.queue().closed
    }

    /// Waits for a while, or until something is new; whether the journal is closed.
    pub(super) fn pause(&self, pause: Duration) -> bool {
        let mut queue = self.queue();
        if !queue.closed {
            queue.sleeping = true;
            let waited = self.wake.wait_timeout(queue, pause);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
            queue.sleeping = false;
        }
        queue.closed
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

    /// Reports that the disk is full and the journal waits.
    pub(super) fn stall(&self, error: JournalError) {
        tracing::warn!(%error, "the journal waits until there is room");
        self.call(Err(error));
    }

    fn call(&self, progress: Result<Index, JournalError>) {
        if let Some(callback) = lock(&self.callback).as_mut() {
            callback(progress);
        }
    }

    pub(super) fn set_callback(&self, callback: SyncedFn) {
        *lock(&self.callback) = Some(callback);
    }

    pub(super) fn set_on_stored(&self, callback: StoredFn) {
        *lock(&self.on_stored) = Some(callback);
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
        lock(&self.queue)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
