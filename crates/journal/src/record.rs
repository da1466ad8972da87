//! The bytes of a segment: its header, records and marks, and the scan that reads them back.
//!
//! ```text
//! header  magic "RCJOURNL", u32 version, u32 chain, u64 first index, u32 crc32c of the above
//! record  u32 length, u32 crc, u64 index, bytes
//! mark    u32 0xFFFFFFFF, u32 crc, u64 index
//! ```
//! All numbers are big-endian. The crc of a record goes on from the crc of the record before it (a
//! header's `chain` is that of the last record of the segment before), so a stale record behind
//! a rewritten tail never fits. A mark stands at the head of a batch and says that every record up
//! to its index was synced before the batch was written: damage in front of a mark is damage of
//! acknowledged records, damage behind the last mark is a torn tail. Its crc starts anew, so
//! that it can be found behind a damaged place.

use crate::{Index, JournalError};

/// Longest record, in bytes. A length over it is damage and not a reason to allocate.
pub const RECORD_BYTES_MAX: usize = 64 << 20;

pub(crate) const HEADER_BYTES: usize = 28;
pub(crate) const VERSION: u32 = 1;
const MAGIC: &[u8; 8] = b"RCJOURNL";
const HEAD_BYTES: usize = 16;
const MARK: u32 = u32::MAX;

/// Records encoded one after the other, with room for a mark in front.
#[derive(Debug)]
pub struct Batch {
    pub(crate) bytes: Vec<u8>,
    pub(crate) last: Index,
    pub(crate) chain: u32,
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            bytes: vec![0; HEAD_BYTES],
            last: Index::ZERO,
            chain: 0,
        }
    }
}

impl Batch {
    /// Whether there is no record in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.len() == HEAD_BYTES
    }

    /// Bytes of its records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len() - HEAD_BYTES
    }

    /// Forgets its records and keeps the allocation.
    pub fn clear(&mut self) {
        self.bytes.truncate(HEAD_BYTES);
    }

    /// Its bytes, led by a mark that says that everything up to `synced` is durable.
    pub(crate) fn marked(&mut self, synced: Index, salt: u32) -> &[u8] {
        let mark = mark(synced, salt);
        if let Some(room) = self.bytes.first_chunk_mut() {
            *room = mark;
        }
        &self.bytes
    }

    /// Takes over the records of `other`, which follow its own, and leaves it empty.
    pub(crate) fn absorb(&mut self, other: &mut Self) {
        if self.is_empty() {
            std::mem::swap(&mut self.bytes, &mut other.bytes);
        } else {
            self.bytes.extend_from_slice(other.unmarked());
        }
        self.last = other.last;
        self.chain = other.chain;
        other.clear();
    }

    fn unmarked(&self) -> &[u8] {
        self.bytes.get(HEAD_BYTES..).unwrap_or_default()
    }
}

/// Numbers records and computes their chained checksums.
#[derive(Debug, Clone, Copy)]
pub struct Encoder {
    pub(crate) last: Index,
    pub(crate) chain: u32,
}

impl Encoder {
    /// The last record encoded.
    #[must_use]
    pub fn last(&self) -> Index {
        self.last
    }

    /// Adds a record to `batch`.
    ///
    /// # Errors
    /// [`JournalError::TooLarge`] over [`RECORD_BYTES_MAX`]; nothing changes then.
    pub fn push(&mut self, batch: &mut Batch, record: &[u8]) -> Result<Index, JournalError> {
        let length = u32::try_from(record.len()).unwrap_or(u32::MAX);
        if record.len() > RECORD_BYTES_MAX {
            return Err(JournalError::TooLarge {
                bytes: record.len(),
                max: RECORD_BYTES_MAX,
            });
        }
        self.last = self.last.next();
        self.chain = record_crc(self.chain, length, self.last, record);
        batch
            .bytes
            .extend_from_slice(&head(length, self.chain, self.last));
        batch.bytes.extend_from_slice(record);
        batch.last = self.last;
        batch.chain = self.chain;
        Ok(self.last)
    }
}

/// The first bytes of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// Index of its first record.
    pub(crate) first: Index,
    /// Checksum of the record before the first.
    pub(crate) chain: u32,
}

impl Header {
    pub(crate) fn encode(self) -> [u8; HEADER_BYTES] {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_be_bytes());
        bytes.extend_from_slice(&self.chain.to_be_bytes());
        bytes.extend_from_slice(&self.first.get().to_be_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_be_bytes());
        let mut header = [0; HEADER_BYTES];
        header.copy_from_slice(&bytes);
        header
    }

    /// The header at the start of `bytes`, its version, or `None` when it is torn.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Result<Self, u32>> {
        let (magic, rest) = bytes.split_first_chunk::<8>()?;
        let (version, rest) = take_u32(rest)?;
        let (chain, rest) = take_u32(rest)?;
        let (first, rest) = take_u64(rest)?;
        let (crc, _) = take_u32(rest)?;
        let covered = bytes.get(..HEADER_BYTES - 4)?;
        if magic != MAGIC || crc32c::crc32c(covered) != crc {
            return None;
        }
        if version != VERSION {
            return Some(Err(version));
        }
        Some(Ok(Self {
            first: Index::new(first),
            chain,
        }))
    }
}

/// Where a scan of a segment ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scan {
    /// The last record that is whole.
    pub(crate) last: Index,
    /// Its checksum.
    pub(crate) chain: u32,
    /// Bytes up to its end.
    pub(crate) end: usize,
    /// Everything in front of this place is known to have been synced.
    pub(crate) proven: usize,
}

/// Reads all whole records of a segment.
///
/// `Err` holds the offset of damage in front of a mark.
pub(crate) fn scan(bytes: &[u8], header: Header) -> Result<Scan, usize> {
    let mut records = Records::new(bytes, header);
    let (mut batches, mut mark) = (Vec::new(), None);
    while let Some((index, _)) = records.next() {
        if records.mark != mark {
            mark = records.mark;
            batches.extend(mark.map(|(_, start)| (index, start)));
        }
    }
    let last = records.last;
    let end = records.offset;
    let rest = bytes.get(end..).unwrap_or_default();
    if marks(rest, header.chain).any(|index| index > last) {
        return Err(end);
    }
    let proven = match records.mark {
        // Not even the header is, where whoever began the segment got no further.
        None => 0,
        Some((synced, _)) if synced >= last => end,
        Some((synced, _)) => {
            let mut batches = batches.into_iter().rev();
            let doubtful = batches.find(|(first, _)| *first <= synced.next());
            doubtful.map_or(0, |(_, start)| start)
        }
    };
    Ok(Scan {
        last,
        chain: records.chain,
        end,
        proven,
    })
}

/// The records of one segment, in order.
#[derive(Debug)]
pub struct Records<'a> {
    bytes: &'a [u8],
    salt: u32,
    last: Index,
    chain: u32,
    offset: usize,
    /// The last mark: what it says, and where it begins.
    mark: Option<(Index, usize)>,
}

impl<'a> Records<'a> {
    pub(crate) fn new(bytes: &'a [u8], header: Header) -> Self {
        let last = Index::new(header.first.get().saturating_sub(1));
        Self {
            bytes,
            salt: header.chain,
            last,
            chain: header.chain,
            offset: HEADER_BYTES,
            mark: None,
        }
    }

    fn read(&mut self) -> Option<(Index, &'a [u8])> {
        loop {
            let rest = self.bytes.get(self.offset..)?;
            let (length, rest) = take_u32(rest)?;
            let (crc, rest) = take_u32(rest)?;
            let (index, rest) = take_u64(rest)?;
            let index = Index::new(index);
            if length == MARK {
                if crc != mark_crc(index, self.salt) || index > self.last {
                    return None;
                }
                self.mark = Some((index, self.offset));
                self.offset += HEAD_BYTES;
                continue;
            }
            let record = rest.get(..usize::try_from(length).ok()?)?;
            if index != self.last.next() || crc != record_crc(self.chain, length, index, record) {
                return None;
            }
            self.last = index;
            self.chain = crc;
            self.offset += HEAD_BYTES + record.len();
            return Some((index, record));
        }
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = (Index, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        self.read()
    }
}

/// The indices of all marks in `bytes`, wherever they begin.
fn marks(bytes: &[u8], salt: u32) -> impl Iterator<Item = Index> {
    let written = bytes.len() - trailing_zeros(bytes);
    let mut from = 0;
    std::iter::from_fn(move || {
        loop {
            let rest = bytes.get(from..written)?;
            from += rest.windows(4).position(|window| window == [0xFF; 4])?;
            let found = bytes.get(from..)?;
            from += 1;
            let (crc, rest) = take_u32(found.get(4..)?)?;
            let (index, _) = take_u64(rest)?;
            if crc == mark_crc(Index::new(index), salt) {
                return Some(Index::new(index));
            }
        }
    })
}

/// How many zero bytes `bytes` ends with. A preallocated segment is zeros almost all of the time.
fn trailing_zeros(bytes: &[u8]) -> usize {
    let blocks = bytes
        .rchunks(4096)
        .take_while(|block| **block == [0; 4096])
        .count();
    blocks * 4096
}

fn head(length: u32, crc: u32, index: Index) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    let (length_room, rest) = head.split_at_mut(4);
    let (crc_room, index_room) = rest.split_at_mut(4);
    length_room.copy_from_slice(&length.to_be_bytes());
    crc_room.copy_from_slice(&crc.to_be_bytes());
    index_room.copy_from_slice(&index.get().to_be_bytes());
    head
}

fn record_crc(chain: u32, length: u32, index: Index, record: &[u8]) -> u32 {
    let mut covered = [0; 12];
    let (length_room, index_room) = covered.split_at_mut(4);
    length_room.copy_from_slice(&length.to_be_bytes());
    index_room.copy_from_slice(&index.get().to_be_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(chain, &covered), record)
}

fn mark(synced: Index, salt: u32) -> [u8; HEAD_BYTES] {
    head(MARK, mark_crc(synced, salt), synced)
}

// The salt keeps bytes that somebody put into a record from passing as a mark of this segment.
fn mark_crc(index: Index, salt: u32) -> u32 {
    crc32c::crc32c_append(salt ^ MARK, &index.get().to_be_bytes())
}

fn take_u32(bytes: &[u8]) -> Option<(u32, &[u8])> {
    bytes
        .split_first_chunk()
        .map(|(number, rest)| (u32::from_be_bytes(*number), rest))
}

fn take_u64(bytes: &[u8]) -> Option<(u64, &[u8])> {
    bytes
        .split_first_chunk()
        .map(|(number, rest)| (u64::from_be_bytes(*number), rest))
}
