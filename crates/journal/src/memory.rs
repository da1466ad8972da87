//! A journal without a disk, for measurements and tests.

use crate::{Index, Journal, JournalError, SyncedFn, Taken, record::RECORD_BYTES_MAX};

/// Keeps records in memory and calls everything durable at once.
///
/// Records up to a snapshot are dropped. The callback runs inside [`Journal::commit`].
#[derive(Default)]
pub struct MemoryJournal {
    records: Vec<u8>,
    ends: Vec<usize>,
    before: Index,
    appended: Index,
    synced: Index,
    snapshot: Option<(Index, Vec<u8>)>,
    callback: Option<SyncedFn>,
}

impl std::fmt::Debug for MemoryJournal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryJournal")
            .field("appended", &self.appended)
            .finish_non_exhaustive()
    }
}

impl MemoryJournal {
    /// An empty journal.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The newest snapshot and the record it stands after.
    #[must_use]
    pub fn stored_snapshot(&self) -> Option<(Index, &[u8])> {
        self.snapshot
            .as_ref()
            .map(|(index, state)| (*index, state.as_slice()))
    }

    /// All committed records after the snapshot, in order.
    pub fn records(&self) -> impl Iterator<Item = (Index, &[u8])> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let committed = self.synced.get().saturating_sub(self.before.get());
        let spans = starts.zip(self.ends.iter().copied()).enumerate();
        let spans = spans.take(usize::try_from(committed).unwrap_or(usize::MAX));
        spans.map(|(number, (start, end))| {
            let index = Index::new(self.before.get() + number as u64 + 1);
            (index, self.records.get(start..end).unwrap_or_default())
        })
    }
}

impl Journal for MemoryJournal {
    fn append(&mut self, record: &[u8]) -> Result<Index, JournalError> {
        if record.len() > RECORD_BYTES_MAX {
            return Err(JournalError::TooLarge {
                bytes: record.len(),
                max: RECORD_BYTES_MAX,
            });
        }
        self.records.extend_from_slice(record);
        self.ends.push(self.records.len());
        self.appended = self.appended.next();
        Ok(self.appended)
    }

    fn commit(&mut self) {
        if self.synced == self.appended {
            return;
        }
        self.synced = self.appended;
        if let Some(callback) = &mut self.callback {
            callback(Ok(self.synced));
        }
    }

    fn synced(&self) -> Index {
        self.synced
    }

    fn appended(&self) -> Index {
        self.appended
    }

    fn backlog_bytes(&self) -> usize {
        0
    }

    fn on_synced(&mut self, callback: SyncedFn) {
        self.callback = Some(callback);
    }

    fn snapshot(&mut self, index: Index, state: Vec<u8>) -> Result<Taken, JournalError> {
        let dropped = index.get().saturating_sub(self.before.get());
        let dropped = usize::try_from(dropped)
            .unwrap_or(usize::MAX)
            .min(self.ends.len());
        let bytes = dropped
            .checked_sub(1)
            .and_then(|last| self.ends.get(last))
            .copied();
        let bytes = bytes.unwrap_or(0);
        self.records.drain(..bytes);
        self.ends.drain(..dropped);
        for end in &mut self.ends {
            *end -= bytes;
        }
        self.before = Index::new(self.before.get() + dropped as u64);
        self.snapshot = Some((index, state));
        Ok(Taken::Yes)
    }

    fn failed(&self) -> Option<JournalError> {
        None
    }
}
