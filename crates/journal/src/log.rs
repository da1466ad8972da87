//! The format on a disk: segments that follow each other, without threads.

use std::sync::Arc;

use crate::{
    Batch, Disk, DiskFile, Encoder, Index, JournalError, Recovered,
    record::{HEADER_BYTES, Header},
    recover, snapshot,
};

/// How a [`Log`] lays out its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogConfig {
    /// Size of a segment in bytes, set aside when it begins. A longer batch gets a longer segment.
    /// Default 16 MiB; it is also what a restart reads at least.
    pub segment_bytes: u64,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 16 << 20,
        }
    }
}

/// A journal's files on a [`Disk`].
///
/// Calls go: [`write`](Self::write) any number of times, then [`sync`](Self::sync), or
/// [`unsynced`](Self::unsynced) for a sync beside further writes. After an error of a sync, and of a
/// write unless it [passes](JournalError::is_passing), the log must not be used any more.
#[derive(Debug)]
pub struct Log<D: Disk> {
    disk: Arc<D>,
    config: LogConfig,
    segment: Segment<D::File>,
    sealed: Vec<Sealed>,
    last: Index,
    chain: u32,
    durable: Index,
}

/// The segment being written.
#[derive(Debug)]
pub(crate) struct Segment<F> {
    pub(crate) name: String,
    pub(crate) file: Arc<F>,
    pub(crate) salt: u32,
    pub(crate) offset: u64,
    pub(crate) capacity: u64,
    /// Up to where writes that failed may have left something.
    pub(crate) torn: u64,
}

/// A segment that gets no more records.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) name: String,
    pub(crate) last: Index,
}

impl<D: Disk> Log<D> {
    /// Opens the journal on `disk`, or begins one when there is none.
    ///
    /// A torn tail is cut off; it holds no acknowledged record.
    ///
    /// # Errors
    /// [`JournalError::Corrupt`] for damage of records that had been synced,
    /// [`JournalError::Version`] for a foreign format, [`JournalError::Disk`] for the rest.
    pub fn open(disk: D, config: LogConfig) -> Result<(Self, Recovered), JournalError> {
        let disk = Arc::new(disk);
        let found = recover::recover(&*disk)?;
        let segment = match &found.tail {
            Some(tail) => reopen(&*disk, tail, config)?,
            None => begin(&*disk, found.header(), config.segment_bytes)?,
        };
        let last = found.recovered.last();
        let log = Self {
            disk,
            config,
            segment,
            sealed: found.sealed,
            last,
            chain: found.chain,
            durable: last,
        };
        Ok((log, found.recovered))
    }

    /// An encoder that goes on after the last record.
    #[must_use]
    pub fn encoder(&self) -> Encoder {
        Encoder {
            last: self.last,
            chain: self.chain,
        }
    }

    /// Writes a batch behind everything before it. It is not durable yet.
    ///
    /// Where the segment has no room it is synced and another one begins, so no other sync may be running:
    /// of two syncs of a file only one hears that the disk failed.
    ///
    /// # Errors
    /// [`JournalError::Disk`]; any part of the batch may be in the file then. Where the error
    /// [passes](JournalError::is_passing) the same batch may be written again.
    pub fn write(&mut self, batch: &mut Batch) -> Result<(), JournalError> {
        if batch.is_empty() {
            return Ok(());
        }
        let bytes = batch.bytes.len() as u64;
        if self.segment.offset + bytes > self.segment.capacity {
            self.roll(bytes)?;
        }
        self.write_beside(batch)
    }

    /// As [`write`](Self::write) for the time of another sync: the segment grows as it has to.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_beside(&mut self, batch: &mut Batch) -> Result<(), JournalError> {
        let segment = &mut self.segment;
        let marked = batch.marked(self.durable, segment.salt);
        let end = segment.offset + marked.len() as u64;
        segment
            .file
            .write_at(segment.offset, marked)
            .map_err(|error| {
                segment.torn = segment.torn.max(end);
                JournalError::disk("write", &segment.name)(error)
            })?;
        segment.offset = end;
        self.last = batch.last;
        self.chain = batch.chain;
        Ok(())
    }

    /// Makes everything written durable and returns the last durable record.
    ///
    /// # Errors
    /// [`JournalError::Disk`]; what was written since the last sync may be lost then.
    pub fn sync(&mut self) -> Result<Index, JournalError> {
        if self.durable < self.last {
            let segment = &mut self.segment;
            segment
                .file
                .sync()
                .map_err(JournalError::disk("sync", &segment.name))?;
            self.durable = self.last;
        }
        Ok(self.durable)
    }

    /// What is written and not durable, for a sync that goes on beside further writes; none where all
    /// is. Whoever syncs it says so with [`synced`](Self::synced).
    #[must_use]
    pub fn unsynced(&self) -> Option<Unsynced<D::File>> {
        (self.durable < self.last).then(|| Unsynced {
            file: Arc::clone(&self.segment.file),
            name: self.segment.name.clone(),
            last: self.last,
        })
    }

    /// Hears that everything up to this record is durable.
    pub fn synced(&mut self, index: Index) {
        self.durable = self.durable.max(index);
    }

    /// The last record written.
    #[must_use]
    pub fn last(&self) -> Index {
        self.last
    }

    /// The last record that is known to be durable.
    #[must_use]
    pub fn durable(&self) -> Index {
        self.durable
    }

    /// The disk, for storing a snapshot beside the log.
    #[must_use]
    pub fn disk(&self) -> Arc<D> {
        Arc::clone(&self.disk)
    }

    /// Stores the state after record `index`, durably and in one piece.
    ///
    /// `index` must have been synced. Old segments stay until [`forget`](Self::forget).
    ///
    /// # Errors
    /// [`JournalError::Disk`]; the snapshot before it stays in force then.
    pub fn store_snapshot(disk: &D, index: Index, state: &[u8]) -> Result<(), JournalError> {
        snapshot::store(disk, index, state)
    }

    /// Removes the segments that hold no record after `index`, which a stored snapshot covers.
    ///
    /// # Errors
    /// [`JournalError::Disk`].
    pub fn forget(&mut self, index: Index) -> Result<(), JournalError> {
        for sealed in self.sealed.extract_if(.., |sealed| sealed.last <= index) {
            let removed = self.disk.remove(&sealed.name);
            removed.map_err(JournalError::disk("remove", &sealed.name))?;
        }
        Ok(())
    }

    /// Seals the segment and begins one with room for `bytes`.
    fn roll(&mut self, bytes: u64) -> Result<(), JournalError> {
        // A later segment must imply that this one is whole, in every sync mode.
        self.sync()?;
        let segment = &mut self.segment;
        if segment.torn > segment.offset {
            let cut = segment.file.reset_tail(segment.offset, 0);
            cut.map_err(JournalError::disk("cut the tail of", &segment.name))?;
            segment.torn = segment.offset;
        }
        let capacity = self.config.segment_bytes.max(bytes + HEADER_BYTES as u64);
        let header = Header {
            first: self.last.next(),
            chain: self.chain,
        };
        let next = begin(&*self.disk, header, capacity)?;
        let sealed = std::mem::replace(&mut self.segment, next);
        self.sealed.push(Sealed {
            name: sealed.name,
            last: self.last,
        });
        Ok(())
    }
}

/// Records of a [`Log`] that are written and not durable.
#[derive(Debug)]
pub struct Unsynced<F> {
    file: Arc<F>,
    name: String,
    last: Index,
}

impl<F: DiskFile> Unsynced<F> {
    /// Makes them durable and returns the last of them.
    ///
    /// # Errors
    /// [`JournalError::Disk`]; any of them may be lost then, and the log is over.
    pub fn sync(&self) -> Result<Index, JournalError> {
        let synced = self.file.sync();
        synced.map_err(JournalError::disk("sync", &self.name))?;
        Ok(self.last)
    }
}

/// Makes a segment durable with nothing but its header.
fn begin<D: Disk>(
    disk: &D,
    header: Header,
    capacity: u64,
) -> Result<Segment<D::File>, JournalError> {
    let name = recover::segment_name(header.first);
    let file = disk.create(&name, capacity).map_err(|error| {
        // What was set aside before the disk was full is of more use to others.
        let _ = disk.remove(&name);
        JournalError::disk("create", &name)(error)
    })?;
    file.write_at(0, &header.encode())
        .map_err(JournalError::disk("write", &name))?;
    file.sync().map_err(JournalError::disk("sync", &name))?;
    disk.sync_names()
        .map_err(JournalError::disk("sync the directory of", &name))?;
    let offset = HEADER_BYTES as u64;
    Ok(Segment {
        name,
        file: Arc::new(file),
        salt: header.chain,
        offset,
        capacity,
        torn: 0,
    })
}

/// Opens the last segment for more records, without what was torn behind its last whole one.
fn reopen<D: Disk>(
    disk: &D,
    tail: &recover::Tail,
    config: LogConfig,
) -> Result<Segment<D::File>, JournalError> {
    let name = tail.name.clone();
    let capacity = config.segment_bytes.max(tail.end);
    let file = disk
        .open(&name)
        .map_err(JournalError::disk("open", &name))?;
    // A killed process leaves records in the page cache that no sync covered, and the recovered state is
    // about to be built on them. Where a sync failed the kernel may take them for written, and another
    // sync would leave them out; so they are written once more. Cutting syncs them.
    let (at, records) = &tail.doubtful;
    if !records.is_empty() {
        file.write_at(*at, records)
            .map_err(JournalError::disk("write", &name))?;
    }
    file.reset_tail(tail.end, capacity)
        .map_err(JournalError::disk("cut the tail of", &name))?;
    disk.sync_names()
        .map_err(JournalError::disk("sync the directory of", &name))?;
    Ok(Segment {
        name,
        file: Arc::new(file),
        salt: tail.salt,
        offset: tail.end,
        capacity,
        torn: 0,
    })
}
