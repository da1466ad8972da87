//! Snapshots of the scheduler, and forgetting runs that are over.
//!
//! A snapshot lets records go, and forgetting lets a run go. Both wait until the catalogue has them
//! safely on disk, because it is then the only place where they are.

use journal::{Index, Taken};
use rustci_scheduler::Command;

use crate::engine::core::Core;
use crate::limits::RUNS_ENDED_MAX;

/// When the next snapshot is due, and the one that waits for the catalogue.
#[derive(Debug)]
pub(super) struct Snapshots {
    every: u64,
    last: Index,
    waiting: Option<(Index, Vec<u8>)>,
    /// A checkpoint was asked for; the catalogue is durable when it reaches this.
    asked: Option<u64>,
}

impl Snapshots {
    pub(super) fn new(every: u64, last: Index) -> Self {
        Self {
            every,
            last,
            waiting: None,
            asked: None,
        }
    }

    fn is_due(&self, appended: Index) -> bool {
        self.waiting.is_none() && appended.get().saturating_sub(self.last.get()) >= self.every
    }
}

impl Core {
    /// Does what can wait and must not wait for ever.
    pub(super) fn keep_house(&mut self) {
        self.forget_runs();
        let appended = self.journal.appended();
        if self.snapshots.is_due(appended) {
            self.snapshots.waiting = Some((appended, self.scheduler.snapshot()));
            self.snapshots.last = appended;
        }
        self.ask_for_checkpoint();
        let durable = self.projection.durable();
        if let Some((index, state)) = self
            .snapshots
            .waiting
            .take_if(|(index, _)| index.get() <= durable)
        {
            self.store(index, state);
        }
    }

    fn store(&mut self, index: Index, state: Vec<u8>) {
        match self.journal.snapshot(index, state) {
            Ok(Taken::Yes) => {}
            // The next one is due later; skipping one only makes the journal longer.
            Ok(Taken::Busy) => tracing::debug!(%index, "an earlier snapshot is still being stored"),
            Err(error) => self.fail(&error.to_string()),
        }
    }

    fn ask_for_checkpoint(&mut self) {
        let durable = self.projection.durable();
        if self.snapshots.asked.is_some_and(|asked| durable >= asked) {
            self.snapshots.asked = None;
        }
        let crowded = self.ended.len() > RUNS_ENDED_MAX;
        if (self.snapshots.waiting.is_some() || crowded) && self.snapshots.asked.is_none() {
            self.snapshots.asked = self.projection.checkpoint();
        }
    }

    fn forget_runs(&mut self) {
        let durable = self.projection.durable();
        let synced = self.journal.synced();
        while let Some((_, run)) = self
            .ended
            .pop_front_if(|(index, _)| index.get() <= durable && *index <= synced)
        {
            if let Err(error) = self.command(Command::ForgetRun { run }) {
                tracing::debug!(%run, %error, "a run was not forgotten");
            }
        }
    }
}
