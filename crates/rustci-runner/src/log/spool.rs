//! The spool: a file of log records, written before anything is sent.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use valkyrie_frame::{LogChannel, LogRecord, LogRecords};

/// Writes the log of one attempt; batches reach the file with one write each.
pub(crate) struct SpoolWriter {
    file: File,
    batch: Vec<u8>,
    length: u64,
    limit: u64,
    /// Output of steps is dropped from here on; RustCI's own words are still kept.
    full: bool,
}

impl SpoolWriter {
    /// Starts an empty spool that keeps the first `limit` bytes of the steps' output.
    pub(crate) fn create(path: &Path, limit: u64) -> io::Result<Self> {
        let file = File::create_new(path)?;
        Ok(Self {
            file,
            batch: Vec::new(),
            length: 0,
            limit,
            full: false,
        })
    }

    /// Where records are put until [`flush`](Self::flush).
    pub(crate) fn batch(&mut self) -> &mut Vec<u8> {
        &mut self.batch
    }

    /// Bytes in the file.
    pub(crate) fn len(&self) -> u64 {
        self.length
    }

    /// Writes the batch out. Returns whether there was anything to write.
    pub(crate) fn flush(&mut self) -> io::Result<bool> {
        if self.full || self.length + self.batch.len() as u64 > self.limit {
            self.cut();
        }
        if self.batch.is_empty() {
            return Ok(false);
        }
        self.file.write_all(&self.batch)?;
        self.length += self.batch.len() as u64;
        self.batch.clear();
        Ok(true)
    }

    /// Waits until the file is on disk.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.flush()?;
        self.file.sync_data()
    }

    fn cut(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        for record in LogRecords::new(&batch).map_while(Result::ok) {
            let own = matches!(
                record.channel.source(),
                LogChannel::SYSTEM | LogChannel::COMMAND
            );
            let end = self.length + (self.batch.len() + record.encoded_len()) as u64;
            if own || (!self.full && end <= self.limit) {
                append(&mut self.batch, record);
            } else if !self.full {
                self.full = true;
                self.notice(record);
            }
        }
    }

    fn notice(&mut self, first_dropped: LogRecord<'_>) {
        let text = format!(
            "the log has reached its limit of {} bytes; further output is not kept",
            self.limit
        );
        let channel = LogChannel::SYSTEM;
        append(
            &mut self.batch,
            LogRecord {
                channel,
                bytes: text.as_bytes(),
                ..first_dropped
            },
        );
    }
}

fn append(batch: &mut Vec<u8>, record: LogRecord<'_>) {
    record
        .append(batch)
        .expect("the record was read from a record, or is short");
}

/// Reads the spool of an attempt from any offset, also while it grows.
pub struct SpoolReader {
    file: File,
}

impl SpoolReader {
    /// Opens an existing spool.
    ///
    /// # Errors
    /// What opening says.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            file: File::open(path)?,
        })
    }

    /// Bytes in the file now; its last record may not be whole yet while the job runs.
    ///
    /// # Errors
    /// What the file system says.
    pub fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Whether nothing was written yet.
    ///
    /// # Errors
    /// What the file system says.
    pub fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Replaces `out` by the whole records at `offset`, at most as many as fit into `max` bytes.
    ///
    /// # Errors
    /// What reading says, or [`io::ErrorKind::InvalidData`] when there is no record at `offset`.
    pub fn read(&self, offset: u64, max: usize, out: &mut Vec<u8>) -> io::Result<()> {
        out.resize(max, 0);
        let mut filled = 0;
        while let Some(free) = out.get_mut(filled..).filter(|free| !free.is_empty()) {
            match self.file.read_at(free, offset + filled as u64)? {
                0 => break,
                count => filled += count,
            }
        }
        out.truncate(filled);
        let whole = whole_records(out)?;
        out.truncate(whole);
        Ok(())
    }
}

/// Length of the records that are completely there. Only the frames are looked at: the spool is ours.
fn whole_records(bytes: &[u8]) -> io::Result<usize> {
    const HEADER: usize = valkyrie_frame::limits::LOG_RECORD_HEADER_BYTES;
    let mut end = 0;
    while let Some(field) = bytes.get(end..).and_then(|rest| rest.first_chunk::<4>()) {
        let length = u32::from_be_bytes(*field) as usize;
        if length > valkyrie_frame::limits::LOG_RECORD_BYTES_MAX {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the spool holds no record here",
            ));
        }
        if bytes.len() - end < HEADER + length {
            break;
        }
        end += HEADER + length;
    }
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(channel: LogChannel, text: &str) -> LogRecord<'_> {
        LogRecord {
            unix_ns: 1,
            step: 0,
            channel,
            bytes: text.as_bytes(),
        }
    }

    fn texts(bytes: &[u8]) -> Vec<String> {
        let text = |record: LogRecord<'_>| String::from_utf8(record.bytes.to_vec()).unwrap();
        LogRecords::new(bytes)
            .map(|record| text(record.unwrap()))
            .collect()
    }

    #[test]
    fn a_reader_gets_whole_records_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut spool = SpoolWriter::create(&path, u64::MAX).unwrap();
        for text in ["first", "second", "third"] {
            append(spool.batch(), record(LogChannel::STDOUT, text));
        }
        assert!(spool.flush().unwrap());
        assert!(!spool.flush().unwrap());
        let reader = SpoolReader::open(&path).unwrap();
        let mut out = Vec::new();
        reader.read(0, 15 + 5 + 15 + 6 + 3, &mut out).unwrap();
        assert_eq!(texts(&out), ["first", "second"]);
        reader.read(out.len() as u64, 1000, &mut out).unwrap();
        assert_eq!(texts(&out), ["third"]);
        assert_eq!(reader.len().unwrap(), spool.len());
        spool.batch().extend([0xFF; 15]);
        spool.file.write_all(&spool.batch).unwrap();
        assert!(reader.read(spool.len(), 1000, &mut out).is_err());
    }

    #[test]
    fn the_head_is_kept_and_the_cut_is_said_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut spool = SpoolWriter::create(&path, 50).unwrap();
        for text in ["first line", "second line", "third line", "fourth line"] {
            append(spool.batch(), record(LogChannel::STDOUT, text));
            append(spool.batch(), record(LogChannel::COMMAND, "+"));
            spool.flush().unwrap();
        }
        let mut out = Vec::new();
        SpoolReader::open(&path)
            .unwrap()
            .read(0, 10_000, &mut out)
            .unwrap();
        let notice = "the log has reached its limit of 50 bytes; further output is not kept";
        assert_eq!(texts(&out), ["first line", "+", notice, "+", "+", "+"]);
    }
}
