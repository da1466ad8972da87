//! Reading a log while it grows: from an offset, from its last lines, or raw.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use valkyrie_frame::log::LogRecord;

use crate::limits::{CHAIN_BLOCK_BYTES, LOG_READ_BYTES};
use crate::logs::chain::Entry;
use crate::logs::chain_path;
use crate::logs::record::{ends_line, walk};

/// Why a log could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The caller's offset lies inside a record or behind the end.
    #[error("offset {offset} is not the start of a log record; use an offset the server gave out")]
    NotARecord {
        /// The offset asked for.
        offset: u64,
    },
    /// The file system's fault.
    #[error("the log {} could not be read", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

/// A record with its place in the log.
#[derive(Debug, Clone, Copy)]
pub struct ReadLine<'a> {
    /// Offset of the record.
    pub offset: u64,
    /// Offset behind it: where to resume.
    pub next: u64,
    /// The record.
    pub record: LogRecord<'a>,
}

/// Reads whole records of one log, each exactly once.
#[derive(Debug)]
pub struct LogReader {
    path: PathBuf,
    /// `None` until the attempt wrote its first byte.
    file: Option<File>,
    position: u64,
    buffer: Vec<u8>,
}

impl LogReader {
    /// A reader at the start of the log at `path`, which need not exist yet.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            file: None,
            position: 0,
            buffer: Vec::new(),
        }
    }

    /// Offset of the next record.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Moves to `offset`, which must be the start of a record or the end of the log.
    ///
    /// # Errors
    /// [`ReadError`]; the reader stays where it was.
    pub fn seek(&mut self, offset: u64) -> Result<(), ReadError> {
        let block = offset / to_u64(CHAIN_BLOCK_BYTES);
        let before = |at: u64, entry: &Entry| at < block && entry.first_record.is_some();
        let from = self
            .index()?
            .filter(|(at, entry)| before(*at, entry))
            .last();
        let mut at = from.map_or(0, |(at, entry)| start_of(at, &entry));
        let was = self.position;
        while at < offset {
            self.position = at;
            self.fill(offset)?;
            let whole = to_u64(self.buffer.len());
            if whole == 0 {
                self.position = was;
                return Err(ReadError::NotARecord { offset });
            }
            at += whole;
        }
        self.position = offset;
        Ok(())
    }

    /// Moves to the start of the last `lines` lines before `end`.
    ///
    /// # Errors
    /// [`ReadError::Io`].
    pub fn seek_tail(&mut self, lines: u64, end: u64) -> Result<(), ReadError> {
        let index: Vec<_> = self
            .index()?
            .filter(|(at, entry)| entry.first_record.is_some() && start_of(*at, entry) < end)
            .collect();
        let (at, before) = index.last().map_or((0, 0), |(at, entry)| {
            (start_of(*at, entry), entry.lines_before)
        });
        let (total, _) = self.count(at, end, u64::MAX)?;
        let skip = (before + total).saturating_sub(lines);
        let from = index.iter().rfind(|(_, entry)| entry.lines_before <= skip);
        let (at, before) = from.map_or((0, 0), |(at, entry)| {
            (start_of(*at, entry), entry.lines_before)
        });
        let (_, position) = self.count(at, end, skip - before)?;
        self.position = position;
        Ok(())
    }

    /// Reads whole records up to `end`, at most 64 KiB of them; empty when there is none yet.
    ///
    /// # Errors
    /// [`ReadError::Io`].
    pub fn read(&mut self, end: u64) -> Result<&[u8], ReadError> {
        self.fill(end)?;
        self.position += to_u64(self.buffer.len());
        Ok(&self.buffer)
    }

    /// Like [`read`](Self::read), record by record.
    ///
    /// # Errors
    /// [`ReadError::Io`].
    pub fn read_lines(
        &mut self,
        end: u64,
        mut visit: impl FnMut(ReadLine<'_>),
    ) -> Result<(), ReadError> {
        let start = self.position;
        let bytes = self.read(end)?;
        walk(bytes, |at, record| {
            let offset = start + to_u64(at);
            let next = offset + to_u64(record.encoded_len());
            visit(ReadLine {
                offset,
                next,
                record: *record,
            });
        });
        Ok(())
    }

    /// Counts lines from the record at `at` until `lines_max` ended; also says where that was.
    fn count(&mut self, at: u64, end: u64, lines_max: u64) -> Result<(u64, u64), ReadError> {
        let (mut lines, mut position) = (0, at);
        self.position = at;
        while lines < lines_max && self.position < end {
            let start = self.position;
            self.fill(end)?;
            if self.buffer.is_empty() {
                break;
            }
            self.position += to_u64(self.buffer.len());
            walk(&self.buffer, |at, record| {
                if lines < lines_max {
                    lines += u64::from(ends_line(record));
                    position = start + to_u64(at + record.encoded_len());
                }
            });
        }
        Ok((lines, position))
    }

    /// Loads whole records from the position into the buffer, up to `end`.
    fn fill(&mut self, end: u64) -> Result<(), ReadError> {
        self.buffer.clear();
        let want = end
            .saturating_sub(self.position)
            .min(to_u64(LOG_READ_BYTES));
        if want == 0 || !self.opened()? {
            return Ok(());
        }
        self.buffer
            .resize(usize::try_from(want).unwrap_or(LOG_READ_BYTES), 0);
        let mut filled = 0;
        while let (Some(room), Some(file)) = (self.buffer.get_mut(filled..), &self.file) {
            let read = file.read_at(room, self.position + to_u64(filled));
            let read = read.map_err(|source| ReadError::Io {
                path: self.path.clone(),
                source,
            })?;
            filled += read;
            if read == 0 {
                break;
            }
        }
        let read = self.buffer.get(..filled).unwrap_or_default();
        let whole = walk(read, |_, _| ());
        self.buffer.truncate(whole);
        Ok(())
    }

    fn opened(&mut self) -> Result<bool, ReadError> {
        if self.file.is_none() {
            self.file = match File::open(&self.path) {
                Ok(file) => Some(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(source) => {
                    return Err(ReadError::Io {
                        path: self.path.clone(),
                        source,
                    });
                }
            };
        }
        Ok(self.file.is_some())
    }

    /// The entries of the sidecar, numbered; none when there is no sidecar yet.
    fn index(&self) -> Result<impl Iterator<Item = (u64, Entry)> + use<>, ReadError> {
        let bytes = read_if_present(&chain_path(&self.path))?;
        let mut at = 0;
        let entries = std::iter::from_fn(move || {
            let (entry, _) = Entry::parse(bytes.get(at..)?)?;
            at += crate::logs::chain::ENTRY_BYTES;
            Some(entry)
        });
        Ok((0..).zip(entries))
    }
}

/// Where the first record that starts in block `at` lies in the log.
fn start_of(at: u64, entry: &Entry) -> u64 {
    at * to_u64(CHAIN_BLOCK_BYTES) + entry.first_record.map_or(0, u64::from)
}

fn read_if_present(path: &Path) -> Result<Vec<u8>, ReadError> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other.map_err(|source| ReadError::Io {
            path: path.to_owned(),
            source,
        }),
    }
}

fn to_u64(bytes: usize) -> u64 {
    u64::try_from(bytes).expect("a length in memory fits in 64 bits")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::file::LogFile;
    use crate::logs::record::tests::line;

    /// A log of `lines` numbered lines; gives back where each record starts, and its end.
    fn log(path: &Path, lines: usize) -> Vec<u64> {
        let (mut bytes, mut starts) = (Vec::new(), vec![0]);
        for at in 0..lines {
            bytes.extend(line(format!("{at} {}", "x".repeat(at % 300)).as_bytes()));
            starts.push(bytes.len() as u64);
        }
        let mut log = LogFile::open(path).unwrap();
        log.append(0, &bytes).unwrap();
        log.seal().unwrap();
        starts
    }

    #[test]
    fn tail_finds_the_last_lines_from_any_distance() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1/1.1.log");
        let starts = log(&path, 4_000);
        let end = starts[4_000];
        for lines in [0, 1, 2, 100, 399, 1_500, 3_999, 4_000, 9_000] {
            let mut reader = LogReader::new(path.clone());
            reader.seek_tail(lines, end).unwrap();
            let first = 4_000_usize.saturating_sub(lines as usize);
            assert_eq!(reader.position(), starts[first], "{lines} lines");
        }
    }

    #[test]
    fn seek_takes_every_record_start_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1/1.1.log");
        let starts = log(&path, 2_000);
        let mut reader = LogReader::new(path);
        for start in starts.iter().step_by(37) {
            reader.seek(*start).unwrap();
        }
        for start in starts.iter().step_by(97) {
            assert!(matches!(
                reader.seek(start + 3),
                Err(ReadError::NotARecord { .. })
            ));
        }
        assert!(reader.seek(starts[2_000] + 1).is_err());
    }

    #[test]
    fn reading_gives_every_line_once_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1/1.1.log");
        let starts = log(&path, 3_000);
        let (mut reader, mut seen) = (LogReader::new(path), 0);
        while reader.position() < starts[3_000] {
            reader
                .read_lines(starts[3_000], |line| {
                    assert_eq!((line.offset, line.next), (starts[seen], starts[seen + 1]));
                    assert!(line.record.bytes.starts_with(format!("{seen} ").as_bytes()));
                    seen += 1;
                })
                .unwrap();
        }
        assert_eq!(seen, 3_000);
    }
}
