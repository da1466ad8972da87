//! A journal in files, written by a thread of its own.

mod desk;
mod queue;
mod writer;

use std::{path::Path, sync::Arc, thread, time::Duration};

use crate::{
    Batch, Disk, Encoder, FileDisk, Index, Journal, JournalError, Log, LogConfig, Recovered,
    SyncedFn, Taken, snapshot,
};
use queue::Shared;

/// When a record counts as synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SyncMode {
    /// After a sync of its own batch. For disks that reorder behind a sync; slow.
    Always,
    /// After a sync that it shares with everything handed over while the one before ran.
    #[default]
    Group,
    /// When the operating system has it. Survives a killed process, not a power failure.
    Os,
}

/// What a journal does where the disk is full and nothing that was written is in doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenFull {
    /// It ends, as after any other error.
    #[default]
    End,
    /// It tries again every second and goes on with the same batch, so nothing is lost and nothing is out
    /// of order. Its owner hears of both and takes no more work meanwhile: batches stay in memory.
    Wait,
}

/// Called with the record that a snapshot stands after once it is stored, or with the reason why it is
/// not. It runs on a thread of the journal.
pub type StoredFn = Box<dyn FnMut(Result<Index, JournalError>) + Send>;

/// Settings of a [`FileJournal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalConfig {
    /// Default [`SyncMode::Group`].
    pub mode: SyncMode,
    /// How the files are laid out.
    pub log: LogConfig,
    /// How long the writer looks for more work before it sleeps, 0 to a few hundred microseconds.
    /// Waking a thread costs around 50 us, so under load this shortens a commit; it costs that
    /// much processor time after each burst. Default 30 us.
    pub spin: Duration,
    /// Default [`WhenFull::End`].
    pub when_full: WhenFull,
}

impl Default for JournalConfig {
    fn default() -> Self {
        Self {
            mode: SyncMode::default(),
            log: LogConfig::default(),
            spin: Duration::from_micros(30),
            when_full: WhenFull::default(),
        }
    }
}

/// A journal in the files of one directory.
///
/// Whoever opens it makes sure that nobody else does at the same time. Dropping it writes and
/// syncs what was committed.
#[derive(Debug)]
pub struct FileJournal {
    shared: Arc<Shared>,
    encoder: Encoder,
    batch: Batch,
    mode: SyncMode,
    writer: Option<thread::JoinHandle<()>>,
}

impl FileJournal {
    /// Opens the journal in `directory`, or begins one there.
    ///
    /// # Errors
    /// As [`Log::open`]; [`JournalError::Writer`] when no thread can be started.
    pub fn open(
        directory: impl AsRef<Path>,
        config: JournalConfig,
    ) -> Result<(Self, Recovered), JournalError> {
        let name = directory.as_ref().display().to_string();
        let disk = FileDisk::new(directory).map_err(JournalError::disk("create", &name))?;
        Self::open_on(disk, config)
    }

    /// Opens the journal on `disk`, or begins one there.
    ///
    /// # Errors
    /// As [`FileJournal::open`].
    pub fn open_on<D: Disk>(
        disk: D,
        config: JournalConfig,
    ) -> Result<(Self, Recovered), JournalError> {
        let (log, recovered) = Log::open(disk, config.log)?;
        let shared = Arc::new(Shared::new(recovered.last()));
        let encoder = log.encoder();
        let writer = writer::spawn(log, Arc::clone(&shared), config).map_err(|error| {
            JournalError::Writer {
                reason: error.to_string(),
            }
        })?;
        let batch = Batch::default();
        let journal = Self {
            shared,
            encoder,
            batch,
            mode: config.mode,
            writer: Some(writer),
        };
        Ok((journal, recovered))
    }
}

impl FileJournal {
    /// Sets the function that hears of snapshots. Without one, a snapshot that cannot be stored ends the
    /// journal; with one, records are written on, and older snapshot and segments stay in force.
    pub fn on_stored(&self, callback: StoredFn) {
        self.shared.set_on_stored(callback);
    }
}

/// Makes a journal in the empty or missing `directory` that goes on after record `index`, with
/// `state` as the state after it. Durable when it returns.
///
/// # Errors
/// [`JournalError::Disk`]; what was written then is of no use.
pub fn seed(directory: impl AsRef<Path>, index: Index, state: &[u8]) -> Result<(), JournalError> {
    let name = directory.as_ref().display().to_string();
    let disk = FileDisk::new(directory).map_err(JournalError::disk("create", &name))?;
    snapshot::store(&disk, index, state)
}

impl Journal for FileJournal {
    fn append(&mut self, record: &[u8]) -> Result<Index, JournalError> {
        match self.shared.failed() {
            Some(error) => Err(error),
            None => self.encoder.push(&mut self.batch, record),
        }
    }

    fn commit(&mut self) {
        if !self.batch.is_empty() {
            self.shared.push(&mut self.batch, self.mode);
        }
    }

    fn synced(&self) -> Index {
        self.shared.synced()
    }

    fn appended(&self) -> Index {
        self.encoder.last()
    }

    fn backlog_bytes(&self) -> usize {
        self.shared.backlog_bytes()
    }

    fn on_synced(&mut self, callback: SyncedFn) {
        self.shared.set_callback(callback);
    }

    fn snapshot(&mut self, index: Index, state: Vec<u8>) -> Result<Taken, JournalError> {
        match self.shared.failed() {
            Some(error) => Err(error),
            None => Ok(self.shared.push_snapshot(index, state)),
        }
    }

    fn failed(&self) -> Option<JournalError> {
        self.shared.failed()
    }
}

impl Drop for FileJournal {
    fn drop(&mut self) {
        self.commit();
        self.shared.close();
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the journal's writer thread panicked");
        }
    }
}
