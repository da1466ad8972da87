//! The readers of `valkyrie-frame`: whatever they take they write back to the same bytes.

#![expect(clippy::indexing_slicing, reason = "a target fails by panicking")]

use std::fmt::Debug;

use valkyrie_frame::{
    ClosePayload, CompressedBody, ErrorPayload, ExtensionWriter, Extensions, FileChunk,
    FileComplete, FileStart, Flags, Frame, FrameLimits, LogEntry, LogRecords, Metadata,
    PayloadError, Ping, StreamAck, StreamClose, StreamReset, TraceContext,
    limits::{HEADER_BYTES, LOG_RECORD_BYTES_MAX},
};

/// Byte 7 of a header, which is ignored.
const RESERVED: usize = 7;

/// Reads frames until none is whole.
pub(crate) fn frames(data: &[u8]) {
    let mut input = data;
    loop {
        let before = input;
        match Frame::parse(&mut input, FrameLimits::DEFAULT) {
            Ok(Some(frame)) => check_frame(&frame, before, input),
            Ok(None) => {
                assert_eq!(input, before, "nothing is taken of a part");
                assert!(
                    before.len() < HEADER_BYTES + declared(before),
                    "a whole frame waits"
                );
                break;
            }
            Err(error) => {
                assert_eq!(input, before, "nothing is taken of what is not a frame");
                let _ = (error.code(), error.to_string());
                break;
            }
        }
    }
}

/// The length that a header declares; 0 while it is not there.
fn declared(bytes: &[u8]) -> usize {
    let length = bytes.get(12..).and_then(<[u8]>::first_chunk::<4>);
    length.map_or(0, |length| u32::from_be_bytes(*length) as usize)
}

fn check_frame(frame: &Frame<'_>, before: &[u8], after: &[u8]) {
    let (bytes, rest) = before.split_at(before.len() - after.len());
    assert_eq!(rest, after);
    let mut header = frame.header.to_bytes();
    header[RESERVED] = bytes[RESERVED];
    assert_eq!(header, bytes[..HEADER_BYTES]);
    let mut payload = Vec::new();
    if frame.header.flags.contains(Flags::EXTENSIONS) {
        write_extensions(frame.extensions, &mut payload);
    } else {
        assert!(frame.extensions.is_empty());
    }
    payload.extend_from_slice(frame.body);
    assert_eq!(payload, bytes[HEADER_BYTES..]);
}

fn write_extensions(extensions: Extensions<'_>, out: &mut Vec<u8>) {
    let mut block = ExtensionWriter::new(out);
    for entry in extensions.iter() {
        let written = block.entry(entry.kind, entry.need, entry.value);
        written.expect("what was read can be written");
    }
    block.finish();
}

/// Reads an extension block and the body behind it.
pub(crate) fn extensions(data: &[u8]) {
    let Ok((extensions, body)) = Extensions::split(data) else {
        return;
    };
    let mut written = Vec::new();
    write_extensions(extensions, &mut written);
    written.extend_from_slice(body);
    assert_eq!(written, data);
    let _ = (
        extensions.method(),
        extensions.deadline_ms(),
        extensions.idempotency_key(),
    );
    let _ = (extensions.trace_context(), extensions.content_type());
    if let Ok(metadata) = extensions.metadata() {
        let mut written = Metadata::new();
        for (name, value) in metadata.iter() {
            let inserted = written.insert(name, value);
            inserted.expect("what was read can be written");
        }
        assert_eq!(written.view(), metadata);
    }
    if let Some(kind) = extensions.unknown_critical() {
        assert!(!kind.is_known());
        assert!(extensions.get(kind).is_some());
    }
}

/// Reads each raw body; the first byte chooses which.
pub(crate) fn payloads(data: &[u8]) {
    let Some((kind, body)) = data.split_first() else {
        return;
    };
    match kind % 12 {
        0 => error(body),
        1 => same(body, ClosePayload::parse, ClosePayload::append),
        2 => same(body, Ping::parse, Ping::append),
        3 => same(body, StreamClose::parse, StreamClose::append),
        4 => same(body, StreamReset::parse, StreamReset::append),
        5 => same(body, StreamAck::parse, StreamAck::append),
        6 => same(body, CompressedBody::parse, CompressedBody::append),
        7 => same(body, FileStart::parse, FileStart::append),
        8 => same(body, FileChunk::parse, FileChunk::append),
        9 => same(body, FileComplete::parse, FileComplete::append),
        10 => same(body, LogEntry::parse, LogEntry::append),
        _ => {
            if let Some(context) = TraceContext::parse(body) {
                assert_eq!(context.to_bytes(), body);
            }
        }
    }
}

/// What is read is written back to the same bytes.
fn same<'b, T: Debug>(
    body: &'b [u8],
    parse: fn(&'b [u8]) -> Result<T, PayloadError>,
    append: fn(&T, &mut Vec<u8>),
) {
    match parse(body) {
        Ok(value) => {
            let mut written = Vec::new();
            append(&value, &mut written);
            assert_eq!(written, body, "{value:?}");
        }
        Err(error) => {
            let _ = (error.code(), error.to_string());
        }
    }
}

/// As [`same`], but for the reserved byte.
fn error(body: &[u8]) {
    let Ok(payload) = ErrorPayload::parse(body) else {
        return;
    };
    let mut written = Vec::new();
    payload.append(&mut written);
    written[3] = body[3];
    assert_eq!(written, body);
    let _ = (payload.code.recovery(), payload.code.to_string());
}

/// Reads log records to the end or to the first torn one.
pub(crate) fn log_records(data: &[u8]) {
    let mut records = LogRecords::new(data);
    let mut written = Vec::new();
    for record in records.by_ref() {
        let Ok(record) = record else { break };
        assert!(record.bytes.len() <= LOG_RECORD_BYTES_MAX);
        record
            .append(&mut written)
            .expect("what was read can be written");
    }
    assert_eq!(written, data[..records.taken()]);
    let whole = records.taken() == data.len();
    assert_eq!(LogRecords::check(data).is_ok(), whole);
}
