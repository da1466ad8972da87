//! Log records: the same bytes in the runner's spool, on the wire and in the server's file.

use crate::{
    limits::{LOG_RECORD_BYTES_MAX, LOG_RECORD_HEADER_BYTES},
    payload::PayloadError,
    read::Reader,
};

/// Body of LOG_ENTRY (0x41): whole records at an offset of the attempt's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogEntry<'b> {
    /// Where the records begin; counts record bytes, their headers included.
    pub offset: u64,
    /// The records, as they are stored.
    pub records: &'b [u8],
}

impl<'b> LogEntry<'b> {
    /// Reads the body and checks that it holds whole records.
    ///
    /// # Errors
    /// It is shorter than 8 bytes, ends inside a record, has a record over its limit, or reaches
    /// past the last offset there is.
    pub fn parse(body: &'b [u8]) -> Result<Self, PayloadError> {
        let mut reader = Reader::new(body);
        let offset = reader.u64("log offset")?;
        let records = reader.rest();
        if offset.checked_add(records.len() as u64).is_none() {
            return Err(PayloadError::Value {
                what: "log offset",
                value: offset,
            });
        }
        LogRecords::check(records)?;
        Ok(Self { offset, records })
    }

    /// The position after this entry.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.offset.saturating_add(self.records.len() as u64)
    }

    /// Writes the body.
    pub fn append(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.offset.to_be_bytes());
        out.extend_from_slice(self.records);
    }
}

/// Where a record came from: low four bits the source, bit 7 set when its line goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LogChannel(pub u8);

impl LogChannel {
    /// Standard output of the step.
    pub const STDOUT: Self = Self(0);
    /// Standard error of the step.
    pub const STDERR: Self = Self(1);
    /// What RustCI itself says.
    pub const SYSTEM: Self = Self(2);
    /// The command line about to run.
    pub const COMMAND: Self = Self(3);
    const PARTIAL: u8 = 1 << 7;

    /// The source alone.
    #[must_use]
    pub const fn source(self) -> Self {
        Self(self.0 & 0x0F)
    }

    /// Whether the next record of the same step and source continues this line.
    #[must_use]
    pub const fn is_partial(self) -> bool {
        self.0 & Self::PARTIAL != 0
    }

    /// The same for a record that does not end its line.
    #[must_use]
    pub const fn partial(self) -> Self {
        Self(self.0 | Self::PARTIAL)
    }

    /// The name of the source in the API; `unknown` without a constant.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self.source() {
            Self::STDOUT => "stdout",
            Self::STDERR => "stderr",
            Self::SYSTEM => "system",
            Self::COMMAND => "command",
            _ => "unknown",
        }
    }
}

/// One line of a log, or a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRecord<'b> {
    /// When it was read from the job, Unix nanoseconds.
    pub unix_ns: u64,
    /// The step, from 0; [`JOB`](Self::JOB) for the job itself.
    pub step: u16,
    /// Where it came from.
    pub channel: LogChannel,
    /// The line without its newline; at most 32 KiB.
    pub bytes: &'b [u8],
}

/// The caller wanted a record of more than 32 KiB; split the line with [`LogChannel::partial`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("log record of {length} bytes is over {LOG_RECORD_BYTES_MAX}; split the line")]
pub struct RecordTooLong {
    /// The length it would have.
    pub length: usize,
}

impl LogRecord<'_> {
    /// The step number of records that belong to no step.
    pub const JOB: u16 = 0xFFFF;

    /// Length on the wire and in files.
    #[must_use]
    pub const fn encoded_len(&self) -> usize {
        LOG_RECORD_HEADER_BYTES + self.bytes.len()
    }

    /// Writes the record.
    ///
    /// # Errors
    /// [`RecordTooLong`]; nothing is written then.
    #[inline]
    pub fn append(&self, out: &mut Vec<u8>) -> Result<(), RecordTooLong> {
        let length = self.bytes.len();
        let field = match u32::try_from(length) {
            Ok(field) if length <= LOG_RECORD_BYTES_MAX => field,
            _ => return Err(RecordTooLong { length }),
        };
        out.reserve(self.encoded_len());
        out.extend_from_slice(&field.to_be_bytes());
        out.extend_from_slice(&self.unix_ns.to_be_bytes());
        out.extend_from_slice(&self.step.to_be_bytes());
        out.push(self.channel.0);
        out.extend_from_slice(self.bytes);
        Ok(())
    }
}

/// Reads records one after the other.
///
/// Ends after the first error: what follows cannot be told from record bytes.
#[derive(Clone, Debug)]
pub struct LogRecords<'b> {
    bytes: &'b [u8],
    taken: usize,
}

impl<'b> LogRecords<'b> {
    /// The records that begin at the start of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'b [u8]) -> Self {
        Self { bytes, taken: 0 }
    }

    /// Bytes of the records returned so far: where a torn file has to be cut.
    #[must_use]
    pub const fn taken(&self) -> usize {
        self.taken
    }

    /// Counts the records in `bytes`.
    ///
    /// # Errors
    /// The last record is not whole, or one is over its limit.
    pub fn check(bytes: &[u8]) -> Result<usize, PayloadError> {
        LogRecords::new(bytes).try_fold(0, |count, record| record.map(|_| count + 1))
    }
}

#[inline]
fn split_record(bytes: &[u8]) -> Result<(LogRecord<'_>, &[u8]), PayloadError> {
    let mut reader = Reader::new(bytes);
    let length = reader.u32("log record length")? as usize;
    if length > LOG_RECORD_BYTES_MAX {
        let max = LOG_RECORD_BYTES_MAX;
        return Err(PayloadError::TooLong {
            what: "log record",
            length,
            max,
        });
    }
    let unix_ns = reader.u64("log record time")?;
    let step = reader.u16("log record step")?;
    let channel = LogChannel(reader.u8("log record channel")?);
    let bytes = reader.slice("log record bytes", length)?;
    Ok((
        LogRecord {
            unix_ns,
            step,
            channel,
            bytes,
        },
        reader.rest(),
    ))
}

impl<'b> Iterator for LogRecords<'b> {
    type Item = Result<LogRecord<'b>, PayloadError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.bytes.is_empty() {
            return None;
        }
        match split_record(self.bytes) {
            Ok((record, rest)) => {
                self.taken += record.encoded_len();
                self.bytes = rest;
                Some(Ok(record))
            }
            Err(error) => {
                self.bytes = &[];
                Some(Err(error))
            }
        }
    }
}
