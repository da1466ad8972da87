//! Reading a journal back: the newest snapshot, and every whole record after it.

use crate::{
    Disk, Index, JournalError,
    log::Sealed,
    record::{self, Header, Records, VERSION},
    snapshot,
};

const SEGMENT_PREFIX: &str = "segment-";

/// The name of the segment that begins with record `first`.
pub(crate) fn segment_name(first: Index) -> String {
    format!("{SEGMENT_PREFIX}{:020}", first.get())
}

/// What a journal held when it was opened.
#[derive(Debug, Default)]
pub struct Recovered {
    snapshot: Option<(Index, Vec<u8>)>,
    segments: Vec<(Header, Vec<u8>)>,
    last: Index,
    torn_bytes: u64,
}

impl Recovered {
    /// The newest snapshot and the record it stands after.
    #[must_use]
    pub fn snapshot(&self) -> Option<(Index, &[u8])> {
        self.snapshot
            .as_ref()
            .map(|(index, state)| (*index, state.as_slice()))
    }

    /// All records after the snapshot, in order.
    pub fn records(&self) -> impl Iterator<Item = (Index, &[u8])> {
        let from = self
            .snapshot
            .as_ref()
            .map_or(Index::ZERO, |(index, _)| *index);
        let segments = self.segments.iter();
        let records = segments.flat_map(|(header, bytes)| Records::new(bytes, *header));
        records.skip_while(move |(index, _)| *index <= from)
    }

    /// The last record, or the one of the snapshot when none follows it.
    #[must_use]
    pub fn last(&self) -> Index {
        self.last
    }

    /// Bytes behind the last whole record that were cut off: an unfinished, never acknowledged
    /// write.
    #[must_use]
    pub fn torn_bytes(&self) -> u64 {
        self.torn_bytes
    }
}

/// The segment that gets the next records.
#[derive(Debug)]
pub(crate) struct Tail {
    pub(crate) name: String,
    pub(crate) salt: u32,
    pub(crate) end: u64,
    /// Records that the operating system may have without the disk, and where they begin.
    pub(crate) doubtful: (u64, Vec<u8>),
}

/// Everything a log needs to go on.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) recovered: Recovered,
    pub(crate) sealed: Vec<Sealed>,
    pub(crate) tail: Option<Tail>,
    pub(crate) chain: u32,
}

impl Found {
    /// The header of a segment that begins now.
    pub(crate) fn header(&self) -> Header {
        Header {
            first: self.recovered.last.next(),
            chain: self.chain,
        }
    }

    fn snapshot_index(&self) -> Index {
        self.recovered
            .snapshot
            .as_ref()
            .map_or(Index::ZERO, |(index, _)| *index)
    }

    /// Takes one segment; `place` says whether another follows it.
    fn add(&mut self, name: &str, mut bytes: Vec<u8>, place: Place) -> Result<(), JournalError> {
        let corrupt = |offset, what| corrupt(name, offset, what);
        let header = match Header::decode(&bytes) {
            Some(Ok(header)) => header,
            Some(Err(version)) => {
                return Err(JournalError::Version {
                    file: name.into(),
                    version,
                    known: VERSION,
                });
            }
            // It was being created when the power went; nothing was written behind a torn header.
            None if place == Place::Last && !written_behind_header(&bytes) => return Ok(()),
            None => return Err(corrupt(0, "its header does not match its checksum")),
        };
        self.check_joint(header).map_err(|what| corrupt(0, what))?;
        let scan = record::scan(&bytes, header)
            .map_err(|at| corrupt(at as u64, "a synced record does not match its checksum"))?;
        if place == Place::Inner {
            // The next segment was begun after a sync of this one, so this one ends cleanly.
            if bytes
                .get(scan.end..)
                .is_some_and(|rest| rest.iter().any(|byte| *byte != 0))
            {
                let what = "a synced record does not match its checksum";
                return Err(corrupt(scan.end as u64, what));
            }
            self.sealed.push(Sealed {
                name: name.into(),
                last: scan.last,
            });
        } else {
            let doubtful = bytes.get(scan.proven..scan.end).unwrap_or_default();
            self.recovered.torn_bytes = torn_bytes(&bytes, scan.end);
            self.tail = Some(Tail {
                name: name.into(),
                salt: header.chain,
                end: scan.end as u64,
                doubtful: (scan.proven as u64, doubtful.to_vec()),
            });
        }
        self.recovered.last = scan.last;
        self.chain = scan.chain;
        if scan.last > self.snapshot_index() {
            bytes.truncate(scan.end);
            self.recovered.segments.push((header, bytes));
        }
        Ok(())
    }

    /// Checks that a segment follows the one before it.
    fn check_joint(&self, header: Header) -> Result<(), &'static str> {
        if self.sealed.is_empty() {
            return if header.first > self.snapshot_index().next() {
                Err("records between the snapshot and this first segment are missing")
            } else {
                Ok(())
            };
        }
        if header.first != self.recovered.last.next() {
            return Err("it does not go on where the segment before it ends");
        }
        if header.chain != self.chain {
            return Err("it follows another segment than the one before it");
        }
        Ok(())
    }
}

/// Where in the row of segments one stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Inner,
    Last,
}

/// Reads everything there is, and removes what an interrupted write left behind.
pub(crate) fn recover<D: Disk>(disk: &D) -> Result<Found, JournalError> {
    let mut names = disk
        .list()
        .map_err(JournalError::disk("list", "directory"))?;
    names.sort_unstable();
    let mut found = Found::default();
    found.recovered.snapshot = snapshot::load_newest(disk, &names)?;
    let segments: Vec<_> = names
        .iter()
        .filter(|name| name.starts_with(SEGMENT_PREFIX))
        .collect();
    for (number, name) in segments.iter().enumerate() {
        let place = if number + 1 == segments.len() {
            Place::Last
        } else {
            Place::Inner
        };
        let bytes = disk.read(name).map_err(JournalError::disk("read", name))?;
        found.add(name, bytes, place)?;
    }
    let snapshot = found.snapshot_index();
    if segments.is_empty() || (found.tail.is_none() && found.sealed.is_empty()) {
        found.recovered.last = snapshot;
    }
    if found.recovered.last < snapshot {
        let name = snapshot::name(snapshot);
        return Err(corrupt(
            &name,
            0,
            "it stands after records that the segments do not have",
        ));
    }
    Ok(found)
}

pub(crate) fn corrupt(file: &str, offset: u64, what: &'static str) -> JournalError {
    JournalError::Corrupt {
        file: file.to_owned(),
        offset,
        what,
    }
}

fn written_behind_header(bytes: &[u8]) -> bool {
    let behind = bytes.get(record::HEADER_BYTES..).unwrap_or_default();
    behind.iter().any(|byte| *byte != 0)
}

fn torn_bytes(bytes: &[u8], end: usize) -> u64 {
    let rest = bytes.get(end..).unwrap_or_default();
    rest.iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |at| at as u64 + 1)
}
