//! What holds for every input: reading undoes writing, and no bytes make a reader fail or reserve
//! memory.

#![cfg(test)]

use allocation_counter::measure;
use proptest::{collection::vec, prelude::*, sample::subsequence};
use valkyrie_frame::{
    ClosePayload, CompressedBody, Correlation, ErrorPayload, Extension, ExtensionType,
    ExtensionWriter, Extensions, FileChunk, FileComplete, FileStart, Flags, Frame, FrameLimits,
    Header, LogChannel, LogEntry, LogRecord, LogRecords, MessageType, Need, Ping, Priority,
    StreamAck, StreamClose, StreamId, StreamReset, TraceByte, TraceContext,
};

prop_compose! {
    fn any_header()(
        kind: u8, flags: u8, priority: u8, trace: u8, stream: u32, correlation: u32, timestamp: u32,
    ) -> Header {
        Header {
            kind: MessageType(kind),
            flags: Flags(flags).without(Flags::EXTENSIONS),
            priority: Priority(priority),
            trace: TraceByte(trace),
            stream: StreamId(stream),
            length: 0,
            correlation: Correlation(correlation),
            timestamp,
        }
    }
}

prop_compose! {
    fn any_entries()(
        numbers in subsequence((0..128u8).collect::<Vec<_>>(), 0..20),
        values in vec((any::<bool>(), vec(any::<u8>(), 0..50)), 20),
    ) -> Vec<(u8, bool, Vec<u8>)> {
        let entries = numbers.into_iter().zip(values);
        entries.map(|(number, (critical, value))| (number, critical, value)).collect()
    }
}

/// A frame with these extensions, if any, and this body.
fn encode(mut header: Header, entries: &[(u8, bool, Vec<u8>)], body: &[u8]) -> Vec<u8> {
    let mut wire = vec![0; 24];
    if !entries.is_empty() {
        header.flags = header.flags | Flags::EXTENSIONS;
        let mut block = ExtensionWriter::new(&mut wire);
        for (number, critical, value) in entries {
            let need = if *critical {
                Need::Critical
            } else {
                Need::Optional
            };
            block.entry(ExtensionType(*number), need, value).unwrap();
        }
        block.finish();
    }
    wire.extend_from_slice(body);
    header.length = u32::try_from(wire.len() - 24).unwrap();
    header.encode(wire.first_chunk_mut().unwrap());
    wire
}

proptest! {
    #[test]
    fn frames_read_back_as_written(
        header in any_header(), entries in any_entries(), body in vec(any::<u8>(), 0..300),
    ) {
        let wire = encode(header, &entries, &body);
        let mut two = wire.clone();
        two.extend_from_slice(&wire);
        let mut input = two.as_slice();
        let frame = Frame::parse(&mut input, FrameLimits::DEFAULT).unwrap().unwrap();
        prop_assert_eq!(input, wire.as_slice());
        prop_assert_eq!(frame.body, body);
        let read: Vec<_> = frame.extensions.iter().collect();
        let expected: Vec<_> = entries.iter().map(|(number, critical, value)| {
            let need = if *critical { Need::Critical } else { Need::Optional };
            Extension { kind: ExtensionType(*number), need, value }
        }).collect();
        prop_assert_eq!(read, expected);
        let length = frame.header.length;
        prop_assert_eq!(frame.header.to_bytes(), *wire.first_chunk::<24>().unwrap());
        prop_assert_eq!(length as usize, wire.len() - 24);
    }

    #[test]
    fn a_cut_frame_is_not_whole_and_a_changed_byte_never_panics(
        header in any_header(), entries in any_entries(), body in vec(any::<u8>(), 0..100),
        cut: prop::sample::Index, at: prop::sample::Index, byte: u8,
    ) {
        let mut wire = encode(header, &entries, &body);
        let mut piece = &wire[..cut.index(wire.len())];
        prop_assert_eq!(Frame::parse(&mut piece, FrameLimits::DEFAULT), Ok(None));
        let at = at.index(wire.len());
        wire[at] = byte;
        let _ = Frame::parse(&mut wire.as_slice(), FrameLimits::DEFAULT);
    }

    #[test]
    fn log_records_read_back_as_written(
        lines in vec((any::<u64>(), any::<u16>(), any::<u8>(), vec(any::<u8>(), 0..100)), 0..20),
        offset in 0..u64::MAX / 2,
    ) {
        let records: Vec<_> = lines.iter().map(|(unix_ns, step, channel, bytes)| LogRecord {
            unix_ns: *unix_ns, step: *step, channel: LogChannel(*channel), bytes,
        }).collect();
        let mut bytes = Vec::new();
        records.iter().for_each(|record| record.append(&mut bytes).unwrap());
        let mut body = Vec::new();
        LogEntry { offset, records: &bytes }.append(&mut body);
        let entry = LogEntry::parse(&body).unwrap();
        prop_assert_eq!(entry.end(), offset + bytes.len() as u64);
        let read: Vec<_> = LogRecords::new(entry.records).map(Result::unwrap).collect();
        prop_assert_eq!(read, records);
    }

    #[test]
    fn no_bytes_make_a_reader_fail_or_allocate(bytes in vec(any::<u8>(), 0..200)) {
        prop_assert_eq!(measure(|| read_all(&bytes)).count_total, 0);
    }

    #[test]
    fn no_frame_makes_a_reader_fail_or_allocate(
        header in any_header(), flags: u8, length: u32, bytes in vec(any::<u8>(), 0..200),
    ) {
        let header = Header { flags: Flags(flags), length, ..header };
        let mut wire = header.to_bytes().to_vec();
        wire.extend_from_slice(&bytes);
        prop_assert_eq!(measure(|| read_all(&wire)).count_total, 0);
        // Again with a length that is true, so that the payload is looked at.
        let length = u32::try_from(bytes.len()).unwrap();
        Header { length, ..header }.encode(wire.first_chunk_mut().unwrap());
        prop_assert_eq!(measure(|| read_all(&wire)).count_total, 0);
    }
}

/// Every reader there is, on the same bytes.
fn read_all(bytes: &[u8]) {
    let mut input = bytes;
    while let Ok(Some(frame)) = Frame::parse(&mut input, FrameLimits::DEFAULT) {
        let extensions = frame.extensions;
        let _ = (
            extensions.method(),
            extensions.deadline_ms(),
            extensions.idempotency_key(),
        );
        let _ = (extensions.trace_context(), extensions.unknown_critical());
        read_payloads(frame.body);
    }
    read_payloads(bytes);
    let _ = Extensions::split(bytes).map(|(extensions, _)| extensions.iter().count());
}

fn read_payloads(body: &[u8]) {
    let _ = (
        ErrorPayload::parse(body),
        ClosePayload::parse(body),
        Ping::parse(body),
    );
    let _ = (
        StreamClose::parse(body),
        StreamReset::parse(body),
        StreamAck::parse(body),
    );
    let _ = (
        FileStart::parse(body),
        FileChunk::parse(body),
        FileComplete::parse(body),
    );
    let _ = (CompressedBody::parse(body), TraceContext::parse(body));
    let _ = LogEntry::parse(body).map(|entry| LogRecords::new(entry.records).count());
}
