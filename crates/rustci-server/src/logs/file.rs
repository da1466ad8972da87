//! One attempt's log on disk: repair at open, checked appends, sync, seal.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::limits::{CHAIN_BLOCK_BYTES, LOG_READ_BYTES};
use crate::logs::chain::{Chain, ENTRY_BYTES};
use crate::logs::chain_path;
use crate::logs::record::{ends_line, walk};

/// Why bytes were not appended. All of these are the runner's mistake; the log is as before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Bytes between the end of the log and the offset are missing.
    #[error("offset {offset} leaves a gap; send again from {expected}")]
    Gap {
        /// Offset of the refused bytes.
        offset: u64,
        /// Where the log ends.
        expected: u64,
    },
    /// The bytes are not whole records.
    #[error("the bytes at offset {offset} are not whole log records")]
    Malformed {
        /// Offset of the refused bytes.
        offset: u64,
    },
}

/// What an append added.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Appended {
    pub(crate) bytes: u64,
    /// Lines that end in them.
    pub(crate) lines: u64,
}

/// An open log. Bytes are staged by [`append`](Self::append), written by [`write`](Self::write) and
/// durable after [`sync`](Self::sync).
#[derive(Debug)]
pub(crate) struct LogFile {
    path: PathBuf,
    file: File,
    links_file: File,
    chain: Chain,
    staged: Vec<u8>,
    links: Vec<u8>,
    end: u64,
    durable: u64,
    /// The name of a new file is durable only after its directory was synced.
    unnamed: bool,
}

impl LogFile {
    /// Opens or creates the log at `path`, cutting a torn record off its end.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let unnamed = !path.exists();
        if let Some(dir) = path.parent().filter(|_| unnamed) {
            fs::create_dir_all(dir)?;
        }
        let mut log = Self {
            file: open_rw(path)?,
            links_file: open_rw(&chain_path(path))?,
            path: path.to_owned(),
            chain: Chain::new(),
            staged: Vec::new(),
            links: Vec::new(),
            end: 0,
            durable: 0,
            unnamed,
        };
        if !unnamed {
            log.repair()?;
        }
        Ok(log)
    }

    /// Reads the log through once: finds its last whole record and rebuilds the chain up to there.
    fn repair(&mut self) -> io::Result<()> {
        let length = self.file.metadata()?.len();
        let mut buffer = Vec::with_capacity(2 * LOG_READ_BYTES);
        loop {
            let chunk = u64::try_from(LOG_READ_BYTES).unwrap_or(u64::MAX);
            let read = (&self.file).take(chunk).read_to_end(&mut buffer)?;
            let (chain, links) = (&mut self.chain, &mut self.links);
            let whole = push_records(chain, &buffer, links);
            self.end += u64::try_from(whole).unwrap_or_default();
            buffer.drain(..whole);
            if read == 0 || (whole == 0 && read == LOG_READ_BYTES) {
                break;
            }
        }
        if self.end < length {
            tracing::warn!(log = %self.path.display(), bytes = length - self.end, "cut a torn record off a log");
            self.file.set_len(self.end)?;
        }
        self.file.seek(SeekFrom::Start(self.end))?;
        self.check_links()?;
        self.file.sync_data()?;
        self.durable = self.end;
        Ok(())
    }

    /// Compares the sidecar with the log, then continues it after the last full block.
    fn check_links(&mut self) -> io::Result<()> {
        let mut stored = Vec::new();
        self.links_file.read_to_end(&mut stored)?;
        let pairs = stored
            .chunks_exact(ENTRY_BYTES)
            .zip(self.links.chunks_exact(ENTRY_BYTES));
        for (block, (was, is)) in pairs.enumerate() {
            if was != is {
                tracing::error!(log = %self.path.display(), block, "a log differs from its hash chain");
            }
        }
        let keep = stored.len().min(self.links.len()) / ENTRY_BYTES * ENTRY_BYTES;
        self.links.drain(..keep);
        let keep = u64::try_from(keep).unwrap_or_default();
        self.links_file.set_len(keep)?;
        self.links_file.seek(SeekFrom::Start(keep))?;
        Ok(())
    }

    /// How far the log survives a power cut, in bytes.
    pub(crate) fn durable(&self) -> u64 {
        self.durable
    }

    /// Stages whole records that belong at `offset`; what the log has already is skipped.
    ///
    /// # Errors
    /// [`AppendError`]; nothing of `bytes` was taken then.
    pub(crate) fn append(&mut self, offset: u64, bytes: &[u8]) -> Result<Appended, AppendError> {
        let have = self.end.checked_sub(offset).ok_or(AppendError::Gap {
            offset,
            expected: self.end,
        })?;
        let have = usize::try_from(have).unwrap_or(usize::MAX);
        let mut appended = Appended::default();
        let Some(new) = bytes.get(have..) else {
            return Ok(appended);
        };
        let whole = walk(new, |_, record| {
            appended.lines += u64::from(ends_line(record))
        });
        if whole < new.len() {
            return Err(AppendError::Malformed { offset });
        }
        push_records(&mut self.chain, new, &mut self.links);
        self.staged.extend_from_slice(new);
        appended.bytes = u64::try_from(new.len()).unwrap_or_default();
        self.end += appended.bytes;
        Ok(appended)
    }

    /// Hands staged bytes to the file system.
    ///
    /// # Errors
    /// The file system's. The log must not be used any further then.
    pub(crate) fn write(&mut self) -> io::Result<()> {
        self.file.write_all(&self.staged)?;
        self.links_file.write_all(&self.links)?;
        self.staged.clear();
        self.staged.shrink_to(CHAIN_BLOCK_BYTES);
        self.links.clear();
        Ok(())
    }

    /// Makes all written bytes durable.
    ///
    /// # Errors
    /// The file system's. What reached the disk is unknown then, and the log must not be used.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()?;
        if self.unnamed {
            for dir in self.path.ancestors().skip(1).take(2) {
                File::open(dir)?.sync_all()?;
            }
            self.unnamed = false;
        }
        self.durable = self.end;
        Ok(())
    }

    /// Ends the log: writes the link of its last, part block and syncs the sidecar.
    ///
    /// # Errors
    /// The file system's.
    pub(crate) fn seal(mut self) -> io::Result<()> {
        self.chain.seal(&mut self.links);
        self.write()?;
        self.sync()?;
        self.links_file.sync_data()
    }
}

fn open_rw(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
}

/// Feeds the whole records of `bytes` to `chain`; returns how many bytes they take.
fn push_records(chain: &mut Chain, bytes: &[u8], links: &mut Vec<u8>) -> usize {
    walk(bytes, |at, record| {
        let raw = bytes.get(at..at + record.encoded_len()).unwrap_or_default();
        chain.push(record, raw, links);
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::record::tests::line;

    fn records(lines: std::ops::Range<usize>) -> Vec<u8> {
        lines
            .flat_map(|at| line(format!("line {at} {}", "x".repeat(at % 90)).as_bytes()))
            .collect()
    }

    fn saved(log: &mut LogFile) {
        log.write().unwrap();
        log.sync().unwrap();
    }

    #[test]
    fn overlap_is_skipped_and_a_gap_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1/2.1.log");
        let (a, b) = (records(0..10), records(10..20));
        let (a_end, b_end) = (a.len() as u64, (a.len() + b.len()) as u64);
        let mut log = LogFile::open(&path).unwrap();
        log.append(0, &a).unwrap();
        log.append(0, &a).unwrap();
        assert_eq!(
            log.append(a_end + 1, &b),
            Err(AppendError::Gap {
                offset: a_end + 1,
                expected: a_end
            })
        );
        log.append(0, &[a.clone(), b.clone()].concat()).unwrap();
        assert_eq!(log.durable(), 0);
        saved(&mut log);
        assert_eq!(log.durable(), b_end);
        assert_eq!(fs::read(&path).unwrap(), [a, b].concat());
    }

    #[test]
    fn part_records_are_refused_whole() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = LogFile::open(&dir.path().join("1/2.1.log")).unwrap();
        let a = records(0..3);
        let cut = &a[..a.len() - 1];
        assert_eq!(
            log.append(0, cut),
            Err(AppendError::Malformed { offset: 0 })
        );
        log.append(0, &a).unwrap();
    }

    #[test]
    fn every_torn_tail_is_cut_to_whole_records() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (records(0..4), records(4..5));
        for torn in 1..b.len() {
            let path = dir.path().join(format!("1/{torn}.1.log"));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, [&a[..], &b[..torn]].concat()).unwrap();
            let mut log = LogFile::open(&path).unwrap();
            assert_eq!(log.durable(), a.len() as u64);
            log.append(a.len() as u64, &b).unwrap();
            saved(&mut log);
            assert_eq!(fs::read(&path).unwrap(), [a.clone(), b.clone()].concat());
        }
    }

    #[test]
    fn the_chain_is_the_same_with_and_without_a_crash() {
        let dir = tempfile::tempdir().unwrap();
        let (whole, crashed) = (dir.path().join("1/1.1.log"), dir.path().join("1/2.1.log"));
        let (a, b) = (records(0..3_000), records(3_000..6_000));
        let mut log = LogFile::open(&whole).unwrap();
        log.append(0, &[a.clone(), b.clone()].concat()).unwrap();
        log.seal().unwrap();
        let mut log = LogFile::open(&crashed).unwrap();
        log.append(0, &a).unwrap();
        saved(&mut log);
        drop(log);
        fs::write(chain_path(&crashed), b"torn").unwrap();
        let mut log = LogFile::open(&crashed).unwrap();
        log.append(a.len() as u64, &b).unwrap();
        log.seal().unwrap();
        let chain = fs::read(chain_path(&whole)).unwrap();
        assert!(chain.len() > 3 * ENTRY_BYTES);
        assert_eq!(fs::read(chain_path(&crashed)).unwrap(), chain);
    }
}
