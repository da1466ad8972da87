//! Log records: the same bytes in the runner's spool, in LOG_ENTRY frames and in the log file.

use crate::limits::{RECORD_HEADER_BYTES, RECORD_TEXT_BYTES_MAX};

/// Bit of the channel byte that says that the line goes on in the next record.
const CONTINUES: u8 = 0x80;

/// Where a line came from; an open set, so that new channels pass through old servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Channel(u8);

impl Channel {
    /// The step's standard output.
    pub const STDOUT: Self = Self(0);
    /// The step's standard error.
    pub const STDERR: Self = Self(1);
    /// RustCI's own words.
    pub const SYSTEM: Self = Self(2);
    /// The command line about to run.
    pub const COMMAND: Self = Self(3);

    /// The stable word for this channel in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::STDOUT => "stdout",
            Self::STDERR => "stderr",
            Self::SYSTEM => "system",
            Self::COMMAND => "command",
            _ => "other",
        }
    }
}

/// One record, borrowed from the bytes it was parsed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// When the runner read the line, in nanoseconds since 1970.
    pub unix_ns: u64,
    /// Step it belongs to, from 0; `None` for the job itself.
    pub step: Option<u16>,
    /// Where it came from.
    pub channel: Channel,
    /// Whether the line ends here; `false` means that the next record continues it.
    pub ends_line: bool,
    /// The text without its newline; any bytes.
    pub text: &'a [u8],
}

/// Why bytes are not a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// More bytes are needed. At the end of a file this is a torn write.
    #[error("the record is cut off")]
    Partial,
    /// No writer makes such a record.
    #[error("not a log record (a length over {RECORD_TEXT_BYTES_MAX} bytes, or no time)")]
    Malformed,
}

impl<'a> Record<'a> {
    /// Takes one record from the front of `bytes` and gives back the rest.
    ///
    /// A time of zero is refused: it is what a block reads as that was allocated but never written
    /// before the power went.
    ///
    /// # Errors
    /// [`RecordError`]; `bytes` has to be read on from the same place then.
    pub fn parse(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), RecordError> {
        let (header, rest) =
            bytes.split_first_chunk::<RECORD_HEADER_BYTES>().ok_or(RecordError::Partial)?;
        let [l0, l1, l2, l3, t0, t1, t2, t3, t4, t5, t6, t7, s0, s1, channel] = *header;
        let length = usize::try_from(u32::from_be_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
        let unix_ns = u64::from_be_bytes([t0, t1, t2, t3, t4, t5, t6, t7]);
        if length > RECORD_TEXT_BYTES_MAX || unix_ns == 0 {
            return Err(RecordError::Malformed);
        }
        let (text, rest) = rest.split_at_checked(length).ok_or(RecordError::Partial)?;
        let step = Some(u16::from_be_bytes([s0, s1])).filter(|step| *step != u16::MAX);
        let ends_line = channel & CONTINUES == 0;
        let channel = Channel(channel & 0x0f);
        Ok((Self { unix_ns, step, channel, ends_line, text }, rest))
    }

    /// Bytes this record takes in a log.
    #[must_use]
    pub fn encoded_bytes(&self) -> usize {
        RECORD_HEADER_BYTES + self.text.len()
    }

    /// Appends the record to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let length = u32::try_from(self.text.len()).expect("a record holds at most 32 KiB");
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&self.unix_ns.to_be_bytes());
        out.extend_from_slice(&self.step.unwrap_or(u16::MAX).to_be_bytes());
        out.push(self.channel.0 | if self.ends_line { 0 } else { CONTINUES });
        out.extend_from_slice(self.text);
    }
}

/// What a walk over record bytes found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Walk {
    /// Bytes of whole records from the start.
    pub(crate) whole: usize,
    /// Why the walk ended before the end of the bytes, if it did.
    pub(crate) stop: Option<RecordError>,
}

/// Walks over the records in `bytes`, telling `visit` where each starts.
pub(crate) fn walk(bytes: &[u8], mut visit: impl FnMut(usize, &Record<'_>)) -> Walk {
    let mut whole = 0;
    let mut rest = bytes;
    while !rest.is_empty() {
        match Record::parse(rest) {
            Ok((record, after)) => {
                visit(whole, &record);
                whole += record.encoded_bytes();
                rest = after;
            }
            Err(stop) => return Walk { whole, stop: Some(stop) },
        }
    }
    Walk { whole, stop: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_record_is_read_as_the_contract_says() {
        let bytes = [
            0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 9, 0xff, 0xff, 0x81, b'o', b'k', 7,
        ];
        let (record, rest) = Record::parse(&bytes).unwrap();
        assert_eq!(record.unix_ns, 9);
        assert_eq!(record.step, None);
        assert_eq!(record.channel, Channel::STDERR);
        assert!(!record.ends_line);
        assert_eq!(record.text, b"ok");
        assert_eq!(rest, [7]);
        let mut out = Vec::new();
        record.encode(&mut out);
        assert_eq!(out, bytes[..17]);
    }

    #[test]
    fn zeros_and_huge_lengths_are_not_records() {
        assert_eq!(Record::parse(&[0; 64]), Err(RecordError::Malformed));
        assert_eq!(Record::parse(&[0xff; 64]), Err(RecordError::Malformed));
        assert_eq!(Record::parse(&[0; 14]), Err(RecordError::Partial));
    }
}
