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
/// Calls go: [`write`](Self::write) any number of times, then [`sync`](Self::sync). After an error
/// of either the log must not be used any more.
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
    pub(crate) file: F,
    pub(crate) salt: u32,
    pub(crate) offset: u64,
    pub(crate) capacity: u64,
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
    /// # Errors
    /// [`JournalError::Disk`]; any part of the batch may be in the file then.
    pub fn write(&mut self, batch: &mut Batch) -> Result<(), JournalError> {
        if batch.is_empty() {
            return Ok(());
        }
        let bytes = batch.bytes.len() as u64;
        if self.segment.offset + bytes > self.segment.capacity {
            self.roll(bytes)?;
        }
        let segment = &mut self.segment;
        let marked = batch.marked(self.durable, segment.salt);
        let written = segment.file.write_at(segment.offset, marked);
        written.map_err(JournalError::disk("write", &segment.name))?;
        segment.offset += bytes;
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

    /// The last record written.
    #[must_use]
    pub fn last(&self) -> Index {
        self.last
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

/// Makes a segment durable with nothing but its header.
fn begin<D: Disk>(
    disk: &D,
    header: Header,
    capacity: u64,
) -> Result<Segment<D::File>, JournalError> {
    let name = recover::segment_name(header.first);
    let created = disk.create(&name, capacity);
    let mut file = created.map_err(JournalError::disk("create", &name))?;
    file.write_at(0, &header.encode())
        .map_err(JournalError::disk("write", &name))?;
    file.sync().map_err(JournalError::disk("sync", &name))?;
    disk.sync_names()
        .map_err(JournalError::disk("sync the directory of", &name))?;
    let offset = HEADER_BYTES as u64;
    Ok(Segment {
        name,
        file,
        salt: header.chain,
        offset,
        capacity,
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
    let mut file = disk
        .open(&name)
        .map_err(JournalError::disk("open", &name))?;
    // Cutting also syncs: a killed process leaves records in the page cache that no sync covered,
    // and the recovered state is about to be built on them. The same goes for the file's name.
    file.reset_tail(tail.end, capacity)
        .map_err(JournalError::disk("cut the tail of", &name))?;
    disk.sync_names()
        .map_err(JournalError::disk("sync the directory of", &name))?;
    Ok(Segment {
        name,
        file,
        salt: tail.salt,
        offset: tail.end,
        capacity,
    })
}
