//! The thread that owns the log.

use std::{io, sync::Arc, thread};

use super::{
    JournalConfig, SyncMode,
    queue::{Shared, Snapshot, Work},
};
use crate::{Disk, Index, JournalError, Log};

pub(super) fn spawn<D: Disk>(
    log: Log<D>,
    shared: Arc<Shared>,
    config: JournalConfig,
) -> io::Result<thread::JoinHandle<()>> {
    let writer = Writer {
        log,
        shared,
        config,
        waiting: None,
        storing: None,
    };
    thread::Builder::new()
        .name("journal".to_owned())
        .spawn(move || writer.run())
}

struct Writer<D: Disk> {
    log: Log<D>,
    shared: Arc<Shared>,
    config: JournalConfig,
    /// A snapshot whose last record is not synced yet.
    waiting: Option<Snapshot>,
    storing: Option<thread::JoinHandle<()>>,
}

impl<D: Disk> Writer<D> {
    fn run(mut self) {
        while let Some(work) = self.shared.take(self.config.spin) {
            if self.shared.failed().is_some() {
                break;
            }
            if let Err(error) = self.step(work) {
                self.shared.fail(error);
                break;
            }
        }
        if let Some(storing) = self.storing.take()
            && storing.join().is_err()
        {
            tracing::error!("the thread that stored a snapshot panicked");
        }
    }

    fn step(&mut self, work: Work) -> Result<(), JournalError> {
        for mut batch in work.batches {
            self.log.write(&mut batch)?;
            self.shared.recycle(batch);
            if self.config.mode == SyncMode::Always {
                self.shared.report(self.log.sync()?);
            }
        }
        match self.config.mode {
            SyncMode::Always => {}
            SyncMode::Group => self.report_new(Log::sync)?,
            SyncMode::Os => self.report_new(|log| Ok(log.last()))?,
        }
        self.waiting = work.snapshot.or(self.waiting.take());
        self.store_snapshot()?;
        match work.stored {
            Some(index) => self.log.forget(index),
            None => Ok(()),
        }
    }

    fn report_new(
        &mut self,
        synced: impl FnOnce(&mut Log<D>) -> Result<Index, JournalError>,
    ) -> Result<(), JournalError> {
        let synced = synced(&mut self.log)?;
        if synced > self.shared.synced() {
            self.shared.report(synced);
        }
        Ok(())
    }

    /// Stores the waiting snapshot once its records are durable, beside the writing of new ones.
    fn store_snapshot(&mut self) -> Result<(), JournalError> {
        let due = self.waiting.take_if(|(index, _)| *index <= self.log.last());
        let Some((index, state)) = due else {
            return Ok(());
        };
        // In mode `os` nothing else has synced them, and a snapshot must not outlive its records.
        self.log.sync()?;
        let (disk, shared) = (self.log.disk(), Arc::clone(&self.shared));
        let store = move || match Log::store_snapshot(&*disk, index, &state) {
            Ok(()) => shared.snapshot_stored(index),
            Err(error) => shared.fail(error),
        };
        let thread = thread::Builder::new()
            .name("journal-snapshot".to_owned())
            .spawn(store);
        let thread = thread.map_err(|error| JournalError::Writer {
            reason: error.to_string(),
        })?;
        self.storing = Some(thread);
        Ok(())
    }
}
