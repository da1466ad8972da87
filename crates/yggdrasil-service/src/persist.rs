//! Keys that outlive the server.
//!
//! Every change is a record in a journal, appended while its shard is held, so that records of a key
//! are in order. A snapshot is a copy of all entries, taken shard by shard while others change: records
//! from its beginning on are done once more over it, and versions decide what is newer.

mod progress;
#[cfg(test)]
mod tests;

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
#[cfg(feature = "valkyrie")]
use std::task::{Context, Poll};
use std::time::Duration;

use journal::{
    Disk, FileDisk, FileJournal, Journal, JournalConfig, JournalError, Recovered, Taken, WhenFull,
};
use rustix::fs::{FlockOperation, flock};
use yggdrasil::{Buckets, Cause, Entry, Keyspace, Observer};

use crate::clock::Moment;
use crate::kept::{self, KeptBuckets};
use progress::Progress;
pub(crate) use progress::{Snapshots, Unsettled};

/// When a change is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sync {
    /// After it is on the disk. Nothing acknowledged is ever lost.
    Always,
    /// At once; it is on the disk within [`GROUP_WINDOW`], or answers wait. A power failure loses at most
    /// changes that were answered within that time: those behind the last sync. A killed server loses
    /// only what the operating system has not taken, which is a few milliseconds unless it is as slow as
    /// the disk.
    #[default]
    Group,
    /// At once; the operating system decides when it is on the disk. A killed server loses what
    /// `Group` loses, a power failure more.
    Os,
}

/// How far the disk may be behind what was acknowledged, with [`Sync::Group`]: no answer leaves while a
/// change that was answered earlier than this is not on the disk.
pub const GROUP_WINDOW: Duration = Duration::from_millis(100);
/// When a snapshot is tried again that could not be stored.
const SNAPSHOT_PAUSE: Duration = Duration::from_secs(60);

/// Where keys are kept, and how well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PersistConfig {
    /// A directory that belongs to one server; made where it is missing.
    pub directory: PathBuf,
    /// When a change is acknowledged. Default: [`Sync::Group`].
    pub sync: Sync,
    /// Bytes of records after which a snapshot is made by itself; at least 1 MiB. Default: 256 MiB. A
    /// start reads the snapshot and what came after.
    pub snapshot_bytes: u64,
    /// Whether snapshots have token buckets too. Default: no. They are not in the journal, so a start
    /// gives back what was taken since the last snapshot; a server that is stopped makes one.
    pub keep_buckets: bool,
}

impl PersistConfig {
    /// The defaults in a directory.
    #[must_use]
    pub const fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            sync: Sync::Group,
            snapshot_bytes: 256 << 20,
            keep_buckets: false,
        }
    }
}

/// Why keys cannot be kept or had back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PersistError {
    /// Another server has the directory.
    #[error("{} belongs to another server that runs", directory.display())]
    Held {
        /// The directory.
        directory: PathBuf,
    },
    /// The directory cannot be used.
    #[error("{}: {error}", directory.display())]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The journal is damaged, or the disk refuses.
    #[error("{0}")]
    Journal(#[from] JournalError),
    /// A record was written by something else.
    #[error("record {index} of {}: {error}", directory.display())]
    Record {
        /// The directory.
        directory: PathBuf,
        /// The number of the record, 0 for the snapshot.
        index: u64,
        /// What is wrong.
        error: yggdrasil::RecordError,
    },
}

/// The journal behind a keyspace.
#[derive(Debug)]
pub(crate) struct Persistence {
    snapshot_bytes: u64,
    keep_buckets: bool,
    writer: Mutex<Writer>,
    /// The newest record that was appended.
    appended: AtomicU64,
    progress: Arc<Progress>,
    _lock: Option<File>,
}

#[derive(Debug)]
struct Writer {
    journal: FileJournal,
    /// Where records are made.
    record: Vec<u8>,
    /// Bytes of records since the last snapshot began.
    bytes: u64,
}

impl Persistence {
    /// Takes a directory, and puts what it has into `keys`; gives the buckets that are to be kept.
    pub(crate) fn open(
        config: &PersistConfig,
        keys: &Keyspace,
    ) -> Result<(Arc<Self>, KeptBuckets), PersistError> {
        let directory = &config.directory;
        let lock = lock(directory)?;
        let disk = FileDisk::new(directory.join("journal"));
        let disk = disk.map_err(|error| PersistError::Directory {
            directory: directory.clone(),
            error,
        })?;
        Self::open_on(disk, Some(lock), config, keys)
    }

    fn open_on<D: Disk>(
        disk: D,
        lock: Option<File>,
        config: &PersistConfig,
        keys: &Keyspace,
    ) -> Result<(Arc<Self>, KeptBuckets), PersistError> {
        let mode = match config.sync {
            Sync::Always | Sync::Group => journal::SyncMode::Group,
            Sync::Os => journal::SyncMode::Os,
        };
        let settings = JournalConfig {
            mode,
            when_full: WhenFull::Wait,
            ..JournalConfig::default()
        };
        let (mut journal, recovered) = FileJournal::open_on(disk, settings)?;
        let buckets = restore(&recovered, config, keys)?;
        let last = recovered.last().get();
        let progress = Arc::new(Progress::new(config.sync, last));
        let told = Arc::clone(&progress);
        journal.on_synced(Box::new(move |synced| told.moved_to(synced)));
        let told = Arc::clone(&progress);
        journal.on_stored(Box::new(move |stored| match &stored {
            Ok(_) => told.stored(Ok(())),
            Err(error) => told.stored(Err(error)),
        }));
        let persistence = Arc::new(Self {
            snapshot_bytes: config.snapshot_bytes.max(1 << 20),
            keep_buckets: config.keep_buckets,
            writer: Mutex::new(Writer {
                journal,
                record: Vec::new(),
                bytes: 0,
            }),
            appended: AtomicU64::new(last),
            progress,
            _lock: lock,
        });
        Ok((persistence, buckets))
    }

    /// Hands what was changed to the disk and waits as long as it must before the changes are
    /// acknowledged. Fails where the disk did, once for every record: `told` is the newest one that the
    /// caller knows of, so that reads go on, since nothing is changed any more.
    pub(crate) fn settle(&self, told: &mut u64) -> Result<(), Unsettled> {
        let target = self.appended.load(Ordering::Acquire);
        let is_told = std::mem::replace(told, target) == target;
        if self.progress.is_synced(target) || is_told && self.progress.refuses() {
            return Ok(());
        }
        self.writer().journal.commit();
        self.progress.settle(target)
    }

    /// The newest record, for [`poll_settled`](Self::poll_settled).
    #[cfg(feature = "valkyrie")]
    pub(crate) fn appended(&self) -> u64 {
        self.appended.load(Ordering::Acquire)
    }

    /// As [`settle`](Self::settle), up to this record and without blocking the thread. Fails where the
    /// disk refused it.
    #[cfg(feature = "valkyrie")]
    pub(crate) fn poll_settled(
        &self,
        target: u64,
        cx: &Context<'_>,
    ) -> Poll<Result<(), Unsettled>> {
        if self.progress.is_synced(target) {
            return Poll::Ready(Ok(()));
        }
        self.writer().journal.commit();
        self.progress.poll_settled(target, cx)
    }

    /// Why changes are refused, where they are.
    pub(crate) fn failure(&self) -> Option<String> {
        self.progress.failure()
    }

    /// What became of snapshots.
    pub(crate) fn snapshots(&self) -> Snapshots {
        self.progress.snapshots()
    }

    /// Bytes of records since the last snapshot was begun.
    pub(crate) fn bytes(&self) -> u64 {
        self.writer().bytes
    }

    /// Whether there are so many records that a snapshot is due, or one that failed is to be tried again.
    pub(crate) fn is_due(&self) -> bool {
        if self.progress.refuses() {
            return false;
        }
        match self.progress.snapshots().failed {
            Some(failed) => failed.elapsed() >= SNAPSHOT_PAUSE,
            None => self.bytes() >= self.snapshot_bytes,
        }
    }

    /// Begins a snapshot, unless one is being made. Whoever gets `true` calls
    /// [`snapshot`](Self::snapshot).
    pub(crate) fn begin_snapshot(&self, now: Moment) -> bool {
        self.progress.begin_snapshot(now)
    }

    /// The snapshot that was begun cannot be made.
    pub(crate) fn no_snapshot(&self, error: &io::Error) {
        self.progress.stored(Err(error));
    }

    /// Whether snapshots have buckets.
    pub(crate) const fn keeps_buckets(&self) -> bool {
        self.keep_buckets
    }

    /// Copies all entries and gives them to the journal, which stores them and then lets older records
    /// go.
    pub(crate) fn snapshot(&self, keys: &Keyspace, buckets: &Buckets, now: Moment) {
        let begin = {
            let mut writer = self.writer();
            writer.bytes = 0;
            writer.journal.appended()
        };
        let mut state = Vec::new();
        for shard in keys.shards() {
            for entry in shard.entries().filter(|entry| !entry.is_over(now.ms())) {
                piece(&mut state, |state| entry.encode(state));
            }
        }
        if self.keep_buckets {
            kept::encode(buckets, now, |encode| piece(&mut state, encode));
        }
        let mut writer = self.writer();
        writer.journal.commit();
        let taken = writer.journal.snapshot(begin, state);
        drop(writer);
        match taken {
            Ok(Taken::Yes) => {}
            // The journal has let go of the one before by the time that it says so.
            Ok(Taken::Busy) => self
                .progress
                .stored(Err(&"an earlier one is still being written")),
            Err(error) => self.progress.stored(Err(&error)),
        }
    }

    fn append(&self, encode: impl FnOnce(&mut Vec<u8>)) {
        let mut writer = self.writer();
        let Writer {
            journal,
            record,
            bytes,
        } = &mut *writer;
        record.clear();
        encode(record);
        match journal.append(record) {
            Ok(index) => {
                *bytes += record.len() as u64;
                self.appended.store(index.get(), Ordering::Release);
            }
            // From here on no change is acknowledged: this one counts as one that is never synced.
            Err(error) => {
                self.progress.refuse(&error);
                self.appended.fetch_add(1, Ordering::AcqRel);
            }
        }
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Persistence {
    fn written(&self, entry: &Entry) {
        self.append(|out| entry.encode(out));
    }

    fn removed(&self, entry: &Entry, version: u64, cause: Cause) {
        // What has ended by itself does so again.
        if cause != Cause::Expired {
            self.append(|out| entry.encode_removal(version, out));
        }
    }
}

/// Puts what a journal has into `keys`; gives the buckets that are to be kept.
fn restore(
    recovered: &Recovered,
    config: &PersistConfig,
    keys: &Keyspace,
) -> Result<KeptBuckets, PersistError> {
    let wrong = |index| {
        move |error| PersistError::Record {
            directory: config.directory.clone(),
            index,
            error,
        }
    };
    let mut buckets = KeptBuckets::default();
    if let Some((_, snapshot)) = recovered.snapshot() {
        for record in pieces(snapshot) {
            match kept::is_buckets(record) {
                // They are left out where nobody wants them any more.
                true if config.keep_buckets => buckets.add(record),
                true => {}
                false => keys.apply(record).map_err(wrong(0))?,
            }
        }
    }
    for (index, record) in recovered.records() {
        keys.apply(record).map_err(wrong(index.get()))?;
    }
    keys.level_versions();
    Ok(buckets)
}

/// Appends a record behind its length.
fn piece(state: &mut Vec<u8>, encode: impl FnOnce(&mut Vec<u8>)) {
    let start = state.len();
    state.extend([0; 4]);
    encode(state);
    let length = (state.len() - start - 4) as u32;
    if let Some(place) = state.get_mut(start..start + 4) {
        place.copy_from_slice(&length.to_le_bytes());
    }
}

/// Records behind their lengths.
fn pieces(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = bytes.split_first_chunk()?;
        // The file has a checksum, so it ends with a whole record.
        let (record, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        bytes = rest;
        Some(record)
    })
}

/// Takes a directory until the process ends.
fn lock(directory: &Path) -> Result<File, PersistError> {
    let failed = |error| PersistError::Directory {
        directory: directory.to_owned(),
        error,
    };
    std::fs::create_dir_all(directory).map_err(failed)?;
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(false);
    let file = options.open(directory.join("lock")).map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(PersistError::Held {
            directory: directory.to_owned(),
        }),
        Err(error) => Err(failed(error.into())),
    }
}
