//! Waking those who follow a run.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::catalogue::Change;

/// Who follows which run. Nothing is kept for a run that nobody follows.
#[derive(Debug, Clone, Default)]
pub struct Subscriptions(Arc<Mutex<HashMap<u64, watch::Sender<()>>>>);

impl Subscriptions {
    /// Follows a run: the receiver sees a change after each transaction that touched it.
    ///
    /// Subscribe first and read after, or a change between the two is missed.
    #[must_use]
    pub fn follow(&self, run: u64) -> watch::Receiver<()> {
        let mut runs = self.lock();
        runs.retain(|_, sender| sender.receiver_count() > 0);
        runs.entry(run)
            .or_insert_with(|| watch::Sender::new(()))
            .subscribe()
    }

    pub(super) fn wake(&self, changes: &[Change]) {
        let runs = self.lock();
        if runs.is_empty() {
            return;
        }
        let touched: HashSet<_> = changes.iter().map(run_of).collect();
        for sender in touched.iter().filter_map(|run| runs.get(run)) {
            sender.send_replace(());
        }
    }

    /// Wakes everybody, when what changed is not known.
    pub(super) fn wake_all(&self) {
        for sender in self.lock().values() {
            sender.send_replace(());
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, watch::Sender<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn run_of(change: &Change) -> u64 {
    match change {
        Change::NewRun { run, .. } | Change::Run(run) => run.id,
        Change::Job(job) => job.run,
        Change::Step { run, .. } => *run,
        Change::Finished(finished) => finished.run,
    }
}
