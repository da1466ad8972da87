use serde::Deserialize;
use valkyrie_frame::{LogChannel, LogRecord, LogRecords};

use crate::{Hex, Wide, load};

#[derive(Deserialize)]
struct Vector {
    name: String,
    bytes: Hex,
    records: Vec<Record>,
}

#[derive(Deserialize)]
struct Record {
    unix_ns: Wide,
    step: u16,
    channel: u8,
    source: String,
    partial: bool,
    bytes: Hex,
}

impl Record {
    fn record(&self) -> LogRecord<'_> {
        let channel = LogChannel(self.channel);
        assert_eq!(
            (channel.name(), channel.is_partial()),
            (self.source.as_str(), self.partial)
        );
        LogRecord {
            unix_ns: self.unix_ns.0,
            step: self.step,
            channel,
            bytes: &self.bytes.0,
        }
    }
}

#[test]
fn records_read_to_their_fields_and_write_to_their_bytes() {
    for vector in load::<Vector>("log_records.json") {
        let expected: Vec<_> = vector.records.iter().map(Record::record).collect();
        let mut records = LogRecords::new(&vector.bytes.0);
        let read: Vec<_> = records.by_ref().map(Result::unwrap).collect();
        assert_eq!(read, expected, "{}", vector.name);
        assert_eq!(records.taken(), vector.bytes.0.len(), "{}", vector.name);
        let mut written = Vec::new();
        expected
            .iter()
            .for_each(|record| record.append(&mut written).unwrap());
        assert_eq!(written, vector.bytes.0, "{}", vector.name);
    }
}

#[test]
fn a_torn_file_ends_with_its_last_whole_record() {
    for vector in load::<Vector>("log_records.json")
        .iter()
        .filter(|v| v.bytes.0.len() < 1_000)
    {
        let ends = vector.records.iter().scan(0, |end, record| {
            *end += record.record().encoded_len();
            Some(*end)
        });
        let ends: Vec<_> = std::iter::once(0).chain(ends).collect();
        for cut in 0..=vector.bytes.0.len() {
            let mut records = LogRecords::new(&vector.bytes.0[..cut]);
            let whole = records.by_ref().take_while(Result::is_ok).count();
            let end = *ends.iter().filter(|end| **end <= cut).max().unwrap();
            assert_eq!(
                (records.taken(), ends[whole]),
                (end, end),
                "{} at {cut}",
                vector.name
            );
        }
    }
}
