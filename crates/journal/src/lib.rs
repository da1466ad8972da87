//! An append-only journal: segments, checksums, group commit, snapshot, recovery.
//!
//! A program that keeps its state in memory appends each change as opaque bytes, hands a batch
//! over with [`Journal::commit`], and tells nobody about a change before [`Journal::synced`] has
//! reached it. After a crash [`FileJournal::open`] gives back the newest snapshot and every record
//! after it. Nothing that was reported as synced is ever lost; what was not may be there or not.
//!
//! - [`Log`] is the file format over a [`Disk`]: no threads, so a simulation can drive it.
//! - [`FileJournal`] puts a [`Log`] on a thread of its own; the next sync starts when the last
//!   one ends, so a batch grows exactly as long as the disk is busy. What comes meanwhile is written a few
//!   milliseconds later all the same, so that a killed process loses no more than that.
//! - [`MemoryJournal`] keeps the contract without a disk.
//! - [`fault::FaultDisk`] is a disk that tears, loses and refuses on request.
//!
//! The first error of a write or a sync ends a journal: what the kernel has dropped after a failed
//! sync cannot be known, so nothing is acknowledged afterwards, and whoever opens the journal next writes
//! once more what no sync is known to cover. Only a disk that was full before anything was changed can
//! be waited for ([`WhenFull`]).
//!
//! ```
//! use journal::{Journal, MemoryJournal};
//! let mut journal = MemoryJournal::new();
//! let index = journal.append(b"job 1 queued")?;
//! journal.commit();
//! assert_eq!(journal.synced(), index);
//! # Ok::<(), journal::JournalError>(())
//! ```

mod disk;
mod error;
pub mod fault;
mod file;
mod log;
mod memory;
mod record;
mod recover;
mod snapshot;

pub use disk::{Disk, DiskFile, FileDisk};
pub use error::JournalError;
pub use file::{FileJournal, JournalConfig, StoredFn, SyncMode, WhenFull, seed};
pub use log::{Log, LogConfig, Unsynced};
pub use memory::MemoryJournal;
pub use record::{Batch, Encoder, RECORD_BYTES_MAX, Records};
pub use recover::Recovered;

/// The number of a record. Records count from 1 without gaps over the life of a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Index(u64);

impl Index {
    /// Before the first record.
    pub const ZERO: Self = Self(0);

    /// The index with this number; 0 is [`Index::ZERO`].
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number of the record.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The index of the record after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}

impl std::fmt::Display for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Called with each new synced index, or once with the error that ended the journal.
///
/// A journal that [waits](WhenFull::Wait) for room calls it with an error that
/// [passes](JournalError::is_passing) when it begins to wait; the next index says that it goes on.
///
/// It runs on the journal's writer thread, so it should only wake somebody up.
pub type SyncedFn = Box<dyn FnMut(Result<Index, JournalError>) + Send>;

/// An ordered, durable sequence of opaque records.
///
/// One owner appends; a `&mut` on every writing call says so. All methods return at once: only the
/// writer behind the journal waits for the disk.
pub trait Journal: Send {
    /// Adds a record behind all earlier ones and returns its number. Nothing is written before
    /// [`commit`](Self::commit).
    ///
    /// # Errors
    /// [`JournalError::TooLarge`] for a record over [`RECORD_BYTES_MAX`], which changes nothing;
    /// otherwise the error that ended the journal.
    fn append(&mut self, record: &[u8]) -> Result<Index, JournalError>;

    /// Hands everything appended so far to the writer as one batch.
    fn commit(&mut self);

    /// The last record that is durable in the sense of the journal's sync mode.
    fn synced(&self) -> Index;

    /// The last record that was appended.
    fn appended(&self) -> Index;

    /// Bytes handed over and not yet synced: the measure for back pressure.
    fn backlog_bytes(&self) -> usize;

    /// Sets the function that hears of progress, replacing an earlier one.
    fn on_synced(&mut self, callback: SyncedFn);

    /// Stores `state`, the state after record `index`, so that records up to `index` may go.
    ///
    /// It is published once `index` is synced, in the background; appending goes on. Returns
    /// whether it was taken: a journal that still stores an earlier snapshot takes no other.
    ///
    /// # Errors
    /// The error that ended the journal.
    fn snapshot(&mut self, index: Index, state: Vec<u8>) -> Result<Taken, JournalError>;

    /// The error that ended the journal, if one did.
    fn failed(&self) -> Option<JournalError>;
}

/// Whether a snapshot was taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It will be stored.
    Yes,
    /// An earlier one is still being stored; try again later.
    Busy,
}
