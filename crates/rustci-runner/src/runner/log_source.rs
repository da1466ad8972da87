//! Where the log of an attempt is read from.

use std::io;

use valkyrie_frame::{LogChannel, LogRecord};

use crate::log::SpoolReader;

/// A log that can be read from any offset, as often as a connection is lost.
pub(crate) enum LogSource {
    /// Nothing is written.
    Empty,
    /// The spool of a job process.
    Spool(SpoolReader),
    /// Lines of the dummy executor, made when they are asked for.
    Dummy(DummyLog),
}

impl LogSource {
    /// Replaces `out` by whole records at `offset`, at most `max` bytes of them.
    pub(crate) fn read(&self, offset: u64, max: usize, out: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Self::Empty => out.clear(),
            Self::Spool(spool) => spool.read(offset, max, out)?,
            Self::Dummy(dummy) => dummy.read(offset, max, out),
        }
        Ok(())
    }
}

/// Numbered lines of one length: the record at an offset can be computed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DummyLog {
    lines: u64,
    unix_ns: u64,
}

/// `line 0000000000 ...`, filled up.
const LINE_BYTES: usize = 64;

/// The line with the header of its record.
const RECORD_BYTES: u64 = LINE_BYTES as u64 + 15;

impl DummyLog {
    /// As many lines as it takes to print `bytes` bytes, newlines included.
    pub(crate) fn new(bytes: u64, unix_ns: u64) -> Self {
        Self {
            lines: bytes.div_ceil(LINE_BYTES as u64 + 1),
            unix_ns,
        }
    }

    /// Length as records.
    pub(crate) fn len(&self) -> u64 {
        self.lines * RECORD_BYTES
    }

    fn read(&self, offset: u64, max: usize, out: &mut Vec<u8>) {
        out.clear();
        let count =
            (max as u64 / RECORD_BYTES).min((self.len() - offset.min(self.len())) / RECORD_BYTES);
        let first = offset / RECORD_BYTES;
        for number in first..first + count {
            let line = format!("{:.<LINE_BYTES$}", format!("line {number:010} "));
            let (unix_ns, channel) = (self.unix_ns, LogChannel::STDOUT);
            let record = LogRecord {
                unix_ns,
                step: 0,
                channel,
                bytes: line.as_bytes(),
            };
            record.append(out).expect("the line is short");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use valkyrie_frame::LogRecords;

    #[test]
    fn dummy_lines_are_the_same_from_any_offset() {
        let log = DummyLog::new(65 * 10, 7);
        let mut whole = Vec::new();
        log.read(0, 1 << 20, &mut whole);
        assert_eq!(whole.len() as u64, log.len());
        assert_eq!(LogRecords::check(&whole), Ok(10));
        let (mut joined, mut part) = (Vec::new(), Vec::new());
        while (joined.len() as u64) < log.len() {
            log.read(joined.len() as u64, 200, &mut part);
            joined.extend_from_slice(&part);
        }
        assert_eq!(joined, whole);
    }
}
