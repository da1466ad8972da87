//! Cuts a byte stream into log records, one per line.

use valkyrie_frame::{LogChannel, LogRecord};

use crate::limits::RECORD_TEXT_BYTES_MAX;

/// One output stream of one step.
///
/// Bytes stay bytes: a line that is not UTF-8 is kept as it came. Nothing is allocated per line.
pub(crate) struct Lines {
    step: u16,
    channel: LogChannel,
    /// The start of a line whose end has not come; shorter than a record may be.
    tail: Vec<u8>,
}

impl Lines {
    /// A stream without any bytes yet.
    pub(crate) fn new(step: u16, channel: LogChannel) -> Self {
        Self {
            step,
            channel,
            tail: Vec::new(),
        }
    }

    /// The step it belongs to.
    pub(crate) fn step(&self) -> u16 {
        self.step
    }

    /// Whether the start of a line waits for its end.
    pub(crate) fn is_partial(&self) -> bool {
        !self.tail.is_empty()
    }

    /// Takes the next bytes and appends the records of all lines that ended.
    pub(crate) fn push(&mut self, bytes: &[u8], unix_ns: u64, out: &mut Vec<u8>) {
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', bytes) {
            self.line(bytes.get(start..end).unwrap_or_default(), unix_ns, out);
            start = end + 1;
        }
        self.keep(bytes.get(start..).unwrap_or_default(), unix_ns, out);
    }

    /// Gives out the start of an unfinished line, marked as such.
    pub(crate) fn flush_partial(&mut self, unix_ns: u64, out: &mut Vec<u8>) {
        if self.is_partial() {
            let tail = std::mem::take(&mut self.tail);
            self.record(self.channel.partial(), &tail, unix_ns, out);
        }
    }

    /// Ends the stream; a last line without a newline is a line all the same.
    pub(crate) fn finish(&mut self, unix_ns: u64, out: &mut Vec<u8>) {
        if self.is_partial() {
            self.line(&[], unix_ns, out);
        }
    }

    fn line(&mut self, rest: &[u8], unix_ns: u64, out: &mut Vec<u8>) {
        if self.tail.is_empty() {
            let last = self.split(rest, unix_ns, out);
            self.record(self.channel, last, unix_ns, out);
        } else {
            let mut line = std::mem::take(&mut self.tail);
            line.extend_from_slice(rest);
            let last = self.split(&line, unix_ns, out);
            self.record(self.channel, last, unix_ns, out);
            line.clear();
            self.tail = line;
        }
    }

    fn keep(&mut self, rest: &[u8], unix_ns: u64, out: &mut Vec<u8>) {
        self.tail.extend_from_slice(rest);
        if self.tail.len() > RECORD_TEXT_BYTES_MAX {
            let line = std::mem::take(&mut self.tail);
            self.tail = self.split(&line, unix_ns, out).to_vec();
        }
    }

    /// Gives out all but the last record of a line that is too long for one.
    fn split<'l>(&self, mut line: &'l [u8], unix_ns: u64, out: &mut Vec<u8>) -> &'l [u8] {
        while let Some((head, rest)) = line.split_at_checked(RECORD_TEXT_BYTES_MAX)
            && !rest.is_empty()
        {
            self.record(self.channel.partial(), head, unix_ns, out);
            line = rest;
        }
        line
    }

    fn record(&self, channel: LogChannel, bytes: &[u8], unix_ns: u64, out: &mut Vec<u8>) {
        LogRecord {
            unix_ns,
            step: self.step,
            channel,
            bytes,
        }
        .append(out)
        .expect("lines are split at the size of a record");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use valkyrie_frame::LogRecords;

    fn texts(records: &[u8]) -> Vec<(Vec<u8>, bool)> {
        LogRecords::new(records)
            .map(|record| record.unwrap())
            .map(|record| (record.bytes.to_vec(), record.channel.is_partial()))
            .collect()
    }

    fn joined(records: &[u8]) -> Vec<u8> {
        let mut text = Vec::new();
        for (bytes, partial) in texts(records) {
            text.extend(bytes);
            if !partial {
                text.push(b'\n');
            }
        }
        text
    }

    #[test]
    fn a_prompt_is_given_out_and_its_line_goes_on() {
        let (mut out, mut lines) = (Vec::new(), Lines::new(0, LogChannel::STDOUT));
        lines.push(b"one\nname? ", 1, &mut out);
        lines.flush_partial(2, &mut out);
        lines.push(b"bob\n", 3, &mut out);
        let expected: [(&[u8], bool); 3] = [(b"one", false), (b"name? ", true), (b"bob", false)];
        assert_eq!(
            texts(&out),
            expected.map(|(bytes, partial)| (bytes.to_vec(), partial))
        );
    }

    #[test]
    fn bytes_that_are_not_text_stay_as_they_are() {
        let (mut out, mut lines) = (Vec::new(), Lines::new(0, LogChannel::STDERR));
        lines.push(b"\xff\xfe\r\n\x00", 1, &mut out);
        lines.finish(1, &mut out);
        assert_eq!(joined(&out), b"\xff\xfe\r\n\x00\n");
    }

    #[test]
    fn a_long_line_takes_several_records() {
        let (mut out, mut lines) = (Vec::new(), Lines::new(0, LogChannel::STDOUT));
        let line = vec![b'x'; RECORD_TEXT_BYTES_MAX * 2 + 7];
        lines.push(&line, 1, &mut out);
        assert!(lines.tail.len() <= RECORD_TEXT_BYTES_MAX);
        lines.push(b"\n", 1, &mut out);
        let sizes: Vec<usize> = texts(&out).iter().map(|(bytes, _)| bytes.len()).collect();
        assert_eq!(sizes, [RECORD_TEXT_BYTES_MAX, RECORD_TEXT_BYTES_MAX, 7]);
        assert_eq!(joined(&out).len(), line.len() + 1);
    }

    proptest! {
        #[test]
        fn no_byte_is_lost_or_doubled_for_any_cut(
            chunks in prop::collection::vec("[a-c\n]{0,20}", 0..12),
        ) {
            let (mut out, mut lines) = (Vec::new(), Lines::new(0, LogChannel::STDOUT));
            for (index, chunk) in chunks.iter().enumerate() {
                lines.push(chunk.as_bytes(), 1, &mut out);
                if index % 3 == 0 {
                    lines.flush_partial(1, &mut out);
                }
            }
            lines.finish(1, &mut out);
            let mut text = chunks.concat();
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            let mut joined = joined(&out);
            // A partial record at the very end leaves its line open.
            if !joined.is_empty() && !joined.ends_with(b"\n") {
                joined.push(b'\n');
            }
            prop_assert_eq!(joined, text.into_bytes());
        }
    }
}
