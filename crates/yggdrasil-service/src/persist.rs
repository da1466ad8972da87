//! Keys that outlive the server.
//!
//! Every change is a record in a journal, appended while its shard is held, so that records of a key
//! are in order. A snapshot is a copy of all entries, taken shard by shard while others change: records
//! from its beginning on are done once more over it, and versions decide what is newer.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
#[cfg(feature = "valkyrie")]
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use journal::{FileJournal, Index, Journal, JournalConfig, JournalError, Taken};
use rustix::fs::{FlockOperation, flock};
use yggdrasil::{Buckets, Cause, Entry, Keyspace, Observer};

use crate::clock::Moment;
use crate::kept::{self, KeptBuckets};

/// When a change is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sync {
    /// After it is on the disk. Nothing acknowledged is ever lost.
    Always,
    /// At once; it is on the disk within [`GROUP_WINDOW`], or answers wait. A kill or a power failure
    /// loses at most the changes of that time.
    #[default]
    Group,
    /// At once; the operating system decides when it is on the disk. A killed server loses what
    /// `Group` loses, a power failure more.
    Os,
}

/// How far the disk may be behind what was acknowledged, with [`Sync::Group`].
pub const GROUP_WINDOW: Duration = Duration::from_millis(100);

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
    sync: Sync,
    snapshot_bytes: u64,
    keep_buckets: bool,
    writer: Mutex<Writer>,
    /// The newest record that was appended.
    appended: AtomicU64,
    progress: Arc<Progress>,
    _lock: File,
}

#[derive(Debug)]
struct Writer {
    journal: FileJournal,
    /// Where records are made.
    record: Vec<u8>,
    /// Bytes of records since the last snapshot began.
    bytes: u64,
}

/// How far the disk is.
#[derive(Debug, Default)]
struct Progress {
    state: Mutex<State>,
    moved: Condvar,
    synced: AtomicU64,
    failed: std::sync::atomic::AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    failure: Option<String>,
    /// Since when something is behind.
    behind_since: Option<Instant>,
    snapshots: u64,
    last_snapshot: Option<Moment>,
    is_snapshotting: bool,
    /// Who waits until a record is on the disk.
    #[cfg(feature = "valkyrie")]
    waiting: Vec<(u64, Waker)>,
}

impl Persistence {
    /// Takes a directory, and puts what it has into `keys`; gives the buckets that are to be kept.
    pub(crate) fn open(
        config: &PersistConfig,
        keys: &Keyspace,
    ) -> Result<(Arc<Self>, KeptBuckets), PersistError> {
        let directory = &config.directory;
        let lock = lock(directory)?;
        let mode = match config.sync {
            Sync::Always | Sync::Group => journal::SyncMode::Group,
            Sync::Os => journal::SyncMode::Os,
        };
        let settings = JournalConfig {
            mode,
            ..JournalConfig::default()
        };
        let (mut journal, recovered) = FileJournal::open(directory.join("journal"), settings)?;
        let wrong = |index| {
            move |error| PersistError::Record {
                directory: directory.clone(),
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
        let last = recovered.last().get();
        let progress = Arc::new(Progress::default());
        progress.synced.store(last, Ordering::Release);
        let told = Arc::clone(&progress);
        journal.on_synced(Box::new(move |synced| told.moved_to(synced)));
        let persistence = Arc::new(Self {
            sync: config.sync,
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
    pub(crate) fn settle(&self, told: &mut u64) -> Result<(), ()> {
        let target = self.appended.load(Ordering::Acquire);
        let is_told = std::mem::replace(told, target) == target;
        if self.progress.synced.load(Ordering::Acquire) >= target
            || is_told && self.progress.failed.load(Ordering::Acquire)
        {
            return Ok(());
        }
        self.writer().journal.commit();
        let mut state = self.progress.lock();
        let since = *state.behind_since.get_or_insert_with(Instant::now);
        let behind = |_: &mut State| {
            let synced = self.progress.synced.load(Ordering::Acquire);
            synced < target && !self.progress.failed.load(Ordering::Acquire)
        };
        let must_wait = match self.sync {
            Sync::Always => true,
            Sync::Group | Sync::Os => since.elapsed() > GROUP_WINDOW / 2,
        };
        if must_wait {
            let waited = self.progress.moved.wait_while(state, behind);
            drop(waited.unwrap_or_else(PoisonError::into_inner));
        }
        self.progress.result()
    }

    /// The newest record, for [`poll_settled`](Self::poll_settled).
    #[cfg(feature = "valkyrie")]
    pub(crate) fn appended(&self) -> u64 {
        self.appended.load(Ordering::Acquire)
    }

    /// As [`settle`](Self::settle), up to this record and without blocking the thread. Fails where the
    /// disk refused it.
    #[cfg(feature = "valkyrie")]
    pub(crate) fn poll_settled(&self, target: u64, cx: &Context<'_>) -> Poll<Result<(), ()>> {
        if self.progress.synced.load(Ordering::Acquire) >= target {
            return Poll::Ready(Ok(()));
        }
        self.writer().journal.commit();
        let mut state = self.progress.lock();
        // Whoever moves on from here on wakes who waits.
        if self.progress.synced.load(Ordering::Acquire) >= target {
            return Poll::Ready(Ok(()));
        }
        let since = *state.behind_since.get_or_insert_with(Instant::now);
        let must_wait = match self.sync {
            Sync::Always => true,
            Sync::Group | Sync::Os => since.elapsed() > GROUP_WINDOW / 2,
        };
        if !must_wait || self.progress.failed.load(Ordering::Acquire) {
            return Poll::Ready(self.progress.result());
        }
        state.waiting.push((target, cx.waker().clone()));
        Poll::Pending
    }

    /// What the disk refused, after which nothing is changed any more.
    pub(crate) fn failure(&self) -> Option<String> {
        match self.progress.failed.load(Ordering::Acquire) {
            true => self.progress.lock().failure.clone(),
            false => None,
        }
    }

    /// When the newest snapshot was begun, and how many were made.
    pub(crate) fn snapshots(&self) -> (Option<Moment>, u64) {
        let state = self.progress.lock();
        (state.last_snapshot, state.snapshots)
    }

    /// Whether there are so many records that a snapshot is due.
    pub(crate) fn is_due(&self) -> bool {
        self.writer().bytes >= self.snapshot_bytes
    }

    /// Begins a snapshot, unless one is being made. Whoever gets `true` calls
    /// [`snapshot`](Self::snapshot).
    pub(crate) fn begin_snapshot(&self) -> bool {
        !std::mem::replace(&mut self.progress.lock().is_snapshotting, true)
    }

    /// Whether snapshots have buckets.
    pub(crate) const fn keeps_buckets(&self) -> bool {
        self.keep_buckets
    }

    /// Copies all entries and gives them to the journal, which then lets older records go; `false` where
    /// it still stores an earlier copy.
    pub(crate) fn snapshot(&self, keys: &Keyspace, buckets: &Buckets, now: Moment) -> bool {
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
        let mut state = self.progress.lock();
        state.is_snapshotting = false;
        match &taken {
            Ok(Taken::Yes) => {
                state.snapshots += 1;
                state.last_snapshot = Some(now);
            }
            Ok(Taken::Busy) => tracing::info!("a snapshot is still being written"),
            Err(error) => tracing::error!(%error, "no snapshot"),
        }
        !matches!(taken, Ok(Taken::Busy))
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
                self.progress.fail(&error);
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

impl Progress {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn moved_to(&self, synced: Result<Index, JournalError>) {
        match synced {
            Ok(index) => {
                let mut state = self.lock();
                self.synced.fetch_max(index.get(), Ordering::AcqRel);
                // Whoever is still behind says so anew.
                state.behind_since = None;
                #[cfg(feature = "valkyrie")]
                state
                    .waiting
                    .extract_if(.., |(target, _)| *target <= index.get())
                    .for_each(|(_, waker)| waker.wake());
            }
            Err(error) => self.fail(&error),
        }
        self.moved.notify_all();
    }

    fn fail(&self, error: &JournalError) {
        let mut state = self.lock();
        if state.failure.is_none() {
            tracing::error!(%error, "changes are refused from here on");
            state.failure = Some(error.to_string());
        }
        self.failed.store(true, Ordering::Release);
        #[cfg(feature = "valkyrie")]
        state.waiting.drain(..).for_each(|(_, waker)| waker.wake());
    }

    fn result(&self) -> Result<(), ()> {
        match self.failed.load(Ordering::Acquire) {
            true => Err(()),
            false => Ok(()),
        }
    }
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
