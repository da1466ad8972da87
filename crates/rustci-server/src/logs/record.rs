//! Walking over record bytes that may end anywhere.

use valkyrie_frame::log::{LogRecord, LogRecords};

/// Tells `visit` of each whole record in `bytes` and where it starts; returns the bytes they take.
///
/// Ends at the first record that is cut off or could not have been written. A time of zero counts
/// as the latter: it is what a block reads as that was allocated but never written before the power
/// went.
pub(crate) fn walk(bytes: &[u8], mut visit: impl FnMut(usize, &LogRecord<'_>)) -> usize {
    let mut records = LogRecords::new(bytes);
    let mut whole = 0;
    while let Some(Ok(record)) = records.next() {
        if record.unix_ns == 0 {
            break;
        }
        visit(whole, &record);
        whole = records.taken();
    }
    whole
}

/// Whether a line ends with this record.
pub(crate) fn ends_line(record: &LogRecord<'_>) -> bool {
    !record.channel.is_partial()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use valkyrie_frame::log::LogChannel;

    /// Bytes of one whole line of standard output.
    pub(crate) fn line(text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        LogRecord {
            unix_ns: 7,
            step: 0,
            channel: LogChannel::STDOUT,
            bytes: text,
        }
        .append(&mut out)
        .unwrap();
        out
    }

    #[test]
    fn a_walk_ends_at_zeros_at_garbage_and_at_a_cut() {
        let good = [line(b"a"), line(b"")].concat();
        for tail in [&[0_u8; 40][..], &[0xff; 40], &line(b"cut")[..16], b""] {
            let mut starts = Vec::new();
            let whole = walk(&[&good, tail].concat(), |at, _| starts.push(at));
            assert_eq!((whole, starts), (good.len(), vec![0, 16]));
        }
    }
}
