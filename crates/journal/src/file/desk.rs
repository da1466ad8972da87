//! The log between the writer, and who writes while the writer syncs.

use std::{
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use super::queue::Shared;
use crate::{Disk, Log};

/// How long batches wait for a sync before they are written beside it.
const PAUSE: Duration = Duration::from_millis(5);

/// Where the log lies while nobody writes.
pub(super) struct Desk<D: Disk> {
    state: Mutex<State<D>>,
    wake: Condvar,
}

pub(super) struct State<D: Disk> {
    pub(super) log: Log<D>,
    phase: Phase,
    /// Syncs so far.
    syncs: u64,
    /// Whether the helper has to be woken.
    sleeps: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The writer has the log to itself.
    Own,
    Syncing,
    Closed,
}

impl<D: Disk> Desk<D> {
    pub(super) fn new(log: Log<D>) -> Self {
        Self {
            state: Mutex::new(State {
                log,
                phase: Phase::Own,
                syncs: 0,
                sleeps: false,
            }),
            wake: Condvar::new(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State<D>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the helper write until [`end_sync`](Self::end_sync).
    pub(super) fn begin_sync(&self, mut state: MutexGuard<'_, State<D>>) {
        state.phase = Phase::Syncing;
        state.syncs += 1;
        let sleeps = state.sleeps;
        drop(state);
        if sleeps {
            self.wake.notify_one();
        }
    }

    pub(super) fn end_sync(&self) -> MutexGuard<'_, State<D>> {
        let mut state = self.lock();
        state.phase = Phase::Own;
        state
    }
}

/// A thread that writes what is committed while the writer waits for the disk, so that a process that
/// is killed does not take it along. It never syncs.
pub(super) struct Helper<D: Disk> {
    desk: Arc<Desk<D>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl<D: Disk> Helper<D> {
    pub(super) fn start(desk: &Arc<Desk<D>>, shared: &Arc<Shared>) -> io::Result<Self> {
        let (own, shared) = (Arc::clone(desk), Arc::clone(shared));
        let thread = thread::Builder::new()
            .name("journal-ahead".to_owned())
            .spawn(move || run(&own, &shared))?;
        Ok(Self {
            desk: Arc::clone(desk),
            thread: Some(thread),
        })
    }
}

impl<D: Disk> Drop for Helper<D> {
    fn drop(&mut self) {
        self.desk.lock().phase = Phase::Closed;
        self.desk.wake.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that writes beside syncs panicked");
        }
    }
}

fn run<D: Disk>(desk: &Desk<D>, shared: &Shared) {
    let mut state = desk.lock();
    let mut seen = 0;
    while state.phase != Phase::Closed {
        // Batches are waited for by looking, and not by being told: telling would cost each commit a
        // system call. Without a sync since the last look there is nothing to look for.
        let is_busy = state.phase == Phase::Syncing || state.syncs != seen;
        seen = state.syncs;
        if is_busy {
            let waited = desk.wake.wait_timeout(state, PAUSE);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        } else {
            state.sleeps = true;
            let waited = desk.wake.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
            state.sleeps = false;
        }
        if state.phase == Phase::Syncing {
            write(&mut state.log, shared);
        }
    }
}

/// Writes what is committed.
fn write<D: Disk>(log: &mut Log<D>, shared: &Shared) {
    while shared.failed().is_none()
        && let Some(mut batch) = shared.take_batch()
    {
        match log.write_beside(&mut batch) {
            Ok(()) => shared.recycle(batch),
            // The writer meets the same, and decides.
            Err(error) if error.is_passing() => return shared.put_back(batch),
            Err(error) => return shared.fail(error),
        }
    }
}
